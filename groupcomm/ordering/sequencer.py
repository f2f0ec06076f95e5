"""The total order: who places frames, how stamps are read, and how the role moves.

One node of the view is the sequencer. Its stamps are read from its stream in number order; a hand-over in it names the
next sequencer, whose stamps count from its take on. Own frames of the sequencer carry their place themselves.
"""

from __future__ import annotations

from collections import deque
from typing import TypeAlias

from attrs import frozen

from groupcomm.limits import MAX_UNREAD_STAMPS
from groupcomm.ordering.release import Release
from groupcomm.wire.packets import Handover, Stamp, StampRun, Take


@frozen
class OwnStamp:
    """A data packet of the sequencer whose ``count`` ordered frames begin at ``position``."""

    position: int
    count: int


Record: TypeAlias = Stamp | OwnStamp | Handover | Take


def _size_of(record: Record) -> int:
    return len(record.runs) + 1 if isinstance(record, Stamp) else 1


class Sequencing:
    """Reads the stamps of a view and knows what the sequencer still has to place.

    Attributes:
        current: the index of the node whose stamps are read now.
        taking: whether the current one has still to say its TAKE.
        waiting: how many ordered frames are here and have no place; below zero if places came before the frames.
        violations: stamps that contradict the order so far; ignored, alike by all.

    Bound: ``MAX_UNREAD_STAMPS``. Of a node that is not the sequencer nothing is kept before its take: from then on it
    may be the next, whose packets have come before the hand-over that says so.
    """

    __slots__ = (
        "_in_office",
        "_placed",
        "_records",
        "_release",
        "_seen",
        "_unread",
        "_up_to",
        "current",
        "taking",
        "violations",
        "waiting",
    )

    def __init__(self, size: int, sequencer: int, release: Release) -> None:
        self.current = sequencer
        self.taking = False
        self.waiting = 0
        self.violations = 0
        self._release = release
        self._records: list[deque[tuple[int, Record]]] = [deque() for _ in range(size)]
        self._in_office = {sequencer}
        self._unread = 0
        self._seen = [0] * size
        self._placed = [0] * size
        self._up_to = [0] * size

    def frames_came(self, stream: int, count: int, last: int) -> None:
        """``count`` ordered frames that end in packet ``last`` are here, in the contiguous part of ``stream``."""
        self._seen[stream] += count
        self.waiting += count
        self._up_to[stream] = last

    def record_came(self, stream: int, number: int, record: Record) -> None:
        """A stamp, hand-over or take is in packet ``number`` of the contiguous part of ``stream``."""
        if isinstance(record, Take):
            self._in_office.add(stream)
        if stream not in self._in_office or self._unread > MAX_UNREAD_STAMPS:
            self.violations += 1
            return
        self._unread += _size_of(record)
        self._records[stream].append((number, record))

    def took_office(self, stream: int) -> bool:
        """Whether that node is, was, or says to be the sequencer."""
        return stream in self._in_office

    @property
    def readable(self) -> bool:
        """Whether ``read`` has something to do."""
        return bool(self._records[self.current])

    def read(self) -> bool:
        """Apply what can be read; True if anything was."""
        moved = False
        while self._records[self.current]:
            stream = self.current
            number, record = self._records[stream].popleft()
            self._unread -= _size_of(record)
            moved = True
            if isinstance(record, Take):
                self.taking = False
            elif isinstance(record, Handover):
                if record.position != self._release.placed or record.to >= len(self._records):
                    self.violations += 1
                    continue
                self.current, self.taking = record.to, True
            elif record.position != self._release.placed + 1:
                self.violations += 1
            elif isinstance(record, OwnStamp):
                self._place(stream, record.count, (stream, number))
            else:
                for run in record.runs:
                    if run.stream < len(self._records) and run.count:
                        self._place(run.stream, run.count, (stream, number))
        return moved

    def _place(self, stream: int, count: int, carrier: tuple[int, int]) -> None:
        self._placed[stream] += count
        self.waiting -= count
        self._release.place(stream, count, carrier)

    def passed(self, stream: int, number: int) -> None:
        """Packet ``number`` of the sequencer had one ordered frame, which is delivered at the place it gave itself."""
        self._seen[stream] += 1
        self._placed[stream] += 1
        self._up_to[stream] = number

    def place_own(self, count: int, number: int) -> None:
        """The sequencer's own packet ``number`` gives its ``count`` ordered frames their places; nothing is unread."""
        self._place(self.current, count, (self.current, number))

    def unplaced(self) -> tuple[StampRun, ...]:
        """What the sequencer can place now: the runs of its next stamp."""
        return tuple(
            StampRun(stream, self._up_to[stream], seen - placed)
            for stream, (seen, placed) in enumerate(zip(self._seen, self._placed, strict=True))
            if seen > placed
        )

    def has_unplaced(self, stream: int) -> bool:
        """Whether frames of ``stream`` are here and have no place."""
        return self._seen[stream] > self._placed[stream]

    @property
    def holds_all_placed(self) -> bool:
        """Whether every frame that has a place is here."""
        return all(seen >= placed for seen, placed in zip(self._seen, self._placed, strict=True))
