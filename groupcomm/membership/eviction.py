"""Slow receivers: who accuses whom, when enough do, and what is said of it.

Decides on a node's own accusations and on what those of all together mean. A node accuses only of what it has seen
itself (``groupcomm.reliability.slowness``), and nobody goes for what one node has seen. The tables stand in
``doc/design/membership.md``.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Final, Protocol, TypeAlias

from attrs import evolve

from groupcomm.config import EngineConfig, SlowReceiver
from groupcomm.events import Reason
from groupcomm.identity import NodeId, ViewId
from groupcomm.limits import MAX_KEPT_OUT, MAX_NODES
from groupcomm.membership.lane import Lane, Seen
from groupcomm.membership.peers import Peers
from groupcomm.membership.readmission import Readmission
from groupcomm.outputs import NodeEvicted, Output, ReceiverSlow, SlowState
from groupcomm.reliability.counters import Counters
from groupcomm.reliability.slowness import Patience
from groupcomm.status import CatchingUpStatus, SlowStatus
from groupcomm.wire.messages import Beacon, Departed, SlowNote, SlowWord

LEAST_ACCUSERS: Final = 2
_HEARD_HEARTBEATS = 2.4
_FRESH_HEARTBEATS = 4

_ACCUSATIONS = (SlowWord.CLAIM, SlowWord.CONFIRMATION)
_OF_MEMBERS = (*_ACCUSATIONS, SlowWord.CATCHING_UP)

Vote: TypeAlias = tuple[NodeId, ViewId, Collection[NodeId]]
"""A node, the view it is in, and whom it accuses itself."""


class LookingHost(Protocol):
    """Who owns the streams that are looked at."""

    def look(self) -> Seen:
        """What a look at the streams shows at this moment."""

    def lacks_much(self) -> Sequence[NodeId]:
        """Of whose streams this node lacks many packets."""

    def take_into_lane(self, nodes: Collection[NodeId]) -> None:
        """This node's stream does not wait for these members, and for all others."""

    def hand_over(self, node: NodeId) -> None:
        """If this node is the sequencer, that member shall be."""

    def lag_bytes(self, node: NodeId) -> int:
        """What a member lacks of this node's stream."""

    def tell(self, output: Output) -> None:
        """Something is to be said."""


def outvoted(votes: Iterable[Vote]) -> dict[NodeId, set[NodeId]]:
    """Whom enough of those who come from one view accuse, and who they are."""
    voters: dict[ViewId, set[NodeId]] = {}
    against: dict[tuple[ViewId, NodeId], set[NodeId]] = {}
    for voter, view, accused in votes:
        voters.setdefault(view, set()).add(voter)
        for node in accused:
            if node != voter:
                against.setdefault((view, node), set()).add(voter)
    return {
        node: by
        for (view, node), by in against.items()
        if len(by) >= LEAST_ACCUSERS and 2 * len(by) > len(voters[view] - {node})
    }


