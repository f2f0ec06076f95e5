"""``groupcomm doctor``: each finding from made-up facts, where there is reason for it and where there is none."""

from __future__ import annotations

import io
import json
import re
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, cast

from attrs import evolve
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from groupcomm._version import __version__
from groupcomm.cli import main as main_module
from groupcomm.cli import session as session_module
from groupcomm.cli.doctor import command as command_module
from groupcomm.cli.doctor import network, node
from groupcomm.cli.doctor.command import diagnosis, lines, neighbours
from groupcomm.cli.doctor.finding import (
    SHOWN_NAMES,
    Answer,
    Connected,
    Finding,
    Host,
    Interface,
    Level,
    named,
    often,
    since,
)
from groupcomm.cli.running import IReactor
from groupcomm.client import Connection, connect
from groupcomm.errors import NotConnected
from groupcomm.limits import CLIENT_QUEUE_BYTES
from groupcomm.net.ports import RECEIVE_BUFFER_BYTES, SEND_BUFFER_BYTES
from tests.daemon.world import MemoryEndpoint, World

ROOT = Path(__file__).parents[2]
BETA, GAMMA, DELTA = "10.0.0.2:4874", "10.0.0.3:4874", "10.0.0.4:4874"
PATH: dict[str, Any] = {
    "address": BETA,
    "reach": "multicast",
    "heard": True,
    "multicast_heard": True,
    "round_trip_seconds": 0.0004,
    "loss": 0.0,
    "mtu_bytes": 1472,
    "searching": False,
}
PEER: dict[str, Any] = {
    "node": "beta",
    "incarnation": 5,
    "address": BETA,
    "packets_received": 20_000,
    "packets_missing": 20,
    "repairs_received": 20,
    "paths": [PATH],
}
OTHER = {**PEER, "node": "gamma", "address": GAMMA, "paths": [{**PATH, "address": GAMMA}]}
LINK: dict[str, Any] = {
    "interface": "eth0",
    "address": "10.0.0.1:4874",
    "mtu_bytes": 1500,
    "away": False,
    "receive_buffer_bytes": RECEIVE_BUFFER_BYTES,
    "send_buffer_bytes": SEND_BUFFER_BYTES,
    "drops": 0,
}
SOURCE: dict[str, Any] = {
    "source": "static",
    "looks_at": "a list",
    "known": 2,
    "found": [BETA, DELTA],
    "trouble": None,
    "troubled": False,
}
REFUSED = {"why": "seal_broken", "source": DELTA, "seconds": 20.0, "count": 17, "text": ""}
FACTS: dict[str, Any] = {
    "version": __version__,
    "node": "alpha",
    "cluster": "default",
    "state": "operational",
    "view": "7-alpha-abc",
    "members": [("alpha", 1), ("beta", 5), ("gamma", 6)],
    "primary": True,
    "quorum": {"filter": "none", "why": "", "differing": []},
    "peers": [PEER, OTHER],
    "slow": [],
    "kept_out": [],
    "evicted_by": [],
    "discovery": [{**SOURCE, "found": [BETA, GAMMA]}],
    "sealed": True,
    "key_epoch": 3,
    "links": [LINK],
    "refused": [],
    "up_seconds": 3600.0,
    "counters": {"datagrams_received": 1_000_000, "datagrams_sent": 1_000_000, "views_installed": 3},
    "clients": 2,
    "longest_client_queue_bytes": 100,
    "config": [("max-mtu", "8940", "default")],
}
HOST = Host(
    interfaces=(Interface("lo", "127.0.0.1", multicast=False, loopback=True), Interface("eth0", "10.0.0.1")),
    chosen="eth0 (10.0.0.1)",
    sysctls={"net.core.rmem_max": 212_992, "net.core.wmem_max": 212_992},
    synchronised=True,
    routes={BETA: "10.0.0.1", GAMMA: "10.0.0.1"},
    answers={BETA: Connected(Answer.NODE, "beta"), GAMMA: Connected(Answer.NODE, "gamma")},
    received=(1_000_000, 5),
    processors=2,
    load=0.5,
)


