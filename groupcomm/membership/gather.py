"""Who should be in the next view: every node says whom it hears, and all compute the same answer.

Decides the members of a change from the rows of the candidates, and when all agree. It is only about agreement being
likely and quick; that views are safe is the recovery's business. Rows are evidence of their own sender alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from groupcomm.identity import NodeId, ViewId
from groupcomm.wire.codec import Writer, digest64
from groupcomm.wire.messages import Candidate, Join


class Gather:
    """One change of membership until its members are agreed; attempts that fail leave a culprit out.

    Bound: candidates are at most ``max_nodes``; attempts at most as many, since each failed one removes somebody.

    Attributes:
        attempt: a Lamport number over all changes.
        begun: the attempt this change began with.
        started_at: when this attempt began.
        begun_at: when the change began.
        tries: how many attempts this change has had.
        candidates: all who may be in the next view.
        rows: the last JOIN of each candidate in this attempt.
        out: who is out of this change, whatever it says.
    """

    __slots__ = (
        "_first_serials",
        "_me",
        "_view",
        "attempt",
        "begun",
        "begun_at",
        "candidates",
        "out",
        "rows",
        "started_at",
        "tries",
    )

    def __init__(self, me: NodeId, view: ViewId | None, attempt: int, candidates: Iterable[NodeId], now: float) -> None:
        self._me = me
        self._view = view
        self.attempt = self.begun = attempt
        self.started_at = self.begun_at = now
        self.tries = 1
        self.candidates = {me, *candidates}
        self.rows: dict[NodeId, Join] = {}
        self._first_serials: dict[NodeId, int] = {}
        self.out: set[NodeId] = set()

    def heard(self, join: Join) -> bool:
        """Take a JOIN of this attempt from a candidate in; True if it says something new."""
        before = self.rows.get(join.node)
        if join.node in self.out or (before is not None and before.serial >= join.serial):
            return False
        self.rows[join.node] = join
        for older in [node for node in self.candidates if node.name == join.node.name and node < join.node]:
            self.exclude(older)
        self._first_serials.setdefault(join.node, join.serial)
        return True

    def restart(self, attempt: int, now: float) -> None:
        """A new attempt of the same change: everybody is asked anew."""
        self.attempt = attempt
        self.started_at = now
        self.rows.clear()
        self._first_serials.clear()

    def exclude(self, node: NodeId) -> None:
        """This node is out of this change."""
        if node != self._me:
            self.out.add(node)
            self.rows.pop(node, None)
            self._first_serials.pop(node, None)

    def widen(self, nodes: Iterable[NodeId], limit: int) -> bool:
        """More candidates; True if any was new. Those who are out stay out."""
        before = len(self.candidates)
        for node in sorted(nodes):
            if len(self.candidates) < limit and node not in self.out and not self._is_outdated(node):
                self.candidates.add(node)
        return len(self.candidates) > before

    def _is_outdated(self, node: NodeId) -> bool:
        """Whether a later run of its name is here."""
        return any(other.name == node.name and other > node for other in self.rows)

    def waited_for(self) -> set[NodeId]:
        """The candidates that have not been heard in this attempt."""
        return self.candidates - self.out - self.rows.keys() - {self._me}

    def row(self) -> tuple[Candidate, ...]:
        """This node's own row: it changes when somebody is heard for the first time, not with every JOIN."""
        serials = self._first_serials
        return tuple(Candidate(node, serials.get(node, 0)) for node in sorted(self.candidates - self.out))

    def members(self, *, settled: bool) -> tuple[NodeId, ...] | None:
        """The members of the next view as this node computes them.

        Args:
            settled: whether the time in which rows may still be incomplete is over.

        Returns:
            In order; None as long as it cannot be told.
        """
        present = {self._me, *self.rows}
        if not settled and self.waited_for():
            return None
        hears = {node: {item.node for item in join.candidates if item.serial} for node, join in self.rows.items()}
        hears[self._me] = set(self.rows)
        chosen, removed = _mutual(present, hears, self._sizes())
        if removed and not settled:
            return None
        while self._me in removed:
            chosen, removed = _mutual(removed, hears, self._sizes())
        return tuple(sorted(chosen))

    def _sizes(self) -> dict[NodeId, int]:
        """For each node that has a row, how many others come from the same old view."""
        views = {node: join.view for node, join in self.rows.items() if join.view is not None}
        if self._view is not None:
            views[self._me] = self._view
        return {node: sum(other == view for other in views.values()) for node, view in views.items()}

    def agreed(self, members: tuple[NodeId, ...]) -> bool:
        """Whether all of ``members`` have announced the same."""
        digest = agreement(self.attempt, members)
        return all(self.rows[node].agreed == digest for node in members if node != self._me)

    def dissenter(self, members: tuple[NodeId, ...]) -> NodeId | None:
        """Who stands between ``members`` and agreement: the last in order that announces something else."""
        digest = agreement(self.attempt, members)
        others = [node for node in members if node != self._me and self.rows[node].agreed != digest]
        return others[-1] if others else None


def _mutual(
    nodes: set[NodeId], hears: Mapping[NodeId, set[NodeId]], sizes: Mapping[NodeId, int]
) -> tuple[set[NodeId], set[NodeId]]:
    """Split nodes into a set in which all hear each other both ways, and the rest.

    The one with most missing edges goes first; among equals the one from the smaller old view, then the last in order.
    """
    chosen, removed = set(nodes), set[NodeId]()
    if all(nodes <= hears[node] | {node} for node in nodes):
        return chosen, removed
    while True:
        missing = {
            node: sum(other not in hears[node] or node not in hears[other] for other in chosen if other != node)
            for node in sorted(chosen)
        }
        most = max(missing.values())
        if not most:
            return chosen, removed
        worst = max(sorted(chosen), key=lambda node: (missing[node], -sizes.get(node, 0), node))
        chosen.discard(worst)
        removed.add(worst)


def agreement(attempt: int, members: tuple[NodeId, ...]) -> int:
    """What a node announces when it has computed ``members`` in ``attempt``: 64 bits, never 0."""
    writer = Writer().number(attempt)
    for node in members:
        writer.node(node)
    return digest64(b"groupcomm agreement", writer.done()) or 1
