"""Who is expelled, from one run of a node to the next."""

from __future__ import annotations

from pathlib import Path

from twisted.logger import capturedLogs
from twisted.trial.unittest import SynchronousTestCase

from groupcomm.limits import MAX_EXPELLED
from groupcomm.node.config import NodeConfig
from groupcomm.node.expelled import expelled_path, keep_expelled, read_expelled
from groupcomm.outputs import NodeExpelled
from tests.node_double import NodeBench


class ExpelledTests(SynchronousTestCase):
    """The file in the data directory."""

    def setUp(self) -> None:
        self.directory = Path(self.mktemp())

    def test_kept(self) -> None:
        """Names are kept for each cluster, each once, the latest last and no more than so many."""
        self.assertEqual(read_expelled(self.directory, "shop"), ())
        for name in ("a", "b", "a"):
            keep_expelled(self.directory, "shop", name)
        self.assertEqual(read_expelled(self.directory, "shop"), ("b", "a"))
        self.assertEqual(read_expelled(self.directory, "other/../shop"), ())
        for number in range(MAX_EXPELLED):
            keep_expelled(self.directory, "shop", f"n{number}")
        self.assertEqual(read_expelled(self.directory, "shop"), tuple(f"n{number}" for number in range(MAX_EXPELLED)))

    def test_nowhere(self) -> None:
        """Without a data directory nothing is kept."""
        keep_expelled(None, "shop", "a")
        self.assertEqual(read_expelled(None, "shop"), ())

    def test_unfit(self) -> None:
        """A file that is none of names, and one that cannot be written, are told in the log, and the node goes on."""
        self.directory.mkdir()
        path = expelled_path(self.directory, "shop")
        for content in (b"\xff\n", b"x@y\n"):
            path.write_bytes(content)
            with capturedLogs() as events:
                self.assertEqual(read_expelled(self.directory, "shop"), ())
            self.assertEqual(len(events), 1)
        path.unlink()
        path.mkdir()
        with capturedLogs() as events:
            keep_expelled(self.directory, "shop", "a")
        self.assertEqual(len(events), 2)

    def test_a_node_keeps_it(self) -> None:
        """What its engine tells; but not that it is expelled itself."""
        bench = NodeBench(NodeConfig(node="n1", insecure=True, data_dir=self.directory))
        bench.node.startService()
        bench.say(NodeExpelled("mallory", "b"), NodeExpelled(bench.node.id.name, "b"))
        self.assertEqual(read_expelled(self.directory, "default"), ("mallory",))
