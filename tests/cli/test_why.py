"""``groupcomm why``: the causal chain of a view change in words."""

from __future__ import annotations

import io
import json
import sys
from typing import Any, cast

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from groupcomm.cli import main as main_module
from groupcomm.cli import session as session_module
from groupcomm.cli.running import IReactor
from groupcomm.cli.why import BACKWARDS, WORDS, concerns, explained
from groupcomm.client import Connection, connect
from groupcomm.wire.evidence import Finding
from tests.daemon.world import MemoryEndpoint, World


def record(finding: str, about: str, by: str, silent: float = 0.0, count: int = 0) -> dict[str, Any]:
    """A record as a daemon gives it."""
    return {
        "finding": finding,
        "about": about,
        "by": by,
        "before_seconds": 0.3,
        "silent_seconds": silent,
        "count": count,
    }


class WordsTests(SynchronousTestCase):
    """What is said of a change."""

    def lines(self, departed: str, joined: str, *records: dict[str, Any]) -> list[str]:
        gone = [{"node": name, "reason": "partition", "last_packet": 0} for name in departed]
        change = {"at": 0.0, "view": "8-a-1", "before": "7-a-1", "members": ["a", "b"], "joined": list(joined)}
        return [line.strip() for line in explained({**change, "departed": gone, "records": records})][1:]

    def test_every_finding_has_words(self) -> None:
        """But for who began, which has a line of its own."""
        self.assertEqual(set(WORDS), {finding.label for finding in Finding} - {"began"})
        self.assertLessEqual(set(BACKWARDS), set(WORDS))
        for finding in WORDS:
            if finding != "came":
                (_, line) = self.lines("c", "", record(finding, "c", "b", 3.0, 2))
                self.assertNotIn("{", line)

    def test_a_one_way_link(self) -> None:
        """The one that does not hear is out, and it is said whom it did not hear."""
        lines = self.lines("c", "", record("unheard", "a", "c", 2.04, 40), record("one way", "a", "c"))
        self.assertEqual(
            lines,
            [
                "c is out: partition",
                "it had not heard a for 2.04 s, though others did",
                "it did not hear a in the change",
            ],
        )

    def test_who_came_and_what_led_to_nothing(self) -> None:
        """What was found of a node that is still there is said as well."""
        lines = self.lines(
            "", "d", record("came", "d", "a"), record("silent", "b", "a", 0.05, 3), record("new", "b", "a")
        )
        self.assertEqual(lines, ["d came in", "of b: a had not heard it for 50 ms; 3 probes were lost"])

    def test_whom_a_change_concerns(self) -> None:
        """Who came, who went, and who is in the records."""
        change = {"joined": ["d"], "departed": [{"node": "c"}], "records": [record("silent", "c", "a")]}
        self.assertEqual([name for name in "abcde" if concerns(change, name)], ["a", "c", "d"])


class CommandTests(SynchronousTestCase):
    """The command line, with a daemon in memory."""

    def setUp(self) -> None:
        self.world, self.output, self.errors = World(), io.StringIO(), io.StringIO()
        self.patch(session_module, "connect", self.connect)
        self.patch(main_module, "run", self.run_in_memory)
        self.patch(sys, "stdout", self.output)
        self.patch(sys, "stderr", self.errors)

    def connect(self, reactor: object, where: str, *, name: str | None) -> Deferred[Connection]:
        """As the command would connect."""
        return connect(self.world.clock, MemoryEndpoint(self.world), name=name)

    def run_in_memory(self, work: main_module.Work) -> int:
        """As ``run`` does under a reactor."""
        self.world.result(Deferred.fromCoroutine(work(cast(IReactor, self.world.clock))))
        return 0

    def why(self, *arguments: str, status: int = 0) -> str:
        """What a command line prints."""
        self.output.truncate(0)
        self.output.seek(0)
        error = self.assertRaises(SystemExit, main_module.main, ["--control", "unix:/nowhere", "why", *arguments])
        assert isinstance(error, SystemExit)
        self.assertEqual(error.code, status, self.errors.getvalue())
        return self.output.getvalue()

    def test_for_people(self) -> None:
        """Each change with its chain, the latest at the end."""
        said = [line.partition("  view ")[2] or line.strip() for line in self.why().splitlines()]
        self.assertEqual(
            said,
            [
                "2-n1-7 (n1, n2, n3)",
                "the first view of this node",
                "3-n1-7 (n1, n2)",
                "n2 began the change, 0.30 s before the end of the old view",
                "n3 is out: partition; its packets up to 117 were delivered",
                "n2 had not heard it for 3.02 s, though its host still acknowledged; 130 probes were lost",
                "it said nothing to n1 in the change",
            ],
        )

    def test_which_changes(self) -> None:
        """Those of a view, of a node, the last ones; if there is none, that is said."""
        for arguments, views in (
            (("3-",), ["3-n1-7"]),
            (("--count", "1"), ["3-n1-7"]),
            (("--node", "n1"), ["2-n1-7", "3-n1-7"]),
            (("2-n1-7", "--node", "n3"), ["2-n1-7"]),
        ):
            shown = json.loads(self.why(*arguments, "--json"))
            self.assertEqual([change["view"] for change in shown["changes"]], views)
        self.assertEqual(self.why("9-", status=1), "")
        self.assertIn("none of the last changes", self.errors.getvalue())
