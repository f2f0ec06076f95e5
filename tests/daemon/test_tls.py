"""The TLS endpoint: who gets in, as whom, and who does not."""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from OpenSSL import SSL
from twisted.internet.defer import Deferred
from twisted.internet.protocol import Factory
from twisted.trial.unittest import SynchronousTestCase

from groupcomm.client import Connection, connect
from groupcomm.daemon import caps
from groupcomm.daemon.principal import CertifiedAddress, Principal
from groupcomm.daemon.records import HELLO, VERSION, WELCOME, RecordReader, record
from groupcomm.daemon.rights import AccessRules
from groupcomm.errors import AccessDenied, EnvironmentFault, GroupcommError, NameInUse, NotConnected, Refused
from groupcomm.events import Message
from groupcomm.interfaces import IGroup
from groupcomm.trust.certificates import Issued, Kind
from tests.daemon.tls_world import HOST, NOW, Papers, Raw, TcpTransport, TlsWorld


class TlsCase(SynchronousTestCase):
    """A daemon with a TLS port, and some certificates."""

    def setUp(self) -> None:
        self.papers = Papers(Path(self.mktemp()))
        self.papers.issue("anne")
        self.papers.issue("bob")
        self.world = TlsWorld(self.papers)

    def tearDown(self) -> None:
        self.assertEqual(self.flushLoggedErrors(), [], "an error was logged")

    def connect(self, certificate: str, name: str | None = None, **where: Any) -> Connection:
        endpoint = self.world.endpoint(certificate, **where)
        connection: Connection = self.world.result(connect(self.world.clock, endpoint, name=name))
        return connection

    def refusal(self, certificate: str, name: str | None = None, **where: Any) -> GroupcommError:
        """Why that client does not get in."""
        endpoint = self.world.endpoint(certificate, **where)
        error = self.world.failure(connect(self.world.clock, endpoint, name=name)).value
        assert isinstance(error, GroupcommError)
        self.assertEqual(self.world.node.sessions, {})
        return error

    def message(self, group: IGroup) -> Message:
        """Its next message."""

        async def read() -> Message:
            async for event in group:
                if isinstance(event, Message):
                    return event
            raise AssertionError("the group has ended")

        found: Message = self.world.result(Deferred.fromCoroutine(read()))
        return found


