"""Campaigns: chunks that are kept, sums, and what is red."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from groupcomm.testing import campaign as campaign_module
from groupcomm.testing import scenario as scenario_module
from groupcomm.testing import swarm as swarm_module
from groupcomm.testing.campaign import failure_reports, main, planned_chunks, run_campaign, seed_range
from groupcomm.testing.oracle import EXPECTED_PREMISES
from groupcomm.testing.report import Report
from groupcomm.testing.results import CampaignError, Result, chunks_of, read_result, report_lines
from groupcomm.testing.shrinking import shrink
from groupcomm.testing.swarm import EXPECTED_FAULTS, RunSummary, summarize_seed
from groupcomm.testing.trace import Delivered, Trace


def no_delivery(trace: Trace, **options: object) -> Report:
    """An oracle to whom the first message that is delivered is wrong."""
    report = Report()
    for index, event in enumerate(trace):
        if isinstance(event, Delivered):
            report.violate("G1", index, "nothing may be delivered", event.message)
            break
    return report


ALL_PREMISES = dict.fromkeys(EXPECTED_PREMISES, 1)
ALL_FAULTS = dict.fromkeys(EXPECTED_FAULTS, 2)


class CampaignTests(SynchronousTestCase):
    """Campaigns over runs that are made up."""

    def setUp(self) -> None:
        self.folder = Path(self.mktemp())
        self.ran: list[str] = []
        self.bad: set[str] = set()
        self.commit = "first"
        self.output = io.StringIO()
        self.patch(sys, "stdout", self.output)
        self.patch(campaign_module, "commit_id", lambda: self.commit)
        self.patch(campaign_module, "summarize_seed", self.summarize)

    def summarize(self, seed: str) -> RunSummary:
        self.ran.append(seed)
        failure = "D5" if seed in self.bad else None
        return RunSummary(seed, failure, "x" if failure else "", ALL_PREMISES, ALL_FAULTS, {"rest": 1.5}, 3, 0.5)

    def run_range(self, first: int, last: int, *, seconds: float | None = None, at_least: int = 0) -> Result:
        chunks = chunks_of(first, last, size=3)
        return run_campaign(chunks, self.folder, seconds=seconds, at_least=at_least, output=self.output)

    def test_sums(self) -> None:
        """All seeds are run, in their order, and what they tell is summed up."""
        self.bad = {"2", "7"}
        total = self.run_range(1, 7)
        self.assertEqual(self.ran, [str(number) for number in range(1, 8)])
        self.assertEqual((total.runs, total.cpu_seconds), (7, 3.5))
        self.assertEqual([failed.seed for failed in total.failures], ["2", "7"])
        self.assertEqual(set(total.premises.values()), {7})
        self.assertEqual((total.faults["cut"], dict(total.nodes), total.slowest), (14, {3: 7}, {"rest": 1.5}))
        self.assertIn("FAILED seed 2: D5: x", self.output.getvalue())
        self.assertIn("groupcomm simulate --seed 2", self.output.getvalue())

    def test_goes_on(self) -> None:
        """Chunks that are done are not run again, at whatever commit; what they told counts, and so does the commit."""
        self.bad = {"2"}
        self.run_range(1, 6)
        self.commit, self.ran = "second", []
        total = self.run_range(1, 9)
        self.assertEqual(self.ran, ["7", "8", "9"])
        self.assertEqual((total.runs, len(total.failures)), (9, 1))
        self.assertEqual(dict(total.commits), {"first": 6, "second": 3})

    def test_interrupted(self) -> None:
        """An interrupt loses the chunk that it falls into, and no other."""

        def interrupt(seed: str) -> RunSummary:
            if seed == "5":
                raise KeyboardInterrupt
            return self.summarize(seed)

        self.patch(campaign_module, "summarize_seed", interrupt)
        with self.assertRaises(KeyboardInterrupt):
            self.run_range(1, 9)
        kept = [read_result(self.folder, chunk) is not None for chunk in chunks_of(1, 9, size=3)]
        self.assertEqual(kept, [True, False, False])

    def test_time_limit(self) -> None:
        """With a time limit no chunk is begun after it, unless fewer runs were made than there must be."""
        self.assertEqual(self.run_range(1, 9, seconds=0.0).runs, 0)
        self.assertEqual(self.run_range(1, 9, seconds=0.0, at_least=4).runs, 6)

    def test_files_are_small(self) -> None:
        """A chunk's file has the sums, not the runs."""
        self.run_range(1, 3)
        (path,) = self.folder.iterdir()
        found = json.loads(path.read_text(encoding="utf-8"))
        self.assertEqual((found["seeds"], found["runs"], found["commits"]), (["1", "3"], 3, {"first": 3}))
        self.assertLess(path.stat().st_size, 3000)

    def test_damaged_file(self) -> None:
        """A file that is no result is not counted and not overwritten."""
        self.run_range(1, 3)
        (path,) = self.folder.iterdir()
        path.write_text("{}", encoding="utf-8")
        with self.assertRaisesRegex(CampaignError, path.name):
            self.run_range(1, 3)

    def test_status(self) -> None:
        """The command fails if a run failed, a property never had anything to check or a kind of fault never struck."""
        arguments = ["1:4", "--chunk", "2", "--reports", "0", "--results"]
        self.assertEqual(main([*arguments, str(self.folder / "a")]), 0)
        self.assertIn("4 runs, 0 failed", self.output.getvalue())
        self.bad = {"3"}
        self.assertEqual(main([*arguments, str(self.folder / "b")]), 1)
        self.bad = set()
        self.patch(sys.modules[__name__], "ALL_PREMISES", {**ALL_PREMISES, EXPECTED_PREMISES[0]: 0})
        self.assertEqual(main([*arguments, str(self.folder / "c")]), 1)
        self.assertIn(f"never checked: {EXPECTED_PREMISES[0]}\n", self.output.getvalue())
        self.patch(sys.modules[__name__], "ALL_PREMISES", dict.fromkeys(EXPECTED_PREMISES, 1))
        self.patch(sys.modules[__name__], "ALL_FAULTS", {**ALL_FAULTS, EXPECTED_FAULTS[0]: 0})
        self.assertEqual(main([*arguments, str(self.folder / "d")]), 1)
        self.assertIn(f"never struck: {EXPECTED_FAULTS[0]}\n", self.output.getvalue())


