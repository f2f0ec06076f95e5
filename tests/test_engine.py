"""A node without I/O: its commands and their limits, a node alone, and what strangers' bytes do to it."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import TypeVar

from attrs import evolve
from twisted.trial.unittest import SynchronousTestCase

import groupcomm.engine as engine_module
from groupcomm.config import EngineConfig
from groupcomm.engine import Engine
from groupcomm.errors import MessageTooLarge, NameInUse, NotAMember, QueueFull, UsageError
from groupcomm.events import Level, Reason
from groupcomm.identity import MemberId, NodeId
from groupcomm.limits import (
    MAX_DESTINATION_BYTES,
    MAX_DESTINATION_GROUPS,
    MAX_SESSIONS,
    SESSION_QUEUE_BYTES,
    UNRELIABLE_QUEUE_BYTES,
)
from groupcomm.ordering.frames import FrameType, Outgoing
from groupcomm.outputs import (
    Datagram,
    FrameDelivered,
    GroupLeft,
    GroupViewDelivered,
    NodeViewInstalled,
    Output,
    PrivateUndeliverable,
    SendAccepted,
    SessionWritable,
    Stopped,
)
from groupcomm.packing import pack_messages, unpack_messages
from groupcomm.wire.codec import cluster_digest
from groupcomm.wire.messages import Beacon, cut
from groupcomm.wire.packets import (
    FIRST,
    LAST,
    NO_SENDER,
    SEALED,
    STAMPED,
    Header,
    Kind,
    Stamp,
    StampRun,
    Status,
    StatusEntry,
    encode,
)

A = NodeId("a", 1)
STRANGER = ("10.0.0.9", 999)
Kept = TypeVar("Kept", bound=Output)


class EngineCase(SynchronousTestCase):
    """One engine, driven as a driver does it."""

    config = EngineConfig()

    def setUp(self) -> None:
        self.now = 100.0
        self.engine = Engine(self.config, A, Random(1), self.now)
        self.datagrams: list[Datagram] = []
        self.outputs: list[Output] = []

    def start(self) -> None:
        """Until it has founded its view."""
        self.engine.start(self.now)
        self.run_until(lambda: not self.engine.blocked)

    def run_until(self, done: Callable[[], object], most: int = 10_000) -> None:
        for _ in range(most):
            if done():
                return
            deadline = self.engine.next_deadline()
            assert deadline is not None and deadline >= self.now
            self.now = deadline
            self.engine.handle_timeout(self.now)
            self.take()
        self.fail("it did not happen")

    def take(self) -> None:
        self.datagrams.extend(self.engine.datagrams_to_send(self.now))
        self.outputs.extend(self.engine.take_outputs())
        self.engine.check_invariants()

    def turn(self) -> None:
        """The end of a burst."""
        self.engine.burst_ended(self.now)
        self.take()

    def kept(self, kind: type[Kept]) -> list[Kept]:
        return [output for output in self.outputs if isinstance(output, kind)]

    def counters(self) -> dict[str, int]:
        return self.engine.status(self.now).counters


class AloneTests(EngineCase):
    """A node that is alone in its view."""

    def setUp(self) -> None:
        super().setUp()
        self.start()
        self.session = self.engine.open_session("ann", self.now)

    def join(self, group: str = "chat") -> None:
        self.engine.join(self.session, group, self.now)
        self.turn()

    def test_it_founds_a_view_of_its_own(self) -> None:
        """A node that hears nobody is in a view with itself within two seconds, and says so."""
        self.assertLess(self.now, 102.0)
        (installed,) = self.kept(NodeViewInstalled)
        self.assertEqual((installed.members, installed.transitional, installed.sequencer), ((A,), (A,), A))
        status = self.engine.status(self.now)
        self.assertEqual((status.state, status.members, status.view), ("operational", (A,), installed.id))
        self.assertEqual((status.peers, status.sequencer), ((), A))

    def test_a_member_gets_its_view_then_its_messages_of_every_level(self) -> None:
        """All six levels are delivered to a member of the only node, once, in order."""
        self.join()
        for level in Level:
            self.engine.send(self.session, ["chat"], pack_messages([level.name.encode()]), level, self.now)
        self.turn()
        (view,) = self.kept(GroupViewDelivered)
        self.assertEqual(view.view.members, (MemberId("ann", A, self.session),))
        delivered = [(each.level, unpack_messages(each.payload)) for each in self.kept(FrameDelivered)]
        self.assertEqual(sorted(delivered), [(level, [level.name.encode()]) for level in Level])
        self.assertEqual(delivered[:-1], [each for each in sorted(delivered) if each[0] != Level.UNRELIABLE])

    def test_every_send_is_accepted_once(self) -> None:
        """Each ticket comes back once, also with ``stable``."""
        self.join()
        tickets = [
            self.engine.send(self.session, ["chat"], b"\x01x", level, self.now, stable=stable)
            for level in Level
            for stable in (False, True)
        ]
        self.turn()
        self.run_until(lambda: len(self.kept(SendAccepted)) >= len(tickets))
        self.assertEqual(sorted(each.ticket for each in self.kept(SendAccepted)), tickets)
        self.assertEqual({(each.session, each.complete) for each in self.kept(SendAccepted)}, {(self.session, True)})

    def test_who_is_not_a_member_may_send(self) -> None:
        """Groups are open; who is in none of the groups gets nothing."""
        self.join()
        other = self.engine.open_session("bob", self.now)
        self.engine.send(other, ["chat", "elsewhere"], b"\x01x", Level.AGREED, self.now)
        self.turn()
        (delivered,) = self.kept(FrameDelivered)
        self.assertEqual((delivered.recipients, delivered.sender.client), (((self.session, ("chat",)),), "bob"))

    def test_self_discard(self) -> None:
        """The sending session does not get what it does not want back, at any level."""
        self.join()
        for level in Level:
            self.engine.send(self.session, ["chat"], b"\x01x", level, self.now, self_discard=True)
        self.turn()
        self.assertEqual(self.kept(FrameDelivered), [])

    def test_leaving_a_group(self) -> None:
        """The last that a session hears of a group is that it left; then it may join again."""
        self.join()
        self.engine.leave(self.session, "chat", self.now)
        self.engine.send(self.session, ["chat"], b"\x01x", Level.AGREED, self.now)
        self.turn()
        self.assertEqual(self.kept(GroupLeft), [GroupLeft(self.session, "chat", Reason.LEAVE)])
        self.assertEqual(self.kept(FrameDelivered), [])
        self.join()
        self.assertEqual(len(self.kept(GroupViewDelivered)), 2)

    def test_private_messages(self) -> None:
        """A private message reaches the named client of the named node; otherwise its sender is told."""
        other = self.engine.open_session("bob", self.now)
        for client, node in (("bob", "a"), ("nobody", "a"), ("bob", "b")):
            self.engine.send_private(self.session, client, node, b"\x01x", Level.FIFO, self.now)
        self.turn()
        (delivered,) = self.kept(FrameDelivered)
        self.assertEqual((delivered.recipients, delivered.views), (((other, ()),), {}))
        lost = sorted(each.recipient for each in self.kept(PrivateUndeliverable))
        self.assertEqual(lost, ["bob@b", "nobody@a"])

    def test_a_large_message_comes_back_whole(self) -> None:
        """A message of several MiB is cut, ordered with the others and put together, byte for byte."""
        self.join()
        payload = pack_messages([bytes(range(256)) * 4096 * 3])
        self.engine.send(self.session, ["chat"], payload, Level.SAFE, self.now)
        self.turn()
        self.run_until(lambda: self.kept(FrameDelivered))
        self.assertEqual(self.kept(FrameDelivered)[0].payload, payload)

    def test_the_packets_of_a_message_leave_together(self) -> None:
        """They are one run of equal packets; only the last is shorter, or is sent by itself when it is longer."""
        self.join()
        mtu = self.config.mtu_bytes
        shapes = set()
        for size in range(5 * mtu, 6 * mtu + 10):
            self.datagrams.clear()
            self.engine.send(self.session, ["chat"], bytes(size), Level.AGREED, self.now)
            self.turn()
            data = [each for each in self.datagrams if Header(each.data).kind == Kind.DATA]
            pieces = [piece for each in data for piece in each.pieces]
            headers = [Header(piece) for piece in pieces]
            first = headers[0].sequence
            self.assertEqual([header.sequence for header in headers], list(range(first, first + len(headers))))
            self.assertEqual([header.flags & FIRST for header in headers], [FIRST] + [0] * (len(headers) - 1))
            self.assertEqual([header.flags & LAST for header in headers], [0] * (len(headers) - 1) + [LAST])
            self.assertEqual([header.flags & STAMPED for header in headers], [0] * (len(headers) - 1) + [STAMPED])
            self.assertEqual({len(piece) for piece in pieces[:-1]}, {mtu - 4})
            self.assertLessEqual(len(pieces[-1]), mtu)
            self.assertEqual(len(data), 1 if len(pieces[-1]) <= mtu - 4 else 2)
            shapes.add((len(data), len(pieces)))
            self.assertEqual(len(self.kept(FrameDelivered)), 1)
            self.assertEqual(self.kept(FrameDelivered)[0].payload, bytes(size))
            self.outputs.clear()
        self.assertEqual(shapes, {(1, 6), (2, 6), (1, 7)})

    def test_what_leaves_at_a_flush(self) -> None:
        """What sessions have handed over leaves at once; what it causes here is told when the turn ends."""
        self.join()
        self.outputs.clear()
        self.datagrams.clear()
        self.engine.send(self.session, ["chat"], b"\x01x", Level.AGREED, self.now)
        self.engine.flush(self.now)
        self.take()
        self.assertEqual([Header(each.data).kind for each in self.datagrams], [Kind.DATA])
        self.assertEqual(self.outputs, [])
        self.turn()
        self.assertEqual([Header(each.data).kind for each in self.datagrams], [Kind.DATA])
        self.assertEqual((len(self.kept(FrameDelivered)), len(self.kept(SendAccepted))), (1, 1))

    def test_a_flush_without_a_view(self) -> None:
        """A node that is in no view has nothing to send, and nothing gets lost."""
        engine = self.engine = Engine(self.config, NodeId("b", 1), Random(1), self.now)
        session = engine.open_session("ann", self.now)
        engine.join(session, "chat", self.now)
        engine.flush(self.now)
        self.datagrams.clear()
        self.take()
        self.assertEqual(self.datagrams, [])
        self.start()
        self.turn()
        self.assertEqual(len(self.kept(GroupViewDelivered)), 1)

    def test_a_session_that_is_closed_leaves_its_groups(self) -> None:
        """What it has sent still goes, its groups hear the reason, and its name is free afterwards."""
        self.join()
        other = self.engine.open_session("bob", self.now)
        self.engine.join(other, "chat", self.now)
        self.turn()
        self.engine.send(self.session, ["chat"], b"\x01x", Level.FIFO, self.now)
        self.engine.close_session(self.session, Reason.TOO_SLOW, self.now)
        self.engine.close_session(self.session, Reason.LEAVE, self.now)
        self.assertRaises(NameInUse, self.engine.open_session, "ann", self.now)
        self.turn()
        self.assertEqual(self.kept(FrameDelivered)[-1].recipients[-1][0], other)
        last = self.kept(GroupViewDelivered)[-1].view
        self.assertEqual([(each.member.client, each.reason) for each in last.left], [("ann", Reason.TOO_SLOW)])
        self.assertNotEqual(self.engine.open_session("ann", self.now), self.session)

    def test_it_leaves_cleanly(self) -> None:
        """Sessions end, what was accepted is delivered, and the engine stops and sends no more."""
        self.join()
        self.engine.send(self.session, ["chat"], b"\x01x", Level.SAFE, self.now)
        self.engine.leave_cluster(self.now)
        self.engine.leave_cluster(self.now)
        self.turn()
        self.run_until(lambda: self.kept(Stopped))
        self.assertEqual(self.kept(Stopped), [Stopped("left", True)])
        self.assertEqual(len(self.kept(FrameDelivered)), 1)
        self.assertEqual(self.kept(GroupLeft), [GroupLeft(self.session, "chat", Reason.NODE_LEAVE)])
        self.assertEqual(self.engine.status(self.now).state, "stopped")
        self.datagrams.clear()
        self.engine.datagram_received(b"\x01", STRANGER, self.now)
        self.turn()
        self.assertEqual(self.datagrams, [])

    def test_time_stands_in_the_deadline(self) -> None:
        """There is always a next deadline, never before now, and an idle node is not busy."""
        begun, wakes = self.now, 0
        while self.now < begun + 5.0:
            deadline = self.engine.next_deadline()
            assert deadline is not None
            self.assertGreaterEqual(deadline, self.now)
            self.now = deadline
            self.engine.handle_timeout(self.now)
            self.take()
            wakes += 1
        self.assertLess(wakes, 5 * 25)

    def test_the_status_adds_up(self) -> None:
        """Counters count what was sent and delivered; groups are shown with their members."""
        self.join()
        before = self.counters()
        self.engine.send(self.session, ["chat"], b"\x01x", Level.AGREED, self.now)
        self.turn()
        after = self.counters()
        self.assertEqual(after["frames_sent"] - before["frames_sent"], 1)
        self.assertEqual(after["frames_delivered"] - before["frames_delivered"], 1)
        self.assertEqual(after["datagrams_sent"], len(self.datagrams))
        (group,) = self.engine.status(self.now).groups
        self.assertEqual((group.name, group.members), ("chat", (self.engine.member(self.session),)))


class LeftoverTests(EngineCase):
    """What a node had to say in the order when its view ended, and says in the next."""

    config = EngineConfig(key=bytes(32))

    def test_steps_of_a_rotation_are_dropped(self) -> None:
        """They belong to the view that has ended; an expulsion belongs to none, and is still said."""
        for frame_type in (FrameType.KEY, FrameType.EXPEL, FrameType.KEY):
            self.engine._outbox.put_control(Outgoing(0, 0, frame_type, Level.AGREED, b"no step at all"), 14)
        self.start()
        self.turn()
        self.assertEqual(self.counters()["peer_violations"], 1)


class CommandTests(EngineCase):
    """What the commands refuse; then nothing is done."""

    def setUp(self) -> None:
        super().setUp()
        self.session = self.engine.open_session("ann", self.now)

    def send(self, *groups: str, payload: bytes = b"\x01x", level: Level = Level.FIFO) -> int:
        return self.engine.send(self.session, groups, payload, level, self.now)

    def test_client_names(self) -> None:
        """1 to 255 bytes, printable, without @ and #, and one live session for each."""
        for name in ("", "é" * 128, "a\n", " a", "a@b", "a#b", "\ud800"):
            self.assertRaises(UsageError, self.engine.open_session, name, self.now)
        self.assertRaises(NameInUse, self.engine.open_session, "ann", self.now)
        self.assertEqual(self.engine.open_session("é" * 127 + "x", self.now), self.session + 1)

    def test_sessions_are_bounded(self) -> None:
        """The last session that fits is opened, one more is refused until another is closed."""
        for number in range(MAX_SESSIONS - 1):
            self.engine.open_session(f"client {number}", self.now)
        self.assertRaises(UsageError, self.engine.open_session, "one more", self.now)
        self.engine.close_session(self.session, Reason.LEAVE, self.now)
        self.engine.open_session("one more", self.now)

    def test_groups_of_all_sessions(self) -> None:
        """The sessions of a node are in so many groups together; leaving one, and closing a session, makes room."""
        self.patch(engine_module, "MAX_MEMBERSHIPS", 3)
        self.start()
        other = self.engine.open_session("other", self.now)
        for session, group in ((self.session, "a"), (self.session, "b"), (other, "a")):
            self.engine.join(session, group, self.now)
        error = self.assertRaises(UsageError, self.engine.join, other, "b", self.now)
        self.assertIn("3 groups together", str(error))
        self.engine.leave(self.session, "a", self.now)
        self.engine.join(other, "b", self.now)
        self.assertRaises(UsageError, self.engine.join, other, "c", self.now)
        self.engine.close_session(self.session, Reason.LEAVE, self.now)
        self.turn()
        self.engine.join(other, "c", self.now)
        self.assertRaises(UsageError, self.engine.join, other, "d", self.now)

    def test_sessions_that_are_not_there(self) -> None:
        """No command works for a session that was never opened or is closed."""
        self.engine.close_session(self.session, Reason.LEAVE, self.now)
        for session in (self.session, 0, 77):
            for command in (
                lambda session: self.engine.join(session, "g", self.now),
                lambda session: self.engine.leave(session, "g", self.now),
                lambda session: self.engine.send(session, ["g"], b"", Level.FIFO, self.now),
                lambda session: self.engine.send_private(session, "c", "n", b"", Level.FIFO, self.now),
                lambda session: self.engine.member(session),
            ):
                with self.assertRaises(UsageError):
                    command(session)
        self.engine.close_session(77, Reason.LEAVE, self.now)
        self.assertEqual(self.engine.queued_bytes(77), 0)

    def test_joins_and_leaves(self) -> None:
        """One joins a group once, and leaves only what one has joined."""
        self.assertRaises(NotAMember, self.engine.leave, self.session, "chat", self.now)
        for name in ("", "g" * 256, "a\n"):
            self.assertRaises(UsageError, self.engine.join, self.session, name, self.now)
        self.engine.join(self.session, "g" * 255, self.now)
        self.assertRaises(UsageError, self.engine.join, self.session, "g" * 255, self.now)
        self.engine.leave(self.session, "g" * 255, self.now)
        self.assertRaises(NotAMember, self.engine.leave, self.session, "g" * 255, self.now)

    def test_destinations(self) -> None:
        """1 to 64 different groups, with at most 4096 bytes of names."""
        names = [f"{number:02}" for number in range(MAX_DESTINATION_GROUPS + 1)]
        self.assertRaises(UsageError, self.send)
        self.assertRaises(UsageError, self.send, *names)
        self.assertRaises(UsageError, self.send, "a", "a")
        self.assertRaises(UsageError, self.send, "")
        long = [f"{number:064}" for number in range(MAX_DESTINATION_GROUPS)]
        self.assertEqual(sum(map(len, long)), MAX_DESTINATION_BYTES)
        self.assertRaises(UsageError, self.send, *long[1:], long[0] + "x")
        self.assertEqual(self.engine.queued_bytes(self.session), 0)
        self.send(*names[:-1])
        self.send(*long)
        self.assertGreater(self.engine.queued_bytes(self.session), MAX_DESTINATION_BYTES)

    def test_private_destinations(self) -> None:
        """A client's name of at most 255 and a node's of at most 64 bytes."""
        for client, node in (("", "n"), ("c" * 256, "n"), ("c", ""), ("c", "n" * 65)):
            with self.assertRaises(UsageError):
                self.engine.send_private(self.session, client, node, b"", Level.FIFO, self.now)
        self.engine.send_private(self.session, "c" * 255, "n" * 64, b"", Level.FIFO, self.now)

    def test_tickets_count(self) -> None:
        """Every accepted frame has a ticket of its own; a refused one uses none."""
        first = self.send("g")
        self.assertRaises(UsageError, self.send)
        second = self.engine.send_private(self.session, "c", "n", b"", Level.FIFO, self.now)
        self.assertEqual((second, self.send("g", level=Level.UNRELIABLE)), (first + 1, first + 2))

    def test_messages_have_a_largest_size(self) -> None:
        """A message at the limit is taken, a larger one is refused with both numbers."""
        engine = self.engine = Engine(evolve(self.config, max_message_bytes=1000), A, Random(1), self.now)
        self.session = engine.open_session("ann", self.now)
        self.send("g", payload=pack_messages([bytes(1000)]))
        with self.assertRaisesRegex(MessageTooLarge, "1017.*1000"):
            self.send("g", payload=bytes(1017))
        with self.assertRaises(MessageTooLarge):
            engine.send_private(self.session, "c", "n", bytes(1017), Level.SAFE, self.now)

    def test_unreliable_messages_fit_one_packet(self) -> None:
        """The largest that fits leaves as one datagram of at most the MTU; a byte more is refused with both numbers."""
        self.start()
        size = self.config.mtu_bytes
        while True:
            try:
                self.send("g", payload=bytes(size), level=Level.UNRELIABLE)
                break
            except MessageTooLarge as error:
                self.assertIn(str(size), str(error))
                size -= 1
        self.assertIn(f"{size} allowed", self.refusal(size + 1))
        self.datagrams.clear()
        self.turn()
        (sent,) = [each.data for each in self.datagrams if Header(each.data).kind == Kind.UNRELIABLE]
        self.assertTrue(self.config.mtu_bytes - 8 <= len(sent) <= self.config.mtu_bytes, len(sent))

    def refusal(self, size: int) -> str:
        with self.assertRaises(MessageTooLarge) as raised:
            self.send("g", payload=bytes(size), level=Level.UNRELIABLE)
        return str(raised.exception)

    def test_a_full_queue_refuses_and_says_when_it_has_room(self) -> None:
        """At its limit a session is refused, others are not; when half has left it is told, once."""
        other = self.engine.open_session("bob", self.now)
        count = 0
        while self.engine.queued_bytes(self.session) < SESSION_QUEUE_BYTES:
            self.send("g", payload=bytes(64 * 1024))
            count += 1
        self.assertEqual(count, SESSION_QUEUE_BYTES // (64 * 1024))
        self.assertRaises(QueueFull, self.send, "g")
        self.assertRaises(QueueFull, self.engine.join, self.session, "g", self.now)
        self.engine.send(other, ["g"], b"\x01x", Level.FIFO, self.now)
        self.start()
        self.run_until(lambda: not self.engine.queued_bytes(self.session))
        self.assertEqual(self.kept(SessionWritable), [SessionWritable(self.session)])
        self.assertEqual(len(self.kept(SendAccepted)), count + 1)
        self.send("g")

    def test_unreliable_messages_are_dropped_oldest_first(self) -> None:
        """While nothing can be sent, the newest are kept within a bound; the dropped are counted and told."""
        tickets = [self.send("g", payload=bytes(1000), level=Level.UNRELIABLE) for _ in range(400)]
        self.take()
        dropped = [each.ticket for each in self.kept(SendAccepted)]
        self.assertEqual({each.complete for each in self.kept(SendAccepted)}, {False})
        self.assertEqual(dropped, tickets[: len(dropped)])
        self.assertLessEqual(UNRELIABLE_QUEUE_BYTES - (400 - len(dropped)) * 1010, 2 * 1010)
        self.assertEqual(self.counters()["unreliable_dropped"], len(dropped))
        self.outputs.clear()
        self.start()
        self.turn()
        self.assertEqual([each.ticket for each in self.kept(SendAccepted)], tickets[len(dropped) :])

    def test_before_the_first_view_frames_wait(self) -> None:
        """A node without a view accepts and keeps; all of it is delivered in the first view."""
        self.engine.start(self.now)
        self.engine.join(self.session, "g", self.now)
        self.send("g", level=Level.AGREED)
        self.turn()
        self.assertTrue(self.engine.blocked)
        self.assertEqual(self.outputs, [])
        self.run_until(lambda: not self.engine.blocked)
        self.turn()
        self.assertEqual(len(self.kept(FrameDelivered)), 1)


class StrangerTests(EngineCase):
    """Bytes from outside."""

    def setUp(self) -> None:
        super().setUp()
        self.start()
        self.session = self.engine.open_session("ann", self.now)
        self.engine.join(self.session, "chat", self.now)
        self.turn()
        self.outputs.clear()
        self.datagrams.clear()
        self.before = self.counters()

    def inject(self, data: bytes) -> None:
        self.engine.datagram_received(data, STRANGER, self.now)

    def new(self, *names: str) -> tuple[int, ...]:
        """By how much counters have grown."""
        after = self.counters()
        return tuple(after.get(name, 0) - self.before.get(name, 0) for name in names)

    def still_works(self) -> None:
        self.engine.send(self.session, ["chat"], b"\x01x", Level.SAFE, self.now)
        self.turn()
        self.assertEqual(len(self.kept(FrameDelivered)), 1)

    def own_packets(self) -> list[bytes]:
        self.engine.send(self.session, ["chat"], b"\x01y", Level.AGREED, self.now)
        self.turn()
        self.outputs.clear()
        return [each.data for each in self.datagrams]

    def test_bytes_that_are_no_packet_are_counted(self) -> None:
        """Every datagram that is too short or of another version counts as malformed, and nothing else happens."""
        random, count = Random(3), 0
        for size in range(40):
            data = random.randbytes(size)
            if size < 20 or data[0] != 1:
                self.inject(data)
                count += 1
        self.turn()
        self.assertEqual(self.new("malformed", "datagrams_received"), (count, count))
        self.assertEqual((self.outputs, self.datagrams), ([], []))
        self.still_works()

    def test_another_cluster_is_counted(self) -> None:
        """Messages of another cluster count as such; the node does not answer and remembers nobody."""
        beacon = Beacon(NodeId("b", 1), None, 0, 1, False, True, ())
        for number in range(50):
            for packet in cut(Kind.BEACON, cluster_digest("another"), number, beacon.encode(), 1400):
                self.inject(packet)
        self.turn()
        self.assertEqual(self.new("foreign_cluster", "malformed"), (50, 0))
        self.assertEqual(self.datagrams, [])
        self.still_works()

    def test_another_view_is_counted(self) -> None:
        """Packets of every kind of another view count as such."""
        kinds = [kind for kind in Kind if kind <= Kind.TAIL]
        for kind in kinds:
            self.inject(encode(kind, 12345, 0, 1, b""))
        self.turn()
        self.assertEqual(self.new("foreign_view", "malformed"), (len(kinds), 0))
        self.still_works()

    def test_sealed_packets_are_counted(self) -> None:
        """A node without keys drops whatever is sealed, of its own cluster too."""
        for kind in Kind:
            self.inject(encode(kind, cluster_digest("default"), NO_SENDER, 1, b"", flags=SEALED, part=1))
        self.turn()
        self.assertEqual(self.new("sealed", "malformed", "foreign_view"), (len(Kind), 0, 0))
        self.still_works()

    def test_broken_messages_of_this_cluster_are_counted(self) -> None:
        """Each truncation of a message counts as malformed; unknown kinds count as such."""
        body = Beacon(NodeId("b", 1), None, 0, 1, False, True, ()).encode()
        for size in range(len(body)):
            for packet in cut(Kind.BEACON, cluster_digest("default"), size, body[:size], 1400):
                self.inject(packet)
        for kind in range(max(Kind) + 1, 256):
            header = bytearray(encode(Kind.INSTALL, cluster_digest("default"), NO_SENDER, 1, b"", part=1))
            header[1] = kind
            self.inject(bytes(header))
        self.turn()
        self.assertEqual(self.new("malformed", "unknown_kind"), (len(body), 255 - max(Kind)))
        self.still_works()

    def test_packets_of_nodes_that_are_not_in_the_view_are_counted(self) -> None:
        """With the right digest and a sender that cannot be, a packet is malformed."""
        digest = Header(self.own_packets()[-1]).digest
        self.before = self.counters()
        for sender in (1, 2, 63, 64, 0xFFFF):
            self.inject(encode(Kind.DATA, digest, sender, 1, b"", flags=3))
            self.inject(encode(Kind.STATUS, digest, sender, 1, Status(0, (StatusEntry(0, 1, 1),)).encode()))
        self.turn()
        self.assertEqual(self.new("malformed"), (10,))
        self.still_works()

    def test_our_own_packets_from_elsewhere_change_nothing(self) -> None:
        """Echoes of this node's packets, and forgeries in its name, are not read."""
        packets = self.own_packets()
        digest = Header(packets[-1]).digest
        for packet in packets:
            self.inject(packet)
        self.inject(encode(Kind.STAMP, digest, 0, 1000, Stamp(1, (StampRun(0, 1, 1),)).encode()))
        self.turn()
        self.assertEqual(self.outputs, [])
        self.still_works()

    def test_random_bytes_of_every_kind(self) -> None:
        """Random bodies behind headers with the right digests harm nothing, and each is counted once as received."""
        random = Random(8)
        view = Header(self.own_packets()[-1]).digest
        for kind in range(256):
            digest = view if kind <= 15 else cluster_digest("default")
            for _ in range(8):
                sender = random.choice((0, 1, NO_SENDER)) if kind <= 15 else NO_SENDER
                packet = bytearray(
                    encode(Kind.DATA, digest, sender, random.getrandbits(32), random.randbytes(40), part=1)
                )
                packet[1], packet[2] = kind, random.getrandbits(7)
                self.inject(bytes(packet))
            self.turn()
        self.assertEqual(self.new("datagrams_received"), (256 * 8,))
        self.outputs.clear()
        self.still_works()
