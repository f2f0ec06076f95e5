"""What is asked of the DNS, and what is made of its answers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from twisted.internet.defer import Deferred, TimeoutError, fail, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import Clock
from twisted.internet.testing import MemoryReactorClock
from twisted.names import dns
from twisted.names.error import DNSNameError, DNSServerError
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from groupcomm.discovery.dns import (
    LOOK_UP_SECONDS,
    MAX_DNS_ADDRESSES,
    MAX_NAMES,
    MAX_TARGETS,
    DnsDiscovery,
    DnsName,
    SystemResolver,
    parse_dns,
)
from groupcomm.discovery.hints import Announcement
from groupcomm.discovery.lookups import OFFER_SECONDS
from groupcomm.errors import UsageError
from groupcomm.identity import NodeId
from groupcomm.interfaces import IDiscovery
from groupcomm.outputs import Address

Records = tuple[list[Any], list[Any], list[Any]]


def host_record(name: str, host: str, ttl: int = 30) -> dns.RRHeader:
    """An A or AAAA record."""
    if ":" in host:
        return dns.RRHeader(name, dns.AAAA, dns.IN, ttl, dns.Record_AAAA(host, ttl))
    return dns.RRHeader(name, dns.A, dns.IN, ttl, dns.Record_A(host, ttl))


def srv_record(name: str, target: str, port: int, priority: int = 0, ttl: int = 30) -> dns.RRHeader:
    """An SRV record."""
    return dns.RRHeader(name, dns.SRV, dns.IN, ttl, dns.Record_SRV(priority, 0, port, target, ttl))


class NameTests(SynchronousTestCase):
    """The forms of a name."""

    def test_forms(self) -> None:
        """A host with or without a port, or a service; each is shown as it can be given."""
        for text, name in (
            ("nodes.example.org", DnsName("nodes.example.org", 4874)),
            ("nodes.example.org.:5000", DnsName("nodes.example.org", 5000)),
            ("_groupcomm._udp.example.org", DnsName("_groupcomm._udp.example.org", None)),
            ("srv:groupcomm.service.consul", DnsName("groupcomm.service.consul", None)),
            ("bücher.example.org", DnsName("bücher.example.org", 4874)),
        ):
            self.assertEqual(parse_dns(text, 4874), name)
            self.assertEqual(parse_dns(str(name), 4874), name)

    def test_refused(self) -> None:
        """Addresses, wrong ports, and what no name can be."""
        wrong = ["", ".", "a..b", "a b", "a:0", "a:x", "a:1:2", "10.0.0.1", "10.0.0.1:5", "[fd77::1]:1", "fd77::1"]
        wrong += ["_a._udp.b:1", "srv:a:1", "srv:", f"{'x' * 64}.org", ".".join(["x" * 60] * 5), "a/b"]
        for text in wrong:
            self.assertRaises(UsageError, parse_dns, text, 4874)

    def test_too_many(self) -> None:
        """The list has a limit."""
        names = [DnsName(f"n{number}", 1) for number in range(MAX_NAMES + 1)]
        announcement = Announcement("c", NodeId("n1", 1), ("10.0.0.1",))
        self.assertRaises(UsageError, DnsDiscovery, Clock(), announcement, names)


class FakeResolver:
    """A resolver that knows what a test tells it, and whatever else does not exist."""

    def __init__(self) -> None:
        self.records: dict[tuple[str, int], Records | Exception | Deferred[Any]] = {}
        self.asked: list[tuple[str, int]] = []
        self.hung_up = 0
        self.ended = False

    def query(self, query: dns.Query, timeout: Sequence[int]) -> Deferred[Any]:
        key = (query.name.name.decode(), query.type)
        self.asked.append(key)
        known = self.records.get(key, DNSNameError("x"))
        if isinstance(known, Deferred):
            return known
        return fail(known) if isinstance(known, Exception) else succeed(known)

    def hang_up(self) -> None:
        self.hung_up += 1

    def end(self) -> None:
        self.ended = True

    def know(self, name: str, kind: int, *records: dns.RRHeader, beside: Sequence[dns.RRHeader] = ()) -> None:
        """These are the records of a name from now on."""
        self.records[name, kind] = (list(records), [], list(beside))


class DnsTests(SynchronousTestCase):
    """Names to hints."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.found: list[Address] = []
        self.resolver = FakeResolver()

    def make_resolver(self, reactor: IReactorTime) -> FakeResolver:
        return self.resolver

    def start(self, *names: str, own: Sequence[str] = ("10.0.0.1",)) -> DnsDiscovery:
        """A started source."""
        announcement = Announcement("c", NodeId("n1", 1), tuple(own))
        parsed = [parse_dns(name, 4874) for name in names]
        source = DnsDiscovery(self.clock, announcement, parsed, self.make_resolver)
        verifyObject(IDiscovery, source)
        self.successResultOf(source.start(4874, self.found.append))
        self.addCleanup(source.stop)
        return source

    def test_addresses(self) -> None:
        """All addresses of a name are hints, but this node's own; only A is asked for where there is no IPv6."""
        alias = dns.RRHeader("a", dns.CNAME, dns.IN, 5, dns.Record_CNAME("b", 5))
        records = [host_record("b", f"10.0.0.{number}") for number in (1, 2, 3)]
        self.resolver.know("a", dns.A, alias, *records)
        source = self.start("a")
        self.assertEqual(self.found, [("10.0.0.2", 4874), ("10.0.0.3", 4874)])
        self.assertEqual(self.resolver.asked, [("a", dns.A)])
        self.assertEqual(self.resolver.hung_up, 1)
        self.assertEqual(source.status().looks_at, "a:4874")
        self.assertEqual(source.status().found, (("10.0.0.2", 4874), ("10.0.0.3", 4874)))

    def test_both_families(self) -> None:
        """A and AAAA are asked for where the node has both; one of them is enough."""
        self.resolver.know("a", dns.A, host_record("a", "10.0.0.2"))
        self.resolver.know("a", dns.AAAA, host_record("a", "fd77::2"))
        self.resolver.records["b", dns.A] = DNSServerError("x")
        self.resolver.know("b", dns.AAAA, host_record("b", "fd77::3"))
        source = self.start("a:1", "b:2", own=("10.0.0.1", "fd77::1"))
        self.assertEqual(self.found, [("10.0.0.2", 1), ("fd77::2", 1), ("fd77::3", 2)])
        self.assertFalse(source.status().troubled)

    def test_only_ipv6(self) -> None:
        """Where a node has only IPv6, only AAAA is of use."""
        self.resolver.know("a", dns.AAAA, host_record("a", "fd77::2"))
        self.resolver.know("b", dns.AAAA)
        source = self.start("a", "b", own=("fd77::1",))
        self.assertEqual(self.found, [("fd77::2", 4874)])
        self.assertEqual({kind for _, kind in self.resolver.asked}, {dns.AAAA})
        self.assertEqual(source.status().trouble, "b:4874: it has no IPv6 address")

    def test_moved(self) -> None:
        """A node that has IPv6 now instead of IPv4 asks for the other records, at once."""
        self.resolver.know("a", dns.A, host_record("a", "10.0.0.2"))
        self.resolver.know("a", dns.AAAA, host_record("a", "fd77::2"))
        source = self.start("a")
        source.moved(("fd77::1",))
        self.found.clear()
        self.clock.advance(OFFER_SECONDS)
        self.assertEqual(self.found, [("fd77::2", 4874)])

    def test_time_to_live(self) -> None:
        """The shortest time to live of what was used counts; a change is seen then."""
        self.resolver.know("a", dns.A, host_record("a", "10.0.0.2", ttl=50), host_record("a", "10.0.0.3", ttl=4))
        self.start("a")
        self.resolver.know("a", dns.A, host_record("a", "10.0.0.4"))
        self.clock.advance(OFFER_SECONDS)
        self.assertEqual(len(self.resolver.asked), 1)
        self.clock.advance(OFFER_SECONDS)
        self.assertEqual(len(self.resolver.asked), 2)
        self.found.clear()
        self.clock.advance(OFFER_SECONDS)
        self.assertEqual(self.found, [("10.0.0.4", 4874)])

    def test_services(self) -> None:
        """SRV records say host and port; addresses that come along are not asked for, the others are."""
        name = "_groupcomm._udp.example.org"
        services = [srv_record(name, "b", 2, priority=5), srv_record(name, "A", 1), srv_record(name, "a", 3, 1)]
        self.resolver.know(name, dns.SRV, *services, beside=[host_record("a", "10.0.0.2")])
        self.resolver.know("b", dns.A, host_record("b", "10.0.0.3"))
        self.start(name)
        self.assertEqual(self.found, [("10.0.0.2", 1), ("10.0.0.2", 3), ("10.0.0.3", 2)])
        self.assertEqual(self.resolver.asked, [(name, dns.SRV), ("b", dns.A)])

    def test_services_without_targets(self) -> None:
        """A target that has no address counts for nothing; if none has, the name has failed."""
        self.resolver.know("x", dns.SRV, srv_record("x", "gone", 1), srv_record("x", "b", 2))
        self.resolver.know("b", dns.A, host_record("b", "10.0.0.3"))
        self.resolver.know("y", dns.SRV, srv_record("y", "gone", 1))
        self.resolver.know("z", dns.SRV, srv_record("z", "", 1), srv_record("z", "b", 0))
        source = self.start("srv:x")
        self.assertEqual(self.found, [("10.0.0.3", 2)])
        self.assertIsNone(source.status().trouble)
        source = self.start("srv:y")
        self.assertIn("srv:y: none of its targets has an address: gone: there is no", source.status().trouble or "")
        self.assertEqual(self.start("srv:z").status().trouble, "srv:z: it has no SRV record")

    def test_many(self) -> None:
        """An answer of any size makes a bounded number of hints and questions."""
        hosts = [host_record("a", f"10.1.{number >> 8}.{number & 255}") for number in range(1000)]
        self.resolver.know("a", dns.A, *hosts)
        self.assertEqual(self.start("a").status().known, MAX_DNS_ADDRESSES)
        services = [srv_record("s", f"t{number}", 1 + number) for number in range(1000)]
        self.resolver.know("s", dns.SRV, *services)
        self.resolver.asked.clear()
        self.start("srv:s")
        self.assertEqual(len(self.resolver.asked), 1 + MAX_TARGETS)

    def test_troubles(self) -> None:
        """Whatever goes wrong is said in words, and asked again."""
        for error, words in (
            (DNSNameError("x"), "no such name"),
            (DNSServerError("x"), "server failed"),
            (TimeoutError("x"), "no DNS server answers"),
            (OSError("strange"), "strange"),
        ):
            for name, kind in (("a", dns.A), ("srv:a", dns.SRV)):
                self.resolver.records["a", kind] = error
                source = self.start(name)
                status = source.status()
                self.assertIn(words, status.trouble or "")
                self.assertTrue(status.troubled)
                self.resolver.asked.clear()
                self.clock.advance(OFFER_SECONDS)
                self.assertEqual(self.resolver.asked, [("a", kind)])
                source.stop()

    def test_no_answer(self) -> None:
        """A question that nobody answers is given up, and asked again."""
        self.resolver.records["a", dns.A] = question = Deferred[Any]()
        source = self.start("a")
        self.clock.advance(LOOK_UP_SECONDS)
        self.assertIn("no DNS server answers", source.status().trouble or "")
        self.assertTrue(question.called)
        self.resolver.know("a", dns.A, host_record("a", "10.0.0.2"))
        self.clock.advance(OFFER_SECONDS)
        self.assertEqual(self.found, [("10.0.0.2", 4874)])

    def test_stop(self) -> None:
        """Stopping gives up what is asked, and ends the resolver; nothing is left for later."""
        self.resolver.records["a", dns.A] = question = Deferred[Any]()
        source = self.start("a")
        self.successResultOf(source.stop())
        self.assertTrue(question.called)
        self.assertTrue(self.resolver.ended)
        self.assertEqual((self.found, self.clock.getDelayedCalls()), ([], []))


