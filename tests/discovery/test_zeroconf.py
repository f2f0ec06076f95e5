"""What is announced by Zeroconf, and what is made of others' announcements."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import cast

from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.interfaces import IReactorFromThreads, IReactorTime
from twisted.trial.unittest import SynchronousTestCase, TestCase
from zope.interface.verify import verifyObject

from groupcomm.discovery.dns import DnsDiscovery
from groupcomm.discovery.hints import Announcement
from groupcomm.discovery.multicast import MulticastDiscovery
from groupcomm.discovery.peersfile import FileDiscovery
from groupcomm.discovery.sources import IDiscoveryReactor, SourceSettings, make_sources
from groupcomm.discovery.static import StaticDiscovery
from groupcomm.discovery.zeroconf import (
    ZeroconfDiscovery,
    addresses_of,
    cluster_property,
    instance_label,
    service_info,
)
from groupcomm.errors import UsageError
from groupcomm.identity import NodeId
from groupcomm.interfaces import IDiscovery
from groupcomm.outputs import Address


def announcement(node: str = "n1", cluster: str = "c", incarnation: int = 255) -> Announcement:
    """What a node announces."""
    return Announcement(cluster, NodeId(node, incarnation), ("127.0.0.1",))


class AnnouncementTests(SynchronousTestCase):
    """Bytes and names of an announcement."""

    def test_service(self) -> None:
        """The service has the node's port, only its interface's address, and cluster, node and version."""
        info = service_info(announcement("knöten"), 4874)
        self.assertEqual((info.port, info.parsed_addresses()), (4874, ["127.0.0.1"]))
        self.assertEqual(info.properties, {b"cluster": b"c", b"node": "knöten".encode(), b"version": b"1"})

    def test_addresses(self) -> None:
        """Every address of the node is announced: A and AAAA records."""
        several = Announcement("c", NodeId("n", 1), ("10.0.0.1", "10.1.0.1", "fd77::1", "fe80::1%lo"))
        addresses = service_info(several, 1).parsed_addresses()
        self.assertEqual(sorted(addresses), ["10.0.0.1", "10.1.0.1", "fd77::1", "fe80::1"])

    def test_label(self) -> None:
        """A label fits its 63 bytes and differs for each node, run and cluster."""
        labels = {
            instance_label(announcement(node, cluster, incarnation))
            for node in ("n" * 64, "ü" * 32, "n 1", "n.1")
            for cluster in ("c", "d")
            for incarnation in (1, (1 << 64) - 1)
        }
        self.assertEqual(len(labels), 16)
        self.assertLessEqual(max(map(len, labels)), 63)

    def test_long_cluster_name(self) -> None:
        """A cluster name too long for a property is announced as its digest, and two of them differ."""
        first, second = cluster_property("x" * 255), cluster_property("x" * 254)
        self.assertNotEqual(first, second)
        self.assertLess(len(first), 100)
        service_info(announcement("n" * 64, "x" * 255), 1)

    def test_hints(self) -> None:
        """Only the same cluster and version count, with a port that can be one."""
        good: dict[bytes, bytes | None] = {b"cluster": b"c", b"version": b"1"}
        self.assertEqual(addresses_of(good, ["10.0.0.1"], 9, "c"), (("10.0.0.1", 9),))
        self.assertEqual(addresses_of(good, ["fe80::1%1"], 9, "c"), (("fe80::1%lo", 9),))
        self.assertEqual(addresses_of(good, ["fe80::1%999999"], 9, "c"), (("fe80::1", 9),))
        for properties, port, cluster in (
            (good, 9, "d"),
            ({b"cluster": b"c", b"version": b"2"}, 9, "c"),
            ({b"cluster": None, b"version": b"1"}, 9, "c"),
            ({}, 9, "c"),
            (good, 0, "c"),
            (good, None, "c"),
            (good, 65_536, "c"),
        ):
            self.assertEqual(addresses_of(properties, ["10.0.0.1"], port, cluster), ())


class SourcesTests(SynchronousTestCase):
    """The sources by name."""

    def test_make(self) -> None:
        """Each name makes its source; what is told where to look makes the other three."""
        real = cast(IDiscoveryReactor, reactor)
        settings = SourceSettings(("zeroconf", "multicast"), 4874, ("h",), ("srv:h",), Path("/nowhere"))
        made = make_sources(real, announcement(), settings)
        kinds = [ZeroconfDiscovery, MulticastDiscovery, StaticDiscovery, DnsDiscovery, FileDiscovery]
        self.assertEqual([type(source) for source in made], kinds)
        for source in made:
            verifyObject(IDiscovery, source)
        looks_at = {source.status().name: source.status().looks_at for source in made}
        self.assertEqual(looks_at["static"], "h:4874")
        self.assertEqual(looks_at["dns"], "srv:h")
        self.assertIn("/nowhere", looks_at["file"])
        self.assertIn("127.0.0.1", looks_at["zeroconf"])
        self.assertEqual(make_sources(real, announcement(), SourceSettings(("static", "dns", "file"), 4874)), ())

    def test_unknown(self) -> None:
        """What is no source is refused with what there is."""
        error = self.assertRaises(UsageError, SourceSettings, ("pigeon",), 1)
        self.assertIn("zeroconf", str(error))
        self.assertRaises(UsageError, SourceSettings, ("dns", "dns"), 1)
        self.assertRaises(UsageError, SourceSettings, (), 1, dns=("10.0.0.1",))


class LiveTests(TestCase):
    """Two announcers on this host's loopback interface."""

    timeout = 30

    def test_find_each_other(self) -> Deferred[None]:
        """Two nodes of one cluster find each other, and not the one of another cluster."""
        found: dict[str, list[Address]] = {"a": [], "b": [], "x": []}
        done: Deferred[None] = Deferred()

        def hear(name: str, address: Address) -> None:
            found[name].append(address)
            if found["a"] and found["b"] and not done.called:
                done.callback(None)

        real = cast(IReactorFromThreads, reactor)
        sources = {
            "a": ZeroconfDiscovery(real, announcement("a", "live")),
            "b": ZeroconfDiscovery(real, announcement("b", "live")),
            "x": ZeroconfDiscovery(real, announcement("x", "other")),
        }
        starting = [
            source.start(number, partial(hear, name)) for number, (name, source) in enumerate(sources.items(), 5001)
        ]
        for source in sources.values():
            self.addCleanup(source.stop)
        done.addTimeout(20, cast(IReactorTime, reactor))

        def check(_: object) -> None:
            self.assertEqual(set(found["a"]), {("127.0.0.1", 5002)})
            self.assertEqual(set(found["b"]), {("127.0.0.1", 5001)})
            self.assertEqual(found["x"], [])
            status = sources["x"].status()
            self.assertEqual((status.known, status.trouble), (0, None))

        return gatherResults([*starting, done]).addCallback(check)

    def test_moved(self) -> Deferred[None]:
        """A node that comes to another address is found there, and finds the others from there."""
        found: dict[str, list[Address]] = {"a": [], "b": []}
        done: Deferred[None] = Deferred()
        real = cast(IReactorFromThreads, reactor)
        nowhere = Announcement("moved", NodeId("a", 1), ("192.0.2.1",))
        a, b = ZeroconfDiscovery(real, nowhere), ZeroconfDiscovery(real, announcement("b", "moved"))

        def hear(name: str, address: Address) -> None:
            found[name].append(address)
            if found["a"] and found["b"] and not done.called:
                done.callback(None)

        starting = [a.start(5001, partial(hear, "a")), b.start(5002, partial(hear, "b"))]
        for source in (a, b):
            self.addCleanup(source.stop)
        done.addTimeout(20, cast(IReactorTime, reactor))
        started = gatherResults(starting).addCallback(lambda _: a.moved(("127.0.0.1",)))

        def check(_: object) -> None:
            self.assertEqual((set(found["a"]), set(found["b"])), ({("127.0.0.1", 5002)}, {("127.0.0.1", 5001)}))
            self.assertEqual(a.status().looks_at, "multicast DNS on 127.0.0.1")
            self.assertFalse(a.status().troubled)

        return gatherResults([started, done]).addCallback(check)

    def test_stop_at_once(self) -> Deferred[None]:
        """A source that is stopped right after its start ends in peace."""
        source = ZeroconfDiscovery(cast(IReactorFromThreads, reactor), announcement("q", "live"))
        starting = source.start(5009, lambda _: None)
        return gatherResults([starting, source.stop()]).addCallback(lambda _: None)

    def test_no_such_address(self) -> Deferred[None]:
        """Where Zeroconf cannot work, the source says so in the log, and starting and stopping go on."""
        nowhere = Announcement("live", NodeId("n", 1), ("192.0.2.1",))
        source = ZeroconfDiscovery(cast(IReactorFromThreads, reactor), nowhere)

        def check(_: object) -> Deferred[None]:
            status = source.status()
            self.assertIn("192.0.2.1", status.trouble or "")
            self.assertTrue(status.troubled)
            return source.stop()

        return source.start(5009, lambda _: None).addCallback(check)
