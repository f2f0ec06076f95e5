"""Small messages that come one at a time take a shorter way through the engine: it must not show."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Any
from unittest.mock import patch

from twisted.trial.unittest import SynchronousTestCase

from groupcomm.config import EngineConfig
from groupcomm.events import Level
from groupcomm.ordering.ordered_view import OrderedView
from groupcomm.testing.cluster import Cluster
from groupcomm.testing.network import Conditions
from groupcomm.testing.oracle import check

ORDERED_LEVELS = (Level.AGREED,) * 12 + (Level.SAFE, Level.CAUSAL, Level.FIFO)
"""Those that say what comes before what: a RELIABLE message may come on either side of another in the same burst."""


class LoneMessageTests(SynchronousTestCase):
    """Traffic of single messages among three nodes, with everything that must send them the long way in between."""

    def run_cluster(
        self, seed: int, loss: float, *, levels: Sequence[Level] = ORDERED_LEVELS, crash: bool = False
    ) -> Cluster:
        """Messages of all levels, mostly small ones at AGREED; the sequencer's role moves, a node may die."""
        random = Random(seed)
        config = EngineConfig(first_packet_number=(1 << 32) - 150 if seed % 2 else 0)
        cluster = Cluster(seed, config=config)
        nodes = cluster.add_nodes("a", "b", "c")
        self.assertTrue(cluster.run_until(cluster.converged, 10.0))
        clients = [node.open("client") for node in nodes]
        for client in clients:
            client.join("chat")
        cluster.run(0.5)
        cluster.network.conditions = Conditions(loss_probability=loss, duplicate_probability=loss)
        for number in range(400):
            sender = random.choice(clients if random.random() < 0.2 else clients[:1])
            size = random.choice((10, 10, 10, 900, 3000))
            sender.send("chat", b"m%d|" % number + bytes(size), level=random.choice(levels))
            if number in (150, 250):
                role = cluster.nodes["a" if number == 250 else "b"]
                index = [node.name for node in role.engine._view.setup.members].index(role.name)  # type: ignore[attr-defined]
                for node in nodes:
                    node.command(lambda engine, now, to=index: engine._view.hand_over(to))  # type: ignore[misc]
            if crash and number == 350:
                nodes[2].crash()
                clients.pop()
            cluster.run(random.choice((0.0, 0.0002, 0.003)))
        cluster.network.conditions = Conditions()
        cluster.run(5.0)
        check(cluster.trace)
        return cluster

    def test_whoever_receives_cannot_tell(self) -> None:
        """With the shorter way closed to what comes, every event of every client is the same, at the same time.

        In a burst that also ends the view one way may be past a message that the other leaves to the end: none here.
        """
        taken = 0
        way = OrderedView.pass_through

        def counting(view: OrderedView, *packet: Any) -> Any:
            nonlocal taken
            frame = way(view, *packet)
            taken += frame is not None
            return frame

        for seed in range(6):
            with patch.object(OrderedView, "pass_through", counting):
                short = self.run_cluster(seed, loss=0.02 * (seed % 3))
            with patch.object(OrderedView, "pass_through", lambda view, *packet: None):
                long = self.run_cluster(seed, loss=0.02 * (seed % 3))
            self.assertEqual(short.trace.digest(), long.trace.digest(), f"seed {seed}")
        self.assertGreater(taken, 500)

    def test_what_is_sent_at_once_keeps_every_promise(self) -> None:
        """The shorter way of what leaves is taken often in these runs, and the oracle finds nothing."""
        taken = 0
        way = OrderedView.send_at_once

        def counting(view: OrderedView, *frame: Any) -> bool:
            nonlocal taken
            sent = way(view, *frame)
            taken += sent
            return sent

        with patch.object(OrderedView, "send_at_once", counting):
            for seed in range(10, 14):
                self.run_cluster(seed, loss=0.05, levels=(*ORDERED_LEVELS, Level.RELIABLE), crash=True)
        self.assertGreater(taken, 200)

    def test_what_several_send_in_one_turn_shares_packets(self) -> None:
        """Only the first frame of a turn leaves alone: those of other sessions behind it leave in one packet."""
        cluster = Cluster(1)
        nodes = cluster.add_nodes("a", "b", "c")
        self.assertTrue(cluster.run_until(cluster.converged, 10.0))
        sequencer = cluster.nodes[nodes[0].status().sequencer.name]  # type: ignore[union-attr]
        clients = [sequencer.open(f"client{number}") for number in range(5)]
        for client in clients:
            client.join("chat")
        cluster.run(1.0)
        before = sequencer.status().counters
        for number, client in enumerate(clients):
            client.send("chat", b"m%d|" % number)
        cluster.run(0.1)
        after = sequencer.status().counters
        grown = [after[name] - before[name] for name in ("frames_sent", "packets_sent")]
        self.assertEqual(grown, [5, 2])
        check(cluster.trace)
