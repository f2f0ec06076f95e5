"""The ``groupcomm`` command as it is used from a shell, with a real daemon."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.lab.harness import Daemon, Lab, Process, wait_until

GROUPCOMM = str(Path(sys.executable).with_name("groupcomm"))


class Command(Process):
    """One ``groupcomm`` that runs on while the test looks."""

    def __init__(self, daemon: Daemon, name: str, *arguments: str) -> None:
        super().__init__(daemon.lab, daemon.host, name)
        self._arguments = [GROUPCOMM, "--control", str(daemon.socket), *arguments]

    def command(self) -> list[str]:
        return self._arguments

    def lines(self) -> list[str]:
        return self.output.read_text("utf-8").splitlines()

    def objects(self) -> list[dict[str, object]]:
        return [json.loads(line) for line in self.lines()]

    def wait_for_line(self, text: str) -> str:
        return wait_until(lambda: next((line for line in self.lines() if text in line), None), 30, f"{text!r}")


class CommandTests(SynchronousTestCase):
    """One daemon on one host, and the command in all its forms."""

    def setUp(self) -> None:
        self.lab = Lab(1)
        self.lab.__enter__()
        self.addCleanup(self.lab.__exit__, None, None, None)
        (self.daemon,) = self.lab.daemons((1,))

    def groupcomm(
        self, *arguments: str, control: str | None = None, given: bytes = b"", **environment: str
    ) -> subprocess.CompletedProcess[bytes]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("GROUPCOMM_")}
        command = [GROUPCOMM, "--control", control or str(self.daemon.socket), *arguments]
        return subprocess.run(command, input=given, capture_output=True, env={**kept, **environment}, timeout=60)

    def started(self, name: str, *arguments: str) -> Command:
        return self.lab.started(Command(self.daemon, name, *arguments))

    def assert_one_line_error(self, done: subprocess.CompletedProcess[bytes], status: int, text: str) -> None:
        errors = done.stderr.decode()
        self.assertEqual(done.returncode, status, errors)
        self.assertEqual(errors.count("\n"), 1, errors)
        self.assertTrue(errors.startswith("groupcomm: "), errors)
        self.assertIn(text, errors)

    def test_listen_and_send(self) -> None:
        """A listener prints its first view and every message as an object a line, and ends after the count."""
        listener = self.started("listener", "listen", "tea", "--json", "--as", "ear", "--count", "3")
        listener.wait_for_line('"view"')
        done = self.groupcomm("send", "tea", "for two", "--as", "mouth")
        self.assertEqual((done.returncode, done.stderr), (0, b""))
        done = self.groupcomm("send", "tea", "--level", "safe", "--as", "mouth", given=b"and\n\xff\x00\n")
        self.assertEqual((done.returncode, done.stderr), (0, b""))
        wait_until(lambda: not listener.running, 10, "the listener to end")
        self.assertEqual(listener.child.returncode if listener.child else None, 0)
        view, *messages = listener.objects()
        self.assertEqual(
            {key: view[key] for key in ("event", "group", "members", "joined", "left", "primary")},
            {
                "event": "view",
                "group": "tea",
                "members": ["ear@n1"],
                "joined": ["ear@n1"],
                "left": [],
                "primary": True,
            },
        )
        self.assertEqual(view["transitional"], ["ear@n1"])
        expected = [("for two", "utf-8", "AGREED"), ("and", "utf-8", "SAFE"), ("/wA=", "base64", "SAFE")]
        self.assertEqual([(m["data"], m["encoding"], m["level"]) for m in messages], expected)
        self.assertEqual({(m["sender"], m["group"], m["view"]) for m in messages}, {("mouth@n1", "tea", view["id"])})

    def test_listen_for_people(self) -> None:
        """Without --json a line for people, in which nothing controls the terminal."""
        listener = self.started("listener", "listen", "tea", "--count", "1", "--as", "ear")
        listener.wait_for_line("view")
        self.groupcomm("send", "tea", "-", "--as", "mouth", given=b"a\x1b[31mb\n")
        wait_until(lambda: not listener.running, 10, "the listener to end")
        self.assertEqual(listener.lines()[-1], r"tea | mouth@n1: a\x1b[31mb")

    def test_send_from_a_long_input(self) -> None:
        """A hundred thousand lines go through in bounded memory, in their order, and are all there at the end."""
        count = 100_000
        listener = self.started("listener", "listen", "tea", "--json", "--as", "ear", "--count", str(count))
        listener.wait_for_line('"view"')
        done = self.groupcomm("send", "tea", "--as", "mouth", given=b"".join(b"%d\n" % n for n in range(count)))
        self.assertEqual((done.returncode, done.stderr), (0, b""))
        wait_until(lambda: not listener.running, 60, "the listener to have them all")
        numbers = [int(str(each["data"])) for each in listener.objects() if each["event"] == "message"]
        self.assertEqual(numbers, list(range(count)))

    def test_chat(self) -> None:
        """Two talk; each sees both in one order; the end of the input ends it."""
        one, two = self.started("one", "chat", "tea", "--as", "one"), self.started("two", "chat", "tea", "--as", "two")
        for each in (one, two):
            each.wait_for_line("one@n1, two@n1")
        for each, text in ((one, b"hello\n"), (two, b"hi\n")):
            assert each.child is not None and each.child.stdin is not None
            each.child.stdin.write(text)
            each.child.stdin.flush()
            for other in (one, two):
                other.wait_for_line(text.decode().strip())
        messages = [[line for line in each.lines() if "@n1: " in line] for each in (one, two)]
        self.assertEqual(messages, [["tea | one@n1: hello", "tea | two@n1: hi"]] * 2)
        assert one.child is not None and one.child.stdin is not None
        one.child.stdin.close()
        self.assertEqual(one.child.wait(60), 0)
        self.assertIn("left: one@n1 (leave)", two.wait_for_line("left"))

    def test_status(self) -> None:
        """The status for people and for programs, and the settings with where they came from."""
        listener = self.started("listener", "listen", "tea", "--as", "ear")
        listener.wait_for_line("view")
        done = self.groupcomm("status")
        self.assertEqual(done.returncode, 0, done.stderr)
        for text in (b"n1", self.lab.cluster.encode(), b"operational", b"tea", b"ear@n1"):
            self.assertIn(text, done.stdout)
        status = json.loads(self.groupcomm("status", "--json").stdout)
        self.assertEqual(status["node"], "n1")
        self.assertEqual([group["name"] for group in status["groups"]], ["tea"])
        settings = json.loads(self.groupcomm("status", "--config", "--json").stdout)
        self.assertEqual(settings["cluster"], {"value": self.lab.cluster, "source": "option"})
        self.assertEqual(settings["log-level"]["source"], "default")
        done = self.groupcomm("status", "--config")
        self.assertIn(b"default", done.stdout)

    def test_errors(self) -> None:
        """Each kind of trouble has its exit status and one clear line."""
        nowhere = str(self.lab.directory / "nowhere.sock")
        self.assert_one_line_error(self.groupcomm("send", "tea", "x", control=nowhere), 3, nowhere)
        self.assert_one_line_error(self.groupcomm("listen"), 2, "GROUP")
        self.assert_one_line_error(self.groupcomm("send", "tea", "x", "--level", "loud"), 2, "loud")
        self.assert_one_line_error(self.groupcomm("send", "", "x"), 2, "group name")
        self.assert_one_line_error(self.groupcomm("send", "tea", "x", control="nonsense"), 2, "nonsense")
        ear = self.started("ear", "listen", "tea", "--as", "ear")
        ear.wait_for_line("view")
        self.assert_one_line_error(self.groupcomm("send", "tea", "x", "--as", "ear"), 4, "ear")
        self.daemon.kill()
        wait_until(lambda: not ear.running, 10, "the listener to end with its daemon")
        self.assertEqual(ear.child.returncode if ear.child else None, 1)
        self.assertIn("lost", "".join(ear.last_errors()))

    def test_the_only_daemon_is_found(self) -> None:
        """Without --control the socket in the run directory is taken; without any there is no daemon."""
        lonely = self.lab.started(Daemon(self.lab, 1, "lonely", (), configured=False))
        wait_until(lonely.socket.exists, 30, "its socket")
        environment = {"PATH": os.environ["PATH"], "XDG_RUNTIME_DIR": str(lonely.runtime), "HOME": str(lonely.runtime)}
        done = subprocess.run([GROUPCOMM, "status", "--json"], capture_output=True, env=environment, timeout=60)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(json.loads(done.stdout)["node"], "lonely")
        lonely.stop()
        done = subprocess.run([GROUPCOMM, "status"], capture_output=True, env=environment, timeout=60)
        self.assert_one_line_error(done, 3, "no daemon")

    def test_signals(self) -> None:
        """Ctrl-C ends it as it ends any tool, and the group sees it leave; a reader that goes away ends it too."""
        watcher = self.started("watcher", "listen", "tea", "--as", "watcher")
        ear = self.started("ear", "listen", "tea", "--as", "ear")
        watcher.wait_for_line("ear@n1")
        ear.send_signal(signal.SIGINT)
        assert ear.child is not None
        self.assertEqual(ear.child.wait(60), -signal.SIGINT)
        self.assertEqual(ear.last_errors(), [])
        watcher.wait_for_line("left: ear@n1")
        command = f"{GROUPCOMM} --control {self.daemon.socket} listen tea --as pipe | head -n 1"
        shell = subprocess.Popen(["bash", "-c", f"{command}; echo ${{PIPESTATUS[0]}}"], stdout=subprocess.PIPE)
        watcher.wait_for_line("joined: pipe@n1")
        limit = time.monotonic() + 120
        for number in itertools.count():
            if shell.poll() is not None or time.monotonic() > limit:
                break
            self.groupcomm("send", "tea", f"again {number}")
        out, _ = shell.communicate(timeout=60)
        self.assertEqual(out.decode().splitlines()[-1], str(128 + signal.SIGPIPE))

    def test_versions(self) -> None:
        """Both commands say their version."""
        for command in ([GROUPCOMM, "--version"], [str(Path(GROUPCOMM).with_name("twistd")), "groupcomm", "--version"]):
            done = subprocess.run(command, capture_output=True, text=True, timeout=60)
            self.assertEqual(done.returncode, 0, done.stderr)
            self.assertRegex(done.stdout, r"groupcomm \d+\.\d+")
