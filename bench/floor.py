"""What Twisted's wake-ups alone cost: an empty relay in the two shapes of groupcomm, without any order or repair.

    python -m bench.floor embedded HOST MEMBERS ADDRESS
    python -m bench.floor relay ADDRESS SOCKET
    python -m bench.floor client HOST MEMBERS SOCKET

``embedded``: timer, UDP multicast, callback. ``client`` and ``relay``, in the places of client and daemon: timer, UNIX
socket, relay, UDP multicast, relay, UNIX socket, callback.

All messages have ``PROBE_BYTES``. The workers are groupcomm's own, with an empty group behind them.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, Final

from twisted.internet.defer import Deferred, succeed
from twisted.internet.endpoints import UNIXClientEndpoint, connectProtocol
from twisted.internet.protocol import DatagramProtocol, Factory, Protocol

from bench.workers.conversation import say_view
from bench.workers.stream import PROBE_BYTES
from bench.workers.twisted_worker import Receiver, main, reactor

GROUP: Final = ("239.77.1.2", 5420)
Handler = Callable[[bytes], None]


class EmptyGroup:
    """What stands in for a group: sends by a function, whatever the level."""

    def __init__(self, write: Handler) -> None:
        self._write = write

    def send(self, data: bytes, **_: object) -> Deferred[None]:
        """Send one message."""
        self._write(data.ljust(PROBE_BYTES, b"\0"))
        return succeed(None)


class Multicast(DatagramProtocol):
    """The wire: every message to every other host, and to the own one by a call."""

    transport: Any

    def __init__(self, address: str, received: Handler) -> None:
        self._address = address
        self._received = received
        self._port = reactor.listenMulticast(GROUP[1], self, listenMultiple=True)

    def startProtocol(self) -> None:
        """Join the multicast group."""
        self.transport.setOutgoingInterface(self._address)
        self.transport.setLoopbackMode(False)
        self.transport.joinGroup(GROUP[0], self._address)

    def datagramReceived(self, datagram: bytes, addr: Any) -> None:
        """One message."""
        self._received(datagram)

    def send(self, data: bytes) -> None:
        """Send one message."""
        self.transport.write(data, GROUP)
        self._received(data)


class Pipe(Protocol):
    """A UNIX socket with messages of one size."""

    def __init__(self, received: Handler) -> None:
        self._received = received
        self._partial = b""

    def dataReceived(self, data: bytes) -> None:
        """Some messages, or pieces of them."""
        data = self._partial + data
        whole = len(data) - len(data) % PROBE_BYTES
        for start in range(0, whole, PROBE_BYTES):
            self._received(data[start : start + PROBE_BYTES])
        self._partial = data[whole:]

    def send(self, data: bytes) -> None:
        """Send one message."""
        assert self.transport is not None
        self.transport.write(data)


def embedded(host: int, members: int, address: str) -> None:
    """A worker with the wire in its own process."""

    def join(receiver: Receiver) -> Deferred[Any]:
        wire = Multicast(address, receiver.data_received)
        say_view(members)
        return succeed(EmptyGroup(wire.send))

    main(host, "send", join)


def client(host: int, members: int, socket: str) -> None:
    """A worker with a relay between it and the wire."""

    def join(receiver: Receiver) -> Deferred[Any]:
        def connected(pipe: Pipe) -> EmptyGroup:
            say_view(members)
            return EmptyGroup(pipe.send)

        connecting: Deferred[Pipe] = connectProtocol(UNIXClientEndpoint(reactor, socket), Pipe(receiver.data_received))
        return connecting.addCallback(connected)

    main(host, "send", join)


def relay(address: str, socket: str) -> None:
    """Relay between one client and the wire."""

    class Relay(Factory):
        """Keeps the client's pipe."""

        pipe: Pipe | None = None

        def buildProtocol(self, addr: Any) -> Pipe:
            """The client has come."""
            self.pipe = Pipe(wire.send)
            return self.pipe

        def from_wire(self, data: bytes) -> None:
            """One message for the client."""
            if self.pipe is not None:
                self.pipe.send(data)

    clients = Relay()
    wire = Multicast(address, clients.from_wire)
    reactor.listenUNIX(socket, clients)
    reactor.run()


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["embedded", host, members, address]:
            embedded(int(host), int(members), address)
        case ["client", host, members, socket]:
            client(int(host), int(members), socket)
        case ["relay", address, socket]:
            relay(address, socket)
