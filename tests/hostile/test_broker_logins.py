"""Logins: without a name, twice, too many, under somebody else's name."""

from __future__ import annotations

from twisted.internet.protocol import Protocol

from groupcomm.daemon import caps
from groupcomm.daemon.reading import Share
from tests.daemon.raw_calls import call
from tests.daemon.world import PlainClient
from tests.hostile.broker_case import BrokerAttack


class LoginTests(BrokerAttack):
    def test_anonymous(self) -> None:
        """There is no anonymous login, with an object for events or without."""
        for args in ((), ([b"remote", 1],)):
            attacker = self.attacker()
            attacker.send(call(b"loginAnonymous", *args))
            self.assertEqual([name for name, _ in attacker.errors], ["LoginRefused"])
            attacker.transport.loseConnection()

    def test_twice_over_one_connection(self) -> None:
        """A connection has one login: neither the root nor a challenge kept from before gives another session."""
        attacker = self.attacker()
        attacker.send(call(b"login", b"mallory") + call(b"login", b"eve", request=2))
        first, second = sorted(number for number in attacker.broker.localObjects if isinstance(number, int))
        attacker.send(call(b"respond", b"", target=first, request=3))
        self.guests.add("mallory")
        attacker.send(call(b"respond", b"", target=second, request=4))
        attacker.send(call(b"respond", b"", target=first, request=5))
        attacker.send(call(b"login", b"eve", request=6))
        self.assertEqual([name for name, _ in attacker.errors], ["LoginRefused"] * 3)
        self.assertIn("mallory", self.world.node.sessions)

    def test_the_name_of_another(self) -> None:
        """A name that is in use is refused, as often as it is tried, and its owner does not notice."""
        for _ in range(100):
            attacker = self.attacker()
            for request in range(caps.MAX_ATTEMPTS):
                attacker.send(call(b"login", b"alice", request=2 * request))
                challenger = max(number for number in attacker.broker.localObjects if isinstance(number, int))
                attacker.send(call(b"respond", b"", target=challenger, request=2 * request + 1))
            self.assertEqual(attacker.refusals("NameInUse"), caps.MAX_ATTEMPTS)
            attacker.transport.loseConnection()

    def test_a_flood_of_logins(self) -> None:
        """So many a second are admitted after the first burst; the rest are refused in words, and tried again."""
        self.patch(self.world.factory, "_logins", Share(self.world.clock, 10, 20))
        self.assertEqual(self.flood(100), 21)
        for _ in range(3):
            self.world.advance(1.0)
            self.assertEqual(self.flood(50), 10)
        self.assertEqual(self.world.factory.counters["logins_refused"], 79 + 3 * 40)
        self.world.advance(1.0)
        self.guests.add("carol")
        PlainClient(self.world, "carol")

    def test_more_clients_than_the_daemon_is_set_to(self) -> None:
        """Whoever comes when all places are taken is refused in words, and let in when one is free."""
        self.patch(self.world.realm, "_max_clients", 3)
        carol = PlainClient(self.world, "carol")
        for name in (b"mallory", b"eve"):
            attacker = self.attacker()
            attacker.send(call(b"login", name))
            attacker.send(call(b"respond", b"", target=1, request=2))
            self.assertEqual(
                attacker.errors, [("LimitReached", "this daemon serves 3 clients at once: try again later")]
            )
        carol.call("logout")
        self.world.settle()
        PlainClient(self.world, "dave")
        self.guests.add("dave")

    def flood(self, count: int) -> int:
        """Log in and out as often at one time; how often that went well."""
        before = self.world.node.opened
        for _ in range(count):
            attacker = self.attacker()
            attacker.send(call(b"login", b"mallory"))
            numbers = [number for number in attacker.broker.localObjects if isinstance(number, int)]
            if numbers:
                attacker.send(call(b"respond", b"", target=numbers[0], request=2))
            attacker.transport.loseConnection()
            self.world.settle()
        return self.world.node.opened - before

    def test_too_many_connections(self) -> None:
        """More strangers than there may be are closed at once; clients that are there do not notice."""
        transports = [self.world.attach(Protocol()) for _ in range(caps.MAX_UNAUTHENTICATED + 500)]
        self.world.settle()
        self.assertEqual(sum(transport.lost for transport in transports), 500)
        self.assertEqual(self.world.factory.counters["connections_refused"], 500)
        for transport in transports:
            transport.loseConnection()

    def test_with_two_fields_for_a_name(self) -> None:
        """Names are text of 255 bytes that can be printed; what looks like a list of them is none."""
        for name in (b"", b"x" * 256, b"a\nb", b"\xff", b"a\x00", [b"list", b"a"], [b"None"], 5, [b"boolean", b"true"]):
            attacker = self.attacker()
            attacker.send(call(b"login", name))
            self.assertEqual([each for each, _ in attacker.errors], ["BadArgument"])
            attacker.transport.loseConnection()
