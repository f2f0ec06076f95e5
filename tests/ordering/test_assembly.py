"""Packets of one stream to frames."""

from __future__ import annotations

from random import Random

from twisted.trial.unittest import SynchronousTestCase

from groupcomm.errors import MalformedPacket
from groupcomm.limits import MAX_FRAME_BYTES
from groupcomm.ordering.assembly import Assembly, packet_body
from groupcomm.ordering.frames import Frame
from groupcomm.wire.packets import FIRST, LAST, STAMP_POSITION, STAMPED, UNORDERED, Kind, Stamp, StampRun
from tests.ordering.made import FIFO, RELIABLE, outgoing, packet

WHOLE = FIRST | LAST


def encoded(body: bytes, level: int = FIFO) -> bytes:
    """A frame as it goes into packets."""
    return outgoing(RELIABLE if level == RELIABLE else FIFO, body).encode(0, 0, 0, ())


def cut_into(body: bytes, room: int, first: int, level: int = FIFO) -> dict[int, bytes]:
    """The packets of one frame, by number."""
    data = encoded(body, level)
    parts = [data[at : at + room] for at in range(0, len(data), room)]
    ordered = UNORDERED if level == RELIABLE else 0
    return {
        first + index: packet(
            first + index, part, ordered | (FIRST if index == 0 else 0) | (LAST if index == len(parts) - 1 else 0)
        )
        for index, part in enumerate(parts)
    }


def bodies(frames: list[Frame]) -> list[bytes]:
    """What is in them."""
    return [frame.body for frame in frames]


class AssemblyCase(SynchronousTestCase):
    """Stream 3."""

    def setUp(self) -> None:
        self.assembly = Assembly(3)

    def come(self, number: int, data: bytes) -> list[Frame]:
        """A packet comes in its order."""
        return self.assembly.packet(number, data[2], packet_body(data))

    def feed(self, packets: dict[int, bytes]) -> list[Frame]:
        return [frame for number in sorted(packets) for frame in self.come(number, packets[number])]


class InOrderTests(AssemblyCase):
    """Packets that come in order."""

    def test_several_frames_share_a_packet(self) -> None:
        """Whole frames of one packet come out together, in their order."""
        frames = self.come(7, packet(7, encoded(b"a") + encoded(b"b"), WHOLE))
        self.assertEqual(
            [(frame.stream, frame.first, frame.last, frame.body) for frame in frames],
            [(3, 7, 7, b"a"), (3, 7, 7, b"b")],
        )

    def test_a_frame_of_several_packets(self) -> None:
        """It comes out with its last packet and knows where it began."""
        packets = cut_into(bytes(range(250)), 100, 11)
        self.assertEqual(self.come(11, packets[11]), [])
        self.assertEqual(self.assembly.first, 11)
        self.assertEqual(self.come(12, packets[12]), [])
        (frame,) = self.come(13, packets[13])
        self.assertEqual((frame.first, frame.last, frame.body), (11, 13, bytes(range(250))))
        self.assertEqual(self.assembly.first, 0)

    def test_every_size_around_the_cut_comes_back(self) -> None:
        """Frames of each size around multiples of the room are cut and put together again."""
        for size in (0, 1, 96, 97, 98, 99, 196, 197, 198, 300):
            self.assertEqual(bodies(self.feed(cut_into(b"x" * size, 100, 1))), [b"x" * size])

    def test_the_place_in_the_order_is_not_part_of_the_body(self) -> None:
        """A stamped packet carries four bytes in front of its frames."""
        data = packet(7, STAMP_POSITION.pack(9) + encoded(b"a"), WHOLE | STAMPED)
        self.assertEqual(packet_body(data), encoded(b"a"))
        self.assertEqual(bodies(self.come(7, data)), [b"a"])

    def test_a_part_without_a_beginning_is_nothing(self) -> None:
        """Parts of a frame whose beginning was never sent are dropped, and the next frame is whole."""
        self.assertEqual(self.come(1, packet(1, b"rest", LAST)), [])
        self.assertEqual(bodies(self.come(2, packet(2, encoded(b"a"), WHOLE))), [b"a"])

    def test_a_new_beginning_drops_an_unfinished_frame(self) -> None:
        """A frame that its sender did not finish leaves nothing behind."""
        self.come(1, cut_into(bytes(250), 100, 1)[1])
        self.assertEqual(bodies(self.feed(cut_into(b"b" * 250, 100, 2))), [b"b" * 250])

    def test_a_broken_frame_is_malformed_and_the_next_is_whole(self) -> None:
        """A frame whose length does not add up gives the one typed error, and nothing of it stays."""
        self.assertRaises(MalformedPacket, self.come, 1, packet(1, encoded(b"abc")[:-1], WHOLE))
        self.come(2, packet(2, encoded(b"abc"), FIRST))
        self.assertRaises(MalformedPacket, self.come, 3, packet(3, b"\x05", LAST))
        self.assertEqual(bodies(self.come(4, packet(4, encoded(b"a"), WHOLE))), [b"a"])

    def test_a_half_received_frame_is_bounded(self) -> None:
        """More than the largest frame is dropped when it is exceeded, not kept until its end."""
        part = bytes(60_000)
        number = 1
        self.come(number, packet(number, part, FIRST))
        while number * len(part) + len(part) <= MAX_FRAME_BYTES:
            number += 1
            self.assertEqual(self.come(number, packet(number, part, 0)), [])
        number += 1
        self.assertRaises(MalformedPacket, self.come, number, packet(number, part, 0))
        self.assertEqual(self.assembly.first, 0)


