"""Connections that say nothing, or one byte now and then."""

from __future__ import annotations

from twisted.internet.protocol import Protocol

from groupcomm.daemon import caps
from tests.daemon.raw_calls import HELLO, call
from tests.daemon.world import PlainClient
from tests.hostile.broker_case import BrokerAttack, held


class SilenceTests(BrokerAttack):
    def test_silent_after_connect(self) -> None:
        """As many strangers as there may be are all gone after five seconds, and the next client gets in."""
        strangers = [self.world.attach(Protocol()) for _ in range(caps.MAX_UNAUTHENTICATED)]
        self.world.advance(caps.LOGIN_SECONDS - 0.1)
        self.assertFalse(any(stranger.lost for stranger in strangers))
        self.world.advance(0.2)
        self.assertTrue(all(stranger.lost for stranger in strangers))
        PlainClient(self.world, "carol")
        self.guests.add("carol")

    def test_one_byte_at_a_time_before_login(self) -> None:
        """A login that trickles in is cut at the deadline of all logins; bytes buy no time."""
        attacker = self.attacker()
        data = call(b"login", b"x" * 250)
        for index in range(60):
            attacker.send(data[index : index + 1])
            self.world.advance(0.1)
            if attacker.cut:
                break
        self.assertLess(self.world.clock.seconds(), caps.LOGIN_SECONDS + 0.11)
        self.assert_cut_without_trace(attacker)

    def test_half_a_login(self) -> None:
        """Who asks for a challenge and never responds is cut at the same deadline."""
        attacker = self.attacker()
        attacker.send(call(b"login", b"mallory"))
        self.world.advance(caps.LOGIN_SECONDS + 0.1)
        self.assert_cut_without_trace(attacker)

    def test_one_byte_at_a_time_after_login(self) -> None:
        """A call must be whole a minute after its first byte; other calls before it buy no time."""
        attacker, avatar = self.logged_in()
        data = call(b"send", b"chat", b"x" * 500_000, target=avatar)
        began = self.world.clock.seconds()
        attacker.send(call(b"whoami", target=avatar) + data[:400_000])
        for index in range(400_000, len(data)):
            attacker.send(data[index : index + 1])
            self.world.advance(1.0)
            if attacker.cut:
                break
            self.assertLessEqual(held(attacker.broker)[0], caps.MAX_CALL_BYTES)
        self.assertEqual(self.world.clock.seconds() - began, caps.CALL_SECONDS)
        self.assert_cut_without_trace(attacker)
        self.guests.discard("mallory")

    def test_a_slow_client_is_no_enemy(self) -> None:
        """Calls that each come whole within a minute may go on for ever, and so may silence after login."""
        attacker, avatar = self.logged_in()
        whole = call(b"whoami", target=avatar)
        for _ in range(5):
            for start in range(0, len(whole), 10):
                attacker.send(whole[start : start + 10])
                self.world.advance(caps.CALL_SECONDS / len(whole) * 8)
        self.world.advance(3 * caps.CALL_SECONDS)
        self.assertFalse(attacker.cut)
        self.assertEqual(bytes(attacker.received).count(b"mallory@n1"), 5)

    def test_a_byte_costs_no_copy(self) -> None:
        """Bytes that come singly are added to what is kept: it is not made anew for each."""
        attacker, avatar = self.logged_in()
        data = call(b"send", b"chat", b"x" * 500_000, target=avatar)
        attacker.send(data[:400_000])
        kept = attacker.broker._incoming
        for index in range(400_000, 401_000):
            attacker.broker.dataReceived(data[index : index + 1])
        self.assertIs(attacker.broker._incoming, kept)
        attacker.send(data[401_000:])
        self.assertEqual(self.world.node.sessions["mallory"].sent[-1][1], b"x" * 500_000)

    def test_hello_and_nothing_else(self) -> None:
        """To begin the protocol is no login."""
        attacker = self.attacker()
        self.assertIn(HELLO, bytes(attacker.received))
        self.world.advance(caps.LOGIN_SECONDS + 0.1)
        self.assert_cut_without_trace(attacker)
