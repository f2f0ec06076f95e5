"""How fast it is: finding each other, noticing a dead process, noticing a host that is gone.

Each test prints what it measured beside what the project aims at, and fails only when the thing itself does not happen
within ten times that.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from statistics import median

from twisted.trial.unittest import SynchronousTestCase

from tests.lab.harness import Daemon, Lab, Member, measured, wait_until

START_SECONDS = 3.0
KILLED_SECONDS = 0.2
KILLED_UNDER_LOSS_SECONDS = 1.5
VANISHED_SECONDS = 1.5
PATIENCE = 10
FAILURE = "node failure"
BOTH = (FAILURE, "partition")
"""A node that has merely fallen silent may live on behind a broken link: nobody can tell."""


class StartTests(SynchronousTestCase):
    """Daemons that were told nothing find each other."""

    def test_no_configuration(self) -> None:
        """Four daemons with no settings but where to put their sockets are in one view soon after they listen."""
        self.start(lambda lab, host: Daemon(lab, host, f"n{host}", (), configured=False))

    def test_zeroconf_alone(self) -> None:
        """The same by Zeroconf alone."""
        self.start(lambda lab, host: Daemon(lab, host, f"n{host}", ("--discovery", "zeroconf")))

    def start(self, make: Callable[[Lab, int], Daemon]) -> None:
        with Lab(4) as lab:
            daemons = [lab.started(make(lab, host)) for host in (1, 2, 3, 4)]
            listening: dict[str, float] = {}
            wait_until(lambda: note_listening(daemons, listening), 60, "all to listen", every=0.005)
            last = max(listening.values())
            lab.wait_for_view(daemons, PATIENCE * START_SECONDS)
            measured("one view of four after the last one listened", time.monotonic() - last, "s", START_SECONDS)


def note_listening(daemons: list[Daemon], listening: dict[str, float]) -> bool:
    """Note when each was first seen to listen; whether all do."""
    for daemon in daemons:
        if daemon.name not in listening and daemon.is_listening():
            listening[daemon.name] = time.monotonic()
    return len(listening) == len(daemons)


class DetectionTests(SynchronousTestCase):
    """The end of a daemon, as clients of the others see it."""

    def test_killed_process(self) -> None:
        """A killed daemon leaves the view, with its client, without waiting for any heartbeat to be missed."""
        with Lab(4) as lab:
            self.measure(lab, "killed process", KILLED_SECONDS, lambda victim: victim.kill(), whys=[FAILURE])

    def test_killed_process_under_loss(self) -> None:
        """At 20 % loss it takes longer, no more."""
        with Lab(4) as lab:
            self.measure(lab, "killed process at 20 % loss", KILLED_UNDER_LOSS_SECONDS, Daemon.kill, whys=BOTH, loss=20)

    def test_vanished_host(self) -> None:
        """A host whose cable is pulled leaves the view when it has been silent for long enough."""
        with Lab(4) as lab:

            def pull(victim: Daemon) -> float:
                lab.run("link", str(victim.host), "eth0", "down")
                victim.apart = True
                return time.monotonic()

            self.measure(lab, "vanished host", VANISHED_SECONDS, pull, whys=BOTH, times=1)

    def measure(
        self,
        lab: Lab,
        what: str,
        bound: float,
        end: Callable[[Daemon], float],
        *,
        whys: Sequence[str],
        loss: float = 0,
        times: int = 3,
    ) -> None:
        """End one daemon after the other (the sequencer first) and see how long the rest take to be told."""
        daemons = {daemon.host: daemon for daemon in lab.daemons((1, 2, 3, 4))}
        members = {host: lab.member(daemon, f"m{host}", "lab") for host, daemon in daemons.items()}
        wait_for_all(list(members.values()))
        if loss:
            lab.loss(loss)
            time.sleep(1.0)
        seconds = []
        for number in range(times):
            victim = next(host for host in members if daemons[host].node == sequencer_of(daemons[max(members)]))
            ended = end(daemons[victim])
            gone = members.pop(victim)
            rest = [member.title for member in members.values()]
            views = [member.wait_for_view(rest, PATIENCE * bound) for member in members.values()]
            seconds.append(max(view["at"] for view in views) - ended)
            for view in views:
                reasons = {name: reason for name, reason in view["left"]}
                self.assertIn(reasons.get(gone.title), whys)
            gone.ask_to_end()
            if number + 1 < times:
                daemons[victim] = lab.daemon(victim)
                members[victim] = lab.member(daemons[victim], f"m{victim}r{number + 1}", "lab")
                wait_for_all(list(members.values()))
        measured(f"{what} to its last view, median of {times}", median(seconds), "s", bound)
        measured(f"{what} to its last view, longest", max(seconds), "s", bound)


def wait_for_all(members: list[Member]) -> None:
    """Wait until all members see all."""
    titles = [member.title for member in members]
    for member in members:
        member.wait_for_view(titles, 60)


def sequencer_of(daemon: Daemon) -> str:
    """The name of the node that orders, as one daemon sees it."""
    return str(daemon.status()["sequencer"])
