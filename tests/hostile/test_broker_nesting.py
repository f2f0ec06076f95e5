"""Lists in lists in lists: what a reader that recurses would end of."""

from __future__ import annotations

from groupcomm.daemon import caps
from tests.daemon.raw_calls import call, expression
from tests.hostile.broker_case import Attacker, BrokerAttack, held

DEPTHS = (caps.MAX_DEPTH + 1, 100, 3000, 32_000)


def nested(depth: int, *, closed: bool) -> bytes:
    """So many lists, each in the one before, with a number in the last or without an end."""
    return b"\x01\x80" * depth + (b"\x00\x81" if closed else b"")


def nested_argument(depth: int) -> object:
    """A value of plain lists, nested so deep."""
    value: object = 0
    for _ in range(depth):
        value = [b"list", value]
    return value


class NestingTests(BrokerAttack):
    def assert_refused_early(self, attacker: Attacker, data: bytes) -> None:
        """It is cut at the first list too deep, and no more than the others were ever held."""
        for index in range(0, len(data), 2):
            attacker.broker.dataReceived(data[index : index + 2])
            self.assertLessEqual(held(attacker.broker)[1], 10 + caps.MAX_DEPTH)
            if attacker.broker.violation is not None:
                break
        self.assert_cut_without_trace(attacker)
        self.assertLess(index, 100 + 2 * caps.MAX_DEPTH)

    def test_before_login(self) -> None:
        """The seventeenth list ends the connection, however many were to come."""
        for depth in DEPTHS:
            for closed in (True, False):
                self.assert_refused_early(self.attacker(), nested(depth, closed=closed))

    def test_after_login(self) -> None:
        """The same for a client that has logged in, who is out of the node's sessions with that."""
        for depth in DEPTHS:
            attacker, _ = self.logged_in()
            self.assert_refused_early(attacker, nested(depth, closed=True))
            self.guests.discard("mallory")

    def test_in_an_argument(self) -> None:
        """A call whose argument is nested too deep is no different."""
        for depth in (caps.MAX_DEPTH, 300):
            attacker, avatar = self.logged_in()
            attacker.send(call(b"send", b"chat", nested_argument(depth), target=avatar))
            self.assert_cut_without_trace(attacker)
            self.guests.discard("mallory")

    def test_as_deep_as_allowed(self) -> None:
        """What is just not too deep is a value like any other, and here of the wrong type."""
        attacker, avatar = self.logged_in()
        attacker.send(call(b"send", b"chat", nested_argument(caps.MAX_DEPTH - 2), target=avatar))
        self.assertIn(b"BadArgument", bytes(attacker.received))
        self.assertFalse(attacker.cut)

    def test_again_and_again(self) -> None:
        """A thousand such connections are one line in the log."""
        for _ in range(1000):
            attacker = self.attacker()
            attacker.send(nested(3000, closed=True))
            self.assert_cut_without_trace(attacker)
        self.assertEqual(self.world.factory.counters["connections_cut"], 1000)
        self.assertEqual(len(self.lines), 1)

    def test_a_flat_call_after_it(self) -> None:
        """Nothing that comes behind the breach is looked at."""
        attacker = self.attacker()
        attacker.send(nested(100, closed=True) + expression(b"message"))
        self.assertEqual(self.world.factory.counters["connections_cut"], 1)
        self.assert_cut_without_trace(attacker)
