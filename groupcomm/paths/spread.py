"""By which paths a datagram leaves: multicast where it arrives, copies where it does not, pieces where it is too large.

Decides the route of everything that leaves, after it was sealed: a copy is the same datagram. The order of datagrams to
one destination is kept.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Sequence
from typing import Protocol, TypeAlias

from groupcomm.outputs import Address, Datagram
from groupcomm.paths.path import Path, Reach
from groupcomm.paths.pieces import Pieces
from groupcomm.wire.packets import LAST_OF_VIEW, Kind

_Target: TypeAlias = tuple[int, Address | None]
"""A link, and where on it; None: the group."""

_BY_THEIR_PATH = frozenset({Kind.BEACON, Kind.PROBE, Kind.PROBE_ACK, Kind.GREETING, Kind.PASSPORT, Kind.PIECE})


class Known(Protocol):
    """Who knows whose address that is."""

    def paths_at(self, address: Address) -> tuple[Path, ...] | None:
        """The paths to the node that is there."""


class Spread:
    """The routes of one node.

    Args:
        pieces: cuts what is too large.
        active: whether everything leaves by all links; if not, by as few as it takes.

    Attributes:
        links: this node's addresses, by link.
    """

    __slots__ = ("_active", "_cluster", "_least_bytes", "_narrow", "_pieces", "_plain", "_view", "copies", "links")

    def __init__(self, pieces: Pieces, *, active: bool) -> None:
        self.links: tuple[Address, ...] = ()
        self.copies = 0
        self._active = active
        self._pieces = pieces
        self._view: list[_Target] = [(0, None)]
        self._cluster: list[_Target] = [(0, None)]
        self._narrow: list[tuple[int, int, Address]] = []
        self._least_bytes = 1 << 16
        self._plain = True

    def route(self, members: Iterable[Sequence[Path]], heard: Iterable[Sequence[Path]]) -> None:
        """Choose the routes anew.

        Args:
            members: the paths to each other member of the view.
            heard: the paths to each other node that is heard, members among them.
        """
        of_view = list(members)
        links = range(max(1, len(self.links)))
        self._cluster = [(link, None) for link in links]
        for paths in heard:
            for link, path in enumerate(paths):
                if path.address is not None and path.reach is not Reach.MULTICAST:
                    self._cluster.append((link, path.address))
        self._view = self._route_of_view(of_view, links)
        self._narrow = []
        self._least_bytes = 1 << 16
        for paths in of_view:
            for link, path in enumerate(paths):
                if path.usable and path.address is not None:
                    self._least_bytes = min(self._least_bytes, path.search.passes_bytes)
                    if (link, path.address) not in self._view:
                        self._narrow.append((path.search.passes_bytes, link, path.address))
        self._plain = len(links) == 1 and self._view == self._cluster == [(0, None)]

    def _route_of_view(self, members: list[Sequence[Path]], links: range) -> list[_Target]:
        """The links on which the group is sent to, then the nodes that this does not reach."""
        reached = {
            link: {
                index
                for index, paths in enumerate(members)
                if paths[link].reach is Reach.MULTICAST and paths[link].address is not None
            }
            for link in links
        }
        targets: list[_Target] = []
        if self._active:
            targets = [(link, None) for link in links if reached[link] or not members]
            missing = {index for link in links for index in range(len(members)) if index not in reached[link]}
        else:
            missing = set(range(len(members)))
            while missing:
                best = max(links, key=lambda link: (len(reached[link] & missing), -link))
                if not reached[best] & missing:
                    break
                targets.append((best, None))
                missing -= reached[best]
        for index in sorted(missing):
            carrying = [
                (link, path.address)
                for link, path in enumerate(members[index])
                if path.usable and not (self._active and index in reached[link])
            ]
            targets += carrying if self._active else carrying[:1]
        return targets or [(0, None)]

    @property
    def alone(self) -> list[tuple[int, Address]]:
        """By which links, and where, nodes are that get what is to all by themselves."""
        return [(link, address) for link, address in self._cluster if address is not None]

    @property
    def least_bytes(self) -> int:
        """The largest datagram that every path to a member takes."""
        return self._least_bytes

    def leave(self, datagrams: list[Datagram], known: Known) -> list[Datagram]:
        """What leaves for each of ``datagrams``, sealed as they are."""
        if self._plain and all(
            (datagram.segment_bytes or len(datagram.data)) <= self._least_bytes for datagram in datagrams
        ):
            return datagrams
        by_target: dict[_Target, list[Datagram]] = {}
        for datagram in datagrams:
            kind = datagram.data[1]
            size = datagram.segment_bytes or len(datagram.data)
            if datagram.destination is not None:
                targets = self._to_one(datagram.destination, kind, known)
            elif kind <= LAST_OF_VIEW:
                targets = self._view
            else:
                targets = [(datagram.link, None)] if kind == Kind.BEACON else self._cluster
            narrow = () if size <= self._least_bytes or kind > LAST_OF_VIEW else self._narrow
            for link, address in targets:
                passes = self._passes(link, address, known)
                by_target.setdefault((link, address), []).extend(self._fitting(datagram, size, link, address, passes))
            for passes, link, address in narrow:
                if passes < size:
                    cut = self._fitting(datagram, size, link, address, passes)
                    by_target.setdefault((link, address), []).extend(cut)
        spread = [datagram for there in by_target.values() for datagram in there]
        self.copies += len(spread) - len(datagrams)
        return spread

    def _to_one(self, destination: Address, kind: int, known: Known) -> list[_Target]:
        """By which paths a datagram for one node goes."""
        paths = known.paths_at(destination)
        if paths is None:
            return [(self._link_to(destination), destination)]
        if kind in _BY_THEIR_PATH:
            return [(link, destination) for link, path in enumerate(paths) if path.address == destination]
        usable = [(link, path.address) for link, path in enumerate(paths) if path.usable]
        if not usable:
            return [(link, destination) for link, path in enumerate(paths) if path.address == destination]
        return list(usable if self._active else usable[:1])

    @staticmethod
    def _passes(link: int, address: Address | None, known: Known) -> int:
        """The largest datagram that this target takes; of the group, whatever may leave."""
        paths = None if address is None else known.paths_at(address)
        return 1 << 16 if paths is None else paths[link].search.passes_bytes

    def _fitting(
        self, datagram: Datagram, size: int, link: int, address: Address | None, passes: int
    ) -> list[Datagram]:
        """The datagram, or the pieces of what is too large."""
        if size <= passes or datagram.data[1] > LAST_OF_VIEW:
            return [Datagram(datagram.data, address, datagram.segment_bytes, link=link)]
        return [Datagram(cut, address, link=link) for piece in datagram.pieces for cut in self._pieces.cut(piece)]

    def _link_to(self, address: Address) -> int:
        """The link of an address of nobody known: whose own address has the longest part in common with it."""
        if len(self.links) < 2:
            return 0
        return max(range(len(self.links)), key=lambda link: (_in_common(self.links[link][0], address[0]), -link))


def _in_common(one: str, other: str) -> int:
    """How many leading bits two addresses share; -1 if they are of different families, or link-local to other links."""
    first, second = ipaddress.ip_address(one), ipaddress.ip_address(other)
    if first.version != second.version or one.partition("%")[2] != other.partition("%")[2]:
        return -1
    bits = first.max_prefixlen
    return bits - (int(first) ^ int(second)).bit_length()
