"""Who is suspected and left out, in virtual time and over many seeds: hosts, processes, stalls, one-way links."""

from __future__ import annotations

import random
from collections.abc import Sequence
from itertools import pairwise

from groupcomm.config import EngineConfig, Timing
from groupcomm.events import Reason
from groupcomm.quorum.settings import Filter, Quorum
from groupcomm.testing.cluster import Cluster
from groupcomm.testing.network import Conditions
from groupcomm.testing.node import SimulatedNode
from groupcomm.testing.oracle import check
from groupcomm.wire.evidence import Finding
from tests.simulation.test_scenarios import ScenarioCase

TIMING = Timing()
SEEDS = range(3)


class FailureCase(ScenarioCase):
    """A cluster that has been in one view for a while."""

    def begin(self, names: str, seed: int, loss: float = 0.0) -> Cluster:
        self.build(names, seed)
        self.cluster.check_invariants = False
        self.cluster.network.conditions = Conditions(loss_probability=loss)
        self.cluster.run(1.0 + 0.037 * seed)
        return self.cluster

    def views(self, names: Sequence[str] | None = None) -> list[int]:
        """How many views each of these has had."""
        return [len(self.cluster.node(name).views) for name in names or sorted(self.cluster.nodes)]

    def findings(self, node: SimulatedNode) -> set[tuple[Finding, str, str]]:
        """What led to a node's last view: what was found, about whom, by whom."""
        return {(record.finding, record.about.name, record.by.name) for record in node.views[-1].records}


class SilenceTests(FailureCase):
    """Hosts and processes that say nothing."""

    def test_a_vanished_host_is_out_within_a_second(self) -> None:
        """Whichever it is, and at whatever moment; without loss and at 5 %."""
        for loss in (0.0, 0.05):
            for seed in SEEDS:
                victim = "abcde"[seed % 5]
                self.begin("abcde", seed, loss)
                self.cluster.node(victim).vanish()
                self.assertLess(self.cluster.run_until(self.cluster.converged, 5.0), 1.0, (seed, loss))
                node = self.cluster.live_nodes()[0]
                found = {(finding, about) for finding, about, _ in self.findings(node)}
                self.assertIn((Finding.HOST_SILENT, victim), found)
                self.settle()

    def test_a_vanished_host_of_many(self) -> None:
        """Only two watch it, and they are enough."""
        self.build([f"n{number:02}" for number in range(24)])
        self.cluster.run(1.0)
        self.cluster.node("n07").vanish()
        self.assertLess(self.cluster.run_until(self.cluster.converged, 5.0), 1.0)
        by = {who for finding, _, who in self.findings(self.cluster.node("n00")) if finding is Finding.HOST_SILENT}
        self.assertTrue(by and by <= {"n05", "n06"}, by)

    def test_a_silent_process_has_more_time(self) -> None:
        """Three seconds, since its host answers; then it is out once, and back once when it runs again."""
        for seed in SEEDS:
            self.begin("abcde", seed)
            before = self.views("ace")
            for name in "bd":
                self.cluster.node(name).pause()
            self.cluster.run(TIMING.suspect - 0.3)
            self.assertEqual(self.views("ace"), before)
            self.cluster.run_until(lambda: self.cluster.converged("ace"), 1.0)
            found = {(finding, about) for finding, about, _ in self.findings(self.cluster.node("a"))}
            self.assertLessEqual({(Finding.PROCESS_SILENT, "b"), (Finding.PROCESS_SILENT, "d")}, found)
            self.cluster.run(1.5)
            for name in "bd":
                self.cluster.node(name).resume()
            self.cluster.run_until(self.cluster.converged, 5.0)
            self.cluster.run(10.0)
            for name in "ace":
                views = self.cluster.node(name).views[before["ace".index(name)] - 1 :]
                seen = [{node.name for node in view.members} for view in views]
                for other in "bd":
                    changes = [(other in one) != (other in two) for one, two in pairwise(seen)]
                    self.assertEqual(sum(changes), 2, (seed, seen))
            self.settle()

    def test_stopped_and_then_switched_off(self) -> None:
        """From the moment at which its host does not answer any more it has no more time than any host."""
        self.begin("abcde", 1)
        self.cluster.node("c").pause()
        self.cluster.run(1.5)
        self.cluster.node("c").vanish()
        self.assertLess(self.cluster.run_until(self.cluster.converged, 5.0), 1.0)

    def test_nobody_is_asked_after_while_all_are_heard(self) -> None:
        """In a quiet cluster there are no probes but those that measure."""
        self.begin("abcde", 1)
        sent = self.cluster.network.counters["sent"]
        self.cluster.run(20.0)
        self.assertLess(self.cluster.network.counters["sent"] - sent, 5 * 20 * 6)


