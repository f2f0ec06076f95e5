"""The disk of a simulated host, as far as a node keeps what must outlive it: each write takes its time.

Decides when a write is on the disk and when the process hears of it. A process that ends in between leaves what was
there before, or what it was writing.
"""

from __future__ import annotations

import random
from collections.abc import Callable

from groupcomm.outputs import QuorumKept
from groupcomm.quorum.votes import Memory
from groupcomm.testing.scheduler import Scheduler


class MemoryWriter:
    """Writes what one process must remember: one write at a time, the newest next.

    Attributes:
        most_seconds: how long a write takes at most.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        stream: random.Random,
        most_seconds: float,
        write: Callable[[Memory], None],
        written: Callable[[int], None],
    ) -> None:
        self._scheduler = scheduler
        self._stream = stream
        self._write = write
        self._written = written
        self._next: QuorumKept | None = None
        self._busy = False
        self.most_seconds = most_seconds

    def keep(self, said: QuorumKept) -> None:
        """Write this, if nothing newer comes before there is time."""
        self._next = said
        if not self._busy:
            self._begin()

    def _begin(self) -> None:
        said, self._next = self._next, None
        self._busy = said is not None
        if said is None:
            return
        seconds = self._stream.uniform(0.0, self.most_seconds)
        self._scheduler.call_later(seconds * self._stream.random(), lambda: self._write(said.memory))
        self._scheduler.call_later(seconds, lambda: self._end(said.number))

    def _end(self, number: int) -> None:
        self._begin()
        self._written(number)
