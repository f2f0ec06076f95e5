"""Certificates on real hosts: daemons that prove who they are."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.lab.harness import Daemon, Lab, measured, wait_until
from tests.lab.traffic import send_round, wait_until_received, wait_until_sent, wait_until_together

HOSTS = (1, 2, 3)
MESSAGES = 200
LIMIT_SECONDS = 60.0
GROUPCOMM = str(Path(sys.executable).with_name("groupcomm"))


def groupcomm(*arguments: str) -> str:
    """The ``groupcomm`` command on this host; what it says."""
    done = subprocess.run([GROUPCOMM, *arguments], capture_output=True, text=True, timeout=LIMIT_SECONDS, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def authority(directory: Path, *nodes: str) -> None:
    """An authority in ``directory``, and certificates for these nodes beside it."""
    groupcomm("ca", "new", str(directory))
    for node in nodes:
        where = ("--ca", str(directory), "--out", str(directory))
        groupcomm("ca", "issue", node, "--node", "--host", f"{node}.example", *where)


def certified(directory: Path, node: str) -> list[str]:
    """The options of a daemon with the certificate of ``node``; it has no key."""
    files = (directory / f"{node}.crt", directory / f"{node}.key", directory / "ca.crt")
    names = ("--node-certificate", "--node-key", "--ca")
    return ["--key=", *(f"{name}={file}" for name, file in zip(names, files, strict=True))]


def start(lab: Lab, directory: Path, hosts: tuple[int, ...] = HOSTS) -> list[Daemon]:
    """One daemon on each host, with the certificate of its node, in one view."""
    daemons = [lab.daemon(host, f"n{host}", *certified(directory, f"n{host}")) for host in hosts]
    lab.wait_for_view(daemons)
    return daemons


class CertifiedTests(SynchronousTestCase):
    """Three daemons, each with the certificate of its node."""

    def test_send_and_refuse(self) -> None:
        """They form a view and lose nothing; who has a certificate of another authority stays alone."""
        with Lab(4) as lab:
            authority(lab.directory / "ca", "n1", "n2", "n3")
            authority(lab.directory / "rival", "n4")
            daemons = start(lab, lab.directory / "ca")
            members = [lab.member(daemon, f"{daemon.node}a", "lab") for daemon in daemons]
            wait_until_together(members)
            stranger = lab.daemon(4, "n4", *certified(lab.directory / "rival", "n4"))
            stranger.apart = True
            for number in (1, 2, 3):
                send_round(members, number, messages=MESSAGES, most_bytes=3_000)
                wait_until_sent(members, number, LIMIT_SECONDS)
            wait_until_received(members, LIMIT_SECONDS)
            lab.wait_for_view([stranger])
            wait_until(lambda: "is not let in" in daemons[0].log(), LIMIT_SECONDS, "n1 to say that n4 is not let in")
            self.assertEqual(daemons[0].log().count("is not let in"), 1)
            lab.wait_for_view(daemons)
            self.assertTrue(daemons[0].status()["sealed"])
            lab.judge("D1", "D2", "D4", "O1", "O5")


class ExpulsionTests(SynchronousTestCase):
    """One of three daemons is expelled in the middle of traffic."""

    def test_expelled_under_load(self) -> None:
        """The others go on within seconds and lose nothing; it stays outside, after a restart too."""
        with Lab(len(HOSTS)) as lab:
            directory = lab.directory / "ca"
            authority(directory, "n1", "n2", "n3")
            daemons = start(lab, directory)
            members = [lab.member(daemon, f"{daemon.node}a", "lab") for daemon in daemons]
            wait_until_together(members)
            send_round(members, 1, messages=MESSAGES, most_bytes=3_000)
            command = lab.on(1, GROUPCOMM, "--control", str(daemons[0].socket), "expel", "n3")
            began = time.monotonic()
            done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_SECONDS, check=False)
            self.assertEqual((done.returncode, done.stderr), (0, ""))
            self.assertIn("n3 is expelled", done.stdout)
            wait_until_together(members[:2], LIMIT_SECONDS)
            measured("from the command to a view without the node expelled", (time.monotonic() - began) * 1000, "ms")
            send_round(members[:2], 2, messages=MESSAGES, most_bytes=3_000)
            wait_until_sent(members[:2], 2, LIMIT_SECONDS)
            expelled = daemons[2]
            expelled.apart = True
            lab.wait_for_view([expelled])
            self.assertIn("n3 is expelled", daemons[1].log())
            expelled.ask_to_end()
            wait_until(lambda: not expelled.running, LIMIT_SECONDS, "n3 to end")
            again = lab.daemon(3, "n3", *certified(directory, "n3"))
            again.apart = True
            lab.wait_for_view([again])
            wait_until(lambda: "is not let in" in daemons[0].log(), LIMIT_SECONDS, "n1 to refuse n3")
            lab.wait_for_view(daemons[:2])
            lab.judge("D1", "D2", "O1")
