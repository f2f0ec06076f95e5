"""What tests of sockets share: a port nobody has, and a sink that records what comes."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import cast

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.protocol import Protocol, ServerFactory

from groupcomm.net.reactor import INodeReactor
from groupcomm.outputs import Address, Datagram

REACTOR = cast(INodeReactor, reactor)


def free_port() -> int:
    """A port number nobody has at the moment."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class QuietFactory(ServerFactory):
    """Accepts and says nothing."""

    protocol = Protocol
    noisy = False


class Sink:
    """Records bursts, and tells when enough has come."""

    def __init__(self) -> None:
        self.received: list[tuple[bytes, Address]] = []
        self.bursts: list[int] = []
        self.runs: list[int] = []
        self.failing = False
        self.readings: list[tuple[int, bool]] = []
        self.moves = 0
        self._since = 0
        self._waiting: list[tuple[Callable[[], bool], Deferred[None]]] = []

    def reading(self, link: int, multicast: bool) -> None:
        self.readings.append((link, multicast))

    def moved(self) -> None:
        self.moves += 1

    def datagram_received(self, data: bytes, source: Address) -> None:
        if self.failing:
            raise ValueError("sink")
        self.received.append((data, source))
        self._since += 1

    def run_received(self, data: bytes, size_bytes: int, source: Address) -> None:
        if self.failing:
            raise ValueError("sink")
        pieces = Datagram(data, None, size_bytes).pieces
        self.runs.append(len(pieces))
        self.received += [(piece, source) for piece in pieces]
        self._since += len(pieces)

    def burst_ended(self) -> None:
        self.bursts.append(self._since)
        self._since = 0
        for entry in [entry for entry in self._waiting if entry[0]()]:
            self._waiting.remove(entry)
            entry[1].callback(None)

    def until_count(self, count: int) -> Deferred[None]:
        """Fires when so many datagrams have come."""
        return self.until(lambda: len(self.received) == count)

    def until(self, holds: Callable[[], bool]) -> Deferred[None]:
        """Fires at the end of the burst after which the condition holds."""
        done: Deferred[None] = Deferred()
        self._waiting.append((holds, done))
        return done.addTimeout(5, REACTOR)
