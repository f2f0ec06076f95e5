"""Recorded packets: every kind, from every time and place, put before a running group again."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import cast

from twisted.trial.unittest import SynchronousTestCase

from groupcomm.config import EngineConfig
from groupcomm.engine import Engine
from groupcomm.events import Level
from groupcomm.outputs import Address, PacketsRefused
from groupcomm.sealing.guard import Guard
from groupcomm.testing.cluster import Cluster
from groupcomm.testing.interface import EngineFactory, EngineInterface
from groupcomm.testing.network import Conditions
from groupcomm.testing.node import SimulatedClient, SimulatedNode
from groupcomm.testing.oracle import examine
from groupcomm.testing.watchers import Watchers
from groupcomm.wire.packets import LAST_OF_VIEW, Kind

KEY = bytes(range(32))
Recording = list[tuple[bytes, Address]]
QUIET = frozenset(
    {Kind.GREETING, Kind.PASSPORT, Kind.WHO, Kind.ASK, Kind.GRANT, Kind.HANDOVER, Kind.TAKE, Kind.SUMMARY}
    | {Kind.UNRELIABLE, Kind.PIECE}
)
"""Kinds that an ordinary hour need not have. Pieces have no seal of their own: see ``test_fragments``."""


class Recorder:
    """Writes down every datagram that a cluster puts on the wire."""

    def __init__(self, cluster: Cluster) -> None:
        self.packets: Recording = []
        before = cluster.network.watcher

        def watch(data: bytes, source: Address) -> None:
            self.packets.append((data, source))
            if before is not None:
                before(data, source)

        cluster.network.watcher = watch

    def take(self) -> Recording:
        """What was written down since the last time."""
        packets, self.packets = self.packets, []
        return packets


def _received(data: bytes, source: Address, engine: EngineInterface, now: float) -> None:
    engine.datagram_received(data, source, now)


def _received_twice(data: bytes, source: Address, engine: EngineInterface, now: float) -> None:
    engine.run_received(data + data, len(data), source, now)


def guard_of(node: SimulatedNode) -> Guard:
    """The guard of a node that has a key."""
    guard = cast(Engine, node.engine)._guard
    assert guard is not None
    return guard


def refusals(node: SimulatedNode) -> list[str]:
    """What a node has said of packets that it does not open."""
    return [news.why for news in node.key_news if isinstance(news, PacketsRefused)]


def with_keys(keys: Mapping[str, bytes | None]) -> EngineFactory:
    """Engines of which each has the key that is given for its name."""
    return lambda config, node, stream, now: Engine(EngineConfig(key=keys[node.name]), node, stream, now)


def kinds(recording: Recording) -> set[int]:
    return {data[1] for data, _ in recording}


class ReplayTests(SynchronousTestCase):
    """The matrix: {same window, old window, old epoch, old run, other cluster, reflected} and every kind."""

    def setUp(self) -> None:
        self.cluster = Cluster(seed=11, config=EngineConfig(key=KEY), conditions=Conditions(loss_probability=0.05))
        self.watchers = Watchers.attach(self.cluster)
        self.recorder = Recorder(self.cluster)
        self.nodes = self.cluster.add_nodes("a", "b", "c")
        self.cluster.run_until(self.cluster.converged, limit=5.0)
        self.clients = [node.open("client") for node in self.nodes]
        for client in self.clients:
            client.join("chat")
        self.cluster.run(0.5)
        self.labels = 0

    def ordinary_hour(self) -> None:
        """A little of everything: all levels, small and large, losses and repairs.

        Nothing is lost of UNRELIABLE messages: a copy of one that was lost is a packet that comes late, not again.
        """
        for level in Level:
            loss_probability = 0.05 if level else 0.0
            self.cluster.network.conditions = Conditions(loss_probability=loss_probability)
            for client in self.clients:
                if client.live:
                    self.labels += 1
                    size = 20_000 if level is Level.AGREED else 10
                    client.send("chat", f"m{self.labels}|".encode() + bytes(size if level else 10), level=level)
            self.cluster.run(0.02)
        self.cluster.run(1.0)

    def replay(self, recording: Recording, victims: Sequence[SimulatedNode]) -> None:
        """Each packet again, to each victim, from where it came."""
        for data, source in recording:
            for victim in victims:
                victim.command(partial(_received, data, source))
        self.cluster.run(0.5)

    def replay_as_runs(self, recording: Recording, victims: Sequence[SimulatedNode]) -> None:
        """The same, several in one read."""
        for data, source in recording:
            for victim in victims:
                victim.command(partial(_received_twice, data, source))
        self.cluster.run(0.5)

    def counters(self) -> dict[str, int]:
        """What all nodes together have counted."""
        total: dict[str, int] = {}
        for node in self.cluster.live_nodes():
            for name, count in node.status().counters.items():
                total[name] = total.get(name, 0) + count
        return total

    def assert_no_effect(self, attack: Callable[[], None], counted: set[str]) -> None:
        """The attack opens nothing, changes no view, delivers nothing; then the group still works."""
        views = {node.name: len(node.views) for node in self.cluster.live_nodes()}
        events = [len(client.events) for client in self.clients if client.live]
        acquaintances = {node.name: len(guard_of(node)._acquaintances) for node in self.cluster.live_nodes()}
        before = self.counters()
        attack()
        after = self.counters()
        grown = {name for name in after if after[name] > before.get(name, 0)}
        self.assertTrue(counted & grown, grown)
        self.assertEqual(views, {node.name: len(node.views) for node in self.cluster.live_nodes()})
        self.assertEqual(events, [len(client.events) for client in self.clients if client.live])
        self.assertEqual(
            acquaintances,
            {node.name: len(guard_of(node)._acquaintances) for node in self.cluster.live_nodes()},
        )
        for name in ("malformed", "peer_violations"):
            self.assertEqual(after.get(name, 0), before.get(name, 0), name)
        self.ordinary_hour()
        live = [client for client in self.clients if client.live]
        received = {tuple(sorted(client.messages("chat")[-10:])) for client in live}
        self.assertEqual(len({len(messages) for messages in received}), 1)
        report = examine(self.cluster.trace, settled=None, end=self.watchers.so_far())
        self.assertEqual(report.violations, [])

    def test_same_window(self) -> None:
        """What was on the wire a moment ago, to those who have it and those who have not."""
        self.recorder.take()
        self.ordinary_hour()
        recording = self.recorder.take()
        self.assert_no_effect(lambda: self.replay(recording, self.nodes), {"replayed", "reflected"})

    def test_same_window_in_runs(self) -> None:
        """The same packets, each twice in one read."""
        self.recorder.take()
        self.ordinary_hour()
        recording = self.recorder.take()
        self.assert_no_effect(lambda: self.replay_as_runs(recording, self.nodes), {"replayed"})

    def test_old_window(self) -> None:
        """What was on the wire long ago, in this view."""
        self.recorder.take()
        self.ordinary_hour()
        recording = self.recorder.take()
        for _ in range(10):
            self.ordinary_hour()
        self.assert_no_effect(lambda: self.replay(recording, self.nodes), {"replayed"})

    def test_every_kind_from_the_first_packet_on(self) -> None:
        """All that the cluster has ever sent, two view changes and a rotation among it: every kind that occurs."""
        self.nodes[0].restart()
        self.cluster.run_until(self.cluster.converged, limit=5.0)
        self.cluster.node("b").rotate_key()
        self.ordinary_hour()
        recording = self.recorder.take()
        self.assertLessEqual({kind for kind in Kind if kind not in QUIET}, kinds(recording))
        self.assert_no_effect(
            lambda: self.replay(recording, self.cluster.live_nodes()), {"replayed", "sealed_by_stranger"}
        )

    def test_old_epoch(self) -> None:
        """What was sealed before a rotation, right after it and when the old epoch is gone; lost packets among it."""
        self.recorder.take()
        lost: Recording = []

        def lose(data: bytes, source: Address, receiver: Address) -> bool:
            lost.append((data, source))
            return True

        self.cluster.network.loses = lose
        self.clients[0].send("chat", b"lost|")
        self.cluster.run(0.005)
        self.cluster.network.loses = None
        self.ordinary_hour()
        recording = [*self.recorder.take(), *lost]
        self.cluster.node("a").rotate_key()
        self.cluster.run(0.2)
        self.assertEqual({node.status().key_epoch for node in self.nodes}, {1})
        self.assert_no_effect(lambda: self.replay(recording, self.nodes), {"replayed"})
        self.cluster.run(3.0)
        self.assert_no_effect(lambda: self.replay(recording, self.nodes), {"replayed", "unknown_key_epoch"})

    def test_old_run_of_a_node_that_is_back(self) -> None:
        """All of a node's earlier run, its answers to questions too, while its later run is in the view."""
        self.ordinary_hour()
        recording = [packet for packet in self.recorder.take() if packet[1] == self.nodes[0].address]
        self.nodes[0].restart()
        self.cluster.run_until(self.cluster.converged, limit=5.0)
        self.clients[0] = self.cluster.node("a").open("client")
        self.clients[0].join("chat")
        self.cluster.run(0.5)
        self.assert_no_effect(lambda: self.replay(recording, self.cluster.live_nodes()), {"sealed_by_stranger"})

    def test_old_run_of_a_node_that_is_gone(self) -> None:
        """A node that left: nothing it ever said brings it back into the view, or into a view change."""
        self.ordinary_hour()
        self.nodes[0].leave()
        self.cluster.run(3.0)
        self.clients.pop(0)
        recording = [packet for packet in self.recorder.take() if packet[1] == self.nodes[0].address]
        self.assertIn(Kind.JOIN, kinds(recording))
        gathers = self.counters()["gathers_started"]
        self.assert_no_effect(lambda: self.replay(recording, self.cluster.live_nodes()), {"replayed"})
        self.cluster.run(12.0)
        self.assert_no_effect(lambda: self.replay(recording, self.cluster.live_nodes()), {"replayed"})
        self.assertEqual(self.counters()["gathers_started"], gathers)

    def test_other_cluster(self) -> None:
        """Packets of a cluster with another key, of the same name and of another, and with this key of another name."""
        for config in (
            EngineConfig(key=bytes(32)),
            EngineConfig(key=bytes(32), cluster="shop"),
            EngineConfig(key=KEY, cluster="shop"),
        ):
            other = Cluster(seed=12, config=config)
            recorder = Recorder(other)
            nodes = other.add_nodes("a", "b", "c")
            other.run_until(other.converged, limit=5.0)
            clients: list[SimulatedClient] = [node.open("client") for node in nodes]
            for client in clients:
                client.join("chat")
            for level in Level:
                clients[0].send("chat", bytes(5000 if level else 10), level=level)
                other.run(0.3)
            recording = recorder.take()
            counted = {"seal_broken", "foreign_cluster"}
            self.assert_no_effect(partial(self.replay, recording, self.nodes), counted)

    def test_reflected(self) -> None:
        """Each packet to the node that sent it, from the address of another."""
        self.recorder.take()
        self.ordinary_hour()
        recording = self.recorder.take()
        elsewhere = {node.address: self.nodes[index - 1].address for index, node in enumerate(self.nodes)}

        def reflect() -> None:
            for node in self.nodes:
                own = [(data, elsewhere[source]) for data, source in recording if source == node.address]
                self.replay(own, [node])

        self.assert_no_effect(reflect, {"reflected"})

    def test_at_a_node_that_was_not_there(self) -> None:
        """A newcomer that was never told of the past: what others sent before it came is no news to it."""
        self.ordinary_hour()
        recording = self.recorder.take()
        newcomer = self.cluster.add_node("d")
        self.cluster.run_until(self.cluster.converged, limit=5.0)
        self.assert_no_effect(lambda: self.replay(recording, [newcomer]), {"replayed"})


