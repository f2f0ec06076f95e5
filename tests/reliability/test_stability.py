"""What everybody is known to have."""

from __future__ import annotations

from random import Random

from twisted.trial.unittest import SynchronousTestCase

from groupcomm.reliability.stability import Stability
from groupcomm.wire.packets import StatusEntry, SummaryEntry


class StabilityTests(SynchronousTestCase):
    """The matrix of reports."""

    def setUp(self) -> None:
        self.stability = Stability(3, 10)

    def report(self, node: int, received: int, delivered: int, stream: int = 0) -> bool:
        return self.stability.report(node, StatusEntry(stream, received, delivered))

    def test_the_least_of_all_is_stable(self) -> None:
        """A packet is stable when every node has reported it, and delivered everywhere when all have delivered it."""
        self.assertEqual((self.stability.stable, self.stability.delivered), ([10] * 3, [10] * 3))
        self.assertFalse(self.report(0, 15, 15))
        self.assertFalse(self.report(1, 14, 11))
        self.assertEqual(self.stability.stable[0], 10)
        self.assertTrue(self.report(2, 12, 10))
        self.assertEqual((self.stability.stable, self.stability.delivered), ([12, 10, 10], [10, 10, 10]))
        self.assertTrue(self.report(2, 12, 12))
        self.assertEqual(self.stability.delivered[0], 11)

    def test_late_reports_are_ignored(self) -> None:
        """A report that says less than an earlier one takes nothing back."""
        for node in range(3):
            self.report(node, 15, 15)
        self.assertFalse(self.report(1, 12, 11))
        self.assertEqual((self.stability.stable[0], self.stability.delivered[0]), (15, 15))
        self.assertEqual(self.stability.received_by(1, 0), 15)

    def test_holders_and_those_who_are_short(self) -> None:
        """It is known who can repair a packet and who has not delivered it."""
        self.report(0, 15, 12)
        self.report(2, 14, 14)
        self.assertEqual(self.stability.holders(0, 14), [0, 2])
        self.assertEqual(self.stability.holders(0, 15), [0])
        self.assertEqual(self.stability.short_of(0, 14), 0b011)
        self.assertEqual(self.stability.short_of(0, 10), 0)

    def test_the_end_of_the_view_can_prove_more(self) -> None:
        """What a plan proves stable counts, and never less than was known."""
        self.stability.raise_to(1, 20)
        self.stability.raise_to(0, 5)
        self.assertEqual(self.stability.stable, [10, 20, 10])

    def test_minima_match_a_plain_computation(self) -> None:
        """Over random reports the kept minima equal those computed from all reports."""
        random, best = Random(3), {(node, stream): (10, 10) for node in range(3) for stream in range(3)}
        for _ in range(2000):
            node, stream = random.randrange(3), random.randrange(3)
            received = 10 + random.randrange(200)
            delivered = random.randrange(10, received + 1)
            before = list(self.stability.stable), list(self.stability.delivered)
            rose = self.report(node, received, delivered, stream)
            old = best[node, stream]
            best[node, stream] = max(old[0], received), max(old[1], delivered)
            for column in range(3):
                rows = [best[row, column] for row in range(3)]
                self.assertEqual(self.stability.stable[column], min(row[0] for row in rows))
                self.assertEqual(self.stability.delivered[column], min(row[1] for row in rows))
            self.assertEqual(rose, before != (self.stability.stable, self.stability.delivered))


class SumTests(SynchronousTestCase):
    """What is known where another node sums the reports up."""

    def setUp(self) -> None:
        self.stability = Stability(3, 10, rows=False)

    def test_only_summaries_count(self) -> None:
        """Reports of single nodes prove nothing; a summary says what all have."""
        for node in range(3):
            self.assertFalse(self.stability.report(node, StatusEntry(0, 15, 15)))
        self.assertEqual(self.stability.stable[0], 10)
        self.assertTrue(self.stability.sum_came(SummaryEntry(0, 14, 12)))
        self.assertEqual((self.stability.stable, self.stability.delivered), ([14, 10, 10], [12, 10, 10]))

    def test_late_summaries_are_ignored(self) -> None:
        """A summary that says less than an earlier one takes nothing back."""
        self.stability.sum_came(SummaryEntry(1, 14, 12))
        self.assertFalse(self.stability.sum_came(SummaryEntry(1, 13, 12)))
        self.assertTrue(self.stability.sum_came(SummaryEntry(1, 13, 13)))
        self.assertEqual((self.stability.stable[1], self.stability.delivered[1]), (14, 13))

    def test_what_a_summary_covers_need_not_be_reported_again(self) -> None:
        """A report is covered when all have received and delivered as much."""
        self.stability.sum_came(SummaryEntry(0, 14, 12))
        covered = [self.stability.covers(StatusEntry(0, *entry)) for entry in ((14, 12), (14, 13), (15, 12), (12, 12))]
        self.assertEqual(covered, [True, False, False, True])

    def test_everybody_may_hold_what_nobody_reported(self) -> None:
        """Without rows all are asked in turn, and all are short until a summary says otherwise."""
        self.assertEqual(self.stability.holders(0, 12), [0, 1, 2])
        self.assertEqual(self.stability.short_of(0, 12), 0b111)
        self.stability.sum_came(SummaryEntry(0, 12, 12))
        self.assertEqual(self.stability.short_of(0, 12), 0)
