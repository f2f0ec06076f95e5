"""Run every part of the tests, or those named, and say how long each took.

    python tests/run_parts.py [PART ...]

Parts that need one core and measure no time run two at a time, the longest first, each printed whole when it ends; the
others run one by one. The lab waits much: of its test modules one more than that runs at a time, each in a lab of its
own.

A part that fails does not keep the others from running. The last line is ``N passed, N failed, N skipped``; the exit
status is 0 only if nothing failed. A part that hangs is ended at its limit and has failed.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import string
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from itertools import groupby
from pathlib import Path
from typing import IO

from attrs import define, frozen

ROOT = Path(__file__).resolve().parent.parent
TESTS = ROOT / "tests"
OWN_PARTS = ("simulation", "hostile", "lab")
AT_ONCE = min(2, os.cpu_count() or 1)
"""How many parts that need one core run at a time."""

LABS_AT_ONCE = AT_ONCE + 1
"""How many labs stand side by side: each waits for half of its time."""

CAMPAIGN_RUNS = 2000
MUTATION_PARTS = 2
FUZZ_SECONDS = 18
LAB_TOOLS = {"nft": "nftables", "ip": "iproute2", "tc": "iproute2", "ethtool": "ethtool"}
LAB_SECONDS = {
    "test_crashes": 150,
    "test_failures": 123,
    "test_remote_clients": 116,
    "test_slow_receiver": 87,
    "test_keys": 84,
    "test_command": 79,
    "test_discovery": 75,
    "test_hostile_bytes": 69,
    "test_order_under_loss": 68,
    "test_networks": 60,
    "test_sizes": 60,
    "test_ipv6": 47,
    "test_times": 47,
    "test_links": 38,
    "test_certificates": 38,
    "test_doctor": 36,
    "test_slow_client": 25,
    "test_partition": 22,
    "test_quorum": 14,
    "test_verdict": 10,
    "test_names": 6,
    "test_side_by_side": 3,
    "test_checks": 1,
}
"""What the modules of the lab take, two at a time: the longest begin first, so that all lanes end together."""

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
    """One part.

    Attributes:
        name: how it is called.
        commands: what to run; may leave files in the folder it is given.
        budget_seconds: how long it is meant to take at most.
        limit_seconds: when it is ended.
        why_skipped: why it cannot run here, or None.
        beside: it needs one core and measures no time: another such part may run at the same time.
        at_once: how many of its commands run at the same time.
    """

    name: str
    commands: Callable[[Path], list[list[str]]]
    budget_seconds: int
    limit_seconds: int
    why_skipped: Callable[[], str | None] = lambda: None
    beside: bool = False
    at_once: int = 1


def show(text: str) -> None:
    """Print something at once."""
    print(text, end="", flush=True)


class Lanes:
    """Work in several threads, and the processes that it has started."""

    def __init__(self) -> None:
        self._running: set[subprocess.Popen[str]] = set()
        self._closed = False
        self._lock = threading.Lock()

    def each(self, work: Sequence[Callable[[int], None]], count: int) -> None:
        """Do all of it, the first first, so many at a time; each piece is told the number of its lane."""
        waiting, errors, ended = deque(work), list[BaseException](), threading.Semaphore(0)

        def lane(number: int) -> None:
            while not errors:
                try:
                    piece = waiting.popleft()
                except IndexError:
                    break
                try:
                    piece(number)
                except BaseException as error:
                    errors.append(error)
            ended.release()

        threads = [threading.Thread(target=lane, args=(number,)) for number in range(count)]
        try:
            for thread in threads:
                thread.start()
            for _ in threads:  # no join: one that an interrupt breaks takes the thread for ended (CPython, bpo-45274)
                while not ended.acquire(timeout=0.1):  # without a limit it may sleep through an interrupt
                    pass
        except BaseException:
            self._close()
            for thread in threads:
                if thread.ident is not None:
                    thread.join()
            raise
        if errors:
            raise errors[0]

    def start(self, command: list[str], lane: int) -> subprocess.Popen[str]:
        """Start a process; a lab that it makes has the lane's prefix."""
        with self._lock:
            if self._closed:
                raise KeyboardInterrupt
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                env={**os.environ, "LAB_PREFIX": f"l{string.ascii_lowercase[lane]}"},
                text=True,
                errors="replace",
                start_new_session=True,
            )
            self._running.add(process)
            return process

    def end(self, process: subprocess.Popen[str]) -> None:
        """End what is left of a process."""
        end_session(process)
        self._running.discard(process)

    def _close(self) -> None:
        """End all of them, and let no other begin."""
        with self._lock:
            self._closed = True
        for process in tuple(self._running):
            end_session(process)


LANES = Lanes()


def main(names: Sequence[str]) -> int:
    """Run the parts and return the exit status."""
    unknown = set(names) - {part.name for part in PARTS}
    if unknown:
        print(f"no such part: {', '.join(sorted(unknown))}; there are {', '.join(part.name for part in PARTS)}")
        return 2
    os.chdir(ROOT)
    os.environ["PATH"] += os.pathsep + "/usr/sbin:/sbin"
    began = time.monotonic()
    total, lines = run_parts([part for part in PARTS if not names or part.name in names])
    print(
        "\n== all parts", *lines, f"{'together':<12} {time.monotonic() - began:7.1f} s", "", total, sep="\n", flush=True
    )
    return 1 if total.failed else 0


