"""The frame: the unit that a session hands over and that every node delivers, and its form on the wire.

A frame begins with a byte of type and level, its length, and what its level needs: the last group change its node had
delivered, and from CAUSAL on what its node had delivered altogether. The rest depends on the type.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence

from groupcomm.errors import MalformedPacket
from groupcomm.events import Level
from groupcomm.limits import MAX_FRAME_BYTES, MAX_NODES
from groupcomm.wire.codec import Reader, varint


class FrameType(enum.IntEnum):
    """What a frame is for."""

    GROUP = 0
    """Messages to groups."""
    PRIVATE = 1
    """Messages to one member."""
    CHANGE = 2
    """A session joins or leaves groups."""
    DIRECTORY = 3
    """A node's own sessions and their groups, first in a view whose members come from different views."""
    GONE = 4
    """A private frame found no such member."""
    KEY = 5
    """A step of a key rotation."""
    EXPEL = 6
    """A node is expelled."""


_LEVEL = 0x07
_TYPE_SHIFT = 3
_SELF_DISCARD = 0x80
_LEVELS = tuple(Level)
_TYPES = tuple(FrameType)


_AGREED = Level.AGREED
_CAUSAL = Level.CAUSAL
_GROUP = FrameType.GROUP
_AGREED_TO_GROUPS = _AGREED | _GROUP << _TYPE_SHIFT
_RELIABLE = Level.RELIABLE

_MOST_ALONE_BYTES = 32
_MOST_ALONE_SHIFT = 56
"""Up to where the numbers of a frame that comes alone are looked for, and how long each may be: else the long way."""


class Outgoing:
    """A frame that waits to be sent, or is being sent.

    Attributes:
        session: who sends it; 0 for the node itself.
        ticket: what the session was told; 0 if nobody waits for it.
        type: what it is for.
        level: its service level.
        address: how its body begins, if that is kept apart; else empty.
        body: the part that does not depend on when it is sent.
        self_discard: the sending session does not get it.
        stable: somebody waits until it is delivered everywhere.
    """

    __slots__ = ("address", "body", "level", "self_discard", "session", "stable", "ticket", "type")

    def __init__(
        self,
        session: int,
        ticket: int,
        frame_type: FrameType,
        level: Level,
        body: bytes,
        *,
        address: bytes = b"",
        self_discard: bool = False,
        stable: bool = False,
    ) -> None:
        self.address = address
        self.session = session
        self.ticket = ticket
        self.type = frame_type
        self.level = level
        self.body = body
        self.self_discard = self_discard
        self.stable = stable

    @property
    def size(self) -> int:
        """Its bytes, without what depends on when it is sent."""
        return len(self.address) + len(self.body)

    def head(self, group_position: int, lamport: int, ordered: int, past: Sequence[tuple[int, int]]) -> bytes:
        """What goes before ``body`` on the wire, the address included, as it is when the first packet is numbered.

        Args:
            group_position: place in the order of the last group change its node has delivered.
            lamport: the frame's Lamport time.
            ordered: how many ordered frames its node has delivered.
            past: (stream, how many frames of it at FIFO or above are delivered) beyond what ``ordered`` implies.
        """
        level, head = self.level, self.address
        if level >= _CAUSAL:
            for stream, count in reversed(past):
                head = varint(stream) + varint(count) + head
            head = b"".join((varint(group_position), varint(lamport), varint(ordered), varint(len(past)), head))
        elif level >= _RELIABLE:
            head = varint(group_position) + head
        first = level | self.type << _TYPE_SHIFT | (_SELF_DISCARD if self.self_discard else 0)
        return b"".join((bytes((first,)), varint(len(head) + len(self.body)), head))

    def encode(self, group_position: int, lamport: int, ordered: int, past: Sequence[tuple[int, int]]) -> bytes:
        """The whole frame as it goes into packets; the arguments are those of ``head``."""
        return self.head(group_position, lamport, ordered, past) + self.body


