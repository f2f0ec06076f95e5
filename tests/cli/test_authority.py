"""``groupcomm ca``: its files, and what it refuses."""

from __future__ import annotations

import io
import stat
from contextlib import redirect_stderr, redirect_stdout
from datetime import UTC, datetime
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from groupcomm.cli.main import main
from groupcomm.trust.certificates import BadCertificate, RevocationLists, client_name, load_certificate


class AuthorityCommandTests(SynchronousTestCase):
    """Making an authority, certificates and a revocation list."""

    def setUp(self) -> None:
        self.directory = Path(self.mktemp())
        self.directory.mkdir()
        self.ca = self.directory / "ca"

    def groupcomm(self, *arguments: object) -> tuple[int, str, str]:
        """Run the command: exit status, output, errors."""
        out, errors = io.StringIO(), io.StringIO()
        with redirect_stdout(out), redirect_stderr(errors):
            caught = self.assertRaises(SystemExit, main, [str(argument) for argument in arguments])
        return int(caught.code or 0), out.getvalue(), errors.getvalue()

    def done(self, *arguments: object) -> str:
        status, out, errors = self.groupcomm(*arguments)
        self.assertEqual((status, errors), (0, ""))
        return out

    def refused(self, text: str, *arguments: object, status: int = 1) -> None:
        found, out, errors = self.groupcomm(*arguments)
        self.assertEqual((found, out), (status, ""), errors)
        self.assertEqual(errors.count("\n"), 1)
        self.assertIn(text, errors)

    def issue(self, *arguments: object) -> str:
        return self.done("ca", "issue", *arguments, "--ca", self.ca, "--out", self.directory)

    def test_files(self) -> None:
        """Private keys are for their owner alone, certificates for all; each is named after whose it is."""
        self.done("ca", "new", self.ca)
        self.issue("anne")
        said = self.issue("alpha", "--node", "--host", "alpha.example", "--host", "192.0.2.7")
        self.assertIn("alpha.example, 192.0.2.7", said)
        self.assertIn("--control groupcomm-tls:4875:privateKey=", said)
        modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in self.directory.rglob("*.*")}
        self.assertEqual({modes[name] for name in ("ca.key", "anne.key", "alpha.key")}, {0o600})
        self.assertEqual(set(modes), {f"{name}.{kind}" for name in ("ca", "anne", "alpha") for kind in ("crt", "key")})
        self.assertEqual(stat.S_IMODE(self.ca.stat().st_mode), 0o700)
        self.assertEqual(client_name(load_certificate((self.directory / "anne.crt").read_bytes())), "anne")

    def test_nothing_is_written_over(self) -> None:
        """Neither an authority nor a key that is there is lost."""
        self.done("ca", "new", self.ca)
        self.issue("anne")
        before = {path: path.read_bytes() for path in self.directory.rglob("*.*")}
        self.refused("is there already", "ca", "new", self.ca)
        self.refused("is there already", "ca", "issue", "anne", "--ca", self.ca, "--out", self.directory)
        (self.directory / "anne.crt").unlink()
        self.refused("is there already", "ca", "issue", "anne", "--ca", self.ca, "--out", self.directory)
        (self.directory / "bob.crt").symlink_to(self.directory / "nowhere")
        self.refused("is there already", "ca", "issue", "bob", "--ca", self.ca, "--out", self.directory)
        del before[self.directory / "anne.crt"]
        (self.directory / "bob.crt").unlink()
        self.assertEqual({path: path.read_bytes() for path in self.directory.rglob("*.*")}, before)

    def test_revoke(self) -> None:
        """A certificate that was taken back is on the list, with those before it."""
        self.done("ca", "new", self.ca)
        for name in ("anne", "bob", "carl"):
            self.issue(name)
        for name in ("anne", "bob"):
            self.done("ca", "revoke", self.directory / f"{name}.crt", "--ca", self.ca)
        authority = load_certificate((self.ca / "ca.crt").read_bytes())
        lists = RevocationLists((self.ca / "revoked.crl").read_bytes(), [authority])
        now = datetime.now(UTC)
        for name in ("anne", "bob"):
            certificate = load_certificate((self.directory / f"{name}.crt").read_bytes())
            self.assertRaises(BadCertificate, lists.check, certificate, now)
        lists.check(load_certificate((self.directory / "carl.crt").read_bytes()), now)

    def test_usage(self) -> None:
        """Each kind of trouble is one line."""
        self.refused("make an authority with", "ca", "issue", "anne", "--ca", self.ca, "--out", self.directory)
        self.done("ca", "new", self.ca)
        self.refused("no name", "ca", "issue", "a b", "--ca", self.ca, "--out", self.directory, status=2)
        self.refused(
            "for nodes", "ca", "issue", "anne", "--host", "x", "--ca", self.ca, "--out", self.directory, status=2
        )
        self.refused("days", "ca", "issue", "anne", "--days", "0", "--ca", self.ca, status=2)
        self.refused("No such file", "ca", "revoke", self.directory / "x.crt", "--ca", self.ca)
        (self.directory / "file").write_text("x")
        self.refused("cannot make", "ca", "new", self.directory / "file" / "ca")
