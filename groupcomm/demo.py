"""``python -m groupcomm.demo``: the main job on this machine alone, in a few seconds.

Three daemons, three clients in one group that send at once, one daemon killed, a fourth one joining. What is shown and
compared is what separate client processes printed. Exits with 0 only if it was identical. Everything runs in a private
directory under a cluster name and a port of its own, and is ended and removed whatever happens.
"""

from __future__ import annotations

import json
import os
import random
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, Final, TypeVar

from rich.console import Console
from rich.rule import Rule
from rich.table import Table

from groupcomm.node.keyfile import write_new_key

GROUP: Final = "demo"
COLOURS: Final = {"alice": "cyan", "bob": "magenta", "carol": "green", "dave": "yellow"}

MESSAGES: Final = 8
"""How many each of the first three clients sends."""

STEP_SECONDS: Final = 15.0
"""How long one step may take before the demo gives up."""

END_SECONDS: Final = 2.0
"""How long a process may take to end by itself before it is killed."""

POLL_SECONDS: Final = 0.005
"""How often the clients' logs are looked at."""

_Result = TypeVar("_Result")


class DemoFailed(Exception):
    """The demo did not show what it should; the text says what was missing."""


def main() -> int:
    """Run the demo; the exit status is 0 only if all logs really were identical."""
    console = Console(highlight=False)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt)
    started = time.monotonic()
    directory = Path()
    try:
        with Stage() as stage:
            directory = stage.directory
            try:
                play(stage, console)
            except DemoFailed as failure:
                console.print(f"[bold red]FAILED[/] after {time.monotonic() - started:.1f} s: {failure}")
                stage.show_logs(console)
                return 1
    except KeyboardInterrupt:
        console.print(f"\nInterrupted: everything ended, {directory} removed.")
        return 130
    console.print(
        f"[bold green]Done[/] in {time.monotonic() - started:.1f} s: "
        "what the client processes printed was identical. All processes ended, all files removed."
    )
    return 0


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def play(stage: Stage, console: Console) -> None:
    """The main job, step by step; raises ``DemoFailed`` at the first thing that is not as it should be."""
    console.print(Rule("groupcomm: three daemons, three clients, one order"))
    console.print(f"cluster {stage.cluster}, multicast port {stage.port}, files in {stage.directory}")
    began = time.monotonic()
    nodes = [stage.start_daemon(name) for name in ("n1", "n2", "n3")]
    for node in nodes:
        stage.wait_for(f"daemon {node.name} to listen", node.listening)
    console.print(f"Three daemons listen after {time.monotonic() - began:.1f} s.")

    members = [stage.start_member(name, node, 3) for name, node in zip(("alice", "bob", "carol"), nodes, strict=True)]
    total = 3 * MESSAGES
    for member in members:
        stage.wait_for(f"{member.name} to print {total} messages", member.has_messages(total))
    logs = [member.messages() for member in members]
    console.print(log_table([member.title for member in members], logs))
    if not logs[0] == logs[1] == logs[2]:
        raise DemoFailed("the three logs differ")
    senders = {entry["sender"] for entry in logs[0]}
    if len(logs[0]) != total or len(senders) != 3:
        raise DemoFailed(f"{len(logs[0])} messages of {len(senders)} senders were printed, not {total} of 3")
    console.print(f"[bold green]Identical[/]: {total} messages sent at once by three, in one order at all three.\n")

    victim, rest = members[1], [members[0], members[2]]
    victim.expected_to_end = True
    victim.node.kill()
    killed = time.monotonic()
    console.print(f"Daemon {victim.node.name} is killed (SIGKILL), and with it goes {victim.title}.")
    view = agreed_view(stage, rest, [member.title for member in rest])
    show_view(console, view, time.monotonic() - killed, rest)

    newcomer_node = stage.start_daemon("n4")
    stage.wait_for("daemon n4 to listen", newcomer_node.listening)
    newcomer = stage.start_member("dave", newcomer_node, 3)
    joined = time.monotonic()
    console.print("\nA fourth daemon, n4, joins; a client process is started on it, and joins the group.")
    everyone = [*rest, newcomer]
    view = agreed_view(stage, everyone, [member.title for member in everyone])
    show_view(console, view, time.monotonic() - joined, everyone)
    for member, count in zip(everyone, (total + MESSAGES, total + MESSAGES, MESSAGES), strict=True):
        stage.wait_for(f"{member.name} to print {count} messages", member.has_messages(count))
    if rest[0].since_view_of(3) != rest[1].since_view_of(3):
        raise DemoFailed(f"{rest[0].title} and {rest[1].title} printed different things")
    if newcomer.messages() != rest[0].messages()[total:]:
        raise DemoFailed(f"{newcomer.title} printed other messages than {rest[0].title}")
    console.print(
        f"[bold green]Identical[/]: all that {rest[0].title} and {rest[1].title} printed from their first common view\n"
        f"to here, and what {newcomer.title} printed since it joined.\n"
    )


