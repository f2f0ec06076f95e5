"""``groupcomm quorum``: what it prints, and its exit status."""

from __future__ import annotations

import io
import json
import sys

from twisted.trial.unittest import SynchronousTestCase

from groupcomm.cli import main as main_module
from groupcomm.cli.quorum import facts_as_object, lines_of
from tests.cli.test_status import FACTS

QUORUM = {
    **FACTS["quorum"],
    "filter": "dynamic-linear",
    "nodes": [("beta", 2), ("gamma", 1)],
    "tie_breaker": "gamma",
    "why": "less than half is here",
    "differing": ["beta"],
}


class WhatIfTests(SynchronousTestCase):
    """Without a daemon."""

    def run_it(self, *arguments: str) -> tuple[int | str | None, str, str]:
        output, errors = io.StringIO(), io.StringIO()
        self.patch(sys, "stdout", output)
        self.patch(sys, "stderr", errors)
        ended = self.assertRaises(SystemExit, main_module.main, ["quorum", *arguments])
        return ended.code, output.getvalue(), errors.getvalue()

    def test_statuses(self) -> None:
        """0 if something is primary, 1 if nothing is, 2 for what makes no sense."""
        for arguments, status, text in (
            (["--nodes", "a:2,b,c", "--down", "c"], 0, "PRIMARY: a majority is here"),
            (["--nodes", "a,b,c", "--down", "b", "--down", "c"], 1, "no component is primary"),
            (["--nodes", "a,b,c,d", "--split", "a,b"], 1, "exactly half"),
            (["--nodes", "a,b,c,d", "--split", "a,b", "--tie-breaker", "d"], 0, "with the tie-breaker"),
            (["--nodes", "a,b,c", "--filter", "dynamic-linear", "--last", "a,b", "--down", "b"], 0, "tie-breaker"),
            (["--nodes", "a,a"], 2, "named twice"),
            (["--nodes", "a,b", "--down", "x"], 2, "'x' is none of the quorum nodes"),
            (["--nodes", "a,b", "--tie-breaker", "x"], 2, "'x' is none of the quorum nodes"),
            (["--down", "c"], 2, "--nodes is missing"),
        ):
            code, output, errors = self.run_it(*arguments)
            self.assertEqual(code, status, arguments)
            self.assertIn(text, output + errors)

    def test_json(self) -> None:
        """The same for programs."""
        _, output, _ = self.run_it("--nodes", "a,b,c", "--down", "c", "--json")
        self.assertEqual(
            json.loads(output),
            {
                "filter": "majority",
                "components": [
                    {
                        "nodes": ["a", "b"],
                        "primary": True,
                        "why": "a majority is here",
                        "votes": 2,
                        "total": 3,
                        "survives": 0,
                        "survives_one_by_one": 0,
                    }
                ],
            },
        )


class DaemonTests(SynchronousTestCase):
    """What a daemon's status says of it."""

    def test_lines(self) -> None:
        """The view, the filter, who is here and who is missing, and what is wrong."""
        lines = "\n".join(lines_of({**FACTS, "primary": False, "quorum": QUORUM}))
        for text in (
            "view 7-alpha-abc: NOT PRIMARY: less than half is here",
            "filter dynamic-linear, tie-breaker gamma",
            "beta: 2 votes, here",
            "gamma: 1 vote, missing",
            "without a vote: alpha",
            "has forgotten",
        ):
            self.assertIn(text, lines)
        self.assertEqual(lines_of(FACTS), ["view 7-alpha-abc: PRIMARY: every component acts", "filter none"])

    def test_object(self) -> None:
        """The same for programs."""
        found = facts_as_object({**FACTS, "primary": False, "quorum": QUORUM})
        self.assertEqual(found["nodes"][1], {"node": "gamma", "votes": 1, "here": False})  # type: ignore[index]
        self.assertEqual((found["members"], found["primary"]), (["alpha", "beta"], False))
