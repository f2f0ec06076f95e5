"""A node drives its engine in a fixed order, and stops without leaving anything."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from attrs import evolve
from twisted.internet.defer import Deferred, succeed
from twisted.logger import LogLevel, capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer
from zope.interface.verify import verifyObject

from groupcomm.batches import MessageBatch
from groupcomm.errors import EnvironmentFault, NameInUse, NotConnected, QueueFull, UsageError
from groupcomm.events import Event, Left, Level, Message, Reason, TransitionalSignal, Undeliverable
from groupcomm.identity import GroupViewId, MemberId, NodeId, ViewId
from groupcomm.interfaces import IConnection, IDiscovery, IGroup, IGroupBatchEvents, IGroupEvents
from groupcomm.node import NodeConfig
from groupcomm.node.driver import NodeDriver
from groupcomm.outputs import (
    Datagram,
    FrameDelivered,
    GroupLeft,
    GroupSignalDelivered,
    GroupViewDelivered,
    KeyRotated,
    NodeEvicted,
    NodeExpelled,
    NodeViewInstalled,
    PacketsRefused,
    PrivateUndeliverable,
    ProbeWanted,
    ReceiverSlow,
    SlowState,
    Stopped,
    WatchChanged,
)
from groupcomm.packing import pack_messages, unpack_messages
from groupcomm.status import SourceStatus
from tests.node_double import NodeBench, RecordingHandler, view_of

OTHER = NodeId("n2", 5)


@implementer(IDiscovery)
class RecordingSource:
    """A source that gives hints when told."""

    def __init__(self) -> None:
        self.port: int | None = None
        self.found: Any = None
        self.stopped = False

    def start(self, port: int, found: Any) -> Deferred[None]:
        self.port, self.found = port, found
        return succeed(None)

    def stop(self) -> Deferred[None]:
        self.stopped = True
        return succeed(None)

    def moved(self, hosts: tuple[str, ...]) -> None:
        self.hosts = hosts

    def status(self) -> SourceStatus:
        return SourceStatus("recording", "nowhere")


@implementer(IGroupBatchEvents)
class BatchListener:
    """Keeps batches as lists of messages, and other events."""

    def __init__(self) -> None:
        self.got: list[object] = []

    def event_received(self, event: Event) -> None:
        self.got.append(event)

    def messages_received(self, batch: MessageBatch) -> None:
        self.got.append(batch.messages)


class DriverTests(SynchronousTestCase):
    """Input, datagrams, outputs, deadline."""

    def setUp(self) -> None:
        self.source = RecordingSource()
        self.bench = NodeBench(sources=[self.source])
        self.bench.node.startService()
        self.engine = self.bench.engine

    def test_start(self) -> None:
        """Starting starts the engine and lets the sources announce the node's port."""
        self.assertEqual(self.engine.calls, [("start",), ("burst_ended",)])
        self.assertEqual(self.source.port, 4874)
        self.assertEqual(self.bench.node.address, ("127.0.0.1", 4874))
        self.assertEqual(self.bench.node.id, NodeId("n1", 1_000_000_000))

    def test_burst(self) -> None:
        """All datagrams of a burst are handed in, then the engine answers once."""
        self.engine.calls.clear()
        self.bench.transport.sink.datagram_received(b"a", ("10.0.0.1", 1))
        self.bench.transport.sink.datagram_received(b"b", ("10.0.0.2", 2))
        self.engine.datagrams.append(Datagram(b"answer", None))
        self.assertEqual(self.bench.transport.sent, [])
        self.bench.transport.sink.burst_ended()
        self.assertEqual(
            self.engine.calls,
            [
                ("datagram_received", b"a", ("10.0.0.1", 1)),
                ("datagram_received", b"b", ("10.0.0.2", 2)),
                ("burst_ended",),
            ],
        )
        self.assertEqual(self.bench.transport.sent, [Datagram(b"answer", None)])

    def test_where_the_links_are(self) -> None:
        """Engine and sources are told where the links are, the engine also what they take; again when they move."""
        transport = self.bench.transport
        self.assertEqual(self.engine.told_links, ((("127.0.0.1", 4874),), (65_536 - 28,)))
        transport.addresses = (("127.0.0.1", 4874), ("fd77::1", 4874))
        transport.link_mtus = (1500, 9000)
        transport.sink.moved()
        self.assertEqual(self.source.hosts, ("127.0.0.1", "fd77::1"))
        self.assertEqual(self.engine.told_links, (transport.addresses, (1472, 8952)))

    def test_by_which_link(self) -> None:
        """The engine is told by which link and which socket what follows has come."""
        self.engine.calls.clear()
        self.bench.transport.sink.reading(1, multicast=True)
        self.bench.transport.sink.datagram_received(b"a", ("10.0.0.1", 1))
        self.assertEqual(self.engine.calls, [("reading", 1, True), ("datagram_received", b"a", ("10.0.0.1", 1))])

    def test_run(self) -> None:
        """Datagrams that came at once are handed in at once, in their place and at the time of the burst."""
        self.engine.calls.clear()
        self.engine.times.clear()
        self.bench.transport.sink.datagram_received(b"a", ("10.0.0.1", 1))
        self.bench.clock.rightNow += 0.001
        self.bench.transport.sink.run_received(b"bbbccc", 3, ("10.0.0.2", 2))
        self.assertEqual(
            self.engine.calls,
            [("datagram_received", b"a", ("10.0.0.1", 1)), ("run_received", b"bbbccc", 3, ("10.0.0.2", 2))],
        )
        self.assertEqual(self.engine.times, [0.0, 0.0])
        self.bench.transport.sink.burst_ended()
        self.assertEqual(self.engine.calls[2:], [("burst_ended",)])

    def test_one_delayed_call(self) -> None:
        """The engine's deadline is one delayed call, moved only when the deadline comes earlier."""
        self.engine.deadline = 0.5
        self.bench.transport.sink.burst_ended()
        self.engine.deadline = 0.2
        self.bench.transport.sink.burst_ended()
        self.engine.deadline = 0.3
        self.bench.transport.sink.burst_ended()
        self.assertEqual([call.getTime() for call in self.bench.clock.getDelayedCalls()], [0.2])
        self.bench.clock.run_for(0.25)
        self.assertEqual(self.engine.named("handle_timeout"), [])
        self.bench.clock.run_for(0.1)
        self.assertEqual(self.engine.named("handle_timeout"), [("handle_timeout",)])
        self.assertEqual(self.bench.clock.getDelayedCalls(), [])

    def test_overdue_deadline_at_a_burst(self) -> None:
        """A deadline that has passed when datagrams come is handled then, whatever the reactor's timers do."""
        self.engine.deadline = 0.05
        self.bench.transport.sink.burst_ended()
        self.bench.clock.rightNow = 0.06
        self.bench.transport.sink.datagram_received(b"a", OTHER_ADDRESS)
        self.bench.transport.sink.burst_ended()
        self.assertEqual(self.engine.named("handle_timeout"), [("handle_timeout",)])

    def test_delivery_comes_before_the_answer(self) -> None:
        """What a burst has completed is delivered first; what that makes a session send goes along with the answer."""
        seen: list[list[tuple[Any, ...]]] = []
        handler = RecordingHandler()
        session = self.bench.node.open_session("c", handler)
        self.bench.clock.turn()

        def received(events: Sequence[object]) -> None:
            seen.append(self.engine.named("burst_ended"))
            session.send(("g",), b"answer", Level.AGREED)

        handler.events_received = received  # type: ignore[method-assign]
        self.engine.calls.clear()
        self.bench.say(GroupSignalDelivered((1,), "g"))
        self.assertEqual(seen, [[]])
        self.assertEqual([call[0] for call in self.engine.calls], ["send", "burst_ended"])

    def test_an_engine_with_nothing_to_do_is_not_asked(self) -> None:
        """After a burst of what is delivered already the engine is left alone, unless its deadline has passed."""
        self.engine.deadline = 0.05
        self.bench.transport.sink.burst_ended()
        self.engine.settled = True
        self.engine.calls.clear()
        self.bench.transport.sink.datagram_received(b"a", OTHER_ADDRESS)
        self.bench.transport.sink.burst_ended()
        self.assertEqual(self.engine.named("burst_ended"), [])
        self.bench.clock.rightNow = 0.06
        self.bench.transport.sink.datagram_received(b"b", OTHER_ADDRESS)
        self.bench.transport.sink.burst_ended()
        self.assertEqual(self.engine.named("handle_timeout"), [("handle_timeout",)])

    def test_waiting_datagrams_come_before_a_timeout(self) -> None:
        """What has come already is handed in before anything is concluded from a deadline."""
        self.engine.deadline = 0.05
        self.bench.transport.sink.burst_ended()
        self.bench.transport.waiting.append((b"in time", OTHER_ADDRESS))
        self.engine.calls.clear()
        self.bench.clock.run_for(0.05)
        self.assertEqual(
            [call[0] for call in self.engine.calls], ["datagram_received", "handle_timeout", "burst_ended"]
        )

    def test_stall(self) -> None:
        """A delayed call that comes much too late is a stall, and the engine hears of it before anything else, once."""
        self.engine.deadline = 0.05
        self.bench.transport.sink.burst_ended()
        self.engine.calls.clear()
        self.bench.clock.rightNow = 1.05
        self.bench.transport.sink.datagram_received(b"a", OTHER_ADDRESS)
        self.bench.transport.sink.burst_ended()
        self.bench.clock.turn()
        self.assertEqual(self.engine.calls[0], ("stalled", 1.0))
        self.assertEqual(len(self.engine.named("stalled")), 1)

    def test_small_delay_is_no_stall(self) -> None:
        """A tenth of a second late is nothing."""
        self.engine.deadline = 0.05
        self.bench.transport.sink.burst_ended()
        self.bench.clock.rightNow = 0.15
        self.bench.transport.sink.burst_ended()
        self.assertEqual(self.engine.named("stalled"), [])

    def test_what_leaves_when(self) -> None:
        """The first message of a turn leaves at once, the rest as one frame at the end of the turn."""
        session = self.bench.node.open_session("app", RecordingHandler())
        self.bench.clock.turn()
        self.engine.calls.clear()
        self.engine.datagrams.append(Datagram(b"first", None))
        session.send(("g",), b"1", Level.AGREED)
        self.assertEqual([call[0] for call in self.engine.calls], ["send", "flush"])
        self.assertEqual(self.bench.transport.sent, [Datagram(b"first", None)])
        session.send(("g",), b"2", Level.AGREED)
        session.send(("g",), b"3", Level.AGREED)
        self.engine.datagrams.append(Datagram(b"rest", None))
        self.assertEqual(self.bench.transport.sent, [Datagram(b"first", None)])
        self.bench.clock.turn()
        self.assertEqual(self.bench.transport.sent, [Datagram(b"first", None), Datagram(b"rest", None)])
        self.assertEqual([call[0] for call in self.engine.calls], ["send", "flush", "send", "burst_ended"])
        self.assertEqual([unpack_messages(call[3]) for call in self.engine.named("send")], [[b"1"], [b"2", b"3"]])

    def test_flush(self) -> None:
        """What has been collected leaves at a ``flush``, once; who waits for it is told at the end of the turn."""
        handler = RecordingHandler()
        session = self.bench.node.open_session("app", handler)
        driver = self.bench.transport.sink
        assert isinstance(driver, NodeDriver)
        self.bench.clock.turn()
        self.engine.calls.clear()
        driver.flush()
        self.assertEqual(self.engine.calls, [])
        sent = session.send_payload(("g",), pack_messages([b"1", b"2"]), Level.AGREED)
        self.assertEqual(self.engine.calls, [])
        self.engine.datagrams.append(Datagram(b"1 2", None))
        self.engine.outputs.append(GroupSignalDelivered((1,), "g"))
        driver.flush()
        self.assertEqual([call[0] for call in self.engine.calls], ["send", "flush"])
        self.assertEqual(self.bench.transport.sent, [Datagram(b"1 2", None)])
        self.assertNoResult(sent)
        self.assertEqual(handler.events, [])
        self.bench.clock.turn()
        self.assertEqual([call[0] for call in self.engine.calls], ["send", "flush", "burst_ended"])
        self.successResultOf(sent)
        self.assertEqual(handler.events, [TransitionalSignal("g")])
        self.assertEqual(len(self.engine.named("send")), 1)

    def test_flush_inside_a_handler(self) -> None:
        """A handler that flushes changes nothing: what it sends leaves after what is being delivered."""
        handler = RecordingHandler()
        session = self.bench.node.open_session("app", handler)
        driver = self.bench.transport.sink
        assert isinstance(driver, NodeDriver)
        self.bench.clock.turn()

        def react() -> None:
            session.send(("g",), b"re", Level.AGREED)
            driver.flush()
            self.assertEqual(self.engine.named("send"), [])

        handler.reaction = react
        self.bench.say(GroupSignalDelivered((1,), "g"))
        self.bench.clock.turn()
        self.assertEqual(len(self.engine.named("send")), 1)

    def test_a_deadline_after_the_first_of_a_turn(self) -> None:
        """A deadline that the first message of a turn makes is kept, though nothing else happens in that turn."""
        session = self.bench.node.open_session("app", RecordingHandler())
        self.bench.clock.turn()
        self.engine.deadline = 0.2
        session.send(("g",), b"1", Level.AGREED)
        self.bench.clock.run_for(0.3)
        self.assertEqual(self.engine.named("handle_timeout"), [("handle_timeout",)])

    def test_hints(self) -> None:
        """What a source finds is a hint to the engine."""
        self.source.found(("10.0.0.9", 4874))
        self.assertEqual(self.engine.named("add_hint"), [("add_hint", ("10.0.0.9", 4874))])

    def test_watch_and_probe(self) -> None:
        """Neighbours are connected to, and a probe that is refused twice is told to the engine."""
        self.bench.say(WatchChanged(((OTHER, ("10.0.0.2", 7)),)), ProbeWanted(NodeId("n3", 1), ("10.0.0.3", 8)))
        self.assertEqual(
            [(client[0], client[1]) for client in self.bench.clock.tcpClients], [("10.0.0.2", 7), ("10.0.0.3", 8)]
        )

    def test_observers(self) -> None:
        """Node views are told to observers, and one that fails harms nobody."""
        seen: list[object] = []

        def broken(news: object) -> None:
            raise ValueError(str(news))

        self.bench.node.observe(broken)
        self.bench.node.observe(seen.append)
        view = NodeViewInstalled(ViewId(3, OTHER), (self.bench.node.id, OTHER), (self.bench.node.id,), (), OTHER)
        self.bench.say(view)
        self.assertEqual(seen, [view])
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)

    def test_a_view_that_is_not_primary_is_logged(self) -> None:
        """With the reason, and who has other settings."""
        own = self.bench.node.id
        view = NodeViewInstalled(
            ViewId(3, own), (own,), (own,), (), own, primary=False, filtered=True, why="too few: n7"
        )
        with capturedLogs() as events:
            self.bench.say(view, evolve(view, primary=True))
        first, second = (formatEvent(event) for event in events)
        self.assertIn("NOT PRIMARY: too few: n7", first)
        self.assertNotIn("PRIMARY", second)

    def test_slow_receivers(self) -> None:
        """Who is slow or was evicted, by whom, and what it lacked, is logged as a warning and told to observers."""
        seen: list[object] = []
        self.bench.node.observe(seen.append)
        told = (
            ReceiverSlow(OTHER, 5_000, 2.1, False),
            ReceiverSlow(OTHER, 0, 0.0, True),
            ReceiverSlow(OTHER, 5_100, 2.2, False, SlowState.CATCHING_UP),
            ReceiverSlow(OTHER, 5_200, 2.3, False, SlowState.SPENT),
            NodeEvicted(OTHER, (self.bench.node.id,), 6_000, 3.2, 10.0),
            NodeEvicted(self.bench.node.id, (OTHER,), 7_000, 4.3, 20.0),
        )
        expected = (
            f"node {OTHER} is slow: this node's sending has waited for it for 2.1 s, it lacks 5000 bytes; "
            "slow-receiver is wait",
            f"node {OTHER} is slow no more",
            f"node {OTHER} is slow: it catches up; it has been slow for 2.2 s and lacks 5100 bytes; slow-receiver is "
            "wait",
            f"node {OTHER} is slow: it has not caught up, and should go; it has been slow for 2.3 s and lacks 5200 "
            "bytes; slow-receiver is wait",
            f"node {OTHER} was evicted for being slow, by {self.bench.node.id}: it lacked 6000 bytes of what was sent, "
            "behind all others for 3.2 s; it is kept out for 10 s",
            f"this node was evicted for being slow, by {OTHER}: it lacked 7000 bytes of what was sent, behind all "
            "others for 4.3 s; it is kept out for 20 s",
        )
        with capturedLogs() as logged:
            self.bench.say(*told)
        self.assertEqual(seen, list(told))
        warnings = [formatEvent(event) for event in logged if event["log_level"] is LogLevel.warn]
        self.assertEqual(warnings, list(expected))

    def test_status(self) -> None:
        """The status has the engine's counters and those of the sockets and the watch, and what the sources say."""
        self.assertEqual(self.bench.node.status().discovery, (SourceStatus("recording", "nowhere"),))
        counters = self.bench.node.status().counters
        self.assertEqual(counters["datagrams_received"], 3)
        self.assertIn("send_no_room", counters)
        self.assertIn("watch_dead", counters)


