"""Large messages, many groups, many clients, many nodes."""

from __future__ import annotations

import time

from twisted.trial.unittest import SynchronousTestCase

from tests.lab.harness import Lab, measured, wait_until

MEBIBYTE = 1024 * 1024
LIMIT_SECONDS = 120.0


class LargeMessageTests(SynchronousTestCase):
    """A message far larger than any packet or window."""

    def test_ten_mebibytes(self) -> None:
        """A message of 10 MiB at AGREED arrives whole at all four hosts at 2 % loss, in order with small ones."""
        with Lab(4) as lab:
            daemons = lab.daemons((1, 2, 3, 4))
            members = [lab.member(daemon, f"m{daemon.host}", "lab") for daemon in daemons]
            for member in members:
                member.wait_for_view([each.title for each in members], 30)
            lab.loss(2)
            began = time.monotonic()
            size = 10 * MEBIBYTE
            members[0].tell({"do": "send", "seed": 0, "messages": 1, "sizes": [size, size], "levels": ["AGREED"]})
            for index, member in enumerate(members[1:], 1):
                member.tell(
                    {"do": "send", "seed": index, "messages": 50, "sizes": [100, 200], "levels": ["AGREED", "FIFO"]}
                )
            for member in members:
                member.wait_for("sent", LIMIT_SECONDS)
                member.wait_for("m", LIMIT_SECONDS, count=151)
            measured("10 MiB at 2 % loss to four hosts", time.monotonic() - began, "s")
            lab.judge("D1", "D2", "D4", "M1", "M4", "O5", "O7", "L2", "L3")
            self.assertGreater(sum(daemon.counter("repairs_sent") for daemon in daemons), 0)


class ManyTests(SynchronousTestCase):
    """Many of everything."""

    def test_ten_thousand_groups(self) -> None:
        """One daemon serves ten thousand groups; its neighbour knows them and can send to any."""
        with Lab(2) as lab:
            one, two = lab.daemons((1, 2))
            owner, other = lab.member(one, "owner"), lab.member(two, "other", "many-9999")
            owner.wait_for("connected", 30)
            other.wait_for("joined", 30)
            owner.tell({"do": "join", "group": "many", "count": 10_000})
            joined = owner.wait_for("joined", LIMIT_SECONDS)
            measured("joining 10,000 groups", joined["seconds"], "s")
            for group in ("many-0", "many-5000", "many-9999"):
                other.tell(
                    {"do": "send", "seed": 1, "messages": 1, "sizes": [9, 9], "levels": ["AGREED"], "groups": [group]}
                )
            owner.wait_for("m", 30, count=3)
            self.assertEqual(
                sorted(entry["g"][0] for entry in owner.of_kind("m")), ["many-0", "many-5000", "many-9999"]
            )
            began = time.monotonic()
            status = two.status()
            measured("a status with 10,000 groups", time.monotonic() - began, "s")
            self.assertEqual(status["groups"], 10_000)

    def test_two_hundred_clients(self) -> None:
        """Two hundred clients of one daemon, twenty in each group, get every message to all groups, in one order."""
        with Lab(1) as lab:
            (daemon,) = lab.daemons((1,))
            crowd = lab.member(daemon, "crowd")
            crowd.wait_for("connected", 30)
            crowd.tell({"do": "crowd", "groups": [f"lab{n}" for n in range(10)], "count": 200})
            assembled = crowd.wait_for("assembled", LIMIT_SECONDS)
            done = crowd.wait_for("crowd", LIMIT_SECONDS)
            measured("200 clients connected and joined", assembled["seconds"], "s")
            measured("40,000 deliveries to them", done["at"] - assembled["at"], "s")
            self.assertEqual((done["messages"], done["orders"]), (200, 1))

    def test_twenty_daemons(self) -> None:
        """Twenty daemons on twenty hosts are in one view, and messages from three of them are in one order."""
        with Lab(20) as lab:
            began = time.monotonic()
            daemons = [lab.daemon(host) for host in range(1, 21)]
            wait_until(lambda: all(daemon.is_listening() for daemon in daemons), LIMIT_SECONDS, "20 daemons to listen")
            listening = time.monotonic()
            lab.wait_for_view(daemons, LIMIT_SECONDS)
            measured("20 daemons started", listening - began, "s")
            measured("one view after the last one listened", time.monotonic() - listening, "s", 3.0)
            members = [lab.member(daemon, f"m{daemon.host}", "lab") for daemon in (daemons[0], daemons[9], daemons[19])]
            for member in members:
                member.wait_for_view([each.title for each in members], 30)
            for index, member in enumerate(members):
                member.tell(
                    {"do": "send", "seed": index, "messages": 200, "sizes": [50, 500], "levels": ["AGREED", "SAFE"]}
                )
            for member in members:
                member.wait_for("sent", LIMIT_SECONDS)
                member.wait_for("m", LIMIT_SECONDS, count=600)
            lab.judge("D1", "D2", "D4", "M1", "M4", "O5", "O7", "L2", "L3")
