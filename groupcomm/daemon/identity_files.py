"""The files that TLS needs at either end: a private key, its certificate, and whom to trust.

Decides what may be loaded: a key that others may read is none. What the certificates say is ``trust.certificates``'s.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Final

from attrs import frozen
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from OpenSSL import SSL, crypto

from groupcomm.errors import EnvironmentFault
from groupcomm.trust.certificates import BadCertificate, load_certificates

MAX_FILE_BYTES: Final = 4 * 1024 * 1024
"""The largest that is read: a revocation list of some 100,000 certificates."""

VERIFY_ERRORS: Final = {
    7: "its signature is wrong",
    9: "its time has not come",
    10: "its time is over",
    18: "it is of another authority",
    19: "it is of another authority",
    20: "it is of another authority",
    21: "it is of another authority",
    26: "it is not for this use",
    79: "it is of an authority that may not sign",
}
"""The usual answers of OpenSSL (``x509_vfy.h``), in words."""


@frozen
class Identity:
    """A private key with its certificate and what lies between that and the authority."""

    key: crypto.PKey
    certificate: x509.Certificate
    chain: tuple[x509.Certificate, ...]


def read_identity(key: Path, certificate: Path) -> Identity:
    """A key and its certificate from two files in PEM, which may be one.

    Raises:
        EnvironmentFault: a file cannot be read, others may read the key, or the two do not belong together.
    """
    data = read_file(key, private=True)
    certificates = read_certificates(certificate)
    try:
        loaded = serialization.load_pem_private_key(data, None)
    except (ValueError, TypeError) as error:
        raise EnvironmentFault(f"{key}: no private key in PEM without a passphrase: {error}") from None
    if loaded.public_key() != certificates[0].public_key():
        raise EnvironmentFault(f"{key} is not the private key of the certificate in {certificate}")
    try:
        converted = crypto.PKey.from_cryptography_key(loaded)  # type: ignore[arg-type]  # it says itself which it takes
    except TypeError:
        raise EnvironmentFault(f"{key}: no key of a kind that TLS takes") from None
    return Identity(converted, certificates[0], tuple(certificates[1:]))


def read_certificates(path: Path) -> list[x509.Certificate]:
    """All certificates in a file in PEM.

    Raises:
        EnvironmentFault: it cannot be read, or has none.
    """
    try:
        return load_certificates(read_file(path))
    except BadCertificate as error:
        raise EnvironmentFault(f"{path}: {error}") from None


def read_file(path: Path, *, private: bool = False) -> bytes:
    """The bytes of a file; a private one must be so.

    Raises:
        EnvironmentFault: it cannot be read, is too large, or others than its owner and group may read it.
    """
    try:
        with path.open("rb") as file:
            status = os.fstat(file.fileno())
            data = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise EnvironmentFault(f"cannot read {path}: {error.strerror}") from None
    if private and status.st_mode & (stat.S_IRWXO | stat.S_IWGRP):
        raise EnvironmentFault(f"others may read or change the private key {path}: chmod 600 {path}")
    if len(data) > MAX_FILE_BYTES:
        raise EnvironmentFault(f"{path} is larger than {MAX_FILE_BYTES} bytes")
    return data


def file_version(path: Path) -> tuple[int, ...]:
    """What changes when a file does; empty if it is not there."""
    try:
        status = path.stat()
    except OSError:
        return ()
    return status.st_mtime_ns, status.st_size, status.st_ino


def openssl_words(error: SSL.Error) -> str:
    """What OpenSSL says of an error."""
    reasons = error.args[0] if error.args else ()
    return "; ".join(str(part[-1]) for part in reasons)[:200] or "the connection was closed"
