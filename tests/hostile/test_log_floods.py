"""Log flooding: a node on the wire may send what it likes; what a node says in its log does not grow with it."""

from __future__ import annotations

import random
from typing import cast

from attrs import evolve
from twisted.logger import capturedLogs
from twisted.trial.unittest import SynchronousTestCase

from groupcomm.config import EngineConfig
from groupcomm.engine import Engine
from groupcomm.identity import NodeId, ViewId
from groupcomm.net.reactor import INodeReactor
from groupcomm.net.sockets import DatagramSink, SocketConfig
from groupcomm.net.watch import BannerFactory
from groupcomm.node import Node, NodeConfig
from groupcomm.node.driver import NodeSeams
from groupcomm.ordering.ordered_view import OrderedView, ViewSetup
from groupcomm.wire.messages import Beacon, SlowNote, SlowWord
from tests.hostile.attacker import GHOST, STRANGER, beacon_of, every_packet, join_of, message_packets
from tests.node_double import LOOPBACK, MemoryClock, RecordingTransport


class EngineBench:
    """A node with a real engine, on sockets that send nowhere and a clock that is stepped by hand."""

    def __init__(self) -> None:
        self.clock = MemoryClock()
        self.engines: list[Engine] = []
        self.transports: list[RecordingTransport] = []
        seams = NodeSeams(
            make_engine=self._make_engine,
            open_transport=self._open_transport,
            make_sources=lambda *_: (),
            find_interfaces=lambda wanted, family: (LOOPBACK,),
            clock=self.clock.seconds,
            wall_clock=lambda: 1_600_000_000.0 + self.clock.seconds(),
        )
        self.node = Node(cast(INodeReactor, self.clock), NodeConfig(node="n1", insecure=True), seams)

    def _make_engine(self, config: EngineConfig, node: NodeId, rng: random.Random, now: float) -> Engine:
        self.engines.append(Engine(config, node, rng, now))
        return self.engines[-1]

    def _open_transport(
        self, reactor: INodeReactor, config: SocketConfig, sink: DatagramSink, neighbours: BannerFactory
    ) -> RecordingTransport:
        self.transports.append(RecordingTransport(reactor, config, sink, neighbours))
        return self.transports[-1]


class LogFloodTests(SynchronousTestCase):
    """A node alone in its view, under attack for a minute."""

    def setUp(self) -> None:
        self.bench = EngineBench()
        self.bench.node.startService()
        self.bench.clock.run_for(5.0)
        assert self.view.setup.members

    @property
    def view(self) -> OrderedView:
        """Its view."""
        view = self.bench.engines[0]._view
        assert view is not None
        return view

    def lines_for(self, packets: list[bytes], seconds: float = 1.0) -> list[str]:
        """The lines in the log while these packets come, and for a while after."""
        with capturedLogs() as lines:
            for data in packets:
                self.bench.transports[0].sink.datagram_received(data, STRANGER)
                self.bench.transports[0].sink.burst_ended()
            self.bench.clock.run_for(seconds)
        return [str(line.get("log_format")) for line in lines]

    def test_garbage(self) -> None:
        """Random bytes, and every truncation of every kind of packet, are counted and not logged."""
        source = random.Random(1)
        packets = [source.randbytes(source.randrange(200)) for _ in range(2000)]
        for whole in every_packet(self.setup_of_three(), sender=1).values():
            packets += [whole[:size] for size in range(len(whole))]
        self.assertEqual(self.lines_for(packets), [])
        counters = self.bench.engines[0].status(self.bench.clock.seconds()).counters
        self.assertGreater(counters["malformed"], 2000)

    def test_every_kind_again_and_again(self) -> None:
        """Well-formed packets of every kind, each two hundred times, are not logged one by one."""
        packets = list(every_packet(self.setup_of_three(), sender=1, sequence=1).values()) * 200
        self.assertLess(len(self.lines_for(packets)), 5)

    def test_words_on_slow_receivers(self) -> None:
        """A thousand nodes say that this one was evicted: that is one line."""
        me = self.bench.engines[0].status(0.0).node
        notes = (SlowNote(SlowWord.KEPT_OUT, me, 1, 10_000), SlowNote(SlowWord.CLAIM, me, 1, 1))
        packets = []
        for number in range(1000):
            beacon = Beacon(NodeId(f"z{number}", 1), ViewId(2, GHOST), 1, 2, False, False, (), notes)
            packets += message_packets(beacon, number=number)
        self.assertLessEqual(len(self.lines_for(packets)), 1)

    def test_changes_of_view(self) -> None:
        """Newcomers and JOINs without end cause a change, and its line, twice a second at most."""
        lines: list[str] = []
        for turn in range(100):
            packets = []
            for number in range(5):
                packets += message_packets(beacon_of(NodeId(f"z{turn}-{number}", 1)), number=number)
                packets += message_packets(
                    join_of(NodeId(f"y{turn}-{number}", 1), self.view.setup.members, attempt=100 * turn + number),
                    number=number,
                )
            lines += self.lines_for(packets, 0.1)
        self.assertLess(len(lines), 2 * 10 + 5)

    def setup_of_three(self) -> ViewSetup:
        """The view with indices for others too; alone in it the node would hear nobody."""
        setup = self.view.setup
        return evolve(setup, members=(*setup.members, GHOST, NodeId("zz", 1)))
