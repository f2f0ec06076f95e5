"""Packets inside a view: the header that every packet has, and the bodies of the kinds that belong to a view."""

from __future__ import annotations

import enum
import struct
from collections.abc import Sequence
from functools import lru_cache

from attrs import frozen

from groupcomm.errors import MalformedPacket
from groupcomm.limits import MAX_FRAME_BYTES, MAX_NACK_RANGES, MAX_NODES
from groupcomm.wire.codec import Reader, Writer

VERSION = 1
HEADER = struct.Struct("!BBBBQHHI")
HEADER_BYTES = HEADER.size
STAMP_POSITION = struct.Struct("!I")
NO_SENDER = 0xFFFF

_HEAD_BYTES = HEADER_BYTES - 4
_BEGIN = struct.Struct("!BBBBQHH")


class Kind(enum.IntEnum):
    """What a packet is: 1 to 7 are numbered in a stream, 8 to 15 belong to a view, 16 on to the cluster."""

    DATA = 1
    STAMP = 2
    HANDOVER = 3
    TAKE = 4
    ASK = 5
    GRANT = 6
    UNRELIABLE = 8
    NACK = 9
    STATUS = 10
    TAIL = 11
    SUMMARY = 12
    BEACON = 16
    PROBE = 17
    PROBE_ACK = 18
    JOIN = 19
    RECOVER = 20
    ANSWER = 21
    PLAN = 22
    READY = 23
    INSTALL = 24
    WHO = 25
    GREETING = 26
    PASSPORT = 27
    PIECE = 28
    INQUIRY = 30
    VOUCHER = 31


_VERSION_AND_KIND = {kind: bytes([VERSION, kind]) for kind in Kind}

LAST_NUMBERED = Kind.GRANT
LAST_OF_VIEW = Kind.SUMMARY

FIRST = 0x01
"""A frame begins with this packet."""
LAST = 0x02
"""A frame ends with this packet. FIRST and LAST together: one or several whole frames."""
STAMPED = 0x04
"""The sender orders its own frames that end here: the first position follows the header."""
WANTS_STATUS = 0x08
"""Whoever has everything up to here says so at once."""
UNORDERED = 0x10
"""Only RELIABLE frames inside: they need not wait for earlier packets."""
SLOTTED = 0x20
"""The bytes count against the slot of a large frame, not against the sender's grant."""
SEALED = 0x80
"""The body is sealed under the key epoch of the header; without that key the packet is dropped."""


class Header:
    """The first 20 bytes of every packet.

    Attributes:
        kind: see ``Kind``; unknown kinds are dropped and counted.
        flags: meaning depends on the kind.
        key_epoch: under which key the body is sealed; 0 without a seal.
        digest: of the view (kinds up to 15) or of the cluster.
        sender: the index of the stream's owner in the view; ``NO_SENDER`` outside a view.
        part: for messages cut into datagrams: index in the high, count in the low byte; else 0.
        sequence: the low 32 bits of the packet number, or the message number.
    """

    __slots__ = ("digest", "flags", "key_epoch", "kind", "part", "sender", "sequence")

    def __init__(self, data: bytes) -> None:
        if len(data) < HEADER_BYTES:
            raise MalformedPacket(f"{len(data)} bytes are no header")
        (version, self.kind, self.flags, self.key_epoch, self.digest, self.sender, self.part, self.sequence) = (
            HEADER.unpack_from(data)
        )
        if version != VERSION:
            raise MalformedPacket(f"version {version}, not {VERSION}")


def encode(
    kind: Kind, digest: int, sender: int, sequence: int, body: bytes = b"", *, flags: int = 0, part: int = 0
) -> bytes:
    """A whole packet; ``sequence`` is cut to its low 32 bits."""
    return HEADER.pack(VERSION, kind, flags, 0, digest, sender, part, sequence & 0xFFFFFFFF) + body