class ForgedSourceTests(SynchronousTestCase):
    """Packets that an outsider holds back, and sends on from an address of its choice."""

    def test_a_dead_node_is_not_kept_in_the_view(self) -> None:
        """A third of all packets of the view come as if from a node that is dead: it is suspected all the same."""
        cluster = Cluster(seed=21, config=EngineConfig(key=KEY))
        nodes = cluster.add_nodes(*"abcd")
        cluster.run_until(cluster.converged, limit=5.0)
        live = {node.address: node for node in nodes[:3]}
        dead = nodes[3].address
        count = 0

        def forge(data: bytes, source: Address, receiver: Address) -> bool:
            nonlocal count
            if receiver not in live or data[1] > LAST_OF_VIEW:
                return False
            count += 1
            if count % 3:
                return False
            victim = live[receiver]
            cluster.scheduler.call_later(0.0005, lambda: victim.command(partial(_received, data, dead)))
            return True

        cluster.network.loses = forge
        client = nodes[0].open("client")
        client.join("chat")
        nodes[3].vanish()
        for _ in range(40):
            client.send("chat", b"tick")
            cluster.run(0.1)
        self.assertGreater(count, 100)
        self.assertEqual([len(node.status().members) for node in nodes[:3]], [3, 3, 3])


class ClusterTests(SynchronousTestCase):
    """Two clusters on one LAN."""

    def test_same_name_and_other_keys_never_mix(self) -> None:
        """Six nodes of one name, three with each key: two views, and each says that somebody has another key."""
        keys = {name: (KEY if name in "abc" else bytes(32)) for name in "abcdef"}
        cluster = Cluster(seed=13, config=EngineConfig(key=KEY), engine_factory=with_keys(keys))
        nodes = cluster.add_nodes(*"abcdef")
        for node in nodes:
            for other in nodes:
                node.hint(other.address)
        cluster.run(8.0)
        for names in ("abc", "def"):
            self.assertTrue(cluster.converged(names))
            for name in names:
                node = cluster.node(name)
                self.assertEqual(len(node.views), len({view.id for view in node.views}))
                self.assertLessEqual({member.name for view in node.views for member in view.members}, set(names))
                self.assertEqual(refusals(node), ["seal_broken"])

    def test_a_node_without_a_key_stays_outside(self) -> None:
        """It hears nobody and nobody hears it; it is in a view of its own, and the others say what they see."""
        keys = {"a": KEY, "b": KEY, "x": None}
        cluster = Cluster(seed=14, config=EngineConfig(key=KEY), engine_factory=with_keys(keys))
        cluster.add_nodes("a", "b", "x")
        cluster.run(6.0)
        self.assertTrue(cluster.converged("ab"))
        self.assertTrue(cluster.converged("x"))
        self.assertEqual(refusals(cluster.node("a")), ["unsealed"])
        self.assertGreater(cluster.node("x").status().counters["sealed"], 0)


