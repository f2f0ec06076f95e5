"""Interleavings found by reading or by random runs, each of which broke a promise once: they say why code exists."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from twisted.trial.unittest import SynchronousTestCase

from groupcomm.config import EngineConfig
from groupcomm.engine import Engine
from groupcomm.events import Level
from groupcomm.identity import NodeId
from groupcomm.limits import MIN_BUDGET_BYTES, MIN_WINDOW_BYTES
from groupcomm.membership.gather import Gather
from groupcomm.ordering.ordered_view import OrderedView
from groupcomm.testing.cluster import Cluster
from groupcomm.testing.network import Conditions
from groupcomm.testing.node import SimulatedClient, SimulatedNode
from groupcomm.testing.oracle import check
from groupcomm.wire.codec import list_digest
from groupcomm.wire.messages import Join
from groupcomm.wire.packets import LAST_OF_VIEW, Header, Kind

NUMBERED = Kind.GRANT


class FindingCase(SynchronousTestCase):
    """A cluster whose every datagram a test may drop."""

    def build(self, *names: str, config: EngineConfig | None = None) -> None:
        """Nodes in one view, each with a client in one group; packets are dropped where ``self.drop`` says so."""
        self.cluster = Cluster(1, config=config)
        self.nodes = self.cluster.add_nodes(*names)
        self.drop: Callable[[Header, str, str], bool] = lambda header, source, receiver: False
        names_at = {node.address: node.name for node in self.nodes}
        self.cluster.network.loses = lambda data, source, receiver: self.drop(
            Header(data), names_at[source], names_at[receiver]
        )
        self.cluster.run_until(self.cluster.converged, 10.0)
        self.clients = [node.open("c") for node in self.nodes]
        for client in self.clients:
            client.join("chat")
        self.cluster.run(0.5)

    def index(self, name: str) -> int:
        """A node's index in the view."""
        return [node.name for node in self.view(self.nodes[0]).setup.members].index(name)

    @staticmethod
    def view(node: SimulatedNode) -> OrderedView:
        """The view's data plane."""
        assert isinstance(node.engine, Engine)
        assert node.engine._view is not None
        return node.engine._view

    def hand_over(self, node: SimulatedNode, to: str) -> None:
        """The sequencer's role goes from ``node`` to another."""
        node.command(lambda engine, now: self.view(node).hand_over(self.index(to)))
        self.cluster.run(0.5)
        self.assertEqual(self.view(node).sequencer, self.index(to))

    def got(self, client: SimulatedClient) -> list[bytes]:
        """What a client has received, shortened."""
        return [data[:4] for data in client.messages("chat")]

    def check_all(self, nodes: Sequence[SimulatedNode]) -> None:
        """Every property holds."""
        check(self.cluster.trace, settled=[node.identity for node in nodes])


class EndOfViewTests(FindingCase):
    def test_what_depends_on_a_lost_place_is_not_delivered(self) -> None:
        """A message sent after an ordered one that no survivor has is dropped by all, whatever takes its place."""
        self.build("r1", "r2", "s", "x")
        r1, r2, s, x = self.clients
        self.hand_over(self.nodes[0], "s")
        of_s = self.index("s")

        def drop(header: Header, source: str, receiver: str) -> bool:
            if receiver not in ("r1", "r2") or header.kind > LAST_OF_VIEW:
                return False
            return source == "s" or (header.kind <= NUMBERED and header.sender == of_s)

        self.drop = drop
        s.send("chat", b"lost")
        self.cluster.run(0.01)
        self.assertEqual(self.got(x), [b"lost"])
        x.send("chat", b"after")
        r1.send("chat", b"one")
        r1.send("chat", b"two")
        self.cluster.run(0.01)
        self.nodes[2].vanish()
        self.nodes[3].vanish()
        self.cluster.run(4.0)
        self.assertEqual(self.got(r1), [b"one", b"two"])
        self.assertEqual(self.got(r2), [b"one", b"two"])
        self.check_all(self.nodes[:2])

    def test_more_gaps_than_can_be_told_end_alike(self) -> None:
        """A node with more gaps than its answer names delivers nothing of the old view that the other does not."""
        self.build("a", "b", "d")
        base = self.view(self.nodes[2]).highest_sent

        def drop(header: Header, source: str, receiver: str) -> bool:
            number = header.sequence - base
            if source == "d" and header.kind <= NUMBERED:
                if receiver == "b" and number <= 80 and number % 2 == 0:
                    return True
                if receiver == "a" and number == 81:
                    return True
            calm = not self.view(self.nodes[0]).frozen
            return (header.kind in (Kind.NACK, Kind.TAIL) and calm) or (source == "d" and header.kind == Kind.STATUS)

        self.drop = drop
        for number in range(1, 82):
            self.clients[2].send("chat", b"%03d|" % number + bytes(1200), level=Level.FIFO)
        self.cluster.run(0.01)
        self.nodes[2].vanish()
        self.cluster.run(4.0)
        self.assertEqual(self.got(self.clients[0]), self.got(self.clients[1]))
        self.assertGreater(len(self.got(self.clients[0])), 32)
        self.check_all(self.nodes[:2])