def counting(**counters: int) -> dict[str, Any]:
    """The facts with some things counted."""
    return {**FACTS, "counters": {**FACTS["counters"], **counters}}


def with_path(**changes: Any) -> dict[str, Any]:
    """The facts with another path to beta."""
    return {**FACTS, "peers": [{**PEER, "paths": [{**PATH, **changes}]}, OTHER]}


def with_link(**changes: Any) -> dict[str, Any]:
    """The facts with another link."""
    return {**FACTS, "links": [{**LINK, **changes}]}


class FindingsCase(SynchronousTestCase):
    """What is wrong according to some facts."""

    def wrong(self, facts: dict[str, Any], host: Host | None = HOST) -> list[Finding]:
        """Whatever is not fine, with words on what to do."""
        every = [*node.node_findings(facts, host, __version__), *network.network_findings(facts, host)]
        bad = [finding for finding in every if finding.level is not Level.OK]
        for finding in every:
            self.assertEqual(bool(finding.advice), finding in bad, finding)
        return bad

    def assert_finding(
        self, facts: dict[str, Any], level: Level, check: str, *texts: str, host: Host | None = HOST
    ) -> None:
        """There is that one finding and no other; its text and its advice have these words."""
        found = self.wrong(facts, host)
        self.assertEqual([(each.level, each.check) for each in found], [(level, check)], found)
        for text in texts:
            self.assertIn(text, f"{found[0].text} -> {found[0].advice}")

    def assert_well(self, facts: dict[str, Any], host: Host | None = HOST) -> None:
        """Nothing is wrong."""
        self.assertEqual(self.wrong(facts, host), [])


