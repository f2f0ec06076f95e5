"""The daemon's end of a data channel, record by record."""

from __future__ import annotations

from typing import Any

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from groupcomm.batches import MessageBatch
from groupcomm.daemon import caps
from groupcomm.daemon.channel_events import REMEMBERED_HEADS, BatchReader, ChannelEncoder, read_event
from groupcomm.daemon.channel_queue import ChannelQueue, Outgoing
from groupcomm.daemon.delivery import DeliveryLimits
from groupcomm.daemon.records import (
    CREDIT,
    DONE,
    EVENT,
    FAILED,
    HEADER_BYTES,
    HELLO,
    JOIN,
    LEAVE,
    LOGOUT,
    MESSAGES,
    PRIVATE,
    SELF_DISCARD,
    SEND,
    SINGLE,
    STABLE,
    VERSION,
    WELCOME,
    Record,
    RecordError,
    RecordReader,
    record,
)
from groupcomm.daemon.vocabulary import EventReader, UnknownForm
from groupcomm.errors import MalformedPacket
from groupcomm.events import Departure, Event, Left, Level, Outside, Reason, TransitionalSignal, Undeliverable, View
from groupcomm.identity import GroupViewId, MemberId
from groupcomm.packing import pack_messages
from tests.daemon.world import NODE, VIEW, PlainClient, RawChannel, World

SMALL = DeliveryLimits(queue_bytes=40_000, queue_events=400, hard_bytes=80_000, hard_events=800, patience_seconds=1.0)
HI = pack_messages([b"hi"])


class RecordTests(SynchronousTestCase):
    """Bytes to records."""

    RECORDS = (
        record(SEND, 1, b"chat", b"x" * 100, 4),
        record(CREDIT, 2**40),
        record(SEND, 2, b"chat", b"y" * (2 * caps.LARGE_RECORD_BYTES), 4),
        record(JOIN, 3, b"tea"),
        record(SEND, 4, b"", b"z" * (caps.LARGE_RECORD_BYTES + 1)),
    )

    @staticmethod
    def read(reader: RecordReader, data: bytes, step: int) -> list[Record]:
        records: list[Record] = []
        while data:
            buffer = reader.buffer()
            count = min(step, len(buffer), len(data))
            buffer[:count] = data[:count]
            data = data[count:]
            records += [
                (kind, flags, number, head, bytes(payload))
                for kind, flags, number, head, payload in reader.received(count)
            ]
        return records

    def test_any_cut(self) -> None:
        """However the bytes are cut, the same records come, large ones among them."""
        expected = [
            (SEND, 4, 1, b"chat", b"x" * 100),
            (CREDIT, 0, 2**40, b"", b""),
            (SEND, 4, 2, b"chat", b"y" * (2 * caps.LARGE_RECORD_BYTES)),
            (JOIN, 0, 3, b"tea", b""),
            (SEND, 0, 4, b"", b"z" * (caps.LARGE_RECORD_BYTES + 1)),
        ]
        for step in (1, 7, 4096, 100_000, caps.READ_BYTES):
            large: list[int] = []
            reader = RecordReader(64, 1024 * 1024, large.append)
            data = b"".join(self.RECORDS[:2] if step < 1000 else self.RECORDS)
            self.assertEqual(self.read(reader, data, step), expected[: 2 if step < 1000 else 5])
            self.assertLessEqual(len(large), 2)

    def test_readers_share_a_buffer(self) -> None:
        """Records of several connections that come in turns, in pieces, stay apart."""
        readers = [RecordReader(64, 1024 * 1024) for _ in range(3)]
        found: list[list[Record]] = [[], [], []]
        streams = [
            b"".join(record(SEND, number, b"g%d" % who, b"%d" % who * 5000) for number in range(20)) for who in range(3)
        ]
        for start in range(0, len(streams[0]), 3001):
            for reader, stream, records in zip(readers, streams, found, strict=True):
                records += self.read(reader, stream[start : start + 3001], 3001)
        for who, records in enumerate(found):
            self.assertEqual(records, [(SEND, 0, number, b"g%d" % who, b"%d" % who * 5000) for number in range(20)])

    def test_lengths_over_the_limit(self) -> None:
        """A head or payload larger than allowed is refused when its header is there, before it has come."""
        for data in (record(SEND, 1, b"x" * 65)[:HEADER_BYTES], record(SEND, 1, b"", b"x" * 1001)[:HEADER_BYTES]):
            reader = RecordReader(64, 1000)
            with self.assertRaises(RecordError):
                self.read(reader, data, 100)