class SafeTests(FindingCase):
    def test_what_earlier_messages_depend_on_must_be_stable_too(self) -> None:
        """SAFE waits until all have the FIFO message that an AGREED one before it follows."""
        self.build("p", "q", "x", "y", "z")
        p, q, x, y, z = self.clients
        of_y = self.index("y")
        self.drop = lambda header, source, receiver: (
            receiver in ("q", "z") and header.kind <= NUMBERED and header.sender == of_y
        )
        y.send("chat", b"fifo", level=Level.FIFO)
        self.cluster.run(0.002)
        self.assertEqual((self.got(x), self.got(q)), ([b"fifo"], []))
        x.send("chat", b"agreed", level=Level.AGREED)
        self.cluster.run(0.002)
        z.send("chat", b"safe", level=Level.SAFE)
        self.cluster.run(0.6)
        self.assertEqual(self.got(p), [b"fifo", b"agre"])
        self.cluster.partition(["q", "z"], ["p", "x", "y"])
        self.cluster.run(4.0)
        self.assertIn(b"safe", self.got(p))
        check(self.cluster.trace)

    def test_who_orders_or_sums_up_waits_no_longer(self) -> None:
        """A SAFE message of the node that orders, or that sums reports up, does not wait for a routine report."""
        for nodes_until_summed in (16, 2):
            self.build("a", "b", "c", "d", config=EngineConfig(suppression_nodes=nodes_until_summed))
            for orders in ("a", "d"):
                if orders == "d":
                    self.hand_over(self.nodes[0], "d")
                for number, client in enumerate(self.clients):
                    data = f"{orders}{number}".encode()
                    client.send("chat", data, level=Level.SAFE)
                    self.cluster.run(0.008)
                    self.assertEqual([self.got(one).count(data) for one in self.clients], [1] * 4, (data, orders))
                    self.cluster.run(0.2)
            self.check_all(self.nodes)


