"""Where a daemon on another host is: descriptions, and what is wrong with them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from twisted.internet.endpoints import clientFromString, serverFromString
from twisted.internet.interfaces import IStreamClientEndpoint, IStreamServerEndpoint
from twisted.internet.protocol import Factory
from twisted.internet.task import Clock
from twisted.internet.testing import MemoryReactorClock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from groupcomm.client import connect
from groupcomm.client.tls import CONNECT_SECONDS, Destination, TlsClientEndpoint, parse_destination
from groupcomm.daemon.control import is_tls
from groupcomm.daemon.tls import TlsServerEndpoint
from groupcomm.errors import EnvironmentFault, UsageError
from tests.daemon.tls_world import Papers

FILES = "privateKey=/k:certKey=/c:caCerts=/a"


class DestinationTests(SynchronousTestCase):
    """``tls:HOST:PORT:privateKey=FILE:certKey=FILE:caCerts=FILE``."""

    def test_forms(self) -> None:
        """Parts go by place or by name, the prefix is one of two, and one file may hold key and certificate."""
        whole = Destination("a.example", 4875, Path("/k"), Path("/c"), Path("/a"), CONNECT_SECONDS)
        for text in (
            f"tls:a.example:4875:{FILES}",
            f"groupcomm-tls:a.example:4875:{FILES}",
            f"tls:host=a.example:port=4875:{FILES}",
            "tls:caCerts=/a:certKey=/c:privateKey=/k:port=4875:host=a.example",
        ):
            self.assertTrue(is_tls(text))
            self.assertEqual(parse_destination(text), whole)
        one = parse_destination("tls:fd00\\:\\:7:1:privateKey=anne.pem:caCerts=/a:timeout=5")
        self.assertEqual((one.host, one.private_key, one.certificate), ("fd00::7", Path("anne.pem"), Path("anne.pem")))
        self.assertEqual(one.timeout_seconds, 5)
        self.assertEqual(parse_destination(f"tls:bücher.example:1:{FILES}").host, "xn--bcher-kva.example")

    def test_refused(self) -> None:
        """What is missing or not known is named."""
        for text, words in (
            ("tls:", "takes host"),
            ("tls:a", "takes port"),
            ("tls:a:1", "takes privateKey"),
            ("tls:a:1:privateKey=/k", "takes caCerts"),
            ("tls:a:1:privateKey=/k:caCerts=", "takes caCerts"),
            (f"tls:a:1:b:{FILES}", "more than host and port"),
            (f"tls:a:1:{FILES}:trustRoots=/x", "has no trustRoots"),
            (f"tls:a:0:{FILES}", "'0'"),
            (f"tls:a:65536:{FILES}", "'65536'"),
            (f"tls:a:x:{FILES}", "'x'"),
            (f"tls:a:1:{FILES}:timeout=0", "'0'"),
            (f"tls:{'a' * 64}:1:{FILES}", "no name of a host"),
        ):
            self.assertIn(words, str(self.assertRaises(UsageError, parse_destination, text)))
        for text in ("tcp:a:1", "unix:/tls", "ssl:a:1", "/tls"):
            self.assertFalse(is_tls(text))

    def test_connect_says_so(self) -> None:
        """``connect`` fails with what is wrong with a description, or with a file."""
        error = self.failureResultOf(connect(Clock(), "tls:a:1"), UsageError).value
        self.assertIn("privateKey", str(error))
        self.failureResultOf(connect(Clock(), f"tls:a:1:{FILES}"), EnvironmentFault)

    def test_a_key_that_others_may_read(self) -> None:
        """A private key that others may read is not used; nor is one without its certificate."""
        papers = Papers(Path(self.mktemp()))
        papers.issue("anne")
        endpoint = TlsClientEndpoint(MemoryReactorClock(), papers.destination("anne"))
        self.assertEqual(endpoint.client_name, "anne")
        papers.path("anne.key").chmod(0o604)
        error = self.assertRaises(EnvironmentFault, endpoint.connect, Factory())
        self.assertIn("chmod 600", str(error))
        nobody = TlsClientEndpoint(MemoryReactorClock(), papers.destination("ca"))
        self.assertIn("no certificate of a client", str(self.assertRaises(UsageError, lambda: nobody.client_name)))


class PluginTests(SynchronousTestCase):
    """``groupcomm-tls:`` in any Twisted program."""

    def test_client_and_server(self) -> None:
        """Twisted's own functions make our endpoints of such descriptions, and refuse wrong ones as they do all."""
        reactor: Any = MemoryReactorClock()
        client: object = clientFromString(reactor, f"groupcomm-tls:a.example:4875:{FILES}")
        inner = getattr(client, "_wrappedEndpoint", client)
        self.assertIsInstance(inner, TlsClientEndpoint)
        verifyObject(IStreamClientEndpoint, inner)
        server = serverFromString(reactor, "groupcomm-tls:4875:privateKey=/k:certKey=/c:clientCA=/a")
        self.assertIsInstance(server, TlsServerEndpoint)
        verifyObject(IStreamServerEndpoint, server)
        self.assertRaises(ValueError, clientFromString, reactor, "groupcomm-tls:a:1")
        self.assertRaises(ValueError, serverFromString, reactor, "groupcomm-tls:4875")

    def test_listen(self) -> None:
        """The endpoint listens where it was told to; with a file that is not there it fails and does not listen."""
        papers = Papers(Path(self.mktemp()))
        reactor: Any = MemoryReactorClock()
        files = f"privateKey={papers.path('alpha.key')}:certKey={papers.path('alpha.crt')}:clientCA="
        server = serverFromString(reactor, f"groupcomm-tls:4875:interface=192.0.2.7:{files}{papers.path('ca.crt')}")
        self.successResultOf(server.listen(Factory()))
        ((port, _, _, interface),) = reactor.tcpServers
        self.assertEqual((port, interface), (4875, "192.0.2.7"))
        server = serverFromString(reactor, f"groupcomm-tls:4875:{files}{papers.path('none.crt')}")
        self.failureResultOf(server.listen(Factory()), EnvironmentFault)
        self.assertEqual(len(reactor.tcpServers), 1)
