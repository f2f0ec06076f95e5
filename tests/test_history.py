"""What a node remembers of the changes of its view."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from groupcomm.events import Reason
from groupcomm.identity import NodeId, ViewId
from groupcomm.limits import MAX_VIEW_CHANGES
from groupcomm.node.history import ViewHistory
from groupcomm.outputs import NodeDeparture, NodeViewInstalled
from groupcomm.wire.evidence import Finding, Record

A, B = NodeId("a", 1), NodeId("b", 1)


class HistoryTests(SynchronousTestCase):
    def test_changes(self) -> None:
        """Each with the view before it, who came, who went and why."""
        history = ViewHistory()
        records = (Record(Finding.REFUSED, B, A),)
        departed = (NodeDeparture(B, Reason.NODE_FAILURE, 3),)
        history.installed(NodeViewInstalled(ViewId(1, A), (A, B), (A,), (), A), 10.0)
        history.installed(NodeViewInstalled(ViewId(2, A), (A,), (A,), departed, A, records), 20.0)
        first, second = history.changes
        self.assertEqual((first.at, first.view, first.before, first.joined), (10.0, ViewId(1, A), None, (A, B)))
        self.assertEqual((second.before, second.members, second.joined), (ViewId(1, A), (A,), ()))
        self.assertEqual((second.departed, second.records), (departed, records))

    def test_the_last_ones(self) -> None:
        """So many are kept."""
        history = ViewHistory()
        for number in range(1, MAX_VIEW_CHANGES + 9):
            history.installed(NodeViewInstalled(ViewId(number, A), (A,), (A,), (), A), 1.0)
        self.assertEqual(len(history.changes), MAX_VIEW_CHANGES)
        self.assertEqual(history.changes[-1].view.epoch, MAX_VIEW_CHANGES + 8)
