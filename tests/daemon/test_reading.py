"""Who may read when, and how long who took too much has to wait."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from groupcomm.daemon import caps
from groupcomm.daemon.reading import ReadingTime, Share
from tests.daemon.world import TurnClock


class Greedy:
    """A reader that takes a third of a turn each time, and wants more until it has had enough."""

    def __init__(self, time: ReadingTime, log: list[str], name: str, times: int) -> None:
        self.time = time
        self.log = log
        self.name = name
        self.times = times

    def go_on(self) -> None:
        self.log.append(self.name)
        self.time.spend(caps.TURN_SECONDS / 3)
        self.times -= 1
        if self.times:
            self.time.wait(self)


class ShareTests(SynchronousTestCase):
    """A share of a second."""

    def test_no_waiting_within_the_share(self) -> None:
        """Who takes what is earned in the meantime never waits."""
        clock = TurnClock()
        share = Share(clock, 0.25, 0.25)
        for _ in range(100):
            self.assertEqual(share.take(0.024), 0.0)
            clock.advance(0.1)

    def test_as_much_at_once_as_allowed(self) -> None:
        """So much may be taken at once; for more one waits until it is earned."""
        clock = TurnClock()
        share = Share(clock, 2.0, 10.0)
        self.assertEqual(share.take(10.0), 0.0)
        self.assertEqual(share.take(1.0), 0.5)
        clock.advance(0.5)
        self.assertEqual(share.take(0.0), 0.0)
        self.assertEqual(share.take(4.0), 2.0)

    def test_nothing_is_saved_up(self) -> None:
        """An hour of silence allows no more than a second does."""
        clock = TurnClock()
        share = Share(clock, 1.0, 1.0)
        clock.advance(3600.0)
        self.assertEqual(share.take(3.0), 2.0)


class ReadingTimeTests(SynchronousTestCase):
    """The time of a turn."""

    def setUp(self) -> None:
        self.clock = TurnClock()
        self.time = ReadingTime(self.clock, lambda: 0.0)
        self.log: list[str] = []

    def test_a_turn_ends(self) -> None:
        """When the time is spent, in one turn or in many, there is none left until the next turn."""
        self.time.spend(caps.TURN_SECONDS * 0.9)
        self.assertTrue(self.time.left)
        self.assertEqual(self.clock.getDelayedCalls(), [], "a turn in which little is done costs no further turn")
        self.time.spend(caps.TURN_SECONDS * 0.1 + 0.001)
        self.assertFalse(self.time.left)
        self.clock.advance(0)
        self.assertTrue(self.time.left)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_in_the_order_of_coming(self) -> None:
        """Whoever waits goes on in turn, three of these in each turn of the reactor; who wants more comes last."""
        for name, times in (("a", 3), ("b", 1), ("c", 1), ("d", 1)):
            self.time.wait(Greedy(self.time, self.log, name, times))
        self.clock.advance(0)
        self.assertEqual(self.log, ["a", "b", "c"])
        self.clock.advance(0)
        self.assertEqual(self.log[3:], ["d", "a", "a"])
        self.clock.advance(0)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_who_has_gone(self) -> None:
        """Who has gone is asked no more."""
        gone, other = (Greedy(self.time, self.log, name, 1) for name in ("gone", "other"))
        self.time.wait(gone)
        self.time.wait(other)
        self.time.forget(gone)
        self.time.forget(gone)
        self.clock.advance(0)
        self.assertEqual(self.log, ["other"])

    def test_waiting_twice_is_waiting_once(self) -> None:
        """Who asks again keeps its place and goes on once."""
        reader = Greedy(self.time, self.log, "a", 1)
        self.time.wait(reader)
        self.time.wait(reader)
        self.clock.advance(0)
        self.assertEqual(self.log, ["a"])
