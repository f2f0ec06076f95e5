"""Networks as they are: no multicast, or one way only; several links; a path that takes less than it says."""

from __future__ import annotations

import time
from collections.abc import Callable

from twisted.trial.unittest import SynchronousTestCase

from tests.lab.harness import Daemon, Json, Lab, Member, measured, wait_until
from tests.lab.traffic import send_round, wait_until_received, wait_until_sent, wait_until_together

HOSTS = (1, 2, 3, 4)
GROUP = "239.192.71.67"
ROUND_MESSAGES = 150
LIMIT_SECONDS = 100.0
VIEW_SECONDS = 3.0


class Network(SynchronousTestCase):
    """Four daemons with a client each."""

    lab: Lab

    def begin(self, *options: str) -> None:
        """All in one view, and all clients in one group."""
        began = time.monotonic()
        self.daemons = self.lab.daemons(HOSTS, *options)
        self.view = self.lab.wait_for_view(self.daemons)
        measured("one view of four after the first was started", time.monotonic() - began, "s")
        self.members: list[Member] = [self.lab.member(daemon, f"{daemon.node}a", "lab") for daemon in self.daemons]
        wait_until_together(self.members)
        self.rounds = 0

    def send(self, most_bytes: int = 4_000, meanwhile: Callable[[], None] | None = None) -> None:
        """A round of messages at all levels from everybody, which everybody gets."""
        self.rounds += 1
        began = time.monotonic()
        send_round(self.members, self.rounds, messages=ROUND_MESSAGES, most_bytes=most_bytes)
        if meanwhile is not None:
            meanwhile()
        wait_until_sent(self.members, self.rounds, LIMIT_SECONDS)
        wait_until_received(self.members, LIMIT_SECONDS)
        measured(f"a round of {ROUND_MESSAGES} messages from each", time.monotonic() - began, "s")

    def drop_multicast(self, host: int, source: int | None = None) -> None:
        """Have a host lose the group's packets: all, or those of one other host."""
        whose = "" if source is None else f"ip saddr 10.77.0.{source} "
        for rule in (
            "add table netdev deaf",
            "add chain netdev deaf in { type filter hook ingress device eth0 priority 1; }",
            f"add rule netdev deaf in {whose}ip daddr {GROUP} drop",
        ):
            self.lab.run("exec", str(host), "nft", rule)

    def pass_multicast(self, host: int) -> None:
        """Undo ``drop_multicast``."""
        self.lab.run("exec", str(host), "nft", "delete table netdev deaf")

    def wait_for_reach(self, sender: Daemon, receiver: Daemon, reach: str, link: int = 0) -> Json:
        """Wait until that is what of a daemon's reaches another; the path."""

        def found() -> Json | None:
            for peer in sender.status()["peers"]:
                if peer["node"] == receiver.node and peer["paths"][link]["reach"] == reach:
                    path: Json = peer["paths"][link]
                    return path
            return None

        return wait_until(found, 30, f"{receiver.node} to be reached by {reach}")

    def end(self) -> None:
        """Nobody has changed its view, and all is in order."""
        for daemon in self.daemons:
            self.assertEqual(daemon.status()["view"], self.view, daemon.name)
        self.lab.judge("D1", "D2", "D4", "M1", "M4", "O1", "O2", "O3", "O4", "O5", "O7", "S1")


