"""Frames to numbered packets: the sending half of one view.

Decides what the next packet of this node's stream carries, and when one may leave. A packet gets its number the moment
it leaves; a frame that has not left whole when the view ends is taken back and sent anew in the next.
"""

from __future__ import annotations

from collections.abc import Sequence

from groupcomm.events import Level
from groupcomm.limits import LARGE_FRAME_BYTES, PACKET_OVERHEAD_BYTES
from groupcomm.ordering.frames import Frame, FrameType, Outgoing
from groupcomm.ordering.release import Release
from groupcomm.reliability.flow import Window
from groupcomm.reliability.outbox import Outbox
from groupcomm.wire.packets import FIRST, HEADER_BYTES, LAST, SLOTTED, STAMP_POSITION, UNORDERED, WANTS_STATUS

_AGREED = Level.AGREED
_CAUSAL = Level.CAUSAL
_DIRECTORY = FrameType.DIRECTORY
_RELIABLE = Level.RELIABLE
_SAFE = Level.SAFE

_MOST_HEAD_BYTES = 56
_MOST_PAST_BYTES = 12
_LEAST_RUN_PACKETS = 8

RUN_PACKETS = 46
"""Packets of the usual size that leave with one system call: what fits one IP datagram's length."""


class PacketPlan:
    """The next data packets before they have numbers: one, or several parts of a frame.

    Attributes:
        bodies: what follows the header and the stamp of each; all but the last are of one size.
        flags: the header's, of each.
        ends: the frames that end in the last of them.
        own: this node's copies of those.
        begun: its copy of the frame that begins with the first of them and does not end in the same packet.
        ordered_count: how many of the frames that end here are AGREED or SAFE.
        slotted: whether the bytes count against a slot.
    """

    __slots__ = ("begun", "bodies", "ends", "flags", "ordered_count", "own", "slotted")

    def __init__(
        self,
        bodies: list[bytes],
        flags: bytearray,
        ends: list[Outgoing],
        own: list[Frame],
        begun: Frame | None,
        slotted: bool,
        ordered_count: int,
    ) -> None:
        self.bodies = bodies
        self.flags = flags
        self.ends = ends
        self.own = own
        self.begun = begun
        self.slotted = slotted
        self.ordered_count = ordered_count


class _Taken:
    """A frame that was taken from the outbox: itself, this node's copy of it, and what goes before its body."""

    __slots__ = ("frame", "head", "own", "size")

    def __init__(self, frame: Outgoing, own: Frame, head: bytes) -> None:
        self.frame = frame
        self.own = own
        self.head = head
        self.size = len(head) + len(frame.body)

    def cut(self, start: int, end: int, room: int) -> list[bytes]:
        """Its bytes from ``start`` to ``end`` in parts of ``room`` bytes; only the last of the frame is shorter."""
        head, data = self.head, self.frame.body
        at, end = start - len(head), end - len(head)
        bodies = []
        while at < 0 and at < end:  # the head is in the first packets, nearly always in the first alone
            bodies.append((head[at:] + data[: max(0, at + room)])[:room])
            at += room
        bodies += [data[begin : begin + room] for begin in range(at, end, room)]
        return bodies


