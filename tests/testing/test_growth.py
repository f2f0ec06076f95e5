"""The measurement of what a larger cluster costs."""

from __future__ import annotations

import io
from contextlib import redirect_stdout

from twisted.trial.unittest import SynchronousTestCase

from groupcomm.testing.growth import HEADINGS, main, measure


class GrowthTests(SynchronousTestCase):
    """Small clusters, measured."""

    def test_what_is_measured(self) -> None:
        """Each message leaves one node once and reaches all others; the rest is what keeps the cluster together."""
        growth = measure(4, 40, loss=0.0)
        self.assertEqual(growth.nodes, 4)
        self.assertTrue(0.9 <= growth.join_seconds < 1.5, growth)
        self.assertGreater(growth.message_received, 1.0)
        self.assertGreater(growth.message_sent, 1 / 4)
        self.assertLess(growth.deliver_seconds, 0.1)

    def test_a_table_is_printed(self) -> None:
        """One row for each size that is asked for, as a page takes it."""
        text = io.StringIO()
        with redirect_stdout(text):
            self.assertEqual(main(["2", "3"]), 0)
        rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.getvalue().splitlines()]
        self.assertEqual([row[0] for row in rows], ["nodes", "---:", "2", "3"])
        self.assertEqual({len(row) for row in rows}, {len(HEADINGS)})
