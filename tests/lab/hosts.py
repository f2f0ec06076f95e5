"""The hosts of a lab, up and down: what the lab tests and the benchmark have in common.

Hosts are network namespaces that ``tests/lab/lab`` makes, under a prefix of their own, which ``LAB_PREFIX`` begins.
Whatever happens while they are up, at the end every process on them is ended, by its number, and every host is removed.
"""

from __future__ import annotations

import os
import random
import shutil
import string
import subprocess
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from itertools import product
from pathlib import Path
from types import TracebackType
from typing import ClassVar, Final, Generic, Protocol, Self, TypeVar

from groupcomm.node.keyfile import write_new_key

SCRIPT: Final = Path(__file__).with_name("lab")
END_SECONDS: Final = 5.0


def free_prefix(begin: str) -> str:
    """Three letters that begin so and name no hosts that are up."""
    every = [begin + "".join(rest) for rest in product(string.ascii_lowercase, repeat=3 - len(begin))]
    return random.choice([prefix for prefix in every if not Path(f"/run/lab-{prefix}.mtu").exists()] or every)


class HostProcess(Protocol):
    """What runs on a host, and is ended with it."""

    def ask_to_end(self) -> None:
        """SIGTERM."""

    def end(self, limit: float) -> None:
        """Wait until ``limit`` (monotonic) for its end, then kill it."""


def end_all(processes: Sequence[HostProcess]) -> None:
    """End them, the first first; together they have ``END_SECONDS``."""
    for process in processes:
        process.ask_to_end()
    limit = time.monotonic() + END_SECONDS
    for process in processes:
        process.end(limit)


_Process = TypeVar("_Process", bound=HostProcess)


class Hosts(Generic[_Process]):
    """Hosts 1 to ``size``. A context manager; leaving it leaves no host, process or file behind.

    Attributes:
        fault: the class of what is raised when the lab script fails.
        key: the key of the cluster that runs on them.
        purpose: what the hosts are for: its first letter begins their prefix unless ``LAB_PREFIX`` does, all of it the
            name of the directory.
    """

    fault: ClassVar[type[Exception]]
    purpose: ClassVar[str]

    def __init__(self, size: int, *, ipv6_only: bool = False, mtu: int = 1500) -> None:
        self.size = size
        self.prefix = free_prefix(os.environ.get("LAB_PREFIX") or self.purpose[0])
        self.ipv6_only = ipv6_only
        self.mtu = mtu
        self.processes: list[_Process] = []

    def __enter__(self) -> Self:
        self.directory = Path(tempfile.mkdtemp(prefix=f"groupcomm-{self.purpose}-{self.prefix}-"))
        self.key = self.directory / "cluster.key"
        write_new_key(self.key)
        try:
            self.run("up", str(self.size), str(self.mtu), *(("--ipv6-only",) if self.ipv6_only else ()))
        except BaseException:
            self._remove()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            self.end_processes()
        finally:
            self._remove()

    def end_processes(self) -> None:
        """End every process that was started, the last first."""
        processes, self.processes = self.processes[::-1], []
        end_all(processes)

    def run(self, *arguments: str) -> str:
        """One command of the lab script; its output."""
        done = subprocess.run(
            [str(SCRIPT), *arguments],
            env={**os.environ, "LAB_PREFIX": self.prefix},
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise self.fault(f"lab {' '.join(arguments)}: {done.stderr.strip() or done.stdout.strip()}")
        return done.stdout

    def loss(self, percent: float, hosts: Sequence[int] | None = None) -> None:
        """Drop that share of the packets each host receives; count on it only with segmentation offload off."""
        for host in hosts or range(1, self.size + 1):
            self.run("loss", str(host), f"{percent:g}")

    def second_network(self) -> None:
        """Give every host a second link, ``eth1``, on a network of its own."""
        self.run("second", str(self.size))

    def link(self, host: int, device: str, state: str) -> None:
        """Raise (``up``) or lower (``down``) a link of a host."""
        self.run("link", str(host), device, state)

    def on(self, host: int, *command: str) -> list[str]:
        """The command line that runs ``command`` on ``host``, without a process in between."""
        return ["ip", "netns", "exec", f"{self.prefix}{host}", *command]

    def _remove(self) -> None:
        with suppress(self.fault):
            self.run("down")
        shutil.rmtree(self.directory, ignore_errors=True)
