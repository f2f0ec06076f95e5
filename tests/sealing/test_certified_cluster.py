"""Four nodes with certificates on virtual time: what clients see is as with a key."""

from __future__ import annotations

from random import Random
from typing import cast

from attrs import evolve
from cryptography.exceptions import InvalidTag
from twisted.trial.unittest import SynchronousTestCase

from groupcomm.config import EngineConfig
from groupcomm.engine import Engine
from groupcomm.errors import UsageError
from groupcomm.events import Level, Reason
from groupcomm.identity import NodeId
from groupcomm.limits import MAX_EXPELLED
from groupcomm.outputs import Address, NodeExpelled
from groupcomm.sealing.certified import Certified
from groupcomm.sealing.guard import Guard
from groupcomm.testing.cluster import Cluster
from groupcomm.testing.interface import EngineInterface
from groupcomm.testing.node import SimulatedClient
from groupcomm.testing.oracle import examine
from groupcomm.wire.keys import KeyEpoch, cluster_packet_key, view_packet_key
from groupcomm.wire.packets import LAST_OF_VIEW, Kind
from groupcomm.wire.seal import MARK, NONCE, SEALED_HEAD_BYTES, Introduction
from tests.sealing.authority import identity
from tests.sealing.cluster import certified_cluster, certified_engine, join

NAMES = ("a", "b", "c", "d")
LEVELS = (Level.FIFO, Level.CAUSAL, Level.AGREED, Level.SAFE)


class CertifiedTestCase(SynchronousTestCase):
    """What the tests of this module have in common."""

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


class CertifiedClusterTests(CertifiedTestCase):
    """A cluster from its start through faults."""

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


