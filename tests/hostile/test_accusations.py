"""Suspicion and accusations by one: one accusation must not evict; what a node has to say of itself only it can say."""

from __future__ import annotations

from attrs import evolve

from groupcomm.config import EngineConfig, SlowReceiver
from groupcomm.identity import NodeId, ViewId
from groupcomm.wire.codec import list_digest
from groupcomm.wire.messages import Beacon, Join, SlowNote, SlowWord
from tests.hostile.attacker import GHOST, HostileCase, beacon_of, join_of, message_packets


class SuspicionTests(HostileCase):
    """Four nodes, one of which, or a stranger, says that another is gone."""

    names: tuple[str, ...] = ("a", "b", "c", "d")

    def assert_nobody_left(self) -> None:
        """All four are in the view in the end."""
        self.cluster.run(3.0)
        self.assert_goes_on(new_view=True)
        self.assertEqual([len(node.status().members) for node in self.nodes], [4] * 4)

    def accusing(self, *, heard: int, evicts: int = 0, node: NodeId | None = None, attempt: int = 5) -> Join:
        """A JOIN of ``b`` that leaves somebody out."""
        node = node or self.identities[1]
        listed = self.identities if node in self.identities else tuple(sorted((*self.identities, node)))
        view = self.views()[0] if node in self.identities else None
        digest = list_digest(listed)
        return Join(
            node, view, None, False, attempt, attempt, 99, 1, 0, digest, len(listed), heard, listed, (), evicts=evicts
        )

    def test_one_row_that_leaves_another_out(self) -> None:
        """A JOIN in a member's name that says not to hear another parts the two for a moment; both are back in the end.

        Who does not hear whom is believed, since each can only say it of itself: an insider can have another put out
        for as long as it goes on saying so.
        """
        for data in message_packets(self.accusing(heard=0b0111)):
            self.attacker.send(data)
        self.cluster.run(0.7)
        self.assertIn(self.identities[0], self.nodes[0].status().members)
        self.assert_nobody_left()

    def test_candidates_without_a_member(self) -> None:
        """A JOIN that does not even name a member makes the others look for themselves."""
        for data in message_packets(join_of(self.identities[1], self.identities[:3], view=self.views()[0], attempt=5)):
            self.attacker.send(data)
        self.assert_nobody_left()

    def test_one_accuser_of_slowness(self) -> None:
        """One member's accusation in a change counts for nothing, nor do those of any number of strangers."""
        self.config = evolve(EngineConfig(), slow_receiver=SlowReceiver.EVICT)
        self.setUp()
        joins = [self.accusing(heard=0b1111, evicts=0b1000)]
        joins += [self.accusing(heard=0b11111, evicts=0b1000, node=NodeId(f"z{number}", 1)) for number in range(20)]
        for number, join in enumerate(joins):
            for data in message_packets(join, number=number):
                self.attacker.send(data)
        self.assert_nobody_left()
        self.assertEqual([self.counter(node, "evictions") for node in self.nodes], [0] * 4)

    def test_one_claim_in_beacons(self) -> None:
        """A member that claims for ten seconds to be held up, and strangers that confirm it, evict nobody."""
        self.config = evolve(EngineConfig(), slow_receiver=SlowReceiver.EVICT, slow_receiver_seconds=1.0)
        self.setUp()
        accused, before = self.identities[3], self.views()
        view = before[0]
        claim = (SlowNote(SlowWord.CLAIM, accused, 1 << 40, 1 << 40),)
        confirmation = (SlowNote(SlowWord.CONFIRMATION, accused, 0, 1 << 40),)
        for _ in range(100):
            beacons = [Beacon(self.identities[1], view, 4, 2, False, False, (), claim)]
            beacons += [
                Beacon(NodeId(f"z{number}", 1), view, 4, 2, False, False, (), confirmation) for number in range(3)
            ]
            for number, beacon in enumerate(beacons):
                for data in message_packets(beacon, number=number):
                    self.attacker.send(data, source=self.nodes[1].address)
            self.clients[0].send("chat", b"%d" % self.rounds)
            self.rounds += 1
            self.cluster.run(0.1)
        self.assertEqual(self.views(), before)
        self.assert_nobody_left()

    def test_being_told_to_be_kept_out(self) -> None:
        """Strangers that say to keep a member out change nothing about it; it says so once."""
        notes = (SlowNote(SlowWord.KEPT_OUT, self.identities[1], 1, (1 << 64) - 1),)
        for number in range(50):
            beacon = Beacon(NodeId(f"z{number}", 1), ViewId(2, GHOST), 1, 2, False, False, (), notes)
            for data in message_packets(beacon, number=number):
                self.attacker.send(data)
        self.cluster.run(1.0)
        self.assertLessEqual(len(self.nodes[1].slow_news), 1)
        self.assert_nobody_left()

    def test_later_views(self) -> None:
        """A beacon in a member's name that says to have gone on costs a change or two; the member is back in the end.

        A member's word about itself is believed: an insider that speaks in its name can have it put out for a moment.
        """
        view = self.views()[0]
        assert view is not None
        for data in message_packets(beacon_of(self.identities[1], ViewId(view.epoch + 1, GHOST), 1, view.epoch + 1)):
            self.attacker.send(data, source=self.nodes[1].address)
        self.cluster.run(10.0)
        self.assert_nobody_left()

    def test_a_later_run_of_a_member(self) -> None:
        """A JOIN of a later run of a member's name costs a change or two; the member is back in the end."""
        member = self.identities[1]
        later = NodeId(member.name, member.incarnation + 1)
        for data in message_packets(join_of(later, self.identities, attempt=5)):
            self.attacker.send(data)
        self.cluster.run(15.0)
        self.assert_nobody_left()
