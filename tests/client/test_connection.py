"""The client library against a daemon in memory."""

from __future__ import annotations

import os
from typing import Any

from twisted.internet.defer import Deferred, ensureDeferred, fail
from twisted.internet.error import ConnectError, ConnectionRefusedError
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.protocol import Protocol
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer
from zope.interface.verify import verifyObject

from groupcomm.batches import MessageBatch
from groupcomm.client import Connection, channel, connect
from groupcomm.client.link import LOGIN_SECONDS
from groupcomm.client.outbox import WAITING_BYTES
from groupcomm.daemon import caps
from groupcomm.daemon.records import DONE, EVENT, FAILED, MESSAGES, SEND, SINGLE, record
from groupcomm.daemon.stream import StreamOwner
from groupcomm.errors import (
    MessageTooLarge,
    NameInUse,
    NotAMember,
    NotConnected,
    NotPrimary,
    OutcomeUnknown,
    QueueFull,
    Refused,
    SendIncomplete,
    UsageError,
)
from groupcomm.events import Event, Left, Level, Message, Outside, Reason, Undeliverable, View
from groupcomm.interfaces import IConnection, IGroup, IGroupBatchEvents, IGroupEvents
from groupcomm.limits import COALESCED_FRAME_BYTES, MAX_MESSAGE_BYTES
from groupcomm.packing import pack_messages, unpack_messages
from tests.daemon.world import MemoryEndpoint, MemoryStream, PlainClient, World, server_broker


