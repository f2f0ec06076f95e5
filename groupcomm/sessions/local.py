"""One session of an engine, as a daemon's client or an embedded application uses it.

Messages of one reactor turn with the same destination and options become one frame (``limits.COALESCED_FRAME_BYTES``);
everything a session does reaches the engine in the order it was asked for. When the engine's queue for the session is
full, what follows waits here, bounded too, and the senders' Deferreds wait with it.

Upholds: a Deferred of ``send`` fires when the engine has accepted the message (``stable``: when it is delivered at
every node of the view); events come in the engine's order, in batches, never while the engine is at work.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Final, Protocol, TypeAlias

from attrs import define, field, frozen
from twisted.internet.defer import Deferred, fail, succeed
from twisted.logger import Logger

from groupcomm.batches import SessionEvent
from groupcomm.errors import (
    GroupcommError,
    MessageTooLarge,
    NotAMember,
    NotConnected,
    OutcomeUnknown,
    QueueFull,
    SendIncomplete,
    UsageError,
)
from groupcomm.events import Left, Level, Outside, Reason
from groupcomm.identity import MemberId, checked_name, checked_node_name
from groupcomm.limits import COALESCED_FRAME_BYTES, PAYLOAD_HEAD_BYTES, SESSION_QUEUE_BYTES
from groupcomm.packing import pack_messages, unpack_messages
from groupcomm.sessions.checks import WAITING_MESSAGE_BYTES, checked_batch, checked_groups, checked_message
from groupcomm.sessions.results import all_of, fire

_UNRELIABLE = Level.UNRELIABLE

EAGER_BYTES: Final = 8 * COALESCED_FRAME_BYTES
"""A turn that sends more than this hands it to the engine at once instead of collecting on."""

_LENGTH_BYTES: Final = 5
"""The most that a message adds to a payload besides its bytes: count, size and its part of the number of runs."""

_PRIVATE: Final = ("",)
"""How the destination of a private frame begins."""


class SessionHandler(Protocol):
    """Who gets the events of a session."""

    def events_received(self, events: Sequence[SessionEvent]) -> None:
        """Events in their order, at least one. An exception is logged and changes nothing for the others."""

    def session_ended(self, reason: Reason) -> None:
        """The session was ended by the node, not by its owner; ``Left`` of each of its groups came before."""


class SessionEngine(Protocol):
    """What a session needs of the engine."""

    def close_session(self, session: int, reason: Reason, now: float) -> None:
        """End it."""

    def join(self, session: int, group: str, now: float, *, outside: Outside = Outside.GO_ON) -> None:
        """Join a group."""

    def leave(self, session: int, group: str, now: float) -> None:
        """Leave a group."""

    def send(
        self,
        session: int,
        groups: Sequence[str],
        payload: bytes,
        level: Level,
        now: float,
        *,
        self_discard: bool = False,
        stable: bool = False,
    ) -> int:
        """Send a frame; the answer is its ticket."""

    def send_private(
        self,
        session: int,
        client: str,
        node_name: str,
        payload: bytes,
        level: Level,
        now: float,
        *,
        stable: bool = False,
    ) -> int:
        """Send a frame to one member; the answer is its ticket."""

    def queued_bytes(self, session: int) -> int:
        """Accepted and not yet sent."""


@frozen
class SessionLimits:
    """What a session may do.

    Attributes:
        max_message_bytes: the largest message.
        max_unreliable_bytes: unreliable messages share a frame up to this size, so that it surely fits one packet.
        waiting_bytes: what may wait here when the engine's queue is full, and what the messages of one call may be
            together; one message always may.
    """

    max_message_bytes: int
    max_unreliable_bytes: int
    waiting_bytes: int = SESSION_QUEUE_BYTES


class SessionRecorder(Protocol):
    """What a trace is told of a session, each right after the engine has taken it."""

    def joining(self, session: int, group: str) -> None:
        """A join."""

    def leaving(self, session: int, group: str) -> None:
        """A leave."""

    def sent(
        self,
        session: int,
        ticket: int,
        messages: Sequence[bytes],
        level: Level,
        groups: Sequence[str],
        recipient: str | None = None,
        *,
        stable: bool,
        self_discard: bool,
    ) -> None:
        """A frame; ``recipient`` is ``client@node`` of a private one."""

    def closed(self, session: int) -> None:
        """The end."""


class SessionHost(Protocol):
    """What a session needs of its node."""

    def now(self) -> float:
        """The engine's time."""

    def schedule_flush(self, session: LocalSession) -> None:
        """Call ``hand_over``, then ``fire_accepted``: now if nothing has left lately, else at the end of this turn."""

    def collect(self, session: LocalSession) -> None:
        """The same with the next ``flush``, or at the end of this turn."""

    def flush(self) -> None:
        """The same now, for all sessions: what they have leaves at once."""

    def forget(self, session: LocalSession) -> None:
        """It is closed."""


