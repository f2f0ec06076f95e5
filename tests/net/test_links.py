"""Several links, and what becomes of a link when its interface changes: on this host's loopback interface."""

from __future__ import annotations

import socket
from typing import Any

from twisted.internet.defer import gatherResults, inlineCallbacks
from twisted.internet.task import deferLater
from twisted.trial.unittest import SkipTest, SynchronousTestCase, TestCase

from groupcomm.errors import EnvironmentFault
from groupcomm.net import interfaces
from groupcomm.net.interfaces import NetworkInterface, interface_mtu
from groupcomm.net.ports import short_address
from groupcomm.net.sockets import NodeSockets, SocketConfig
from groupcomm.outputs import Datagram
from tests.net.bench import REACTOR, QuietFactory, Sink, free_port

INDEX = socket.if_nametoindex("lo")


def loopback(address: str, *, named: bool = True) -> NetworkInterface:
    """The loopback interface by one of its addresses: all of 127.0.0.0/8 are."""
    return NetworkInterface("lo", INDEX, address, loopback=True, named=named)


ONE, TWO, THREE = (loopback(f"127.0.0.{number}") for number in (1, 2, 3))
SIX = loopback("::1")


class LinksCase(TestCase):
    """Opens nodes of some links."""

    def setUp(self) -> None:
        self.group_port = free_port()

    def open(self, *links: NetworkInterface, port: int = 0) -> tuple[NodeSockets, Sink]:
        """One more node."""
        sink = Sink()
        node = NodeSockets(REACTOR, SocketConfig(links, group_port=self.group_port, port=port), sink, QuietFactory())
        self.addCleanup(node.close)
        return node, sink


