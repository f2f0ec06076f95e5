"""The search for the largest datagram that a path takes."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from groupcomm.limits import LEAST_PATH_BYTES, MAX_DATAGRAM_BYTES
from groupcomm.paths.search import CONFIRM_SECONDS, PROBE_SECONDS, PROBES, RAISE_SECONDS, MtuSearch

BIRTH_BYTES = 1432
STEP_SECONDS = PROBE_SECONDS / 4


class MtuSearchTests(SynchronousTestCase):
    """One path, with what it takes in each test."""

    def setUp(self) -> None:
        """The time, and what was probed."""
        self.now = 0.0
        self.probed: list[int] = []

    def pass_time(self, search: MtuSearch, seconds: float, takes: int, *, traffic: bool = True) -> None:
        """Let time pass on a path that takes datagrams of up to ``takes`` bytes."""
        until = self.now + seconds
        while self.now < until:
            self.now += STEP_SECONDS
            size = search.wants(self.now, 0.0, traffic=traffic)
            if size:
                self.probed.append(size)
            if 0 < size <= takes:
                search.answered(size, self.now)

    def test_what_the_interface_takes_passes(self) -> None:
        """The first probe has the largest size; once it is answered, that is what passes."""
        search = MtuSearch(1472, BIRTH_BYTES)
        self.assertEqual((search.passes_bytes, search.searching), (BIRTH_BYTES, True))
        self.pass_time(search, 2 * STEP_SECONDS, 1472)
        self.assertEqual((search.passes_bytes, search.searching), (1472, False))

    def test_each_size_of_the_world(self) -> None:
        """Whatever a path takes, the largest usual size that passes is found, and never more is believed at the end."""
        for most in (1232, 1372, 1452, 1472, 8972, 8948):
            for takes in (1232, 1300, 1372, 1400, 1422, 1472, 4052, 5000, 8972):
                search = MtuSearch(most, BIRTH_BYTES)
                self.pass_time(search, 5.0, takes)
                best = max(size for size in (most, 8972, 4052, 1472, 1422, 1372, 1232) if size <= min(most, takes))
                self.assertEqual((search.passes_bytes, search.searching), (best, False), (most, takes))

    def test_a_black_hole_under_traffic(self) -> None:
        """A path that takes less than before is found out within a second and the probes, and searched below."""
        search = MtuSearch(8972, BIRTH_BYTES)
        self.pass_time(search, 1.0, 8972)
        self.assertEqual(search.passes_bytes, 8972)
        began = self.now
        seen: list[tuple[int, float]] = []
        while search.passes_bytes != 1372 and self.now < began + 10:
            self.pass_time(search, STEP_SECONDS, 1400)
            if search.passes_bytes not in [size for size, _ in seen]:
                seen.append((search.passes_bytes, self.now - began))
        (_, (least, found), (best, searched)) = seen
        self.assertEqual((least, best), (LEAST_PATH_BYTES, 1372))
        self.assertLess(found, CONFIRM_SECONDS + (PROBES + 1) * (PROBE_SECONDS + STEP_SECONDS))
        self.assertLess(searched - found, 4 * (PROBES + 1) * (PROBE_SECONDS + STEP_SECONDS))

    def test_without_traffic_nothing_is_confirmed(self) -> None:
        """An idle path is not probed again and again."""
        search = MtuSearch(1472, BIRTH_BYTES)
        self.pass_time(search, RAISE_SECONDS * 2, 1472, traffic=False)
        self.assertEqual(self.probed, [1472])

    def test_larger_sizes_are_tried_again(self) -> None:
        """What did not pass is tried again after a while, with or without traffic; meanwhile what passes stays."""
        search = MtuSearch(1472, BIRTH_BYTES)
        self.pass_time(search, 10.0, 1400, traffic=False)
        self.assertEqual(search.passes_bytes, 1372)
        self.pass_time(search, RAISE_SECONDS, 1400, traffic=False)
        self.assertEqual(search.passes_bytes, 1372)
        self.pass_time(search, RAISE_SECONDS + 1.0, 1472, traffic=False)
        self.assertEqual(search.passes_bytes, 1472)

    def test_few_losses_change_nothing(self) -> None:
        """Up to five probes of the size in use may be lost in a row."""
        search = MtuSearch(1472, BIRTH_BYTES)
        self.pass_time(search, 1.0, 1472)
        for _ in range(5):
            self.pass_time(search, CONFIRM_SECONDS, 1472)
            already = len(self.probed)
            while len(self.probed) < already + PROBES - 1:
                self.pass_time(search, STEP_SECONDS, 1232)
            self.pass_time(search, 2 * PROBE_SECONDS, 1472)
            self.assertEqual((search.passes_bytes, search.searching), (1472, False))

    def test_late_answers_to_other_sizes_count_for_nothing(self) -> None:
        """Only the size that is being tried is learnt of."""
        search = MtuSearch(8972, BIRTH_BYTES)
        search.wants(1.0, 0.0, traffic=True)
        search.answered(4052, 1.0)
        self.assertEqual(search.passes_bytes, BIRTH_BYTES)

    def test_nothing_to_search(self) -> None:
        """Where nobody has said what the links take, everything passes and nothing is probed."""
        search = MtuSearch()
        self.pass_time(search, 100.0, 100_000)
        self.assertEqual((search.passes_bytes, self.probed), (MAX_DATAGRAM_BYTES, []))
