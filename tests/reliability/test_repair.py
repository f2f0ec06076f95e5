"""Requests for repair, and their answers."""

from __future__ import annotations

from math import inf

from twisted.trial.unittest import SynchronousTestCase

from groupcomm.limits import MAX_REPAIR_PACKETS
from groupcomm.reliability.repair import COLLECT_SECONDS, RepairQueue
from groupcomm.wire.packets import Range

RTT = 0.1
PLENTY = 1e12
BURST = 1 << 40


class RepairTests(SynchronousTestCase):
    """The queue of what is to be sent again."""

    def setUp(self) -> None:
        self.repairs = RepairQueue(0.0)

    def ask(self, asker: int, *numbers: int, stream: int = 0, now: float = 1.0) -> None:
        ranges = [Range(number, number) for number in numbers]
        self.repairs.ask(asker, stream, ranges, lambda number: number < 1000, now, RTT)

    def take(
        self, now: float, size: int = 1000, rate: float = PLENTY, burst: int = BURST
    ) -> list[tuple[int, int, int]]:
        return self.repairs.take(now, lambda stream, number: size, rate, burst)

    def test_requests_are_collected_first(self) -> None:
        """Nothing is sent before the collecting time is over; requests of several nodes are answered by one repair."""
        self.assertEqual(self.repairs.due_at(), inf)
        self.ask(1, 7)
        self.assertEqual(self.repairs.due_at(), 1.0 + COLLECT_SECONDS)
        self.ask(3, 7, now=1.001)
        self.assertEqual(self.take(1.001), [])
        self.assertEqual(self.take(1.0 + COLLECT_SECONDS), [(0, 7, 0b1010)])
        self.assertEqual(self.repairs.due_at(), inf)

    def test_collecting_takes_a_quarter_of_a_short_round_trip(self) -> None:
        """On a fast network the answer does not wait two milliseconds."""
        self.repairs.ask(1, 0, [Range(1, 1)], lambda number: True, 1.0, 0.0004)
        self.assertAlmostEqual(self.repairs.due_at(), 1.0001)

    def test_lowest_packets_go_first(self) -> None:
        """What blocks delivery longest is repaired first, whatever the order of requests and streams."""
        self.ask(1, 9, 8)
        self.ask(1, 8, 3, stream=2)
        self.assertEqual(self.take(2.0), [(2, 3, 2), (0, 8, 2), (2, 8, 2), (0, 9, 2)])

    def test_only_held_packets_are_repaired(self) -> None:
        """A request for what is not here changes nothing."""
        self.ask(1, 1000, 2000)
        self.assertEqual(self.repairs.due_at(), inf)

    def test_nothing_is_repaired_twice_within_a_round_trip(self) -> None:
        """A request that crossed its answer is ignored; one a round trip later is not."""
        self.ask(1, 7)
        self.assertEqual(len(self.take(1.01)), 1)
        self.ask(2, 7, now=1.01 + 0.9 * RTT)
        self.assertEqual(self.repairs.due_at(), inf)
        self.ask(2, 7, now=1.01 + RTT)
        self.assertEqual(self.take(2.0), [(0, 7, 4)])

    def test_one_request_pulls_a_bounded_number(self) -> None:
        """A request for everything is answered with 256 packets, however it is written."""
        everything = lambda number: True  # noqa: E731
        self.repairs.ask(1, 0, [Range(1, 1 << 40)], everything, 1.0, RTT)
        self.assertEqual(len(self.take(2.0)), MAX_REPAIR_PACKETS)
        self.repairs.ask(1, 1, [Range(1, 200), Range(300, 1 << 40)], everything, 3.0, RTT)
        taken = [number for _, number, _ in self.take(4.0)]
        self.assertEqual((len(taken), taken[-1]), (MAX_REPAIR_PACKETS, 299 + MAX_REPAIR_PACKETS - 200))

    def test_the_budget_holds_repairs_back(self) -> None:
        """No more bytes leave than the budget allows since; the rest waits its turn."""
        self.ask(1, 1, 2, 3)
        self.assertEqual([item[1] for item in self.take(2.0, rate=1000.0, burst=2500)], [1, 2])
        self.assertEqual(self.repairs.due_at(), 2.0 + COLLECT_SECONDS)
        self.assertEqual(self.take(2.1, rate=1000.0, burst=2500), [])
        self.assertEqual([item[1] for item in self.take(3.5, rate=1000.0, burst=2500)], [3])

    def test_an_idle_budget_saves_up_one_burst_at_most(self) -> None:
        """A long silence does not earn an unlimited burst."""
        self.ask(1, *range(1, 50))
        self.assertEqual(len(self.take(1000.0, rate=1e6, burst=10_000)), 10)

    def test_a_storm_of_requests_is_forgotten(self) -> None:
        """When more is asked for than is remembered and nothing may be sent, the queue is emptied: they ask again."""
        for stream in range(20):
            self.repairs.ask(1, stream, [Range(1, 256)], lambda number: True, 1.0, RTT)
        self.assertEqual(self.take(2.0, rate=0.0), [])
        self.assertEqual(self.repairs.due_at(), inf)
