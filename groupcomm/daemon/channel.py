"""The daemon's end of one data channel: its requests, their answers, and the events on their way to the client.

Decides what of a client's records is a breach (the connection is cut) and what is an error (it is told), and when a
request is answered. Nothing here looks at a single message. The records are in ``doc/design/channel.md``.
"""

from __future__ import annotations

from collections.abc import Sequence, Set
from typing import Final, Protocol

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.python.failure import Failure

from groupcomm.batches import SessionEvent
from groupcomm.daemon import caps
from groupcomm.daemon.channel_events import ChannelEncoder, event_record
from groupcomm.daemon.channel_queue import ChannelQueue
from groupcomm.daemon.delivery import DeliveryLimits
from groupcomm.daemon.errors import InternalError, SessionClosed, as_peer_error
from groupcomm.daemon.principal import Principal
from groupcomm.daemon.reading import ReadingTime
from groupcomm.daemon.records import (
    CREDIT,
    DONE,
    FAILED,
    HELLO,
    JOIN,
    LEAVE,
    LEVEL_BITS,
    LOGOUT,
    PRIVATE,
    SELF_DISCARD,
    SEND,
    SINGLE,
    STABLE,
    VERSION,
    WELCOME,
    Payload,
    Record,
    RecordError,
    RecordReader,
    record,
)
from groupcomm.daemon.rights import Right, Rights
from groupcomm.daemon.schema import group_name, group_names, recipient, text
from groupcomm.daemon.stream import RecordStream
from groupcomm.daemon.uploads import UploadBudget
from groupcomm.daemon.vocabulary import checked_outside
from groupcomm.errors import GroupcommError, MalformedPacket, UsageError
from groupcomm.events import Level, Outside
from groupcomm.packing import read_runs
from groupcomm.sessions import LocalSession

_LEVELS: Final = tuple(Level)
_LOOK_AT_THE_TIME: Final = 32
"""Records after which the time is looked at."""


class ChannelClient(Protocol):
    """The client behind a ticket."""

    @property
    def limits(self) -> DeliveryLimits:
        """When it is too slow."""

    @property
    def rights(self) -> Rights:
        """What it may do."""

    @property
    def groups_joined(self) -> Set[str]:
        """The groups it is in, now and later."""

    def channel_opened(self, channel: ServerChannel) -> LocalSession | None:
        """Its channel is there, for its session and its events from now on; None if the session is over."""

    def channel_lost(self) -> None:
        """The channel is gone without a goodbye."""

    def channel_too_slow(self) -> None:
        """It does not read its events."""

    def join_group(self, group: str, outside: Outside) -> Deferred[None]:
        """Join."""

    def leave_group(self, group: str) -> Deferred[None]:
        """Leave."""

    def logout(self) -> None:
        """End the session in peace."""


class ChannelHall(Protocol):
    """What the channels of a daemon share."""

    @property
    def encoder(self) -> ChannelEncoder:
        """Makes the records of events."""

    @property
    def time(self) -> ReadingTime:
        """What they may take of the reactor's, with the control connections."""

    @property
    def upload_budget(self) -> UploadBudget:
        """Bytes of large payloads on their way in."""

    def admit(self, principal: Principal) -> bool:
        """Whether there is room for a connection more of this principal; it is counted then."""

    def redeem(self, ticket: bytes, principal: Principal | None) -> ChannelClient | None:
        """Whose ticket this is, if that is the principal who shows it; it is used up by that in any case."""

    def channel_named(self, channel: ServerChannel) -> None:
        """It has shown its ticket."""

    def channel_closed(self, channel: ServerChannel) -> None:
        """It is gone."""

    def misdeed(self, text: str) -> None:
        """A peer did what none should, and its connection is cut."""

    def call_failed(self, failure: Failure) -> None:
        """A request failed by a fault of ours."""


