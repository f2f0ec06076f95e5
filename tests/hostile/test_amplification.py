"""Amplification: small questions under a victim's address, large answers to it."""

from __future__ import annotations

from attrs import evolve

from groupcomm.identity import NodeId
from groupcomm.limits import MAX_ANSWERS_PER_SECOND, MAX_NODE_NAME_BYTES
from groupcomm.outputs import Address
from groupcomm.wire.messages import Probe, Who
from groupcomm.wire.packets import LAST_OF_VIEW, WANTS_STATUS, Kind, Nack, Range, Status, Tail
from tests.hostile.attacker import (
    GHOST,
    HostileCase,
    beacon_of,
    every_packet,
    join_of,
    message_packets,
    view_packet,
)

VICTIM: Address = ("192.168.7.7", 53)


class VictimCase(HostileCase):
    """Somebody outside, in whose name packets are sent to a node."""

    def setUp(self) -> None:
        super().setUp()
        self.victim_bytes = self.all_bytes = 0
        self.cluster.network.observer = self.observe
        self.cluster.network.watcher = self.overhear

    def observe(self, fate: str, source: Address, receiver: Address, data: bytes) -> None:
        """What became of a copy."""
        if receiver == VICTIM:
            self.victim_bytes += len(data)

    def overhear(self, data: bytes, source: Address) -> None:
        """What nodes send."""
        if source in {node.address for node in self.nodes}:
            self.all_bytes += len(data)

    def ratio(self, packets: list[bytes]) -> float:
        """How many bytes the victim gets for each that is sent in its name."""
        before = self.victim_bytes
        for data in packets:
            self.attacker.send(data, self.nodes[0], source=VICTIM)
            self.cluster.run(0.01)
        return (self.victim_bytes - before) / sum(map(len, packets))


class StrangerTests(VictimCase):
    """Packets that anybody can make who knows the name of the cluster."""

    def test_every_kind(self) -> None:
        """No well-formed packet of any kind gets the victim more bytes than it has itself."""
        setup, streams = self.view(self.nodes[0]).setup, self.view(self.nodes[0]).streams
        for kind, data in every_packet(setup, sender=1, sequence=streams[1].contiguous).items():
            self.assertLessEqual(self.ratio([data]), 1.0, kind.name)
        self.assert_goes_on(new_view=True, oracle=False)

    def test_another_cluster(self) -> None:
        """Packets of another cluster, of another version and broken ones get no answer at all."""
        setup = self.view(self.nodes[0]).setup
        packets = message_packets(evolve(beacon_of(GHOST), reply=True), cluster="other")
        packets += [b"\x02" + data[1:] for data in every_packet(setup, sender=1).values()]
        packets += [data[:-1] for kind, data in every_packet(setup, sender=1).items() if kind > LAST_OF_VIEW]
        self.assertEqual(self.ratio(packets), 0.0)
        self.assert_goes_on()

    def test_probes(self) -> None:
        """An answer to a probe is as large as the probe but for the node's name."""
        (probe,) = message_packets(Probe(GHOST, 1))
        answer = self.ratio([probe]) * len(probe)
        self.assertLessEqual(answer, len(probe) + MAX_NODE_NAME_BYTES - 1)
        self.assert_goes_on()

    def test_questions_are_answered_so_often(self) -> None:
        """Ten thousand questions a second for beacons: so many are answered, the others counted."""
        packets = message_packets(evolve(beacon_of(GHOST), reply=True))
        before = self.victim_bytes
        begun = self.cluster.now
        for _ in range(2000):
            for data in packets * 10:
                self.nodes[0].engine.datagram_received(data, VICTIM, self.nodes[0].local_now())
            self.cluster.run(0.001)
        answers = (self.cluster.now - begun + 1) * MAX_ANSWERS_PER_SECOND
        size = 200
        self.assertLessEqual(self.victim_bytes - before, answers * size)
        self.assertGreater(self.counter(self.nodes[0], "unanswered"), 10_000)
        self.cluster.run(10.0)
        self.assert_goes_on(new_view=True)

    def test_names_of_candidates(self) -> None:
        """The long list of candidates is an answer like any other: it goes out so often, whoever asks."""
        ghosts = [NodeId(f"{number:03}" + "x" * 50, 1) for number in range(300)]
        for data in message_packets(join_of(GHOST, [*self.identities, *ghosts], attempt=10)):
            self.attacker.send(data)
        self.cluster.run(0.1)
        join = self.membership(self.nodes[0])._last_join
        assert join is not None and join.candidates is not None
        self.assertGreater(join.count, 300)
        asked = message_packets(Who(GHOST, join.listed)) + message_packets(
            evolve(join_of(GHOST, self.identities, attempt=1), asks=True)
        )
        sent = self.counter(self.nodes[0], "unanswered")
        for data in asked * 5000:
            self.nodes[0].engine.datagram_received(data, VICTIM, self.nodes[0].local_now())
        self.cluster.run(0.01)
        whole = len(join.encode()) + 2000
        self.assertLessEqual(self.victim_bytes, (MAX_ANSWERS_PER_SECOND + 20) * whole)
        self.assertGreater(self.counter(self.nodes[0], "unanswered") - sent, 5000)
        self.cluster.run(20.0)
        self.assert_goes_on(new_view=True)


class InsiderTests(VictimCase):
    """Packets that only a member can make: what they pull goes to members, and is capped."""

    def test_nothing_goes_to_the_source(self) -> None:
        """Requests, reports and tails under the victim's address are answered to the member they name, or to all."""
        view = self.view(self.nodes[0])
        for number in range(50):
            self.clients[0].send("chat", b"%d" % number + bytes(1000))
        packets = [
            view_packet(view, Kind.NACK, Nack(0, 0, (Range(1, 1 << 20),)).encode(), sender=1),
            view_packet(view, Kind.STATUS, Status(0, ()).encode(), sender=1, flags=WANTS_STATUS),
            view_packet(view, Kind.TAIL, Tail(view.streams[1].highest, 7).encode(), sender=1),
        ]
        self.assertEqual(self.ratio(packets), 0.0)
        self.assert_goes_on()

    def test_all_that_a_node_sends(self) -> None:
        """Two seconds of requests, reports and tails, two thousand each: the node sends no more than its caps allow."""
        view = self.view(self.nodes[0])
        self.cluster.run(2.0)
        before = self.all_bytes
        for _ in range(2000):
            highest = view.streams[1].highest
            for data in (
                view_packet(view, Kind.NACK, Nack(0, 0, (Range(1, 1 << 20),)).encode(), sender=1),
                view_packet(view, Kind.STATUS, Status(1 << 25, ()).encode(), sender=1, flags=WANTS_STATUS),
                view_packet(view, Kind.TAIL, Tail(highest, 7).encode(), sender=1),
            ):
                self.attacker.send(data, self.nodes[0], source=self.nodes[1].address)
            self.cluster.run(0.001)
        reports = 2.0 / self.config.timing.prompt * 40
        self.assertLess(self.all_bytes - before, 3 * reports)
        self.assert_goes_on()
