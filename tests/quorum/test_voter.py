"""What a node remembers of primary views, and when."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from groupcomm.identity import NodeId, ViewId
from groupcomm.quorum import NO_MEMORY, NO_QUORUM, Filter, Memory, Primary, Quorum, Verdict, Voter, Why
from groupcomm.quorum.voter import DISK_SECONDS

A, B, C = (NodeId(name, 1) for name in "abc")
QUORUM = Quorum(Filter.DYNAMIC_LINEAR, (("a", 1), ("b", 1), ("c", 1)))
YES = Verdict(True, Why.MAJORITY)
NO = Verdict(False, Why.TOO_FEW)


def view(number: int) -> ViewId:
    return ViewId(number, A)


class VoterTests(SynchronousTestCase):
    """The memory of node ``a``."""

    def setUp(self) -> None:
        self.voter = Voter(QUORUM, 7, NO_MEMORY)

    def test_without_filter(self) -> None:
        """It says and remembers nothing."""
        voter = Voter(NO_QUORUM, 0, NO_MEMORY)
        self.assertIsNone(voter.vote)
        self.assertFalse(voter.plan_came(view(1), [A], Verdict(), 1.0))
        self.assertFalse(voter.installed(view(1), [A], [A], Verdict(), A))
        self.assertEqual(voter.memory, NO_MEMORY)

    def test_attempt_then_last(self) -> None:
        """A primary plan is an attempt, its installation the last primary view; and then nothing was forgotten."""
        self.assertTrue(self.voter.plan_came(view(1), [A, B], YES, 1.0))
        attempt = Primary(view(1), 0b011)
        self.assertEqual(self.voter.memory, Memory(None, (attempt,), False))
        self.assertTrue(self.voter.installed(view(1), [A, B], [A, B], YES, A))
        self.assertEqual(self.voter.memory, Memory(attempt, (), True))
        self.assertEqual(self.voter.highest_epoch, 1)

    def test_views_that_are_not_primary(self) -> None:
        """They change nothing."""
        self.assertFalse(self.voter.plan_came(view(1), [A], NO, 1.0))
        self.assertFalse(self.voter.installed(view(1), [A], [A], NO, A))
        self.assertEqual((self.voter.memory, self.voter.verdict), (NO_MEMORY, NO))

    def test_void_attempts_are_dropped(self) -> None:
        """Whatever the plan that says so comes to."""
        self.voter.plan_came(view(1), [A, B], YES, 1.0)
        self.voter.plan_came(view(2), [A, C], YES, 1.0)
        self.assertTrue(self.voter.plan_came(view(3), [A], Verdict(False, Why.TOO_FEW, 0, (view(1),)), 1.0))
        self.assertEqual([one.id for one in self.voter.memory.attempts], [view(2)])

    def test_a_repeated_plan(self) -> None:
        """It is one attempt."""
        self.voter.plan_came(view(1), [A, B], YES, 1.0)
        self.assertFalse(self.voter.plan_came(view(1), [A, B], YES, 1.0))

    def test_who_leaves_knows_and_still_counts_as_having_forgotten(self) -> None:
        """It took part in handing over, but was no member."""
        self.voter.plan_came(view(1), [B, C], YES, 1.0)
        self.voter.installed(view(1), [A, B, C], [B, C], YES, A)
        self.assertEqual(self.voter.memory, Memory(Primary(view(1), 0b110), (), False))

    def test_other_settings_are_named(self) -> None:
        """By name, of the participants."""
        self.voter.installed(view(1), [A, B, C], [A, B, C], Verdict(False, Why.OTHER_SETTINGS, 0b100), A)
        self.assertEqual(self.voter.differing, ("c",))
        self.assertEqual(self.voter.why, "nodes here have other quorum settings: c")

    def test_waits_for_the_disk(self) -> None:
        """From a plan that is an attempt until the memory with it, or a later one, is kept; not at an installation."""
        self.assertFalse(self.voter.waits)
        self.voter.plan_came(view(1), [A, B], YES, 1.0)
        self.voter.plan_came(view(2), [A, B], YES, 2.0)
        self.assertTrue(self.voter.waits)
        self.assertFalse(self.voter.kept(1, 3.0))
        self.assertTrue(self.voter.waits)
        self.assertTrue(self.voter.kept(2, 4.0))
        self.assertFalse(self.voter.waits)
        self.voter.installed(view(2), [A, B], [A, B], YES, A)
        self.assertEqual(self.voter.number, 3)
        self.assertFalse(self.voter.waits)
        self.assertFalse(self.voter.kept(3, 5.0))

    def test_a_stuck_disk(self) -> None:
        """One that takes nothing for too long; whatever it takes begins the time anew."""
        self.voter.plan_came(view(1), [A, B], YES, 1.0)
        self.voter.plan_came(view(2), [A, B], YES, 5.0)
        self.assertFalse(self.voter.is_stuck(1.0 + 2 * DISK_SECONDS))
        self.assertTrue(self.voter.is_stuck(1.1 + 2 * DISK_SECONDS))
        self.voter.kept(1, 6.0)
        self.assertFalse(self.voter.is_stuck(6.0 + 2 * DISK_SECONDS))
        self.assertTrue(self.voter.is_stuck(6.1 + 2 * DISK_SECONDS))
        self.voter.kept(2, 20.0)
        self.assertFalse(self.voter.is_stuck(100.0))
