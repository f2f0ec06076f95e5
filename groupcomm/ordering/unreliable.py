"""Frames outside the stream: multicast once, not repaired, not ordered; what comes twice is dropped.

Each has a number of its own, by which a receiver knows a bounded number of the latest.
"""

from __future__ import annotations

from groupcomm.errors import MalformedPacket
from groupcomm.events import Level
from groupcomm.ordering.frames import Frame, Outgoing
from groupcomm.wire.codec import Reader
from groupcomm.wire.packets import HEADER_BYTES, Kind, encode, widen

_REMEMBERED = 1024


class Unreliable:
    """The unreliable frames of one view."""

    __slots__ = ("_digest", "_me", "_seen", "_sent")

    def __init__(self, me: int, digest: int, size: int) -> None:
        self._me = me
        self._digest = digest
        self._sent = 0
        self._seen: list[tuple[int, int]] = [(0, 0)] * size

    def packet(self, frame: Outgoing) -> bytes:
        """The packet of a frame to send."""
        self._sent += 1
        return encode(Kind.UNRELIABLE, self._digest, self._me, self._sent, frame.encode(0, 0, 0, ()))

    def came(self, sender: int, sequence: int, packet: bytes) -> Frame | None:
        """The frame of a packet; None if it came before, or is too old to tell.

        Raises:
            MalformedPacket: it is no such packet.
        """
        highest, seen = self._seen[sender]
        number = widen(sequence, highest)
        if number > highest:
            shift = min(number - highest, _REMEMBERED)
            seen = (seen << shift | 1) & (1 << _REMEMBERED) - 1
            highest = number
        elif highest - number >= _REMEMBERED or seen >> (highest - number) & 1:
            return None
        else:
            seen |= 1 << (highest - number)
        reader = Reader(packet, HEADER_BYTES)
        kind = reader.u8()
        frame = Frame(sender, 0, 0, kind, Reader(reader.raw(reader.number(len(packet)))))
        reader.finish()
        if frame.level != Level.UNRELIABLE:
            raise MalformedPacket("a reliable frame outside the stream")
        self._seen[sender] = highest, seen
        return frame
