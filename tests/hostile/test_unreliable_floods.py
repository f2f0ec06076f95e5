"""Unreliable messages without end, with every number there is: what comes is delivered once, and nothing is kept."""

from __future__ import annotations

from groupcomm.events import Level
from groupcomm.wire.packets import Kind
from tests.hostile.attacker import HostileCase, group_frame, view_packet

HALF = 1 << 31


class UnreliableFloodTests(HostileCase):
    """In the name of ``b``, from whose own address they come."""

    def forge(self, sequence: int, body: bytes | None = None) -> bytes:
        """An unreliable message with that number."""
        frame = group_frame(data=b"%d" % sequence, level=Level.UNRELIABLE) if body is None else body
        return view_packet(self.view(self.nodes[0]), Kind.UNRELIABLE, frame, sender=1, sequence=sequence)

    def test_a_flood(self) -> None:
        """Twenty thousand messages, each twice: each is delivered once at most, the rest of the traffic goes on."""
        for begin in range(1, 20_001, 50):
            for sequence in range(begin, begin + 50):
                self.attacker.send(self.forge(sequence), self.nodes[0])
                self.attacker.send(self.forge(sequence), self.nodes[0])
            if begin % 1000 == 1:
                self.clients[2].send("chat", b"between")
            self.cluster.run(0.001)
            self.assertLessEqual(len(self.view(self.nodes[0]).unreliable), 64)
        self.cluster.run(0.1)
        got = self.clients[0].messages("chat")
        self.assertEqual(len([data for data in got if data == b"between"]), 20)
        forged = [data for data in got if data != b"between"]
        self.assertEqual(len(forged), len(set(forged)))
        self.assert_goes_on(oracle=False)

    def test_numbers(self) -> None:
        """Numbers far ahead and behind are kept in a window of fixed size; what is no frame does not move it."""
        node = self.nodes[0]
        unreliable = self.view(node)._unreliable
        before = self.counter(node, "malformed")
        self.feed(node, [self.forge(HALF - 1, b"\7broken"), self.forge(HALF - 1, group_frame()), self.forge(9, b"")])
        self.assertEqual(self.counter(node, "malformed") - before, 3)
        self.assertEqual(unreliable._seen[1], (0, 0))
        for sequence in (1, 5, 3, 5, 1000, 900, HALF - 1, HALF, 5, (1 << 32) - 1, 0, 1):
            self.feed(node, [self.forge(sequence)])
            self.assertLess(unreliable._seen[1][1].bit_length(), 1025)
        self.assertEqual(self.counter(node, "duplicates"), 2)
        self.assert_goes_on(oracle=False)

    def test_a_number_in_the_name_of_another(self) -> None:
        """A number far ahead in a member's name: its own unreliable messages are lost in this view, all others come.

        An insider can do that; nothing is promised of unreliable messages, and the next view counts anew.
        """
        self.attacker.send(self.forge(HALF - 1), self.nodes[0])
        self.cluster.run(0.1)
        self.clients[1].send("chat", b"lost here", level=Level.UNRELIABLE)
        self.cluster.run(0.1)
        self.assertNotIn(b"lost here", self.clients[0].messages("chat"))
        self.assertIn(b"lost here", self.clients[2].messages("chat"))
        self.assert_goes_on(oracle=False)

    def test_levels_that_do_not_belong_there(self) -> None:
        """A reliable frame outside the stream, and an unreliable one inside, are violations."""
        node, before = self.nodes[0], self.counter(self.nodes[0], "malformed")
        for number, level in enumerate(Level):
            if level is not Level.UNRELIABLE:
                self.attacker.send(self.forge(number + 1, group_frame(level=level)), node)
        self.cluster.run(0.1)
        self.assertEqual(self.counter(node, "malformed") - before, len(Level) - 1)
        self.assert_goes_on()