class CertifiedClientTests(TlsCase):
    """Clients with good certificates."""

    def test_two_clients_talk(self) -> None:
        """Messages of any size go over TLS and the data channel; names are those of the certificates."""
        anne, bob = self.connect("anne"), self.connect("bob", "bob")
        self.assertRegex(str(anne.member), rf"^anne\+{os.getpid()}-[0-9a-f]{{6}}@n1$")
        self.assertEqual(str(bob.member), "bob@n1")
        self.assertEqual(len(self.world.doors.channels), 2)
        groups = [self.world.result(each.join("tea")) for each in (anne, bob)]
        for size in (0, 1, 5000, 100_000, 3_000_000):
            data = os.urandom(size)
            self.world.result(groups[0].send(data))
            for group in groups:
                self.assertEqual(self.message(group).data, data)
        self.assertEqual(len(self.world.node.sessions["bob"].payloads), 0)
        self.assertEqual(len(self.world.node.sessions[anne.member.client].payloads), 5)
        for each in (anne, bob):
            self.world.result(each.close())
        self.world.advance(10)
        self.assertTrue(all(transport.lost for transport in self.world.transports))
        self.assertEqual((self.world.factory.brokers, self.world.doors.channels), (set(), set()))
        self.assertEqual(self.world.refusals, [])
        self.assertEqual(self.world.clock.getDelayedCalls(), [])

    def test_names(self) -> None:
        """A client has the name of its certificate, or that with a plus and more; each once."""
        self.connect("anne", "anne")
        self.connect("anne", "anne+1")
        for name in ("anna", "annex", "anne-1", "ann", "bob", "bob+anne", "Anne", "+anne"):
            error = self.world.failure(connect(self.world.clock, self.world.endpoint("anne"), name=name)).value
            self.assertIsInstance(error, AccessDenied, name)
            self.assertIn("log in as 'anne'", str(error))
        error = self.world.failure(connect(self.world.clock, self.world.endpoint("anne"), name="anne")).value
        self.assertIsInstance(error, NameInUse)

    def test_rights(self) -> None:
        """Certificates have the rights of the file, by their names."""
        path = Path(self.mktemp())
        path.write_text('[[grant]]\nto = ["cert:an*"]\ngroups = ["tea"]\nrights = ["send"]\n')
        self.world.realm.access = AccessRules(os.geteuid(), path)
        anne = self.connect("anne")
        self.world.result(anne.send(["tea"], b"x"))
        error = self.world.failure(anne.send(["milk"], b"x")).value
        self.assertEqual(str(error), "cert:anne may not send to group 'milk'")
        self.world.result(anne.close())
        self.assertIn("cert:bob has no right", str(self.refusal("bob")))

    def test_owner_of_the_daemon(self) -> None:
        """No certificate is the daemon's own user, or root, whatever its name."""
        for name in ("uid.0", "root"):
            self.papers.issue(name)
            connection = self.connect(name)
            status = self.world.result(connection.status())
            self.assertEqual(status["config"], [])

    def test_without_a_protocol(self) -> None:
        """A client that names no protocol gets Perspective Broker: its greeting comes first."""
        raw = self.world.raw("anne")
        self.assertIn(b"pb", raw.received)
        self.assertIsNone(raw.lost)

    def test_no_resumption(self) -> None:
        """Who comes again with the session it had shows its certificate again; it may be revoked by then."""
        judged: list[x509.Certificate] = []
        judge = self.world.gatekeeper.judge

        def noted(certificate: x509.Certificate) -> Principal:
            judged.append(certificate)
            return judge(certificate)

        self.patch(self.world.gatekeeper, "judge", noted)
        first = self.world.raw("anne")
        self.assertIsNone(self.world.again(first).lost)
        self.assertEqual(len(judged), 2)

    def test_a_session_without_a_certificate(self) -> None:
        """Should a session be gone on with all the same, without a certificate in its handshake, it ends there."""
        context = self.world.gatekeeper._context
        context.set_session_cache_mode(SSL.SESS_CACHE_SERVER)
        context.set_session_id(b"test")
        first = self.world.raw("anne")
        again = self.world.again(first)
        self.assertIsNotNone(again.lost)
        self.assertEqual(again.received, b"")
        self.assertEqual(self.world.refusals, ["no certificate was shown in this handshake"])

    def test_by_address(self) -> None:
        """The daemon's certificate may name its address as well."""
        self.connect("anne", host="192.0.2.7")


