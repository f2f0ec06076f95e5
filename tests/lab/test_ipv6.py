"""Hosts that have no IPv4 at all, and hosts that use both at once."""

from __future__ import annotations

import re
import subprocess
import time
from itertools import pairwise

from twisted.trial.unittest import SynchronousTestCase

from tests.lab.harness import Daemon, Lab, Member, measured, settle, wait_until
from tests.lab.traffic import LEVELS, send_round, wait_until_received, wait_until_sent, wait_until_together

ORDERED = ("AGREED", "SAFE")
HOSTS = (1, 2, 3, 4)
LOSS_PERCENT = 5
MESSAGES = 200
VIEW_SECONDS = 1.0
OUTAGE_SECONDS = 3.0
LISTENING = re.compile(r" listening on (.+), group (.+)\n")


class Ipv6Tests(SynchronousTestCase):
    """Four daemons, two clients on each."""

    def test_order_crash_and_return(self) -> None:
        """At 5 % loss all is delivered once and in one order; a killed daemon is out soon, its next run is let in."""
        with Lab(len(HOSTS), ipv6_only=True) as lab:
            daemons = lab.daemons(HOSTS)
            for daemon in daemons:
                found = LISTENING.search(daemon.log())
                assert found is not None, daemon.log()
                self.assertEqual(found.groups(), (f"[fd77::{daemon.host}]:4874", "[ff18::efc0:4743]:4874"))
            members = two_on_each(lab, daemons)
            lab.loss(LOSS_PERCENT)
            self.all_in_one_order(members)
            self.check_addresses(daemons)
            self.crash_and_return(lab, daemons, members)
            lab.judge("D1", "D2", "D4", "D5", "M1", "M4", "O1", "O2", "O3", "O4", "O5", "O7", "O8", "S1")

    def test_link_local(self) -> None:
        """Hosts with link-local addresses alone form a view, and notice within moments that one is killed."""
        with Lab(2, ipv6_only=True) as lab:
            for host in (1, 2):
                subprocess.run(lab.on(host, "ip", "-6", "addr", "del", f"fd77::{host}/64", "dev", "eth0"), check=True)
            wait_until(lambda: not any(tentative(lab, host) for host in (1, 2)), 20, "the addresses to be usable")
            daemons = lab.daemons((1, 2), "--interface", "eth0")
            self.assertRegex(daemons[0].log(), r" listening on \[fe80::[0-9a-f:]+%eth0\]:4874, ")
            for daemon in daemons:
                self.assertEqual(daemon.counter("send_failed") + daemon.counter("send_unreachable"), 0)
            killed = daemons[1].kill()
            lab.wait_for_view(daemons[:1])
            measured("from kill -9 to the view without it", time.monotonic() - killed, "s", VIEW_SECONDS)
            lab.judge("M1", "M4")

    def all_in_one_order(self, members: list[Member]) -> None:
        began = time.monotonic()
        send_round(members, 1, messages=MESSAGES, most_bytes=16_000)
        wait_until_sent(members, 1, 100)
        sent = wait_until_received(members, 100)
        measured(f"{sent} messages from 8 clients at {LOSS_PERCENT} % loss", time.monotonic() - began, "s")
        self.assertGreater(one_order(self, members), MESSAGES)

    def check_addresses(self, daemons: list[Daemon]) -> None:
        """Addresses are shown in one form, packets were lost and repaired, and offloads are in use."""
        for daemon in daemons:
            status = daemon.status()
            others = {f"[fd77::{other.host}]:4874" for other in daemons if other is not daemon}
            self.assertEqual({peer["address"] for peer in status["peers"]} - {None}, others)
            self.assertGreater(sum(peer["repairs_received"] for peer in status["peers"]), 0)
            self.assertGreater(status["counters"]["segmented_sends"], 0)
            self.assertEqual(status["counters"]["own_runs"], 0)
            self.assertEqual(status["counters"]["send_failed"], 0)

    def crash_and_return(self, lab: Lab, daemons: list[Daemon], members: list[Member]) -> None:
        """The last host's daemon dies in the middle of the traffic, and is started again."""
        survivors, dead = members[:-2], members[-2:]
        for member in survivors:
            member.tell({"do": "send", "seed": 7, "sizes": [50, 3000], "levels": LEVELS, "rate": 40})
        time.sleep(0.5)
        killed = daemons[-1].kill()
        lab.wait_for_view(daemons[:-1])
        for member in survivors:
            member.wait_for_view([each.title for each in survivors], 30)
        measured("from kill -9 to the view of the others", time.monotonic() - killed, "s", VIEW_SECONDS)
        for member in dead:
            member.wait_for("left", 10)
            member.ask_to_end()
        again = lab.daemon(HOSTS[-1])
        began = time.monotonic()
        lab.wait_for_view([*daemons[:-1], again])
        measured("from the start of its next run to one view", time.monotonic() - began, "s")
        late = lab.member(again, "late", "lab")
        for member in (*survivors, late):
            member.wait_for_view([each.title for each in (*survivors, late)], 30)
        for member in survivors:
            member.tell({"do": "stop"})
        for member in survivors:
            member.wait_for("sent", 60, count=2)
        settle([*survivors, late])


