"""One run of the swarm: the scenario of a seed, and what of its outcome a campaign keeps.

``python -m groupcomm.testing.swarm --seed N`` replays one, with ``--verbose`` its trace and every packet by kind, with
``--shrink`` after dropping every step of its script that the failure does not need.
"""

from __future__ import annotations

import argparse
import sys
import time
import traceback
from collections.abc import Mapping, Sequence

from attrs import evolve, frozen

from groupcomm.outputs import Address
from groupcomm.testing.packets import packet_label
from groupcomm.testing.scenario import Outcome, Run, Scenario, draw_scenario
from groupcomm.testing.trace import describe

EXPECTED_PREMISES = (
    "D1", "D2", "D4", "D5", "D5 group", "D6a", "D6b", "D8", "G1", "G3", "G4", "G5", "L1", "L2", "L3", "M1", "M2", "M3",
    "M4", "M6", "O1/O3", "O2/O4", "O5", "O6", "O6 after signal", "O7", "O8", "S1", "S2", "S3", "SIGNAL",
)  # fmt: skip
"""A campaign in which one of these never had anything to check has proved nothing about it."""


LINE_CHARACTERS = 300
"""What a summary keeps of the text of a failure."""


@frozen
class RunSummary:
    """What a campaign keeps of a run: small enough to be sent from one process to another.

    Attributes:
        failure: as in ``Outcome``.
        line: the first line of what is wrong; empty if all is well.
        premises: for each property how often there was something to check.
        nodes: how many took part.
        cpu_seconds: what the run took, the oracle's part included.
    """

    seed: str
    failure: str | None
    line: str
    premises: Mapping[str, int]
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
        return RunSummary(seed, "exception", line, {}, 0, time.process_time() - began)
    return RunSummary(
        seed,
        outcome.failure,
        failure_line(outcome),
        dict(outcome.report.premises),
        outcome.scenario.parameters.nodes,
        time.process_time() - began,
    )


def failure_line(outcome: Outcome) -> str:
    """What is wrong in one line: the first violation, or the last line of a traceback."""
    lines = outcome.text.strip().splitlines()
    if outcome.failure is None or not lines:
        return ""
    return lines[-1 if outcome.failure == "exception" else 0][:LINE_CHARACTERS]


def shrink(scenario: Scenario, failure: str) -> Scenario:
    """Drop steps, first many at once and then single ones, as long as the run still fails in the same way."""
    size = max(1, len(scenario.steps) // 2)
    while True:
        at, dropped = 0, False
        while at < len(scenario.steps):
            smaller = evolve(scenario, steps=scenario.steps[:at] + scenario.steps[at + size :])
            if Run.of(smaller).execute().failure == failure:
                scenario, dropped = smaller, True
            else:
                at += size
        if size == 1 and not dropped:
            return scenario
        size = max(1, size // 2)


def vacuous(premises: Mapping[str, int]) -> list[str]:
    """The properties that never had anything to check."""
    return [name for name in EXPECTED_PREMISES if not premises.get(name)]


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


def replay(scenario: Scenario, *, verbose: bool) -> Outcome:
    """Run one scenario and print what happened."""
    packets: list[tuple[float, str]] = []

    def observe(fate: str, source: Address, receiver: Address, data: bytes) -> None:
        names = {node.address: name for name, node in run.cluster.nodes.items()}
        path = f"{names.get(source, source)} -> {names.get(receiver, receiver)}"
        line = f"{run.cluster.now:10.6f}   {path:12} {fate:9} {packet_label(data)} ({len(data)} bytes)"
        packets.append((run.cluster.now, line))

    run = Run.of(scenario, observer=observe if verbose else None)
    outcome = run.execute()
    print(scenario.parameters)
    for step in scenario.steps:
        if verbose or not step.action.startswith("send"):
            print("  step", step)
    if verbose:
        lines = [(event.at, describe(event)) for event in outcome.trace]
        for _, line in sorted(lines + packets, key=lambda one: one[0]):
            print(line)
        print(run.cluster.summary())
    print(outcome.text)
    print(summary_line(outcome))
    return outcome


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit status: 0 if nothing failed."""
    parser = argparse.ArgumentParser(prog="python -m groupcomm.testing.swarm", description=__doc__)
    parser.add_argument("--seed", required=True, help="replay this one")
    parser.add_argument("--verbose", action="store_true", help="print the trace and every packet")
    parser.add_argument("--shrink", action="store_true", help="make the failing script small first")
    options = parser.parse_args(arguments)
    scenario = draw_scenario(options.seed)
    if options.shrink and (failure := Run.of(scenario).execute().failure) is not None:
        scenario = shrink(scenario, failure)
    return 1 if replay(scenario, verbose=options.verbose).failure else 0


if __name__ == "__main__":
    sys.exit(main())
