"""Frames to packets: packing, cutting, slots, and what is taken back."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from groupcomm.events import Level
from groupcomm.limits import LARGE_FRAME_BYTES
from groupcomm.ordering.assembly import Assembly
from groupcomm.ordering.frames import Frame, FrameType, Outgoing
from groupcomm.ordering.release import Release
from groupcomm.ordering.sending import PacketPlan, Sending
from groupcomm.reliability.flow import Window
from groupcomm.reliability.outbox import Outbox
from groupcomm.wire.packets import FIRST, HEADER_BYTES, LAST, SLOTTED, STAMP_POSITION, UNORDERED, WANTS_STATUS
from tests.ordering.made import AGREED, CAUSAL, FIFO, RELIABLE, SAFE, frame, outgoing, packet

MTU = 1400
ROOM = MTU - HEADER_BYTES - STAMP_POSITION.size
MEBIBYTE = 1024 * 1024


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

    def packets(self, *, control_only: bool = False) -> list[PacketPlan]:
        """All packets that may leave now."""
        plans = []
        while (plan := self.sending.next_packet(control_only=control_only)) is not None:
            self.number += 1
            self.window.sent(self.number, len(plan.body), slotted=bool(plan.flags & SLOTTED))
            plans.append(plan)
        return plans

    def read(self, plans: list[PacketPlan]) -> list[Frame]:
        """What a receiver makes of them."""
        frames: list[Frame] = []
        for number, plan in enumerate(plans, 1):
            frames += self.assembly.packet(number, packet(number, plan.body, plan.flags))
        return frames


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
        (plan,) = self.packets()
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

    def test_a_status_is_asked_for_four_times_per_window(self) -> None:
        """The window slides: reports are asked for before it is full, and when somebody waits for one."""
        self.window = Window(MEBIBYTE, 128 * 1024, 0)
        self.sending = Sending(0, self.outbox, self.release, self.window, MTU)
        self.put(FIFO, bytes(400 * 1024))
        asked = [bool(plan.flags & WANTS_STATUS) for plan in self.packets()]
        self.assertTrue(asked[-1])
        self.assertTrue(4 <= sum(asked) <= 6, sum(asked))
        self.setUp()
        for level, stable, wants in ((FIFO, False, False), (SAFE, False, True), (FIFO, True, True)):
            self.put(level, b"x", stable=stable)
            (plan,) = self.packets()
            self.assertEqual(bool(plan.flags & WANTS_STATUS), wants)


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
        self.assertLess(self.window.outstanding_bytes - self.window.window_bytes, MTU)
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
        self.assertTrue(256 * 1024 <= self.window.undelivered_bytes < 256 * 1024 + MTU)
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
        """A frame is large from 1 MiB on, or from half of the grant where that is less."""
        for grant, large in ((64 * MEBIBYTE, LARGE_FRAME_BYTES), (256 * 1024, 128 * 1024)):
            for size, asks in ((large - 1, False), (large, True)):
                self.outbox = Outbox(64 * MEBIBYTE)
                window = Window(grant, grant, 0)
                sending = Sending(0, self.outbox, self.release, window, MTU)
                self.put(FIFO, bytes(size))
                for _ in range(40):
                    if sending.next_packet(control_only=False) is not None:
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
        plan = self.sending.next_packet(control_only=False)
        assert plan is not None
        self.assertEqual(plan.ends, [first])
        self.sending.take_back()
        self.sending = Sending(0, self.outbox, self.release, self.window, MTU)
        self.assertEqual([end for plan in self.packets() for end in plan.ends], [second, third])

    def test_directories_are_not_sent_anew(self) -> None:
        """A directory belongs to its view: the next view has its own."""
        self.outbox.put_control(Outgoing(0, 0, FrameType.DIRECTORY, FIFO, bytes(30_000)), 30_000)
        self.assertIsNotNone(self.sending.next_packet(control_only=True))
        self.assertTrue(self.sending.pending)
        self.sending.take_back()
        self.assertFalse(self.sending.pending)