class EventFormTests(SynchronousTestCase):
    """Events to records and back."""

    MEMBER = MemberId("a\u00e4@b", NODE, 3)

    def test_every_event(self) -> None:
        """Views, signals and ends are the same after the way over the channel as before."""
        position = GroupViewId(VIEW, 5)
        events: list[Event] = [
            View("g", position, (self.MEMBER,), (self.MEMBER,), (Departure(self.MEMBER, Reason.TOO_SLOW),), (), True),
            TransitionalSignal("\u00fc"),
            Undeliverable("x@y"),
            Left("g", Reason.NODE_LEAVE),
        ]
        encoder, reader = ChannelEncoder(), RecordReader(0xFFFF, 1024 * 1024)
        back: list[Event] = []
        for top, payload in encoder.encode(events):
            ((kind, _, _, _, plain),) = RecordTests.read(reader, top + payload, 1000)
            self.assertEqual(kind, EVENT)
            back += EventReader().read(read_event(plain))
        self.assertEqual(back, events)

    def test_messages(self) -> None:
        """A batch keeps its payload, sender, groups, level and view; heads that repeat are made and read once."""
        encoder, reader = ChannelEncoder(), BatchReader()
        payload = pack_messages([b"1", b"22"])
        batches = [
            MessageBatch(("g", "h"), self.MEMBER, Level.SAFE, GroupViewId(VIEW, 2), payload),
            MessageBatch((), self.MEMBER, Level.FIFO, None, payload),
            MessageBatch(("g", "h"), self.MEMBER, Level.SAFE, GroupViewId(VIEW, 3), payload),
        ]
        for batch in batches:
            ((top, same),) = encoder.encode([batch])
            self.assertIs(same, payload)
            again = reader.read(top[1], top[HEADER_BYTES:], payload)
            self.assertEqual(
                (again.groups, again.sender, again.level, again.view),
                (batch.groups, batch.sender, batch.level, batch.view),
            )
            self.assertEqual(again.messages, [b"1", b"22"])
        ((first, _), (second, _)) = encoder.encode([batches[0]] * 2)
        self.assertEqual(first, second)

    def test_a_large_message(self) -> None:
        """A payload that is only lent becomes a batch that keeps: of one message, or of several."""
        for messages in ([b"x" * 300_000], [b"1" * 200_000, b"2"], [b"1", b"1"], []):
            lent = bytearray(pack_messages(messages))
            batch = BatchReader().read(4, b"a@n1#7.1\n\ng", memoryview(lent))
            lent[:] = bytes(len(lent))
            self.assertEqual((batch.messages, len(batch)), (messages, len(messages)))
            self.assertEqual(batch.payload, pack_messages(messages))
            self.assertEqual([message.data for message in batch], messages)
        self.assertRaises(MalformedPacket, BatchReader().read, 4, b"a@n1#7.1\n\ng", memoryview(b"\1\1\5"))

    def test_what_is_remembered_is_bounded(self) -> None:
        """A client in ever new groups does not make the daemon or the library remember them all."""
        encoder, reader = ChannelEncoder(), BatchReader()
        for number in range(2 * REMEMBERED_HEADS):
            batch = MessageBatch((f"g{number}",), self.MEMBER, Level.FIFO, None, HI)
            ((top, _),) = encoder.encode([batch])
            reader.read(top[1], top[HEADER_BYTES:], HI)
            encoder.encode([Left(f"g{number}", Reason.LEAVE)])
        self.assertLessEqual(len(encoder._heads), REMEMBERED_HEADS)
        self.assertLessEqual(len(encoder._events), REMEMBERED_HEADS)
        self.assertLessEqual(len(reader._heads), REMEMBERED_HEADS)

    def test_other_forms(self) -> None:
        """What is no event or no batch is an error of the peer and nothing else."""
        for payload in (b"", b"{}", b"\xff", b"[" * 100_000, b'"left"'):
            self.assertRaises(UnknownForm, read_event, payload)
        for head in (b"", b"x", b"a@n1#7.1", b"\xff\n", b"a@n1#7.1\nx\ng"):
            self.assertRaises(UnknownForm, BatchReader().read, 4, head, HI)
        self.assertRaises(UnknownForm, BatchReader().read, 6, b"a@n1#7.1\n\ng", HI)


