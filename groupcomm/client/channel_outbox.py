"""Messages on their way to the daemon over a data channel, in the order they were asked for.

Decides what shares a frame: the first send of a reactor turn leaves at once, those that follow it are collected to its
end or up to the size of a frame. What is unanswered is bounded, what waits behind it too; the Deferreds of the senders
wait with it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Final

from attrs import define
from twisted.internet.defer import Deferred, fail
from twisted.internet.interfaces import IReactorTime

from groupcomm.client.outbox import Destination, Sender
from groupcomm.daemon import caps
from groupcomm.daemon.caps import LARGE_RECORD_BYTES
from groupcomm.daemon.records import (
    HEADER,
    JOIN,
    LEAVE,
    LEVEL_BITS,
    LOGOUT,
    PRIVATE,
    SELF_DISCARD,
    SEND,
    STABLE,
    RecordError,
)
from groupcomm.errors import GroupcommError, NotConnected, OutcomeUnknown
from groupcomm.events import Level
from groupcomm.limits import COALESCED_FRAME_BYTES, MAX_FRAME_MESSAGES
from groupcomm.packing import pack_messages
from groupcomm.sessions import WAITING_MESSAGE_BYTES, fire
from groupcomm.wire.codec import varint

_LENGTH_BYTES: Final = 4
"""What a message takes in a frame beside its data, at most."""

_HEAD_BYTES: Final = 16
"""What a frame takes beside its messages, at most."""

_HEAD_OF_ONE: Final = pack_messages([b""])[:-1]
"""How a payload of one message begins: with its size it is whole."""

_REMEMBERED_HEADS: Final = 256
_KINDS: Final = {"join": JOIN, "leave": LEAVE, "logout": LOGOUT}


@define(eq=False, slots=True)
class _Request:
    """A request that waits or is unanswered.

    Attributes:
        kind: of the record.
        flags: of the record.
        head: of the record.
        messages: what shares the frame.
        results: who waits for the answer.
        payload_bytes: what the frame holds, at most.
        room: how many bytes more it may hold.
        waiting_bytes: what it counts while it waits.
        number: once it has been made.
        size: what it counts while it is unanswered.
    """

    kind: int
    flags: int
    head: bytes
    messages: list[bytes]
    results: list[Deferred[Any]]
    payload_bytes: int = _HEAD_BYTES
    room: int = 0
    waiting_bytes: int = 0
    number: int = 0
    size: int = 0

    def payload(self) -> tuple[bytes, ...]:
        """What the record holds, in pieces: a large message is not copied to be packed."""
        messages = self.messages
        if len(messages) == 1 and len(messages[0]) > LARGE_RECORD_BYTES:
            return _HEAD_OF_ONE + varint(len(messages[0])), messages[0]
        return (pack_messages(messages),) if messages else ()


class ChannelOutbox(Sender):
    """The requests of one channel.

    Invariants: requests are made in the order of asking; unanswered are at most ``CHANNEL_WINDOW_BYTES``, or one
    request; at most ``WAITING_BYTES`` and one message, or one call's messages, wait.
    """

    def __init__(self, reactor: IReactorTime, write: Callable[[list[bytes]], None]) -> None:
        """Nothing is asked for yet.

        Args:
            reactor: tells the end of a turn.
            write: writes pieces of records to the daemon.
        """
        super().__init__()
        self._reactor = reactor
        self._write = write
        self._waiting: deque[_Request] = deque()
        self._in_order: deque[_Request] = deque()
        self._single: dict[int, _Request] = {}
        self._unanswered_bytes = 0
        self._number = 0
        self._collecting = False
        self._heads: dict[Destination, bytes] = {}

    def send(
        self, destination: Destination, data: bytes, level: Level, *, stable: bool, self_discard: bool
    ) -> Deferred[None]:
        """Send one message; fires when the daemon's node has accepted it (``stable``: delivered everywhere)."""
        size = len(data)
        refusal = self._refusal()
        if refusal is not None:
            return fail(refusal)
        flags = level | (STABLE if stable else 0) | (SELF_DISCARD if self_discard else 0)
        if type(destination) is str:
            flags |= PRIVATE
        head = self._heads.get(destination)
        if head is None:
            head = self._head(destination)
        result: Deferred[None] = Deferred()
        waiting = self._waiting
        request = waiting[-1] if waiting else None
        if (
            request is not None
            and request.room >= size + _LENGTH_BYTES
            and request.head is head
            and request.flags == flags
            and len(request.messages) < MAX_FRAME_MESSAGES
        ):
            request.messages.append(data)
            request.results.append(result)
            request.payload_bytes += size + _LENGTH_BYTES
            request.room -= size + _LENGTH_BYTES
            request.waiting_bytes += size + WAITING_MESSAGE_BYTES
            self._waiting_bytes += size + WAITING_MESSAGE_BYTES
            return result
        request = self._new_frame(flags, head, [data], size + _LENGTH_BYTES, result)
        request.waiting_bytes = size + WAITING_MESSAGE_BYTES
        self._waiting_bytes += size + WAITING_MESSAGE_BYTES
        self._added()
        return result

    def _add_many(
        self, destination: tuple[str, ...], messages: Sequence[bytes], level: Level, stable: bool, self_discard: bool
    ) -> list[Deferred[None]]:
        flags = level | (STABLE if stable else 0) | (SELF_DISCARD if self_discard else 0)
        head = self._heads.get(destination)
        if head is None:
            head = self._head(destination)
        results: list[Deferred[None]] = []
        for share, size in _shares(messages, COALESCED_FRAME_BYTES if level else 0):
            result: Deferred[None] = Deferred()
            request = self._new_frame(flags, head, share, size + len(share) * _LENGTH_BYTES, result)
            request.waiting_bytes = size + len(share) * WAITING_MESSAGE_BYTES
            self._waiting_bytes += request.waiting_bytes
            results.append(result)
        self._added()
        return results

    def call(self, method: str, *args: object) -> Deferred[object]:
        """Join, leave or log out, behind the sends before it; a logout is not answered."""
        if self._closed is not None:
            return fail(NotConnected(str(self._closed)))
        result: Deferred[object] = Deferred()
        head = "\n".join(map(str, args)).encode("utf-8")
        self._waiting.append(_Request(_KINDS[method], 0, head, [], [result]))
        self._added()
        return result

    # What the channel calls.

    def done(self, number: int) -> None:
        """Everything that is answered in order is done up to that number."""
        requests = self._in_order
        while requests and requests[0].number <= number:
            request = requests.popleft()
            self._unanswered_bytes -= request.size
            for result in request.results:
                if not result.called:
                    result.callback(None)
        if self._waiting and not self._collecting:
            self._make_requests()

    def answered(self, number: int, error: GroupcommError | None) -> None:
        """That request alone is done, or has failed.

        Raises:
            RecordError: there is no such request.
        """
        request = self._single.pop(number, None)
        if request is None:
            request = next((each for each in self._in_order if each.number == number), None)
            if request is None:
                raise RecordError(f"an answer to request {number}, which is not open")
            self._in_order.remove(request)
        self._unanswered_bytes -= request.size
        fire(request.results, error)
        if self._waiting and not self._collecting:
            self._make_requests()

    def close(self, error: GroupcommError) -> None:
        """The connection is gone: what waits fails with ``error``, what is under way has an unknown outcome."""
        self._closed = error
        waiting, self._waiting = self._waiting, deque()
        self._waiting_bytes = 0
        under_way = [*self._in_order, *self._single.values()]
        self._in_order.clear()
        self._single.clear()
        for request in under_way:
            lost = OutcomeUnknown if request.kind == SEND else NotConnected
            fire(request.results, lost("the connection to the daemon was lost"))
        for request in waiting:
            fire(request.results, NotConnected(str(error)))

    def check_invariants(self) -> None:
        """Raise ``AssertionError`` if the counts are wrong."""
        assert self._waiting_bytes == sum(request.waiting_bytes for request in self._waiting)
        under_way = [*self._in_order, *self._single.values()]
        assert self._unanswered_bytes == sum(request.size for request in under_way)
        assert self._unanswered_bytes <= caps.CHANNEL_WINDOW_BYTES or len(under_way) == 1

    def _head(self, destination: Destination) -> bytes:
        if len(self._heads) >= _REMEMBERED_HEADS:
            self._heads.clear()
        text = destination if isinstance(destination, str) else "\n".join(destination)
        head = self._heads[destination] = text.encode("utf-8")
        return head

    def _new_frame(self, flags: int, head: bytes, messages: list[bytes], size: int, result: Deferred[None]) -> _Request:
        # Unreliable messages do not share: a frame of them has to fit one packet, whose size only the node knows.
        room = COALESCED_FRAME_BYTES - size if flags & LEVEL_BITS else 0
        request = _Request(SEND, flags, head, messages, [result], size + _HEAD_BYTES, room)
        self._waiting.append(request)
        return request

    def _added(self) -> None:
        """There is a request more: the first of a turn leaves now, the others when they are as much as a frame."""
        if not self._collecting:
            self._collecting = True
            self._reactor.callLater(0, self._turn_ended)
            self._make_requests()
        elif self._waiting_bytes >= COALESCED_FRAME_BYTES:
            self._make_requests(keep_last=True)

    def _turn_ended(self) -> None:
        self._collecting = False
        if self._waiting:
            self._make_requests()

    def _make_requests(self, *, keep_last: bool = False) -> None:
        """Make those there is room for; the last may be one that is still added to."""
        waiting = self._waiting
        pieces: list[bytes] = []
        while waiting:
            request = waiting[0]
            if keep_last and len(waiting) == 1 and request.room > 0:
                break
            size = request.payload_bytes + caps.REQUEST_BYTES
            if self._unanswered_bytes and self._unanswered_bytes + size > caps.CHANNEL_WINDOW_BYTES:
                break
            payload = request.payload()
            waiting.popleft()
            self._waiting_bytes -= request.waiting_bytes
            self._number += 1
            request.number, request.size = self._number, size
            request.messages = []
            self._unanswered_bytes += size
            if request.kind == SEND and not request.flags & STABLE:
                self._in_order.append(request)
            else:
                self._single[self._number] = request
            head = request.head
            size = sum(map(len, payload))
            pieces.append(HEADER.pack(request.kind, request.flags, len(head), size, self._number) + head)
            pieces += payload
        if pieces:
            self._write(pieces)


def _shares(messages: Sequence[bytes], limit_bytes: int) -> list[tuple[list[bytes], int]]:
    """The messages in as few frames as hold them, in their order, and the bytes of each."""
    size = sum(map(len, messages))
    if size + len(messages) * _LENGTH_BYTES <= limit_bytes and len(messages) <= MAX_FRAME_MESSAGES:
        return [(list(messages), size)]
    shares: list[tuple[list[bytes], int]] = []
    share: list[bytes] = []
    size = 0
    for data in messages:
        if share and (
            size + len(data) + (len(share) + 1) * _LENGTH_BYTES > limit_bytes or len(share) >= MAX_FRAME_MESSAGES
        ):
            shares.append((share, size))
            share, size = [], 0
        share.append(data)
        size += len(data)
    shares.append((share, size))
    return shares
