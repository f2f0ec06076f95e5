"""What a node remembers of primary views, from one run to the next."""

from __future__ import annotations

import os
from pathlib import Path

from attrs import evolve
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
        """Without a data directory nothing is kept."""
        keep_memory(None, "shop", QUORUM, MEMORY)
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
        with capturedLogs() as events:
            keep_memory(self.directory, "shop", QUORUM, NO_MEMORY)
        self.assertEqual(len(events), 1)
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

    def test_kept_before_anything_leaves_or_is_told(self) -> None:
        """When a datagram of the same turn is sent, and when observers hear of the view, it is on the disk."""
        bench = self.bench()
        bench.node.startService()
        seen: list[tuple[str, Memory]] = []

        def look(what: str) -> None:
            seen.append((what, read_memory(self.directory, "default", QUORUM)))

        self.patch(bench.transport, "send", lambda datagrams: look("sent"))
        bench.node.observe(lambda news: look("told"))
        own = bench.node.id
        bench.engine.datagrams.append(Datagram(b"READY", None))
        bench.say(QuorumKept(MEMORY), NodeViewInstalled(VIEW, (own,), (own,), (), own, primary=True, filtered=True))
        self.assertIn(("sent", MEMORY), seen)
        self.assertIn(("told", MEMORY), seen)
        self.assertEqual({memory for _, memory in seen}, {MEMORY})

    def test_a_node_that_can_neither_keep_nor_forget_stops(self) -> None:
        """It says nothing any more, and nobody is told of the view."""
        bench = self.bench()
        bench.node.startService()
        keep_memory(self.directory, "default", QUORUM, MEMORY)
        self.patch(os, "fsync", broken)
        told: list[object] = []
        bench.node.observe(told.append)
        own, before = bench.node.id, len(bench.transport.sent)
        bench.engine.datagrams.append(Datagram(b"READY", None))
        with capturedLogs():
            bench.say(QuorumKept(NO_MEMORY), NodeViewInstalled(VIEW, (own,), (own,), (), own))
        self.assertEqual(len(bench.transport.sent), before)
        assert bench.node.stopped is not None
        self.assertIn("can neither be written", bench.node.stopped.reason)
        self.assertFalse(bench.node.stopped.clean)
        self.assertEqual([type(news).__name__ for news in told], ["Stopped"])

    def test_a_witness_must_be_a_quorum_node(self) -> None:
        """Said where the node is configured."""
        engine = EngineConfig(quorum=evolve(QUORUM, witness=True))
        self.assertRaises(UsageError, NodeConfig, engine, node="n9", insecure=True)