class StallTests(FailureCase):
    """Processes that stand still for a while."""

    def test_a_minute_of_stalls(self) -> None:
        """A fifth of the nodes at a time, chosen at random, stands still for half a second: no view changes."""
        for seed in range(3):
            draw = random.Random(seed)
            self.begin("abcdefghij", seed, 0.01)
            before = self.views()
            for _ in range(100):
                chosen = draw.sample("abcdefghij", 2)
                for name in chosen:
                    self.cluster.node(name).pause()
                self.cluster.run(0.5)
                for name in chosen:
                    self.cluster.node(name).resume()
                self.cluster.run(0.1 * draw.random())
            self.cluster.run(5.0)
            self.assertEqual(self.views(), before)
            check(self.cluster.trace, settled=[node.identity for node in self.cluster.live_nodes()])

    def test_two_seconds_of_garbage(self) -> None:
        """Nobody leaves it out, and it leaves nobody out, though it has heard nobody for so long."""
        for seed in SEEDS:
            self.begin("abcde", seed)
            before = self.views()
            self.cluster.node("c").pause()
            self.cluster.run(2.0)
            self.cluster.node("c").resume()
            self.cluster.run(5.0)
            self.assertEqual(self.views(), before)
            self.assertEqual(
                [node.status().counters.get("suspicions", 0) for node in self.cluster.live_nodes()], [0] * 5
            )

    def test_all_stand_still_in_turn(self) -> None:
        """As on a machine with too few processors: each runs a tenth of the time."""
        self.begin("abcde", 2)
        before = self.views()
        for turn in range(100):
            running = "abcde"[turn % 5]
            for name in "abcde":
                node = self.cluster.node(name)
                node.resume() if name == running else node.pause()
            self.cluster.run(0.15)
        for name in "abcde":
            self.cluster.node(name).resume()
        self.cluster.run(5.0)
        self.assertEqual(self.views(), before)

    def test_heavy_loss(self) -> None:
        """A minute at 20 % loss, with stalls besides: nobody is suspected."""
        for seed in range(3):
            draw = random.Random(seed)
            self.begin("abcd", seed, 0.2)
            before = self.views()
            for _ in range(60):
                node = self.cluster.node(draw.choice("abcd"))
                node.pause()
                self.cluster.run(0.4)
                node.resume()
                self.cluster.run(0.6)
            self.assertEqual(self.views(), before, seed)


class OneWayTests(FailureCase):
    """Links that carry one way only, or not at all."""

    def test_one_way_between_two_of_five(self) -> None:
        """Whichever it is: the one that does not hear goes, within three seconds; then nothing for a minute."""
        for seed, (mute, deaf) in enumerate(map(tuple, ("ab", "ba", "ae", "ea", "bd", "ce", "dc"))):
            self.begin("abcde", seed, 0.01 * (seed % 2))
            before = self.views()
            self.cluster.cut(mute, deaf)
            rest = [name for name in "abcde" if name != deaf]
            took = self.cluster.run_until(lambda rest=rest: self.cluster.converged(rest), 5.0)  # type: ignore[misc]
            self.assertLess(took, 3.0)
            self.cluster.run_until(lambda deaf=deaf: self.cluster.converged(deaf), 2.0)  # type: ignore[misc]
            self.assertEqual(self.views(), [count + 1 for count in before])
            self.assertIn((Finding.UNHEARD, mute, deaf), self.findings(self.cluster.node(rest[0])))
            self.assertIn((Finding.BEGAN, deaf, deaf), self.findings(self.cluster.node(rest[0])))
            self.assertIn((Finding.UNHEARD, mute, deaf), self.findings(self.cluster.node(deaf)))
            self.cluster.run(60.0)
            self.assertEqual(self.views(), [count + 1 for count in before])
            self.cluster.heal()
            self.cluster.run_until(self.cluster.converged, 5.0)
            self.assertEqual(self.views(), [count + 2 for count in before])
            self.settle()

    def test_a_cut_both_ways(self) -> None:
        """The later of the two goes, and all is still for a minute."""
        for seed, (one, two) in enumerate(map(tuple, ("ab", "ae", "bd", "de"))):
            self.begin("abcde", seed)
            before = self.views()
            self.cluster.partition(one, two)
            rest = [name for name in "abcde" if name != two]
            took = self.cluster.run_until(lambda rest=rest: self.cluster.converged(rest), 5.0)  # type: ignore[misc]
            self.assertLess(took, 3.0)
            self.cluster.run(60.0)
            self.assertEqual(self.views(), [count + 1 for count in before])
            self.cluster.heal()
            self.settle()

    def test_a_link_that_comes_back(self) -> None:
        """One that carries one way only for a second and a half costs nothing: others hear who is not heard."""
        for seed in SEEDS:
            self.begin("abcde", seed)
            before = self.views()
            self.cluster.cut("b", "d")
            self.cluster.run(1.5)
            self.cluster.heal()
            self.cluster.run(5.0)
            self.assertEqual(self.views(), before)

    def test_a_node_that_hears_nobody(self) -> None:
        """It accuses everybody, and goes alone."""
        for seed in SEEDS:
            self.begin("abcde", seed)
            for name in "acde":
                self.cluster.cut(name, "b")
            self.assertLess(self.cluster.run_until(lambda: self.cluster.converged("acde"), 5.0), 3.5)
            for name in "acde":
                (gone,) = self.cluster.node(name).views[-1].departed
                self.assertEqual(gone.node.name, "b")
                self.assertIn(gone.reason, (Reason.EVICTION, Reason.PARTITION))
            self.cluster.heal()
            self.settle()


