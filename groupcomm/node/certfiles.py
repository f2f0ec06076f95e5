"""Where a node's certificate is kept, and the revocation list, which is read again when it changes.

Decides what makes files unfit: a private key that others could read is refused, as a cluster key is.
"""

from __future__ import annotations

import os
import stat
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from attrs import frozen
from twisted.logger import Logger

from groupcomm.errors import EnvironmentFault, UsageError
from groupcomm.trust.certificates import BadCertificate
from groupcomm.trust.nodes import NodeCertificate

MAX_FILE_BYTES: Final = 16 * 1024 * 1024
"""Of a certificate, a key or a revocation list."""

LOOK_SECONDS: Final = 1.0
"""How often it is looked whether the revocation list has changed."""


@frozen
class CertificateFiles:
    """Where a node's certificate and what belongs to it are, all as PEM.

    Attributes:
        certificate: of the node.
        key: its private key.
        authorities: the certificates of those whose nodes are let in.
        revoked: the revocation lists; None: none is looked at.
    """

    certificate: Path
    key: Path
    authorities: Path
    revoked: Path | None = None


class NodeCertificateFiles(NodeCertificate):
    """The certificate of a node, from files.

    Args:
        files: which.
        node: the node's name.

    Raises:
        EnvironmentFault: one of them cannot be read, or is unfit; the text says what to do.
    """

    _log = Logger()

    def __init__(self, files: CertificateFiles, node: str) -> None:
        self._path = files.revoked
        self._looked_at = time.monotonic()
        self._state = self._now_there()
        certificate, key = _read(files.certificate), _read(files.key, private=True)
        authorities = _read(files.authorities)
        revoked = None if files.revoked is None else _read(files.revoked)
        try:
            super().__init__(certificate, key, authorities, lambda: datetime.now(UTC), revoked)
        except BadCertificate as error:
            raise EnvironmentFault(f"{files.certificate}, {files.key} or {files.authorities}: {error}") from None
        if self.name != node:
            raise EnvironmentFault(f"{files.certificate} is the certificate of the node {self.name!r}, not of {node!r}")

    def check(self, certificate: bytes, name: str, data: bytes, signature: bytes) -> str | None:
        """See ``groupcomm.config.NodeIdentity``."""
        self.look()
        return super().check(certificate, name, data, signature)

    def look(self) -> None:
        """Read the revocation list if it has changed; one that cannot be read leaves the last as it was."""
        now = time.monotonic()
        if self._path is None or now - self._looked_at < LOOK_SECONDS:
            return
        self._looked_at = now
        state = self._now_there()
        if state == self._state:
            return
        self._state = state
        try:
            self.revoke(_read(self._path))
        except UsageError as error:
            self._log.error("the last revocation list stays: {path}: {error}", path=str(self._path), error=str(error))
        except EnvironmentFault as error:
            self._log.error("the last revocation list stays: {error}", error=str(error))
        else:
            self._log.info("read the revocation list {path}", path=str(self._path))

    def _now_there(self) -> tuple[int, ...] | None:
        if self._path is None:
            return None
        try:
            found = os.stat(self._path)
        except OSError:
            return None
        return found.st_ino, found.st_size, found.st_mtime_ns


def _read(path: Path, *, private: bool = False) -> bytes:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        with os.fdopen(descriptor, "rb") as file:
            found = os.fstat(descriptor)
            if not stat.S_ISREG(found.st_mode):
                raise EnvironmentFault(f"{path} is not a file")
            if private and found.st_mode & 0o077:
                mode = stat.S_IMODE(found.st_mode)
                raise EnvironmentFault(f"others may read the private key {path} (mode {mode:04o}): chmod 600 {path}")
            return file.read(MAX_FILE_BYTES)
    except OSError as error:
        raise EnvironmentFault(f"cannot read {path}: {error.strerror}") from None
