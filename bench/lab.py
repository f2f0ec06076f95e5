"""The hosts of the benchmark, and every process on them: started, talked to, and always ended.

The hosts are those of the lab tests (``tests/lab/lab``) under a prefix of their own.
"""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from tests.lab.hosts import Hosts

ROOT: Final = Path(__file__).parents[1]

Json = dict[str, Any]


class BenchError(Exception):
    """Something that is measured, or measures, did not do what it should."""


class Lab(Hosts["Process"]):
    """Hosts 1 to ``size``. A context manager: after it no host, process or file is left."""

    fault = BenchError
    purpose = "bench"

    def __init__(self, size: int) -> None:
        super().__init__(size)
        self.hosts = range(1, size + 1)

    def drops(self) -> int:
        """Packets the kernel had no room for since the lab is up."""
        return int(self.run("drops"))

    def socket_drops(self) -> int:
        """Datagrams that the hosts' UDP sockets had no room for since the lab is up; a protocol repairs them."""
        return sum({process.host: process.socket_drops() for process in self.processes if process.running}.values())

    def packets_sent(self) -> int:
        """Packets that the hosts have put on their links since the lab is up."""
        return sum({process.host: process.packets_sent() for process in self.processes if process.running}.values())

    def cpu_seconds(self) -> float:
        """What all running processes have used of the processors."""
        return sum(process.cpu_seconds() for process in self.processes if process.running)

    def offload(self, *, on: bool) -> None:
        """Let the links pass segmentation-offloaded bursts whole, or have them cut."""
        self.run("offload", "on" if on else "off")

    def rate(self, host: int, rate: str, direction: str) -> None:
        """Limit what a host sends (``out``) or receives (``in``), as tc writes it; ``0``: do not."""
        self.run("rate", str(host), rate, direction)

    def address(self, host: int) -> str:
        """A host's IPv4 address."""
        return f"10.77.{host // 250}.{host % 250}"

    def start(
        self, host: int, name: str, command: Sequence[str], environment: Mapping[str, str] | None = None
    ) -> Process:
        """Start a process on a host."""
        process = Process(self, host, name, command, environment or {})
        self.processes.append(process)
        return process


class Process:
    """A process on a host. What it writes to standard output are answers in JSON, one a line; errors go to a file."""

    def __init__(self, lab: Lab, host: int, name: str, command: Sequence[str], environment: Mapping[str, str]) -> None:
        self.host = host
        self.name = name
        self._errors = lab.directory / f"{name}.err"
        self._answers: deque[Json] = deque()
        self._partial = b""
        kept = {key: value for key, value in os.environ.items() if not key.startswith("GROUPCOMM_")}
        with self._errors.open("wb") as errors:
            self.child = subprocess.Popen(
                # Should the benchmark be killed, its processes end with it.
                ["setpriv", "--pdeathsig", "TERM", *lab.on(host, *command)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                cwd=lab.directory,
                env={**kept, "PYTHONPATH": str(ROOT), "TMPDIR": str(lab.directory), **environment},
                start_new_session=True,
            )

    @property
    def running(self) -> bool:
        """Whether it has not ended."""
        return self.child.poll() is None

    def tell(self, *words: object) -> None:
        """Write one command to its standard input."""
        assert self.child.stdin is not None
        try:
            self.child.stdin.write(" ".join(map(str, words)).encode() + b"\n")
            self.child.stdin.flush()
        except BrokenPipeError:
            raise self._gone() from None

    def answer(self, seconds: float, wanted: Callable[[Json], bool]) -> Json:
        """The next answer that is wanted; those before it are dropped.

        Raises:
            BenchError: none came in time, or the process has ended or failed.
        """
        limit = time.monotonic() + seconds
        while True:
            while self._answers:
                answer = self._answers.popleft()
                if answer["e"] == "failed":
                    raise BenchError(f"{self.name}: {answer['why']}")
                if wanted(answer):
                    return answer
            self._read(limit, seconds)

    def log(self) -> str:
        """What it wrote to standard error."""
        return self._errors.read_text("utf-8", "replace")

    def cpu_seconds(self) -> float:
        """What it has used of the processors, all threads, in user space and in the kernel."""
        fields = self._proc("stat").rpartition(") ")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def memory_bytes(self) -> int:
        """What it has of the machine's memory."""
        return int(self._proc("statm").split()[1]) * os.sysconf("SC_PAGE_SIZE")

    def socket_drops(self) -> int:
        """Datagrams that the UDP sockets of its host had no room for."""
        names, values = (line.split() for line in self._proc("net/snmp").splitlines() if line.startswith("Udp:"))
        return int(values[names.index("RcvbufErrors")])

    def packets_sent(self) -> int:
        """Packets its host has put on its link."""
        line = next(line for line in self._proc("net/dev").splitlines() if line.strip().startswith("eth0:"))
        return int(line.split(":")[1].split()[9])

    def kill(self) -> int:
        """End it at once (SIGKILL); when, in monotonic nanoseconds."""
        killed = time.monotonic_ns()
        self.child.kill()
        self.child.wait()
        return killed

    def ask_to_end(self) -> None:
        """SIGTERM."""
        if self.running:
            self.child.send_signal(signal.SIGTERM)

    def end(self, limit: float) -> None:
        """Wait until ``limit`` for its end, then kill it."""
        try:
            self.child.wait(max(0.0, limit - time.monotonic()))
        except subprocess.TimeoutExpired:
            self.kill()
        for pipe in (self.child.stdin, self.child.stdout):
            if pipe is not None:
                with suppress(OSError):
                    pipe.close()

    def _proc(self, name: str) -> str:
        return Path(f"/proc/{self.child.pid}/{name}").read_text()

    def _read(self, limit: float, seconds: float) -> None:
        assert self.child.stdout is not None
        fd = self.child.stdout.fileno()
        if not select.select([fd], [], [], max(0.0, limit - time.monotonic()))[0]:
            raise BenchError(f"{self.name}: no answer within {seconds:g} s")
        data = os.read(fd, 1 << 20)
        if not data:
            raise self._gone()
        *lines, self._partial = (self._partial + data).split(b"\n")
        self._answers.extend(json.loads(line) for line in lines if line.startswith(b"{"))

    def _gone(self) -> BenchError:
        last = "\n".join(self.log().splitlines()[-15:])
        return BenchError(f"{self.name} has ended:\n{last}")
