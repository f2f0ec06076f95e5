"""How often a second something may be done."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from groupcomm.allowance import Allowance


class AllowanceTests(SynchronousTestCase):
    """Ten times a second."""

    def setUp(self) -> None:
        self.allowance = Allowance(10)

    def takes(self, now: float) -> int:
        """How often it may be done at that moment."""
        return sum(self.allowance.take(now) for _ in range(100))

    def test_a_second_s_worth_at_once_and_no_more(self) -> None:
        """Who asks a hundred times in one moment gets ten; nothing is saved up beyond that."""
        self.assertEqual([self.takes(1000.0), self.takes(1000.0), self.takes(5000.0)], [10, 0, 10])

    def test_it_comes_back_with_time(self) -> None:
        """Half a second later it is half of them, and asking in vain in between costs nothing."""
        self.takes(1000.0)
        self.assertEqual([self.takes(1000.0625), self.takes(1000.125), self.takes(1000.625)], [0, 1, 5])
