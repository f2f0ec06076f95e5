"""The release rules: which of the frames that are here may be delivered, and in which order.

Decides FIFO, causal, agreed and safe delivery in a view, and what is delivered when the view ends. Does not decide the
total order itself (the sequencer does) nor who receives a frame (the groups do). Upholds O1 to O8 and S1 to S4 of the
guarantees.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from groupcomm.events import Level
from groupcomm.ordering.frames import Frame

_AGREED = Level.AGREED
_CAUSAL = Level.CAUSAL
_FIFO = Level.FIFO
_RELIABLE = Level.RELIABLE
_SAFE = Level.SAFE


class Run:
    """Consecutive places in the total order that one stream's frames take.

    Attributes:
        stream: whose frames.
        count: how many are left.
        carrier: stream and packet number of the stamp that says so.
    """

    __slots__ = ("carrier", "count", "stream")

    def __init__(self, stream: int, count: int, carrier: tuple[int, int]) -> None:
        self.stream = stream
        self.count = count
        self.carrier = carrier


class Release:
    """The frames of one view that wait, and what has been delivered.

    Bound: what waits is within the senders' grants and slots.

    Attributes:
        ordered: how many frames of the total order are delivered.
        placed: how many have a place in it.
        delivered: per stream, how many frames at FIFO or above are delivered.
        lamport: the highest Lamport time delivered or sent.
        open: nothing is delivered before this is set.
    """

    __slots__ = (
        "_busy",
        "_cover",
        "_early",
        "_implied",
        "_lost_from",
        "_packets",
        "_past",
        "_queues",
        "_runs",
        "_told",
        "delivered",
        "lamport",
        "open",
        "ordered",
        "placed",
    )

    def __init__(self, size: int, first: int) -> None:
        self.ordered = self.placed = self.lamport = 0
        self.delivered = [0] * size
        self.open = False
        self._queues: list[deque[Frame]] = [deque() for _ in range(size)]
        self._busy: set[int] = set()
        self._early: list[Frame] = []
        self._runs: deque[Run] = deque()
        self._implied = [0] * size
        self._told = [0] * size
        self._cover = [first] * size
        self._past: list[dict[int, int]] = [{} for _ in range(size)]
        self._packets: list[dict[int, int]] = [{} for _ in range(size)]
        self._lost_from: int | None = None

    def add(self, frame: Frame) -> None:
        """A frame of the contiguous part of its stream, in the stream's order (a RELIABLE one may come early)."""
        if frame.level == _RELIABLE:
            self._early.append(frame)
        else:
            self._queues[frame.stream].append(frame)
            self._busy.add(frame.stream)

    def place(self, stream: int, count: int, carrier: tuple[int, int]) -> None:
        """The next ``count`` ordered frames of ``stream`` take the next places."""
        self.placed += count
        self._runs.append(Run(stream, count, carrier))

    @property
    def idle(self) -> bool:
        """Whether no frame waits, and none has a place that is not here."""
        return not (self._busy or self._early or self._runs)

    def passes(self, frame: Frame) -> bool:
        """Whether nothing is before a frame that is AGREED, names no past, and would have the next place."""
        ordered = self.ordered
        return self.open and not (
            self._busy
            or self._early
            or self._runs
            or self._past[frame.stream]
            or frame.group_position > ordered
            or frame.ordered > ordered
        )

    def pass_through(self, frame: Frame) -> None:
        """Deliver at once a frame that ``passes``, at the next place, given by its own last packet.

        The same as ``add``, ``place`` and ``take``.
        """
        stream, ordered = frame.stream, self.ordered
        self.ordered = self.placed = frame.position = ordered + 1
        self.delivered[stream] = frame.ordinal = self._implied[stream] = ordinal = self.delivered[stream] + 1
        self._packets[stream][ordinal] = frame.last
        self._cover[stream] = max(self._cover[stream], frame.last)
        if frame.lamport > self.lamport:
            self.lamport = frame.lamport

    def past(self, me: int) -> list[tuple[int, int]]:
        """What a frame of node ``me`` at CAUSAL or above must name beyond ``ordered``: what moved since its last."""
        moved = []
        for stream, count in enumerate(self.delivered):
            if count > self._implied[stream] and count > self._told[stream] and stream != me:
                self._told[stream] = count
                moved.append((stream, count))
        return moved

    def waiting_from(self, stream: int) -> int | None:
        """The first packet of the first frame of ``stream`` that waits; None if none does."""
        queue = self._queues[stream]
        first = queue[0].first if queue else None
        for frame in self._early:
            if frame.stream == stream and (first is None or frame.first < first):
                first = frame.first
        return first

    @property
    def safe_waits(self) -> bool:
        """Whether a SAFE frame is next and waits."""
        if not self._runs:
            return False
        queue = self._queues[self._runs[0].stream]
        return bool(queue) and queue[0].level == _SAFE

    @property
    def holds(self) -> bool:
        """Whether any frame waits."""
        return bool(self._busy or self._early)

    def take(self, stable: Sequence[int]) -> list[Frame]:
        """Deliver what may be delivered.

        Args:
            stable: per stream, the packet number that every node of the view has received.
        """
        frames: list[Frame] = []
        self._take(frames, stable)
        return frames

    def finish(self, stable: Sequence[int]) -> list[Frame | None]:
        """Deliver the rest of the view, when no more packets can come; None stands for the transitional signal.

        Args:
            stable: as for ``take``, by the united knowledge of all who go on together.
        """
        before = self.take(stable)
        rest: list[Frame] = []
        if self.open:
            self._finish_runs(rest)
            if self._lost_from is None:
                self._lost_from = self.placed + 1
            unplaced = [frame for queue in self._queues for frame in queue if frame.level >= _AGREED]
            unplaced.sort(key=lambda frame: (frame.lamport, frame.stream, frame.last))
            for frame in unplaced:
                self.place(frame.stream, 1, (frame.stream, frame.last))
            self._finish_runs(rest)
        return [*before, None, *rest]

    def _finish_runs(self, frames: list[Frame]) -> None:
        self._take(frames, None)
        while self._runs:
            self._skip()
            self._take(frames, None)

    def _skip(self) -> None:
        """The next frame of the order is lost, or depends on what is lost: it and what follows in its stream go."""
        run = self._runs[0]
        queue = self._queues[run.stream]
        queue.clear()
        self.ordered += 1
        if self._lost_from is None:
            self._lost_from = self.ordered
        run.count -= 1
        if not run.count:
            self._runs.popleft()

    def _take(self, frames: list[Frame], stable: Sequence[int] | None) -> None:
        """Append what may be delivered; without ``stable`` SAFE frames wait for nobody."""
        progress = self.open
        while progress:
            progress = False
            if self._early:
                ready = [frame for frame in self._early if self._reaches(frame.group_position)]
                if ready:
                    self._early = [frame for frame in self._early if not self._reaches(frame.group_position)]
                    frames += ready
            for stream in sorted(self._busy):
                queue = self._queues[stream]
                while queue and self._may_go(queue[0], stable):
                    progress = True
                    frames.append(self._delivered(queue.popleft()))
                if not queue:
                    self._busy.discard(stream)
            if not self._busy and not self._early:
                break

    def _reaches(self, position: int) -> bool:
        return position <= self.ordered and (self._lost_from is None or position < self._lost_from)

    def _may_go(self, frame: Frame, stable: Sequence[int] | None) -> bool:
        if not self._reaches(frame.group_position):
            return False
        if frame.level == _FIFO:
            return True
        if not self._reaches(frame.ordered):
            return False
        delivered = self.delivered
        for stream, count in frame.past:
            if stream >= len(delivered) or delivered[stream] < count:
                return False
        if frame.level == _CAUSAL:
            return True
        if not self._runs or self._runs[0].stream != frame.stream:
            return False
        return frame.level == _AGREED or stable is None or self._is_safe(frame, stable)

    def _delivered(self, frame: Frame) -> Frame:
        stream = frame.stream
        self.delivered[stream] += 1
        frame.ordinal = self.delivered[stream]
        self._packets[stream][frame.ordinal] = frame.last
        if frame.level >= _CAUSAL:
            self.lamport = max(self.lamport, frame.lamport)
            past = self._past[stream]
            for other, count in frame.past:
                past[other] = max(past.get(other, 0), count)
        if frame.level >= _AGREED:
            run = self._runs[0]
            self.ordered += 1
            frame.position = self.ordered
            self._implied[stream] = frame.ordinal
            if self._past[stream]:
                for other, count in self._past[stream].items():
                    self._cover[other] = max(self._cover[other], self._packets[other].get(count, 0))
                self._past[stream].clear()
            self._cover[stream] = max(self._cover[stream], frame.last)
            carrier, number = run.carrier
            self._cover[carrier] = max(self._cover[carrier], number)
            run.count -= 1
            if not run.count:
                self._runs.popleft()
        return frame

    def _is_safe(self, frame: Frame, stable: Sequence[int]) -> bool:
        """Whether all have ``frame``, everything ordered before it, the stamps that say so, and all it depends on."""
        if stable[frame.stream] < frame.last:
            return False
        carrier, number = self._runs[0].carrier
        if stable[carrier] < number:
            return False
        for has, needs in zip(stable, self._cover, strict=True):
            if has < needs:
                return False
        past = dict(self._past[frame.stream])
        past.update(frame.past)
        return all(stable[stream] >= self._packets[stream].get(count, 0) for stream, count in past.items())

    def forget(self, stream: int, stable: int) -> None:
        """Frames that end at or before packet ``stable`` need not be remembered for SAFE any more."""
        packets = self._packets[stream]
        for ordinal in list(packets):
            if packets[ordinal] > stable:
                break
            del packets[ordinal]

    def check_invariants(self) -> None:
        """Raise ``AssertionError`` if the books do not balance."""
        assert self.placed == self.ordered + sum(run.count for run in self._runs)
        assert all(run.count > 0 for run in self._runs)
