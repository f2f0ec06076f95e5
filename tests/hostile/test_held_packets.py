"""Packets without end in a member's name: what a node holds of a stream is bounded in bytes, whatever they are."""

from __future__ import annotations

from groupcomm.events import Level
from groupcomm.testing.network import Conditions
from groupcomm.wire.packets import FIRST, LAST, Kind
from tests.hostile.attacker import HostileCase, group_frame, view_packet

LARGE = 60_000


class HeldTests(HostileCase):
    """Node ``a`` alone is sent packets in the name of ``b``; nobody else has them, so it may not let go of any."""

    def forge(self, sequence: int, body: bytes = bytes(LARGE), flags: int = FIRST) -> bytes:
        """A packet of ``b`` with that number."""
        return view_packet(self.view(self.nodes[0]), Kind.DATA, body, sender=1, sequence=sequence, flags=flags)

    def flood(self, first: int, count: int = 4000) -> None:
        """So many packets with consecutive numbers, one by one."""
        node = self.nodes[0]
        for number in range(count):
            node.engine.datagram_received(self.forge(first + number), self.nodes[1].address, node.local_now())

    def held(self) -> int:
        """What is really held of the stream."""
        stream = self.view(self.nodes[0]).streams[1]
        return sum(len(stream.packet(number) or b"") for number in stream.held)

    def assert_others_go_on(self) -> None:
        """The node whose stream it was is put out; then everything goes on, and all is let go of."""
        self.nodes[1].crash()
        self.nodes, self.names, self.clients = self.nodes[::2], self.names[::2], self.clients[::2]
        self.assert_goes_on(new_view=True, oracle=False)
        self.assertLess(sum(stream.held_bytes for stream in self.view(self.nodes[0]).streams), 100_000)

    def test_ahead_of_a_gap(self) -> None:
        """Packets beyond a gap are held up to the limit, whatever their size; more are counted as too far ahead."""
        stream = self.view(self.nodes[0]).streams[1]
        self.flood(stream.contiguous + 2)
        self.assertLess(self.held(), stream.hold_limit_bytes + LARGE + 100)
        self.assertEqual(self.held(), stream.held_bytes)
        self.assertGreater(self.counter(self.nodes[0], "too_far_ahead"), 1000)
        self.assert_others_go_on()

    def test_without_a_gap(self) -> None:
        """So are packets that follow each other, up to twice as much."""
        stream = self.view(self.nodes[0]).streams[1]
        self.flood(stream.contiguous + 1)
        self.assertLess(self.held(), 2 * stream.hold_limit_bytes + LARGE + 100)
        self.assertEqual(self.held(), stream.held_bytes)
        self.assertGreater(self.counter(self.nodes[0], "too_far_ahead"), 500)
        self.assert_others_go_on()

    def test_runs(self) -> None:
        """And packets that came at once, of which only what is held is kept."""
        node, view = self.nodes[0], self.view(self.nodes[0])
        stream = view.streams[1]
        first = stream.contiguous + 2
        for begin in range(0, 24_000, 40):
            numbers = [first + begin + offset for offset in range(40)]
            if begin % 80:
                numbers[1], numbers[2] = numbers[2], numbers[1]
            packets = [self.forge(number, bytes(1380)) for number in numbers]
            node.engine.run_received(b"".join(packets), 1400, self.nodes[1].address, node.local_now())
        self.assertGreater(self.held(), stream.hold_limit_bytes / 2)
        self.assertLess(self.held(), stream.hold_limit_bytes + 40 * 1400)
        self.assertEqual(self.held(), stream.held_bytes)
        self.assert_others_go_on()

    def test_frames_passed_on_at_once(self) -> None:
        """Placed frames in the sequencer's name, which are delivered as they come, are held within the same limit."""
        node = self.nodes[2]
        view = self.view(node)
        stream = view.streams[0]
        first, position = stream.contiguous + 1, view.position
        for number in range(int(3 * stream.hold_limit_bytes) // LARGE):
            body = (position + 1 + number).to_bytes(4, "big") + group_frame(data=bytes(LARGE), group="none")
            data = view_packet(view, Kind.DATA, body, sender=0, sequence=first + number, flags=FIRST | LAST | 4)
            node.engine.datagram_received(data, self.nodes[0].address, node.local_now())
        self.assertLess(stream.held_bytes, 2 * stream.hold_limit_bytes + LARGE + 100)
        self.assertGreater(self.counter(node, "too_far_ahead"), 100)

    def test_large_messages_are_held(self) -> None:
        """Honest streams stay far below: large messages of all nodes at once, with loss, are all taken in."""
        self.cluster.network.conditions = Conditions(loss_probability=0.02)
        for client in self.clients:
            for number in range(3):
                client.send("chat", bytes(1_000_000 + number), level=Level.FIFO)
        self.cluster.run(10.0)
        self.assertEqual([len(client.messages("chat")) for client in self.clients], [9] * 3)
        self.assertEqual([self.counter(node, "too_far_ahead") for node in self.nodes], [0] * 3)
