"""Every node this one has heard of: where it is, when it was heard, in which view it says it is."""

from __future__ import annotations

from groupcomm.config import stretch
from groupcomm.identity import NodeId, ViewId
from groupcomm.limits import MAX_STRANGERS
from groupcomm.outputs import Address
from groupcomm.reliability.rtt import RoundTrip
from groupcomm.wire.messages import Beacon

_MOVED_SECONDS = 0.5


class Peer:
    """One other node.

    Attributes:
        node: which.
        address: its own socket.
        heard_at: when its last authentic packet came.
        seen_at: when it was first heard.
        beacon: its last beacon; None if it has sent none.
        round_trip: how far it is.
        probed_at: when it was last probed.
    """

    __slots__ = ("address", "beacon", "heard_at", "node", "probed_at", "round_trip", "seen_at")

    def __init__(self, node: NodeId, address: Address, now: float) -> None:
        self.node = node
        self.address = address
        self.heard_at = self.seen_at = now
        self.beacon: Beacon | None = None
        self.round_trip = RoundTrip()
        self.probed_at = 0.0

    @property
    def view(self) -> ViewId | None:
        """The view it says it is in."""
        return self.beacon.view if self.beacon is not None else None


class Peers:
    """All known nodes, by identity and by address.

    Bound: the view's members and ``MAX_STRANGERS`` more; the longest silent stranger is forgotten when full. A member
    keeps its address: it has moved only if it has not been heard there for two heartbeats, and a stranger who sends
    from there takes nothing from it.
    """

    __slots__ = ("_by_address", "_by_node", "_kept", "_moved_seconds", "_strangers")

    def __init__(self) -> None:
        self._by_node: dict[NodeId, Peer] = {}
        self._by_address: dict[Address, Peer] = {}
        self._kept: frozenset[NodeId] = frozenset()
        self._moved_seconds = _MOVED_SECONDS
        self._strangers: list[Peer] | None = None

    def keep(self, members: tuple[NodeId, ...]) -> None:
        """These are the view's: they are never forgotten."""
        self._kept = frozenset(members)
        self._moved_seconds = _MOVED_SECONDS * stretch(len(members))
        self._strangers = None

    def heard(self, node: NodeId, address: Address, now: float) -> Peer:
        """A message that names its sender came from ``address``."""
        peer = self._by_node.pop(node, None)
        if peer is None:
            if len(self._by_node) >= MAX_STRANGERS + len(self._kept):
                self._forget_one()
            peer = Peer(node, address, now)
            self._strangers = None
        elif peer.address != address:
            if node in self._kept and now - peer.heard_at < self._moved_seconds:
                self._by_node[node] = peer
                return peer
            if self._by_address.get(peer.address) is peer:
                del self._by_address[peer.address]
            peer.address = address
        self._by_node[node] = peer
        there = self._by_address.get(address)
        if there is not peer and (there is None or there.node not in self._kept):
            self._by_address[address] = peer
        peer.heard_at = now
        return peer

    def _forget_one(self) -> None:
        """Forget the stranger that has been silent for longest: they stand in the order in which they were heard."""
        self.forget(next(node for node in self._by_node if node not in self._kept))

    def forget(self, node: NodeId) -> None:
        """Nothing is known of this node any more."""
        peer = self._by_node.pop(node, None)
        self._strangers = None
        if peer is not None and self._by_address.get(peer.address) is peer:
            del self._by_address[peer.address]

    def at(self, address: Address) -> Peer | None:
        """Who sends from ``address``."""
        return self._by_address.get(address)

    def get(self, node: NodeId) -> Peer | None:
        """What is known of ``node``."""
        return self._by_node.get(node)

    def named(self, name: str) -> list[Peer]:
        """All runs of the node of this name that are known, in order."""
        return [self._by_node[node] for node in sorted(self._by_node) if node.name == name]

    def strangers(self) -> list[Peer]:
        """All that are not of the view, in order."""
        if self._strangers is None:
            self._strangers = [self._by_node[node] for node in sorted(self._by_node.keys() - self._kept)]
        return self._strangers

    def excuse(self, seconds: float) -> None:
        """This node did not run for so long: others have not been silent in that time."""
        for peer in self._by_node.values():
            peer.heard_at += seconds
