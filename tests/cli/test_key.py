"""``groupcomm key``: what it makes, where, and what it says."""

from __future__ import annotations

import io
import os
import sys
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from groupcomm.cli import main as main_module
from groupcomm.cli.key import default_key_path
from groupcomm.node.keyfile import read_key


class KeyCommandTests(SynchronousTestCase):
    """The command line."""

    def setUp(self) -> None:
        self.output, self.errors = io.StringIO(), io.StringIO()
        self.patch(sys, "stdout", self.output)
        self.patch(sys, "stderr", self.errors)
        self.directory = Path(self.mktemp()).absolute()
        self.directory.mkdir()

    def status(self, *arguments: str) -> int | str | None:
        error = self.assertRaises(SystemExit, main_module.main, arguments)
        assert isinstance(error, SystemExit)
        return error.code

    def test_new(self) -> None:
        """The file named, with what tells it from other keys and none of the key itself."""
        path = self.directory / "shop.key"
        self.assertEqual(self.status("key", "new", str(path), "--cluster", "shop"), 0)
        key = read_key(path)
        said = self.output.getvalue()
        for part in (str(path), key.fingerprint, "'shop'"):
            self.assertIn(part, said)
        self.assertNotIn(key.secret.hex()[:8], said)

    def test_not_twice(self) -> None:
        """A key that is there is never written over: status 1 and one line."""
        path = self.directory / "shop.key"
        self.status("key", "new", str(path))
        self.assertEqual(self.status("key", "new", str(path)), 1)
        self.assertEqual(self.errors.getvalue().count("\n"), 1)
        self.assertIn("exists already", self.errors.getvalue())

    def test_no_such_directory(self) -> None:
        """Where the file cannot be made, the line says why."""
        self.assertEqual(self.status("key", "new", str(self.directory / "none" / "shop.key")), 1)
        self.assertIn("No such file or directory", self.errors.getvalue())

    def test_without_a_file(self) -> None:
        """It goes where daemons of this user look: root's in the system's place, others' in their own."""
        environ = {"XDG_CONFIG_HOME": str(self.directory)}
        self.assertEqual(default_key_path("shop", environ, 0), Path("/etc/groupcomm/shop.key"))
        self.assertEqual(default_key_path("shop", environ, 1000), self.directory / "groupcomm" / "shop.key")
        self.patch(os, "geteuid", lambda: 1000)
        self.patch(os, "environ", {**os.environ, **environ})
        self.assertEqual(self.status("key", "new", "--cluster", "shop"), 0)
        self.assertEqual((self.directory / "groupcomm").stat().st_mode & 0o777, 0o700)
        self.assertEqual((self.directory / "groupcomm" / "shop.key").stat().st_mode & 0o777, 0o600)