class ExpulsionTests(CertifiedTestCase):
    """A node that is expelled: it is out at once, stays out, and can open nothing of what follows."""

    def test_under_load(self) -> None:
        """Within a second the others go on without it, under an epoch that it does not know; it goes on alone."""
        for seed, loss in ((21, 0.0), (22, 0.05)):
            cluster = certified_cluster(seed, *NAMES, loss=loss)
            clients = join(cluster, *NAMES)
            others = NAMES[:3]
            before = cluster.node("a").status().key_epoch
            self.load(cluster, clients, 10)
            cluster.node("b").expel("d")
            began = cluster.now
            while not cluster.converged(others) and cluster.now < began + 5.0:
                self.load(cluster, clients, 1)
            self.assertLess(cluster.now - began, 1.5)
            self.load(cluster, clients, 20)
            cluster.run(5.0)
            self.assertTrue(cluster.converged(others))
            self.assertTrue(cluster.converged(["d"]))
            self.assertEqual({cluster.node(name).status().key_epoch for name in others}, {before + 2})
            for name in NAMES:
                told = [news for news in cluster.node(name).key_news if isinstance(news, NodeExpelled)]
                self.assertEqual({news.name for news in told}, {"d"}, name)
                self.assertEqual(told[-1].by, "b")
            departed = [view.departed for view in cluster.node("a").views if view.departed]
            self.assertEqual([(one.node.name, one.reason) for (one,) in departed], [("d", Reason.EVICTION)])
            self.judge(cluster)

    def test_it_can_open_nothing(self) -> None:
        """Nothing that the others say in the views after opens under anything that it knew, recorded or is shown."""
        cluster = certified_cluster(23, *NAMES)
        clients = join(cluster, *NAMES)
        guards = {name: guard_of(cluster, name) for name in NAMES}
        others = NAMES[:3]
        secrets = [guards[name]._credentials.secret for name in NAMES]
        epochs = [guards["d"].epoch, KeyEpoch(1, guards["d"]._credentials.first.secret)]
        cluster.node("c").expel("d")
        del clients["d"]
        cluster.run_until(lambda: all(excluded(cluster, name) for name in others), limit=1.0)
        recorded: list[tuple[bytes, Address]] = []
        cluster.network.watcher = lambda data, source: recorded.append((data, source))
        self.load(cluster, clients, 1)
        cluster.run_until(lambda: cluster.converged(others), limit=5.0)
        recorded = [(data, source) for data, source in recorded if data[1] > LAST_OF_VIEW]
        self.assertNotIn(guards["a"].epoch, epochs)
        self.assertTrue(all(guards[name]._credentials.secret not in secrets for name in others))
        runs = {guards[name]._sealer.me.mark: guards[name]._sealer.me for name in others}
        cluster.network.watcher = lambda data, source: recorded.append((data, source))
        self.load(cluster, clients, 10)
        cluster.node("a").rotate_key()
        self.load(cluster, clients, 10)
        cluster.node("b").jump_clock(0.0)
        cluster.run(1.0)
        self.assertTrue(cluster.converged(others))
        own = cluster.node("d").address
        tried = {Kind.BEACON: 0, Kind.DATA: 0, Kind.PLAN: 0}
        for data, source in recorded:
            if source == own or data[1] == Kind.PASSPORT:
                continue
            self.assertIsNone(guards["d"].open(data, source, cluster.node("d").local_now()))
            who, at = runs.get(data[MARK]), SEALED_HEAD_BYTES
            if data[1] > LAST_OF_VIEW:
                who, at = Introduction.read(data)
            if who is None:
                continue
            tried[Kind(data[1])] = tried.get(Kind(data[1]), 0) + 1
            keys = [cluster_packet_key(secret, "default", who.node, who.salt) for secret in secrets]
            keys += [view_packet_key(epoch, "default", who.node, who.salt) for epoch in epochs]
            for key in keys:
                self.assertRaises(InvalidTag, key.decrypt, data[NONCE], data[at:], data[:at])
        self.assertTrue(all(tried.values()), tried)
        self.assertGreater(tried[Kind.DATA], 40)

    def test_it_is_not_asked_for(self) -> None:
        """Packets of the node expelled make nobody show its passport: that goes out as rarely as when nothing calls."""
        cluster = certified_cluster(33, "a", "b", "d")
        cluster.node("a").expel("d")
        cluster.run_until(lambda: cluster.converged(["a", "b"]), limit=5.0)
        cluster.run(5.0)
        shown = []
        cluster.network.watcher = lambda data, source: shown.append(source) if data[1] == Kind.PASSPORT else None
        cluster.run(20.0)
        self.assertEqual(shown.count(cluster.node("b").address), 2)
        self.assertGreater(cluster.node("b").status().counters["sealed_by_stranger"], 50)

    def test_it_stays_out(self) -> None:
        """After its restart too, at newcomers that had met it before they knew, and when it rotates; others get in."""
        cluster = certified_cluster(24, *NAMES)
        others = ["a", "b", "c"]
        cluster.node("a").expel("d")
        cluster.run_until(lambda: cluster.converged(others), limit=5.0)
        cluster.node("d").rotate_key()
        cluster.add_node("A")
        others.append("A")
        cluster.run_until(lambda: cluster.converged(others), limit=10.0)
        self.assertEqual(excluded(cluster, "A"), {"d"})
        cluster.node("d").restart()
        cluster.node("c").restart()
        cluster.run(5.0)
        cluster.run_until(lambda: cluster.converged(others), limit=10.0)
        views = cluster.node("a").status().counters["views_installed"]
        cluster.run(5.0)
        self.assertTrue(cluster.converged(others))
        self.assertTrue(cluster.converged(["d"]))
        self.assertEqual(cluster.node("a").status().counters["views_installed"], views)
        cluster.add_node("delta")
        cluster.run_until(lambda: cluster.converged([*others, "delta"]), limit=10.0)
        self.judge(cluster)

    def test_one_that_is_not_there(self) -> None:
        """A name can be expelled before its node comes: no view changes for it, and the node is not let in."""
        cluster = certified_cluster(25, "a", "b")
        view = cluster.node("a").status().view
        cluster.node("a").expel("d")
        cluster.run(1.0)
        self.assertEqual(cluster.node("b").status().view, view)
        cluster.add_node("d")
        cluster.run(5.0)
        self.assertTrue(cluster.converged(["a", "b"]))
        self.assertIn("passport_refused", [news.why for news in cluster.node("b").key_news if hasattr(news, "why")])
        cluster.node("b").expel("d")
        cluster.run(1.0)
        self.assertEqual(cluster.node("b").status().view, view)

    def test_known_from_before(self) -> None:
        """A node that is told at its start who is expelled lets none of them in, and tells the others."""

        def engine(config: EngineConfig, node: NodeId, stream: Random, now: float) -> EngineInterface:
            expelled = ("a", "d") if node.name == "a" else ()
            return certified_engine(evolve(config, expelled=expelled), node, stream, now)

        cluster = Cluster(32, config=EngineConfig(identity=identity("a")), engine_factory=engine)
        cluster.add_nodes("a", "b", "d")
        cluster.run_until(lambda: cluster.converged(["a", "b"]) and cluster.converged(["d"]), limit=10.0)
        self.assertEqual((excluded(cluster, "a"), excluded(cluster, "b")), ({"d"}, {"d"}))

    def test_in_the_middle_of_another_change(self) -> None:
        """Another node dies while the expulsion is on its way: both are out, and the epoch is one that neither knew."""
        for delay in (0.0, 0.001, 0.01, 0.1, 0.3):
            cluster = certified_cluster(26, *NAMES)
            clients = join(cluster, *NAMES)
            old = guard_of(cluster, "d").epoch
            self.load(cluster, clients, 5)
            cluster.node("b").expel("d")
            cluster.run(delay)
            cluster.node("c").crash()
            cluster.run_until(lambda: cluster.converged(["a", "b"]), limit=5.0)  # noqa: B023
            cluster.run(2.0)
            self.assertGreater(guard_of(cluster, "a").epoch.number, old.number)
            self.assertEqual(guard_of(cluster, "a").epoch, guard_of(cluster, "b").epoch)
            self.judge(cluster)

    def test_the_other_part_learns_of_it(self) -> None:
        """Expelled in one part of a cluster that is parted, it is out of the other too when the parts meet."""
        cluster = certified_cluster(31, *NAMES)
        cluster.partition("ab", "cd")
        cluster.run(3.0)
        cluster.node("a").expel("d")
        cluster.run(12.0)
        cluster.heal()
        cluster.run_until(lambda: cluster.converged(["a", "b", "c"]), limit=15.0)
        self.assertEqual(excluded(cluster, "c"), {"d"})
        self.judge(cluster)

    def test_two_expel_each_other(self) -> None:
        """Both are out: the others hold to what has come in the order."""
        cluster = certified_cluster(27, *NAMES)
        cluster.node("a").expel("b")
        cluster.node("b").expel("a")
        cluster.run(5.0)
        self.assertTrue(cluster.converged(["c", "d"]))
        self.assertTrue(cluster.converged(["a"]))
        self.assertTrue(cluster.converged(["b"]))

    def test_what_cannot_be_expelled(self) -> None:
        """The node itself, and whatever is no name."""
        cluster = certified_cluster(28, "a")
        for name in ("a", "", "x@y", "n" * 65):
            self.assertRaises(UsageError, cluster.node("a").expel, name)

    def test_a_shared_key_cannot_exclude(self) -> None:
        """A cluster with a key says so; one without anything too."""
        for key, text in ((bytes(32), "cannot exclude"), (None, "no certificates")):
            cluster = Cluster(29, config=EngineConfig(key=key))
            (node,) = cluster.add_nodes("a")
            self.assertIn(text, str(self.assertRaises(UsageError, node.expel, "b")))

    def test_no_more_names_than_so_many(self) -> None:
        """The earliest is forgotten, and may show its passport again."""
        cluster = certified_cluster(30, "a", "b")
        for number in range(MAX_EXPELLED + 1):
            cluster.node("a").expel(f"x{number}")
            cluster.run(0.005)
        cluster.run(1.0)
        for name in "ab":
            self.assertEqual(len(excluded(cluster, name)), MAX_EXPELLED)
            self.assertNotIn("x0", excluded(cluster, name))


def guard_of(cluster: Cluster, name: str) -> Guard:
    """The guard of a node."""
    guard = cast(Engine, cluster.node(name).engine)._guard
    assert guard is not None
    return guard


def excluded(cluster: Cluster, name: str) -> set[str]:
    """Whom a node refuses."""
    credentials = guard_of(cluster, name)._credentials
    assert isinstance(credentials, Certified)
    return credentials._excluded
