"""Datagrams of every awkward size, of every kind: none, one byte, less than a header, more than any packet has."""

from __future__ import annotations

from groupcomm.limits import MAX_CONTROL_ASSEMBLY_BYTES
from groupcomm.wire.packets import HEADER_BYTES, Kind
from tests.hostile.attacker import LARGEST_DATAGRAM, HostileCase, every_packet

SIZES = (0, 1, HEADER_BYTES - 1, HEADER_BYTES, HEADER_BYTES + 1, 1400, 1401, 8192, 8193, LARGEST_DATAGRAM)


class SizeTests(HostileCase):
    """Well-formed packets cut short, or with bytes behind them."""

    def test_every_kind_at_every_size(self) -> None:
        """Packets of a member, of every kind and size, are taken or counted, and cost one datagram's work each."""
        node = self.nodes[0]
        heard = self.counter(node, "datagrams_received")
        sequence = self.view(node).streams[1].contiguous
        sent = 0
        for kind, whole in every_packet(self.view(node).setup, sender=1, sequence=sequence).items():
            for size in SIZES:
                data = whole[:size] + bytes(max(0, size - len(whole)))
                work = self.feed(node, [data])
                self.assertLess(work.calls, 1500, f"{kind.name} of {size} bytes")
                sent += 1
        self.assertGreaterEqual(self.counter(node, "datagrams_received") - heard, sent)
        self.assert_goes_on(new_view=True)

    def test_headers_without_a_body(self) -> None:
        """A header alone is no packet of any kind but DATA, where it holds no frame, and parts of a message."""
        node = self.nodes[0]
        sequence = self.view(node).streams[1].contiguous
        for kind, whole in every_packet(self.view(node).setup, sender=1, sequence=sequence).items():
            before = self.counter(node, "malformed"), self.counter(node, "duplicates")
            self.feed(node, [whole[:HEADER_BYTES]])
            after = self.counter(node, "malformed"), self.counter(node, "duplicates")
            self.assertEqual(sum(after) - sum(before), 1, kind.name)
        self.assert_goes_on()

    def test_the_largest_datagrams(self) -> None:
        """Five thousand datagrams of 65,507 bytes, as parts of messages that never end, are held within their limit."""
        node = self.nodes[0]
        packet = every_packet(self.view(node).setup, sender=1)[Kind.PLAN]
        for number in range(5000):
            part = number % 50 << 8 | 128
            head = packet[:14] + part.to_bytes(2, "big") + (number // 500).to_bytes(4, "big")
            node.engine.datagram_received(head + bytes(LARGEST_DATAGRAM - len(head)), self.attacker.address, 0.0)
            self.assertLessEqual(self.engine(node)._assembler._size, MAX_CONTROL_ASSEMBLY_BYTES)
        self.assert_goes_on()
