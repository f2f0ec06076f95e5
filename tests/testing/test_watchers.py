"""What is seen on the wire and in the nodes of a run: the invariants hold, and each way to break them is named."""

from __future__ import annotations

from attrs import evolve
from twisted.trial.unittest import SynchronousTestCase

from groupcomm.events import Level
from groupcomm.outputs import Datagram
from groupcomm.status import NodeStatus
from groupcomm.testing import trace as traces
from groupcomm.testing.check_rest import EndOfRun
from groupcomm.testing.cluster import Cluster
from groupcomm.testing.network import Conditions
from groupcomm.testing.node import SimulatedNode
from groupcomm.testing.oracle import examine
from groupcomm.testing.watchers import Watchers
from groupcomm.wire.packets import Kind, encode


class WatchersTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.cluster = Cluster(seed=3, conditions=Conditions(loss_probability=0.1))
        self.watchers = Watchers.attach(self.cluster)
        self.nodes = self.cluster.add_nodes("a", "b", "c")
        self.cluster.run_until(self.cluster.converged, limit=10.0)

    def talk(self) -> None:
        """Members on all nodes send at every level until everything has come."""
        clients = [node.open("x") for node in self.nodes]
        for client in clients:
            client.join("g")
        self.cluster.run(0.5)
        for number in range(20):
            for client in clients:
                client.send("g", f"{client.member}-{number}|".encode(), level=Level.SAFE if number % 2 else Level.FIFO)
            self.cluster.run(0.01)
        self.cluster.run(2.0)

    def end(self) -> EndOfRun:
        return self.watchers.rest("abc")

    def violations(self, end: EndOfRun) -> list[str]:
        """The properties that the oracle finds broken, the earliest first."""
        settled = [node.identity for node in self.nodes]
        return [one.property for one in examine(self.cluster.trace, settled=settled, end=end).violations]

    def test_nothing_is_wrong_under_loss(self) -> None:
        """Repairs are the originals, stability is not overrated, and the cluster comes to rest."""
        self.talk()
        self.cluster.network.conditions = Conditions()
        end = self.end()
        self.assertEqual(self.violations(end), [])
        self.assertGreater(end.repairs_sent, 0)
        self.assertGreater(end.stability_checks, 0)
        self.assertGreater(end.nacks_sent, 0)
        self.assertGreater(end.lost_copies, 0)
        held = [event for event in self.cluster.trace if isinstance(event, traces.SafeHeld)]
        self.assertEqual({event.lacking for event in held}, {()})

    def test_repair_that_differs(self) -> None:
        """X5: a packet of a stream is sent again with other bytes."""
        for body in (b"one", b"one", b"two"):
            self.watchers.datagram_sent(Datagram(encode(Kind.DATA, 7, 0, 5, body), None), ("10.0.0.2", 7400))
        self.assertEqual(self.violations(self.watchers.so_far()), ["X5"])

    def test_repair_with_other_flags(self) -> None:
        """X5: a repair carries no mark of its own."""
        for flags in (0, 1):
            self.watchers.datagram_sent(
                Datagram(encode(Kind.DATA, 7, 0, 5, b"one", flags=flags), None), ("10.0.0.2", 7400)
            )
        self.assertEqual(self.violations(self.watchers.so_far()), ["X5"])

    def test_words_after_the_end(self) -> None:
        """X9: an engine says more after it has said that it stopped."""
        self.watchers.ended(self.nodes[0], 0)
        self.assertEqual(self.violations(self.watchers.so_far()), [])
        self.watchers.ended(self.nodes[0], 2)
        self.assertEqual(self.violations(self.watchers.so_far()), ["X9"])

    def test_queue_beyond_its_cap(self) -> None:
        """X1: a node has more queued than its budget allows."""
        self.talk()
        honest = SimulatedNode.status
        self.patch(SimulatedNode, "status", lambda node: evolve(honest(node), queued_bytes=1 << 40))
        self.nodes[0].open("y").send("g", b"late|", level=Level.SAFE)
        self.cluster.run(0.5)
        self.assertEqual(set(self.violations(self.watchers.so_far())), {"X1"})

    def test_stability_that_is_overrated(self) -> None:
        """X4: a node takes for stable what another has not received."""
        self.talk()
        honest = SimulatedNode.status

        def status(node: SimulatedNode) -> NodeStatus:
            told = honest(node)
            if node is not self.nodes[2]:
                return told
            return evolve(
                told, peers=tuple(evolve(one, packets_received=one.packets_received - 1) for one in told.peers)
            )

        self.patch(SimulatedNode, "status", status)
        self.nodes[0].open("y").send("g", b"late|", level=Level.SAFE)
        self.cluster.run(0.5)
        self.assertIn("X4", self.violations(self.watchers.so_far()))

    def test_safe_that_somebody_lacks(self) -> None:
        """S1: at the first delivery of a SAFE message every other node of the view must hold all of it."""
        self.talk()
        sending = self.nodes[0].open("y").send("g", b"late|", level=Level.SAFE)
        self.cluster.network.mute(self.nodes[0].address)
        self.cluster.run(0.0)
        self.assertTrue(sending.accepted)
        self.watchers.delivers_safe(self.nodes[1], "late")
        last = self.cluster.trace.events[-1]
        assert isinstance(last, traces.SafeHeld)
        self.assertEqual(last.lacking, (self.nodes[1].identity, self.nodes[2].identity))
        self.assertIn("S1", self.violations(self.watchers.so_far()))

    def test_blocking_is_measured(self) -> None:
        """A view change blocks its nodes for a while; a pause of the process is not counted."""
        self.nodes[0].pause()
        self.cluster.run(3.0)
        self.nodes[0].resume()
        self.cluster.run_until(self.cluster.converged, limit=20.0)
        longest = max(node.blocked_seconds for node in self.end().nodes)
        self.assertGreater(longest, 0.0)
        self.assertLess(longest, 3.0)

    def test_sends_without_a_report(self) -> None:
        """Sends that never left, and stable ones that were never confirmed, are told apart."""
        client = self.nodes[0].open("x")
        client.join("g")
        self.cluster.run(0.5)
        self.cluster.network.mute(self.nodes[0].address)
        client.send("g", b"m|", stable=True)
        facts = self.watchers.rest("a", quiet=0.0, seconds=0.1).nodes[0]
        self.assertEqual((facts.unreported, facts.unconfirmed), ((), ("m",)))
