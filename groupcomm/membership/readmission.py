"""Who was evicted, and when it may come back: each time it is kept out for twice as long, until it behaves.

Decides for how long a name is kept out, and when that is forgotten. It goes by names, since a restart changes nothing
about a line. The state table stands in ``doc/design/membership.md``.
"""

from __future__ import annotations

from math import inf
from typing import Final

from attrs import define

from groupcomm.identity import NodeId
from groupcomm.limits import MAX_KEPT_OUT
from groupcomm.status import KeptOutStatus

MOST_DOUBLINGS: Final = 6
PROBATION: Final = 10
"""So many times as long as it was kept out, a name is remembered after that."""


@define
class _Record:
    """A name that was evicted: the last that bore it, how often, what it lacked, until when that counts for what."""

    node: NodeId
    times: int
    lag_bytes: int
    until: float
    forgotten_at: float


class Readmission:
    """The names that were evicted.

    Bound: ``MAX_KEPT_OUT``; when full, the one that is forgotten first goes.
    """

    __slots__ = ("_first_seconds", "_next_end", "_records")

    def __init__(self, first_seconds: float) -> None:
        self._first_seconds = first_seconds
        self._records: dict[str, _Record] = {}
        self._next_end = inf

    def evicted(self, node: NodeId, lag_bytes: int, now: float) -> float:
        """It was evicted; returns for how long its name is kept out."""
        self._forget(now)
        name = node.name
        before = self._records.pop(name, None)
        times = 1 if before is None else before.times + 1
        seconds = self._first_seconds * (1 << min(times - 1, MOST_DOUBLINGS))
        if len(self._records) >= MAX_KEPT_OUT:
            del self._records[min(self._records, key=lambda one: self._records[one].forgotten_at)]
        self._records[name] = _Record(node, times, lag_bytes, now + seconds, now + seconds * (1 + PROBATION))
        self._find_next(now)
        return seconds

    def keeps_out(self, name: str, now: float) -> bool:
        """Whether it may not come back yet."""
        record = self._records.get(name)
        return record is not None and now < record.until

    def kept_out(self, now: float) -> tuple[KeptOutStatus, ...]:
        """Who may not come back yet, by name."""
        if now >= self._next_end:
            self._find_next(now)
        if self._next_end == inf:
            return ()
        return tuple(
            KeptOutStatus(record.node, record.lag_bytes, record.until - now, record.times)
            for _, record in sorted(self._records.items())
            if now < record.until
        )

    def _find_next(self, now: float) -> None:
        self._next_end = min((one.until for one in self._records.values() if now < one.until), default=inf)

    def _forget(self, now: float) -> None:
        for name in [name for name, record in self._records.items() if now >= record.forgotten_at]:
            del self._records[name]
