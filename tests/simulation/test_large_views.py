"""Views large enough for the means that keep their cost small: named lists, summed-up reports, silent directories."""

from __future__ import annotations

from collections import Counter

from twisted.trial.unittest import SynchronousTestCase

from groupcomm.config import EngineConfig
from groupcomm.errors import MalformedPacket
from groupcomm.events import Level
from groupcomm.outputs import Address
from groupcomm.testing.cluster import Cluster
from groupcomm.testing.network import Conditions
from groupcomm.testing.node import SimulatedClient
from groupcomm.testing.oracle import check
from groupcomm.testing.packets import packet_kind
from groupcomm.wire.messages import Join, decode_message
from groupcomm.wire.packets import HEADER_BYTES, Kind

SMALL = EngineConfig(suppression_nodes=2)
"""With these settings a view of three nodes is large."""


class LargeViewCase(SynchronousTestCase):
    """A cluster in which views of more than two nodes are large, and every packet is counted by kind."""

    def build(self, count: int, config: EngineConfig = SMALL, loss: float = 0.0) -> Cluster:
        self.cluster = Cluster(1, config=config)
        self.kinds: Counter[str] = Counter()
        self.joins: list[Join] = []
        self.cluster.network.tap = self.tapped
        self.cluster.add_nodes(*(f"n{number:02}" for number in range(count)))
        self.cluster.run_until(self.cluster.converged, 5.0)
        self.cluster.network.conditions = Conditions(loss_probability=loss)
        return self.cluster

    def tapped(self, data: bytes, _: Address) -> None:
        """Sees every datagram that leaves a node."""
        kind = packet_kind(data)
        self.kinds[kind] += 1
        if kind == Kind.JOIN.name:
            try:
                join = decode_message(Kind.JOIN, data[HEADER_BYTES:])
            except MalformedPacket:  # one of several parts
                return
            assert isinstance(join, Join)
            self.joins.append(join)

    def clients(self) -> list[SimulatedClient]:
        """A client on each node, all in one group."""
        opened = [node.open("c") for node in self.cluster.live_nodes()]
        for client in opened:
            client.join("chat")
        self.cluster.run_until(
            lambda: all((view := one.view("chat")) is not None and len(view.members) == len(opened) for one in opened),
            5.0,
        )
        return opened

    def settle(self) -> None:
        """One view of all live nodes, nothing outstanding, and every property holds."""
        cluster = self.cluster
        cluster.run_until(cluster.converged, 10.0)
        cluster.run_until(lambda: not any(node.status().outstanding_bytes for node in cluster.live_nodes()), 10.0)
        cluster.run(1.0)
        check(cluster.trace, settled=[node.identity for node in cluster.live_nodes()])


class ListTests(LargeViewCase):
    """Candidates that are named once."""

    def test_one_node_names_the_candidates(self) -> None:
        """When nodes start together, the JOINs of all but one carry a digest of the candidates."""
        self.build(6)
        naming = {join.node for join in self.joins if join.candidates is not None and join.count == 6}
        self.assertEqual({join.node.name for join in self.joins}, {f"n{number:02}" for number in range(6)})
        self.assertEqual({node.name for node in naming}, {"n00"})

    def test_who_missed_the_names_asks_for_them(self) -> None:
        """A node that has lost the JOIN with the names hears those of the others, asks, and is in the view."""
        cluster = Cluster(1, config=SMALL)
        first, *_ = cluster.add_nodes(*(f"n{number:02}" for number in range(5)))
        last = cluster.node("n04")
        kinds: Counter[str] = Counter()

        def loses(data: bytes, source: Address, receiver: Address) -> bool:
            kinds[packet_kind(data)] += 1
            named = packet_kind(data) == Kind.JOIN.name and source == first.address and receiver == last.address
            return named and not kinds[Kind.WHO.name]

        cluster.network.loses = loses
        took = cluster.run_until(cluster.converged, 5.0)
        self.assertGreater(kinds[Kind.WHO.name], 0)
        self.assertLess(took, 1.5)

    def test_nodes_that_start_together_are_one_view_soon(self) -> None:
        """Forty nodes with default settings and 2 % loss are in one view within two and a half seconds."""
        cluster = Cluster(3, conditions=Conditions(loss_probability=0.02), check_invariants=False)
        cluster.add_nodes(*(f"n{number:02}" for number in range(40)))
        self.assertLess(cluster.run_until(cluster.converged, 5.0, every=0.01), 2.5)


