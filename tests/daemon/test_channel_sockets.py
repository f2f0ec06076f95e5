"""Data channels over real UNIX sockets."""

from __future__ import annotations

import os
import shutil
import socket
import stat
import tempfile
from pathlib import Path
from typing import Any, cast

from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults, maybeDeferred
from twisted.internet.task import Clock
from twisted.trial.unittest import TestCase

from groupcomm.client import connect
from groupcomm.daemon.caps import MAX_UNIX_PATH_BYTES
from groupcomm.daemon.control import parse_control
from groupcomm.daemon.records import SEND, Record, RecordReader, record
from groupcomm.daemon.service import DaemonService, NodeService
from groupcomm.daemon.stream import SocketStream
from groupcomm.events import Event, Left, Message, Reason
from groupcomm.interfaces import IGroup
from groupcomm.limits import MAX_MESSAGE_BYTES
from tests.daemon.world import MemoryNode

sockets = cast(Any, reactor)


class Collector:
    """An owner of a stream that keeps what it is given."""

    def __init__(self, expected: int = 0) -> None:
        self.reader = RecordReader(0xFFFF, 64 * 1024 * 1024)
        self.records: list[Record] = []
        self.expected = expected
        self.complete: Deferred[None] = Deferred()
        self.drained: Deferred[None] = Deferred()
        self.lost: Deferred[None] = Deferred()
        self.broken = ""

    def records_received(self, records: list[Record]) -> None:
        self.records += [(kind, flags, number, head, bytes(payload)) for kind, flags, number, head, payload in records]
        if len(self.records) == self.expected:
            self.complete.callback(None)

    def broke_protocol(self, text: str) -> None:
        self.broken = text

    def output_drained(self) -> None:
        self.drained.callback(None)

    def stream_lost(self) -> None:
        self.lost.callback(None)


class StreamTests(TestCase):
    """A stream of records between two sockets."""

    timeout = 30.0

    def pair(self, expected: int = 0) -> tuple[SocketStream, Collector, SocketStream, Collector]:
        """Two ends and their owners; the second expects so many records."""
        one, other = socket.socketpair()
        mine, theirs = Collector(), Collector(expected)
        near, far = SocketStream(sockets, one, mine), SocketStream(sockets, other, theirs)
        self.addCleanup(near.abort)
        self.addCleanup(far.abort)
        return near, mine, far, theirs

    def test_more_than_the_kernel_takes(self) -> None:
        """What the kernel does not take at once is sent when it has room: all of it, in order, and then it is told."""
        near, mine, far, theirs = self.pair(3001)
        far.set_reading(False)
        block = os.urandom(20_000)
        near.write([record(SEND, 0)])
        near.write([piece for number in range(1, 2001) for piece in (record(SEND, number, b"x", b"")[:-1], b"x")])
        for number in range(2001, 3001):
            near.write([record(SEND, number, b"", block)])
        self.assertGreater(near.backlog, 0)
        far.set_reading(True)

        def check(_: object) -> None:
            self.assertEqual([number for _, _, number, _, _ in theirs.records], list(range(3001)))
            self.assertEqual({payload for *_, payload in theirs.records[2001:]}, {block})
            self.assertEqual(near.backlog, 0)

        return gatherResults([theirs.complete, mine.drained]).addCallback(check)  # type: ignore[return-value]

    def test_finish(self) -> None:
        """Closing in peace lets everything pass that was written; both owners are told once."""
        near, mine, _, theirs = self.pair(1000)
        near.write([record(SEND, number, b"", bytes(10_000)) for number in range(1000)])
        near.finish()
        near.write([b"too late"])
        return gatherResults([theirs.complete, mine.lost, theirs.lost])  # type: ignore[return-value]

    def test_abort(self) -> None:
        """Closing at once is seen at the other end, by one that reads and by one that has more to write."""
        near, _, far, theirs = self.pair()
        far.set_reading(False)
        far.write([bytes(50_000_000)])
        near.abort()
        near.abort()
        self.assertEqual(near.fileno(), -1)
        return theirs.lost  # type: ignore[return-value]

    def test_no_records(self) -> None:
        """What is no record ends the connection."""
        near, mine, _, theirs = self.pair()
        near.write([b"\xff" * 100])

        def check(_: object) -> None:
            self.assertIn("a record of kind 255", theirs.broken)

        return gatherResults([mine.lost, theirs.lost]).addCallback(check)  # type: ignore[return-value]


