"""Stamps, the moving role of the sequencer, and slots for large frames."""

from __future__ import annotations

from itertools import permutations
from random import Random

from twisted.trial.unittest import SynchronousTestCase

from groupcomm.ordering.release import Release
from groupcomm.ordering.sequencer import OwnStamp, Record, Sequencing
from groupcomm.ordering.slots import Slots
from groupcomm.wire.packets import Handover, Stamp, StampRun, Take
from tests.ordering.made import AGREED, frame


def stamp(position: int, *streams: int) -> Stamp:
    """One frame each of some streams gets a place."""
    return Stamp(position, tuple(StampRun(stream, 9, 1) for stream in streams))


class SequencingTests(SynchronousTestCase):
    """Reading stamps."""

    def setUp(self) -> None:
        self.release = Release(3, 0)
        self.release.open = True
        self.sequencing = Sequencing(3, 0, self.release)

    def come(self, stream: int, number: int, record: Record) -> None:
        self.sequencing.record_came(stream, number, record)

    def test_stamps_give_places_in_their_order(self) -> None:
        """Each stamp goes on where the last one ended, the sequencer's own frames included."""
        self.come(0, 1, stamp(1, 2, 1))
        self.come(0, 2, OwnStamp(3, 2))
        self.assertTrue(self.sequencing.read())
        self.assertFalse(self.sequencing.read())
        self.assertEqual((self.release.placed, self.sequencing.violations), (4, 0))
        for stream in (2, 1, 0, 0):
            self.release.add(frame(stream, 1, AGREED, str(stream)))
        self.assertEqual([each.body for each in self.release.take((0, 0, 0))], [b"2", b"1", b"0", b"0"])

    def test_a_stamp_at_another_place_is_ignored(self) -> None:
        """A stamp that repeats or skips places is a violation and changes nothing."""
        self.come(0, 1, stamp(1, 1))
        self.come(0, 2, stamp(1, 2))
        self.come(0, 3, stamp(3, 2))
        self.come(0, 4, OwnStamp(5, 1))
        self.sequencing.read()
        self.assertEqual((self.release.placed, self.sequencing.violations), (1, 3))

    def test_stamps_of_others_are_not_read(self) -> None:
        """Only the sequencer places frames; what another says waits until it is the sequencer."""
        self.come(1, 1, stamp(1, 2))
        self.assertFalse(self.sequencing.read())
        self.assertEqual(self.release.placed, 0)

    def test_runs_of_streams_that_are_not_there_are_ignored(self) -> None:
        """A stamp for a fourth of three nodes, or for no frames, places nothing."""
        self.come(0, 1, Stamp(1, (StampRun(3, 9, 1), StampRun(1, 9, 0), StampRun(2, 9, 2))))
        self.sequencing.read()
        self.assertEqual(self.release.placed, 2)

    def test_the_role_moves(self) -> None:
        """After a hand-over the stamps of the next sequencer count, from its take on."""
        self.come(0, 1, stamp(1, 1))
        self.come(0, 2, Handover(1, 2))
        self.sequencing.read()
        self.assertEqual((self.sequencing.current, self.sequencing.taking), (2, True))
        self.come(0, 3, stamp(2, 1))
        self.assertFalse(self.sequencing.read())
        self.come(2, 1, Take(2))
        self.come(2, 2, stamp(2, 1))
        self.sequencing.read()
        self.assertEqual((self.sequencing.taking, self.release.placed, self.sequencing.violations), (False, 2, 0))

    def test_a_hand_over_at_a_wrong_place_or_to_nobody_is_ignored(self) -> None:
        """The role stays where it is, and that is counted."""
        self.come(0, 1, Handover(1, 2))
        self.come(0, 2, Handover(0, 3))
        self.come(0, 3, stamp(1, 1))
        self.sequencing.read()
        self.assertEqual((self.sequencing.current, self.sequencing.violations, self.release.placed), (0, 2, 1))

    def test_the_next_sequencers_take_may_come_first(self) -> None:
        """Streams come independently: a take before its hand-over waits for it, and nothing is lost."""
        self.come(2, 1, Take(2))
        self.come(2, 2, stamp(2, 1))
        self.assertFalse(self.sequencing.read())
        self.come(0, 1, stamp(1, 1))
        self.come(0, 2, Handover(1, 2))
        self.assertTrue(self.sequencing.read())
        self.assertEqual((self.sequencing.current, self.sequencing.taking, self.release.placed), (2, False, 2))

    def test_every_interleaving_of_the_streams_gives_the_same_order(self) -> None:
        """A role that moves twice is read alike, however the streams interleave."""
        records: list[list[Record]] = [
            [stamp(1, 1), Handover(1, 1), Take(4), stamp(4, 0, 1)],
            [Take(2), stamp(2, 2), OwnStamp(3, 1), Handover(3, 0)],
            [],
        ]
        random, results = Random(2), set()
        for _ in range(60):
            self.setUp()
            queues = [list(enumerate(each, 1)) for each in records]
            while any(queues):
                stream = random.choice([index for index, queue in enumerate(queues) if queue])
                self.come(stream, *queues[stream].pop(0))
                if random.random() < 0.5:
                    self.sequencing.read()
            self.sequencing.read()
            for stream in (0, 1, 1, 1, 2):
                self.release.add(frame(stream, 1, AGREED, str(stream)))
            results.add(b"".join(each.body for each in self.release.take((0, 0, 0))))
            self.assertEqual((self.sequencing.current, self.sequencing.violations), (0, 0))
        self.assertEqual(results, {b"12101"})

    def test_what_has_no_place_is_known(self) -> None:
        """The sequencer's next stamp names what is here and unplaced, in runs by stream."""
        self.sequencing.frames_came(1, 3, 7)
        self.sequencing.frames_came(2, 1, 4)
        self.sequencing.frames_came(1, 1, 9)
        self.assertEqual(self.sequencing.unplaced(), (StampRun(1, 9, 4), StampRun(2, 4, 1)))
        self.come(0, 1, Stamp(1, (StampRun(1, 9, 4),)))
        self.sequencing.read()
        self.assertEqual(self.sequencing.unplaced(), (StampRun(2, 4, 1),))
        self.assertEqual([self.sequencing.has_unplaced(stream) for stream in range(3)], [False, False, True])
        self.assertTrue(self.sequencing.holds_all_placed)

    def test_places_whose_frames_are_not_here_are_known(self) -> None:
        """A node that lacks placed frames does not take the role over yet."""
        self.come(0, 1, stamp(1, 1))
        self.sequencing.read()
        self.assertFalse(self.sequencing.holds_all_placed)
        self.sequencing.frames_came(1, 1, 3)
        self.assertTrue(self.sequencing.holds_all_placed)


