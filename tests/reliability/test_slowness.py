"""Who is behind at a look, and who is slow after many."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from groupcomm.reliability.slowness import MOST_SECONDS, Look, Patience, Waiting, behind, lag_bytes, look
from groupcomm.reliability.stability import Stability
from groupcomm.reliability.stream import PacketRun, Stream
from groupcomm.wire.packets import Packets, StatusEntry

LOOK_SECONDS = 0.05


class BehindTests(SynchronousTestCase):
    """One look at one stream."""

    def test_one_that_lacks_what_all_others_have(self) -> None:
        """It is behind, also where others lack an eighth of that, and not where they lack more."""
        self.assertEqual(behind((0, 0, 32), 1), {2})
        self.assertEqual(behind((0, 4, 32), 1), {2})
        self.assertEqual(behind((0, 5, 32), 1), frozenset())

    def test_several(self) -> None:
        """Whoever lacks more than that is behind with the last, if they are fewer than the others."""
        self.assertEqual(behind((0, 5, 4, 32, 0), 1), {1, 3})
        self.assertEqual(behind((0, 5, 5, 32, 0), 1), frozenset())
        self.assertEqual(behind((0, 5, 0, 32), 1), frozenset())

    def test_a_view_of_two(self) -> None:
        """There is nobody to be slower than."""
        self.assertEqual(behind((0, 32), 1), frozenset())

    def test_too_little(self) -> None:
        """A few packets are under way all the time."""
        self.assertEqual(behind((0, 0, 20), 20), {2})
        self.assertEqual(behind((0, 0, 19), 20), frozenset())
        self.assertEqual(behind((0, 0, 0), 1), frozenset())


class LookTests(SynchronousTestCase):
    """One look at a view of four, of whom this node is the first."""

    def setUp(self) -> None:
        self.streams = [Stream(0, 1000) for _ in range(4)]
        self.stability = Stability(4, 0)
        self.delivered = [0] * 4

    def sent(self, stream: int, packets: int) -> None:
        for _ in range(packets):
            self.streams[stream].append(bytes(10))

    def report(self, stream: int, *counts: int | tuple[int, int]) -> None:
        """What each node has received, and delivered if that is less."""
        for node, count in enumerate(counts):
            received, delivered = count if isinstance(count, tuple) else (count, count)
            self.stability.report(node, StatusEntry(stream, received, delivered))
            if node == 0:
                self.delivered[stream] = delivered

    def look(self, waiting: Waiting = Waiting.NOTHING, least: int = 20, lane: frozenset[int] = frozenset()) -> Look:
        return look(self.streams, self.stability, self.delivered.__getitem__, 0, waiting, least, lane)

    def test_the_others_are_judged_among_themselves(self) -> None:
        """Who is in the lane neither holds this stream up nor hides another that does; elsewhere it is behind."""
        self.sent(0, 100)
        self.report(0, 100, 95, 0, 100)
        self.assertEqual(self.look(Waiting.RECEIVED).holding, {2})
        self.assertEqual(self.look(Waiting.RECEIVED, lane=frozenset((2,))).holding, {1})
        self.sent(1, 30)
        self.report(1, 30, 30, 0, 30)
        self.assertEqual(self.look(lane=frozenset((2,))).trailing, {2})

    def test_who_holds_the_sender_up(self) -> None:
        """While it waits; otherwise who lacks much is behind and harms nobody."""
        self.sent(0, 30)
        self.report(0, 30, 30, 5, 30)
        self.assertEqual(self.look(Waiting.RECEIVED), Look(frozenset({2}), frozenset({2})))
        self.assertEqual(self.look(), Look(frozenset(), frozenset({2})))

    def test_a_full_window_needs_no_least(self) -> None:
        """A window is full of so few packets if they are large."""
        self.sent(0, 3)
        self.report(0, 3, 3, 3, 1)
        self.assertEqual(self.look(Waiting.RECEIVED).holding, {3})
        self.assertEqual(self.look(), Look())

    def test_deliveries_count_where_the_grant_is_full(self) -> None:
        """Not where the window is."""
        self.sent(0, 30)
        self.report(0, 30, 30, (30, 2), 30)
        self.assertEqual(self.look(Waiting.DELIVERED).holding, {2})
        self.assertEqual(self.look(Waiting.RECEIVED).holding, frozenset())

    def test_a_sequencer_that_receives_late(self) -> None:
        """Nobody delivers without it: it is behind by what it has received."""
        self.sent(0, 30)
        self.report(0, (30, 2), (30, 2), (2, 2), (30, 2))
        self.assertEqual(self.look(Waiting.DELIVERED).holding, {2})

    def test_streams_of_others(self) -> None:
        """A node sees who is behind there too; the sender itself never is, whatever was last heard of it."""
        self.sent(1, 40)
        self.report(1, 40, 0, 40, 10)
        self.assertEqual(self.look(Waiting.RECEIVED), Look(frozenset(), frozenset({3})))

    def test_who_is_behind_itself_accuses_nobody(self) -> None:
        """What it has not received it cannot compare."""
        self.sent(1, 5)
        self.streams[1].announce(40, 0.0, 0.0)
        self.report(1, 5, 40, 40, 40)
        self.assertEqual(self.look(), Look())

    def test_all_late_alike(self) -> None:
        """Reports that come late of all say nothing of one."""
        self.sent(0, 30)
        self.report(0, 30, 4, 5, 4)
        self.assertEqual(self.look(Waiting.RECEIVED), Look())

    def test_what_a_member_lacks(self) -> None:
        """The bytes beyond what it has, of single packets and of runs."""
        self.sent(0, 3)
        stream = self.streams[0]
        stream.append_run(PacketRun(4, bytes(2), (), Packets(100, data=bytes(150))))
        self.assertEqual([lag_bytes(stream, number) for number in (0, 2, 3, 4, 5)], [180, 160, 150, 50, 0])


class PatienceTests(SynchronousTestCase):
    """Twenty looks a second."""

    def setUp(self) -> None:
        self.now = 100.0
        self.patience: Patience[str] = Patience(2.0)
        self.look("")

    def look(self, last: str, count: int = 1, seconds: float = LOOK_SECONDS) -> list[tuple[list[str], list[str]]]:
        """So many looks at which these were behind; what was news."""
        news = []
        for _ in range(count):
            self.now += seconds
            said = self.patience.looked(list(last), self.now)
            if said != ([], []):
                news.append(said)
        return news

    def test_slow_when_the_time_is_up(self) -> None:
        """And it is said once."""
        self.assertEqual(self.look("x", 39), [])
        self.assertEqual(self.look("x", 2), [(["x"], [])])
        self.assertEqual(self.look("x", 50), [])
        self.assertEqual(self.patience.slow, ["x"])
        self.assertAlmostEqual(self.now - self.patience.since("x", self.now), 91 * LOOK_SECONDS)

    def test_over_after_a_third_of_that(self) -> None:
        """However long it took; it is said once."""
        self.look("x", 100)
        self.assertEqual(self.look("", 13), [])
        self.assertEqual(self.look("", 2), [([], ["x"])])
        self.assertEqual((self.patience.slow, self.look("", 20)), ([], []))
        self.assertEqual(self.patience.since("x", self.now), self.now)

    def test_three_quarters_of_the_time(self) -> None:
        """Who is behind for less is never slow, who is for more is at last."""
        for share, slow in (((3, 1), False), ((4, 1), True)):
            self.setUp()
            for _ in range(400):
                self.look("x", share[0])
                self.look("", share[1])
            self.assertEqual(self.patience.slow, ["x"] * slow)

    def test_now_one_now_another(self) -> None:
        """Each makes up for it in the time of the other."""
        for _ in range(200):
            self.look("x", 2)
            self.look("y", 2)
        self.assertEqual(self.patience.slow, [])

    def test_who_did_not_look_has_seen_nothing(self) -> None:
        """A look counts for a quarter of a second at most."""
        self.look("x", 7, seconds=1000.0)
        self.assertAlmostEqual(self.patience.behind_seconds("x"), 7 * MOST_SECONDS)
        self.assertEqual(self.look("x", 1, seconds=1000.0), [(["x"], [])])

    def test_forgotten(self) -> None:
        """Who is gone, or is to begin anew, at the end of a view."""
        self.look("xy", 50)
        self.patience.keep(["y"])
        self.assertEqual((self.patience.slow, self.patience.behind_seconds("x")), (["y"], 0.0))
        self.patience.forget("y")
        self.assertEqual((self.patience.slow, self.patience.behind_seconds("y")), ([], 0.0))