class ServiceChannelTests(TestCase):
    """A daemon's service and the client library, with a node in memory."""

    timeout = 30.0

    def setUp(self) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="gc-"))
        self.addCleanup(shutil.rmtree, self.directory)
        self.node = MemoryNode(cast(Clock, reactor))

    def start(self, path: Path) -> DaemonService:
        service = DaemonService(sockets, cast(NodeService, self.node), (parse_control(f"unix:{path}:mode=660"),))
        service.startService()
        return service

    @staticmethod
    async def message(group: IGroup) -> Message:
        """The next message."""
        async for event in group:
            if isinstance(event, Message):
                return event
        raise AssertionError("the group has ended")

    def test_two_clients(self) -> None:
        """Messages of any size pass between two clients over the channel; then the daemon stops and tells them."""

        async def run() -> None:
            service = self.start(self.directory / "d.sock")
            self.assertEqual(stat.S_IMODE((self.directory / "d.data").stat().st_mode), 0o660)
            alice, bob = [await connect(sockets, str(self.directory / "d.sock"), name=name) for name in ("a", "b")]
            groups = [await connection.join("chat") for connection in (alice, bob)]
            for size in (0, 1, 1000, 100_000, 1_000_000, MAX_MESSAGE_BYTES):
                data = os.urandom(size % 1000) + bytes(size - size % 1000)
                await groups[0].send(data)
                for group in groups:
                    self.assertEqual((await self.message(group)).data, data)
            self.assertEqual(len(self.node.sessions["a"].payloads), 6)
            await service.stopService()
            for group, connection in zip(groups, (alice, bob), strict=True):
                seen: list[Event] = [event async for event in group]
                self.assertEqual(seen[-1], Left("chat", Reason.NODE_LEAVE))
                self.assertEqual(await connection.when_closed(), Reason.NODE_LEAVE)
            self.assertEqual({path.suffix for path in self.directory.iterdir()}, {".lock"})

        return Deferred.fromCoroutine(run())  # type: ignore[return-value]  # trial takes a Deferred

    def test_tcp(self) -> None:
        """At a TCP port the channel is another one beside it; if that cannot be reached, Perspective Broker will do."""

        async def run() -> None:
            service = DaemonService(
                sockets, cast(NodeService, self.node), (parse_control("tcp:0:interface=127.0.0.1"),)
            )
            service.startService()
            (where,) = service.control_descriptions()
            connection = await connect(sockets, where, name="a")
            group = await connection.join("chat")
            data = os.urandom(1_000_000)
            await group.send(data)
            self.assertEqual((await self.message(group)).data, data)
            self.assertEqual(len(self.node.sessions["a"].payloads), 1)
            (port,) = service._channel_ports
            await maybeDeferred(port.stopListening)
            other = await connect(sockets, where, name="b")
            await other.send(["chat"], b"hello")
            self.assertEqual((await self.message(group)).data, b"hello")
            self.assertEqual(self.node.sessions["b"].payloads, [])
            for each in (connection, other):
                await each.close()
            await service.stopService()

        return Deferred.fromCoroutine(run())  # type: ignore[return-value]  # trial takes a Deferred

    def test_many_messages(self) -> None:
        """A flood of small messages comes whole and in order, with no more memory than the windows."""

        async def run() -> None:
            service = self.start(self.directory / "d.sock")
            connection = await connect(sockets, str(self.directory / "d.sock"))
            got: list[bytes] = []

            class Listener:
                def messages_received(self, batch: Any) -> None:
                    got.extend(batch.messages)

                def event_received(self, event: Event) -> None:
                    """Views do not matter here."""

            group = await connection.join("chat", cast(Any, Listener()))
            expected = []
            for start in range(0, 200_000, 10_000):
                messages = [b"%d" % number for number in range(start, start + 10_000)]
                expected += messages
                await group.send_many(messages)
            await connection.close()
            self.assertEqual(got, expected)
            await service.stopService()

        return Deferred.fromCoroutine(run())  # type: ignore[return-value]  # trial takes a Deferred

    def test_a_path_too_long_for_a_second_socket(self) -> None:
        """Where the channel's path would be too long clients use Perspective Broker alone."""
        name = "n" * (MAX_UNIX_PATH_BYTES - len(os.fsencode(self.directory)) - 1)
        path = self.directory / name

        async def run() -> None:
            service = self.start(path)
            connection = await connect(sockets, str(path))
            group = await connection.join("chat")
            await group.send(b"hello")
            self.assertEqual((await self.message(group)).data, b"hello")
            (session,) = self.node.sessions.values()
            self.assertEqual(session.payloads, [])
            await connection.close()
            await service.stopService()

        return Deferred.fromCoroutine(run())  # type: ignore[return-value]  # trial takes a Deferred

    def test_a_path_that_is_taken(self) -> None:
        """If something else has the name of the channel's socket the daemon does without; what is there stays."""
        (self.directory / "d.data").write_text("mine")

        async def run() -> None:
            service = self.start(self.directory / "d.sock")
            connection = await connect(sockets, str(self.directory / "d.sock"))
            await connection.send(["chat"], b"hello")
            await connection.close()
            await service.stopService()
            self.assertEqual((self.directory / "d.data").read_text(), "mine")

        return Deferred.fromCoroutine(run())  # type: ignore[return-value]  # trial takes a Deferred
