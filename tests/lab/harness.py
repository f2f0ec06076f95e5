"""Real hosts, real daemons, real clients for the lab tests: started, asked, and always ended.

A ``Lab`` is some hosts on one machine (see ``tests/lab/lab``) under a prefix of its own. On its hosts run daemons
(``twistd -n groupcomm``) and members (``tests/lab/member.py``), each writing to files in the lab's temporary
directory. Whatever a test does, the end of its ``Lab`` ends every process it started, by its number, and removes every
host.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Final, TypeVar

from twisted.trial.unittest import SkipTest

from tests.lab import verdict
from tests.lab.hosts import END_SECONDS, Hosts

TOOLS: Final = ("ip", "nft", "tc", "ethtool")
TRACE_BYTES: Final = 16 * 1024 * 1024
"""How much of one daemon's run is judged unless told: the oracle takes its time for more."""
POLL_SECONDS: Final = 0.01

VIEW_LOGGED: Final = re.compile(r"\] view (\S+): (.*); left: ")
"""What a daemon logs of a view: its id, its nodes."""

LONG: Final = os.environ.get("LAB_LONG") == "1"
"""Whether tests take the time that their situations are meant to last: ``make lab-long``."""

_Result = TypeVar("_Result")
Json = dict[str, Any]


class LabError(AssertionError):
    """The lab, or what runs in it, did not do what the test needs."""


def require_lab() -> None:
    """Skip the test, with the reason, where there can be no lab.

    A shell that starts the tests in the background lets them ignore Ctrl-C; what they start must not inherit that.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if os.geteuid() != 0:
        raise SkipTest("the lab needs root (network namespaces)")
    missing = [tool for tool in TOOLS if shutil.which(tool) is None]
    if missing:
        raise SkipTest(f"the lab needs {', '.join(missing)}: apt-get install iproute2 nftables ethtool")


def long_seconds(short: float, long: float) -> float:
    """How long a situation is kept up: ``short`` in continuous integration, ``long`` in ``make lab-long``."""
    return long if LONG else short


def measured(what: str, value: float, unit: str, bound: float | None = None) -> None:
    """Print one measurement; a bound is shown beside it and is not a verdict."""
    aim = "" if bound is None else f" (aim: {bound:g} {unit})"
    shown = f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
    print(f"\nmeasured: {what}: {shown} {unit}{aim}", flush=True)


def wait_until(
    condition: Callable[[], _Result | None], seconds: float, what: str, *, every: float = POLL_SECONDS
) -> _Result:
    """Wait for ``condition`` to answer something true, and return it.

    Raises:
        LabError: it did not within ``seconds``.
    """
    limit = time.monotonic() + seconds
    while True:
        if result := condition():
            return result
        if time.monotonic() > limit:
            raise LabError(f"waited {seconds:g} s for {what}")
        time.sleep(every)


class Lab(Hosts["Process"]):
    """Hosts 1 to ``size`` and all that was started on them. A context manager; leaving it leaves nothing behind."""

    fault = LabError
    purpose = "lab"

    def __init__(
        self,
        size: int,
        *,
        trace_bytes: int = TRACE_BYTES,
        sealed: bool = True,
        ipv6_only: bool = False,
        mtu: int = 1500,
    ) -> None:
        require_lab()
        super().__init__(size, ipv6_only=ipv6_only, mtu=mtu)
        self.sealed = sealed
        self.trace_bytes = trace_bytes
        self.cluster = f"lab-{self.prefix}-{os.getpid()}"
        self._judged = False

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            if error is not None:
                self._report()
            elif not self._judged:
                self.judge()
        finally:
            super().__exit__(kind, error, traceback)

    def _report(self) -> None:
        for process in self.processes:
            for line in process.last_errors():
                print(f"{process.name}: {line}")
        print(self._verdict().wrong or "the oracle finds nothing wrong")

    # The verdict.

    def judge(self, *needed: str) -> dict[str, int]:
        """Hold all that the daemons have recorded, and their members heard, to every property; with the lab's end.

        Args:
            needed: properties that must have had something to hold for.

        Returns:
            For each property how often it had.

        Raises:
            LabError: one is broken, or was not put to the test.
        """
        self._judged = True
        began = time.process_time()
        found = self._verdict()
        if found.wrong:
            raise LabError(found.wrong)
        if idle := [name for name in needed if not found.premises.get(name)]:
            raise LabError(f"nothing put these to the test: {', '.join(idle)}")
        measured("the oracle, over all that was recorded", time.process_time() - began, "s")
        return found.premises

    def _verdict(self) -> verdict.Verdict:
        daemons = [process for process in self.processes if isinstance(process, Daemon)]
        members = [process for process in self.processes if isinstance(process, Member)]
        return verdict.examine(daemons, members)

    # The lab script.

    def loss(self, percent: float, hosts: Sequence[int] | None = None) -> None:
        """Drop that share of the packets each host receives; segmentation offload off, so that each packet counts."""
        if percent:
            self.run("offload", "off")
        super().loss(percent, hosts)

    def split(self, *parts: Sequence[int]) -> None:
        """Partition the hosts."""
        self.run("split", *(" ".join(map(str, part)) for part in parts))

    def heal(self) -> None:
        """End every partition."""
        self.run("heal")

    # What runs in it.

    def daemon(self, host: int, name: str | None = None, *options: str) -> Daemon:
        """Start a daemon on ``host``; it is not listening yet."""
        return self.started(Daemon(self, host, name or f"n{host}", options))

    def daemons(self, hosts: Sequence[int], *options: str) -> list[Daemon]:
        """Start one daemon on each host and wait until all are in one view."""
        started = [self.daemon(host, None, *options) for host in hosts]
        self.wait_for_view(started)
        return started

    def member(self, daemon: Daemon, name: str, *groups: str, **settings: Any) -> Member:
        """Start a client process of ``daemon``, on its host."""
        return self.started(Member(self, daemon, name, groups, settings))

    def started(self, process: _AnyProcess) -> _AnyProcess:
        """Start a process that is then the lab's to end."""
        self.processes.append(process)
        process.start()
        return process

    def wait_for_view(self, daemons: Sequence[Daemon], seconds: float = 30.0) -> str:
        """Wait until these daemons, and only they, are in one view, as their logs say; its id."""
        names = sorted(daemon.node for daemon in daemons)

        def agreed() -> str | None:
            views = {daemon.last_view() for daemon in daemons}
            view = views.pop()
            return view[0] if not views and view is not None and sorted(view[1]) == names else None

        return wait_until(agreed, seconds, f"one view of {', '.join(names)}", every=0.02)