class Sending:
    """What of the outbox is on its way into packets.

    Attributes:
        group_position: place in the order of the last group change this node has delivered.
        ask_for: the size of a large frame that needs a slot; 0 if none does.
        granted: whether this node holds a slot it has not begun to use.
    """

    __slots__ = (
        "_at",
        "_current",
        "_me",
        "_outbox",
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
        self.fit(mtu_bytes)
        self._current: _Taken | None = None
        self._at = 0
        self._peeked: _Taken | None = None
        self._slotted = False
        self._unflagged = 0
        self.group_position = 0
        self.ask_for = 0
        self.granted = False

    def fit(self, mtu_bytes: int) -> None:
        """From now on packets are at most so large, without their seal; a frame that is under way included."""
        self._room = mtu_bytes - HEADER_BYTES - STAMP_POSITION.size

    @property
    def _large_bytes(self) -> int:
        """From which size on a frame needs a slot: it could not be delivered under the grant as it is now."""
        return min(LARGE_FRAME_BYTES, self._window.grant_bytes // 2)

    @property
    def pending(self) -> bool:
        """Whether anything waits to be sent."""
        return bool(self._current or self._peeked or self._outbox)

    def _may_go(self, frame: Outgoing) -> bool:
        size = len(frame.body)
        if size < self._large_bytes or self.granted:
            return True
        self.ask_for = size
        return False

    def _next_frame(self, control_only: bool) -> _Taken | None:
        if self._peeked is not None:
            peeked, self._peeked = self._peeked, None
            return peeked
        taken = self._outbox.take(self._may_go, control_only=control_only)
        if taken is None:
            return None
        frame = taken[0]
        release = self._release
        past: Sequence[tuple[int, int]] = ()
        if frame.level >= _CAUSAL:
            release.lamport += 1
            past = release.past(self._me)
        place = self.group_position, release.lamport, release.ordered, past
        return _Taken(frame, Frame.sent(self._me, frame, *place), frame.head(*place))

    def next_packets(self, *, control_only: bool) -> PacketPlan | None:
        """The next packets, if any may leave.

        Args:
            control_only: no frames of sessions, because the view's directories are not complete.
        """
        window = self._window
        if self._current is not None:
            return self._next_parts() if window.allows(slotted=True) else None
        if not window.allows(slotted=True):
            return None
        taken = self._next_frame(control_only)
        if taken is None:
            return None
        frame = taken.frame
        slotted = frame.session == 0 or len(frame.body) >= self._large_bytes
        if not slotted and not window.allows(slotted=False):
            self._peeked = taken
            return None
        self._slotted = slotted
        if taken.size > self._room:
            if frame.session and slotted:
                self.granted = False
                self.ask_for = 0
            self._current = taken
            self._at = 0
            return self._next_parts()
        return self._pack(taken, control_only)

    def alone(self, frame: Outgoing) -> tuple[bytes, int, Frame] | None:
        """A small ordered frame that leaves ahead of nothing, if it may and fits one packet.

        Returns:
            The packet's body without the place, its flags, and this node's own copy of the frame.
        """
        release = self._release
        most = len(frame.address) + len(frame.body) + _MOST_HEAD_BYTES + _MOST_PAST_BYTES * len(release.delivered)
        if most > self._room or self.pending or not self._window.allows(slotted=False):
            return None
        release.lamport += 1
        place = self.group_position, release.lamport, release.ordered, release.past(self._me)
        data = frame.head(*place) + frame.body
        self._slotted = False
        flags = FIRST | LAST | self._wants_status((frame,), len(data), 1)
        return data, flags, Frame.sent(self._me, frame, *place)

    def _next_parts(self) -> PacketPlan:
        """As many packets of the frame that is being sent as may leave, and as one system call takes."""
        taken, at, room = self._current, self._at, self._room
        assert taken is not None
        frame = taken.frame
        size = room + PACKET_OVERHEAD_BYTES
        allowed = min(self._window.packets(size), max(_LEAST_RUN_PACKETS, self._window.window_bytes // 4 // size))
        until = min(at + max(1, min(allowed, RUN_PACKETS)) * room, taken.size)
        bodies = taken.cut(at, until, room)
        self._at = until
        count = len(bodies)
        flags = (UNORDERED if frame.level == _RELIABLE else 0) | (SLOTTED if self._slotted else 0)
        each = bytearray((flags,)) * count
        begun = None if at else taken.own
        if begun is not None:
            each[0] |= FIRST
        ends: list[Outgoing] = []
        own: list[Frame] = []
        if until == taken.size:
            each[-1] |= LAST
            ends, own = [frame], [taken.own]
            self._current = None
        each[-1] |= self._wants_status(ends, until - at, count)
        return PacketPlan(bodies, each, ends, own, begun, self._slotted, int(bool(ends) and frame.level >= _AGREED))

    def _pack(self, taken: _Taken, control_only: bool) -> PacketPlan:
        frame = taken.frame
        frames, own, parts, size = [frame], [taken.own], [taken.head, frame.body], taken.size
        unordered, ordered_count = frame.level == _RELIABLE, int(frame.level >= _AGREED)
        while size < self._room and (self._outbox or self._peeked):
            following = self._next_frame(control_only)
            if following is None:
                break
            frame = following.frame
            if (
                size + following.size > self._room
                or (frame.level == _RELIABLE) != unordered
                or (frame.session == 0) != self._slotted
            ):
                self._peeked = following
                break
            frames.append(frame)
            own.append(following.own)
            parts += (following.head, frame.body)
            size += following.size
            ordered_count += frame.level >= _AGREED
        flags = FIRST | LAST | (UNORDERED if unordered else 0) | (SLOTTED if self._slotted else 0)
        flags |= self._wants_status(frames, size, 1)
        return PacketPlan([b"".join(parts)], bytearray((flags,)), frames, own, None, self._slotted, ordered_count)

    def _wants_status(self, ends: Sequence[Outgoing], size: int, packets: int) -> int:
        """Ask for a report when somebody waits for it, and four times per window, so that the window can slide."""
        size += packets * PACKET_OVERHEAD_BYTES
        self._unflagged += size
        window = self._window
        wanted = self._unflagged >= window.window_bytes // 4 or window.outstanding_bytes + size >= window.window_bytes
        for frame in ends:
            wanted = wanted or frame.stable or frame.level == _SAFE
        if wanted:
            self._unflagged = 0
            return WANTS_STATUS
        return 0

    def take_back(self) -> None:
        """The view ends: what has not left whole is the first of its session again."""
        for taken in (self._peeked, self._current):
            frame = taken.frame if taken is not None else None
            if frame is not None and frame.type is not _DIRECTORY:
                self._outbox.put_back(frame.session, frame, frame.size)
        self._peeked = self._current = None