class NodeTests(FindingsCase):
    """The node: its view, keys, quorum, clock, processor, clients."""

    def test_a_healthy_node(self) -> None:
        """Nothing is wrong, and it is said what was looked at; a host need not be known."""
        self.assert_well(FACTS)
        self.assert_well(FACTS, None)
        found = [*node.node_findings(FACTS, HOST, __version__), *network.network_findings(FACTS, HOST)]
        self.assertEqual(
            " ".join(finding.check for finding in found),
            "daemon view key clock cpu clients interface route buffers buffers multicast mtu loss firewall",
        )

    def test_another_version(self) -> None:
        """The daemon is older than what is installed."""
        self.assert_finding({**FACTS, "version": "0.0.1"}, Level.WARN, "version", "0.0.1", __version__)

    def test_no_view(self) -> None:
        """A node without a view, one whose view changes, and one that is alone."""
        self.assert_finding({**FACTS, "view": None, "state": "seeking"}, Level.FAIL, "view", "seeking")
        self.assert_finding({**FACTS, "state": "gather"}, Level.WARN, "view", "gather", "groupcomm why")
        alone = {**FACTS, "members": [("alpha", 1)], "peers": [], "discovery": []}
        self.assert_finding(alone, Level.WARN, "view", "alone", "--peer")

    def test_views_that_change_again_and_again(self) -> None:
        """Many changes in a short time; as many over a day are none to speak of."""
        self.assert_finding(counting(views_installed=60), Level.WARN, "view", "60 times in 60 minutes", "groupcomm why")
        self.assert_well({**counting(views_installed=60), "up_seconds": 86_400.0})
        self.assert_well({**counting(views_installed=19), "up_seconds": 10.0})

    def test_quorum(self) -> None:
        """A view that is not primary, and nodes that count otherwise."""
        majority = {"filter": "majority", "why": "1 of 3", "differing": []}
        self.assert_finding({**FACTS, "primary": False, "quorum": majority}, Level.FAIL, "quorum", "1 of 3")
        differing = {**majority, "differing": ["gamma"]}
        self.assert_finding({**FACTS, "quorum": differing}, Level.FAIL, "quorum", "gamma")
        self.assert_well({**FACTS, "quorum": majority})

    def test_no_key(self) -> None:
        """Packets in the clear."""
        self.assert_finding({**FACTS, "sealed": False}, Level.WARN, "key", "INSECURE")

    def test_who_is_refused(self) -> None:
        """Each reason, with the address; what was long ago is no fault any more."""
        for why, text in (
            ("seal_broken", "another key"),
            ("unsealed", "without a key"),
            ("passport_refused", "not let in"),
            ("signature_broken", "forges"),
        ):
            refused = {**REFUSED, "why": why, "text": "it was revoked"}
            self.assert_finding(
                {**FACTS, "refused": [refused]},
                Level.FAIL,
                "key",
                DELTA,
                text,
                "it was revoked",
                "17 packets, told of 20 s",
            )
        self.assert_well({**FACTS, "refused": [{**REFUSED, "seconds": 181.0}]})

    def test_other_clusters(self) -> None:
        """Packets of others mean a misspelt name only where nobody of this cluster is there."""
        self.assert_well(counting(foreign_cluster=1000))
        alone = {**counting(foreign_cluster=1000), "members": [("alpha", 1)], "peers": [], "discovery": []}
        self.assertEqual([finding.check for finding in self.wrong(alone)], ["view", "cluster"])

    def test_other_versions(self) -> None:
        """Datagrams that are no packets, and packets of another kind, if there are more than a few."""
        self.assert_finding(counting(malformed=100), Level.WARN, "version", "100 datagrams", "tcpdump")
        self.assert_finding(counting(peer_violations=8, unknown_kind=8), Level.WARN, "version", "16 packets")
        self.assert_well(counting(malformed=50, peer_violations=2))

    def test_discovery(self) -> None:
        """A source in trouble; trouble that has passed is none."""
        broken = {**FACTS["discovery"][0], "source": "dns", "trouble": "no such name", "troubled": True}
        self.assert_finding({**FACTS, "discovery": [broken]}, Level.WARN, "discovery", "dns", "no such name")
        self.assert_well({**FACTS, "discovery": [{**broken, "troubled": False}]})

    def test_clock(self) -> None:
        """Jumps; a clock that nobody keeps matters where there are certificates."""
        self.assert_finding(counting(keys_renewed=4), Level.WARN, "clock", "4 times", "NTP")
        self.assert_well({**counting(keys_renewed=4), "up_seconds": 30 * 86_400.0})
        loose = evolve(HOST, synchronised=False)
        self.assert_well(FACTS, loose)
        certified = {**FACTS, "config": [("node-certificate", "/etc/a.crt", "option")]}
        self.assert_finding(certified, Level.WARN, "clock", "certificates", host=loose)
        self.assert_well(certified)

    def test_processor(self) -> None:
        """A daemon that is not run, and a host on which it may not be."""
        self.assert_finding(counting(stalls=40), Level.WARN, "cpu", "40 times", "2 processors", "Nice")
        self.assert_finding(counting(stalls=40), Level.WARN, "cpu", "40 times", host=None)
        self.assert_finding(FACTS, Level.WARN, "cpu", "load of 4.1", host=evolve(HOST, load=4.1))
        self.assert_well({**counting(stalls=40), "up_seconds": 10 * 86_400.0})

    def test_slow_nodes(self) -> None:
        """Who is slow, who was evicted, and whether this node was."""
        slow = {"node": "gamma", "lag_bytes": 5000, "seconds": 7.0}
        self.assert_finding({**FACTS, "slow": [slow]}, Level.WARN, "slow", "gamma", "7 s", "5,000 bytes")
        self.assert_finding({**FACTS, "kept_out": [{**slow, "times": 2}]}, Level.WARN, "slow", "gamma", "another 7 s")
        self.assert_finding({**FACTS, "evicted_by": ["beta"]}, Level.FAIL, "slow", "this node", "beta")

    def test_clients(self) -> None:
        """A queue near its cap, and clients that were disconnected."""
        half = CLIENT_QUEUE_BYTES // 2
        self.assert_finding({**FACTS, "longest_client_queue_bytes": half + 1}, Level.WARN, "clients", f"{half + 1:,}")
        self.assert_well({**FACTS, "longest_client_queue_bytes": half})
        self.assert_finding(counting(clients_too_slow=5), Level.WARN, "clients", "5 clients", "log names them")


