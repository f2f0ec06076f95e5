"""Reports of what a node has, and their sum."""

from __future__ import annotations

from math import inf

from twisted.trial.unittest import SynchronousTestCase

from groupcomm.config import EngineConfig
from groupcomm.reliability.reports import Reports
from groupcomm.wire.packets import Kind, Status, StatusEntry, Summary, SummaryEntry
from tests.reliability.view_double import DIGEST, ViewDouble

ROOM = 5000
LARGE = EngineConfig("c", suppression_nodes=2)


class ReportCase(SynchronousTestCase):
    """Three nodes; what has come counts as delivered."""

    def build(self, config: EngineConfig, me: int = 0) -> None:
        """Make the reports of one of them."""
        self.view = view = ViewDouble()
        self.rose: list[int] = []
        self.reports = Reports(
            me,
            DIGEST,
            config,
            view.streams,
            view.stability,
            [ROOM] * 3,
            view.counters,
            view.out,
            self,
        )

    def delivered_through(self, index: int) -> int:
        """What has come counts as delivered."""
        return self.view.streams[index].contiguous

    def own_rose(self, stream: int) -> None:
        """Kept to be looked at."""
        self.rose.append(stream)

    def came(self, stream: int, *numbers: int, now: float) -> None:
        """Packets have come, and are looked at."""
        self.view.packets_came(stream, *numbers)
        self.reports.touched.add(stream)
        self.reports.report(now)

    def reported(self) -> list[tuple[int | None, tuple[StatusEntry, ...]]]:
        """The reports that were sent since the last look."""
        taken = self.view.taken()
        self.assertEqual({kind for kind, _, _ in taken} - {Kind.STATUS}, set())
        return [(to, Status.decode(body).entries) for _, to, body in taken]


class ReportTests(ReportCase):
    """A small view: all are told."""

    def setUp(self) -> None:
        self.build(EngineConfig("c"))

    def test_what_moves_is_reported_in_time(self) -> None:
        """One report for all that has moved within the time, none for what has not."""
        self.came(1, 1, now=1.0)
        self.came(1, 2, now=1.01)
        self.came(2, 1, now=1.02)
        self.assertEqual(self.reported(), [])
        due = self.reports.due_at()
        self.assertAlmostEqual(due, 1.0 + self.reports.status_seconds)
        self.assertTrue(self.reports.is_timed)
        self.reports.report(due)
        self.assertEqual(self.reported(), [(None, (StatusEntry(1, 2, 2), StatusEntry(2, 1, 1)))])
        self.assertEqual((self.reports.due_at(), self.reports.is_timed), (inf, False))

    def test_who_waits_is_answered_at_once(self) -> None:
        """A packet that asks for a report gets it when it is here, not before."""
        self.reports.wanted(1, 2)
        self.came(1, 1, now=1.0)
        self.assertEqual(self.reported(), [(None, (StatusEntry(1, 1, 1),))])
        self.assertFalse(self.reports.is_timed)
        self.came(1, 2, now=1.0 + self.reports.prompt_seconds)
        self.assertEqual(self.reported(), [(None, (StatusEntry(1, 2, 2),))])
        self.came(1, 3, now=1.1)
        self.assertEqual(self.reported(), [])

    def test_all_streams_when_asked(self) -> None:
        """Whoever wants to hear of everything hears of streams that have not moved too."""
        self.came(2, 1, now=1.0)
        self.reports.full_wanted = True
        self.reports.report(1.0)
        self.assertEqual(self.reported(), [(None, (StatusEntry(0, 0, 0), StatusEntry(1, 0, 0), StatusEntry(2, 1, 1)))])

    def test_what_this_node_has_counts(self) -> None:
        """This node's own word may be the last that all have a packet."""
        for node in (1, 2):
            self.view.stability.report(node, StatusEntry(1, 1, 1))
        self.came(1, 1, now=1.0)
        self.assertEqual((self.rose, self.view.stability.stable[1]), ([1], 1))


class SummaryTests(ReportCase):
    """A large view: one collects."""

    def test_reports_go_to_the_collector_until_they_are_covered(self) -> None:
        """A report is repeated, ever more rarely, until a summary says that the collector has it."""
        self.build(LARGE)
        self.came(1, 1, now=1.0)
        self.reports.report(self.reports.due_at())
        self.assertEqual(self.reported(), [(2, (StatusEntry(1, 1, 1),))])
        self.reports.repeat(self.reports.due_at())
        self.assertEqual(self.reported(), [(2, (StatusEntry(1, 1, 1),))])
        self.view.stability.sum_came(SummaryEntry(1, 1, 1))
        for node in range(3):
            self.view.stability.report(node, StatusEntry(1, 1, 1))
        self.reports.repeat(self.reports.due_at())
        self.assertEqual((self.reported(), self.reports.due_at()), ([], inf))

    def test_the_collector_sums_up(self) -> None:
        """It sends no reports; some time after one has come it tells what all have, and how much room the least has."""
        self.build(LARGE, me=2)
        for node in (0, 1):
            self.view.stability.report(node, StatusEntry(1, 1, 0))
        self.came(1, 1, now=1.0)
        self.reports.report(self.reports.due_at())
        self.assertEqual(self.rose, [1])
        self.reports.repeat(2.0)
        [(kind, to, body)] = self.view.taken()
        self.assertEqual((kind, to), (Kind.SUMMARY, None))
        self.assertEqual(Summary.decode(body), Summary(ROOM, (SummaryEntry(1, 1, 0),)))
