"""Parsing is total: any bytes give a value or ``MalformedPacket``, and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from attrs import evolve
from twisted.trial.unittest import SynchronousTestCase

from groupcomm.errors import MalformedPacket
from groupcomm.events import Level, Reason
from groupcomm.identity import NodeId, ViewId
from groupcomm.limits import (
    MAX_CONTROL_ASSEMBLIES,
    MAX_CONTROL_ASSEMBLY_BYTES,
    MAX_CONTROL_BYTES,
    MAX_CONTROL_PARTS,
    MAX_FRAME_BYTES,
    MAX_NACK_RANGES,
    MAX_NODES,
    MAX_RANGES,
)
from groupcomm.ordering.frames import FrameType, Outgoing, parse_frames
from groupcomm.wire.codec import Reader, Writer, digest64, list_digest, varint
from groupcomm.wire.messages import (
    Answer,
    Assembler,
    Beacon,
    Departed,
    Holding,
    Join,
    Plan,
    Recover,
    Segment,
    SlowNote,
    SlowWord,
    StreamPlan,
    ViewPlan,
    cut,
    decode_message,
)
from groupcomm.wire.packets import (
    HEADER_BYTES,
    NO_SENDER,
    STAMP_POSITION,
    STAMPED,
    Ask,
    Grant,
    Handover,
    Header,
    Kind,
    Nack,
    Range,
    Stamp,
    StampRun,
    Status,
    StatusEntry,
    Summary,
    SummaryEntry,
    Tail,
    Take,
    encode,
    widen,
)
from tests.wire.test_vectors import BODIES, VECTORS, Encodable, encodable

NODE = NodeId("a", 1)
VIEW = ViewId(1, NODE)
NODES = tuple(NodeId(f"n{index:02}", index) for index in range(MAX_NODES + 1))
MOST = (1 << 64) - 1


def parse(packet: bytes) -> object:
    """What the code reads from a packet of any kind."""
    header = Header(packet)
    start = HEADER_BYTES + (STAMP_POSITION.size if header.kind == Kind.DATA and header.flags & STAMPED else 0)
    if header.kind in (Kind.DATA, Kind.UNRELIABLE):
        return parse_frames(0, 1, 1, packet[start:])
    decode = BODIES.get(header.kind)
    return decode(Reader(packet, start)) if decode else decode_message(header.kind, packet[start:])


def is_read(parser: Callable[[bytes], object], data: bytes) -> bool:
    """Whether ``parser`` finds a value; any error but ``MalformedPacket`` is raised."""
    try:
        parser(data)
    except MalformedPacket:
        return False
    return True


PACKETS = [vector for vector in VECTORS if vector.name.split()[0].isupper()]


class TotalTests(SynchronousTestCase):
    """Damage to every kind of packet."""

    def test_every_truncation_is_a_value_or_malformed(self) -> None:
        """A packet cut short anywhere gives one typed error; frames may end where one ends, pieces anywhere."""
        for vector in PACKETS:
            several = vector.name.split()[0] in ("DATA", "UNRELIABLE", "PIECE")
            for size in range(len(vector.data)):
                read = is_read(parse, vector.data[:size])
                self.assertTrue(several or not read, f"{vector.name} cut to {size} bytes was read")

    def test_bytes_too_many_are_malformed(self) -> None:
        """A byte behind the last field makes any packet malformed but a piece, which is bytes to its end."""
        for vector in [vector for vector in PACKETS if vector.name != "PIECE"]:
            with self.assertRaises(MalformedPacket, msg=vector.name):
                parse(vector.data + b"\x01")

    def test_every_change_of_one_byte_is_a_value_or_malformed(self) -> None:
        """Whatever one byte of a packet is changed to, the result is a value or the one typed error."""
        read, headers = 0, set()
        for vector in PACKETS:
            data = bytearray(vector.data)
            new = vector.data[1:3] not in headers
            headers.add(vector.data[1:3])
            for at in range(0 if new else HEADER_BYTES, len(data)):
                # What the header says of identity is read alike whatever it is: two values will do.
                for other in range(256) if at < 4 or at >= HEADER_BYTES else (0, 255):
                    data[at] = other
                    read += is_read(parse, bytes(data))
                data[at] = vector.data[at]
        self.assertGreater(read, len(PACKETS))

    def test_random_bytes_are_a_value_or_malformed(self) -> None:
        """Random bodies behind a good header give a value or the one typed error, for every kind."""
        random = Random(20261121)
        for kind in range(256):
            for _ in range(60):
                body = random.randbytes(random.randrange(200))
                is_read(parse, header_bytes(kind) + body)

    def test_what_a_changed_packet_gives_can_be_written_again(self) -> None:
        """A value read from damaged bytes is as good as any: its encoding reads as the same value."""
        again = 0
        for vector in PACKETS:
            if vector.name.split()[0] in ("DATA", "UNRELIABLE"):
                continue
            data = bytearray(vector.data)
            for at in range(HEADER_BYTES, len(data)):
                for bit in range(8):
                    data[at] ^= 1 << bit
                    try:
                        value = parse(bytes(data))
                    except MalformedPacket:
                        continue
                    finally:
                        data[at] ^= 1 << bit
                    self.assertEqual(parse(vector.data[:HEADER_BYTES] + encodable(value).encode()), value)
                    again += 1
        self.assertGreater(again, 1000)


def header_bytes(kind: int) -> bytes:
    """The header of a packet of any kind, known or not."""
    return bytes([1, kind]) + bytes(HEADER_BYTES - 2)


class HeaderTests(SynchronousTestCase):
    """The header, and numbers of which only the low half travels."""

    def test_fields_come_back(self) -> None:
        """A header reads as it was written; the number is cut to 32 bits."""
        header = Header(encode(Kind.NACK, MOST, 0xFFFF, (1 << 32) + 7, b"x", flags=0xFF, part=0xABCD))
        self.assertEqual(
            (header.kind, header.flags, header.key_epoch, header.digest, header.sender, header.part, header.sequence),
            (Kind.NACK, 0xFF, 0, MOST, 0xFFFF, 0xABCD, 7),
        )

    def test_too_short_a_header_is_malformed(self) -> None:
        """19 bytes are no header, 20 are."""
        data = encode(Kind.NACK, 0, 0, 0)
        self.assertEqual(Header(data).kind, Kind.NACK)
        self.assertRaises(MalformedPacket, Header, data[:-1])

    def test_only_version_1_is_understood(self) -> None:
        """A packet of any other version is malformed."""
        data = bytearray(encode(Kind.NACK, 0, 0, 0))
        understood = []
        for version in range(256):
            data[0] = version
            if is_read(Header, bytes(data)):
                understood.append(version)
        self.assertEqual(understood, [1])

    def test_numbers_are_completed_across_the_wrap(self) -> None:
        """The low half of a number gives the whole one, up to 2**31 - 1 ahead and 2**31 behind what is expected."""
        for near in (1 << 32, (1 << 32) - 1, (1 << 32) + 1, (1 << 40) + 5, (1 << 33) - 3, 3 << 31):
            for distance in (-(1 << 31), -(1 << 31) + 1, -2, -1, 0, 1, 2, (1 << 31) - 1):
                number = near + distance
                self.assertEqual(widen(number & 0xFFFFFFFF, near), number, (near, distance))

    def test_numbers_never_become_negative(self) -> None:
        """Near zero there is nothing behind: a large low half is a number far ahead."""
        self.assertEqual(widen(0xFFFFFFFF, 5), 0xFFFFFFFF)
        self.assertEqual(widen(0, 0), 0)
        self.assertEqual(widen(0x80000000, 0), 0x80000000)


class FieldTests(SynchronousTestCase):
    """The fields that packets are made of."""

    def test_varints_come_back_in_one_to_ten_bytes(self) -> None:
        """Around every power of 128, a number takes as many bytes as it needs and reads as itself."""
        for groups in range(1, 10):
            for number in ((1 << 7 * groups) - 1, 1 << 7 * groups):
                data = varint(number)
                self.assertEqual(len(data), groups if number < 1 << 7 * groups else groups + 1)
                self.assertEqual(Reader(data).number(), number)
        self.assertEqual(len(varint(MOST)), 10)
        self.assertEqual(Reader(varint(MOST)).number(), MOST)

    def test_too_large_varints_are_malformed(self) -> None:
        """2**64 in ten bytes, and anything of eleven bytes, is refused; a padded small number is read."""
        self.assertRaises(MalformedPacket, Reader(b"\x80" * 9 + b"\x02").number)
        self.assertRaises(MalformedPacket, Reader(b"\xff" * 9 + b"\x7f").number)
        self.assertRaises(MalformedPacket, Reader(b"\x80" * 10 + b"\x00").number)
        self.assertEqual(Reader(b"\x85\x80\x00").number(), 5)

    def test_a_number_at_its_limit_is_read_and_above_it_not(self) -> None:
        """A limit is the largest number that is allowed."""
        for limit in (0, 1, 127, 128, 1 << 48):
            self.assertEqual(Reader(varint(limit)).number(limit), limit)
            self.assertRaises(MalformedPacket, Reader(varint(limit + 1)).number, limit)

    def test_texts_have_one_to_limit_bytes(self) -> None:
        """An empty name and one above the limit are malformed; sizes count bytes, not characters."""
        for name in ("x", "é" * 32, "n" * 64):
            self.assertEqual(Reader(Writer().text(name).done()).text(64), name)
        for data in (b"\x00", bytes([65]) + b"n" * 65, Writer().text("é" * 33).done()):
            self.assertRaises(MalformedPacket, Reader(data).text, 64)
        self.assertEqual(Reader(Writer().text("g" * 255).done()).text(), "g" * 255)

    def test_texts_that_are_not_utf_8_are_malformed(self) -> None:
        """Stray, overlong, surrogate and cut sequences are refused."""
        for data in (b"\xff", b"\xc0\x80", b"\xed\xa0\x80", b"\xe2\x82"):
            self.assertRaises(MalformedPacket, Reader(bytes([len(data)]) + data).text)

    def test_texts_are_names(self) -> None:
        """A line's end, a control character or white space around it is refused, as it is where names are given."""
        for name in ("a\nb", "a\x00", "a\u2028b", "\u202ea", " a", "a ", "\ud7ff\x7f"):
            self.assertRaises(MalformedPacket, Reader(Writer().text(name).done()).text)
        for name in ("a b", "@", "a#b/c", "\u00e4\u4e2d"):
            self.assertEqual(Reader(Writer().text(name).done()).text(), name)

    def test_node_names_have_no_sign_that_stands_for_something(self) -> None:
        """``@``, ``#`` and ``/`` stand between the parts of identities where people read them: in no node's name."""
        for name in ("a@b", "#", "a/"):
            self.assertRaises(MalformedPacket, Reader(Writer().text(name).u64(1).done()).node)

    def test_node_names_have_at_most_64_bytes(self) -> None:
        """A node with a name of 64 bytes is read, with one of 65 bytes it is malformed."""
        node = NodeId("n" * 64, MOST)
        self.assertEqual(Reader(Writer().node(node).done()).node(), node)
        self.assertRaises(MalformedPacket, Reader(Writer().text("n" * 65).u64(1).done()).node)

    def test_no_view_is_epoch_0(self) -> None:
        """Eight zero bytes are no view; where a view must be, they are malformed."""
        self.assertEqual(Writer().view(None).done(), bytes(8))
        self.assertIsNone(Reader(bytes(8)).view())
        self.assertRaises(MalformedPacket, Reader(bytes(8)).some_view)
        self.assertEqual(Reader(Writer().view(VIEW).done()).some_view(), VIEW)

    def test_maps_have_no_more_bits_than_allowed(self) -> None:
        """A map takes as many bytes as its bits need; a bit beyond them is malformed."""
        for count in (0, 1, 7, 8, 9, 64, 511, 512):
            everybody = (1 << count) - 1
            data = Writer().bits(everybody, count).done()
            self.assertEqual((len(data), Reader(data).bits(count)), (-(-count // 8), everybody))
        self.assertEqual(Writer().bits(0b1_0000_0010, 9).done(), b"\x02\x01")
        self.assertRaises(MalformedPacket, Reader(b"\x02\x02").bits, 9)
        self.assertRaises(MalformedPacket, Reader(b"\x02").bits, 9)

    def test_sizes_are_compared_with_what_is_there(self) -> None:
        """A size beyond the end is refused, however large, without taking memory for it."""
        self.assertEqual(Reader(b"abc").raw(3), b"abc")
        self.assertRaises(MalformedPacket, Reader(b"abc").raw, 4)
        self.assertRaises(MalformedPacket, Reader(b"abc").raw, MOST)

    def test_digests_depend_on_where_parts_end(self) -> None:
        """The same bytes divided differently have different digests."""
        self.assertEqual(
            len({digest64(b"ab", b"c"), digest64(b"a", b"bc"), digest64(b"abc"), digest64(b"abc", b"")}), 4
        )


class LimitTests(SynchronousTestCase):
    """One below, at, and one above each count that a packet may have."""

    def check_body(self, decode: Callable[[Reader], object], make: Callable[[int], Encodable], most: int) -> None:
        for count in (most - 1, most):
            value = make(count)
            self.assertEqual(decode(Reader(value.encode())), value)
        self.assertRaises(MalformedPacket, decode, Reader(make(most + 1).encode()))

    def test_stamps(self) -> None:
        """A stamp has at most 2048 runs, of streams up to 512, with counts up to 2**32."""
        self.check_body(Stamp.decode, lambda count: Stamp(1, (StampRun(0, 1, 1),) * count), 4 * MAX_NODES)
        self.check_body(Stamp.decode, lambda stream: Stamp(1, (StampRun(stream, 1, 1),)), MAX_NODES)
        self.check_body(Stamp.decode, lambda count: Stamp(1, (StampRun(0, 1, count),)), 1 << 32)

    def test_roles_and_slots(self) -> None:
        """A hand-over and a grant name a node up to 512, an ask a frame that is allowed."""
        self.check_body(Handover.decode, lambda node: Handover(1, node), MAX_NODES)
        self.check_body(Grant.decode, lambda node: Grant(node, 1), MAX_NODES)
        self.check_body(Ask.decode, Ask, MAX_FRAME_BYTES)
        self.assertEqual(Take.decode(Reader(Take(MOST).encode())), Take(MOST))
        self.check_body(Tail.decode, lambda size: Tail(MOST, 1 << 8 * size - 1), MAX_NODES // 8)
        self.assertEqual(Tail.decode(Reader(Tail(7, 0).encode())), Tail(7, 0))

    def test_nacks(self) -> None:
        """A NACK has at most 64 ranges, of at most 2**32 packets beyond the first."""
        ranges = tuple(Range(3 * index, 3 * index + 1) for index in range(MAX_NACK_RANGES + 1))
        self.check_body(Nack.decode, lambda count: Nack(0, 1, ranges[:count]), MAX_NACK_RANGES)
        self.check_body(Nack.decode, lambda size: Nack(0, 1, (Range(5, 5 + size),)), 1 << 32)
        self.check_body(Nack.decode, lambda first: Nack(0, 1, (Range(first, first),)), 1 << 48)
        self.check_body(Nack.decode, lambda stream: Nack(stream, 1, ()), MAX_NODES)
        self.check_body(Nack.decode, lambda asked: Nack(0, asked, ()), MAX_NODES)

    def test_statuses(self) -> None:
        """A status and a summary have at most 512 entries, and nothing is delivered that has not been received."""
        self.check_body(Status.decode, lambda count: Status(0, (StatusEntry(0, 5, 5),) * count), MAX_NODES)
        self.check_body(Status.decode, lambda stream: Status(0, (StatusEntry(stream, 5, 0),)), MAX_NODES)
        below_nothing = Writer().number(0).number(1).number(0).number(5).number(6).done()
        self.assertRaises(MalformedPacket, Status.decode, Reader(below_nothing))
        self.check_body(Summary.decode, lambda count: Summary(0, (SummaryEntry(0, 5, 5),) * count), MAX_NODES)
        self.check_body(Summary.decode, lambda stream: Summary(0, (SummaryEntry(stream, 5, 0),)), MAX_NODES)
        self.assertRaises(MalformedPacket, Summary.decode, Reader(below_nothing))

    def test_beacons(self) -> None:
        """A beacon tells of a view of at most 512 nodes and of at most 128 other views."""
        self.check_body(Beacon.decode, lambda size: Beacon(NODE, VIEW, size, 1, False, False, ()), MAX_NODES)
        self.check_body(Beacon.decode, lambda count: Beacon(NODE, None, 0, 1, False, False, (7,) * count), 128)
        note = SlowNote(SlowWord.CLAIM, NODE, 5, 6)
        self.check_body(Beacon.decode, lambda count: Beacon(NODE, None, 0, 1, False, False, (), (note,) * count), 64)
        unknown = Writer().node(NODE).view(None).number(0).number(1).u8(4).number(0).number(1).u8(6).node(NODE)
        self.assertRaises(MalformedPacket, Beacon.decode, Reader(unknown.number(5).number(6).done()))

    def test_joins_and_recovers(self) -> None:
        """At most 512 candidates, 8 abandoned proposals and 512 participants are named."""

        def join(count: int, abandoned: int, *, named: bool = True) -> Join:
            names = NODES[:count] if named else None
            listed, heard = list_digest(NODES[:count]), (1 << count) - 1
            return Join(NODE, None, None, False, 1, 1, 1, 1, 0, listed, count, heard, names, (VIEW,) * abandoned)

        self.check_body(Join.decode, lambda count: join(count, 0), MAX_NODES)
        self.check_body(Join.decode, lambda count: join(count, 0, named=False), MAX_NODES)
        self.check_body(Join.decode, lambda count: join(1, count), 8)
        accusing = evolve(join(9, 0), evicts=1 << 8)
        self.assertEqual(Join.decode(Reader(accusing.encode())), accusing)
        self.assertRaises(MalformedPacket, Join.decode, Reader(evolve(accusing, evicts=1 << 9).encode()))
        self.check_body(Recover.decode, lambda count: Recover(VIEW, 1, 2, NODES[:count]), MAX_NODES)

    def test_answers(self) -> None:
        """An answer holds at most 512 streams with at most 32 ranges each, and no more stable than contiguous."""

        def answer(members: int, ranges: int) -> Answer:
            above = tuple(Range(11 + 2 * index, 11 + 2 * index) for index in range(ranges))
            return Answer(NODE, VIEW, VIEW, NODES[:members], False, True, 0, 1, (Holding(9, 4, above),) * members)

        self.check_body(Answer.decode, lambda count: answer(count, 1), MAX_NODES)
        self.check_body(Answer.decode, lambda count: answer(1, count), MAX_RANGES)
        start = Writer().node(NODE).view(VIEW).view(VIEW).number(1).node(NODE).u8(0).u8(0).number(0).number(1)
        unfounded = start.number(4).number(5).number(0).done()
        self.assertRaises(MalformedPacket, Answer.decode, Reader(unfounded))

    def test_plans(self) -> None:
        """A plan names at most 512 participants, twice as many departed, and indices only of participants."""

        def plan(participants: int, departed: int = 0, streams: tuple[StreamPlan, ...] = (), survivor: int = 0) -> Plan:
            gone = (Departed(NODE, Reason.PARTITION),) * departed
            view = ViewPlan(VIEW, (survivor,), streams)
            return Plan(VIEW, 1, NODES[:participants], 0, NODES[0], False, gone, (view,))

        def stream(segments: int = 0, holder: int = 0) -> StreamPlan:
            return StreamPlan(9, 4, (Range(12, 13),), (Segment(5, 6, holder, 0),) * segments)

        self.check_body(Plan.decode, plan, MAX_NODES)
        self.check_body(Plan.decode, lambda count: plan(1, count), 2 * MAX_NODES)
        self.check_body(Plan.decode, lambda count: plan(2, streams=(stream(),) * count), MAX_NODES)
        self.check_body(Plan.decode, lambda count: plan(2, streams=(stream(count),)), 4096)
        self.check_body(Plan.decode, lambda index: plan(3, survivor=index), 2)
        self.check_body(Plan.decode, lambda index: plan(3, streams=(stream(1, index),)), 2)

    def test_reasons_that_do_not_exist_are_malformed(self) -> None:
        """A plan with an unknown reason is refused, and so is reason 0."""
        known = Plan(VIEW, 1, (NODE,), 0, NODE, False, (Departed(NODE, Reason.EVICTION),), ())
        body = bytearray(known.encode())
        self.assertEqual(Plan.decode(Reader(bytes(body))), known)
        for reason in (0, max(Reason) + 1, 255):
            body[-4] = reason
            self.assertRaises(MalformedPacket, Plan.decode, Reader(bytes(body)))


class FrameTests(SynchronousTestCase):
    """Frames on the wire."""

    def frame(self, level: Level, past: tuple[tuple[int, int], ...] = (), body: bytes = b"body") -> bytes:
        return Outgoing(1, 1, FrameType.GROUP, level, body).encode(3, 4, 5, past)

    def test_each_level_carries_what_it_needs(self) -> None:
        """UNRELIABLE carries nothing, RELIABLE and FIFO the group position, CAUSAL and above their past."""
        for level in Level:
            (frame,) = parse_frames(2, 7, 9, self.frame(level, ((0, 6),)))
            self.assertEqual((frame.stream, frame.first, frame.last, frame.level), (2, 7, 9, level))
            self.assertEqual(frame.body, b"body")
            self.assertEqual(frame.group_position, 3 if level >= Level.RELIABLE else 0)
            causal = (4, 5, ((0, 6),)) if level >= Level.CAUSAL else (0, 0, ())
            self.assertEqual((frame.lamport, frame.ordered, frame.past), causal)

    def test_several_frames_come_one_behind_the_other(self) -> None:
        """Frames that share a packet are read in order; an empty packet has none."""
        data = (
            self.frame(Level.FIFO, body=b"1") + self.frame(Level.AGREED, body=b"") + self.frame(Level.FIFO, body=b"3")
        )
        self.assertEqual([frame.body for frame in parse_frames(0, 1, 1, data)], [b"1", b"", b"3"])
        self.assertEqual(parse_frames(0, 1, 1, b""), [])

    def test_unknown_levels_and_types_are_malformed(self) -> None:
        """Exactly the six levels and five types are read, with and without self-discard."""
        read = [
            kind
            for kind in range(256)
            if is_read(lambda data: parse_frames(0, 1, 1, data), bytes([kind, 4]) + bytes(4))
        ]
        allowed = {
            level | frame_type << 3 | discard for level in Level for frame_type in FrameType for discard in (0, 0x80)
        }
        self.assertEqual(set(read), allowed)

    def test_the_past_names_at_most_512_streams_up_to_511(self) -> None:
        """A frame that depends on more, or on a stream that cannot be, is malformed."""
        for past, good in (
            (((1, 1),) * (MAX_NODES - 1), True),
            (((1, 1),) * MAX_NODES, True),
            (((1, 1),) * (MAX_NODES + 1), False),
            (((MAX_NODES - 1, 1),), True),
            (((MAX_NODES, 1),), False),
        ):
            data = self.frame(Level.CAUSAL, past)
            self.assertEqual(is_read(lambda data: parse_frames(0, 1, 1, data), data), good)

    def test_a_frame_has_at_most_the_allowed_size(self) -> None:
        """A size of 16 MiB and 8 KiB is read if the bytes are there; one more is refused before looking for them."""
        head = bytes([Level.UNRELIABLE])
        for size in (MAX_FRAME_BYTES - 1, MAX_FRAME_BYTES):
            (frame,) = parse_frames(0, 1, 1, head + varint(size) + bytes(size))
            self.assertEqual(len(frame.body), size)
        with self.assertRaisesRegex(MalformedPacket, "at most"):
            parse_frames(0, 1, 1, head + varint(MAX_FRAME_BYTES + 1) + bytes(MAX_FRAME_BYTES + 1))


class AssemblerTests(SynchronousTestCase):
    """Messages of more than one datagram."""

    def setUp(self) -> None:
        self.assembler = Assembler()

    def add(self, packet: bytes, source: object = "here") -> bytes | None:
        return self.assembler.add(Header(packet), packet[HEADER_BYTES:], source)

    def test_a_message_of_one_part_is_whole_at_once(self) -> None:
        """A short message, even an empty one, is one datagram and needs no assembly."""
        for body in (b"", b"x", bytes(80)):
            (packet,) = cut(Kind.PLAN, 1, 2, body, 100)
            self.assertEqual(Header(packet).sender, NO_SENDER)
            self.assertEqual(self.add(packet), body)

    def test_one_byte_more_than_fits_makes_two_parts(self) -> None:
        """Every part fits the datagram, and all but the last are full."""
        self.assertEqual([len(packet) for packet in cut(Kind.PLAN, 1, 2, bytes(81), 100)], [100, 21])
        self.assertEqual([len(packet) for packet in cut(Kind.PLAN, 1, 2, bytes(160), 100)], [100, 100])

    def test_parts_add_up_in_any_order_and_over_repeats(self) -> None:
        """A lost part is filled in by the repeat of the message."""
        body = bytes(range(250))
        packets = cut(Kind.PLAN, 1, 2, body, 100)
        self.assertEqual(len(packets), 4)
        self.assertIsNone(self.add(packets[3]))
        self.assertIsNone(self.add(packets[0]))
        self.assertIsNone(self.add(packets[0]))
        self.assertIsNone(self.add(packets[1]))
        self.assertEqual(self.add(packets[2]), body)

    def test_parts_of_different_messages_do_not_mix(self) -> None:
        """Source, kind and number keep messages apart."""
        one, two = (cut(Kind.PLAN, 1, number, bytes([number]) * 120, 100) for number in (1, 2))
        other = cut(Kind.JOIN, 1, 1, b"j" * 120, 100)
        self.assertIsNone(self.add(one[0]))
        self.assertIsNone(self.add(two[1]))
        self.assertIsNone(self.add(other[1]))
        self.assertIsNone(self.add(one[1], "there"))
        self.assertEqual(self.add(one[1]), b"\x01" * 120)
        self.assertEqual(self.add(two[0]), b"\x02" * 120)

    def test_parts_that_cannot_be_are_malformed(self) -> None:
        """No part 0 of 0, none beyond the count, none of more than 128, none that disagrees on the count."""
        for part in (0x0000, 0x0101, 0x0202, 0x0302, MAX_CONTROL_PARTS + 1):
            with self.assertRaises(MalformedPacket, msg=hex(part)):
                self.add(encode(Kind.PLAN, 1, NO_SENDER, 2, b"x", part=part))
        self.assertIsNone(self.add(encode(Kind.PLAN, 1, NO_SENDER, 2, b"x", part=MAX_CONTROL_PARTS)))
        with self.assertRaises(MalformedPacket):
            self.add(encode(Kind.PLAN, 1, NO_SENDER, 2, b"x", part=0x0102))

    def test_the_most_parts_add_up(self) -> None:
        """A message of 128 parts is put together."""
        body = bytes(80 * MAX_CONTROL_PARTS)
        packets = cut(Kind.PLAN, 1, 2, body, 100)
        self.assertEqual(len(packets), MAX_CONTROL_PARTS)
        self.assertEqual([whole for whole in map(self.add, packets) if whole is not None], [body])

    def test_half_received_messages_are_bounded(self) -> None:
        """With 1024 messages half received, one more drops the oldest and no other."""
        messages = [cut(Kind.PLAN, 1, number, bytes(120), 100) for number in range(MAX_CONTROL_ASSEMBLIES + 1)]
        for packets in messages:
            self.assertIsNone(self.add(packets[0]))
        self.assertEqual(self.add(messages[1][1]), bytes(120))
        self.assertEqual(self.add(messages[-1][1]), bytes(120))
        self.assertIsNone(self.add(messages[0][1]))

    def test_their_bytes_are_bounded(self) -> None:
        """Of so many bytes half received, whatever message they are added to, the oldest message is dropped."""
        large = bytes(2000 * 126)
        count = MAX_CONTROL_ASSEMBLY_BYTES // (2000 * 125) + 1
        messages = [cut(Kind.PLAN, 1, number, large, 2020) for number in range(count)]
        for packets in zip(*messages, strict=True):
            for packet in packets if packets[0] is not messages[0][-1] else ():
                self.assertIsNone(self.add(packet))
        self.assertLessEqual(self.assembler._size, MAX_CONTROL_ASSEMBLY_BYTES)
        self.assertEqual(self.add(messages[-1][-1]), large)
        self.assertIsNone(self.add(messages[0][-1]))

    def test_a_message_has_at_most_the_allowed_size(self) -> None:
        """A message of 256 KiB is put together; of one byte more nothing is kept once it is whole."""
        for size, good in ((MAX_CONTROL_BYTES, True), (MAX_CONTROL_BYTES + 1, False)):
            *parts, last = cut(Kind.PLAN, 1, size, bytes(size), 60_000)
            for packet in parts:
                self.assertIsNone(self.add(packet))
            if good:
                self.assertEqual(self.add(last), bytes(size))
            else:
                with self.assertRaisesRegex(MalformedPacket, "a message of"):
                    self.add(last)
            self.assertEqual(self.assembler._size, 0)
