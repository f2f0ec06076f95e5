"""Frames to packets: packing, cutting, slots, and what is taken back."""

from __future__ import annotations

from collections.abc import Sequence

from attrs import frozen
from twisted.trial.unittest import SynchronousTestCase

from groupcomm.events import Level
from groupcomm.limits import LARGE_FRAME_BYTES, PACKET_OVERHEAD_BYTES
from groupcomm.ordering.assembly import Assembly
from groupcomm.ordering.frames import Frame, FrameType, Outgoing
from groupcomm.ordering.release import Release
from groupcomm.ordering.sending import RUN_PACKETS, PacketPlan, Sending
from groupcomm.reliability.flow import Window
from groupcomm.reliability.outbox import Outbox
from groupcomm.wire.packets import FIRST, HEADER_BYTES, LAST, SLOTTED, STAMP_POSITION, UNORDERED, WANTS_STATUS
from tests.ordering.made import AGREED, CAUSAL, FIFO, RELIABLE, SAFE, frame, outgoing

MTU = 1400
ROOM = MTU - HEADER_BYTES - STAMP_POSITION.size
MEBIBYTE = 1024 * 1024


@frozen
class Packet:
    """One packet that leaves."""

    body: bytes
    flags: int
    ends: list[Outgoing]


def one_by_one(plan: PacketPlan) -> list[Packet]:
    """The packets of a plan."""
    last = len(plan.bodies) - 1
    return [
        Packet(body, flags, plan.ends if index == last else [])
        for index, (body, flags) in enumerate(zip(plan.bodies, plan.flags, strict=True))
    ]


class SendingCase(SynchronousTestCase):
    """The sending half of node 0 of three."""

    def setUp(self) -> None:
        self.outbox: Outbox[Outgoing] = Outbox(64 * MEBIBYTE)
        self.release = Release(3, 0)
        self.release.open = True
        self.window = Window(64 * MEBIBYTE, 64 * MEBIBYTE, 0)
        self.sending = Sending(0, self.outbox, self.release, self.window, MTU)
        self.number = 0
        self.assembly = Assembly(0)

    def put(self, level: Level, body: bytes, session: int = 1, *, stable: bool = False) -> Outgoing:
        sent = outgoing(level, body, session, stable=stable)
        self.outbox.put(session, sent, len(body))
        return sent

    def plans(self, *, control_only: bool = False) -> list[PacketPlan]:
        """All that may leave now, as it leaves."""
        plans = []
        while (plan := self.sending.next_packets(control_only=control_only)) is not None:
            self.assertEqual(len(plan.bodies), len(plan.flags))
            for body in plan.bodies:
                self.number += 1
                self.window.sent(self.number, len(body) + PACKET_OVERHEAD_BYTES, slotted=plan.slotted)
            plans.append(plan)
        return plans

    def packets(self, *, control_only: bool = False) -> list[Packet]:
        """All packets that may leave now, one by one."""
        return [each for plan in self.plans(control_only=control_only) for each in one_by_one(plan)]

    def read(self, packets: Sequence[Packet]) -> list[Frame]:
        """What a receiver makes of them."""
        return [
            frame
            for number, each in enumerate(packets, 1)
            for frame in self.assembly.packet(number, each.flags, each.body)
        ]