class BothTests(SynchronousTestCase):
    """Four daemons whose one interface has both: a link by its IPv4 and one by its IPv6 address."""

    def test_one_family_stops(self) -> None:
        """IPv4 is dropped everywhere under load, comes back, then IPv6: no view changes, and nothing is lost."""
        with Lab(len(HOSTS)) as lab:
            daemons = [
                lab.daemon(host, None, "--interface", f"10.77.0.{host}", "--interface", f"fd77::{host}")
                for host in HOSTS
            ]
            view = lab.wait_for_view(daemons)
            for daemon in daemons:
                found = LISTENING.search(daemon.log())
                assert found is not None, daemon.log()
                self.assertEqual(
                    found.groups(),
                    (
                        f"10.77.0.{daemon.host}:4874, [fd77::{daemon.host}]:4874",
                        "239.192.71.67:4874, [ff18::efc0:4743]:4874",
                    ),
                )
            members = two_on_each(lab, daemons)
            lab.loss(LOSS_PERCENT)
            for index, member in enumerate(members):
                member.tell({"do": "send", "seed": index, "sizes": [50, 3000], "levels": LEVELS, "rate": 40})
            for protocol in ("ip", "ip6"):
                time.sleep(1.0)
                filtered(lab, "add rule", f"meta protocol {protocol} drop")
                time.sleep(OUTAGE_SECONDS)
                filtered(lab, "flush chain")
            for member in members:
                member.tell({"do": "stop"})
            wait_until_sent(members, 1, 100)
            wait_until_received(members, 100)
            measured("longest pause of a member over both outages", longest_pause(members), "s", 1.5)
            self.assertEqual(lab.wait_for_view(daemons), view)
            one_order(self, members)
            for daemon in daemons:
                self.assertEqual(daemon.counter("sink_failures"), 0)
            lab.judge("D1", "D2", "D4", "M1", "M4", "O1", "O2", "O3", "O4", "O5", "O7", "O8", "S1")


def tentative(lab: Lab, host: int) -> bool:
    """Whether the kernel still looks for others that have the host's address."""
    shown = subprocess.run(lab.on(host, "ip", "-6", "addr", "show", "dev", "eth0"), capture_output=True, check=True)
    return b"tentative" in shown.stdout


def two_on_each(lab: Lab, daemons: list[Daemon]) -> list[Member]:
    """Two members at each daemon, together in one group."""
    members = [lab.member(daemon, f"{daemon.node}{which}", "lab") for daemon in daemons for which in "ab"]
    wait_until_together(members)
    return members


def one_order(case: SynchronousTestCase, members: list[Member]) -> int:
    """Hold all members to one order of the AGREED and SAFE messages; how many those are."""
    orders = {tuple(tuple(e["id"]) for e in member.of_kind("m") if e["l"] in ORDERED) for member in members}
    case.assertEqual(len(orders), 1, "AGREED and SAFE messages came in more than one order")
    return len(orders.pop())


def filtered(lab: Lab, action: str, rule: str = "") -> None:
    """Change what each host drops of what it receives, beside the loss."""
    for host in HOSTS:
        command = ["nft", *action.split(), "netdev", "labeth0", "big", *rule.split()]
        subprocess.run(lab.on(host, *command), check=True)


def longest_pause(members: list[Member]) -> float:
    """The longest time in which a member was delivered nothing of what was sent on other hosts."""
    pauses = []
    for member in members:
        entries = [entry for entry in member.of_kind("m") if not entry["id"][0].startswith(member.daemon.node)]
        pauses += [float(later["at"]) - float(earlier["at"]) for earlier, later in pairwise(entries)]
    return max(pauses)