OTHER_ADDRESS = ("10.0.0.2", 7)


class EndTests(SynchronousTestCase):
    """How a node ends."""

    def test_clean_stop(self) -> None:
        """Stopping leaves the cluster, ends the sessions, closes everything and leaves no delayed call."""
        source = RecordingSource()
        bench = NodeBench(sources=[source])
        bench.node.startService()
        handler = RecordingHandler()
        session = bench.node.open_session("app", handler)
        bench.clock.turn()
        bench.say(GroupViewDelivered((1,), view_of("g", session.member, joined=(session.member,))))
        bench.engine.deadline = 3.0
        bench.say()
        stopping = bench.node.stopService()
        self.assertNoResult(stopping)
        bench.clock.run_for(1.0)
        self.successResultOf(stopping)
        self.assertEqual(bench.engine.named("leave_cluster"), [("leave_cluster",)])
        self.assertEqual(handler.events[-1], Left("g", Reason.NODE_LEAVE))
        self.assertIs(handler.ended, Reason.NODE_LEAVE)
        self.assertTrue(session.closed)
        self.assertTrue(source.stopped)
        self.assertTrue(bench.transport.closed)
        self.assertEqual(bench.clock.getDelayedCalls(), [])
        self.assertRaises(NotConnected, bench.node.open_session, "app", handler)

    def test_leave_takes_too_long(self) -> None:
        """A leave that nobody answers ends all the same, in bounded time."""
        bench = NodeBench()
        bench.node.startService()
        bench.engine.stop_at_once = False
        stopping = bench.node.stopService()
        bench.clock.run_for(3.9)
        self.assertNoResult(stopping)
        bench.clock.run_for(0.3)
        self.successResultOf(stopping)
        self.assertTrue(bench.transport.closed)
        self.assertEqual(bench.clock.getDelayedCalls(), [])

    def test_messages_of_the_last_turn_go_out(self) -> None:
        """What was sent just before stopping reaches the engine before the leave."""
        bench = NodeBench()
        bench.node.startService()
        session = bench.node.open_session("app", RecordingHandler())
        sent = session.send(("g",), b"last", Level.AGREED)
        stopping = bench.node.stopService()
        bench.clock.run_for(1.0)
        self.successResultOf(stopping)
        self.successResultOf(sent)
        names = [call[0] for call in bench.engine.named("send", "leave_cluster")]
        self.assertEqual(names, ["send", "leave_cluster"])

    def test_sending_while_leaving(self) -> None:
        """From the leave on nothing is accepted, and what waited for room is told so; events still come."""
        bench = NodeBench()
        bench.node.startService()
        handler = RecordingHandler()
        session = bench.node.open_session("app", handler)
        bench.engine.stop_at_once = False
        bench.engine.refusal = QueueFull("full")
        waiting = session.send(("g",), b"waits", Level.AGREED)
        stopping = bench.node.stopService()
        bench.clock.turn()
        self.failureResultOf(waiting, NotConnected)
        self.failureResultOf(session.send(("g",), b"late", Level.AGREED), NotConnected)
        bench.say(GroupSignalDelivered((1,), "g"))
        self.assertEqual(handler.events, [TransitionalSignal("g")])
        bench.say(Stopped("left", clean=True))
        bench.clock.run_for(1.0)
        self.successResultOf(stopping)

    def test_engine_stops_by_itself(self) -> None:
        """A node whose name is in use tells observers and sessions; stopping then only closes."""
        bench = NodeBench()
        news: list[object] = []
        bench.node.observe(news.append)
        bench.node.startService()
        handler = RecordingHandler()
        bench.node.open_session("app", handler)
        bench.say(Stopped("name in use", clean=False))
        self.assertEqual(news, [Stopped("name in use", clean=False)])
        self.assertEqual(bench.node.stopped, Stopped("name in use", clean=False))
        self.assertIs(handler.ended, Reason.NODE_FAILURE)
        self.assertRaises(NotConnected, bench.node.open_session, "two", handler)
        stopping = bench.node.stopService()
        bench.clock.run_for(0.0)
        self.successResultOf(stopping)
        self.assertEqual(bench.engine.named("leave_cluster"), [])

    def test_restart(self) -> None:
        """A service that is started again is a new run with a greater incarnation."""
        directory = Path(self.mktemp())
        bench = NodeBench(NodeConfig(node="n1", data_dir=directory, insecure=True))
        bench.node.startService()
        first = bench.node.id
        stopping = bench.node.stopService()
        bench.clock.run_for(1.0)
        self.successResultOf(stopping)
        bench.wall_seconds = 5.0
        bench.node.startService()
        self.assertEqual(bench.node.id, NodeId("n1", first.incarnation + 1))
        self.assertEqual(len(bench.engines), 2)

    def test_a_copied_machine_renews_its_keys(self) -> None:
        """When wall clock and monotonic clock have parted, the engine hears of it before anything is sealed."""
        bench = NodeBench()
        bench.node.startService()
        bench.engine.datagrams.append(Datagram(b"x", None))
        bench.transport.sink.burst_ended()
        self.assertEqual(bench.engine.named("clock_jumped"), [])
        bench.wall_seconds += 1.5
        bench.engine.datagrams.append(Datagram(b"x", None))
        bench.transport.sink.burst_ended()
        self.assertEqual(bench.engine.sealed_after_jumps, [0, 1])

    def test_a_clock_that_is_slewed_renews_nothing(self) -> None:
        """A wall clock that is brought right little by little never leaps, however far it goes in the end."""
        bench = NodeBench()
        bench.node.startService()
        for _ in range(30):
            bench.wall_seconds += 0.1
            bench.engine.datagrams.append(Datagram(b"x", None))
            bench.transport.sink.burst_ended()
        self.assertEqual(bench.engine.sealed_after_jumps, [0] * 30)

    def test_a_forked_process_renews_its_keys(self) -> None:
        """A child that goes on with the node of its parent does not seal under the parent's keys."""
        bench = NodeBench()
        bench.node.startService()
        self.patch(os, "getpid", lambda: 1)
        bench.engine.datagrams.append(Datagram(b"x", None))
        bench.transport.sink.burst_ended()
        self.assertEqual(bench.engine.sealed_after_jumps, [1])

    def test_rotation_of_the_key(self) -> None:
        """It is done when this node seals under the next epoch; the end of the node ends the waiting."""
        bench = NodeBench()
        bench.node.startService()
        rotation = bench.node.rotate_key()
        self.assertNoResult(rotation)
        bench.say(KeyRotated(4))
        self.assertEqual(self.successResultOf(rotation), 4)
        again = bench.node.rotate_key()
        bench.say(Stopped("name in use", clean=False))
        self.failureResultOf(again, NotConnected)

    def test_rotation_without_a_key(self) -> None:
        """Where there is none, nothing is rotated, and that is said."""
        bench = NodeBench()
        bench.node.startService()
        bench.engine.refusal = UsageError("no key")
        self.failureResultOf(bench.node.rotate_key(), UsageError)

    def test_expulsion(self) -> None:
        """It is done when this node has heard of it; the end of the node ends the waiting."""
        bench = NodeBench()
        bench.node.startService()
        expulsion = bench.node.expel("mallory")
        bench.say(NodeExpelled("other", "b"))
        self.assertNoResult(expulsion)
        with capturedLogs() as events:
            bench.say(NodeExpelled("mallory", "b"), NodeExpelled(bench.node.id.name, "b"))
        self.successResultOf(expulsion)
        texts = [formatEvent(event) for event in events]
        self.assertIn("the node mallory is expelled, as was asked for on b", texts[0])
        self.assertIn("this node is expelled", texts[1])
        again = bench.node.expel("eve")
        bench.say(Stopped("name in use", clean=False))
        self.failureResultOf(again, NotConnected)

    def test_expulsion_with_a_key(self) -> None:
        """Where nodes share a key, nobody is expelled, and that is said."""
        bench = NodeBench()
        bench.node.startService()
        bench.engine.refusal = UsageError("a key cannot exclude anybody")
        self.failureResultOf(bench.node.expel("mallory"), UsageError)

    def test_packets_that_do_not_open_are_logged(self) -> None:
        """Each kind in words, with where the last came from and how many there were."""
        bench = NodeBench()
        bench.node.startService()
        with capturedLogs() as events:
            bench.say(PacketsRefused("seal_broken", ("10.0.0.9", 7), 3), PacketsRefused("unsealed", ("10.0.0.8", 7), 1))
            bench.say(PacketsRefused("passport_refused", ("10.0.0.7", 7), 2, "it was revoked"))
            bench.say(PacketsRefused("signature_broken", ("10.0.0.6", 7), 5))
        texts = [formatEvent(event) for event in events]
        self.assertEqual(len(texts), 4)
        self.assertIn("10.0.0.7:7 is not let in (2): it was revoked", texts[2])
        self.assertIn("10.0.0.6:7 are not signed by whom they name (5)", texts[3])
        self.assertIn("10.0.0.9:7 do not open (3): a node there has another key", texts[0])
        self.assertIn("10.0.0.8:7 (1): a node there runs without a key", texts[1])

    def test_what_the_status_says_of_host_and_strangers(self) -> None:
        """The links, for how long the node is up, and who was refused how long ago."""
        bench = NodeBench()
        bench.node.startService()
        bench.say(PacketsRefused("seal_broken", ("10.0.0.9", 7), 3))
        before = bench.node.status()
        bench.clock.advance(5.0)
        status = bench.node.status()
        self.assertEqual(status.up_seconds - before.up_seconds, 5.0)
        self.assertEqual([link.address for link in status.links], [("127.0.0.1", 4874)])
        (refused,) = status.refused
        self.assertEqual((refused.why, refused.source, refused.count), ("seal_broken", ("10.0.0.9", 7), 3))
        self.assertEqual(refused.seconds, 5.0)

    def test_nothing_to_stop(self) -> None:
        """A node that was never started stops at once."""
        self.successResultOf(NodeBench().node.stopService())

    def test_bad_data_directory(self) -> None:
        """A data directory that is a file is said so, and the node does not start."""
        path = Path(self.mktemp())
        path.write_text("x")
        bench = NodeBench(NodeConfig(node="n1", data_dir=path, insecure=True))
        fault = self.assertRaises(EnvironmentFault, bench.node.startService)
        self.assertIn(str(path), str(fault))
        self.assertFalse(bench.node.running)