class QueueTests(SynchronousTestCase):
    """The events of one channel."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.written: list[bytes] = []
        self.too_slow = 0
        self.relaxed = 0
        self.queue = ChannelQueue(self.clock, self.written.extend, self.count_slow, self.count_relaxed, SMALL)

    def tearDown(self) -> None:
        self.queue.check_invariants()

    def count_slow(self) -> None:
        self.too_slow += 1

    def count_relaxed(self) -> None:
        self.relaxed += 1

    def push(self, count: int, size: int) -> None:
        records: list[Outgoing] = [(b"top", b"x" * (size - 3))] * count
        self.queue.push(records)
        self.queue.check_invariants()

    @property
    def written_bytes(self) -> int:
        return sum(map(len, self.written))

    def test_written_at_once(self) -> None:
        """What there is credit for is written at once, in one go."""
        self.push(3, 100)
        self.assertEqual(self.written_bytes, 300)

    def test_credit(self) -> None:
        """Beyond the credit records wait; each credit lets as much more go, in order."""
        self.patch(caps, "CHANNEL_CREDIT_BYTES", 1000)
        self.patch(caps, "CREDIT_STEP_BYTES", 200)
        self.push(15, 100)
        self.assertEqual(self.written_bytes, 1000)
        self.queue.credit(200)
        self.assertEqual(self.written_bytes, 1200)
        self.queue.credit(1000)
        self.assertEqual(self.written_bytes, 1500)
        empty = self.queue.when_empty()
        self.assertNoResult(empty)
        self.queue.credit(300)
        self.successResultOf(empty)

    def test_one_that_is_larger_than_the_credit(self) -> None:
        """It goes when the client is all but done with what was before it: what it may keep for itself is no lock."""
        self.patch(caps, "CHANNEL_CREDIT_BYTES", 1000)
        self.patch(caps, "CREDIT_STEP_BYTES", 200)
        self.push(3, 100)
        self.push(1, 5000)
        self.assertEqual(self.written_bytes, 300)
        self.queue.credit(101)
        self.assertEqual(self.written_bytes, 5300)

    def test_credit_for_nothing(self) -> None:
        """Credit for more than was written, or for nothing, is a breach."""
        self.push(1, 100)
        for size in (101, 0):
            with self.assertRaises(RecordError):
                self.queue.credit(size)

    def test_patience(self) -> None:
        """A client over the limit that gives credit now and then stays; one that gives none is too slow."""
        self.patch(caps, "CHANNEL_CREDIT_BYTES", 1000)
        self.patch(caps, "CREDIT_STEP_BYTES", 200)
        for _ in range(15):
            self.push(40, 100)
            self.clock.advance(0.5)
            self.queue.credit(1000)
        self.assertGreater(self.queue.queued_bytes, SMALL.queue_bytes)
        self.assertEqual(self.too_slow, 0)
        self.clock.advance(SMALL.patience_seconds)
        self.push(1, 100)
        self.assertEqual(self.too_slow, 1)
        before = self.written_bytes
        self.push(1, 100)
        self.assertEqual((self.too_slow, self.written_bytes, self.queue.queued_bytes), (1, before, 0))

    def test_patience_begins_when_credit_is_due(self) -> None:
        """A client that has read all but what it may keep for itself is given its time when a burst comes."""
        self.push(1, 100)
        self.clock.advance(100 * SMALL.patience_seconds)
        self.push(2, 30_000)
        self.push(1, 100)
        self.assertEqual(self.too_slow, 0)

    def test_hard_limit(self) -> None:
        """Nobody holds more than the hard limit and one event, however patient we are."""
        self.patch(caps, "CHANNEL_CREDIT_BYTES", 1000)
        for _ in range(900):
            if self.too_slow:
                break
            self.push(1, 100)
            self.assertLessEqual(self.queue.queued_bytes, SMALL.hard_bytes + 100)
        self.assertEqual(self.too_slow, 1)

    def test_relaxed(self) -> None:
        """Who is behind is busy until credit brings it below a quarter of the limit."""
        self.patch(caps, "CHANNEL_CREDIT_BYTES", 5000)
        self.patch(caps, "CREDIT_STEP_BYTES", 200)
        self.push(120, 100)
        self.assertTrue(self.queue.busy)
        self.queue.credit(1000)
        self.assertEqual(self.relaxed, 0)
        self.queue.credit(1000)
        self.assertEqual((self.relaxed, self.queue.busy), (1, False))


class ChannelCase(SynchronousTestCase):
    """A client that logs in with plain Perspective Broker and sends records byte by byte."""

    limits: DeliveryLimits | None = None

    def setUp(self) -> None:
        self.world = World(self.limits, channels=True)

    def tearDown(self) -> None:
        self.assertEqual(self.flushLoggedErrors(), [], "an error was logged")
        for channel in self.world.doors.channels:
            channel.check_invariants()

    def open(self, name: str) -> tuple[PlainClient, RawChannel]:
        """A client and its channel."""
        client = PlainClient(self.world, name)
        kind, _, ticket = client.call("open_channel")
        self.assertEqual((kind, len(ticket)), ("unix", caps.TICKET_BYTES))
        channel = self.world.raw_channel(record(HELLO, VERSION, ticket))
        self.assertEqual(channel.records, [(WELCOME, 0, VERSION, b"", b"")])
        return client, channel

    def send(self, channel: RawChannel, *data: bytes) -> None:
        channel.stream.write(list(data))
        self.world.settle()

    def plain(self, channel: RawChannel) -> list[Any]:
        """The events that are no messages."""
        return [read_event(payload) for _, _, _, _, payload in channel.kinds(EVENT)]

    def failures(self, channel: RawChannel) -> list[tuple[int, bytes]]:
        """The number and error of each request that failed."""
        return [(number, head) for _, _, number, head, _ in channel.kinds(FAILED)]


class ServerChannelTests(ChannelCase):
    """What the daemon does with records."""

    def test_join_send_leave(self) -> None:
        """Requests are carried out in their order and answered; events come in the node's."""
        _, channel = self.open("alice")
        self.send(channel, record(JOIN, 1, b"chat"), record(SEND, 2, b"chat", HI, 4), record(LEAVE, 3, b"chat"))
        self.assertEqual(channel.kinds(MESSAGES), [(MESSAGES, 4, 0, b"alice@n1#7.1\n3-n1-7/1\nchat", HI)])
        self.assertEqual([event[0] for event in self.plain(channel)], ["view", "left"])
        done = [(number, flags) for _, flags, number, _, _ in channel.kinds(DONE)]
        self.assertEqual(sorted(done), [(1, SINGLE), (2, 0), (3, SINGLE)])

    def test_outside_of_the_primary_component(self) -> None:
        """What a join asks for stands behind the group's name."""
        _, channel = self.open("alice")
        self.send(channel, record(JOIN, 1, b"chat\nblocked"), record(JOIN, 2, b"tea"), record(JOIN, 3, b"x\nloud"))
        asked = self.world.node.sessions["alice"].asked
        self.assertEqual(asked, {"chat": Outside.BLOCKED, "tea": Outside.GO_ON})
        self.assertEqual([number for number, _ in self.failures(channel)], [3])

    def test_options(self) -> None:
        """Levels, stable, self-discard, several groups and private messages reach the node as they were asked for."""
        _, channel = self.open("alice")
        self.send(
            channel,
            record(SEND, 1, b"g\nh", HI, 5 | STABLE | SELF_DISCARD),
            record(SEND, 2, b"alice@n1", HI, 2 | PRIVATE),
            record(SEND, 3, b"b@b@n2#4.4", HI, 0 | PRIVATE | STABLE),
        )
        self.assertEqual(
            self.world.node.sessions["alice"].sent,
            [
                (("g", "h"), b"hi", Level.SAFE, True, True),
                ("alice@n1", b"hi", Level.FIFO, False, False),
                ("b@b@n2", b"hi", Level.UNRELIABLE, True, False),
            ],
        )
        self.assertEqual(channel.kinds(MESSAGES), [(MESSAGES, 2, 0, b"alice@n1#7.1\n", HI)])
        self.assertEqual(self.plain(channel), [("undeliverable", "b@b@n2")])

    def test_one_read_is_handed_over_once(self) -> None:
        """All sends of one read are with the node before any leaves, and are answered by one record."""
        _, channel = self.open("alice")
        session = self.world.node.sessions["alice"]
        self.send(channel, *(record(SEND, number, b"chat", HI, 4) for number in range(1, 101)))
        self.assertEqual((len(session.sent), session.flushes), (100, 1))
        self.assertEqual(channel.kinds(DONE), [(DONE, 0, 100, b"", b"")])

    def test_a_burst_is_written_once(self) -> None:
        """Events that come together leave with one write."""
        _, alice = self.open("alice")
        _, bob = self.open("bob")
        self.send(bob, record(JOIN, 1, b"chat"))
        daemon = bob.stream.peer
        daemon.writes.clear()
        self.send(alice, *(record(SEND, number, b"chat", HI, 4) for number in range(1, 51)))
        self.assertEqual(len(bob.kinds(MESSAGES)), 50)
        self.assertEqual(len(daemon.writes), 1)

    def test_an_answer_goes_along_with_the_copy(self) -> None:
        """Who gets a copy of what it sends is told with it that the send is done: one write, one wake-up."""
        _, channel = self.open("alice")
        self.send(channel, record(JOIN, 1, b"chat"))
        channel.stream.peer.writes.clear()
        self.send(channel, record(SEND, 2, b"chat", HI, 4))
        self.assertEqual([each[0] for each in channel.records[-2:]], [DONE, MESSAGES])
        self.assertEqual(len(channel.stream.peer.writes), 1)

    def test_an_answer_does_not_wait_for_the_copy(self) -> None:
        """If the copy is late the answer comes without; who gets no copy is answered at the end of the turn."""
        _, channel = self.open("alice")
        self.send(channel, record(JOIN, 1, b"chat"))
        self.send(channel, record(SEND, 2, b"elsewhere", HI, 4))
        self.send(channel, record(SEND, 3, b"chat", HI, 4 | SELF_DISCARD))
        self.assertEqual([number for _, _, number, _, _ in channel.kinds(DONE)], [1, 2, 3])
        session = self.world.node.sessions["alice"]
        session.hold = True
        self.send(channel, record(SEND, 4, b"chat", HI, 4))
        session.release()
        self.world.settle()
        self.assertEqual(channel.kinds(DONE)[-1][2], 3)
        self.world.advance(caps.ANSWER_SECONDS)
        self.assertEqual(channel.kinds(DONE)[-1][2], 4)

    def test_errors_are_answered(self) -> None:
        """What cannot be done is refused with its number and the name of the error; what follows is done."""
        _, channel = self.open("alice")
        self.send(
            channel,
            record(SEND, 1, b"", HI, 4),
            record(SEND, 2, b"g\ng", HI, 4),
            record(SEND, 3, b"g", b"no messages", 4),
            record(SEND, 4, b"g", pack_messages([]), 4),
            record(SEND, 5, b"g", HI, 7),
            record(SEND, 6, b"nobody", HI, 4 | PRIVATE),
            record(JOIN, 7, b"\xff"),
            record(LEAVE, 8, b"chat"),
            record(SEND, 9, b"g", HI, 4),
        )
        self.assertEqual(
            self.failures(channel),
            [*((number, b"BadArgument") for number in range(1, 8)), (8, b"NotAMember")],
        )
        self.assertEqual(channel.kinds(DONE), [(DONE, 0, 9, b"", b"")])
        self.assertEqual(len(self.world.node.sessions["alice"].sent), 1)

    def test_answers_keep_their_order(self) -> None:
        """A failure is told before any answer that would otherwise cover it."""
        _, channel = self.open("alice")
        session = self.world.node.sessions["alice"]
        session.hold = True
        self.send(channel, *(record(SEND, number, b"g", HI, 4) for number in range(1, 5)))
        held, session.held = session.held, []
        held[0].callback(None)
        held[1].errback(ValueError("a fault of the daemon"))
        held[2].callback(None)
        held[3].callback(None)
        self.world.settle()
        self.assertEqual(
            [(kind, number) for kind, _, number, _, _ in channel.records[1:]], [(DONE, 1), (FAILED, 2), (DONE, 4)]
        )
        self.assertEqual(self.failures(channel), [(2, b"InternalError")])
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)

    def test_logout(self) -> None:
        """The groups see a leave; the last events and ``closed`` come; with credit for them both connections close."""
        client, channel = self.open("alice")
        other = PlainClient(self.world, "bob")
        other.call("join", "chat")
        self.send(channel, record(JOIN, 1, b"chat"), record(SEND, 2, b"chat", HI, 4))
        self.send(channel, record(LOGOUT, 3))
        self.assertEqual([event[0] for event in self.plain(channel)], ["view", "left", "closed"])
        self.assertEqual(len(channel.kinds(MESSAGES)), 1)
        self.assertEqual(other.events[-1][5], [("alice@n1#7.1", "leave")])
        self.assertFalse(client.transport.lost)
        events = [each for each in channel.records if each[0] in (EVENT, MESSAGES)]
        unread = sum(HEADER_BYTES + len(head) + len(payload) for _, _, _, head, payload in events)
        self.send(channel, record(CREDIT, unread))
        self.assertTrue(client.transport.lost and channel.stream.closed)
        self.assertEqual(self.world.clock.getDelayedCalls(), [])

    def test_logout_without_credit(self) -> None:
        """A client that says nothing to the goodbye has its time, no more."""
        client, channel = self.open("alice")
        self.send(channel, record(JOIN, 1, b"chat"))
        client.call("logout")
        self.assertEqual([event[0] for event in self.plain(channel)], ["view", "left", "closed"])
        self.world.advance(caps.FAREWELL_SECONDS + 0.1)
        self.assertTrue(client.transport.lost and channel.stream.closed)

    def test_after_the_end(self) -> None:
        """A request that comes when the session is over is refused and reaches no node."""
        client, channel = self.open("alice")
        client.call("logout")
        self.send(channel, record(SEND, 1, b"chat", HI, 4), record(JOIN, 2, b"chat"), record(LOGOUT, 3))
        self.assertEqual(self.failures(channel), [(1, b"SessionClosed"), (2, b"SessionClosed")])

    def test_the_daemon_stops(self) -> None:
        """Clients are told over the channel, with the reason."""
        _, channel = self.open("alice")
        self.send(channel, record(JOIN, 1, b"chat"))
        self.world.node.stopService()
        self.world.settle()
        self.assertEqual(self.plain(channel)[-2:], [("left", "chat", "node leave"), ("closed", "node leave")])

    def test_either_connection_lost(self) -> None:
        """The session ends with either connection, and the other is closed."""
        for first in (True, False):
            client, channel = self.open("alice")
            if first:
                client.transport.loseConnection()
            else:
                channel.stream.abort()
            self.world.settle()
            self.assertTrue(client.transport.lost and channel.stream.closed)
            self.assertEqual(self.world.node.sessions, {})
            self.assertEqual(self.world.clock.getDelayedCalls(), [])

    def test_large_messages(self) -> None:
        """A message of several MiB passes, counted against what all uploads may hold while it comes."""
        _, channel = self.open("alice")
        budget = self.world.realm.upload_budget
        payload = pack_messages([bytes(3 * 1024 * 1024)])
        whole = record(SEND, 1, b"chat", payload, 4)
        self.send(channel, whole[:1_000_000])
        self.assertEqual(budget.reserved_bytes, len(payload))
        self.send(channel, whole[1_000_000:], whole[: HEADER_BYTES - 1])
        self.assertEqual(budget.reserved_bytes, 0)
        self.assertEqual(self.world.node.sessions["alice"].payloads, [payload])

    def test_large_messages_wait_for_room(self) -> None:
        """While others have used up what uploads may hold the daemon does not read on; then it does."""
        _, channel = self.open("alice")
        budget = self.world.realm.upload_budget
        budget.reserve(caps.MAX_UPLOAD_TOTAL_BYTES)
        payload = pack_messages([bytes(1024 * 1024)])
        self.send(channel, record(SEND, 1, b"chat", payload, 4))
        self.assertEqual(self.world.node.sessions["alice"].payloads, [])
        self.assertFalse(channel.stream.peer.reading)
        self.world.advance(2 * caps.UPLOAD_SECONDS)
        budget.release(caps.MAX_UPLOAD_TOTAL_BYTES)
        self.world.settle()
        self.assertEqual(self.world.node.sessions["alice"].payloads, [payload])
        self.assertEqual(budget.reserved_bytes, 0)


