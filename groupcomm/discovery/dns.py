"""DNS: names whose A and AAAA records, or whose SRV records, say where other nodes may be.

Decides what is asked for and what is made of the answers. How to ask is the library's business; when, that of
``lookups``.
"""

# What twisted.names offers is not typed throughout.
# mypy: disallow-untyped-calls=False

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from socket import AF_INET6, inet_ntop
from typing import Any, Final, Protocol, TypeAlias, cast

from attrs import frozen
from twisted.internet.defer import CancelledError, Deferred, DeferredList, DeferredSemaphore, TimeoutError, succeed
from twisted.internet.error import NotConnectingError
from twisted.internet.interfaces import (
    IConnector,
    IDelayedCall,
    IListeningPort,
    IReactorTCP,
    IReactorTime,
    IReactorUDP,
)
from twisted.names import client, dns, hosts, resolve
from twisted.names.error import DNSNameError, DNSQueryRefusedError, DNSServerError, DomainError
from twisted.python.failure import Failure
from zope.interface import implementer

from groupcomm.addresses import family_of, is_port, literal_host
from groupcomm.discovery.hints import Announcement, Found
from groupcomm.discovery.lookups import Answer, LookUpFailed, LookUps
from groupcomm.errors import UsageError
from groupcomm.interfaces import IDiscovery
from groupcomm.outputs import Address
from groupcomm.status import SourceStatus

MAX_NAMES: Final = 16
"""Names in the list."""

MAX_DNS_ADDRESSES: Final = 256
"""Addresses that are used of one name."""

MAX_TARGETS: Final = 64
"""SRV records that are used of one name."""

TARGETS_AT_ONCE: Final = 8
"""Targets whose addresses are asked for at once."""

TIMEOUTS: Final = (1, 2, 4)
"""How long each server is waited for, in seconds, the first, second and last time."""

LOOK_UP_SECONDS: Final = 20.0
"""No answer for a name within this is a failure."""

SERVICE_PREFIX: Final = "srv:"
"""Says that SRV records are meant."""

RESOLVER_FILE: Final = "/etc/resolv.conf"

Hosts: TypeAlias = tuple[tuple[str, ...], float]
"""Addresses of a name, and for how many seconds that holds."""


class Resolver(Protocol):
    """What asks."""

    def query(self, query: dns.Query, timeout: Sequence[int]) -> Deferred[Any]:
        """The records that are the answer, those of the authority and those beside it; may be cancelled."""

    def hang_up(self) -> None:
        """No question is under way: keep no connection."""

    def end(self) -> None:
        """Leave nothing behind."""


@frozen
class DnsName:
    """One name.

    Attributes:
        host: the name, in full.
        port: the port of all its addresses; None if SRV records are asked for, and say it.
    """

    host: str
    port: int | None

    def __str__(self) -> str:
        if self.port is None:
            return self.host if self.host.startswith("_") else f"{SERVICE_PREFIX}{self.host}"
        return f"{self.host}:{self.port}"


def parse_dns(text: str, default_port: int) -> DnsName:
    """Read ``NAME``, ``NAME:PORT``, ``_SERVICE._PROTO.DOMAIN`` or ``srv:NAME``.

    Raises:
        UsageError: it is not of that form.
    """
    name = text.strip()
    service = name.startswith(SERVICE_PREFIX)
    host, colon, port = name.removeprefix(SERVICE_PREFIX).partition(":")
    service = service or host.startswith("_")
    if literal_host(name) is not None or literal_host(host) is not None or host.startswith("["):
        raise UsageError(f"{text!r} is an address and no name: --peer takes addresses")
    host = host.rstrip(".")
    if not re.fullmatch(r"[^\s/@#\[\]%,]+", host) or not _fits_dns(host):
        raise UsageError(f"{text!r} is no DNS name: NAME, NAME:PORT, _SERVICE._PROTO.DOMAIN or srv:NAME")
    if service and colon:
        raise UsageError(f"{text!r} has a port, but SRV records say the port themselves")
    if colon and not is_port(port):
        raise UsageError(f"the port of {text!r} must be 1 to 65535")
    return DnsName(host, None if service else int(port) if colon else default_port)


def _fits_dns(host: str) -> bool:
    """Whether labels and name are not too long, and none is empty."""
    try:
        return len(dns.domainString(host)) <= 253
    except UnicodeError:
        return False


def kinds_of(own_hosts: Iterable[str]) -> list[int]:
    """The kinds of records, A and AAAA, that are of use to a node with these addresses."""
    families = {family_of(host) for host in own_hosts}
    return [kind for kind, family in ((dns.A, 4), (dns.AAAA, 6)) if family in families]