class NetworkTests(FindingsCase):
    """The network: interfaces, buffers, multicast, paths, firewalls."""

    def test_interface(self) -> None:
        """One that is away or down, one that takes too little, one that cannot multicast."""
        self.assert_finding(with_link(away=True), Level.FAIL, "interface", "eth0", "ip link set eth0 up")
        down = evolve(HOST, interfaces=(Interface("eth0", "10.0.0.1", up=False),))
        self.assert_finding(FACTS, Level.FAIL, "interface", "down", host=down)
        narrow = {**with_link(mtu_bytes=1259), "peers": []}
        self.assert_finding(narrow, Level.FAIL, "interface", "MTU of 1,260", "ip link set eth0 mtu")
        self.assert_well({**with_link(mtu_bytes=1260), "peers": []})
        deaf = evolve(HOST, interfaces=(Interface("eth0", "10.0.0.1", multicast=False),))
        self.assert_finding(FACTS, Level.WARN, "interface", "cannot multicast", "--peer", host=deaf)

    def test_route(self) -> None:
        """Packets that leave by another link, or by none."""
        for leaves, text in (("10.9.0.1", "10.9.0.1, not 10.0.0.1"), ("", "no route, not 10.0.0.1")):
            host = evolve(HOST, routes={**HOST.routes, BETA: leaves})
            self.assert_finding(FACTS, Level.WARN, "route", f"beta ({BETA})", text, "rp_filter", host=host)
            self.assertEqual([each.check for each in self.wrong(with_link(away=True), host)], ["interface"])

    def test_buffers(self) -> None:
        """Less than was asked for, with the line to set; a link that is away has none."""
        for key, name, wanted in (
            ("receive_buffer_bytes", "net.core.rmem_max", RECEIVE_BUFFER_BYTES),
            ("send_buffer_bytes", "net.core.wmem_max", SEND_BUFFER_BYTES),
        ):
            small = with_link(**{key: 212_992})
            self.assert_finding(small, Level.WARN, "buffers", "212,992", f"sysctl -w {name}={wanted}", f"{name} is")
            self.assert_finding(small, Level.WARN, "buffers", f"sysctl -w {name}={wanted}", host=None)

    def test_drops(self) -> None:
        """Datagrams without room: the daemon's, and those of the host; a few are none to speak of."""
        self.assert_finding(with_link(drops=5000), Level.WARN, "drops", "5,000")
        self.assert_well(with_link(drops=99))
        self.assert_finding(FACTS, Level.WARN, "drops", "900", "nstat", host=evolve(HOST, received=(1_000_000, 900)))
        self.assert_well(FACTS, evolve(HOST, received=(100_000_000, 900)))

    def test_multicast_that_does_not_arrive(self) -> None:
        """Who is not reached is named; if nobody is, that is said."""
        self.assert_finding(with_path(reach="unicast"), Level.WARN, "multicast", f"not beta ({BETA})", "eth0")
        paths = [{**PATH, "reach": "unicast"}]
        nobody = {**FACTS, "peers": [{**PEER, "paths": paths}, {**OTHER, "paths": [{**paths[0], "address": GAMMA}]}]}
        self.assert_finding(nobody, Level.WARN, "multicast", "none of the others", "querier")

    def test_multicast_that_is_not_heard(self) -> None:
        """Of whom, and if it is everybody."""
        facts = with_path(multicast_heard=False)
        self.assert_finding(
            facts, Level.WARN, "multicast", f"no multicast is heard of beta ({BETA})", "nft list ruleset"
        )
        self.assertNotIn("of nobody", self.wrong(facts)[0].text)
        paths = [{**PATH, "multicast_heard": False}]
        nobody = {**FACTS, "peers": [{**PEER, "paths": paths}, {**OTHER, "paths": paths}]}
        self.assert_finding(nobody, Level.WARN, "multicast", "of nobody, while unicast works")

    def test_paths_that_are_silent(self) -> None:
        """One way, or both; with a second link that is a warning."""
        self.assert_finding(with_path(reach="nothing"), Level.FAIL, "path", f"beta ({BETA})", "says that nothing")
        mute = {"heard": False, "multicast_heard": False, "reach": "nothing", "mtu_bytes": 1472}
        self.assert_finding(with_path(**mute), Level.FAIL, "path", f"beta ({BETA})", "nothing of it is heard")
        two = {
            **FACTS,
            "links": [LINK, {**LINK, "interface": "eth1", "address": "10.1.0.1:4874"}],
            "peers": [{**PEER, "paths": [PATH, {**PATH, **mute, "address": "10.1.0.2:4874"}]}],
        }
        host = evolve(HOST, interfaces=(*HOST.interfaces, Interface("eth1", "10.1.0.1")))
        self.assert_finding(two, Level.WARN, "path", "beta (10.1.0.2:4874), link 1", host=host)

    def test_largest_datagram(self) -> None:
        """A path that takes less than the interface says; not while it is searched, nor if less is asked for."""
        narrow = with_path(mtu_bytes=1372)
        self.assert_finding(
            narrow, Level.WARN, "mtu", f"beta ({BETA})", "1,372", "MTU of 1,400", "has 1,500", "-s 1472 10.0.0.2"
        )
        self.assert_well(with_path(mtu_bytes=1372, searching=True))
        silent = with_path(mtu_bytes=1372, heard=False, multicast_heard=False)
        self.assertEqual([each.check for each in self.wrong(silent)], ["path"])
        self.assert_well({**narrow, "config": [("max-mtu", "1300", "option")]})
        jumbo = {**FACTS, "links": [{**LINK, "mtu_bytes": 9000}], "peers": [PEER]}
        self.assert_finding(jumbo, Level.WARN, "mtu", "1,472", "has 9,000", "takes less")
        large = {**jumbo, "peers": [{**PEER, "paths": [{**PATH, "mtu_bytes": 8972}]}]}
        self.assert_well(large)

    def test_losses(self) -> None:
        """Packets that were missed, and beacons that did not come by a link."""
        lossy = {**FACTS, "peers": [{**PEER, "packets_missing": 1000, "repairs_received": 990}, OTHER]}
        self.assert_finding(lossy, Level.WARN, "loss", "5.0%", "beta", BETA, "990")
        self.assert_well({**FACTS, "peers": [{**PEER, "packets_received": 50, "packets_missing": 50}, OTHER]})
        self.assert_well(with_path(loss=0.25))
        two = {
            **FACTS,
            "links": [LINK, LINK],
            "peers": [{**PEER, "paths": [PATH, {**PATH, "loss": 0.25}]}],
            "discovery": [],
        }
        self.assert_finding(two, Level.WARN, "loss", "25%", "link 1")
        self.assert_well({**two, "peers": [{**PEER, "paths": [PATH, {**PATH, "loss": 0.1}]}]})

    def test_sending(self) -> None:
        """Datagrams that the kernel had no room for, or no way."""
        self.assert_finding(counting(send_no_room=5000), Level.WARN, "sending", "5,000", "buffers")
        self.assert_finding(counting(send_unreachable=90, send_failed=9), Level.WARN, "sending", "99", "ip route")
        self.assert_well(counting(send_no_room=900, send_unreachable=50))

    def test_neighbours(self) -> None:
        """TCP that is dropped, refused or taken by something else, to a node that is heard."""
        for answer, text in (
            (Answer.NONE, "not answered"),
            (Answer.REFUSED, "refused"),
            (Answer.OTHER, "something else"),
        ):
            host = evolve(HOST, answers={**HOST.answers, BETA: Connected(answer)})
            self.assert_finding(FACTS, Level.WARN, "firewall", f"beta ({BETA})", text, host=host)

    def test_addresses_of_which_nothing_is_heard(self) -> None:
        """What discovery has found and nobody hears, by how it answers to TCP."""
        facts = {**FACTS, "discovery": [SOURCE]}
        self.assert_finding(facts, Level.WARN, "firewall", "static", DELTA, "nothing is heard", host=None)
        for answer, text in (
            (Answer.NONE, "not answered"),
            (Answer.REFUSED, "no daemon listens"),
            (Answer.OTHER, "is the port right"),
        ):
            host = evolve(HOST, answers={**HOST.answers, DELTA: Connected(answer)})
            self.assert_finding(facts, Level.WARN, "firewall", DELTA, text, host=host)
        there = evolve(HOST, answers={**HOST.answers, DELTA: Connected(Answer.NODE, "delta")})
        self.assert_finding(facts, Level.FAIL, "firewall", DELTA, "the node delta", "UDP to port 4874", host=there)

    def test_addresses_that_are_heard_otherwise(self) -> None:
        """An address more of a member, or of this node, and one whose packets are refused, are no symptom."""
        facts = {**FACTS, "discovery": [{**SOURCE, "found": [BETA, DELTA, "10.0.0.1:4874"]}]}
        for name in ("gamma", "alpha"):
            self.assert_well(facts, evolve(HOST, answers={**HOST.answers, DELTA: Connected(Answer.NODE, name)}))
        self.assert_finding({**facts, "refused": [REFUSED]}, Level.FAIL, "key", DELTA)


