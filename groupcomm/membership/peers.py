"""Every node this one has heard of: where it is, when it was heard, in which view it says it is."""

from __future__ import annotations

from math import inf
from operator import attrgetter

from groupcomm.config import stretch
from groupcomm.identity import NodeId, ViewId
from groupcomm.limits import MAX_DATAGRAM_BYTES, MAX_STRANGERS
from groupcomm.outputs import Address
from groupcomm.paths.path import Path, Reach
from groupcomm.paths.reports import take_reports
from groupcomm.paths.search import MtuSearch
from groupcomm.reliability.rtt import RoundTrip
from groupcomm.wire.messages import Beacon

_MOVED_SECONDS = 0.5
_IN_ORDER = attrgetter("name", "incarnation")


class Peer:
    """One other node.

    Attributes:
        node: which.
        address: its own socket, on the first link by which it was heard.
        heard_at: when its last authentic packet came.
        seen_at: when it was first heard.
        beacon: its last beacon; None if it has sent none.
        round_trip: how far it is.
        probed_at: when it was last probed.
        paths: by link, as many as this node has.
    """

    __slots__ = ("address", "beacon", "heard_at", "node", "paths", "probed_at", "round_trip", "seen_at")

    def __init__(self, node: NodeId, address: Address, now: float, paths: tuple[Path, ...]) -> None:
        self.node = node
        self.address = address
        self.heard_at = self.seen_at = now
        self.beacon: Beacon | None = None
        self.round_trip = RoundTrip()
        self.probed_at = 0.0
        self.paths = paths

    @property
    def view(self) -> ViewId | None:
        """The view it says it is in."""
        return self.beacon.view if self.beacon is not None else None


class Peers:
    """All known nodes, by identity and by address.

    Bound: the view's members and ``MAX_STRANGERS`` more; the longest silent stranger is forgotten when full. A member
    keeps its address on a link: it has moved only if it has not been heard there for two heartbeats, and a stranger
    who sends from there takes nothing from it.

    Attributes:
        most_bytes: by link, the largest datagram that leaves by it; 0 if that is not searched.
        birth_bytes: the largest that leaves before it is known what passes.
        link: by which what is received now has come.
        multicast: whether it came to the group.
        multicast_at: when anything came to the group.
        moved: something about the paths has changed that decides by which of them datagrams leave.
    """

    __slots__ = (
        "_by_address",
        "_by_node",
        "_kept",
        "_moved_seconds",
        "_strangers",
        "birth_bytes",
        "link",
        "most_bytes",
        "moved",
        "multicast",
        "multicast_at",
    )

    def __init__(self) -> None:
        self.most_bytes: tuple[int, ...] = (0,)
        self.birth_bytes = MAX_DATAGRAM_BYTES
        self.link = 0
        self.multicast = True
        self.moved = False
        self.multicast_at = -inf
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
        self.moved = True

    def heard(self, node: NodeId, address: Address, now: float) -> Peer:
        """A message that names its sender came from ``address``, by this link."""
        peer = self._by_node.pop(node, None)
        if peer is None:
            if len(self._by_node) >= MAX_STRANGERS + len(self._kept):
                self._forget_one()
            peer = Peer(node, address, now, tuple(Path(MtuSearch(most, self.birth_bytes)) for most in self.most_bytes))
            self._strangers = None
        self._by_node[node] = peer
        path = peer.paths[self.link]
        if path.address != address:
            recently = now - path.heard_at < self._moved_seconds
            if path.address is not None and node in self._kept and recently:
                return peer
            self._found(peer, path, address)
        self._claim(address, peer)
        path.heard_at = peer.heard_at = now
        if self.multicast:
            path.multicast_at = self.multicast_at = now
        return peer

    def came(self, peer: Peer, source: Address, now: float) -> None:
        """A packet of the view came from a node: its path is as it was if it came from there."""
        path = peer.paths[self.link]
        if path.address == source:
            path.heard_at = now

    def told(self, peer: Peer, me: NodeId) -> None:
        """Its last beacon says where it is on each link, and what it hears there of this node."""
        reports = () if peer.beacon is None else peer.beacon.links
        for path, report in zip(peer.paths, reports, strict=False):
            if path.address is None and report.address is not None and report.address not in self._by_address:
                self._found(peer, path, report.address)
                self._claim(report.address, peer)
        if len(peer.paths) > 1 and self.link < len(reports) and reports[self.link].number:
            peer.paths[self.link].beacon_came(reports[self.link].number)
        if take_reports(me, peer):
            self.moved = True

    def _found(self, peer: Peer, path: Path, address: Address) -> None:
        """A path leads somewhere else from now on."""
        old, path.address = path.address, address
        if old is not None and self._by_address.get(old) is peer:
            del self._by_address[old]
        path.reach = Reach.MULTICAST
        path.search = MtuSearch(path.search.most_bytes, self.birth_bytes)
        if peer.address == old or old is None:
            peer.address = next(one.address for one in peer.paths if one.address is not None)
        self.moved = True

    def _claim(self, address: Address, peer: Peer) -> None:
        """Take what comes from there for its own, unless it is a member's."""
        there = self._by_address.get(address)
        if there is not peer and (there is None or there.node not in self._kept):
            self._by_address[address] = peer

    def _forget_one(self) -> None:
        """Forget the stranger that has been silent for longest: they stand in the order in which they were heard."""
        self.forget(next(node for node in self._by_node if node not in self._kept))

    def forget(self, node: NodeId) -> None:
        """Nothing is known of this node any more."""
        peer = self._by_node.pop(node, None)
        self._strangers = None
        for path in () if peer is None else peer.paths:
            if path.address is not None and self._by_address.get(path.address) is peer:
                del self._by_address[path.address]

    def at(self, address: Address) -> Peer | None:
        """Who sends from ``address``."""
        return self._by_address.get(address)

    def paths_at(self, address: Address) -> tuple[Path, ...] | None:
        """The paths to whom that address belongs."""
        peer = self._by_address.get(address)
        return None if peer is None else peer.paths

    def heard_since(self, since: float) -> list[Peer]:
        """All that are of the view or were heard since then, in order."""
        return [
            peer
            for peer in map(self._by_node.__getitem__, sorted(self._by_node, key=_IN_ORDER))
            if peer.node in self._kept or peer.heard_at >= since
        ]

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
            for path in peer.paths:
                path.heard_at += seconds
                path.multicast_at += seconds
