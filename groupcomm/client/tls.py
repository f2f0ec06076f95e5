"""The client's end of TLS: the endpoint to a daemon on another host, and what it means when that does not come about.

Decides what a description may say, and that the daemon must show a certificate of our authority that names the host we
went to (``service-identity`` checks it). The rules are in ``doc/design/access.md``.
"""

# What is inherited from twisted.internet is untyped.
# mypy: disallow-untyped-calls=False

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import Final

from attrs import frozen
from cryptography import x509
from OpenSSL import SSL, crypto
from service_identity.cryptography import verify_certificate_hostname, verify_certificate_ip_address
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import HostnameEndpoint, wrapClientTLS
from twisted.internet.interfaces import (
    IOpenSSLClientConnectionCreator,
    IProtocol,
    IProtocolFactory,
    IReactorTime,
    IStreamClientEndpoint,
)
from twisted.protocols.tls import TLSMemoryBIOProtocol
from twisted.python.failure import Failure
from zope.interface import implementer

from groupcomm.addresses import show_address
from groupcomm.daemon.control import CHANNEL_PROTOCOL, CONTROL_PROTOCOL, split_description
from groupcomm.daemon.identity_files import VERIFY_ERRORS, openssl_words, read_certificates, read_identity
from groupcomm.errors import GroupcommError, NotConnected, Refused, UsageError
from groupcomm.trust.certificates import client_name

CONNECT_SECONDS: Final = 30
"""How long a host may take to answer, unless the description says so."""

_FORM: Final = "tls:HOST:PORT:privateKey=FILE:certKey=FILE:caCerts=FILE"


class DaemonNotTrusted(Exception):
    """The certificate at the other end is not one we may trust; the text says why."""


@frozen
class Destination:
    """What a description of a TLS endpoint says.

    Attributes:
        host: a name or an address, which the daemon's certificate must have.
        port: its port.
        private_key: the client's key.
        certificate: the client's certificate.
        authorities: whose certificate a daemon must have.
        timeout_seconds: how long the host may take to answer.
    """

    host: str
    port: int
    private_key: Path
    certificate: Path
    authorities: Path
    timeout_seconds: int = CONNECT_SECONDS


def parse_destination(description: str) -> Destination:
    """Read ``tls:HOST:PORT:privateKey=FILE:certKey=FILE:caCerts=FILE[:timeout=SECONDS]``.

    Raises:
        UsageError: it is none; the text says what is missing or not known.
    """
    words, options = split_description(description)
    return destination(*words[1:], **options)


def destination(*words: str, **options: str) -> Destination:
    """The same from the parts of a description behind its prefix.

    Raises:
        UsageError: as ``parse_destination``.
    """
    names = ("host", "port", "privateKey", "certKey", "caCerts", "timeout")
    values = {**dict(zip(names, words, strict=False)), **options}
    if len(words) > 2 or set(values) - set(names):
        wrong = ", ".join(sorted(set(options) - set(names))) or "more than host and port"
        raise UsageError(f"a TLS endpoint has no {wrong}; it is {_FORM}")
    for name in ("host", "port", "privateKey", "caCerts"):
        if not values.get(name):
            raise UsageError(f"a TLS endpoint takes {name}: {_FORM}")
    port, timeout = values["port"], values.get("timeout", str(CONNECT_SECONDS))
    for number, most in ((port, 65535), (timeout, 3600)):
        if not (number.isascii() and number.isdecimal() and len(number) <= 5 and 0 < int(number) <= most):
            raise UsageError(f"{number!r} in a TLS endpoint is no number of 1 to {most}")
    try:
        host = values["host"].encode("idna").decode("ascii")
    except UnicodeError:
        raise UsageError(f"{values['host']!r} is no name of a host") from None
    return Destination(
        host,
        int(port),
        Path(values["privateKey"]),
        Path(values.get("certKey") or values["privateKey"]),
        Path(values["caCerts"]),
        int(timeout),
    )