class SlotTests(SynchronousTestCase):
    """Who may send a large frame."""

    def setUp(self) -> None:
        self.slots = Slots(2)

    def test_slots_are_given_in_the_order_of_asking(self) -> None:
        """As long as slots are free, the next grant is for who asked first."""
        self.assertIsNone(self.slots.next_grant())
        for node in (2, 0, 1):
            self.slots.asked(node, 10 + node)
        self.assertEqual(self.slots.next_grant(), (2, 12))
        self.slots.granted(2, 12)
        self.assertEqual(self.slots.next_grant(), (0, 10))
        self.slots.granted(0, 10)
        self.assertTrue(self.slots.in_use)
        self.assertIsNone(self.slots.next_grant())

    def test_a_slot_is_free_when_all_have_delivered(self) -> None:
        """The slot is held until everyone has delivered the frame's last packet, and not a packet less."""
        for node in (0, 1, 2):
            self.slots.asked(node, 1)
        self.slots.granted(0, 1)
        self.slots.granted(1, 1)
        self.assertTrue(self.slots.waiting)
        self.slots.used(0, 50)
        self.slots.delivered(0, 49)
        self.slots.delivered(1, 50)
        self.assertIsNone(self.slots.next_grant())
        self.slots.delivered(0, 50)
        self.assertEqual(self.slots.next_grant(), (2, 1))
        self.assertFalse(self.slots.waiting)

    def test_a_slot_is_free_whatever_is_heard_last(self) -> None:
        """The grant, the end of the frame and word of its delivery come in any order: with the last it is free."""
        for order in permutations(("granted", "used", "delivered")):
            slots = Slots(1)
            for event in order:
                getattr(slots, event)(1, 30)
            self.assertFalse(slots.in_use, order)

    def test_one_frame_uses_one_slot(self) -> None:
        """A node's second large frame uses its second grant."""
        self.slots.granted(0, 1)
        self.slots.granted(0, 2)
        self.slots.used(0, 50)
        self.slots.used(0, 90)
        self.slots.delivered(0, 60)
        self.assertTrue(self.slots.in_use)
        self.slots.delivered(0, 90)
        self.assertFalse(self.slots.in_use)

    def test_the_grant_of_an_earlier_sequencer_counts(self) -> None:
        """Whoever gave it, a grant takes the ask off the list, so that the next sequencer does not repeat it."""
        self.slots.asked(1, 5)
        self.slots.granted(1, 5)
        self.assertIsNone(self.slots.next_grant())
        self.assertTrue(self.slots.in_use)
