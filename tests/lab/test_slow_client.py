"""A client that does not read costs the others nothing and the daemon a bounded amount of memory."""

from __future__ import annotations

import signal
import time

from twisted.trial.unittest import SynchronousTestCase

from tests.lab.harness import Lab, measured, wait_until

MESSAGES = 100_000
GROWTH_BYTES = 32 * 1024 * 1024
LIMIT_SECONDS = 200.0
TRACE_BYTES = 4 * 1024 * 1024
"""The oracle judges the first ten thousand messages or so."""


class SlowClientTests(SynchronousTestCase):
    """Two daemons; one of the clients is stopped."""

    def test_client_that_stops_reading(self) -> None:
        """It is put out of its groups as too slow, and the daemon does not grow while 100,000 messages pass."""
        with Lab(2, trace_bytes=TRACE_BYTES) as lab:
            one, two = lab.daemons((1, 2))
            sleeper = lab.member(one, "sleeper", "lab")
            reader, sender = lab.member(one, "reader", "lab", quiet=True), lab.member(two, "sender", "lab", quiet=True)
            everyone = [member.title for member in (sleeper, reader, sender)]
            for member in (sleeper, reader, sender):
                member.wait_for_view(everyone, 30)
            sleeper.send_signal(signal.SIGSTOP)
            began = time.monotonic()
            resident = []
            for number, messages in enumerate((MESSAGES // 5, MESSAGES - MESSAGES // 5), 1):
                sender.tell(
                    {
                        "do": "send",
                        "number": number,
                        "seed": number,
                        "messages": messages,
                        "sizes": [150, 250],
                        "levels": ["AGREED"],
                        "record": False,
                        "stable": False,
                    }
                )
                sender.wait_for("sent", LIMIT_SECONDS, count=number)
                wait_until(
                    lambda: reader.received() >= sum(e["messages"] for e in sender.of_kind("sent")),
                    LIMIT_SECONDS,
                    "the reader to have everything",
                    every=0.1,
                )
                resident.append(one.resident_bytes())
            seconds = time.monotonic() - began
            measured(f"{MESSAGES:,} messages beside a client that does not read", seconds, "s")
            measured("growth of the daemon over the last 80 %", (resident[1] - resident[0]) / 2**20, "MiB", 32)
            rest = [reader.title, sender.title]
            view = reader.wait_for_view(rest, LIMIT_SECONDS)
            self.assertEqual(view["left"], [[sleeper.title, "too slow"]])
            self.assertLess(resident[1] - resident[0], GROWTH_BYTES)
            sleeper.send_signal(signal.SIGCONT)
            wait_until(lambda: not sleeper.running or sleeper.of_kind("left"), 30, "the sleeper to hear that it is out")
            # Whether the reason still reached a client that did not read is chance; that it is over is not.
            reasons = {entry["reason"] for entry in sleeper.of_kind("left")}
            self.assertLessEqual(reasons, {"too slow", "disconnect"})
