"""Keys on real hosts: rotations in the middle of traffic, and daemons that do not share a key."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from groupcomm.node.keyfile import write_new_key
from tests.lab.harness import Daemon, Lab, measured, wait_until
from tests.lab.traffic import send_round, wait_until_received, wait_until_sent, wait_until_together

HOSTS = (1, 2, 3, 4)
ROUNDS = 12
ROTATIONS = 3
MESSAGES = 300
LIMIT_SECONDS = 120.0
GROUPCOMM = str(Path(sys.executable).with_name("groupcomm"))


class RotationTests(SynchronousTestCase):
    """Four daemons, two clients on each, all sending at all levels."""

    def test_rotation_under_load_and_loss(self) -> None:
        """At 5 % loss the cluster passes through three key epochs; every message comes once, in its order."""
        with Lab(len(HOSTS)) as lab:
            daemons = lab.daemons(HOSTS)
            members = [lab.member(daemon, f"{daemon.node}{which}", "lab") for daemon in daemons for which in "ab"]
            wait_until_together(members)
            view = lab.wait_for_view(daemons)
            lab.loss(5)
            for number in range(1, ROUNDS + 1):
                send_round(members, number, messages=MESSAGES, most_bytes=6_000)
                if number % (ROUNDS // ROTATIONS) == 1:
                    began = time.monotonic()
                    said = rotate(lab, daemons[number % len(daemons)])
                    measured("a key rotation under load at 5 % loss", (time.monotonic() - began) * 1000, "ms")
                    self.assertIn("key epoch", said)
                wait_until_sent(members, number, LIMIT_SECONDS)
            wait_until_received(members, LIMIT_SECONDS)
            for daemon in daemons:
                status = daemon.status()
                self.assertEqual((status["key_epoch"], status["sealed"]), (ROTATIONS, True))
                self.assertEqual(status["counters"].get("seal_broken", 0), 0)
            self.assertEqual(lab.wait_for_view(daemons), view)
            lab.judge("D1", "D2", "D4", "O1", "O5", "L2", "L3")


class StrangerTests(SynchronousTestCase):
    """Daemons on one LAN that do not share a key."""

    def test_other_key_no_key_and_no_permission(self) -> None:
        """A daemon with another key stays alone, one that is told to do without too, and both are named in the log.

        One without a key, and one whose key others may read, do not start and say what to do.
        """
        with Lab(4) as lab:
            friends = lab.daemons((1, 2))
            other = lab.directory / "other.key"
            write_new_key(other)
            stranger = lab.daemon(3, "n3", f"--key={other}")
            lab.wait_for_view([stranger])
            wait_until(lambda: "another key" in friends[0].log(), LIMIT_SECONDS, "n1 to say that n3 has another key")
            self.assertEqual(friends[0].log().count("another key"), 1)
            lab.wait_for_view(friends)
            stranger.stop()
            loose = lab.directory / "loose.key"
            write_new_key(loose)
            loose.chmod(0o644)
            for options, text in (
                ([f"--key={loose}"], "chmod 600"),
                ([f"--key={lab.directory}/none.key"], "none.key"),
            ):
                refused = lab.daemon(4, "n4", *options)
                self.assertEqual(ended(refused), 1)
                self.assertIn(text, refused.log())


def ended(daemon: Daemon) -> int:
    """The exit status of a daemon that ends by itself."""
    assert daemon.child is not None
    return daemon.child.wait(LIMIT_SECONDS)


def rotate(lab: Lab, daemon: Daemon) -> str:
    """``groupcomm key rotate`` at one daemon; what it says."""
    command = lab.on(daemon.host, GROUPCOMM, "--control", str(daemon.socket), "key", "rotate")
    done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_SECONDS, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout
