"""The two kinds of UDP socket of a link: how they are set up and how they are read.

Decides socket options, how much is read at once and what belongs together. Does not look into datagrams; what an
error means is for whoever opened the socket to say.
"""

from __future__ import annotations

import ipaddress
import socket
import struct
from collections.abc import Sequence
from contextlib import suppress
from typing import Final, Protocol, cast

from attrs import evolve, frozen
from twisted.internet import udp
from twisted.internet.interfaces import IReactorFDSet
from twisted.internet.protocol import DatagramProtocol

from groupcomm.net.filters import SocketAddress, drop_from
from groupcomm.net.interfaces import NetworkInterface
from groupcomm.net.offload import ANCILLARY_BYTES, MAX_SEGMENTS, receive_runs, segment_size
from groupcomm.net.reactor import INodeReactor
from groupcomm.outputs import Address

MAX_DATAGRAM_BYTES = 65_535
"""No datagram is longer; anything smaller here would truncate in silence."""

BURST_DATAGRAMS = 128
"""Datagrams read from one socket before the engine answers and the rest of the process has its turn.

A run of datagrams that came at once is not cut: a burst may be longer by ``offload.MAX_SEGMENTS`` - 1."""

WAITING_DATAGRAMS = 4 * BURST_DATAGRAMS
"""Datagrams read from a socket before a timeout is acted on; from the group's, before this node's own is read."""

RECEIVE_BUFFER_BYTES = 8 * 1024 * 1024
"""Asked of the kernel for each receiving socket: what comes in while this process is busy elsewhere."""

SEND_BUFFER_BYTES = 4 * 1024 * 1024
"""Asked of the kernel for each sending socket: one window at once, without loss."""

_SO_SNDBUFFORCE = 32
_SO_MEMINFO = 55
_MEMINFO = struct.Struct("@9I")
_SO_RCVBUFFORCE = 33
_IP_MTU_DISCOVER = 10
_IP_MULTICAST_ALL = 49
_IPV6_MTU_DISCOVER = 23
_IPV6_MULTICAST_ALL = 29
_IPV6_DONTFRAG = 62
_PMTUDISC_PROBE = 3


@frozen
class PortMemory:
    """What a socket has got of the kernel.

    Attributes:
        receive_bytes: its receive buffer, as it is asked for: the kernel takes twice that, for what it keeps beside.
        send_bytes: its send buffer, in the same way.
        drops: datagrams that found no room, were damaged, or did not pass the socket's filter.
    """

    receive_bytes: int
    send_bytes: int
    drops: int


class PortSink(Protocol):
    """Who gets what is received."""

    def datagram_received(self, data: bytes, source: Address) -> None:
        """One datagram."""

    def run_received(self, data: bytes, size_bytes: int, source: Address) -> None:
        """Several datagrams that came at once."""


class PortOwner(PortSink, Protocol):
    """Who has all the ports of a node.

    Attributes:
        reader: the port that was read last.
    """

    reader: object

    def reading(self, link: int, multicast: bool) -> None:
        """What comes next came by this link, from the group's socket or this node's own."""

    def burst_ended(self) -> None:
        """The socket is empty, or has had its turn."""

    def count(self, name: str, times: int = 1) -> None:
        """Count something that happened."""


@frozen
class PortSetup:
    """What the sockets of one link are told.

    Attributes:
        link: its number.
        interface: what everything of it leaves and arrives by.
        group: the multicast group, of the interface's family.
        group_port: its port.
        ttl: how many routers a multicast packet may pass, plus one.
    """

    link: int
    interface: NetworkInterface
    group: str
    group_port: int
    ttl: int


