"""Discovery beside real servers: only the source that is tested can bring the nodes to know of each other."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence

from twisted.trial.unittest import SynchronousTestCase

from groupcomm.net.sockets import DEFAULT_GROUP, DEFAULT_GROUP6
from tests.lab.harness import Daemon, Json, Lab, LabError, Process, measured, wait_until
from tests.lab.servers import Avahi, DnsServer, ResolvingDaemon, require_server

PORT = 4874
FOUND_SECONDS = 30.0


def without_beacons(lab: Lab, *devices: str) -> None:
    """Drop what comes to groupcomm's own multicast groups, on every host."""
    for host in range(1, lab.size + 1):
        for device in devices or ("eth0",):
            rules = (
                f"add table netdev beacons{device}; "
                f'add chain netdev beacons{device} in {{ type filter hook ingress device "{device}" priority -1; }}; '
                f"add rule netdev beacons{device} in ip daddr {DEFAULT_GROUP} drop; "
                f"add rule netdev beacons{device} in ip6 daddr {DEFAULT_GROUP6} drop"
            )
            lab.run("exec", str(host), "nft", rules)


def source_of(daemon: Daemon, name: str) -> Json:
    """What a daemon says of one of its sources."""
    sources: list[Json] = daemon.status()["discovery"]
    return next(source for source in sources if source["source"] == name)


def wait_for_hints(daemon: Daemon, name: str, addresses: Sequence[str]) -> float:
    """Wait until a source of a daemon has found exactly these addresses; how long that took."""
    began = time.monotonic()
    last: list[Json] = []

    def found() -> bool:
        last[:] = [source_of(daemon, name)]
        return sorted(last[0]["found"]) == sorted(addresses)

    try:
        wait_until(found, FOUND_SECONDS, f"{daemon.node} to find {', '.join(addresses) or 'nothing'}", every=0.1)
    except LabError as error:
        raise LabError(f"{error}; it has found {last[0]['found']}, trouble: {last[0]['trouble']}") from None
    return time.monotonic() - began


def wait_for_trouble(daemon: Daemon, name: str, text: str) -> None:
    """Wait until a source of a daemon says that it has this trouble."""

    def troubled() -> bool:
        source = source_of(daemon, name)
        return bool(source["troubled"]) and text in source["trouble"]

    wait_until(troubled, FOUND_SECONDS, f"{daemon.node} to say {text!r}", every=0.1)


def others(hosts: Sequence[int], host: int) -> list[str]:
    """The addresses of all hosts but one."""
    return [f"10.77.0.{other}:{PORT}" for other in hosts if other != host]