class Eviction:
    """What a node knows of slow receivers, itself among them.

    Bound: entries for the members of the view and of the one that it was evicted from, and what ``readmission`` holds.

    Attributes:
        accused: whom this node accuses, of what it has seen itself.
        lane: whom its stream does not wait for.
        readmission: who was evicted.
    """

    __slots__ = (
        "_against_me",
        "_config",
        "_counters",
        "_evicted_by",
        "_evicted_until",
        "_holding",
        "_host",
        "_lags",
        "_me",
        "_said",
        "_trailing",
        "accused",
        "lane",
        "readmission",
    )

    def __init__(self, me: NodeId, config: EngineConfig, host: LookingHost, counters: Counters) -> None:
        self._me = me
        self._config = config
        self._host = host
        self._counters = counters
        self._holding: Patience[NodeId] = Patience(config.slow_receiver_seconds)
        self._trailing: Patience[NodeId] = Patience(config.slow_receiver_seconds)
        self._lags: dict[NodeId, int] = {}
        self._said: dict[NodeId, tuple[float, tuple[SlowNote, ...]]] = {}
        self._against_me: dict[NodeId, SlowNote] = {}
        self._evicted_by: set[NodeId] = set()
        self._evicted_until = 0.0
        self.accused: frozenset[NodeId] = frozenset()
        self.lane = Lane(config)
        self.readmission = Readmission(config.timing.readmit)

    # ---- accusing --------------------------------------------------------------------------------------------------

    def look(self, peers: Peers, now: float) -> bool:
        """Look at the streams; True if this node has other things to say than before."""
        heard_since = now - _HEARD_HEARTBEATS * self._config.timing.heartbeat
        seen = self._host.look()
        holding, trailing = (
            [node for node in last if (peer := peers.get(node)) is not None and peer.heard_at >= heard_since]
            for last in (seen.holding, seen.trailing)
        )
        begun, over = self._holding.looked([*holding, *seen.lagging], now)
        self._trailing.looked(trailing, now)
        in_lane = set(self.lane.since)
        spent = self.lane.looked(evolve(seen, holding=holding), self._holding.slow, now)
        if in_lane != self.lane.since.keys():
            self._host.take_into_lane(self.lane.since)
        for node in [*begun, *spent]:
            self._lags[node] = self._host.lag_bytes(node)
            self._counters.up("lanes_spent" if node in self.lane.spent else "slow_receivers")
            self._host.tell(
                ReceiverSlow(node, self._lags[node], now - self._holding.since(node, now), False, self._state_of(node))
            )
        for node in over:
            self._host.tell(ReceiverSlow(node, 0, 0.0, True))
        before, self.accused = self.accused, self._accused(now)
        return self.accused != before or in_lane != self.lane.since.keys()

    def _state_of(self, node: NodeId) -> SlowState:
        if node in self.lane.spent:
            return SlowState.SPENT
        return SlowState.CATCHING_UP if node in self.lane.since else SlowState.WAITED_FOR

    def _claims(self) -> Collection[NodeId]:
        """Of whom this node's sending has had enough."""
        match self._config.slow_receiver:
            case SlowReceiver.WAIT:
                return ()
            case SlowReceiver.EVICT:
                return self._holding.slow
            case SlowReceiver.CATCH_UP:
                return self.lane.spent

    def _accused(self, now: float) -> frozenset[NodeId]:
        if self._config.slow_receiver is SlowReceiver.WAIT:
            return frozenset()
        confirmed = [
            node
            for node in self._claimed(now)
            if 2 * self._trailing.behind_seconds(node) >= self._config.slow_receiver_seconds
        ]
        return frozenset([*self._claims(), *confirmed])

    def _claimed(self, now: float) -> set[NodeId]:
        """Whom others say to be held up by."""
        return {note.node for _, notes in self._fresh(now) for note in notes if note.word is SlowWord.CLAIM}

    def _fresh(self, now: float) -> list[tuple[NodeId, tuple[SlowNote, ...]]]:
        """What others have said lately."""
        since = now - _FRESH_HEARTBEATS * self._config.timing.heartbeat
        return [(node, notes) for node, (at, notes) in self._said.items() if at >= since]

    def enough(self, view: ViewId, members: Sequence[NodeId], now: float) -> bool:
        """Whether enough members accuse somebody of whom one of them says to be held up."""
        if not self._said or not self.accused:
            return False
        votes: dict[NodeId, Collection[NodeId]] = dict.fromkeys(members, ())
        votes.update(
            (node, {note.node for note in notes if note.word in _ACCUSATIONS})
            for node, notes in self._fresh(now)
            if node in votes
        )
        votes[self._me] = self.accused
        claimed = self._claimed(now).union(self._claims())
        return not claimed.isdisjoint(outvoted((node, view, accused) for node, accused in votes.items()))

    # ---- saying and hearing ----------------------------------------------------------------------------------------

    def notes(self, now: float) -> tuple[SlowNote, ...]:
        """What this node's beacon says of slow receivers."""
        notes = []
        for node in sorted(self.accused):
            word = SlowWord.CLAIM if node in self._claims() else SlowWord.CONFIRMATION
            lag, seconds = self.found(node, now)
            notes.append(SlowNote(word, node, lag, _milliseconds(seconds)))
        for node, since in sorted(self.lane.since.items()):
            note = SlowNote(SlowWord.CATCHING_UP, node, self._host.lag_bytes(node), _milliseconds(now - since))
            notes.append(note)
        for one in self.readmission.kept_out(now):
            notes.append(SlowNote(SlowWord.KEPT_OUT, one.node, one.lag_bytes, _milliseconds(one.seconds)))
        return tuple(notes[:MAX_KEPT_OUT])

    def found(self, node: NodeId, now: float) -> tuple[int, float]:
        """What an accused member lacks, as far as this node has to wait for it, and for how long it has been behind."""
        if node in self._claims():
            return self._lags.get(node, 0), now - self._holding.since(node, now)
        return 0, now - self._trailing.since(node, now)

    def beacon_came(self, beacon: Beacon, view: ViewId | None, members: Sequence[NodeId], now: float) -> bool:
        """Another says what it knows; True if it says that this node is kept out."""
        if not beacon.notes and beacon.node not in self._said:
            return False
        heeded = view is not None and beacon.view == view and beacon.node in members
        if heeded:
            self._said[beacon.node] = now, tuple(note for note in beacon.notes if note.word in _OF_MEMBERS)
        kept_out = False
        for note in beacon.notes:
            if note.word is SlowWord.CLAIM and note.node == self._me and heeded:
                self._against_me[beacon.node] = note
            elif note.word is SlowWord.CATCHING_UP and note.node == self._me and heeded:
                self._host.hand_over(beacon.node)
            elif note.word is SlowWord.KEPT_OUT and note.node.name == self._me.name:
                kept_out = True
                self._learn({beacon.node}, note.lag_bytes, note.milliseconds / 1000, now)
        return kept_out

    def _learn(self, by: set[NodeId], lag: int, kept_out_seconds: float, now: float) -> None:
        """This node was evicted, as its own change or a beacon says."""
        news = not self._evicted_by
        if len(self._evicted_by) < MAX_NODES:
            self._evicted_by |= by
        self._evicted_until = max(self._evicted_until, now + kept_out_seconds)
        if news:
            self._counters.up("evicted")
            claims = self._against_me.values()
            lag = max([lag, *(note.lag_bytes for note in claims)])
            seconds = max((note.milliseconds for note in claims), default=0) / 1000
            accusers = tuple(sorted(by.union(self._against_me)))
            self._host.tell(NodeEvicted(self._me, accusers, lag, seconds, kept_out_seconds))

    # ---- the end of a view -------------------------------------------------------------------------------------------

    def installed(
        self,
        departed: Sequence[Departed],
        members: Sequence[NodeId],
        outvoted: Mapping[NodeId, set[NodeId]],
        now: float,
    ) -> None:
        """A view is installed: what was said in the old one counts no more, nor what led to an accusation.

        Args:
            departed: who of the old views is gone.
            members: who is in the new one.
            outvoted: who was evicted, and by whom, as far as this node has heard.
            now: the time.
        """
        for gone in departed:
            by = outvoted.get(gone.node, set())
            if gone.reason is Reason.EVICTION and (by or gone.node in self.accused):
                self._kept_out(gone.node, tuple(sorted(by or {self._me})), now)
        if self._me in outvoted:
            self._learn(outvoted[self._me], 0, self._config.timing.readmit, now)
        present = set(members)
        for node in self.accused.union(outvoted):
            self._holding.forget(node)
            self._trailing.forget(node)
        self._said.clear()
        self.accused = frozenset()
        self.lane.over()
        self._holding.keep(present)
        self._trailing.keep(present)
        if not present.isdisjoint(self._against_me):
            self._against_me.clear()
        if not present.isdisjoint(self._evicted_by):
            self._evicted_by.clear()
            self._evicted_until = 0.0

    def _kept_out(self, node: NodeId, by: tuple[NodeId, ...], now: float) -> None:
        claims = [note for _, notes in self._said.values() for note in notes if note.node == node]
        lag = max([self._lags.get(node, 0), *(note.lag_bytes for note in claims)])
        own = now - self._holding.since(node, now) if node in self._holding.slow else 0.0
        seconds = max([own, *(note.milliseconds / 1000 for note in claims)])
        kept_out = self.readmission.evicted(node, lag, now)
        self._counters.up("evictions")
        self._host.tell(NodeEvicted(node, by, lag, seconds, kept_out))

    # ---- getters -----------------------------------------------------------------------------------------------------

    def slow(self, now: float) -> tuple[SlowStatus, ...]:
        """Who is slow for this node's sending."""
        return tuple(
            SlowStatus(node, self._host.lag_bytes(node), now - self._holding.since(node, now), self._state_of(node))
            for node in sorted(self._holding.slow)
        )

    def catching_up(self, now: float) -> tuple[CatchingUpStatus, ...]:
        """Who is in the lane of whom, by what this node knows itself and the last word of the others."""
        known = [
            CatchingUpStatus(node, self._me, self._host.lag_bytes(node), now - since)
            for node, since in self.lane.since.items()
        ]
        known += [
            CatchingUpStatus(note.node, by, note.lag_bytes, note.milliseconds / 1000)
            for by, (_, notes) in self._said.items()
            for note in notes
            if note.word is SlowWord.CATCHING_UP
        ]
        return tuple(sorted(known, key=lambda one: (one.node, one.by)))

    def is_overrun(self, peers: Peers, now: float) -> bool:
        """Whether senders go on without it: it hears them and lacks much. Silence is then its own line's fault."""
        if self._config.slow_receiver is not SlowReceiver.CATCH_UP:
            return False
        since = now - self._config.timing.host_silent
        return any((peer := peers.get(node)) is not None and peer.heard_at >= since for node in self._host.lacks_much())

    def in_lanes(self) -> set[NodeId]:
        """Who is in the lane of anybody, by this node's finding or the last word of another, however long ago."""
        said = {note.node for _, notes in self._said.values() for note in notes if note.word is SlowWord.CATCHING_UP}
        return said.union(self.lane.since)

    def evicted_by(self, now: float) -> tuple[NodeId, ...]:
        """Who has evicted this node, and keeps it out."""
        return tuple(sorted(self._evicted_by)) if now < self._evicted_until else ()


def _milliseconds(seconds: float) -> int:
    return max(0, round(seconds * 1000))
