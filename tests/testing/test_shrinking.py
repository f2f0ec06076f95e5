"""Failing runs are made small."""

from __future__ import annotations

from attrs import evolve
from twisted.trial.unittest import SynchronousTestCase

from groupcomm.testing.network import Conditions
from groupcomm.testing.report import Report
from groupcomm.testing.scenario import Outcome
from groupcomm.testing.script import Scenario, draw_scenario
from groupcomm.testing.shrinking import shrink, way_of_failing
from groupcomm.testing.trace import Trace


def outcome(scenario: Scenario, failure: str | None, text: str = "") -> Outcome:
    """An outcome without a run."""
    return Outcome(scenario, Trace(), "digest", Report(), failure, text)


class Judge:
    """Says without running it whether a scenario fails: when all the steps are in it that it needs."""

    def __init__(self, *needed: str, failure: str = "D5") -> None:
        self.needed = set(needed)
        self.failure = failure
        self.runs = 0

    def run(self, scenario: Scenario) -> Outcome:
        self.runs += 1
        there = {str(step).split(maxsplit=1)[1] for step in scenario.steps}
        return outcome(scenario, self.failure if self.needed <= there else None)


class ShrinkTests(SynchronousTestCase):
    """What is left of a script."""

    def setUp(self) -> None:
        self.scenario = draw_scenario("shrinking", 5)
        actions = {step.action: step for step in self.scenario.steps}
        self.needed = [str(actions[name]).split(maxsplit=1)[1] for name in ("start", "send", "populate", "heal")]

    def test_only_what_is_needed_is_left(self) -> None:
        """Every step that the failure does not need is dropped, and that is known."""
        judge = Judge(*self.needed)
        shrunken = shrink(judge.run(self.scenario), run=judge.run)
        left = {str(step).split(maxsplit=1)[1] for step in shrunken.outcome.scenario.steps}
        self.assertEqual(left, set(self.needed))
        self.assertTrue(shrunken.complete)
        self.assertEqual(shrunken.runs, judge.runs - 1)
        self.assertEqual(shrunken.outcome.failure, "D5")

    def test_fewer_runs_than_steps(self) -> None:
        """Halves are dropped before single steps, so it takes far fewer runs than there are steps."""
        judge = Judge(*self.needed)
        whole = evolve(self.scenario, steps=tuple(evolve(step) for step in self.scenario.steps * 10))
        shrunken = shrink(judge.run(whole), run=judge.run)
        self.assertLess(shrunken.runs, len(whole.steps) / 3)

    def test_bounded(self) -> None:
        """It stops at its limit of runs, with something that still fails, and says that there may be smaller ones."""
        judge = Judge(*self.needed)
        shrunken = shrink(judge.run(self.scenario), most_runs=5, run=judge.run)
        self.assertEqual((shrunken.runs, shrunken.complete), (5, False))
        self.assertEqual(judge.run(shrunken.outcome.scenario).failure, "D5")

    def test_another_failure_does_not_count(self) -> None:
        """A script that fails in another way is no smaller form of this failure."""

        def run(scenario: Scenario) -> Outcome:
            return outcome(scenario, "D5" if len(scenario.steps) == len(self.scenario.steps) else "L1")

        shrunken = shrink(run(self.scenario), run=run)
        self.assertEqual(shrunken.outcome.scenario.steps, self.scenario.steps)

    def test_simpler_network(self) -> None:
        """The network is made as good as it can be, and no better."""
        conditions = Conditions(loss_probability=0.1, duplicate_probability=0.2)
        parameters = evolve(self.scenario.parameters, conditions=conditions, clients=3)

        def run(scenario: Scenario) -> Outcome:
            return outcome(scenario, "O1" if scenario.parameters.conditions.loss_probability else None)

        shrunken = shrink(run(evolve(self.scenario, parameters=parameters)), run=run)
        left = shrunken.outcome.scenario.parameters
        self.assertEqual(left.conditions, Conditions(loss_probability=0.1))
        self.assertEqual(left.clients, 1)


class WayTests(SynchronousTestCase):
    """What makes two failures the same."""

    def test_exceptions(self) -> None:
        """Two exceptions are the same if their class and place are, whatever their text says."""

        def way(line: int, error: str) -> str | None:
            text = f'Traceback (most recent call last):\n  File "a.py", line {line}, in f\n    x\n{error}\n'
            return way_of_failing(outcome(draw_scenario("1"), "exception", text))

        self.assertEqual(way(7, "ValueError: 1"), way(7, "ValueError: 2"))
        self.assertNotEqual(way(7, "ValueError: 1"), way(8, "ValueError: 1"))
        self.assertNotEqual(way(7, "ValueError: 1"), way(7, "KeyError: 1"))
        self.assertEqual(way_of_failing(outcome(draw_scenario("1"), "D5")), "D5")
