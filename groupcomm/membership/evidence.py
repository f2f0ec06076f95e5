"""What led to a change: noted by each node as it finds it, told in JOIN, put together by the proposer.

Decides which records are kept, said and told: the first of each kind by and about each node. Nothing here decides
anything about members.
"""

from __future__ import annotations

from typing import Final

from groupcomm.identity import NodeId
from groupcomm.limits import MAX_JOIN_RECORDS, MAX_PLAN_RECORDS
from groupcomm.wire.evidence import Finding, Record

MAX_KEPT: Final = 256

_ACCUSING: Final = frozenset(
    (
        Finding.HOST_SILENT,
        Finding.PROCESS_SILENT,
        Finding.SILENT,
        Finding.UNHEARD,
        Finding.REFUSED,
        Finding.RESTARTED,
        Finding.WENT_ON,
        Finding.GAVE_UP,
        Finding.EXPELLED,
        Finding.TOO_SLOW,
        Finding.NO_PROGRESS,
    )
)
"""What a node tells of in its JOIN: the rest follows from the JOINs themselves."""


class Evidence:
    """What a node knows of what led to the change that is under way, or may begin.

    Bound: ``MAX_KEPT`` records, and ``MAX_JOIN_RECORDS`` that it tells.
    """

    __slots__ = ("_known", "_me", "said")

    def __init__(self, me: NodeId) -> None:
        self._me = me
        self._known: dict[tuple[Finding, NodeId, NodeId], tuple[float, Record]] = {}
        self.said: tuple[Record, ...] = ()

    def note(self, finding: Finding, about: NodeId, now: float, *, silent: float = 0.0, count: int = 0) -> None:
        """This node has found something itself."""
        record = Record(finding, about, self._me, 0, max(0, round(silent * 1000)), count)
        if self._keep(record, now) and finding in _ACCUSING and len(self.said) < MAX_JOIN_RECORDS:
            self.said = (*self.said, record)

    def saw(self, finding: Finding, by: NodeId, about: NodeId, now: float) -> None:
        """What another has found is plain from what it said."""
        self._keep(Record(finding, about, by), now)

    def began(self, node: NodeId, now: float) -> None:
        """A change begins, by its word; the first counts, and is passed on."""
        if not any(finding is Finding.BEGAN for finding, _, _ in self._known):
            record = Record(Finding.BEGAN, node, node)
            self._keep(record, now)
            self.said = (record, *self.said)[:MAX_JOIN_RECORDS]

    def heard(self, records: tuple[Record, ...], by: NodeId, now: float) -> None:
        """Another tells what it has found, and who began; of what others have found its word does not count."""
        for record in records:
            if record.finding is Finding.BEGAN:
                self.began(record.about, now)
            elif record.by == by and record.finding in _ACCUSING:
                self._keep(record, now)

    def _keep(self, record: Record, now: float) -> bool:
        key = record.finding, record.about, record.by
        if key in self._known or len(self._known) >= MAX_KEPT:
            return False
        self._known[key] = now, record
        return True

    def silent_hosts(self) -> set[NodeId]:
        """The nodes whose hosts somebody has found to be silent."""
        return {about for finding, about, _ in self._known if finding is Finding.HOST_SILENT}

    def told(self, now: float) -> tuple[Record, ...]:
        """What goes into the PLAN: in the order in which it was known here, each with how long ago that was."""
        known = sorted(self._known.values(), key=lambda one: (one[0], one[1].by, one[1].about, one[1].finding))
        return tuple(
            Record(
                record.finding,
                record.about,
                record.by,
                max(0, round((now - at) * 1000)),
                record.silent_milliseconds,
                record.count,
            )
            for at, record in known[:MAX_PLAN_RECORDS]
        )

    def over(self) -> None:
        """A view is installed."""
        self._known.clear()
        self.said = ()
