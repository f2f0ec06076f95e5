"""What an application sees when it prints an event."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from groupcomm.events import Departure, Level, Message, Reason, View
from groupcomm.identity import GroupViewId, MemberId, NodeId, ViewId

ALPHA = NodeId("alpha", 1)
ANNE, BEN = MemberId("anne", ALPHA, 1), MemberId("ben", ALPHA, 2)
VIEW = GroupViewId(ViewId(7, ALPHA), 3)


class TextTests(SynchronousTestCase):
    """The text of an event is for people: names, not nested values."""

    def test_message(self) -> None:
        """A message says who sent what to whom, and at which level."""
        message = Message(("tea", "cake"), ANNE, Level.AGREED, b"hello", VIEW)
        self.assertEqual(str(message), "anne@alpha to tea, cake, AGREED: b'hello'")
        self.assertEqual(str(Message((), BEN, Level.SAFE, b"psst", None)), "ben@alpha to you alone, SAFE: b'psst'")

    def test_view(self) -> None:
        """A view says who is in it, who came, who went and why."""
        view = View("tea", VIEW, (ANNE,), (ANNE,), (Departure(BEN, Reason.NODE_FAILURE),), (), True)
        self.assertEqual(
            str(view), "view 7-alpha-1/3 of tea: anne@alpha; joined: anne@alpha; left: ben@alpha (node failure)"
        )
        self.assertEqual(str(View("tea", VIEW, (ANNE,), (), (), (), True)), "view 7-alpha-1/3 of tea: anne@alpha")
