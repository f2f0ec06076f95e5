"""Packets of one stream to frames: in number order, and RELIABLE ones also ahead of a gap."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from groupcomm.errors import MalformedPacket
from groupcomm.limits import MAX_FRAME_BYTES
from groupcomm.ordering.frames import Frame, parse_frames
from groupcomm.wire.packets import FIRST, HEADER_BYTES, LAST, STAMP_POSITION, STAMPED, Kind

_DATA = Kind.DATA


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

    def packet(self, number: int, flags: int, body: bytes) -> list[Frame]:
        """The frames that end in packet ``number``, the next data packet of the stream.

        Args:
            number: its number.
            flags: of its header.
            body: what it carries behind its header and its stamp.

        Raises:
            MalformedPacket: the frame is broken; what was collected of it is dropped.
        """
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
        self.middle((body,))
        if not flags & LAST:
            return []
        first, data = self.first, b"".join(self._parts)
        self._drop()
        if first in self._early:
            self._early.discard(first)
            return []
        return parse_frames(self._stream, first, number, data)

    def middle(self, bodies: Sequence[bytes]) -> None:
        """What the next packets carry, in none of which a frame begins or ends; raises as ``packet``."""
        if not self.first:
            return
        self._size += sum(map(len, bodies))
        if self._size > MAX_FRAME_BYTES:
            self._drop()
            raise MalformedPacket("a frame larger than allowed")
        self._parts += bodies

    def _drop(self) -> None:
        self._parts = []
        self._size = 0
        self.first = 0

    def ahead(self, number: int, packet: Callable[[int], bytes | None]) -> list[Frame]:
        """The RELIABLE frames that packet ``number``, which lies beyond a gap, completes; each is given out once."""
        before, parts = number, []
        while (data := packet(before)) is not None:
            parts.append(data)
            if data[2] & FIRST:
                break
            before -= 1
        else:
            return []
        parts.reverse()
        last = number
        while not parts[-1][2] & LAST:
            last += 1
            data = packet(last)
            if data is None:
                return []
            parts.append(data)
        if before in self._early or last - before > MAX_FRAME_BYTES // 1000:
            return []
        frames = parse_frames(
            self._stream, before, last, b"".join(packet_body(part) for part in parts if part[1] == _DATA)
        )
        self._early.add(before)
        return frames
