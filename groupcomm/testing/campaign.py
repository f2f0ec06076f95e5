"""Runs many seeds, in chunks that are kept: ``python -m groupcomm.testing.campaign 1:50000 --jobs 2``.

Decides which seeds make a chunk, what of a finished one is written down, and when a campaign is red: when a run failed,
or when a property never had anything to check. Each finished chunk is one small file, with the commit it ran at; a
campaign that was interrupted goes on after the last of them, and loses a chunk at most.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TextIO

from attrs import define, field, frozen

from groupcomm.testing.swarm import EXPECTED_PREMISES, RunSummary, summarize_seed, vacuous

CHUNK_SEEDS = 250
"""Seeds of a chunk: some minutes of work."""

RUN_CPU_SECONDS = 300.0
"""A run that takes this long hangs; most take less than two."""

SHORT_COMMIT = 12
"""Characters of a commit id that stand in the seeds made of it."""


class RunHangs(Exception):
    """A run does not come to its end: virtual time no longer advances."""


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
        nodes: how many runs with so many nodes.
        cpu_seconds: of all processes together.
    """

    commits: Counter[str] = field(factory=Counter)
    runs: int = 0
    failures: list[FailedRun] = field(factory=list)
    premises: Counter[str] = field(factory=Counter)
    nodes: Counter[int] = field(factory=Counter)
    cpu_seconds: float = 0.0

    def count(self, summary: RunSummary, commit: str) -> None:
        """Add one run."""
        self.commits[commit] += 1
        self.runs += 1
        self.premises.update(summary.premises)
        self.nodes[summary.nodes] += 1
        self.cpu_seconds += summary.cpu_seconds
        if summary.failure is not None:
            self.failures.append(FailedRun(summary.seed, summary.failure, summary.line))

    def add(self, other: Result) -> None:
        """Add the runs of another result."""
        self.commits.update(other.commits)
        self.runs += other.runs
        self.failures += other.failures
        self.premises.update(other.premises)
        self.nodes.update(other.nodes)
        self.cpu_seconds += other.cpu_seconds

    @property
    def red(self) -> bool:
        """Whether a run failed or a property was never checked."""
        return bool(self.failures or vacuous(self.premises))


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
            nodes=Counter({int(nodes): runs for nodes, runs in found["nodes"].items()}),
            cpu_seconds=found["cpu_seconds"],
        )
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CampaignError(f"{path} is no result of a campaign ({error!r}): remove it") from error


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


# Running


@contextmanager
def seeds_runner(jobs: int) -> Iterator[Callable[[Sequence[str]], Iterator[RunSummary]]]:
    """Gives a function that runs seeds in so many processes and yields their summaries in the order of the seeds."""
    if jobs == 1:
        yield lambda seeds: map(guarded_run, seeds)
        return
    pool = ProcessPoolExecutor(jobs, initializer=_leave_interrupts_to_the_parent)
    try:
        yield lambda seeds: pool.map(guarded_run, seeds, chunksize=2)
    except BaseException:
        for process in list((pool._processes or {}).values()):
            process.terminate()
        raise
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def guarded_run(seed: str) -> RunSummary:
    """Run a seed; one that takes very much processor time fails, with the place where it was."""

    def hangs(number: int, frame: FrameType | None) -> None:
        raise RunHangs(f"no end after {RUN_CPU_SECONDS:.0f} s of processor time")

    before = signal.signal(signal.SIGVTALRM, hangs)
    signal.setitimer(signal.ITIMER_VIRTUAL, RUN_CPU_SECONDS)
    try:
        return summarize_seed(seed)
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0.0)
        signal.signal(signal.SIGVTALRM, before)


def _leave_interrupts_to_the_parent() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)


@define
class Progress:
    """What people see while it runs: one line that changes on a terminal, a line for each chunk elsewhere."""

    stream: TextIO
    planned: int
    began: float = field(factory=time.monotonic)
    fresh: int = 0

    def run_done(self, summary: RunSummary, total: Result, part: Result) -> None:
        """One more run."""
        self.fresh += 1
        if summary.failure is not None:
            self._line(f"FAILED seed {summary.seed}: {summary.failure}: {summary.line}")
        if self.stream.isatty():
            self.stream.write("\r\x1b[K" + self._state(total.runs + part.runs, total, part))
            self.stream.flush()

    def chunk_done(self, chunk: Chunk, total: Result) -> None:
        """One more chunk, which ``total`` contains."""
        if not self.stream.isatty():
            self._line(f"{chunk.seeds[0]}:{chunk.seeds[-1]} done; {self._state(total.runs, total)}")

    def ended(self) -> None:
        """Leave the line to what comes next."""
        if self.stream.isatty():
            self.stream.write("\r\x1b[K")

    def _state(self, runs: int, *results: Result) -> str:
        seconds = time.monotonic() - self.began
        failed = sum(len(result.failures) for result in results)
        return f"{runs:,} of {self.planned:,} runs, {failed} failed, {self.fresh / max(seconds, 0.001):.1f} runs/s"

    def _line(self, text: str) -> None:
        self.ended()
        print(text, file=self.stream, flush=True)


