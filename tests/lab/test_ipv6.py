"""Hosts that have no IPv4 at all."""

from __future__ import annotations

import re
import time

from twisted.trial.unittest import SynchronousTestCase

from tests.lab.harness import Daemon, Lab, Member, measured, settle, wait_until

LEVELS = ["UNRELIABLE", "RELIABLE", "FIFO", "CAUSAL", "AGREED", "SAFE"]
ORDERED = ("AGREED", "SAFE")
HOSTS = (1, 2, 3, 4)
LOSS_PERCENT = 5
MESSAGES = 200
VIEW_SECONDS = 1.0
LISTENING = re.compile(r" listening on (\S+), group (\S+)\n")


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
            members = [lab.member(daemon, f"{daemon.node}{which}", "lab") for daemon in daemons for which in "ab"]
            names = [member.title for member in members]
            for member in members:
                member.wait_for_view(names, 30)
            lab.loss(LOSS_PERCENT)
            self.all_in_one_order(members)
            self.check_addresses(daemons)
            self.crash_and_return(lab, daemons, members)
            lab.judge("D1", "D2", "D4", "D5", "M1", "M4", "O1", "O2", "O3", "O4", "O5", "O7", "O8", "S1")

    def all_in_one_order(self, members: list[Member]) -> None:
        began = time.monotonic()
        send(members)
        for member in members:
            member.wait_for("sent", 100)
        sent = sum(len(member.reliable("send")) for member in members)
        wait_until(
            lambda: all(len(member.reliable("m")) >= sent for member in members), 100, "every client to have all"
        )
        measured(f"{sent} messages from 8 clients at {LOSS_PERCENT} % loss", time.monotonic() - began, "s")
        orders = {tuple(tuple(e["id"]) for e in member.of_kind("m") if e["l"] in ORDERED) for member in members}
        self.assertEqual(len(orders), 1, "AGREED and SAFE messages came in more than one order")
        self.assertGreater(len(orders.pop()), MESSAGES)

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


def send(members: list[Member]) -> None:
    """Every member sends ``MESSAGES``, at every level."""
    for index, member in enumerate(members):
        member.tell({"do": "send", "seed": index, "messages": MESSAGES, "sizes": [50, 16_000], "levels": LEVELS})
