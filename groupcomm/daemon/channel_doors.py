"""The way to a data channel: tickets for clients that are logged in, and the sockets where they are shown.

Decides who may open a channel: whoever shows a ticket that was issued to a live session of its own, once and in time.
Counts the strangers at the door.
"""

from __future__ import annotations

import os
import secrets
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol, TypeAlias

from twisted.internet import tcp, unix
from twisted.internet.address import UNIXAddress
from twisted.internet.interfaces import IAddress, IDelayedCall, IListeningPort, IReactorFDSet, IReactorTime
from twisted.internet.protocol import ServerFactory
from twisted.python.failure import Failure

from groupcomm.daemon import caps
from groupcomm.daemon.channel import ChannelClient, ServerChannel
from groupcomm.daemon.channel_events import ChannelEncoder
from groupcomm.daemon.control import BACKLOG
from groupcomm.daemon.errors import LimitReached
from groupcomm.daemon.principal import Crowd, Principal
from groupcomm.daemon.reading import ReadingTime
from groupcomm.daemon.stream import SocketStream
from groupcomm.daemon.uploads import UploadBudget

Place: TypeAlias = tuple[str, str | int]
"""``unix`` and a path, or ``tcp`` and a port at the host of the control endpoint, or ``tls`` and 0: the port itself."""


class Offered(ChannelClient, Protocol):
    """A client that has asked for a ticket."""

    @property
    def principal(self) -> Principal:
        """Who it is."""

    def offer_ended(self) -> None:
        """The ticket is not good any more."""


class MisdeedLog(Protocol):
    """Who counts and logs what peers do wrong, and what time they take."""

    @property
    def time(self) -> ReadingTime:
        """What all connections of clients may take of the reactor's."""

    def misdeed(self, text: str) -> None:
        """A peer did what none should, and its connection is cut."""

    def call_failed(self, failure: Failure) -> None:
        """A request failed by a fault of ours."""