class MembershipTests(FindingCase):
    def test_a_young_node_merges_with_an_old_cluster(self) -> None:
        """A node that has seen few changes can still start the merge with a view that has seen many."""
        cluster = Cluster(3)
        nodes = cluster.add_nodes("b", "c")
        cluster.run_until(cluster.converged, 10.0)
        for node in nodes:
            assert isinstance(node.engine, Engine)
            membership = node.engine._membership
            membership._attempt = membership._installed_attempt = 100
        young = cluster.add_node("a")
        cluster.partition(["a"], ["b", "c"])
        cluster.run(5.0)
        cluster.heal()
        cluster.run_until(cluster.converged, 5.0)
        self.assertLessEqual(len(young.views), 3)

    def test_a_node_with_ever_other_candidates_does_not_fill_the_memory(self) -> None:
        """Of the lists of candidates that are named in one attempt only those of the last rows are kept."""
        me, other = NodeId("a", 1), NodeId("b", 1)
        gather = Gather(me, None, 1, [other], 0.0)
        for serial in range(1, 100):
            names = (me, other, NodeId("c", serial))
            listed = list_digest(names)
            gather.heard(Join(other, None, None, False, 1, 1, serial, 1, 0, listed, 3, 1, names, ()), names)
            self.assertLessEqual(len(gather._lists), 5)
        self.assertEqual(gather.members(settled=True), (me, other))

    def test_a_leave_is_told_without_a_flood(self) -> None:
        """Nobody waits for a leaver in the view that it left: INSTALL goes out a few times, not hundreds."""
        self.build("a", "b", "c")
        installs: list[str] = []

        def drop(header: Header, source: str, receiver: str) -> bool:
            if header.kind == Kind.INSTALL:
                installs.append(f"{source} to {receiver}")
            return False

        self.drop = drop
        self.nodes[2].leave()
        self.cluster.run(2.0)
        self.assertEqual([node.name for node in self.cluster.live_nodes()], ["a", "b"])
        self.assertTrue(installs)
        self.assertLess(len(installs), 12)

    def test_stale_joins_do_not_go_round(self) -> None:
        """Two nodes that have both begun a new attempt do not answer each other's old JOINs with old JOINs."""
        self.build("a", "b")
        joins: list[str] = []

        def drop(header: Header, source: str, receiver: str) -> bool:
            if header.kind == Kind.JOIN:
                joins.append(f"{source} to {receiver}")
            return False

        self.drop = drop
        first, second = self.nodes[0].engine, self.nodes[1].engine
        assert isinstance(first, Engine) and isinstance(second, Engine)
        for node, engine in zip(self.nodes, (first, second), strict=True):
            now = node.local_now()
            engine._membership._begin(now, ())
            engine._membership._go_on_gathering(now)
            engine._membership.out.clear()
            engine._membership._again(set(), now)
            engine._membership._next_tick = now + 0.005
        stale = second._membership._last_join
        assert stale is not None
        self.nodes[0].command(lambda _, now: first._membership.join_received(stale, self.nodes[1].address, now))
        self.cluster.run(0.0045)
        self.assertLessEqual(len(joins), 1)
        self.cluster.run_until(self.cluster.converged, 2.0)


class DirectoryTests(FindingCase):
    def test_a_session_that_ends_early_is_in_no_group_for_all(self) -> None:
        """A client that joins, leaves and goes while its node has much to send is not left in a group at one node."""
        self.build("a", "b", "c")
        _, b, c = self.clients
        b.close()
        c.close()
        self.cluster.run(0.5)
        node = self.nodes[1]
        self.cluster.network.loses = None
        newcomer = self.cluster.add_node("z")
        while node.status().state == "operational":
            self.cluster.run(0.0001)
        self.cluster.network.loses = lambda data, source, receiver: Header(data).kind == Kind.STATUS
        early = node.open("early")
        early.join("chat")
        for number in range(12):
            early.send("chat", b"%03d|" % number + bytes(30_000), level=Level.FIFO)
        early.leave("chat")
        early.close()
        while node.status().state != "recover":
            self.cluster.run(0.0001)
        late = node.open("late")
        late.join("chat")
        self.cluster.run_until(self.cluster.converged, 5.0)
        self.cluster.network.loses = None
        self.cluster.run(3.0)
        self.assertEqual({str(member) for member in late.views("chat")[-1].members}, {"c@a", "late@b"})
        self.check_all([*self.nodes, newcomer])


