"""The two UDP sockets of a node and the TCP listener that shares a port number with one of them.

Everything is sent from the unicast socket, multicast too, so the source of any packet is the node's own address. The
multicast socket only receives, is bound to the group's address (so that nothing else reaches it) and is shared with
other nodes of this host. Reading drains a bounded burst and says once that it has ended.

Decides: socket options, what happens to a datagram the kernel does not take (dropped and counted: the streams repair),
and which errors are worth a line in the log (each kind at most once a minute). Does not look into datagrams.
"""

from __future__ import annotations

import errno
import ipaddress
import socket
import struct
from collections.abc import Callable, Sequence
from typing import Protocol, cast

from attrs import field, frozen
from twisted.internet import udp
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IListeningPort, IReactorFDSet
from twisted.internet.protocol import DatagramProtocol, ServerFactory
from twisted.logger import Logger

from groupcomm.errors import EnvironmentFault, UsageError
from groupcomm.net.filters import drop_from
from groupcomm.net.interfaces import NetworkInterface
from groupcomm.net.offload import ANCILLARY_BYTES, MAX_SEGMENTS, SegmentingSender, receive_runs, segment_size
from groupcomm.net.reactor import INodeReactor
from groupcomm.outputs import Address, Datagram

DEFAULT_GROUP = "239.192.71.67"
"""The multicast group: in the organisation-local scope of RFC 2365."""

DEFAULT_PORT = 4874
"""The port of the multicast group, and the port a node's own socket takes if it is free."""

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
"""Asked of the kernel for the sending socket: one window at once, without loss."""

PORT_ATTEMPTS = 64
"""How often a port number is drawn until both its UDP and its TCP side are free."""

LOG_INTERVAL_SECONDS = 60.0
"""The same kind of socket trouble is logged at most once in this time; the counters have the rest."""

COUNTERS = (
    "send_no_room",
    "send_refused",
    "send_too_long",
    "send_failed",
    "receive_errors",
    "own_runs",
    "sink_failures",
)
"""What the sockets count: datagrams the kernel did not take, by cause; read errors; own multicasts; our errors."""

_IP_MULTICAST_ALL = 49
_SO_SNDBUFFORCE = 32
_SO_RCVBUFFORCE = 33
_NO_ROOM = frozenset({errno.EAGAIN, errno.EWOULDBLOCK, errno.ENOBUFS, errno.ENOMEM})


@frozen
class SocketConfig:
    """Where a node's sockets are.

    Attributes:
        interface: the interface everything leaves and arrives by.
        group: the IPv4 multicast group.
        group_port: its port, the same at all nodes of the cluster.
        port: the unicast port, UDP and TCP; 0: ``group_port`` if it is free, else any.
        ttl: how many routers a multicast packet may pass, plus one.
    """

    interface: NetworkInterface
    group: str = DEFAULT_GROUP
    group_port: int = DEFAULT_PORT
    port: int = 0
    ttl: int = field(default=1)

    def __attrs_post_init__(self) -> None:
        check_ports(self.group, self.group_port, self.port)


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


class DatagramSink(Protocol):
    """Who gets what the sockets receive."""

    def datagram_received(self, data: bytes, source: Address) -> None:
        """One datagram of the burst under way."""

    def run_received(self, data: bytes, size_bytes: int, source: Address) -> None:
        """Several datagrams that came at once, each of ``size_bytes`` but the last, which may be shorter."""

    def burst_ended(self) -> None:
        """No more for now: answer."""


class NodeTransport(Protocol):
    """What a node needs of its sockets; a test gives it something else."""

    @property
    def address(self) -> Address:
        """The node's own address: host and port."""

    @property
    def counters(self) -> dict[str, int]:
        """What happened to the sockets, only ever growing."""

    def send(self, datagrams: Sequence[Datagram]) -> None:
        """Send; what cannot be sent is dropped and counted."""

    def read_waiting(self) -> None:
        """Read a bounded number of datagrams that have come already; the sink's burst does not end with it."""

    def close(self) -> Deferred[None]:
        """Close everything; fires when nothing is left."""


