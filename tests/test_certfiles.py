"""The files of a node's certificate: what makes them unfit, and when a revocation list is read again."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import cast

from twisted.logger import ILogObserver, LogEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from groupcomm.config import EngineConfig
from groupcomm.errors import EnvironmentFault, UsageError
from groupcomm.node import certfiles
from groupcomm.node.certfiles import CertificateFiles, NodeCertificateFiles
from groupcomm.node.config import NodeConfig
from groupcomm.trust.certificates import Authority, Issued, Kind
from groupcomm.wire.codec import cluster_digest


class CertificateFileTests(SynchronousTestCase):
    """An authority of today, and the files of a node."""

    def setUp(self) -> None:
        self.directory = Path(self.mktemp())
        self.directory.mkdir()
        now = datetime.now(UTC)
        issued = Authority.new("shop", now)
        self.authority = Authority(issued.certificate, issued.key)
        self.ca = issued.certificate
        self.files = CertificateFiles(*(self.directory / name for name in ("a.crt", "a.key", "ca.crt")))
        self.alpha = self.authority.issue("alpha", Kind.NODE, now, hosts=["alpha"])
        self.write(self.alpha)

    def write(self, issued: Issued) -> None:
        """Put it where the files are."""
        self.files.certificate.write_bytes(issued.certificate)
        self.files.key.touch(0o600)
        self.files.key.write_bytes(issued.key)
        self.files.authorities.write_bytes(self.ca)

    def refused(self) -> str:
        """Why they are unfit for alpha."""
        return str(self.assertRaises(EnvironmentFault, NodeCertificateFiles, self.files, "alpha"))

    def test_they_serve(self) -> None:
        """What one node signs the other verifies."""
        mine = NodeCertificateFiles(self.files, "alpha")
        data = b"statement" + cluster_digest("default").to_bytes(8)
        self.assertIsNone(mine.check(mine.certificate, "alpha", data, mine.sign(data)))
        self.assertIn("not signed", str(mine.check(mine.certificate, "alpha", b"other", mine.sign(data))))

    def test_unfit(self) -> None:
        """Missing, readable for others, of another node, another key, no authority: each is named."""
        self.files.key.chmod(0o640)
        self.assertIn("chmod 600", self.refused())
        self.files.key.chmod(0o600)
        self.files.authorities.write_bytes(self.alpha.certificate)
        self.assertIn("no authority", self.refused())
        self.files.authorities.unlink()
        self.assertIn("ca.crt", self.refused())
        now = datetime.now(UTC)
        self.write(self.authority.issue("beta", Kind.NODE, now, hosts=["beta"]))
        self.assertIn("of the node 'beta', not of 'alpha'", self.refused())
        self.write(self.authority.issue("alpha", Kind.CLIENT, now))
        self.assertIn("not that of a node", self.refused())
        self.write(Issued(self.alpha.certificate, self.authority.issue("x", Kind.CLIENT, now).key))
        self.assertIn("not that of the certificate", self.refused())
        self.files.certificate.write_bytes(b"x")
        self.assertIn("no certificate", self.refused())
        self.files.certificate.unlink()
        self.files.certificate.mkdir()
        self.assertIn("a.crt", self.refused())

    def test_a_revocation_list_is_read_again(self) -> None:
        """When it has changed; a broken one leaves the last as it was, and is told once."""
        now = datetime.now(UTC)
        beta = self.authority.issue("beta", Kind.NODE, now, hosts=["beta"])
        gamma = self.authority.issue("gamma", Kind.NODE, now, hosts=["gamma"])
        path = self.directory / "revoked.crl"
        self.files = CertificateFiles(self.files.certificate, self.files.key, self.files.authorities, path)
        self.assertIn("revoked.crl", self.refused())
        path.write_bytes(self.authority.revoke(None, gamma.certificate, now))
        mine = NodeCertificateFiles(self.files, "alpha")
        self.write(beta)
        other = NodeCertificateFiles(self.files, "beta")
        self.patch(certfiles, "LOOK_SECONDS", 0.0)
        signed = other.sign(b"x")
        self.assertIsNone(mine.check(other.certificate, "beta", b"x", signed))
        path.write_bytes(self.authority.revoke(path.read_bytes(), beta.certificate, now))
        self.assertIn("revoked", str(mine.check(other.certificate, "beta", b"x", signed)))
        told: list[str] = []

        def observe(event: LogEvent) -> None:
            told.append(str(event.get("log_format")))

        globalLogPublisher.addObserver(cast(ILogObserver, observe))
        self.addCleanup(globalLogPublisher.removeObserver, cast(ILogObserver, observe))
        path.write_bytes(b"nothing")
        for _ in range(3):
            self.assertIn("revoked", str(mine.check(other.certificate, "beta", b"x", signed)))
        path.unlink()
        self.assertIn("revoked", str(mine.check(other.certificate, "beta", b"x", signed)))
        self.assertEqual(len([text for text in told if "the last revocation list stays" in text]), 2)

    def test_one_way_in(self) -> None:
        """A key, a certificate and insecure contradict each other."""
        mine = NodeCertificateFiles(self.files, "alpha")
        engine = EngineConfig(identity=mine)
        self.assertRaises(UsageError, EngineConfig, identity=mine, key=bytes(32))
        self.assertRaises(UsageError, NodeConfig, engine=engine, insecure=True)
        self.assertRaises(UsageError, NodeConfig, certificates=self.files, key=self.directory / "x.key")
        self.assertRaises(UsageError, NodeConfig, certificates=self.files, insecure=True)
