"""One link of a node: the sockets on one address of one interface, for as long as the node runs.

Decides what becomes of them when the interface goes down, comes back or has another address: a link that is away stays,
what is sent by it is dropped and counted; one that was named by its interface moves to the new address.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Protocol, cast

from attrs import evolve
from twisted.internet.defer import Deferred
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IListeningPort
from twisted.internet.protocol import ServerFactory

from groupcomm.addresses import show_host
from groupcomm.errors import EnvironmentFault
from groupcomm.net.filters import SocketAddress
from groupcomm.net.interfaces import NetworkInterface, interface_mtu
from groupcomm.net.offload import SegmentingSender
from groupcomm.net.ports import BurstPort, GroupPort, PortOwner, PortSetup, UnicastPort, multicast_by, short_address
from groupcomm.net.reactor import INodeReactor
from groupcomm.outputs import Address
from groupcomm.status import LinkStatus

PORT_ATTEMPTS: Final = 64
"""How often a port number is drawn until both its UDP and its TCP side are free."""


class LinkOwner(PortOwner, Protocol):
    """Who has the links of a node."""

    def send_failed(self, link: Link, error: OSError, datagrams: int) -> None:
        """Datagrams were not sent."""


class Link:
    """The unicast and the group's UDP socket and the TCP listener of one link, open from ``open`` to ``close``.

    Invariant: its unicast UDP socket and its TCP listener have the same port number.

    Attributes:
        setup: where it is; follows what becomes of the interface.
        away: whether its interface is down or its address gone.
    """

    def __init__(self, reactor: INodeReactor, setup: PortSetup, owner: LinkOwner, neighbours: ServerFactory) -> None:
        self._reactor = reactor
        self._owner = owner
        self._neighbours = neighbours
        self._closing: list[Deferred[None]] = []
        self._mtu = 0
        self.setup = setup
        self.away = False
        self.address: Address = ("", 0)
        self.unicast: UnicastPort
        self.listener: IListeningPort
        self.group: GroupPort | None = None
        self.sender: SegmentingSender

    def open(self, numbers: Sequence[int]) -> None:
        """Open the unicast socket and the listener, on the first of these port numbers that is free for both.

        Raises:
            EnvironmentFault: none is.
        """
        self._open_pair(numbers)
        self.sender = SegmentingSender(
            self.unicast.handle, (self.setup.group, self.setup.group_port), self._send_failed
        )
        self.sender.scope = scope_of(self.setup.interface)

    def open_group(self, own: Sequence[SocketAddress]) -> None:
        """Open the socket on the group, once the unicast sockets of all links are open.

        Raises:
            EnvironmentFault: the interface cannot do it.
        """
        self.group = cast(GroupPort, self._open(GroupPort, self.setup.group, self.setup.group_port))
        self.group.pass_over(own)
        self.unicast.earlier = self.group

    @property
    def own(self) -> SocketAddress:
        """The address of the unicast socket as the kernel gives it."""
        return self.unicast.bound

    @property
    def mtu_bytes(self) -> int:
        """The largest IP packet that the interface takes; what it was last, while there is none."""
        self._mtu = interface_mtu(self.setup.interface.name) or self._mtu
        return self._mtu

    def status(self) -> LinkStatus:
        """What it is, and what its sockets have got of the kernel."""
        ports = [self.unicast, *((self.group,) if self.group is not None else ())]
        memory = [port.memory() for port in ports]
        return LinkStatus(
            self.setup.interface.name,
            self.address,
            self.mtu_bytes,
            self.away,
            min(each.receive_bytes for each in memory),
            memory[0].send_bytes,
            memory[0].drops,
        )

    def follow(self, available: Sequence[NetworkInterface]) -> str | None:
        """Act on what has become of the interface; what to tell people, if anything has.

        Raises:
            EnvironmentFault, OSError: it cannot be used yet.
        """
        mine = self.setup.interface
        candidates = [each for each in available if each.up and each.family == mine.family]
        same = next((each for each in candidates if each.address == mine.address), None)
        others = [
            each for each in candidates if each.address == mine.address or (mine.named and each.name == mine.name)
        ]
        better = next((each for each in others if mine.link_local and not each.link_local), None)
        if same is not None and better is None and (same.index == mine.index or not mine.link_local):
            return self._return(evolve(same, named=mine.named)) if self.away or same.index != mine.index else None
        if others:
            return self._move(evolve(better or others[0], named=mine.named))
        if self.away:
            return None
        self.away = True
        return f"has lost its interface {mine}"

    def close(self) -> list[Deferred[None]]:
        """Close everything; when it is closed."""
        for port in (self.unicast, self.listener, *((self.group,) if self.group is not None else ())):
            self._stop(port)
        closing, self._closing = self._closing, []
        return closing

    def _return(self, interface: NetworkInterface) -> str:
        """The same address is there again."""
        multicast_by(self.unicast.handle, interface)
        if self.group is not None:
            self.group.join_again(interface)
        self.setup = evolve(self.setup, interface=interface)
        self.away = False
        return f"has its interface {interface} again"

    def _move(self, interface: NetworkInterface) -> str:
        """The interface has another address."""
        before = self.setup
        unicast, listener, group = self.unicast, self.listener, self.group
        self.setup = evolve(before, interface=interface)
        try:
            self._open_pair([self.address[1], *[0] * PORT_ATTEMPTS])
            if group is not None:
                group.join_again(interface)
        except (EnvironmentFault, OSError) as error:
            if self.unicast is not unicast:
                self._stop(self.unicast)
                self._stop(self.listener)
            self.setup, self.unicast, self.listener = before, unicast, listener
            raise EnvironmentFault(f"cannot move to {interface}: {error}") from None
        self._stop(unicast)
        self._stop(listener)
        self.unicast.earlier = group
        self.sender.use(self.unicast.handle)
        self.sender.scope = scope_of(interface)
        self.away = False
        return f"has moved from {before.interface} to {interface}"

    def _open_pair(self, numbers: Sequence[int]) -> None:
        """The unicast UDP socket and the TCP listener, on one port number."""
        interface = self.setup.interface
        fault: Exception | None = None
        for candidate in numbers:
            try:
                port = self._open(UnicastPort, interface.address, candidate)
            except EnvironmentFault as error:
                fault = error
                continue
            number = port.bound[1]
            try:
                listener = self._reactor.listenTCP(number, self._neighbours, interface=interface.address)
            except CannotListenError as error:
                fault = error
                self._stop(port)
                continue
            self.unicast, self.listener = cast(UnicastPort, port), listener
            self.address = short_address(self.own, interface)
            return
        raise EnvironmentFault(f"no free port on {interface.name}: {fault}")

    def _open(self, kind: type[BurstPort], host: str, number: int) -> BurstPort:
        """One UDP socket, bound and read from."""
        port = kind(number, host, self.setup, self._reactor, self._owner)
        try:
            port.startListening()
        except (CannotListenError, OSError) as error:
            raise EnvironmentFault(
                f"cannot use UDP {show_host(host)}:{number} on interface {self.setup.interface.name}: {error}"
            ) from None
        return port

    def _stop(self, port: BurstPort | IListeningPort) -> None:
        """Close a port, and have ``close`` wait for it."""
        closing = port.stopListening()
        if closing is not None:
            self._closing.append(closing)

    def _send_failed(self, error: OSError, datagrams: int) -> None:
        self._owner.send_failed(self, error, datagrams)


def scope_of(interface: NetworkInterface) -> tuple[str, int] | None:
    """The name and the number that a link-local destination on it needs; None where the address is not link-local."""
    return (interface.name, interface.index) if interface.link_local else None
