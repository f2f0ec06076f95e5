"""Packet numbers far ahead, far behind, and where 32 bits end."""

from __future__ import annotations

from attrs import evolve

from groupcomm.config import EngineConfig
from groupcomm.limits import MAX_MISSING, MAX_REPAIR_PACKETS
from groupcomm.wire.packets import FIRST, LAST, Kind, Status, StatusEntry, Tail
from tests.hostile.attacker import HostileCase, group_frame, view_packet

HALF = 1 << 31
WHOLE = 1 << 32


class NumberTests(HostileCase):
    """In the name of a member."""

    def forge(self, sequence: int) -> bytes:
        """A packet of ``b`` with that number."""
        return view_packet(
            self.view(self.nodes[0]), Kind.DATA, group_frame(), sender=1, sequence=sequence, flags=FIRST | LAST
        )

    def test_far_ahead(self) -> None:
        """Numbers beyond what can be under way are counted, held nowhere and asked for by nobody."""
        node, view = self.nodes[0], self.view(self.nodes[0])
        stream = view.streams[1]
        limit = stream._ahead_limit
        nacks, held = self.counter(node, "nacks_sent"), len(stream.held)
        for ahead in (limit + 1, limit + 2, HALF - 1, HALF, HALF + 1, WHOLE - 1000):
            self.attacker.send(self.forge(stream.contiguous + ahead), node)
        self.cluster.run(1.0)
        counted = self.counter(node, "too_far_ahead") + self.counter(node, "duplicates")
        self.assertGreaterEqual(counted, 6)
        self.assertEqual(self.counter(node, "nacks_sent"), nacks)
        self.assertEqual(len(stream.held), held)
        self.assert_goes_on()

    def test_behind(self) -> None:
        """Numbers that have come already are duplicates: what they carry reaches nobody."""
        node, view = self.nodes[0], self.view(self.nodes[0])
        self.assert_goes_on()
        before = self.counter(node, "duplicates"), [client.messages() for client in self.clients]
        for number in range(1, view.streams[1].contiguous + 1):
            self.attacker.send(self.forge(number), node)
        self.cluster.run(1.0)
        self.assertEqual(self.counter(node, "duplicates") - before[0], view.streams[1].contiguous)
        self.assertEqual([client.messages() for client in self.clients], before[1])
        self.assert_goes_on()

    def test_the_farthest_that_is_believed(self) -> None:
        """One packet as far ahead as may be makes a node ask for what never was: rarely, and for a bounded number."""
        node, view = self.nodes[0], self.view(self.nodes[0])
        stream = view.streams[1]
        self.attacker.send(self.forge(stream.contiguous + stream._ahead_limit), node)
        self.cluster.run(2.0)
        before = self.counter(node, "nacks_sent")
        self.cluster.run(10.0)
        self.assertEqual(stream.missing_count, MAX_MISSING)
        asked = (self.counter(node, "nacks_sent") - before) / 10.0
        self.assertLess(asked, 2 * MAX_MISSING / MAX_REPAIR_PACKETS / (8 * 0.002))

    def test_a_tail_and_reports_of_what_never_was(self) -> None:
        """TAIL and STATUS that name packets nobody sent are malformed beyond 2**31, and bounded below."""
        node, view = self.nodes[0], self.view(self.nodes[0])
        before = self.counter(node, "malformed")
        for more in (HALF + 1, WHOLE, (1 << 62)):
            highest = view.streams[1].highest + more
            self.attacker.send(view_packet(view, Kind.TAIL, Tail(highest, 0).encode(), sender=1), node)
            for index, stream in enumerate(view.streams):
                status = Status(1 << 25, (StatusEntry(index, stream.highest + more, 0),))
                self.attacker.send(view_packet(view, Kind.STATUS, status.encode(), sender=1), node)
        self.cluster.run(1.0)
        self.assertEqual(self.counter(node, "malformed") - before, 12)
        self.assertEqual([stream.missing_count for stream in view.streams], [0, 0, 0])
        self.assert_goes_on()


class WrapTests(NumberTests):
    """The same where the numbers of the streams pass 2**32."""

    config = evolve(EngineConfig(), first_packet_number=WHOLE - 3)

    def test_behind(self) -> None:
        """Numbers of before the wrap are duplicates behind it; what they carry reaches nobody."""
        node, view = self.nodes[0], self.view(self.nodes[0])
        self.assert_goes_on()
        self.assert_goes_on()
        self.assertGreater(view.streams[1].contiguous, WHOLE)
        before = self.counter(node, "duplicates"), [client.messages() for client in self.clients]
        for number in range(WHOLE - 20, view.streams[1].contiguous + 1):
            self.attacker.send(self.forge(number), node)
        self.cluster.run(1.0)
        self.assertEqual(self.counter(node, "duplicates") - before[0], view.streams[1].contiguous - WHOLE + 21)
        self.assertEqual([client.messages() for client in self.clients], before[1])
        self.assert_goes_on()
