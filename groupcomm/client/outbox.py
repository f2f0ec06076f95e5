"""Calls on their way to the daemon over Perspective Broker, in the order they were asked for.

Decides what shares a call: messages of one reactor turn with one destination and the same options do. Messages too
large for one call go in parts. What is on the way is bounded in bytes, what waits behind it too; the Deferreds of the
senders wait with it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final, Protocol, TypeAlias

from attrs import define, field
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure

from groupcomm.daemon.caps import MAX_INLINE_BYTES, MAX_MESSAGES_PER_CALL
from groupcomm.errors import GroupcommError, NotConnected, OutcomeUnknown, QueueFull
from groupcomm.events import Level
from groupcomm.limits import MAX_MESSAGE_BYTES, SESSION_QUEUE_BYTES
from groupcomm.sessions import all_of, fire

IN_FLIGHT_BYTES: Final = 1024 * 1024
"""Called and not answered, at most (one larger message goes alone)."""

WAITING_BYTES: Final = SESSION_QUEUE_BYTES + MAX_MESSAGE_BYTES
"""Waiting to be called: at the limit further sends are refused. Room for one largest message and what follows it."""

_MESSAGE_BYTES: Final = 128
"""What a message counts beside its data."""


class Caller(Protocol):
    """What the outbox needs of the link."""

    def call(
        self, method: str, *args: object, lost: Callable[[str], GroupcommError] = NotConnected
    ) -> Deferred[object]:
        """Call a method of the daemon's."""


Destination: TypeAlias = "tuple[str, ...] | str"
"""Group names, or the recipient of a private message."""


@define(eq=False)
class _Sending:
    """Messages that share a call; a private or large one is alone."""

    destination: Destination
    options: tuple[object, ...]
    messages: list[bytes] = field(factory=list)
    results: list[Deferred[None]] = field(factory=list)
    size_bytes: int = 0


@define(eq=False)
class _Calling:
    """Any other call that must not overtake the sends before it."""

    method: str
    args: tuple[object, ...]
    result: Deferred[object] = field(factory=Deferred)


class Sender(ABC):
    """What carries the sends, joins and leaves of a connection. What it is given to send is checked already."""

    def __init__(self) -> None:
        self._waiting_bytes = 0
        self._closed: GroupcommError | None = None

    @abstractmethod
    def send(
        self, destination: Destination, data: bytes, level: Level, *, stable: bool, self_discard: bool
    ) -> Deferred[None]:
        """Send one message; fires when the daemon's node has accepted it (``stable``: delivered everywhere)."""

    def send_many(
        self,
        destination: tuple[str, ...],
        messages: Sequence[bytes],
        level: Level,
        *,
        stable: bool,
        self_discard: bool,
    ) -> Deferred[None]:
        """Send several, next to each other, all or none; fires once for all."""
        refusal = self._refusal()
        if refusal is not None:
            return fail(refusal)
        if not messages:
            return succeed(None)
        return all_of(self._add_many(destination, messages, level, stable, self_discard))

    @abstractmethod
    def _add_many(
        self, destination: tuple[str, ...], messages: Sequence[bytes], level: Level, stable: bool, self_discard: bool
    ) -> list[Deferred[None]]:
        """Let them wait; the results are theirs, in as many parts as they go in."""

    @abstractmethod
    def call(self, method: str, *args: object) -> Deferred[object]:
        """Join, leave or log out, behind the sends before it."""

    @abstractmethod
    def close(self, error: GroupcommError) -> None:
        """The connection is gone: what waits fails with ``error``, and so does what comes."""

    def _refusal(self) -> GroupcommError | None:
        """Why nothing can be sent now."""
        if self._closed is not None:
            return NotConnected(str(self._closed))
        if self._waiting_bytes >= WAITING_BYTES:
            return QueueFull(f"{self._waiting_bytes} bytes wait to be sent: wait for earlier sends first")
        return None


