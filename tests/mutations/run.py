"""Put every seeded bug into the product, one at a time, and let the random campaign find it.

    python -m tests.mutations.run                      all, from seed 1 on, and every property must be first somewhere
    python -m tests.mutations.run NAME ...             these
    python -m tests.mutations.run --part K/N --quick   the K-th of N parts (K may be a commit id), known seeds first

A run stops at its first catch. For each mutation it is said which property caught it, which others the same run broke,
how many seeds it took, and how much CPU time. A mutation that no seed catches is red, and so is one whose text does
not stand in the product any more.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from attrs import frozen

from tests.mutations.catalogue import HARMLESS, HARNESS_ONLY, MUTATIONS, NEVER_FIRST, PROPERTIES
from tests.mutations.mutation import ROOT, CatalogueOutOfDate, Mutation

SEED_LIMIT = 400
"""So many seeds have a chance at one mutation."""

KNOWN_SEEDS = Path(__file__).parent / "known_seeds.txt"
"""A line per mutation: its name and the seed that caught it in the last full run. Only ``--quick`` reads it."""


@frozen
class Result:
    """What became of one mutation.

    Attributes:
        caught_by: the property that is named first for the failing run; None if no seed failed.
        also: the other properties that the run breaks.
        seed: the run.
        seeds: how many were tried.
        cpu_seconds: for all of them.
        problem: why it was not caught.
    """

    mutation: Mutation
    caught_by: str | None = None
    also: tuple[str, ...] = ()
    seed: str = ""
    seeds: int = 0
    cpu_seconds: float = 0.0
    problem: str = ""

    def __str__(self) -> str:
        name = f"{self.mutation.name:34}"
        if self.caught_by is None:
            return f"NOT CAUGHT {name} {self.problem} ({self.seeds} seeds, {self.cpu_seconds:.1f} s)"
        also = f"  also {' '.join(self.also)}" if self.also else ""
        taken = f"{self.seeds:4} seeds {self.cpu_seconds:6.1f} s, seed {self.seed:4}"
        return f"caught     {name} {self.caught_by:9} {taken}{also}"


def known_seeds() -> dict[str, str]:
    """By mutation, the seed that is known to catch it."""
    if not KNOWN_SEEDS.exists():
        return {}
    return dict(line.split() for line in KNOWN_SEEDS.read_text().splitlines())


def try_mutation(mutation: Mutation, limit: int, first: Sequence[str] = ()) -> Result:
    """Let a child of its own find it; the run that does must be green without the bug."""
    result = _try(mutation, limit, first)
    if result.caught_by is not None and (without := _try(HARMLESS, 1, [result.seed])).caught_by is not None:
        problem = f"seed {result.seed} fails without the bug too, with {without.caught_by}"
        return Result(mutation, seeds=result.seeds, cpu_seconds=result.cpu_seconds, problem=problem)
    return result


def _try(mutation: Mutation, limit: int, first: Sequence[str]) -> Result:
    try:
        mutation.apply(mutation.path.read_text())
    except CatalogueOutOfDate as error:
        return Result(mutation, problem=str(error))
    command = [sys.executable, "-m", "tests.mutations.worker", mutation.name, str(limit), *first]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env={**os.environ, "PYTHONHASHSEED": "0"})
    if done.returncode:
        return Result(mutation, problem="the child failed:\n" + done.stderr.strip()[-2000:])
    found = json.loads(done.stdout.splitlines()[-1])
    seeds, cpu_seconds = found["seeds"], found["seconds"]
    if "property" not in found:
        problem = f"seed {found['endless']} does not end" if "endless" in found else "no seed fails"
        return Result(mutation, seeds=seeds, cpu_seconds=cpu_seconds, problem=problem)
    also = tuple(name for name in found["all"] if name != found["property"])
    return Result(mutation, found["property"], also, found["seed"], seeds, cpu_seconds)


def part_of(mutations: Sequence[Mutation], part: str) -> list[Mutation]:
    """Every N-th mutation, from the K-th on: ``K/N``; any hexadecimal K, such as a commit id, is taken modulo N."""
    which, _, count = part.partition("/")
    number = int(which) if which.isdecimal() and len(which) < 6 else int(which, 16)
    return list(mutations[number % int(count) :: int(count)])


def run(mutations: Iterable[Mutation], *, limit: int, jobs: int, seconds: float, quick: bool) -> list[Result]:
    """Try them, and print each result as it comes; none is begun after ``seconds``."""
    known = known_seeds() if quick else {}
    ends_at = time.monotonic() + seconds
    left_out: list[str] = []

    def one(mutation: Mutation) -> Result | None:
        if time.monotonic() >= ends_at:
            left_out.append(mutation.name)
            return None
        return try_mutation(mutation, limit, [known[mutation.name]] if mutation.name in known else [])

    results = []
    with ThreadPoolExecutor(jobs) as pool:
        for result in pool.map(one, mutations):
            if result is not None:
                results.append(result)
                print(result, flush=True)
    if left_out:
        print(f"not begun within {seconds:.0f} s: {' '.join(left_out)}")
    return results


def firsts(results: Iterable[Result]) -> dict[str, list[Result]]:
    """By property, the mutations that it was the first to catch."""
    found: dict[str, list[Result]] = {name: [] for name in PROPERTIES}
    for result in results:
        if result.caught_by is not None:
            found.setdefault(result.caught_by, []).append(result)
    return found


def why_none(name: str) -> str:
    """What the table says of a property that was the first to catch none."""
    return f"none: {NEVER_FIRST[name]}" if name in NEVER_FIRST else "**none**"


def report(results: Sequence[Result]) -> str:
    """Two tables in markdown: the mutations, and the properties."""
    lines = [
        "| mutation | the bug | caught by | also broken | seeds | CPU s |",
        "|---|---|---|---|---:|---:|",
    ]
    for one in results:
        caught = one.caught_by or "**not caught**"
        also = " ".join(one.also)
        lines.append(
            f"| `{one.mutation.name}` ({one.mutation.file}) | {one.mutation.bug} | {caught} | {also} "
            f"| {one.seeds} | {one.cpu_seconds:.1f} |"
        )
    lines += ["", "| property | first to catch |", "|---|---|"]
    lines += [
        f"| {name} | {', '.join(f'`{one.mutation.name}`' for one in caught) or why_none(name)} |"
        for name, caught in firsts(results).items()
    ]
    lines += [f"| {name} | none: {why} |" for name, why in HARNESS_ONLY.items()]
    return "\n".join(lines) + "\n"


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit status: 0 if every mutation was caught."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutations.run", description=__doc__.partition("\n")[0])
    parser.add_argument("names", nargs="*", help="mutations; none: all")
    parser.add_argument("--part", metavar="K/N", help="every N-th, from the K-th on; K may be a commit id")
    parser.add_argument("--quick", action="store_true", help="try the seed that is known to catch it first")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="begin none after so long")
    parser.add_argument("--seeds", type=int, default=SEED_LIMIT, help="so many for each at most")
    parser.add_argument("--jobs", type=int, default=1, help="processes to use")
    parser.add_argument("--report", type=Path, metavar="FILE", help="write the tables as markdown")
    parser.add_argument("--keep-seeds", action="store_true", help="note the seeds that caught, for --quick")
    options = parser.parse_args(arguments)
    unknown = set(options.names) - {mutation.name for mutation in MUTATIONS}
    if unknown:
        parser.error(f"no such mutation: {' '.join(sorted(unknown))}")
    chosen = [mutation for mutation in MUTATIONS if not options.names or mutation.name in options.names]
    if options.part:
        chosen = part_of(chosen, options.part)
    began = time.monotonic()
    results = run(chosen, limit=options.seeds, jobs=options.jobs, seconds=options.seconds, quick=options.quick)
    missed = [result for result in results if result.caught_by is None]
    never_first: list[str] = []
    if len(results) == len(MUTATIONS):
        never_first = [name for name, caught in firsts(results).items() if not caught and name not in NEVER_FIRST]
    if never_first:
        print(f"never the first to catch: {' '.join(never_first)}")
    if options.report:
        options.report.write_text(report(results))
    if options.keep_seeds:
        known = known_seeds() | {one.mutation.name: one.seed for one in results if one.caught_by is not None}
        names = [mutation.name for mutation in MUTATIONS if mutation.name in known]
        KNOWN_SEEDS.write_text("".join(f"{name} {known[name]}\n" for name in names))
    seeds = sum(result.seeds for result in results)
    cpu_seconds = sum(result.cpu_seconds for result in results)
    print(
        f"{len(results)} mutations, {len(missed)} not caught, {seeds} seeds, {cpu_seconds:.0f} s of CPU, "
        f"{time.monotonic() - began:.0f} s"
    )
    return 1 if missed or never_first else 0


if __name__ == "__main__":
    sys.exit(main())
