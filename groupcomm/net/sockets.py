"""The sockets of a node: on each of its links two UDP sockets and a TCP listener that shares a port number with one.

Everything that leaves by a link is sent from its unicast socket, multicast too, so the source of any packet is the
node's own address on that link. The multicast socket only receives, is bound to the group's address (so that nothing
else reaches it) and is shared with other nodes of this host. Reading drains a bounded burst and says once that it has
ended.

Decides: which port numbers, what happens to a datagram the kernel does not take (dropped and counted: the streams
repair), and which errors are worth a line in the log (each kind at most once a minute). Does not look into datagrams.
"""

from __future__ import annotations

import errno
import ipaddress
from collections.abc import Sequence
from typing import Protocol

from attrs import field, frozen
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.protocol import ServerFactory
from twisted.logger import Logger

from groupcomm.errors import EnvironmentFault, UsageError
from groupcomm.net import interfaces
from groupcomm.net.changes import InterfaceChanges
from groupcomm.net.filters import SocketAddress
from groupcomm.net.interfaces import NetworkInterface
from groupcomm.net.links import PORT_ATTEMPTS, Link
from groupcomm.net.ports import WAITING_DATAGRAMS, PortSetup
from groupcomm.net.reactor import INodeReactor
from groupcomm.outputs import Address, Datagram
from groupcomm.status import LinkStatus

DEFAULT_GROUP = "239.192.71.67"
"""The multicast group: in the organisation-local scope of RFC 2365."""

DEFAULT_GROUP6 = "ff18::efc0:4743"
"""The multicast group of IPv6: transient, of organisation-local scope (RFC 4291), its group id, the number of the IPv4
group, among those for groups that nobody has assigned (RFC 3307)."""

DEFAULT_PORT = 4874
"""The port of the multicast group, and the port a node's own socket takes if it is free."""

LOG_INTERVAL_SECONDS = 60.0
"""The same kind of socket trouble is logged at most once in this time; the counters have the rest."""

RETRY_SECONDS = 1.0
"""When an address that could not be used yet is tried again."""

COUNTERS = (
    "send_no_room",
    "send_refused",
    "send_too_long",
    "send_unreachable",
    "send_failed",
    "receive_errors",
    "own_runs",
    "sink_failures",
    "link_changes",
)
"""What the sockets count: datagrams the kernel did not take, by cause; read errors; own multicasts; our errors; how
often a link has lost its interface, got it back or moved."""

_NO_ROOM = frozenset({errno.EAGAIN, errno.EWOULDBLOCK, errno.ENOBUFS, errno.ENOMEM})
_NO_WAY = frozenset({errno.ENETUNREACH, errno.ENETDOWN, errno.EHOSTUNREACH, errno.EADDRNOTAVAIL, errno.ENODEV})


@frozen
class SocketConfig:
    """Where a node's sockets are.

    Attributes:
        interfaces: what its links leave and arrive by, one each, in the order of their numbers.
        group: the IPv4 multicast group.
        group_port: the port of the groups, the same at all nodes of the cluster.
        port: the unicast port, UDP and TCP, on every link; 0: ``group_port`` if it is free, else any, on every link the
            same if it is free there.
        ttl: how many routers a multicast packet may pass, plus one.
        group6: the IPv6 multicast group.
    """

    interfaces: tuple[NetworkInterface, ...]
    group: str = DEFAULT_GROUP
    group_port: int = DEFAULT_PORT
    port: int = 0
    ttl: int = field(default=1)
    group6: str = DEFAULT_GROUP6

    def __attrs_post_init__(self) -> None:
        check_ports(self.group, self.group_port, self.port)
        check_group6(self.group6)

    @property
    def groups(self) -> tuple[Address, ...]:
        """The multicast groups of the links, each once, with the port."""
        return tuple(dict.fromkeys((self.group_of(each), self.group_port) for each in self.interfaces))

    def group_of(self, interface: NetworkInterface) -> str:
        """The multicast group of an interface's family."""
        return self.group if interface.family == 4 else self.group6


def check_ports(group: str, group_port: int, port: int) -> None:
    """Raise ``UsageError`` unless these are an IPv4 multicast group, its port, and a port or 0."""
    try:
        multicast = ipaddress.IPv4Address(group).is_multicast
    except ValueError:
        multicast = False
    if not multicast:
        raise UsageError(f"{group!r} is no IPv4 multicast address (224.0.0.0 to 239.255.255.255)")
    if not 0 < group_port < 65_536:
        raise UsageError(f"the multicast port must be 1 to 65535, not {group_port}")
    if not 0 <= port < 65_536:
        raise UsageError(f"the port must be 0 to 65535, not {port}")