def agreed_view(stage: Stage, members: Sequence[Member], expected: Sequence[str]) -> Entry:
    """The view of the ``expected`` members, once all of ``members`` have printed it; checks that it is the same."""
    views = []
    for member in members:
        views.append(
            stage.wait_for(f"{member.name} to print a view of {', '.join(expected)}", member.has_view_of(expected))
        )
    if len({(view["id"], tuple(view["members"])) for view in views}) != 1:
        raise DemoFailed("the clients printed different views: " + "; ".join(str(view) for view in views))
    return views[0]


Entry = dict[str, Any]
"""One event as a client process printed it."""


class Stage:
    """The processes and files of one demo: as a context manager it ends and removes them in every case."""

    def __init__(self) -> None:
        self.cluster = f"demo-{os.getpid()}-{secrets.token_hex(3)}"
        self.port = unused_port()
        self._processes: list[Process] = []
        self._cleanup = ExitStack()

    def __enter__(self) -> Stage:
        self.directory = Path(self._cleanup.enter_context(tempfile.TemporaryDirectory(prefix="groupcomm-demo-")))
        self.key = self.directory / "cluster.key"
        write_new_key(self.key)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)  # from here on nothing may keep us from tidying up
        for process in reversed(self._processes):
            process.ask_to_end()
        limit = time.monotonic() + END_SECONDS
        for process in reversed(self._processes):
            process.end(limit)
        self._cleanup.close()

    def start_daemon(self, name: str) -> Daemon:
        """Start ``twistd -n groupcomm`` as node ``name``."""
        return self._started(Daemon(name, self))

    def start_member(self, name: str, node: Daemon, companions: int) -> Member:
        """Start a client process on ``node``, which sends as soon as the group has ``companions`` members."""
        return self._started(Member(name, node, self, companions))

    def _started(self, process: _AnyProcess) -> _AnyProcess:
        self._processes.append(process)
        process.start()
        return process

    def wait_for(self, what: str, condition: Callable[[], _Result | None]) -> _Result:
        """Wait until ``condition`` answers something true, and return it.

        Raises:
            DemoFailed: it took too long, or a process ended that should not have.
        """
        limit = time.monotonic() + STEP_SECONDS
        while True:
            if result := condition():
                return result
            if time.monotonic() > limit:
                raise DemoFailed(f"waited {STEP_SECONDS:.0f} s for {what}")
            for process in self._processes:
                if process.ended_unasked():
                    raise DemoFailed(f"{process.name} ended while waiting for {what}")
            time.sleep(POLL_SECONDS)

    def show_logs(self, console: Console) -> None:
        """The last lines of what each process said, for finding out what went wrong."""
        for process in self._processes:
            for line in process.last_lines():
                console.print(f"{process.name}: {line}", markup=False, soft_wrap=True)


class Process(ABC):
    """One child process, its output in a file. Ended by us, never by the terminal's Ctrl-C."""

    def __init__(self, name: str, stage: Stage) -> None:
        self.name = name
        self.stage = stage
        self.expected_to_end = False
        self.output = stage.directory / f"{name}.out"
        self.errors = stage.directory / f"{name}.err"
        self._child: subprocess.Popen[bytes] | None = None

    @abstractmethod
    def command(self) -> list[str]:
        """What to run."""

    def start(self) -> None:
        """Start it in a session of its own."""
        with self.output.open("wb") as output, self.errors.open("wb") as errors:
            self._child = subprocess.Popen(
                self.command(),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=errors,
                cwd=self.stage.directory,
                start_new_session=True,
            )

    def ended_unasked(self) -> bool:
        """Whether it is gone although it should be there."""
        return self._child is not None and self._child.poll() is not None and not self.expected_to_end

    def kill(self) -> None:
        """End it at once, as a power cut would."""
        self.expected_to_end = True
        if self._child is not None:
            self._child.kill()
            self._child.wait()

    def ask_to_end(self) -> None:
        """Ask it to end."""
        self.expected_to_end = True
        if self._child is not None and self._child.poll() is None:
            self._child.terminate()

    def end(self, limit: float) -> None:
        """Wait for its end until ``limit``, then kill it."""
        if self._child is not None:
            try:
                self._child.wait(max(0.0, limit - time.monotonic()))
            except subprocess.TimeoutExpired:
                self.kill()

    def last_lines(self, count: int = 8) -> list[str]:
        """The end of what it wrote to standard error and standard output."""
        lines: list[str] = []
        for path in (self.output, self.errors):
            if path.exists():
                lines += path.read_text("utf-8", "replace").splitlines()[-count:]
        return lines


_AnyProcess = TypeVar("_AnyProcess", bound=Process)