class FlappingTests(FailureCase):
    """A node that comes and goes."""

    def fall_and_return(self, name: str) -> float:
        """It crashes and starts at once; how long until it is in the view again."""
        self.cluster.node(name).crash()
        rest = [other for other in sorted(self.cluster.nodes) if other != name]
        self.cluster.run_until(lambda: self.cluster.converged(rest), 2.0)
        self.cluster.node(name).restart()
        return self.cluster.run_until(self.cluster.converged, 60.0)

    def test_a_crash_loop(self) -> None:
        """From the second time on it waits, and longer each time; the others have a view for each time, and no more."""
        for name in "ce":
            self.begin("abcde", ord(name))
            before = len(self.cluster.node("b").views)
            took = [self.fall_and_return(name) for _ in range(5)]
            self.assertLess(max(took[:2]), 3.5, took)
            for number, seconds in enumerate(took[2:]):
                self.assertGreater(seconds, 2.0**number, took)
            self.assertEqual(len(self.cluster.node("b").views), before + 10)
            (shown,) = self.cluster.node("b").status().flapping
            self.assertEqual(shown.node.name, name)
            self.assertGreater(shown.penalty, 3.0)
            self.settle()

    def test_the_gate_itself(self) -> None:
        """The lowest node is let in by whoever is the gate without it, as slowly; a newcomer learns who waits."""
        self.begin("abcd", 1)
        for _ in range(3):
            self.fall_and_return("a")
        self.cluster.node("a").crash()
        self.cluster.run_until(lambda: self.cluster.converged("bcd"), 2.0)
        self.cluster.node("a").restart()
        self.cluster.add_node("aa")
        self.cluster.run_until(lambda: self.cluster.converged(["aa", "b", "c", "d"]), 5.0)
        self.cluster.run(0.5)
        self.assertEqual([one.node.name for one in self.cluster.node("aa").status().flapping], ["a"])
        self.cluster.run_until(self.cluster.converged, 20.0)
        self.settle()

    def test_a_network_that_comes_and_goes(self) -> None:
        """The node that is cut off each time waits; those who stay hold nothing against each other."""
        self.begin("abcde", 3)
        took = []
        for _ in range(4):
            self.cluster.partition("d", "abce")
            self.cluster.run_until(lambda: self.cluster.converged("abce"), 3.0)
            self.cluster.run_until(lambda: self.cluster.converged("d"), 3.0)
            self.cluster.heal()
            took.append(self.cluster.run_until(self.cluster.converged, 30.0))
        self.assertLess(took[0], 2.0)
        self.assertGreater(took[3], took[2])
        self.assertGreater(took[2], took[0])
        for name in "abcde":
            names = [one.node.name for one in self.cluster.node(name).status().flapping]
            self.assertEqual(names, [] if name == "d" else ["d"])
        self.settle()

    def test_one_that_is_needed(self) -> None:
        """Where the others are not primary without it, it does not wait."""
        quorum = Quorum(Filter.MAJORITY, tuple((name, 1) for name in "abcd"))
        self.cluster = Cluster(1, config=EngineConfig(quorum=quorum), check_invariants=False)
        self.cluster.add_nodes(*"abc")
        self.cluster.run_until(self.cluster.converged, 5.0)
        took = [self.fall_and_return("c") for _ in range(5)]
        self.assertLess(max(took), 3.5, took)
        (shown,) = self.cluster.node("a").status().flapping
        self.assertGreater(shown.seconds, 3.5)
