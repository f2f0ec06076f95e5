"""The end of a stream, told to those who may have lost it."""

from __future__ import annotations

from math import inf

from twisted.trial.unittest import SynchronousTestCase

from groupcomm.reliability.tail import TailSender
from groupcomm.wire.packets import Kind, StatusEntry, Tail
from tests.reliability.view_double import DIGEST, ME, ViewDouble

RARELY = 0.25


class TailTests(SynchronousTestCase):
    """Three nodes; this one has sent."""

    def setUp(self) -> None:
        self.view = ViewDouble()
        view = self.view
        self.tail = TailSender(
            ME,
            DIGEST,
            view.streams[ME],
            view.stability,
            view.rtts,
            view.counters,
            view.out,
            least_wait=0.0,
            rarely=RARELY,
            names_short=True,
        )

    def send(self, now: float) -> None:
        """One packet leaves."""
        self.view.streams[ME].append(b"packet")
        self.view.stability.report(ME, StatusEntry(ME, self.view.streams[ME].contiguous, 0))
        self.tail.sent(now)

    def test_those_who_lack_the_end_are_told(self) -> None:
        """A tail names how far the stream goes and who has not said that it has it; alone, that node is told alone."""
        self.assertEqual(self.tail.due_at(), inf)
        self.send(1.0)
        due = self.tail.due_at()
        self.tail.maintain(due)
        [(kind, to, body)] = self.view.taken()
        self.assertEqual((kind, to, Tail.decode(body)), (Kind.TAIL, None, Tail(1, 0b110)))
        self.view.stability.report(2, StatusEntry(ME, 1, 1))
        self.tail.maintain(self.tail.due_at())
        [(kind, to, body)] = self.view.taken()
        self.assertEqual((to, Tail.decode(body)), (1, Tail(1, 0b010)))

    def test_more_and_more_rarely(self) -> None:
        """As long as somebody does not answer it is told again, at twice the time, up to the heartbeat's."""
        self.send(0.0)
        waits, last = [], 0.0
        for _ in range(8):
            due = self.tail.due_at()
            waits.append(round(due - last, 6))
            self.tail.maintain(due)
            last = due
        self.assertEqual(waits, [min(waits[0] * 2**number, RARELY) for number in range(8)])

    def test_nobody_lacks_it(self) -> None:
        """When all have everything nothing is due any more."""
        self.send(0.0)
        for node in (1, 2):
            self.view.stability.report(node, StatusEntry(ME, 1, 1))
        self.tail.maintain(self.tail.due_at())
        self.assertEqual((self.view.taken(), self.tail.due_at()), ([], inf))

    def test_where_packets_get_lost_the_last_is_repeated(self) -> None:
        """The last packet of a burst goes out again, at most twice, and not where nothing gets lost."""
        self.tail.lost(0.0)
        self.send(0.0)
        repeated = []
        while self.tail.due_at() < 0.2:
            self.tail.maintain(self.tail.due_at())
            repeated += [data for data, _, _ in self.view.out if data == b"packet"]
            self.view.out.clear()
        self.assertEqual(repeated, [b"packet"] * 2)
        self.assertEqual(self.view.counters["packets_repeated"], 2)
