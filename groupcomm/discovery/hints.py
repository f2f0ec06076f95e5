"""What the sources share: who announces, and a bounded memory of addresses seen."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeAlias

from attrs import frozen

from groupcomm.identity import NodeId
from groupcomm.outputs import Address

MAX_HINTS: Final = 256
"""Addresses a source remembers: the oldest is forgotten when full, so a flood of announcements costs no memory."""

HINTS_PER_SECOND: Final = 64
"""Hints a source may give in a second: more are dropped and come again with the next offer."""

Found: TypeAlias = Callable[[Address], None]
"""Called in the reactor's thread with an address at which another node may be."""


@frozen
class Announcement:
    """What a source may tell others.

    Attributes:
        cluster: the cluster's name; sources give no hints from other clusters where they can tell.
        node: who announces.
        interface_address: the IPv4 address of the one interface the node uses.
    """

    cluster: str
    node: NodeId
    interface_address: str


class HintBook:
    """The addresses of one source, by where they came from, handed out at a bounded rate.

    Invariant: at most ``MAX_HINTS`` entries.
    """

    def __init__(self, seconds: Callable[[], float], own: Address) -> None:
        """Know nothing yet.

        Args:
            seconds: the clock.
            own: this node's address, which is never a hint.
        """
        self._seconds = seconds
        self._own = own
        self._known: dict[str, tuple[Address, ...]] = {}
        self._window_start = float("-inf")
        self._given = 0
        self._offered = 0
        self.dropped = 0

    def learn(self, origin: str, addresses: tuple[Address, ...]) -> tuple[Address, ...]:
        """Remember what an origin says now, instead of what it said before, and return what may be handed out."""
        self._known.pop(origin, None)
        wanted = tuple(address for address in addresses if address != self._own)
        if wanted:
            while len(self._known) >= MAX_HINTS:
                self._known.pop(next(iter(self._known)))
            self._known[origin] = wanted[:4]
        return self._allowed(wanted[:4])

    def forget(self, origin: str) -> None:
        """The origin has gone."""
        self._known.pop(origin, None)

    def offer(self) -> tuple[Address, ...]:
        """What is known, as much as may be handed out again; the next offer goes on where this one ends."""
        known = list(dict.fromkeys(address for addresses in self._known.values() for address in addresses))
        start = self._offered % len(known) if known else 0
        allowed = self._allowed(tuple(known[start:] + known[:start]))
        self._offered = start + len(allowed)
        return allowed

    def _allowed(self, addresses: tuple[Address, ...]) -> tuple[Address, ...]:
        """As many as the rate allows."""
        now = self._seconds()
        if not 0 <= now - self._window_start < 1.0:
            self._window_start = now
            self._given = 0
        allowed = addresses[: max(0, HINTS_PER_SECOND - self._given)]
        self._given += len(allowed)
        self.dropped += len(addresses) - len(allowed)
        return allowed
