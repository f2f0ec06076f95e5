"""The replay window: each counter once, in any order, and nothing older than the window."""

from __future__ import annotations

from random import Random

from twisted.trial.unittest import SynchronousTestCase

from groupcomm.limits import REPLAY_WINDOW
from groupcomm.sealing.window import ReplayWindow


class WindowTests(SynchronousTestCase):
    """One sender's counters."""

    def test_each_counter_is_new_once(self) -> None:
        """Whatever the order, inside the window: new until it is taken, never after."""
        random = Random(1)
        window = ReplayWindow(100)
        counters = list(range(101, 101 + REPLAY_WINDOW // 2))
        random.shuffle(counters)
        for counter in counters:
            self.assertTrue(window.is_new(counter), counter)
            window.take(counter)
            self.assertFalse(window.is_new(counter), counter)
        self.assertFalse(any(window.is_new(counter) for counter in counters))

    def test_everything_up_to_the_floor_counts_as_seen(self) -> None:
        """What was sealed before the sender was met is not news, however little of it came."""
        window = ReplayWindow(50)
        self.assertFalse(any(window.is_new(counter) for counter in range(51)))
        self.assertTrue(window.is_new(51))
        window.take(60)
        self.assertFalse(window.is_new(50))
        self.assertTrue(window.is_new(51))

    def test_both_sides_of_the_window(self) -> None:
        """A packet as late as the window is wide is too late; one less is not."""
        window = ReplayWindow(0)
        window.take(REPLAY_WINDOW)
        self.assertFalse(window.is_new(0))
        self.assertTrue(window.is_new(1))
        window.take(REPLAY_WINDOW + 1)
        self.assertFalse(window.is_new(1))
        self.assertTrue(window.is_new(2))

    def test_a_leap_beyond_the_window(self) -> None:
        """After a leap all that was before it and is in the window is missing, not seen."""
        window = ReplayWindow(0)
        window.take(1)
        window.take(10 * REPLAY_WINDOW)
        self.assertFalse(window.is_new(1))
        self.assertFalse(window.is_new(9 * REPLAY_WINDOW))
        self.assertTrue(window.is_new(9 * REPLAY_WINDOW + 1))
        self.assertTrue(window.is_new(10 * REPLAY_WINDOW - 1))

    def test_a_run_is_its_counters_one_by_one(self) -> None:
        """Taken together, counters leave what they leave when taken singly, with gaps before them or none."""
        random = Random(2)
        for _ in range(200):
            together, singly = ReplayWindow(7), ReplayWindow(7)
            at = 7
            for _ in range(random.randint(1, 6)):
                first = at + random.choice((1, 1, 1, 2, 40, REPLAY_WINDOW - 1, REPLAY_WINDOW, 3 * REPLAY_WINDOW))
                count = random.choice((1, 2, 46, 64))
                together.take_run(first, count)
                for counter in range(first, first + count):
                    singly.take(counter)
                at = first + count - 1
            self.assertEqual((together.highest, together.bits), (singly.highest, singly.bits))

    def test_the_map_stays_as_wide_as_the_window(self) -> None:
        """Nothing that is taken makes it grow."""
        random = Random(3)
        window = ReplayWindow(0)
        for _ in range(2000):
            window.take(random.choice((window.highest + random.randint(1, 9000), max(1, window.highest - 5))))
            self.assertLessEqual(window.bits.bit_length(), REPLAY_WINDOW)
