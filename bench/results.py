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

from attrs import asdict, frozen

from bench.lab import ROOT
from bench.measure import Record
from bench.parts import COROSYNC, FAST_COROSYNC

Case = tuple[tuple[str, Any], ...]


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

    @property
    def faults(self) -> list[Record]:
        """The measurements that are void, or lost packets in the kernel."""
        return [record for record in self.records if record.wrong or record.figures.get("drops")]


def best_corosync(by_system: dict[str, float], choose: Callable[[Iterable[float]], float]) -> float | None:
    """The best figure of corosync in whatever setting; None if it was not measured."""
    theirs = [value for system, value in by_system.items() if system in COROSYNC + FAST_COROSYNC]
    return choose(theirs) if theirs else None


def _commit() -> str:
    git = ["git", "-C", str(ROOT)]
    commit = subprocess.run([*git, "rev-parse", "--short=12", "HEAD"], capture_output=True, text=True, check=False)
    changed = subprocess.run(
        [*git, "status", "--porcelain", "--", "groupcomm", "bench"], capture_output=True, text=True, check=False
    )
    return (commit.stdout.strip() or "unknown") + ("+" if changed.stdout.strip() else "")


def _machine() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    processor = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), "unknown")
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    system = platform.freedesktop_os_release().get("PRETTY_NAME", "Linux")
    return f"{os.cpu_count()} x {processor}, {memory:.0f} GiB, {system}, Linux {platform.release()}"
