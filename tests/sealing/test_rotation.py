"""The steps of a rotation, as frames in one order that all parties read."""

from __future__ import annotations

from random import Random

from twisted.trial.unittest import SynchronousTestCase

from groupcomm.errors import MalformedPacket
from groupcomm.outputs import KeyRotated
from groupcomm.sealing.rotation import Rotation
from groupcomm.wire.keys import KeyEpoch
from tests.sealing.world import Party


class RotationTests(SynchronousTestCase):
    """Three nodes of one view."""

    def setUp(self) -> None:
        self.parties = [Party(name) for name in "abc"]
        self.members = tuple(party.node for party in self.parties)
        self.rotations = [Rotation(one.guard, Random(one.node.name).randbytes, one.counters) for one in self.parties]
        self.order: list[tuple[int, bytes]] = []
        self.install(None)

    def install(self, epoch: KeyEpoch | None) -> None:
        for party, rotation in zip(self.parties, self.rotations, strict=True):
            party.guard.installed(epoch, self.members)
            rotation.view_installed(self.members)

    def collect(self) -> None:
        """All that anybody has to send gets its place in the order."""
        for index, rotation in enumerate(self.rotations):
            self.order += [(index, body) for body in rotation.out]
            rotation.out.clear()

    def deliver(self, to: int, step: tuple[int, bytes]) -> None:
        self.rotations[to].frame(self.members[step[0]], step[1])

    def settle(self) -> None:
        """Deliver everything to everybody until nobody has anything to send."""
        self.collect()
        while self.order:
            step = self.order.pop(0)
            for to in range(3):
                self.deliver(to, step)
            self.collect()

    def epochs(self) -> list[int]:
        return [party.guard.epoch.number for party in self.parties]

    def test_all_pass_to_the_next_epoch(self) -> None:
        """The same secret everywhere, told once to each."""
        self.rotations[1].ask()
        self.assertTrue(self.rotations[1].wanted)
        self.settle()
        self.assertEqual(self.epochs(), [1, 1, 1])
        self.assertEqual(len({party.guard.epoch for party in self.parties}), 1)
        self.assertEqual([rotation.news for rotation in self.rotations], [[KeyRotated(1)]] * 3)
        self.assertFalse(self.rotations[1].wanted)

    def test_nobody_seals_anew_before_all_can_open_it(self) -> None:
        """At whatever point each node is, what any of them seals opens at every other."""
        for party in self.parties:
            for other in self.parties:
                if party is not other:
                    other.take(party.seal(party.cluster_packet()), party)
        self.introduce()
        self.rotations[0].ask()
        self.collect()
        steps: list[tuple[int, bytes]] = []
        behind = [0, 0, 0]
        random = Random(5)
        while True:
            self.collect()
            steps += self.order
            self.order = []
            ready = [index for index in range(3) if behind[index] < len(steps)]
            if not ready:
                break
            index = random.choice(ready)
            self.deliver(index, steps[behind[index]])
            behind[index] += 1
            for party in self.parties:
                sealed = party.seal(party.view_packet())
                for other in self.parties:
                    if other is not party:
                        self.assertIsNotNone(other.take(sealed, party), (self.epochs(), behind))
        self.assertEqual(self.epochs(), [1, 1, 1])

    def introduce(self) -> None:
        from tests.sealing.world import converse

        converse(*self.parties)

    def test_two_at_once(self) -> None:
        """The first in the order wins; the other's wish is fulfilled by it, and there is one rotation."""
        self.rotations[0].ask()
        self.rotations[2].ask()
        self.settle()
        self.assertEqual(self.epochs(), [1, 1, 1])
        self.assertEqual([rotation.wanted for rotation in self.rotations], [False] * 3)
        self.assertEqual(len({party.guard.epoch for party in self.parties}), 1)

    def test_one_confirmation_is_missing(self) -> None:
        """Nobody seals under what one member has not confirmed."""
        self.rotations[0].ask()
        self.collect()
        (new,) = self.order
        self.order = []
        for to in range(3):
            self.deliver(to, new)
        self.collect()
        for step in self.order[:2]:
            for to in range(3):
                self.deliver(to, step)
        self.assertEqual(self.epochs(), [0, 0, 0])
        for to in range(3):
            self.deliver(to, self.order[1])
        self.assertEqual(self.epochs(), [0, 0, 0])

    def test_a_view_change_in_the_middle(self) -> None:
        """Whoever asked begins again in the next view; a view that has a later epoch already fulfils the wish."""
        self.rotations[0].ask()
        self.collect()
        self.order = []
        self.install(None)
        self.settle()
        self.assertEqual(self.epochs(), [1, 1, 1])
        self.rotations[0].ask()
        self.collect()
        self.order = []
        self.install(KeyEpoch(2, bytes(32)))
        self.assertEqual(self.epochs(), [2, 2, 2])
        self.assertFalse(self.rotations[0].wanted)
        self.assertEqual(self.rotations[0].news[-1], KeyRotated(2))
        self.settle()
        self.assertEqual(self.epochs(), [2, 2, 2])

    def test_a_frozen_node_keeps_to_what_it_has_said(self) -> None:
        """After a node has said under which epoch it seals, no step changes that before the next view."""
        self.rotations[0].ask()
        self.collect()
        for rotation in self.rotations:
            rotation.hold()
        self.settle()
        self.assertEqual(self.epochs(), [0, 0, 0])
        self.assertIsNone(self.rotations[0].pending)

    def test_steps_of_another_number_or_secret(self) -> None:
        """NEW of any number but the next, and CONFIRM of another secret, change nothing and are counted."""
        for number in (1, 3, 200):
            body = b"\0" + bytes([number]) + bytes(32) if number < 128 else b"\0\xc8\x01" + bytes(32)
            self.rotations[0].frame(self.members[1], body)
            if number == 1:
                self.assertIsNotNone(self.rotations[0].pending)
        for sender in self.members:
            self.rotations[0].frame(sender, b"\1" + bytes(8))
        self.assertEqual(self.epochs(), [0, 0, 0])
        self.assertEqual(self.parties[0].counters["rotations_passed_over"], 5)

    def test_no_step_at_all(self) -> None:
        """Anything else is malformed, whole, cut, with a byte more, or of epoch 0, which is never sent."""
        good = (b"\0\1" + bytes(32), b"\1" + bytes(8))
        for body in good:
            for size in range(len(body)):
                self.assertRaises(MalformedPacket, self.rotations[0].frame, self.members[1], body[:size])
            self.assertRaises(MalformedPacket, self.rotations[0].frame, self.members[1], body + b"\0")
        self.assertRaises(MalformedPacket, self.rotations[0].frame, self.members[1], b"\2" + bytes(8))
        self.assertRaises(MalformedPacket, self.rotations[0].frame, self.members[1], b"\0\0" + bytes(32))
