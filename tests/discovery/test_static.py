"""The static list is offered for ever, and resolved again and again."""

from __future__ import annotations

from typing import cast

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorPluggableNameResolver
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from groupcomm.discovery.hints import Announcement
from groupcomm.discovery.lookups import OFFER_SECONDS
from groupcomm.discovery.static import (
    MAX_PEERS,
    RESOLVE_SECONDS,
    PeerName,
    StaticDiscovery,
    parse_peer,
    reactor_resolver,
)
from groupcomm.errors import UsageError
from groupcomm.identity import NodeId
from groupcomm.interfaces import IDiscovery
from groupcomm.outputs import Address

ANNOUNCEMENT = Announcement("c", NodeId("n1", 1), ("10.0.0.1", "fd77::1"))


class PeerTests(SynchronousTestCase):
    """One entry of the list."""

    def test_forms(self) -> None:
        """A host, with or without a port."""
        self.assertEqual(parse_peer("host", 4874), PeerName("host", 4874))
        self.assertEqual(parse_peer(" 10.0.0.1:65535 ", 4874), PeerName("10.0.0.1", 65_535))
        self.assertTrue(PeerName("10.0.0.1", 1).literal)
        self.assertEqual(parse_peer("[fd77::1]:5", 4874), PeerName("fd77::1", 5))
        self.assertEqual(str(PeerName("fd77::1", 5)), "[fd77::1]:5")
        self.assertTrue(PeerName("fd77::1", 1).literal)
        self.assertFalse(PeerName("10.0.0.1.example", 1).literal)

    def test_refused(self) -> None:
        """Anything else is refused."""
        for text in ("", ":1", "host:", "host:0", "host:65536", "host:x", "host:1:2", "[::1]:", "a b", "h" * 254):
            self.assertRaises(UsageError, parse_peer, text, 4874)


class StaticTests(SynchronousTestCase):
    """Offering and resolving."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.found: list[Address] = []
        self.asked: list[str] = []
        self.answers: list[Deferred[tuple[str, ...]]] = []

    def resolve(self, host: str) -> Deferred[tuple[str, ...]]:
        """A resolver whose answers the test gives."""
        self.asked.append(host)
        self.answers.append(Deferred())
        return self.answers[-1]

    def start(self, *peers: str) -> StaticDiscovery:
        """A started source."""
        parsed = [parse_peer(peer, 4874) for peer in peers]
        source = StaticDiscovery(self.clock, ANNOUNCEMENT, parsed, self.resolve)
        verifyObject(IDiscovery, source)
        self.successResultOf(source.start(4874, self.found.append))
        return source

    def test_addresses(self) -> None:
        """Addresses are offered at once and again and again, this node's own never."""
        source = self.start("10.0.0.2", "10.0.0.1", "10.0.0.1:5000", "[fd77::1]", "[FD77::2]:5000")
        self.assertEqual(self.found, [("10.0.0.2", 4874), ("10.0.0.1", 5000), ("fd77::2", 5000)])
        self.clock.advance(OFFER_SECONDS)
        self.assertEqual(len(self.found), 6)
        self.assertEqual(self.asked, [])
        self.successResultOf(source.stop())
        self.clock.advance(OFFER_SECONDS)
        self.assertEqual((len(self.found), self.clock.getDelayedCalls()), (6, []))

    def test_names(self) -> None:
        """A name is resolved, offered, and resolved again later; a changed answer replaces the old one."""
        self.start("host")
        self.answers[0].callback(("10.0.0.7", "10.0.0.8"))
        self.assertEqual(self.found, [("10.0.0.7", 4874), ("10.0.0.8", 4874)])
        for _ in range(int(RESOLVE_SECONDS / OFFER_SECONDS)):
            self.clock.advance(OFFER_SECONDS)
        self.assertEqual(self.asked, ["host", "host"])
        self.answers[1].callback(("10.0.0.9",))
        self.found.clear()
        self.clock.advance(OFFER_SECONDS)
        self.assertEqual(self.found, [("10.0.0.9", 4874)])

    def test_unresolvable(self) -> None:
        """A name that does not resolve is tried at every offer, one look-up at a time, and the status says why."""
        source = self.start("host")
        self.clock.advance(OFFER_SECONDS)
        self.assertEqual(self.asked, ["host"])
        self.answers[0].errback(OSError("no such host"))
        self.clock.advance(OFFER_SECONDS)
        self.answers[1].callback(())
        self.clock.advance(OFFER_SECONDS)
        self.assertEqual(source.status().trouble, "host:4874: it has no address")
        self.answers[2].callback(("10.0.0.7",))
        self.assertEqual(self.found, [("10.0.0.7", 4874)])
        status = source.status()
        self.assertEqual((status.looks_at, status.known, status.troubled), ("host:4874", 1, False))

    def test_stop_while_resolving(self) -> None:
        """Stopping gives up what is being looked up."""
        source = self.start("host")
        self.successResultOf(source.stop())
        self.assertEqual(self.found, [])

    def test_too_many(self) -> None:
        """The list has a limit."""
        peers = [PeerName("10.0.0.2", port + 1) for port in range(MAX_PEERS + 1)]
        self.assertRaises(UsageError, StaticDiscovery, self.clock, ANNOUNCEMENT, peers, self.resolve)


class FakeResolver:
    """A reactor's resolver."""

    @property
    def nameResolver(self) -> FakeResolver:
        return self

    def resolveHostName(self, receiver: object, host: str, port: int, types: object) -> object:
        self.receiver = receiver
        return receiver


class ResolverTests(SynchronousTestCase):
    """Asking the reactor."""

    def test_collects(self) -> None:
        """Every address once."""
        fake = FakeResolver()
        result = reactor_resolver(cast(IReactorPluggableNameResolver, fake))("host")
        receiver = fake.receiver
        receiver.resolutionBegan(receiver)  # type: ignore[attr-defined]
        for host in ("10.0.0.1", "10.0.0.2", "10.0.0.1"):
            receiver.addressResolved(IPv4Address("TCP", host, 0))  # type: ignore[attr-defined]
        receiver.addressResolved(IPv6Address("TCP", "fd77::1", 0))  # type: ignore[attr-defined]
        receiver.resolutionComplete()  # type: ignore[attr-defined]
        self.assertEqual(self.successResultOf(result), ("10.0.0.1", "10.0.0.2", "fd77::1"))
