"""Bytes that never become anything: heads without a type, first bytes of another protocol, strings without an end."""

from __future__ import annotations

from groupcomm.daemon import caps
from groupcomm.daemon.encoding import encode_bytes, encode_head
from tests.daemon.raw_calls import HELLO, call
from tests.daemon.world import server_broker
from tests.hostile.broker_case import BrokerAttack, held


class EndlessTests(BrokerAttack):
    def test_head_without_a_type(self) -> None:
        """A number of more than 64 digits ends the connection, byte by byte or at once."""
        for sizes in ((1,) * 200, (200,), (64, 1), (65536,)):
            attacker = self.attacker()
            for size in sizes:
                attacker.send(b"\x00" * size)
                self.assertLessEqual(held(attacker.broker)[0], 65)
            self.assert_cut_without_trace(attacker)

    def test_first_bytes_of_other_protocols(self) -> None:
        """Whoever takes the port for something else is cut, and told nothing but the greeting."""
        for data in (
            b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500),
            b"SSH-2.0-OpenSSH_9.2p1\r\n",
            b"\xff" * 100,
            b"\x80",
        ):
            world_transport = self.world.transports
            before = len(world_transport)
            attacker = self.attacker()
            greeted = len(attacker.received)
            attacker.send(data)
            self.assertEqual(len(attacker.received), greeted)
            self.world.advance(caps.LOGIN_SECONDS)
            self.assert_cut_without_trace(attacker)
            self.assertEqual(len(world_transport), before + 2)
        self.assertEqual(len(self.lines), 1)

    def test_many_small_calls_before_login(self) -> None:
        """Who goes on sending well-formed nothing before login is cut after 16 KiB."""
        attacker = self.attacker()
        harmless = call(b"nothing")
        sent = len(HELLO)
        while not attacker.cut:
            attacker.send(harmless)
            sent += len(harmless)
            self.assertLessEqual(sent, caps.MAX_LOGIN_BYTES + len(harmless))
        self.assertGreater(sent, caps.MAX_LOGIN_BYTES)
        self.assert_cut_without_trace(attacker)

    def test_all_in_one_read(self) -> None:
        """Of more than that in one read nothing is looked at."""
        attacker = self.attacker()
        attacker.received.clear()
        attacker.send(call(b"nothing") * 1000)
        self.assertEqual(bytes(attacker.received), b"")
        self.assert_cut_without_trace(attacker)

    def test_dialects_without_end(self) -> None:
        """There is one dialect, and who offers another is cut."""
        for data in (encode_bytes(b"none"), encode_bytes(b"x" * 4000), encode_head(2, b"\x80") + HELLO + HELLO):
            attacker = self.attacker()
            broker = server_broker(attacker.transport)
            broker.currentDialect = None
            attacker.send(data)
            self.assert_cut_without_trace(attacker)

    def test_string_that_never_ends(self) -> None:
        """After login too a string is bounded by its announced length, and that by the budget."""
        attacker, _ = self.logged_in()
        attacker.send(encode_head(caps.MAX_CALL_BYTES, b"\x82") + b"x" * (caps.MAX_CALL_BYTES - 1))
        self.assertLessEqual(held(attacker.broker)[0], caps.MAX_CALL_BYTES + 64)
        attacker.send(b"x" * 65536)
        self.assert_cut_without_trace(attacker)
        self.guests.discard("mallory")
