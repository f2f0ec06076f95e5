"""Who is at the other end of a connection, as the way it came by says; never what the other end says of itself.

The ways are in ``doc/design/access.md``. A name a client logs in under is another matter: a certificate binds it, the
other ways do not.
"""

from __future__ import annotations

import socket
import struct
from collections import Counter
from collections.abc import Callable
from typing import Final, Protocol

from attrs import frozen
from twisted.internet.interfaces import IAddress
from zope.interface import implementer

_CREDENTIALS: Final = struct.Struct("iII")
"""What the kernel tells of the other end of a UNIX socket (unix(7)): process, user, group."""


@frozen
class Principal:
    """One who may have rights.

    Attributes:
        name: ``uid:N``, ``cert:NAME`` or ``loopback``; patterns of the rights match it.
        certificate: digest of the certificate that says so; empty if there is none.
    """

    name: str
    certificate: bytes = b""

    @property
    def client_name(self) -> str | None:
        """The name a client with this certificate logs in under; None: any."""
        return self.name.removeprefix("cert:") if self.certificate else None


LOOPBACK: Final = Principal("loopback")
"""Whoever connects to a TCP port of this host."""


def user_principal(uid: int) -> Principal:
    """A user of this host."""
    return Principal(f"uid:{uid}")


@implementer(IAddress)
@frozen
class CertifiedAddress:
    """The other end of a connection whose certificate was verified.

    Attributes:
        host: its address.
        port: its port.
        principal: who it is.
        protocol: what it asked for (ALPN); None if nothing.
        since: when it connected, in the reactor's time.
    """

    host: str
    port: int
    principal: Principal
    protocol: bytes | None
    since: float


class LocalSocket(Protocol):
    """What is asked of a connected socket."""

    @property
    def family(self) -> int:
        """Of addresses."""

    def getsockopt(self, level: int, option: int, size: int, /) -> bytes:
        """As the kernel answers."""


def local_principal(connected: LocalSocket) -> Principal:
    """Who is at the other end of a socket of this host."""
    if connected.family != socket.AF_UNIX:
        return LOOPBACK
    _, uid, _ = _CREDENTIALS.unpack(connected.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size))
    return user_principal(uid)


class Crowd:
    """Counts connections by principal.

    Invariant: none that is not exempt has more than ``limit``.

    Args:
        limit: how many one may have.
        exempt: whether a principal may have any number.
    """

    def __init__(self, limit: int, exempt: Callable[[Principal], bool]) -> None:
        self._limit = limit
        self._exempt = exempt
        self._counts: Counter[str] = Counter()

    def enter(self, principal: Principal) -> bool:
        """One connection more, if there is room for it; whether there is."""
        if self._counts[principal.name] >= self._limit and not (principal == LOOPBACK or self._exempt(principal)):
            return False
        self._counts[principal.name] += 1
        return True

    def leave(self, principal: Principal) -> None:
        """One that has entered is gone."""
        self._counts[principal.name] -= 1
        if not self._counts[principal.name]:
            del self._counts[principal.name]