class WordsTests(SynchronousTestCase):
    """What the findings have in common."""

    def test_many_names(self) -> None:
        """Some are named, the others counted."""
        self.assertEqual(named("ab"), "a, b")
        self.assertEqual(named(map(str, range(SHOWN_NAMES + 3))), "0, 1, 2, 3, 4, 5, 6, 7 and 3 more")

    def test_how_often(self) -> None:
        """As often as that in the time, and at least a few times."""
        for seconds, count, expected in (
            (60.0, 3, True),
            (60.0, 2, False),
            (36_000.0, 60, False),
            (36_000.0, 61, True),
        ):
            self.assertEqual(often({"up_seconds": seconds}, count, 6), expected)

    def test_how_long(self) -> None:
        """In a unit that people count in."""
        for seconds, text in ((30.0, "30 s"), (600.0, "10 minutes"), (7200.0, "2 hours"), (172_800.0, "2 days")):
            self.assertEqual(since({"up_seconds": seconds}), f"in {text}")


class PageTests(SynchronousTestCase):
    """The page for people in trouble."""

    def test_every_check_is_explained(self) -> None:
        """The checks of the program are those of the table, no more and no fewer."""
        page = (ROOT / "doc/howto/troubles.md").read_text(encoding="utf-8")
        explained = set(re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE))
        package = ROOT / "groupcomm/cli/doctor"
        code = "".join(path.read_text(encoding="utf-8") for path in sorted(package.glob("*.py")))
        used = set(re.findall(r"\b(?:fine|warning|failure)\)?\(\s*\"(\w+)\"", code))
        self.assertEqual(explained, used)
        self.assertIn("firewall", used)


