"""The cluster drives engines as a reactor would; here with engines that cannot be wrong."""

from __future__ import annotations

import os
import subprocess
import sys

from attrs import evolve
from twisted.trial.unittest import SynchronousTestCase

from groupcomm.events import Event, Left, Level, Message, Reason, Undeliverable
from groupcomm.identity import NodeId
from groupcomm.outputs import WatchChanged
from groupcomm.testing.cluster import Cluster, TimeLimitReached
from groupcomm.testing.network import Conditions
from groupcomm.testing.node import SOCKET_BUFFER_BYTES
from groupcomm.testing.oracle import check
from groupcomm.testing.scenario import Run
from groupcomm.testing.script import draw_scenario
from tests.testing.perfect import PerfectEngine, PerfectWorld


def perfect_cluster(seed: int | str = 1, **options: object) -> tuple[Cluster, PerfectWorld]:
    """A cluster of cheating engines."""
    world = PerfectWorld()
    cluster = Cluster(seed, engine_factory=world.engine, **options)  # type: ignore[arg-type]
    world.cluster = cluster
    return cluster, world


class ClusterTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.cluster, self.world = perfect_cluster()
        self.a, self.b, self.c = self.cluster.add_nodes("a", "b", "c")
        self.cluster.run(0.2)

    def engine(self, name: str) -> PerfectEngine:
        """The engine under a node."""
        engine = self.cluster.nodes[name].engine
        assert isinstance(engine, PerfectEngine)
        return engine

    def test_messages_and_views_reach_clients(self) -> None:
        """Clients get views and messages as an application would see them, unpacked from their frames."""
        alice, bob = self.a.open("alice"), self.b.open("bob")
        alice.join("chat")
        bob.join("chat")
        self.cluster.run(0.2)
        sending = alice.send("chat", [b"1|one", b"2|two"], level=Level.FIFO)
        self.cluster.run(0.2)
        self.assertEqual(bob.messages("chat"), [b"1|one", b"2|two"])
        self.assertEqual((sending.accepted, sending.complete), (True, True))
        view = bob.view("chat")
        assert view is not None
        self.assertEqual(view.members, (alice.member, bob.member))
        self.assertEqual(len(alice.views("chat")), 2)
        message = bob.events[-1]
        assert isinstance(message, Message)
        self.assertEqual((message.sender, message.level, message.view), (alice.member, Level.FIFO, view.id))
        check(self.cluster.trace, settled=[node.identity for node in self.cluster.live_nodes()])

    def test_private_leave_and_close(self) -> None:
        """Private messages, undeliverable ones, leaving and closing show at the clients concerned."""
        alice, bob = self.a.open("alice"), self.b.open("bob")
        for client in (alice, bob):
            client.join("chat")
        alice.send_private("bob", "b", b"psst")
        alice.send_private("nobody", "b", b"hello?")
        self.cluster.run(0.2)
        self.assertEqual(bob.messages(), [b"psst"])
        self.assertIn(Undeliverable("nobody@b"), alice.events)
        bob.leave("chat")
        self.assertTrue(bob.leaving("chat"))
        self.cluster.run(0.2)
        self.assertEqual(bob.events[-1], Left("chat", Reason.LEAVE))
        self.assertIsNone(bob.view("chat"))
        alice.close()
        self.assertFalse(alice.live)
        self.cluster.run(0.2)
        check(self.cluster.trace)

    def test_listener_may_send_at_once(self) -> None:
        """A client that answers from within its listener breaks no order."""
        alice, bob = self.a.open("alice"), self.b.open("bob")

        def answer(event: Event) -> None:
            if isinstance(event, Message) and event.data.startswith(b"q"):
                bob.send("chat", b"r" + event.data, level=Level.CAUSAL)

        bob.listener = answer
        alice.join("chat")
        bob.join("chat")
        self.cluster.run(0.2)
        alice.send("chat", [b"q1", b"q2"])
        self.cluster.run(0.2)
        self.assertEqual(alice.messages(), [b"q1", b"q2", b"rq1", b"rq2"])
        check(self.cluster.trace)

    def test_watch_notices_a_dead_process_on_a_live_host(self) -> None:
        """Watchers of a killed process are refused after some 11 ms; those cut off, and those of a dead host, never."""
        for name in ("a", "b"):
            self.engine(name).outputs.append(WatchChanged(((self.c.identity, self.c.address),)))
        self.cluster.run(0.1)
        self.cluster.cut("b", "c")
        self.c.crash()
        self.cluster.run(0.0105)
        self.assertEqual(self.engine("a").refused, [])
        self.cluster.run(0.001)
        self.assertEqual(self.engine("a").refused, [self.c.identity])
        self.assertEqual(self.engine("b").refused, [])
        self.cluster.heal()
        self.cluster.run(0.1)
        self.assertEqual(self.engine("b").refused, [self.c.identity])

    def test_vanished_host_refuses_nobody_until_it_is_back(self) -> None:
        """A switched-off host does not answer; back with a new process it refuses those who ask for the old one."""
        self.engine("a").outputs.append(WatchChanged(((self.c.identity, self.c.address),)))
        self.cluster.run(0.1)
        self.c.vanish()
        self.cluster.run(1.0)
        self.assertEqual(self.engine("a").refused, [])
        new = self.c.restart()
        self.cluster.run(0.1)
        self.assertEqual(self.engine("a").refused, [self.c.identity])
        self.assertEqual(new.identity, NodeId("c", self.c.identity.incarnation + 1))
        self.assertEqual(new.address, self.c.address)

    def test_pause_keeps_datagrams_and_tells_of_the_stall(self) -> None:
        """A paused node runs nothing, its buffer is bounded, and it learns how long it stood still."""
        alice, bob = self.a.open("alice"), self.b.open("bob")
        bob.join("chat")
        self.cluster.run(0.2)
        self.b.pause()
        alice.send("chat", b"x")
        self.cluster.run(0.5)
        self.assertEqual(bob.messages(), [])
        for _ in range(SOCKET_BUFFER_BYTES // 1400 + 10):
            self.b._datagram_arrived(bytes(1400), self.a.address)
        self.assertGreater(self.b.buffer_drops, 0)
        self.b.resume()
        self.cluster.run(0.01)
        self.assertEqual(bob.messages(), [b"x"])
        self.assertAlmostEqual(self.engine("b").stalls[0], 0.5)

    def test_some_kernels_join_datagrams(self) -> None:
        """A node whose kernel does gets runs of one source and size, the last one shorter; another gets each alone."""
        sizes = [(8, 1), (8, 1), (5, 1), (8, 1), (8, 2), (9, 2), (9, 2), (0, 2), (0, 2), (0, 1), (7, 1), (7, 1), (7, 1)]
        sent = [(bytes([number]) * size, ("10.9.9.9", port)) for number, (size, port) in enumerate(sizes)]
        runs = {}
        for node in (self.a, self.b):
            engine = self.engine(node.name)
            engine.received.clear()
            for data, source in sent:
                node._datagram_arrived(data, source)
            node._read_burst()
            came = [(piece, run.destination) for run in engine.received for piece in run.pieces]
            self.assertEqual(came, sent)
            self.assertEqual(node._buffered_bytes, 0)
            runs[node.receive_offload] = [(len(run.pieces), len(run.pieces[0])) for run in engine.received]
        self.assertEqual(runs[False], [(1, size) for size, _ in sizes])
        joined = [(3, 8), (1, 8), (1, 8), (2, 9), (1, 0), (1, 0), (1, 0), (3, 7)]
        self.assertEqual(runs[True], joined)

    def test_clocks_are_the_nodes_own(self) -> None:
        """No two nodes share the zero of their clocks."""
        self.assertNotAlmostEqual(self.a.local_now(), self.b.local_now(), places=1)

    def test_busy_engine_is_caught(self) -> None:
        """An engine that wants to be called at once, again and again, is an error and no endless loop."""
        self.engine("a").busy = True
        with self.assertRaisesRegex(AssertionError, "again and again"):
            self.cluster.run(1.0)

    def test_run_until_gives_up(self) -> None:
        """What does not come within the limit is an error that shows every node."""
        with self.assertRaisesRegex(TimeLimitReached, "a: operational"):
            self.cluster.run_until(lambda: False, 0.1)

    def test_clean_leave(self) -> None:
        """A node that left is no live node any more."""
        self.b.leave()
        self.cluster.run(0.2)
        self.assertEqual([node.name for node in self.cluster.live_nodes()], ["a", "c"])
        assert self.b.stopped is not None
        self.assertTrue(self.b.stopped.clean)


class PerfectRunTests(SynchronousTestCase):
    def test_oracle_accepts_runs_without_fault(self) -> None:
        """Random runs with crashes, restarts, leaves and pauses of engines that cannot be wrong break no property."""
        for seed in range(1, 13):
            drawn = draw_scenario(f"perfect-{seed}")
            scenario = evolve(drawn, parameters=evolve(drawn.parameters, core=0))  # its views know no partition
            world = PerfectWorld()
            run = Run.of(scenario, engine_factory=world.engine)
            world.cluster = run.cluster
            outcome = run.execute()
            self.assertIsNone(outcome.failure, f"seed {seed}: {outcome.text}")
            self.assertGreater(outcome.report.premises["D1"], 0)

    def test_same_digest_with_another_hash_seed(self) -> None:
        """A seed gives the same trace in two processes whose sets and dictionaries iterate differently."""
        program = (
            "from tests.testing.test_cluster import *\n"
            "world = PerfectWorld()\n"
            "run = Run.of(draw_scenario('digest'), engine_factory=world.engine)\n"
            "world.cluster = run.cluster\n"
            "print(run.execute().digest)\n"
        )
        digests = {
            subprocess.run(
                [sys.executable, "-c", program],
                env={**os.environ, "PYTHONHASHSEED": seed},
                check=True,
                capture_output=True,
                text=True,
            ).stdout
            for seed in ("1", "2")
        }
        self.assertEqual(len(digests), 1)

    def test_conditions_do_not_change_what_a_perfect_world_delivers(self) -> None:
        """Loss delays the cheating engines at most: they need the network only to be woken."""
        cluster, _ = perfect_cluster(3, conditions=Conditions(loss_probability=0.5))
        nodes = cluster.add_nodes("a", "b")
        clients = [node.open("c") for node in nodes]
        for client in clients:
            client.join("g")
        clients[0].send("g", b"x")
        cluster.run(0.2)
        self.assertEqual(clients[1].messages(), [b"x"])
