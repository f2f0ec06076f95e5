"""The TLS endpoint for clients on other hosts: who gets past it, and as whom.

Decides everything before the first byte of a client is handed on: TLS 1.3, a certificate of the authority that names a
client and is not revoked, and all that in time. What is on a connection then is decided by whoever listens, who is told
the principal and the protocol (``CertifiedAddress``). The rules are in ``doc/design/access.md``.
"""

# What is inherited from twisted.protocols.tls is untyped.
# mypy: disallow-untyped-calls=False

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast
from typing import Protocol as Interface

from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256
from OpenSSL import SSL, crypto
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.interfaces import (
    IAddress,
    IDelayedCall,
    IHandshakeListener,
    IListeningPort,
    IOpenSSLServerConnectionCreator,
    IProtocolFactory,
    IReactorTCP,
    IReactorTime,
    IStreamServerEndpoint,
)
from twisted.internet.protocol import Protocol, ServerFactory, connectionDone
from twisted.logger import Logger
from twisted.protocols.tls import TLSMemoryBIOFactory, TLSMemoryBIOProtocol
from twisted.python.failure import Failure
from zope.interface import implementer

from groupcomm.daemon import caps
from groupcomm.daemon.control import CHANNEL_PROTOCOL, CONTROL_PROTOCOL, TlsControl, TlsFiles
from groupcomm.daemon.identity_files import (
    VERIFY_ERRORS,
    file_version,
    openssl_words,
    read_certificates,
    read_file,
    read_identity,
)
from groupcomm.daemon.principal import CertifiedAddress, Principal
from groupcomm.errors import EnvironmentFault
from groupcomm.trust.certificates import BadCertificate, RevocationLists, client_name, is_authority