class SlotTests(FindingCase):
    def test_a_slot_is_not_given_twice_for_one_ask(self) -> None:
        """The next sequencer does not grant an ask that was granted before it read it: large messages keep flowing."""
        self.build("a", "b", "d", config=EngineConfig(budget_bytes=MIN_BUDGET_BYTES))
        a, b, d = self.clients
        of_b, until = self.index("b"), self.cluster.now + 0.05
        lost: list[int] = []

        def drop(header: Header, source: str, receiver: str) -> bool:
            of_stream = receiver == "d" and header.kind <= NUMBERED and header.sender == of_b
            if of_stream and (header.kind == Kind.ASK or lost) and self.cluster.now < until:
                lost.append(header.sequence)
                return True
            return False

        self.drop = drop
        b.send("chat", bytes(2_200_000), level=Level.FIFO)
        self.cluster.run(2.0)
        self.assertTrue(lost)
        self.assertEqual(len(d.messages("chat")), 1)
        self.hand_over(self.nodes[0], "d")
        a.send("chat", bytes(2_200_001), level=Level.FIFO)
        self.cluster.run(5.0)
        self.assertEqual(len(d.messages("chat")), 2)
        self.check_all(self.nodes)

    def test_a_slot_is_free_though_word_of_it_was_lost(self) -> None:
        """If the last reports do not reach the one who gives the slots, it asks: the next large message goes."""
        self.build("a", "b", "d", config=EngineConfig(budget_bytes=MIN_BUDGET_BYTES))
        a, b, d = self.clients
        lost: list[float] = []

        def drop(header: Header, source: str, receiver: str) -> bool:
            now = self.cluster.now
            if (header.kind, source, receiver) != (Kind.STATUS, "b", "a") or len(b.messages("chat")) != 1:
                return False
            lost.append(now)
            return now - lost[0] < 0.1

        self.drop = drop
        for number in (0, 1):
            d.send("chat", bytes([number]) * 2_000_000, level=Level.FIFO)
        self.cluster.run(6.0)
        self.assertTrue(lost)
        self.assertEqual([len(client.messages("chat")) for client in (a, b)], [2, 2])
        self.check_all(self.nodes)


class RoundTripTests(FindingCase):
    def test_who_only_sends_measures_too(self) -> None:
        """A node that only sends learns when the others are farther away, whichever way its messages leave."""
        for level in (Level.AGREED, Level.FIFO):
            self.build("a", "b", "c")
            a = self.nodes[0]
            self.assertEqual(self.view(a).sequencer, self.index("a"))
            self.cluster.network.conditions = Conditions(delay_seconds=0.005)
            for _ in range(1500):
                self.clients[0].send("chat", b"small", level=level)
                a.command(lambda engine, now: engine.flush(now))
                self.cluster.run(0.001)
            self.assertGreater(self.trip(a, "b"), 0.003, level)

    def test_a_large_view_goes_by_what_it_measures(self) -> None:
        """Where one node sums up for all, the others wait for word as long as word takes, and the window knows it."""
        self.build("a", "b", "c", "d", config=EngineConfig(suppression_nodes=2))
        a = self.nodes[0]
        self.cluster.network.conditions = Conditions(delay_seconds=0.04)
        for _ in range(200):
            self.clients[0].send("chat", b"small")
            self.cluster.run(0.02)
        self.cluster.run(1.0)
        before = a.status().counters["tails_sent"]
        for _ in range(10):
            self.clients[0].send("chat", b"alone")
            self.cluster.run(0.5)
        self.assertLessEqual(a.status().counters["tails_sent"] - before, 10)
        window = self.view(a).window
        before = window.window_bytes = 4 * MIN_WINDOW_BYTES
        lost: list[int] = []

        def drop(header: Header, source: str, receiver: str) -> bool:
            if lost or (source, receiver, header.kind) != ("a", "b", Kind.DATA):
                return False
            lost.append(header.sequence)
            return True

        self.drop = drop
        for _ in range(3):
            self.clients[0].send("chat", b"small")
            self.cluster.run(0.02)
        self.cluster.run(1.0)
        self.assertTrue(lost)
        self.assertLessEqual(window.window_bytes, before // 2)

    def trip(self, node: SimulatedNode, name: str) -> float:
        """How far a node believes another to be."""
        peers = node.engine.status(node.local_now()).peers
        return next(peer.round_trip_seconds for peer in peers if peer.node.name == name)
