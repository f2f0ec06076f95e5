"""The group handle that applications hold, and the way of an event to it: one for embedded nodes and for clients.

Knows nothing of how events come or messages go: an owner (``HandleOwner``) does that.

Decides: that what nobody reads stays bounded (``limits.CLIENT_QUEUE_*``). A handle at the limit keeps what it has,
leaves its group and ends with ``Left`` for the reason ``TOO_SLOW``. Private messages that nobody ever asked for are not
kept beyond the limit; for one who did ask, reaching it ends the session.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Generic, Protocol, TypeVar

from twisted.internet.defer import Deferred, fail
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from groupcomm.batches import MessageBatch, SessionEvent
from groupcomm.errors import NotAMember
from groupcomm.events import Event, Left, Level, Message, Reason, TransitionalSignal, Undeliverable, View
from groupcomm.identity import MemberId
from groupcomm.interfaces import IGroup, IGroupEvents
from groupcomm.limits import CLIENT_QUEUE_BYTES, CLIENT_QUEUE_EVENTS
from groupcomm.packing import pack_messages

E = TypeVar("E", bound=Event)
_Told = TypeVar("_Told")

_EVENT_BYTES = 128
_MEMBER_BYTES = 64


def event_size(event: Event) -> int:
    """About how many bytes an event holds in memory."""
    if isinstance(event, Message):
        return _EVENT_BYTES + len(event.data)
    if isinstance(event, View):
        people = len(event.members) + len(event.joined) + len(event.left) + len(event.transitional)
        return _EVENT_BYTES + _MEMBER_BYTES * people
    return _EVENT_BYTES


class EventQueue(Generic[E]):
    """A bounded queue that is read as an asynchronous iterator, by any number of readers.

    Invariant: never more than the limits, the last event apart.
    """

    def __init__(self, limit_events: int = CLIENT_QUEUE_EVENTS, limit_bytes: int = CLIENT_QUEUE_BYTES) -> None:
        self._events: deque[E] = deque()
        self._size_bytes = 0
        self._limit_events = limit_events
        self._limit_bytes = limit_bytes
        self._ended = False
        self._readers: deque[Deferred[None]] = deque()

    def __len__(self) -> int:
        return len(self._events)

    @property
    def size_bytes(self) -> int:
        """About how many bytes wait."""
        return self._size_bytes

    def put(self, event: E) -> bool:
        """Append an event; False, and nothing done, if that would exceed a limit. After the end it is dropped."""
        if self._ended:
            return True
        size = event_size(event)
        if self._events and (len(self._events) >= self._limit_events or self._size_bytes + size > self._limit_bytes):
            return False
        self._events.append(event)
        self._size_bytes += size
        self._wake(1)
        return True

    def finish(self, last: E | None = None) -> None:
        """End the queue after what is in it and one last event, which always fits."""
        if self._ended:
            return
        self._ended = True
        if last is not None:
            self._events.append(last)
            self._size_bytes += event_size(last)
        self._wake(len(self._readers))

    def __aiter__(self) -> AsyncIterator[E]:
        return self

    async def __anext__(self) -> E:
        while not self._events:
            if self._ended:
                raise StopAsyncIteration
            waiting: Deferred[None] = Deferred()
            self._readers.append(waiting)
            try:
                await waiting
            finally:
                if waiting in self._readers:
                    self._readers.remove(waiting)
        event = self._events.popleft()
        self._size_bytes -= event_size(event)
        if self._events:
            self._wake(1)
        return event

    def _wake(self, count: int) -> None:
        """Let that many waiting readers look again."""
        for _ in range(min(count, len(self._readers))):
            self._readers.popleft().callback(None)


class HandleOwner(Protocol):
    """What a handle needs of its session."""

    def send(
        self, groups: Sequence[str], data: bytes, *, level: Level, stable: bool = False, self_discard: bool = False
    ) -> Deferred[None]:
        """Send to groups."""

    def send_many(
        self,
        groups: Sequence[str],
        messages: Sequence[bytes],
        *,
        level: Level,
        stable: bool = False,
        self_discard: bool = False,
    ) -> Deferred[None]:
        """Send several messages to groups."""

    def leave(self, group: str) -> Deferred[None]:
        """Leave a group."""


@implementer(IGroup)
class GroupHandle:
    """One membership of one group."""

    _log = Logger()

    def __init__(
        self,
        owner: HandleOwner,
        name: str,
        member: MemberId | str,
        listener: IGroupEvents | None = None,
        queue: EventQueue[Event] | None = None,
    ) -> None:
        """A handle that has not had an event yet.

        Args:
            owner: sends and leaves.
            name: the group's name.
            member: this member, as the others see it.
            listener: is called with each event; without one they wait in the queue.
            queue: where they wait; one with the usual limits if not given.
        """
        self.name = name
        self.member = member
        self._owner = owner
        self._listener = listener
        self._take_batch: Callable[[MessageBatch], None] | None = getattr(listener, "messages_received", None)
        self._queue: EventQueue[Event] = queue if queue is not None else EventQueue()
        self._ended = False

    @property
    def ended(self) -> bool:
        """Whether ``Left`` has been given: no event follows."""
        return self._ended

    def send(
        self, data: bytes, *, level: Level = Level.AGREED, stable: bool = False, self_discard: bool = False
    ) -> Deferred[None]:
        """Send one message to the group."""
        if self._ended:
            return fail(NotAMember(f"group {self.name!r} was left"))
        return self._owner.send((self.name,), data, level=level, stable=stable, self_discard=self_discard)

    def send_many(
        self,
        messages: Sequence[bytes],
        *,
        level: Level = Level.AGREED,
        stable: bool = False,
        self_discard: bool = False,
    ) -> Deferred[None]:
        """Send several messages to the group, one after the other, at the cost of little more than one."""
        if self._ended:
            return fail(NotAMember(f"group {self.name!r} was left"))
        return self._owner.send_many((self.name,), messages, level=level, stable=stable, self_discard=self_discard)

    def leave(self) -> Deferred[None]:
        """Leave the group; fires when the leave has its place in the order."""
        if self._ended:
            return fail(NotAMember(f"group {self.name!r} was left before"))
        return self._owner.leave(self.name)

    def __aiter__(self) -> AsyncIterator[Event]:
        return self._queue

    def event_received(self, event: Event) -> None:
        """One event of the group, in its order; called by the owner."""
        if self._ended:
            return
        if isinstance(event, Left):
            self._end(event)
        elif self._take_batch is not None and isinstance(event, Message):
            payload = pack_messages([event.data])
            self.batch_received(MessageBatch(event.groups, event.sender, event.level, event.view, payload))
        elif self._listener is not None:
            self._tell(self._listener.event_received, event)
        elif not self._queue.put(event):
            self._overflow()

    def batch_received(self, batch: MessageBatch) -> None:
        """Messages of the group, in their order; called by the owner."""
        if self._ended:
            return
        if self._take_batch is not None:
            self._tell(self._take_batch, batch)
            return
        for message in batch:
            self.event_received(message)

    def _overflow(self) -> None:
        """Nobody reads: leave."""
        self._log.warn("group {group} is left: its events are not read", group=self.name)
        leaving = self._owner.leave(self.name)
        self._end(Left(self.name, Reason.TOO_SLOW))
        leaving.addErrback(_ignore)

    def _end(self, last: Left) -> None:
        """Give the last event."""
        self._ended = True
        if self._listener is not None:
            self._tell(self._listener.event_received, last)
            self._queue.finish()
        else:
            self._queue.finish(last)

    def _tell(self, take: Callable[[_Told], None], told: _Told) -> None:
        """Call the listener; what it raises is its own trouble."""
        try:
            take(told)
        except Exception:  # it is the application's code: whatever it raises, the others get their events
            self._log.failure("a listener of group {group} failed", group=self.name)


def _ignore(failure: Failure) -> None:
    """The group cannot be left: it was left, or the session is over. Either way this handle has ended."""


class EventRouter:
    """Gives each event of a session to the handle it belongs to.

    A message to several groups goes to the handle of the first of them that is still open.
    """

    _log = Logger()

    def __init__(self, too_slow: Callable[[], None]) -> None:
        """No handles yet.

        Args:
            too_slow: called when the private messages somebody asked for are not read.
        """
        self._handles: dict[str, GroupHandle] = {}
        self._private: EventQueue[Message | Undeliverable] = EventQueue()
        self._private_wanted = False
        self._private_dropped = 0
        self._too_slow = too_slow

    @property
    def handles(self) -> tuple[GroupHandle, ...]:
        """The open handles, by group name."""
        return tuple(self._handles[name] for name in sorted(self._handles))

    @property
    def private_dropped(self) -> int:
        """Private messages dropped because nobody ever asked for them."""
        return self._private_dropped

    def add(self, handle: GroupHandle) -> None:
        """From now on events of this handle's group go to it."""
        self._handles[handle.name] = handle

    def remove(self, handle: GroupHandle) -> None:
        """The group was not joined after all."""
        if self._handles.get(handle.name) is handle:
            del self._handles[handle.name]

    def private_messages(self) -> AsyncIterator[Message | Undeliverable]:
        """What is sent to this session alone, and what of its own private messages found nobody."""
        self._private_wanted = True
        return self._private

    def route(self, event: SessionEvent) -> None:
        """Give one event to whom it belongs."""
        if isinstance(event, MessageBatch):
            for group in event.groups:
                handle = self._handles.get(group)
                if handle is not None and not handle.ended:
                    handle.batch_received(event)
                    return
            if not event.groups:
                for message in event:
                    self._route_private(message)
        elif isinstance(event, Message):
            if event.groups:
                self._route_message(event)
            else:
                self._route_private(event)
        elif isinstance(event, Undeliverable):
            self._route_private(event)
        elif isinstance(event, View | TransitionalSignal):
            handle = self._handles.get(event.group)
            if handle is not None:
                handle.event_received(event)
        else:
            handle = self._handles.pop(event.group, None)
            if handle is not None:
                handle.event_received(event)

    def end(self, reason: Reason) -> None:
        """The session is over: every handle ends, and so do the private messages."""
        for handle in self.handles:
            self._handles.pop(handle.name, None)
            handle.event_received(Left(handle.name, reason))
        self._private.finish()

    def _route_message(self, message: Message) -> None:
        """To the first open handle it is for."""
        for group in message.groups:
            handle = self._handles.get(group)
            if handle is not None and not handle.ended:
                handle.event_received(message)
                return

    def _route_private(self, event: Message | Undeliverable) -> None:
        """Into the queue, or what happens when it is full."""
        if self._private.put(event):
            return
        if self._private_wanted:
            self._too_slow()
            return
        if not self._private_dropped:
            self._log.warn("private messages are dropped: nobody asks for them")
        self._private_dropped += 1
