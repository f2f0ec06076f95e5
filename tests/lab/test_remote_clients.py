"""Clients on hosts that have no daemon: over TLS, with the certificates that the command makes."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.lab.harness import Daemon, Lab, Member, Process, measured, settle, wait_until

GROUPCOMM = str(Path(sys.executable).with_name("groupcomm"))
PORT = 4875
LEVELS = ["FIFO", "CAUSAL", "AGREED", "SAFE"]


class RemoteMember(Member):
    """A client on another host than its daemon."""

    def __init__(self, daemon: Daemon, host: int, name: str, control: str, groups: Sequence[str], **settings: object):
        super().__init__(daemon.lab, daemon, name, groups, {**settings, "control": control})
        self.host = host


class RemoteCommand(Process):
    """One ``groupcomm`` that runs on while the test looks."""

    def __init__(self, daemon: Daemon, host: int, control: str, *arguments: str) -> None:
        super().__init__(daemon.lab, host, f"command-{arguments[0]}")
        self._arguments = [GROUPCOMM, "--control", control, *arguments]

    def command(self) -> list[str]:
        return self._arguments

    def wait_for_line(self, text: str) -> None:
        wait_until(lambda: text in self.output.read_text("utf-8"), 30, f"{text!r}")


class RemoteClientTests(SynchronousTestCase):
    """Daemons on two hosts, one of which lets clients in over TLS, and a third host with clients alone."""

    def setUp(self) -> None:
        self.lab = Lab(3)
        self.lab.__enter__()
        self.addCleanup(self.lab.__exit__, None, None, None)
        self.papers = self.lab.directory / "papers"
        self.papers.mkdir()
        self.ca("new", "ca")
        self.ca("issue", "n1", "--node", "--host", "10.77.0.1")
        self.ca("issue", "anne")
        self.endpoint = (
            f"groupcomm-tls:{PORT}:privateKey={self.papers}/n1.key:certKey={self.papers}/n1.crt"
            f":clientCA={self.papers}/ca/ca.crt:revoked={self.papers}/ca/revoked.crl"
        )
        self.ca("issue", "nobody")
        self.ca("revoke", "nobody.crt")
        self.first = self.lab.daemon(1, "n1", "--control", self.endpoint)
        self.second = self.lab.daemon(2, "n2")
        self.lab.wait_for_view([self.first, self.second])

    def ca(self, *arguments: str) -> None:
        done = subprocess.run([GROUPCOMM, "ca", *arguments], cwd=self.papers, capture_output=True, text=True)
        self.assertEqual((done.returncode, done.stderr), (0, ""))

    def control(self, name: str, host: str = "10.77.0.1") -> str:
        return (
            f"tls:{host}:{PORT}:privateKey={self.papers}/{name}.key:certKey={self.papers}/{name}.crt"
            f":caCerts={self.papers}/ca/ca.crt"
        )

    def remote(self, name: str, *groups: str, **settings: object) -> RemoteMember:
        certificate = name.partition("+")[0]
        return self.lab.started(RemoteMember(self.first, 3, name, self.control(certificate), groups, **settings))

    def groupcomm(self, control: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        """The command, on the third host."""
        command = self.lab.on(3, GROUPCOMM, "--control", control, *arguments)
        return subprocess.run(command, capture_output=True, text=True, timeout=60)

    def connections(self) -> int:
        """How many there are from the third host to the daemon's port."""
        done = subprocess.run(
            self.lab.on(3, "ss", "-Htn", "state", "established", f"dport = :{PORT}"), capture_output=True, text=True
        )
        return len(done.stdout.splitlines())

    def test_talking(self) -> None:
        """Clients over TLS and clients on the hosts talk in one group at all levels, in one order, over channels."""
        members = [self.remote("anne", "lab"), self.remote("anne+2", "lab"), self.lab.member(self.second, "bob", "lab")]
        names = [member.title for member in members]
        for member in members:
            member.wait_for_view(names, 30)
        self.assertEqual(self.connections(), 4)
        for number, member in enumerate(members):
            member.tell(
                {"do": "send", "number": 1, "seed": number, "messages": 400, "sizes": [16, 200_000], "levels": LEVELS}
            )
        for member in members:
            member.wait_for("sent", 60)
        settle(members)
        for member in members:
            self.assertEqual(len(member.of_kind("m")), 1200)
        self.lab.judge("O1", "O4", "O7", "D2")

    def test_pace(self) -> None:
        """A stream of large messages from afar: nothing is lost on the way, and it ends."""
        sender, listener = (
            self.remote("anne", "lab", quiet=True),
            self.lab.member(self.second, "bob", "lab", quiet=True),
        )
        listener.wait_for_view([sender.title, listener.title], 30)
        for number, (size, count) in enumerate(((64, 20_000), (1024, 10_000), (65_536, 1000))):
            sender.tell(
                {
                    "do": "send",
                    "number": number,
                    "seed": 1,
                    "messages": count,
                    "sizes": [size, size],
                    "levels": ["AGREED"],
                    "record": False,
                    "stable": False,
                }
            )
            done = sender.wait_for("sent", 120, count=number + 1)
            measured(f"messages of {size} B over TLS", done["messages"] / done["seconds"], "messages/s")
            measured(f"messages of {size} B over TLS", done["bytes"] / done["seconds"] / 1e6, "MB/s")
        wait_until(lambda: listener.received() == 31_000, 60, "the listener to have them all")

    def test_the_command(self) -> None:
        """The command works from afar like on the host; a daemon that stops says goodbye."""
        listener = self.lab.started(RemoteCommand(self.first, 3, self.control("anne"), "listen", "tea"))
        listener.wait_for_line("joined: anne+")
        done = self.groupcomm(self.control("anne"), "send", "tea", "from far away")
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        listener.wait_for_line("from far away")
        done = self.groupcomm(self.control("anne"), "status", "--json")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(json.loads(done.stdout)["node"], "n1")
        self.first.stop()
        wait_until(lambda: not listener.running, 30, "the listener to end")
        self.assertIn("node leave", listener.output.read_text())

    def test_refused(self) -> None:
        """Each kind of stranger is refused with one clear line, and the daemon goes on."""
        self.ca("new", "other")
        self.ca("issue", "eve", "--ca", "other")
        self.ca("issue", "old", "--days", "1")
        for control, arguments, status, words in (
            (self.control("eve"), (), 4, "does not accept the certificate"),
            (self.control("nobody"), (), 4, "does not accept the certificate"),
            (self.control("n1"), ("--as", "n1"), 4, "does not accept the certificate"),
            (self.control("anne", "10.77.0.2"), (), 3, "Connection was refused"),
            (self.control("anne").replace("/ca/ca.crt", "/other/ca.crt"), (), 3, "is of another authority"),
            (self.control("anne"), ("--as", "bob"), 4, "log in as 'anne'"),
            (f"tcp:10.77.0.1:{PORT}", (), 3, "closed the connection"),
        ):
            done = self.groupcomm(control, "send", "tea", "x", *arguments)
            self.assertEqual(done.returncode, status, done.stderr)
            self.assertIn(words, done.stderr)
            self.assertEqual(done.stderr.count("\n"), 1, done.stderr)
        self.ca("revoke", "anne.crt")
        done = self.groupcomm(self.control("anne"), "send", "tea", "x")
        self.assertEqual(done.returncode, 4, done.stderr)
        done = self.groupcomm(self.control("old"), "send", "tea", "x")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertLessEqual(self.first.log().count("a control connection was cut"), 2)

    def test_plain_tcp(self) -> None:
        """A daemon does not start with a plain TCP endpoint for other hosts, and says what to use."""
        daemon = self.lab.daemon(3, "n3", "--control", f"tcp:{PORT}:interface=10.77.0.3")
        wait_until(lambda: not daemon.running, 30, "it to end")
        self.assertIn("for other hosts use groupcomm-tls", daemon.log())
        self.lab.processes.remove(daemon)
