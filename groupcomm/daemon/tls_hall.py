"""Where connections go that have come through TLS: to Perspective Broker, or to the data channel they asked for."""

from __future__ import annotations

from typing import cast

from twisted.internet.interfaces import IAddress, IReactorTime
from twisted.internet.protocol import Protocol, ServerFactory

from groupcomm.daemon.channel_doors import ChannelDoors
from groupcomm.daemon.control import CHANNEL_PROTOCOL
from groupcomm.daemon.factory import ControlFactory
from groupcomm.daemon.principal import CertifiedAddress
from groupcomm.daemon.tls_stream import TransportStream


class TlsHall(ServerFactory):
    """Chooses by the protocol that a client has named in its handshake.

    Args:
        clock: the reactor's time.
        control: makes control connections.
        doors: makes data channels.
    """

    noisy = False

    def __init__(self, clock: IReactorTime, control: ControlFactory, doors: ChannelDoors) -> None:
        self._clock = clock
        self._control = control
        self._doors = doors

    def buildProtocol(self, addr: IAddress | None) -> Protocol | None:
        """What the connection is for; None, which closes it, if there are too many such."""
        certified = cast(CertifiedAddress, addr)
        if certified.protocol != CHANNEL_PROTOCOL:
            return self._control.buildProtocol(addr)
        channel = self._doors.buildProtocol(addr)
        if channel is None:
            return None
        return TransportStream(self._clock, channel, channel.makeConnection, certified.principal)