def words_of(failure: Failure) -> str:
    """What went wrong with a question, in words."""
    error = failure.value
    if isinstance(error, TimeoutError | CancelledError):
        return "no DNS server answers"
    if isinstance(error, DNSNameError):
        return "there is no such name"
    if isinstance(error, DNSServerError):
        return "the DNS server failed"
    if isinstance(error, DNSQueryRefusedError):
        return "the DNS server refused to answer"
    if isinstance(error, DomainError):
        return f"the DNS server's answer is an error ({type(error).__name__})"
    return str(error) or type(error).__name__


def hosts_in(records: Iterable[Any], kinds: Sequence[int]) -> Hosts:
    """The addresses in these records, of these kinds (A, AAAA)."""
    found: dict[str, None] = {}
    seconds = float("inf")
    for header in records:
        record = header.payload
        if header.type not in kinds:
            continue
        if isinstance(record, dns.Record_A):
            found[record.dottedQuad()] = None
        elif isinstance(record, dns.Record_AAAA):
            found[inet_ntop(AF_INET6, record.address)] = None
        else:
            continue
        seconds = min(seconds, header.ttl)
    return tuple(found), seconds


@implementer(IDiscovery)
class DnsDiscovery:
    """Offers the addresses of names in the DNS."""

    def __init__(
        self,
        reactor: IReactorTime,
        announcement: Announcement,
        names: Sequence[DnsName],
        make_resolver: Callable[[IReactorTime], Resolver] | None = None,
    ) -> None:
        """Ask nothing before ``start``.

        Args:
            reactor: tells the time, and is what the resolver asks through.
            announcement: has this node's own addresses: only their families are asked for.
            names: the names.
            make_resolver: makes what asks; not given: ``SystemResolver``.
        """
        if len(names) > MAX_NAMES:
            raise UsageError(f"at most {MAX_NAMES} DNS names, not {len(names)}")
        self._reactor = reactor
        self._names = {str(name): name for name in names}
        self._kinds = kinds_of(announcement.interface_addresses)
        self._make_resolver = make_resolver if make_resolver is not None else SystemResolver
        self._resolver: Resolver | None = None
        self._asking = 0
        self._lookups = LookUps(reactor, "dns", announcement, self._look_up, MAX_DNS_ADDRESSES)

    def start(self, port: int, found: Found) -> Deferred[None]:
        """Look up every name, and offer what they stand for."""
        self._resolver = self._make_resolver(self._reactor)
        self._lookups.set_names(tuple(self._names))
        self._lookups.start(port, found)
        return succeed(None)

    def stop(self) -> Deferred[None]:
        """Ask and offer nothing more."""
        self._lookups.stop()
        resolver, self._resolver = self._resolver, None
        if resolver is not None:
            resolver.end()
        return succeed(None)

    def moved(self, hosts: tuple[str, ...]) -> None:
        """The node has other addresses, perhaps of another family."""
        self._kinds = kinds_of(hosts)
        self._lookups.moved(hosts)

    def status(self) -> SourceStatus:
        """The names, and what they stand for."""
        return self._lookups.status(", ".join(self._names))

    def _look_up(self, text: str) -> Deferred[Answer]:
        """Look one name up."""
        self._asking += 1
        looking = Deferred.fromCoroutine(self._answer(self._names[text]))
        return looking.addTimeout(LOOK_UP_SECONDS, self._reactor).addBoth(self._looked_up)

    def _looked_up(self, result: Answer | Failure) -> Answer | Failure:
        """When the last look-up under way is over, there is nothing to keep a connection for."""
        self._asking -= 1
        if not self._asking and self._resolver is not None:
            self._resolver.hang_up()
        if isinstance(result, Failure) and result.check(TimeoutError):
            return Failure(LookUpFailed(words_of(result)))
        return result

    async def _answer(self, name: DnsName) -> Answer:
        """What a name stands for now."""
        if name.port is None:
            return await self._services(name.host)
        found, seconds = await self._hosts(name.host)
        return Answer(tuple((host, name.port) for host in found), seconds)

    async def _hosts(self, name: str | bytes) -> Hosts:
        """The addresses of a host, of the families that are of use here."""
        results = await DeferredList([self._ask(name, kind) for kind in self._kinds], consumeErrors=True)
        records = [header for good, result in results if good for header in result[0]]
        found, seconds = hosts_in(records, self._kinds)
        if not found:
            failures = [words_of(result) for good, result in results if not good]
            raise LookUpFailed((failures or [self._none_text()])[0])
        return found, seconds

    async def _services(self, name: str) -> Answer:
        """Where the targets of a service are."""
        try:
            answer, _, additional = await self._ask(name, dns.SRV)
        except (DomainError, TimeoutError) as error:
            raise LookUpFailed(words_of(Failure(error))) from None
        headers = [header for header in answer if header.type == dns.SRV and isinstance(header.payload, dns.Record_SRV)]
        services = [header.payload for header in headers if header.payload.port and header.payload.target.name]
        services.sort(key=lambda record: (record.priority, -record.weight, record.target.name, record.port))
        services = services[:MAX_TARGETS]
        if not services:
            raise LookUpFailed("it has no SRV record")
        targets = list(dict.fromkeys(record.target.name.lower() for record in services))
        gate = DeferredSemaphore(TARGETS_AT_ONCE)
        asked = [gate.run(self._target, target, additional) for target in targets]
        results = dict(zip(targets, await DeferredList(asked, consumeErrors=True), strict=True))
        seconds = min(header.ttl for header in headers)
        addresses: list[Address] = []
        for record in services:
            good, result = results[record.target.name.lower()]
            if good:
                addresses += [(host, record.port) for host in result[0]]
                seconds = min(seconds, result[1])
        if not addresses:
            target, (_, failure) = next(iter(results.items()))
            raise LookUpFailed(f"none of its targets has an address: {_shown(target)}: {words_of(failure)}")
        return Answer(tuple(addresses), seconds)

    def _target(self, target: bytes, additional: Iterable[Any]) -> Deferred[Hosts]:
        """The addresses of a target: they may have come with the answer."""
        beside = [header for header in additional if header.name.name.lower() == target]
        known = hosts_in(beside, self._kinds)
        return succeed(known) if known[0] else Deferred.fromCoroutine(self._hosts(target))

    def _ask(self, name: str | bytes, kind: int) -> Deferred[Any]:
        """Ask for records of one kind."""
        if self._resolver is None:
            raise LookUpFailed("the node stops")
        return self._resolver.query(dns.Query(name, kind, dns.IN), TIMEOUTS)

    def _none_text(self) -> str:
        """What a name lacks that exists."""
        if len(self._kinds) > 1:
            return "it has no address"
        return "it has no IPv4 address" if dns.A in self._kinds else "it has no IPv6 address"


