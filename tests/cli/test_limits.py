"""The table of limits for people and for programs."""

from __future__ import annotations

import io
import json
import sys

from twisted.trial.unittest import SynchronousTestCase

from groupcomm.cli.limits import as_set, limits
from groupcomm.cli.main import main
from groupcomm.cli.running import CommandFailed
from groupcomm.cli.status import size
from groupcomm.daemon.worst_case import Sizing, all_caps, holdings, total_bytes

SIZING = Sizing(nodes=8, clients=50)


class LimitsTests(SynchronousTestCase):
    """``groupcomm limits``."""

    def setUp(self) -> None:
        self.output = io.StringIO()
        self.patch(sys, "stdout", self.output)

    def test_everything_is_there(self) -> None:
        """Every cap, everything held with what happens when it is full, and the total."""
        limits(SIZING, as_json=False)
        shown = " ".join(self.output.getvalue().split())
        self.assertIn(f"at the worst {size(total_bytes(SIZING))} of memory", shown)
        for name in all_caps():
            self.assertIn(name, shown)
        for holding in holdings(SIZING):
            self.assertIn(size(holding.bytes), shown)

    def test_for_programs(self) -> None:
        """The same as one object; what is held adds up."""
        limits(SIZING, as_json=True)
        told = json.loads(self.output.getvalue())
        self.assertEqual((told["nodes"], told["clients"]), (8, 50))
        self.assertEqual(told["total_bytes"], sum(row["bytes"] for row in told["held"]))
        named = {name for row in told["held"] for name in row["caps"]} | {row["name"] for row in told["others"]}
        self.assertEqual(named, set(all_caps()))

    def test_options(self) -> None:
        """The numbers can be given; a daemon is not needed for that."""
        arguments = ["limits", "--nodes", "8", "--clients", "50", "--budget", "134217728", "--json"]
        error = self.assertRaises(SystemExit, main, arguments)
        self.assertEqual(error.args, (0,))
        self.assertEqual(json.loads(self.output.getvalue())["total_bytes"], total_bytes(SIZING))

    def test_as_the_daemon_is_set(self) -> None:
        """The settings of a daemon say its budget and its clients; one that does not tell them is an error."""
        settings = [("budget", "268435456", "option"), ("max-clients", "20", "default"), ("node", "a", "default")]
        self.assertEqual(as_set(SIZING, {"config": settings}), Sizing(8, 20, 268435456))
        self.assertRaises(CommandFailed, as_set, SIZING, {"config": settings[:1]})
        self.assertRaises(CommandFailed, as_set, SIZING, {"config": []})
