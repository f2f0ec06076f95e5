"""Makes a failing run small: drops what the failure does not need, as long as the run fails in the same way.

Decides what is dropped, and in which order: the faults, the sends, the memberships of clients, whole nodes; then the
numbers, groups of fewer clients and a network with fewer faults. Faults first, because they are what a reader wants to
know. Each list is halved, then quartered, down to single steps (delta debugging: Zeller and Hildebrandt, Simplifying
and Isolating Failure-Inducing Input, IEEE TSE 28(2), 2002).

The number of runs is bounded, so a result need not be minimal, but it fails, and the same scenario always gives the
same result.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from typing import TypeAlias

from attrs import define, evolve, fields_dict, frozen

from groupcomm.testing.parameters import Parameters
from groupcomm.testing.scenario import Outcome, Run
from groupcomm.testing.script import Scenario
from groupcomm.testing.steps import Step

MOST_RUNS = 500
"""Runs that one shrinking makes at most."""

SENDS = frozenset({"send", "send_private"})
CLIENTS = frozenset({"populate", "join", "leave", "close"})
NODES = frozenset({"start"})

RAISED_AT = re.compile(r'^  File "(.*)", line (\d+), in ', re.MULTILINE)

Execute: TypeAlias = "Callable[[Scenario], Outcome]"


@frozen
class Shrunken:
    """A run made small.

    Attributes:
        outcome: of the smallest scenario that still fails in the same way.
        runs: how many were made.
        complete: whether no single step of it can be dropped; False if the runs were used up before that was known.
    """

    outcome: Outcome
    runs: int
    complete: bool


def execute(scenario: Scenario) -> Outcome:
    """Run a scenario with the product's engines."""
    return Run.of(scenario).execute()


def way_of_failing(outcome: Outcome) -> str | None:
    """The property, or for an exception its class and where it was raised: what a smaller run must share."""
    if outcome.failure != "exception":
        return outcome.failure
    lines = outcome.text.strip().splitlines()
    raised = RAISED_AT.findall(outcome.text)
    return " ".join(("exception", lines[-1].split(":")[0] if lines else "", *(raised[-1] if raised else ())))


def shrink(failed: Outcome, *, most_runs: int = MOST_RUNS, run: Execute = execute) -> Shrunken:
    """Make a failed run small.

    Args:
        failed: what came of the whole run; it failed.
        most_runs: to make at most.
        run: how a scenario is run: the same way in which the whole run was.
    """
    return _Shrinking(failed, way_of_failing(failed), most_runs, run).shrunken()


@define
class _Shrinking:
    """The smallest failing run so far, and the runs that are left."""

    best: Outcome
    way: str | None
    runs_left: int
    run: Execute
    runs: int = 0

    def shrunken(self) -> Shrunken:
        while True:
            size = len(self.best.scenario.steps)
            self.drop_steps(lambda step: step.action not in SENDS | CLIENTS | NODES)
            self.drop_steps(lambda step: step.action in SENDS)
            self.drop_steps(lambda step: step.action in CLIENTS)
            self.drop_steps(lambda step: step.action in NODES)
            simpler = self.simplify()
            if not self.runs_left:
                return Shrunken(self.best, self.runs, complete=False)
            if len(self.best.scenario.steps) == size and not simpler:
                return Shrunken(self.best, self.runs, complete=True)

    def drop_steps(self, candidate: Callable[[Step], bool]) -> None:
        """Drop as many of the picked steps as can be: all of them, halves, ever smaller parts; the latest first."""
        kept = [step for step in self.best.scenario.steps if candidate(step)]
        size = len(kept)
        while size:
            end = len(kept)
            while end > 0:
                begin = max(0, end - size)
                if self.still_fails(self.without(kept[begin:end])):
                    del kept[begin:end]
                end = begin
            size //= 2

    def simplify(self) -> bool:
        """Fewer clients and groups, and a network that does less harm; returns whether anything became simpler."""
        simpler = False
        for parameters in self.simpler_parameters():
            simpler |= self.still_fails(evolve(self.best.scenario, parameters=parameters))
        return simpler

    def simpler_parameters(self) -> Iterator[Parameters]:
        """One change each, made to what is the best when its turn comes."""
        if self.best.scenario.parameters.clients > 1:
            yield evolve(self.best.scenario.parameters, clients=1)
        if self.best.scenario.parameters.groups > 1:
            yield evolve(self.best.scenario.parameters, groups=1)
        for name in fields_dict(type(self.best.scenario.parameters.conditions)):
            conditions = self.best.scenario.parameters.conditions
            if name.endswith("_probability") and getattr(conditions, name):
                yield evolve(self.best.scenario.parameters, conditions=evolve(conditions, **{name: 0.0}))
        if self.best.scenario.parameters.clock_spread:
            yield evolve(self.best.scenario.parameters, clock_spread=0.0)

    def without(self, dropped: Sequence[Step]) -> Scenario:
        """The best scenario without some steps: these very ones, not those that are equal to them."""
        gone = set(map(id, dropped))
        return evolve(
            self.best.scenario, steps=tuple(step for step in self.best.scenario.steps if id(step) not in gone)
        )

    def still_fails(self, scenario: Scenario) -> bool:
        """Run it; if it fails in the same way, it is the best from now on."""
        if not self.runs_left:
            return False
        self.runs_left -= 1
        self.runs += 1
        outcome = self.run(scenario)
        if way_of_failing(outcome) != self.way:
            return False
        self.best = outcome
        return True
