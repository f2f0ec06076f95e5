"""What the sources share: who announces, what may be a hint, and a bounded memory of addresses seen."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from ipaddress import ip_address
from typing import Final, TypeAlias

from attrs import frozen

from groupcomm.addresses import family_of, literal_host
from groupcomm.identity import NodeId
from groupcomm.outputs import Address

MAX_HINTS: Final = 256
"""Origins a source remembers: the oldest is forgotten when full, so a flood of announcements costs no memory."""

MAX_ADDRESSES: Final = 16
"""Addresses remembered of one origin: eight interfaces with two families each."""

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
        interface_addresses: the addresses that the node uses, IPv4 and IPv6, of one interface or of several.
    """

    cluster: str
    node: NodeId
    interface_addresses: tuple[str, ...]


def hint_host(text: str) -> str | None:
    """The host of a hint as addresses are compared; None if no other node can be there."""
    host = literal_host(text)
    if host is None:
        return None
    parsed = ip_address(host)
    if parsed.is_multicast or parsed.is_unspecified:
        return None
    return None if parsed.version == 6 and parsed.is_link_local and "%" not in host else host


class HintBook:
    """The addresses of one source, by where they came from, handed out at a bounded rate.

    Invariant: at most ``MAX_HINTS`` entries.
    """

    def __init__(
        self,
        seconds: Callable[[], float],
        own_hosts: Sequence[str],
        own_port: int,
        max_addresses: int = MAX_ADDRESSES,
    ) -> None:
        """Know nothing yet.

        Args:
            seconds: the clock.
            own_hosts: this node's addresses: those of other families are no hints, nor are those of the loopback
                interface unless there is one among them.
            own_port: this node's port: there it is itself, which is never a hint.
            max_addresses: how many are remembered of one origin.
        """
        self._seconds = seconds
        self._own_port = own_port
        self._max_addresses = max_addresses
        self.moved(own_hosts)
        self._known: dict[str, tuple[Address, ...]] = {}
        self._window_start = float("-inf")
        self._given = 0
        self._offered = 0
        self.dropped = 0

    def moved(self, own_hosts: Sequence[str]) -> None:
        """These are this node's addresses from now on."""
        self._own = {(host, self._own_port) for host in own_hosts}
        self._families = {family_of(host) for host in own_hosts}
        self._loopback = any(ip_address(host).is_loopback for host in own_hosts)

    def learn(self, origin: str, addresses: Sequence[Address]) -> tuple[Address, ...]:
        """Remember what an origin says now, instead of what it said before, and return what may be handed out."""
        self._known.pop(origin, None)
        wanted: dict[Address, None] = {}
        for text, port in addresses[: 2 * self._max_addresses]:
            host = hint_host(text)
            if host is not None and self._is_of_use((host, port)):
                wanted[host, port] = None
        known = tuple(wanted)[: self._max_addresses]
        if known:
            while len(self._known) >= MAX_HINTS:
                self._known.pop(next(iter(self._known)))
            self._known[origin] = known
        return self._allowed(known)

    def forget(self, origin: str) -> None:
        """The origin has gone."""
        self._known.pop(origin, None)

    def known(self) -> tuple[Address, ...]:
        """Every address, each once."""
        every = dict.fromkeys(address for addresses in self._known.values() for address in addresses)
        return tuple(address for address in every if self._is_of_use(address))

    def offer(self) -> tuple[Address, ...]:
        """What is known, as much as may be handed out again; the next offer goes on where this one ends."""
        known = self.known()
        start = self._offered % len(known) if known else 0
        allowed = self._allowed(known[start:] + known[:start])
        self._offered = start + len(allowed)
        return allowed

    def _is_of_use(self, address: Address) -> bool:
        """Whether another node may be there, and be reached from here."""
        host = address[0]
        if family_of(host) not in self._families or address in self._own:
            return False
        return self._loopback or not ip_address(host).is_loopback

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
