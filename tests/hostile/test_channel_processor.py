"""More requests over a data channel than there is time for in one turn of the reactor."""

from __future__ import annotations

from groupcomm.daemon import caps
from groupcomm.daemon.records import CREDIT, DONE, JOIN, MESSAGES, SEND, record
from groupcomm.packing import pack_messages
from tests.daemon.test_channel import ChannelCase
from tests.daemon.world import RawChannel

HI = pack_messages([b"hi"])
LOOK_SECONDS = 0.004
"""How much time each look at it finds spent: there is one every 32 records, and room for five of them in a turn."""


class ChannelProcessorTests(ChannelCase):
    """One client that sends a great deal at once, and one that goes on as before."""

    def setUp(self) -> None:
        super().setUp()
        _, self.alice = self.open("alice")
        _, self.mallory = self.open("mallory")
        self.spent = 0.0
        self.world.factory.time.measure = self.measure

    def measure(self) -> float:
        """Each look finds that some time has gone."""
        self.spent += LOOK_SECONDS
        return self.spent

    def sent(self, name: str) -> list[bytes]:
        """What the node has been given by that client."""
        return [each[1] for each in self.world.node.sessions[name].sent]

    def pour(self, channel: RawChannel, *requests: bytes) -> None:
        """Have all of it arrive at once."""
        channel.stream.write([b"".join(requests)])
        for stream in self.world.streams:
            stream.pump()

    def test_a_turn_at_a_time(self) -> None:
        """A burst of requests is done over many turns, in its order; another client is served in between."""
        count = 2000
        groups = (b"group %d" % number for number in range(count))
        self.pour(self.mallory, *(record(JOIN, number, group) for number, group in enumerate(groups, 1)))
        joined = len(self.world.node.groups)
        self.assertLessEqual(joined, 32 * caps.TURN_SECONDS / LOOK_SECONDS)
        turns = 0
        while len(self.world.node.groups) < count:
            before, spent = len(self.world.node.groups), self.spent
            self.world.clock.advance(0)
            turns += 1
            self.assertLessEqual(self.spent - spent, caps.TURN_SECONDS + 4 * LOOK_SECONDS)
            self.assertGreater(len(self.world.node.groups), before)
            if turns == 2:
                self.pour(self.alice, record(SEND, 1, b"tea", HI, 4))
            if turns == 4:
                self.assertEqual(self.sent("alice"), [b"hi"])
        self.assertGreater(turns, 10)
        self.assertEqual(list(self.world.node.groups), [f"group {number}" for number in range(count)])
        self.world.settle()
        self.assertEqual([number for kind, _, number, _, _ in self.mallory.kinds(DONE)], list(range(1, count + 1)))

    def test_nothing_more_is_read_meanwhile(self) -> None:
        """While requests are kept the channel is not read; what comes later stays behind them."""
        payload = [pack_messages([b"%d" % number]) for number in range(1500)]
        requests = [record(SEND, number, b"tea", data, 4) for number, data in enumerate(payload, 1)]
        self.pour(self.mallory, *requests[:1000])
        server = self.mallory.stream.peer
        self.assertFalse(server.reading)
        self.pour(self.mallory, *requests[1000:])
        self.world.settle()
        self.assertTrue(server.reading)
        self.assertEqual(self.sent("mallory"), [b"%d" % number for number in range(1500)])

    def test_a_breach_among_what_is_kept(self) -> None:
        """A request out of its order is found when its turn comes, and ends the connection, once."""
        requests = [record(SEND, number, b"tea", HI, 4) for number in range(1, 500)]
        self.pour(self.mallory, *requests, record(CREDIT, 10**9), *requests)
        self.assertFalse(self.mallory.stream.closed)
        self.world.settle()
        self.assertTrue(self.mallory.stream.closed)
        self.assertEqual(self.world.factory.counters["connections_cut"], 1)
        self.assertEqual(sorted(self.world.node.sessions), ["alice"])

    def test_lost_meanwhile(self) -> None:
        """Requests kept for a client that has gone are forgotten."""
        self.pour(self.mallory, *(record(SEND, number, b"tea", HI, 4) for number in range(1, 1000)))
        session = self.world.node.sessions["mallory"]
        sent = len(session.sent)
        self.mallory.stream.peer.abort()
        self.world.settle()
        self.assertEqual(len(session.sent), sent)
        self.assertEqual(sorted(self.world.node.sessions), ["alice"])

    def test_many_channels_and_the_control_connections(self) -> None:
        """All clients share the time of a turn, however they come."""
        channels = [self.open(f"mallory{number}")[1] for number in range(10)]
        requests = [record(SEND, number, b"tea", HI, 4) for number in range(1, 1000)]
        before = self.spent
        for channel in channels:
            channel.stream.write(requests)
        for stream in self.world.streams:
            stream.pump()
        self.assertLessEqual(self.spent - before, caps.TURN_SECONDS + 4 * len(channels) * LOOK_SECONDS)
        self.world.settle()
        for number in range(10):
            self.assertEqual(len(self.sent(f"mallory{number}")), 999)

    def tearDown(self) -> None:
        self.send(self.alice, record(JOIN, 2 if self.sent("alice") else 1, b"chat"))
        self.send(self.alice, record(SEND, 3 if self.sent("alice") else 2, b"chat", HI, 4))
        self.assertEqual(len(self.alice.kinds(MESSAGES)), 1)
        super().tearDown()
