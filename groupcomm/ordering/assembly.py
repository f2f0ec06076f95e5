"""Packets of one stream to frames: in number order, and RELIABLE ones also ahead of a gap."""

from __future__ import annotations

from groupcomm.errors import MalformedPacket
from groupcomm.limits import MAX_FRAME_BYTES
from groupcomm.ordering.frames import Frame, parse_frames
from groupcomm.wire.packets import FIRST, HEADER_BYTES, LAST, STAMP_POSITION, STAMPED, Kind


def packet_body(packet: bytes) -> bytes:
    """What a data packet carries behind its header and its stamp."""
    return packet[HEADER_BYTES + (STAMP_POSITION.size if packet[2] & STAMPED else 0) :]


class Assembly:
    """The half-received frame of one stream. Bound: ``MAX_FRAME_BYTES``; a longer one is dropped by all alike.

    Attributes:
        first: the packet the half-received frame begins in; 0 if there is none.
    """

    __slots__ = ("_early", "_parts", "_size", "_stream", "first")

    def __init__(self, stream: int) -> None:
        self._stream = stream
        self._parts: list[bytes] = []
        self._size = 0
        self._early: set[int] = set()
        self.first = 0

    def packet(self, number: int, packet: bytes) -> list[Frame]:
        """The frames that end in packet ``number``, the next data packet of the stream.

        Raises:
            MalformedPacket: the frame is broken; what was collected of it is dropped.
        """
        flags = packet[2]
        body = packet_body(packet)
        if flags & FIRST:
            self._drop()
            if flags & LAST:
                if number in self._early:
                    self._early.discard(number)
                    return []
                return parse_frames(self._stream, number, number, body)
            self.first = number
        elif not self.first:
            return []
        self._size += len(body)
        if self._size > MAX_FRAME_BYTES:
            self._drop()
            raise MalformedPacket("a frame larger than allowed")
        self._parts.append(body)
        if not flags & LAST:
            return []
        first, data = self.first, b"".join(self._parts)
        self._drop()
        if first in self._early:
            self._early.discard(first)
            return []
        return parse_frames(self._stream, first, number, data)

    def _drop(self) -> None:
        self._parts = []
        self._size = 0
        self.first = 0

    def ahead(self, number: int, held: dict[int, bytes]) -> list[Frame]:
        """The RELIABLE frames that packet ``number``, which lies beyond a gap, completes; each is given out once."""
        first = number
        while not held[first][2] & FIRST:
            first -= 1
            if first not in held:
                return []
        last = number
        while not held[last][2] & LAST:
            last += 1
            if last not in held:
                return []
        if first in self._early or last - first > MAX_FRAME_BYTES // 1000:
            return []
        frames = parse_frames(
            self._stream,
            first,
            last,
            b"".join(packet_body(held[at]) for at in range(first, last + 1) if held[at][1] == Kind.DATA),
        )
        self._early.add(first)
        return frames
