"""What people are shown of one run: its parameters, its script, what is wrong with it, and how to see it again.

Decides the words; the picture is made in ``pictures``. A report begins with the seed and ends with the picture, so that
both ends of a long one say something.
"""

from __future__ import annotations

import subprocess
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path

from attrs import fields

from groupcomm.testing.network import Conditions
from groupcomm.testing.parameters import Parameters
from groupcomm.testing.pictures import LINES, WIDTH, picture
from groupcomm.testing.report import AT_THE_END
from groupcomm.testing.scenario import Outcome
from groupcomm.testing.shrinking import SENDS, Shrunken
from groupcomm.testing.steps import Step
from groupcomm.testing.trace import Trace

SHOWN_SENDS = 30
"""Sends that are listed one by one; of more only the number is told."""

SHOWN_VIOLATIONS = 5
LAST_EVENTS = 8
"""Of every process and node."""

WIDEST_LINE = 300


def parameter_rows(parameters: Parameters) -> list[tuple[str, str]]:
    """The parameters by name, those of the network among them; of these only what is not as usual."""
    rows = []
    for attribute in fields(type(parameters)):
        value = getattr(parameters, attribute.name)
        if isinstance(value, Conditions):
            usual = Conditions()
            for condition in fields(Conditions):
                if (found := getattr(value, condition.name)) != getattr(usual, condition.name):
                    rows.append((condition.name, f"{found:g}"))
        else:
            rows.append((attribute.name, f"{value:g}" if isinstance(value, float) else str(value)))
    return rows


def script_lines(steps: Sequence[Step], *, everything: bool = False) -> Iterator[str]:
    """The script; where it has many sends, how many come between two other steps."""
    folded = 0
    fold = not everything and sum(step.action in SENDS for step in steps) > SHOWN_SENDS
    for step in steps:
        if fold and step.action in SENDS:
            folded += 1
            continue
        if folded:
            yield _sends(folded)
            folded = 0
        yield str(step).rstrip()
    if folded:
        yield _sends(folded)


def _sends(number: int) -> str:
    return f"{'':9} ... {number} send{'s' * (number > 1)}"


def failure_lines(
    outcome: Outcome,
    *,
    width: int = WIDTH,
    lines: int = LINES,
    since: float = 0.0,
    until: float = float("inf"),
) -> Iterator[str]:
    """What is wrong with a run, the last events, and the picture."""
    yield "what is wrong:"
    violations = outcome.report.violations
    for violation in violations[:SHOWN_VIOLATIONS]:
        yield f"  {violation.property}: {violation.text}"[:WIDEST_LINE]
    if len(violations) > SHOWN_VIOLATIONS:
        yield f"  ... and {len(violations) - SHOWN_VIOLATIONS} more"
    if not violations or outcome.failure == "exception":
        for line in outcome.text.strip().splitlines():
            yield f"  {line}"[:WIDEST_LINE]
    yield ""
    shown_at = violations[0].at_index if violations else AT_THE_END
    until_then = Trace(outcome.trace.events[: shown_at + 1])
    at_the_end = "" if len(until_then) == len(outcome.trace) else ", up to the one that shows what is wrong"
    yield f"the last events of every process and node{at_the_end}:"
    for line in until_then.last_events(LAST_EVENTS).splitlines():
        yield line[:WIDEST_LINE]
    yield ""
    yield from picture(outcome.trace, outcome.report, width=width, lines=lines, since=since, until=until).splitlines()


def failure_report(outcome: Outcome, shrunken: Shrunken | None = None) -> Iterator[str]:
    """All there is to say of a failed run, in lines; after ``shrunken`` was made of it, of what is left of it."""
    shown = outcome if shrunken is None else shrunken.outcome
    scenario = shown.scenario
    yield f"seed {scenario.seed} fails with {outcome.failure} at commit {commit_id()}"
    yield f"again: {replay_line(scenario.seed, shrink=shrunken is not None)}"
    yield ""
    parameters = ", ".join(f"{name} {value}" for name, value in parameter_rows(scenario.parameters))
    yield from textwrap.wrap(f"parameters: {parameters}", WIDTH, subsequent_indent="  ")
    yield ""
    yield "the script:" if shrunken is None else shrunken_line(outcome, shrunken)
    yield from script_lines(scenario.steps)
    yield ""
    yield from failure_lines(shown)


def shrunken_line(outcome: Outcome, shrunken: Shrunken) -> str:
    """How small a script became, and whether it could be smaller."""
    left, before = len(shrunken.outcome.scenario.steps), len(outcome.scenario.steps)
    end = "each of them is needed" if shrunken.complete else "there may be a smaller one: the limit of runs was reached"
    return f"the script, {left} of {before} steps after {shrunken.runs} runs ({end}):"


def replay_line(seed: str, *, nodes: int | None = None, shrink: bool = False) -> str:
    """The command that makes the same run again."""
    return f"groupcomm simulate --seed {seed}" + (f" --nodes {nodes}" if nodes else "") + " --shrink" * shrink


def commit_id() -> str:
    """The commit of the code that runs here, with a ``+`` if files differ from it; ``unknown`` without git."""
    package = Path(__file__).resolve().parent.parent
    try:
        head, changes = (
            subprocess.run(
                ["git", "-C", str(package), *command], capture_output=True, text=True, check=True
            ).stdout.strip()
            for command in (("rev-parse", "HEAD"), ("status", "--porcelain", "--", "."))
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return head + "+" * bool(changes)
