"""Run every part of the tests, or those named, and say how long each took.

    python tests/run_parts.py [PART ...]

A part that fails does not keep the later ones from running. The last line is ``N passed, N failed, N skipped``; the
exit status is 0 only if nothing failed. A part that hangs is ended at its limit and has failed.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO

from attrs import define, frozen

ROOT = Path(__file__).resolve().parent.parent
TESTS = ROOT / "tests"
OWN_PARTS = ("simulation", "hostile", "lab")
CAMPAIGN_RUNS = 2000
MUTATION_PARTS = 2
FUZZ_SECONDS = 18
LAB_TOOLS = {"nft": "nftables", "ip": "iproute2", "tc": "iproute2", "ethtool": "ethtool"}
TOTAL_SECONDS = 75 * 60
"""When what hangs is ended: on a machine that is slow today the budgets below take three times as long."""
TRIAL_RESULT = re.compile(r"^(?:PASSED|FAILED)(?: \((?P<counts>[a-zA-Z0-9=, ]+)\))?$")


@define
class Counts:
    """How many checks ended how; a tool that is no test runner counts as one check."""

    passed: int = 0
    failed: int = 0
    skipped: int = 0

    def __str__(self) -> str:
        return f"{self.passed} passed, {self.failed} failed, {self.skipped} skipped"

    def add(self, other: Counts) -> None:
        self.passed += other.passed
        self.failed += other.failed
        self.skipped += other.skipped


@frozen
class Part:
    """One part: its commands, how long it is meant to take at most and when it is ended."""

    name: str
    commands: Callable[[Path], list[list[str]]]
    budget_seconds: int
    limit_seconds: int
    why_skipped: Callable[[], str | None] = lambda: None


def main(names: Sequence[str]) -> int:
    """Run the parts and return the exit status."""
    unknown = set(names) - {part.name for part in PARTS}
    if unknown:
        print(f"no such part: {', '.join(sorted(unknown))}; there are {', '.join(part.name for part in PARTS)}")
        return 2
    os.chdir(ROOT)
    os.environ["PATH"] += os.pathsep + "/usr/sbin:/sbin"
    total, lines, began = Counts(), [], time.monotonic()
    for part in PARTS:
        if names and part.name not in names:
            continue
        print(f"\n== {part.name}", flush=True)
        started = time.monotonic()
        why = part.why_skipped()
        if why is None:
            counts = run_part(part, min(part.limit_seconds, TOTAL_SECONDS - (started - began)))
        else:
            counts = Counts(skipped=1)
            print(f"{part.name} skipped: {why}", flush=True)
        line = f"{part.name:<12} {time.monotonic() - started:7.1f} s of {part.budget_seconds:4} s   {counts}"
        print(line, flush=True)
        lines.append(line)
        total.add(counts)
    print(
        "\n== all parts", *lines, f"{'together':<12} {time.monotonic() - began:7.1f} s", "", total, sep="\n", flush=True
    )
    return 1 if total.failed else 0


def run_part(part: Part, limit_seconds: float) -> Counts:
    """Run the commands of a part one after the other, all of them, in a folder of its own for what they leave."""
    scratch = Path(tempfile.mkdtemp(prefix=f"groupcomm-{part.name}-"))
    deadline = time.monotonic() + limit_seconds
    counts = Counts()
    commands = part.commands(scratch)
    if not commands:
        print(f"no tests found for {part.name}")
        counts.failed += 1
    for command in commands:
        counts.add(run_command(command, deadline - time.monotonic()))
    if counts.failed and any(scratch.iterdir()):
        print(f"what the tests left is in {scratch}")
    else:
        shutil.rmtree(scratch, ignore_errors=True)
    return counts


def run_command(command: list[str], limit_seconds: float) -> Counts:
    """Run one command, passing on what it prints, and count its result."""
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
    )
    assert process.stdout is not None
    found: list[Counts] = []
    reader = threading.Thread(target=pass_on, args=(process.stdout, found), daemon=True)
    reader.start()
    try:
        status: int | None = process.wait(timeout=max(limit_seconds, 1))
    except subprocess.TimeoutExpired:
        print(f"ended after {limit_seconds:.0f} s: {' '.join(command)}", flush=True)
        status = None
    finally:
        end_session(process)
    reader.join(timeout=5)
    counts = found[-1] if found else Counts(passed=1 if status == 0 else 0)
    if status != 0 and not counts.failed:
        counts.failed = 1
    return counts


def pass_on(stream: IO[str], found: list[Counts]) -> None:
    """Print every line as it comes and note what trial says of its result."""
    for line in stream:
        print(line, end="", flush=True)
        match = TRIAL_RESULT.match(line.rstrip())
        if match:
            number = {key: int(value) for key, value in re.findall(r"(\w+)=(\d+)", match["counts"] or "")}
            found.append(
                Counts(
                    passed=number.get("successes", 0) + number.get("expectedFailures", 0),
                    failed=sum(number.get(key, 0) for key in ("failures", "errors", "unexpectedSuccesses")),
                    skipped=number.get("skips", 0),
                )
            )


def end_session(process: subprocess.Popen[str]) -> None:
    """End what is left of a command: asked first, so that tests can clear away what they made."""
    for number, patience_seconds in ((signal.SIGINT, 20), (signal.SIGKILL, 5)):
        if process.poll() is not None:
            return
        os.killpg(process.pid, number)
        try:
            process.wait(timeout=patience_seconds)
        except subprocess.TimeoutExpired:
            continue


def python(*arguments: str) -> list[str]:
    """A command line for the interpreter that runs this."""
    return [sys.executable, *arguments]


def ruff(_: Path) -> list[list[str]]:
    """The bug rules, and the format."""
    return [python("-m", "ruff", "check", "."), python("-m", "ruff", "format", "--check", ".")]


def mypy(_: Path) -> list[list[str]]:
    """Types, strictly."""
    return [python("-m", "mypy")]


def packaging(_: Path) -> list[list[str]]:
    """What users install."""
    return [python(str(TESTS / "check_packaging.py"))]


def trial(modules: Sequence[str], *options: str) -> Callable[[Path], list[list[str]]]:
    """The commands of a part that trial runs; none if there is no test."""

    def commands(scratch: Path) -> list[list[str]]:
        temporary = f"--temp-directory={scratch / 'trial'}"
        return [python("-m", "twisted.trial", temporary, *options, *modules)] if modules else []

    return commands


def test_modules(folder: Path) -> list[str]:
    """The dotted names of the test modules under a folder of ``tests``."""
    return [".".join(path.relative_to(ROOT).with_suffix("").parts) for path in sorted(folder.rglob("test_*.py"))]


def campaign(scratch: Path) -> list[list[str]]:
    """Random runs of other seeds for every commit: as many as two cores make in five minutes."""
    options = ["--commit-seeds", str(CAMPAIGN_RUNS), "--jobs", str(os.cpu_count() or 1)]
    return [python("-m", "groupcomm.testing.campaign", *options, "--results", str(scratch / "campaign"))]


def mutations(_: Path) -> list[list[str]]:
    """Some of the seeded bugs, others with every commit, as many as a minute allows: the campaign finds each."""
    part = f"{commit_id() or 0}/{MUTATION_PARTS}"
    return [python("-m", "tests.mutations.run", "--part", part, "--quick", "--jobs", str(os.cpu_count() or 1))]


def fuzz(_: Path) -> list[list[str]]:
    """Hostile bytes for every parser, two minutes in all, and bugs that these must find."""
    command = ["-m", "tests.fuzz.run"]
    return [python(*command, "--seconds", str(FUZZ_SECONDS)), python(*command, "--seconds", "60", "--planted")]


def commit_id() -> str | None:
    """The commit that is checked out; None if this is no git repository."""
    asked = subprocess.run(["git", "rev-parse", "HEAD"], stdin=subprocess.DEVNULL, capture_output=True, text=True)
    return asked.stdout.strip() if asked.returncode == 0 else None


def why_no_commit() -> str | None:
    """What keeps a commit from giving its seeds, or None."""
    return None if commit_id() else "its seeds are made of the commit id, and this is no git repository"


def unit_modules() -> list[str]:
    """All test modules but those of the parts that stand by themselves."""
    return [name for name in test_modules(TESTS) if name.split(".")[1] not in OWN_PARTS]


def why_no_lab() -> str | None:
    """What keeps the lab from standing here, or None."""
    if os.geteuid() != 0:
        return "it makes network namespaces, for which it must be root"
    missing = sorted({package for tool, package in LAB_TOOLS.items() if shutil.which(tool) is None})
    if missing:
        return f"apt-get install {' '.join(missing)}"
    lab = [str(TESTS / "lab" / "lab")]
    environment = os.environ | {"LAB_PREFIX": "try"}
    up = subprocess.run([*lab, "up", "1"], env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    tried = up
    if up.returncode == 0:
        tried = subprocess.run([*lab, "loss", "1", "1"], env=environment, capture_output=True, text=True)
    subprocess.run([*lab, "down"], env=environment, capture_output=True, check=False)
    if tried.returncode:
        return f"this machine does not let root make hosts: {tried.stderr.strip()}"
    return None


# With several processors trial's workers share the simulations; unit tests are quick, and the lab measures.
WORKERS = [f"-j{os.cpu_count()}"] if (os.cpu_count() or 1) > 1 else []

PARTS = (
    Part("ruff", ruff, 10, 60),
    Part("mypy", mypy, 60, 240),
    Part("packaging", packaging, 60, 300),
    Part("unit", trial(unit_modules(), "--reporter=text"), 100, 400),
    Part("simulation", trial(test_modules(TESTS / "simulation"), *WORKERS), 120, 500),
    Part("campaign", campaign, 300, 1500, why_no_commit),
    Part("mutations", mutations, 60, 600, why_no_commit),
    Part("fuzz", fuzz, 120, 600),
    Part("hostile", trial(test_modules(TESTS / "hostile")), 120, 240),
    Part("lab", trial(test_modules(TESTS / "lab")), 540, 1500, why_no_lab),
)

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
