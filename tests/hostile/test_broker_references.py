"""Objects named over and over: the daemon's that are given out, and the client's that are handed in."""

from __future__ import annotations

import gc

from twisted.spread import pb

from groupcomm.daemon import caps
from tests.daemon.raw_calls import call, expression
from tests.hostile.broker_case import BrokerAttack


class ReferenceTests(BrokerAttack):
    def test_challengers(self) -> None:
        """Each login begun gives out an object; there are eight at most, and they go with the connection."""
        attacker = self.attacker()
        for request in range(60):
            attacker.send(call(b"login", b"mallory", request=request))
        self.assertLessEqual(len(attacker.broker.localObjects), 1 + caps.MAX_ATTEMPTS)
        self.assertIn(b"too many attempts", bytes(attacker.received))
        attacker.transport.loseConnection()
        self.world.settle()
        self.assertIsNone(attacker.broker.localObjects)

    def test_objects_of_the_client(self) -> None:
        """Thousands of the client's objects in arguments are refused as what they are, and none is kept."""
        attacker, avatar = self.logged_in()
        gc.collect()
        before = references_of(attacker.broker)
        self.assertEqual(before, 1)
        for turn in range(5):
            objects = [[b"remote", 1000 * turn + number + 2] for number in range(1000)]
            attacker.send(call(b"send", b"chat", [b"list", *objects], target=avatar, request=turn))
        self.assertEqual(attacker.refusals("BadArgument"), 5)
        self.assertEqual(references_of(attacker.broker), before)
        self.assertFalse(attacker.cut)

    def test_numbers_of_objects(self) -> None:
        """An object has a positive number of 63 bits; with any other name the connection ends."""
        for name in (b"abc", 0, -1, 2**63, 2**400, [b"list"], [b"unicode", b"x"]):
            attacker = self.attacker()
            attacker.send(call(b"login", [b"remote", name]))
            self.assert_cut_without_trace(attacker)
        for extra in ([b"remote"], [b"remote", 1, 2]):
            attacker = self.attacker()
            attacker.send(call(b"login", extra))
            self.assert_cut_without_trace(attacker)

    def test_letting_go_of_what_one_does_not_have(self) -> None:
        """To release an object twice, the root, or one that never was, ends the connection."""
        for name in (b"root", 1, 99, b"nothing", [b"list"]):
            attacker = self.attacker()
            attacker.send(expression(b"decref", name))
            self.assert_cut_without_trace(attacker)

    def test_letting_go_of_ones_avatar(self) -> None:
        """Who releases its avatar cannot call it any more; its session ends with its connection."""
        attacker, avatar = self.logged_in()
        attacker.send(expression(b"decref", avatar))
        attacker.received.clear()
        attacker.send(call(b"send", b"chat", b"x", target=avatar, request=9))
        self.assertIn(b"no such object", bytes(attacker.received))
        self.assertEqual(self.world.node.sessions["mallory"].sent, [])
        attacker.transport.loseConnection()
        self.guests.discard("mallory")

    def test_the_objects_of_others(self) -> None:
        """Numbers name objects of one's own connection only: nobody reaches the avatar of another."""
        attacker = self.attacker()
        for number in range(1, 10):
            attacker.send(call(b"send", b"chat", b"stolen", target=number, request=number))
        self.assertEqual(attacker.refusals("BadArgument"), 9)
        for session in self.world.node.sessions.values():
            self.assertNotIn(b"stolen", [sent[1] for sent in session.sent])
        attacker.transport.loseConnection()


def references_of(broker: pb.Broker) -> int:
    """How many objects of the client's the daemon knows over that connection."""
    return sum(1 for each in gc.get_objects() if isinstance(each, pb.RemoteReference) and each.broker is broker)
