"""Every property has golden traces: those that are right pass and were looked at, those that are wrong are named."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from groupcomm.testing.report import PRECEDENCE
from tests.testing import golden_delivery, golden_end, golden_good, golden_order, golden_views
from tests.testing.golden import GOLDEN, Golden

__all__ = ["golden_delivery", "golden_end", "golden_good", "golden_order", "golden_views"]

SEEN_BY_WATCHERS = {"X1", "X3", "X4", "X5", "X9"}
"""Tried on the wire, in ``test_watchers``: no trace shows them."""

KNOWN_BY_OTHERS = {"G3", "UNRELIABLE"}
"""What these promise is broken as one of the others."""

PROPERTIES = (set(PRECEDENCE) | KNOWN_BY_OTHERS) - SEEN_BY_WATCHERS


def about(name: str, *, good: bool) -> list[Golden]:
    """The golden traces of a property."""
    return [one for one in GOLDEN if name in one.properties and (one.first is None) == good]


class GoldenTests(SynchronousTestCase):
    def test_every_property_has_golden_traces(self) -> None:
        """Each property has a story in which it holds and two or more in which it breaks, and none is unknown."""
        self.assertEqual([name for name in sorted(PROPERTIES) if not about(name, good=True)], [])
        self.assertEqual([name for name in sorted(PROPERTIES) if len(about(name, good=False)) < 2], [])
        self.assertEqual({name for one in GOLDEN for name in one.properties} - PROPERTIES, set())

    def test_good_ones_pass(self) -> None:
        """Nothing is broken in a good story, and what it is about was really checked."""
        for one in GOLDEN:
            if one.first is None:
                report = one.told().report()
                self.assertEqual([f"{v.property}: {v.text}" for v in report.violations], [], one.name)
                unchecked = [name for name in one.properties if not _premise(report.premises, name)]
                self.assertEqual(unchecked, [], one.name)

    def test_bad_ones_are_caught_by_name(self) -> None:
        """What is broken in a bad story is found, and the property it is about is the first that shows it."""
        for one in GOLDEN:
            if one.first is not None:
                found = [violation.property for violation in one.told().report().violations]
                self.assertEqual(found[:1], [one.first], f"{one.name}: {found}")


def _premise(premises: dict[str, int], name: str) -> int:
    return sum(times for premise, times in premises.items() if premise == name or premise.rstrip("ab") == name)