class NodeSockets:
    """The sockets of one node, open from construction to ``close``.

    Invariant: the UDP and the TCP socket of the node have the same port number.
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
            EnvironmentFault: a port is taken, or the interface cannot do it.
        """
        self._reactor = reactor
        self._config = config
        self._counters = dict.fromkeys(COUNTERS, 0)
        self._logged: dict[str, float] = {}
        self._sink = sink
        self._unicast, self._listener = self._open_pair(neighbours)
        host = self._unicast.getHost()
        self._address: Address = (host.host, host.port)
        try:
            self._multicast = self._open(_MulticastReceivePort, config.group, config.group_port, self._address)
        except EnvironmentFault:
            self._unicast.stopListening()
            self._listener.stopListening()
            raise
        cast(_UnicastPort, self._unicast).earlier = cast(BurstPort, self._multicast)
        self._sender = SegmentingSender(self._unicast.getHandle(), (config.group, config.group_port), self._send_failed)

    @property
    def address(self) -> Address:
        """The node's own address: host and port, the same for UDP and TCP."""
        return self._address

    @property
    def counters(self) -> dict[str, int]:
        """What happened to the sockets, only ever growing."""
        return {**self._counters, "segmented_sends": self._sender.runs}

    def send(self, datagrams: Sequence[Datagram]) -> None:
        """Send all of them; what the kernel does not take is dropped and counted."""
        self._sender.send(datagrams)

    def read_waiting(self) -> None:
        """Read a bounded number of datagrams that have come already, as a part of the burst under way."""
        cast(BurstPort, self._unicast).read_burst(WAITING_DATAGRAMS)

    def close(self) -> Deferred[None]:
        """Close everything; fires when nothing is left."""
        closing = [
            result
            for port in (self._unicast, self._multicast, self._listener)
            if (result := port.stopListening()) is not None
        ]
        return gatherResults(closing).addCallback(lambda _: None)

    def count(self, name: str, times: int = 1) -> None:
        """Count something that happened."""
        self._counters[name] += times

    def report(self, kind: str, text: str) -> None:
        """Log a trouble, each kind at most once in ``LOG_INTERVAL_SECONDS``."""
        if self._may_log(kind):
            self._log.warn("{text} (logged at most once a minute; the status counts)", text=text, kind=kind)

    def sink_failed(self) -> None:
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

    def _send_failed(self, error: OSError, datagrams: int) -> None:
        """Count datagrams that were not sent, by what hindered them."""
        if error.errno in _NO_ROOM:
            self.count("send_no_room", datagrams)
        elif error.errno == errno.ECONNREFUSED:
            self.count("send_refused", datagrams)
        elif error.errno == errno.EMSGSIZE:
            self.count("send_too_long", datagrams)
            self.report("EMSGSIZE", "a datagram was too long for the interface: mtu_bytes is too large here")
        else:
            self.count("send_failed", datagrams)
            self.report(errno.errorcode.get(error.errno or 0, "?"), f"sending failed: {error.strerror}")

    def _open_pair(self, neighbours: ServerFactory) -> tuple[udp.Port, IListeningPort]:
        """The unicast UDP socket and the TCP listener, on one port number."""
        config = self._config
        if config.port:
            candidates = [config.port]
        else:
            candidates = [config.group_port] + [0] * PORT_ATTEMPTS
        fault: Exception | None = None
        for candidate in candidates:
            try:
                port = self._open(_UnicastPort, config.interface.address, candidate)
            except EnvironmentFault as error:
                fault = error
                continue
            number = port.getHost().port
            try:
                listener = self._reactor.listenTCP(number, neighbours, interface=config.interface.address)
            except CannotListenError as error:
                fault = error
                port.stopListening()
                continue
            return port, listener
        raise EnvironmentFault(f"no free port on {config.interface.name}: {fault}")

    def _open(self, kind: type[BurstPort], host: str, number: int, own: Address | None = None) -> udp.Port:
        """One UDP socket, bound and read from; what comes from ``own`` is passed over."""
        protocol = _NodeDatagrams(self, self._sink)
        port: udp.Port = kind(number, protocol, host, self._config, self._reactor, self.count, own)
        try:
            port.startListening()
        except (CannotListenError, OSError) as error:
            raise EnvironmentFault(
                f"cannot use UDP {host}:{number} on interface {self._config.interface.name}: {error}"
            ) from None
        return port


