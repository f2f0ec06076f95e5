"""What certificates say, and who they are of."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from twisted.trial.unittest import SynchronousTestCase

from groupcomm.errors import UsageError
from groupcomm.trust.certificates import (
    AUTHORITY_DAYS,
    Authority,
    BadCertificate,
    Issued,
    Kind,
    RevocationLists,
    client_name,
    is_authority,
    load_certificate,
    load_certificates,
)

NOW = datetime(2026, 5, 17, 12, tzinfo=UTC)


def authority(name: str = "shop", now: datetime = NOW, days: int = AUTHORITY_DAYS) -> Authority:
    """A new one."""
    issued = Authority.new(name, now, days)
    return Authority(issued.certificate, issued.key)


def with_names(*names: x509.GeneralName) -> x509.Certificate:
    """A certificate of somebody else's making with these alternative names."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "mallory")])
    builder = x509.CertificateBuilder(subject, subject, key.public_key(), 1, NOW, NOW + timedelta(days=1))
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return builder.sign(key, hashes.SHA256())


class AuthorityTests(SynchronousTestCase):
    """An authority, and what it signs."""

    def test_an_authority(self) -> None:
        """It may sign certificates and revocation lists and nothing below it may, for ten years, with its key."""
        issued = Authority.new("shop", NOW)
        certificate = load_certificate(issued.certificate)
        self.assertTrue(is_authority(certificate))
        constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints)
        self.assertEqual((constraints.value.path_length, constraints.critical), (0, True))
        usage = certificate.extensions.get_extension_for_class(x509.KeyUsage).value
        self.assertEqual((usage.key_cert_sign, usage.crl_sign, usage.digital_signature), (True, True, False))
        self.assertEqual(certificate.not_valid_before_utc, NOW - timedelta(minutes=5))
        self.assertEqual(certificate.not_valid_after_utc, NOW + timedelta(days=3650))
        key = serialization.load_pem_private_key(issued.key, None)
        self.assertEqual(key.public_key(), certificate.public_key())

    def test_a_client(self) -> None:
        """Its certificate is signed by the authority, for clients alone, and gives its name."""
        own = authority()
        issued = own.issue("anne", Kind.CLIENT, NOW, days=30)
        certificate = load_certificate(issued.certificate)
        certificate.verify_directly_issued_by(own.certificate)
        self.assertFalse(is_authority(certificate))
        self.assertEqual(client_name(certificate), "anne")
        uses = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
        self.assertEqual(list(uses), [ExtendedKeyUsageOID.CLIENT_AUTH])
        self.assertEqual(certificate.not_valid_after_utc, NOW + timedelta(days=30))
        self.assertEqual(serialization.load_pem_private_key(issued.key, None).public_key(), certificate.public_key())

    def test_a_node(self) -> None:
        """Its certificate names its hosts and no URI, each host once, and is for servers alone."""
        hosts = ["alpha.example", "192.0.2.7", "2001:db8::7", "alpha.example"]
        certificate = load_certificate(authority().issue("alpha", Kind.NODE, NOW, hosts=hosts).certificate)
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        self.assertEqual(names.get_values_for_type(x509.DNSName), ["alpha.example"])
        self.assertEqual([str(one) for one in names.get_values_for_type(x509.IPAddress)], hosts[1:3])
        self.assertEqual(names.get_values_for_type(x509.UniformResourceIdentifier), [])
        uses = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
        self.assertEqual(list(uses), [ExtendedKeyUsageOID.SERVER_AUTH])

    def test_not_longer_than_the_authority(self) -> None:
        """A certificate ends with its authority at the latest, and an authority whose time is over signs nothing."""
        own = authority(days=10)
        certificate = load_certificate(own.issue("anne", Kind.CLIENT, NOW, days=365).certificate)
        self.assertEqual(certificate.not_valid_after_utc, NOW + timedelta(days=10))
        with self.assertRaisesRegex(UsageError, "over on 2026-05-27"):
            own.issue("anne", Kind.CLIENT, NOW + timedelta(days=10))

    def test_refused(self) -> None:
        """Names, hosts and days that cannot be are refused in words."""
        own = authority()
        wrong: Sequence[tuple[str, Kind, tuple[str, ...], int, str]] = (
            ("", Kind.CLIENT, (), 1, "no name"),
            ("a b", Kind.CLIENT, (), 1, "no name"),
            ("a+b", Kind.CLIENT, (), 1, "no name"),
            ("../a", Kind.CLIENT, (), 1, "no name"),
            ("-a", Kind.CLIENT, (), 1, "no name"),
            ("a" * 65, Kind.CLIENT, (), 1, "no name"),
            ("anne\n", Kind.CLIENT, (), 1, "no name"),
            ("alpha", Kind.NODE, (), 1, "at least one host"),
            ("alpha", Kind.NODE, ("a host",), 1, "neither a DNS name nor an address"),
            ("alpha", Kind.NODE, ("*.example",), 1, "neither a DNS name nor an address"),
            ("anne", Kind.CLIENT, (), 0, "1 to 36500 days"),
            ("anne", Kind.CLIENT, (), 36_501, "1 to 36500 days"),
        )
        for name, kind, hosts, days, text in wrong:
            with self.assertRaisesRegex(UsageError, text):
                own.issue(name, kind, NOW, hosts=hosts, days=days)
        own.issue("a" * 64, Kind.CLIENT, NOW, days=36_500)
        for name in ("", "a" * 65, "a\nb"):
            with self.assertRaises(UsageError):
                Authority.new(name, NOW)

    def test_a_key_that_is_not_its_own(self) -> None:
        """An authority is loaded only from its own certificate and key."""
        one, other = Authority.new("one", NOW), Authority.new("other", NOW)
        with self.assertRaisesRegex(BadCertificate, "not that of the certificate"):
            Authority(one.certificate, other.key)
        leaf = Authority(one.certificate, one.key).issue("anne", Kind.CLIENT, NOW)
        with self.assertRaisesRegex(BadCertificate, "not that of an authority"):
            Authority(leaf.certificate, leaf.key)
        for certificate, key in ((b"", one.key), (one.certificate, b""), (b"\xff" * 100, one.key)):
            with self.assertRaises(BadCertificate):
                Authority(certificate, key)

    def test_an_authority_of_another_making(self) -> None:
        """One with an Ed25519 key signs and revokes too."""
        key = ed25519.Ed25519PrivateKey.generate()
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "other")])
        made = (
            x509.CertificateBuilder(subject, subject, key.public_key(), 1, NOW, NOW + timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .sign(key, None)
        )
        private = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        own = Authority(made.public_bytes(serialization.Encoding.PEM), private)
        issued = own.issue("anne", Kind.CLIENT, NOW)
        certificate = load_certificate(issued.certificate)
        certificate.verify_directly_issued_by(own.certificate)
        revoked = own.revoke(None, issued.certificate, NOW)
        with self.assertRaisesRegex(BadCertificate, "revoked"):
            RevocationLists(revoked, [own.certificate]).check(certificate, NOW)

    def test_several_in_a_file(self) -> None:
        """A chain is read whole, in its order."""
        own = authority()
        issued = own.issue("anne", Kind.CLIENT, NOW)
        pem = own.certificate.public_bytes(serialization.Encoding.PEM)
        both = load_certificates(issued.certificate + pem)
        self.assertEqual(both, [load_certificate(issued.certificate), own.certificate])


class ClientNameTests(SynchronousTestCase):
    """Which name a certificate gives its client."""

    def test_of_other_authorities(self) -> None:
        """Exactly one DNS name, mail address or URI is the name; ours goes before all others."""
        ours = x509.UniformResourceIdentifier("urn:groupcomm:client:anne")
        cases: Sequence[tuple[tuple[x509.GeneralName, ...], str]] = (
            ((x509.DNSName("anne.example"),), "anne.example"),
            ((x509.RFC822Name("anne@example.org"),), "anne@example.org"),
            ((x509.UniformResourceIdentifier("spiffe://example.org/anne"),), "spiffe://example.org/anne"),
            ((x509.DNSName("x.example"), ours, x509.RFC822Name("x@example.org")), "anne"),
        )
        for names, name in cases:
            self.assertEqual(client_name(with_names(*names)), name)

    def test_none_or_more_than_one(self) -> None:
        """The common name is not looked at, and what could name two clients names none."""
        urn = "urn:groupcomm:client:"
        cases: Sequence[tuple[x509.GeneralName, ...]] = (
            (),
            (x509.DirectoryName(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "anne")])),),
            (x509.DNSName("a.example"), x509.DNSName("b.example")),
            (x509.DNSName("a.example"), x509.RFC822Name("a@example.org")),
            (x509.UniformResourceIdentifier(urn + "anne"), x509.UniformResourceIdentifier(urn + "bob")),
            (x509.UniformResourceIdentifier(urn),),
            (x509.UniformResourceIdentifier(urn + "anne+bob"),),
            (x509.UniformResourceIdentifier(urn + "a\x1bb"),),
            (x509.UniformResourceIdentifier(urn + "a" * 256),),
        )
        for names in cases:
            with self.assertRaises(BadCertificate):
                client_name(with_names(*names))