class PackingTests(SendingCase):
    """Small frames."""

    def test_nothing_waits_nothing_leaves(self) -> None:
        """Without frames there are no packets."""
        self.assertFalse(self.sending.pending)
        self.assertEqual(self.packets(), [])

    def test_small_frames_share_packets(self) -> None:
        """As many frames as fit share a packet; none is lost, none leaves its order."""
        sent = [self.put(FIFO, b"%03d" % number * 30) for number in range(60)]
        plans = self.packets()
        self.assertEqual(len(plans), -(-60 // (ROOM // 93)))
        self.assertTrue(all(len(plan.body) <= ROOM for plan in plans))
        self.assertEqual([frame.body for frame in self.read(plans)], [frame.body for frame in sent])
        self.assertEqual([end for plan in plans for end in plan.ends], sent)
        self.assertFalse(self.sending.pending)

    def test_reliable_frames_have_packets_of_their_own(self) -> None:
        """Packets that need not wait for earlier ones hold RELIABLE frames only, and say so."""
        for level in (FIFO, RELIABLE, RELIABLE, AGREED, RELIABLE):
            self.put(level, b"x")
        plans = self.packets()
        self.assertEqual([len(plan.ends) for plan in plans], [1, 2, 1, 1])
        self.assertEqual([bool(plan.flags & UNORDERED) for plan in plans], [False, True, False, True])

    def test_ordered_frames_are_counted(self) -> None:
        """The plan says how many frames of it take places in the order."""
        for level in (FIFO, AGREED, CAUSAL, SAFE):
            self.put(level, b"x")
        (plan,) = self.plans()
        self.assertEqual(plan.ordered_count, 2)

    def test_frames_say_what_their_node_had_seen(self) -> None:
        """Group position, Lamport time, the count of the order and the past are those at the time of sending."""
        self.release.add(frame(1, 1, FIFO, "seen"))
        self.release.add(frame(2, 1, CAUSAL, "seen", lamport=6))
        list(self.release.take((0, 0, 0)))
        self.release.ordered, self.sending.group_position = 4, 3
        self.put(CAUSAL, b"a")
        self.put(FIFO, b"b")
        self.put(AGREED, b"c")
        read = self.read(self.packets())
        self.assertEqual([each.group_position for each in read], [3, 3, 3])
        self.assertEqual([each.lamport for each in read], [7, 0, 8])
        self.assertEqual([each.ordered for each in read], [4, 0, 4])
        self.assertEqual([each.past for each in read], [((1, 1), (2, 1)), (), ()])

    def test_the_nodes_own_frames_may_leave_alone(self) -> None:
        """While directories are missing, only the node's own frames leave."""
        self.put(FIFO, b"session's")
        self.outbox.put_control(Outgoing(0, 0, FrameType.DIRECTORY, FIFO, b"own"), 3)
        plans = self.packets(control_only=True)
        self.assertEqual([end.body for plan in plans for end in plan.ends], [b"own"])
        self.assertTrue(plans[0].flags & SLOTTED)
        self.assertTrue(self.sending.pending)
        self.assertEqual([end.body for plan in self.packets() for end in plan.ends], [b"session's"])


class CuttingTests(SendingCase):
    """Frames larger than a packet."""

    def test_a_frame_that_just_fits_is_one_packet(self) -> None:
        """At the room of a packet a frame is whole; one byte more makes two."""
        overhead = len(outgoing(FIFO, bytes(ROOM - 4)).encode(0, 0, 0, ())) - (ROOM - 4)
        self.put(FIFO, bytes(ROOM - overhead))
        self.assertEqual([plan.flags & (FIRST | LAST) for plan in self.packets()], [FIRST | LAST])
        self.put(FIFO, bytes(ROOM - overhead + 1))
        self.assertEqual(
            [(plan.flags & (FIRST | LAST), len(plan.body)) for plan in self.packets()], [(FIRST, ROOM), (LAST, 1)]
        )

    def test_a_long_frame_comes_back_whole(self) -> None:
        """Its packets are full but for the last, and only the last ends it."""
        body = bytes(range(256)) * 100
        sent = self.put(RELIABLE, body)
        plans = self.packets()
        self.assertTrue(all(len(plan.body) == ROOM for plan in plans[:-1]))
        self.assertTrue(all(plan.flags & UNORDERED for plan in plans))
        self.assertEqual([plan.ends for plan in plans], [[]] * (len(plans) - 1) + [[sent]])
        self.assertEqual([each.body for each in self.read(plans)], [body])

    def test_sessions_do_not_interleave_within_a_frame(self) -> None:
        """A frame on its way is not interrupted by another's."""
        for session in (1, 2):
            self.put(FIFO, bytes([session]) * 5000, session)
        self.assertEqual({each.body for each in self.read(self.packets())}, {b"\x01" * 5000, b"\x02" * 5000})

    def test_a_status_is_asked_for_before_the_window_is_full(self) -> None:
        """The window slides: a quarter of it leaves without a request, and the run then under way; no more."""
        self.window = Window(4 * MEBIBYTE, MEBIBYTE, 0)
        self.sending = Sending(0, self.outbox, self.release, self.window, MTU)
        self.put(FIFO, bytes(1900 * 1024))
        self.sending.granted = True
        asked = [bool(plan.flags & WANTS_STATUS) for plan in self.packets()]
        self.assertTrue(asked[-1])
        self.assertTrue(4 <= sum(asked) <= 6, sum(asked))
        between = max(len(part) for part in "".join(" x"[each] for each in asked).split("x"))
        self.assertLess(between * (MTU + PACKET_OVERHEAD_BYTES), MEBIBYTE // 4 + RUN_PACKETS * MTU)

    def test_a_status_is_asked_for_when_somebody_waits_for_it(self) -> None:
        """The packet with which a SAFE frame ends, or one that somebody wants to be stable, asks for a report."""
        for level, stable, wants in ((FIFO, False, False), (SAFE, False, True), (FIFO, True, True)):
            self.put(level, b"x", stable=stable)
            (plan,) = self.packets()
            self.assertEqual(bool(plan.flags & WANTS_STATUS), wants)


class RunTests(SendingCase):
    """The packets of a frame leave several at a time."""

    def test_a_run_is_as_long_as_one_system_call_takes(self) -> None:
        """A long frame leaves in runs of the most packets that may go together; the last run has what is left."""
        count = 2 * RUN_PACKETS + 7
        self.put(FIFO, bytes(count * ROOM - 100))
        plans = self.plans()
        self.assertEqual([len(plan.bodies) for plan in plans], [RUN_PACKETS, RUN_PACKETS, 7])
        self.assertLess(RUN_PACKETS * MTU, 65_507)
        packets = [each for plan in plans for each in one_by_one(plan)]
        self.assertEqual([each.flags & FIRST for each in packets], [FIRST] + [0] * (count - 1))
        self.assertEqual([each.flags & LAST for each in packets], [0] * (count - 1) + [LAST])
        self.assertEqual({len(each.body) for each in packets[:-1]}, {ROOM})

    def test_this_nodes_own_copy_comes_with_its_first_and_last_run(self) -> None:
        """The run a frame begins with has the node's own copy of it, and the one it ends with has the same one."""
        sent = self.put(AGREED, b"x" * 150_000)
        first, middle, last = self.plans()
        assert first.begun is not None
        self.assertEqual((first.begun.body, first.begun.level), (sent.body, AGREED))
        self.assertEqual((first.own, middle.begun, middle.own, last.begun), ([], None, [], None))
        self.assertEqual((last.own, last.ends), ([first.begun], [sent]))
        self.assertEqual([plan.ordered_count for plan in (first, middle, last)], [0, 0, 1])

    def test_the_own_copy_is_what_others_get(self) -> None:
        """Frames that share a packet, and such as need several, are the same here as at a receiver."""
        self.sending.group_position = 3
        for level in (RELIABLE, FIFO, CAUSAL, AGREED, SAFE):
            self.put(level, b"short")
            self.put(level, b"long" * 1000)
        plans = self.plans()
        own = [copy for plan in plans for copy in plan.own]
        come = self.read([each for plan in plans for each in one_by_one(plan)])
        for here, there in zip(own, come, strict=True):
            for name in ("stream", "level", "type", "group_position", "lamport", "ordered", "body", "size"):
                self.assertEqual(getattr(here, name), getattr(there, name), name)
            self.assertEqual(tuple(here.past), tuple(there.past))

    def test_a_run_ends_at_the_window(self) -> None:
        """No more packets leave together than the window has room for; at least the one that may always leave."""
        for room in (1, 2, 9):
            self.setUp()
            self.window = Window(4 * MEBIBYTE, 128 * 1024, 0)
            self.sending = Sending(0, self.outbox, self.release, self.window, MTU)
            self.window.sent(1, 128 * 1024 - room * (ROOM + PACKET_OVERHEAD_BYTES), slotted=False)
            self.number = 1
            self.put(FIFO, bytes(MEBIBYTE // 2))
            self.assertEqual([len(plan.bodies) for plan in self.plans()], [room])
            self.assertFalse(self.window.allows(slotted=True))

    def test_an_address_longer_than_a_packet(self) -> None:
        """What goes before the body of a frame may itself be cut, at any place of it."""
        for address_bytes in (1, ROOM - 20, ROOM - 3, ROOM, 3 * ROOM + 5):
            for body_bytes in (0, 1, ROOM, 3 * ROOM):
                self.setUp()
                address, body = b"a" * address_bytes, b"b" * body_bytes
                self.outbox.put(1, Outgoing(1, 1, FrameType.GROUP, CAUSAL, body, address=address), 1)
                packets = self.packets()
                self.assertEqual({len(each.body) for each in packets[:-1]} - {ROOM}, set())
                (come,) = self.read(packets)
                self.assertEqual(come.body, address + body)

    def test_a_run_goes_on_where_it_was_stopped(self) -> None:
        """However small the steps in which the window opens, the frame comes back whole."""
        self.window = Window(64 * 1024, 64 * 1024, 0)
        self.sending = Sending(0, self.outbox, self.release, self.window, MTU)
        self.sending.granted = True
        body = bytes(range(256)) * 1000
        self.outbox.put(1, Outgoing(1, 1, FrameType.GROUP, FIFO, body, address=b"to whom" * 300), len(body))
        packets = self.packets()
        acknowledged = 0
        while self.sending.pending:
            acknowledged += 3
            self.window.acknowledged(acknowledged, acknowledged)
            packets += self.packets()
        self.assertEqual([each.body for each in self.read(packets)], [b"to whom" * 300 + body])


class WindowTests(SendingCase):
    """What the window and the slots hold back."""

    def setUp(self) -> None:
        super().setUp()
        self.window = Window(256 * 1024, 64 * 1024, 0)
        self.sending = Sending(0, self.outbox, self.release, self.window, MTU)

    def test_sending_stops_at_the_window_and_goes_on(self) -> None:
        """A frame larger than the window leaves in several goes and is whole at the end."""
        body = bytes(range(256)) * 400
        self.put(FIFO, body)
        plans = self.packets()
        self.assertTrue(self.sending.pending)
        self.assertEqual(self.packets(), [])
        self.assertLess(self.window.outstanding_bytes - self.window.window_bytes, MTU + PACKET_OVERHEAD_BYTES)
        while self.sending.pending:
            self.window.acknowledged(self.number, self.number)
            plans += self.packets()
        self.assertEqual([each.body for each in self.read(plans)], [body])

    def test_undelivered_data_stops_small_frames(self) -> None:
        """When the receivers' room is used up, the next frame waits as it is, and leaves when there is room."""
        for number in range(300):
            self.put(FIFO, b"%04d" % number * 300)
        plans = self.packets()
        for _ in range(10):
            self.window.acknowledged(self.number, 0)
            plans += self.packets()
        self.assertTrue(self.sending.pending)
        self.assertTrue(256 * 1024 <= self.window.undelivered_bytes < 256 * 1024 + MTU + PACKET_OVERHEAD_BYTES)
        while self.sending.pending:
            self.window.acknowledged(self.number, self.number)
            plans += self.packets()
        self.assertEqual([each.body[:4] for each in self.read(plans)], [b"%04d" % number for number in range(300)])

    def test_a_large_frame_asks_for_a_slot(self) -> None:
        """Without a slot it stays and others go; with one it leaves, and the slot is used up."""
        large = b"L" * (128 * 1024)
        self.put(FIFO, large)
        self.put(FIFO, b"small", 2)
        plans = self.packets()
        plans += self.packets()
        self.assertEqual([each.body for each in self.read(plans)], [b"small"])
        self.assertEqual(self.sending.ask_for, len(large))
        self.sending.granted = True
        plans = self.packets()
        while self.sending.pending:
            self.window.acknowledged(self.number, 0)
            plans += self.packets()
        self.assertEqual((self.sending.granted, self.sending.ask_for), (False, 0))
        self.assertTrue(all(plan.flags & SLOTTED for plan in plans))
        self.assertEqual([each.body for each in self.read(plans)], [large])

    def test_where_large_begins(self) -> None:
        """A frame is large from 2 MiB on, or from half of the grant where that is less."""
        for grant, large in ((64 * MEBIBYTE, LARGE_FRAME_BYTES), (256 * 1024, 128 * 1024)):
            for size, asks in ((large - 1, False), (large, True)):
                self.outbox = Outbox(64 * MEBIBYTE)
                window = Window(grant, grant, 0)
                sending = Sending(0, self.outbox, self.release, window, MTU)
                self.put(FIFO, bytes(size))
                for _ in range(40):
                    if sending.next_packets(control_only=False) is not None:
                        break
                self.assertEqual(bool(sending.ask_for), asks, (grant, size))


class TakeBackTests(SendingCase):
    """The view ends in the middle."""

    def test_what_has_not_left_whole_is_sent_anew(self) -> None:
        """A half-sent frame is the first of its session again; what has left is not."""
        self.window = Window(64 * 1024, 64 * 1024, 0)
        self.sending = Sending(0, self.outbox, self.release, self.window, MTU)
        gone = self.put(FIFO, b"gone")
        half = self.put(FIFO, bytes(30_000))
        next_ = self.put(FIFO, bytes(20_000))
        behind = self.put(FIFO, b"behind")
        self.window.sent(1, 30_000, slotted=False)
        self.number = 1
        ends = [end for plan in self.packets() for end in plan.ends]
        self.assertEqual(ends, [gone, half])
        self.sending.take_back()
        self.sending = Sending(0, self.outbox, self.release, Window(64 * 1024, 64 * 1024, 0), MTU)
        self.window = Window(64 * 1024, 64 * 1024, 0)
        again = [end for plan in self.packets() for end in plan.ends]
        self.assertEqual(again, [next_, behind])

    def test_a_frame_that_was_looked_at_keeps_its_place(self) -> None:
        """The frame that did not fit the last packet comes back in front of its session's others."""
        first, second, third = (self.put(FIFO, bytes([number]) * 1000) for number in range(3))
        plan = self.sending.next_packets(control_only=False)
        assert plan is not None
        self.assertEqual(plan.ends, [first])
        self.sending.take_back()
        self.sending = Sending(0, self.outbox, self.release, self.window, MTU)
        self.assertEqual([end for plan in self.packets() for end in plan.ends], [second, third])

    def test_directories_are_not_sent_anew(self) -> None:
        """A directory belongs to its view: the next view has its own."""
        self.outbox.put_control(Outgoing(0, 0, FrameType.DIRECTORY, FIFO, bytes(100_000)), 100_000)
        self.assertIsNotNone(self.sending.next_packets(control_only=True))
        self.assertTrue(self.sending.pending)
        self.sending.take_back()
        self.assertFalse(self.sending.pending)
