"""Certificates of a cluster: its authority, what that signs for nodes and clients, and the name a certificate gives.

Decides the fields of a certificate, and what of them names a client. Bytes in and out; the time is an argument, files
are the callers'. The fields and the reasons are in ``doc/design/access.md``.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence
from datetime import datetime, timedelta
from enum import Enum
from typing import Final

from attrs import frozen
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.asymmetric.types import CertificateIssuerPrivateKeyTypes
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from groupcomm.errors import UsageError
from groupcomm.identity import checked_name

AUTHORITY_DAYS: Final = 3650
"""How long an authority is good: to replace it means new files on every host."""

CERTIFICATE_DAYS: Final = 365
"""How long a certificate is good if nothing is said."""

MAX_DAYS: Final = 36_500

BACKDATED: Final = timedelta(minutes=5)
"""Certificates are good from a little before they are made, for hosts whose clocks are behind."""

_CLIENT: Final = "urn:groupcomm:client:"
_LIST_BLOCK: Final = re.compile(rb"-----BEGIN X509 CRL-----.*?-----END X509 CRL-----", re.DOTALL)
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_MAIL_OR_HOST: Final = (x509.DNSName, x509.RFC822Name, x509.UniformResourceIdentifier)


class BadCertificate(UsageError):
    """A certificate, a key or a revocation list is not what it must be; the text says how."""


class Kind(Enum):
    """What a certificate is for."""

    NODE = "node"
    CLIENT = "client"


@frozen
class Issued:
    """A certificate and its private key, both as PEM."""

    certificate: bytes
    key: bytes


class Authority:
    """A certificate authority with its key.

    Args:
        certificate: as PEM.
        key: as PEM, not encrypted.

    Raises:
        BadCertificate: they are none, or do not belong together.
    """

    def __init__(self, certificate: bytes, key: bytes) -> None:
        self.certificate = load_certificate(certificate)
        try:
            loaded = serialization.load_pem_private_key(key, None)
        except (ValueError, TypeError) as error:
            raise BadCertificate(f"no private key in PEM without a passphrase: {error}") from None
        if loaded.public_key() != self.certificate.public_key():
            raise BadCertificate("the private key is not that of the certificate")
        if not isinstance(loaded, ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey):
            raise BadCertificate("an authority has a key on an elliptic curve")
        if not is_authority(self.certificate):
            raise BadCertificate("the certificate is not that of an authority")
        self._key: CertificateIssuerPrivateKeyTypes = loaded

    @staticmethod
    def new(name: str, now: datetime, days: int = AUTHORITY_DAYS) -> Issued:
        """Make an authority.

        Args:
            name: what it is called in its certificates.
            now: the time, with a time zone.
            days: how long it is good.
        """
        key = ec.generate_private_key(ec.SECP256R1())
        subject = _subject(checked_name(name, "an authority's name", 64))
        certificate = (
            _builder(subject, subject, key.public_key(), now, now + timedelta(days=_checked_days(days)))
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_usage(signs=True), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .sign(key, hashes.SHA256())
        )
        return _issued(certificate, key)

    def issue(
        self, name: str, kind: Kind, now: datetime, *, hosts: Sequence[str] = (), days: int = CERTIFICATE_DAYS
    ) -> Issued:
        """Make a key and sign a certificate for it.

        Args:
            name: of the node or the client: letters, digits, dots, hyphens and underscores, at most 64.
            kind: what it is for.
            now: the time, with a time zone.
            hosts: DNS names and addresses under which a node is reached.
            days: how long it is good; not longer than the authority.

        Raises:
            UsageError: a name or a number is not as it must be, or the authority's own time is over.
        """
        if not _NAME.fullmatch(name):
            raise UsageError(f"{name!r} is no name of letters, digits, dots, hyphens and underscores, at most 64")
        end = self.certificate.not_valid_after_utc
        if end <= now:
            raise UsageError(f"the authority's time was over on {end:%Y-%m-%d}: make a new one")
        key = ec.generate_private_key(ec.SECP256R1())
        if kind is Kind.NODE:
            names, use = [*map(_host, dict.fromkeys(hosts))], ExtendedKeyUsageOID.SERVER_AUTH
        else:
            names, use = [x509.UniformResourceIdentifier(f"{_CLIENT}{name}")], ExtendedKeyUsageOID.CLIENT_AUTH
        if not names:
            raise UsageError("a node has at least one host, under which clients reach it")
        until = min(end, now + timedelta(days=_checked_days(days)))
        issuer = self.certificate.public_key()
        certificate = (
            _builder(_subject(name), self.certificate.subject, key.public_key(), now, until)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(signs=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([use]), critical=False)
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer), critical=False)  # type: ignore[arg-type]
            .sign(self._key, self._digest())
        )
        return _issued(certificate, key)

    def revoke(self, revoked: bytes | None, certificate: bytes, now: datetime) -> bytes:
        """The revocation list with one certificate more, as PEM.

        Args:
            revoked: the list so far, as PEM; None if there is none.
            certificate: of this authority, as PEM.
            now: the time, with a time zone.

        Raises:
            BadCertificate: the certificate or the list is not of this authority.
        """
        gone = load_certificate(certificate)
        try:
            gone.verify_directly_issued_by(self.certificate)
        except (ValueError, TypeError, InvalidSignature):
            raise BadCertificate("the certificate is of another authority") from None
        builder = x509.CertificateRevocationListBuilder(issuer_name=self.certificate.subject)
        entries = {gone.serial_number: now}
        if revoked is not None:
            before = RevocationLists(revoked, [self.certificate])
            entries |= before.revoked_by(self.certificate)
        for serial, when in entries.items():
            entry = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(when).build()
            builder = builder.add_revoked_certificate(entry)
        signed = (
            builder.last_update(now - BACKDATED)
            .next_update(self.certificate.not_valid_after_utc)
            .sign(self._key, self._digest())
        )
        return signed.public_bytes(serialization.Encoding.PEM)

    def _digest(self) -> hashes.SHA256 | None:
        return hashes.SHA256() if isinstance(self._key, ec.EllipticCurvePrivateKey) else None


@frozen
class _List:
    """One revocation list: serial numbers with their times, and until when it is good."""

    revoked: dict[int, datetime]
    until: datetime | None


class RevocationLists:
    """The certificates that authorities have taken back.

    Args:
        data: a list, or several, as PEM; or one as DER.
        authorities: each list must be signed by one of them.

    Raises:
        BadCertificate: there is no list, or one is not of an authority.
    """

    def __init__(self, data: bytes, authorities: Sequence[x509.Certificate]) -> None:
        self._lists: dict[x509.Name, _List] = {}
        try:
            blocks = _LIST_BLOCK.findall(data)
            loaded = [x509.load_pem_x509_crl(each) for each in blocks] or [x509.load_der_x509_crl(data)]
            for each in loaded:
                if not any(one.subject == each.issuer and _signed(each, one) for one in authorities):
                    raise BadCertificate("the revocation list is not of the authority")
                revoked = {one.serial_number: one.revocation_date_utc for one in each}
                self._lists[each.issuer] = _List(revoked, each.next_update_utc)
        except ValueError as error:
            raise BadCertificate(f"no revocation list: {error}") from None

    def revoked_by(self, authority: x509.Certificate) -> dict[int, datetime]:
        """What that authority has taken back: serial numbers, with the time of each."""
        found = self._lists.get(authority.subject)
        return {} if found is None else found.revoked

    def check(self, certificate: x509.Certificate, now: datetime) -> None:
        """Do nothing if the certificate is good.

        Raises:
            BadCertificate: it was revoked, or there is no list of its authority, or the list's own time is over.
        """
        found = self._lists.get(certificate.issuer)
        if found is None:
            raise BadCertificate("there is no revocation list of its authority")
        if found.until is not None and found.until < now:
            raise BadCertificate(f"the revocation list was good until {found.until:%Y-%m-%d %H:%M} UTC")
        if certificate.serial_number in found.revoked:
            raise BadCertificate("it was revoked")


def load_certificate(data: bytes) -> x509.Certificate:
    """The first certificate in PEM.

    Raises:
        BadCertificate: there is none.
    """
    return load_certificates(data)[0]


def load_certificates(data: bytes) -> list[x509.Certificate]:
    """All certificates in PEM; at least one.

    Raises:
        BadCertificate: there is none.
    """
    try:
        return x509.load_pem_x509_certificates(data)
    except ValueError as error:
        raise BadCertificate(f"no certificate in PEM: {error}") from None


def is_authority(certificate: x509.Certificate) -> bool:
    """Whether it may sign others."""
    try:
        return bool(certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca)
    except (x509.ExtensionNotFound, ValueError):
        return False


def client_name(certificate: x509.Certificate) -> str:
    """The name of the client that a certificate is of; whether it can be trusted is another question.

    Raises:
        BadCertificate: it names no client, or more than one.
    """
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, x509.DuplicateExtension, ValueError):
        raise BadCertificate("it has no alternative name") from None
    found: list[str] = [name.value for name in names if isinstance(name, _MAIL_OR_HOST)]
    chosen = [name for name in found if name.startswith(_CLIENT)] or found
    if len(chosen) != 1:
        raise BadCertificate(f"{len(chosen)} of its alternative names could name the client")
    name = chosen[0].removeprefix(_CLIENT)
    try:
        checked_name(name, "a client name")
    except UsageError as error:
        raise BadCertificate(str(error)) from None
    if "+" in name:
        raise BadCertificate(f"the name {name!r} has a +, which stands between a name and what a client adds to it")
    return name


def _subject(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, now: datetime, until: datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder(issuer_name=issuer, subject_name=subject, public_key=key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATED)
        .not_valid_after(until)
    )


def _usage(*, signs: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs,
        crl_sign=signs,
        encipher_only=False,
        decipher_only=False,
    )


def _host(text: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(text))
    except ValueError:
        pass
    labels = text.split(".")
    if len(text) > 253 or not all(re.fullmatch(r"(?!-)[A-Za-z0-9-]{1,63}(?<!-)", label) for label in labels):
        raise UsageError(f"{text!r} is neither a DNS name nor an address")
    return x509.DNSName(text)


def _issued(certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> Issued:
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return Issued(certificate.public_bytes(serialization.Encoding.PEM), private)


def _signed(revoked: x509.CertificateRevocationList, issuer: x509.Certificate) -> bool:
    key = issuer.public_key()
    try:
        return revoked.is_signature_valid(key)  # type: ignore[arg-type]  # it says itself which keys cannot sign
    except TypeError:
        return False


def _checked_days(days: int) -> int:
    if not 0 < days <= MAX_DAYS:
        raise UsageError(f"a certificate is good for 1 to {MAX_DAYS} days, not {days}")
    return days