class Outbox(Sender):
    """The calls of one connection that has no data channel.

    Invariants: calls are made in the order of asking; at most ``IN_FLIGHT_BYTES`` or one message are unanswered, and at
    most ``WAITING_BYTES`` and one message, or one call's messages, wait.
    """

    def __init__(self, reactor: IReactorTime, caller: Caller) -> None:
        super().__init__()
        self._reactor = reactor
        self._caller = caller
        self._waiting: deque[_Sending | _Calling] = deque()
        self._in_flight_bytes = 0
        self._scheduled = False
        self._uploading = False

    def send(
        self, destination: Destination, data: bytes, level: Level, *, stable: bool, self_discard: bool
    ) -> Deferred[None]:
        """Send one message; fires when the daemon's node has accepted it (``stable``: delivered everywhere)."""
        refusal = self._refusal()
        return self._add(destination, data, level, stable, self_discard) if refusal is None else fail(refusal)

    def _add_many(
        self, destination: tuple[str, ...], messages: Sequence[bytes], level: Level, stable: bool, self_discard: bool
    ) -> list[Deferred[None]]:
        return [self._add(destination, data, level, stable, self_discard) for data in messages]

    def _add(
        self, destination: Destination, data: bytes, level: Level, stable: bool, self_discard: bool
    ) -> Deferred[None]:
        """Let it wait, in the call of those before it if it is like them."""
        size = len(data) + _MESSAGE_BYTES
        name = level.name.lower()
        options = (name, stable) if isinstance(destination, str) else (name, stable, self_discard)
        sending = self._waiting[-1] if self._waiting else None
        if not (
            isinstance(sending, _Sending)
            and not isinstance(destination, str)
            and sending.destination == destination
            and sending.options == options
            and sending.size_bytes + size <= MAX_INLINE_BYTES
            and len(sending.messages) < MAX_MESSAGES_PER_CALL
        ):
            sending = _Sending(destination, options)
            self._waiting.append(sending)
        result: Deferred[None] = Deferred()
        sending.messages.append(data)
        sending.results.append(result)
        sending.size_bytes += size
        self._waiting_bytes += size
        self._schedule()
        return result

    def call(self, method: str, *args: object) -> Deferred[object]:
        """Any other call, behind the sends before it."""
        if self._closed is not None:
            return fail(NotConnected(str(self._closed)))
        calling = _Calling(method, args)
        self._waiting.append(calling)
        self._schedule()
        return calling.result

    def close(self, error: GroupcommError) -> None:
        """The connection is gone: what waits fails with ``error``, and so does what comes."""
        self._closed = error
        waiting, self._waiting = self._waiting, deque()
        self._waiting_bytes = 0
        for item in waiting:
            fire(item.results if isinstance(item, _Sending) else [item.result], NotConnected(str(error)))

    def check_invariants(self) -> None:
        """Raise ``AssertionError`` if the counts are wrong."""
        waiting = sum(item.size_bytes for item in self._waiting if isinstance(item, _Sending))
        assert self._waiting_bytes == waiting
        assert self._in_flight_bytes >= 0

    def _schedule(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            self._reactor.callLater(0, self._turn_ended)

    def _turn_ended(self) -> None:
        self._scheduled = False
        self._make_calls()

    def _make_calls(self) -> None:
        while self._waiting and not self._uploading and not self._scheduled:
            item = self._waiting[0]
            if isinstance(item, _Calling):
                self._waiting.popleft()
                self._caller.call(item.method, *item.args).chainDeferred(item.result)
                continue
            if self._in_flight_bytes and self._in_flight_bytes + item.size_bytes > IN_FLIGHT_BYTES:
                return
            self._waiting.popleft()
            self._waiting_bytes -= item.size_bytes
            self._in_flight_bytes += item.size_bytes
            self._make_call(item).addBoth(self._answered, item)

    def _make_call(self, sending: _Sending) -> Deferred[object]:
        if len(sending.messages[0]) > MAX_INLINE_BYTES:
            self._uploading = True
            return Deferred.fromCoroutine(self._send_in_parts(sending))
        if isinstance(sending.destination, str):
            return self._send("send_private", sending.destination, sending.messages[0], *sending.options)
        groups = list(sending.destination)
        if len(sending.messages) == 1:
            return self._send("send", groups, sending.messages[0], *sending.options)
        return self._send("send_many", groups, sending.messages, *sending.options)

    def _send(self, method: str, *args: object) -> Deferred[object]:
        return self._caller.call(method, *args, lost=OutcomeUnknown)

    async def _send_in_parts(self, sending: _Sending) -> object:
        data = memoryview(sending.messages[0])
        private = isinstance(sending.destination, str)
        try:
            number = await self._caller.call("begin", len(data))
            for start in range(0, len(data), MAX_INLINE_BYTES):
                await self._caller.call("part", number, bytes(data[start : start + MAX_INLINE_BYTES]))
            committing = self._send(
                "commit_private" if private else "commit",
                number,
                sending.destination if private else list(sending.destination),
                *sending.options,
            )
        finally:
            self._uploading = False
            if self._waiting and self._closed is None:
                self._schedule()
        return await committing

    def _answered(self, result: object, sending: _Sending) -> None:
        self._in_flight_bytes -= sending.size_bytes
        fire(sending.results, result if isinstance(result, Failure) else None)
        if self._closed is None:
            self._make_calls()
