"""One run of the swarm: the scenario of a seed, and what of its outcome a campaign keeps.

``groupcomm.testing.campaign`` makes many of them, ``groupcomm simulate`` shows one.
"""

from __future__ import annotations

import time
import traceback
from collections.abc import Mapping

from attrs import frozen

from groupcomm.testing.faults import AMBUSH_KINDS
from groupcomm.testing.oracle import EXPECTED_PREMISES as EXPECTED_PREMISES
from groupcomm.testing.scenario import Outcome, Run
from groupcomm.testing.script import draw_scenario

EXPECTED_FAULTS = (
    "clog", "core", "crash", "cut", "deafen", "evicted", "jump", "links", "narrow", "pause", "pull", "quit", "restart",
    "rotate", "shrink", "slow", "split", "stutter", "vanish",
    *(f"ambush {kind}" for kind in sorted(set(AMBUSH_KINDS))),
)  # fmt: skip
"""A campaign in which one of these never struck has proved nothing about it either. Ambushes at the hand-over of the
sequencer's role are not among them: they strike in one run of a thousand at most."""

LINE_CHARACTERS = 300
"""What a summary keeps of the text of a failure."""


@frozen
class RunSummary:
    """What a campaign keeps of a run: small enough to be sent from one process to another.

    Attributes:
        failure: as in ``Outcome``.
        line: the first line of what is wrong; empty if all is well.
        premises: for each property how often there was something to check.
        faults: how often each kind of fault struck.
        slowest: the seconds to one view, and from there to rest.
        nodes: how many took part.
        cpu_seconds: what the run took, the oracle's part included.
    """

    seed: str
    failure: str | None
    line: str
    premises: Mapping[str, int]
    faults: Mapping[str, int]
    slowest: Mapping[str, float]
    nodes: int
    cpu_seconds: float


def run_seed(seed: str, *, check_invariants: bool = True) -> Outcome:
    """Run the scenario of a seed."""
    return Run.of(draw_scenario(seed), check_invariants=check_invariants).execute()


def summarize_seed(seed: str) -> RunSummary:
    """Run the scenario of a seed and keep only the summary; whatever is raised on the way is a failure of that run."""
    began = time.process_time()
    try:
        outcome = run_seed(seed)
    except Exception:
        line = traceback.format_exc().strip().splitlines()[-1][:LINE_CHARACTERS]
        return RunSummary(seed, "exception", line, {}, {}, {}, 0, time.process_time() - began)
    slowest = {"converge": outcome.converge_seconds, "rest": outcome.rest_seconds}
    return RunSummary(
        seed,
        outcome.failure,
        failure_line(outcome),
        dict(outcome.report.premises),
        dict(outcome.faults),
        {name: seconds for name, seconds in slowest.items() if seconds is not None},
        outcome.scenario.parameters.nodes,
        time.process_time() - began,
    )


def failure_line(outcome: Outcome) -> str:
    """What is wrong in one line: the first violation, or the last line of a traceback."""
    lines = outcome.text.strip().splitlines()
    if outcome.failure is None or not lines:
        return ""
    line = lines[-1 if outcome.failure == "exception" else 0]
    return line.removeprefix(f"{outcome.failure}: ")[:LINE_CHARACTERS]


def vacuous(premises: Mapping[str, int]) -> list[str]:
    """The properties that never had anything to check."""
    return [name for name in EXPECTED_PREMISES if not premises.get(name)]


def never_struck(faults: Mapping[str, int]) -> list[str]:
    """The kinds of fault that never struck."""
    return [name for name in EXPECTED_FAULTS if not faults.get(name)]


def summary_line(outcome: Outcome) -> str:
    """One line about a run."""
    parameters = outcome.scenario.parameters
    premises = outcome.report.premises
    return (
        f"seed {outcome.scenario.seed}: {outcome.failure or 'ok'} "
        f"({parameters.nodes} nodes, loss {parameters.conditions.loss_probability:.2f}, {parameters.faults} faults, "
        f"{outcome.seconds:.1f} s, {premises.get('D1', 0)} deliveries, {premises.get('M1', 0)} views, "
        f"digest {outcome.digest[:12]})"
    )