class TicketTests(ChannelCase):
    """How a session comes to its channel, and what it may do on which way."""

    def test_nothing_twice(self) -> None:
        """With a channel open, messages, joins and leaves are refused over Perspective Broker; the rest is not."""
        client, _ = self.open("alice")
        for method, *arguments in (
            ("send", "chat", b"x"),
            ("send_many", "chat", [b"x"]),
            ("send_private", "a@n1", b"x"),
            ("join", "chat"),
            ("leave", "chat"),
            ("begin", 10),
            ("part", 1, b"x"),
            ("commit", 1, "chat"),
            ("commit_private", 1, "a@n1"),
            ("open_channel",),
        ):
            name, text = client.refused(method, *arguments)
            self.assertEqual(name, "BadArgument", method)
            self.assertIn("data channel", text)
        self.assertEqual(client.call("whoami"), "alice@n1#7.1")
        self.assertEqual(client.call("status")["clients"], 1)
        self.assertEqual(client.call("groups"), [])
        self.assertEqual(client.events, [])

    def test_first_or_not_at_all(self) -> None:
        """A session that has begun over Perspective Broker stays there."""
        client = PlainClient(self.world, "alice")
        client.call("send", "chat", b"x")
        self.assertEqual(client.refused("open_channel")[0], "BadArgument")

    def test_not_everywhere(self) -> None:
        """A client that came by an endpoint without a channel is told so, and goes on."""
        self.world.doors.close()
        client = PlainClient(self.world, "alice")
        self.assertEqual(client.refused("open_channel")[0], "LimitReached")
        client.call("join", "chat")

    def test_what_comes_meanwhile_is_kept(self) -> None:
        """Private messages between the ticket and the channel come over the channel, before what comes after."""
        client = PlainClient(self.world, "alice")
        other = PlainClient(self.world, "bob")
        other.call("send_private", "alice@n1", b"1")
        _, _, ticket = client.call("open_channel")
        other.call("send_private", "alice@n1", b"2")
        channel = self.world.raw_channel(record(HELLO, VERSION, ticket))
        other.call("send_private", "alice@n1", b"3")
        self.assertEqual([event[4] for event in client.events], [[b"1"]])
        self.assertEqual(
            [each[4] for each in channel.kinds(MESSAGES)], [pack_messages([data]) for data in (b"2", b"3")]
        )

    def test_a_ticket_that_is_not_used(self) -> None:
        """When it is over, or the client sends over Perspective Broker, that is the session's way for good."""
        for late in (True, False):
            client = PlainClient(self.world, f"alice-{late}")
            other = PlainClient(self.world, f"bob-{late}")
            _, _, ticket = client.call("open_channel")
            other.call("send_private", f"alice-{late}@n1", b"1")
            self.assertEqual(client.events, [])
            if late:
                self.world.advance(caps.TICKET_SECONDS + 0.1)
            else:
                client.call("join", "chat")
            self.assertEqual(client.events[0][4], [b"1"])
            self.assertTrue(self.world.raw_channel(record(HELLO, VERSION, ticket)).stream.closed)
            client.call("send", "chat", b"x")

    def test_what_is_kept_is_bounded(self) -> None:
        """A client that is sent much before it shows its ticket gets it over Perspective Broker."""
        client, other = PlainClient(self.world, "alice"), PlainClient(self.world, "bob")
        client.call("open_channel")
        block = bytes(caps.MAX_INLINE_BYTES)
        for _ in range(17):
            other.call("send_private", "alice@n1", block)
        self.assertEqual(len(client.events), 17)

    def test_a_session_that_ends_meanwhile(self) -> None:
        """Its ticket is good no more."""
        client = PlainClient(self.world, "alice")
        _, _, ticket = client.call("open_channel")
        client.call("logout")
        self.assertTrue(self.world.raw_channel(record(HELLO, VERSION, ticket)).stream.closed)
        self.assertEqual(client.events[-1], ("closed", "leave"))
        self.assertEqual(self.world.clock.getDelayedCalls(), [])