class MiddleTests(AssemblyCase):
    """Packets in the middle of a frame, several at once."""

    def test_they_come_back_in_their_place(self) -> None:
        """However the middle of a frame is divided, the frame is the same, with the same first and last packet."""
        random, body = Random(3), bytes(range(256)) * 10
        packets = cut_into(body, 100, 11)
        parts = [packet_body(data) for data in packets.values()]
        last = 11 + len(parts) - 1
        for _ in range(20):
            self.setUp()
            self.assertEqual(self.assembly.packet(11, FIRST, parts[0]), [])
            at = 1
            while at < len(parts) - 1:
                until = random.randint(at + 1, len(parts) - 1)
                self.assembly.middle(parts[at:until])
                at = until
            (frame,) = self.assembly.packet(last, LAST, parts[-1])
            self.assertEqual((frame.first, frame.last, frame.body), (11, last, body))

    def test_without_a_beginning_they_are_nothing(self) -> None:
        """The middle of a frame whose beginning was never sent is dropped, and the next frame is whole."""
        self.assembly.middle([b"x" * 100, b"y" * 100])
        self.assertEqual(self.assembly.packet(3, LAST, b"end"), [])
        self.assertEqual(bodies(self.feed(cut_into(b"b" * 250, 100, 4))), [b"b" * 250])

    def test_they_are_bounded_as_a_whole(self) -> None:
        """The largest frame still fits; one byte more in any of them, and the whole frame is dropped at once."""
        part, rest = bytes(60_000), MAX_FRAME_BYTES % 60_000
        parts = [part] * (MAX_FRAME_BYTES // len(part) - 1)
        self.assembly.packet(1, FIRST, part)
        self.assembly.middle([*parts, bytes(rest)])
        self.assertEqual(self.assembly.first, 1)
        self.setUp()
        self.assembly.packet(1, FIRST, part)
        self.assertRaises(MalformedPacket, self.assembly.middle, [*parts, bytes(rest), b"x"])
        self.assertEqual(self.assembly.first, 0)
        self.assembly.middle([part])
        self.assertEqual(self.assembly.packet(999, LAST, b"end"), [])
        self.assertEqual(bodies(self.feed(cut_into(b"b" * 250, 100, 1000))), [b"b" * 250])


class AheadTests(AssemblyCase):
    """RELIABLE frames need not wait for a gap to close."""

    def test_a_whole_packet_comes_out_at_once_and_once_only(self) -> None:
        """Its frames come ahead of the gap, and not again when the gap is closed."""
        held = {5: packet(5, encoded(b"a", RELIABLE) + encoded(b"b", RELIABLE), WHOLE | UNORDERED)}
        self.assertEqual(bodies(self.assembly.ahead(5, held.get)), [b"a", b"b"])
        self.assertEqual(self.assembly.ahead(5, held.get), [])
        self.assertEqual(self.come(5, held[5]), [])
        self.assertEqual(bodies(self.come(5, held[5])), [b"a", b"b"])

    def test_a_long_frame_comes_out_with_the_last_of_its_packets(self) -> None:
        """Whichever packet completes it, the frame comes out then, once."""
        packets = cut_into(bytes(range(250)), 100, 11, RELIABLE)
        for missing in packets:
            self.setUp()
            held = {number: data for number, data in packets.items() if number != missing}
            for number in held:
                self.assertEqual(self.assembly.ahead(number, held.get), [])
            held[missing] = packets[missing]
            self.assertEqual(bodies(self.assembly.ahead(missing, held.get)), [bytes(range(250))])
            self.assertEqual(self.assembly.ahead(11, held.get), [])
            again = [frame for number in sorted(packets) for frame in self.come(number, packets[number])]
            self.assertEqual(again, [])

    def test_a_frame_that_began_before_the_gap_can_come_ahead(self) -> None:
        """A frame whose beginning is in order and whose end lies beyond a gap that is then filled comes out once."""
        held = cut_into(bytes(250), 100, 1, RELIABLE)
        self.assertEqual(self.come(1, held[1]), [])
        self.assertEqual(bodies(self.assembly.ahead(3, held.get)), [bytes(250)])
        self.assertEqual(self.come(2, held[2]) + self.come(3, held[3]), [])

    def test_a_broken_frame_ahead_of_a_gap_is_malformed(self) -> None:
        """It gives the one typed error and is not remembered as delivered."""
        held = {5: packet(5, encoded(b"abc", RELIABLE)[:-1], WHOLE | UNORDERED)}
        self.assertRaises(MalformedPacket, self.assembly.ahead, 5, held.get)

    def test_any_order_gives_every_frame_once(self) -> None:
        """Over random orders of arrival, each frame comes out once, ahead or in order, as it was sent."""
        random = Random(7)
        sent = [bytes([index]) * random.choice((1, 50, 150, 350)) for index in range(40)]
        packets: dict[int, bytes] = {}
        for body in sent:
            packets |= cut_into(body, 100, len(packets) + 1, RELIABLE)
        for _ in range(20):
            self.setUp()
            held: dict[int, bytes] = {}
            got: list[bytes] = []
            contiguous = 0
            for number in random.sample(sorted(packets), len(packets)):
                held[number] = packets[number]
                if number != contiguous + 1:
                    got += bodies(self.assembly.ahead(number, held.get))
                    continue
                while contiguous + 1 in held:
                    contiguous += 1
                    got += bodies(self.come(contiguous, held[contiguous]))
            self.assertEqual(sorted(got), sorted(sent))

    def test_control_packets_between_the_parts_are_no_part(self) -> None:
        """A stamp that left between two parts of a frame does not get into it."""
        body = b"A" * 200 + bytes(60)
        parts = cut_into(body, 100, 1, RELIABLE)
        stamp = packet(12, Stamp(14, (StampRun(1, 41, 1),)).encode(), 0, Kind.STAMP)
        self.assertEqual(len(parts), 3)
        held = {11: parts[1], 12: stamp, 13: parts[2], 14: parts[3]}
        self.assertEqual(bodies(self.assembly.ahead(14, held.get)), [body])
