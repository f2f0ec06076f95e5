"""The runner of the parts: what counts as passed, failed and skipped."""

from __future__ import annotations

import io
import sys
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.run_parts import Counts, Part, run_command, run_part


def printing(text: str, status: int = 0) -> list[str]:
    """A command that prints ``text`` and ends with ``status``."""
    return [sys.executable, "-c", f"import sys; print({text!r}); sys.exit({status})"]


class QuietTestCase(SynchronousTestCase):
    """What the runner prints is kept from the terminal, where it would look like a result."""

    def setUp(self) -> None:
        self.patch(sys, "stdout", io.StringIO())


class RunCommandTests(QuietTestCase):
    """What the result of one command counts for."""

    def test_a_tool_is_one_check(self) -> None:
        """A command that prints no result of trial's counts as one, by its exit status."""
        self.assertEqual(run_command(printing("fine"), 60), Counts(passed=1))
        self.assertEqual(run_command(printing("not fine", 1), 60), Counts(failed=1))

    def test_trials_own_figures_are_taken(self) -> None:
        """What trial says in its last line is counted test by test."""
        self.assertEqual(
            run_command(printing("PASSED (skips=2, expectedFailures=1, successes=5)"), 60), Counts(passed=6, skipped=2)
        )
        self.assertEqual(
            run_command(printing("FAILED (failures=1, errors=2, unexpectedSuccesses=1, successes=3)", 1), 60),
            Counts(passed=3, failed=4),
        )

    def test_a_crash_after_success_is_a_failure(self) -> None:
        """An exit status that contradicts what was printed fails the part."""
        self.assertEqual(run_command(printing("PASSED (successes=5)", 3), 60), Counts(passed=5, failed=1))

    def test_a_command_that_hangs_is_ended(self) -> None:
        """At its limit a command is interrupted, and has failed."""
        hanging = [sys.executable, "-c", "import signal; signal.pause()"]
        self.assertEqual(run_command(hanging, 0), Counts(failed=1))


class RunPartTests(QuietTestCase):
    """What a part counts for."""

    def test_a_part_without_tests_has_failed(self) -> None:
        """If no test is found, nothing was shown."""
        self.assertEqual(run_part(Part("empty", lambda _: [], 1, 60), 60), Counts(failed=1))

    def test_all_commands_run(self) -> None:
        """A command that fails does not keep the next one from running."""

        def commands(_: Path) -> list[list[str]]:
            return [printing("first", 1), printing("second")]

        self.assertEqual(run_part(Part("two", commands, 1, 60), 60), Counts(passed=1, failed=1))
