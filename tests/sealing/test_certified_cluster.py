"""Four nodes with certificates on virtual time: what clients see is as with a key."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from groupcomm.events import Level
from groupcomm.testing.cluster import Cluster
from groupcomm.testing.node import SimulatedClient
from groupcomm.testing.oracle import examine
from tests.sealing.cluster import certified_cluster, join

NAMES = ("a", "b", "c", "d")
LEVELS = (Level.FIFO, Level.CAUSAL, Level.AGREED, Level.SAFE)


class CertifiedClusterTests(SynchronousTestCase):
    """A cluster from its start through faults."""

    def judge(self, cluster: Cluster) -> None:
        """The oracle finds nothing wrong, and X3 was looked at."""
        assert cluster.watchers is not None
        end = cluster.watchers.so_far()
        self.assertGreater(end.nonce_checks, 0)
        self.assertEqual(examine(cluster.trace, settled=None, end=end).violations, [])

    def load(self, cluster: Cluster, clients: dict[str, SimulatedClient], rounds: int) -> None:
        """Every client sends at every level, some times."""
        for number in range(rounds):
            for name, client in clients.items():
                client.send("g", f"{name}{number}-{cluster.now:.3f}".encode(), level=LEVELS[number % len(LEVELS)])
            cluster.run(0.02)

    def test_send_rotate_restart(self) -> None:
        """Every message comes once, at 5 % loss as well, over a rotation of the key and a restart."""
        for loss in (0.0, 0.05):
            cluster = certified_cluster(11, *NAMES, loss=loss)
            clients = join(cluster, *NAMES)
            self.load(cluster, clients, 20)
            cluster.node("b").rotate_key()
            self.load(cluster, clients, 20)
            cluster.run(1.0)
            self.assertEqual({len(client.messages("g")) for client in clients.values()}, {4 * 40})
            self.assertEqual({cluster.node(name).status().key_epoch for name in NAMES}, {3})
            del clients["d"]
            cluster.node("d").restart()
            self.load(cluster, clients, 20)
            cluster.run_until(cluster.converged, limit=10.0)
            self.assertEqual(cluster.node("d").status().key_epoch, 3)
            self.judge(cluster)

    def test_a_renewal_of_keys(self) -> None:
        """A node that draws new keys in the middle of traffic stays in the view."""
        cluster = certified_cluster(12, *NAMES)
        clients = join(cluster, *NAMES)
        view = cluster.node("a").status().view
        self.load(cluster, clients, 10)
        cluster.node("c").jump_clock(0.0)
        self.load(cluster, clients, 20)
        cluster.run(1.0)
        self.assertTrue(cluster.converged())
        self.assertEqual(cluster.node("a").status().view, view)
        self.assertEqual(cluster.node("c").status().counters["keys_renewed"], 1)
        self.assertEqual({len(client.messages("g")) for client in clients.values()}, {4 * 30})
        self.judge(cluster)

    def test_partitions_that_rotate_apart_merge(self) -> None:
        """Two and two, each with an epoch of its own, for so long that they forget each other, are one again."""
        cluster = certified_cluster(13, *NAMES)
        clients = join(cluster, *NAMES)
        cluster.partition("ab", "cd")
        cluster.run(3.0)
        cluster.node("a").rotate_key()
        cluster.node("d").rotate_key()
        self.load(cluster, clients, 10)
        cluster.run(12.0)
        cluster.heal()
        cluster.run_until(cluster.converged, limit=15.0)
        self.load(cluster, clients, 10)
        cluster.run(1.0)
        self.assertEqual({cluster.node(name).status().key_epoch for name in NAMES}, {4})
        self.judge(cluster)

    def test_the_same_seed_gives_the_same_run(self) -> None:
        """Signatures differ from run to run; nothing that happens depends on them."""
        traces = []
        for _ in range(2):
            cluster = certified_cluster(14, *NAMES, loss=0.05)
            self.load(cluster, join(cluster, *NAMES), 20)
            cluster.node("b").restart()
            cluster.run(3.0)
            traces.append([str(event) for event in cluster.trace])
        self.assertEqual(*traces)
