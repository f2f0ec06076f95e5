"""The daemon's service: what it opens, and what it leaves behind."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any, cast

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock, deferLater
from twisted.trial.unittest import TestCase

from groupcomm.client import connect
from groupcomm.daemon.control import is_live, parse_control
from groupcomm.daemon.service import DaemonService, NodeService
from groupcomm.errors import EnvironmentFault, NotConnected
from groupcomm.events import Event, Left, Reason
from tests.daemon.world import MemoryNode


class ServiceTests(TestCase):
    """A service on UNIX sockets and loopback, with a node in memory."""

    timeout = 20.0

    def setUp(self) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="gc-"))
        self.addCleanup(shutil.rmtree, self.directory)
        self.socket = self.directory / "d.sock"
        self.node = MemoryNode(cast(Clock, reactor))
        self.service = self.make(f"unix:{self.socket}", "tcp:0:interface=127.0.0.1")

    def make(self, *control: str) -> DaemonService:
        endpoints = tuple(parse_control(each) for each in control)
        return DaemonService(cast(Any, reactor), cast(NodeService, self.node), endpoints)

    def test_stop(self) -> None:
        """Clients over both endpoints are told, their groups end with ``node leave``, and nothing is left."""

        async def run() -> None:
            self.service.startService()
            descriptions = self.service.control_descriptions()
            self.assertTrue(descriptions[1].startswith("tcp:127.0.0.1:"), descriptions)
            connections = [
                await connect(cast(Any, reactor), where, name=f"c{number}") for number, where in enumerate(descriptions)
            ]
            groups = [await connection.join("chat") for connection in connections]
            await self.service.stopService()
            for group, connection in zip(groups, connections, strict=True):
                seen: list[Event] = [event async for event in group]
                self.assertEqual(seen[-1], Left("chat", Reason.NODE_LEAVE))
                self.assertEqual(await connection.when_closed(), Reason.NODE_LEAVE)
            self.assertFalse(self.socket.exists())
            self.assertEqual(self.service.factory.brokers, set())
            with self.assertRaises(NotConnected):
                await connect(cast(Any, reactor), descriptions[0])

        return Deferred.fromCoroutine(run())  # type: ignore[return-value]  # trial takes a Deferred

    def test_path_is_taken(self) -> None:
        """A second daemon on the same path is refused; the first goes on."""

        async def run() -> None:
            self.service.startService()
            with self.assertRaises(EnvironmentFault):
                self.make(f"unix:{self.socket}").startService()
            self.assertTrue(is_live(self.socket))
            await self.service.stopService()

        return Deferred.fromCoroutine(run())  # type: ignore[return-value]  # trial takes a Deferred

    def test_node_does_not_start(self) -> None:
        """If the node cannot start, nothing is left open."""
        self.node.refusal = EnvironmentFault("no such interface")

        async def run() -> None:
            self.assertRaises(EnvironmentFault, self.service.startService)
            await deferLater(cast(Any, reactor), 0.01)
            self.assertFalse(self.socket.exists())

        return Deferred.fromCoroutine(run())  # type: ignore[return-value]  # trial takes a Deferred
