"""The embedded node of the documentation, run as it stands in a process of its own."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

PAGE = Path(__file__).resolve().parent.parent / "doc" / "howto" / "embedded.md"
EXAMPLE = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
ENDS_SECONDS = 60


class DocumentedNodeTests(SynchronousTestCase):
    """A whole node on the loopback interface."""

    def test_the_page(self) -> None:
        """The example joins, hears itself, leaves the cluster and ends."""
        match = EXAMPLE.search(PAGE.read_text(encoding="utf-8"))
        assert match is not None
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        ended = subprocess.run(
            [sys.executable, "-c", match[1]],
            env=environment,
            capture_output=True,
            text=True,
            timeout=ENDS_SECONDS,
            check=False,
        )
        self.assertEqual((ended.stderr, ended.returncode), ("", 0))
        view, message = ended.stdout.splitlines()
        self.assertTrue(view.startswith("here are emb@emb"), view)
        self.assertTrue(message.startswith("emb@emb"), message)
        self.assertTrue(message.endswith(" says b'hello'"), message)
