"""The certificates of nodes: one's own, and whether those of others are good.

Decides what makes a certificate that of a node: its authority's signature, its time, that it is for servers and not
for clients, that it was not taken back, and the node's name as its common name.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from groupcomm.limits import MAX_PASSPORTS
from groupcomm.trust.certificates import (
    BadCertificate,
    RevocationLists,
    is_authority,
    load_certificate,
    load_certificates,
)

_HALF_BYTES: Final = 32
_UNFIT: Final = (
    ValueError,
    TypeError,
    InvalidSignature,
    UnsupportedAlgorithm,
    x509.InvalidVersion,
    x509.ExtensionNotFound,
    x509.DuplicateExtension,
    x509.UnsupportedGeneralNameType,
)
"""What the library says of bytes that are no certificate, or one that it does not understand."""

_ECDSA: Final = ec.ECDSA(hashes.SHA256())


class NodeCertificate:
    """The certificate of a node with its key, and the authorities that it believes.

    Args:
        certificate: as PEM.
        key: as PEM, without a passphrase.
        authorities: their certificates, as PEM.
        clock: the time, with a time zone.
        revoked: the revocation lists, as PEM; None: none is looked at.

    Raises:
        BadCertificate: one of them is not what it must be.

    Attributes:
        certificate: in DER.
        name: of the node.
    """

    def __init__(
        self,
        certificate: bytes,
        key: bytes,
        authorities: bytes,
        clock: Callable[[], datetime],
        revoked: bytes | None = None,
    ) -> None:
        own = load_certificate(certificate)
        self._clock = clock
        self._authorities = load_certificates(authorities)
        for one in self._authorities:
            if not is_authority(one):
                raise BadCertificate(f"{one.subject.rfc4514_string()} is no authority")
        self._revoked: RevocationLists | None = None
        self._issued: dict[bytes, x509.Certificate] = {}
        self.certificate = own.public_bytes(serialization.Encoding.DER)
        self._key = _private_key(key)
        if self._key.public_key() != own.public_key():
            raise BadCertificate("the private key is not that of the certificate")
        self.name = node_name(own)
        self.revoke(revoked)
        self._check(self.certificate)

    def revoke(self, revoked: bytes | None) -> None:
        """From now on heed these revocation lists.

        Raises:
            BadCertificate: they are none, or not of the authorities; then nothing has changed.
        """
        self._revoked = None if revoked is None else RevocationLists(revoked, self._authorities)

    def sign(self, data: bytes) -> bytes:
        """The signature of 64 bytes: of Ed25519; of ECDSA, r and s of 32 bytes each."""
        if isinstance(self._key, ed25519.Ed25519PrivateKey):
            return self._key.sign(data)
        r, s = decode_dss_signature(self._key.sign(data, _ECDSA))
        return r.to_bytes(_HALF_BYTES) + s.to_bytes(_HALF_BYTES)

    def check(self, certificate: bytes, name: str, data: bytes, signature: bytes) -> str | None:
        """See ``groupcomm.config.NodeIdentity``."""
        try:
            found = self._check(certificate)
            if node_name(found) != name:
                return f"the certificate is that of {node_name(found)}, not of {name}"
            if not _has_signed(found, data, signature):
                return f"it is not signed by {name}"
        except BadCertificate as error:
            return str(error)
        return None

    def _check(self, data: bytes) -> x509.Certificate:
        """A certificate of a node that is good at this moment."""
        certificate, now = self._issued.get(data), self._clock()
        if certificate is None:
            certificate = self._issued_by_authority(data)
            if len(self._issued) >= MAX_PASSPORTS:
                del self._issued[next(iter(self._issued))]
            self._issued[data] = certificate
        if not certificate.not_valid_before_utc <= now <= certificate.not_valid_after_utc:
            begin, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
            raise BadCertificate(f"the certificate is good from {begin:%Y-%m-%d %H:%M} to {end:%Y-%m-%d %H:%M} UTC")
        if self._revoked is not None:
            self._revoked.check(certificate, now)
        return certificate

    def _issued_by_authority(self, data: bytes) -> x509.Certificate:
        try:
            certificate = x509.load_der_x509_certificate(data)
        except _UNFIT as error:
            raise BadCertificate(f"no certificate: {error}") from None
        now = self._clock()
        for authority in self._authorities:
            try:
                certificate.verify_directly_issued_by(authority)
            except _UNFIT:
                continue
            if authority.not_valid_before_utc <= now <= authority.not_valid_after_utc:
                node_name(certificate)
                return certificate
        raise BadCertificate("the certificate is not of this cluster's authority")


def node_name(certificate: x509.Certificate) -> str:
    """The name of the node that a certificate is of; whether it can be trusted is another question.

    Raises:
        BadCertificate: it is not that of a node.
    """
    try:
        uses = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
        names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
        authority = is_authority(certificate)
    except _UNFIT:
        raise BadCertificate("the certificate does not say what it is for: see groupcomm ca issue --node") from None
    if authority or ExtendedKeyUsageOID.SERVER_AUTH not in uses or len(names) != 1:
        raise BadCertificate("the certificate is not that of a node: see groupcomm ca issue --node")
    return str(names[0].value)


def _private_key(key: bytes) -> ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey:
    try:
        loaded = serialization.load_pem_private_key(key, None)
    except (ValueError, TypeError) as error:
        raise BadCertificate(f"no private key in PEM without a passphrase: {error}") from None
    if isinstance(loaded, ed25519.Ed25519PrivateKey):
        return loaded
    if isinstance(loaded, ec.EllipticCurvePrivateKey) and isinstance(loaded.curve, ec.SECP256R1):
        return loaded
    raise BadCertificate("a node has a key on the curve P-256, or one of Ed25519")


def _has_signed(certificate: x509.Certificate, data: bytes, signature: bytes) -> bool:
    try:
        key = certificate.public_key()
        if isinstance(key, ed25519.Ed25519PublicKey):
            key.verify(signature, data)
            return True
        if isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, ec.SECP256R1):
            halves = (int.from_bytes(signature[:_HALF_BYTES]), int.from_bytes(signature[_HALF_BYTES:]))
            key.verify(encode_dss_signature(*halves), data, _ECDSA)
            return True
    except _UNFIT:
        return False
    return False
