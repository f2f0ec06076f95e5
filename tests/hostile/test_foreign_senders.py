"""Every kind of packet from somebody who is no member, who was one, and who says to be another member."""

from __future__ import annotations

from groupcomm.wire.packets import LAST_NUMBERED, LAST_OF_VIEW, Kind
from tests.hostile.attacker import HostileCase, every_packet

OF_THE_VIEW = [kind for kind in Kind if kind <= LAST_OF_VIEW]
NUMBERED = [kind for kind in Kind if kind <= LAST_NUMBERED]


class NoMemberTests(HostileCase):
    """Somebody who is in no view, or in none any more."""

    def test_an_index_beyond_the_view(self) -> None:
        """Packets of the view from an index that nobody has are counted one by one and change nothing."""
        node = self.nodes[0]
        before = self.counter(node, "malformed")
        for sender in (len(self.nodes), 511, 512, 0xFFFF):
            packets = every_packet(self.view(node).setup, sender=sender, sequence=1)
            for kind in OF_THE_VIEW:
                self.attacker.send(packets[kind], node)
        self.cluster.run(1.0)
        self.assertEqual(self.counter(node, "malformed") - before, 4 * len(OF_THE_VIEW))
        self.assert_goes_on()

    def test_a_former_member(self) -> None:
        """What a node that has left says in the view it was in is counted as foreign, kind by kind."""
        old = self.view(self.nodes[0])
        self.nodes[2].leave()
        self.cluster.run(5.0)
        gone, self.nodes, self.names = self.nodes[2], self.nodes[:2], self.names[:2]
        self.clients = self.clients[:2]
        node = self.nodes[0]
        before = self.counter(node, "foreign_view")
        for kind, data in every_packet(old.setup, sender=2, sequence=old.streams[2].highest + 1).items():
            if kind in OF_THE_VIEW:
                self.attacker.send(data, node, source=gone.address)
        self.cluster.run(1.0)
        self.assertEqual(self.counter(node, "foreign_view") - before, len(OF_THE_VIEW))
        self.assert_goes_on()

    def test_a_killed_member(self) -> None:
        """What comes in the name of a node that was put out makes nobody deliver anything, and lets nobody in."""
        old = self.view(self.nodes[0])
        self.nodes[2].crash()
        self.cluster.run(5.0)
        gone, self.nodes, self.names = self.nodes[2], self.nodes[:2], self.names[:2]
        self.clients = self.clients[:2]
        before = self.views()
        for data in every_packet(old.setup, sender=2, sequence=old.streams[2].highest + 1).values():
            self.attacker.send(data, self.nodes[0], source=gone.address)
            self.cluster.run(0.01)
        self.cluster.run(5.0)
        self.assertEqual(self.clients[0].messages("chat"), [])
        self.assertEqual(self.nodes[0].status().members, tuple(node.identity for node in self.nodes))
        self.assertEqual(self.views(), before)
        self.assert_goes_on()


class ImpostorTests(HostileCase):
    """Somebody who speaks in the name of a member, from elsewhere and from its address."""

    def test_a_node_does_not_hear_itself(self) -> None:
        """Packets in a node's own name do nothing to it."""
        node = self.nodes[0]
        stream = self.view(node).streams[self.index(node)]
        before = stream.highest, stream.contiguous
        packets = every_packet(self.view(node).setup, sender=self.index(node), sequence=stream.highest + 1)
        for kind in OF_THE_VIEW:
            self.attacker.send(packets[kind], node, source=node.address)
        self.cluster.run(1.0)
        self.assertEqual((stream.highest, stream.contiguous), before)
        self.assert_goes_on()

    def test_kinds_beside_the_stream(self) -> None:
        """NACK, STATUS, TAIL and SUMMARY in a member's name, thirty of each a second, hinder nobody."""
        kinds = (Kind.NACK, Kind.STATUS, Kind.TAIL, Kind.SUMMARY)
        for _ in range(30):
            for node in self.nodes:
                other = self.nodes[(self.index(node) + 1) % 3]
                packets = every_packet(self.view(node).setup, sender=self.index(other))
                for kind in kinds:
                    self.attacker.send(packets[kind], node, source=other.address)
            self.cluster.run(0.03)
        self.assert_goes_on()

    def test_kinds_of_the_cluster(self) -> None:
        """Membership messages in a member's name: a change of view at most, and all are in it in the end."""
        for kind, data in every_packet(self.view(self.nodes[0]).setup, sender=1).items():
            if kind > LAST_OF_VIEW:
                self.attacker.send(data, source=self.nodes[1].address)
                self.cluster.run(0.2)
        self.assert_goes_on(new_view=True)

    def test_packets_of_a_stream(self) -> None:
        """A packet of each kind forged in a member's stream: the view may stall; the next one, without it, goes on.

        This is what an insider can do: the forged packets are what the stream is from then on.
        """
        for kind in NUMBERED:
            with self.subTest(kind=kind.name):
                self.setUp()
                node = self.nodes[0]
                sequence = self.view(node).streams[1].highest + 1
                self.attacker.send(every_packet(self.view(node).setup, sender=1, sequence=sequence)[kind])
                self.cluster.run(0.5)
                for one in self.nodes:
                    self.engine(one).check_invariants()
                    self.assert_bounded(one)
                self.nodes[1].crash()
                self.nodes, self.names, self.clients = self.nodes[::2], self.names[::2], self.clients[::2]
                self.assert_goes_on(new_view=True, oracle=False)
                self.names = type(self).names
