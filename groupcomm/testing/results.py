"""What campaigns keep: the result of each finished chunk of seeds, one small file for each, and their sum.

Decides which seeds make a chunk, what of a chunk is written down, when a result is red (a run failed, a property
never had anything to check, or a kind of fault never struck), and how the sum is told.
"""

from __future__ import annotations

import json
import os
import textwrap
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

from attrs import define, field, frozen

from groupcomm.testing.swarm import EXPECTED_PREMISES, RunSummary, never_struck, vacuous

CHUNK_SEEDS = 250
"""Seeds of a chunk: some minutes of work."""

TABLE_WIDTH = 120


class CampaignError(Exception):
    """A campaign cannot be made; the text says why."""


@frozen
class Chunk:
    """Seeds that are run and written down together: ``prefix`` and a number, from ``first`` to ``last`` (included)."""

    prefix: str
    first: int
    last: int

    @property
    def seeds(self) -> list[str]:
        """The seeds in their order."""
        return [f"{self.prefix}{number}" for number in range(self.first, self.last + 1)]

    @property
    def file_name(self) -> str:
        """Where its result is kept: a name that sorts."""
        return f"{self.prefix or 'seeds-'}{self.first:07}-{self.last:07}.json"


@frozen
class FailedRun:
    """A seed that broke a property, and the first line of how."""

    seed: str
    property: str
    line: str


@define
class Result:
    """What came of some runs.

    Attributes:
        commits: how many runs at each commit.
        runs: how many in all.
        failures: those that failed.
        premises: for each property how often there was something to check, summed up.
        faults: how often each kind of fault struck.
        nodes: how many runs with so many nodes.
        slowest: the longest ``converge_seconds`` and ``rest_seconds`` of a run.
        cpu_seconds: of all processes together.
    """

    commits: Counter[str] = field(factory=Counter)
    runs: int = 0
    failures: list[FailedRun] = field(factory=list)
    premises: Counter[str] = field(factory=Counter)
    faults: Counter[str] = field(factory=Counter)
    nodes: Counter[int] = field(factory=Counter)
    slowest: dict[str, float] = field(factory=dict)
    cpu_seconds: float = 0.0

    def count(self, summary: RunSummary, commit: str) -> None:
        """Add one run."""
        self.commits[commit] += 1
        self.runs += 1
        self.premises.update(summary.premises)
        self.faults.update(summary.faults)
        self.nodes[summary.nodes] += 1
        self._slower(summary.slowest)
        self.cpu_seconds += summary.cpu_seconds
        if summary.failure is not None:
            self.failures.append(FailedRun(summary.seed, summary.failure, summary.line))

    def add(self, other: Result) -> None:
        """Add the runs of another result."""
        self.commits.update(other.commits)
        self.runs += other.runs
        self.failures += other.failures
        self.premises.update(other.premises)
        self.faults.update(other.faults)
        self.nodes.update(other.nodes)
        self._slower(other.slowest)
        self.cpu_seconds += other.cpu_seconds

    def _slower(self, seconds: Mapping[str, float]) -> None:
        for name, found in seconds.items():
            self.slowest[name] = max(found, self.slowest.get(name, 0.0))

    @property
    def red(self) -> bool:
        """Whether a run failed, a property was never checked or a kind of fault never struck."""
        return bool(self.failures or vacuous(self.premises) or never_struck(self.faults))


def chunks_of(first: int, last: int, *, size: int = CHUNK_SEEDS, prefix: str = "") -> list[Chunk]:
    """The chunks of a range. They end at multiples of ``size``, so that ranges that overlap share most of theirs."""
    chunks = []
    while first <= last:
        end = min(last, (first - 1) // size * size + size)
        chunks.append(Chunk(prefix, first, end))
        first = end + 1
    return chunks


def write_result(folder: Path, chunk: Chunk, result: Result) -> None:
    """Keep the result of a finished chunk; a file is there as a whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(
        {
            "seeds": [chunk.seeds[0], chunk.seeds[-1]],
            "runs": result.runs,
            "commits": dict(result.commits),
            "failures": [{"seed": one.seed, "property": one.property, "line": one.line} for one in result.failures],
            "premises": dict(sorted(result.premises.items())),
            "faults": dict(sorted(result.faults.items())),
            "slowest": {name: round(seconds, 2) for name, seconds in sorted(result.slowest.items())},
            "nodes": {str(nodes): runs for nodes, runs in sorted(result.nodes.items())},
            "cpu_seconds": round(result.cpu_seconds, 1),
        },
        indent=1,
    )
    unfinished = folder / f"{chunk.file_name}.{os.getpid()}"
    unfinished.write_text(text + "\n", encoding="utf-8")
    unfinished.replace(folder / chunk.file_name)


def read_result(folder: Path, chunk: Chunk) -> Result | None:
    """The result of a chunk that was finished earlier, at whatever commit; None if it has not been run."""
    path = folder / chunk.file_name
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        return Result(
            commits=Counter(found["commits"]),
            runs=found["runs"],
            failures=[FailedRun(one["seed"], one["property"], one["line"]) for one in found["failures"]],
            premises=Counter(found["premises"]),
            faults=Counter(found.get("faults", {})),  # not in the files of the first campaigns
            slowest=found.get("slowest", {}),
            nodes=Counter({int(nodes): runs for nodes, runs in found["nodes"].items()}),
            cpu_seconds=found["cpu_seconds"],
        )
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CampaignError(f"{path} is no result of a campaign ({error!r}): remove it") from error


def report_lines(total: Result, *, colour: bool = False) -> Iterator[str]:
    """The table of premises, how large the runs were, and the seeds that failed."""

    def red(text: str) -> str:
        return f"\x1b[31m{text}\x1b[0m" if colour else text

    yield "property         times its premise was true"
    for name in sorted({*EXPECTED_PREMISES, *total.premises}):
        times = total.premises[name]
        row = f"{name:<16} {times:>14,}"
        yield row if times or name not in EXPECTED_PREMISES else red(f"{row}   NEVER CHECKED")
    yield ""
    yield from textwrap.wrap(
        "faults: " + ", ".join(f"{times:,} {name}" for name, times in total.faults.most_common()),
        TABLE_WIDTH,
        subsequent_indent="  ",
    )
    yield "longest, in virtual time: " + ", ".join(f"{name} {seconds:.2f} s" for name, seconds in total.slowest.items())
    yield "nodes: " + ", ".join(f"{runs:,} runs with {nodes}" for nodes, runs in sorted(total.nodes.items()))
    yield "commit: " + ", ".join(f"{runs:,} runs at {commit}" for commit, runs in sorted(total.commits.items()))
    for failed in total.failures:
        yield red(f"seed {failed.seed}: {failed.property}: {failed.line}")
    if nothing := vacuous(total.premises):
        yield red(f"never checked: {', '.join(nothing)}")
    if nothing := never_struck(total.faults):
        yield red(f"never struck: {', '.join(nothing)}")
    yield (
        f"{total.runs:,} runs, {len(total.failures)} failed, {total.cpu_seconds:,.0f} s of processor time, "
        f"{total.runs / max(total.cpu_seconds, 0.001):.1f} runs per second of one processor"
    )