class SeveralLinksTests(LinksCase):
    """A node with two links."""

    @inlineCallbacks
    def test_ports(self) -> Any:
        """All links have the same port number if it is free, else any; a number that was asked for is for all."""
        a, _ = self.open(ONE, TWO)
        self.assertEqual(a.addresses, (("127.0.0.1", self.group_port), ("127.0.0.2", self.group_port)))
        self.assertEqual(a.address, a.addresses[0])
        b, _ = self.open(THREE, TWO)
        self.assertEqual(b.addresses[0][1], self.group_port)
        self.assertNotEqual(b.addresses[1][1], self.group_port)
        for address in (*a.addresses, *b.addresses):
            with socket.create_connection(address, timeout=2):
                pass
        fault = self.assertRaises(EnvironmentFault, self.open, loopback("127.0.0.4"), TWO, port=self.group_port)
        self.assertIn("127.0.0.2", str(fault))
        yield deferLater(REACTOR, 0.01)
        again, _ = self.open(loopback("127.0.0.4"), port=self.group_port)
        self.assertEqual(again.address, ("127.0.0.4", self.group_port))

    @inlineCallbacks
    def test_each_by_its_link(self) -> Any:
        """A datagram leaves by its link, in order on each; the receiver is told by which link it has come."""
        (a, _), (b, at_b) = self.open(ONE, TWO), self.open(ONE, TWO)
        sent = [
            Datagram(b"%d-%02d" % (number % 2, number), b.addresses[number % 2], link=number % 2)
            for number in range(40)
        ]
        done = at_b.until_count(40)
        a.send(sent)
        yield done
        for link in (0, 1):
            came = [data for data, source in at_b.received if source == a.addresses[link]]
            self.assertEqual(came, [datagram.data for datagram in sent if datagram.link == link])
        self.assertEqual({reading for reading in at_b.readings if not reading[1]}, {(0, False), (1, False)})

    @inlineCallbacks
    def test_runs_by_their_link(self) -> Any:
        """A run that was made as one leaves by its link too."""
        (a, _), (b, at_b) = self.open(ONE, TWO), self.open(ONE)
        done = at_b.until_count(10)
        a.send([Datagram(bytes(12_000), b.address, 1200, link=1)])
        yield done
        self.assertEqual({source for _, source in at_b.received}, {a.addresses[1]})

    @inlineCallbacks
    def test_own_multicasts(self) -> Any:
        """What a node multicasts by one link does not come back by any of them, though they are on one network."""
        (a, at_a), (b, at_b) = self.open(ONE, TWO), self.open(THREE)
        done = [at_b.until_count(2), at_a.until(lambda: len(at_a.received) == 2)]
        a.send([Datagram(b"first", None, link=0), Datagram(b"second", None, link=1)])
        b.send([Datagram(b"other", None)])
        yield gatherResults(done)
        self.assertEqual(sorted(at_b.received), [(b"first", a.addresses[0]), (b"second", a.addresses[1])])
        self.assertEqual(at_a.received, [(b"other", b.address)] * 2)
        self.assertEqual({reading for reading in at_a.readings if reading[1]}, {(0, True), (1, True)})

    @inlineCallbacks
    def test_both_families(self) -> Any:
        """One link by IPv4 and one by IPv6; addresses have two parts in both."""
        try:
            (a, _), (b, at_b) = self.open(ONE, SIX), self.open(ONE, SIX)
        except EnvironmentFault as fault:
            raise SkipTest(f"this host has no IPv6: {fault}") from None
        self.assertEqual(a.addresses, (("127.0.0.1", self.group_port), ("::1", self.group_port)))
        sending = a._links[1].unicast.handle
        self.assertEqual(sending.getsockopt(socket.IPPROTO_IPV6, 23), 3)  # IPV6_MTU_DISCOVER, IPV6_PMTUDISC_PROBE
        self.assertEqual(sending.getsockopt(socket.IPPROTO_IPV6, 62), 1)  # IPV6_DONTFRAG
        self.assertEqual(sending.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS), 1)
        done = at_b.until_count(12)
        run = [Datagram(b"%04d" % number * 300, b.addresses[1], link=1) for number in range(10)]
        a.send([Datagram(b"four", b.addresses[0]), Datagram(b"six", b.addresses[1], link=1), *run])
        yield done
        self.assertEqual(
            [data for data, source in at_b.received if source == a.addresses[1]],
            [b"six", *(datagram.data for datagram in run)],
        )
        self.assertIn((b"four", a.addresses[0]), at_b.received)

    def test_what_the_interfaces_take(self) -> None:
        """Each link's MTU is that of its interface."""
        a, _ = self.open(ONE, TWO)
        self.assertEqual(a.link_mtus, (interface_mtu("lo"),) * 2)
        self.assertGreaterEqual(a.link_mtus[0], 1500)

    def test_what_is_said_of_links(self) -> None:
        """The interface and the address of each, and the buffers that the kernel has given."""
        a, _ = self.open(ONE, TWO)
        one, two = a.links()
        self.assertEqual((one.interface, one.address, two.address), ("lo", *a.addresses))
        unicast = a._links[0].unicast.handle
        granted = [unicast.getsockopt(socket.SOL_SOCKET, option) for option in (socket.SO_RCVBUF, socket.SO_SNDBUF)]
        self.assertEqual([2 * one.receive_buffer_bytes, 2 * one.send_buffer_bytes], granted)
        self.assertEqual((one.drops, one.away, one.mtu_bytes), (0, False, interface_mtu("lo")))

    @inlineCallbacks
    def test_datagrams_dropped_for_want_of_room(self) -> Any:
        """What came while the buffer was full is counted by the kernel, and told; a closed socket has nothing."""
        a, _ = self.open(ONE)
        unicast = a._links[0].unicast
        unicast.handle.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
            for _ in range(50):
                other.sendto(bytes(1000), a.address)
        (link,) = a.links()
        self.assertGreater(link.drops, 0)
        self.assertLess(link.receive_buffer_bytes, 10_000)
        yield a.close()
        self.assertEqual(unicast.memory().receive_bytes, 0)


