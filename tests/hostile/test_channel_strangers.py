"""Whoever can open the socket of the data channels sends what it likes: it is cut and counted, the others go on."""

from __future__ import annotations

import random

from groupcomm.daemon import caps
from groupcomm.daemon.records import CREDIT, HEADER, HELLO, JOIN, MESSAGES, SEND, VERSION, record
from groupcomm.packing import pack_messages
from tests.daemon.test_channel import ChannelCase
from tests.daemon.world import PlainClient, RawChannel

HI = pack_messages([b"hi"])


class ChannelStrangerTests(ChannelCase):
    """Two clients with channels, and a third that means no good."""

    def setUp(self) -> None:
        super().setUp()
        _, self.alice = self.open("alice")
        _, self.bob = self.open("bob")
        for channel in (self.alice, self.bob):
            self.send(channel, record(JOIN, 1, b"chat"))

    def tearDown(self) -> None:
        self.send(self.alice, record(SEND, 2, b"chat", HI, 4))
        for channel in (self.alice, self.bob):
            self.assertEqual(len(channel.kinds(MESSAGES)), 1, "the others are not disturbed")
        super().tearDown()

    def assert_cut(self, channel: RawChannel, cut: int = 1) -> None:
        """It is closed, counted, and its session, if it has one, is over."""
        self.assertTrue(channel.stream.closed)
        self.assertEqual(self.world.factory.counters["connections_cut"], cut)
        self.assertEqual(sorted(self.world.node.sessions), ["alice", "bob"])
        self.assertEqual(len(self.world.doors.channels), 2)
        self.assertEqual(self.world.realm.upload_budget.reserved_bytes, 0)

    def test_no_good_ticket(self) -> None:
        """Tickets that were never issued, and none, open nothing."""
        hellos = (
            record(HELLO, VERSION, bytes(caps.TICKET_BYTES)),
            record(HELLO, VERSION),
            record(JOIN, 1, b"chat"),
            record(CREDIT, 1),
            record(SEND, 1, b"chat"),
        )
        for cut, hello in enumerate(hellos, 1):
            self.assert_cut(self.world.raw_channel(hello), cut)

    def test_a_ticket_twice(self) -> None:
        """A ticket is good once; who has it later gets nothing, and its owner is not disturbed."""
        client = self.open_ticket("carol")
        first = self.world.raw_channel(record(HELLO, VERSION, client))
        second = self.world.raw_channel(record(HELLO, VERSION, client))
        self.assertFalse(first.stream.closed)
        self.assertTrue(second.stream.closed)
        first.stream.abort()
        self.world.settle()
        self.assert_cut(second)

    def test_garbage(self) -> None:
        """Random bytes, before a ticket and after one, end that connection and no other."""
        source = random.Random(5)
        for cut in range(1, 21):
            channel = self.world.raw_channel(source.randbytes(source.randrange(HEADER.size, 500)))
            self.assert_cut(channel, cut)
        for cut in range(21, 41):
            _, channel = self.open("mallory")
            for _ in range(1000):
                if channel.stream.closed:
                    break
                self.send(channel, source.randbytes(source.randrange(HEADER.size, 500)))
            self.assert_cut(channel, cut)

    def test_sizes_over_the_limit(self) -> None:
        """A size that no record may have ends the connection when its header has come: nothing is waited for."""
        headers = (
            HEADER.pack(SEND, 4, caps.MAX_HEAD_BYTES + 1, 0, 1),
            HEADER.pack(SEND, 4, 4, caps.MAX_PAYLOAD_BYTES + 1, 1),
            HEADER.pack(SEND, 4, 4, 0xFFFFFFFF, 1),
        )
        for cut, header in enumerate(headers, 1):
            _, channel = self.open("mallory")
            self.send(channel, header)
            self.assert_cut(channel, cut)
        before = self.world.raw_channel(HEADER.pack(HELLO, 0, caps.TICKET_BYTES, 1, VERSION))
        self.assert_cut(before, len(headers) + 1)

    def test_numbers_out_of_order(self) -> None:
        """Requests that skip a number or repeat one end the connection."""
        for cut, numbers in enumerate(((2,), (1, 1), (0,), (1, 3)), 1):
            _, channel = self.open("mallory")
            self.send(channel, *(record(SEND, number, b"x", HI, 4) for number in numbers))
            self.assert_cut(channel, cut)

    def test_more_than_may_be_unanswered(self) -> None:
        """A client that does not wait for answers is cut at its window; the node was given no more than that."""
        _, channel = self.open("mallory")
        session = self.world.node.sessions["mallory"]
        session.hold = True
        payload = pack_messages([bytes(50_000)])
        for number in range(1, 200):
            if channel.stream.closed:
                break
            self.send(channel, record(SEND, number, b"x", payload, 4))
        self.assertLessEqual(sum(map(len, session.payloads)), caps.CHANNEL_WINDOW_BYTES)
        self.assert_cut(channel)

    def test_credit_that_was_not_earned(self) -> None:
        """Credit for what was never sent ends the connection, before it could open the gates of memory."""
        _, channel = self.open("mallory")
        self.send(channel, record(CREDIT, 2**63))
        self.assert_cut(channel)

    def test_never_finished(self) -> None:
        """A large message that stops coming is dropped with its connection, and its room is free again."""
        _, channel = self.open("mallory")
        whole = record(SEND, 1, b"x", pack_messages([bytes(8 * 1024 * 1024)]), 4)
        self.send(channel, whole[:500_000])
        for start in range(500_000, 500_005):
            self.world.advance(caps.UPLOAD_SECONDS - 1)
            self.send(channel, whole[start : start + 1])
        self.assertFalse(channel.stream.closed, "slow is allowed")
        self.world.advance(2 * caps.UPLOAD_SECONDS)
        self.assert_cut(channel)

    def test_strangers_that_say_nothing(self) -> None:
        """Connections without a ticket are closed in time; beyond their number one more is closed at once."""
        strangers = [self.world.raw_channel() for _ in range(caps.MAX_STRANGER_CHANNELS)]
        self.assertTrue(self.world.raw_channel().stream.closed)
        self.assertFalse(strangers[0].stream.closed)
        self.world.advance(caps.TICKET_SECONDS + 0.1)
        self.assertTrue(all(stranger.stream.closed for stranger in strangers))
        self.world.raw_channel().stream.abort()

    def test_truncated(self) -> None:
        """A connection that ends inside a record, wherever, leaves nothing behind."""
        whole = record(SEND, 1, b"chat", pack_messages([bytes(200_000)]), 4)
        for size in (1, HEADER.size - 1, HEADER.size, HEADER.size + 2, 1000, 150_000, len(whole) - 1):
            _, channel = self.open("mallory")
            self.send(channel, whole[:size])
            channel.stream.abort()
            self.world.settle()
            self.assert_cut(channel, 0)

    def open_ticket(self, name: str) -> bytes:
        """A ticket of a new client."""
        ticket = PlainClient(self.world, name).call("open_channel")[2]
        assert isinstance(ticket, bytes)
        return ticket