class ReportTests(SynchronousTestCase):
    """What is told at the end."""

    def test_failed_run(self) -> None:
        """The first failed run is made again and small, and told with seed, commit, parameters, script and picture."""
        output = io.StringIO()
        self.patch(sys, "stdout", output)
        self.patch(scenario_module, "examine", no_delivery)
        self.patch(campaign_module, "shrink", lambda outcome: shrink(outcome, most_runs=4))
        self.assertEqual(main(["3:4", "--results", self.mktemp()]), 1)
        text = output.getvalue()
        report = text[text.index("seed 3 fails with G1 at commit ") :]
        for words in (
            "again: groupcomm simulate --seed 3 --shrink\n",
            "parameters: nodes ",
            "steps after 4 runs (there may be a smaller one",
            " start ash\n",
            "what is wrong:\n  G1: nothing may be delivered\n",
            "the last events of every process and node, up to the one that shows what is wrong:\n",
            "*starts",
        ):
            self.assertIn(words, report)
        self.assertNotIn("seed 4 fails with", text)
        self.assertIn("seed 4: G1: nothing may be delivered", text)

    def test_well_again(self) -> None:
        """Of a seed that failed at an earlier commit and is well now, only this is said."""
        self.assertEqual(list(failure_reports(["3"])), ["", "seed 3 failed at another commit, and is well at this one"])

    def test_vacuity(self) -> None:
        """An expected property that was never checked is red; another that was never checked is not."""
        total = Result(runs=1)
        total.premises.update({**ALL_PREMISES, EXPECTED_PREMISES[1]: 0, "extra": 0})
        total.faults.update(ALL_FAULTS)
        lines = list(report_lines(total, colour=True))
        red = [line for line in lines if "\x1b[31m" in line]
        self.assertEqual(len(red), 2)
        self.assertIn("NEVER CHECKED", red[0])
        self.assertTrue(total.red)
        self.assertFalse(any("\x1b" in line for line in report_lines(total)))
        total.premises[EXPECTED_PREMISES[1]] = 1
        self.assertFalse(total.red)


class SeedTests(SynchronousTestCase):
    """Which seeds are run."""

    def test_chunks(self) -> None:
        """Chunks end at multiples of their size, so that overlapping ranges share them."""
        self.assertEqual([(one.first, one.last) for one in chunks_of(2, 8, size=3)], [(2, 3), (4, 6), (7, 8)])
        self.assertEqual(chunks_of(1, 9, size=3)[1], chunks_of(2, 8, size=3)[1])
        self.assertEqual([seed for chunk in chunks_of(2, 8, size=3) for seed in chunk.seeds], list("2345678"))

    def test_ranges(self) -> None:
        """FIRST:LAST, or one number; anything else is refused."""
        self.assertEqual((seed_range("3:7"), seed_range("3")), ((3, 7), (3, 3)))
        for text in ("", "x", "3:", ":3", "7:3", "0:3", "1:2:3", "1-3"):
            with self.assertRaises(CampaignError):
                seed_range(text)

    def test_seeds_of_a_commit(self) -> None:
        """Every commit has seeds of its own; without one there are none."""
        self.patch(campaign_module, "commit_id", lambda: "0123456789abcdef+")
        (chunk,) = planned_chunks(None, 2, 250)
        self.assertEqual(chunk.seeds, ["ci-0123456789ab-1", "ci-0123456789ab-2"])
        self.patch(campaign_module, "commit_id", lambda: "unknown")
        with self.assertRaises(CampaignError):
            planned_chunks(None, 2, 250)
        with self.assertRaises(CampaignError):
            planned_chunks("1:2", 2, 250)


class RealRunTests(SynchronousTestCase):
    """Campaigns over real runs."""

    def test_two_processes(self) -> None:
        """Two processes tell the same as one."""
        results = []
        for jobs in (1, 2):
            folder = Path(self.mktemp())
            total = run_campaign(chunks_of(1, 3, size=2), folder, jobs=jobs, output=io.StringIO())
            results.append((total.runs, total.failures, total.premises, total.faults, total.nodes, total.slowest))
        self.assertEqual(results[0], results[1])

    def test_what_is_raised_is_a_failure(self) -> None:
        """A run that cannot even be made or judged is a failed run, and the campaign goes on."""

        def broken(seed: str) -> None:
            raise RuntimeError("the oracle is out")

        self.patch(swarm_module, "run_seed", broken)
        summary = summarize_seed("1")
        self.assertEqual((summary.failure, summary.line), ("exception", "RuntimeError: the oracle is out"))
