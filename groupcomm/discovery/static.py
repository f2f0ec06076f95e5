"""The static list: addresses an operator named, offered for ever and resolved again and again.

Decides nothing about who is alive; a name that does not resolve is logged once and tried again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from attrs import frozen
from twisted.internet.address import IPv4Address as TwistedIPv4Address
from twisted.internet.defer import Deferred, maybeDeferred, succeed
from twisted.internet.interfaces import (
    IAddress,
    IHostResolution,
    IReactorPluggableNameResolver,
    IReactorTime,
    IResolutionReceiver,
)
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from groupcomm.addresses import literal_host, parse_address, show_address
from groupcomm.discovery.hints import Found, HintBook
from groupcomm.errors import UsageError
from groupcomm.interfaces import IDiscovery
from groupcomm.outputs import Address

OFFER_SECONDS: Final = 2.0
"""How often all addresses are offered: where nothing multicasts, this finds the others again after a partition."""

RESOLVE_SECONDS: Final = 30.0
"""How often names are resolved again; one that failed is tried at every offer."""

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

    _log = Logger()

    def __init__(
        self,
        reactor: IReactorTime,
        interface_address: str,
        peers: Sequence[PeerName],
        resolve: Callable[[str], Deferred[tuple[str, ...]]],
    ) -> None:
        """Offer nothing before ``start``.

        Args:
            reactor: tells the time.
            interface_address: this node's own IPv4 address, which is never offered with its own port.
            peers: the list.
            resolve: gives the IPv4 addresses of a host name.
        """
        if len(peers) > MAX_PEERS:
            raise UsageError(f"at most {MAX_PEERS} static peers, not {len(peers)}")
        self._reactor = reactor
        self._interface_address = interface_address
        self._peers = tuple(peers)
        self._resolve = resolve
        self._resolved_at: dict[PeerName, float] = {}
        self._unresolved: set[PeerName] = set()
        self._resolving: dict[PeerName, Deferred[tuple[str, ...]]] = {}
        self._book: HintBook | None = None
        self._found: Found | None = None
        self._loop: LoopingCall | None = None

    def start(self, port: int, found: Found) -> Deferred[None]:
        """Offer every address now and every ``OFFER_SECONDS``."""
        self._book = HintBook(self._reactor.seconds, (self._interface_address, port))
        self._found = found
        self._loop = LoopingCall(self._offer)
        self._loop.clock = self._reactor
        self._loop.start(OFFER_SECONDS)
        return succeed(None)

    def stop(self) -> Deferred[None]:
        """Offer nothing more; name look-ups under way are given up."""
        self._found = None
        if self._loop is not None and self._loop.running:
            self._loop.stop()
        resolving, self._resolving = self._resolving, {}
        for look_up in resolving.values():
            look_up.cancel()
        return succeed(None)

    def _offer(self) -> None:
        """Offer what is known, then look up what is due."""
        if self._book is None:
            return
        self._give(self._book.offer())
        now = self._reactor.seconds()
        for peer in self._peers:
            last = self._resolved_at.get(peer)
            due = last is None or peer in self._unresolved or now - last >= RESOLVE_SECONDS
            if due and peer not in self._resolving:
                self._resolved_at[peer] = now
                self._look_up(peer)

    def _look_up(self, peer: PeerName) -> None:
        """Find the addresses of one entry."""
        if peer.literal:
            self._resolved((peer.host,), peer)
            return
        looking = maybeDeferred(self._resolve, peer.host)
        self._resolving[peer] = looking
        looking.addCallbacks(self._resolved, self._failed, callbackArgs=(peer,), errbackArgs=(peer,))

    def _resolved(self, hosts: tuple[str, ...], peer: PeerName) -> None:
        """An entry has these addresses."""
        self._resolving.pop(peer, None)
        if not hosts:
            self._unresolvable(peer, "it has no IPv4 address")
            return
        if peer in self._unresolved:
            self._unresolved.discard(peer)
            self._log.info("peer {peer} can be resolved again", peer=str(peer))
        if self._book is not None:
            self._give(self._book.learn(str(peer), tuple((host, peer.port) for host in hosts)))

    def _failed(self, failure: Failure, peer: PeerName) -> None:
        """An entry could not be resolved; what it was before stays offered."""
        self._resolving.pop(peer, None)
        if self._found is not None:
            self._unresolvable(peer, failure.getErrorMessage())

    def _unresolvable(self, peer: PeerName, why: str) -> None:
        """Say it once, until it resolves again."""
        if peer not in self._unresolved:
            self._unresolved.add(peer)
            self._log.warn("peer {peer} cannot be resolved: {why}; trying again", peer=str(peer), why=why)

    def _give(self, addresses: tuple[Address, ...]) -> None:
        """Hand out hints."""
        for address in addresses:
            if self._found is not None:
                self._found(address)


def reactor_resolver(reactor: IReactorPluggableNameResolver) -> Callable[[str], Deferred[tuple[str, ...]]]:
    """A resolver of IPv4 addresses that asks the reactor's."""

    def resolve(host: str) -> Deferred[tuple[str, ...]]:
        collected = _Collected()
        reactor.nameResolver.resolveHostName(collected, host, 0, [TwistedIPv4Address])
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
        if isinstance(address, TwistedIPv4Address):
            self._hosts.append(address.host)

    def resolutionComplete(self) -> None:
        """That was all."""
        if not self.done.called:
            self.done.callback(tuple(dict.fromkeys(self._hosts)))

    def _cancel(self, _: Deferred[tuple[str, ...]]) -> None:
        """Nobody waits for it any more; a look-up in a thread cannot be stopped, its answer is dropped."""
