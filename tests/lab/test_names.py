"""Two nodes of one name: the one that comes later ends, and says why and what to do."""

from __future__ import annotations

import time

from twisted.trial.unittest import SynchronousTestCase

from tests.lab.harness import Daemon, Lab, measured, wait_until


class NameTests(SynchronousTestCase):
    """A name that is in use."""

    def test_a_name_in_use(self) -> None:
        """The daemon that comes second ends with status 1 and one clear line; the others do not notice."""
        with Lab(3) as lab:
            daemons = lab.daemons((1, 2))
            view = daemons[0].last_view()
            second = Daemon(lab, 3, "n1", ())
            second.runtime = lab.directory / "run-second"
            second.socket = second.runtime / "control.sock"
            lab.started(second)
            wait_until(second.is_listening, 30, "the second node to listen")
            began = time.monotonic()
            wait_until(lambda: not second.running, 30, "the second node of one name to end")
            measured("a node whose name is in use ends after it listens", time.monotonic() - began, "s")
            self.assertEqual(second.child.returncode if second.child else None, 1)
            lines = [line for line in second.log().splitlines() if "the daemon ends: " in line]
            self.assertEqual(len(lines), 1, second.log())
            for text in ("'n1' is in use", repr(lab.cluster), "10.77.0.1:4874", "--node NAME"):
                self.assertIn(text, lines[0])
            self.assertEqual([daemon.last_view() for daemon in daemons], [view, view])
            # The oracle would take the two runs of one name for a node that was started again.
            second.trace.unlink()