class RevocationTests(SynchronousTestCase):
    """Taking certificates back."""

    def setUp(self) -> None:
        self.own = authority()
        self.anne, self.bob = (self.own.issue(name, Kind.CLIENT, NOW) for name in ("anne", "bob"))

    def check(self, revoked: bytes, issued: Issued, now: datetime = NOW) -> None:
        RevocationLists(revoked, [self.own.certificate]).check(load_certificate(issued.certificate), now)

    def test_revoked(self) -> None:
        """Who is on the list is refused, others are not; a list grows and keeps the times."""
        first = self.own.revoke(None, self.anne.certificate, NOW)
        self.check(first, self.bob)
        with self.assertRaisesRegex(BadCertificate, "it was revoked"):
            self.check(first, self.anne)
        later = NOW + timedelta(days=1)
        both = self.own.revoke(self.own.revoke(first, self.bob.certificate, later), self.anne.certificate, later)
        for issued in (self.anne, self.bob):
            with self.assertRaisesRegex(BadCertificate, "it was revoked"):
                self.check(both, issued)
        times = RevocationLists(both, [self.own.certificate]).revoked_by(self.own.certificate)
        self.assertEqual(sorted(times.values()), [NOW, later])

    def test_der(self) -> None:
        """A list may be DER too."""
        revoked = x509.load_pem_x509_crl(self.own.revoke(None, self.anne.certificate, NOW))
        with self.assertRaisesRegex(BadCertificate, "it was revoked"):
            self.check(revoked.public_bytes(serialization.Encoding.DER), self.anne)

    def test_of_another_authority(self) -> None:
        """A list signed by somebody else under the same name is none, and so is one without a signature that fits."""
        other = authority()
        foreign = other.revoke(None, other.issue("eve", Kind.CLIENT, NOW).certificate, NOW)
        with self.assertRaisesRegex(BadCertificate, "not of the authority"):
            self.check(foreign, self.anne)
        with self.assertRaisesRegex(BadCertificate, "of another authority"):
            self.own.revoke(None, other.issue("eve", Kind.CLIENT, NOW).certificate, NOW)

    def test_an_authority_without_a_list(self) -> None:
        """If lists are kept, an authority without one vouches for nobody; several lists may stand in a file."""
        other = authority("other")
        eve = other.issue("eve", Kind.CLIENT, NOW)
        both = [self.own.certificate, other.certificate]
        mine = self.own.revoke(None, self.anne.certificate, NOW)
        with self.assertRaisesRegex(BadCertificate, "no revocation list of its authority"):
            RevocationLists(mine, both).check(load_certificate(eve.certificate), NOW)
        theirs = other.revoke(None, other.issue("mallory", Kind.CLIENT, NOW).certificate, NOW)
        lists = RevocationLists(mine + theirs, both)
        lists.check(load_certificate(eve.certificate), NOW)
        with self.assertRaisesRegex(BadCertificate, "it was revoked"):
            lists.check(load_certificate(self.anne.certificate), NOW)

    def test_past_its_time(self) -> None:
        """A list whose own time is over lets nobody in."""
        revoked = self.own.revoke(None, self.anne.certificate, NOW)
        end = self.own.certificate.not_valid_after_utc
        self.check(revoked, self.bob, end)
        with self.assertRaisesRegex(BadCertificate, "was good until"):
            self.check(revoked, self.bob, end + timedelta(seconds=1))

    def test_no_list(self) -> None:
        """What is no list, or was damaged, is refused."""
        good = self.own.revoke(None, self.anne.certificate, NOW)
        for data in (b"", b"nonsense", self.anne.certificate, good[:100], b"\x30\x82" * 50):
            with self.assertRaises(BadCertificate):
                self.check(data, self.bob)