_Destination: TypeAlias = tuple[str, ...]
"""Group names; or for a private frame, after an empty string, client and node name."""


@define(eq=False)
class _Sending:
    """Messages that will share a frame; if they are packed already nothing is added to them."""

    destination: _Destination
    level: Level
    self_discard: bool
    stable: bool
    payload_limit_bytes: int
    messages: list[bytes] = field(factory=list)
    payload: bytes | None = None
    payload_bytes: int = 0
    size_bytes: int = 0
    results: list[Deferred[None]] = field(factory=list)


@frozen
class _Joining:
    """A join that has not reached the engine."""

    group: str
    outside: Outside


@frozen
class _Leaving:
    """A leave that has not reached the engine."""

    group: str


class LocalSession:
    """One session.

    Invariant: what waits here is at most ``limits.waiting_bytes``, or one message.
    """

    _log = Logger()

    def __init__(
        self,
        host: SessionHost,
        engine: SessionEngine,
        number: int,
        member: MemberId,
        handler: SessionHandler,
        limits: SessionLimits,
        recorder: SessionRecorder | None = None,
    ) -> None:
        """A session that the engine has opened.

        Args:
            host: the node.
            engine: its engine.
            number: the session's number there.
            member: who this is.
            handler: gets the events.
            limits: what it may do.
            recorder: keeps a trace of it; None: nobody does.
        """
        self.number = number
        self.member = member
        self._host = host
        self._engine = engine
        self._handler = handler
        self._limits = limits
        self._recorder = recorder
        self._closed = False
        self._node_leaves = False
        self._paused = False
        self._waiting: deque[_Sending | _Joining | _Leaving] = deque()
        self._waiting_bytes = 0
        self._accepted: list[tuple[Deferred[None], Exception | None]] = []
        self._tickets: dict[int, list[Deferred[None]]] = {}
        self._groups: set[str] = set()
        self._joining: dict[str, Deferred[None]] = {}
        self._leaving: dict[str, list[Deferred[None]]] = {}
        self._last_destination: _Destination = ()
        self._events: list[SessionEvent] = []
        self._completions: list[Callable[[], None]] = []

    @property
    def closed(self) -> bool:
        """Whether it is over."""
        return self._closed

    @property
    def groups(self) -> tuple[str, ...]:
        """The groups it is in, by name."""
        return tuple(sorted(self._groups))

    @property
    def waiting_bytes(self) -> int:
        """What waits here because the engine's queue is full, or for the end of the turn."""
        return self._waiting_bytes

    @property
    def queued_bytes(self) -> int:
        """Everything accepted or waiting that has not left this node."""
        return self._waiting_bytes + (0 if self._closed else self._engine.queued_bytes(self.number))

    def join(self, group: str, outside: Outside = Outside.GO_ON) -> Deferred[None]:
        """Join a group; fires after its first ``View`` was given to the handler.

        Args:
            group: which.
            outside: what is to happen to it outside of the primary component.
        """
        try:
            self._check_open()
            checked_name(group, "a group name")
            if group in self._groups or group in self._joining:
                raise UsageError(f"{self.member} is already in group {group!r}, or is joining it")
        except (UsageError, NotConnected) as error:
            return fail(error)
        done: Deferred[None] = Deferred()
        self._joining[group] = done
        self._enqueue(_Joining(group, outside))
        return done

    def leave(self, group: str) -> Deferred[None]:
        """Leave a group; fires after ``Left`` was given to the handler."""
        try:
            self._check_open()
            if group not in self._groups:
                raise NotAMember(f"{self.member} is not in group {group!r}")
        except (UsageError, NotConnected) as error:
            return fail(error)
        done: Deferred[None] = Deferred()
        leaving = self._leaving.setdefault(group, [])
        leaving.append(done)
        if len(leaving) == 1:
            self._enqueue(_Leaving(group))
        return done

    def send(
        self, groups: Sequence[str], data: bytes, level: Level, *, stable: bool = False, self_discard: bool = False
    ) -> Deferred[None]:
        """Send one message to groups, member of them or not.

        Returns:
            Fires when the engine has accepted it (``stable``: when every node of the view has delivered it).

        Raises:
            UsageError: through the Deferred; ``MessageTooLarge`` and ``QueueFull`` among them.
            NotConnected: the session is closed.
        """
        try:
            self._check_open()
            destination = self._checked_groups(groups)
            message = checked_message(data, self._limits.max_message_bytes)
        except (UsageError, NotConnected) as error:
            return fail(error)
        level = level if type(level) is Level else Level(level)
        return self._add(destination, message, level, stable, self_discard)

    def send_many(
        self,
        groups: Sequence[str],
        messages: Sequence[bytes],
        level: Level,
        *,
        stable: bool = False,
        self_discard: bool = False,
    ) -> Deferred[None]:
        """Send several messages, next to each other in this session's order; the rest is as for ``send``.

        Args:
            groups: as for ``send``.
            messages: together at most ``limits.waiting_bytes``, each counted with 64 bytes more; or one.
            level: as for ``send``.
            stable: as for ``send``.
            self_discard: as for ``send``.

        Returns:
            Fires when all are accepted (``stable``: delivered everywhere), or fails with what befell the first that
            was not; if one of them is no message, or all together are too much, none is sent.
        """
        limits = self._limits
        try:
            self._check_open()
            destination = self._checked_groups(groups)
            batch, size = checked_batch(messages, limits.max_message_bytes, limits.waiting_bytes)
            if not batch:
                return succeed(None)
            self._make_room(size)
        except (UsageError, NotConnected) as error:
            return fail(error)
        level = Level(level)
        limit = self._payload_limit(destination, level)
        results = []
        for share in _shares(batch, limit):
            result: Deferred[None] = Deferred()
            frame = _Sending(destination, level, self_discard, stable, 0, share, results=[result])
            frame.size_bytes = sum(map(len, share)) + len(share) * WAITING_MESSAGE_BYTES
            self._waiting.append(frame)
            self._waiting_bytes += frame.size_bytes
            results.append(result)
        self._host.schedule_flush(self)
        return all_of(results)

    def send_payload(
        self,
        destination: tuple[str, ...],
        payload: bytes,
        level: Level,
        *,
        stable: bool = False,
        self_discard: bool = False,
    ) -> Deferred[None]:
        """Send messages that their sender has packed by ``packing.pack_messages``; they are not looked at.

        What is sent so leaves with the next ``flush`` of the host, or at the end of the turn.

        Args:
            destination: group names; or for a private frame, after an empty string, client and node name.
            payload: at most the largest message with its length; larger fails with ``MessageTooLarge``.
            level: the service level.
            stable: as for ``send``.
            self_discard: as for ``send``.
        """
        size = len(payload) + WAITING_MESSAGE_BYTES
        try:
            self._check_open()
            if destination[:1] != _PRIVATE:
                self._checked_groups(destination)
            if len(payload) > self._limits.max_message_bytes + PAYLOAD_HEAD_BYTES:
                raise MessageTooLarge(
                    f"a message may have {self._limits.max_message_bytes} bytes, not {len(payload)} with its length"
                )
            self._make_room(size)
        except (UsageError, NotConnected) as error:
            return fail(error)
        result: Deferred[None] = Deferred()
        frame = _Sending(destination, level, self_discard, stable, 0, payload=payload, results=[result])
        frame.size_bytes = size
        self._waiting.append(frame)
        self._waiting_bytes += size
        self._host.collect(self)
        return result

    def flush(self) -> None:
        """Let what was sent by ``send_payload`` leave now."""
        self._host.flush()

    def send_private(
        self, recipient: MemberId | str, data: bytes, level: Level, *, stable: bool = False
    ) -> Deferred[None]:
        """Send one message to one member, ``client@node``."""
        try:
            self._check_open()
            message = checked_message(data, self._limits.max_message_bytes)
            client, at, node = str(recipient).rpartition("@")
            if not at:
                raise UsageError(f"a recipient is client@node, not {recipient!r}")
            checked_name(client, "a client name")
            checked_node_name(node)
        except (UsageError, NotConnected) as error:
            return fail(error)
        return self._add((*_PRIVATE, client, node), message, Level(level), stable, False)

    def close(self, reason: Reason = Reason.DISCONNECT) -> Deferred[None]:
        """End the session; its groups see it leave with that reason. What still waits here is not sent."""
        if self._closed:
            return succeed(None)
        self.hand_over()
        if not self._closed:
            self._engine.close_session(self.number, reason, self._host.now())
            self._end(reason)
            self._host.schedule_flush(self)
        return succeed(None)

    # What the node calls.

    def hand_over(self) -> None:
        """Give the engine what waits, until its queue is full."""
        while self._waiting and not self._paused and not self._closed:
            item = self._waiting[0]
            try:
                ticket = self._give(item)
            except QueueFull:
                self._paused = True
                return
            except UsageError as error:
                self._waiting.popleft()
                self._refuse(item, error)
                continue
            self._waiting.popleft()
            if self._recorder is not None:
                self._record(self._recorder, item, ticket)
            if isinstance(item, _Sending):
                self._waiting_bytes -= item.size_bytes
                if item.stable:
                    self._tickets[ticket] = item.results
                else:
                    self._accepted.extend((result, None) for result in item.results)

    def fire_accepted(self) -> None:
        """Tell the senders of what was handed over."""
        accepted, self._accepted = self._accepted, []
        for result, error in accepted:
            if result.called:
                continue
            if error is None:
                result.callback(None)
            else:
                result.errback(error)

    def resume(self) -> None:
        """The engine's queue has room again."""
        if self._paused:
            self._paused = False
            if self._waiting:
                self._host.schedule_flush(self)

    def node_leaves(self) -> None:
        """The node is about to leave: what waits is not sent any more, events still come."""
        self._node_leaves = True
        error = NotConnected("the node is leaving the cluster")
        while self._waiting:
            self._refuse(self._waiting.popleft(), error)
        self._host.schedule_flush(self)

    def ticket_done(self, ticket: int, complete: bool) -> None:
        """A frame has left, or is stable."""
        results = self._tickets.pop(ticket, None)
        if results is not None:
            self._completions.append(
                lambda: fire(
                    results,
                    None
                    if complete
                    else SendIncomplete(
                        "a view change cut the send short: it is delivered to those who stayed together"
                    ),
                )
            )
        if self._paused and self._engine.queued_bytes(self.number) <= SESSION_QUEUE_BYTES // 2:
            self.resume()

    def add_event(self, event: SessionEvent) -> None:
        """An event for the next delivery."""
        self._events.append(event)

    def entered(self, group: str) -> None:
        """A view of that group is in the next delivery."""
        self._groups.add(group)
        done = self._joining.pop(group, None)
        if done is not None:
            self._completions.append(lambda: fire([done], None))

    def left(self, group: str, reason: Reason) -> None:
        """This session is out of that group."""
        self._groups.discard(group)
        self._events.append(Left(group, reason))
        leaving = self._leaving.pop(group, [])
        joining = self._joining.pop(group, None)
        self._completions.append(lambda: fire(leaving, None))
        if joining is not None:
            self._completions.append(lambda: fire([joining], NotAMember(f"the join was ended: {reason.label}")))

    def deliver(self) -> None:
        """Give the handler what has come, then tell those who wait for it."""
        events, self._events = self._events, []
        completions, self._completions = self._completions, []
        if events:
            try:
                self._handler.events_received(events)
            except Exception:
                self._log.failure("the handler of session {member} failed", member=str(self.member))
        for completion in completions:
            completion()

    def end(self, reason: Reason) -> None:
        """The node ends this session."""
        if self._closed:
            return
        self._end(reason)
        try:
            self._handler.session_ended(reason)
        except Exception:
            self._log.failure("the handler of session {member} failed", member=str(self.member))

    # Helpers.

    def _check_open(self) -> None:
        """Raise if the session is over."""
        if self._closed:
            raise NotConnected("the session is closed")
        if self._node_leaves:
            raise NotConnected("the node is leaving the cluster")

    def _checked_groups(self, groups: Sequence[str]) -> _Destination:
        """The groups of a message, checked; those of the last one are not checked again."""
        if not groups or groups != self._last_destination:
            self._last_destination = checked_groups(groups)
        return self._last_destination

    def _make_room(self, size_bytes: int) -> None:
        """See to it that so much more may wait; raise ``QueueFull`` if it may not."""
        if self._overflows(size_bytes):
            self.hand_over()
            if self._overflows(size_bytes):
                raise QueueFull(f"{self._waiting_bytes} bytes of this session wait: wait for earlier sends first")

    def _add(
        self, destination: _Destination, data: bytes, level: Level, stable: bool, self_discard: bool
    ) -> Deferred[None]:
        """Add a message to the frame that is being collected, or begin another."""
        size = len(data) + WAITING_MESSAGE_BYTES
        try:
            self._make_room(size)
        except QueueFull as error:
            return fail(error)
        result: Deferred[None] = Deferred()
        payload_bytes = len(data) + _LENGTH_BYTES
        frame = self._waiting[-1] if self._waiting else None
        if not (
            isinstance(frame, _Sending)
            and frame.payload_bytes + payload_bytes <= frame.payload_limit_bytes
            and frame.level is level
            and frame.stable is stable
            and frame.self_discard is self_discard
            and frame.destination == destination
        ):
            frame = _Sending(destination, level, self_discard, stable, self._payload_limit(destination, level))
            self._waiting.append(frame)
        frame.messages.append(data)
        frame.results.append(result)
        frame.payload_bytes += payload_bytes
        frame.size_bytes += size
        self._waiting_bytes += size
        self._host.schedule_flush(self)
        if self._waiting_bytes > EAGER_BYTES:
            self.hand_over()
        return result

    def _overflows(self, size_bytes: int) -> bool:
        """Whether so much more is too much; one message, or one batch, always may wait where nothing else does."""
        return 0 < self._waiting_bytes > self._limits.waiting_bytes - size_bytes

    def _payload_limit(self, destination: _Destination, level: Level) -> int:
        """Up to which size messages are added to a frame."""
        if level is not _UNRELIABLE:
            return COALESCED_FRAME_BYTES
        return self._limits.max_unreliable_bytes - sum(len(name.encode()) + 1 for name in destination)

    def _enqueue(self, item: _Joining | _Leaving) -> None:
        """Put it behind what waits, and see to it that it is handed over."""
        self._waiting.append(item)
        self._host.schedule_flush(self)

    def _give(self, item: _Sending | _Joining | _Leaving) -> int:
        """Give one item to the engine; the ticket of a send."""
        now = self._host.now()
        if isinstance(item, _Joining):
            self._engine.join(self.number, item.group, now, outside=item.outside)
            return 0
        if isinstance(item, _Leaving):
            self._engine.leave(self.number, item.group, now)
            return 0
        payload = item.payload if item.payload is not None else pack_messages(item.messages)
        if item.destination[0]:
            return self._engine.send(
                self.number,
                item.destination,
                payload,
                item.level,
                now,
                self_discard=item.self_discard,
                stable=item.stable,
            )
        _, client, node = item.destination
        return self._engine.send_private(self.number, client, node, payload, item.level, now, stable=item.stable)

    def _record(self, recorder: SessionRecorder, item: _Sending | _Joining | _Leaving, ticket: int) -> None:
        """Tell the trace what the engine has taken."""
        if isinstance(item, _Joining):
            recorder.joining(self.number, item.group)
        elif isinstance(item, _Leaving):
            recorder.leaving(self.number, item.group)
        else:
            private = not item.destination[0]
            recorder.sent(
                self.number,
                ticket,
                item.messages if item.payload is None else unpack_messages(item.payload),
                item.level,
                () if private else item.destination,
                "@".join(item.destination[1:]) if private else None,
                stable=item.stable,
                self_discard=item.self_discard,
            )

    def _refuse(self, item: _Sending | _Joining | _Leaving, error: GroupcommError) -> None:
        """The engine does not take it."""
        if isinstance(item, _Sending):
            self._waiting_bytes -= item.size_bytes
            self._accepted.extend((result, error) for result in item.results)
        elif isinstance(item, _Joining):
            joining = self._joining.pop(item.group, None)
            if joining is not None:
                self._accepted.append((joining, error))
        else:
            self._accepted.extend((result, error) for result in self._leaving.pop(item.group, []))

    def _end(self, reason: Reason) -> None:
        """Nothing follows: give the last events and let nobody wait."""
        self._closed = True
        if self._recorder is not None:
            self._recorder.closed(self.number)
        self._host.forget(self)
        self._events.extend(Left(group, reason) for group in sorted(self._groups))
        leaving = [result for results in self._leaving.values() for result in results]
        self._completions.append(lambda: fire(leaving, None))
        unsent = [result for item in self._waiting if isinstance(item, _Sending) for result in item.results] + list(
            self._joining.values()
        )
        self._completions.append(lambda: fire(unsent, NotConnected("the session was closed")))
        unknown = [result for results in self._tickets.values() for result in results]
        self._completions.append(lambda: fire(unknown, OutcomeUnknown("the session was closed before it was stable")))
        self._groups.clear()
        self._leaving.clear()
        self._joining.clear()
        self._tickets.clear()
        self._waiting.clear()
        self._waiting_bytes = 0
        self.fire_accepted()
        self.deliver()


def _shares(messages: Sequence[bytes], limit_bytes: int) -> list[list[bytes]]:
    """The messages in as few frames as hold them, in their order."""
    if sum(map(len, messages)) + len(messages) * _LENGTH_BYTES <= limit_bytes:
        return [list(messages)]
    shares: list[list[bytes]] = []
    room = 0
    for data in messages:
        size = len(data) + _LENGTH_BYTES
        if size > room or not shares:
            shares.append([])
            room = limit_bytes
        shares[-1].append(data)
        room -= size
    return shares
