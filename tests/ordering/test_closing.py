"""What a plan says of the streams of the view that ends."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from groupcomm.errors import MalformedPacket
from groupcomm.identity import NodeId, ViewId
from groupcomm.ordering.closing import Closing
from groupcomm.reliability.stream import Stream
from groupcomm.wire.messages import Segment, StreamPlan, ViewPlan
from groupcomm.wire.packets import Range

VIEW = ViewId(7, NodeId("a", 1))
AHEAD = 100


class ClosingTests(SynchronousTestCase):
    """Two streams; of the second packets 1, 2 and 5 are here."""

    def setUp(self) -> None:
        self.streams = [Stream(0, AHEAD), Stream(0, AHEAD)]
        for number in (1, 2, 5):
            self.streams[1].accept(number, b"packet", 0.0, 0.0)
        self.closing = Closing(0, self.streams)

    def apply(self, *streams: StreamPlan) -> None:
        """A plan comes; participant 0 is this node, 1 the other, 2 a stranger."""
        self.closing.apply(ViewPlan(VIEW, (0, 1), streams), [0, 1, None], AHEAD)

    def apply_usual(self) -> None:
        """Packets 1 to 4 are delivered, and what of 6 is unordered."""
        segments = (Segment(3, 3, 1, 0), Segment(4, 6, 2, 1))
        self.apply(StreamPlan(0, 0, (), ()), StreamPlan(4, 1, (Range(6, 6),), segments))

    def test_without_a_plan(self) -> None:
        """Nothing is named, nothing is missing."""
        self.assertEqual((self.closing.missing, self.closing.names(1, 1)), (0, False))

    def test_what_is_missing(self) -> None:
        """What the plan names and is not here is wanted, and nothing else."""
        self.apply_usual()
        self.assertEqual((self.closing.want(1.0), self.closing.missing), (3, 3))
        self.assertEqual([number for number, _ in self.streams[1].take_due(1.0, 1.0)], [3, 4, 6])
        self.assertEqual([self.closing.names(1, number) for number in range(3, 8)], [True, True, False, True, False])

    def test_who_is_asked(self) -> None:
        """One holder and the other in turn; a stranger, and this node itself, are not asked."""
        self.apply_usual()
        self.assertEqual([self.closing.holder(1, 3, tries) for tries in range(2)], [1, 0])
        self.assertEqual([self.closing.holder(1, 4, tries) for tries in range(2)], [0, 1])
        self.assertEqual(self.closing.holder(1, 1, 0), 0)

    def test_a_plan_of_something_else(self) -> None:
        """A plan with another number of streams, or of packets that cannot be, is refused and changes nothing."""
        for streams in ((StreamPlan(0, 0, (), ()),), (StreamPlan(AHEAD + 1, 0, (), ()), StreamPlan(0, 0, (), ()))):
            with self.assertRaises(MalformedPacket):
                self.apply(*streams)
            self.assertEqual(self.closing.plan, None)

    def test_another_proposal(self) -> None:
        """A plan that is forgotten names nothing."""
        self.apply_usual()
        self.closing.forget()
        self.assertEqual((self.closing.names(1, 1), self.closing.missing), (False, 0))
