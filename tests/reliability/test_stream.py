"""What is here, what is missing, and when it is asked for."""

from __future__ import annotations

from collections.abc import Iterator
from math import inf
from random import Random
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from groupcomm.limits import MAX_MISSING, MAX_RANGES, MAX_REPAIR_PACKETS
from groupcomm.reliability.stream import Accepted, PacketRun, Stream, join_ranges
from groupcomm.wire.packets import Packets, Range

WAIT = 0.01


def made_packet(number: int) -> bytes:
    """A packet that differs from all others."""
    return b"packet %06d" % number


def made_run(first: int, last: int) -> PacketRun:
    """Packets ``first`` to ``last`` as they came, one behind the other."""
    packets = [made_packet(number) for number in range(first, last + 1)]
    return PacketRun(first, bytes(len(packets)), packets, Packets(len(packets[0]), data=b"".join(packets)))


class Looks(dict[int, tuple[float, int]]):
    """Gaps that count how many of them are looked at."""

    count = 0

    def __getitem__(self, number: int) -> tuple[float, int]:
        self.count += 1
        return super().__getitem__(number)

    def get(self, number: int, default: object = None) -> Any:
        """One look."""
        self.count += 1
        return super().get(number, default)

    def __iter__(self) -> Iterator[int]:
        self.count += len(self)
        return super().__iter__()


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
        """Each time a packet is asked for, the next time is twice as far away; from the third on it stays."""
        self.accept(2)
        now, waits = WAIT, []
        for tries in range(9):
            self.assertEqual(self.stream.take_due(now, 0.1), [(1, tries)])
            waits.append(round((self.stream.due_at() - now) / 0.1, 6))
            now = self.stream.due_at()
        self.assertEqual(waits, [1, 2, 4, 8, 8, 8, 8, 8, 8])

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

    def test_others_postpone_a_request_for_a_second_at_most(self) -> None:
        """However often others ask, a node asks itself in the end; then they may put it off again."""
        self.accept(3)
        for step in range(1, 2000):
            self.stream.postpone([Range(1, 2)], 0.001 * step + 0.01)
        self.assertEqual(self.stream.take_due(1.5, 1.0), [(1, 0), (2, 0)])
        self.stream.postpone([Range(1, 2)], 3.0)
        self.assertEqual(self.stream.take_due(2.6, 1.0), [])

    def test_what_was_asked_for_in_vain_is_asked_for_rarely(self) -> None:
        """After 24 requests that nobody answered a packet is asked for once a second in the end."""
        self.accept(2)
        asked, now = [], WAIT
        while now < 10.0:
            if self.stream.take_due(now, 0.002):
                asked.append(now)
            now = round(now + 0.001, 3)
        self.assertGreater(len([at for at in asked if at < 0.1]), 7)
        self.assertLess(len([at for at in asked if at > 2.0]), 10)

    def test_many_missing_packets_have_their_turn(self) -> None:
        """More packets than one call may name are asked for in turns, each once before any is asked for again."""
        count = 3 * MAX_REPAIR_PACKETS
        self.accept(count + 1)
        asked: list[int] = []
        now = WAIT
        while len(asked) < count:
            asked += [number for number, _ in self.stream.take_due(now, 0.001)]
            now += 0.002
        self.assertEqual(asked[:count], list(range(1, count + 1)))

    def test_a_request_of_another_node_postpones_our_own(self) -> None:
        """What others have asked for is not asked for again until its time; an earlier time does not count."""
        self.accept(4)
        self.stream.postpone([Range(1, 2)], 1.0)
        self.stream.postpone([Range(1, 1)], 0.5)
        self.assertEqual(self.stream.take_due(WAIT, 10.0), [(3, 0)])
        self.assertEqual(self.stream.take_due(0.99, 10.0), [])
        self.assertEqual(self.stream.take_due(1.0, 10.0), [(1, 0), (2, 0)])

    def test_a_request_of_another_node_postpones_no_more_than_it_may_name(self) -> None:
        """Of a request for everything, in however many ranges, the first packets count: the others are asked for."""
        last = 2 * MAX_REPAIR_PACKETS
        self.accept(last + 1)
        self.stream.postpone([Range(1, 10), Range(11, 1 << 40), *[Range(1 << 41, 1 << 42)] * 60], 1.0)
        due = [number for number, _ in self.stream.take_due(WAIT, 10.0)]
        self.assertEqual(due, list(range(MAX_REPAIR_PACKETS + 1, last + 1)))

    def test_asking_costs_what_is_due(self) -> None:
        """With thousands of packets missing, a call looks at those it names and at hardly another."""
        stream = Stream(0, MAX_MISSING)
        stream.announce(MAX_MISSING, 0.0, WAIT)
        self.assertEqual(stream.missing_count, MAX_MISSING)
        looks = stream._missing = Looks(stream._missing)
        for turn in range(1, 5):
            self.assertEqual(len(stream.take_due(WAIT + turn, 1000.0)), MAX_REPAIR_PACKETS)
            self.assertLess(looks.count, turn * 2 * MAX_REPAIR_PACKETS)
        stream.postpone([Range(1, 100)], 2000.0)
        stream.check_invariants()

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


