"""Fuzz the targets, one after the other.

    python -m tests.fuzz.run [--seconds N] [--runs N] [--work FOLDER] [--keep] [TARGET ...]
    python -m tests.fuzz.run --planted [--seconds N]       bugs of one byte: each must be found
    python -m tests.fuzz.run --replay TARGET FILE ...      inputs once more, in plain Python

Prints what was run and how many edges of the product that reached. A finding is saved in ``.fuzz`` and printed with the
command that repeats it. New inputs are kept in the tree with ``--keep`` only, and of these only what is worth it. Where
there is no atheris the corpora are replayed instead.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from attrs import define

from tests.fuzz.corpus_files import save, size_text, worth_keeping
from tests.fuzz.planted import PLANTS, Plant
from tests.fuzz.target import ENTRIES, ROOT, Entry
from tests.fuzz.watching import log_nothing

CRASHES = ROOT / ".fuzz"
_PROGRESS = re.compile(r"^#(\d+)\s+\S+\s+cov: (\d+) ft: (\d+) corp: (\d+)/(\S+)")
_SAVED = re.compile(r"Test unit written to (\S+)")


@define
class Outcome:
    """What became of one run of the fuzzer.

    Attributes:
        runs: inputs that were tried.
        edges: of the watched modules, reached by them.
        features: edges, and how often each was taken.
        corpus: inputs that reached something new, those it began with included.
        seconds: how long it took.
        saved: the file of the input that is a finding.
        failed: whether there is one.
        output: what the fuzzer said, but for its progress.
    """

    runs: int = 0
    edges: int = 0
    features: int = 0
    corpus: str = ""
    seconds: float = 0.0
    saved: Path | None = None
    failed: bool = False
    output: str = ""

    def __str__(self) -> str:
        return (
            f"{self.runs:>9,} runs {self.seconds:7.0f} s {self.edges:6,} edges {self.features:7,} features, "
            f"corpus {self.corpus}"
        )


def fuzz(
    entry: Entry, *, seconds: int, runs: int, folders: Sequence[Path], crashes: Path, root: Path = ROOT
) -> Outcome:
    """Run the fuzzer in a child.

    Args:
        entry: the target.
        seconds: how long at most.
        runs: how many inputs at most; -1 for any number.
        folders: where new inputs go, and further inputs to begin with.
        crashes: where a finding goes.
        root: the tree that is fuzzed.
    """
    crashes.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "tests.fuzz.worker", entry.name, str(seconds), str(runs), str(crashes)]
    outcome, said, began = Outcome(), [], time.monotonic()
    child = subprocess.Popen(
        [*command, *map(str, folders)],
        cwd=root,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )
    assert child.stdout is not None
    for line in child.stdout:
        progress = _PROGRESS.match(line)
        if progress:
            outcome.runs, outcome.edges, outcome.features = (int(progress[number]) for number in (1, 2, 3))
            outcome.corpus = f"{progress[4]} inputs of {progress[5]}"
        elif not line.startswith("INFO: "):
            said.append(line)
        if executed := re.match(r"stat::number_of_executed_units:\s*(\d+)", line):
            outcome.runs = int(executed[1])
        if saved := _SAVED.search(line):
            outcome.saved = Path(saved[1])
    outcome.failed = child.wait() != 0
    outcome.seconds = time.monotonic() - began
    outcome.output = "".join(said)
    return outcome


def fuzz_all(entries: Sequence[Entry], *, seconds: int, runs: int, work: Path | None, keep: bool) -> bool:
    """Fuzz these; returns whether nothing was found. New inputs go below ``work``, and are forgotten if it is None."""
    good = True
    for entry in entries:
        with tempfile.TemporaryDirectory(prefix="groupcomm-fuzz-") as scratch:
            new = (work or Path(scratch)) / entry.name
            new.mkdir(parents=True, exist_ok=True)
            folders = [new, *([entry.corpus] if entry.corpus.exists() else [])]
            outcome = fuzz(entry, seconds=seconds, runs=runs, folders=folders, crashes=CRASHES)
            print(f"{entry.name:<8} {outcome}", flush=True)
            if outcome.failed:
                good = False
                print(outcome.output)
                report(entry, outcome)
            if keep:
                keep_inputs(entry, folders)
    return good


def report(entry: Entry, outcome: Outcome) -> None:
    """Where the finding is and how to repeat it."""
    if outcome.saved is None:
        print(f"{entry.name}: the fuzzer ended without a finding that can be repeated")
        return
    where = outcome.saved.relative_to(ROOT) if outcome.saved.is_relative_to(ROOT) else outcome.saved
    print(
        f"{entry.name}: found something. To repeat it:\n\n    python -m tests.fuzz.run --replay {entry.name} {where}\n"
    )


def keep_inputs(entry: Entry, folders: Sequence[Path]) -> None:
    """Make what is worth it of the inputs in these folders the corpus in the tree."""
    inputs = [path.read_bytes() for folder in folders for path in folder.iterdir()]
    kept, arcs = worth_keeping(entry, inputs)
    save(entry, kept)
    print(f"{entry.name:<8} kept {size_text(entry)}: {arcs:,} arcs of {len(inputs):,} inputs", flush=True)


def replay(entry: Entry, files: Sequence[Path]) -> None:
    """Each input once, in plain Python; the first that is a finding raises."""
    target = entry.load()
    log_nothing()
    for path in files:
        print(f"{entry.name} {path}", flush=True)
        target.check(path.read_bytes())


def replay_all(entries: Sequence[Entry]) -> bool:
    """The corpora, without coverage; returns whether nothing was found."""
    good = True
    for entry in entries:
        began, inputs = time.monotonic(), entry.inputs()
        command = [sys.executable, "-m", "tests.fuzz.run", "--replay", entry.name, *map(str, inputs)]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, stdin=subprocess.DEVNULL)
        print(f"{entry.name:<8} {len(inputs):>9,} inputs {time.monotonic() - began:7.0f} s, replayed", flush=True)
        if done.returncode:
            good = False
            print(done.stdout.splitlines()[-1:], done.stderr, sep="\n", flush=True)
    return good


def find_planted(plant: Plant, seconds: int) -> bool:
    """Fuzz a copy of the product with the bug in it, without the corpus; returns whether it was found."""
    with tempfile.TemporaryDirectory(prefix="groupcomm-planted-") as scratch:
        root, inputs = Path(scratch) / "tree", Path(scratch) / "inputs"
        inputs.mkdir()
        shutil.copytree(ROOT / "groupcomm", root / "groupcomm", ignore=shutil.ignore_patterns("__pycache__"))
        for name in ("tests", "doc"):
            (root / name).symlink_to(ROOT / name)
        file = root / "groupcomm" / plant.bug.file
        file.write_text(plant.bug.apply(file.read_text()))
        entry = ENTRIES[plant.target]
        outcome = fuzz(entry, seconds=seconds, runs=-1, folders=[inputs], crashes=Path(scratch), root=root)
        found = outcome.failed and outcome.saved is not None
        error = re.search(r"=== Uncaught Python exception: ===\n(.*)", outcome.output)
        what = (
            f"by {outcome.saved.stat().st_size} bytes: {error[1] if error else 'the process ended'}"
            if outcome.saved
            else ""
        )
        print(
            f"{'found' if found else 'NOT FOUND':<9} {plant.bug.name:<24} {plant.target:<8} "
            f"{outcome.runs:>7,} runs {outcome.seconds:5.1f} s  {what[:90]}",
            flush=True,
        )
        if outcome.failed and not found:
            print(outcome.output)
        return found


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit status: 0 if nothing was found, and everything planted was."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz.run", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=f"{', '.join(ENTRIES)}; none: all")
    parser.add_argument("--seconds", type=int, default=60, help="for each target (default: 60)")
    parser.add_argument("--runs", type=int, default=-1, help="so many inputs for each target at most")
    parser.add_argument("--work", type=Path, metavar="FOLDER", help="where new inputs are, of earlier runs too")
    parser.add_argument("--keep", action="store_true", help="keep new inputs in the tree")
    parser.add_argument("--planted", action="store_true", help="find the planted bugs instead")
    parser.add_argument("--replay", action="store_true", help="the files behind TARGET once more, without atheris")
    options = parser.parse_args(arguments)
    if options.replay:
        if len(options.targets) < 2 or options.targets[0] not in ENTRIES:
            parser.error("--replay takes a target and files")
        replay(ENTRIES[options.targets[0]], [Path(name) for name in options.targets[1:]])
        return 0
    unknown = [name for name in options.targets if name not in ENTRIES]
    if unknown:
        parser.error(f"no such target: {', '.join(unknown)}; there are {', '.join(ENTRIES)}")
    entries = [ENTRIES[name] for name in options.targets or ENTRIES]
    if find_spec("atheris") is None:
        print(
            "NO FUZZING: there is no atheris for this Python (pip install 'atheris' has wheels for some versions and "
            "systems). The corpora are replayed instead, without coverage."
        )
        return 0 if options.planted or replay_all(entries) else 1
    if options.planted:
        plants = [plant for plant in PLANTS if ENTRIES[plant.target] in entries]
        return 0 if all([find_planted(plant, options.seconds) for plant in plants]) else 1
    return (
        0 if fuzz_all(entries, seconds=options.seconds, runs=options.runs, work=options.work, keep=options.keep) else 1
    )


if __name__ == "__main__":
    sys.exit(main())
