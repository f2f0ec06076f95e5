"""What a node remembers of primary views, from one run to the next."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from attrs import evolve
from twisted.internet.defer import Deferred
from twisted.logger import capturedLogs
from twisted.trial.unittest import SynchronousTestCase

from groupcomm.config import EngineConfig
from groupcomm.errors import EnvironmentFault, UsageError
from groupcomm.identity import NodeId, ViewId
from groupcomm.node import memoryfile
from groupcomm.node.config import NodeConfig
from groupcomm.node.memoryfile import keep_memory, memory_path, read_memory
from groupcomm.outputs import Datagram, NodeViewInstalled, QuorumKept
from groupcomm.quorum import NO_MEMORY, Filter, Memory, Primary, Quorum
from tests.node_double import NodeBench

QUORUM = Quorum(Filter.DYNAMIC_LINEAR, (("n1", 1), ("n2", 1), ("n3", 1)))
VIEW = ViewId(7, NodeId("n1", 5))
MEMORY = Memory(Primary(VIEW, 0b101), (Primary(ViewId(9, NodeId("n2", 6)), 0b110),), True)


def broken(*_: object) -> None:
    raise OSError(28, "no space left on device")


class FileTests(SynchronousTestCase):
    """The file in the data directory."""

    def setUp(self) -> None:
        self.directory = Path(self.mktemp())

    def test_kept(self) -> None:
        """What was kept is read again, for each cluster."""
        self.assertEqual(read_memory(self.directory, "shop", QUORUM), NO_MEMORY)
        for memory in (NO_MEMORY, MEMORY, evolve(MEMORY, last=None)):
            keep_memory(self.directory, "shop", QUORUM, memory)
            self.assertEqual(read_memory(self.directory, "shop", QUORUM), memory)
        self.assertEqual(read_memory(self.directory, "other/../shop", QUORUM), NO_MEMORY)
        self.assertEqual([path.name for path in self.directory.iterdir()], ["quorum-shop"])

    def test_nowhere(self) -> None:
        """Without a data directory nothing is remembered."""
        self.assertEqual(read_memory(None, "shop", QUORUM), NO_MEMORY)

    def test_other_settings(self) -> None:
        """It goes by names: one that is no quorum node any more is left out, wherever it stood in the list."""
        keep_memory(self.directory, "shop", QUORUM, MEMORY)
        other = Quorum(Filter.DYNAMIC_LINEAR, (("a", 1), ("n1", 1), ("n2", 1)))
        found = read_memory(self.directory, "shop", other)
        assert found.last is not None
        self.assertEqual(other.names_in(found.last.nodes), ("n1",))
        self.assertEqual(other.names_in(found.attempts[0].nodes), ("n2",))

    def test_unfit(self) -> None:
        """A file that makes no sense counts as forgotten, and the log says so."""
        self.directory.mkdir()
        for content in (b"", b"\xff", b"[]", b'{"last": null}', b'{"last": {"view": [0, "a", 1], "nodes": []}}'):
            memory_path(self.directory, "shop").write_bytes(content)
            with capturedLogs() as events:
                self.assertEqual(read_memory(self.directory, "shop", QUORUM), NO_MEMORY)
            self.assertEqual(len(events), 1, content)

    def test_cannot_be_written(self) -> None:
        """Then what is there is removed: a restart must not remember what is no longer true."""
        keep_memory(self.directory, "shop", QUORUM, MEMORY)
        self.patch(os, "fsync", broken)
        self.patch(memoryfile, "_sync_directory", lambda directory: None)
        self.assertIsInstance(keep_memory(self.directory, "shop", QUORUM, NO_MEMORY), OSError)
        self.assertFalse(memory_path(self.directory, "shop").exists())

    def test_neither_written_nor_removed(self) -> None:
        """That is an error."""
        keep_memory(self.directory, "shop", QUORUM, MEMORY)
        self.patch(os, "fsync", broken)
        self.assertRaises(EnvironmentFault, keep_memory, self.directory, "shop", QUORUM, NO_MEMORY)


class DriverTests(SynchronousTestCase):
    """The node keeps it in time."""

    def setUp(self) -> None:
        self.directory = Path(self.mktemp())

    def bench(self) -> NodeBench:
        engine = EngineConfig(quorum=QUORUM)
        return NodeBench(NodeConfig(engine, node="n1", insecure=True, data_dir=self.directory))

    def test_engine_gets_what_was_kept(self) -> None:
        """At the next start; with another filter it gets nothing."""
        keep_memory(self.directory, "default", QUORUM, MEMORY)
        bench = self.bench()
        bench.node.startService()
        self.assertEqual(bench.engine.config.memory, MEMORY)
        static = EngineConfig(quorum=evolve(QUORUM, filter=Filter.MAJORITY))
        other = NodeBench(NodeConfig(static, node="n1", insecure=True, data_dir=self.directory))
        other.node.startService()
        self.assertEqual(other.engine.config.memory, NO_MEMORY)

    def test_the_engine_hears_when_it_is_kept(self) -> None:
        """While the disk is at work all else goes on; of what the engine says meanwhile only the last is written."""
        bench = self.bench()
        bench.node.startService()
        works: list[Callable[[], OSError | None]] = []
        dones: list[Deferred[OSError | None]] = []

        def in_thread(work: Callable[[], OSError | None]) -> Deferred[OSError | None]:
            works.append(work)
            dones.append(Deferred())
            return dones[-1]

        bench.in_thread = in_thread
        told: list[object] = []
        bench.node.observe(told.append)
        own, before = bench.node.id, len(bench.transport.sent)
        bench.engine.datagrams.append(Datagram(b"PLAN", None))
        bench.say(QuorumKept(NO_MEMORY, 1), NodeViewInstalled(VIEW, (own,), (own,), (), own))
        bench.say(QuorumKept(NO_MEMORY, 2))
        bench.say(QuorumKept(MEMORY, 3))
        self.assertEqual(len(bench.transport.sent), before + 1)
        self.assertEqual([type(news).__name__ for news in told], ["NodeViewInstalled"])
        self.assertEqual(bench.engine.named("memory_kept"), [])
        for number, kept in ((0, NO_MEMORY), (1, MEMORY)):
            dones[number].callback(works[number]())
            self.assertEqual(read_memory(self.directory, "default", QUORUM), kept)
        self.assertEqual(bench.engine.named("memory_kept"), [("memory_kept", 1), ("memory_kept", 3)])
        self.assertEqual(len(works), 2)

    def test_nowhere_to_keep_it(self) -> None:
        """Without a data directory the engine goes on at once."""
        bench = NodeBench(NodeConfig(EngineConfig(quorum=QUORUM), node="n1", insecure=True))
        bench.node.startService()
        bench.say(QuorumKept(MEMORY, 1))
        self.assertEqual(bench.engine.named("memory_kept"), [("memory_kept", 1)])

    def test_the_end_waits_for_the_disk(self) -> None:
        """The next run of this node must not find what a write of this one still replaces."""
        bench = self.bench()
        bench.node.startService()
        done: Deferred[OSError | None] = Deferred()
        bench.in_thread = lambda work: done
        bench.say(QuorumKept(MEMORY, 1))
        ended = bench.node.stopService()
        bench.clock.run_for(1.0)
        self.assertNoResult(ended)
        done.callback(None)
        self.successResultOf(ended)
        self.assertEqual(bench.engine.named("memory_kept"), [])

    def test_a_node_that_cannot_keep_goes_on(self) -> None:
        """What was kept before is removed, and the log says so."""
        bench = self.bench()
        bench.node.startService()
        keep_memory(self.directory, "default", QUORUM, MEMORY)
        self.patch(os, "fsync", broken)
        self.patch(memoryfile, "_sync_directory", lambda directory: None)
        with capturedLogs() as logs:
            bench.say(QuorumKept(MEMORY, 1))
        self.assertEqual(bench.engine.named("memory_kept"), [("memory_kept", 1)])
        self.assertFalse(memory_path(self.directory, "default").exists())
        self.assertEqual([one["log_format"][:18] for one in logs], ["cannot keep what t"])

    def test_a_node_that_can_neither_keep_nor_forget_stops(self) -> None:
        """It says nothing any more."""
        bench = self.bench()
        bench.node.startService()
        keep_memory(self.directory, "default", QUORUM, MEMORY)
        self.patch(os, "fsync", broken)
        told: list[object] = []
        bench.node.observe(told.append)
        with capturedLogs():
            bench.say(QuorumKept(NO_MEMORY, 1))
        before = len(bench.transport.sent)
        bench.engine.datagrams.append(Datagram(b"READY", None))
        bench.transport.sink.burst_ended()
        self.assertEqual(len(bench.transport.sent), before)
        self.assertEqual(bench.engine.named("memory_kept"), [])
        assert bench.node.stopped is not None
        self.assertIn("can neither be written", bench.node.stopped.reason)
        self.assertFalse(bench.node.stopped.clean)
        self.assertEqual([type(news).__name__ for news in told], ["Stopped"])

    def test_a_witness_must_be_a_quorum_node(self) -> None:
        """Said where the node is configured."""
        engine = EngineConfig(quorum=evolve(QUORUM, witness=True))
        self.assertRaises(UsageError, NodeConfig, engine, node="n9", insecure=True)