class Frame:
    """A frame that has come.

    Attributes:
        stream: the index of its sender.
        first: the number of the packet it begins in.
        last: the number of the packet it ends in.
        level: its service level.
        type: what it is for.
        self_discard: the sending session does not want it.
        group_position: it waits until this place in the order is delivered.
        lamport: its Lamport time (Lamport 1978): 1 more than that of all its node had sent or delivered.
        ordered: it waits until this many ordered frames are delivered.
        past: and until so many frames of these streams are delivered.
        ordinal: its number among the stream's frames at FIFO or above, from 1; 0 for a RELIABLE one.
        position: its place in the total order; 0 until it has one.
        address: how the body begins, if it is this node's own frame and keeps that apart; else None.
    """

    __slots__ = (
        "_data",
        "_end",
        "_start",
        "address",
        "first",
        "group_position",
        "lamport",
        "last",
        "level",
        "ordered",
        "ordinal",
        "past",
        "position",
        "self_discard",
        "stream",
        "type",
    )

    def __init__(self, stream: int, first: int, last: int, kind: int, reader: Reader) -> None:
        self.stream = stream
        self.first = first
        self.last = last
        try:
            self.level = _LEVELS[kind & _LEVEL]
            self.type = _TYPES[kind >> _TYPE_SHIFT & 0x0F]
        except IndexError:
            raise MalformedPacket(f"frame of unknown type or level {kind:#x}") from None
        self.self_discard = bool(kind & _SELF_DISCARD)
        self.ordinal = self.position = self.lamport = self.ordered = self.group_position = 0
        self.past: Sequence[tuple[int, int]] = ()
        self.address: bytes | None = None
        if self.level >= _RELIABLE:
            self.group_position = reader.number()
        if self.level >= _CAUSAL:
            self.lamport = reader.number()
            self.ordered = reader.number()
            count = reader.number(MAX_NODES)
            if count:
                self.past = tuple((reader.number(MAX_NODES - 1), reader.number()) for _ in range(count))
        self._data, self._start, self._end = reader.left()

    @property
    def body(self) -> bytes:
        """The rest."""
        return (self.address or b"") + self._data[self._start : self._end]

    @property
    def size(self) -> int:
        """How many bytes that is, without an address that is kept apart."""
        return self._end - self._start

    def addressed(self, limit: int) -> tuple[bytes, bytes]:
        """Of a body that begins with an address and its length: the address, length included, and what follows.

        Raises:
            MalformedPacket: the address is longer than the body, or than ``limit`` bytes.
        """
        if self.address is not None:
            return self.address, self._data
        data, start, end = self._data, self._start, self._end
        if start < end and data[start] < 0x80 and limit >= 0x80:  # the length is one byte: nearly always
            at = start + 1 + data[start]
            if at <= end:
                return data[start:at], data[at:end]
        reader = Reader(data, start, end)
        reader.part(reader.number(limit))
        return data[start : reader.at], data[reader.at : end]

    @classmethod
    def sent(
        cls,
        stream: int,
        frame: Outgoing,
        group_position: int,
        lamport: int,
        ordered: int,
        past: Sequence[tuple[int, int]],
    ) -> Frame:
        """This node's own copy of a frame that it sends; its packets have no numbers yet."""
        self = cls.__new__(cls)
        self.stream = stream
        self.first = self.last = 0
        self.level = frame.level
        self.type = frame.type
        self.self_discard = frame.self_discard
        self.ordinal = self.position = self.lamport = self.ordered = self.group_position = 0
        self.past = ()
        if frame.level >= _RELIABLE:
            self.group_position = group_position
        if frame.level >= _CAUSAL:
            self.lamport, self.ordered, self.past = lamport, ordered, past
        self.address = frame.address or None
        self._data, self._start, self._end = frame.body, 0, len(frame.body)
        return self


def parse_frames(stream: int, first: int, last: int, data: bytes) -> list[Frame]:
    """The frames in ``data``, which is the body of one packet or of the packets of one frame.

    Raises:
        MalformedPacket: the lengths do not add up, or a field is out of range.
    """
    frames = []
    at, end = 0, len(data)
    while at < end:
        kind = data[at]
        reader = Reader(data, at + 1)
        size = reader.number(MAX_FRAME_BYTES)
        at = reader.at + size
        if at > end:
            raise MalformedPacket(f"a frame ends {at - end} bytes early")
        reader.end_at(at)
        frames.append(Frame(stream, first, last, kind, reader))
    return frames


def parse_alone(stream: int, number: int, packet: bytes, at: int) -> Frame | None:
    """The frame of a packet that has one group frame at AGREED and nothing else, from ``at`` on.

    What nearly every small packet is; None if this one is not, whatever else it may be.
    """
    end = len(packet)
    if at >= end or packet[at] != _AGREED_TO_GROUPS:
        return None
    numbers: list[int] = []
    begins, number_so_far, shift = at + 1, 0, 0
    for at in range(begins, min(end, begins + _MOST_ALONE_BYTES)):
        byte = packet[at]
        if byte >= 0x80:
            number_so_far |= (byte & 0x7F) << shift
            shift += 7
            if shift > _MOST_ALONE_SHIFT:
                return None
            continue
        numbers.append(number_so_far | byte << shift)
        if len(numbers) == 1:
            begins = at + 1
        elif len(numbers) == 5:
            break
        number_so_far = shift = 0
    if len(numbers) < 5 or begins + numbers[0] != end or numbers[4]:
        return None
    frame = Frame.__new__(Frame)
    frame.group_position = numbers[1]
    frame.lamport = numbers[2]
    frame.ordered = numbers[3]
    frame.stream = stream
    frame.first = frame.last = number
    frame.level = _AGREED
    frame.type = _GROUP
    frame.self_discard = False
    frame.ordinal = frame.position = 0
    frame.past = ()
    frame.address = None
    frame._data, frame._start, frame._end = packet, at + 1, end
    return frame
