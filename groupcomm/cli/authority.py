"""``groupcomm ca``: the certificate authority of a cluster, and what it signs, as files.

Decides names and modes of the files: ``ca.crt`` and ``ca.key`` in a directory of the authority's own, ``NAME.crt`` and
``NAME.key`` where the user is. A file that is there is never written over, but the revocation list.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from groupcomm.cli.running import CommandFailed, write_line
from groupcomm.errors import UsageError
from groupcomm.trust.certificates import AUTHORITY_DAYS, CERTIFICATE_DAYS, Authority, Issued, Kind, load_certificate

CERTIFICATE: Final = "ca.crt"
KEY: Final = "ca.key"
REVOKED: Final = "revoked.crl"
PRIVATE: Final = 0o600
PUBLIC: Final = 0o644


def new_authority(directory: Path, name: str, days: int | None) -> None:
    """Make an authority in a directory, which is made too.

    Raises:
        CommandFailed: there is one already, or the directory cannot be written to.
    """
    issued = Authority.new(name, datetime.now(UTC), AUTHORITY_DAYS if days is None else days)
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise CommandFailed(f"cannot make {directory}: {error.strerror}") from None
    _write_both(directory / CERTIFICATE, directory / KEY, issued)
    write_line(
        f"{directory / KEY}: the authority's private key; who has it can let anybody in, so keep it off the nodes"
    )
    write_line(f"{directory / CERTIFICATE}: its certificate, good until {_end(issued)}; nodes and clients need a copy")


def issue(directory: Path, name: str, purpose: str, hosts: Sequence[str], days: int | None, out: Path) -> None:
    """Make a key and a certificate for a ``node`` or a ``client``.

    Raises:
        CommandFailed: there is no authority, or the files are there already.
        UsageError: a name, a host or the days are not as they must be.
    """
    kind = Kind(purpose)
    if kind is Kind.CLIENT and hosts:
        raise UsageError("--host is for nodes, which clients reach under it: add --node")
    if kind is Kind.NODE and not hosts:
        hosts = (name,)
    days = CERTIFICATE_DAYS if days is None else days
    issued = _authority(directory).issue(name, kind, datetime.now(UTC), hosts=hosts, days=days)
    certificate, key = out / f"{name}.crt", out / f"{name}.key"
    _write_both(certificate, key, issued)
    write_line(f"{key}: private key of {kind.value} {name}")
    reached = f", reached as {', '.join(hosts)}" if hosts else ""
    write_line(f"{certificate}: its certificate, good until {_end(issued)}{reached}")
    ca = directory / CERTIFICATE
    if kind is Kind.NODE:
        write_line(f"for its daemon: --node-certificate {certificate} --node-key {key} --ca {ca}")
        tls = f"groupcomm-tls:4875:privateKey={key}:certKey={certificate}:clientCA={ca}"
        write_line(f"for clients on other hosts: --control {tls}")
    else:
        write_line(f"for the client: --control tls:HOST:4875:privateKey={key}:certKey={certificate}:caCerts={ca}")


def revoke(directory: Path, certificate: Path) -> None:
    """Put a certificate on the revocation list.

    Raises:
        CommandFailed: there is no authority, or a file cannot be read or written.
        UsageError: the certificate is of another authority.
    """
    listed = directory / REVOKED
    before = _read(listed) if listed.exists() else None
    revoked = _authority(directory).revoke(before, _read(certificate), datetime.now(UTC))
    fresh = listed.with_suffix(".new")
    fresh.unlink(missing_ok=True)
    _write(fresh, revoked, PUBLIC)
    fresh.rename(listed)
    write_line(f"{listed}: the revocation list; daemons with revoked={listed} refuse the certificate from now on")


def _authority(directory: Path) -> Authority:
    return Authority(_read(directory / CERTIFICATE), _read(directory / KEY))


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        hint = ": make an authority with: groupcomm ca new DIR" if path.name == CERTIFICATE else ""
        raise CommandFailed(f"cannot read {path}: {error.strerror}{hint}") from None


def _write_both(certificate: Path, key: Path, issued: Issued) -> None:
    for path in (certificate, key):
        if os.path.lexists(path):
            raise CommandFailed(f"{path} is there already, and nothing is written over")
    _write(key, issued.key, PRIVATE)
    try:
        _write(certificate, issued.certificate, PUBLIC)
    except CommandFailed:
        key.unlink()
        raise


def _write(path: Path, data: bytes, mode: int) -> None:
    """A new file that has its mode from the moment it exists."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, mode)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
    except FileExistsError:
        raise CommandFailed(f"{path} is there already, and nothing is written over") from None
    except OSError as error:
        raise CommandFailed(f"cannot write {path}: {error.strerror}") from None


def _end(issued: Issued) -> str:
    return f"{load_certificate(issued.certificate).not_valid_after_utc:%Y-%m-%d}"