class FollowTests(LinksCase):
    """The interface changes under a running node."""

    def setUp(self) -> None:
        super().setUp()
        self.there: tuple[NetworkInterface, ...] = (ONE, TWO)
        self.patch(interfaces, "list_interfaces", lambda: self.there)

    def now(self, node: NodeSockets, *there: NetworkInterface) -> None:
        """From now on these are there, and the node looks."""
        self.there = there
        node._look()

    @inlineCallbacks
    def test_nothing_of_ours(self) -> Any:
        """Where nothing of the node's own has changed, nothing happens."""
        (a, at_a), (b, at_b) = self.open(ONE), self.open(TWO)
        self.now(a, THREE, ONE, NetworkInterface("eth9", 9, "10.0.0.1"))
        self.assertEqual((a.counters["link_changes"], a.address), (0, ("127.0.0.1", self.group_port)))
        self.assertEqual(at_a.moves, 0)
        done = at_b.until_count(1)
        a.send([Datagram(b"x", b.address)])
        yield done

    @inlineCallbacks
    def test_away_and_back(self) -> Any:
        """An interface that goes is noticed once; when it is back, both sockets work as before."""
        (a, at_a), (b, at_b) = self.open(ONE), self.open(TWO)
        self.now(a, NetworkInterface("eth9", 9, "10.0.0.1"))
        self.now(a)
        self.assertEqual(a.counters["link_changes"], 1)
        a.send_failed(a._links[0], OSError(22, "Invalid argument"), 3)
        self.assertEqual(a.counters["send_unreachable"], 3)
        self.now(a, ONE)
        self.assertEqual(a.counters["link_changes"], 2)
        done = [at_a.until_count(2), at_b.until_count(1)]
        b.send([Datagram(b"to all", None), Datagram(b"to one", a.address)])
        a.send([Datagram(b"mine", None)])
        yield gatherResults(done)
        self.assertEqual({data for data, _ in at_a.received}, {b"to all", b"to one"})

    @inlineCallbacks
    def test_another_address(self) -> Any:
        """A link that was given by name goes on with the interface's new address, on the same port."""
        (a, at_a), (b, at_b) = self.open(ONE), self.open(TWO)
        self.now(a, THREE)
        self.assertEqual((a.address, at_a.moves), (("127.0.0.3", self.group_port), 1))
        with socket.create_connection(a.address, timeout=2):
            pass
        done = [at_a.until_count(2), at_b.until_count(2)]
        a.send([Datagram(b"mine", None), Datagram(b"mine too", b.address)])
        b.send([Datagram(b"to all", None), Datagram(b"to one", a.address)])
        yield gatherResults(done)
        self.assertEqual({source for _, source in at_b.received}, {a.address})
        self.assertEqual({data for data, _ in at_a.received}, {b"to all", b"to one"})
        self.assertEqual((a.counters["link_changes"], a.counters["own_runs"]), (1, 0))
        self.assertRaises(OSError, socket.create_connection, ("127.0.0.1", self.group_port), 2)

    def test_given_by_address(self) -> None:
        """A link that was given by its address waits for it."""
        a, _ = self.open(loopback("127.0.0.1", named=False))
        self.now(a, THREE)
        self.assertEqual((a.address[0], a.counters["link_changes"]), ("127.0.0.1", 1))
        self.now(a, THREE, ONE)
        self.assertEqual((a.address[0], a.counters["link_changes"]), ("127.0.0.1", 2))

    @inlineCallbacks
    def test_cannot_be_used_yet(self) -> Any:
        """A new address that cannot be used leaves all as it was, and is tried again."""
        (a, _), (b, at_b) = self.open(ONE), self.open(TWO)
        self.now(a, loopback("192.0.2.1"))
        self.assertEqual((a.address, a.counters["link_changes"]), (("127.0.0.1", self.group_port), 0))
        again = a._changes._due
        assert again is not None
        done = at_b.until_count(1)
        a.send([Datagram(b"x", b.address)])
        yield done
        self.there = (THREE,)
        again.reset(0)
        yield deferLater(REACTOR, 0.01)
        self.assertEqual(a.address, ("127.0.0.3", self.group_port))


class ShortAddressTests(SynchronousTestCase):
    """Host and port of what the kernel gives."""

    def test_forms(self) -> None:
        """Equal addresses become equal pairs; a link-local one says its interface."""
        eth0 = NetworkInterface("eth0", 2, "fe80::2%eth0")
        self.assertEqual(short_address(("10.0.0.1", 5), eth0), ("10.0.0.1", 5))
        self.assertEqual(short_address(("fd77::1", 5, 77, 0), eth0), ("fd77::1", 5))
        self.assertEqual(short_address(("fe80::1", 5, 0, 2), eth0), ("fe80::1%eth0", 5))
        self.assertEqual(short_address(("fe80::1", 5, 0, INDEX), NetworkInterface("eth0", 9, "x")), ("fe80::1%lo", 5))
        self.assertEqual(short_address(("fe80::1", 5, 0, 99_999), eth0), ("fe80::1%99999", 5))
