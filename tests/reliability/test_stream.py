"""What is here, what is missing, and when it is asked for."""

from __future__ import annotations

from math import inf
from random import Random

from twisted.trial.unittest import SynchronousTestCase

from groupcomm.limits import MAX_MISSING, MAX_RANGES, MAX_REPAIR_PACKETS
from groupcomm.reliability.stream import Accepted, Stream, join_ranges
from groupcomm.wire.packets import Range

WAIT = 0.01


class StreamTests(SynchronousTestCase):
    """The packets of one stream."""

    def setUp(self) -> None:
        self.stream = Stream(0, 1000)

    def accept(self, *numbers: int, now: float = 0.0) -> list[Accepted]:
        results = [self.stream.accept(number, b"%d" % number, now, WAIT) for number in numbers]
        self.stream.check_invariants()
        return results

    def test_packets_in_order_leave_no_gap(self) -> None:
        """What comes in order is contiguous at once and nothing is asked for."""
        self.assertEqual(self.accept(1, 2, 3), [Accepted.NEW] * 3)
        self.assertEqual((self.stream.contiguous, self.stream.highest, self.stream.missing_count), (3, 3, 0))
        self.assertEqual(self.stream.due_at(), inf)

    def test_a_gap_is_asked_for_after_a_while(self) -> None:
        """A packet behind a gap makes the gap due once it can no longer be mere reordering."""
        self.accept(1, 4, now=5.0)
        self.assertEqual((self.stream.contiguous, self.stream.missing_count), (1, 2))
        self.assertEqual(self.stream.due_at(), 5.0 + WAIT)
        self.assertEqual(self.stream.take_due(5.0, 0.1), [])
        self.assertEqual(self.stream.take_due(5.0 + WAIT, 0.1), [(2, 0), (3, 0)])

    def test_reordered_packets_are_not_asked_for(self) -> None:
        """A late packet closes its gap before it is due, and is no repair."""
        self.accept(1, 3, 2)
        self.assertEqual((self.stream.contiguous, self.stream.due_at()), (3, inf))
        self.assertEqual((self.stream.ever_missing, self.stream.repairs), (1, 0))

    def test_repairs_are_counted(self) -> None:
        """A packet that comes after it was asked for counts as repaired."""
        self.accept(1, 3)
        self.stream.take_due(WAIT, 0.1)
        self.accept(2)
        self.assertEqual((self.stream.contiguous, self.stream.repairs), (3, 1))

    def test_unanswered_requests_are_repeated_more_and_more_rarely(self) -> None:
        """Each time a packet is asked for, the next time is half a period later; from the sixth on it stays."""
        self.accept(2)
        now, waits = WAIT, []
        for tries in range(9):
            self.assertEqual(self.stream.take_due(now, 0.1), [(1, tries)])
            waits.append(round((self.stream.due_at() - now) / 0.1, 6))
            now = self.stream.due_at()
        self.assertEqual(waits, [1, 1.5, 2, 2.5, 3, 3.5, 4, 4, 4])

    def test_duplicates_are_told(self) -> None:
        """A packet that is here, or was here and is freed, is a duplicate."""
        self.accept(1, 2, 5)
        self.stream.free(2)
        self.assertEqual(self.accept(1, 2, 5), [Accepted.DUPLICATE] * 3)
        self.assertEqual(set(self.stream.held), {5})

    def test_packets_too_far_ahead_are_refused(self) -> None:
        """The farthest that is taken is the limit above the contiguous part, not one more."""
        self.assertEqual(self.accept(1001), [Accepted.TOO_FAR])
        self.assertEqual(self.stream.highest, 0)
        self.assertEqual(self.accept(1000), [Accepted.NEW])
        self.accept(1)
        self.assertEqual(self.accept(1001, 1002), [Accepted.NEW, Accepted.TOO_FAR])

    def test_an_announced_end_shows_what_is_missing_behind_it(self) -> None:
        """The loss of the last packets shows when somebody says how many there are."""
        self.accept(1)
        self.stream.announce(3, 1.0, 0.0)
        self.assertEqual(self.stream.take_due(1.0, 0.1), [(2, 0), (3, 0)])
        self.stream.announce(2, 2.0, 0.0)
        self.assertEqual(self.stream.highest, 3)

    def test_an_announced_end_is_believed_up_to_the_limit(self) -> None:
        """Whatever is announced, no more is expected than would be taken."""
        self.stream.announce(1 << 60, 0.0, 0.0)
        self.assertEqual((self.stream.highest, self.stream.missing_count), (1000, 1000))
        self.stream.check_invariants()

    def test_tracked_gaps_are_bounded(self) -> None:
        """At most 8192 missing packets are tracked; the others follow when those have come."""
        self.stream = Stream(0, 3 * MAX_MISSING)
        self.accept(2 * MAX_MISSING)
        self.assertEqual(self.stream.missing_count, MAX_MISSING)
        for number in range(1, MAX_MISSING + 1):
            self.stream.accept(number, b"", 0.0, WAIT)
        self.stream.check_invariants()
        asked: set[int] = set()
        now = WAIT
        while len(asked) < MAX_MISSING - 1 and now < 10.0:
            asked.update(number for number, _ in self.stream.take_due(now, 100.0))
            now += 0.01
        self.assertEqual(asked, set(range(MAX_MISSING + 1, 2 * MAX_MISSING)))

    def test_one_turn_asks_for_so_many_and_the_next_for_more(self) -> None:
        """A flood of gaps is asked for in turns of 256, each a moment after the one before."""
        self.accept(900)
        first = [number for number, _ in self.stream.take_due(WAIT, 10.0)]
        self.assertEqual(first, list(range(1, MAX_REPAIR_PACKETS + 1)))
        soon = self.stream.due_at()
        self.assertTrue(WAIT < soon < 2 * WAIT, soon)
        second = [number for number, _ in self.stream.take_due(soon, 10.0)]
        self.assertEqual(second, list(range(MAX_REPAIR_PACKETS + 1, 2 * MAX_REPAIR_PACKETS + 1)))

    def test_a_request_of_another_node_postpones_our_own(self) -> None:
        """What others have asked for is not asked for again until its time; an earlier time does not count."""
        self.accept(4)
        self.stream.postpone([Range(1, 2)], 1.0)
        self.stream.postpone([Range(1, 1)], 0.5)
        self.assertEqual(self.stream.take_due(WAIT, 10.0), [(3, 0)])
        self.assertEqual(self.stream.take_due(0.99, 10.0), [])
        self.assertEqual(self.stream.take_due(1.0, 10.0), [(1, 0), (2, 0)])

    def test_only_stable_packets_are_freed(self) -> None:
        """Packets are held until every node has them, and never freed beyond what is here."""
        self.accept(1, 2, 3, 5)
        self.stream.free(2)
        self.assertEqual(set(self.stream.held), {3, 5})
        self.stream.free(9)
        self.assertEqual((set(self.stream.held), self.stream.stable), ({5}, 3))
        self.stream.free(1)
        self.assertEqual(self.stream.stable, 3)
        self.stream.check_invariants()

    def test_at_the_end_only_what_is_planned_is_wanted(self) -> None:
        """A plan replaces what is missing: its packets are due at once, all others are forgotten."""
        self.accept(1, 4, 9, now=0.0)
        self.stream.want_only([2, 3], 7.0)
        self.assertEqual((self.stream.missing_count, self.stream.due_at()), (2, 7.0))
        self.assertEqual(self.stream.take_due(7.0, 0.1), [(2, 0), (3, 0)])
        self.accept(2, 3)
        self.assertEqual((self.stream.contiguous, self.stream.missing_count, self.stream.due_at()), (4, 0, inf))
        self.stream.want_only([], 8.0)
        self.assertEqual(self.stream.due_at(), inf)
        self.stream.check_invariants()

    def test_more_planned_packets_than_are_tracked_are_all_wanted(self) -> None:
        """A plan that names more packets than are tracked at once is done only when the last of them is here."""
        stream = Stream(0, 4 * MAX_MISSING)
        wanted = list(range(1, MAX_MISSING + 101))
        stream.want_only(wanted, 0.0)
        self.assertEqual(stream.missing_count, len(wanted))
        for number in wanted:
            stream.accept(number, b"", 0.0, WAIT)
            self.assertEqual(stream.missing_count, len(wanted) - number)
            if number % 1000 == 0:
                stream.check_invariants()

    def test_ranges_above_are_bounded(self) -> None:
        """What is held beyond the first gap is told in at most 32 ranges, the lowest first."""
        self.accept(1, *range(3, 3 + 2 * (MAX_RANGES + 5), 2))
        ranges = self.stream.ranges_above()
        self.assertEqual(len(ranges), MAX_RANGES)
        self.assertEqual(ranges[:2], (Range(3, 3), Range(5, 5)))

    def test_any_order_of_arrival_ends_the_same(self) -> None:
        """With losses, duplicates and reordering, repeated requests end with everything here, once."""
        random = Random(5)
        for _ in range(30):
            self.stream = Stream(0, 1000)
            coming = [number for number in range(1, 201) for _ in range(random.choice((0, 1, 1, 1, 2)))]
            random.shuffle(coming)
            new = self.accept(*coming).count(Accepted.NEW)
            self.stream.announce(200, 0.0, 0.0)
            now = 1.0
            while self.stream.contiguous < 200:
                due = [number for number, _ in self.stream.take_due(now, 0.1)]
                self.assertTrue(all(number not in self.stream.held for number in due))
                new += self.accept(*(number for number in due if random.random() < 0.5)).count(Accepted.NEW)
                now = max(self.stream.due_at(), now) if self.stream.due_at() < inf else now
            self.assertEqual(new, 200)
            self.assertEqual(set(self.stream.held), set(range(1, 201)))

    def test_numbers_go_on_from_where_they_begin(self) -> None:
        """A stream whose first number lies just below 2**32 is as good as any."""
        start = (1 << 32) - 2
        self.stream = Stream(start, 1000)
        self.assertEqual(self.accept(start, start + 3, start + 1), [Accepted.DUPLICATE, Accepted.NEW, Accepted.NEW])
        self.assertEqual(self.stream.take_due(1.0, 0.1), [(start + 2, 0)])


class RangeTests(SynchronousTestCase):
    """Numbers to ranges."""

    def test_adjacent_numbers_are_joined(self) -> None:
        """Ascending numbers become the fewest ranges; 0 is a number like any other."""
        self.assertEqual(join_ranges([]), ())
        self.assertEqual(join_ranges([0]), (Range(0, 0),))
        self.assertEqual(join_ranges([1, 2, 3, 5, 7, 8]), (Range(1, 3), Range(5, 5), Range(7, 8)))