class RefusedClientTests(TlsCase):
    """Clients that are not let in: no byte of theirs reaches Perspective Broker."""

    def tearDown(self) -> None:
        self.assertEqual(self.world.factory.counters["connections"], 0, "a broker was made")
        self.assertEqual(self.world.tls_doors.strangers, set())
        self.world.advance(10)
        self.assertTrue(all(transport.lost for transport in self.world.transports))
        super().tearDown()

    def assert_refused(self, certificate: str, why: str) -> None:
        """It is told so, and the daemon knows the reason."""
        error = self.refusal(certificate, certificate)
        self.assertIsInstance(error, Refused, str(error))
        self.assertIn(f"{certificate}.crt", str(error))
        self.assertIn(why, self.world.refusals[-1])

    def assert_closed(self, raw: Raw, why: str) -> None:
        self.assertEqual(raw.received, b"")
        self.assertIsNotNone(raw.lost)
        self.assertIn(why, self.world.refusals[-1])

    def test_no_certificate(self) -> None:
        """Without a certificate nobody gets in."""
        self.assert_closed(self.world.raw(None), "peer did not return a certificate")

    def test_another_authority(self) -> None:
        """Certificates of others are no good, also if they call themselves the same."""
        self.papers.issue("eve", authority=self.papers.new_authority("other"))
        self.assert_refused("eve", "of another authority")
        own = self.papers.path("ca.crt").read_bytes()
        again = self.papers.new_authority("ca")
        self.papers.path("ca.crt").write_bytes(own)
        self.papers.issue("eve", authority=again)
        self.assert_refused("eve", "")

    def test_out_of_its_time(self) -> None:
        """A certificate is good neither after its time nor before it."""
        self.papers.issue("old", now=NOW - timedelta(days=20), days=10)
        self.papers.issue("new", now=NOW + timedelta(days=1))
        self.assert_refused("old", "its time is over")
        self.assert_refused("new", "its time has not come")

    def test_a_node(self) -> None:
        """A node's certificate is not for clients."""
        error = self.refusal("alpha", "alpha")
        self.assertIsInstance(error, Refused)
        self.assertIn("not for this use", self.world.refusals[-1])

    def test_no_name(self) -> None:
        """A certificate of the authority that does not say whose it is is refused."""
        self.papers.write("nobody", signed_by(self.papers, [], ExtendedKeyUsageOID.CLIENT_AUTH))
        two = [x509.DNSName("a.example"), x509.DNSName("b.example")]
        self.papers.write("two", signed_by(self.papers, two, ExtendedKeyUsageOID.CLIENT_AUTH))
        self.assert_refused("nobody", "no alternative name")
        self.assert_refused("two", "2 of its alternative names")

    def test_old_tls(self) -> None:
        """Only TLS 1.3 is spoken."""
        raw = self.world.raw("anne", lambda context: context.set_max_proto_version(SSL.TLS1_2_VERSION))
        self.assert_closed(raw, "unsupported protocol")


class RevokedTests(TlsCase):
    """The revocation list."""

    def setUp(self) -> None:
        super().setUp()
        self.world = TlsWorld(self.papers, revoked="revoked.crl")
        self.listed = self.papers.path("revoked.crl")

    def revoke(self, name: str, before: bytes | None = None) -> bytes:
        certificate = self.papers.path(f"{name}.crt").read_bytes()
        return self.papers.authority.revoke(before, certificate, datetime.now(UTC))

    def put(self, data: bytes) -> None:
        fresh = self.papers.path("fresh")
        fresh.write_bytes(data)
        fresh.rename(self.listed)

    def test_revoked(self) -> None:
        """Who is put on the list is refused from the next connection on; who is connected stays."""
        self.papers.issue("eve")
        first = self.revoke("eve")
        self.put(first)
        anne = self.connect("anne")
        self.put(self.revoke("anne", first))
        error = self.world.failure(connect(self.world.clock, self.world.endpoint("anne"))).value
        self.assertIsInstance(error, Refused)
        self.assertIn("it was revoked", self.world.refusals[-1])
        self.connect("bob")
        self.world.result(anne.send(["tea"], b"still here"))

    def test_no_list(self) -> None:
        """Without the list, or with one that is no good, nobody gets in: it may have been taken away for that."""
        other = self.papers.new_authority("other")
        self.papers.issue("eve", authority=other)
        foreign = other.revoke(None, self.papers.path("eve.crt").read_bytes(), datetime.now(UTC))
        for data in (None, b"nonsense", foreign):
            if data is not None:
                self.put(data)
            self.assertIsInstance(self.refusal("anne"), Refused)
            self.assertIn("of no use", self.world.refusals[-1])
        self.put(self.revoke("bob"))
        self.connect("anne")

    def test_past_its_time(self) -> None:
        """A list that should have been replaced lets nobody in."""
        self.put(self.revoke("bob"))
        self.world.gatekeeper._now = lambda: datetime.now(UTC) + timedelta(days=5000)
        self.refusal("anne")
        self.assertIn("was good until", self.world.refusals[-1])


