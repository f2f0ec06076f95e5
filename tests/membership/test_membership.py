"""How a gathering node follows another's attempt."""

from __future__ import annotations

from random import Random

from twisted.trial.unittest import SynchronousTestCase

from groupcomm.config import EngineConfig
from groupcomm.engine import Engine
from groupcomm.identity import NodeId
from groupcomm.wire.codec import list_digest
from groupcomm.wire.messages import Join

ME, GONE, OTHER = NodeId("me", 1), NodeId("gone", 1), NodeId("other", 2)


class FollowTests(SynchronousTestCase):
    """A node that gathers with a candidate that is long gone hears of a higher attempt."""

    def candidates_after(self, *, began_later: bool) -> set[NodeId]:
        """The candidates of ``ME`` after a JOIN of ``OTHER`` whose change began before or after its own attempt."""
        membership = Engine(EngineConfig(), ME, Random(1), 0.0)._membership
        membership.start(0.0)
        membership._begin(1.0, [GONE])
        assert membership._gather is not None
        attempt = membership._gather.attempt
        begun = attempt + 1 if began_later else attempt
        names = (ME, OTHER)
        digest = list_digest(names)
        join = Join(OTHER, None, None, False, attempt + 2, begun, 1, 1, 0, digest, 2, 0, names, ())
        membership.join_received(join, ("10.0.0.2", 7400), 1.01)
        self.assertEqual(membership._gather.attempt, attempt + 2)
        return membership._gather.candidates

    def test_a_later_change_replaces_stale_candidates(self) -> None:
        """A change that began since makes one's own out of date: its candidates are forgotten."""
        self.assertEqual(self.candidates_after(began_later=True), {ME, OTHER})

    def test_a_later_attempt_of_the_same_change_keeps_candidates(self) -> None:
        """A further attempt of a change under way is joined with all candidates one has."""
        self.assertEqual(self.candidates_after(began_later=False), {ME, GONE, OTHER})
