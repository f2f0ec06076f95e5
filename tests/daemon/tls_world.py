"""A daemon's TLS endpoint on virtual time, with certificates made for the test and connections in memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

from OpenSSL import SSL, crypto
from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IOpenSSLClientConnectionCreator, IStreamClientEndpoint
from twisted.internet.protocol import Factory, Protocol
from twisted.protocols.tls import TLSMemoryBIOFactory, TLSMemoryBIOProtocol
from zope.interface import implementer

from groupcomm.client.tls import Destination, TlsClientEndpoint
from groupcomm.daemon.control import TlsFiles
from groupcomm.daemon.tls import Gatekeeper, TlsDoors, TlsFactory
from groupcomm.daemon.tls_hall import TlsHall
from groupcomm.trust.certificates import Authority, Issued, Kind
from tests.daemon.world import MemoryTransport, World

NOW = datetime.now(UTC)
HOST = "alpha.example"
CLIENT = IPv4Address("TCP", "192.0.2.9", 40000)


class Papers:
    """Authorities and certificates, as files in a directory."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        directory.mkdir()
        self.authority = self.new_authority("ca")
        self.issue("alpha", Kind.NODE, hosts=(HOST, "192.0.2.7"))

    def new_authority(self, name: str) -> Authority:
        """One more, in ``NAME.crt``."""
        issued = Authority.new(name, NOW - timedelta(days=100))
        self.write(name, issued)
        return Authority(issued.certificate, issued.key)

    def issue(
        self,
        name: str,
        kind: Kind = Kind.CLIENT,
        *,
        authority: Authority | None = None,
        hosts: Sequence[str] = (),
        now: datetime = NOW,
        days: int = 10,
        file: str | None = None,
    ) -> Issued:
        """A certificate and its key, in ``NAME.crt`` and ``NAME.key``."""
        issued = (authority or self.authority).issue(name, kind, now, hosts=hosts, days=days)
        self.write(file or name, issued)
        return issued

    def write(self, name: str, issued: Issued) -> None:
        """Put them there, in place of what is there."""
        for path, data in ((self.path(f"{name}.crt"), issued.certificate), (self.path(f"{name}.key"), issued.key)):
            fresh = path.with_suffix(".new")
            fresh.write_bytes(data)
            fresh.chmod(0o600)
            fresh.rename(path)

    def path(self, name: str) -> Path:
        """One of the files."""
        return self.directory / name

    def destination(self, name: str, *, host: str = HOST, authority: str = "ca") -> Destination:
        """The client with that certificate, on its way to the daemon."""
        return Destination(
            host, 4875, self.path(f"{name}.key"), self.path(f"{name}.crt"), self.path(f"{authority}.crt")
        )


class TcpTransport(MemoryTransport):
    """A connection in memory with an address."""

    def setTcpNoDelay(self, enabled: bool) -> None:
        """Nothing is delayed here."""

    def getPeer(self) -> Any:
        return CLIENT

    def getHost(self) -> Any:
        return IPv4Address("TCP", "192.0.2.7", 4875)


@implementer(IStreamClientEndpoint)
class Wire:
    """Connects to the daemon's TLS port."""

    def __init__(self, world: TlsWorld) -> None:
        self.world = world

    def connect(self, protocolFactory: Any) -> Deferred[Any]:
        protocol = protocolFactory.buildProtocol(None)
        self.world.attach_tls(protocol)
        return succeed(protocol)


class Raw(Protocol):
    """A client over TLS, or over nothing, that keeps what it gets."""

    def __init__(self) -> None:
        self.received = b""
        self.lost: Any = None

    def dataReceived(self, data: bytes) -> None:
        self.received += data

    def connectionLost(self, reason: Any = None) -> None:
        self.lost = reason


class TlsWorld(World):
    """A daemon with a TLS port."""

    def __init__(self, papers: Papers, *, revoked: str | None = None) -> None:
        super().__init__(channels=True)
        self.papers = papers
        self.refusals: list[str] = []
        self.gatekeeper = Gatekeeper(
            TlsFiles(
                papers.path("alpha.key"),
                papers.path("alpha.crt"),
                papers.path("ca.crt"),
                papers.path(revoked) if revoked else None,
            )
        )
        self.gatekeeper.load()
        hall = TlsHall(self.clock, self.factory, self.doors)
        self.tls_doors = TlsDoors(self.clock, self.gatekeeper, hall, self.refused)
        self.tls_factory = TlsFactory(self.tls_doors)

    def refused(self, text: str) -> None:
        self.refusals.append(text)
        self.factory.misdeed(text)

    def attach_tls(self, protocol: Protocol) -> TcpTransport:
        """Connect a protocol to the port; its transport."""
        mine, other = TcpTransport(), TcpTransport()
        mine.peer, other.peer = other, mine
        mine.protocol = protocol
        server = self.tls_factory.buildProtocol(CLIENT)
        if server is None:
            other.lost = True
            mine.disconnecting = True
            other.protocol = Protocol()
        else:
            other.protocol = cast(Protocol, server)
        self.transports += [mine, other]
        protocol.makeConnection(mine)
        if server is not None:
            server.makeConnection(other)
        return mine

    def endpoint(self, name: str, **where: Any) -> TlsClientEndpoint:
        """How the client with that certificate comes here."""
        return TlsClientEndpoint(cast(Any, self.clock), self.papers.destination(name, **where), plain=Wire(self))

    def raw(self, name: str | None, change: Callable[[SSL.Context], None] = lambda _: None) -> Raw:
        """A connection with the certificate of that name, or none, by a context that was changed."""
        context = SSL.Context(SSL.TLS_CLIENT_METHOD)
        if name is not None:
            context.use_privatekey_file(str(self.papers.path(f"{name}.key")), crypto.FILETYPE_PEM)
            context.use_certificate_file(str(self.papers.path(f"{name}.crt")), crypto.FILETYPE_PEM)
        change(context)
        return self._raw(_Creator(context, None))

    def again(self, raw: Raw) -> Raw:
        """A connection that tries to go on with the session of another."""
        handle: SSL.Connection = cast(Any, raw.transport).getHandle()
        session = handle.get_session()
        assert session is not None
        return self._raw(_Creator(handle.get_context(), session))

    def _raw(self, creator: _Creator) -> Raw:
        raw = Raw()
        factory = TLSMemoryBIOFactory(creator, True, Factory.forProtocol(lambda: raw), cast(Any, self.clock))
        self.attach_tls(cast(Protocol, factory.buildProtocol(CLIENT)))
        self.settle()
        return raw


@implementer(IOpenSSLClientConnectionCreator)
class _Creator:
    """Makes connections that check nothing."""

    def __init__(self, context: SSL.Context, session: SSL.Session | None) -> None:
        self._context = context
        self._session = session

    def clientConnectionForTLS(self, tlsProtocol: TLSMemoryBIOProtocol) -> SSL.Connection:
        connection = SSL.Connection(self._context, None)
        if self._session is not None:
            connection.set_session(self._session)
        return connection