class RunTests(SynchronousTestCase):
    """Packets that come, or leave, several at once."""

    def setUp(self) -> None:
        self.stream = Stream(0, 1000)

    def accept(self, first: int, last: int, now: float = 0.0) -> bool:
        accepted = self.stream.accept_run(made_run(first, last), now, WAIT)
        self.stream.check_invariants()
        return accepted

    def held(self) -> dict[int, bytes | None]:
        """The packets that are here, as a repair would send them."""
        return {number: self.stream.packet(number) for number in self.stream.held}

    def test_runs_in_order(self) -> None:
        """Run after run, everything is contiguous and nothing is missing; each packet is at hand."""
        self.assertTrue(self.accept(1, 46))
        self.assertTrue(self.accept(47, 47))
        self.assertTrue(self.accept(48, 60))
        self.assertEqual((self.stream.contiguous, self.stream.highest, self.stream.due_at()), (60, 60, inf))
        self.assertEqual(self.held(), {number: made_packet(number) for number in range(1, 61)})
        self.assertIsNone(self.stream.packet(61))

    def test_a_run_behind_a_gap(self) -> None:
        """What lies between is missing and asked for; when it comes, the run counts as well."""
        self.accept(1, 10)
        self.assertTrue(self.accept(14, 30, now=5.0))
        self.assertEqual((self.stream.contiguous, self.stream.highest, self.stream.missing_count), (10, 30, 3))
        self.assertEqual(self.stream.take_due(5.0 + WAIT, 0.1), [(11, 0), (12, 0), (13, 0)])
        self.assertTrue(self.accept(31, 33, now=6.0))
        self.assertEqual(self.stream.missing_count, 3)
        self.assertEqual(self.stream.ranges_above(), (Range(14, 33),))
        for number in (12, 11, 13):
            self.stream.accept(number, made_packet(number), 7.0, WAIT)
        self.stream.check_invariants()
        self.assertEqual((self.stream.contiguous, self.stream.repairs, self.stream.due_at()), (33, 3, inf))
        self.assertEqual(self.held(), {number: made_packet(number) for number in range(1, 34)})

    def test_a_run_that_is_not_all_new_is_refused(self) -> None:
        """Where one of its packets is here, nothing of it is taken: it must come one by one."""
        self.accept(1, 10)
        self.stream.accept(20, made_packet(20), 0.0, WAIT)
        before = self.stream.contiguous, self.stream.highest, self.stream.missing_count, self.held()
        for first, last in ((1, 10), (10, 12), (11, 20), (15, 25), (20, 21), (5, 30)):
            self.assertFalse(self.accept(first, last), (first, last))
        self.assertEqual((self.stream.contiguous, self.stream.highest, self.stream.missing_count, self.held()), before)

    def test_a_run_that_fills_a_gap(self) -> None:
        """What was missing is no longer asked for; what was asked for counts as repaired, packet by packet."""
        self.accept(1, 10)
        self.accept(31, 40)
        self.stream.announce(60, 0.0, WAIT)
        self.assertEqual(self.stream.missing_count, 40)
        self.stream.take_due(WAIT, 0.1)
        self.assertTrue(self.accept(21, 30))
        self.assertEqual((self.stream.contiguous, self.stream.missing_count, self.stream.repairs), (10, 30, 10))
        self.assertTrue(self.accept(11, 20))
        self.assertEqual((self.stream.contiguous, self.stream.missing_count, self.stream.repairs), (40, 20, 20))
        self.assertTrue(self.accept(41, 65))
        self.assertEqual((self.stream.contiguous, self.stream.highest, self.stream.due_at()), (65, 65, inf))
        self.assertEqual(self.held(), {number: made_packet(number) for number in range(1, 66)})

    def test_a_run_of_many_that_are_wanted(self) -> None:
        """When a plan names more packets than are tracked at once, runs of them make room for the next."""
        self.stream = Stream(0, 4 * MAX_MISSING)
        count = MAX_MISSING + 5000
        self.stream.want_only(list(range(1, count + 1)), 0.0)
        for first in range(1, count + 1, 40):
            last = min(first + 39, count)
            self.assertTrue(self.accept(first, last))
            self.assertEqual(self.stream.missing_count, count - last)
        self.assertEqual(self.stream.contiguous, count)

    def test_a_run_too_far_ahead_is_refused(self) -> None:
        """A run may end at the limit above the contiguous part, not beyond; then nothing of it is taken."""
        self.accept(1, 10)
        self.assertFalse(self.accept(1001, 1011))
        self.assertFalse(self.accept(2000, 2001))
        self.assertEqual((self.stream.highest, self.stream.missing_count), (10, 0))
        self.assertTrue(self.accept(1001, 1010))
        self.assertEqual((self.stream.highest, self.stream.missing_count), (1010, 990))

    def test_own_runs(self) -> None:
        """What leaves is contiguous at once, and at hand for repairs, packet by packet."""
        self.stream.append(made_packet(1))
        self.stream.append_run(made_run(2, 47))
        self.stream.append(made_packet(48))
        self.stream.append_run(made_run(49, 50))
        self.stream.check_invariants()
        self.assertEqual((self.stream.contiguous, self.stream.highest, self.stream.due_at()), (50, 50, inf))
        self.assertEqual(self.held(), {number: made_packet(number) for number in range(1, 51)})

    def test_a_run_is_freed_packet_by_packet(self) -> None:
        """What all have is no longer at hand, the rest of the run is."""
        self.stream.append_run(made_run(1, 46))
        self.stream.free(20)
        self.assertEqual(self.held(), {number: made_packet(number) for number in range(21, 47)})
        self.stream.free(46)
        self.assertEqual(self.stream.held, {})

    def test_a_duplicate_of_a_part_of_a_run(self) -> None:
        """A packet that came in a run is a duplicate when it comes again."""
        self.accept(1, 10)
        self.accept(12, 20)
        for number in (1, 10, 12, 20):
            self.assertIs(self.stream.accept(number, made_packet(number), 0.0, WAIT), Accepted.DUPLICATE)
        self.assertIs(self.stream.accept(11, made_packet(11), 0.0, WAIT), Accepted.NEW)
        self.assertEqual(self.stream.contiguous, 20)

    def test_runs_are_as_good_as_single_packets(self) -> None:
        """However packets are divided into runs, lost and reordered, the stream is as if they came one by one."""
        random = Random(9)
        for _ in range(100):
            together, single = Stream(0, 300), Stream(0, 300)
            runs: list[tuple[int, int]] = []
            number = 1
            while number < 400:
                last = number + random.choice((0, 0, 5, 45))
                if random.random() < 0.8:
                    runs.append((number, last))
                number = last + 1
            for index in range(len(runs) - 1):
                if random.random() < 0.3:
                    runs[index], runs[index + 1] = runs[index + 1], runs[index]
            now = 0.0
            for first, last in [*runs, *random.sample(runs, 5)]:
                now += 0.004
                if not together.accept_run(made_run(first, last), now, WAIT):
                    for each in range(first, last + 1):
                        together.accept(each, made_packet(each), now, WAIT)
                for each in range(first, last + 1):
                    single.accept(each, made_packet(each), now, WAIT)
                if random.random() < 0.3:
                    self.assertEqual(together.take_due(now, 0.1), single.take_due(now, 0.1))
                if random.random() < 0.3:
                    stable = random.randint(0, 400)
                    together.free(stable)
                    single.free(stable)
                together.check_invariants()
                self.assertEqual(
                    {each: together.packet(each) for each in together.held},
                    {each: single.packet(each) for each in single.held},
                )
                for name in ("contiguous", "highest", "stable", "missing_count", "ever_missing", "repairs"):
                    self.assertEqual(getattr(together, name), getattr(single, name), name)
                self.assertEqual(together.due_at(), single.due_at())

    def test_a_shorter_last_one(self) -> None:
        """The last packet of a run may be shorter; it comes back as short as it was."""
        run = PacketRun(7, bytes(3), (), Packets(4, data=b"aaaabbbbc"))
        self.assertEqual([run.packet(number) for number in (7, 8, 9)], [b"aaaa", b"bbbb", b"c"])


class RangeTests(SynchronousTestCase):
    """Numbers to ranges."""

    def test_adjacent_numbers_are_joined(self) -> None:
        """Ascending numbers become the fewest ranges; 0 is a number like any other."""
        self.assertEqual(join_ranges([]), ())
        self.assertEqual(join_ranges([0]), (Range(0, 0),))
        self.assertEqual(join_ranges([1, 2, 3, 5, 7, 8]), (Range(1, 3), Range(5, 5), Range(7, 8)))