def check_group6(group: str) -> None:
    """Raise ``UsageError`` unless this is an IPv6 multicast group that reaches other hosts."""
    try:
        scope = ipaddress.IPv6Address(group).packed[1] & 0x0F if ipaddress.IPv6Address(group).is_multicast else 0
    except ValueError:
        scope = 0
    if not 2 <= scope <= 14 or "%" in group:
        raise UsageError(f"{group!r} is no IPv6 multicast address that reaches other hosts (ff02:: to ff1e::)")


class DatagramSink(Protocol):
    """Who gets what the sockets receive."""

    def reading(self, link: int, multicast: bool) -> None:
        """What is received next came by this link, from the group's socket or this node's own."""

    def datagram_received(self, data: bytes, source: Address) -> None:
        """One datagram of the burst under way."""

    def run_received(self, data: bytes, size_bytes: int, source: Address) -> None:
        """Several datagrams that came at once, each of ``size_bytes`` but the last, which may be shorter."""

    def burst_ended(self) -> None:
        """No more for now: answer."""

    def moved(self) -> None:
        """A link has lost its interface, got it back or has another address."""


class NodeTransport(Protocol):
    """What a node needs of its sockets; a test gives it something else."""

    @property
    def address(self) -> Address:
        """The node's own address on its first link: host and port."""

    @property
    def addresses(self) -> tuple[Address, ...]:
        """The node's own address on each link, as it is now."""

    @property
    def link_mtus(self) -> tuple[int, ...]:
        """The largest IP packet that the interface of each link takes now, in bytes."""

    @property
    def counters(self) -> dict[str, int]:
        """What happened to the sockets, only ever growing."""

    def links(self) -> tuple[LinkStatus, ...]:
        """What each link is, and what its sockets have got of the kernel."""

    def send(self, datagrams: Sequence[Datagram]) -> None:
        """Send each by its link; what cannot be sent is dropped and counted."""

    def read_waiting(self) -> None:
        """Read a bounded number of datagrams that have come already; the sink's burst does not end with it."""

    def close(self) -> Deferred[None]:
        """Close everything; fires when nothing is left."""


