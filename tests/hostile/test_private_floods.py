"""Private messages to nobody: clients with the right to send make another node answer, as fast as they all may send."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from groupcomm.events import Level, Undeliverable
from groupcomm.limits import CONTROL_QUEUE_BYTES
from groupcomm.testing.cluster import Cluster
from groupcomm.testing.oracle import check

ROUNDS = 600


class NobodyTests(SynchronousTestCase):
    """A client on each of five nodes, all writing to nobody at the sixth."""

    def test_what_waits_is_bounded(self) -> None:
        """The sixth sends no faster than each of them, so answers wait: as many as it has room for, then no more.

        What was answered arrives, each once; what was not is counted.
        """
        cluster = Cluster(1)
        nodes = cluster.add_nodes(*"abcdef")
        cluster.run_until(cluster.converged, 10.0)
        flooders = [node.open("flooder") for node in nodes if node.name != "b"]
        victim = cluster.node("b")
        outbox = victim.engine._outbox  # type: ignore[attr-defined]
        cluster.narrow("f", 2_000_000)
        for number in range(ROUNDS):
            for flooder in flooders:
                data = f"{flooder.node.name}{number}|".encode()
                flooder.send_private("n" * 250, "b", data, level=Level.FIFO)
            cluster.run(0.001)
            self.assertLessEqual(outbox.control_bytes, CONTROL_QUEUE_BYTES)
        cluster.widen("f")
        cluster.run(3.0)
        self.assertEqual(outbox.control_bytes, 0)
        dropped = victim.status().counters["answers_dropped"]
        self.assertGreater(dropped, 0)
        told = [event for flooder in flooders for event in flooder.events if isinstance(event, Undeliverable)]
        self.assertEqual(len(told), len(flooders) * ROUNDS - dropped)
        check(cluster.trace)