class Daemon(Process):
    """One ``twistd -n groupcomm`` on the loopback interface."""

    @property
    def socket(self) -> Path:
        """Its control socket."""
        return self.stage.directory / f"{self.name}.sock"

    def command(self) -> list[str]:
        """The daemon, found by multicast alone."""
        return [
            *(twistd(), "--nodaemon", f"--pidfile={self.stage.directory / self.name}.pid", "groupcomm"),
            *("--cluster", self.stage.cluster, "--node", self.name, "--interface", "127.0.0.1"),
            *("--discovery", "multicast", "--multicast", f":{self.stage.port}", "--key", str(self.stage.key)),
            *("--control", f"unix:{self.socket}:mode=600"),
        ]

    def listening(self) -> bool:
        """Whether it takes clients."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            return probe.connect_ex(str(self.socket)) == 0


class Member(Process):
    """One client process: this module run with ``--member``."""

    def __init__(self, name: str, node: Daemon, stage: Stage, companions: int) -> None:
        super().__init__(name, stage)
        self.node = node
        self.title = f"{name}@{node.name}"
        self._companions = companions

    def command(self) -> list[str]:
        """The client."""
        return [
            *(sys.executable, "-m", "groupcomm.demo", "--member", str(self.node.socket), self.name),
            *(str(self._companions), str(MESSAGES)),
        ]

    def printed(self) -> list[Entry]:
        """Every event it has printed, in order."""
        return [json.loads(line) for line in self.output.read_text("utf-8").split("\n")[:-1]]

    def messages(self) -> list[Entry]:
        """The messages it has printed."""
        return [entry for entry in self.printed() if entry["event"] == "message"]

    def has_messages(self, count: int) -> Callable[[], bool]:
        """A condition: it has printed at least ``count`` messages."""
        return lambda: len(self.messages()) >= count

    def has_view_of(self, members: Sequence[str]) -> Callable[[], Entry | None]:
        """A condition: the last view it has printed, if it has these members."""

        def view() -> Entry | None:
            views = [entry for entry in self.printed() if entry["event"] == "view"]
            return views[-1] if views and sorted(views[-1]["members"]) == sorted(members) else None

        return view

    def since_view_of(self, count: int) -> list[Entry]:
        """What it has printed from the first view with ``count`` members on; that view without what was new in it."""
        entries = self.printed()
        sizes = [len(entry.get("members", ())) for entry in entries]
        first = sizes.index(count)
        return [{key: entries[first][key] for key in ("id", "members")}, *entries[first + 1 :]]


def twistd() -> str:
    """The ``twistd`` of this installation."""
    beside = Path(sys.executable).with_name("twistd")
    found = str(beside) if beside.exists() else shutil.which("twistd")
    if found is None:
        raise DemoFailed("there is no twistd beside this Python: install the package first")
    return found


def unused_port() -> int:
    """A UDP port that nobody on this machine has, so that two demos do not meet."""
    while True:
        port = 20_000 + secrets.randbelow(12_000)  # below what the system gives to sockets that ask for any
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe, suppress(OSError):
            probe.bind(("", port))
            return port


def log_table(titles: Sequence[str], logs: Sequence[Sequence[Entry]]) -> Table:
    """The logs side by side, a row for each place in the order."""
    table = Table(title="What each client process printed", title_justify="left")
    table.add_column("", justify="right", style="dim")
    for title in titles:
        table.add_column(title, min_width=18)
    for number in range(max(map(len, logs), default=0)):
        row = [coloured(log[number]) if number < len(log) else "-" for log in logs]
        table.add_row(str(number + 1), *row)
    return table


def coloured(entry: Entry) -> str:
    """One message, in its sender's colour."""
    return f"[{COLOURS[entry['sender'].partition('@')[0]]}]{entry['data']}[/]"


def show_view(console: Console, view: Entry, seconds: float, members: Sequence[Member]) -> None:
    """Say which view it is, who is in it, and who printed it when."""
    who = ", ".join(view["members"])
    console.print(f"New view after {seconds * 1000:.0f} ms, the same at {len(members)} clients:")
    console.print(f"  id       {view['id']}\n  members  [bold]{who}[/]")
    for gone in view["left"]:
        console.print(f"  left     {gone['member']} ({gone['reason']})")
    for member in view["joined"]:
        console.print(f"  joined   {member}")


# --- what each client process runs ------------------------------------------------------------------------------------


async def member_program(reactor: Any, control: str, name: str, companions: int, messages: int) -> None:
    """Join, print every event, and send ``messages`` at once as soon as the group has ``companions`` members."""
    from twisted.internet.defer import Deferred
    from twisted.internet.task import deferLater

    from groupcomm.cli.rendering import event_as_json
    from groupcomm.cli.running import write_line
    from groupcomm.client import connect
    from groupcomm.events import Level, View

    async def talk() -> None:
        for number in range(1, messages + 1):
            await group.send(f"{name} says {number}".encode(), level=Level.AGREED)
            await deferLater(reactor, random.uniform(0, 0.01))

    connection = await connect(reactor, f"unix:{control}", name=name)
    group = await connection.join(GROUP)
    sending = None
    async for event in group:
        write_line(event_as_json(event))
        if sending is None and isinstance(event, View) and len(event.members) == companions:
            sending = Deferred.fromCoroutine(talk())


def member_main(control: str, name: str, companions: str, messages: str) -> int:
    """Run the client program until it is told to end."""
    from groupcomm.cli.main import run

    return run(lambda reactor: member_program(reactor, control, name, int(companions), int(messages)))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--member"]:
        sys.exit(member_main(*sys.argv[2:]))
    sys.exit(main())
