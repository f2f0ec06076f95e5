"""Virtual time."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from groupcomm.testing.scheduler import Scheduler


class SchedulerTests(SynchronousTestCase):
    def test_runs_in_order_of_time_then_of_asking(self) -> None:
        """The earliest call runs first; calls of one instant run in the order they were asked for."""
        scheduler, ran = Scheduler(), list[str]()
        for at, name in ((2.0, "late"), (1.0, "first"), (1.0, "second")):
            scheduler.call_at(at, lambda name=name: ran.append(name))  # type: ignore[misc]
        scheduler.run(5.0)
        self.assertEqual((ran, scheduler.now), (["first", "second", "late"], 5.0))

    def test_call_sees_its_own_time(self) -> None:
        """A call runs at its time, and one that it asks for within the run runs in it too."""
        scheduler, seen = Scheduler(), list[float]()

        def tick() -> None:
            seen.append(scheduler.now)
            scheduler.call_later(1.0, tick)

        scheduler.call_later(1.0, tick)
        scheduler.run(3.5)
        self.assertEqual(seen, [1.0, 2.0, 3.0])

    def test_cancelled_call_does_not_run(self) -> None:
        """A cancelled call is as if never asked for."""
        scheduler, ran = Scheduler(), list[int]()
        scheduler.call_later(1.0, lambda: ran.append(1)).cancel()
        self.assertIsNone(scheduler.next_time())
        self.assertFalse(scheduler.step())
        self.assertEqual(ran, [])

    def test_time_never_goes_back(self) -> None:
        """A call asked for in the past runs now."""
        scheduler, seen = Scheduler(), list[float]()
        scheduler.run(4.0)
        scheduler.call_at(1.0, lambda: seen.append(scheduler.now))
        scheduler.run(3.0)
        self.assertEqual((seen, scheduler.now), ([], 4.0))
        scheduler.run(4.0)
        self.assertEqual(seen, [4.0])

    def test_run_until_stops_when_it_holds(self) -> None:
        """``run_until`` stops at the call that made the predicate true, or at the limit."""
        scheduler, ran = Scheduler(), list[int]()
        for number in range(5):
            scheduler.call_at(float(number), lambda number=number: ran.append(number))  # type: ignore[misc]
        self.assertTrue(scheduler.run_until(lambda: len(ran) == 3, 10.0))
        self.assertEqual(scheduler.now, 2.0)
        self.assertFalse(scheduler.run_until(lambda: False, 3.5))
        self.assertEqual((ran, scheduler.now), ([0, 1, 2, 3], 3.5))
