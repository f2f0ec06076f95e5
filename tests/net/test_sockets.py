"""The sockets of a node, on this host's loopback interface."""

from __future__ import annotations

import errno
import socket
from typing import Any

from twisted.internet.defer import gatherResults, inlineCallbacks
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase

from groupcomm.errors import EnvironmentFault
from groupcomm.net import ports
from groupcomm.net.interfaces import choose_interface
from groupcomm.net.offload import MAX_SEGMENTS
from groupcomm.net.ports import BURST_DATAGRAMS
from groupcomm.net.sockets import NodeSockets, SocketConfig
from groupcomm.outputs import Datagram
from tests.net.bench import REACTOR, QuietFactory, Sink, free_port


class SocketTests(TestCase):
    """Two nodes' sockets on one host."""

    def setUp(self) -> None:
        self.group_port = free_port()
        self.sinks: list[Sink] = []
        self.nodes: list[NodeSockets] = []

    def open(self, port: int = 0) -> tuple[NodeSockets, Sink]:
        """One more node."""
        config = SocketConfig((choose_interface("lo"),), group_port=self.group_port, port=port)
        sink = Sink()
        node = NodeSockets(REACTOR, config, sink, QuietFactory())
        self.addCleanup(node.close)
        return node, sink

    @inlineCallbacks
    def test_multicast(self) -> Any:
        """A multicast reaches the other nodes of the host, from the sender's own address, and not the sender."""
        (a, at_a), (b, at_b), (_, at_c) = self.open(), self.open(), self.open()
        at_both = [at_b.until(lambda: bool(at_b.received)), at_c.until(lambda: bool(at_c.received))]
        a.send([Datagram(b"to all", None)])
        yield gatherResults(at_both)
        self.assertEqual(at_b.received, [(b"to all", a.address)])
        self.assertEqual(at_c.received, [(b"to all", a.address)])
        heard = at_a.until(lambda: bool(at_a.received))
        b.send([Datagram(b"back", a.address)])
        yield heard
        self.assertEqual(at_a.received, [(b"back", b.address)])
        self.assertEqual(a.counters["own_runs"], 0)

    @inlineCallbacks
    def test_multicast_where_the_kernel_filters_nothing(self) -> Any:
        """Own multicasts that come back are passed over and counted; others are received as ever."""
        self.patch(ports, "drop_from", lambda receiving, sources, interface_index: False)
        (a, at_a), (b, at_b) = self.open(), self.open()
        heard = gatherResults([sink.until_count(1) for sink in (at_a, at_b)])
        a.send([Datagram(b"from a", None)])
        b.send([Datagram(b"from b", None)])
        yield heard
        for node, sink, data in ((a, at_a, b"from b"), (b, at_b, b"from a")):
            self.assertEqual([each for each, _ in sink.received], [data])
            for _ in range(100):
                if node.counters["own_runs"]:
                    break
                yield deferLater(REACTOR, 0.01)
            self.assertEqual(node.counters["own_runs"], 1)

    @inlineCallbacks
    def test_what_wakes_a_node_is_answered_first(self) -> Any:
        """A multicast that came alone is a burst of its own; what waits behind it makes the next."""
        (a, _), (_, at_b) = self.open(), self.open()
        done = at_b.until_count(40)
        a.send([Datagram(b"%02d" % number * (200 + number), None) for number in range(40)])
        yield done
        self.assertEqual((at_b.bursts[0], sum(at_b.bursts)), (1, 40))
        self.assertLessEqual(len(at_b.bursts), 3)

    @inlineCallbacks
    def test_a_run_is_not_answered_before_the_rest(self) -> Any:
        """Where a run wakes a node, what waits behind it belongs to the same burst."""
        (a, _), (_, at_b) = self.open(), self.open()
        done = at_b.until_count(13)
        a.send([Datagram(bytes(12_000), None, 1200), *(Datagram(bytes(size), None) for size in (1, 2, 3))])
        yield done
        if at_b.runs == [10]:  # a kernel that joins datagrams
            self.assertEqual(at_b.bursts, [13])

    @inlineCallbacks
    def test_a_run_as_it_was_made(self) -> Any:
        """Datagrams that were made one behind the other arrive one by one in their sizes, by multicast and unicast."""
        (a, _), (b, at_b), (_, at_c) = self.open(), self.open(), self.open()
        data = b"".join(b"%03d" % number * 400 for number in range(30)) + b"end"
        pieces = [*(b"%03d" % number * 400 for number in range(30)), b"end"]
        done = [sink.until_count(31) for sink in (at_b, at_c)]
        a.send([Datagram(data, None, 1200)])
        yield gatherResults(done)
        for sink in (at_b, at_c):
            self.assertEqual(sink.received, [(piece, a.address) for piece in pieces])
        self.assertEqual(a.counters["segmented_sends"], 1)
        done = [at_b.until_count(62)]
        a.send([Datagram(data, b.address, 1200)])
        yield gatherResults(done)
        self.assertEqual([piece for piece, _ in at_b.received[31:]], pieces)
        self.assertEqual(len(at_c.received), 31)

    @inlineCallbacks
    def test_empty_datagrams(self) -> Any:
        """Datagrams of no bytes, as a stranger may send them, come one by one like all others."""
        _, (b, at_b) = self.open(), self.open()
        sent = [b"", b"", b"abc", b"", b"abc", b"abc", b"", b"", b"ab"]
        done = at_b.until_count(len(sent))
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
            for data in sent:
                stranger.sendto(data, b.address)
        yield done
        self.assertEqual([data for data, _ in at_b.received], sent)
        self.assertEqual(b.counters["sink_failures"], 0)

    @inlineCallbacks
    def test_bounded_bursts(self) -> Any:
        """Many datagrams come in bounded bursts, each ended once, none lost, none truncated."""
        (a, _), (b, at_b) = self.open(), self.open()
        count = 3 * BURST_DATAGRAMS
        done = at_b.until(lambda: len(at_b.received) == count)
        a.send([Datagram(b"%d" % number * 3000, b.address) for number in range(count)])
        yield done
        self.assertLess(max(at_b.bursts), BURST_DATAGRAMS + MAX_SEGMENTS)
        self.assertEqual([data for data, _ in at_b.received], [b"%d" % number * 3000 for number in range(count)])

    @inlineCallbacks
    def test_runs(self) -> Any:
        """A run of datagrams of one size arrives as these datagrams, by multicast too, with far fewer system calls."""
        (a, _), (b, at_b), (_, at_c) = self.open(), self.open(), self.open()
        sent = [b"%04d" % number * 300 for number in range(200)]
        done = [sink.until_count(200) for sink in (at_b, at_c)]
        a.send([Datagram(data, None) for data in sent])
        yield gatherResults(done)
        for sink in (at_b, at_c):
            self.assertEqual([data for data, _ in sink.received], sent)
        self.assertLessEqual(a.counters["segmented_sends"], 4)
        done = [at_b.until_count(202)]
        a.send([Datagram(b"long" * 100, b.address), Datagram(b"short", b.address)])
        yield gatherResults(done)
        self.assertEqual([data for data, _ in at_b.received[200:]], [b"long" * 100, b"short"])

    @inlineCallbacks
    def test_read_waiting(self) -> Any:
        """What waits can be read at once, as a part of a burst that has not ended."""
        (a, _), (b, at_b) = self.open(), self.open()
        a.send([Datagram(b"x", None), Datagram(b"y", b.address)])
        for _ in range(100):
            b.read_waiting()
            if len(at_b.received) == 2:
                break
            yield deferLater(REACTOR, 0.01)
        self.assertEqual({data for data, _ in at_b.received}, {b"x", b"y"})

    @inlineCallbacks
    def test_by_which_socket(self) -> Any:
        """It is said by which socket what follows has come, once for however much is read from it."""
        (a, _), (b, at_b) = self.open(), self.open()
        done = at_b.until_count(40)
        a.send([Datagram(b"%02d" % number * (100 + number), None) for number in range(40)])
        yield done
        self.assertEqual(at_b.readings, [(0, True)])
        done = at_b.until_count(41)
        a.send([Datagram(b"x", b.address)])
        yield done
        self.assertEqual(at_b.readings, [(0, True), (0, False)])

    def test_ports(self) -> None:
        """The first node of a host has the well-known number, for UDP and TCP; others any, or the one they are told."""
        a, _ = self.open()
        b, _ = self.open()
        self.assertEqual(a.address, ("127.0.0.1", self.group_port))
        self.assertNotEqual(b.address[1], self.group_port)
        for node in (a, b):
            with socket.create_connection(node.address, timeout=2):
                pass
        wanted = free_port()
        c, _ = self.open(wanted)
        self.assertEqual(c.address[1], wanted)
        self.assertRaises(EnvironmentFault, self.open, wanted)

    def test_tcp_taken(self) -> None:
        """A number of which only the UDP side is free is not taken."""
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            number = taken.getsockname()[1]
            self.assertRaises(EnvironmentFault, self.open, number)
            self.group_port = number
            a, _ = self.open()
            self.assertNotEqual(a.address[1], number)
            with socket.create_connection(a.address, timeout=2):
                pass

    def test_sending_never_fails(self) -> None:
        """What cannot be sent is dropped and counted by its cause."""
        a, _ = self.open()
        a.send([Datagram(bytes(65_530), ("127.0.0.1", 9))])
        self.assertEqual(a.counters["send_too_long"], 1)
        for cause in (errno.EAGAIN, errno.ENOBUFS, errno.ECONNREFUSED, errno.ENETUNREACH, errno.EPERM):
            a.send_failed(a._links[0], OSError(cause, "no"), 2)
        names = ("send_no_room", "send_refused", "send_unreachable", "send_failed")
        self.assertEqual([a.counters[name] for name in names], [4, 2, 2, 2])

    @inlineCallbacks
    def test_failing_sink(self) -> Any:
        """An error of ours in handling a datagram, or a run, is logged once, counted each time, and stops nothing."""
        (a, _), (b, at_b) = self.open(), self.open()
        at_b.failing = True
        done = at_b.until(lambda: b.counters["sink_failures"] == 3)
        a.send([Datagram(data, b.address) for data in (b"x", b"xx", b"xxx", b"xxx", b"xxx")])
        yield done
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)
        at_b.failing = False
        done = at_b.until(lambda: bool(at_b.received))
        a.send([Datagram(b"y", b.address)])
        yield done

    def test_options(self) -> None:
        """The buffers are large, and multicasts stay on the link."""
        a, _ = self.open()
        sending = a._links[0].unicast.handle
        group = a._links[0].group
        assert group is not None
        receiving = group.handle
        self.assertEqual(sending.getsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL), 1)
        self.assertEqual(sending.getsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_LOOP), 1)
        self.assertEqual(sending.getsockopt(socket.IPPROTO_IP, 10), 3)  # IP_MTU_DISCOVER, IP_PMTUDISC_PROBE
        self.assertEqual(receiving.getsockname(), ("239.192.71.67", self.group_port))
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as plain:
            usual = plain.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)
        self.assertGreaterEqual(receiving.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF), usual)