class _NodeDatagrams(DatagramProtocol):
    """Hands datagrams on; an error of the receiver, whichever, never reaches the reactor.

    It would end this socket for good: a crafted packet that found a fault of ours could silence the whole cluster.
    """

    noisy = False

    def __init__(self, sockets: NodeSockets, sink: DatagramSink) -> None:
        self._sockets = sockets
        self._sink = sink

    def datagramReceived(self, datagram: bytes, addr: Address) -> None:
        """One datagram, from one of the sockets."""
        try:
            self._sink.datagram_received(datagram, addr)
        except Exception:
            self._sockets.sink_failed()

    def run_received(self, data: bytes, size_bytes: int, source: Address) -> None:
        """Several datagrams that came at once, from one of the sockets."""
        try:
            self._sink.run_received(data, size_bytes, source)
        except Exception:
            self._sockets.sink_failed()

    def burst_ended(self) -> None:
        """The socket is empty, or has had its turn."""
        try:
            self._sink.burst_ended()
        except Exception:
            self._sockets.sink_failed()


class BurstPort(udp.Port):
    """A UDP port that reads up to ``BURST_DATAGRAMS``, then tells its protocol that the burst has ended."""

    def __init__(
        self,
        number: int,
        protocol: _NodeDatagrams,
        host: str,
        config: SocketConfig,
        reactor: INodeReactor,
        count: Callable[[str], None],
        own: Address | None,
    ) -> None:
        udp.Port.__init__(self, number, protocol, host, MAX_DATAGRAM_BYTES, cast(IReactorFDSet, reactor))
        self._config = config
        self._datagrams = protocol
        self._count = count
        self.own = own

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

    def doRead(self) -> None:
        """Drain a bounded burst."""
        self.read_burst()
        self._datagrams.burst_ended()

    def read_burst(self, limit: int = BURST_DATAGRAMS) -> int:
        """Read until nothing waits or ``limit`` datagrams have been read; how many that were."""
        receive = self.socket.recvmsg
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
                self._count("receive_errors")
                break
            if source == own:
                self._count("own_runs")
                left -= 1
                continue
            size = len(data)
            if ancillary and (segment := segment_size(ancillary, size)) != size:
                self._give(run, run_source)
                run = []
                self._datagrams.run_received(data, segment, source)
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
            self._datagrams.datagramReceived(run[0], cast(Address, source))
        elif run:
            self._datagrams.run_received(b"".join(run), len(run[0]), cast(Address, source))


class _UnicastPort(BurstPort):
    """The node's own socket: sends everything.

    Where multicasts wait too, they are read first: nearly always they were sent first, and what is sent to this node
    alone speaks of them (this is sent, that is missing).
    """

    earlier: BurstPort | None = None

    def read_burst(self, limit: int = BURST_DATAGRAMS) -> int:
        """Read what the group was sent, then what this node was sent."""
        earlier = self.earlier.read_burst(WAITING_DATAGRAMS) if self.earlier is not None else 0
        return earlier + super().read_burst(limit)

    def prepare(self, made: socket.socket) -> None:
        """Multicasts leave by the chosen interface, reach this host's other nodes, and stay on the link."""
        super().prepare(made)
        set_buffer(made, socket.SO_SNDBUF, _SO_SNDBUFFORCE, SEND_BUFFER_BYTES)
        made.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, _membership("0.0.0.0", self._config.interface))
        made.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, self._config.ttl)
        made.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_LOOP, 1)


class _MulticastReceivePort(BurstPort):
    """The socket on the group, shared by all nodes of this host.

    A single datagram that wakes it is answered before a look whether more has come: most often nothing has.
    """

    def doRead(self) -> None:
        """Answer a datagram that came alone by itself; then drain a bounded burst."""
        first = self.read_burst(1)
        if first == 1:
            self._datagrams.burst_ended()
        if self.read_burst() or first > 1:
            self._datagrams.burst_ended()

    def prepare(self, made: socket.socket) -> None:
        """Shared, and a member of the group on the chosen interface."""
        super().prepare(made)
        if self.own is not None:
            drop_from(made, self.own)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.setsockopt(socket.IPPROTO_IP, _IP_MULTICAST_ALL, 0)
        made.setsockopt(
            socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, _membership(self._config.group, self._config.interface)
        )


def set_buffer(made: socket.socket, plain: int, force: int, size_bytes: int) -> None:
    """Ask for a large buffer: beyond the system's limit if this process may, else up to it."""
    try:
        made.setsockopt(socket.SOL_SOCKET, force, size_bytes)
    except OSError:
        made.setsockopt(socket.SOL_SOCKET, plain, size_bytes)


def _membership(group: str, interface: NetworkInterface) -> bytes:
    """The kernel's ``struct ip_mreqn``: group, local address, interface index."""
    return struct.pack("=4s4si", socket.inet_aton(group), socket.inet_aton(interface.address), interface.index)
