"""The neighbour watch's TCP port under floods and garbage: it serves a few, says one line, and believes nobody."""

from __future__ import annotations

import random
from typing import cast

from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IAddress
from twisted.internet.protocol import Protocol
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from groupcomm.identity import NodeId
from groupcomm.net.reactor import IWatchReactor
from groupcomm.net.watch import (
    MAX_ACCEPTED,
    MAX_BANNER_BYTES,
    MAX_INPUT_BYTES,
    MAX_PROBES,
    BannerFactory,
    NeighbourWatch,
    format_banner,
    parse_banner,
)
from groupcomm.outputs import Address
from tests.hostile.attacker import HostileCase, counted_work
from tests.node_double import MemoryClock

PEER = NodeId("peer", 7)
ADDRESS: Address = ("10.0.0.2", 4874)


def connected(factory: BannerFactory) -> tuple[Protocol, StringTransport] | None:
    """One more connection; None if it is closed at once."""
    protocol = factory.buildProtocol(None)
    if protocol is None:
        return None
    transport = StringTransport()
    protocol.makeConnection(transport)
    return protocol, transport


def is_cut(transport: StringTransport) -> bool:
    """Whether the connection is being closed."""
    return bool(transport.disconnecting or transport.disconnected)


class ServerFloodTests(SynchronousTestCase):
    """Whoever can open connections."""

    def setUp(self) -> None:
        self.factory = BannerFactory(PEER)

    def test_ten_thousand_connections(self) -> None:
        """So many are served at once; the others are closed at once and cost nothing later."""
        served = [one for one in (connected(self.factory) for _ in range(10_000)) if one is not None]
        self.assertEqual(len(served), MAX_ACCEPTED)
        for protocol, _ in served:
            protocol.connectionLost(Failure(ConnectionDone()))
        self.assertEqual(len(self.factory._open), 0)
        self.assertIsNotNone(connected(self.factory))

    def test_garbage(self) -> None:
        """What is sent is not read, not kept and not answered; more than a little ends the connection."""
        source = random.Random(3)
        for size in (1, 7, 100, MAX_INPUT_BYTES, 60_000):
            one = connected(self.factory)
            assert one is not None
            protocol, transport = one
            said = transport.value()
            total = 0
            with counted_work() as work:
                while total <= MAX_INPUT_BYTES:
                    self.assertFalse(is_cut(transport))
                    protocol.dataReceived(source.randbytes(size))
                    total += size
            self.assertTrue(is_cut(transport))
            self.assertEqual(transport.value(), said)
            self.assertLess(work.calls, 10 * (total // size) + 100)
            protocol.connectionLost(Failure(ConnectionDone()))

    def test_bytes_out_for_a_connection(self) -> None:
        """A connection gets one line, however long it stays."""
        one = connected(self.factory)
        assert one is not None
        self.assertEqual(one[1].value(), format_banner(PEER))
        self.assertLessEqual(len(one[1].value()), MAX_BANNER_BYTES)


class WatchGarbageTests(SynchronousTestCase):
    """Whoever answers where a neighbour should be."""

    def setUp(self) -> None:
        self.clock = MemoryClock()
        self.dead: list[NodeId] = []
        self.alive: list[NodeId] = []
        self.watch = NeighbourWatch(cast(IWatchReactor, self.clock), self.dead.append, self.alive.append)

    def answer(self, data: bytes) -> StringTransport:
        """The last attempt is accepted, and this is said byte by byte until the watch has enough."""
        factory = self.clock.tcpClients[-1][2]
        protocol = factory.buildProtocol(cast(IAddress, None))
        assert protocol is not None
        transport = StringTransport()
        protocol.makeConnection(transport)
        for index in range(len(data)):
            if is_cut(transport):
                break
            protocol.dataReceived(data[index : index + 1])
        factory.clientConnectionLost(self.clock.connectors[-1], Failure(ConnectionDone()))
        return transport

    def test_garbage_kills_nobody(self) -> None:
        """A port on which something else talks says nothing about the node, however often it is asked."""
        source = random.Random(4)
        self.watch.watch(((PEER, ADDRESS),))
        for size in (0, 1, MAX_BANNER_BYTES, 500, 5000, 20_000):
            self.answer(source.randbytes(size))
            self.clock.run_for(5.0)
        self.assertEqual((self.dead, self.watch.connected), ([], ()))

    def test_a_banner_without_end(self) -> None:
        """A line that does not end is cut off at the size of the largest banner."""
        self.watch.watch(((PEER, ADDRESS),))
        transport = self.answer(b"groupcomm-watch/1 " + b"1" * 10_000_000)
        self.assertTrue(is_cut(transport))

    def test_ten_thousand_probes(self) -> None:
        """Probes of ten thousand nodes: so many attempts at once, and the rest are not made."""
        for number in range(10_000):
            self.watch.probe(NodeId(f"n{number}", 1), ("10.0.0.3", number % 65_000 + 1))
        self.assertEqual(len(self.clock.tcpClients), MAX_PROBES)

    def test_random_banners(self) -> None:
        """Banners are read or are none, whatever the bytes."""
        source = random.Random(5)
        line = format_banner(PEER).removesuffix(b"\r\n")
        for _ in range(3000):
            data = bytearray(line)
            for _ in range(source.randrange(1, 4)):
                data[source.randrange(len(data))] = source.randrange(256)
            node = parse_banner(bytes(data[: source.randrange(len(data) + 1)]))
            self.assertTrue(node is None or isinstance(node, NodeId))


class FalseDeathTests(HostileCase):
    """Word of a death that is none, as the watch of one node alone may find."""

    def test_one_node_is_told_of_a_death(self) -> None:
        """A node that is told that a living neighbour died puts it out for a moment; it is back in the end."""
        self.nodes[0].refuse(self.nodes[1].identity)
        self.cluster.run(10.0)
        self.assert_goes_on(new_view=True)

    def test_deaths_of_strangers(self) -> None:
        """Word of the death of nodes that are in no view changes nothing."""
        before = self.views()
        for number in range(1000):
            self.nodes[0].refuse(NodeId(f"ghost{number}", 1))
        self.cluster.run(1.0)
        self.assertEqual(self.views(), before)
        self.assert_goes_on()