class DaemonCertificateTests(TlsCase):
    """The client's look at the daemon."""

    def assert_not_trusted(self, why: str, **where: Any) -> None:
        error = self.refusal("anne", **where)
        self.assertIsInstance(error, NotConnected)
        self.assertIn(why, str(error))
        self.assertEqual(self.world.factory.counters["logins"], 0)

    def again(self) -> None:
        self.world = TlsWorld(self.papers)

    def test_another_name(self) -> None:
        """A daemon that has no certificate for the host we went to is another one."""
        for host in ("beta.example", "alpha.example.org", "example", "192.0.2.8"):
            self.assert_not_trusted(f"not for '{host}'", host=host)

    def test_another_authority(self) -> None:
        """No other authority can vouch for a daemon."""
        self.papers.new_authority("other")
        self.assert_not_trusted("of another authority", authority="other")

    def test_out_of_its_time(self) -> None:
        """Nor is one whose time is over."""
        self.papers.issue("alpha", Kind.NODE, hosts=(HOST,), now=NOW - timedelta(days=20), days=10)
        self.again()
        self.assert_not_trusted("its time is over")

    def test_a_client_as_daemon(self) -> None:
        """A client cannot pretend to be a daemon, whatever its certificate names."""
        names = [x509.DNSName(HOST)]
        self.papers.write("alpha", signed_by(self.papers, names, ExtendedKeyUsageOID.CLIENT_AUTH))
        self.again()
        self.assert_not_trusted("not for this use")

    def test_names_that_cannot_be_read(self) -> None:
        """A certificate with a name that service-identity cannot read is refused: Twisted's own check passes such."""
        names = [x509.DNSName("beta.example"), x509.UniformResourceIdentifier("urn:a:b:c")]
        self.papers.write("alpha", signed_by(self.papers, names, ExtendedKeyUsageOID.SERVER_AUTH))
        self.again()
        self.assert_not_trusted("not for 'alpha.example'")

    def test_old_tls(self) -> None:
        """A daemon that speaks TLS 1.2 alone is not spoken to."""
        context = SSL.Context(SSL.TLS_SERVER_METHOD)
        context.set_max_proto_version(SSL.TLS1_2_VERSION)
        context.use_privatekey_file(str(self.papers.path("alpha.key")))
        context.use_certificate_file(str(self.papers.path("alpha.crt")))
        self.world.gatekeeper._context = context
        self.assert_not_trusted("no TLS 1.3 with alpha.example:4875")


class ChannelCertificateTests(TlsCase):
    """Tickets are for whom they were given to."""

    def hello(self, certificate: str, ticket: bytes) -> Raw:
        """A channel opened with that certificate shows that ticket."""
        raw = Raw()
        endpoint = self.world.endpoint(certificate).for_channel()
        self.world.result(endpoint.connect(Factory.forProtocol(lambda: raw)))
        assert raw.transport is not None
        raw.transport.write(record(HELLO, VERSION, ticket))
        self.world.settle()
        return raw

    def kinds(self, raw: Raw) -> list[int]:
        reader = RecordReader(0xFFFF, 1024)
        reader.buffer()[: len(raw.received)] = raw.received
        return [kind for kind, *_ in reader.received(len(raw.received))]

    def ticket(self) -> bytes:
        """Anne's, from her own control connection, whose channel cannot be opened."""
        self.patch(self.world.doors, "buildProtocol", lambda _: None)
        connection = self.connect("anne", "anne")
        self.assertEqual(self.world.doors.channels, set())
        del self.world.doors.buildProtocol
        (avatar,) = self.world.realm.avatars
        avatar._asked = False
        ticket = avatar.open_channel()[2]
        self.connection = connection
        return ticket

    def test_the_same_certificate(self) -> None:
        """Shown with the certificate it was given to, a ticket opens a channel, once."""
        ticket = self.ticket()
        self.assertEqual(self.kinds(self.hello("anne", ticket)), [WELCOME])
        self.assertIsNotNone(self.hello("anne", ticket).lost)

    def test_another_certificate(self) -> None:
        """Shown with another, of another client or of the same, it opens nothing, and is used up."""
        ticket = self.ticket()
        self.assertIsNotNone(self.hello("bob", ticket).lost)
        self.assertIsNotNone(self.hello("anne", ticket).lost)
        self.world.result(self.connection.close())
        ticket = self.ticket()
        self.papers.issue("anne")
        self.assertIsNotNone(self.hello("anne", ticket).lost)
        self.world.result(self.connection.send(["tea"], b"over Perspective Broker"))

    def test_a_local_ticket(self) -> None:
        """A ticket given out over a UNIX socket is good there alone, and the other way round."""
        ticket = self.ticket()
        stolen = self.world.raw_channel(record(HELLO, VERSION, ticket))
        self.assertTrue(stolen.stream.closed)


