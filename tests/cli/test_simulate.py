"""``groupcomm simulate``: a run made again, and shown."""

from __future__ import annotations

import io
import sys
from itertools import count
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from twisted.trial.unittest import SynchronousTestCase

from groupcomm.cli.main import main
from groupcomm.testing import scenario as scenario_module
from groupcomm.testing.oracle import Report, examine
from groupcomm.testing.scenario import Run
from groupcomm.testing.script import draw_scenario
from groupcomm.testing.trace import Delivered, Trace


def quiet_seed() -> str:
    """The first seed in whose run two nodes meet and nobody falls, whatever else seeds may come to mean."""
    for seed in map(str, count(1)):
        scenario = draw_scenario(seed, nodes=2)
        actions = {step.action for step in scenario.steps}
        if (
            actions <= {"start", "populate", "send", "join", "leave"}
            and not scenario.parameters.conditions.loss_probability
        ):
            return seed
    raise AssertionError("there is none")


SEED = quiet_seed()


def first_delivery(trace: Trace, **options: Any) -> Report:
    """An oracle to whom the first message that is delivered is wrong, and nothing else."""
    report = Report(premises=dict(examine(trace, **options).premises))
    for index, event in enumerate(trace):
        if isinstance(event, Delivered):
            report.violate("G1", index, f"{event.process} may not have {event.message}", event.message)
            break
    return report


class SimulateTests(SynchronousTestCase):
    """The command, over real runs."""

    def setUp(self) -> None:
        self.output, self.errors = io.StringIO(), io.StringIO()
        self.patch(sys, "stdout", self.output)
        self.patch(sys, "stderr", self.errors)

    def simulate(self, *arguments: str) -> tuple[int | str | None, str]:
        """The exit status, and what was printed."""
        self.output.seek(0)
        self.output.truncate()
        error = self.assertRaises(SystemExit, main, ["simulate", *arguments])
        assert isinstance(error, SystemExit)
        return error.code, self.output.getvalue()

    def test_good_run(self) -> None:
        """Of a run in which all is well it shows parameters, script, premises and result; the digest is the run's."""
        status, text = self.simulate("--seed", SEED)
        self.assertEqual((status, self.errors.getvalue()), (0, ""))
        outcome = Run.of(draw_scenario(SEED)).execute()
        for words in (f"seed {SEED} at commit ", "first_packet_number ", " start ash\n", "D1 ", outcome.digest[:12]):
            self.assertIn(words, text)
        self.assertTrue(text.endswith(f"again: groupcomm simulate --seed {SEED}\n"), text[-100:])
        self.assertNotIn("what is wrong", text)
        self.assertNotIn("\x1b", text)

    def test_other_number_of_nodes(self) -> None:
        """With another number of nodes it says that this is another run, and how to make that one again."""
        status, text = self.simulate("--seed", SEED, "--nodes", "2")
        self.assertEqual(status, 0)
        self.assertIn("not the run that a campaign makes of this seed", text)
        self.assertIn(f"again: groupcomm simulate --seed {SEED} --nodes 2\n", text)
        self.assertNotIn(" start cob\n", text)

    def test_verbose(self) -> None:
        """With --verbose every event and packet of the span is printed, and the picture."""
        status, text = self.simulate("--seed", SEED, "--nodes", "2", "--verbose", "--to", "1.2")
        self.assertEqual(status, 0)
        self.assertIn("ash -> bay", text)
        self.assertIn("NODE VIEW", text)
        self.assertIn("*starts", text)
        times = [float(line.split()[0]) for line in text.splitlines() if " -> " in line and "deliver" in line]
        self.assertTrue(times)
        self.assertLessEqual(max(times), 1.2)

    def test_failing_run(self) -> None:
        """Of a failing run it shows what is wrong, the last events and the picture, and the status is 1."""
        self.patch(scenario_module, "examine", first_delivery)
        status, text = self.simulate("--seed", SEED, "--nodes", "2")
        self.assertEqual(status, 1)
        for words in ("what is wrong:\n  G1: ", "up to the one that shows what is wrong", "*starts"):
            self.assertIn(words, text)
        self.assertTrue(any(line[10:11] == "!" for line in text.splitlines()))

    def test_shrink(self) -> None:
        """With --shrink only the steps are left that the failure needs, and the line to make it again says so."""
        self.patch(scenario_module, "examine", first_delivery)
        status, text = self.simulate("--seed", SEED, "--nodes", "2", "--shrink")
        self.assertEqual(status, 1)
        self.assertIn("each of them is needed", text)
        script = text[text.index("the script") : text.index("property")].splitlines()[1:-1]
        self.assertLess(len(script), 8)
        self.assertIn(f"again: groupcomm simulate --seed {SEED} --nodes 2 --shrink\n", text)

    def test_svg(self) -> None:
        """With --svg the run is drawn into a file."""
        path = Path(self.mktemp())
        status, _ = self.simulate("--seed", SEED, "--nodes", "2", "--svg", str(path))
        self.assertEqual(status, 0)
        root = ElementTree.fromstring(path.read_text(encoding="utf-8"))
        self.assertTrue(any((element.text or "").startswith(f"seed {SEED}: ok") for element in root.iter()))

    def test_usage(self) -> None:
        """What cannot be run is one line and status 2."""
        for arguments, text in (
            ([], "--seed"),
            (["--seed", SEED, "--nodes", "1"], "--nodes"),
            (["--seed", SEED, "--nodes", "10"], "--nodes"),
            (["--seed", SEED, "--from", "2", "--to", "1"], "--to"),
            (["--seed", SEED, "--svg", "/nowhere/at/all.svg"], "--svg"),
        ):
            self.errors.seek(0)
            self.errors.truncate()
            status, _ = self.simulate(*arguments)
            self.assertEqual(status, 2, arguments)
            self.assertEqual(self.errors.getvalue().count("\n"), 1)
            self.assertIn(text, self.errors.getvalue())