class DnsTests(SynchronousTestCase):
    """A real DNS server on host 1."""

    hosts = (1, 2, 3)

    def setUp(self) -> None:
        require_server("dnsmasq")
        self.lab = Lab(len(self.hosts))
        self.lab.__enter__()
        self.addCleanup(self.lab.__exit__, None, None, None)
        without_beacons(self.lab)

    def start(self, records: Sequence[str], *names: str) -> tuple[DnsServer, list[ResolvingDaemon]]:
        """A server with these records, and on each host a daemon that asks it for these names."""
        server = self.lab.started(DnsServer(self.lab, 1, records))
        options = ["--discovery", "dns", *(text for name in names for text in ("--dns", name))]
        daemons = [ResolvingDaemon(self.lab, host, server, options) for host in self.hosts]
        return server, [self.lab.started(daemon) for daemon in daemons]

    def test_addresses_of_a_name(self) -> None:
        """A name that comes to be is found, one that changes followed; without a server the last answer counts."""
        server, daemons = self.start([], "nodes.lab")
        for daemon in daemons:
            wait_for_trouble(daemon, "dns", "no such name")
        server.write_hosts(*(f"10.77.0.{host} nodes.lab" for host in self.hosts))
        took = max(wait_for_hints(daemon, "dns", others(self.hosts, daemon.host)) for daemon in daemons)
        measured("all nodes have the addresses after the name is there", took, "s", 2.0)
        self.lab.wait_for_view(daemons)
        self.assertFalse(source_of(daemons[0], "dns")["troubled"])
        server.write_hosts("10.77.0.1 nodes.lab", "10.77.0.2 nodes.lab")
        took = max(wait_for_hints(daemon, "dns", others((1, 2), daemon.host)) for daemon in daemons)
        measured("an address that is gone is forgotten", took, "s", 4.0)
        server.kill()
        wait_for_trouble(daemons[1], "dns", "no DNS server answers")
        wait_for_hints(daemons[1], "dns", others((1, 2), 2))
        self.lab.started(DnsServer(self.lab, 1, [f"host-record=nodes.lab,10.77.0.{host}" for host in self.hosts]))
        wait_for_hints(daemons[1], "dns", others(self.hosts, 2))

    def test_services(self) -> None:
        """SRV records give hosts and ports, whether the addresses of the targets come along or not."""
        records = [
            *(f"srv-host=_groupcomm._udp.lab,n{host}.lab,{PORT}" for host in self.hosts),
            *(f"host-record=n{host}.lab,10.77.0.{host}" for host in self.hosts),
            "srv-host=_other._udp.lab,n3.lab,5999",
        ]
        _, daemons = self.start(records, "_groupcomm._udp.lab", "srv:_other._udp.lab")
        for daemon in daemons:
            wait_for_hints(daemon, "dns", [*others(self.hosts, daemon.host), "10.77.0.3:5999"])
        self.lab.wait_for_view(daemons)

    def test_an_answer_too_large_for_a_datagram(self) -> None:
        """Forty addresses do not fit one: they come over TCP."""
        many = [f"10.77.1.{number}" for number in range(1, 41)]
        records = [f"host-record=many.lab,{host}" for host in many]
        server = self.lab.started(DnsServer(self.lab, 1, records))
        options = ("--discovery", "dns", "--dns", "many.lab:5000")
        daemon = self.lab.started(ResolvingDaemon(self.lab, 2, server, options))
        wait_for_hints(daemon, "dns", [f"{host}:5000" for host in many])


class FileTests(SynchronousTestCase):
    """A file of peers."""

    def test_changed_while_running(self) -> None:
        """A file that comes to be is found, and followed when it changes; a wrong line is said with its number."""
        with Lab(2) as lab:
            without_beacons(lab)
            path = lab.directory / "peers"
            daemons = [lab.daemon(host, None, "--discovery", "file", "--peers-file", str(path)) for host in (1, 2)]
            wait_for_trouble(daemons[0], "file", "no such file")
            path.write_text("# all of them\n10.77.0.1\n10.77.0.2:4874\n")
            took = max(wait_for_hints(daemon, "file", others((1, 2), daemon.host)) for daemon in daemons)
            measured("the nodes in a file are found after it was written", took, "s", 2.0)
            lab.wait_for_view(daemons)
            path.write_text("10.77.0.1\nno host\n10.77.0.9:5000\n")
            wait_for_hints(daemons[0], "file", ["10.77.0.9:5000"])
            wait_for_trouble(daemons[0], "file", "line 2")
            self.assertEqual(daemons[0].log().count("line 2: "), 1)
            path.with_name("new").write_text("10.77.0.2\n")
            path.with_name("new").rename(path)
            wait_for_hints(daemons[0], "file", others((1, 2), 1))


class Finder(Process):
    """Zeroconf as a node uses it, alone: ``tests/lab/finder.py``."""

    def __init__(self, lab: Lab, host: int, *addresses: str) -> None:
        super().__init__(lab, host, f"finder-{host}")
        self._addresses = addresses

    def command(self) -> list[str]:
        """The program, which prints what it finds."""
        return [
            sys.executable,
            "-m",
            "tests.lab.finder",
            self.lab.cluster,
            f"n{self.host}",
            str(PORT),
            *self._addresses,
        ]

    def found(self) -> set[str]:
        """The addresses that it has been given as hints."""
        return {json.loads(line) for line in self.output.read_text().splitlines()}

    def wait_for(self, *addresses: str) -> None:
        """Wait until it has found these addresses."""
        wanted = set(addresses)
        wait_until(lambda: wanted <= self.found(), FOUND_SECONDS, f"{self.name} to find {', '.join(addresses)}")