class CapTests(TlsCase):
    """How many, and how long."""

    def test_connections_of_one_certificate(self) -> None:
        """A certificate may have so many connections; others are not held up, and room comes back."""
        self.patch(caps, "MAX_PRINCIPAL_CONNECTIONS", 3)
        self.world = TlsWorld(self.papers)
        first = [self.connect("anne") for _ in range(3)]
        error = self.world.failure(connect(self.world.clock, self.world.endpoint("anne"))).value
        self.assertIsInstance(error, NotConnected)
        self.connect("bob")
        self.world.result(first[0].close())
        self.world.advance(10)
        self.connect("anne")

    def test_handshakes(self) -> None:
        """So many may be in their handshake; one more is closed at once, and after the deadline there is room again."""
        self.patch(caps, "MAX_HANDSHAKES", 3)
        silent = [Raw() for _ in range(4)]
        for raw in silent:
            self.world.attach_tls(raw)
        self.world.settle()
        self.assertEqual([raw.lost is None for raw in silent], [True, True, True, False])
        self.refusal("anne")
        self.world.advance(caps.LOGIN_SECONDS)
        self.connect("anne")

    def test_pace(self) -> None:
        """Connections are accepted so many a second; more wait before the port, and are let in in their turn."""

        class Port:
            def __init__(self) -> None:
                self.open = True

            def pauseProducing(self) -> None:
                self.open = False

            def resumeProducing(self) -> None:
                self.open = True

        port, accepted = Port(), 0
        self.world.tls_doors.port = port
        begin = self.world.clock.seconds()
        for _ in range(1000):
            while port.open:
                self.world.attach_tls(Raw())
                accepted += 1
            self.world.advance(0.01)
        rate = caps.HANDSHAKES_PER_SECOND
        self.assertLessEqual(abs(accepted - rate - (self.world.clock.seconds() - begin) * rate), 2)
        self.world.advance(60)
        self.assertTrue(port.open)
        for _ in range(rate):
            self.world.attach_tls(Raw())
        self.assertTrue(port.open)
        for _ in range(3 * rate):  # as many as a port may take in at once
            self.world.attach_tls(Raw())
        self.assertFalse(port.open)
        self.world.tls_factory.doStart()
        self.world.tls_factory.doStop()
        self.world.advance(60)
        self.assertFalse(port.open, "it is closed, and stays so")

    def test_deadline_of_the_handshake(self) -> None:
        """Whoever does not end its handshake in time is closed."""
        raw = Raw()
        self.world.attach_tls(raw)
        self.world.advance(caps.LOGIN_SECONDS - 0.01)
        self.assertIsNone(raw.lost)
        self.world.advance(0.02)
        self.assertIsNotNone(raw.lost)
        self.assertIn("no TLS handshake within 5 s", self.world.refusals)

    def test_deadline_of_the_login(self) -> None:
        """The handshake's time counts for the login: together they have so long and no longer."""
        raw, delayed = Raw(), 3.0
        transport = self.world.attach_tls(raw)
        server: Any = transport.peer.protocol
        self.world.clock.advance(delayed)
        since = server.wrappedProtocol._since
        hall = self.world.tls_doors.inner
        anne = self.world.gatekeeper.judge(x509.load_pem_x509_certificate(self.papers.path("anne.crt").read_bytes()))
        broker: Any = hall.buildProtocol(CertifiedAddress("192.0.2.9", 1, anne, None, since))
        mine, other = TcpTransport(), TcpTransport()
        mine.peer, other.peer, mine.protocol, other.protocol = other, mine, broker, Raw()
        self.world.transports += [mine, other]
        broker.makeConnection(mine)
        self.world.advance(caps.LOGIN_SECONDS - delayed - 0.01)
        self.assertFalse(mine.lost)
        self.world.advance(0.02)
        self.assertTrue(mine.lost)


