"""Frames to numbered packets: the sending half of one view.

Decides what the next packet of this node's stream carries, and when one may leave. A packet gets its number the moment
it leaves; a frame that has not left whole when the view ends is taken back and sent anew in the next.
"""

from __future__ import annotations

from groupcomm.events import Level
from groupcomm.limits import LARGE_FRAME_BYTES, PACKET_OVERHEAD_BYTES
from groupcomm.ordering.frames import FrameType, Outgoing
from groupcomm.ordering.release import Release
from groupcomm.packing import cut_frame
from groupcomm.reliability.flow import Window
from groupcomm.reliability.outbox import Outbox
from groupcomm.wire.packets import FIRST, HEADER_BYTES, LAST, SLOTTED, STAMP_POSITION, UNORDERED, WANTS_STATUS


class PacketPlan:
    """The next data packet before it has a number.

    Attributes:
        body: what follows the header and the stamp.
        flags: the header's.
        ends: the frames that end in it.
        ordered_count: how many of them are AGREED or SAFE.
    """

    __slots__ = ("body", "ends", "flags", "ordered_count")

    def __init__(self, body: bytes, flags: int, ends: list[Outgoing]) -> None:
        self.body = body
        self.flags = flags
        self.ends = ends
        self.ordered_count = sum(frame.level >= Level.AGREED for frame in ends)


class Sending:
    """What of the outbox is on its way into packets.

    Attributes:
        group_position: place in the order of the last group change this node has delivered.
        ask_for: the size of a large frame that needs a slot; 0 if none does.
        granted: whether this node holds a slot it has not begun to use.
    """

    __slots__ = (
        "_current",
        "_me",
        "_outbox",
        "_parts",
        "_peeked",
        "_release",
        "_room",
        "_slotted",
        "_unflagged",
        "_window",
        "ask_for",
        "granted",
        "group_position",
    )

    def __init__(self, me: int, outbox: Outbox[Outgoing], release: Release, window: Window, mtu_bytes: int) -> None:
        self._me = me
        self._outbox = outbox
        self._release = release
        self._window = window
        self._room = mtu_bytes - HEADER_BYTES - STAMP_POSITION.size
        self._current: Outgoing | None = None
        self._parts: list[bytes] = []
        self._peeked: tuple[Outgoing, bytes] | None = None
        self._slotted = False
        self._unflagged = 0
        self.group_position = 0
        self.ask_for = 0
        self.granted = False

    @property
    def _large_bytes(self) -> int:
        """From which size on a frame needs a slot: it could not be delivered under the grant as it is now."""
        return min(LARGE_FRAME_BYTES, self._window.grant_bytes // 2)

    @property
    def pending(self) -> bool:
        """Whether anything waits to be sent."""
        return bool(self._parts or self._peeked or self._outbox)

    def _may_go(self, frame: Outgoing) -> bool:
        size = len(frame.body)
        if size < self._large_bytes or self.granted:
            return True
        self.ask_for = size
        return False

    def _next_frame(self, control_only: bool) -> tuple[Outgoing, bytes] | None:
        if self._peeked is not None:
            peeked, self._peeked = self._peeked, None
            return peeked
        taken = self._outbox.take(self._may_go, control_only=control_only)
        if taken is None:
            return None
        frame = taken[0]
        past: list[tuple[int, int]] = []
        if frame.level >= Level.CAUSAL:
            self._release.lamport += 1
            past = self._release.past(self._me)
        return frame, frame.encode(self.group_position, self._release.lamport, self._release.ordered, past)

    def next_packet(self, *, control_only: bool) -> PacketPlan | None:
        """The next packet, if one may leave.

        Args:
            control_only: no frames of sessions, because the view's directories are not complete.
        """
        window = self._window
        if self._parts:
            return self._next_part() if window.allows(slotted=True) else None
        if not window.allows(slotted=True):
            return None
        taken = self._next_frame(control_only)
        if taken is None:
            return None
        frame, data = taken
        slotted = frame.session == 0 or len(frame.body) >= self._large_bytes
        if not slotted and not window.allows(slotted=False):
            self._peeked = taken
            return None
        self._slotted = slotted
        if len(data) > self._room:
            if frame.session and slotted:
                self.granted = False
                self.ask_for = 0
            self._current = frame
            self._parts = cut_frame(data, self._room)
            self._parts.reverse()
            return self._next_part(FIRST)
        return self._pack(frame, data, control_only)

    def _next_part(self, flags: int = 0) -> PacketPlan:
        frame = self._current
        assert frame is not None
        body = self._parts.pop()
        if frame.level == Level.RELIABLE:
            flags |= UNORDERED
        if self._slotted:
            flags |= SLOTTED
        ends = []
        if not self._parts:
            flags |= LAST
            ends = [frame]
            self._current = None
        return PacketPlan(body, flags | self._wants_status(ends, len(body)), ends)

    def _pack(self, frame: Outgoing, data: bytes, control_only: bool) -> PacketPlan:
        frames, parts, size = [frame], [data], len(data)
        unordered = frame.level == Level.RELIABLE
        while size < self._room:
            taken = self._next_frame(control_only)
            if taken is None:
                break
            frame, data = taken
            if (
                size + len(data) > self._room
                or (frame.level == Level.RELIABLE) != unordered
                or (frame.session == 0) != self._slotted
            ):
                self._peeked = taken
                break
            frames.append(frame)
            parts.append(data)
            size += len(data)
        flags = FIRST | LAST | (UNORDERED if unordered else 0) | (SLOTTED if self._slotted else 0)
        return PacketPlan(b"".join(parts), flags | self._wants_status(frames, size), frames)

    def _wants_status(self, ends: list[Outgoing], size: int) -> int:
        """Ask for a report when somebody waits for it, and four times per window, so that the window can slide."""
        size += PACKET_OVERHEAD_BYTES
        self._unflagged += size
        window = self._window
        if (
            self._unflagged >= window.window_bytes // 4
            or window.outstanding_bytes + size >= window.window_bytes
            or any(frame.stable or frame.level == Level.SAFE for frame in ends)
        ):
            self._unflagged = 0
            return WANTS_STATUS
        return 0

    def take_back(self) -> None:
        """The view ends: what has not left whole is the first of its session again."""
        for frame in (self._peeked[0] if self._peeked else None, self._current):
            if frame is not None and frame.type is not FrameType.DIRECTORY:
                self._outbox.put_back(frame.session, frame, len(frame.body))
        self._peeked = self._current = None
        self._parts = []
