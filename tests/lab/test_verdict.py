"""The oracle that reads the traces of real daemons can find something: it is given some that lie."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.lab.harness import Lab, settle

LEVELS = ["FIFO", "CAUSAL", "AGREED", "SAFE"]
MESSAGES = 50

Edit = Callable[[list[bytes], int], list[bytes]]


class VerdictTests(SynchronousTestCase):
    """Two daemons that do nothing wrong."""

    def test_traces_that_lie(self) -> None:
        """A delivery taken out of a trace or added to it is found; the traces as they are are in order."""
        with Lab(2) as lab:
            daemons = lab.daemons((1, 2))
            members = [lab.member(daemon, f"m{daemon.host}", "lab") for daemon in daemons]
            for member in members:
                member.wait_for_view([each.title for each in members], 30)
            for index, member in enumerate(members):
                member.tell({"do": "send", "seed": index, "messages": MESSAGES, "sizes": [50, 500], "levels": LEVELS})
            for member in members:
                member.wait_for("sent", 30)
                member.wait_for("m", 30, count=2 * MESSAGES)
            settle(members)
            lab.judge("D1", "D2", "M1", "M4", "O5", "O7", "S1", "G5", "L2", "L3")
            for daemon in daemons:
                daemon.stop()
            true = [daemon.trace for daemon in daemons]
            self.assertEqual(self.verdict(true), (0, set()))
            for name, edit, expected in (
                ("without", lambda lines, place: lines[:place] + lines[place + 1 :], {"O7"}),
                ("twice", lambda lines, place: lines[: place + 1] + lines[place:], {"D2"}),
            ):
                status, found = self.verdict([true[0], self.lying(true[1], name, edit)])
                self.assertEqual(status, 1, name)
                self.assertTrue(found & expected, f"{name}: {found}")

    def lying(self, trace: Path, name: str, edit: Edit) -> Path:
        """A copy of a trace, changed at the delivery of an AGREED message in its middle."""
        lines = trace.read_bytes().splitlines(keepends=True)
        places = [n for n, line in enumerate(lines) if line.startswith(b'{"e":"deliver"') and b'"AGREED"' in line]
        copy = trace.with_name(f"{trace.stem}-{name}.trace")
        copy.write_bytes(b"".join(edit(lines, places[len(places) // 2])))
        return copy

    def verdict(self, traces: Sequence[Path]) -> tuple[int, set[str]]:
        """What the command says of these: its exit status, and the properties it names as broken."""
        command = [sys.executable, "-m", "groupcomm.testing.logs", *map(str, traces)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        self.assertIn(done.returncode, (0, 1), done.stderr)
        said = done.stdout.partition("the last events:")[0].splitlines()
        return done.returncode, {line.partition(":")[0] for line in said if not line.startswith(" ") and ": " in line}
