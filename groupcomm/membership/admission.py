"""Who may come in: newcomers at the gate, and whole views that hear each other.

Decides whom a calm node would take into its next view; the change itself is the membership's business. Newcomers come
in batches through one gate, the lowest member; views merge only if every cross pair hears each other both ways, so that
a one-way link cannot make them merge and part for ever.
"""

from __future__ import annotations

from groupcomm.config import EngineConfig
from groupcomm.identity import NodeId, ViewId
from groupcomm.membership.peers import Peer, Peers
from groupcomm.wire.codec import node_digest

_MAX_HEARD = 128


class Admission:
    """What a node knows about those outside its view.

    Bound: one entry for each foreign view whose nodes are among the peers.
    """

    __slots__ = ("_digest", "_known", "_known_at", "_max_nodes", "_me", "_merging", "_staging_since", "_timing")

    def __init__(self, me: NodeId, config: EngineConfig) -> None:
        self._me = me
        self._digest = node_digest(me)
        self._timing = config.timing
        self._max_nodes = config.max_nodes
        self._known: set[NodeId] = set()
        self._known_at = 0.0
        self._staging_since = 0.0
        self._merging: dict[ViewId, float] = {}

    def _fresh(self, peer: Peer, now: float) -> bool:
        """Whether it was heard lately: six heartbeats, so that loss alone does not hide it."""
        return now - peer.heard_at <= 6 * self._timing.heartbeat and peer.beacon is not None

    def heard(self, peers: Peers, now: float) -> tuple[int, ...]:
        """Whom to name in the beacon: those outside the view that are heard."""
        return tuple(peer.digest for peer in peers.strangers() if self._fresh(peer, now))[:_MAX_HEARD]

    def _newcomers(self, peers: Peers, now: float) -> list[NodeId]:
        return [peer.node for peer in peers.strangers() if self._fresh(peer, now) and peer.view is None]

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
        foreign: dict[ViewId, list[Peer]] = {}
        for peer in peers.strangers():
            if peer.view is not None and peer.view != view and self._fresh(peer, now):
                foreign.setdefault(peer.view, []).append(peer)
        for other in list(self._merging):
            if other not in foreign:
                del self._merging[other]
        chosen: list[NodeId] = []
        for other in sorted(foreign):
            if not self._both_ways(foreign[other], peers, members, now):
                self._merging.pop(other, None)
                continue
            since = self._merging.setdefault(other, now)
            if now - since >= self._timing.merge:
                chosen += [peer.node for peer in foreign[other]]
        return sorted(chosen) if chosen and self._me < min(chosen) and self._me == members[0] else []

    def _both_ways(self, foreign: list[Peer], peers: Peers, members: tuple[NodeId, ...], now: float) -> bool:
        digests = [peer.digest for peer in foreign]
        if any(peer.beacon is None or peer.beacon.size != len(foreign) for peer in foreign):
            return False
        for node in members:
            if node == self._me:
                ours = self._digest
            else:
                member = peers.get(node)
                if member is None or member.beacon is None or not set(digests) <= set(member.beacon.heard):
                    return False
                ours = member.digest
            if any(peer.beacon is None or ours not in peer.beacon.heard for peer in foreign):
                return False
        return True
