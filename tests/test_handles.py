"""Group handles keep what is not read within bounds and end with ``Left``."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

from twisted.internet.defer import Deferred, fail, succeed
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer
from zope.interface.verify import verifyObject

from groupcomm.batches import MessageBatch
from groupcomm.errors import NotAMember
from groupcomm.events import Event, Left, Level, Message, Reason, TransitionalSignal, Undeliverable
from groupcomm.handles import EventQueue, EventRouter, GroupHandle, event_size
from groupcomm.identity import GroupViewId, MemberId, NodeId, ViewId
from groupcomm.interfaces import IGroup, IGroupBatchEvents, IGroupEvents
from groupcomm.limits import CLIENT_QUEUE_EVENTS
from groupcomm.packing import pack_messages

NODE = NodeId("n1", 1)
ME = MemberId("me", NODE, 1)
VIEW = GroupViewId(ViewId(1, NODE), 0)


def message(data: bytes, *groups: str) -> Message:
    """A message to me."""
    return Message(groups, ME, Level.AGREED, data, VIEW if groups else None)


def batch(*messages: bytes, groups: tuple[str, ...] = ("g",)) -> MessageBatch:
    """Messages to me that came together."""
    return MessageBatch(groups, ME, Level.AGREED, VIEW if groups else None, pack_messages(messages))


async def next_of(events: AsyncIterator[Event]) -> Event:
    """The next event."""
    return await events.__anext__()


class Owner:
    """Records what handles ask for."""

    def __init__(self) -> None:
        self.calls: list[tuple[object, ...]] = []
        self.leave_result: Deferred[None] | None = None

    def send(
        self, groups: Sequence[str], data: bytes, *, level: Level, stable: bool = False, self_discard: bool = False
    ) -> Deferred[None]:
        self.calls.append(("send", tuple(groups), data, level, stable, self_discard))
        return succeed(None)

    def send_many(
        self,
        groups: Sequence[str],
        messages: Sequence[bytes],
        *,
        level: Level,
        stable: bool = False,
        self_discard: bool = False,
    ) -> Deferred[None]:
        self.calls.append(("send_many", tuple(groups), tuple(messages), level, stable, self_discard))
        return succeed(None)

    def leave(self, group: str) -> Deferred[None]:
        self.calls.append(("leave", group))
        return self.leave_result or succeed(None)


@implementer(IGroupEvents)
class Listener:
    """Records events, and may fail."""

    def __init__(self, broken: bool = False) -> None:
        self.events: list[Event] = []
        self.broken = broken

    def event_received(self, event: Event) -> None:
        self.events.append(event)
        if self.broken:
            raise ValueError("listener")


@implementer(IGroupBatchEvents)
class BatchListener(Listener):
    """Takes messages by the batch."""

    def __init__(self, broken: bool = False) -> None:
        super().__init__(broken)
        self.batches: list[MessageBatch] = []

    def messages_received(self, batch: MessageBatch) -> None:
        self.batches.append(batch)
        if self.broken:
            raise ValueError("listener")

    @property
    def data(self) -> list[list[bytes]]:
        """The messages of each batch."""
        return [batch.messages for batch in self.batches]


class QueueTests(SynchronousTestCase):
    """The bounded queue."""

    def test_read_before_and_after(self) -> None:
        """A reader that waits gets what comes; what came before waits for a reader."""
        queue: EventQueue[Event] = EventQueue()
        first = Deferred.fromCoroutine(queue.__anext__())
        self.assertNoResult(first)
        queue.put(TransitionalSignal("a"))
        queue.put(TransitionalSignal("b"))
        self.assertEqual(self.successResultOf(first), TransitionalSignal("a"))
        second = Deferred.fromCoroutine(queue.__anext__())
        self.assertEqual(self.successResultOf(second), TransitionalSignal("b"))
        self.assertEqual((len(queue), queue.size_bytes), (0, 0))

    def test_limits(self) -> None:
        """Both limits hold; the last event always fits; a single large event does too."""
        by_count: EventQueue[Event] = EventQueue(limit_events=2)
        self.assertEqual([by_count.put(TransitionalSignal("a")) for _ in range(3)], [True, True, False])
        by_count.finish(Left("a", Reason.TOO_SLOW))
        self.assertEqual(len(by_count), 3)
        size = event_size(message(b"12345", "g"))
        by_size: EventQueue[Event] = EventQueue(limit_bytes=2 * size)
        self.assertEqual([by_size.put(message(b"12345", "g")) for _ in range(3)], [True, True, False])
        large: EventQueue[Event] = EventQueue(limit_bytes=10)
        self.assertTrue(large.put(message(bytes(100), "g")))

    def test_end_wakes_every_reader(self) -> None:
        """Readers that wait at the end are told that there is none, but for the one that gets the last event."""
        queue: EventQueue[Event] = EventQueue()
        readers = [Deferred.fromCoroutine(queue.__anext__()) for _ in range(2)]
        queue.finish(Left("g", Reason.LEAVE))
        self.assertEqual(self.successResultOf(readers[0]), Left("g", Reason.LEAVE))
        self.failureResultOf(readers[1], StopAsyncIteration)
        self.failureResultOf(Deferred.fromCoroutine(queue.__anext__()), StopAsyncIteration)

    def test_cancelled_reader(self) -> None:
        """A reader that gives up takes nothing with it."""
        queue: EventQueue[Event] = EventQueue()
        gone, stays = (Deferred.fromCoroutine(queue.__anext__()) for _ in range(2))
        gone.addErrback(lambda _: None)
        gone.cancel()
        queue.put(TransitionalSignal("a"))
        self.assertEqual(self.successResultOf(stays), TransitionalSignal("a"))


class HandleTests(SynchronousTestCase):
    """One membership."""

    def test_interface(self) -> None:
        """A handle is an IGroup."""
        verifyObject(IGroup, GroupHandle(Owner(), "g", ME))

    def test_send_and_leave(self) -> None:
        """Sends and leaves go to the owner."""
        owner = Owner()
        handle = GroupHandle(owner, "g", ME)
        self.successResultOf(handle.send(b"x", level=Level.SAFE, stable=True, self_discard=True))
        self.successResultOf(handle.send_many([b"y", b"z"], level=Level.FIFO))
        self.successResultOf(handle.leave())
        self.assertEqual(
            owner.calls,
            [
                ("send", ("g",), b"x", Level.SAFE, True, True),
                ("send_many", ("g",), (b"y", b"z"), Level.FIFO, False, False),
                ("leave", "g"),
            ],
        )

    def test_after_the_end(self) -> None:
        """After ``Left`` nothing comes and nothing goes."""
        listener = Listener()
        handle = GroupHandle(Owner(), "g", ME, listener)
        handle.event_received(Left("g", Reason.LEAVE))
        handle.event_received(TransitionalSignal("g"))
        handle.batch_received(batch(b"late"))
        self.assertEqual(listener.events, [Left("g", Reason.LEAVE)])
        self.failureResultOf(handle.send(b"x", level=Level.FIFO), NotAMember)
        self.failureResultOf(handle.send_many([b"x"], level=Level.FIFO), NotAMember)
        self.failureResultOf(handle.leave(), NotAMember)
        self.failureResultOf(Deferred.fromCoroutine(next_of(aiter(handle))), StopAsyncIteration)

    def test_broken_listener(self) -> None:
        """A listener that raises is logged and called again."""
        listener = Listener(broken=True)
        handle = GroupHandle(Owner(), "g", ME, listener)
        handle.event_received(TransitionalSignal("g"))
        handle.event_received(TransitionalSignal("g"))
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 2)
        self.assertEqual(len(listener.events), 2)

    def test_too_slow(self) -> None:
        """A handle that nobody reads leaves its group; what it has can still be read, then comes the reason."""
        owner = Owner()
        owner.leave_result = fail(NotAMember("gone"))
        handle = GroupHandle(owner, "g", ME, queue=EventQueue(limit_events=2))
        for number in range(4):
            handle.event_received(message(b"%d" % number, "g"))
        self.assertEqual(owner.calls, [("leave", "g")])
        self.assertTrue(handle.ended)
        seen: list[Event] = []

        async def read() -> None:
            seen.extend([event async for event in handle])

        self.successResultOf(Deferred.fromCoroutine(read()))
        self.assertEqual(seen, [message(b"0", "g"), message(b"1", "g"), Left("g", Reason.TOO_SLOW)])


class BatchTests(SynchronousTestCase):
    """Messages that come together, at a handle."""

    def test_listener_of_batches(self) -> None:
        """A listener that takes batches gets each as it came, and every other event as an event."""
        listener = BatchListener()
        verifyObject(IGroupBatchEvents, listener)
        handle = GroupHandle(Owner(), "g", ME, listener)
        first, second = batch(b"a", b"b"), batch(b"c")
        handle.batch_received(first)
        handle.event_received(TransitionalSignal("g"))
        handle.batch_received(second)
        handle.event_received(Left("g", Reason.LEAVE))
        handle.batch_received(batch(b"late"))
        self.assertEqual(listener.batches, [first, second])
        self.assertEqual(listener.events, [TransitionalSignal("g"), Left("g", Reason.LEAVE)])

    def test_single_messages_are_batches_too(self) -> None:
        """Who takes batches gets every message in one, also where messages come one by one."""
        listener = BatchListener()
        handle = GroupHandle(Owner(), "g", ME, listener)
        handle.event_received(message(b"a", "g"))
        handle.event_received(message(b"", "g", "h"))
        self.assertEqual([list(each) for each in listener.batches], [[message(b"a", "g")], [message(b"", "g", "h")]])
        self.assertEqual(listener.events, [])

    def test_listener_of_events(self) -> None:
        """A listener that takes no batches gets their messages one by one."""
        listener = Listener()
        GroupHandle(Owner(), "g", ME, listener).batch_received(batch(b"a", b"", b"c"))
        self.assertEqual(listener.events, [message(data, "g") for data in (b"a", b"", b"c")])

    def test_broken_listener(self) -> None:
        """A listener that raises is logged and gets the next batch."""
        listener = BatchListener(broken=True)
        handle = GroupHandle(Owner(), "g", ME, listener)
        handle.batch_received(batch(b"a"))
        handle.batch_received(batch(b"b"))
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 2)
        self.assertEqual(listener.data, [[b"a"], [b"b"]])

    def test_iterated(self) -> None:
        """A handle that is iterated gives the messages of a batch one by one, and is bounded as ever."""
        owner = Owner()
        handle = GroupHandle(owner, "g", ME, queue=EventQueue(limit_events=2))
        handle.batch_received(batch(b"a", b"b", b"c", b"d"))
        seen: list[Event] = []

        async def read() -> None:
            seen.extend([event async for event in handle])

        self.successResultOf(Deferred.fromCoroutine(read()))
        self.assertEqual(seen, [message(b"a", "g"), message(b"b", "g"), Left("g", Reason.TOO_SLOW)])
        self.assertEqual(owner.calls, [("leave", "g")])

    def test_a_listener_that_ends_its_handle(self) -> None:
        """A listener that closes everything from within gets no message of the batch after that."""

        @implementer(IGroupEvents)
        class Closing:
            def event_received(self, event: Event) -> None:
                seen.append(event)
                if len(seen) == 1:
                    handle.event_received(Left("g", Reason.LEAVE))

        seen: list[Event] = []
        handle = GroupHandle(Owner(), "g", ME, Closing())
        handle.batch_received(batch(b"a", b"b"))
        self.assertEqual(seen, [message(b"a", "g"), Left("g", Reason.LEAVE)])


class RouterTests(SynchronousTestCase):
    """Events to handles."""

    def setUp(self) -> None:
        self.slow = 0
        self.router = EventRouter(self.too_slow)
        self.listeners = {name: Listener() for name in ("a", "b")}
        for name, listener in self.listeners.items():
            self.router.add(GroupHandle(Owner(), name, ME, listener))

    def too_slow(self) -> None:
        self.slow += 1

    def test_first_group(self) -> None:
        """A message goes to the handle of its first group that is open, and to nobody twice."""
        self.router.route(message(b"1", "b", "a"))
        self.router.route(Left("b", Reason.LEAVE))
        self.router.route(message(b"2", "b", "a"))
        self.router.route(message(b"3", "c"))
        self.assertEqual(self.listeners["b"].events, [message(b"1", "b", "a"), Left("b", Reason.LEAVE)])
        self.assertEqual(self.listeners["a"].events, [message(b"2", "b", "a")])

    def test_batches(self) -> None:
        """A batch goes to the handle of its first group that is open, to nobody twice, and whole."""
        listener = BatchListener()
        self.router.add(GroupHandle(Owner(), "c", ME, listener))
        self.router.route(batch(b"1", b"2", groups=("c", "a")))
        self.router.route(Left("c", Reason.LEAVE))
        self.router.route(batch(b"3", b"4", groups=("c", "a")))
        self.router.route(batch(b"5", groups=("d",)))
        self.assertEqual(listener.data, [[b"1", b"2"]])
        self.assertEqual(self.listeners["a"].events, [message(data, "c", "a") for data in (b"3", b"4")])
        self.assertEqual(self.listeners["b"].events, [])

    def test_private_batches(self) -> None:
        """Private messages that came together are private messages one by one, each counted."""
        private = self.router.private_messages()
        self.router.route(batch(b"a", b"b", groups=()))
        seen = [self.successResultOf(Deferred.fromCoroutine(next_of(private))) for _ in range(2)]
        self.assertEqual(seen, [message(b"a"), message(b"b")])
        self.router.route(batch(*[b""] * (CLIENT_QUEUE_EVENTS + 3), groups=()))
        self.assertEqual((self.slow, self.router.private_dropped), (3, 0))

    def test_end(self) -> None:
        """At the end of the session every handle ends with its reason."""
        self.router.end(Reason.NODE_LEAVE)
        for name, listener in self.listeners.items():
            self.assertEqual(listener.events, [Left(name, Reason.NODE_LEAVE)])
        self.assertEqual(self.router.handles, ())

        async def read() -> list[Event]:
            return [event async for event in self.router.private_messages()]

        self.assertEqual(self.successResultOf(Deferred.fromCoroutine(read())), [])

    def test_private_unwanted(self) -> None:
        """Private messages nobody asks for are dropped beyond the limit."""
        for _ in range(CLIENT_QUEUE_EVENTS + 2):
            self.router.route(message(b"x"))
        self.assertEqual((self.router.private_dropped, self.slow), (2, 0))

    def test_private_wanted(self) -> None:
        """Who asked for them and does not read is too slow."""
        self.router.private_messages()
        for _ in range(CLIENT_QUEUE_EVENTS + 1):
            self.router.route(Undeliverable("bob@n2"))
        self.assertEqual((self.router.private_dropped, self.slow), (0, 1))
