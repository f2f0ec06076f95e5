"""Who may come in: newcomers at the gate, and whole views that hear each other.

Decides whom a calm node would take into its next view; the change itself is the membership's business. Newcomers come
in batches through one gate, the lowest member; views merge only if every cross pair hears each other both ways, so that
a one-way link cannot make them merge and part for ever.
"""

from __future__ import annotations

from math import inf

from groupcomm.config import EngineConfig, Timing, stretch
from groupcomm.identity import NodeId, ViewId
from groupcomm.membership.flapping import Flapping
from groupcomm.membership.peers import Peer, Peers
from groupcomm.membership.readmission import Readmission
from groupcomm.wire.codec import view_id_digest

_MAX_HEARD = 128


class Admission:
    """What a node knows about those outside its view.

    Bound: one entry for each foreign view whose nodes are among the peers.
    """

    __slots__ = (
        "_delays",
        "_flapping",
        "_heartbeat",
        "_installed_at",
        "_known",
        "_known_at",
        "_max_nodes",
        "_me",
        "_merging",
        "_readmission",
        "_staging_since",
        "_timing",
    )

    def __init__(self, me: NodeId, config: EngineConfig, readmission: Readmission, flapping: Flapping) -> None:
        self._me = me
        self._flapping = flapping
        self._delays = False
        self._readmission = readmission
        self._heartbeat = config.timing.heartbeat
        self._timing = config.timing
        self._max_nodes = config.max_nodes
        self._known: set[NodeId] = set()
        self._known_at = 0.0
        self._installed_at = -inf
        self._staging_since = 0.0
        self._merging: dict[ViewId, float] = {}

    def pace(self, timing: Timing) -> None:
        """Hold to the times among as many nodes as are known."""
        self._timing = timing

    def installed(self, now: float, *, delays: bool) -> None:
        """A change is over: a newcomer that it left out, silent, must be heard again before there is another.

        Args:
            now: the time.
            delays: whether this node is the gate of a primary view, and makes those wait that come and go: a view that
                is not primary may need them.
        """
        self._installed_at = now
        self._delays = delays

    def _fresh(self, peer: Peer, now: float) -> bool:
        """Whether it was heard lately: six heartbeats, its own or ours, so that loss alone does not hide it."""
        if peer.beacon is None:
            return False
        own, its = self._timing.heartbeat, self._heartbeat * stretch(peer.beacon.size)
        return now - peer.heard_at <= 6 * max(own, its)

    def known(self, peers: Peers, now: float) -> int:
        """How many nodes outside the view are heard."""
        return sum(self._fresh(peer, now) for peer in peers.strangers())

    def heard(self, peers: Peers, view: ViewId | None, now: float) -> tuple[int, ...]:
        """What to name in the beacon: the other views of which every node is heard."""
        foreign = self._foreign(peers, view, now)
        whole = [other for other in sorted(foreign) if _is_whole(foreign[other])]
        return tuple(view_id_digest(other) for other in whole[:_MAX_HEARD])

    def _foreign(self, peers: Peers, view: ViewId | None, now: float) -> dict[ViewId, list[Peer]]:
        """The nodes of other views that are heard, but for views with a node that is kept out."""
        foreign: dict[ViewId, list[Peer]] = {}
        for peer in peers.strangers():
            if peer.view is not None and peer.view != view and self._fresh(peer, now):
                foreign.setdefault(peer.view, []).append(peer)
        if self._delays or self._readmission.kept_out(now):
            for other in [other for other, there in foreign.items() if any(self._keeps_out(one, now) for one in there)]:
                del foreign[other]
        return foreign

    def _keeps_out(self, peer: Peer, now: float) -> bool:
        name = peer.node.name
        return self._readmission.keeps_out(name, now) or (self._delays and self._flapping.keeps_waiting(name, now))

    def _newcomers(self, peers: Peers, now: float) -> list[NodeId]:
        return [
            peer.node
            for peer in peers.strangers()
            if peer.view is None
            and peer.heard_at > self._installed_at
            and self._fresh(peer, now)
            and not self._keeps_out(peer, now)
        ]

    def _collected(self, nodes: list[NodeId], now: float) -> bool:
        """Whether collecting is over: nobody new for a while, or it has taken long enough."""
        if not self._known and nodes:
            self._staging_since = now
        if set(nodes) - self._known:
            self._known_at = now
        self._known = set(nodes)
        quiet = now - self._known_at >= self._timing.stage_quiet
        return quiet or now - self._staging_since >= self._timing.stage

    def founders(self, peers: Peers, waited: float, now: float) -> list[NodeId] | None:
        """With whom a newcomer founds a view; None as long as it should wait for a gate.

        Args:
            peers: all that are known.
            waited: how long it has been listening, in seconds; at least ``first``.
            now: the time.
        """
        established = any(self._fresh(peer, now) and peer.view is not None for peer in peers.strangers())
        if established and waited < self._timing.blocked:
            return None
        nodes = self._newcomers(peers, now)
        lowest = not nodes or self._me < nodes[0]
        if not lowest and waited < 2 * self._timing.first:
            return None
        if not self._collected(nodes, now):
            return None
        return nodes[: self._max_nodes - 1]

    def restarted(self, peers: Peers, members: tuple[NodeId, ...], now: float) -> list[NodeId]:
        """The members whose name has come back under a higher incarnation while they are silent themselves."""
        names = {node.name: node for node in members}
        gone = []
        for peer in peers.strangers():
            old = names.get(peer.node.name)
            member = peers.get(old) if old is not None else None
            if old is None or member is None or old >= peer.node or not self._fresh(peer, now):
                continue
            if now - member.heard_at > self._timing.probe_after:
                gone.append(old)
        return gone

    def wanted(self, peers: Peers, members: tuple[NodeId, ...], view: ViewId | None, now: float) -> list[NodeId]:
        """Whom this node, if it is its turn, takes into a change: waiting newcomers, or the nodes of other views."""
        names = {node.name for node in members}
        room = self._max_nodes - len(members)
        merging = self._mergeable(peers, members, view, now)
        if merging:
            return merging if len(merging) <= room else []
        if not members or members[0] != self._me:
            return []
        nodes = [node for node in self._newcomers(peers, now) if node.name not in names][: max(room, 0)]
        if not self._collected(nodes, now):
            return []
        return nodes

    def _mergeable(self, peers: Peers, members: tuple[NodeId, ...], view: ViewId | None, now: float) -> list[NodeId]:
        """The nodes of all views that hear and are heard by all of ours long enough, if this is the lowest of all."""
        foreign = self._foreign(peers, view, now)
        for other in list(self._merging):
            if other not in foreign:
                del self._merging[other]
        chosen: list[NodeId] = []
        for other in sorted(foreign):
            if view is None or not self._both_ways(foreign[other], other, peers, members, view):
                self._merging.pop(other, None)
                continue
            since = self._merging.setdefault(other, now)
            if now - since >= self._timing.merge:
                chosen += [peer.node for peer in foreign[other]]
        return sorted(chosen) if chosen and self._me < min(chosen) and self._me == members[0] else []

    def _both_ways(
        self, foreign: list[Peer], other: ViewId, peers: Peers, members: tuple[NodeId, ...], view: ViewId
    ) -> bool:
        """Whether every node of view ``other`` hears all of ours, and every one of ours all of it."""
        ours, theirs = view_id_digest(view), view_id_digest(other)
        if not _is_whole(foreign):
            return False
        if any(peer.beacon is None or ours not in peer.beacon.heard for peer in foreign):
            return False
        for node in members:
            member = peers.get(node)
            if node != self._me and (member is None or member.beacon is None or theirs not in member.beacon.heard):
                return False
        return True


def _is_whole(peers: list[Peer]) -> bool:
    """Whether these are all nodes of the view that they say they are in."""
    return all(peer.beacon is not None and peer.beacon.size == len(peers) for peer in peers)