@implementer(IGroupEvents)
class Listener:
    """Keeps what it is given."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def event_received(self, event: Event) -> None:
        self.events.append(event)

    @property
    def data(self) -> list[bytes]:
        return [event.data for event in self.events if isinstance(event, Message)]


@implementer(IGroupBatchEvents)
class BatchListener(Listener):
    """Keeps the messages of batches."""

    def __init__(self) -> None:
        super().__init__()
        self.taken: list[Message] = []

    def messages_received(self, batch: MessageBatch) -> None:
        self.taken.extend(batch)


class ConnectionCase(SynchronousTestCase):
    """A daemon in memory, which tests of one way to it and of the other share."""

    channels = False

    def setUp(self) -> None:
        self.world = World(channels=self.channels)
        self.patch(channel, "dial", self.world.dial)

    def tearDown(self) -> None:
        self.assertEqual(self.flushLoggedErrors(), [], "an error was logged")

    def connect(self, name: str | None) -> Connection:
        connection: Connection = self.world.result(connect(self.world.clock, MemoryEndpoint(self.world), name=name))
        return connection


class ConnectionTests(ConnectionCase):
    """What an application does with a connection over Perspective Broker alone."""

    def test_join_send_iterate(self) -> None:
        """The example of the documentation: join, send, and iterate over the events."""
        seen: list[Event] = []

        async def program() -> None:
            connection = await connect(self.world.clock, MemoryEndpoint(self.world), name="alice")
            group = await connection.join("chat")
            await group.send(b"hello", level=Level.SAFE)
            async for event in group:
                seen.append(event)
                if isinstance(event, Message):
                    await group.leave()
            await connection.close()

        self.world.result(ensureDeferred(program()))
        view, message, left = seen
        assert isinstance(view, View) and isinstance(message, Message)
        self.assertEqual([str(member) for member in view.members], ["alice@n1"])
        self.assertEqual((message.data, message.level, message.sender), (b"hello", Level.SAFE, view.members[0]))
        self.assertEqual(message.view, view.id)
        self.assertEqual(left, Left("chat", Reason.LEAVE))
        self.assertEqual(self.world.node.sessions, {})

    def test_outside_of_the_primary_component(self) -> None:
        """What a join asks for reaches the node; that a group is read-only is an error of its own."""
        connection = self.connect("alice")
        self.world.result(connection.join("chat", outside=Outside.BLOCKED))
        self.world.result(connection.join("tea"))
        session = self.world.node.sessions["alice"]
        self.assertEqual(session.asked, {"chat": Outside.BLOCKED, "tea": Outside.GO_ON})
        self.patch(session, "_accepted", lambda: fail(NotPrimary("read-only")))
        self.world.failure(connection.send(["chat"], b"hello")).trap(NotPrimary)

    def test_interfaces(self) -> None:
        """A connection and its groups have the interfaces of an embedded node's."""
        connection = self.connect("alice")
        verifyObject(IConnection, connection)
        verifyObject(IGroup, self.world.result(connection.join("chat")))
        self.assertEqual(str(connection.member), "alice@n1")

    def test_listener(self) -> None:
        """A listener is called with each event, in order, ``Left`` last."""
        connection, listener = self.connect("alice"), Listener()
        group: Any = self.world.result(connection.join("chat", listener))
        for number in range(3):
            group.send(b"%d" % number, level=Level.FIFO)
        self.world.result(group.leave())
        self.assertIsInstance(listener.events[0], View)
        self.assertEqual(listener.data, [b"0", b"1", b"2"])
        self.assertEqual(listener.events[-1], Left("chat", Reason.LEAVE))

    def test_listener_of_batches(self) -> None:
        """A listener that takes batches gets every message in one, as an embedded node's does; the rest as events."""
        listener, other = BatchListener(), Listener()
        group: Any = self.world.result(self.connect("alice").join("chat", listener))
        self.world.result(self.connect("bob").join("chat", other))
        for number in range(3):
            group.send(b"%d" % number, level=Level.FIFO)
        self.world.result(group.leave())
        self.assertEqual([message.data for message in listener.taken], [b"0", b"1", b"2"])
        self.assertEqual([type(event) for event in listener.events], [View, View, Left])
        self.assertEqual(
            [(message.sender, message.level, message.groups) for message in listener.taken],
            [(event.sender, event.level, event.groups) for event in other.events if isinstance(event, Message)],
        )

    def test_send_many(self) -> None:
        """Several messages in one call arrive in order, between those sent before and after; the result is for all."""
        connection, listener = self.connect("alice"), Listener()
        group: Any = self.world.result(connection.join("chat", listener))
        messages = [b"%d" % number for number in range(50)]
        group.send(b"before", level=Level.AGREED)
        sent = group.send_many(messages, level=Level.AGREED)
        group.send(b"after", level=Level.AGREED)
        self.world.result(sent)
        self.world.result(connection.send_many(["chat"], [b"x", b"y"], stable=True))
        self.world.result(connection.send_many(["chat"], []))
        self.assertEqual(listener.data, [b"before", *messages, b"after", b"x", b"y"])

    def test_send_many_refused(self) -> None:
        """A call with what is no message fails with the reason."""
        connection = self.connect("alice")
        self.world.failure(connection.send_many(["chat"], [b"x", "text"])).trap(UsageError)  # type: ignore[list-item]
        self.world.failure(connection.send_many([], [b"x"])).trap(UsageError)

    def test_large_messages_keep_their_place(self) -> None:
        """A message of 16 MiB arrives whole, between those sent before and after it."""
        connection, listener = self.connect("alice"), Listener()
        group: Any = self.world.result(connection.join("chat", listener))
        large = os.urandom(1024) * (MAX_MESSAGE_BYTES // 1024)
        sent = [group.send(data, level=Level.AGREED) for data in (b"before", large, b"after")]
        for result in sent:
            self.world.result(result)
        self.assertEqual([len(data) for data in listener.data], [6, len(large), 5])
        self.assertEqual(listener.data[1], large)
        self.world.failure(group.send(large + b"x", level=Level.AGREED)).trap(MessageTooLarge)

    def test_sizes_around_the_limit_of_one_call(self) -> None:
        """Messages just below, at and above what one call takes arrive alike."""
        connection, listener = self.connect("alice"), Listener()
        group: Any = self.world.result(connection.join("chat", listener))
        sizes = [0, 1, caps.MAX_INLINE_BYTES - 1, caps.MAX_INLINE_BYTES, caps.MAX_INLINE_BYTES + 1]
        for size in sizes:
            self.world.result(group.send(b"x" * size, level=Level.AGREED))
        self.assertEqual([len(data) for data in listener.data], sizes)

    def test_private_messages(self) -> None:
        """Private messages and what finds nobody are an iterator of their own."""
        alice, bob = self.connect("alice"), self.connect("bob")
        bob.send_private(alice.member, b"psst")
        alice.send_private("carol@n1", b"x" * (caps.MAX_INLINE_BYTES + 1))
        private = alice.private_messages()

        async def two() -> list[Message | Undeliverable]:
            return [await anext(private), await anext(private)]

        first, second = self.world.result(ensureDeferred(two()))
        self.assertEqual((first.data, first.sender, first.private), (b"psst", bob.member, True))
        self.assertEqual(second, Undeliverable("carol@n1"))

    def test_connection_lost(self) -> None:
        """What was under way has an unknown outcome, what waited was not sent, handles end, and later calls fail."""
        connection, listener = self.connect("alice"), Listener()
        group: Any = self.world.result(connection.join("chat", listener))
        self.world.node.sessions["alice"].hold = True
        under_way = group.send(b"1", level=Level.AGREED)
        self.world.settle()
        group.send(b"2", level=Level.AGREED).addErrback(lambda _: None)
        waiting = group.send(b"3", level=Level.AGREED)
        server_broker(self.world.transports[0]).transport.loseConnection()
        self.world.transports[0].pump()
        self.world.transports[1].pump()
        self.world.failure(under_way).trap(OutcomeUnknown)
        self.world.failure(waiting).trap(NotConnected)
        self.assertEqual(listener.events[-1], Left("chat", Reason.DISCONNECT))
        self.assertTrue(connection.closed)
        self.world.failure(group.send(b"3", level=Level.AGREED)).trap(NotAMember)
        self.world.failure(connection.send(["chat"], b"3")).trap(NotConnected)
        self.world.failure(connection.join("other")).trap(NotConnected)
        self.world.result(connection.close())

    def test_daemon_stops(self) -> None:
        """A daemon that stops says so: the groups end with ``node leave``."""
        connection, listener = self.connect("alice"), Listener()
        self.world.result(connection.join("chat", listener))
        closed = connection.when_closed()
        self.world.node.stopService()
        self.assertEqual(self.world.result(closed), Reason.NODE_LEAVE)
        self.assertEqual(listener.events[-1], Left("chat", Reason.NODE_LEAVE))

    def test_close(self) -> None:
        """Closing is a leave to the others."""
        alice, bob, listener = self.connect("alice"), self.connect("bob"), Listener()
        self.world.result(alice.join("chat"))
        self.world.result(bob.join("chat", listener))
        self.world.result(alice.close())
        last = listener.events[-1]
        assert isinstance(last, View)
        self.assertEqual([gone.reason for gone in last.left], [Reason.LEAVE])
        self.assertEqual(self.world.clock.getDelayedCalls(), [])

    def test_usage_errors(self) -> None:
        """What cannot be is refused before anything is sent."""
        connection = self.connect("alice")
        group: Any = self.world.result(connection.join("chat"))
        for result, error in (
            (connection.join("chat"), UsageError),
            (connection.join(""), UsageError),
            (connection.send([], b"x"), UsageError),
            (connection.send(["x" * 256], b"x"), UsageError),
            (connection.send_private("nobody", b"x"), UsageError),
            (group.send("text", level=Level.AGREED), UsageError),
        ):
            self.world.failure(result).trap(error)
        self.world.result(group.leave())
        self.world.failure(group.leave()).trap(NotAMember)
        self.world.failure(connect(self.world.clock, MemoryEndpoint(self.world), name="")).trap(UsageError)
        self.world.failure(connect(self.world.clock, "nonsense:1", name="x")).trap(UsageError)

    def test_refused(self) -> None:
        """A name in use is ``NameInUse``; a name of one's own is made up if none is given."""
        self.connect("alice")
        self.world.failure(connect(self.world.clock, MemoryEndpoint(self.world), name="alice")).trap(NameInUse)
        self.assertNotEqual(self.connect(None).member.client, self.connect(None).member.client)

    def test_no_daemon(self) -> None:
        """Nobody there is ``NotConnected``; a socket that may not be opened is ``Refused``."""
        for error, expected in (
            (ConnectionRefusedError(111, "refused"), NotConnected),
            (ConnectError(13, "permission denied"), Refused),
        ):
            self.world.failure(connect(self.world.clock, Broken(error), name="alice")).trap(expected)

    def test_silent_daemon(self) -> None:
        """Who does not answer the login, or is no daemon, is ``NotConnected``."""
        silent = Silent()
        attempt = connect(self.world.clock, silent, name="alice")
        self.world.advance(LOGIN_SECONDS + 0.1)
        silent.protocol.connectionLost()
        self.world.failure(attempt).trap(NotConnected)
        other = Silent()
        attempt = connect(self.world.clock, other, name="alice")
        other.protocol.dataReceived(b"HTTP/1.1 400 Bad Request\r\n\r\n" * 10)
        other.protocol.connectionLost()
        self.world.failure(attempt).trap(NotConnected)

    def test_status_and_groups(self) -> None:
        """The status is the daemon's, and all groups come, however many pages that takes."""
        connection = self.connect("alice")
        count = 2 * caps.STATUS_PAGE_GROUPS + 1
        for number in range(count):
            self.world.node.join(self.world.node.sessions["alice"], f"g{number:05}")
        self.assertEqual(self.world.result(connection.status())["groups"], count)
        groups = self.world.result(connection.groups())
        self.assertEqual([group["name"] for group in groups], [f"g{number:05}" for number in range(count)])
        self.assertEqual(groups[0]["members"], ["alice@n1"])

    def test_what_has_changed_the_view(self) -> None:
        """The changes come in plain values, the latest at the end, each with what led to it."""
        first, last = self.world.result(self.connect("alice").changes())
        self.assertEqual((first["view"], first["before"], first["joined"]), ("2-n1-7", None, ["n1", "n2", "n3"]))
        self.assertEqual((last["view"], last["before"], last["members"]), ("3-n1-7", "2-n1-7", ["n1", "n2"]))
        self.assertEqual(last["departed"], [{"node": "n3", "reason": "partition", "last_packet": 117}])
        self.assertEqual([record["finding"] for record in last["records"]], ["process silent", "began", "no word"])
        record = last["records"][0]
        self.assertEqual((record["about"], record["by"], record["count"]), ("n3", "n2", 130))
        self.assertEqual((record["before_seconds"], record["silent_seconds"]), (0.31, 3.02))

    def test_what_changes_the_cluster(self) -> None:
        """Keys are rotated and nodes expelled through a connection; what the node refuses is raised as it was there."""
        connection = self.connect("alice")
        self.assertEqual(self.world.result(connection.rotate_key()), 1)
        self.assertIsNone(self.world.result(connection.expel("n2")))
        self.assertEqual(self.world.node.expelled, ["n2"])
        self.patch(self.world.node, "expel", lambda name: fail(UsageError(f"{name} is this node")))
        self.world.failure(connection.expel("n1")).trap(UsageError)

    def test_with_a_plain_client(self) -> None:
        """It talks with clients made of plain Perspective Broker."""
        connection, listener = self.connect("alice"), Listener()
        plain = PlainClient(self.world, "bob")
        self.world.result(connection.join("chat", listener))
        plain.call("send", "chat", b"from bob")
        self.assertEqual(listener.data, [b"from bob"])


class ChannelTests(ConnectionTests):
    """The same over a data channel."""

    channels = True

    def tearDown(self) -> None:
        super().tearDown()
        for connected in self.world.doors.channels:
            connected.check_invariants()

    def test_it_is_used(self) -> None:
        """All messages go over the channel, packed by the client, and none over Perspective Broker."""
        connection, listener = self.connect("alice"), Listener()
        group: Any = self.world.result(connection.join("chat", listener))
        session = self.world.node.sessions["alice"]
        self.world.result(group.send_many([b"1", b"22", b"333"]))
        self.assertEqual(session.payloads, [pack_messages([b"1", b"22", b"333"])])
        self.assertEqual(listener.data, [b"1", b"22", b"333"])

    def test_the_first_of_a_turn_leaves_at_once(self) -> None:
        """The first send is on its way before the turn ends; those after it share a frame if they are alike."""
        connection, listener = self.connect("alice"), Listener()
        group: Any = self.world.result(connection.join("chat", listener))
        (client, _) = self.world.streams
        client.writes.clear()
        sent = [group.send(b"%d" % number, level=Level.AGREED) for number in range(100)]
        self.assertEqual(len(client.writes), 1)
        sent.append(group.send(b"safe", level=Level.SAFE))
        sent += [connection.send(["chat", "other"], b"two", level=Level.SAFE)]
        sent += [group.send(b"%d" % number, level=Level.AGREED) for number in range(2)]
        sent += [group.send(b"u%d" % number, level=Level.UNRELIABLE) for number in range(2)]
        for result in sent:
            self.world.result(result)
        payloads = self.world.node.sessions["alice"].payloads
        self.assertEqual(
            [unpack_messages(payload) for payload in payloads],
            [
                [b"0"],
                [b"%d" % number for number in range(1, 100)],
                [b"safe"],
                [b"two"],
                [b"0", b"1"],
                [b"u0"],
                [b"u1"],
            ],
        )
        self.assertEqual(len([write for write in client.writes if write[0] == SEND]), 2)
        self.assertEqual(listener.data[:100], [b"%d" % number for number in range(100)])

    def test_frames_leave_when_they_are_full(self) -> None:
        """A turn that sends much does not hold it back to its end; frames are no larger than they may be."""
        connection = self.connect("alice")
        session = self.world.node.sessions["alice"]
        (client, _) = self.world.streams
        for _ in range(1000):
            connection.send(["chat"], b"x" * 1000)
        self.assertGreater(sum(map(len, client.writes)), 900_000)
        many = connection.send_many(["chat"], [b"y" * 1000] * 1000)
        self.world.result(many)
        self.assertEqual(sum(len(unpack_messages(payload)) for payload in session.payloads), 2000)
        self.assertLessEqual(max(map(len, session.payloads)), COALESCED_FRAME_BYTES)
        self.assertLessEqual(len(session.payloads), 40)

    def test_back_pressure(self) -> None:
        """While the node accepts nothing, what waits is bounded; then all of it arrives, once and in order."""
        connection = self.connect("alice")
        session = self.world.node.sessions["alice"]
        session.hold = True
        outcomes: list[Any] = []
        size = 256 * 1024
        count = 2 * (WAITING_BYTES + caps.CHANNEL_WINDOW_BYTES) // size
        for number in range(count):
            connection.send(["chat"], (b"%4d" % number).ljust(size)).addBoth(outcomes.append)
            self.world.settle()
        refused = len(outcomes)
        self.assertGreater(refused, 0)
        for failure in outcomes:
            failure.trap(QueueFull)
        self.assertLessEqual(len(session.sent), caps.CHANNEL_WINDOW_BYTES // size)
        for _ in range(200):
            session.release()
            session.hold = True
            self.world.settle()
        self.assertEqual(outcomes[refused:], [None] * (count - refused))
        self.assertEqual([int(data[:4]) for _, data, *_ in session.sent], list(range(count - refused)))

    def test_stable_sends_are_answered_one_by_one(self) -> None:
        """A stable send does not hold up the answers of those after it, and fails alone."""
        connection = self.connect("alice")
        session = self.world.node.sessions["alice"]
        session.hold = True
        stable = connection.send(["chat"], b"1", stable=True)
        self.world.settle()
        held, session.held, session.hold = session.held, [], False
        self.world.result(connection.send(["chat"], b"2"))
        self.assertNoResult(stable)
        held[0].errback(SendIncomplete("a view change cut it short"))
        self.world.failure(stable).trap(SendIncomplete)

    def test_what_the_node_refuses_fails_alone(self) -> None:
        """The error of the node comes to who sent; what was sent before and after is delivered."""
        connection, listener = self.connect("alice"), Listener()
        self.world.result(connection.join("chat", listener))
        session = self.world.node.sessions["alice"]
        session.hold = True
        sent = []
        for number in range(3):
            sent.append(connection.send(["chat"], b"%d" % number))
            self.world.settle()
        for number, held in enumerate(session.held):
            if number == 1:
                held.errback(MessageTooLarge("too large for one packet"))
            else:
                held.callback(None)
        session.held.clear()
        self.world.advance(caps.ANSWER_SECONDS)
        self.world.result(sent[0])
        self.world.failure(sent[1]).trap(MessageTooLarge)
        self.world.result(sent[2])

    def test_who_sends_reads(self) -> None:
        """Sends of a client that is far behind with reading are answered when it has caught up."""
        alice, bob = self.connect("alice"), self.connect("bob")
        self.world.result(alice.join("chat", Listener()))
        (client, _, _, _) = self.world.streams
        client.deaf = True
        for _ in range(12):
            self.world.result(bob.send(["chat"], b"x" * 256 * 1024))
        sent = alice.send(["other"], b"mine")
        self.world.settle()
        self.assertEqual(self.world.node.sessions["alice"].sent[-1][1], b"mine")
        self.assertNoResult(sent)
        client.deaf = False
        self.world.result(sent)

    def test_the_channel_is_lost(self) -> None:
        """A channel that breaks ends the session: its groups see it go, and its sends have an unknown outcome."""
        connection, listener = self.connect("alice"), Listener()
        self.world.result(connection.join("chat", listener))
        self.world.node.sessions["alice"].hold = True
        sent = connection.send(["chat"], b"1")
        self.world.settle()
        self.world.streams[1].abort()
        self.world.settle()
        self.world.failure(sent).trap(OutcomeUnknown)
        self.assertEqual(listener.events[-1], Left("chat", Reason.DISCONNECT))
        self.assertTrue(connection.closed)
        self.assertEqual(self.world.node.sessions, {})
        self.assertEqual(self.world.factory.brokers, set())

    def test_a_daemon_that_breaks_the_protocol(self) -> None:
        """What no daemon sends ends the connection, and what waits for it is told; unknown kinds are skipped."""
        payload = pack_messages([b"x"])
        for number, broken in enumerate(
            (
                record(MESSAGES, 0, b"nonsense", payload, 4),
                record(MESSAGES, 0, b"a@n1#7.1\n\n", b"no messages", 4),
                record(EVENT, payload=b"{"),
                record(EVENT, payload=b'["view", 1]'),
                record(EVENT, payload=b'["closed"]'),
                record(FAILED, 99, b"BadArgument", b"for nothing"),
                record(DONE, 99, flags=SINGLE),
                b"\xff" * 100,
            )
        ):
            connection = self.connect(f"c{number}")
            self.world.node.sessions[f"c{number}"].hold = True
            sent = connection.send(["chat"], b"1")
            self.world.settle()
            daemon = self.world.streams[-1]
            daemon.write([record(200, 1, b"new", b"things")])
            self.world.settle()
            self.assertFalse(connection.closed)
            daemon.write([broken])
            self.world.failure(sent).trap(OutcomeUnknown)
            self.assertTrue(connection.closed)
            self.world.failure(connection.send(["chat"], b"2")).trap(NotConnected)
        self.assertEqual(self.world.node.sessions, {})

    def test_without_a_socket(self) -> None:
        """A client that cannot connect to the channel's socket goes on over Perspective Broker."""

        def refuse(*_: object) -> MemoryStream:
            raise FileNotFoundError("no such socket")

        self.patch(channel, "dial", refuse)
        connection, listener = self.connect("alice"), Listener()
        self.world.result(connection.join("chat", listener))
        self.world.result(connection.send(["chat"], b"hello"))
        self.assertEqual(listener.data, [b"hello"])
        self.assertEqual(self.world.node.sessions["alice"].payloads, [])

    def test_a_door_that_is_shut(self) -> None:
        """A client whose channel is closed before it was welcome goes on over Perspective Broker."""

        def shut(reactor: object, path: str, owner: StreamOwner) -> MemoryStream:
            stream = self.world.dial(reactor, path, owner)
            stream.peer.abort()
            return stream

        self.patch(channel, "dial", shut)
        connection, listener = self.connect("alice"), Listener()
        self.world.result(connection.join("chat", listener))
        self.world.result(connection.send(["chat"], b"hello"))
        self.assertEqual(listener.data, [b"hello"])

    def test_a_daemon_that_does_not_welcome(self) -> None:
        """A daemon that takes the ticket and says nothing is ``NotConnected``."""

        def silent(reactor: object, path: str, owner: StreamOwner) -> MemoryStream:
            stream = self.world.dial(reactor, path, owner)
            stream.peer.reading = False
            return stream

        self.patch(channel, "dial", silent)
        self.patch(caps, "TICKET_SECONDS", 1000.0)
        attempt = connect(self.world.clock, MemoryEndpoint(self.world), name="alice")
        self.world.advance(LOGIN_SECONDS + 0.1)
        self.world.failure(attempt).trap(NotConnected)
        self.assertEqual(self.world.node.sessions, {})


class PlainConnectionTests(ConnectionCase):
    """How sends share calls over Perspective Broker."""

    def test_one_turn_is_one_call(self) -> None:
        """Messages of one turn with one destination and the same options share a call; their order is kept."""
        connection, listener = self.connect("alice"), Listener()
        group: Any = self.world.result(connection.join("chat", listener))
        calls: list[str] = []
        avatar = next(iter(self.world.realm.avatars))
        original = avatar.remoteMessageReceived

        def recorded(broker: Any, message: str, args: object, kw: object) -> object:
            calls.append(message)
            return original(broker, message, args, kw)

        avatar.remoteMessageReceived = recorded  # type: ignore[method-assign]
        sent = [group.send(b"%d" % number, level=Level.AGREED) for number in range(100)]
        sent.append(group.send(b"safe", level=Level.SAFE))
        sent += [connection.send(["chat", "other"], b"two", level=Level.SAFE)]
        sent += [group.send(b"%d" % number, level=Level.AGREED) for number in range(2)]
        for result in sent:
            self.world.result(result)
        self.assertEqual(calls, ["send_many", "send", "send", "send_many"])
        self.assertEqual(listener.data[:100], [b"%d" % number for number in range(100)])
        self.assertEqual(listener.data[100:], [b"safe", b"two", b"0", b"1"])

    def test_back_pressure(self) -> None:
        """While the node accepts nothing, what waits is bounded; then all of it arrives, once and in order."""
        connection = self.connect("alice")
        session = self.world.node.sessions["alice"]
        session.hold = True
        block = b"x" * (256 * 1024)
        outcomes: list[Any] = []
        count = 2 * WAITING_BYTES // len(block)
        for _ in range(count):
            connection.send(["chat"], block, level=Level.AGREED).addBoth(outcomes.append)
            self.world.settle()
        refused = len(outcomes)
        self.assertGreater(refused, 0)
        for failure in outcomes:
            failure.trap(QueueFull)
        self.assertLessEqual(len(session.sent), 5)
        for _ in range(200):
            session.release()
            self.world.settle()
        self.assertEqual(outcomes[refused:], [None] * (count - refused))
        self.assertEqual(len(session.sent), count - refused)


@implementer(IStreamClientEndpoint)
class Broken:
    """An endpoint where nobody is."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    def connect(self, protocolFactory: Any) -> Deferred[Any]:
        return fail(self.error)


@implementer(IStreamClientEndpoint)
class Silent:
    """An endpoint where somebody takes the connection and says nothing."""

    protocol: Protocol

    def connect(self, protocolFactory: Any) -> Deferred[Any]:
        from twisted.internet.testing import StringTransport

        self.protocol = protocolFactory.buildProtocol(None)
        transport = StringTransport()
        self.protocol.makeConnection(transport)
        done: Deferred[Any] = Deferred()
        done.callback(self.protocol)
        return done
