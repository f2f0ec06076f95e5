"""What would be primary, and what it would survive."""

from __future__ import annotations

from itertools import combinations

from twisted.trial.unittest import SynchronousTestCase

from groupcomm.errors import UsageError
from groupcomm.quorum import Filter, Quorum
from groupcomm.quorum.whatif import components


def of(chosen: Filter, names: str, tie_breaker: str | None = None) -> Quorum:
    return Quorum(chosen, tuple((name, 1) for name in names), tie_breaker)


class WhatIfTests(SynchronousTestCase):
    """Components of a cluster in thought."""

    def test_components(self) -> None:
        """The sides that are named, and the rest; without those that are down."""
        found = components(of(Filter.MAJORITY, "abcde"), ["ab"], "c")
        self.assertEqual([("".join(one.nodes), one.primary) for one in found], [("ab", False), ("de", False)])
        found = components(of(Filter.MAJORITY, "abcde"), ["ab"])
        self.assertEqual([(one.primary, one.votes, one.total) for one in found], [(False, 2, 5), (True, 3, 5)])

    def test_survives(self) -> None:
        """How many may fail at once, in the worst case; for dynamic-linear also one after the other."""
        for quorum, names, at_once, one_by_one in (
            (of(Filter.MAJORITY, "abcde"), "abcde", 2, 2),
            (of(Filter.MAJORITY, "abcd"), "abcd", 1, 1),
            (of(Filter.MAJORITY, "abcd", "a"), "abcd", 1, 1),
            (of(Filter.MAJORITY, "ab", "a"), "ab", 0, 0),
            (of(Filter.DYNAMIC_LINEAR, "abcde"), "abcde", 2, 3),
            (of(Filter.DYNAMIC_LINEAR, "abcde"), "abcd", 1, 2),
            (Quorum(Filter.WEIGHTED, (("a", 3), ("b", 1), ("c", 1), ("d", 1))), "abcd", 0, 0),
            (Quorum(Filter.WEIGHTED, (("a", 2), ("b", 2), ("c", 1), ("d", 1))), "abcd", 1, 1),
        ):
            down = set(quorum.names) - set(names)
            (found,) = components(quorum, [], down)
            self.assertTrue(found.primary)
            self.assertEqual((found.survives, found.one_by_one), (at_once, one_by_one), (quorum, names))

    def test_survives_is_the_worst_case(self) -> None:
        """Whichever so many fail the rest is primary, and there are one more that may not; tried out for all."""
        for breaker in (None, *"abcde"):
            votes = (("a", 3), ("b", 2), ("c", 1), ("d", 1), ("e", 1))
            quorum = Quorum(Filter.WEIGHTED, votes, breaker)
            (whole,) = components(quorum, [])
            for count, holds in ((whole.survives, True), (whole.survives + 1, False)):
                left = [components(quorum, [], down)[0].primary for down in combinations("abcde", count)]
                self.assertEqual(all(left), holds, (breaker, count))

    def test_last(self) -> None:
        """For dynamic-linear it depends on who was primary last."""
        quorum = of(Filter.DYNAMIC_LINEAR, "abcde")
        found = components(quorum, ["ab"], last="abc")
        self.assertEqual([one.primary for one in found], [True, False])

    def test_errors(self) -> None:
        """Names that are no quorum nodes, and names in two places."""
        quorum = of(Filter.MAJORITY, "abc")
        self.assertRaises(UsageError, components, quorum, ["x"])
        self.assertRaises(UsageError, components, quorum, [], "x")
        self.assertRaises(UsageError, components, quorum, ["ab", "b"])
        self.assertRaises(UsageError, components, quorum, ["a"], "a")
        self.assertRaises(UsageError, components, of(Filter.DYNAMIC_LINEAR, "abc"), [], last="x")
        self.assertRaises(UsageError, components, of(Filter.DYNAMIC_LINEAR, "abc"), [], last="")