class SummaryTests(LargeViewCase):
    """Reports that one node sums up."""

    def test_reports_go_to_one_node(self) -> None:
        """In a view of twenty the others report to the last; it multicasts what all have, and senders get done."""
        cluster = self.build(20, EngineConfig())
        clients = self.clients()
        cluster.run(2.0)
        self.kinds.clear()
        for client in clients:
            client.send("chat", client.member.node.name.encode(), level=Level.SAFE)
        cluster.run_until(lambda: all(len(one.messages("chat")) == 20 for one in clients), 1.0)
        cluster.run_until(lambda: not any(node.status().outstanding_bytes for node in cluster.live_nodes()), 1.0)
        self.assertGreater(self.kinds[Kind.SUMMARY.name], 0)
        collector = cluster.node("n19").status().counters
        self.assertEqual(collector.get("statuses_sent", 0), 0)
        self.assertTrue(all(node.status().counters.get("summaries_sent", 0) == 0 for node in cluster.live_nodes()[:-1]))
        self.settle()

    def test_lost_reports_and_summaries_are_made_good(self) -> None:
        """With every other report and summary lost, SAFE messages are delivered and all is known to be everywhere."""
        cluster = self.build(4)
        clients = self.clients()
        seen: Counter[str] = Counter()

        def loses(data: bytes, *_: Address) -> bool:
            kind = packet_kind(data)
            seen[kind] += 1
            return kind in (Kind.STATUS.name, Kind.SUMMARY.name) and bool(seen[kind] % 2)

        cluster.network.loses = loses
        for number in range(20):
            for client in clients:
                client.send("chat", f"{client.member} {number}".encode(), level=Level.SAFE)
            cluster.run(0.02)
        cluster.run_until(lambda: all(len(one.messages("chat")) == 80 for one in clients), 10.0)
        cluster.run_until(lambda: not any(node.status().outstanding_bytes for node in cluster.live_nodes()), 5.0)
        cluster.network.loses = None
        self.settle()

    def test_the_collector_dies(self) -> None:
        """Messages that it has not reported on are delivered after the change, and the next view has another."""
        cluster = self.build(5, loss=0.05)
        clients = self.clients()
        for client in clients[:4]:
            client.send("chat", client.member.node.name.encode(), level=Level.SAFE)
        cluster.node("n04").crash()
        cluster.run_until(lambda: all(len(one.messages("chat")) == 4 for one in clients[:4]), 5.0)
        self.settle()
        self.assertEqual(len(cluster.node("n00").status().members), 4)

    def test_only_who_is_asked_repairs(self) -> None:
        """A packet that many have and one lacks is sent again once, by its sender."""
        cluster = self.build(8)
        clients = self.clients()
        cluster.run(1.0)
        target = cluster.node("n05").address
        lost: list[bytes] = []

        def loses(data: bytes, _: Address, receiver: Address) -> bool:
            if receiver == target and packet_kind(data) == Kind.DATA.name and not lost:
                lost.append(data)
                return True
            return False

        cluster.network.loses = loses
        clients[2].send("chat", b"hello")
        cluster.run(0.5)
        self.assertEqual(len(lost), 1)
        counters = [node.status().counters for node in cluster.live_nodes()]
        self.assertEqual([one.get("repairs_sent", 0) for one in counters], [0, 0, 1, 0, 0, 0, 0, 0])
        self.assertEqual([one.get("repairs_for_others", 0) for one in counters], [0] * 8)
        self.assertEqual([one.messages("chat") for one in clients], [[b"hello"]] * 8)


class SilentTests(LargeViewCase):
    """Directories that are not sent."""

    def test_only_nodes_with_sessions_send_directories(self) -> None:
        """When a node joins, who has no client in a group sends no directory, and the group is known all the same."""
        cluster = self.build(4, EngineConfig())
        alice = cluster.node("n01").open("alice")
        alice.join("chat")
        cluster.run(1.0)
        self.kinds.clear()
        newcomer = cluster.add_node("n99")
        cluster.run_until(cluster.converged, 5.0)
        cluster.run(0.2)
        self.assertEqual(self.kinds["DIRECTORY"], 1)
        bob = newcomer.open("bob")
        bob.join("chat")
        cluster.run(0.2)
        view = alice.view("chat")
        assert view is not None
        self.assertEqual({member.client for member in view.members}, {"alice", "bob"})
        self.settle()

    def test_a_join_under_way_is_told(self) -> None:
        """A client that asks to join just before the view changes is in the group of the next view, for all."""
        for wait in (0.0, 0.0001, 0.0003, 0.001):
            cluster = self.build(3, EngineConfig())
            cluster.add_node("n99")
            node = cluster.node("n01")
            while node.status().state == "operational":
                cluster.run(0.0001)
            cluster.run(wait)
            alice, bob = node.open("alice"), cluster.node("n00").open("bob")
            alice.join("chat")
            bob.join("chat")
            cluster.run_until(cluster.converged, 5.0)
            cluster.run(1.0)
            for client in (alice, bob):
                view = client.view("chat")
                assert view is not None
                self.assertEqual({member.client for member in view.members}, {"alice", "bob"})
            self.settle()