class ServerChannel:
    """One connection to a channel's socket: a stranger until ``HELLO``, then the way of a client's messages and events.

    Invariants: ``_unanswered`` are the bytes of the requests whose answer has not been written; requests reach the
    session in their order; a request is answered once, at the latest ``ANSWER_SECONDS`` after it was done if the client
    keeps up with reading; the stream is not read while requests are ``_kept``, or a large payload waits for room.

    Attributes:
        principal: who is at the other end; None if it was not let in.
    """

    def __init__(self, clock: IReactorTime, hall: ChannelHall) -> None:
        """Wait for the connection.

        Args:
            clock: the reactor's time.
            hall: what is shared.
        """
        self.principal: Principal | None = None
        self.reader = RecordReader(2 * caps.TICKET_BYTES, 0, self._large_begins)
        self._clock = clock
        self._hall = hall
        self._stream: RecordStream
        self._deadline: IDelayedCall | None = None
        self._client: ChannelClient | None = None
        self._session: LocalSession | None = None
        self._queue: ChannelQueue
        self._lost = False
        self._groups: Set[str] = frozenset()
        self._copy_comes = False
        self._last_number = 0
        self._unanswered = 0
        self._destinations: dict[tuple[int, bytes], tuple[str, ...]] = {}
        self._destinations_bytes = 0
        self._answers: list[bytes] = []
        self._answers_size = 0
        self._done_number = 0
        self._answering: IDelayedCall | None = None
        self._large_bytes = 0
        self._reservation: Deferred[None] | None = None
        self._watch: IDelayedCall | None = None
        self._kept: Sequence[Record] = ()

    def makeConnection(self, stream: RecordStream) -> None:
        """The connection is there."""
        self._stream = stream
        principal = stream.principal()
        if not self._hall.admit(principal):
            stream.abort()
            return
        self.principal = principal
        self._deadline = self._clock.callLater(caps.TICKET_SECONDS, self._is_late)

    # What the stream calls.

    def records_received(self, records: Sequence[Record]) -> None:
        """What one read has brought: what there is time for reaches the node before any of it leaves.

        Raises:
            RecordError: no well-behaved client sends this.
        """
        if self._large_bytes and not self.reader.missing:
            self._end_large()
        self._work(records)

    def go_on(self) -> None:
        """There is time for what was kept; when that is done, read again."""
        kept, self._kept = self._kept, ()
        try:
            self._work(kept)
        except RecordError as error:
            self.broke_protocol(str(error))
            self._stream.abort()
        if not self._lost:
            self._mind_reading()

    def _work(self, records: Sequence[Record]) -> None:
        """Act on records; those for which no time is left are kept for the next turn, and nothing is read till then."""
        time = self._hall.time
        since = time.measure()
        sending = False
        for index, (kind, flags, number, head, payload) in enumerate(records):
            if self._lost:
                return
            if not index % _LOOK_AT_THE_TIME:
                now = time.measure()
                time.spend(now - since)
                since = now
                if not time.left:
                    self._kept = records[index:]
                    self._mind_reading()
                    time.wait(self)
                    break
            if kind == SEND:
                self._send(flags, number, head, payload)
                sending = True
            elif kind == CREDIT and self._client is not None:
                self._queue.credit(number)
            else:
                self._request(kind, number, head)
        if sending and self._session is not None:
            self._session.flush()
        time.spend(time.measure() - since)

    def _mind_reading(self) -> None:
        """Read while nothing is kept, and there is room for a large payload that has begun."""
        reading = not self._kept and self._reservation is None
        self._stream.set_reading(reading)
        if self._client is not None:
            self._queue.set_reading(reading)

    def broke_protocol(self, text: str) -> None:
        """The connection will be closed."""
        self._hall.misdeed(text)

    def output_drained(self) -> None:
        """The kernel has taken all that was written."""
        self._answer()

    def stream_lost(self) -> None:
        """The connection is over."""
        self._lost = True
        self._session = None
        self._kept = ()
        self._hall.time.forget(self)
        if self._large_bytes:
            self._end_large()
        for call in (self._deadline, self._answering):
            if call is not None and call.active():
                call.cancel()
        self._hall.channel_closed(self)
        if self._client is not None:
            self._queue.close()
            self._client.channel_lost()

    # What the client's session calls.

    @property
    def queued_bytes(self) -> int:
        """Bytes of events that the client has given no credit for."""
        return self._queue.queued_bytes

    @property
    def remembered_bytes(self) -> int:
        """What the destinations that are kept count."""
        return self._destinations_bytes

    def push(self, events: Sequence[SessionEvent]) -> None:
        """Events of the session, in their order."""
        self._queue.push(self._hall.encoder.encode(events))

    def push_plain(self, plain: object) -> None:
        """An event in its plain form, behind the others."""
        self._queue.push([(event_record(plain), b"")])

    def session_over(self) -> None:
        """No request is carried out any more; those that are answered are answered now."""
        self._session = None
        self._answer()

    def when_empty(self) -> Deferred[None]:
        """Fires when the client has given credit for all events so far."""
        return self._queue.when_empty()

    def finish(self) -> None:
        """Close the connection when what was written has been taken."""
        self._queue.close()
        if not self._lost:
            self._stream.finish()

    def abort(self) -> None:
        """Close the connection now."""
        if not self._lost:
            self._stream.abort()

    def check_invariants(self) -> None:
        """Raise ``AssertionError`` if the counts are wrong."""
        self._queue.check_invariants()
        assert 0 <= self._answers_size <= self._unanswered
        remembered = sum(_remembered_bytes(head, names) for (_, head), names in self._destinations.items())
        assert remembered == self._destinations_bytes <= caps.DESTINATIONS_BYTES
        assert self._answers_size or not (self._answers or self._done_number)

    # Requests.

    def _send(self, flags: int, number: int, head: bytes, payload: Payload) -> None:
        size = self._begin(number, len(payload))
        payload = bytes(payload)
        session = self._session
        private = flags & PRIVATE
        destination = self._destinations.get((private, head))
        try:
            if session is None:
                raise SessionClosed("the session is over")
            if destination is None:
                destination = self._read_destination(private, head)
            level = _LEVELS[flags & LEVEL_BITS]
            runs, _ = read_runs(payload)
            if not (runs and runs[0][0]):
                raise UsageError("a frame without a message")
        except (MalformedPacket, IndexError):
            self._fail(number, size, UsageError("no messages, or no level"))
            return
        except (GroupcommError, SessionClosed) as error:
            self._fail(number, size, error)
            return
        stable = flags & STABLE != 0
        self._copy_comes = not (flags & SELF_DISCARD or self._groups.isdisjoint(destination))
        sent = session.send_payload(destination, payload, level, stable=stable, self_discard=flags & SELF_DISCARD != 0)
        accepted = self._single_done if stable else self._accepted
        sent.addCallbacks(accepted, self._failed, callbackArgs=(number, size), errbackArgs=(number, size))

    def _read_destination(self, private: int, head: bytes) -> tuple[str, ...]:
        """Where a message goes, which its client may send to; remembered, so that it is checked once."""
        assert self._client is not None
        destination: tuple[str, ...]
        if private:
            client, _, node = recipient(head).rpartition("@")
            destination = ("", client, node)
            self._client.rights.require_private()
        else:
            destination = group_names(head.split(b"\n"))
            self._client.rights.require(Right.SEND, destination)
        size = _remembered_bytes(head, destination)
        if self._destinations_bytes + size > caps.DESTINATIONS_BYTES:
            self._destinations.clear()
            self._destinations_bytes = 0
        self._destinations_bytes += size
        self._destinations[(private, head)] = destination
        return destination

    def _request(self, kind: int, number: int, head: bytes) -> None:
        client = self._client
        if client is None:
            self._hello(kind, number, head)
        elif kind in (JOIN, LEAVE):
            size = self._begin(number, 0)
            calling = maybeDeferred(lambda: self._join(client, head) if kind == JOIN else self._leave(client, head))
            calling.addCallbacks(
                self._single_done, self._failed, callbackArgs=(number, size), errbackArgs=(number, size)
            )
        elif kind == LOGOUT:
            self._begin(number, 0)
            if self._session is not None:
                client.logout()
        else:
            raise RecordError(f"no record of kind {kind}")

    @staticmethod
    def _join(client: ChannelClient, head: bytes) -> Deferred[None]:
        group, _, asked = head.partition(b"\n")
        return client.join_group(group_name(group), checked_outside(text(asked)) if asked else Outside.GO_ON)

    @staticmethod
    def _leave(client: ChannelClient, head: bytes) -> Deferred[None]:
        return client.leave_group(group_name(head))

    def _hello(self, kind: int, number: int, ticket: bytes) -> None:
        client = self._hall.redeem(ticket, self.principal) if kind == HELLO and number == VERSION else None
        if client is None:
            raise RecordError("a channel without a ticket, or with one that is not good any more")
        self._cancel_deadline()
        self._hall.channel_named(self)
        self.reader.max_head, self.reader.max_payload = caps.MAX_HEAD_BYTES, caps.MAX_PAYLOAD_BYTES
        self._queue = ChannelQueue(
            self._clock, self._write_events, client.channel_too_slow, self._answer, client.limits
        )
        self._client = client
        self._stream.write([record(WELCOME, VERSION)])
        self._groups = client.groups_joined
        self._session = client.channel_opened(self)

    def _begin(self, number: int, payload_bytes: int) -> int:
        """What a request counts as; it is unanswered from now on."""
        size = payload_bytes + caps.REQUEST_BYTES
        if number != self._last_number + 1 or self._client is None:
            raise RecordError(f"request {number} after {self._last_number}")
        if self._unanswered and self._unanswered + size > caps.CHANNEL_WINDOW_BYTES:
            raise RecordError(f"{size} bytes more where {self._unanswered} are unanswered")
        self._last_number = number
        self._unanswered += size
        return size

    # Answers.

    def _accepted(self, result: None, number: int, size: int) -> None:
        self._done_number = number
        self._answers_size += size
        if self._answering is None and not self._lost:
            waits = self._copy_comes and self._unanswered * 4 < caps.CHANNEL_WINDOW_BYTES
            self._answering = self._clock.callLater(caps.ANSWER_SECONDS if waits else 0, self._turn_ended)

    def _single_done(self, result: None, number: int, size: int) -> None:
        self._add_answer(record(DONE, number, flags=SINGLE), size)

    def _failed(self, failure: Failure, number: int, size: int) -> None:
        assert failure.value is not None
        error = as_peer_error(failure.value)
        if isinstance(error, InternalError):
            self._hall.call_failed(failure)
        self._fail(number, size, error)

    def _fail(self, number: int, size: int, error: Exception) -> None:
        told = as_peer_error(error)
        head, text = type(told).__name__.encode(), str(told).encode("utf-8", "replace")
        self._add_answer(record(FAILED, number, head, text), size)

    def _add_answer(self, answer: bytes, size: int) -> None:
        """A single answer; those of sends before it stay before it."""
        if self._done_number:
            self._answers.append(record(DONE, self._done_number))
            self._done_number = 0
        self._answers.append(answer)
        self._answers_size += size
        if self._answering is None and not self._lost:
            self._answering = self._clock.callLater(0, self._turn_ended)

    def _turn_ended(self) -> None:
        self._answering = None
        self._answer()

    def _answer(self) -> None:
        """Write the answers, unless the client is behind with reading."""
        if self._may_answer():
            self._stream.write([self._take_answers()])

    def _write_events(self, pieces: list[bytes]) -> None:
        """Write events; answers that are due go along, so that the client wakes up once."""
        if self._may_answer():
            pieces.insert(0, self._take_answers())
        self._stream.write(pieces)

    def _may_answer(self) -> bool:
        return (
            self._answers_size > 0
            and not self._lost
            and self._stream.backlog <= caps.ANSWER_BACKLOG_BYTES
            and (self._session is None or not self._queue.busy)
        )

    def _take_answers(self) -> bytes:
        answers, self._answers = self._answers, []
        if self._done_number:
            answers.append(record(DONE, self._done_number))
            self._done_number = 0
        self._unanswered -= self._answers_size
        self._answers_size = 0
        return b"".join(answers)

    # Large payloads.

    def _large_begins(self, size: int) -> None:
        if self._large_bytes:
            self._end_large()
        self._large_bytes = size
        reservation = self._hall.upload_budget.reserve(size)
        self._reservation = reservation
        if not reservation.called:
            self._stream.set_reading(False)
            self._queue.set_reading(False)
        reservation.addCallback(self._granted)

    def _granted(self, result: None) -> None:
        self._reservation = None
        self._mind_reading()
        self._watch_large(0)

    def _watch_large(self, missing: int) -> None:
        """Something must have come of it since."""
        self._watch = None
        if missing == self.reader.missing:
            self._hall.misdeed(f"nothing came of a large message for {caps.UPLOAD_SECONDS:.0f} s")
            self._stream.abort()
        else:
            self._watch = self._clock.callLater(caps.UPLOAD_SECONDS, self._watch_large, self.reader.missing)

    def _end_large(self) -> None:
        size, self._large_bytes = self._large_bytes, 0
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None
        reservation, self._reservation = self._reservation, None
        if reservation is not None:
            reservation.addErrback(lambda _: None)
            reservation.cancel()
        else:
            self._hall.upload_budget.release(size)

    def _is_late(self) -> None:
        self._deadline = None
        self._hall.misdeed(f"no ticket within {caps.TICKET_SECONDS:.0f} s")
        self._stream.abort()

    def _cancel_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None


def _remembered_bytes(head: bytes, destination: tuple[str, ...]) -> int:
    """What a destination that is kept counts: its head, its names, and what holds them."""
    return 2 * len(head) + len(destination) * caps.DESTINATION_NAME_BYTES + caps.DESTINATION_BYTES
