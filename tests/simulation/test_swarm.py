"""Random runs of real engines, each held to every property; the same seed gives the same run."""

from __future__ import annotations

import os
import subprocess
import sys

from twisted.trial.unittest import SynchronousTestCase

from groupcomm.testing.swarm import run_seed, vacuous

SEEDS = range(1, 61)
"""As many as two minutes of one core allow."""

SAVED_SEEDS: tuple[str, ...] = ()
"""Seeds that once found a bug and are not among the first."""


class SwarmTests(SynchronousTestCase):
    def test_random_runs_break_no_property(self) -> None:
        """Faults of every kind, then healing: all properties hold, and each had something to check."""
        premises: dict[str, int] = {}
        failures = []
        for seed in (*map(str, SEEDS), *SAVED_SEEDS):
            outcome = run_seed(seed)
            for name, times in outcome.report.premises.items():
                premises[name] = premises.get(name, 0) + times
            if outcome.failure is not None:
                failures.append(f"seed {seed}: {outcome.failure}\n{outcome.text}")
        self.assertEqual(failures, [], "\n".join(failures)[:20_000])
        self.assertEqual(vacuous(premises), [])

    def test_same_digest_whatever_the_hash_seed(self) -> None:
        """Two interpreters whose sets and dictionaries iterate differently make the same trace of one seed."""
        program = "from groupcomm.testing.swarm import run_seed; print(run_seed('2').digest)"
        digests = set()
        for hash_seed in ("1", "2"):
            done = subprocess.run(
                [sys.executable, "-c", program],
                env={**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": os.pathsep.join(sys.path)},
                check=True,
                capture_output=True,
                text=True,
            )
            digests.add(done.stdout)
        self.assertEqual(len(digests), 1, digests)
