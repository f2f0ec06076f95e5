"""Runs many seeds, in chunks that are kept: ``python -m groupcomm.testing.campaign 1:50000 --jobs 2``.

Decides which seeds are run, in which processes, and what people see meanwhile. Each finished chunk is one small file
(``results``), with the commit it ran at; a campaign that was interrupted goes on after them, and loses a chunk at most.
"""

from __future__ import annotations

import argparse
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TextIO

from attrs import define, field

from groupcomm.testing.reporting import commit_id, failure_report, replay_line
from groupcomm.testing.results import (
    CHUNK_SEEDS,
    CampaignError,
    Chunk,
    Result,
    chunks_of,
    read_result,
    report_lines,
    write_result,
)
from groupcomm.testing.shrinking import shrink
from groupcomm.testing.swarm import RunSummary, run_seed, summarize_seed

RUN_CPU_SECONDS = 300.0
"""A run that takes this long hangs; most take less than two."""

SHORT_COMMIT = 12
"""Characters of a commit id that stand in the seeds made of it."""


class RunHangs(Exception):
    """A run does not come to its end: virtual time no longer advances."""


# Running


@contextmanager
def seeds_runner(jobs: int) -> Iterator[Callable[[Sequence[str]], Iterator[RunSummary]]]:
    """Gives a function that runs seeds in so many processes and yields their summaries in the order of the seeds."""
    if jobs == 1:
        yield lambda seeds: map(guarded_run, seeds)
        return
    terminated = signal.signal(signal.SIGTERM, signal.default_int_handler)  # else the workers would be left behind
    pool = ProcessPoolExecutor(jobs, initializer=_leave_interrupts_to_the_parent)
    try:
        yield lambda seeds: pool.map(guarded_run, seeds, chunksize=2)
    except BaseException:
        for process in list((pool._processes or {}).values()):
            process.terminate()
        raise
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
        signal.signal(signal.SIGTERM, terminated)


def guarded_run(seed: str) -> RunSummary:
    """Run a seed; one that hangs fails."""
    with processor_time_limit():
        return summarize_seed(seed)


@contextmanager
def processor_time_limit() -> Iterator[None]:
    """Raises ``RunHangs`` inside what takes very much processor time, so that a traceback shows the place."""

    def hangs(number: int, frame: FrameType | None) -> None:
        raise RunHangs(f"no end after {RUN_CPU_SECONDS:.0f} s of processor time")

    before = signal.signal(signal.SIGVTALRM, hangs)
    signal.setitimer(signal.ITIMER_VIRTUAL, RUN_CPU_SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0.0)
        signal.signal(signal.SIGVTALRM, before)


def _leave_interrupts_to_the_parent() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


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
            self._line(f"    again: {replay_line(summary.seed, shrink=True)}")
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


def failure_reports(seeds: Sequence[str]) -> Iterator[str]:
    """Run failed seeds again, make them small unless they hang, and say all there is to say of them."""
    for seed in seeds:
        yield ""
        try:
            with processor_time_limit():
                outcome = run_seed(seed)
        except Exception:  # not of the run, which would be its outcome, but of what makes or judges it
            yield from traceback.format_exc().splitlines()
            continue
        if outcome.failure is None:
            yield f"seed {seed} failed at another commit, and is well at this one"
        else:
            yield from failure_report(outcome, None if RunHangs.__name__ in outcome.text else shrink(outcome))


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
    """The command; its exit status: 0 all is well, 1 something failed or was never tried, 2 usage."""
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
    parser.add_argument(
        "--reports", type=int, default=1, metavar="COUNT", help="failed runs to make small and show (1)"
    )
    options = parser.parse_args(arguments)
    if min(options.jobs, options.chunk) < 1 or (options.commit_seeds is not None and options.commit_seeds < 1):
        parser.error("--jobs, --chunk and --commit-seeds are 1 at least")
    began = time.monotonic()
    try:
        chunks = planned_chunks(options.seeds, options.commit_seeds, options.chunk)
        total = run_campaign(
            chunks, options.results, jobs=options.jobs, seconds=options.seconds, at_least=options.at_least
        )
        _print_all(report_lines(total, colour=sys.stdout.isatty()))
        print(f"{time.monotonic() - began:.0f} s for this part of it", flush=True)
        _print_all(failure_reports([failed.seed for failed in total.failures[: options.reports]]))
    except CampaignError as error:
        parser.error(str(error))
    except KeyboardInterrupt:
        print(f"\ninterrupted; finished chunks are in {options.results}, and the same command goes on after them")
        return 130
    return 1 if total.red else 0


def _print_all(lines: Iterable[str]) -> None:
    for line in lines:
        print(line)


if __name__ == "__main__":
    sys.exit(main())