class ChannelDoors(ServerFactory):
    """The channels of one daemon, and the tickets for them.

    Invariants: a ticket is good once, for ``TICKET_SECONDS``, and for the principal it was issued to; at most
    ``MAX_STRANGER_CHANNELS`` connections have shown none; of one principal there are at most
    ``MAX_PRINCIPAL_CONNECTIONS`` unless it is exempt.
    """

    noisy = False

    def __init__(
        self,
        clock: IReactorTime,
        upload_budget: UploadBudget,
        log: MisdeedLog,
        exempt: Callable[[Principal], bool] = lambda _: False,
    ) -> None:
        """Have none yet.

        Args:
            clock: the reactor's time.
            upload_budget: what large messages of all clients may have together.
            log: counts and logs what peers do wrong.
            exempt: which principals may have any number of connections.
        """
        self._crowd = Crowd(caps.MAX_PRINCIPAL_CONNECTIONS, exempt)
        self.encoder = ChannelEncoder()
        self.time = log.time
        self.upload_budget = upload_budget
        self.channels: set[ServerChannel] = set()
        self._clock = clock
        self._misdeeds = log
        self._places: dict[IAddress, Place] = {}
        self._strangers: set[ServerChannel] = set()
        self._tickets: dict[bytes, tuple[Offered, IDelayedCall]] = {}

    def open_unix(self, reactor: IReactorFDSet, control: Path, path: Path, mode: int) -> IListeningPort:
        """Listen for channels of the clients of one control socket.

        Args:
            reactor: watches the sockets.
            control: the control socket.
            path: the channels' socket.
            mode: its mode.
        """
        port: Any = _UnixChannelPort(os.fsencode(path), self, BACKLOG, mode, reactor)
        mask = os.umask(0o777 & ~mode)  # the socket has its mode from the moment it exists
        try:
            port.startListening()
        finally:
            os.umask(mask)
        self.add_place(UNIXAddress(os.fsencode(control)), ("unix", str(path)))
        listening: IListeningPort = port
        return listening

    def open_tcp(self, reactor: IReactorFDSet, control: IAddress) -> IListeningPort:
        """Listen for channels of the clients of one TCP port, on another one beside it.

        Args:
            reactor: watches the sockets.
            control: where the control endpoint listens.
        """
        port: Any = _TcpChannelPort(0, self, BACKLOG, getattr(control, "host", ""), reactor)
        port.startListening()
        self.add_place(control, ("tcp", port.getHost().port))
        listening: IListeningPort = port
        return listening

    def add_place(self, control: IAddress, place: Place) -> None:
        """Clients of that control endpoint find their channel there."""
        self._places[control] = place

    def close(self) -> None:
        """No ticket is good any more, and strangers are closed."""
        self._places.clear()
        for ticket in tuple(self._tickets):
            self._end(ticket)
        for channel in tuple(self._strangers):
            channel.abort()

    def offer(self, client: Offered, address: IAddress) -> tuple[str, str | int, bytes]:
        """Where to connect, and a ticket.

        Args:
            client: whose ticket it will be.
            address: the daemon's end of its control connection.

        Raises:
            LimitReached: there are no channels for those who come that way.
        """
        place = ("tls", 0) if client.principal.certificate else self._places.get(address)
        if place is None:
            raise LimitReached("there is no data channel here: go on without")
        ticket = secrets.token_bytes(caps.TICKET_BYTES)
        self._tickets[ticket] = (client, self._clock.callLater(caps.TICKET_SECONDS, self._end, ticket))
        return (*place, ticket)

    def withdraw(self, client: Offered) -> None:
        """The ticket of this client is not good any more."""
        for ticket, (owner, _) in tuple(self._tickets.items()):
            if owner is client:
                self._end(ticket)

    def _end(self, ticket: bytes) -> None:
        client = self._take(ticket)
        if client is not None:
            client.offer_ended()

    def _take(self, ticket: bytes) -> Offered | None:
        client, call = self._tickets.pop(ticket, (None, None))
        if call is not None and call.active():
            call.cancel()
        return client

    # What the channels call.

    def buildProtocol(self, addr: IAddress | None) -> ServerChannel | None:  # type: ignore[override]
        """A channel for a new connection; None, which closes it, if too many have shown no ticket."""
        if len(self._strangers) >= caps.MAX_STRANGER_CHANNELS:
            self._misdeeds.misdeed("too many connections to the data channel without a ticket")
            return None
        channel = ServerChannel(self._clock, self)
        self._strangers.add(channel)
        return channel

    def admit(self, principal: Principal) -> bool:
        """Whether there is room for a connection more of this principal; it is counted then."""
        if self._crowd.enter(principal):
            return True
        self._misdeeds.misdeed(f"{principal.name} has too many connections to the data channel")
        return False

    def redeem(self, ticket: bytes, principal: Principal | None) -> ChannelClient | None:
        """Whose ticket this is, if that is the principal who shows it; it is used up by that in any case."""
        client = self._take(ticket)
        if client is not None and client.principal != principal:
            client.offer_ended()
            return None
        return client

    def channel_named(self, channel: ServerChannel) -> None:
        """It has shown its ticket."""
        self._strangers.discard(channel)
        self.channels.add(channel)

    def channel_closed(self, channel: ServerChannel) -> None:
        """It is gone."""
        self._strangers.discard(channel)
        self.channels.discard(channel)
        if channel.principal is not None:
            self._crowd.leave(channel.principal)

    def misdeed(self, text: str) -> None:
        """Counted and logged with those of the control connections."""
        self._misdeeds.misdeed(text)

    def call_failed(self, failure: Failure) -> None:
        """Counted and logged with those of the control connections."""
        self._misdeeds.call_failed(failure)


def _accepted(
    connected: socket.socket, channel: ServerChannel, peer: object, port: object, number: int, reactor: IReactorFDSet
) -> SocketStream:
    """What Twisted's port makes of an accepted connection, in place of a transport of its own."""
    return SocketStream(reactor, connected, channel)


class _UnixChannelPort(unix.Port):
    """A listening UNIX socket whose connections carry records."""

    transport = staticmethod(_accepted)  # type: ignore[assignment]  # it is only ever called


class _TcpChannelPort(tcp.Port):
    """A listening TCP port whose connections carry records."""

    transport = staticmethod(_accepted)  # type: ignore[assignment]
