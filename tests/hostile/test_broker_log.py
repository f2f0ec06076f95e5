"""Floods of misdeeds: the log has a line of them a minute, with how many there were."""

from __future__ import annotations

import gc

from twisted.internet.protocol import Protocol

from groupcomm.daemon import caps
from groupcomm.events import Level
from tests.daemon.raw_calls import HELLO, call, expression
from tests.hostile.broker_case import BrokerAttack

BREACHES = (
    expression(b"nothing"),
    expression(),
    b"\xff" * 70,
    b"\x01\x80" * 40,
    HELLO * 3,
    expression(b"answer", 5, 5),
    call(b"login", [b"module", b"os\n2026-01-01 00:00:00 [groupcomm] all is well"]),
)


class LogTests(BrokerAttack):
    def test_breaches_of_every_kind(self) -> None:
        """Seven hundred breaches are one line; the next, a minute later, counts the rest."""
        for _ in range(100):
            for breach in BREACHES:
                attacker = self.attacker()
                attacker.send(breach)
                self.assertTrue(attacker.cut)
        self.assertEqual(len(self.lines), 1)
        self.world.advance(caps.LOG_INTERVAL_SECONDS)
        self.attacker().send(BREACHES[0])
        self.assertEqual(len(self.lines), 2)
        self.assertEqual(self.lines.pop()["unlogged"], 699)

    def test_connections_refused(self) -> None:
        """Connections that are too many are one line as well."""
        strangers = [self.world.attach(Protocol()) for _ in range(caps.MAX_UNAUTHENTICATED + 200)]
        self.assertEqual(len(self.lines), 1)
        for stranger in strangers:
            stranger.loseConnection()

    def test_no_line_is_the_peers_to_write(self) -> None:
        """What a line quotes of a peer is short, and without line ends."""
        self.attacker().send(BREACHES[-1])
        (line,) = self.lines
        self.assertLess(len(line["text"]), 200)
        self.assertNotIn("\n", line["text"])

    def test_calls_that_fail(self) -> None:
        """A thousand calls that fail by a fault of the daemon are one traceback."""
        attacker, avatar = self.logged_in()

        def broken(*args: object, **keywords: object) -> None:
            raise ValueError("broken")

        self.patch(self.world.node.sessions["mallory"], "send", broken)
        for request in range(1000):
            attacker.send(call(b"send", b"chat", b"x", target=avatar, request=request))
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)
        self.assertEqual(self.world.factory.counters["calls_failed"], 1000)

    def test_going_with_events_unread(self) -> None:
        """Members that go while events are on their way to them, and more wait, are no line at all."""
        sender = self.world.node.sessions["alice"]
        for number in range(20):
            name = b"mallory%d" % number
            attacker, avatar = self.logged_in(name)
            attacker.send(call(b"join", b"flood", target=avatar, request=3))
            attacker.transport.deaf = True
            for _ in range(4 * caps.BATCHES_IN_FLIGHT):
                self.world.node.deliver(sender, ("flood",), b"x" * caps.BATCH_BYTES, Level.AGREED)
                self.world.settle()
            attacker.transport.deaf = False
            attacker.transport.peer.lose()
            attacker.transport.lose()
            self.world.settle()
            self.guests.discard(name.decode())
        gc.collect()
        self.assertEqual(self.lines, [])

    def test_clients_too_slow(self) -> None:
        """Clients that let themselves be put out, one after the other, are a line a minute with their number."""
        sender = self.world.node.sessions["alice"]
        for number in range(8):
            attacker, avatar = self.logged_in(b"mallory%d" % number)
            attacker.send(call(b"join", b"flood", target=avatar, request=3))
            attacker.transport.deaf = True
            while f"mallory{number}" in self.world.node.sessions:
                self.world.node.deliver(sender, ("flood",), b"x" * 500_000, Level.AGREED)
                self.world.advance(0.5)
            self.guests.discard(f"mallory{number}")
            self.world.advance(caps.FAREWELL_SECONDS)
        self.assertEqual(self.world.factory.counters["clients_too_slow"], 8)
        minutes = self.world.clock.seconds() / caps.LOG_INTERVAL_SECONDS
        self.assertLessEqual(len(self.lines), 1 + minutes)
        told = len(self.lines) + sum(line["unlogged"] for line in self.lines)
        self.assertEqual(told + self.world.realm._slow_unlogged, 8)
        self.lines.clear()

    def test_usage_errors(self) -> None:
        """A client's wrong calls are its own affair and not logged at all."""
        attacker, avatar = self.logged_in()
        for request in range(500):
            attacker.send(call(b"nothing", target=avatar, request=request))
            attacker.send(call(b"join", b"x" * 300, target=avatar, request=request))
        self.assertEqual(attacker.refusals("BadArgument"), 1000)
        self.assertEqual(self.lines, [])