class DiagnosisTests(SynchronousTestCase):
    """Daemon and host together."""

    def test_no_daemon(self) -> None:
        """That is said, with what to do; and whether one could start here."""
        first, second = diagnosis(None, "nobody listens at unix:/x", HOST)
        self.assertEqual((first.level, first.check, first.text), (Level.FAIL, "daemon", "nobody listens at unix:/x"))
        self.assertEqual((second.level, second.text), (Level.OK, "by default: eth0 (10.0.0.1)"))
        _, second = diagnosis(None, "nobody listens", evolve(HOST, chosen=""))
        self.assertEqual((second.level, second.check), (Level.FAIL, "interface"))

    def test_a_daemon_elsewhere(self) -> None:
        """Of a daemon on another host this one says nothing but that."""
        other = evolve(HOST, interfaces=(Interface("eth0", "10.0.0.77", up=False),), load=99.0)
        found = [finding for finding in diagnosis(FACTS, "", other) if finding.level is not Level.OK]
        self.assertEqual([finding.check for finding in found], ["daemon"])
        self.assertIn("another network namespace", found[0].text)
        gone = {**FACTS, "links": [{**LINK, "away": True}]}
        found = [
            finding for finding in diagnosis(gone, "", evolve(HOST, interfaces=())) if finding.level is not Level.OK
        ]
        self.assertEqual([finding.check for finding in found], ["interface"])

    def test_whom_to_connect_to(self) -> None:
        """The others' addresses on every link, and what discovery has found."""
        unknown = {**PEER, "address": None, "paths": [{**PATH, "address": None}, {**PATH, "address": "10.1.0.2:4874"}]}
        facts = {**FACTS, "peers": [unknown], "discovery": [SOURCE]}
        self.assertEqual(neighbours(facts), ["10.1.0.2:4874", BETA, DELTA])
        self.assertEqual(neighbours(None), [])

    def test_for_people(self) -> None:
        """A line for each, what to do under those that are wrong, and the sum."""
        shown = lines(
            [
                Finding(Level.OK, "view", "3 nodes"),
                Finding(Level.WARN, "mtu", "small", "look"),
                Finding(Level.FAIL, "key", "x", "y"),
            ]
        )
        self.assertEqual(
            shown,
            [
                *("OK    view: 3 nodes", "WARN  mtu: small", "      -> look", "FAIL  key: x", "      -> y"),
                "3 findings: 1 failed, 1 warned",
            ],
        )
        self.assertEqual(lines([Finding(Level.OK, "view", "3 nodes")])[-1], "1 findings: nothing is wrong")
        self.assertEqual(lines([Finding(Level.OK, "view", "a\x1b[31mb")])[0], r"OK    view: a\x1b[31mb")


