"""STAMP, HANDOVER, TAKE and GRANT from a member that is not the sequencer, in its own stream, where all read them."""

from __future__ import annotations

from groupcomm.limits import MAX_ASKS, MAX_NODES, MAX_UNREAD_STAMPS
from groupcomm.ordering.release import Release
from groupcomm.ordering.sequencer import Sequencing
from groupcomm.ordering.slots import Slots
from groupcomm.testing.node import SimulatedNode
from groupcomm.wire.packets import Ask, Grant, Handover, Kind, Stamp, StampRun, Take
from tests.hostile.attacker import HostileCase


class FalseSequencerTests(HostileCase):
    """Node ``a`` is the sequencer; ``b`` is a member that says what only the sequencer may."""

    def say(self, kind: Kind, body: bytes, times: int = 1) -> None:
        """Node ``b`` puts packets into its stream."""
        view = self.view(self.nodes[1])

        def emit() -> None:
            for _ in range(times):
                view._emit(kind, body)
            view._advance(self.index(self.nodes[1]))

        self.nodes[1].command(lambda engine, now: emit())
        self.cluster.run(0.05)

    def violations(self, node: SimulatedNode) -> int:
        """How often others were found to break the protocol."""
        return self.view(node)._sequencing.violations + self.counter(node, "peer_violations")

    def test_stamps(self) -> None:
        """Stamps place nothing, are counted, and are not kept."""
        before = self.violations(self.nodes[0])
        self.say(Kind.STAMP, Stamp(1, (StampRun(1, 1, 1),) * 300).encode(), times=200)
        self.assertEqual(self.violations(self.nodes[0]) - before, 200)
        self.assertEqual(len(self.view(self.nodes[0])._sequencing._records[1]), 0)
        self.assert_goes_on()

    def test_a_handover(self) -> None:
        """A role that is not one's own cannot be handed on."""
        for to in (0, 1, 2, MAX_NODES):
            self.say(Kind.HANDOVER, Handover(self.view(self.nodes[0]).position, to).encode())
        self.assertEqual({self.view(node).sequencer for node in self.nodes}, {0})
        self.assert_goes_on()

    def test_a_take(self) -> None:
        """Nobody takes a role that was not handed to it; the stamps that follow place nothing."""
        position = self.view(self.nodes[0]).position
        self.say(Kind.TAKE, Take(position + 1).encode())
        self.say(Kind.STAMP, Stamp(position + 1, (StampRun(1, 1, 1),)).encode())
        self.assertEqual({self.view(node).sequencer for node in self.nodes}, {0})
        self.assert_goes_on()

    def test_grants(self) -> None:
        """Slots that another gives are counted and given to nobody; the sequencer goes on giving them."""
        for to in range(3):
            self.say(Kind.GRANT, Grant(to, (1 << 64) - 1).encode())
        self.assertFalse(self.view(self.nodes[0])._slots.in_use)
        self.clients[0].send("chat", bytes(3_000_000))
        self.clients[2].send("chat", bytes(3_000_001))
        self.cluster.run(5.0)
        self.assertEqual([len(client.messages("chat")) for client in self.clients], [2, 2, 2])
        self.assert_goes_on()

    def test_asks(self) -> None:
        """A flood of asks by one node pushes out no ask of another, and in the end all large messages come."""
        view = self.view(self.nodes[0])
        self.say(Kind.ASK, Ask(1 << 23).encode(), times=2000)
        self.clients[2].send("chat", bytes(3_000_000))
        self.cluster.run(0.5)
        asks = view._slots._asks
        self.assertLessEqual(sum(1 for node, _ in asks if node == 1), MAX_ASKS)
        self.nodes[1].crash()
        self.cluster.run(5.0)
        self.assertEqual(len(self.clients[0].messages("chat")), 1)


class BoundTests(HostileCase):
    """What is kept of those who may be the next sequencer."""

    def test_unread_stamps_are_bounded(self) -> None:
        """After its take a node's stamps wait for the hand-over, up to a number of runs; more are violations."""
        sequencing = Sequencing(2, 0, Release(2, 0))
        sequencing.record_came(1, 1, Take(1))
        stamp = Stamp(1, (StampRun(1, 1, 1),) * 2048)
        for number in range(2, 2000):
            sequencing.record_came(1, number, stamp)
        self.assertLessEqual(sequencing._unread, MAX_UNREAD_STAMPS + 2049)
        self.assertGreater(sequencing.violations, 1000)

    def test_what_was_read_counts_no_more(self) -> None:
        """The stamps of the sequencer itself are read and take nothing from the bound, however many there are."""
        sequencing = Sequencing(2, 0, Release(2, 0))
        for position in range(1, 3000):
            sequencing.record_came(0, position, Stamp(position, (StampRun(1, 1, 1),)))
            sequencing.read()
        self.assertEqual((sequencing._unread, sequencing.violations), (0, 0))

    def test_asks_of_one_node(self) -> None:
        """Of the asks of one node the latest are kept, beside those of all others."""
        slots = Slots(1)
        slots.asked(0, 1)
        for ask in range(1, 10 * MAX_ASKS):
            slots.asked(1, ask)
        self.assertEqual(slots.next_grant(), (0, 1))
        self.assertEqual(list(slots._asks)[1:], [(1, 9 * MAX_ASKS + at) for at in range(MAX_ASKS)])
