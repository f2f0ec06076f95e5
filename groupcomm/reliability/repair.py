"""Which packets to send again, when, and to whom.

Collects what is asked for over a short time, answers once per packet (to one asker alone or to all), never the same
packet twice within a round trip, and never more bytes than the budget, so that a storm of requests cannot become a
storm of repairs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from math import inf

from groupcomm.limits import MAX_REPAIR_PACKETS
from groupcomm.wire.packets import Range

COLLECT_SECONDS = 0.002
"""The longest that requests are collected; a quarter of the round trip if that is less."""

_REMEMBERED = 4096


class RepairQueue:
    """Requests of one view waiting to be answered.

    Bound: a request adds at most ``MAX_REPAIR_PACKETS``, only of packets that are held; what the budget does not cover
    waits its turn and is asked for again anyway, so the queue is cleared when it exceeds what one window holds.
    """

    __slots__ = ("_asked", "_flush_at", "_repaired_at", "_tokens", "_tokens_at")

    def __init__(self, now: float) -> None:
        self._asked: dict[tuple[int, int], int] = {}
        self._repaired_at: dict[tuple[int, int], float] = {}
        self._flush_at = inf
        self._tokens = 0.0
        self._tokens_at = now

    def ask(
        self, asker: int, stream: int, ranges: Iterable[Range], holds: Callable[[int], bool], now: float, rtt: float
    ) -> int:
        """Node ``asker`` lacks these packets of ``stream``; those that ``holds`` says are here will be repaired.

        Returns:
            How many that are.
        """
        taken = 0
        room = MAX_REPAIR_PACKETS
        for item in ranges:
            for number in range(item.first, min(item.last, item.first + room - 1) + 1):
                room -= 1
                key = (stream, number)
                if now - self._repaired_at.get(key, -inf) < rtt or not holds(number):
                    continue
                self._asked[key] = self._asked.get(key, 0) | 1 << asker
                taken += 1
            if room <= 0:
                break
        if self._asked and self._flush_at == inf:
            self._flush_at = now + min(rtt / 4, COLLECT_SECONDS)
        return taken

    def take(
        self, now: float, size_of: Callable[[int, int], int], budget_per_second: float, burst_bytes: int
    ) -> list[tuple[int, int, int]]:
        """What to send now, as (stream, number, map of the askers), lowest numbers first."""
        if now < self._flush_at:
            return []
        self._tokens = min(burst_bytes, self._tokens + (now - self._tokens_at) * budget_per_second)
        self._tokens_at = now
        taken = []
        for key in sorted(self._asked, key=lambda key: (key[1], key[0])):
            size = size_of(*key)
            if size > self._tokens:
                break
            self._tokens -= size
            taken.append((*key, self._asked.pop(key)))
            self._repaired_at[key] = now
        if len(self._repaired_at) > _REMEMBERED:
            for key in sorted(self._repaired_at, key=lambda key: self._repaired_at[key])[: _REMEMBERED // 2]:
                del self._repaired_at[key]
        if len(self._asked) > _REMEMBERED:
            self._asked.clear()
        self._flush_at = now + COLLECT_SECONDS if self._asked else inf
        return taken

    def due_at(self) -> float:
        """When ``take`` may have something; infinite if nothing is asked for."""
        return self._flush_at