class MulticastTests(Network):
    """Hosts that do not get the group's packets."""

    def test_none_at_all(self) -> None:
        """Who has one address of one node forms a view with all and sends in order; multicast is used once it works."""
        with Lab(len(HOSTS)) as self.lab:
            for host in HOSTS:
                self.drop_multicast(host)
            self.begin("--discovery", "static", "--peer", "10.77.0.1")
            self.lab.loss(2)
            self.send()
            first, *others = self.daemons
            for other in others:
                self.assertEqual(self.wait_for_reach(first, other, "unicast")["multicast_heard"], False)
            self.lab.loss(0)
            for host in HOSTS:
                self.pass_multicast(host)
            for other in others:
                self.wait_for_reach(first, other, "multicast")
            copies = first.counter("copies_sent")
            self.send()
            self.assertLess(first.counter("copies_sent") - copies, 20)
            self.end()

    def test_lost_in_one_direction(self) -> None:
        """One host stops getting another's multicast under load: it gets copies, and nobody else does."""
        with Lab(len(HOSTS)) as self.lab:
            self.begin()
            one, other, third, _ = self.daemons
            self.send(meanwhile=lambda: self.drop_multicast(2, source=1))
            self.wait_for_reach(one, other, "unicast")
            self.wait_for_reach(other, one, "multicast")
            self.wait_for_reach(one, third, "multicast")
            missing = other.counter("packets_missing")
            self.send()
            measured("packets missed once copies are sent", other.counter("packets_missing") - missing, "packets")
            self.assertGreater(one.counter("copies_sent"), 0)
            self.end()


class LinkTests(Network):
    """Two networks."""

    def test_passive(self) -> None:
        """One host's links go down and come back, one after the other, under load."""
        self.fail_and_return()

    def test_active(self) -> None:
        """The same where everything leaves by both."""
        self.fail_and_return("--links", "active")

    def fail_and_return(self, *options: str) -> None:
        with Lab(len(HOSTS)) as self.lab:
            self.lab.second_network()
            self.begin("--interface", "eth0", "--interface", "eth1", *options)
            one, other, *_ = self.daemons
            for link, device in enumerate(("eth0", "eth1")):
                self.wait_for_reach(one, other, "multicast", 1 - link)
                self.send(meanwhile=lambda: self.lab.link(2, device, "down"))  # noqa: B023
                self.wait_for_reach(one, other, "nothing", link)
                self.send()
                self.send(meanwhile=lambda: self.lab.link(2, device, "up"))  # noqa: B023
                path = self.wait_for_reach(one, other, "multicast", link)
                self.assertEqual(path["address"], f"10.7{7 + link}.0.2:4874")
            self.end()


class MtuTests(Network):
    """Paths that take less than the interfaces say, and interfaces that take more."""

    def test_a_black_hole(self) -> None:
        """One host's path loses packets of over 1,400 bytes without a word, under load: it gets all, in smaller."""
        with Lab(len(HOSTS)) as self.lab:
            self.lab.run("offload", "off")
            self.begin()
            one, *_, narrow = self.daemons
            self.send(most_bytes=16_000)
            self.assertEqual(self.path(one, narrow)["mtu_bytes"], 1472)
            began = time.monotonic()
            self.send(most_bytes=16_000, meanwhile=self.shrink)
            while self.path(one, narrow)["mtu_bytes"] != 1372 and time.monotonic() < began + 30:
                self.send(most_bytes=16_000)
            self.assertEqual(self.path(one, narrow)["mtu_bytes"], 1372, "the black hole was not found")
            measured("the black hole found and measured after", time.monotonic() - began, "s", 3.0)
            self.assertEqual(self.path(narrow, one)["mtu_bytes"], 1472)
            self.send(most_bytes=16_000)
            self.end()

    def test_jumbo_frames(self) -> None:
        """Interfaces of 9,000 bytes are used."""
        with Lab(len(HOSTS), mtu=9000) as self.lab:
            self.begin()
            one, other, *_ = self.daemons
            wait_until(lambda: self.path(one, other)["mtu_bytes"] == 8972, 30, "the jumbo frames to be found")
            before = one.counter("datagrams_sent")
            self.send(most_bytes=100_000)
            packets = one.counter("datagrams_sent") - before
            sent = sum(entry["bytes"] for entry in self.members[0].of_kind("sent"))
            measured("bytes a datagram", sent / packets, "bytes")
            self.assertGreater(sent / packets, 1472)
            self.end()

    def shrink(self) -> None:
        """The path to the last host takes 1,400 bytes from now on."""
        self.lab.run("mtu", str(HOSTS[-1]), "1400")

    def path(self, sender: Daemon, receiver: Daemon) -> Json:
        """What a daemon knows of the path to another."""
        (peer,) = [peer for peer in sender.status()["peers"] if peer["node"] == receiver.node]
        path: Json = peer["paths"][0]
        return path
