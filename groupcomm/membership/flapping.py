"""Nodes that come and go: each time the gate waits longer before it lets them in again.

Decides for how long a name is made to wait, and when that is forgotten. It delays joins and merges, and never removes
anybody; only the gate acts on it, so that no two nodes can disagree about it. It goes by names, since a crash loop has
a new incarnation each time. The numbers stand in ``doc/design/membership.md``.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Final

from attrs import define

from groupcomm.events import Reason
from groupcomm.identity import NodeId
from groupcomm.limits import MAX_FLAPPING
from groupcomm.status import FlappingStatus
from groupcomm.wire.messages import Departed, SlowNote, SlowWord

HALVED_SECONDS: Final = 60.0
"""A penalty is half of what it was after so long."""

FREE: Final = 1.5
"""Up to here nobody waits: once is no flapping."""

LEAST: Final = 0.1
MOST_DOUBLINGS: Final = 8
ECHO: Final = 0.05
"""By so little more another may come to in its own time: that is the same penalty."""

HUNDREDTHS: Final = 100


@define
class _Record:
    """A name with its penalty: the last node that bore it, how much, as of when, until when it waits."""

    node: NodeId
    penalty: float
    at: float
    until: float

    def penalty_at(self, now: float) -> float:
        """What is left of it."""
        halvings: float = 2.0 ** (-(now - self.at) / HALVED_SECONDS)
        return self.penalty * halvings


class Flapping:
    """The names that have come and gone lately.

    Bound: ``MAX_FLAPPING``; when full, the one with the least penalty goes.
    """

    __slots__ = ("_first_seconds", "_me", "_records")

    def __init__(self, me: NodeId, first_seconds: float) -> None:
        self._me = me
        self._first_seconds = first_seconds
        self._records: dict[str, _Record] = {}

    def installed(
        self,
        departed: Iterable[Departed],
        old: Collection[NodeId],
        members: Collection[NodeId],
        excepted: Collection[str],
        now: float,
    ) -> None:
        """A view is installed: who of the old one is out, without having left, has one more to its name.

        Only the larger part counts that, of halves the one with the lowest node: who is left alone has no reason to
        hold it against all others.

        Args:
            departed: who is out, and why.
            old: the nodes of this node's old view.
            members: those of the new one.
            excepted: names that are kept out for something else.
            now: the time.
        """
        staying = [node for node in old if node in members]
        half = 2 * len(staying) - len(old)
        if not old or half < 0 or (half == 0 and min(old) not in members):
            return
        for gone in departed:
            if gone.reason is not Reason.NODE_LEAVE and gone.node in old and gone.node.name not in excepted:
                self._count(gone.node, now)

    def _count(self, node: NodeId, now: float) -> None:
        before = self._records.pop(node.name, None)
        penalty = 1.0 if before is None else before.penalty_at(now) + 1.0
        if len(self._records) >= MAX_FLAPPING:
            del self._records[min(self._records, key=lambda one: (self._records[one].penalty_at(now), one))]
        self._records[node.name] = _Record(node, penalty, now, now + self._wait_seconds(penalty))

    def _wait_seconds(self, penalty: float) -> float:
        doublings: float = 2.0 ** min(penalty - 2, MOST_DOUBLINGS)
        return 0.0 if penalty <= FREE else self._first_seconds * doublings

    def keeps_waiting(self, name: str, now: float) -> bool:
        """Whether it may not come in yet."""
        record = self._records.get(name)
        return record is not None and now < record.until

    def shown(self, now: float) -> tuple[FlappingStatus, ...]:
        """Who has a penalty worth the name, and how long each waits still, by name."""
        return tuple(
            FlappingStatus(record.node, penalty, max(0.0, record.until - now))
            for _, record in sorted(self._records.items())
            if (penalty := record.penalty_at(now)) >= LEAST
        )

    def notes(self, now: float) -> list[SlowNote]:
        """What the beacon says: who waits; so they hear why, and a gate that has just come knows it as well."""
        return [
            SlowNote(SlowWord.WAITS, one.node, round(one.penalty * HUNDREDTHS), round(one.seconds * 1000))
            for one in self.shown(now)
            if one.seconds > 0
        ]

    def heard(self, notes: Iterable[SlowNote], now: float) -> None:
        """What another member says: it counts where it is more than what is known here."""
        for note in notes:
            if note.word is not SlowWord.WAITS or note.node.name == self._me.name:
                continue
            penalty, known = note.lag_bytes / HUNDREDTHS, self._records.get(note.node.name)
            if (known is None and len(self._records) < MAX_FLAPPING) or (
                known is not None and penalty > known.penalty_at(now) + ECHO
            ):
                penalty = min(penalty, float(MOST_DOUBLINGS + 2))
                until = now + min(note.milliseconds / 1000, self._wait_seconds(penalty))
                self._records[note.node.name] = _Record(note.node, penalty, now, until)
