"""What a node says of its links in each beacon, and what it takes from what others say."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol

from groupcomm.addresses import is_link_local
from groupcomm.identity import NodeId
from groupcomm.limits import MAX_BEACON_ADDRESSES
from groupcomm.outputs import Address
from groupcomm.paths.path import Path, Reach
from groupcomm.wire.messages import Beacon, LinkReport

_FEW_ADDRESSES = 3


class Other(Protocol):
    """Another node, as far as its paths matter."""

    @property
    def node(self) -> NodeId:
        """Which."""

    @property
    def paths(self) -> tuple[Path, ...]:
        """By link."""

    @property
    def beacon(self) -> Beacon | None:
        """Its last."""


def make_reports(
    others: Iterable[Other], addresses: Sequence[Address], number: int, since: float
) -> tuple[LinkReport, ...]:
    """What is said of each link; nothing if there is one, and everybody's multicast arrives.

    Args:
        others: the nodes that are heard, in order.
        addresses: this node's, by link; nothing if it has one and does not know.
        number: of this beacon.
        since: what has not come since then does not arrive.
    """
    reports = []
    known = list(others)
    several = len(addresses) > 1
    for link, own in enumerate(addresses or (None,)):
        address = own if several and own is not None and not is_link_local(own) else None
        unheard, silent = [], []
        there = [one for one in known if link < links_of(one.beacon)]
        for one in there:
            path = one.paths[link]
            if several and path.heard_at < since:
                silent.append(one.node)
            elif path.multicast_at < since:
                unheard.append(one.node)
        if unheard and len(unheard) + len(silent) == len(there):
            reports.append(LinkReport(number, address, (), tuple(silent), all_unheard=True))
        elif several or unheard:
            reports.append(LinkReport(number, address, tuple(unheard), tuple(silent)))
    return tuple(reports)


def addresses_to_tell(others: Sequence[Other], turn: int) -> tuple[Address, ...]:
    """Where other nodes are, for those who do not hear each other: few where this node's multicast reaches all.

    Args:
        others: the nodes that are heard, in order.
        turn: which beacon this is: each has others in turn, if there are too many for one.
    """
    reached = all(path.reach is Reach.MULTICAST for one in others for path in one.paths[:1])
    most = _FEW_ADDRESSES if reached else MAX_BEACON_ADDRESSES
    first = [path.address for one in others for path in one.paths[:1]]
    known = [address for address in first if address is not None and not is_link_local(address)]
    start = turn * most % len(known) if len(known) > most else 0
    return tuple((known[start:] + known[:start])[:most])


def take_reports(me: NodeId, other: Other) -> bool:
    """Take what a node's last beacon says of what it hears of this one; whether that is new."""
    beacon = other.beacon
    assert beacon is not None
    news = False
    for link, path in enumerate(other.paths):
        if link >= links_of(beacon):
            reach = Reach.NOTHING
        elif not beacon.links:
            reach = Reach.MULTICAST
        else:
            report = beacon.links[link]
            unheard = report.all_unheard or me in report.unheard
            reach = Reach.NOTHING if me in report.silent else Reach.UNICAST if unheard else Reach.MULTICAST
        news = news or reach is not path.reach
        path.reach = reach
    return news


def links_of(beacon: Beacon | None) -> int:
    """How many links its sender has: one if it says nothing of them."""
    return max(1, len(beacon.links)) if beacon is not None else 1
