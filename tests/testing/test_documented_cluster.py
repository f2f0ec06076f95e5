"""The simulated cluster of the documentation, run as it stands."""

from __future__ import annotations

import io
import re
import sys
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

PAGE = Path(__file__).resolve().parent.parent.parent / "doc" / "howto" / "simulate.md"
EXAMPLE = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)


class DocumentedClusterTests(SynchronousTestCase):
    """The page on simulated clusters."""

    def test_the_page(self) -> None:
        """The example runs to its end, and its replicas agree."""
        match = EXAMPLE.search(PAGE.read_text(encoding="utf-8"))
        assert match is not None
        output = io.StringIO()
        self.patch(sys, "stdout", output)
        names: dict[str, object] = {"__name__": "example"}
        exec(compile(match[1], str(PAGE), "exec"), names)
        self.assertRegex(output.getvalue(), r"^both have \d+ after \d+\.\d+ virtual seconds\n$")
