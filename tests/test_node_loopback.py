"""Whole nodes on this host's loopback interface: real sockets, real engines."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import cast

from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import deferLater
from twisted.trial.unittest import SkipTest, TestCase

from groupcomm.config import EngineConfig
from groupcomm.events import Left, Level, Message, Reason, View
from groupcomm.interfaces import IGroup
from groupcomm.net.reactor import INodeReactor
from groupcomm.node import Node, NodeConfig, NodeSeams
from groupcomm.node.memoryfile import read_memory
from groupcomm.outputs import NodeViewInstalled
from groupcomm.quorum import NO_QUORUM, Filter, Quorum

REACTOR = cast(INodeReactor, reactor)
LIMIT_SECONDS = 30.0


def free_port() -> int:
    """A port number nobody has at the moment."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class LoopbackTests(TestCase):
    """Three nodes in one process."""

    timeout = 60

    def setUp(self) -> None:
        self.port = free_port()
        self.interface = "lo"
        self.peers: tuple[str, ...] = ()
        self.quorum = NO_QUORUM
        self.views: dict[str, NodeViewInstalled] = {}
        self.waiting: list[tuple[int, Deferred[None]]] = []

    def node(self, name: str) -> Node:
        """One more node, started."""
        config = NodeConfig(
            engine=EngineConfig(cluster=f"test-{self.port}", key=bytes(32), quorum=self.quorum),
            node=name,
            interfaces=(self.interface,),
            multicast_port=self.port,
            discovery=("multicast", "static") if self.peers else ("multicast",),
            peers=self.peers,
            data_dir=None if self.quorum is NO_QUORUM else Path(self.mktemp()),
        )
        node = Node(REACTOR, config, NodeSeams())
        node.observe(lambda news: self.news(name, news))
        node.startService()
        self.addCleanup(node.stopService)
        return node

    def news(self, name: str, news: object) -> None:
        """A node says something of itself."""
        if isinstance(news, NodeViewInstalled):
            self.views[name] = news
            for entry in [entry for entry in self.waiting if self.agree(entry[0])]:
                self.waiting.remove(entry)
                entry[1].callback(None)

    def agree(self, count: int) -> bool:
        """Whether so many nodes have one view of just them."""
        return len([view for view in self.views.values() if len(view.members) == count]) == count and (
            len({view.id for view in self.views.values() if len(view.members) == count}) == 1
        )

    def one_view(self, count: int) -> Deferred[None]:
        """Fires when so many nodes have one view of just them."""
        done: Deferred[None] = Deferred()
        if self.agree(count):
            done.callback(None)
        else:
            self.waiting.append((count, done))
        return done.addTimeout(LIMIT_SECONDS, REACTOR)

    async def read(self, group: IGroup, count: int) -> list[Message]:
        """The next so many messages."""
        messages: list[Message] = []
        async for event in group:
            if isinstance(event, Message):
                messages.append(event)
                if len(messages) == count:
                    break
        return messages

    async def members(self, group: IGroup, count: int) -> View:
        """The next view with so many members."""
        async for event in group:
            if isinstance(event, View) and len(event.members) == count:
                return event
        raise AssertionError("the group ended")

    async def run_three(self) -> None:
        """Three nodes send at once, then one stops."""
        nodes = [self.node(name) for name in ("a", "b", "c")]
        await self.one_view(3)
        groups = [await node.join("room") for node in nodes]
        for group in groups:
            if group is not groups[-1]:
                await self.members(group, 3)
        reading = [Deferred.fromCoroutine(self.read(group, 300)) for group in groups]
        for number in range(100):
            for name, group in zip("abc", groups, strict=True):
                group.send(f"{name}{number}".encode(), level=Level.AGREED)
            if number % 10 == 0:
                await deferLater(REACTOR, 0)
        logs = [[message.data for message in messages] for messages in await gatherResults(reading)]
        self.assertEqual(len(set(logs[0])), 300)
        self.assertEqual(logs[0], logs[1])
        self.assertEqual(logs[0], logs[2])
        for name in "abc":
            own = [data for data in logs[0] if data.startswith(name.encode())]
            self.assertEqual(own, [f"{name}{number}".encode() for number in range(100)])
        leaving = self.members(groups[0], 2)
        ended = Deferred.fromCoroutine(self.last(groups[2]))
        await nodes[2].stopService()
        view = await leaving
        self.assertEqual([departure.reason for departure in view.left], [Reason.NODE_LEAVE])
        self.assertEqual(await ended, Left("room", Reason.NODE_LEAVE))
        del self.views["c"]
        await self.one_view(2)
        await groups[0].send(b"goodbye", level=Level.SAFE, stable=True)
        self.assertEqual([message.data for message in await self.read(groups[1], 1)], [b"goodbye"])

    async def last(self, group: IGroup) -> object:
        """The last event."""
        return [event async for event in group][-1]

    def test_three_nodes(self) -> Deferred[None]:
        """Three nodes find each other, deliver the same messages in the same order; one that stops leaves."""
        return Deferred.fromCoroutine(self.run_three())

    async def run_dynamic_linear(self) -> None:
        """Three nodes become primary together, one stops."""
        nodes = [self.node(name) for name in "abc"]
        await self.one_view(3)
        self.assertEqual({view.primary for view in self.views.values()}, {True})
        await nodes[0].stopService()
        directory, cluster = nodes[0].config.data_dir, nodes[0].config.engine.cluster
        memory = read_memory(directory, cluster, self.quorum)
        self.assertEqual((memory.attempts, memory.whole), ((), True))
        assert memory.last is not None
        self.assertGreaterEqual(memory.last.id, self.views["a"].id)

    def test_dynamic_linear(self) -> Deferred[None]:
        """What must outlive a node is on the disk before the view is there, and all of it when the node has stopped."""
        self.quorum = Quorum(Filter.DYNAMIC_LINEAR, (("a", 1), ("b", 1), ("c", 1)))
        return Deferred.fromCoroutine(self.run_dynamic_linear())

    def test_ipv6(self) -> Deferred[None]:
        """The same over IPv6, which has no multicast on loopback: they are told where the first one is."""
        try:
            with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as probe:
                probe.bind(("::1", self.port))
        except OSError as error:
            raise SkipTest(f"this host has no IPv6: {error}") from None
        self.interface, self.peers = "::1", ("::1",)
        return Deferred.fromCoroutine(self.run_three())
