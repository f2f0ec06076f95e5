"""The send window and the back-off of requests."""

from __future__ import annotations

from random import Random
from statistics import mean

from twisted.trial.unittest import SynchronousTestCase

from groupcomm.limits import MIN_WINDOW_BYTES
from groupcomm.reliability.backoff import FEEDBACK_FACTOR, backoff_seconds
from groupcomm.reliability.counters import Counters
from groupcomm.reliability.flow import LONG_TRIP_SECONDS, Window

MEBIBYTE = 1024 * 1024


class WindowTests(SynchronousTestCase):
    """How much may be under way."""

    def setUp(self) -> None:
        self.window = Window(MEBIBYTE, MIN_WINDOW_BYTES, 0)
        self.number = 0

    def fill(self, size: int, *, slotted: bool = False) -> None:
        while self.window.allows(slotted=slotted):
            self.number += 1
            self.window.sent(self.number, size, slotted=slotted, asks=True)

    def test_sending_stops_when_the_window_is_full(self) -> None:
        """A packet may leave while less than the window is under way, and again when some have been received."""
        self.fill(1024)
        self.assertEqual((self.number, self.window.outstanding_bytes), (64, MIN_WINDOW_BYTES))
        self.window.acknowledged(1, 0)
        self.assertEqual(self.window.outstanding_bytes, MIN_WINDOW_BYTES - 1024)
        self.assertTrue(self.window.allows(slotted=False))

    def test_running_ahead_of_the_lane(self) -> None:
        """As far as there is room, and never less than without a lane; who comes back counts with all it lacks."""
        self.fill(1024)
        self.window.part()
        everybody = self.window.everybody
        assert everybody is not None
        self.window.acknowledged(self.number, self.number)
        self.fill(1024)
        self.assertEqual(self.window.unreceived_bytes, self.window.window_bytes, "as much as without a lane")
        everybody.room_bytes = 10 * 1024
        before = self.number
        self.fill(1024)
        self.assertEqual(self.number, before + 10)
        everybody.acknowledged(before, before)
        self.assertTrue(self.window.allows(slotted=False), "as much may be under way to everybody")
        self.window.join()
        self.assertEqual(self.window.outstanding_bytes, 10 * 1024)

    def test_what_the_lane_has_not_delivered_is_bounded(self) -> None:
        """By the grant, however much room there is for what it has not received."""
        self.window.part()
        everybody = self.window.everybody
        assert everybody is not None
        everybody.room_bytes = 100 * MEBIBYTE
        while self.window.allows(slotted=False):
            self.number += 1
            self.window.sent(self.number, 1024, slotted=False)
            self.window.acknowledged(self.number, self.number)
            everybody.acknowledged(self.number, 0)
        self.assertEqual(self.number, MEBIBYTE // 1024)

    def test_the_window_doubles_until_the_threshold(self) -> None:
        """At first the window grows by what is received, then by a fraction of itself in each round."""
        self.fill(1024)
        self.window.acknowledged(self.number, self.number)
        self.assertEqual(self.window.window_bytes, 2 * MIN_WINDOW_BYTES)
        while self.window.window_bytes < MEBIBYTE // 2:
            self.fill(1024)
            self.window.acknowledged(self.number, self.number)
        before = self.window.window_bytes
        self.fill(1024)
        self.window.acknowledged(self.number, self.number)
        self.assertEqual(self.window.window_bytes - before, before // 16)

    def test_a_window_that_is_not_used_does_not_grow(self) -> None:
        """Who sends little at a time learns nothing of what the network would take."""
        for number in range(1, 1000):
            self.window.sent(number, 1024, slotted=False, asks=True)
            self.window.acknowledged(number, number)
        self.assertEqual(self.window.window_bytes, MIN_WINDOW_BYTES)

    def test_the_window_never_exceeds_the_grant(self) -> None:
        """However well it goes, no more than the grant is under way."""
        window = Window(2 * MIN_WINDOW_BYTES, 100 * MEBIBYTE, 0)
        self.assertEqual(window.window_bytes, 2 * MIN_WINDOW_BYTES)
        window.sent(1, MEBIBYTE, slotted=True)
        window.acknowledged(1, 1)
        self.assertEqual(window.window_bytes, 2 * MIN_WINDOW_BYTES)

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

    def test_a_run_is_received_packet_by_packet(self) -> None:
        """Packets that leave together count one by one as they are received and delivered."""
        self.window.sent(50, 1000, slotted=False, count=50)
        self.window.sent(60, 700, slotted=True, count=10)
        self.window.sent(61, 300, slotted=False)
        self.assertEqual((self.window.outstanding_bytes, self.window.undelivered_bytes), (57_300, 50_300))
        for received, delivered, outstanding, undelivered in (
            (1, 0, 56_300, 50_300),
            (49, 20, 8_300, 30_300),
            (20, 10, 8_300, 30_300),
            (50, 50, 7_300, 300),
            (53, 52, 5_200, 300),
            (60, 60, 300, 300),
            (61, 61, 0, 0),
        ):
            self.window.acknowledged(received, delivered)
            self.assertEqual(
                (self.window.outstanding_bytes, self.window.undelivered_bytes), (outstanding, undelivered), received
            )

    def test_runs_are_as_good_as_single_packets(self) -> None:
        """Whatever leaves together and whatever is reported: the same bytes are under way as one by one."""
        random = Random(6)
        for _ in range(50):
            together, single = (Window(MEBIBYTE, MIN_WINDOW_BYTES, 0) for _ in range(2))
            number = received = delivered = 0
            for _ in range(60):
                count, size, slotted = random.randint(1, 46), random.randint(0, 1400), random.random() < 0.3
                together.sent(number + count, size, slotted=slotted, count=count)
                for _ in range(count):
                    number += 1
                    single.sent(number, size, slotted=slotted)
                received = random.randint(received, number)
                delivered = random.randint(delivered, received)
                for window in (together, single):
                    window.acknowledged(received, delivered)
                self.assertEqual(together.outstanding_bytes, single.outstanding_bytes)
                self.assertEqual(together.undelivered_bytes, single.undelivered_bytes)

    def test_how_many_packets_may_leave(self) -> None:
        """As many as it takes to fill the window: the last may exceed it, and there is none when it is full."""
        self.assertEqual(self.window.packets(1024), 64)
        self.assertEqual(self.window.packets(1025), 64)
        self.assertEqual(self.window.packets(1023), 65)
        self.window.sent(63, 1024, slotted=True, count=63)
        self.assertEqual(self.window.packets(2000), 1)
        self.window.sent(64, 2000, slotted=True)
        self.assertEqual(self.window.packets(1), 0)


class LossTests(SynchronousTestCase):
    """How the window gives way where packets get lost."""

    def setUp(self) -> None:
        self.window = Window(4 * MEBIBYTE, 2 * MEBIBYTE, 0)
        self.number = 0
        self.now = 10.0

    def pass_round(self, *lost: tuple[int, int], trip_seconds: float = 0.001) -> int:
        """The window is filled and all of it received, some of it at another attempt; what it changed."""
        before = self.window.window_bytes
        while self.window.allows(slotted=True):
            self.number += 1
            self.window.sent(self.number, 1024, slotted=True, asks=True)
        self.now += trip_seconds
        for asker, packets in lost:
            self.window.lost(asker, packets, self.now, trip_seconds)
        self.window.acknowledged(self.number, self.number)
        return self.window.window_bytes - before

    def test_over_long_round_trips_loss_halves_the_window(self) -> None:
        """Several requests within a round trip count as one loss; the window never falls below its floor."""
        window, trip = self.window, 2 * LONG_TRIP_SECONDS
        window.lost(1, 1, 10.0, trip)
        window.lost(2, 5, 10.0 + trip / 2, trip)
        self.assertEqual(window.window_bytes, MEBIBYTE)
        window.lost(1, 1, 10.0 + trip * 1.01, trip)
        self.assertEqual(window.window_bytes, MEBIBYTE // 2)
        for step in range(20):
            window.lost(1, 1, 11.0 + step, trip)
        self.assertEqual(window.window_bytes, MIN_WINDOW_BYTES)

    def test_over_long_round_trips_the_window_grows_by_a_packet(self) -> None:
        """From where loss has cut it, the window grows by one packet in each round."""
        self.window.lost(1, 1, self.now, LONG_TRIP_SECONDS)
        self.assertEqual(self.window.window_bytes, MEBIBYTE)
        self.assertEqual([self.pass_round() for _ in range(5)], [1400] * 5)

    def test_over_short_round_trips_the_window_gives_way_in_proportion(self) -> None:
        """One packet of a hundred costs half a hundredth of the window, ten cost ten times as much."""
        for share in (100, 10, 2):
            self.setUp()
            before = self.window.window_bytes
            self.pass_round((1, self.window.packets(1024) // share))
            expected = before * (1 - 0.5 / share) * 17 / 16
            self.assertTrue(abs(self.window.window_bytes - expected) < before * 0.1 / share, share)

    def test_who_lacks_most_counts(self) -> None:
        """The same packets lost by several receivers are not counted several times."""
        changes = set()
        for lost in (((1, 40),), ((1, 40), (2, 40), (3, 39)), ((1, 20), (2, 7), (1, 20))):
            self.setUp()
            changes.add(self.pass_round(*lost))
        self.assertEqual(len(changes), 1)

    def test_losses_are_those_of_one_round(self) -> None:
        """What was lost in one round costs nothing in the next."""
        self.pass_round((1, 400))
        before = self.window.window_bytes
        self.assertEqual(self.pass_round(), before // 16)

    def test_steady_loss_leaves_a_window(self) -> None:
        """Where one packet of a hundred gets lost and comes back soon, the window grows all the same."""
        before = self.window.window_bytes
        for _ in range(100):
            self.pass_round((1, self.window.packets(1024) // 100))
        self.assertGreater(self.window.window_bytes, before)

    def test_everything_lost_halves_the_window(self) -> None:
        """No round costs more than half of the window, however much was asked for."""
        before = self.window.window_bytes
        self.pass_round((1, 1_000_000))
        self.assertTrue(before // 2 <= self.window.window_bytes < before // 2 + before // 8)


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
