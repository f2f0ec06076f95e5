"""Limits that are the same for every way to be a member: embedded, over a data channel, over Perspective Broker.

Each test runs with all three.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from groupcomm.client import channel, connect
from groupcomm.errors import GroupcommError, MessageTooLarge, NotConnected, QueueFull, UsageError
from groupcomm.events import Level
from groupcomm.limits import MAX_BATCH_BYTES, MAX_MESSAGE_BYTES
from groupcomm.outputs import SessionWritable
from groupcomm.packing import unpack_messages
from groupcomm.sessions import WAITING_MESSAGE_BYTES
from tests.daemon.world import MemoryEndpoint, World
from tests.node_double import NodeBench


class EmbeddedTests(SynchronousTestCase):
    """In the node's own process."""

    def setUp(self) -> None:
        self.bench = NodeBench()
        self.bench.node.startService()
        self.connection: Any = self.bench.node.connect("alice")

    def hold(self) -> None:
        """From now on the node accepts nothing."""
        self.bench.engine.refusal = QueueFull("full")

    def release(self) -> None:
        """It accepts again, and all that waits is sent."""
        self.bench.engine.refusal = None
        self.bench.say(SessionWritable(1))
        self.settle()

    def settle(self) -> None:
        """Let everything happen that is under way."""
        self.bench.clock.turn()

    def sent(self) -> list[bytes]:
        """What has reached the node."""
        self.settle()
        return [data for call in self.bench.engine.named("send") for data in unpack_messages(call[3])]

    def send_many(self, messages: Sequence[Any], *groups: str, level: Level = Level.AGREED) -> Deferred[None]:
        """Send these."""
        result: Deferred[None] = self.connection.send_many(groups or ("chat",), messages, level=level)
        return result

    def refused(self, result: Deferred[None], error: type[GroupcommError]) -> str:
        """The text with which it fails."""
        self.settle()
        return str(self.failureResultOf(result, error).value)

    # The tests.

    def test_a_batch_of_the_largest_size(self) -> None:
        """Messages that together count just what may wait are sent, though the node accepts nothing now."""
        self.hold()
        size = MAX_BATCH_BYTES // 64 - WAITING_MESSAGE_BYTES
        result = self.send_many([bytes(size)] * 64)
        self.settle()
        self.assertNoResult(result)
        for _ in range(20):
            self.release()
        self.successResultOf(result)
        self.assertEqual(self.sent(), [bytes(size)] * 64)

    def test_a_batch_that_is_too_large(self) -> None:
        """One byte more is refused, though nothing waits; the reason names the limit, and none is sent."""
        size = MAX_BATCH_BYTES // 64 - WAITING_MESSAGE_BYTES
        text = self.refused(self.send_many([bytes(size)] * 63 + [bytes(size + 1)]), QueueFull)
        self.assertIn(f"{MAX_BATCH_BYTES} bytes together", text)
        self.assertIn(f"64 messages of {MAX_BATCH_BYTES + 1}", text)
        self.assertEqual(self.sent(), [])

    def test_empty_messages_are_bounded_too(self) -> None:
        """A batch of messages without a byte has a limit as well."""
        most = MAX_BATCH_BYTES // WAITING_MESSAGE_BYTES
        self.refused(self.send_many([b""] * (most + 1)), QueueFull)
        self.assertEqual(self.sent(), [])
        self.send_many([b""] * most)
        self.assertEqual(len(self.sent()), most)

    def test_a_batch_of_one_is_like_a_send(self) -> None:
        """A single message in a list may be as large as any, and no larger."""
        large = bytes(MAX_MESSAGE_BYTES)
        self.refused(self.send_many([large + b"x"]), MessageTooLarge)
        result = self.send_many([large])
        self.assertEqual([len(data) for data in self.sent()], [MAX_MESSAGE_BYTES])
        self.successResultOf(result)

    def test_one_bad_message_and_none_is_sent(self) -> None:
        """If one message of a call cannot be sent, or its destination is none, nothing of it is."""
        large = MAX_MESSAGE_BYTES + 1
        for bad, error in (
            ("text", UsageError),
            (None, UsageError),
            (7, UsageError),
            (bytes(large), MessageTooLarge),
            (bytearray(large), MessageTooLarge),
            (memoryview(bytes(4 * (large // 4 + 1))).cast("I"), MessageTooLarge),
        ):
            self.refused(self.send_many([b"good", bad, b"good"]), error)
        self.refused(self.send_many([b"good"], ""), UsageError)
        self.refused(self.send_many([b"good"], *(f"g{number}" for number in range(65))), UsageError)
        self.assertEqual(self.sent(), [])

    def test_all_or_none_when_too_much_waits(self) -> None:
        """A call for which there is no room is refused whole; those accepted before it arrive, each whole, in order."""
        self.hold()
        batches = [[b"%3d.%d" % (number, part) + bytes(500_000) for part in range(4)] for number in range(30)]
        results = [self.send_many(batch) for batch in batches]
        self.settle()
        waiting = [not result.called for result in results]
        self.assertEqual(waiting, sorted(waiting, reverse=True))
        count = sum(waiting)
        self.assertTrue(0 < count < len(batches))
        for result in results[count:]:
            self.refused(result, QueueFull)
        for _ in range(200):
            self.release()
        for result in results[:count]:
            self.successResultOf(result)
        self.assertEqual([data[:5] for data in self.sent()], [data[:5] for batch in batches[:count] for data in batch])

    def test_the_name_of_one_group(self) -> None:
        """A string where groups are asked for is one group, not its letters."""
        self.connection.send("chat", b"1", level=Level.AGREED)
        self.connection.send_many("chat", [b"2"], level=Level.AGREED)
        self.assertEqual(self.sent(), [b"1", b"2"])
        self.assertEqual(self.destinations(), {("chat",)})

    def destinations(self) -> set[tuple[str, ...]]:
        """Where what has reached the node goes to."""
        return {call[2] for call in self.bench.engine.named("send")}

    def test_closed(self) -> None:
        """Once the connection is over nothing is sent, not even nothing."""
        self.connection.close()
        self.settle()
        self.refused(self.send_many([b"x"]), NotConnected)
        self.refused(self.send_many([]), NotConnected)


class ChannelTests(EmbeddedTests):
    """A client with a data channel."""

    channels = True

    def setUp(self) -> None:
        self.world = World(channels=self.channels)
        self.patch(channel, "dial", self.world.dial)
        self.connection = self.world.result(connect(self.world.clock, MemoryEndpoint(self.world), name="alice"))
        self.session = self.world.node.sessions["alice"]

    def hold(self) -> None:
        self.session.hold = True

    def release(self) -> None:
        self.session.release()
        self.settle()

    def settle(self) -> None:
        self.world.settle()

    def sent(self) -> list[bytes]:
        self.settle()
        return [data for _, data, *_ in self.session.sent]

    def destinations(self) -> set[tuple[str, ...]]:
        return {groups for groups, *_ in self.session.sent if not isinstance(groups, str)}


class PerspectiveBrokerTests(ChannelTests):
    """A client without one."""

    channels = False
