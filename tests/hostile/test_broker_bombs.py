"""Many small values, or announced ones: a few bytes that would become much memory, and much work."""

from __future__ import annotations

from groupcomm.daemon import caps
from groupcomm.daemon.encoding import encode_head
from tests.daemon.raw_calls import call
from tests.hostile.broker_case import READ_BYTES, Attacker, BrokerAttack, held, most_bytes

EMPTY_LIST = b"\x00\x80"
NUMBER = b"\x01\x81"
EMPTY_TEXT = b"\x00\x82"


class ElementBombTests(BrokerAttack):
    def pour(self, attacker: Attacker, head: bytes, item: bytes, total: int) -> tuple[int, int]:
        """Send ``item`` again and again in reads of full size; the most bytes and values that were held at a time."""
        attacker.broker.dataReceived(head)
        piece = item * (READ_BYTES // len(item))
        most = (0, 0)
        for _ in range(0, total, len(piece)):
            attacker.broker.dataReceived(piece)
            size, values = held(attacker.broker)
            most = max(most[0], size), max(most[1], values)
            if attacker.broker.violation is not None:
                break
        self.world.settle()
        return most

    def test_before_login(self) -> None:
        """A stranger's call holds 64 values, whatever they are."""
        for item in (EMPTY_LIST, NUMBER, EMPTY_TEXT):
            for count in (caps.MAX_LOGIN_ELEMENTS - 1, 10_000):
                attacker = self.attacker()
                most = self.pour(attacker, encode_head(count, b"\x80"), item, 1024 * 1024)
                self.assertLessEqual(most[1], caps.MAX_LOGIN_ELEMENTS)
                self.assert_cut_without_trace(attacker)

    def test_after_login(self) -> None:
        """A client's call holds 16,384 values; megabytes of them in many calls are held one call at a time."""
        for item in (EMPTY_LIST, NUMBER, EMPTY_TEXT):
            attacker, _ = self.logged_in()
            most = self.pour(attacker, encode_head(caps.MAX_CALL_ELEMENTS - 1, b"\x80"), item, 4 * 1024 * 1024)
            self.assertLessEqual(most[1], caps.MAX_CALL_ELEMENTS)
            self.assertLessEqual(most[0], most_bytes(True))
            self.assert_cut_without_trace(attacker)
            self.guests.discard("mallory")

    def test_announced_counts(self) -> None:
        """A count that cannot be is refused when it is read: nothing is made for it."""
        for count in (caps.MAX_CALL_ELEMENTS, 2**20, 2**31, 2**63, 2**440):
            attacker, _ = self.logged_in()
            attacker.send(encode_head(count, b"\x80"))
            self.assert_cut_without_trace(attacker)
            self.guests.discard("mallory")

    def test_counts_that_add_up(self) -> None:
        """Each list may be within the cap and all together are not: they count together."""
        attacker, _ = self.logged_in()
        half = caps.MAX_CALL_ELEMENTS // 2
        attacker.send(encode_head(3, b"\x80") + encode_head(half, b"\x80") + EMPTY_LIST * half)
        self.assertFalse(attacker.cut)
        self.assertLessEqual(held(attacker.broker)[1], caps.MAX_CALL_ELEMENTS)
        attacker.send(encode_head(half, b"\x80"))
        self.assert_cut_without_trace(attacker)
        self.guests.discard("mallory")

    def test_announced_strings(self) -> None:
        """A length that cannot be is refused when it is read."""
        for size in (caps.MAX_CALL_BYTES + 1, 2**31, 2**63):
            attacker, _ = self.logged_in()
            attacker.send(encode_head(size, b"\x82"))
            self.assert_cut_without_trace(attacker)
            self.guests.discard("mallory")

    def test_strings_that_add_up(self) -> None:
        """Strings of a call count together."""
        attacker, _ = self.logged_in()
        half = caps.MAX_CALL_BYTES // 2 + 1
        most = self.pour(attacker, encode_head(2, b"\x80") + encode_head(half, b"\x82"), b"x", half)
        self.assertLessEqual(most[0], most_bytes(True))
        attacker.send(encode_head(half, b"\x82"))
        self.assert_cut_without_trace(attacker)
        self.guests.discard("mallory")

    def test_large_calls_at_all_connections(self) -> None:
        """Many clients with a call that is not whole hold no more than each may."""
        attackers = []
        for number in range(20):
            attacker, avatar = self.logged_in(b"mallory%d" % number)
            attacker.send(call(b"send", b"chat", b"x" * (caps.MAX_CALL_BYTES - 100), target=avatar)[:-10])
            attackers.append(attacker)
        total = sum(held(attacker.broker)[0] for attacker in attackers)
        self.assertTrue(0 < total <= len(attackers) * most_bytes(True))
        self.assert_group_goes_on()
        for attacker in attackers:
            attacker.transport.loseConnection()
        self.world.settle()
        self.assertEqual(sum(held(attacker.broker)[0] for attacker in attackers), 0)
        self.guests = {"alice", "bob"}
