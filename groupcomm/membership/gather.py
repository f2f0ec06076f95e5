"""Who should be in the next view: every node says whom it hears, and all compute the same answer.

Decides the members of a change from the rows of the candidates, and when all agree. It is only about agreement being
likely and quick; that views are safe is the recovery's business. Rows are evidence of their own sender alone; rows that
lack somebody are passed on, for those who do not hear their senders.

Rows are bit maps over a list of candidates. As a rule all name the same list, and then a row costs one comparison: the
lists of others are looked into only where they differ.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Sequence

from attrs import evolve

from groupcomm.identity import NodeId, ViewId
from groupcomm.limits import MAX_RELAYED_ROWS
from groupcomm.membership.eviction import outvoted
from groupcomm.wire.codec import Writer, digest64, list_digest
from groupcomm.wire.evidence import Finding
from groupcomm.wire.messages import Join

LEAST_HEARERS = 2


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
        listed: the candidates who are not out, in order: what this node's own row is a map of.
        digest: of that list.
        heard_map: this node's own row: who was heard in this attempt.
        leaving: who of those with a row leaves with this change.
        accused: whom this node accuses of being too slow.
    """

    __slots__ = (
        "_accusing",
        "_announcement",
        "_computed",
        "_full_rows",
        "_index_of",
        "_lists",
        "_me",
        "_partial_rows",
        "_relayed",
        "_runs",
        "_view",
        "accused",
        "attempt",
        "begun",
        "begun_at",
        "candidates",
        "digest",
        "heard_map",
        "leaving",
        "listed",
        "out",
        "rows",
        "started_at",
        "tries",
    )

    def __init__(
        self,
        me: NodeId,
        view: ViewId | None,
        attempt: int,
        candidates: Iterable[NodeId],
        now: float,
        accused: frozenset[NodeId] = frozenset(),
    ) -> None:
        self._me = me
        self.accused = accused
        self._accusing = bool(accused)
        self._view = view
        self.attempt = self.begun = attempt
        self.started_at = self.begun_at = now
        self.tries = 1
        self.candidates: set[NodeId] = set()
        self.rows: dict[NodeId, Join] = {}
        self.out: set[NodeId] = set()
        self.listed: tuple[NodeId, ...] = ()
        self.digest = self.heard_map = 0
        self.leaving: set[NodeId] = set()
        self._announcement: tuple[tuple[NodeId, ...], int] = ((), 0)
        self._lists: dict[int, Sequence[NodeId]] = {}
        self._runs: dict[str, list[NodeId]] = {}
        self._index_of: dict[NodeId, int] = {}
        self._full_rows: set[NodeId] = set()
        self._partial_rows: set[NodeId] = set()
        self._relayed: dict[NodeId, Join] = {}
        self._computed: dict[bool, tuple[NodeId, ...] | None] = {}
        for node in sorted({me, *candidates}):
            self._add(node)
        self._relist()

    def _add(self, node: NodeId) -> None:
        self.candidates.add(node)
        self._runs.setdefault(node.name, []).append(node)

    def _relist(self) -> None:
        """The list has changed: all that is said in terms of it is said anew."""
        self.listed = tuple(sorted(self.candidates - self.out))
        self.digest = list_digest(self.listed)
        self._lists[self.digest] = self.listed
        self._index_of = {node: index for index, node in enumerate(self.listed)}
        self.heard_map = sum(1 << self._index_of[node] for node in self.rows if node in self._index_of)
        self._full_rows.clear()
        self._partial_rows.clear()
        for join in self.rows.values():
            self._sort_in(join)
        self._computed.clear()

    def _sort_in(self, join: Join) -> None:
        """A row that is a map of this node's own list is full or partial at a glance; others are neither."""
        node = join.node
        self._full_rows.discard(node)
        self._partial_rows.discard(node)
        if join.listed == self.digest and node in self._index_of:
            full = join.heard | 1 << self._index_of[node] == (1 << len(self.listed)) - 1
            (self._full_rows if full else self._partial_rows).add(node)

    def heard(self, join: Join, names: Sequence[NodeId]) -> bool:
        """Take a JOIN of this attempt from a candidate in; True if it says something new.

        Args:
            join: what it says.
            names: the candidates that its row is a map of.
        """
        before = self.rows.get(join.node)
        if join.node in self.out or (before is not None and before.serial >= join.serial):
            return False
        self.rows[join.node] = join
        self._accusing = self._accusing or bool(join.evicts)
        self._lists[join.listed] = names
        if len(self._lists) > 2 * len(self.candidates):
            rows = [*self.rows.values(), *self._relayed.values()]
            used = {self.digest, *(row.listed for row in rows)}
            self._lists = {digest: self._lists[digest] for digest in used}
        if join.leaving:
            self.leaving.add(join.node)
        else:
            self.leaving.discard(join.node)
        if before is None:
            for older in [node for node in self._runs.get(join.node.name, ()) if node < join.node]:
                self.exclude(older)
        if join.node in self._index_of:
            self.heard_map |= 1 << self._index_of[join.node]
        self._sort_in(join)
        for index, row in join.relayed:
            self._relayed[names[index]] = evolve(join, node=names[index], heard=row)
        self._computed.clear()
        return True

    def restart(self, attempt: int, now: float) -> None:
        """A new attempt of the same change: everybody is asked anew."""
        self.attempt = attempt
        self.started_at = now
        self.rows.clear()
        self._relayed.clear()
        self.leaving.clear()
        self._announcement = (), 0
        self._lists.clear()
        self._relist()

    def exclude(self, node: NodeId) -> None:
        """This node is out of this change."""
        if node != self._me:
            self.out.add(node)
            self.rows.pop(node, None)
            self.leaving.discard(node)
            self._relist()

    def widen(self, nodes: Iterable[NodeId], limit: int) -> bool:
        """More candidates; True if any was new. Those who are out stay out."""
        before = len(self.candidates)
        for node in sorted(node for node in nodes if node not in self.candidates):
            if len(self.candidates) < limit and node not in self.out and not self._is_outdated(node):
                self._add(node)
        if len(self.candidates) == before:
            return False
        self._relist()
        return True

    def _is_outdated(self, node: NodeId) -> bool:
        """Whether a later run of its name is here."""
        return any(other > node and other in self.rows for other in self._runs.get(node.name, ()))

    def waited_for(self) -> set[NodeId]:
        """The candidates that have not been heard in this attempt."""
        return self.candidates - self.out - self.rows.keys() - {self._me}

    def lacking(self) -> list[NodeId]:
        """The candidates of whom no row has come that says that they hear all of this node's list."""
        return [node for node in self.listed if node != self._me and node not in self._full_rows]

    @property
    def complete(self) -> bool:
        """Whether all candidates have been heard in this attempt."""
        return (self.heard_map | 1 << self._index_of[self._me]) == (1 << len(self.listed)) - 1

    def members(self, *, settled: bool) -> tuple[NodeId, ...] | None:
        """The members of the next view as this node computes them.

        Args:
            settled: whether the time in which rows may still be incomplete is over.

        Returns:
            In order; None as long as it cannot be told.
        """
        if settled not in self._computed:
            self._computed[settled] = self._compute(settled=settled)
        return self._computed[settled]

    @property
    def evicts(self) -> int:
        """Whom this node accuses, as a map of its list."""
        return sum(1 << self._index_of[node] for node in self.accused if node in self._index_of)

    def outvoted(self) -> dict[NodeId, set[NodeId]]:
        """Who is out because enough of its view accuse it, and who they are."""
        if not self._accusing:
            return {}
        votes = [
            (node, join.view, [other for index, other in enumerate(names) if join.evicts >> index & 1])
            for node, join in self.rows.items()
            if join.view is not None and (names := self._lists[join.listed])
        ]
        if self._view is not None:
            votes.append((self._me, self._view, list(self.accused)))
        return outvoted(votes)

    def _compute(self, *, settled: bool) -> tuple[NodeId, ...] | None:
        if evicted := self.outvoted():
            return self._compute_without(evicted, settled=settled)
        if not settled and (not self.complete or self._partial_rows):
            return None
        if self.complete and len(self._full_rows) == len(self.listed) - 1:
            return self.listed
        present = self.heard_map | 1 << self._index_of[self._me]
        present |= self._hearsay() if settled else 0
        edges = self._missing_edges(present)
        if not settled and edges.lacks:
            return None
        chosen, removed = _mutual(present, edges, self._sizes())
        while removed >> self._index_of[self._me] & 1:
            chosen, removed = _mutual(removed, edges, self._sizes())
        return tuple(node for index, node in enumerate(self.listed) if chosen >> index & 1)

    def _compute_without(self, evicted: Collection[NodeId], *, settled: bool) -> tuple[NodeId, ...] | None:
        """The same if some are evicted: nobody waits for them, and they are on their own with whoever is left over."""
        out = sum(1 << self._index_of[node] for node in evicted if node in self._index_of)
        me = 1 << self._index_of[self._me]
        present, staying = self.heard_map | me, (1 << len(self.listed)) - 1 & ~out
        edges = self._missing_edges(present)
        parted = any(staying >> index & 1 and lacking & staying for index, lacking in edges.lacks.items())
        if not settled and (staying & ~present or parted):
            return None
        chosen, removed = _mutual(present & staying, edges, self._sizes())
        removed |= present & out
        while removed & me:
            chosen, removed = _mutual(removed, edges, self._sizes())
        return tuple(node for index, node in enumerate(self.listed) if chosen >> index & 1)

    @property
    def relays(self) -> tuple[tuple[int, int], ...]:
        """The rows that do not hear all candidates: others may not hear whose they are."""
        rows = [self.rows[node] for node in sorted(self._partial_rows)[:MAX_RELAYED_ROWS]]
        return tuple((self._index_of[row.node], row.heard) for row in rows)

    def _hearsay(self) -> int:
        """The map of those that have not been heard here, but by all others whose rows are here, at least two.

        They are there, and this node must count them like everybody else. If their rows do not hear everybody, they are
        relayed.
        """
        missing = ~self.heard_map & (1 << len(self.listed)) - 1 & ~(1 << self._index_of[self._me])
        if not missing or len(self.rows) < LEAST_HEARERS:
            return 0
        for join in self.rows.values():
            missing &= self._translated(join)
        return missing

    def _missing_edges(self, present: int) -> _Edges:
        """Who of ``present`` does not hear whom; full rows say nothing of that."""
        deaf: dict[int, int] = {}
        relayed = {
            node: join
            for node, join in self._relayed.items()
            if node not in self.rows and present >> self._index_of.get(node, len(self.listed)) & 1
        }
        for node, join in (self.rows | relayed).items():
            if node in self._full_rows or node == self._me:
                continue
            index = self._index_of[node]
            if missing := present & ~self._translated(join) & ~(1 << index):
                deaf[index] = missing
        me = self._index_of[self._me]
        if missing := present & ~self.heard_map & ~(1 << me):
            deaf[me] = missing
        return _Edges(deaf)

    def findings(self, chosen: Collection[NodeId]) -> list[tuple[Finding, NodeId, NodeId]]:
        """Why candidates are not among the chosen: what was found, by whom, about whom."""
        found = [(Finding.TOO_SLOW, by, node) for node, voters in self.outvoted().items() for by in sorted(voters)]
        found += [(Finding.NO_WORD, self._me, node) for node in self.listed if node in self.waited_for()]
        deaf = self._missing_edges(self.heard_map | 1 << self._index_of[self._me]).deaf
        for index in sorted(deaf):
            for other, node in enumerate(self.listed):
                if deaf[index] >> other & 1 and not {node, self.listed[index]} <= set(chosen):
                    found.append((Finding.ONE_WAY, self.listed[index], node))
        return found

    def _translated(self, join: Join) -> int:
        """The row as a map of this node's own list."""
        if join.listed == self.digest:
            return join.heard
        index_of, translated = self._index_of, 0
        for index, node in enumerate(self._lists[join.listed]):
            if join.heard >> index & 1 and node in index_of:
                translated |= 1 << index_of[node]
        return translated

    def _sizes(self) -> list[int]:
        """For each index, how many have a row and come from the same old view."""
        views = {node: join.view for node, join in self.rows.items() if join.view is not None}
        if self._view is not None:
            views[self._me] = self._view
        counts = Counter(views.values())
        return [counts[views[node]] if node in views else 0 for node in self.listed]

    def announcement(self, members: tuple[NodeId, ...]) -> int:
        """The ``agreement`` on ``members`` in this attempt."""
        if self._announcement[0] is not members:
            self._announcement = members, agreement(self.attempt, members)
        return self._announcement[1]

    def agreed(self, members: tuple[NodeId, ...]) -> bool:
        """Whether all of ``members`` have announced the same."""
        digest = self.announcement(members)
        return all(self.rows[node].agreed == digest for node in members if node != self._me)

    def dissenter(self, members: tuple[NodeId, ...]) -> NodeId | None:
        """Who stands between ``members`` and agreement: the last in order that announces something else."""
        digest = self.announcement(members)
        others = [node for node in members if node != self._me and self.rows[node].agreed != digest]
        return others[-1] if others else None


