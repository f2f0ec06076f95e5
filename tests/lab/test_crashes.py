"""Daemons killed in the middle of the traffic."""

from __future__ import annotations

import random
import time

from twisted.trial.unittest import SynchronousTestCase

from tests.lab.harness import Daemon, Json, Lab, Member, measured, settle, wait_until

LEVELS = ["RELIABLE", "FIFO", "CAUSAL", "AGREED", "SAFE"]
POINTS = 20
LOSS_PERCENT = 5
AT_ONCE = ("--flap-seconds", "0")
"""Daemons that fall so often are let in at once all the same."""

GAPS_SECONDS = (0.0, 0.0, 0.02, 0.1, 0.3)
"""Between the two kills: at once, within the detection of the first, within its view change."""


class CrashTests(SynchronousTestCase):
    """The daemon of the sequencer and another one killed, twenty times at different points."""

    def test_sequencer_and_another_killed(self) -> None:
        """Survivors deliver the same messages before the same view, some repaired by nodes that had not sent them."""
        with Lab(4) as lab:
            crashes = Crashes(lab)
            for point in range(POINTS):
                crashes.at_point(point)
            crashes.finish()
            premises = lab.judge("D1", "D2", "D5", "D6b", "M1", "M4", "O5", "O6 after signal", "O7", "S1", "S3")
            measured("points at which frames of the killed sequencer were unstable", crashes.unstable, "points")
            measured("repairs by nodes that had not sent the packet", crashes.repairs_for_others, "packets")
            measured("longest time from the second kill to the survivors' view", max(crashes.seconds), "s")
            self.assertEqual(crashes.unstable, POINTS)
            self.assertGreater(crashes.repairs_for_others, 0)
            self.assertGreaterEqual(premises["D5 group"], POINTS)


class Crashes:
    """The cluster under fire: traffic that never stops, daemons that are killed and started again."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.draw = random.Random(1)
        self.unstable = 0
        self.repairs_for_others = 0
        self.seconds: list[float] = []
        self.daemons = {daemon.host: daemon for daemon in lab.daemons((1, 2, 3, 4), *AT_ONCE)}
        self.members = {host: self._member(host, 0) for host in self.daemons}
        self._wait_for_members()
        lab.loss(LOSS_PERCENT)
        for host in self.daemons:
            self._send(host)

    def _member(self, host: int, run: int) -> Member:
        daemon = self.daemons[host]
        return self.lab.member(daemon, f"{daemon.node}r{run}", "lab")

    def _send(self, host: int) -> None:
        self.members[host].tell(
            {
                "do": "send",
                "seed": self.draw.randrange(1 << 30),
                "sizes": [50, 3000],
                "levels": LEVELS,
                "rate": 40,
            }
        )

    def _wait_for_members(self) -> None:
        titles = [member.title for member in self.members.values()]
        for member in self.members.values():
            member.wait_for_view(titles, 30)

    def at_point(self, point: int) -> None:
        """Kill the sequencer's daemon and another, wait for the survivors' view, start both anew."""
        first = self.daemons[1].status()
        sequencer = next(daemon for daemon in self.daemons.values() if daemon.node == first["sequencer"])
        others = [daemon for daemon in self.daemons.values() if daemon is not sequencer]
        other = others[point % len(others)]
        survivors = [daemon for daemon in others if daemon is not other]
        before = sum(daemon.counter("repairs_for_others") for daemon in survivors)
        time.sleep(self.draw.uniform(0.0, 0.3))
        wait_until(
            lambda: unstable_packets(survivors[0].monitor.status(), sequencer.node),
            10,
            "the sequencer to have sent what not all have",
            every=0,
        )
        self.unstable += 1
        sequencer.kill()
        time.sleep(GAPS_SECONDS[point % len(GAPS_SECONDS)])
        killed = other.kill()
        self.lab.wait_for_view(survivors, 30)
        self.seconds.append(time.monotonic() - killed)
        self.repairs_for_others += sum(daemon.counter("repairs_for_others") for daemon in survivors) - before
        for victim in (sequencer, other):
            self._restart(victim, point)
        self._wait_for_members()
        for victim in (sequencer, other):
            self._send(victim.host)

    def _restart(self, victim: Daemon, point: int) -> None:
        dead = self.members[victim.host]
        wait_until(lambda: not dead.running or dead.of_kind("left"), 10, f"{dead.name} to notice its daemon's end")
        dead.ask_to_end()
        self.daemons[victim.host] = self.lab.daemon(victim.host, None, *AT_ONCE)
        self.members[victim.host] = self._member(victim.host, point + 1)

    def finish(self) -> None:
        """Stop the traffic, let everything arrive."""
        for member in self.members.values():
            member.tell({"do": "stop"})
        for member in self.members.values():
            member.wait_for("sent", 60)
        settle(list(self.members.values()))


def unstable_packets(status: Json | None, node: str) -> int:
    """How many packets of a node's stream are not known to be everywhere."""
    peers = status["peers"] if status is not None else []
    return sum(peer["unstable_packets"] for peer in peers if peer["node"] == node)
