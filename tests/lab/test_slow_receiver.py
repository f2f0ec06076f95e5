"""One of four hosts gets 10 Mbit/s: the others wait for it, evict it or let it catch up, and say who and why."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from attrs import frozen
from twisted.trial.unittest import SynchronousTestCase

from tests.lab.harness import Daemon, Lab, Member, measured, wait_until

HOSTS = (1, 2, 3, 4)
SLOW_HOST = 4
RATE = "10mbit"
RATE_BYTES = 1_250_000
LIMIT = 2.0
"""``slow-receiver-seconds``."""

PATIENCE = 300.0
"""Seconds until a lane has filled up, where other work leaves the sender little more than the slow line takes."""

MEASURED_SECONDS = 3.0
MANY = 10_000_000
TRACE_BYTES = 2 * 1024 * 1024
"""The oracle judges the beginning of the flood, up to the first two thousand messages or so."""


@frozen
class Flooded:
    """Four daemons with a member each, the first of which sends without end."""

    lab: Lab
    daemons: list[Daemon]
    members: list[Member]

    @property
    def slow(self) -> Daemon:
        """The daemon on the host whose line is made slow."""
        return self.daemons[-1]

    def speed(self, member: Member, seconds: float = MEASURED_SECONDS) -> float:
        """The bytes in a second that a member receives, by the messages of 1 KiB it has counted."""
        began, had = time.monotonic(), member.received()
        time.sleep(seconds)
        return (member.received() - had) * 1024 / (time.monotonic() - began)

    def narrow(self) -> float:
        """Make the line slow; returns when."""
        self.lab.run("rate", str(SLOW_HOST), RATE, "in")
        return time.monotonic()

    def widen(self) -> None:
        """Let it be as fast as the others again."""
        self.lab.run("rate", str(SLOW_HOST), "0", "in")

    def end(self) -> None:
        """Let the flood end, and what is under way arrive."""
        self.members[0].tell({"do": "stop"})
        self.members[0].wait_for("sent", 100)


class SlowReceiverTests(SynchronousTestCase):
    """One sender of 1 KiB messages as fast as they are taken, AGREED."""

    @contextmanager
    def flooded(self, policy: str, *more: str) -> Iterator[Flooded]:
        with Lab(len(HOSTS), trace_bytes=TRACE_BYTES) as lab:
            options = ("--slow-receiver", policy, "--slow-receiver-seconds", f"{LIMIT:g}", *more)
            daemons = lab.daemons(HOSTS, *options)
            members = [lab.member(daemon, f"m{daemon.host}", "lab", quiet=True) for daemon in daemons]
            for member in members:
                member.wait_for_view([each.title for each in members], 30)
            for daemon in daemons:
                daemon.status()
            members[0].tell(
                {
                    "do": "send",
                    "number": 1,
                    "seed": 1,
                    "messages": MANY,
                    "sizes": [1024, 1025],
                    "levels": ["AGREED"],
                    "record": False,
                    "stable": False,
                }
            )
            yield Flooded(lab, daemons, members)

    def test_wait(self) -> None:
        """All go on at the pace of the slow one; the sender names it, with bytes and time, and says when it is over."""
        with self.flooded("wait") as flooded:
            sender, slow = flooded.daemons[0], flooded.slow
            full = flooded.speed(flooded.members[1])
            measured("what the others receive at full speed", full / 1e6, "MB/s")
            narrowed = flooded.narrow()
            wait_until(
                lambda: f"node {slow.node} is slow:" in sender.log(), 100, "the sender to say who is slow", every=0.1
            )
            measured("the sender says so", time.monotonic() - narrowed, "s", LIMIT)
            (status,) = wait_until(lambda: sender.status()["slow"], 100, "the status to say so")
            self.assertEqual(status["node"], slow.node)
            self.assertGreater(status["lag_bytes"], 0)
            self.assertGreater(status["seconds"], LIMIT * 0.99)
            measured(f"what {slow.node} lacks", status["lag_bytes"] / 1e3, "kB")
            self.assertGreater(sender.counter("slow_receivers"), 0)
            for member in flooded.members[1:]:
                pace = flooded.speed(member)
                measured(f"what {member.daemon.node} receives now", pace / 1e6, "MB/s", RATE_BYTES / 1e6)
                self.assertLess(pace, 1.5 * RATE_BYTES)
            flooded.widen()
            wait_until(lambda: "is slow no more" in sender.log(), 100, "the sender to say that it is over", every=0.1)
            wait_until(lambda: flooded.speed(flooded.members[1], 1.0) > 2 * RATE_BYTES, 100, "full speed again")
            views = {daemon.last_view() for daemon in flooded.daemons}
            self.assertEqual(len(views), 1, "a view has changed")
            self.assertEqual([daemon.counter("evictions") for daemon in flooded.daemons], [0] * len(HOSTS))
            flooded.end()

    def test_evict(self) -> None:
        """It goes once; the others have their speed again; all say who, by whom and why, and it comes back later."""
        with self.flooded("evict") as flooded:
            rest, slow = flooded.daemons[:-1], flooded.slow
            full = flooded.speed(flooded.members[1])
            measured("what the others receive at full speed", full / 1e6, "MB/s")
            narrowed = flooded.narrow()
            titles = [member.title for member in flooded.members[:-1]]
            for member in flooded.members[:-1]:
                view = member.wait_for_view(titles, 100)
                self.assertEqual(view["left"], [[flooded.members[-1].title, "eviction"]])
            measured("out of the view", time.monotonic() - narrowed, "s", LIMIT + 1)
            pace = flooded.speed(flooded.members[1])
            measured("what the others receive without it", pace / 1e6, "MB/s")
            self.assertGreater(pace, 3 * RATE_BYTES)
            for daemon in rest:
                self.assertRegex(
                    daemon.log(), rf"node {slow.node} was evicted for being slow, by n[123],.*it lacked \d+ bytes"
                )
                self.assertEqual(daemon.counter("evictions"), 1)
                self.assertEqual([one["node"] for one in daemon.status()["kept_out"]], [slow.node])
            alone = flooded.members[-1].wait_for_view([flooded.members[-1].title], 100)
            self.assertEqual({reason for _, reason in alone["left"]}, {"partition"})
            wait_until(
                lambda: "this node was evicted for being slow, by n" in slow.log(), 100, "it to say so", every=0.1
            )
            evicted = time.monotonic()
            flooded.end()
            flooded.widen()
            flooded.lab.wait_for_view(flooded.daemons, 200)
            measured("in the view again", time.monotonic() - evicted, "s", 11)
            wait_until(lambda: not slow.status()["evicted_by"], 30, "it not to be evicted any more")

    def test_catch_up(self) -> None:
        """The others keep their speed while it lacks more and more; when the room is used up, it goes."""
        with self.flooded("catch-up") as flooded:
            sender, slow = flooded.daemons[0], flooded.slow
            full = flooded.speed(flooded.members[1], 1.0)
            measured("what the others receive at full speed", full / 1e6, "MB/s")
            narrowed = flooded.narrow()
            wait_until(lambda: "it catches up" in sender.log(), PATIENCE, "the sender to go on", every=0.1)
            measured("the sender goes on without it", time.monotonic() - narrowed, "s", LIMIT)
            other = flooded.daemons[1]
            (status,) = wait_until(lambda: other.status()["catching_up"], PATIENCE, "the status of another to say so")
            self.assertEqual((status["node"], status["by"]), (slow.node, sender.node))
            pace = flooded.speed(flooded.members[1], 1.0)
            measured("what the others receive meanwhile", pace / 1e6, "MB/s", 0.8 * full / 1e6)
            self.assertGreater(pace, 2 * RATE_BYTES)
            titles = [member.title for member in flooded.members[:-1]]
            for member in flooded.members[:-1]:
                view = member.wait_for_view(titles, PATIENCE)
                self.assertEqual(view["left"], [[flooded.members[-1].title, "eviction"]])
            measured("out of the view", time.monotonic() - narrowed, "s")
            self.assertIn("it has not caught up, and should go", sender.log())
            self.assertGreater(sender.counter("lanes_spent"), 0)
            flooded.end()
            flooded.widen()
