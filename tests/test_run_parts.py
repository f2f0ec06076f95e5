"""The runner of the parts: what counts as passed, failed and skipped."""

from __future__ import annotations

import io
import os
import re
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests import run_parts as run_parts_module
from tests.run_parts import (
    LAB_SECONDS,
    OWN_PARTS,
    PARTS,
    TESTS,
    Counts,
    Lanes,
    Part,
    run_command,
    run_part,
    run_parts,
    test_modules,
)


def printing(text: str, status: int = 0) -> list[str]:
    """A command that prints ``text`` and ends with ``status``."""
    return [sys.executable, "-c", f"import sys; print({text!r}); sys.exit({status})"]


class QuietTestCase(SynchronousTestCase):
    """What the runner prints is kept from the terminal, where it would look like a result."""

    def setUp(self) -> None:
        self.output = io.StringIO()
        self.patch(sys, "stdout", self.output)

    def said(self) -> str:
        """What was printed."""
        return self.output.getvalue()


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


class LanesTests(QuietTestCase):
    """What runs at the same time as something else."""

    def setUp(self) -> None:
        super().setUp()
        self.folder = Path(self.mktemp()).absolute()
        self.folder.mkdir()

    def waiting(self, mine: str, other: str) -> list[str]:
        """A command that ends when another like it has begun."""
        code = (
            "import os, pathlib, time\n"
            f"folder = pathlib.Path({str(self.folder)!r})\n"
            f"print('{mine} begins in', os.environ['LAB_PREFIX'], flush=True)\n"
            f"(folder / '{mine}').touch()\n"
            f"while not (folder / '{other}').exists(): time.sleep(0.01)\n"
            f"print('{mine} ends')\n"
        )
        return [sys.executable, "-c", code]

    def test_parts_that_may_be_beside_each_other(self) -> None:
        """Two such parts run at once: each waits for what the other leaves. What each prints stays together."""
        self.patch(run_parts_module, "AT_ONCE", 2)
        parts = [
            Part("a", lambda _: [self.waiting("a", "b")], 1, 60, beside=True),
            Part("b", lambda _: [self.waiting("b", "a")], 1, 60, beside=True),
        ]
        total, lines = run_parts(parts)
        self.assertEqual(total, Counts(passed=2))
        self.assertEqual([line.split()[0] for line in lines], ["a", "b"])
        for name in "ab":
            self.assertRegex(self.said(), f"== {name}\n{name} begins in la\n{name} ends\n{name} ")

    def test_order(self) -> None:
        """A part that must be alone runs when those before it have ended; of the others the longest is first."""
        ran: list[str] = []

        def noting(name: str) -> Callable[[Path], list[list[str]]]:
            def commands(_: Path) -> list[list[str]]:
                ran.append(name)
                return [printing(name)]

            return commands

        self.patch(run_parts_module, "AT_ONCE", 1)
        parts = [Part(name, noting(name), ord(name), 60, beside=name in "bcd") for name in "abcde"]
        total, lines = run_parts(parts)
        self.assertEqual((total, ran), (Counts(passed=5), ["a", "d", "c", "b", "e"]))
        self.assertEqual([line.split()[0] for line in lines], ["a", "b", "c", "d", "e"])

    def test_commands_of_one_part_at_once(self) -> None:
        """They run in as many labs as lanes, each command's output stays together, and all count."""
        commands = [self.waiting("a", "b"), self.waiting("b", "a"), printing("PASSED (successes=3)")]
        self.assertEqual(run_part(Part("lab", lambda _: commands, 1, 60, at_once=2), 60), Counts(passed=5))
        self.assertRegex(self.said(), r"s\na begins in l.\na ends\n")
        self.assertRegex(self.said(), r"s\nb begins in l.\nb ends\n")
        self.assertEqual(set(re.findall(r"begins in (l.)$", self.said(), re.MULTILINE)), {"la", "lb"})

    def test_what_goes_wrong_in_a_lane(self) -> None:
        """It is not lost: it is raised where the parts were run from."""

        def broken(_: Path) -> list[list[str]]:
            raise ValueError("no commands")

        parts = [Part("good", lambda _: [printing("x")], 2, 60, beside=True), Part("bad", broken, 1, 60, beside=True)]
        self.assertRaises(ValueError, run_parts, parts)

    def test_an_interrupt_ends_what_runs(self) -> None:
        """When the run is interrupted, no process is left of any lane, and none begins."""
        self.addCleanup(signal.signal, signal.SIGINT, signal.signal(signal.SIGINT, signal.default_int_handler))
        lanes, ended = Lanes(), list[int | None]()

        def hang(lane: int) -> None:
            process = lanes.start([sys.executable, "-c", "import signal; signal.pause()"], lane)
            if lane == 0:
                os.kill(os.getpid(), signal.SIGINT)
            ended.append(process.wait(30))

        self.assertRaises(KeyboardInterrupt, lanes.each, [hang, hang], 2)
        self.assertRaises(KeyboardInterrupt, lanes.start, printing("too late"), 0)
        self.assertTrue(ended)
        self.assertNotIn(0, ended)


class PartsTests(SynchronousTestCase):
    """The parts that there are."""

    def test_every_module_is_in_one_part(self) -> None:
        """Unit tests, simulations, hostile tests and the lab are all tests there are, each once."""
        scratch = Path("scratch")
        run = [
            word for part in PARTS if part.name in ("unit", *OWN_PARTS) for c in part.commands(scratch) for word in c
        ]
        modules = sorted(word for word in run if word.startswith("tests."))
        self.assertEqual(modules, sorted(test_modules(TESTS)))

    def test_what_the_lab_measured_is_there(self) -> None:
        """The table of durations names modules that exist."""
        names = {module.split(".")[-1] for module in test_modules(TESTS / "lab")}
        self.assertEqual(set(LAB_SECONDS) - names, set())
