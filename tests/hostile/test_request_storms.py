"""NACK for everything, again and again, from many: repairs are capped for each packet, each asker and altogether."""

from __future__ import annotations

from groupcomm.limits import MAX_NACK_RANGES, MAX_REPAIR_PACKETS
from groupcomm.testing.network import Conditions
from groupcomm.testing.node import SimulatedNode
from groupcomm.wire.packets import Kind, Nack, Range
from tests.hostile.attacker import HostileCase, view_packet


class RequestStormTests(HostileCase):
    """Node ``c`` hears nothing of ``a`` for a while, so that its packets are held; then everybody asks for them."""

    names = ("a", "b", "c")

    def setUp(self) -> None:
        super().setUp()
        self.cluster.cut("a", "c")
        for number in range(40):
            self.clients[0].send("chat", b"%d" % number + bytes(1300))
        self.cluster.run(0.001)
        self.held = len(self.view(self.nodes[0]).streams[0].held)
        self.assertGreater(self.held, 30)

    def ask(self, asker: int, ranges: tuple[Range, ...], *, asked: int = 0, stream: int = 0) -> bytes:
        """A request in the name of a member."""
        return view_packet(self.view(self.nodes[0]), Kind.NACK, Nack(stream, asked, ranges).encode(), sender=asker)

    def repairs(self, node: SimulatedNode) -> int:
        """Packets that a node has sent again."""
        return self.counter(node, "repairs_sent") + self.counter(node, "repairs_for_others")

    def test_each_packet_once_in_a_round_trip(self) -> None:
        """However often a packet is asked for, it is sent again once per round trip."""
        node, before = self.nodes[0], self.repairs(self.nodes[0])
        everything = (Range(1, 1 << 20),)
        trip = min(rtt.or_initial for rtt in self.view(node)._rtts[1:])
        begun = self.cluster.now
        for _ in range(500):
            for asker in (1, 2):
                self.attacker.send(self.ask(asker, everything), node)
            self.cluster.run(0.0001)
        trips = (self.cluster.now - begun) / trip + 1
        self.assertLess(self.repairs(node) - before, 2 * self.held * trips)
        self.cluster.restore("a", "c")
        self.assert_goes_on()

    def test_the_budget(self) -> None:
        """All repairs together stay within the budget: half of the window for each round trip, and one burst."""
        node, view = self.nodes[0], self.view(self.nodes[0])
        before, begun = self.repairs(node), self.cluster.now
        for _ in range(500):
            self.attacker.send(self.ask(2, (Range(1, 1 << 20),)), node)
            self.cluster.run(0.001)
        size = 1300
        trip = max(0.001, min(rtt.or_initial for rtt in view._rtts[1:]))
        budget = max(view.window.grant_bytes / 2, 64 * 1024) / trip * (self.cluster.now - begun) + 128 * 1024
        self.assertLess((self.repairs(node) - before) * size, budget)
        self.cluster.restore("a", "c")
        self.assert_goes_on()

    def test_one_request(self) -> None:
        """One request pulls a bounded number of packets, however many ranges it names and however they overlap."""
        node = self.nodes[0]
        view = self.view(node)
        overlapping = (Range(1, 1 << 30), *[Range(1 << 30, 1 << 30)] * (MAX_NACK_RANGES - 1))
        work = self.feed(node, [self.ask(1, overlapping)])
        self.assertLessEqual(len(view._repairs._asked), MAX_REPAIR_PACKETS)
        self.assertLess(work.calls, 10 * MAX_REPAIR_PACKETS)
        self.cluster.restore("a", "c")
        self.assert_goes_on()

    def test_work_of_a_useless_request(self) -> None:
        """Requests for packets that never were are answered with nothing, at the cost of a look for 256 packets."""
        node, before = self.nodes[0], self.repairs(self.nodes[0])
        packets = [self.ask(1, (Range(1 << 40, (1 << 40) + (1 << 32)),)) for _ in range(100)]
        work = self.feed(node, packets)
        self.assertEqual(self.repairs(node), before)
        self.assertLess(work.calls / 100, 3 * MAX_REPAIR_PACKETS)
        self.cluster.restore("a", "c")
        self.assert_goes_on()

    def test_streams_and_nodes_that_are_not_there(self) -> None:
        """Requests for a stream, or to a node, that is not in the view are malformed."""
        node, before = self.nodes[0], self.counter(self.nodes[0], "malformed")
        for stream, asked in ((3, 0), (512, 0), (0, 3), (0, 512)):
            self.attacker.send(self.ask(1, (Range(1, 2),), stream=stream, asked=asked), node)
        self.cluster.run(0.001)
        self.assertEqual(self.counter(node, "malformed") - before, 4)
        self.cluster.restore("a", "c")
        self.assert_goes_on()

    def test_more_ranges_than_allowed(self) -> None:
        """A request of 64 ranges is read; one more is malformed."""
        node, before = self.nodes[0], self.counter(self.nodes[0], "malformed")
        for count, malformed in ((MAX_NACK_RANGES, 0), (MAX_NACK_RANGES + 1, 1)):
            ranges = tuple(Range(2 * at, 2 * at) for at in range(1, count + 1))
            self.attacker.send(self.ask(1, ranges), node)
            self.cluster.run(0.001)
            self.assertEqual(self.counter(node, "malformed") - before, malformed)
        self.cluster.restore("a", "c")
        self.assert_goes_on()


class PuttingOffTests(HostileCase):
    """Node ``c`` lacks something on a network where a round trip takes ten milliseconds."""

    conditions = Conditions(delay_seconds=0.005)

    def test_requests_that_put_off_ours(self) -> None:
        """Requests of others for what a node lacks keep it from asking for a second at most, however many come."""
        for client in self.clients * 5:
            self.rounds += 1
            client.send("chat", b"so that round trips are measured, %d" % self.rounds)
            self.cluster.run(0.2)
        self.cluster.cut("a", "c")
        self.clients[0].send("chat", b"lost")
        self.cluster.run(0.05)
        self.cluster.restore("a", "c")
        missing = self.view(self.nodes[2]).streams[0]
        for _ in range(2000):
            first = missing.contiguous + 1
            nack = Nack(0, 0, (Range(first, first + 300),)).encode()
            self.attacker.send(view_packet(self.view(self.nodes[2]), Kind.NACK, nack, sender=1), self.nodes[2])
            self.cluster.run(0.001)
        self.assertIn(b"lost", self.clients[2].messages("chat"))
        self.assert_goes_on()

    def test_work_of_a_request_to_others(self) -> None:
        """A request that is for another, with as many ranges as it may have, costs the look for 256 packets."""
        node = self.nodes[2]
        stream = self.view(node).streams[0]
        first = stream.contiguous + 1
        ranges = tuple(Range(first + 10_000 * at, first + 10_000 * at + 9_000) for at in range(64))
        stream.announce(first + 1000, node.local_now(), 1.0)
        before = dict(stream._missing)
        self.feed(node, [view_packet(self.view(node), Kind.NACK, Nack(0, 1, ranges).encode(), sender=1)])
        changed = [number for number, gap in stream._missing.items() if before.get(number) != gap]
        self.assertLessEqual(len(changed), MAX_REPAIR_PACKETS)