@implementer(IStreamClientEndpoint)
class TlsClientEndpoint:
    """Connects to a daemon over TLS 1.3, with certificates on both sides.

    Args:
        reactor: runs it.
        destination: where to, and with which files.
        protocol: what for.
        plain: makes the connection that is secured; by TCP to host and port unless given.
    """

    def __init__(
        self,
        reactor: IReactorTime,
        destination: Destination,
        protocol: bytes = CONTROL_PROTOCOL,
        plain: IStreamClientEndpoint | None = None,
    ) -> None:
        self._reactor = reactor
        self._destination = destination
        self._protocol = protocol
        self._plain = plain or HostnameEndpoint(
            reactor, destination.host, destination.port, timeout=destination.timeout_seconds
        )

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        """Connect; the files are read first.

        Raises:
            EnvironmentFault: a file is not as it must be.
        """
        secured = wrapClientTLS(self._creator(), self._plain, self._reactor)
        connected: Deferred[IProtocol] = secured.connect(protocolFactory)
        return connected

    def for_channel(self) -> TlsClientEndpoint:
        """The same way, for a data channel."""
        return TlsClientEndpoint(self._reactor, self._destination, CHANNEL_PROTOCOL, self._plain)

    @property
    def client_name(self) -> str:
        """The name that the client's certificate gives.

        Raises:
            EnvironmentFault: there is no certificate.
            UsageError: it names no client.
        """
        path = self._destination.certificate
        try:
            return client_name(read_certificates(path)[0])
        except UsageError as error:
            raise UsageError(f"{path} is no certificate of a client: {error}") from None

    def explain(self, reason: Failure) -> GroupcommError | None:
        """What it means that a connection was lost for that reason; None if that has nothing to do with TLS."""
        error = reason.value
        there = self._destination
        where = show_address((there.host, there.port))
        if isinstance(error, DaemonNotTrusted):
            return NotConnected(f"the certificate of the daemon at {where} is not to be trusted: {error}")
        if not isinstance(error, SSL.Error):
            return None
        words = openssl_words(error)
        if "alert" in words and "version" not in words and "handshake failure" not in words:
            return Refused(
                f"the daemon at {where} does not accept the certificate {there.certificate} ({words}); its log says why"
            )
        return NotConnected(f"no TLS 1.3 with {where}: {words}")

    def _creator(self) -> _ConnectionCreator:
        there = self._destination
        identity = read_identity(there.private_key, there.certificate)
        context = SSL.Context(SSL.TLS_CLIENT_METHOD)
        context.set_min_proto_version(SSL.TLS1_3_VERSION)
        context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
        context.set_mode(SSL.MODE_RELEASE_BUFFERS)
        context.use_privatekey(identity.key)
        context.use_certificate(crypto.X509.from_cryptography(identity.certificate))
        for each in identity.chain:
            context.add_extra_chain_cert(crypto.X509.from_cryptography(each))
        store = context.get_cert_store()
        assert store is not None
        for authority in read_certificates(there.authorities):
            store.add_cert(crypto.X509.from_cryptography(authority))
        return _ConnectionCreator(context, there.host, self._protocol)


@implementer(IOpenSSLClientConnectionCreator)
class _ConnectionCreator:
    """OpenSSL's part of a connection to one host.

    Not Twisted's ``optionsForClientTLS``, which takes it for a success when the check of the name ends with an error
    that it does not expect.
    """

    def __init__(self, context: SSL.Context, host: str, protocol: bytes) -> None:
        self._context = context
        self._host = host
        self._protocol = protocol
        try:
            self._address: str | None = str(ipaddress.ip_address(host))
        except ValueError:
            self._address = None

    def clientConnectionForTLS(self, tlsProtocol: TLSMemoryBIOProtocol) -> SSL.Connection:
        """A connection that ends unless the other end has a certificate for the host."""

        def verified(connection: SSL.Connection, found: crypto.X509, error: int, depth: int, good: int) -> bool:
            words = ""
            try:
                if not good:
                    words = VERIFY_ERRORS.get(error, f"X.509 error {error}")
                elif depth == 0:
                    self._check_name(found.to_cryptography())
            except Exception as reason:  # whatever it is: who is not known to be right is wrong
                words = f"it is not for {self._host!r} ({type(reason).__name__})"
            if words:
                tlsProtocol.failVerification(Failure(DaemonNotTrusted(words)))
            return not words

        connection = SSL.Connection(self._context, None)
        connection.set_alpn_protos([self._protocol])
        if self._address is None:
            connection.set_tlsext_host_name(self._host.encode("ascii"))
        connection.set_verify(SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT, verified)
        return connection

    def _check_name(self, certificate: x509.Certificate) -> None:
        if self._address is None:
            verify_certificate_hostname(certificate, self._host)
        else:
            verify_certificate_ip_address(certificate, self._address)
