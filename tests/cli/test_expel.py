"""``groupcomm expel`` and ``groupcomm key rotate``: what they ask of a daemon, and what they say."""

from __future__ import annotations

import io
import sys
from typing import cast

from twisted.internet.defer import Deferred, fail
from twisted.trial.unittest import SynchronousTestCase

from groupcomm.cli import main as main_module
from groupcomm.cli import session as session_module
from groupcomm.cli.running import USAGE, IReactor
from groupcomm.client import Connection, connect
from groupcomm.errors import UsageError
from tests.daemon.world import MemoryEndpoint, World


class ClusterCommandTests(SynchronousTestCase):
    """The command lines, with a daemon in memory."""

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

    def status(self, *arguments: str) -> object:
        """The exit status of a command line."""
        error = self.assertRaises(SystemExit, main_module.main, ["--control", "unix:/nowhere", *arguments])
        assert isinstance(error, SystemExit)
        return error.code

    def test_expel(self) -> None:
        """The daemon is asked for the node named, and the line says that it is done, and how to make it last."""
        self.assertEqual(self.status("expel", "n2"), 0)
        self.assertEqual(self.world.node.expelled, ["n2"])
        said = self.output.getvalue()
        self.assertIn("n2 is expelled", said)
        self.assertIn("groupcomm ca revoke", said)
        self.assertEqual(self.world.node.sessions, {})

    def test_nobody_to_expel(self) -> None:
        """What the node refuses is the line on standard error, and nothing is said to be done."""
        self.patch(self.world.node, "expel", lambda name: fail(UsageError("this cluster has no certificates")))
        self.assertEqual(self.status("expel", "n2"), USAGE)
        self.assertEqual(self.output.getvalue(), "")
        self.assertIn("this cluster has no certificates", self.errors.getvalue())

    def test_rotate(self) -> None:
        """The number of the epoch that the daemon seals under now."""
        self.assertEqual(self.status("key", "rotate"), 0)
        self.assertIn("1", self.output.getvalue())
