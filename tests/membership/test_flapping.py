"""Names that come and go, and how long they wait."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from groupcomm.events import Reason
from groupcomm.identity import NodeId
from groupcomm.limits import MAX_FLAPPING
from groupcomm.membership.flapping import HALVED_SECONDS, MOST_DOUBLINGS, Flapping
from groupcomm.wire.messages import Departed, SlowNote, SlowWord

A, B, C, D = ALL = tuple(NodeId(name, 1) for name in "abcd")
FIRST = 2.0


class FlappingTests(SynchronousTestCase):
    """Node a in a view of four."""

    def setUp(self) -> None:
        self.flapping = Flapping(A, FIRST)
        self.now = 100.0

    def go(self, *nodes: NodeId, reason: Reason = Reason.PARTITION, excepted: tuple[str, ...] = ()) -> float:
        """A view without these; how long the first of them waits."""
        departed = [Departed(node, reason) for node in nodes]
        rest = [node for node in ALL if node not in nodes]
        self.flapping.installed(departed, ALL, rest, excepted, self.now)
        waits = [one.seconds for one in self.flapping.shown(self.now) if one.node.name == nodes[0].name]
        return waits[0] if waits else 0.0

    def test_each_time_longer(self) -> None:
        """Once is nothing; then it waits, and twice as long each time, up to a bound."""
        waits = [self.go(D) for _ in range(MOST_DOUBLINGS + 4)]
        expected = [0.0, *(FIRST * 2.0**number for number in range(MOST_DOUBLINGS + 1))]
        self.assertEqual(waits, [*expected, expected[-1], expected[-1]])

    def test_it_waits_and_is_forgotten(self) -> None:
        """While it waits it is kept out, whatever its incarnation; each minute halves what is held against it."""
        self.go(D)
        self.go(D)
        self.assertTrue(self.flapping.keeps_waiting("d", self.now + FIRST - 0.1))
        self.assertFalse(self.flapping.keeps_waiting("d", self.now + FIRST))
        self.assertFalse(self.flapping.keeps_waiting("c", self.now))
        (shown,) = self.flapping.shown(self.now + HALVED_SECONDS)
        self.assertEqual((shown.node, round(shown.penalty, 6), shown.seconds), (D, 1.0, 0.0))
        self.assertEqual(self.flapping.shown(self.now + 6 * HALVED_SECONDS), ())
        self.now += 6 * HALVED_SECONDS
        self.assertEqual(self.go(D), 0.0)

    def test_who_is_not_counted(self) -> None:
        """Who leaves, and who is kept out for something else."""
        for _ in range(3):
            self.assertEqual(self.go(D, reason=Reason.NODE_LEAVE), 0.0)
            self.assertEqual(self.go(D, excepted=("d",)), 0.0)
        self.assertEqual(self.flapping.shown(self.now), ())

    def test_only_the_larger_part_counts(self) -> None:
        """Of halves the one with the lowest node; a node that is left alone holds nothing against the others."""
        self.go(B, C, D)
        self.assertEqual(self.flapping.shown(self.now), ())
        self.go(C, D)
        self.assertEqual([one.node for one in self.flapping.shown(self.now)], [C, D])
        self.flapping.installed([Departed(A, Reason.PARTITION)], (A, B), (B,), (), self.now)
        self.flapping.installed([Departed(A, Reason.PARTITION)], (), (B,), (), self.now)
        self.assertEqual([one.node for one in self.flapping.shown(self.now)], [C, D])

    def test_the_next_gate_knows(self) -> None:
        """What the gate says of those who wait is taken over where it is more; nobody believes it of itself."""
        for _ in range(3):
            self.go(D)
        (note,) = self.flapping.notes(self.now)
        self.assertEqual((note.word, note.node, note.lag_bytes, note.milliseconds), (SlowWord.WAITS, D, 300, 4000))
        other = Flapping(B, FIRST)
        other.heard([note, SlowNote(SlowWord.CLAIM, C, 700, 1000)], self.now)
        self.assertEqual([(one.node, one.seconds) for one in other.shown(self.now)], [(D, 4.0)])
        other.heard([SlowNote(SlowWord.WAITS, D, 200, 1 << 40)], self.now)
        self.assertEqual([one.seconds for one in other.shown(self.now)], [4.0])
        itself = Flapping(D, FIRST)
        itself.heard([note], self.now)
        self.assertEqual(itself.shown(self.now), ())
        self.assertEqual(self.flapping.notes(self.now + 4.0), [])

    def test_what_others_say_is_bounded(self) -> None:
        """Neither the penalty nor the time is more than this node would come to itself, nor are there more names."""
        self.flapping.heard([SlowNote(SlowWord.WAITS, D, 1 << 40, 1 << 40)], self.now)
        (shown,) = self.flapping.shown(self.now)
        self.assertEqual(shown.seconds, FIRST * 2**MOST_DOUBLINGS)
        notes = [SlowNote(SlowWord.WAITS, NodeId(f"n{number}", 1), 200, 1000) for number in range(MAX_FLAPPING)]
        self.flapping.heard(notes, self.now)
        self.assertEqual(len(self.flapping.shown(self.now)), MAX_FLAPPING)
        self.go(C)
        self.assertEqual(len(self.flapping.shown(self.now)), MAX_FLAPPING)
        self.assertIn(C, [one.node for one in self.flapping.shown(self.now)])

    def test_never(self) -> None:
        """With a first time of nothing nobody waits."""
        self.flapping = Flapping(A, 0.0)
        self.assertEqual([self.go(D) for _ in range(5)], [0.0] * 5)
        self.assertFalse(self.flapping.keeps_waiting("d", self.now))