class _Edges:
    """Who does not hear whom.

    Attributes:
        deaf: for each index, the map of those that it does not hear.
        lacks: for each index, the map of those with whom it does not hear both ways.
    """

    __slots__ = ("deaf", "lacks")

    def __init__(self, deaf: dict[int, int]) -> None:
        self.deaf = deaf
        self.lacks = dict(deaf)
        for index, missing in deaf.items():
            while missing:
                lowest = missing & -missing
                other = lowest.bit_length() - 1
                self.lacks[other] = self.lacks.get(other, 0) | 1 << index
                missing ^= lowest


def _mutual(nodes: int, edges: _Edges, sizes: Sequence[int]) -> tuple[int, int]:
    """Split a map of nodes into a set in which all hear each other both ways, and the rest.

    The one with most missing edges goes first; among equals the one from the smaller old view, then the one that itself
    does not hear most others: nobody goes because a single one does not hear it. Then the last in order.
    """
    chosen, removed = nodes, 0

    def fault(index: int) -> tuple[int, int, int, int]:
        deaf = (edges.deaf.get(index, 0) & chosen).bit_count()
        return (edges.lacks[index] & chosen).bit_count(), -sizes[index], deaf, index

    while True:
        worst = max((index for index in edges.lacks if chosen >> index & 1), key=fault, default=None)
        if worst is None or not edges.lacks[worst] & chosen:
            return chosen, removed
        chosen ^= 1 << worst
        removed |= 1 << worst


def agreement(attempt: int, members: tuple[NodeId, ...]) -> int:
    """What a node announces when it has computed ``members`` in ``attempt``: 64 bits, never 0."""
    writer = Writer().number(attempt)
    for node in members:
        writer.node(node)
    return digest64(b"groupcomm agreement", writer.done()) or 1