class BurstPort(udp.Port):
    """A UDP port that reads up to ``BURST_DATAGRAMS``, then tells its owner that the burst has ended.

    Attributes:
        own: addresses of this node; what comes from them is passed over.
    """

    multicast = False

    def __init__(self, number: int, host: str, setup: PortSetup, reactor: INodeReactor, owner: PortOwner) -> None:
        udp.Port.__init__(self, number, _Silent(), host, MAX_DATAGRAM_BYTES, cast(IReactorFDSet, reactor))
        self._setup = setup
        self._owner = owner
        self._sink: PortSink = _ShortAddresses(owner, setup.interface) if self.ip6 else owner
        self.own: tuple[SocketAddress, ...] = ()

    @property
    def ip6(self) -> bool:
        """Whether this is a socket of IPv6."""
        return self._setup.interface.family == 6

    @property
    def handle(self) -> socket.socket:
        """The socket itself."""
        return self.socket

    @property
    def bound(self) -> SocketAddress:
        """Its own address as the kernel gives it."""
        return cast(SocketAddress, self.handle.getsockname())

    def startListening(self) -> None:
        """Bind and be read; the scope of a link-local address has a place of its own in what the kernel is told."""
        host, _, scope = self.interface.partition("%")
        if scope:
            made = self.createInternetSocket()
            try:
                made.bind((host, self.port, 0, self._setup.interface.index))
            except OSError:
                made.close()
                raise
            self._preexistingSocket = made  # type: ignore[assignment]  # Twisted's own way to take a bound socket
        super().startListening()  # type: ignore[no-untyped-call]

    def memory(self) -> PortMemory:
        """What it has got of the kernel; all 0 once it is closed."""
        try:
            told = self.handle.getsockopt(socket.SOL_SOCKET, _SO_MEMINFO, _MEMINFO.size)
        except (AttributeError, OSError):
            return PortMemory(0, 0, 0)
        _, receive, _, send, *_, drops = _MEMINFO.unpack(told)
        return PortMemory(receive // 2, send // 2, drops)

    def createInternetSocket(self) -> socket.socket:
        """A socket with its options set, not yet bound."""
        made: socket.socket = super().createInternetSocket()
        try:
            self.prepare(made)
        except OSError:
            made.close()
            raise
        return made

    def prepare(self, made: socket.socket) -> None:
        """Set the options of this kind of socket."""
        set_buffer(made, socket.SO_RCVBUF, _SO_RCVBUFFORCE, RECEIVE_BUFFER_BYTES)
        receive_runs(made)
        if self.ip6:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)

    def doRead(self) -> None:
        """Drain a bounded burst."""
        self.read_burst()
        self._owner.burst_ended()

    def read_burst(self, limit: int = BURST_DATAGRAMS) -> int:
        """Read until nothing waits or ``limit`` datagrams have been read; how many that were."""
        receive = self.socket.recvmsg
        announced = self._owner.reader is self
        own = self.own
        left = limit
        run: list[bytes] = []
        run_size, run_source = 0, None
        while left > 0:
            try:
                data, ancillary, _, source = receive(MAX_DATAGRAM_BYTES, ANCILLARY_BYTES)
            except (BlockingIOError, InterruptedError):
                break
            except OSError:
                self._owner.count("receive_errors")
                break
            if source in own:
                self._owner.count("own_runs")
                left -= 1
                continue
            if not announced:
                announced = True
                self._owner.reader = self
                self._owner.reading(self._setup.link, self.multicast)
            size = len(data)
            if ancillary and (segment := segment_size(ancillary, size)) != size:
                self._give(run, run_source)
                run = []
                self._sink.run_received(data, segment, source)
                left -= -(-size // segment)
                continue
            left -= 1
            if run and not (source == run_source and 0 < size <= run_size and len(run) < MAX_SEGMENTS):
                self._give(run, run_source)
                run = []
            if not run:
                run_size, run_source = size, source
            run.append(data)
            if size < run_size:
                self._give(run, run_source)
                run = []
        self._give(run, run_source)
        return limit - left

    def _give(self, run: Sequence[bytes], source: Address | None) -> None:
        """Hand on datagrams that came one after the other, of one size but for the last, as a run."""
        if len(run) == 1:
            self._sink.datagram_received(run[0], cast(Address, source))
        elif run:
            self._sink.run_received(b"".join(run), len(run[0]), cast(Address, source))


class UnicastPort(BurstPort):
    """The node's own socket on a link: sends everything that leaves by it.

    Where multicasts wait too, they are read first: nearly always they were sent first, and what is sent to this node
    alone speaks of them (this is sent, that is missing).
    """

    earlier: BurstPort | None = None

    def read_burst(self, limit: int = BURST_DATAGRAMS) -> int:
        """Read what the group was sent, then what this node was sent."""
        earlier = self.earlier.read_burst(WAITING_DATAGRAMS) if self.earlier is not None else 0
        return earlier + super().read_burst(limit)

    def prepare(self, made: socket.socket) -> None:
        """Multicasts leave by the chosen interface, reach this host's other nodes, and stay on the link.

        Nothing is ever fragmented, and what the kernel believes of a path's MTU is not asked: the engine probes.
        """
        super().prepare(made)
        set_buffer(made, socket.SO_SNDBUF, _SO_SNDBUFFORCE, SEND_BUFFER_BYTES)
        if self.ip6:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, self._setup.ttl)
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_LOOP, 1)
            made.setsockopt(socket.IPPROTO_IPV6, _IPV6_MTU_DISCOVER, _PMTUDISC_PROBE)
            made.setsockopt(socket.IPPROTO_IPV6, _IPV6_DONTFRAG, 1)
        else:
            made.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, self._setup.ttl)
            made.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_LOOP, 1)
            made.setsockopt(socket.IPPROTO_IP, _IP_MTU_DISCOVER, _PMTUDISC_PROBE)
        multicast_by(made, self._setup.interface)


