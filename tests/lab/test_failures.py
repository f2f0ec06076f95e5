"""Nodes that stand still, go and come back, and links that carry one way only: views change when they must."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path
from typing import Final

from twisted.trial.unittest import SynchronousTestCase

from tests.lab.harness import LONG, VIEW_LOGGED, Daemon, Lab, long_seconds, measured, wait_until

GROUPCOMM: Final = str(Path(sys.executable).with_name("groupcomm"))
ROOT: Final = Path(__file__).resolve().parents[2]
HEARD_ONE_WAY: Final = r"(it had not heard n2|n4 had not heard it) for \d\.\d\d s, though others did"
"""What is said at the nodes that stay together, and at the one that is deaf."""

STALL_SECONDS = 0.5
STOP_SECONDS = 5.0
ONE_VIEW_SECONDS = 3.0
TOGETHER_SECONDS = 5.0
FEW_TRACE_BYTES = 1024 * 1024
"""Of daemons with nothing to send: what is recorded of their views is little."""


def views_of(daemon: Daemon) -> list[tuple[str, str]]:
    """All views that a daemon has logged: their ids and nodes."""
    return VIEW_LOGGED.findall(daemon.log())


def names_of(view: tuple[str, str]) -> set[str]:
    """The names of the nodes in a logged view."""
    return {node.partition("#")[0] for node in view[1].split(", ")}


def why(daemon: Daemon) -> str:
    """What ``groupcomm why`` says of the last changes at a daemon."""
    command = daemon.lab.on(daemon.host, GROUPCOMM, "--control", str(daemon.socket), "why")
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=True, env=environment).stdout


class StalledTests(SynchronousTestCase):
    """Processes that are stopped and continued, while their kernels answer."""

    def test_stalls_change_no_view(self) -> None:
        """A fifth of ten nodes at a time stand still for half a second, chosen at random: the view stays as it is."""
        draw = random.Random(1)
        with Lab(10, trace_bytes=FEW_TRACE_BYTES) as lab:
            daemons = lab.daemons(range(1, 11))
            before = [len(views_of(daemon)) for daemon in daemons]
            until, stalls = time.monotonic() + long_seconds(15, 60), 0
            while time.monotonic() < until:
                chosen = draw.sample(daemons, 2)
                for daemon in chosen:
                    daemon.send_signal(signal.SIGSTOP)
                time.sleep(STALL_SECONDS)
                for daemon in chosen:
                    daemon.send_signal(signal.SIGCONT)
                stalls += 2
            time.sleep(4.0)
            measured("stalls of half a second", stalls, "stalls")
            self.assertEqual([len(views_of(daemon)) for daemon in daemons], before)

    def test_stopped_for_long(self) -> None:
        """Nodes that stand still for five seconds are left out once, and come back once."""
        with Lab(5, trace_bytes=FEW_TRACE_BYTES) as lab:
            daemons = lab.daemons(range(1, 6))
            stopped, rest = daemons[1:3], [daemons[0], *daemons[3:]]
            before = [len(views_of(daemon)) for daemon in rest]
            for daemon in stopped:
                daemon.send_signal(signal.SIGSTOP)
            began = time.monotonic()
            lab.wait_for_view(rest, 10 * STOP_SECONDS)
            measured("two processes that stand still are out of the view", time.monotonic() - began, "s", 3.5)
            said = why(rest[0])
            # Who watches it adds that its host still acknowledged; n4 does not, and may be the first.
            self.assertRegex(said, r"n[145] had not heard it for \d\.\d\d s")
            self.assertRegex(said, r"n[1-5] began the change")
            for daemon in stopped:
                self.assertIn(f"{daemon.node} is out: ", said)
            time.sleep(max(0.0, STOP_SECONDS - (time.monotonic() - began)))
            for daemon in stopped:
                daemon.send_signal(signal.SIGCONT)
            continued = time.monotonic()
            lab.wait_for_view(daemons, 50.0)
            measured("in the view again", time.monotonic() - continued, "s", 3.0)
            time.sleep(4.0)
            for daemon, count in zip(rest, before, strict=True):
                seen = [names_of(view) for view in views_of(daemon)[count - 1 :]]
                for name in (one.node for one in stopped):
                    changes = [(name in one) != (name in two) for one, two in pairwise(seen)]
                    self.assertEqual(sum(changes), 2, f"{name} left or came more than once: {seen}")


class OneWayTests(SynchronousTestCase):
    """A link that carries one way only."""

    def test_one_node_goes_once(self) -> None:
        """One of five does not hear another: one view of four, which stays; all are together once it is healed."""
        with Lab(5, trace_bytes=FEW_TRACE_BYTES) as lab:
            daemons = lab.daemons(range(1, 6))
            cut = time.monotonic()
            lab.run("cut", "2", "4")
            rest = [daemon for daemon in daemons if daemon.node != "n4"]
            lab.wait_for_view(rest, 10 * ONE_VIEW_SECONDS)
            measured("one view after a one-way cut", time.monotonic() - cut, "s", ONE_VIEW_SECONDS)
            wait_until(lambda: names_of(views_of(daemons[3])[-1]) == {"n4"}, 30.0, "the one that is deaf to be alone")
            settled = [len(views_of(daemon)) for daemon in daemons]
            time.sleep(long_seconds(15, 60))
            self.assertEqual([len(views_of(daemon)) for daemon in daemons], settled)
            for daemon in daemons:
                self.assertRegex(why(daemon), HEARD_ONE_WAY)
            lab.heal()
            healed = time.monotonic()
            lab.wait_for_view(daemons, 50.0)
            measured("one view again after the link is healed", time.monotonic() - healed, "s", 5.0)
            self.assertEqual([len(views_of(daemon)) for daemon in daemons], [count + 1 for count in settled])


class ManyTests(SynchronousTestCase):
    """Many nodes that come at once, or go one after the other."""

    def test_many_at_once(self) -> None:
        """Nodes that start at once come to one view: thirty of them, or twelve where others use the cores as well."""
        count = 30 if LONG else 12
        with Lab(count, trace_bytes=FEW_TRACE_BYTES) as lab:
            daemons = [lab.daemon(host) for host in range(1, count + 1)]
            listening: dict[str, float] = {}

            def all_listen() -> bool:
                for daemon in daemons:
                    if daemon.name not in listening and daemon.is_listening():
                        listening[daemon.name] = time.monotonic()
                return len(listening) == len(daemons)

            wait_until(all_listen, 120.0, "all to listen", every=0.02)
            lab.wait_for_view(daemons, 10 * TOGETHER_SECONDS)
            took = time.monotonic() - max(listening.values())
            measured(f"one view of {count} after the last one listens", took, "s", TOGETHER_SECONDS)
            self.assertEqual(len({views_of(daemon)[-1][0] for daemon in daemons}), 1)

    def test_one_killed_every_second(self) -> None:
        """Each death costs one node, and those who are left stay together."""
        count, kills = (32, 20) if LONG else (12, 5)
        draw = random.Random(2)
        with Lab(count, trace_bytes=FEW_TRACE_BYTES) as lab:
            daemons = lab.daemons(range(1, count + 1))
            before = len(views_of(daemons[0]))
            alive = list(daemons)
            for _ in range(kills):
                victim = draw.choice(alive)
                alive.remove(victim)
                victim.kill()
                time.sleep(1.0)
            lab.wait_for_view(alive, 30.0)
            for daemon in alive:
                left = [names_of(view) for view in views_of(daemon)]
                gone = {daemon.node for daemon in daemons} - {daemon.node for daemon in alive}
                for names in left[before:]:
                    self.assertLessEqual({one.node for one in alive}, names, "a living node was left out")
                self.assertFalse(gone & left[-1])
            measured("views for the deaths", len(views_of(alive[0])) - before, "views", kills)
