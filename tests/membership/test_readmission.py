"""How long who was evicted is kept out."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from groupcomm.identity import NodeId
from groupcomm.limits import MAX_KEPT_OUT
from groupcomm.membership.readmission import MOST_DOUBLINGS, PROBATION, Readmission

NODE = NodeId("slow", 7)


class ReadmissionTests(SynchronousTestCase):
    """Names that were evicted, by the second."""

    def setUp(self) -> None:
        self.readmission = Readmission(10.0)

    def test_it_comes_back(self) -> None:
        """It is kept out from its eviction on and no longer than was said; others never are."""
        self.assertEqual(self.readmission.evicted(NODE, 5_000, 100.0), 10.0)
        self.assertTrue(self.readmission.keeps_out("slow", 109.9))
        self.assertFalse(self.readmission.keeps_out("slow", 110.0))
        self.assertFalse(self.readmission.keeps_out("other", 100.0))
        (shown,) = self.readmission.kept_out(104.0)
        self.assertEqual((shown.node, shown.lag_bytes, shown.seconds, shown.times), (NODE, 5_000, 6.0, 1))
        self.assertEqual(self.readmission.kept_out(110.0), ())

    def test_each_time_it_takes_twice_as_long(self) -> None:
        """Up to a limit."""
        now, seen = 0.0, []
        for _ in range(MOST_DOUBLINGS + 3):
            seen.append(self.readmission.evicted(NODE, 1, now))
            now += seen[-1] + 1.0
        self.assertEqual(seen, [10.0, 20.0, 40.0, 80.0, 160.0, 320.0, 640.0, 640.0, 640.0])

    def test_good_behaviour_is_rewarded(self) -> None:
        """Who was not evicted for ten times as long as it was kept out begins anew, and not a moment sooner."""
        for wait, expected in ((-0.001, 20.0), (0.0, 10.0)):
            readmission = Readmission(10.0)
            readmission.evicted(NODE, 1, 0.0)
            self.assertEqual(readmission.evicted(NODE, 1, 10.0 * (1 + PROBATION) + wait), expected)

    def test_it_goes_by_names(self) -> None:
        """A later run of the node is the same to it."""
        self.readmission.evicted(NODE, 1, 0.0)
        self.assertEqual(self.readmission.evicted(NodeId("slow", 8), 1, 11.0), 20.0)

    def test_it_remembers_so_many(self) -> None:
        """When full, the first that would be forgotten is."""
        for number in range(MAX_KEPT_OUT + 1):
            self.readmission.evicted(NodeId(f"n{number}", 1), 1, number / 100)
        self.assertEqual(len(self.readmission.kept_out(1.0)), MAX_KEPT_OUT)
        self.assertFalse(self.readmission.keeps_out("n0", 1.0))
        self.assertTrue(self.readmission.keeps_out("n1", 1.0))