class NodeSockets:
    """The sockets of one node, open from construction to ``close``.

    Invariant: on each link the UDP and the TCP socket of the node have the same port number.

    Attributes:
        reader: the port that was read last.
    """

    _log = Logger()

    def __init__(
        self, reactor: INodeReactor, config: SocketConfig, sink: DatagramSink, neighbours: ServerFactory
    ) -> None:
        """Open them all.

        Args:
            reactor: what reads them.
            config: where.
            sink: gets the datagrams.
            neighbours: serves the TCP connections of other nodes' watches.

        Raises:
            EnvironmentFault: a port is taken, or an interface cannot do it.
        """
        self._reactor = reactor
        self._config = config
        self._counters = dict.fromkeys(COUNTERS, 0)
        self._logged: dict[str, float] = {}
        self._sink = sink
        self.reader: object = None
        self._links: list[Link] = []
        try:
            for number in range(len(config.interfaces)):
                self._open(number, neighbours)
            for link in self._links:
                link.open_group(self._own_addresses(link))
        except BaseException:
            for link in self._links:
                link.close()
            raise
        self._only = self._links[0].sender if len(self._links) == 1 else None
        self._changes = InterfaceChanges(reactor, self._look)

    @property
    def address(self) -> Address:
        """The node's own address on its first link: host and port, the same for UDP and TCP."""
        return self._links[0].address

    @property
    def addresses(self) -> tuple[Address, ...]:
        """The node's own address on each link, as it is now."""
        return tuple(link.address for link in self._links)

    @property
    def link_mtus(self) -> tuple[int, ...]:
        """The largest IP packet that the interface of each link takes now, in bytes."""
        return tuple(link.mtu_bytes for link in self._links)

    @property
    def counters(self) -> dict[str, int]:
        """What happened to the sockets, only ever growing."""
        return {**self._counters, "segmented_sends": sum(link.sender.runs for link in self._links)}

    def links(self) -> tuple[LinkStatus, ...]:
        """What each link is, and what its sockets have got of the kernel."""
        return tuple(link.status() for link in self._links)

    def send(self, datagrams: Sequence[Datagram]) -> None:
        """Send each by its link, in order on each; what the kernel does not take is dropped and counted."""
        if self._only is not None:
            self._only.send(datagrams)
            return
        leaving: list[list[Datagram]] = [[] for _ in self._links]
        for datagram in datagrams:
            leaving[datagram.link].append(datagram)
        for link, through in zip(self._links, leaving, strict=True):
            if through:
                link.sender.send(through)

    def read_waiting(self) -> None:
        """Read a bounded number of datagrams that have come already, as a part of the burst under way."""
        for link in self._links:
            link.unicast.read_burst(WAITING_DATAGRAMS)

    def close(self) -> Deferred[None]:
        """Close everything; fires when nothing is left."""
        self._changes.stop()
        return gatherResults([closing for link in self._links for closing in link.close()]).addCallback(lambda _: None)

    # What the ports call: an error of the sink's, whichever, never reaches the reactor, which would end the port for
    # good: a crafted packet that found a fault of ours could silence the whole cluster.

    def reading(self, link: int, multicast: bool) -> None:
        """Another port is read from now on."""
        try:
            self._sink.reading(link, multicast)
        except Exception:
            self._sink_failed()

    def datagram_received(self, data: bytes, source: Address) -> None:
        """One datagram, from one of the ports."""
        try:
            self._sink.datagram_received(data, source)
        except Exception:
            self._sink_failed()

    def run_received(self, data: bytes, size_bytes: int, source: Address) -> None:
        """Several datagrams that came at once, from one of the ports."""
        try:
            self._sink.run_received(data, size_bytes, source)
        except Exception:
            self._sink_failed()

    def burst_ended(self) -> None:
        """The port is empty, or has had its turn."""
        try:
            self._sink.burst_ended()
        except Exception:
            self._sink_failed()

    def count(self, name: str, times: int = 1) -> None:
        """Count something that happened."""
        self._counters[name] += times

    def send_failed(self, link: Link, error: OSError, datagrams: int) -> None:
        """Count datagrams that were not sent, by what hindered them."""
        name = link.setup.interface.name
        if error.errno in _NO_ROOM:
            self.count("send_no_room", datagrams)
        elif error.errno == errno.ECONNREFUSED:
            self.count("send_refused", datagrams)
        elif error.errno == errno.EMSGSIZE:
            self.count("send_too_long", datagrams)
            self._report(
                f"{name} EMSGSIZE", f"a datagram was too long for interface {name}: mtu_bytes is too large here"
            )
        elif error.errno in _NO_WAY or link.away:
            self.count("send_unreachable", datagrams)
            self._report(f"{name} away", f"nothing can be sent by interface {name}: {error.strerror}")
        else:
            self.count("send_failed", datagrams)
            kind = errno.errorcode.get(error.errno or 0, "?")
            self._report(f"{name} {kind}", f"sending by interface {name} failed: {error.strerror}")

    def _report(self, kind: str, text: str) -> None:
        """Log a trouble, each kind at most once in ``LOG_INTERVAL_SECONDS``."""
        if self._may_log(kind):
            self._log.warn("{text} (logged at most once a minute; the status counts)", text=text, kind=kind)

    def _sink_failed(self) -> None:
        """Count an error of ours while a datagram was handled, with its traceback in the log once a minute."""
        self.count("sink_failures")
        if self._may_log("sink"):
            self._log.failure("handling a datagram failed (logged at most once a minute; the status counts)")

    def _may_log(self, kind: str) -> bool:
        """Whether this kind has not been logged for ``LOG_INTERVAL_SECONDS``; if so, it now counts as logged."""
        now = self._reactor.seconds()
        last = self._logged.get(kind)
        if last is not None and 0 <= now - last < LOG_INTERVAL_SECONDS:
            return False
        self._logged[kind] = now
        return True

    # Links, and what becomes of their interfaces.

    def _open(self, number: int, neighbours: ServerFactory) -> None:
        """Open one more link."""
        config = self._config
        interface = config.interfaces[number]
        setup = PortSetup(number, interface, config.group_of(interface), config.group_port, config.ttl)
        link = Link(self._reactor, setup, self, neighbours)
        if config.port:
            link.open([config.port])
        else:
            wished = self._links[0].address[1] if self._links else config.group_port
            link.open([wished, *[0] * PORT_ATTEMPTS])
        self._links.append(link)

    def _own_addresses(self, link: Link) -> list[SocketAddress]:
        """This node's addresses of the family of a link."""
        family = link.setup.interface.family
        return [other.own for other in self._links if other.setup.interface.family == family]

    def _look(self) -> None:
        """Interfaces or addresses of this host may have changed."""
        available = interfaces.list_interfaces()
        changed = False
        for link in self._links:
            try:
                news = link.follow(available)
            except (EnvironmentFault, OSError) as error:
                self._report(f"link {link.setup.link}", f"link {link.setup.link}: {error}; trying again")
                self._changes.look_soon(RETRY_SECONDS)
                continue
            if news is not None:
                changed = True
                self.count("link_changes")
                self._log.info("link {link} {news}", link=link.setup.link, news=news)
        if changed:
            for link in self._links:
                if link.group is not None:
                    link.group.pass_over(self._own_addresses(link))
            self._sink.moved()
