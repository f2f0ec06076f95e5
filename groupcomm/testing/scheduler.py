"""Virtual time: a heap of calls to make, and the clock that jumps from one to the next.

Decides only what runs next: the earliest call, and among calls of one instant the one that was asked for first. So a
run is a function of its seed. Knows nothing of nodes and networks.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from itertools import count

from attrs import define, field


@define(eq=False)
class ScheduledCall:
    """One call to come; ``cancel`` it as long as it has not run."""

    at: float
    function: Callable[[], None] | None

    def cancel(self) -> None:
        """Do not run it. Harmless after it ran."""
        self.function = None

    @property
    def active(self) -> bool:
        """Whether it is still to run."""
        return self.function is not None


@define(eq=False)
class Scheduler:
    """A clock in seconds from 0.0 and the calls to come.

    Invariant: time never goes back, and no call in the heap is earlier than ``now``.
    """

    now: float = 0.0
    calls_made: int = 0
    _heap: list[tuple[float, int, ScheduledCall]] = field(factory=list)
    _order: count[int] = field(factory=count)

    def call_at(self, at: float, function: Callable[[], None]) -> ScheduledCall:
        """Run ``function`` at the time ``at``, or now if that has passed; after all calls asked before for then."""
        call = ScheduledCall(max(at, self.now), function)
        heapq.heappush(self._heap, (call.at, next(self._order), call))
        return call

    def call_later(self, seconds: float, function: Callable[[], None]) -> ScheduledCall:
        """Run ``function`` in so many seconds."""
        return self.call_at(self.now + seconds, function)

    def next_time(self) -> float | None:
        """When the next call is due; None if there is none."""
        while self._heap and not self._heap[0][2].active:
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else None

    def step(self) -> bool:
        """Jump to the next call and run it; False if there is none."""
        if self.next_time() is None:
            return False
        at, _, call = heapq.heappop(self._heap)
        self.now = at
        function, call.function = call.function, None
        assert function is not None
        self.calls_made += 1
        function()
        return True

    def run(self, until: float) -> None:
        """Run every call due up to and including ``until``, then set the clock there."""
        heap = self._heap
        while heap:
            at, _, call = heap[0]
            function = call.function
            if function is not None and at > until:
                break
            heapq.heappop(heap)
            if function is not None:
                self.now = at
                call.function = None
                self.calls_made += 1
                function()
        self.now = max(self.now, until)

    def run_until(self, predicate: Callable[[], bool], limit: float) -> bool:
        """Run until ``predicate()`` holds, looking after every call; give up when the clock would pass ``limit``.

        Returns:
            Whether it holds. If not, the clock stands at ``limit``.
        """
        while not predicate():
            at = self.next_time()
            if at is None or at > limit:
                self.now = max(self.now, limit)
                return predicate()
            self.step()
        return True