def _shown(name: bytes) -> str:
    """A name out of an answer, which may hold any byte."""
    return name.decode("ascii", "backslashreplace")


class SystemResolver:
    """Asks the servers of ``/etc/resolv.conf``, after a look at ``/etc/hosts``; a large answer comes over TCP."""

    def __init__(self, reactor: IReactorTime, servers: Sequence[tuple[str, int]] = ()) -> None:
        """Be ready to ask.

        Args:
            reactor: of Twisted, with UDP and TCP.
            servers: whom to ask instead.
        """
        self._loan = ReactorLoan(reactor)
        if servers:
            asker = client.Resolver(servers=list(servers), timeout=TIMEOUTS, reactor=self._loan)
        else:
            asker = client.Resolver(resolv=RESOLVER_FILE, timeout=TIMEOUTS, reactor=self._loan)
        self._chain = resolve.ResolverChain([hosts.Resolver(), asker])

    def query(self, query: dns.Query, timeout: Sequence[int]) -> Deferred[Any]:
        """Ask."""
        return cast("Deferred[Any]", self._chain.query(query, timeout))

    def hang_up(self) -> None:
        """End the connections, which the library would keep: one that has died silently would fail all questions."""
        self._loan.hang_up()

    def end(self) -> None:
        """End the connections and what is to happen later."""
        self._loan.end()


class ReactorLoan:
    """The reactor as the library's resolver has it: what it begins there can be ended, for which it has no means."""

    def __init__(self, reactor: IReactorTime) -> None:
        self._reactor = reactor
        self._calls: list[IDelayedCall] = []
        self._connectors: list[IConnector] = []

    def seconds(self) -> float:
        """The time."""
        return self._reactor.seconds()

    def callLater(self, delay: float, function: Callable[..., object], *args: object, **kwargs: object) -> IDelayedCall:
        """Call later, unless the loan has ended."""
        call = self._reactor.callLater(delay, function, *args, **kwargs)
        self._calls = [*(earlier for earlier in self._calls if earlier.active()), call]
        return call

    def listenUDP(self, port: int, protocol: Any, interface: str = "", maxPacketSize: int = 8192) -> IListeningPort:
        """Open a socket, which closes with its question."""
        return cast(IReactorUDP, self._reactor).listenUDP(port, protocol, interface, maxPacketSize)

    def connectTCP(self, host: str, port: int, factory: Any) -> IConnector:
        """Connect, until ``hang_up``."""
        connector = cast(IReactorTCP, self._reactor).connectTCP(host, port, factory, timeout=sum(TIMEOUTS))
        self._connectors.append(connector)
        return connector

    def hang_up(self) -> None:
        """End every connection."""
        connectors, self._connectors = self._connectors, []
        for connector in connectors:
            try:
                connector.disconnect()
            except NotConnectingError:
                continue

    def end(self) -> None:
        """Leave nothing behind."""
        self.hang_up()
        calls, self._calls = self._calls, []
        for call in calls:
            if call.active():
                call.cancel()
