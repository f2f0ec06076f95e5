"""One path: a link to one other node, and what is known of it.

Decides nothing: what comes is noted here, and decided on by who asks.
"""

from __future__ import annotations

import enum
from math import inf

from groupcomm.outputs import Address
from groupcomm.paths.search import MtuSearch
from groupcomm.reliability.rtt import RoundTrip
from groupcomm.status import PathStatus

HEARD_HEARTBEATS = 4
"""What has not come for so many heartbeats does not arrive: at a loss of 20 % once in 600 times by mere chance."""

_BEACONS = 64


class Reach(enum.IntEnum):
    """What of this node's datagrams arrives at the other end."""

    NOTHING = 0
    UNICAST = 1
    MULTICAST = 2


class Path:
    """One link to one other node.

    Attributes:
        address: the other's, on this link; None until it was heard there.
        heard_at: when a message of its cluster came by this link last.
        multicast_at: when one came by multicast.
        reach: what of this node's arrives there, as the other says.
        search: of the largest datagram that passes.
        round_trip: how far it is by this link.
    """

    __slots__ = (
        "_beacons",
        "_first_beacon",
        "_last_beacon",
        "address",
        "heard_at",
        "multicast_at",
        "reach",
        "round_trip",
        "search",
    )

    def __init__(self, search: MtuSearch) -> None:
        self.address: Address | None = None
        self.heard_at = self.multicast_at = -inf
        self.reach = Reach.MULTICAST
        self.search = search
        self.round_trip = RoundTrip()
        self._beacons = 0
        self._first_beacon = self._last_beacon = 0

    @property
    def usable(self) -> bool:
        """Whether anything sent by it may arrive."""
        return self.address is not None and self.reach is not Reach.NOTHING

    def beacon_came(self, number: int) -> None:
        """Its beacon of this number came by this path; beacons are numbered by link."""
        if not self._first_beacon:
            self._first_beacon, self._last_beacon = number, number - 1
        ahead = number - self._last_beacon
        if ahead > 0:
            self._beacons = (self._beacons << min(ahead, _BEACONS) | 1) & (1 << _BEACONS) - 1
            self._last_beacon = number
        elif -ahead < _BEACONS:
            self._beacons |= 1 << -ahead

    @property
    def loss(self) -> float:
        """Which part of the last 64 beacons of the other did not come by this path."""
        sent = min(self._last_beacon - self._first_beacon + 1, _BEACONS)
        return max(0.0, 1.0 - self._beacons.bit_count() / sent) if self._first_beacon else 0.0

    def status(self, since: float) -> PathStatus:
        """What is known of it; what has not come since then does not arrive."""
        return PathStatus(
            self.address,
            self.reach.name.lower(),
            self.heard_at >= since,
            self.multicast_at >= since,
            self.round_trip.seconds,
            self.loss,
            self.search.passes_bytes,
            self.search.searching,
        )