class FileTests(TlsCase):
    """The endpoint's files, and changes of them."""

    def load(self) -> None:
        TlsWorld(self.papers)

    def test_renewed(self) -> None:
        """New certificates of daemon and authority are used from the next connection on, without a restart."""
        self.papers.issue("alpha", Kind.NODE, hosts=("beta.example",))
        self.connect("anne", host="beta.example")
        self.assertIsInstance(self.refusal_of("anne"), NotConnected)

    def refusal_of(self, name: str) -> GroupcommError:
        error = self.world.failure(connect(self.world.clock, self.world.endpoint(name))).value
        assert isinstance(error, GroupcommError)
        return error

    def test_damaged(self) -> None:
        """A file that is no good, or gone, changes nothing; when it is good again it is read."""
        good = self.papers.path("alpha.crt").read_bytes()
        for data in (b"", b"nonsense", self.papers.path("anne.crt").read_bytes()):
            self.papers.path("alpha.crt").write_bytes(data)
            self.world.result(self.connect("anne").close())
        self.papers.path("alpha.crt").unlink()
        self.world.result(self.connect("anne").close())
        self.papers.path("alpha.crt").write_bytes(good)
        self.connect("anne")

    def test_refused_at_the_start(self) -> None:
        """Without good files the daemon does not start, and says which is not."""
        self.papers.path("alpha.key").chmod(0o644)
        self.assertIn("chmod 600", str(self.assertRaises(EnvironmentFault, self.load)))
        self.papers.path("alpha.key").chmod(0o660)
        self.assertRaises(EnvironmentFault, self.load)
        self.papers.path("alpha.key").chmod(0o640)
        self.load()
        for name, data, words in (
            ("alpha.key", self.papers.path("anne.key").read_bytes(), "not the private key of the certificate"),
            ("alpha.key", b"", "no private key"),
            ("alpha.crt", b"", "no certificate"),
            ("ca.crt", self.papers.path("anne.crt").read_bytes(), "not that of an authority"),
            ("ca.crt", b"x" * (4 * 1024 * 1024 + 1), "larger"),
        ):
            before = self.papers.path(name).read_bytes()
            self.papers.path(name).write_bytes(data)
            error = self.assertRaises(EnvironmentFault, self.load)
            self.assertIn(words, str(error))
            self.assertIn(name, str(error))
            self.papers.path(name).write_bytes(before)
        self.papers.path("ca.crt").unlink()
        self.assertIn("cannot read", str(self.assertRaises(EnvironmentFault, self.load)))


def signed_by(papers: Papers, names: Sequence[x509.GeneralName], use: x509.ObjectIdentifier) -> Issued:
    """A certificate of the authority with names that ``groupcomm ca`` does not give."""
    authority = papers.authority
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "somebody")])
    builder = (
        x509.CertificateBuilder(
            authority.certificate.subject, subject, key.public_key(), 77, NOW, NOW + timedelta(days=1)
        )
        .add_extension(x509.ExtendedKeyUsage([use]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    )
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    certificate = builder.sign(authority._key, hashes.SHA256())
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return Issued(certificate.public_bytes(serialization.Encoding.PEM), private)