class SlowTests(ChannelCase):
    """Clients that do not read their channel."""

    limits = SMALL

    def test_too_slow(self) -> None:
        """A client that reads nothing is put out with the reason; the others have lost nothing."""
        slow_client, slow = self.open("slow")
        _, quick = self.open("quick")
        _, sender = self.open("sender")
        for channel in (slow, quick):
            self.send(channel, record(JOIN, 1, b"chat"))
        slow.stream.deaf = True
        payload = pack_messages([b"x" * 5000])
        for number in range(1, 41):
            self.send(sender, record(SEND, number, b"chat", payload, 4))
            self.world.advance(0.1)
            got = len(quick.kinds(MESSAGES))
            if got:
                head = quick.kinds(MESSAGES)[-1][3]
                self.send(quick, record(CREDIT, HEADER_BYTES + len(head) + len(payload)))
        self.assertEqual(len(quick.kinds(MESSAGES)), 40)
        self.assertNotIn("slow", self.world.node.sessions)
        self.assertEqual(slow_client.events, [("closed", "too slow")])
        self.assertEqual(self.plain(quick)[-1][5], [["slow@n1#7.1", "too slow"]])
        self.assertEqual(self.world.factory.counters["clients_too_slow"], 1)
        self.assertTrue(slow_client.transport.lost and slow.stream.closed)
        self.assertEqual(len(sender.kinds(DONE)), 40)

    def test_who_does_not_read_its_answers(self) -> None:
        """Its requests stay unanswered, so that it comes to the end of what it may have open; then it is cut."""
        _, channel = self.open("alice")
        channel.stream.deaf = True
        number = 0
        while not channel.stream.peer.closed:
            self.send(channel, *(record(LEAVE, number + each, b"nowhere") for each in range(1, 101)))
            number += 100
            self.assertLess(number, 3 * caps.CHANNEL_WINDOW_BYTES // caps.REQUEST_BYTES)
        self.assertLess(len(channel.stream.peer.output), 2 * caps.ANSWER_BACKLOG_BYTES)
        self.world.settle()
        self.assertNotIn("alice", self.world.node.sessions)
        self.assertEqual(self.world.factory.counters["connections_cut"], 1)
