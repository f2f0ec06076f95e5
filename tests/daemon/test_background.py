"""``twistd groupcomm`` in the background: a daemon that cannot start says so to whoever started it, and is gone."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from twisted.trial.unittest import TestCase

ENDS_SECONDS = 60


class BackgroundTests(TestCase):
    """The parent that waits for the daemon, and what is left."""

    def test_a_start_that_fails_ends_the_parent_too(self) -> None:
        """An interface that is not there: status 1, a message, neither a process nor a file of one."""
        with tempfile.TemporaryDirectory(prefix="gc") as made:
            directory = Path(made)
            pid_file = directory / "twistd.pid"
            command = [
                sys.executable,
                "-c",
                "from twisted.scripts.twistd import run; run()",
                "--pidfile",
                str(pid_file),
            ]
            command += ["groupcomm", "--node", "left", "--interface", "nope0"]
            environment = {**os.environ, "RUNTIME_DIRECTORY": made, "PYTHONPATH": os.pathsep.join(sys.path)}
            with open(directory / "said", "wb") as said:
                status = subprocess.run(
                    command,
                    cwd=directory,
                    env=environment,
                    stdin=subprocess.DEVNULL,
                    stdout=said,
                    stderr=said,
                    timeout=ENDS_SECONDS,
                    check=False,
                ).returncode
            text = (directory / "said").read_text()
            log = (directory / "twistd.log").read_text()
            self.assertEqual(status, 1, text)
            self.assertIn("An error has occurred", text)
            self.assertIn("nope0", text)
            self.assertIn("the daemon cannot start", log)
            self.assertFalse(pid_file.exists())
            self.assertEqual(list(directory.glob("*.sock")), [])
            self.assertEqual(running_in(directory), [])


def running_in(directory: Path) -> list[str]:
    """The processes whose working directory that is, once those that are about to end have ended."""
    for _ in range(100):
        found = [entry.parent.name for entry in Path("/proc").glob("[0-9]*/cwd") if is_at(entry, directory)]
        if not found:
            break
        time.sleep(0.1)
    return found


def is_at(link: Path, directory: Path) -> bool:
    """Whether that link of a process leads there."""
    try:
        return link.readlink() == directory.resolve()
    except OSError:  # gone, or another user's
        return False
