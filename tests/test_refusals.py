"""What a node remembers of packets that were not let in."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from groupcomm.limits import MAX_REFUSALS
from groupcomm.node.refusals import Refusals
from groupcomm.outputs import PacketsRefused

A, B = ("10.0.0.1", 4874), ("10.0.0.2", 4874)


class RefusalsTests(SynchronousTestCase):
    """One for each sender and reason, so many at most."""

    def test_the_latest_is_at_the_end(self) -> None:
        """Told of again, a sender is the latest, and what it sent is added up."""
        refusals = Refusals()
        refusals.told(PacketsRefused("seal_broken", A, 3), 1.0)
        refusals.told(PacketsRefused("passport_refused", B, 1, "revoked"), 2.0)
        refusals.told(PacketsRefused("seal_broken", A, 4), 61.0)
        status = refusals.status(63.0)
        self.assertEqual([(one.source, one.count, one.seconds) for one in status], [(B, 1, 61.0), (A, 7, 2.0)])
        self.assertEqual([one.text for one in status], ["revoked", ""])

    def test_it_stays_small(self) -> None:
        """Whoever sends from many addresses has the oldest forgotten."""
        refusals = Refusals()
        for number in range(MAX_REFUSALS + 5):
            refusals.told(PacketsRefused("unsealed", (f"10.0.0.{number}", 1), 1), 1.0)
        kept = refusals.status(1.0)
        self.assertEqual([kept[0].source[0], len(kept)], ["10.0.0.5", MAX_REFUSALS])