class ZeroconfTests(SynchronousTestCase):
    """Multicast DNS, groupcomm's own beacons dropped."""

    def test_beside_avahi(self) -> None:
        """Nodes find each other on hosts where Avahi runs, and find what Avahi announces there and elsewhere."""
        require_server("avahi-daemon")
        with Lab(3) as lab:
            without_beacons(lab)
            responders = [lab.started(Avahi(lab, host, 5000 + host, lab.cluster)) for host in (1, 3)]
            for responder in responders:
                wait_until(responder.is_running, FOUND_SECONDS, f"{responder.name} to announce")
            daemons = [lab.daemon(host, None, "--discovery", "zeroconf") for host in (1, 2)]
            outside = ["10.77.0.1:5001", "10.77.0.3:5003"]
            for daemon in daemons:
                took = wait_for_hints(daemon, "zeroconf", [*others((1, 2), daemon.host), *outside])
                measured(f"{daemon.node} has found all that is announced", took, "s")
            lab.wait_for_view(daemons)
            daemons[0].stop()
            took = wait_for_hints(daemons[1], "zeroconf", outside)
            measured("a node that has left is forgotten", took, "s")

    def test_on_two_networks(self) -> None:
        """A node on two networks is found on both, and finds on both; who has only IPv6 finds IPv6 addresses."""
        with Lab(4) as lab:
            lab.run("second", "4")
            both = lab.started(Finder(lab, 1, "10.77.0.1", "10.78.0.1", "fd77::1"))
            first = lab.started(Finder(lab, 2, "10.77.0.2"))
            second = lab.started(Finder(lab, 3, "10.78.0.3"))
            six = lab.started(Finder(lab, 4, "fd77::4"))
            first.wait_for("10.77.0.1:4874", "10.78.0.1:4874")
            second.wait_for("10.77.0.1:4874", "10.78.0.1:4874")
            six.wait_for("[fd77::1]:4874")
            both.wait_for("10.77.0.2:4874", "10.78.0.3:4874", "[fd77::4]:4874")
            self.assertEqual(six.found(), {"[fd77::1]:4874"})
            self.assertEqual(second.found(), {"10.77.0.1:4874", "10.78.0.1:4874"})

    def test_another_address(self) -> None:
        """A host gets another address while its node runs: the others find the node there."""
        with Lab(3) as lab:
            without_beacons(lab)
            daemons = lab.daemons((1, 2, 3), "--interface", "eth0", "--discovery", "zeroconf")
            lab.run("exec", "3", "ip", "-4", "addr", "flush", "dev", "eth0")
            lab.wait_for_view(daemons[:2])
            lab.run("exec", "3", "ip", "addr", "add", "10.77.0.103/16", "dev", "eth0")
            began = time.monotonic()

            def found() -> bool:
                return f"10.77.0.103:{PORT}" in source_of(daemons[0], "zeroconf")["found"]

            wait_until(found, FOUND_SECONDS, "n1 to find the new address", every=0.1)
            measured("the new address is found", time.monotonic() - began, "s")
            lab.wait_for_view(daemons)

    def test_nodes_on_two_networks(self) -> None:
        """Nodes with two links find all addresses of each other, and come together."""
        with Lab(3) as lab:
            lab.run("second", "3")
            without_beacons(lab, "eth0", "eth1")
            options = ("--interface", "eth0", "--interface", "eth1", "--discovery", "zeroconf")
            daemons = lab.daemons((1, 2, 3), *options)
            for daemon in daemons:
                apart = [f"10.{net}.0.{host}:{PORT}" for net in (77, 78) for host in (1, 2, 3) if host != daemon.host]
                wait_for_hints(daemon, "zeroconf", apart)
