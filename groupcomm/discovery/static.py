"""The static list: addresses and host names that an operator gave, resolved as every program of the host does.

Decides what an entry is and how it is looked up; when, is ``lookups``' business.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from attrs import frozen
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import (
    IAddress,
    IHostResolution,
    IReactorPluggableNameResolver,
    IReactorTime,
    IResolutionReceiver,
)
from zope.interface import implementer

from groupcomm.addresses import literal_host, parse_address, show_address
from groupcomm.discovery.hints import Announcement, Found
from groupcomm.discovery.lookups import Answer, LookUps
from groupcomm.errors import UsageError
from groupcomm.interfaces import IDiscovery
from groupcomm.status import SourceStatus

RESOLVE_SECONDS: Final = 30.0
"""How often names are resolved again: the system's resolver does not tell for how long an answer holds."""

MAX_PEERS: Final = 64
"""Entries in the list."""


@frozen
class PeerName:
    """One entry of the list."""

    host: str
    port: int

    @property
    def literal(self) -> bool:
        """Whether it is an address and needs no resolving."""
        return literal_host(self.host) is not None

    def __str__(self) -> str:
        return show_address((self.host, self.port))


def parse_peer(text: str, default_port: int) -> PeerName:
    """Read ``HOST[:PORT]``, where an IPv6 address with a port stands in brackets.

    Raises:
        UsageError: it is not of that form.
    """
    return PeerName(*parse_address(text, default_port))


@implementer(IDiscovery)
class StaticDiscovery:
    """Offers the addresses of a list."""

    def __init__(
        self,
        reactor: IReactorTime,
        announcement: Announcement,
        peers: Sequence[PeerName],
        resolve: Callable[[str], Deferred[tuple[str, ...]]],
    ) -> None:
        """Offer nothing before ``start``.

        Args:
            reactor: tells the time.
            announcement: has this node's own addresses, which are never offered with its own port.
            peers: the list.
            resolve: gives the addresses of a host name.
        """
        if len(peers) > MAX_PEERS:
            raise UsageError(f"at most {MAX_PEERS} static peers, not {len(peers)}")
        self._lookups = LookUps(reactor, "static", announcement, peer_look_up(resolve))
        self._peers = tuple(map(str, peers))

    def start(self, port: int, found: Found) -> Deferred[None]:
        """Offer every address now and every ``OFFER_SECONDS``."""
        self._lookups.set_names(self._peers)
        self._lookups.start(port, found)
        return succeed(None)

    def stop(self) -> Deferred[None]:
        """Offer nothing more; name look-ups under way are given up."""
        self._lookups.stop()
        return succeed(None)

    def moved(self, hosts: tuple[str, ...]) -> None:
        """The node has other addresses."""
        self._lookups.moved(hosts)

    def status(self) -> SourceStatus:
        """The list, and what it means."""
        return self._lookups.status(", ".join(self._peers))


def peer_look_up(resolve: Callable[[str], Deferred[tuple[str, ...]]]) -> Callable[[str], Deferred[Answer]]:
    """How a peer, as ``str`` shows it, is looked up: an address is its own answer."""

    def look_up(text: str) -> Deferred[Answer]:
        peer = parse_peer(text, 0)
        if peer.literal:
            return succeed(Answer(((peer.host, peer.port),), RESOLVE_SECONDS))
        return resolve(peer.host).addCallback(
            lambda hosts: Answer(tuple((host, peer.port) for host in hosts), RESOLVE_SECONDS)
        )

    return look_up


def reactor_resolver(reactor: IReactorPluggableNameResolver) -> Callable[[str], Deferred[tuple[str, ...]]]:
    """A resolver that asks the reactor's, which asks the system's in a thread."""

    def resolve(host: str) -> Deferred[tuple[str, ...]]:
        collected = _Collected()
        reactor.nameResolver.resolveHostName(collected, host, 0, [IPv4Address, IPv6Address])
        return collected.done

    return resolve


@implementer(IResolutionReceiver)
class _Collected:
    """The addresses of one look-up."""

    def __init__(self) -> None:
        self._hosts: list[str] = []
        self._resolution: IHostResolution | None = None
        self.done: Deferred[tuple[str, ...]] = Deferred(self._cancel)

    def resolutionBegan(self, resolutionInProgress: IHostResolution) -> None:
        """It has begun."""
        self._resolution = resolutionInProgress

    def addressResolved(self, address: IAddress) -> None:
        """One more address."""
        if isinstance(address, IPv4Address | IPv6Address):
            self._hosts.append(address.host)

    def resolutionComplete(self) -> None:
        """That was all."""
        if not self.done.called:
            self.done.callback(tuple(dict.fromkeys(self._hosts)))

    def _cancel(self, _: Deferred[tuple[str, ...]]) -> None:
        """Nobody waits for it any more; a look-up in a thread cannot be stopped, its answer is dropped."""