class CommandTests(SynchronousTestCase):
    """The command line, with a daemon in memory and a host that is made up."""

    def setUp(self) -> None:
        self.world, self.output, self.errors = World(), io.StringIO(), io.StringIO()
        self.asked: list[str] = []
        self.connect: Callable[..., Deferred[Connection]] = self.in_memory
        self.patch(session_module, "connect", lambda *a, **k: self.connect(*a, **k))
        self.patch(command_module, "gather", self.gather)
        self.patch(main_module, "run", self.run_in_memory)
        self.patch(sys, "stdout", self.output)
        self.patch(sys, "stderr", self.errors)

    def gather(self, addresses: Iterable[str]) -> Host:
        """The made-up host."""
        self.asked = list(addresses)
        return HOST

    def in_memory(self, reactor: object, where: str, *, name: str | None) -> Deferred[Connection]:
        """As the command would connect."""
        return connect(self.world.clock, MemoryEndpoint(self.world), name=name)

    def run_in_memory(self, work: main_module.Work) -> int:
        """As ``run`` does under a reactor."""
        return cast(int, self.world.result(Deferred.fromCoroutine(work(cast(IReactor, self.world.clock)))))

    def doctor(self, *arguments: str) -> tuple[object, str]:
        """The exit status of a command line, and what it prints."""
        error = self.assertRaises(SystemExit, main_module.main, ["--control", "unix:/nowhere", "doctor", *arguments])
        assert isinstance(error, SystemExit)
        return error.code, self.output.getvalue()

    def test_findings(self) -> None:
        """What the daemon says is judged; its neighbours are connected to; something is wrong, so the status is 1."""
        status, said = self.doctor()
        self.assertEqual((status, self.errors.getvalue()), (1, ""))
        self.assertEqual(self.asked, ["127.0.0.1:4874", "[fd77::2]:4874"])
        for text in (
            "FAIL  key: 10.0.0.9:4874: packets do not open",
            "WARN  buffers: receive buffers of 8,000 bytes",
            "->",
        ):
            self.assertIn(text, said)

    def test_for_programs(self) -> None:
        """One object with the findings."""
        status, said = self.doctor("--json")
        self.assertEqual(status, 1)
        key = next(one for one in json.loads(said)["findings"] if "10.0.0.9:4874" in one["text"])
        self.assertEqual(set(key), {"level", "check", "text", "advice"})
        self.assertEqual(key["level"], "FAIL")

    def test_nobody_there(self) -> None:
        """That is a finding like any other."""

        def nobody(*arguments: object, **more: object) -> Deferred[Connection]:
            failed: Deferred[Connection] = Deferred()
            failed.errback(NotConnected("nobody listens at unix:/nowhere"))
            return failed

        self.connect = nobody
        status, said = self.doctor()
        self.assertEqual(status, 1)
        self.assertIn("FAIL  daemon: nobody listens at unix:/nowhere", said)
        self.assertEqual(self.asked, [])