def run_parts(parts: Sequence[Part]) -> tuple[Counts, list[str]]:
    """Run parts in their order, those that may be beside each other together; what all found, and a line for each."""
    began = time.monotonic()
    results: dict[str, tuple[str, Counts]] = {}

    def run(part: Part, say: Callable[[str], None]) -> None:
        results[part.name] = report(part, TOTAL_SECONDS - (time.monotonic() - began), say)

    def whole(part: Part) -> Callable[[int], None]:
        def in_lane(_: int) -> None:
            said: list[str] = []
            run(part, said.append)
            show("".join(said))

        return in_lane

    for together, some in groupby(parts, lambda part: part.beside):
        if together:
            longest_first = sorted(some, key=lambda part: -part.budget_seconds)
            LANES.each([whole(part) for part in longest_first], AT_ONCE)
        else:
            for part in some:
                run(part, show)
    total = Counts()
    for part in parts:
        total.add(results[part.name][1])
    return total, [results[part.name][0] for part in parts]


def report(part: Part, most_seconds: float, say: Callable[[str], None]) -> tuple[str, Counts]:
    """Run a part unless something keeps it from running; its line, and what it found."""
    say(f"\n== {part.name}\n")
    started = time.monotonic()
    why = part.why_skipped()
    if why is None:
        counts = run_part(part, min(part.limit_seconds, most_seconds), say)
    else:
        counts = Counts(skipped=1)
        say(f"{part.name} skipped: {why}\n")
    line = f"{part.name:<12} {time.monotonic() - started:7.1f} s of {part.budget_seconds:4} s   {counts}"
    say(f"{line}\n")
    return line, counts


def run_part(part: Part, limit_seconds: float, say: Callable[[str], None] = show) -> Counts:
    """Run the commands of a part, all of them, in a folder of its own for what they leave."""
    scratch = Path(tempfile.mkdtemp(prefix=f"groupcomm-{part.name}-"))
    deadline = time.monotonic() + limit_seconds
    commands, found = part.commands(scratch), list[Counts]()
    if not commands:
        say(f"no tests found for {part.name}\n")
        found.append(Counts(failed=1))

    def whole(command: list[str]) -> Callable[[int], None]:
        def in_lane(lane: int) -> None:
            said: list[str] = []
            began = time.monotonic()
            found.append(run_command(command, deadline - time.monotonic(), said.append, lane))
            say(f"\n-- {command[-1]}: {time.monotonic() - began:.1f} s\n{''.join(said)}")

        return in_lane

    if part.at_once > 1:
        LANES.each([whole(command) for command in commands], min(part.at_once, len(commands)))
    else:
        for command in commands:
            found.append(run_command(command, deadline - time.monotonic(), say))
    counts = Counts()
    for each in found:
        counts.add(each)
    if counts.failed and any(scratch.iterdir()):
        say(f"what the tests left is in {scratch}\n")
    else:
        shutil.rmtree(scratch, ignore_errors=True)
    return counts


def run_command(command: list[str], limit_seconds: float, say: Callable[[str], None] = show, lane: int = 0) -> Counts:
    """Run one command, passing on what it prints, and count its result."""
    process = LANES.start(command, lane)
    assert process.stdout is not None
    found: list[Counts] = []
    reader = threading.Thread(target=pass_on, args=(process.stdout, found, say), daemon=True)
    reader.start()
    try:
        status: int | None = process.wait(timeout=max(limit_seconds, 1))
    except subprocess.TimeoutExpired:
        say(f"ended after {limit_seconds:.0f} s: {' '.join(command)}\n")
        status = None
    finally:
        LANES.end(process)
    reader.join(timeout=5)
    counts = found[-1] if found else Counts(passed=1 if status == 0 else 0)
    if status != 0 and not counts.failed:
        counts.failed = 1
    return counts


def pass_on(stream: IO[str], found: list[Counts], say: Callable[[str], None]) -> None:
    """Say every line as it comes and note what trial says of its result."""
    for line in stream:
        say(line)
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


def lab(scratch: Path) -> list[list[str]]:
    """One command for each test module of the lab, the longest first; one that was never measured counts as long."""
    modules = sorted(test_modules(TESTS / "lab"), key=lambda name: -LAB_SECONDS.get(name.split(".")[-1], 1000))
    folders = [f"--temp-directory={scratch / module}" for module in modules]
    return [python("-m", "twisted.trial", folder, module) for folder, module in zip(folders, modules, strict=True)]


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


# With several processors trial's workers share the simulations, as the jobs of the campaign and of the mutations do.
WORKERS = [f"-j{os.cpu_count()}"] if (os.cpu_count() or 1) > 1 else []

PARTS = (
    Part("ruff", ruff, 10, 60),
    Part("mypy", mypy, 60, 240, beside=True),
    Part("packaging", packaging, 60, 300, beside=True),
    Part("unit", trial(unit_modules(), "--reporter=text"), 100, 400, beside=True),
    Part("fuzz", fuzz, 120, 600, beside=True),
    Part("hostile", trial(test_modules(TESTS / "hostile")), 120, 240, beside=True),
    Part("simulation", trial(test_modules(TESTS / "simulation"), *WORKERS), 240, 900),
    Part("campaign", campaign, 300, 1500, why_no_commit),
    Part("mutations", mutations, 60, 600, why_no_commit),
    Part("lab", lab, 600, 2100, why_no_lab, at_once=LABS_AT_ONCE),
)

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
