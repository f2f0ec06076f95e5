"""STATUS and SUMMARY with absurd stability: claims to have received what was never sent, or all of it, or nothing."""

from __future__ import annotations

from attrs import evolve

from groupcomm.config import EngineConfig
from groupcomm.events import Level
from groupcomm.wire.packets import WANTS_STATUS, Kind, Status, StatusEntry, Summary, SummaryEntry
from tests.hostile.attacker import HostileCase, view_packet

LAST_NUMBER = (1 << 64) - 1
ROOM = 1 << 25


class StatusTests(HostileCase):
    """Reports in the name of ``b``."""

    def report(self, *entries: StatusEntry, flags: int = 0) -> bytes:
        """A report of ``b``."""
        return view_packet(self.view(self.nodes[0]), Kind.STATUS, Status(ROOM, entries).encode(), sender=1, flags=flags)

    def test_what_was_never_sent(self) -> None:
        """Who says to have more of a node's stream than it has sent is not believed at all."""
        node, view = self.nodes[0], self.view(self.nodes[0])
        before = self.counter(node, "malformed")
        for more in (1, 2, 1000, LAST_NUMBER - view.highest_sent):
            claim = view.highest_sent + more
            self.attacker.send(self.report(StatusEntry(0, claim, claim)), node)
        self.cluster.run(0.1)
        self.assertEqual(self.counter(node, "malformed") - before, 4)
        self.assertEqual(view._stability.received_by(1, 0), view.highest_sent)
        self.assert_goes_on()

    def test_streams_that_are_not_there(self) -> None:
        """A report about a stream that nobody has is malformed."""
        node = self.nodes[0]
        before = self.counter(node, "malformed")
        for stream in (3, 511, 512):
            self.attacker.send(self.report(StatusEntry(stream, 0, 0)), node)
        self.cluster.run(0.1)
        self.assertEqual(self.counter(node, "malformed") - before, 3)
        self.assert_goes_on()

    def test_going_back(self) -> None:
        """A report of less than before changes nothing: what all have stays what all have."""
        node, view = self.nodes[0], self.view(self.nodes[0])
        self.assert_goes_on()
        stable = list(view._stability.stable)
        self.attacker.send(self.report(*(StatusEntry(stream, 0, 0) for stream in range(3))), node)
        self.cluster.run(0.1)
        self.assertEqual(view._stability.stable, stable)
        self.assert_goes_on()

    def test_asking_for_full_reports(self) -> None:
        """Reports without end that ask for full ones get no more answers than there are intervals for them."""
        node = self.nodes[0]
        before = self.counter(node, "statuses_sent")
        for _ in range(2000):
            self.attacker.send(self.report(flags=WANTS_STATUS), node)
            self.cluster.run(0.0001)
        spent = self.counter(node, "statuses_sent") - before
        self.assertLess(spent, 0.2 / self.config.timing.prompt + 20)
        self.assert_goes_on()

    def test_all_of_it(self) -> None:
        """Who claims to have everything moves no stability alone: the others' reports count too."""
        view = self.view(self.nodes[0])
        self.cluster.cut("a", "c")
        self.cluster.cut("b", "c")
        self.clients[0].send("chat", b"safe", level=Level.SAFE)
        for _ in range(20):
            claim = view.highest_sent
            self.attacker.send(self.report(StatusEntry(0, claim, claim)), self.nodes[0])
            self.cluster.run(0.01)
        self.assertLess(view._stability.stable[0], view.highest_sent)
        self.assertEqual(self.clients[0].messages("chat"), [])
        self.cluster.heal()
        self.assert_goes_on()


class SummaryTests(HostileCase):
    """Summaries in a view where the last node alone sums up."""

    config = evolve(EngineConfig(), suppression_nodes=2)

    def test_from_others_than_the_collector(self) -> None:
        """A summary from who does not sum up is malformed."""
        node, view = self.nodes[0], self.view(self.nodes[0])
        before = self.counter(node, "malformed")
        self.attacker.send(
            view_packet(view, Kind.SUMMARY, Summary(ROOM, (SummaryEntry(0, 0, 0),)).encode(), sender=1), node
        )
        self.cluster.run(0.1)
        self.assertEqual(self.counter(node, "malformed") - before, 1)
        self.assert_goes_on()

    def test_what_is_not_here(self) -> None:
        """A summary cannot say that all have what this node lacks itself: it frees nothing that is still to come."""
        node, view = self.nodes[0], self.view(self.nodes[0])
        stable = list(view._stability.stable)
        before = self.counter(node, "malformed")
        for stream, more in ((0, 1), (1, 1), (2, LAST_NUMBER), (3, 0), (511, 0)):
            claim = min(LAST_NUMBER, more + (view.streams[stream].contiguous if stream < 3 else 0))
            summary = Summary(ROOM, (SummaryEntry(stream, claim, claim),))
            self.attacker.send(view_packet(view, Kind.SUMMARY, summary.encode(), sender=2), node)
        self.cluster.run(0.1)
        self.assertEqual(self.counter(node, "malformed") - before, 5)
        self.assertEqual(view._stability.stable, stable)
        self.assert_goes_on()

    def test_no_summary_in_a_small_view(self) -> None:
        """Where everybody reports to all, a summary from anybody is malformed."""
        self.config = EngineConfig()
        self.setUp()
        node, view = self.nodes[0], self.view(self.nodes[0])
        before = self.counter(node, "malformed")
        for sender in (1, 2):
            self.attacker.send(view_packet(view, Kind.SUMMARY, Summary(0, ()).encode(), sender=sender), node)
        self.cluster.run(0.1)
        self.assertEqual(self.counter(node, "malformed") - before, 2)
        self.assert_goes_on()