class Packets:
    """Data packets of one stream, kept together: one behind the other, or in the parts that they are made of.

    What came in the clear or is to leave so is kept joined; what was opened or is to be sealed is kept in parts, and
    joined only for who asks.

    Attributes:
        size_bytes: of each but the last, which may be shorter.
    """

    __slots__ = ("_data", "_parts", "size_bytes")

    def __init__(self, size_bytes: int, *, data: bytes | None = None, parts: Parts | None = None) -> None:
        self.size_bytes = size_bytes
        self._data = data
        self._parts = parts

    @classmethod
    def of(cls, digest: int, sender: int, flags: bytes, numbers: Sequence[int], bodies: Sequence[bytes]) -> Packets:
        """Those with these flags, numbers and bodies; all bodies but the last have one size."""
        return cls(HEADER_BYTES + len(bodies[0]), parts=Parts(digest, sender, flags, numbers, bodies))

    @property
    def data(self) -> bytes:
        """All of them, one behind the other."""
        if self._data is None:
            assert self._parts is not None
            self._data, self._parts = self._parts.join(), None
        return self._data

    @property
    def parts(self) -> Parts | None:
        """What they are made of; None if they are joined."""
        return self._parts

    @property
    def count(self) -> int:
        """How many there are."""
        if self._parts is not None:
            return len(self._parts.flags)
        return -(-len(self.data) // self.size_bytes)

    def packet(self, index: int) -> bytes:
        """One of them."""
        if self._parts is not None:
            return self._parts.packet(index)
        at = index * self.size_bytes
        return self.data[at : at + self.size_bytes]

    def some(self, begin: int, end: int) -> Packets:
        """Those from index ``begin`` up to ``end``, without the others."""
        return Packets(self.size_bytes, data=b"".join([self.packet(index) for index in range(begin, end)]))


class Parts:
    """What data packets of one stream are made of.

    Attributes:
        digest: of the view.
        sender: the index of the stream's owner.
        flags: one byte for each packet.
        numbers: of each; the low 32 bits count.
        bodies: of each; all but the last have one size.
    """

    __slots__ = ("bodies", "digest", "flags", "numbers", "sender")

    def __init__(self, digest: int, sender: int, flags: bytes, numbers: Sequence[int], bodies: Sequence[bytes]) -> None:
        self.digest = digest
        self.sender = sender
        self.flags = flags
        self.numbers = numbers
        self.bodies = bodies

    @property
    def low_numbers(self) -> Sequence[int]:
        """The low 32 bits of the numbers."""
        numbers = self.numbers
        return numbers if numbers[-1] < 1 << 32 else [number & 0xFFFFFFFF for number in numbers]

    def begins(self) -> dict[int, bytes]:
        """For each of the flags what goes before the number."""
        return {flag: _head(flag, self.digest, self.sender) for flag in set(self.flags)}

    def join(self) -> bytes:
        """The packets, one behind the other."""
        count, bodies = len(self.bodies), self.bodies
        fields: list[bytes | int] = [0] * (3 * count)
        fields[0::3] = map(self.begins().__getitem__, self.flags)
        fields[1::3] = self.low_numbers
        fields[2::3] = bodies
        return _run_format(count, len(bodies[0]), len(bodies[-1])).pack(*fields)

    def packet(self, index: int) -> bytes:
        """One of the packets."""
        flags, number = self.flags[index], self.numbers[index]
        return encode(Kind.DATA, self.digest, self.sender, number, self.bodies[index], flags=flags)


@lru_cache(maxsize=256)
def _run_format(count: int, body_bytes: int, last_body_bytes: int) -> struct.Struct:
    return struct.Struct("!" + f"{_HEAD_BYTES}sI{body_bytes}s" * (count - 1) + f"{_HEAD_BYTES}sI{last_body_bytes}s")


@lru_cache(maxsize=1024)
def _head(flags: int, digest: int, sender: int) -> bytes:
    """What goes before the number in a data packet."""
    return HEADER.pack(VERSION, Kind.DATA, flags, 0, digest, sender, 0, 0)[:_HEAD_BYTES]


def is_data_run(data: bytes, size_bytes: int) -> bool:
    """Whether the first of these packets is one of data in the clear."""
    if min(size_bytes, len(data)) <= HEADER_BYTES:
        return False
    return data[:2] == _VERSION_AND_KIND[Kind.DATA] and not data[2] & SEALED


class ArrivedRun:
    """Data packets of one stream that came at once.

    Attributes:
        digest: of the view.
        sender: the index of the stream's owner.
        flags: one byte for each.
        numbers: the low 32 bits of the number of each.
        bodies: what follows the header of each.
        packets: they themselves, to be kept.
    """

    __slots__ = ("bodies", "digest", "flags", "numbers", "packets", "sender")

    def __init__(
        self, begin: bytes, flags: bytes, numbers: Sequence[int], bodies: Sequence[bytes], packets: Packets | None
    ) -> None:
        _, _, _, _, self.digest, self.sender, _ = _BEGIN.unpack(begin)
        self.flags = flags
        self.numbers = numbers
        self.bodies = bodies
        self.packets = packets or Packets.of(self.digest, self.sender, flags, numbers, bodies)


def split_run(data: bytes, size_bytes: int) -> ArrivedRun | None:
    """Data packets of one stream, one behind the other.

    Args:
        data: all of them.
        size_bytes: of each but the last, which may be shorter; more than a header.

    Returns:
        The packets; None if they are anything else.
    """
    count, last_bytes = -(-len(data) // size_bytes), (len(data) - 1) % size_bytes + 1
    if last_bytes <= HEADER_BYTES:
        return None
    fields = _run_format(count, size_bytes - HEADER_BYTES, last_bytes - HEADER_BYTES).unpack(data)
    begins = fields[0::3]
    flags = common_flags(begins)
    if flags is None or any(flag & SEALED for flag in set(flags)):
        return None
    return ArrivedRun(begins[0], flags, fields[1::3], fields[2::3], Packets(size_bytes, data=data))


def common_flags(begins: Sequence[bytes]) -> bytes | None:
    """The flags of packets that begin like this, up to the number; None if anything but flags differs."""
    begin = begins[0]
    if begins.count(begin) == len(begins):
        return begin[2:3] * len(begins)
    if any(other[:2] != begin[:2] or other[3:] != begin[3:] for other in set(begins)):
        return None
    return bytes([other[2] for other in begins])


def widen(low: int, near: int) -> int:
    """The 64-bit number whose low 32 bits are ``low`` and that lies closest to ``near`` (RFC 1982's idea)."""
    difference = (low - near) & 0xFFFFFFFF
    number = near + difference
    return number - 0x1_0000_0000 if difference >= 0x8000_0000 and number >= 0x1_0000_0000 else number


@frozen
class Range:
    """Packets ``first`` to ``last``, both included."""

    first: int
    last: int


@frozen
class StampRun:
    """``count`` frames of a stream, up to packet ``up_to``, take the next positions."""

    stream: int
    up_to: int
    count: int


@frozen
class Stamp:
    """The order of some frames.

    Attributes:
        position: of the first frame; positions count the AGREED and SAFE frames of a view from 1.
        runs: at least one, in order.
    """

    position: int
    runs: tuple[StampRun, ...]

    def encode(self) -> bytes:
        """The body."""
        writer = Writer().number(self.position).number(len(self.runs))
        for run in self.runs:
            writer.number(run.stream).number(run.up_to).number(run.count)
        return writer.done()

    @classmethod
    def decode(cls, reader: Reader) -> Stamp:
        """The value of a body."""
        position = reader.number()
        runs = []
        for _ in range(reader.number(MAX_NODES * 4)):
            stream = reader.number(MAX_NODES)
            up_to = reader.number()
            runs.append(StampRun(stream, up_to, reader.number(1 << 32)))
        reader.finish()
        return cls(position, tuple(runs))


@frozen
class Handover:
    """The sequencer's last word: everything up to ``position`` is placed, ``to`` goes on."""

    position: int
    to: int

    def encode(self) -> bytes:
        """The body."""
        return Writer().number(self.position).number(self.to).done()

    @classmethod
    def decode(cls, reader: Reader) -> Handover:
        """The value of a body."""
        position = reader.number()
        to = reader.number(MAX_NODES)
        reader.finish()
        return cls(position, to)


@frozen
class Take:
    """The new sequencer's first word: ``position`` is the next that it places."""

    position: int

    def encode(self) -> bytes:
        """The body."""
        return Writer().number(self.position).done()

    @classmethod
    def decode(cls, reader: Reader) -> Take:
        """The value of a body."""
        position = reader.number()
        reader.finish()
        return cls(position)


@frozen
class Ask:
    """A node asks for a slot for a large frame of ``size`` bytes."""

    size: int

    def encode(self) -> bytes:
        """The body."""
        return Writer().number(self.size).done()

    @classmethod
    def decode(cls, reader: Reader) -> Ask:
        """The value of a body."""
        size = reader.number(MAX_FRAME_BYTES)
        reader.finish()
        return cls(size)


@frozen
class Grant:
    """The sequencer gives the slot that ``to`` asked for in packet ``ask`` of its stream."""

    to: int
    ask: int

    def encode(self) -> bytes:
        """The body."""
        return Writer().number(self.to).number(self.ask).done()

    @classmethod
    def decode(cls, reader: Reader) -> Grant:
        """The value of a body."""
        to = reader.number(MAX_NODES)
        ask = reader.number()
        reader.finish()
        return cls(to, ask)


@frozen
class Nack:
    """Packets of one stream that the sender of this lacks; ``asked`` is the index of the node that is to answer."""

    stream: int
    asked: int
    ranges: tuple[Range, ...]

    def encode(self) -> bytes:
        """The body: each range as the distance from the one before and its length."""
        writer = Writer().number(self.stream).number(self.asked).number(len(self.ranges))
        at = 0
        for item in self.ranges:
            writer.number(item.first - at).number(item.last - item.first)
            at = item.last
        return writer.done()

    @classmethod
    def decode(cls, reader: Reader) -> Nack:
        """The value of a body."""
        stream, asked = reader.number(MAX_NODES), reader.number(MAX_NODES)
        ranges = read_ranges(reader, 0, MAX_NACK_RANGES)
        reader.finish()
        return cls(stream, asked, ranges)


def read_ranges(reader: Reader, at: int, limit: int) -> tuple[Range, ...]:
    """Ascending ranges, each as the distance from the end of the one before and its length."""
    ranges = []
    for _ in range(reader.number(limit)):
        first = at + reader.number(1 << 48)
        at = first + reader.number(1 << 32)
        ranges.append(Range(first, at))
    return tuple(ranges)


@frozen
class StatusEntry:
    """One stream: everything up to ``received`` is there, everything up to ``delivered`` is delivered."""

    stream: int
    received: int
    delivered: int


@frozen
class Status:
    """What a node has of the streams that moved since its last status.

    Attributes:
        room_bytes: free for received and not yet delivered data.
        entries: by stream.
    """

    room_bytes: int
    entries: tuple[StatusEntry, ...]

    def encode(self) -> bytes:
        """The body."""
        writer = Writer().number(self.room_bytes).number(len(self.entries))
        for entry in self.entries:
            writer.number(entry.stream).number(entry.received).number(entry.received - entry.delivered)
        return writer.done()

    @classmethod
    def decode(cls, reader: Reader) -> Status:
        """The value of a body."""
        room_bytes = reader.number()
        entries = []
        for _ in range(reader.number(MAX_NODES)):
            stream = reader.number(MAX_NODES)
            received = reader.number()
            entries.append(StatusEntry(stream, received, received - reader.number(received)))
        reader.finish()
        return cls(room_bytes, tuple(entries))


@frozen
class SummaryEntry:
    """One stream: every node of the view has received it up to ``stable`` and delivered it up to ``delivered``."""

    stream: int
    stable: int
    delivered: int


@frozen
class Summary:
    """What the statuses of all nodes together say of the streams of which that has moved.

    Attributes:
        room_bytes: the least that any node has free for received and not yet delivered data.
        entries: by stream.
    """

    room_bytes: int
    entries: tuple[SummaryEntry, ...]

    def encode(self) -> bytes:
        """The body."""
        writer = Writer().number(self.room_bytes).number(len(self.entries))
        for entry in self.entries:
            writer.number(entry.stream).number(entry.stable).number(entry.stable - entry.delivered)
        return writer.done()

    @classmethod
    def decode(cls, reader: Reader) -> Summary:
        """The value of a body."""
        room_bytes = reader.number()
        entries = []
        for _ in range(reader.number(MAX_NODES)):
            stream = reader.number(MAX_NODES)
            stable = reader.number()
            entries.append(SummaryEntry(stream, stable, stable - reader.number(stable)))
        reader.finish()
        return cls(room_bytes, tuple(entries))


@frozen
class Tail:
    """The highest number its sender has used; ``wanted`` is the map of those who have not reported it."""

    highest: int
    wanted: int

    def encode(self) -> bytes:
        """The body."""
        size = -(-self.wanted.bit_length() // 8)
        return Writer().number(self.highest).number(size).bits(self.wanted, 8 * size).done()

    @classmethod
    def decode(cls, reader: Reader) -> Tail:
        """The value of a body."""
        highest = reader.number()
        wanted = reader.bits(8 * reader.number(MAX_NODES // 8))
        reader.finish()
        return cls(highest, wanted)
