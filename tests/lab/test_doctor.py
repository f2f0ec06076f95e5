"""``groupcomm doctor`` on real hosts: what is broken is named, with its address, and nothing else is."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from itertools import count
from pathlib import Path

from twisted.trial.unittest import SkipTest, SynchronousTestCase

from groupcomm.net.ports import RECEIVE_BUFFER_BYTES
from groupcomm.node.keyfile import write_new_key
from tests.lab.harness import Daemon, Json, Lab, measured, wait_until

GROUPCOMM = str(Path(sys.executable).with_name("groupcomm"))
GROUP = "239.192.71.67"
LIMIT_SECONDS = 60.0
LOADED = ("cpu", "drops")
"""What the machine that the lab runs on may suffer from, whatever the test does."""


class PlainDaemon(Daemon):
    """A daemon that may not go beyond the limits that the kernel is set to."""

    def command(self) -> list[str]:
        return ["setpriv", "--bounding-set=-net_admin", "--inh-caps=-net_admin", *super().command()]


def doctor(daemon: Daemon, *more: str) -> tuple[int, list[Json]]:
    """What the doctor finds on the host of a daemon: its exit status, and what is wrong."""
    command = [GROUPCOMM, "--control", str(daemon.socket), "doctor", "--json", *more]
    done = subprocess.run(
        daemon.lab.on(daemon.host, *command), capture_output=True, check=False, timeout=60, env=daemon.environment()
    )
    assert not done.stderr, done.stderr.decode()
    return done.returncode, json.loads(done.stdout)["findings"]


def wrong(found: tuple[int, list[Json]], without: Sequence[str] = LOADED) -> list[Json]:
    """The findings that are not fine; the exit status goes with all of them."""
    status, findings = found
    bad = [finding for finding in findings if finding["level"] != "OK"]
    assert status == (1 if bad else 0), found
    return [finding for finding in bad if finding["check"] not in without]


class DoctorTests(SynchronousTestCase):
    """Four daemons, healthy and then not."""

    def setUp(self) -> None:
        self.lab = Lab(4)
        self.lab.__enter__()
        self.addCleanup(self.lab.__exit__, None, None, None)

    def wait_for(self, daemon: Daemon, check: str, *texts: str) -> Json:
        """Wait until the doctor finds that on the host of a daemon."""

        def found() -> Json | None:
            return next(
                (
                    each
                    for each in wrong(doctor(daemon))
                    if each["check"] == check and all(text in each["text"] for text in texts)
                ),
                None,
            )

        return wait_until(found, LIMIT_SECONDS, f"the doctor of {daemon.node} to find {check}: {texts}", every=0.5)

    def wait_until_well(self, daemons: Sequence[Daemon]) -> None:
        """Wait until the doctor finds nothing wrong: paths take a moment to be measured."""
        for daemon in daemons:
            limit = time.monotonic() + LIMIT_SECONDS
            while ill := wrong(doctor(daemon)):
                self.assertLess(time.monotonic(), limit, f"{daemon.node} is not well: {ill}")
                time.sleep(0.5)

    def test_a_cluster_that_falls_ill(self) -> None:
        """Nothing is wrong; then a host loses multicast, another has a narrow path, and a third the wrong key."""
        self.lab.run("offload", "off")
        daemons = self.lab.daemons((1, 2, 3))
        one, deaf, _ = daemons
        self.wait_until_well(daemons)
        findings = doctor(one)[1]
        checks = {finding["check"] for finding in findings}
        self.assertLessEqual({"daemon", "view", "key", "interface", "route", "buffers", "multicast", "mtu"}, checks)
        measured("findings on a healthy host", len(findings), "findings")

        for rule in (
            "add table netdev deaf",
            "add chain netdev deaf in { type filter hook ingress device eth0 priority 1; }",
            f"add rule netdev deaf in ip daddr {GROUP} drop",
        ):
            self.lab.run("exec", "2", "nft", rule)
        self.wait_for(one, "multicast", "n2 (10.77.0.2:4874)", "copy")
        heard = self.wait_for(deaf, "multicast", "n1 (10.77.0.1:4874)", "n3 (10.77.0.3:4874)", "of nobody")
        self.assertIn("nft list ruleset", heard["advice"])

        self.lab.run("mtu", "3", "1400")

        asked = count(1)

        def found() -> bool:
            subprocess.run(
                [GROUPCOMM, "--control", str(one.socket), "send", "lab", "-"],
                input=b"large%d|" % next(asked) + b"x" * 200_000,
                check=True,
                timeout=60,
                capture_output=True,
            )
            return any(path["mtu_bytes"] == 1372 for peer in one.status()["peers"] for path in peer["paths"])

        wait_until(found, LIMIT_SECONDS, "the narrow path to be found", every=0.5)
        finding = self.wait_for(one, "mtu", "n3 (10.77.0.3:4874)", "1,372", "1,400", "1,500")
        self.assertIn("ping -M do -s 1472 10.77.0.3", finding["advice"])

        other = self.lab.directory / "other.key"
        write_new_key(other)
        stranger = self.lab.daemon(4, "n4", f"--key={other}")
        finding = self.wait_for(one, "key", "10.77.0.4:4874", "another key")
        self.assertEqual(finding["level"], "FAIL")
        self.wait_for(stranger, "key", "another key")
        self.wait_for(stranger, "view", "alone")
        kinds = {(each["check"], each["level"]) for each in wrong(doctor(one))}
        self.assertEqual(kinds, {("multicast", "WARN"), ("mtu", "WARN"), ("key", "FAIL")})
        stranger.stop()
        # The oracle knows of no keys: it would have the stranger in the view of those that it can reach.
        stranger.trace.unlink()

    def test_small_buffers_a_filtered_port_and_no_daemon(self) -> None:
        """A limit of the kernel that is too small, TCP that is dropped, and a daemon that has ended."""
        limit = int(Path("/proc/sys/net/core/rmem_max").read_text("ascii"))
        if shutil.which("setpriv") is None or limit >= RECEIVE_BUFFER_BYTES:
            raise SkipTest(f"needs setpriv, and net.core.rmem_max ({limit}) below {RECEIVE_BUFFER_BYTES}")
        daemons = [self.lab.started(PlainDaemon(self.lab, host, f"n{host}", ())) for host in (1, 2)]
        self.lab.wait_for_view(daemons)
        finding = self.wait_for(daemons[0], "buffers", "receive", f"{limit:,}")
        self.assertIn(f"sysctl -w net.core.rmem_max={RECEIVE_BUFFER_BYTES}", finding["advice"])
        for rule in (
            "add table inet deaf",
            "add chain inet deaf in { type filter hook input priority 0; }",
            "add rule inet deaf in tcp dport 4874 drop",
        ):
            self.lab.run("exec", "2", "nft", rule)
        self.wait_for(daemons[0], "firewall", "n2 (10.77.0.2:4874)", "not answered")
        daemons[1].stop()
        (finding,) = wrong(doctor(daemons[1]))
        self.assertEqual((finding["check"], finding["level"]), ("daemon", "FAIL"))
        self.assertIn("its log", finding["advice"])
