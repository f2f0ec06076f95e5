"""Discovery: spoofed announcements of ten thousand addresses. It is a hint, rate-limited, and never an authority."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from groupcomm.discovery.hints import HINTS_PER_SECOND, MAX_ADDRESSES, MAX_HINTS, HintBook
from groupcomm.identity import NodeId
from groupcomm.limits import MAX_STRANGERS
from groupcomm.outputs import Address
from groupcomm.wire.packets import Header, Kind
from tests.hostile.attacker import HostileCase, beacon_of, message_packets

OWN: Address = ("192.168.0.1", 7400)


def address(number: int) -> Address:
    """One of very many addresses."""
    return f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}", 7400


class HintTests(SynchronousTestCase):
    """What a source of discovery remembers and hands out."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.book = HintBook(self.clock.seconds, (OWN[0],), OWN[1])

    def test_ten_thousand_names(self) -> None:
        """Of ten thousand announcements the latest are remembered, and so many a second are handed out."""
        given = 0
        for number in range(10_000):
            given += len(self.book.learn(f"name {number}", (address(number),)))
            self.clock.advance(0.001)
        self.assertEqual(len(self.book._known), MAX_HINTS)
        self.assertLessEqual(given, 11 * HINTS_PER_SECOND)
        self.assertEqual(given + self.book.dropped, 10_000)

    def test_ten_thousand_addresses_of_one_name(self) -> None:
        """One announcement may name sixteen addresses; the others are not looked at."""
        self.assertEqual(len(self.book.learn("one", tuple(map(address, range(10_000))))), MAX_ADDRESSES)
        self.assertEqual(len(self.book._known["one"]), MAX_ADDRESSES)

    def test_one_name_again_and_again(self) -> None:
        """A name that says something else each time takes one place."""
        for number in range(10_000):
            self.book.learn("one", (address(number),))
        self.assertEqual(len(self.book._known), 1)

    def test_what_is_gone_is_forgotten(self) -> None:
        """What is announced no more is not offered any more."""
        for number in range(100):
            self.book.learn(f"name {number}", (address(number),))
        for number in range(100):
            self.book.forget(f"name {number}")
        self.clock.advance(2.0)
        self.assertEqual(self.book.offer(), ())

    def test_a_clock_that_goes_back(self) -> None:
        """A clock that jumps, in either direction, opens the rate once and no more."""
        for seconds in (0.0, -100.0, 1e9, -1e9):
            self.clock.rightNow += seconds
            given = sum(len(self.book.learn(f"{seconds} {number}", (address(number),))) for number in range(500))
            self.assertLessEqual(given, HINTS_PER_SECOND)


class EngineHintTests(HostileCase):
    """What a node does with hints and with beacons of its own."""

    def test_ten_thousand_hints(self) -> None:
        """Hints at ten thousand addresses: five beacons each to 256, eight a heartbeat, then silence."""
        node = self.nodes[0]
        sent: list[int] = []
        self.cluster.network.watcher = lambda data, source: (
            sent.append(len(data)) if source == node.address and Header(data).kind == Kind.BEACON else None
        )
        for number in range(10_000):
            node.hint(address(number))
        self.assertLessEqual(len(self.membership(node)._hints), 256)
        self.cluster.run(3.0)
        self.assertLessEqual(len(sent), 13 * (8 + 1))
        self.cluster.run(256 * 5 / 8 * 0.35)
        self.assertEqual(self.membership(node)._hints, {})
        self.cluster.network.watcher = None
        self.assert_goes_on()

    def test_a_hint_at_a_member(self) -> None:
        """A hint at who is known already costs no packet."""
        node = self.nodes[0]
        for other in self.nodes[1:]:
            node.hint(other.address)
        self.assertEqual(self.membership(node)._hints, {})
        self.assert_goes_on()

    def test_beacons_from_ten_thousand_addresses(self) -> None:
        """Beacons of ten thousand nodes that are none fill a table of fixed size; silent ones are no candidates."""
        packets = [
            (number, data)
            for number in range(10_000)
            for data in message_packets(beacon_of(NodeId(f"g{number}", number)), number=number)
        ]
        for number, data in packets:
            self.nodes[0].engine.datagram_received(data, address(number), self.nodes[0].local_now())
        peers = self.membership(self.nodes[0]).peers
        self.assertLessEqual(len(peers._by_node), MAX_STRANGERS + 3)
        self.assertLessEqual(len(peers._by_address), MAX_STRANGERS + 3)
        self.cluster.run(8.0)
        self.assert_goes_on(new_view=True)
