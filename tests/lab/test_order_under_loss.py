"""Order and completeness with every kind of message at once, while packets are being lost."""

from __future__ import annotations

import time

from twisted.trial.unittest import SynchronousTestCase

from tests.lab.harness import Daemon, Lab, Member, measured
from tests.lab.traffic import LEVELS, send_round, wait_until_received, wait_until_sent, wait_until_together

ORDERED = ("AGREED", "SAFE")
HOSTS = (1, 2, 3, 4)
WINDOWS = 20
ROUND_MESSAGES = 400
LIMIT_SECONDS = 200.0


class OrderUnderLossTests(SynchronousTestCase):
    """Four daemons, two clients on each, all sending at mixed levels at once."""

    def test_five_percent(self) -> None:
        """At 5 % loss on every host all is delivered once and in its order at all eight clients."""
        self.run_at(5)

    def test_twenty_percent(self) -> None:
        """At 20 % loss as well, only slower."""
        self.run_at(20)

    def run_at(self, percent: float) -> None:
        with Lab(len(HOSTS)) as lab:
            daemons = lab.daemons(HOSTS)
            members = [lab.member(daemon, f"{daemon.node}{which}", "lab") for daemon in daemons for which in "ab"]
            wait_until_together(members)
            lab.loss(percent)
            began = time.monotonic()
            total = send_windows(daemons, members)
            sent = wait_until_received(members, LIMIT_SECONDS)
            measured(
                f"{total / 1e6:.1f} MB in {sent} messages from 8 clients at {percent:g} % loss",
                time.monotonic() - began,
                "s",
            )
            lab.judge("D1", "D2", "D4", "M1", "M4", "O1", "O2", "O3", "O4", "O5", "O7", "O8", "S1", "L2", "L3")
            orders = {tuple(tuple(e["id"]) for e in member.of_kind("m") if e["l"] in ORDERED) for member in members}
            self.assertEqual(len(orders), 1, "AGREED and SAFE messages came in more than one order")
            for level in LEVELS[1:]:
                count = sum(entry["l"] == level for entry in members[0].of_kind("m"))
                self.assertGreater(count, 0, f"no message at level {level}: nothing was shown for it")
            self.check_counters(daemons)

    def check_counters(self, daemons: list[Daemon]) -> None:
        """Packets really were lost on the way to every daemon, and repaired."""
        for daemon in daemons:
            missing, repaired = daemon.counter("packets_missing"), daemon.counter("repairs_received")
            measured(f"packets {daemon.node} missed, of which repaired {repaired}", missing, "packets")
            self.assertGreater(missing, 0)
            self.assertGreater(repaired, 0)
        self.assertGreater(sum(daemon.counter("repairs_sent") for daemon in daemons), 0)


def send_windows(daemons: list[Daemon], members: list[Member]) -> int:
    """Let every member send until each has sent 20 of the largest window its daemon ever had; all bytes sent."""
    window = dict.fromkeys((daemon.node for daemon in daemons), 0)
    sent = dict.fromkeys((member.client for member in members), 0)
    number = 0
    limit = time.monotonic() + LIMIT_SECONDS
    while any(sent[member.client] < WINDOWS * window[member.daemon.node] or not number for member in members):
        if time.monotonic() > limit:
            raise AssertionError(f"after {LIMIT_SECONDS:g} s only {sent} bytes were sent of {WINDOWS} times {window}")
        number += 1
        send_round(members, number, messages=ROUND_MESSAGES, most_bytes=16_000)
        for member, done in zip(members, wait_until_sent(members, number, LIMIT_SECONDS), strict=True):
            sent[member.client] += done["bytes"]
        for daemon in daemons:
            window[daemon.node] = max(window[daemon.node], daemon.status()["window_bytes"])
    return sum(sent.values())