class Wire(MemoryReactorClock):
    """A reactor in memory whose UDP sockets can be answered."""

    def __init__(self) -> None:
        super().__init__()
        self.sockets: list[Any] = []

    def listenUDP(self, port: int, protocol: Any, interface: str = "", maxPacketSize: int = 8192) -> Any:
        reactor = self

        class Port:
            def write(self, data: bytes, address: tuple[str, int]) -> None:
                self.sent = (data, address)

            def stopListening(self) -> None:
                reactor.sockets.remove(protocol)
                protocol.doStop()

        self.sockets.append(protocol)
        protocol.makeConnection(Port())
        return protocol.transport


class SystemResolverTests(SynchronousTestCase):
    """The library's resolver, as this package uses it."""

    def setUp(self) -> None:
        self.wire = Wire()
        self.resolver = SystemResolver(self.wire, [("192.0.2.53", 53)])

    def reply(self, *records: dns.RRHeader, truncated: bool = False) -> bytes:
        """The answer to what was asked last."""
        question = dns.Message()
        data, self.server = self.wire.sockets[-1].transport.sent
        question.fromStr(data)
        answer = dns.Message(question.id, answer=1, trunc=truncated)
        answer.queries, answer.answers = question.queries, list(records)
        return answer.toStr()

    def test_datagram(self) -> None:
        """An answer that fits; its socket is closed then."""
        asked = self.resolver.query(dns.Query("a.example.org", dns.A, dns.IN), (1,))
        reply = self.reply(host_record("a.example.org", "10.0.0.2"))
        self.wire.sockets[-1].datagramReceived(reply, self.server)
        (record,) = self.successResultOf(asked)[0]
        self.assertEqual(record.payload.dottedQuad(), "10.0.0.2")
        self.assertEqual(self.wire.sockets, [])

    def test_connection(self) -> None:
        """An answer that does not fit a datagram is asked for over TCP; the connection is given up afterwards."""
        asked = self.resolver.query(dns.Query("a.example.org", dns.A, dns.IN), (1,))
        self.wire.sockets[-1].datagramReceived(self.reply(truncated=True), self.server)
        self.assertNoResult(asked)
        host, port = self.wire.tcpClients[0][:2]
        self.assertEqual((host, port), ("192.0.2.53", 53))
        connector = self.wire.connectors[0]
        self.resolver.hang_up()
        self.assertEqual(connector.stoppedConnecting or connector._disconnected, True)

    def test_end(self) -> None:
        """Ended in the middle of a question, nothing is left: no socket, no delayed call."""
        asked = self.resolver.query(dns.Query("a.example.org", dns.A, dns.IN), (1,))
        asked.cancel()
        self.resolver.end()
        self.failureResultOf(asked)
        self.assertEqual((self.wire.sockets, self.wire.getDelayedCalls()), ([], []))