class EmbeddedTests(SynchronousTestCase):
    """The node as a connection."""

    def setUp(self) -> None:
        self.bench = NodeBench()
        self.node = self.bench.node
        self.node.startService()
        self.me = MemberId("n1", self.node.id, 1)

    def join(self, group: str, listener: IGroupEvents | None = None) -> Any:
        """Join and let the engine agree."""
        joining = self.node.join(group, listener)
        self.bench.clock.turn()
        self.bench.say(GroupViewDelivered((1,), view_of(group, self.me, joined=(self.me,))))
        return self.successResultOf(joining)

    def test_interfaces(self) -> None:
        """The node and its handles are what the interfaces say."""
        verifyObject(IConnection, self.node)
        verifyObject(IConnection, self.node.connect("other"))
        verifyObject(IGroup, self.join("g"))

    def test_join_and_events(self) -> None:
        """A join gives a handle; its first event is the view, then come messages, and ``Left`` ends the iteration."""
        handle = self.join("g")
        view_id = GroupViewId(ViewId(7, self.me.node), 1)
        frame = FrameDelivered(((1, ("g",)),), self.me, Level.SAFE, pack_messages([b"a", b"b"]), {"g": view_id})
        self.bench.say(frame, GroupSignalDelivered((1,), "g"), GroupLeft(1, "g", Reason.LEAVE))
        seen: list[object] = []

        async def read() -> None:
            seen.extend([event async for event in handle])

        reading = Deferred.fromCoroutine(read())
        self.successResultOf(reading)
        self.assertEqual(seen[0], view_of("g", self.me, joined=(self.me,)))
        self.assertEqual(
            seen[1:],
            [
                Message(("g",), self.me, Level.SAFE, b"a", view_id),
                Message(("g",), self.me, Level.SAFE, b"b", view_id),
                TransitionalSignal("g"),
                Left("g", Reason.LEAVE),
            ],
        )

    def test_multi_group_message(self) -> None:
        """A message to several groups goes to the handle of the first."""
        first, second = self.join("a"), self.join("b")
        view_id = GroupViewId(ViewId(7, self.me.node), 1)
        views = {"a": view_id, "b": view_id}
        self.bench.say(FrameDelivered(((1, ("b", "a")),), self.me, Level.AGREED, pack_messages([b"x"]), views))
        self.assertEqual([len(first._queue), len(second._queue)], [1, 2])

    def test_private(self) -> None:
        """Private messages and what found nobody come apart from the groups."""
        messages = self.node.private_messages()
        sent = self.node.send_private("bob@n2", b"hi", level=Level.FIFO)
        self.bench.clock.turn()
        self.successResultOf(sent)
        self.assertEqual(
            self.bench.engine.named("send_private"),
            [("send_private", 1, "bob", "n2", pack_messages([b"hi"]), Level.FIFO, False)],
        )
        self.bench.say(
            PrivateUndeliverable(1, "bob@n2"),
            FrameDelivered(((1, ()),), self.me, Level.FIFO, pack_messages([b"yo"]), {}),
        )

        async def two() -> list[object]:
            return [await messages.__anext__(), await messages.__anext__()]

        self.assertEqual(
            self.successResultOf(Deferred.fromCoroutine(two())),
            [Undeliverable("bob@n2"), Message((), self.me, Level.FIFO, b"yo", None)],
        )

    def test_messages_by_the_batch(self) -> None:
        """A listener with ``messages_received`` gets the messages of a frame in one call, in their place."""
        listener = BatchListener()
        self.join("g", listener)
        view_id = GroupViewId(ViewId(7, self.me.node), 1)
        frames = [
            FrameDelivered(((1, ("g",)),), self.me, Level.SAFE, pack_messages(messages), {"g": view_id})
            for messages in ([b"a", b"b"], [b"c"])
        ]
        self.bench.say(frames[0], GroupSignalDelivered((1,), "g"), frames[1], GroupLeft(1, "g", Reason.LEAVE))
        self.assertEqual(listener.got[1:], [[b"a", b"b"], TransitionalSignal("g"), [b"c"], Left("g", Reason.LEAVE)])

    def test_send_many(self) -> None:
        """A handle, a connection and a node send several messages in one call and one frame."""
        handle, other = self.join("g"), self.node.connect("other")
        self.bench.clock.turn()
        self.bench.engine.calls.clear()
        sent = [
            handle.send_many([b"a", b"b"], self_discard=True),
            self.node.send_many(("h",), [b"c", b"d"], level=Level.SAFE),
            other.send_many(("g", "h"), [b"e", b"f"], level=Level.FIFO),
        ]
        self.bench.clock.turn()
        for result in sent:
            self.successResultOf(result)
        self.assertEqual(
            [(call[1], call[2], unpack_messages(call[3]), *call[4:]) for call in self.bench.engine.named("send")],
            [
                (1, ("g",), [b"a", b"b"], Level.AGREED, True, False),
                (1, ("h",), [b"c", b"d"], Level.SAFE, False, False),
                (2, ("g", "h"), [b"e", b"f"], Level.FIFO, False, False),
            ],
        )

    def test_leave(self) -> None:
        """Leaving fires when the leave has its place in the order."""
        handle = self.join("g")
        leaving = handle.leave()
        self.bench.clock.turn()
        self.assertNoResult(leaving)
        self.bench.say(GroupLeft(1, "g", Reason.LEAVE))
        self.successResultOf(leaving)
        self.assertTrue(handle.ended)

    def test_refused_join(self) -> None:
        """A join that the engine refuses fails, and can be tried again."""
        self.bench.engine.refusal = UsageError("too many groups")
        joining = self.node.join("g")
        self.bench.clock.turn()
        self.failureResultOf(joining, UsageError)
        self.bench.engine.refusal = None
        self.join("g")

    def test_sessions_by_name(self) -> None:
        """Another client name is another session; a name in use is refused."""
        joining = self.node.join("g", client_name="worker")
        self.bench.clock.turn()
        self.assertNoResult(joining)
        self.assertEqual(self.bench.engine.named("open_session"), [("open_session", "worker")])
        self.assertRaises(NameInUse, self.node.connect, "worker")

    def test_before_start(self) -> None:
        """A node that does not run says so through the Deferred."""
        bench = NodeBench()
        self.failureResultOf(bench.node.join("g"), NotConnected)
        self.failureResultOf(bench.node.send(("g",), b"", level=Level.FIFO), NotConnected)
        self.failureResultOf(bench.node.send_many(("g",), [b""], level=Level.FIFO), NotConnected)
        self.assertRaises(NotConnected, bench.node.status)

    def test_close(self) -> None:
        """Closing ends the node's own session and its handles; the next use opens another."""
        handle = self.join("g")
        self.successResultOf(self.node.close())
        self.assertTrue(handle.ended)
        self.failureResultOf(handle.send(b"x", level=Level.FIFO), UsageError)
        self.assertEqual(self.bench.engine.named("close_session"), [("close_session", 1, Reason.DISCONNECT)])
        self.assertEqual(self.node.member.session, 2)