class Gatekeeper:
    """Knows the files of an endpoint as they are now, and judges certificates by them.

    Invariant: ``_context`` is made of ``_authorities`` and of the key and the certificate read with them.

    Args:
        files: where they are.
        now: the time; the system's unless given.
    """

    _log = Logger()

    def __init__(self, files: TlsFiles, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._files = files
        self._now = now
        self._versions: tuple[tuple[int, ...], ...] = ()
        self._context: SSL.Context
        self._authorities: list[x509.Certificate] = []
        self._revoked: RevocationLists | None = None
        self._revoked_version: tuple[int, ...] | None = None
        self._revoked_error = ""

    def load(self) -> None:
        """Read the files.

        Raises:
            EnvironmentFault: one is not as it must be.
        """
        versions = self._file_versions()
        identity = read_identity(self._files.private_key, self._files.certificate)
        authorities = read_certificates(self._files.client_ca)
        for authority in authorities:
            if not is_authority(authority):
                raise EnvironmentFault(f"{self._files.client_ca}: a certificate in it is not that of an authority")
        if identity.certificate.not_valid_after_utc < self._now():
            self._log.warn(
                "the time of the certificate {path} is over: no client will come", path=self._files.certificate
            )
        context = SSL.Context(SSL.TLS_SERVER_METHOD)
        context.set_min_proto_version(SSL.TLS1_3_VERSION)
        context.set_options(SSL.OP_NO_TICKET | SSL.OP_NO_COMPRESSION)
        context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
        context.set_mode(SSL.MODE_RELEASE_BUFFERS)  # a quiet connection holds half as much
        context.use_privatekey(identity.key)
        context.use_certificate(crypto.X509.from_cryptography(identity.certificate))
        for each in identity.chain:
            context.add_extra_chain_cert(crypto.X509.from_cryptography(each))
        store = context.get_cert_store()
        assert store is not None
        for authority in authorities:
            store.add_cert(crypto.X509.from_cryptography(authority))
            context.add_client_ca(crypto.X509.from_cryptography(authority))
        context.set_verify(SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT, self._verified)
        context.set_alpn_select_callback(_select)
        self._context, self._authorities, self._versions = context, authorities, versions
        self._revoked_version = None

    @property
    def context(self) -> SSL.Context:
        """For a new connection, of the files as they are now; the last good ones if they are not good."""
        if self._file_versions() != self._versions:
            try:
                self.load()
            except EnvironmentFault as error:
                self._versions = self._file_versions()
                self._log.error("the certificates stay as they were: {error}", error=error)
            else:
                self._log.info("certificates read again")
        return self._context

    def _file_versions(self) -> tuple[tuple[int, ...], ...]:
        """What changes when one of those does that the context is made of."""
        return tuple(map(file_version, (self._files.private_key, self._files.certificate, self._files.client_ca)))

    def judge(self, certificate: x509.Certificate) -> Principal:
        """Who has that certificate, which is of the authority and within its time.

        Raises:
            BadCertificate: it was revoked, or names no client.
        """
        if self._files.revoked is not None:
            self._read_revoked(self._files.revoked)
            if self._revoked is None:
                raise BadCertificate(self._revoked_error)
            self._revoked.check(certificate, self._now())
        return Principal(f"cert:{client_name(certificate)}", certificate.fingerprint(SHA256()))

    def _read_revoked(self, path: Path) -> None:
        version = file_version(path)
        if version == self._revoked_version:
            return
        self._revoked_version = version
        try:
            self._revoked = RevocationLists(read_file(path), self._authorities)
        except (EnvironmentFault, BadCertificate) as error:
            self._revoked = None
            self._revoked_error = f"the revocation list {path} is of no use: {error}"
            self._log.error("no client can come: {error}", error=self._revoked_error)

    def _verified(self, connection: SSL.Connection, found: crypto.X509, error: int, depth: int, good: int) -> bool:
        """What OpenSSL asks for each certificate of a chain, from the authority's on."""
        door = cast(Door, cast(TLSMemoryBIOProtocol, connection.get_app_data()).wrappedProtocol)
        if not good:
            door.refusal = f"a certificate was refused: {VERIFY_ERRORS.get(error, f'X.509 error {error}')}"
            return False
        if depth == 0:
            try:
                door.principal = self.judge(found.to_cryptography())
            except BadCertificate as reason:
                door.refusal = f"a certificate was refused: {reason}"
                return False
        return True


def _select(connection: SSL.Connection, offered: list[bytes]) -> Any:
    for protocol in (CHANNEL_PROTOCOL, CONTROL_PROTOCOL):
        if protocol in offered:
            return protocol
    return SSL.NO_OVERLAPPING_PROTOCOLS


@implementer(IHandshakeListener)
class Door(Protocol):
    """One connection: a stranger until its handshake is over, then whoever listens has it.

    Attributes:
        principal: who it is, once its certificate was found good in this handshake.
        refusal: why its certificate was refused, if it was.
    """

    transport: TLSMemoryBIOProtocol

    def __init__(self, doors: TlsDoors) -> None:
        self.principal: Principal | None = None
        self.refusal = ""
        self._doors = doors
        self._since = 0.0
        self._deadline: IDelayedCall | None = None
        self._inner: Any = None

    def connectionMade(self) -> None:
        """The clock starts."""
        self._since = self._doors.clock.seconds()
        self._deadline = self._doors.clock.callLater(caps.LOGIN_SECONDS, self._is_late)

    def handshakeCompleted(self) -> None:
        """Both sides have shown who they are: hand the connection on."""
        self._cancel()
        self._doors.strangers.discard(self)
        if self.principal is None:
            self.refusal = "no certificate was shown in this handshake"
            self.transport.abortConnection()
            return
        peer = self.transport.getPeer()
        protocol = self.transport.negotiatedProtocol
        address = CertifiedAddress(peer.host, peer.port, self.principal, protocol, self._since)
        inner = self._doors.inner.buildProtocol(address)
        if inner is None:
            self.transport.abortConnection()
            return
        self._inner = inner
        inner.makeConnection(self.transport)

    def dataReceived(self, data: bytes) -> None:
        """Bytes of a client."""
        if self._inner is not None:
            self._inner.dataReceived(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """It is over."""
        self._cancel()
        if self._inner is not None:
            self._inner.connectionLost(reason)
            return
        if self in self._doors.strangers or self.refusal:
            self._doors.refused(self.refusal or f"no TLS handshake: {_words(reason)}")
        self._doors.strangers.discard(self)

    def _is_late(self) -> None:
        self._deadline = None
        self.refusal = f"no TLS handshake within {caps.LOGIN_SECONDS:.0f} s"
        self.transport.abortConnection()

    def _cancel(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None


def _words(reason: Failure) -> str:
    """Why a handshake has failed."""
    return openssl_words(reason.value) if isinstance(reason.value, SSL.Error) else "the connection was closed"


class AcceptingPort(Interface):
    """What is asked of a listening port."""

    def pauseProducing(self) -> None:
        """Accept no more for now."""

    def resumeProducing(self) -> None:
        """Accept again."""


@implementer(IOpenSSLServerConnectionCreator)
class TlsDoors(ServerFactory):
    """The connections of one endpoint that are not handed on yet.

    Invariants: at most ``MAX_HANDSHAKES`` are strangers; of connections no more than ``HANDSHAKES_PER_SECOND`` are
    accepted in the long run, and of those that come together not more than are with the port's own bound.
    """

    noisy = False

    def __init__(
        self, clock: IReactorTime, gatekeeper: Gatekeeper, inner: IProtocolFactory, refused: Callable[[str], None]
    ) -> None:
        self.clock = clock
        self.gatekeeper = gatekeeper
        self.inner = inner
        self.refused = refused
        self.strangers: set[Door] = set()
        self.port: AcceptingPort | None = None
        self._credit = float(caps.HANDSHAKES_PER_SECOND)
        self._counted_at = clock.seconds()
        self._resuming: IDelayedCall | None = None

    def doStart(self) -> None:
        """The port opens."""
        self.inner.doStart()

    def doStop(self) -> None:
        """The port is closed."""
        self.port = None
        if self._resuming is not None:
            self._resuming.cancel()
            self._resuming = None
        self.inner.doStop()

    def accepted(self) -> None:
        """One connection was: the next have to wait if there have been too many of late."""
        now = self.clock.seconds()
        rate = caps.HANDSHAKES_PER_SECOND
        self._credit = min(float(rate), self._credit + (now - self._counted_at) * rate) - 1
        self._counted_at = now
        if self._credit < 0 and self.port is not None and self._resuming is None:
            self.port.pauseProducing()
            self._resuming = self.clock.callLater(-self._credit / rate, self._go_on)

    def _go_on(self) -> None:
        self._resuming = None
        if self.port is not None:
            self.port.resumeProducing()

    def buildProtocol(self, addr: IAddress | None) -> Door:
        """For a new connection."""
        door = Door(self)
        self.strangers.add(door)
        return door

    def serverConnectionForTLS(self, tlsProtocol: TLSMemoryBIOProtocol) -> SSL.Connection:
        """OpenSSL's part of it."""
        return SSL.Connection(self.gatekeeper.context, None)


class TlsFactory(TLSMemoryBIOFactory):
    """Adds TLS to connections, if there are not too many that have not got through it."""

    noisy = False

    def __init__(self, doors: TlsDoors) -> None:
        super().__init__(doors, False, doors, doors.clock)
        self._doors = doors

    def buildProtocol(self, addr: IAddress | None) -> TLSMemoryBIOProtocol | None:  # type: ignore[override]
        """None, which closes the connection, if there are."""
        self._doors.accepted()
        if len(self._doors.strangers) >= caps.MAX_HANDSHAKES:
            self._doors.refused("too many TLS handshakes at once")
            return None
        return super().buildProtocol(addr)


@implementer(IStreamServerEndpoint)
class TlsServerEndpoint:
    """Listens for clients with certificates.

    Args:
        reactor: runs it.
        control: where to listen, and with which files.
        refused: told why a connection was not let in; logged unless given.
    """

    _log = Logger()

    def __init__(
        self,
        reactor: IReactorTime,
        control: TlsControl,
        refused: Callable[[str], None] | None = None,
    ) -> None:
        self._reactor = reactor
        self._control = control
        self._refused = refused or (lambda text: self._log.debug("{text}", text=text))

    def listen(self, protocolFactory: IProtocolFactory) -> Deferred[IListeningPort]:
        """Begin to listen; the factory's ``buildProtocol`` gets a ``CertifiedAddress``.

        Raises:
            EnvironmentFault: a file is not as it must be; through the Deferred.
        """
        return maybeDeferred(self._listen, protocolFactory)

    def _listen(self, factory: IProtocolFactory) -> IListeningPort:
        gatekeeper = Gatekeeper(self._control.files)
        gatekeeper.load()
        doors = TlsDoors(self._reactor, gatekeeper, factory, self._refused)
        reactor = cast(IReactorTCP, self._reactor)
        outside: Any = TlsFactory(doors)
        port: IListeningPort = reactor.listenTCP(
            self._control.port, outside, caps.MAX_HANDSHAKES, self._control.interface
        )
        doors.port = cast(AcceptingPort, port)
        return port
