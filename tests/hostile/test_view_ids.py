"""View-id exhaustion: packets that name the largest epochs and attempts there are, so that none come after them."""

from __future__ import annotations

from groupcomm.identity import NodeId, ViewId
from groupcomm.limits import MAX_EPOCH, MAX_STEP
from groupcomm.wire.messages import Recover
from tests.hostile.attacker import GHOST, HostileCase, beacon_of, join_of, message_packets

LAST_NUMBER = (1 << 64) - 1


class EpochTests(HostileCase):
    """Epochs, which make view ids."""

    def say(self, epoch: int) -> None:
        """A stranger's beacon names an epoch."""
        for data in message_packets(beacon_of(GHOST, None, 0, epoch), number=epoch & 0xFFFF):
            self.attacker.send(data)
        self.cluster.run(0.001)

    def test_the_last_epoch(self) -> None:
        """An epoch at the end of the number space raises that of a node by one step, and is counted."""
        self.say(LAST_NUMBER)
        for node in self.nodes:
            self.assertEqual(self.membership(node).epoch, MAX_EPOCH + MAX_STEP)
            self.assertEqual(self.counter(node, "refused_epoch"), 1)

    def test_step_by_step(self) -> None:
        """A flood of packets, each as far ahead as is believed, leaves nearly the whole number space to real views."""
        for _ in range(1000):
            self.say(self.membership(self.nodes[0]).epoch + MAX_STEP)
        self.assertLess(self.membership(self.nodes[0]).epoch, MAX_EPOCH + 1001 * MAX_STEP)
        self.assertEqual(self.counter(self.nodes[0], "refused_epoch"), 0)
        self.nodes[2].crash()
        self.nodes, self.names, self.clients = self.nodes[:2], self.names[:2], self.clients[:2]
        self.assert_goes_on(new_view=True)

    def test_newcomers_after_the_attack(self) -> None:
        """A node that starts when the others were driven many steps ahead catches up with them and comes in."""
        for _ in range(20):
            self.say(LAST_NUMBER)
        self.cluster.run(2.0)
        lowest = self.cluster.add_node("A")
        self.cluster.run_until(lambda: self.cluster.converged(("A", *self.names)), 20.0)
        view = lowest.status().view
        assert view is not None
        self.assertGreater(view.epoch, MAX_EPOCH + 20 * MAX_STEP)

    def test_a_proposal_too_far_ahead(self) -> None:
        """A proposal with an epoch that is not believed is not answered: no view with the largest id is ever formed."""
        members = self.identities
        self.nodes[2].leave()
        self.cluster.run(0.02)
        for node in self.nodes[:2]:
            gather = self.membership(node)._gather
            assert gather is not None
            recover = Recover(ViewId(LAST_NUMBER, members[0]), gather.attempt, self.membership(node)._agreed, members)
            for data in message_packets(recover):
                self.attacker.send(data, node)
        self.cluster.run(5.0)
        for node in self.nodes[:2]:
            view = node.status().view
            assert view is not None
            self.assertLess(view.epoch, MAX_EPOCH + 3 * MAX_STEP)


class AttemptTests(HostileCase):
    """Attempts, which order changes."""

    def test_the_last_attempt(self) -> None:
        """A JOIN with the last attempt there is begins no change; the changes after it are agreed as ever."""
        for data in message_packets(join_of(GHOST, self.identities, attempt=LAST_NUMBER)):
            self.attacker.send(data)
        before = self.views()
        self.cluster.run(2.0)
        self.assertEqual(self.views(), before)
        for node in self.nodes:
            self.assertEqual(self.counter(node, "refused_attempt"), 1)
        self.nodes[2].crash()
        self.nodes, self.names, self.clients = self.nodes[:2], self.names[:2], self.clients[:2]
        self.assert_goes_on(new_view=True)

    def test_one_node_driven_ahead(self) -> None:
        """A node that alone was driven many steps ahead still agrees with the others on the next view."""
        for number in range(20):
            for data in message_packets(join_of(GHOST, (), attempt=LAST_NUMBER), number=number):
                self.attacker.send(data, self.nodes[1])
            self.cluster.run(0.001)
        self.assertGreater(self.membership(self.nodes[1])._attempt, 19 * MAX_STEP)
        self.nodes[2].crash()
        self.nodes, self.names, self.clients = self.nodes[:2], self.names[:2], self.clients[:2]
        self.assert_goes_on(new_view=True)

    def test_newcomers_with_the_largest_incarnation(self) -> None:
        """A name under the last incarnation there is takes nothing from the others."""
        for data in message_packets(beacon_of(NodeId("z", LAST_NUMBER))):
            self.attacker.send(data)
        self.assert_goes_on(new_view=True)