class ConfigTests(SynchronousTestCase):
    """The settings of a node."""

    def test_refused(self) -> None:
        """Settings that cannot work are refused when they are made."""
        for wrong in (
            {"node": "a@b"},
            {"multicast_group": "10.0.0.1"},
            {"multicast_group": "nowhere"},
            {"multicast_port": 0},
            {"multicast_port": 65_536},
            {"port": -1},
            {"discovery": ("pigeon",)},
            {"discovery": ("zeroconf", "zeroconf")},
            {"peers": ("a:b:c",)},
            {"peers": ("host:0",)},
            {"interfaces": ("eth0", "eth0")},
            {"interfaces": tuple(f"eth{number}" for number in range(9))},
            {"interfaces": ("",)},
            {"family": 5},
            {"multicast_group6": "fd00::1"},
            {"multicast_group6": "ff01::1"},
            {"multicast_group6": "239.192.71.67"},
            {"dns": ("host:0",)},
        ):
            with self.subTest(wrong=wrong):
                self.assertRaises(UsageError, NodeConfig, **wrong)

    def test_defaults(self) -> None:
        """Without any settings a node has a name and uses Zeroconf and the beacon."""
        config = NodeConfig()
        self.assertTrue(config.node)
        self.assertEqual(config.discovery, ("zeroconf", "multicast"))
