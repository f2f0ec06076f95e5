"""Counts one over their caps, and lengths that are not those of what follows, in every list of every packet."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from groupcomm.errors import MalformedPacket
from groupcomm.events import Level
from groupcomm.identity import ViewId
from groupcomm.limits import (
    MAX_DESTINATION_GROUPS,
    MAX_FRAME_BYTES,
    MAX_FRAME_MESSAGES,
    MAX_GROUPS_PER_SESSION,
    MAX_JOIN_RECORDS,
    MAX_KEPT_OUT,
    MAX_NACK_RANGES,
    MAX_NODES,
    MAX_PLAN_RECORDS,
    MAX_RANGES,
    MAX_SESSIONS,
)
from groupcomm.membership.groups import _read_table
from groupcomm.ordering.frames import FrameType, Outgoing
from groupcomm.packing import read_runs
from groupcomm.wire.codec import Reader, Writer, varint
from groupcomm.wire.messages import Answer, Beacon, Join, Plan, Recover, decode_message
from groupcomm.wire.packets import FIRST, LAST, Kind, Nack, Stamp, Status, Summary, Tail
from tests.hostile.attacker import GHOST, HostileCase, counted_work, every_body, group_frame

_HUGE = ((1 << 64) - 1, 1 << 63, 1 << 32, 1 << 31, 1 << 20)


def node() -> Writer:
    """A writer that has written a node."""
    return Writer().node(GHOST)


class CountTests(SynchronousTestCase):
    """Lists with a count that is one too many, or absurd, and next to nothing behind it."""

    def assert_capped(self, decode: object, head: bytes, cap: int, item: bytes, tail: bytes = b"") -> None:
        """So many items are read, one more is refused, and an absurd count costs nothing before it is refused."""
        assert callable(decode)
        decode(Reader(head + varint(cap) + item * cap + tail))
        with self.assertRaises(MalformedPacket):
            decode(Reader(head + varint(cap + 1) + item * (cap + 1) + tail))
        for count in (*_HUGE, cap):
            with counted_work() as work, self.assertRaises(MalformedPacket):
                decode(Reader(head + varint(count) + item[:1]))
            self.assertLess(work.calls, 100)

    def test_packets_of_the_view(self) -> None:
        """STAMP, NACK, STATUS, SUMMARY and TAIL."""
        self.assert_capped(Stamp.decode, b"\1", 4 * MAX_NODES, b"\1\1\1")
        self.assert_capped(Nack.decode, b"\0\0", MAX_NACK_RANGES, b"\1\1")
        self.assert_capped(Status.decode, b"\0", MAX_NODES, b"\1\1\1")
        self.assert_capped(Summary.decode, b"\0", MAX_NODES, b"\1\1\1")
        self.assert_capped(Tail.decode, b"\0", MAX_NODES // 8, b"\xff")

    def test_beacons(self) -> None:
        """The views that a beacon names, and its notes."""
        head = node().view(None).number(1).number(1)
        self.assert_capped(Beacon.decode, head.done() + b"\0", 128, bytes(8))
        note = Writer().u8(1).node(GHOST).number(1).number(1).done()
        self.assert_capped(Beacon.decode, head.done() + b"\4\0", MAX_KEPT_OUT, note)

    def test_messages_of_a_change(self) -> None:
        """The nodes of RECOVER, what a JOIN gave up, the ranges of ANSWER, and all that is in a PLAN."""
        one, proposal = node().done(), Writer().u64(7).node(GHOST).done()
        self.assert_capped(Recover.decode, proposal + b"\1" + bytes(8), MAX_NODES, one)
        join = node().view(None).view(None).u8(0).raw(b"\1\1\1\1").u64(0).raw(b"\0").u64(0).done()
        self.assert_capped(Join.decode, join, 8, proposal)
        answer = node().raw(proposal).view(None).raw(b"\1").node(GHOST).u8(0).u8(0).raw(b"\0\1\5\0").done()
        self.assert_capped(Answer.decode, answer, MAX_RANGES, b"\1\1")
        plan = Writer().raw(proposal).raw(b"\1\1").node(GHOST).raw(b"\0\0").node(GHOST).u8(0).done()
        self.assert_capped(Plan.decode, plan, 2 * MAX_NODES, one + b"\1", b"\0\0\0")
        record = Writer().u8(1).node(GHOST).node(GHOST).raw(b"\0\0\0").done()
        self.assert_capped(Plan.decode, plan + b"\0", MAX_PLAN_RECORDS, record, b"\0\0")
        telling = node().view(None).view(None).u8(32).raw(b"\1\1\1\1").u64(0).raw(b"\0").u64(0).done()
        self.assert_capped(Join.decode, telling, MAX_JOIN_RECORDS, record, b"\0")
        self.assert_capped(Plan.decode, plan + b"\0\0", 1, proposal + b"\0\0", b"\0")
        self.assert_capped(Plan.decode, plan + b"\0\0\1" + proposal + b"\0", MAX_NODES, b"\0\0\0\0", b"\0")
        stream = plan + b"\0\0\1" + proposal + b"\0\1\0\0"
        self.assert_capped(Plan.decode, stream, MAX_NODES * MAX_RANGES, b"\1\1", b"\0\0")
        self.assert_capped(Plan.decode, stream + b"\0", 4096, b"\1\1\0\0", b"\0")

    def test_frames_and_payloads(self) -> None:
        """Sessions and groups of a directory, runs and messages of a payload."""

        def table(reader: Reader) -> None:
            _read_table(GHOST, reader.rest())

        self.assert_capped(table, b"", MAX_SESSIONS, b"\1\1c\0")
        self.assert_capped(table, b"\1\1\1c", MAX_GROUPS_PER_SESSION, b"\1g")
        for count in _HUGE:
            for payload in (varint(count), b"\1" + varint(count) + b"\0", b"\1\1" + varint(count), b"\2\1\1\1"):
                with self.assertRaises(MalformedPacket):
                    read_runs(payload)
        self.assertEqual(read_runs(b"\1" + varint(MAX_FRAME_MESSAGES) + b"\0")[0], ((MAX_FRAME_MESSAGES, 0),))
        with self.assertRaises(MalformedPacket):
            read_runs(b"\2" + varint(MAX_FRAME_MESSAGES) + b"\0\1\0")

    def test_a_message_costs_what_its_bytes_allow(self) -> None:
        """The work of reading any message of the largest size is bounded by its bytes, one call for each or so."""
        bodies = every_body((GHOST, GHOST, GHOST), ViewId(1, GHOST))
        for kind in (Kind.BEACON, Kind.JOIN, Kind.RECOVER, Kind.ANSWER, Kind.PLAN):
            for byte in (b"\0", b"\1", b"\x7f", b"\xff"):
                body = bodies[kind] + byte * 60_000
                with counted_work() as work, self.assertRaises(MalformedPacket):
                    decode_message(kind, body)
                self.assertLess(work.calls, 2 * len(body))


class LengthTests(HostileCase):
    """Frames in a member's own stream whose lengths are not those of what is there."""

    def say(self, *bodies: bytes) -> None:
        """Node ``b`` puts packets with these frames into its stream."""
        view = self.view(self.nodes[1])

        def emit() -> None:
            for body in bodies:
                view._emit(Kind.DATA, body, FIRST | LAST)
            view._advance(self.index(self.nodes[1]))

        self.nodes[1].command(lambda engine, now: emit())
        self.cluster.run(0.1)

    def frame(self, level: Level, frame_type: FrameType, body: bytes) -> bytes:
        """A whole frame with any body."""
        return Outgoing(0, 0, frame_type, level, body).encode(0, 1, 0, ())

    def test_sizes_of_frames(self) -> None:
        """Frames that say to be longer than their packet are dropped and counted, by every node."""
        whole = group_frame(level=Level.FIFO)
        before = [self.counter(node, "peer_violations") for node in self.nodes]
        lies = [whole[:1] + varint(size) + whole[2:] for size in (len(whole) - 1, 1 << 14, MAX_FRAME_BYTES, *_HUGE)]
        self.say(*lies, *(whole[:size] for size in range(1, len(whole))))
        grown = [self.counter(node, "peer_violations") - count for node, count in zip(self.nodes, before, strict=True)]
        self.assertEqual(grown, [len(lies) + len(whole) - 1] * 3)
        self.assert_goes_on()

    def test_addresses(self) -> None:
        """Frames to more groups than allowed, to none, or with an address that does not add up, reach nobody."""
        group = b"\x04chat"
        addresses = [
            b"\1\1m" + varint(MAX_DESTINATION_GROUPS + 1) + group * (MAX_DESTINATION_GROUPS + 1),
            b"\1\1m" + varint((1 << 64) - 1),
            b"\1\1m\1" + group + b"more",
            b"\1\1m\2" + group,
            b"\1\0\1" + group,
            b"",
        ]
        bodies = [varint(len(address)) + address + b"payload" for address in addresses]
        bodies += [varint(1 << 20) + addresses[2], varint((1 << 64) - 1), b"", b"\x80"]
        for level in (Level.FIFO, Level.AGREED, Level.SAFE):
            self.say(*(self.frame(level, FrameType.GROUP, body) for body in bodies))
        for node in self.nodes:
            self.assertEqual(self.counter(node, "peer_violations"), 3 * len(bodies))
        self.assert_goes_on()

    def test_other_frames(self) -> None:
        """Changes, directories, private and undeliverable frames with broken bodies are counted and change nothing."""
        bodies = (b"", b"\0", b"\1\1\1c\1\5g", b"\4\1\1c\1\1g", b"\xff" * 20)
        types = (FrameType.CHANGE, FrameType.PRIVATE, FrameType.GONE, FrameType.DIRECTORY)
        for frame_type in types:
            self.say(*(self.frame(Level.AGREED, frame_type, body) for body in bodies))
        for node in (self.nodes[0], self.nodes[2]):
            self.assertGreaterEqual(self.counter(node, "peer_violations"), len(types) * len(bodies) - len(bodies))
        self.assert_goes_on()

    def test_unknown_types_and_levels(self) -> None:
        """Frames of a type or level that there is not are counted; those behind them in the stream are delivered."""
        heads = [kind for kind in range(128) if kind & 7 > Level.SAFE or kind >> 3 > max(FrameType) + 1]
        self.say(*(bytes([kind]) + varint(4) + b"\0\0\0\0" for kind in heads))
        self.assertEqual(self.counter(self.nodes[0], "peer_violations"), len(heads))
        self.assert_goes_on()