class GroupPort(BurstPort):
    """The socket on the group, shared by all nodes of this host.

    A single datagram that wakes it is answered before a look whether more has come: most often nothing has.
    """

    multicast = True

    def doRead(self) -> None:
        """Answer a datagram that came alone by itself; then drain a bounded burst."""
        first = self.read_burst(1)
        if first == 1:
            self._owner.burst_ended()
        if self.read_burst() or first > 1:
            self._owner.burst_ended()

    def prepare(self, made: socket.socket) -> None:
        """Shared, and a member of the group on the chosen interface only."""
        super().prepare(made)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if self.ip6:
            # Before Linux 4.20 there is no such option, and memberships of other sockets of this host count too.
            with suppress(OSError):
                made.setsockopt(socket.IPPROTO_IPV6, _IPV6_MULTICAST_ALL, 0)
        else:
            made.setsockopt(socket.IPPROTO_IP, _IP_MULTICAST_ALL, 0)
        join(made, self._setup.group, self._setup.interface)

    def pass_over(self, own: Sequence[SocketAddress]) -> None:
        """From now on own multicasts, from these addresses, are dropped by the kernel if it can, else here.

        The kernel's check of memberships does not look at the interface for IPv6: the filter does.
        """
        self.own = tuple(own)
        drop_from(self.socket, own, self._setup.interface.index if self.ip6 else None)

    def join_again(self, interface: NetworkInterface) -> None:
        """The interface has been away: whatever became of the membership, it holds again.

        Raises:
            OSError: it cannot be joined.
        """
        # It may have gone with the device.
        with suppress(OSError):
            leave(self.socket, self._setup.group, self._setup.interface)
        self._setup = evolve(self._setup, interface=interface)
        if self.ip6:
            self._sink = _ShortAddresses(self._owner, interface)
        join(self.socket, self._setup.group, interface)


class _Silent(DatagramProtocol):
    """What Twisted asks of a protocol; the port itself hands on what comes."""

    noisy = False


class _ShortAddresses:
    """Between a port of IPv6 and who gets what it receives: addresses of host and port alone, equal ones equal."""

    def __init__(self, sink: PortSink, interface: NetworkInterface) -> None:
        self._sink = sink
        self._interface = interface

    def datagram_received(self, data: bytes, source: SocketAddress) -> None:
        """One datagram."""
        self._sink.datagram_received(data, short_address(source, self._interface))

    def run_received(self, data: bytes, size_bytes: int, source: SocketAddress) -> None:
        """Several datagrams that came at once."""
        self._sink.run_received(data, size_bytes, short_address(source, self._interface))


def short_address(source: SocketAddress, interface: NetworkInterface) -> Address:
    """Host and port; the host of a link-local address with the name of its interface."""
    if len(source) == 2:
        return source
    host, port, _, scope = source
    if not scope:
        return host, port
    if scope == interface.index:
        return f"{host}%{interface.name}", port
    try:
        return f"{host}%{socket.if_indextoname(scope)}", port
    except OSError:
        return f"{host}%{scope}", port


def set_buffer(made: socket.socket, plain: int, force: int, size_bytes: int) -> None:
    """Ask for a large buffer: beyond the system's limit if this process may, else up to it."""
    try:
        made.setsockopt(socket.SOL_SOCKET, force, size_bytes)
    except OSError:
        made.setsockopt(socket.SOL_SOCKET, plain, size_bytes)


def multicast_by(made: socket.socket, interface: NetworkInterface) -> None:
    """Multicasts of this socket leave by that interface."""
    if interface.family == 6:
        made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, interface.index)
    else:
        made.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, _membership("0.0.0.0", interface))


def join(made: socket.socket, group: str, interface: NetworkInterface) -> None:
    """Become a member of the group on that interface."""
    if interface.family == 6:
        made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, _membership(group, interface))
    else:
        made.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, _membership(group, interface))


def leave(made: socket.socket, group: str, interface: NetworkInterface) -> None:
    """Be a member of the group on that interface no more."""
    if interface.family == 6:
        made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_LEAVE_GROUP, _membership(group, interface))
    else:
        made.setsockopt(socket.IPPROTO_IP, socket.IP_DROP_MEMBERSHIP, _membership(group, interface))


_MREQN: Final = struct.Struct("=4s4si")
_MREQ6: Final = struct.Struct("=16sI")


def _membership(group: str, interface: NetworkInterface) -> bytes:
    """The kernel's ``struct ip_mreqn`` (group, local address, interface index) or ``struct ipv6_mreq``."""
    packed = ipaddress.ip_address(group).packed
    if interface.family == 6:
        return _MREQ6.pack(packed, interface.index)
    return _MREQN.pack(packed, socket.inet_aton(interface.address), interface.index)
