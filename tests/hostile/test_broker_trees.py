"""Calls made of valid tokens in random trees: what no single attack thought of."""

from __future__ import annotations

import random
from typing import Any

from groupcomm.daemon.avatar import ClientAvatar
from groupcomm.daemon.errors import DaemonError
from tests.daemon.raw_calls import call, expression
from tests.hostile.broker_case import BrokerAttack, held, most_bytes

CALLS = 1000
WORDS = (
    *(b"None", b"boolean", b"unicode", b"list", b"tuple", b"dictionary", b"remote", b"local", b"reference", b"module"),
    *(b"true", b"chat", b"alice@n1", b"agreed", b"", b"x" * 300, b"\xff", b"message", b"answer", b"decref", b"root"),
)
NUMBERS = (0, 1, 2, -1, 127, 2**31, 2**63, -(2**63), 2**200)
HARMLESS = (
    *("send", "send_many", "send_private", "begin", "part", "commit", "commit_private"),
    *("join", "leave", "groups", "whoami", "status", "changes"),
)


class TreeTests(BrokerAttack):
    """Whatever is called with whatever: an answer, one of the known errors, or the end of the connection."""

    def setUp(self) -> None:
        super().setUp()
        self.random = random.Random(7)

    def value(self, depth: int) -> Any:
        """A random value, mostly of a known form."""
        draw = self.random
        kind = draw.randrange(10 if depth else 3)
        if kind == 0:
            return draw.choice(WORDS)
        if kind == 1:
            return draw.choice(NUMBERS)
        if kind == 2:
            return draw.choice(([b"None"], [b"boolean", b"true"], [b"unicode", b"chat"], [b"list"], [b"remote", 3]))
        items = [self.value(depth - 1) for _ in range(draw.randrange(4))]
        if kind == 3:
            return [b"dictionary", *([draw.choice(WORDS), item] for item in items)]
        return [draw.choice((b"list", b"tuple", b"list", draw.choice(WORDS))), *items]

    def test_random_arguments(self) -> None:
        """Every method with random arguments: nothing fails by a fault of the daemon, and nothing is left held."""
        known = {each.__name__ for each in DaemonError.__subclasses__()}
        attacker, avatar = self.logged_in()
        seen: set[str] = set()
        logins = 0
        for request in range(CALLS):
            method = self.random.choice(HARMLESS).encode()
            args = [self.value(4) for _ in range(self.random.randrange(5))]
            attacker.send(call(method, *args, target=avatar, request=request))
            self.assertLessEqual(held(attacker.broker)[0], most_bytes(True))
            if attacker.cut:
                self.guests.discard("mallory")
                seen.update(name for name, _ in attacker.errors)
                attacker, avatar = self.logged_in()
                logins += 1
            if not request % 300:
                self.assert_group_goes_on()
        seen.update(name for name, _ in attacker.errors)
        self.assertLessEqual(seen, known)
        self.assertNotIn("InternalError", seen)
        self.assertEqual(self.world.factory.counters["calls_failed"], 0)
        self.assertEqual(self.world.factory.counters["connections_cut"], logins)
        self.assertTrue(0 < logins < CALLS, "some are cut, and some are answered")

    def test_random_expressions(self) -> None:
        """Random trees in place of calls, before login and after it, end the connection or do nothing."""
        for turn in range(CALLS):
            attacker = self.attacker()
            if turn % 2:
                attacker.log_in(b"mallory")
            for _ in range(3):
                command = self.random.choice((b"message", b"answer", b"error", b"decref", b"version", b"cachemessage"))
                attacker.send(expression(command, *(self.value(3) for _ in range(self.random.randrange(8)))))
            self.assertLessEqual(held(attacker.broker)[0], most_bytes(bool(turn % 2)))
            attacker.transport.loseConnection()
            self.world.settle()
        self.assertEqual(self.world.factory.counters["calls_failed"], 0)

    def test_every_method_is_drawn(self) -> None:
        """Only what ends the session, the key or a node is left out above."""
        self.assertEqual(set(ClientAvatar.methods) - set(HARMLESS), {"logout", "open_channel", "rotate_key", "expel"})
