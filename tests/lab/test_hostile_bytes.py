"""Bytes that do not belong, at every socket of the daemons, while the group works."""

from __future__ import annotations

import json
import random
import socket
import subprocess
import sys
import time
from collections.abc import Sequence

from twisted.trial.unittest import SynchronousTestCase

from tests.lab.harness import Daemon, Lab, Process, measured, settle, wait_until
from tests.lab.traffic import wait_until_together

COUNT = 150
EVIL_HOST = 4
EVIL_ADDRESS = f"10.77.0.{EVIL_HOST}"
GROUP = ("239.192.71.67", 4874)
REFUSED = ("malformed", "foreign_cluster", "foreign_view", "not_a_member", "unknown_kind")
LEVELS = ["FIFO", "CAUSAL", "AGREED", "SAFE"]


class Injector(Process):
    """``tests/lab/inject.py`` on the host that belongs to nobody."""

    def __init__(self, lab: Lab, name: str, targets: list[tuple[str, int]], kinds: list[str]) -> None:
        super().__init__(lab, EVIL_HOST, f"injector-{name}")
        self._settings = {
            "targets": targets,
            "interface": EVIL_ADDRESS,
            "group": GROUP,
            "kinds": kinds,
            "count": COUNT,
            "cluster": lab.cluster,
            "seed": 7,
        }

    def command(self) -> list[str]:
        return [sys.executable, "-m", "tests.lab.inject", json.dumps(self._settings)]


class HostileBytesTests(SynchronousTestCase):
    """A fourth host that sends what it should not."""

    def test_without_a_key(self) -> None:
        """Every datagram that does not belong is counted once, none is logged, and the group notices nothing."""
        cases = (
            ("random", ("malformed",)),
            ("truncated", ("malformed",)),
            ("cut body", ("malformed",)),
            ("other cluster", ("foreign_cluster",)),
        )
        self.attack(cases, sealed=False)

    def test_with_a_key(self) -> None:
        """The same where packets are sealed: what is not is counted and dropped, and told once a minute at most."""
        cases = (
            ("random", ("malformed", "unsealed")),
            ("truncated", ("malformed",)),
            ("cut body", ("malformed", "unsealed", "replayed", "reflected", "seal_broken")),
            ("other cluster", ("unsealed",)),
        )
        self.attack(cases, sealed=True)

    def attack(self, cases: Sequence[tuple[str, tuple[str, ...]]], *, sealed: bool) -> None:
        with Lab(EVIL_HOST, sealed=sealed) as lab:
            daemons = lab.daemons((1, 2, 3))
            members = [lab.member(daemon, f"m{daemon.host}", "lab") for daemon in daemons]
            wait_until_together(members)
            for index, member in enumerate(members):
                member.tell({"do": "send", "seed": index, "sizes": [50, 1500], "levels": LEVELS, "rate": 100})
            views = [daemon.counter("views_installed") for daemon in daemons]
            lines = [len(daemon.log().splitlines()) for daemon in daemons]
            for kind, counters in cases:
                self.inject(lab, daemons, kind, counters)
            self.throw_at_streams(lab, daemons)
            for daemon, before in zip(daemons, lines, strict=True):
                new = daemon.log().splitlines()[before:]
                measured(f"lines {daemon.node} logged while {8 * COUNT} datagrams did not belong", len(new), "lines")
                self.assertLess(len(new), 25, "\n".join(new))
                self.assertNotIn("Traceback", "\n".join(new))
            for member in members:
                member.tell({"do": "stop"})
            for member in members:
                member.wait_for("sent", 30)
            settle(members)
            self.assertEqual([daemon.counter("views_installed") for daemon in daemons], views)

    def inject(self, lab: Lab, daemons: list[Daemon], kind: str, counters: tuple[str, ...]) -> None:
        """Send one kind to the multicast group and to every unicast socket, and compare the counters."""
        targets = [GROUP, *(address_of(daemon, daemons) for daemon in daemons)]

        def count(daemon: Daemon) -> int:
            status = daemon.status()["counters"]
            return sum(int(status.get(name, 0)) for name in counters)

        before = [count(daemon) for daemon in daemons]
        injector = lab.started(Injector(lab, kind.replace(" ", "-"), targets, [kind]))
        wait_until(lambda: not injector.running, 60, f"{COUNT} datagrams to be sent to each socket")
        self.assertEqual(json.loads(injector.output.read_text())["sent"], {kind: COUNT}, injector.last_errors())
        expected = 2 * COUNT  # by multicast, and to its own socket
        wait_until(
            lambda: all(count(daemon) - past >= expected for daemon, past in zip(daemons, before, strict=True)),
            10,
            f"{' and '.join(counters)} to count {expected} more at every daemon",
            every=0.1,
        )
        for daemon, past in zip(daemons, before, strict=True):
            self.assertEqual(count(daemon) - past, expected, f"{kind} at {daemon.node}")

    def throw_at_streams(self, lab: Lab, daemons: list[Daemon]) -> None:
        """Bytes that make no sense at the TCP port and at the control socket end those connections, nothing more."""
        draw = random.Random(3)
        for daemon in daemons:
            host, port = address_of(daemon, daemons)
            program = (
                "import random, socket, sys\n"
                "draw = random.Random(5)\n"
                f"for _ in range({COUNT}):\n"
                f"    with socket.create_connection(({host!r}, {port}), timeout=5) as s:\n"
                "        try: s.sendall(draw.randbytes(200))\n"
                "        except OSError: pass\n"
            )
            subprocess.run(lab.on(EVIL_HOST, sys.executable, "-c", program), check=True, capture_output=True)
            for _ in range(COUNT):
                with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
                    client.connect(str(daemon.socket))
                    try:
                        client.sendall(draw.randbytes(300))
                        client.settimeout(5)
                        while client.recv(4096):
                            pass
                    except OSError:
                        pass
        time.sleep(0.2)


def address_of(daemon: Daemon, daemons: list[Daemon]) -> tuple[str, int]:
    """A daemon's own socket, as another one sees it."""
    other = next(each for each in daemons if each is not daemon)
    for peer in other.status()["peers"]:
        if peer["node"] == daemon.node:
            host, _, port = peer["address"].rpartition(":")
            return host, int(port)
    raise AssertionError(f"{other.node} does not know {daemon.node}")