class CostTests(SynchronousTestCase):
    """What a packet of an outsider costs."""

    def test_no_memory_no_answer(self) -> None:
        """Ten thousand packets that claim to be of as many nodes: none is remembered, none is answered."""
        cluster = Cluster(seed=15, config=EngineConfig(key=KEY))
        nodes = cluster.add_nodes("a", "b")
        cluster.run_until(cluster.converged, limit=5.0)
        recorder = Recorder(cluster)
        outsiders = Cluster(seed=16, config=EngineConfig(key=bytes(32)))
        theirs = Recorder(outsiders)
        outsiders.add_nodes("v", "w")
        outsiders.run(2.0)
        recording = [data for data, _ in theirs.take() if data[1] >= Kind.BEACON]
        cluster.run(0.3)
        recorder.take()
        sent = nodes[0].status().counters["datagrams_sent"]
        for number in range(10_000):
            data = bytearray(recording[number % len(recording)])
            data[20:28] = number.to_bytes(8)
            source = (f"10.9.{number // 250}.{number % 250}", 7400)
            nodes[0].engine.datagram_received(bytes(data), source, nodes[0].local_now())
        guard = guard_of(nodes[0])
        self.assertEqual(len(guard._acquaintances), 1)
        self.assertEqual(len(guard._strangers._questions), 0)
        self.assertEqual(len(guard.news), 1)
        nodes[0].engine.check_invariants()
        self.assertEqual(nodes[0].status().counters["datagrams_sent"], sent)
        cluster.run(1.0)
        self.assertTrue(cluster.converged())
