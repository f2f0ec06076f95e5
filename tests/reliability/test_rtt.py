"""Round-trip times and what is waited for."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from groupcomm.reliability.rtt import (
    INITIAL_SECONDS,
    LEAST_REPAIR_SECONDS,
    LEAST_WAIT_SECONDS,
    MOST_WAIT_SECONDS,
    RECENT_SAMPLES,
    RoundTrip,
)


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

    def test_shorter_ones_are_believed_sooner(self) -> None:
        """A time shorter than the estimate moves it by half: a longer one is mostly a host that was busy."""
        trip = RoundTrip()
        trip.sample(0.02)
        trip.sample(0.004)
        self.assertAlmostEqual(trip.seconds, 0.012)
        trip.sample(0.02)
        self.assertAlmostEqual(trip.seconds, 0.013)

    def test_a_repair_is_waited_for_less_long(self) -> None:
        """A repair that is asked for too early costs little: its wait is SRTT + 2 RTTVAR, 2 to 250 ms."""
        trip = RoundTrip()
        self.assertEqual(trip.repair_seconds, 4 * INITIAL_SECONDS)
        trip.sample(0.02)
        self.assertAlmostEqual(trip.repair_seconds, 0.04)
        for measured, wait in ((1e-6, LEAST_REPAIR_SECONDS), (60.0, MOST_WAIT_SECONDS)):
            trip = RoundTrip()
            trip.sample(measured)
            self.assertEqual(trip.repair_seconds, wait)

    def test_a_busy_host_is_no_queue(self) -> None:
        """Two long samples of four say nothing of a queue, three do."""
        trip = RoundTrip()
        self.assertEqual(trip.standing_seconds, 0.0)
        for _ in range(RECENT_SAMPLES - 2):
            trip.sample(0.001)
        trip.sample(0.1)
        trip.sample(0.1)
        self.assertEqual(trip.standing_seconds, 0.001)
        trip.sample(0.1)
        self.assertEqual(trip.standing_seconds, 0.1)

    def test_waits_are_bounded(self) -> None:
        """No wait is shorter than 4 ms or longer than 250 ms, whatever is measured; time never goes back."""
        trip = RoundTrip()
        trip.sample(-1.0)
        self.assertGreater(trip.seconds, 0.0)
        self.assertEqual(trip.wait_seconds, LEAST_WAIT_SECONDS)
        trip = RoundTrip()
        trip.sample(60.0)
        self.assertEqual((trip.seconds, trip.wait_seconds), (MOST_WAIT_SECONDS, MOST_WAIT_SECONDS))
