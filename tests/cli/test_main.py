"""The command line: what is refused, with which status and in how many words."""

from __future__ import annotations

import io
import os
import socket
import sys
import tempfile
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from groupcomm._version import __version__
from groupcomm.cli import main as main_module
from groupcomm.cli.control import control_endpoint
from groupcomm.cli.running import CommandFailed, status_of
from groupcomm.errors import (
    MessageTooLarge,
    NameInUse,
    NotConnected,
    OutcomeUnknown,
    Refused,
    SendIncomplete,
    UsageError,
)


class ArgumentTests(SynchronousTestCase):
    """What click and we make of the arguments."""

    def setUp(self) -> None:
        self.output, self.errors = io.StringIO(), io.StringIO()
        self.patch(sys, "stdout", self.output)
        self.patch(sys, "stderr", self.errors)
        self.ran: list[object] = []
        self.patch(main_module, "run", self.record)

    def record(self, work: object) -> int:
        self.ran.append(work)
        return 0

    def status(self, *arguments: str) -> int | str | None:
        error = self.assertRaises(SystemExit, main_module.main, arguments)
        assert isinstance(error, SystemExit)
        return error.code

    def test_usage_errors(self) -> None:
        """A usage error is one line that names the command, and status 2."""
        for arguments, text in (
            (["listen"], "GROUP"),
            (["send"], "GROUP"),
            (["chat"], "GROUP"),
            (["chat", "a", "b"], "b"),
            (["listen", "tea", "--count", "0"], "0"),
            (["send", "tea", "x", "--level", "loud"], "loud"),
            (["status", "--xml"], "--xml"),
            (["sing"], "sing"),
        ):
            self.errors.truncate(0)
            self.errors.seek(0)
            self.assertEqual(self.status(*arguments), 2, arguments)
            self.assertEqual(self.errors.getvalue().count("\n"), 1, self.errors.getvalue())
            self.assertTrue(self.errors.getvalue().startswith("groupcomm: "), self.errors.getvalue())
            self.assertIn(text, self.errors.getvalue())
        self.assertEqual((self.ran, self.output.getvalue()), ([], ""))

    def test_no_arguments(self) -> None:
        """Without arguments it explains itself, as an error."""
        self.assertEqual(self.status(), 2)
        self.assertIn("Usage: groupcomm", self.errors.getvalue())

    def test_good_arguments(self) -> None:
        """What is right is run, and its status is the command's."""
        for arguments in (
            ["listen", "tea", "milk", "--json", "--as", "anne", "--count", "3"],
            ["send", "tea", "hello", "--level", "SAFE"],
            ["--control", "/x.sock", "send", "tea"],
            ["chat", "tea"],
            ["status", "--json", "--config"],
        ):
            self.assertEqual(self.status(*arguments), 0, self.errors.getvalue())
        self.assertEqual(len(self.ran), 5)

    def test_version(self) -> None:
        """Its version."""
        self.assertEqual(self.status("--version"), 0)
        self.assertEqual(self.output.getvalue(), f"groupcomm {__version__}\n")


class StatusTests(SynchronousTestCase):
    """Which error means which exit status."""

    def test_statuses(self) -> None:
        """1 failed, 2 usage, 3 no daemon there, 4 refused."""
        for error, status in (
            (CommandFailed("x"), 1),
            (CommandFailed("x", 3), 3),
            (NotConnected("x"), 1),
            (OutcomeUnknown("x"), 1),
            (SendIncomplete("x"), 1),
            (OSError(28, "No space left on device"), 1),
            (RuntimeError("x"), 1),
            (UsageError("x"), 2),
            (MessageTooLarge("x"), 2),
            (NameInUse("x"), 4),
            (Refused("x"), 4),
        ):
            self.assertEqual(status_of(error)[0], status, error)
            self.assertTrue(status_of(error)[1])


class ControlTests(SynchronousTestCase):
    """Where the daemon is."""

    def setUp(self) -> None:
        place = tempfile.TemporaryDirectory(prefix="gc")
        self.addCleanup(place.cleanup)
        self.directory = Path(place.name)
        self.environment = {"XDG_RUNTIME_DIR": place.name, "XDG_CACHE_HOME": place.name, "HOME": place.name}
        self.run_directory = self.directory / "groupcomm"
        self.run_directory.mkdir()

    def listen(self, name: str) -> str:
        path = str(self.run_directory / name)
        listener = socket.socket(socket.AF_UNIX)
        self.addCleanup(listener.close)
        listener.bind(path)
        listener.listen()
        return path

    def test_given(self) -> None:
        """A path is a UNIX socket's; anything else an endpoint description, taken as it is."""
        self.assertEqual(control_endpoint("tcp:127.0.0.1:4875", {}), "tcp:127.0.0.1:4875")
        self.assertEqual(control_endpoint("unix:/x.sock", {}), "unix:/x.sock")
        self.assertEqual(control_endpoint("/run/a:b.sock", {}), "unix:/run/a\\:b.sock")
        self.assertEqual(control_endpoint("a.sock", {}), f"unix:{os.getcwd()}/a.sock")

    def test_path_too_long(self) -> None:
        """A path that no socket can have is a usage error that says how long it may be."""
        error = self.assertRaises(UsageError, control_endpoint, "/" + 107 * "x", {})
        self.assertIn("107", str(error))
        control_endpoint("/" + 106 * "x", {})

    def test_the_only_one(self) -> None:
        """The only daemon's socket is taken; a socket that nobody listens on is none."""
        path = self.listen("default-alpha.sock")
        dead = socket.socket(socket.AF_UNIX)
        dead.bind(str(self.run_directory / "dead.sock"))
        dead.close()
        self.assertEqual(control_endpoint(None, self.environment), f"unix:{path}")

    def test_environment(self) -> None:
        """The first of a list in the environment is taken, a path too; an option wins over it."""
        environment = {**self.environment, "GROUPCOMM_CONTROL": "/run/a.sock, tcp:1"}
        self.assertEqual(control_endpoint(None, environment), "unix:/run/a.sock")
        self.assertEqual(control_endpoint("/run/b.sock", environment), "unix:/run/b.sock")

    def test_several(self) -> None:
        """Several are listed."""
        paths = [self.listen("default-alpha.sock"), self.listen("default-beta.sock")]
        error = self.assertRaises(CommandFailed, control_endpoint, None, self.environment)
        assert isinstance(error, CommandFailed)
        self.assertEqual(error.status, 2)
        for path in paths:
            self.assertIn(path, error.text)

    def test_none(self) -> None:
        """Where there is none, it says where it looked."""
        error = self.assertRaises(CommandFailed, control_endpoint, None, self.environment)
        assert isinstance(error, CommandFailed)
        self.assertEqual(error.status, 3)
        self.assertIn(str(self.run_directory), error.text)
