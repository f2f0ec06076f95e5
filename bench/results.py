"""A whole run: its records, where and when they were made, and the medians and ratios that follow from them."""

from __future__ import annotations

import datetime
import json
import os
import platform
import subprocess
from collections.abc import Callable, Iterable
from pathlib import Path
from statistics import median
from typing import Any

from attrs import asdict, evolve, frozen

from bench.lab import ROOT, BenchError
from bench.measure import Record
from bench.parts import COROSYNC, FAST_COROSYNC

Case = tuple[tuple[str, Any], ...]

PERCENTILES = {"p50": "p50", "p99": "p99", "p999": "p99.9"}
"""The figures of a latency, and what people call them."""

Senders = tuple[list[float], list[float]]
"""The percentiles of the host with the least p50, and of the one with the largest."""


@frozen
class Run:
    """What one call of the benchmark found.

    Attributes:
        command: the command.
        date: when it ended, UTC.
        commit: of this project, with a ``+`` if the tree differs from it.
        machine: processor, cores, memory, kernel, system.
        versions: of each system, by its name.
        records: every measurement.
    """

    command: str
    date: str
    commit: str
    machine: str
    versions: dict[str, str]
    records: list[Record]

    @classmethod
    def now(cls, command: str, versions: dict[str, str], records: list[Record]) -> Run:
        """A run that has just ended on this machine."""
        date = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC")
        return cls(command, date, _commit(), _machine(), versions, records)

    def dump(self) -> str:
        """As JSON."""
        return json.dumps(asdict(self), indent=1)

    @classmethod
    def load(cls, text: str) -> Run:
        """From JSON."""
        plain = json.loads(text)
        return cls(**{**plain, "records": [Record(**record) for record in plain["records"]]})

    def then(self, later: Run) -> Run:
        """This run and a later one as one.

        Raises:
            BenchError: they are of different commits or machines.
        """
        if (self.commit, self.machine) != (later.commit, later.machine):
            raise BenchError(f"the earlier results are of commit {self.commit} on {self.machine}")
        return evolve(
            later,
            command=f"{self.command}; {later.command}",
            versions=self.versions | later.versions,
            records=self.records + later.records,
        )

    def figures(self, part: str, figure: str, **case: object) -> dict[str, dict[Case, float]]:
        """The medians of one figure by system and by the rest of the case.

        Args:
            part: of which part.
            figure: which.
            case: what the case must be; measurements that differ in it are left out.
        """
        found: dict[str, dict[Case, list[float]]] = {}
        for record in self.records:
            if record.part != part or figure not in record.figures or record.wrong:
                continue
            if any(record.case.get(name) != value for name, value in case.items()):
                continue
            rest = tuple((name, value) for name, value in record.case.items() if name not in case)
            found.setdefault(record.system, {}).setdefault(rest, []).append(record.figures[figure])
        return {system: {rest: median(values) for rest, values in cases.items()} for system, cases in found.items()}

    def senders(self, rate: int, level: str) -> dict[str, Senders]:
        """The latencies of the best and of the worst sender, by system."""
        every = [self.figures("latency", figure, rate=rate, level=level) for figure in PERCENTILES]
        found = {}
        for system, p50 in every[0].items():
            best, worst = min(p50, key=p50.__getitem__), max(p50, key=p50.__getitem__)
            found[system] = ([by[system][best] for by in every], [by[system][worst] for by in every])
        return found

    @property
    def faults(self) -> list[Record]:
        """The measurements that are void, or lost packets in the kernel."""
        return [record for record in self.records if record.wrong or record.figures.get("drops")]


def best_corosync(by_system: dict[str, float], choose: Callable[[Iterable[float]], float]) -> float | None:
    """The best figure of corosync in whatever setting; None if it was not measured."""
    theirs = [value for system, value in by_system.items() if system in COROSYNC + FAST_COROSYNC]
    return choose(theirs) if theirs else None


def size_text(size: int) -> str:
    """A size in bytes, as people write it."""
    for unit, name in ((1 << 20, "MiB"), (1 << 10, "KiB")):
        if size % unit == 0:
            return f"{size // unit} {name}"
    return f"{size} B"


def _commit() -> str:
    git = ["git", "-C", str(ROOT)]
    commit = subprocess.run([*git, "rev-parse", "--short=12", "HEAD"], capture_output=True, text=True, check=False)
    changed = subprocess.run(
        [*git, "status", "--porcelain", "--", "groupcomm", "bench", ":(exclude)bench/results"],
        capture_output=True,
        text=True,
        check=False,
    )
    return (commit.stdout.strip() or "unknown") + ("+" if changed.stdout.strip() else "")


def _machine() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    processor = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), "unknown")
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    system = platform.freedesktop_os_release().get("PRETTY_NAME", "Linux")
    return f"{os.cpu_count()} x {processor}, {memory:.0f} GiB, {system}, Linux {platform.release()}"
