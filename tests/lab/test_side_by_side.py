"""Two labs at one time: neither takes from the other what the machine gives both."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.lab.harness import Lab, require_lab

BACKLOG = Path("/proc/sys/net/core/netdev_max_backlog")
LONG_BACKLOG = 50_000
ROUNDS = 8


class TwoLabsTests(SynchronousTestCase):
    """Labs that go up and down beside each other."""

    def setUp(self) -> None:
        require_lab()

    def test_the_long_backlog_stays(self) -> None:
        """As long as one of them stands the kernel's backlog is long; when the last is gone it is as it was."""
        others = list(Path("/run").glob("lab-*.backlog"))
        before = int(BACKLOG.read_text())

        def stand(_: int) -> set[int]:
            seen = set()
            for _ in range(ROUNDS):
                with Lab(1) as lab:
                    seen.add(int(BACKLOG.read_text()))
                    lab.run("show")
                    seen.add(int(BACKLOG.read_text()))
            return seen

        with ThreadPoolExecutor(2) as pool:
            self.assertEqual(set().union(*pool.map(stand, range(2))), {LONG_BACKLOG})
        if not others and not list(Path("/run").glob("lab-*.backlog")):
            self.assertEqual(int(BACKLOG.read_text()), before)

    def test_prefixes(self) -> None:
        """A lab's name begins as its job was told, and is none that stands."""
        self.patch(os, "environ", {**os.environ, "LAB_PREFIX": "lz"})
        with Lab(1) as one, Lab(1) as other:
            self.assertEqual({one.prefix[:2], other.prefix[:2]}, {"lz"})
            self.assertNotEqual(one.prefix, other.prefix)