def run_campaign(
    chunks: Sequence[Chunk],
    folder: Path,
    *,
    jobs: int = 1,
    seconds: float | None = None,
    at_least: int = 0,
    output: TextIO | None = None,
) -> Result:
    """Run the chunks that have no result yet, and sum up all of them.

    Args:
        chunks: in their order.
        folder: with the results of finished chunks.
        jobs: processes to use.
        seconds: begin no further chunk after so long ...
        at_least: ... unless fewer runs than these have been made.
        output: where progress is shown; None: standard output.
    """
    output = output or sys.stdout
    commit = commit_id()
    total = Result()
    progress = Progress(output, sum(len(chunk.seeds) for chunk in chunks))
    missing = []
    for chunk in chunks:
        if (known := read_result(folder, chunk)) is not None:
            total.add(known)
        else:
            missing.append(chunk)
    if total.runs:
        print(f"{total.runs:,} runs were made earlier; {folder} has their results", file=output, flush=True)
    with seeds_runner(jobs) as run:
        for chunk in missing:
            if seconds is not None and time.monotonic() - progress.began >= seconds and total.runs >= at_least:
                break
            part = Result()
            for summary in run(chunk.seeds):
                part.count(summary, commit)
                progress.run_done(summary, total, part)
            write_result(folder, chunk, part)
            total.add(part)
            progress.chunk_done(chunk, total)
    progress.ended()
    return total


# For people


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
    yield "nodes: " + ", ".join(f"{runs:,} runs with {nodes}" for nodes, runs in sorted(total.nodes.items()))
    yield "commit: " + ", ".join(f"{runs:,} runs at {commit}" for commit, runs in sorted(total.commits.items()))
    for failed in total.failures:
        yield red(f"seed {failed.seed}: {failed.property}: {failed.line}")
    if nothing := vacuous(total.premises):
        yield red(f"never checked: {', '.join(nothing)}")
    yield (
        f"{total.runs:,} runs, {len(total.failures)} failed, {total.cpu_seconds:,.0f} s of processor time, "
        f"{total.runs / max(total.cpu_seconds, 0.001):.1f} runs per second of one processor"
    )


def seed_range(text: str) -> tuple[int, int]:
    """FIRST:LAST, both included, or one number."""
    first, colon, last = text.partition(":")
    try:
        bounds = int(first), int(last if colon else first)
    except ValueError:
        raise CampaignError(f"seeds are given as FIRST:LAST, not {text!r}") from None
    if not 1 <= bounds[0] <= bounds[1]:
        raise CampaignError(f"seeds are numbers from 1 on, the first no greater than the last, not {text!r}")
    return bounds


def planned_chunks(seeds: str | None, of_commit: int | None, size: int) -> list[Chunk]:
    """The chunks of the numbers given, or of seeds made of the commit id: other ones for every commit."""
    if (seeds is None) == (of_commit is None):
        raise CampaignError("give either FIRST:LAST or --commit-seeds COUNT")
    if seeds is not None:
        return chunks_of(*seed_range(seeds), size=size)
    assert of_commit is not None
    commit = commit_id()
    if commit == "unknown":
        raise CampaignError("there is no commit to make seeds of: this is no git repository, or git is not here")
    return chunks_of(1, of_commit, size=size, prefix=f"ci-{commit[:SHORT_COMMIT]}-")


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; its exit status: 0 all is well, 1 something failed or was never checked, 2 usage."""
    parser = argparse.ArgumentParser(prog="python -m groupcomm.testing.campaign", description=__doc__)
    parser.add_argument("seeds", nargs="?", metavar="FIRST:LAST", help="numbers, both included")
    parser.add_argument(
        "--commit-seeds", type=int, metavar="COUNT", help="instead: so many seeds made of the commit id"
    )
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="processes to use (1)")
    parser.add_argument("--seconds", type=float, metavar="LIMIT", help="begin no further chunk after so long")
    parser.add_argument("--at-least", type=int, default=0, metavar="RUNS", help="but make so many runs in any case")
    parser.add_argument("--results", type=Path, default=Path("campaign"), metavar="FOLDER", help="kept here (campaign)")
    parser.add_argument("--chunk", type=int, default=CHUNK_SEEDS, metavar="SEEDS", help=f"size ({CHUNK_SEEDS})")
    options = parser.parse_args(arguments)
    if min(options.jobs, options.chunk) < 1 or (options.commit_seeds is not None and options.commit_seeds < 1):
        parser.error("--jobs, --chunk and --commit-seeds are 1 at least")
    began = time.monotonic()
    try:
        chunks = planned_chunks(options.seeds, options.commit_seeds, options.chunk)
        total = run_campaign(
            chunks, options.results, jobs=options.jobs, seconds=options.seconds, at_least=options.at_least
        )
    except CampaignError as error:
        parser.error(str(error))
    except KeyboardInterrupt:
        print(f"\ninterrupted; finished chunks are in {options.results}, and the same command goes on after them")
        return 130
    _print_all(report_lines(total, colour=sys.stdout.isatty()))
    print(f"{time.monotonic() - began:.0f} s for this part of it")
    return 1 if total.red else 0


def _print_all(lines: Iterable[str]) -> None:
    for line in lines:
        print(line)


if __name__ == "__main__":
    sys.exit(main())
