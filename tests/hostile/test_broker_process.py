"""A real daemon behind a real socket: whatever its clients do, it serves the others, within the memory it said."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from groupcomm.daemon import caps
from groupcomm.daemon.encoding import encode_head
from groupcomm.daemon.worst_case import PROCESS_BYTES, Sizing, holdings, total_bytes
from groupcomm.limits import MIN_BUDGET_BYTES
from groupcomm.node.keyfile import write_new_key
from tests.daemon.raw_calls import HELLO, call, recorder

CLIENTS = 16
STRANGERS = 200
SIZING = Sizing(nodes=1, clients=CLIENTS, budget_bytes=MIN_BUDGET_BYTES)
START_SECONDS = 60.0
PATIENCE_SECONDS = 60.0
LARGE = caps.MAX_CALL_BYTES - 2 * caps.MAX_LOGIN_CALL_BYTES


class Intruder:
    """A connection to the daemon's control socket."""

    def __init__(self, path: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.connect(str(path))
        self._socket.settimeout(PATIENCE_SECONDS)
        self._parser = recorder()
        self._seen = 1  # the dialects it offers
        self._socket.sendall(HELLO)

    def ask(self, data: bytes) -> list[Any]:
        """Send a call and wait for what comes of it."""
        self._socket.sendall(data)
        while True:
            fresh, self._seen = self._parser.expressions[self._seen :], max(self._seen, len(self._parser.expressions))
            for each in fresh:
                if isinstance(each, list) and each[0] in (b"answer", b"error"):
                    return each
            self._parser.dataReceived(self._socket.recv(65536))

    def log_in(self, name: bytes) -> int:
        """Log in; the number of the avatar."""
        _, _, (_, _, (_, challenger)) = self.ask(call(b"login", name))
        _, _, (_, avatar) = self.ask(call(b"respond", b"", [b"remote", 1], target=challenger, request=2))
        return int(avatar)

    def pour(self, data: bytes) -> int:
        """Send as much of it as the daemon takes without a pause; how much that was."""
        self._socket.settimeout(0.2)
        sent = 0
        try:
            while sent < len(data):
                sent += self._socket.send(data[sent : sent + 65536])
        except OSError:  # no room, or cut
            pass
        return sent

    def close(self) -> None:
        """Go."""
        self._socket.close()


class ProcessTests(SynchronousTestCase):
    """One daemon, all attacks one after the other, and a group that works all the while."""

    def setUp(self) -> None:
        made = tempfile.TemporaryDirectory(prefix="gc")
        self.addCleanup(made.cleanup)
        self.directory = Path(made.name)
        self.control = self.directory / "d.sock"
        key = self.directory / "key"
        write_new_key(key)
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("GROUPCOMM_")},
            "RUNTIME_DIRECTORY": made.name,
            "PYTHONPATH": os.pathsep.join(sys.path),
        }
        program = [
            sys.executable,
            "-c",
            "from twisted.scripts.twistd import run; run()",
            "-n",
            "--pidfile=",
            "groupcomm",
        ]
        options = ["--cluster", self.directory.name, "--node", "a", "--key", str(key), "--interface", "127.0.0.1"]
        options += ["--discovery", "zeroconf", "--control", f"unix:{self.control}"]
        options += ["--multicast", f"239.192.71.68:{free_port()}"]
        options += ["--max-clients", str(CLIENTS), "--budget", str(MIN_BUDGET_BYTES)]
        self.log = self.directory / "log"
        with open(self.log, "wb") as log:
            self.daemon = subprocess.Popen(
                [*program, *options],
                cwd=self.directory,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        self.addCleanup(self.end)
        self.intruders: list[Intruder] = []
        deadline = time.monotonic() + START_SECONDS
        while not self.control.exists() or self.command("status", "--json").returncode:
            self.assertIsNone(self.daemon.poll(), self.log.read_text())
            self.assertLess(time.monotonic(), deadline)
            time.sleep(0.1)

    def end(self) -> None:
        """Whatever happens, nothing is left."""
        for intruder in self.intruders:
            intruder.close()
        self.daemon.kill()
        self.daemon.wait()

    def command(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """The ``groupcomm`` command, to its end."""
        return subprocess.run(
            self.command_line(*arguments),
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=PATIENCE_SECONDS,
            check=False,
        )

    def command_line(self, *arguments: str) -> list[str]:
        """What is run for it."""
        start = "from groupcomm.cli.main import main; main()"
        return [sys.executable, "-c", start, "--control", str(self.control), *arguments]

    def memory(self, kind: str = "VmRSS") -> int:
        """The daemon's resident memory, in bytes: now, or ``VmHWM``, at its most."""
        for line in Path(f"/proc/{self.daemon.pid}/status").read_text().splitlines():
            if line.startswith(f"{kind}:"):
                return int(line.split()[1]) * 1024
        raise AssertionError("the daemon has ended: " + self.log.read_text())

    def intruder(self) -> Intruder:
        """One more connection."""
        self.intruders.append(Intruder(self.control))
        return self.intruders[-1]

    def dismiss(self) -> None:
        """All of them go, and the daemon has noticed."""
        while self.intruders:
            self.intruders.pop().close()
        deadline = time.monotonic() + PATIENCE_SECONDS
        while json.loads(self.when_let_in("status", "--json"))["clients"] > 1:
            self.assertLess(time.monotonic(), deadline)

    def assert_group_goes_on(self) -> None:
        """A member gets what somebody else sends."""
        listener = subprocess.Popen(
            self.command_line("listen", "tea", "--count", "1", "--json"),
            env=self.environment,
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            assert listener.stdout is not None
            self.assertIn('"view"', listener.stdout.readline())
            sent = self.command("send", "tea", "still here")
            self.assertEqual(sent.returncode, 0, sent.stderr)
            self.assertIn("still here", listener.communicate(timeout=PATIENCE_SECONDS)[0])
        finally:
            listener.kill()
            listener.wait()

    def row(self, what: str) -> int:
        """What one of these holds at the worst, by the table of limits."""
        (found,) = (holding for holding in holdings(SIZING) if holding.what.startswith(what))
        return found.each_bytes

    def test_within_the_limits(self) -> None:
        """Strangers, bombs, calls never whole, answers never read: each stays within its row, all within the total."""
        self.assertLess(self.memory(), PROCESS_BYTES)
        attackers = CLIENTS - 3

        before = self.memory()
        for _ in range(STRANGERS):
            self.intruder().pour(call(b"login", b"x" * 4000)[:-10])
        self.assert_group_goes_on()
        self.assertLess(self.memory() - before, STRANGERS * self.row("control connections before login"))
        self.dismiss()

        before = self.memory()
        for number in range(attackers):
            intruder = self.intruder()
            avatar = intruder.log_in(b"whole%d" % number)
            intruder.pour(call(b"send_many", b"tea", [b"list", b"x" * LARGE], target=avatar)[:-10])
        self.assert_group_goes_on()
        self.assertLess(self.memory() - before, attackers * (self.row("a call") + self.row("the session")))
        self.dismiss()

        for number in range(attackers):
            intruder = self.intruder()
            intruder.log_in(b"bomb%d" % number)
            intruder.pour(encode_head(caps.MAX_CALL_ELEMENTS - 1, b"\x80") + b"\x00\x80" * 4_000_000)
        self.assert_group_goes_on()
        self.dismiss()

        before = self.memory()
        for number in range(attackers):
            intruder = self.intruder()
            avatar = intruder.log_in(b"deaf%d" % number)
            intruder.ask(call(b"join", b"tea", target=avatar, request=3))
            intruder.pour(call(b"status", target=avatar, request=4) * 20_000)
        self.assert_group_goes_on()
        self.assertLess(self.memory() - before, attackers * (self.row("output") + self.row("the session")))
        self.dismiss()

        self.assertLess(self.memory("VmHWM"), total_bytes(SIZING))
        warnings = [line for line in self.log.read_text().splitlines() if "#warn" in line or "#critical" in line]
        self.assertLessEqual(len(warnings), 1 + self.minutes(), warnings)
        self.assertNotIn("Traceback", self.log.read_text())

    def minutes(self) -> int:
        """For how many minutes the daemon has run."""
        ticks = float(Path(f"/proc/{self.daemon.pid}/stat").read_text().rpartition(")")[2].split()[19])
        up = float(Path("/proc/uptime").read_text().split()[0])
        return int((up - ticks / os.sysconf("SC_CLK_TCK")) // caps.LOG_INTERVAL_SECONDS) + 1

    def test_more_clients_than_places(self) -> None:
        """When all places are taken the next is told so, and the table of limits is for just so many."""
        for number in range(CLIENTS):
            self.intruder().log_in(b"client%d" % number)
        refused = self.command("status")
        self.assertEqual(refused.returncode, 4)
        self.assertIn(f"{CLIENTS} clients", refused.stderr)
        self.intruders.pop().close()
        told = json.loads(self.when_let_in("limits", "--config", "--nodes", "1", "--json"))
        self.assertEqual((told["clients"], told["total_bytes"]), (CLIENTS, total_bytes(SIZING)))

    def when_let_in(self, *arguments: str) -> str:
        """What a command says once there is a place for it: the daemon may not have noticed yet that somebody went."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while (done := self.command(*arguments)).returncode:
            self.assertLess(time.monotonic(), deadline, done.stderr)
        return done.stdout


def free_port() -> int:
    """A UDP port that nobody has now."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
