"""The client printed in the documentation, run as it stands in a process of its own."""

from __future__ import annotations

import re
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any, cast

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.internet.utils import getProcessOutputAndValue
from twisted.trial.unittest import TestCase

from groupcomm.daemon.control import parse_control
from groupcomm.daemon.service import DaemonService, NodeService
from tests.daemon.world import MemoryNode

PAGE = Path(__file__).resolve().parents[2] / "doc" / "howto" / "perspective-broker.md"
FIRST_EXAMPLE = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)


class DocumentedClientTests(TestCase):
    """A real daemon service on a UNIX socket, with a node in memory, and the page's client."""

    timeout = 30.0

    def setUp(self) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="gc-"))
        self.addCleanup(shutil.rmtree, self.directory)
        self.socket = self.directory / "run" / "d.sock"
        self.node = MemoryNode(cast(Clock, reactor))
        self.service = DaemonService(
            cast(Any, reactor), cast(NodeService, self.node), (parse_control(f"unix:{self.socket}"),)
        )
        self.service.startService()
        self.addCleanup(self.service.stopService)

    def test_the_page(self) -> None:
        """It is about thirty lines, needs Twisted alone, and does what the page says."""
        return Deferred.fromCoroutine(self.run_it())  # type: ignore[return-value]  # trial takes a Deferred

    async def run_it(self) -> None:
        match = FIRST_EXAMPLE.search(PAGE.read_text(encoding="utf-8"))
        assert match is not None
        code = match[1]
        self.assertLessEqual(len([line for line in code.splitlines() if line.strip()]), 30)
        self.assertNotIn("groupcomm", code)
        script = self.directory / "client.py"
        script.write_text(code, encoding="utf-8")
        arguments = [str(script), str(self.socket), "anne", "tea"]
        out, errors, status = await getProcessOutputAndValue(sys.executable, arguments, env={})
        self.assertEqual((errors, status), (b"", 0))
        view, message = out.decode().splitlines()[:2]
        self.assertTrue(view.startswith("view tea 3-n1-7/1 anne@n1#7.1"), view)
        self.assertEqual(message, "messages ['tea'] anne@n1#7.1 agreed [b'hello'] 3-n1-7/1")
        self.assertEqual(self.node.sessions, {})

    def test_socket(self) -> None:
        """The socket is for this user alone, in a directory for this user alone; both are gone or free afterwards."""
        self.assertEqual(self.socket.stat().st_mode & 0o777, 0o600)
        self.assertEqual(self.socket.parent.stat().st_mode & 0o777, 0o700)