def settle(members: Sequence[Member], quiet_seconds: float = 0.7, limit_seconds: float = 60.0) -> None:
    """Wait until nothing more has arrived at any of them for a while."""
    counts: list[int] = []
    since = began = time.monotonic()
    while time.monotonic() - since < quiet_seconds:
        now = [len(member.entries()) for member in members]
        if now != counts:
            counts, since = now, time.monotonic()
        if time.monotonic() - began > limit_seconds:
            raise LabError(f"still events after {limit_seconds:g} s without sends")
        time.sleep(0.05)


class Process(ABC):
    """One process on a host: output and errors in files, commands by its standard input."""

    def __init__(self, lab: Lab, host: int, name: str) -> None:
        self.lab = lab
        self.host = host
        self.name = name
        self.output = lab.directory / f"{name}.out"
        self.errors = lab.directory / f"{name}.err"
        self.child: subprocess.Popen[bytes] | None = None

    @abstractmethod
    def command(self) -> list[str]:
        """What to run on the host."""

    def environment(self) -> dict[str, str]:
        """The environment to run it in."""
        root = Path(__file__).parents[2]
        kept = {name: value for name, value in os.environ.items() if not name.startswith("GROUPCOMM_")}
        kept.pop("RUNTIME_DIRECTORY", None)
        return {**kept, "PYTHONPATH": str(root), "PYTHONUNBUFFERED": "1", "TMPDIR": str(self.lab.directory)}

    def start(self) -> None:
        """Start it."""
        with self.output.open("ab") as output, self.errors.open("ab") as errors:
            self.child = subprocess.Popen(
                self.lab.on(self.host, *self.command()),
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=errors,
                cwd=self.lab.directory,
                env=self.environment(),
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """Its process number."""
        assert self.child is not None
        return self.child.pid

    @property
    def running(self) -> bool:
        """Whether it has not ended yet."""
        return self.child is not None and self.child.poll() is None

    def send_signal(self, number: signal.Signals) -> None:
        """Send it a signal, if it is there."""
        if self.running:
            os.kill(self.pid, number)

    def kill(self) -> float:
        """End it at once (SIGKILL); returns when, in monotonic seconds."""
        assert self.child is not None
        self.child.kill()
        killed = time.monotonic()
        self.child.wait()
        return killed

    def ask_to_end(self) -> None:
        """SIGTERM (and SIGCONT, should it be stopped)."""
        self.send_signal(signal.SIGTERM)
        self.send_signal(signal.SIGCONT)

    def end(self, limit: float) -> None:
        """Wait until ``limit`` for its end, then kill it."""
        if self.child is None:
            return
        try:
            self.child.wait(max(0.0, limit - time.monotonic()))
        except subprocess.TimeoutExpired:
            self.kill()
        if self.child.stdin is not None:
            with suppress(OSError):
                self.child.stdin.close()

    def stop(self) -> int:
        """End it with SIGTERM; its exit status."""
        self.ask_to_end()
        self.end(time.monotonic() + 10 * END_SECONDS)
        assert self.child is not None
        return self.child.returncode

    def tell(self, command: Json) -> None:
        """Write one command to its standard input."""
        assert self.child is not None and self.child.stdin is not None
        self.child.stdin.write(json.dumps(command).encode() + b"\n")
        self.child.stdin.flush()

    def last_errors(self, count: int = 15) -> list[str]:
        """The end of what it wrote to standard error."""
        return self.errors.read_text("utf-8", "replace").splitlines()[-count:] if self.errors.exists() else []


_AnyProcess = TypeVar("_AnyProcess", bound=Process)


class Daemon(Process):
    """``twistd -n groupcomm`` on a host, with a monitor: a client of it that is asked for its status."""

    def __init__(self, lab: Lab, host: int, node: str, options: Sequence[str], *, configured: bool = True) -> None:
        self._run = 1 + sum(process.name.startswith(f"daemon-{node}-") for process in lab.processes)
        super().__init__(lab, host, f"daemon-{node}-{self._run}")
        self.node = node
        self.trace = lab.directory / f"{self.name}.trace"
        self.killed = False
        self.apart = False
        self.runtime = lab.directory / f"run-{node}"
        self._options = list(options)
        self._configured = configured
        self.socket = self.runtime / ("control.sock" if configured else f"groupcomm/default-{node}.sock")
        self._monitor: Member | None = None

    def command(self) -> list[str]:
        """The daemon as its users start it; without configuration all it has is the name of its host."""
        twistd = [str(Path(sys.executable).with_name("twistd")), "-n", f"--pidfile={self.runtime}/{self.name}.pid"]
        if not self._configured:
            return ["unshare", "--uts", "sh", "-c", f'hostname {self.node} && exec "$@"', "sh", *twistd, "groupcomm"]
        return [
            *(*twistd, "groupcomm", "--cluster", self.lab.cluster, "--node", self.node),
            *("--control", f"unix:{self.socket}:mode=600", *self._options),
        ]

    def environment(self) -> dict[str, str]:
        """With a run directory of its own, and a trace."""
        own = {
            "XDG_RUNTIME_DIR": str(self.runtime),
            "HOME": str(self.runtime),
            **({"GROUPCOMM_KEY": str(self.lab.key)} if self.lab.sealed else {"GROUPCOMM_INSECURE": "yes"}),
            "GROUPCOMM_TRACE": str(self.trace),
            "GROUPCOMM_TRACE_LIMIT": str(self.lab.trace_bytes),
        }
        return {**super().environment(), **own}

    def start(self) -> None:
        """Start it."""
        self.runtime.mkdir(mode=0o700, exist_ok=True)
        super().start()

    def kill(self) -> float:
        """End it at once, and then its monitor, which has nobody left to ask."""
        killed = super().kill()
        self.killed = True
        if self._monitor is not None:
            self._monitor.ask_to_end()
        return killed

    def log(self) -> str:
        """Everything it has logged."""
        return self.output.read_text("utf-8", "replace") + self.errors.read_text("utf-8", "replace")

    def last_errors(self, count: int = 15) -> list[str]:
        """The end of its log."""
        return self.log().splitlines()[-count:]

    @property
    def monitor(self) -> Member:
        """The client that is asked for the daemon's status, started when first needed."""
        if self._monitor is None:
            self._monitor = self.lab.member(self, f"monitor-{self.node}-{self._run}")
        return self._monitor

    def status(self, seconds: float = 30.0) -> Json:
        """Its status, as soon as it gives one."""
        return wait_until(self.monitor.status, seconds, f"the status of {self.name}")

    def counter(self, name: str) -> int:
        """One of its counters now."""
        return int(self.status()["counters"].get(name, 0))

    def is_listening(self) -> bool:
        """Whether it has said that it listens."""
        return " listening on " in self.log()

    def last_view(self) -> tuple[str, tuple[str, ...]] | None:
        """The id and the nodes of the last view it has logged."""
        views = VIEW_LOGGED.findall(self.log())
        return (views[-1][0], tuple(views[-1][1].split(", "))) if views else None

    def resident_bytes(self) -> int:
        """Its resident memory now."""
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * 1024
        raise LabError(f"{self.name} has no resident memory: it has ended")


class Member(Process):
    """A client process on the host of its daemon: ``tests/lab/member.py``."""

    def __init__(self, lab: Lab, daemon: Daemon, name: str, groups: Sequence[str], settings: Json) -> None:
        super().__init__(lab, daemon.host, f"member-{name}")
        self.client = name
        self.daemon = daemon
        self._settings = {"control": str(daemon.socket), "name": name, "groups": list(groups), **settings}
        self._asked = 0
        self._offset = 0
        self._partial = b""
        self._entries: list[Json] = []
        self._by_kind: dict[str, list[Json]] = defaultdict(list)

    @property
    def title(self) -> str:
        """As the others see it."""
        return f"{self.client}@{self.daemon.node}"

    def command(self) -> list[str]:
        """The client program."""
        return [sys.executable, "-m", "tests.lab.member", json.dumps(self._settings)]

    def entries(self) -> list[Json]:
        """Everything it has logged so far."""
        with self.output.open("rb") as log:
            log.seek(self._offset)
            data = log.read()
        self._offset += len(data)
        *lines, self._partial = (self._partial + data).split(b"\n")
        for line in lines:
            entry = json.loads(line)
            self._entries.append(entry)
            self._by_kind[entry["e"]].append(entry)
        return self._entries

    def received(self) -> int:
        """How many messages a quiet member has counted, in thousands rounded down."""
        return max((int(entry["n"]) for entry in self.of_kind("count")), default=0)

    def reliable(self, kind: str) -> list[Json]:
        """Its entries of the kind ``m`` or ``send`` at a level that is never lost."""
        return [entry for entry in self.of_kind(kind) if entry["l"] != "UNRELIABLE"]

    @property
    def quiet(self) -> bool:
        """Whether it only counts messages."""
        return bool(self._settings.get("quiet"))

    @property
    def daemon_trace(self) -> Path:
        """What its daemon has recorded."""
        return self.daemon.trace

    def of_kind(self, kind: str) -> list[Json]:
        """Its entries of one kind so far."""
        self.entries()
        return self._by_kind[kind]

    def wait_for(self, kind: str, seconds: float, *, count: int = 1) -> Json:
        """Wait for its ``count``-th entry of a kind."""

        def found() -> Json | None:
            entries = self.of_kind(kind)
            if len(entries) >= count:
                return entries[count - 1]
            if not self.running:
                raise LabError(f"{self.name} ended (status {self.child.returncode if self.child else None})")
            return None

        return wait_until(found, seconds, f"{self.name} to log {kind!r}")

    def wait_for_view(self, members: Sequence[str], seconds: float, *, group: str = "lab") -> Json:
        """Wait until the last view it has logged of the group has exactly these members."""

        def found() -> Json | None:
            views = [entry for entry in self.of_kind("view") if entry["group"] == group]
            return views[-1] if views and sorted(views[-1]["members"]) == sorted(members) else None

        return wait_until(found, seconds, f"{self.name} to see the view of {', '.join(members)}")

    def status(self) -> Json | None:
        """Its daemon's status now; None if there is no daemon to tell it."""
        if not self.running:
            return None
        self._asked += 1
        try:
            self.tell({"do": "status", "number": self._asked})
        except BrokenPipeError:
            return None
        limit = time.monotonic() + 5.0
        while time.monotonic() < limit and self.running:
            for entry in reversed(self.of_kind("status")):
                if entry["number"] == self._asked:
                    return None if entry["status"] is None else dict(entry["status"])
            time.sleep(0.002)
        return None
