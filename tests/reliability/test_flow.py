"""The send window, round-trip times and the back-off of requests."""

from __future__ import annotations

from random import Random
from statistics import mean

from twisted.trial.unittest import SynchronousTestCase

from groupcomm.limits import MIN_WINDOW_BYTES
from groupcomm.reliability.backoff import FEEDBACK_FACTOR, backoff_seconds
from groupcomm.reliability.counters import Counters
from groupcomm.reliability.flow import Window
from groupcomm.reliability.rtt import INITIAL_SECONDS, LEAST_WAIT_SECONDS, MOST_WAIT_SECONDS, RoundTrip

MEBIBYTE = 1024 * 1024


class WindowTests(SynchronousTestCase):
    """How much may be under way."""

    def setUp(self) -> None:
        self.window = Window(MEBIBYTE, MIN_WINDOW_BYTES, 0)
        self.number = 0

    def fill(self, size: int, *, slotted: bool = False) -> None:
        while self.window.allows(slotted=slotted):
            self.number += 1
            self.window.sent(self.number, size, slotted=slotted)

    def test_sending_stops_when_the_window_is_full(self) -> None:
        """A packet may leave while less than the window is under way, and again when some have been received."""
        self.fill(1024)
        self.assertEqual((self.number, self.window.outstanding_bytes), (64, MIN_WINDOW_BYTES))
        self.window.acknowledged(1, 0)
        self.assertEqual(self.window.outstanding_bytes, MIN_WINDOW_BYTES - 1024)
        self.assertTrue(self.window.allows(slotted=False))

    def test_the_window_doubles_until_the_threshold(self) -> None:
        """At first the window grows by what is received, then by about one packet for each window received."""
        self.fill(1024)
        self.window.acknowledged(self.number, self.number)
        self.assertEqual(self.window.window_bytes, 2 * MIN_WINDOW_BYTES)
        while self.window.window_bytes < MEBIBYTE // 2:
            self.fill(1024)
            self.window.acknowledged(self.number, self.number)
        before = self.window.window_bytes
        self.fill(1024)
        self.window.acknowledged(self.number, self.number)
        self.assertEqual(self.window.window_bytes - before, 1400)

    def test_the_window_never_exceeds_the_grant(self) -> None:
        """However well it goes, no more than the grant is under way."""
        window = Window(2 * MIN_WINDOW_BYTES, 100 * MEBIBYTE, 0)
        self.assertEqual(window.window_bytes, 2 * MIN_WINDOW_BYTES)
        window.sent(1, MEBIBYTE, slotted=True)
        window.acknowledged(1, 1)
        self.assertEqual(window.window_bytes, 2 * MIN_WINDOW_BYTES)

    def test_loss_halves_the_window_once_per_round_trip(self) -> None:
        """Several requests of one round trip count as one loss; the window never falls below its floor."""
        window = Window(MEBIBYTE, MEBIBYTE, 0)
        window.lost(10.0, 0.125)
        window.lost(10.0625, 0.125)
        self.assertEqual(window.window_bytes, MEBIBYTE // 2)
        window.lost(10.125, 0.125)
        self.assertEqual(window.window_bytes, MEBIBYTE // 4)
        for step in range(20):
            window.lost(11.0 + step, 0.1)
        self.assertEqual(window.window_bytes, MIN_WINDOW_BYTES)

    def test_after_loss_the_window_grows_slowly(self) -> None:
        """From where loss has cut it, the window grows by about a packet per round trip."""
        window = Window(MEBIBYTE, MEBIBYTE, 0)
        window.lost(10.0, 0.1)
        window.sent(1, MEBIBYTE // 2, slotted=False)
        window.acknowledged(1, 1)
        self.assertEqual(window.window_bytes, MEBIBYTE // 2 + 1400)

    def test_undelivered_bytes_hold_the_sender_back(self) -> None:
        """Received is not enough: what receivers have not delivered fills the grant, slots excepted."""
        window = Window(MIN_WINDOW_BYTES, MIN_WINDOW_BYTES, 0)
        window.sent(1, MIN_WINDOW_BYTES, slotted=False)
        window.acknowledged(1, 0)
        self.assertEqual((window.outstanding_bytes, window.undelivered_bytes), (0, MIN_WINDOW_BYTES))
        self.assertFalse(window.allows(slotted=False))
        self.assertTrue(window.allows(slotted=True))
        window.acknowledged(1, 1)
        self.assertTrue(window.allows(slotted=False))

    def test_slotted_bytes_count_against_the_window_only(self) -> None:
        """A large frame with a slot uses the network's share, not the receivers'."""
        self.window.sent(1, 5000, slotted=True)
        self.assertEqual((self.window.outstanding_bytes, self.window.undelivered_bytes), (5000, 0))

    def test_control_packets_cost_nothing(self) -> None:
        """A packet of size 0 has its number and no weight."""
        self.window.sent(1, 0, slotted=True)
        self.window.sent(2, 700, slotted=False)
        self.window.acknowledged(1, 1)
        self.assertEqual((self.window.outstanding_bytes, self.window.window_bytes), (700, MIN_WINDOW_BYTES))

    def test_old_reports_change_nothing(self) -> None:
        """A report of less than is known neither opens nor closes the window."""
        for number in range(1, 5):
            self.window.sent(number, 1000, slotted=False)
        self.window.acknowledged(3, 2)
        state = self.window.outstanding_bytes, self.window.undelivered_bytes, self.window.window_bytes
        self.window.acknowledged(1, 1)
        after = self.window.outstanding_bytes, self.window.undelivered_bytes, self.window.window_bytes
        self.assertEqual(state, after)
        self.assertEqual(state[:2], (1000, 2000))


class RoundTripTests(SynchronousTestCase):
    """The estimator."""

    def test_before_a_measurement_there_is_a_guess(self) -> None:
        """Nothing measured: the time shown is 0, the time used is that of a LAN."""
        trip = RoundTrip()
        self.assertEqual((trip.seconds, trip.or_initial), (0.0, INITIAL_SECONDS))
        self.assertEqual(trip.wait_seconds, 4 * INITIAL_SECONDS)

    def test_the_first_measurement_counts_whole(self) -> None:
        """It is the round-trip time, and the wait is three times it: SRTT + 4 * RTT / 2."""
        trip = RoundTrip()
        trip.sample(0.02)
        self.assertEqual(trip.seconds, 0.02)
        self.assertAlmostEqual(trip.wait_seconds, 0.06)

    def test_later_measurements_move_it_by_an_eighth(self) -> None:
        """One outlier counts little, a lasting change is followed."""
        trip = RoundTrip()
        trip.sample(0.02)
        trip.sample(0.1)
        self.assertAlmostEqual(trip.seconds, 0.03)
        self.assertAlmostEqual(trip.wait_seconds, 0.03 + 4 * (0.01 + (0.08 - 0.01) / 4))
        for _ in range(100):
            trip.sample(0.1)
        self.assertAlmostEqual(trip.seconds, 0.1, 4)

    def test_waits_are_bounded(self) -> None:
        """No wait is shorter than 4 ms or longer than 250 ms, whatever is measured; time never goes back."""
        trip = RoundTrip()
        trip.sample(-1.0)
        self.assertGreater(trip.seconds, 0.0)
        self.assertEqual(trip.wait_seconds, LEAST_WAIT_SECONDS)
        trip = RoundTrip()
        trip.sample(60.0)
        self.assertEqual((trip.seconds, trip.wait_seconds), (MOST_WAIT_SECONDS, MOST_WAIT_SECONDS))


class BackoffTests(SynchronousTestCase):
    """The random delay of requests that others may make."""

    def test_delays_lie_within_their_window(self) -> None:
        """Every delay lies between 0 and four round trips."""
        random = Random(1)
        for size in (1, 2, 16, 64):
            delays = [backoff_seconds(random, 0.01, size) for _ in range(2000)]
            self.assertTrue(all(-1e-12 <= delay <= FEEDBACK_FACTOR * 0.01 + 1e-12 for delay in delays))

    def test_in_larger_groups_few_draw_a_short_time(self) -> None:
        """The more receivers, the rarer each one's delay is below one round trip."""
        random = Random(1)
        early = [mean(backoff_seconds(random, 0.01, size) < 0.01 for _ in range(4000)) for size in (1, 4, 16, 64)]
        self.assertEqual(early, sorted(early, reverse=True))
        self.assertLess(64 * early[-1], 5.0)


class CounterTests(SynchronousTestCase):
    """Counters by name."""

    def test_counters_grow(self) -> None:
        """A counter begins at 0 and counts what it is told."""
        counters = Counters()
        counters.up("views")
        counters.up("views", 4)
        self.assertEqual((counters["views"], counters["other"]), (5, 0))
