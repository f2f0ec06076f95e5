"""A batch is messages that nobody has cut apart yet."""

from __future__ import annotations

from unittest.mock import patch

from twisted.trial.unittest import SynchronousTestCase

from groupcomm.batches import MessageBatch, each_message
from groupcomm.errors import MalformedPacket
from groupcomm.events import Left, Level, Message, Reason, TransitionalSignal
from groupcomm.identity import GroupViewId, MemberId, NodeId, ViewId
from groupcomm.packing import cut_messages, pack_messages

NODE = NodeId("n1", 1)
ME = MemberId("me", NODE, 1)
VIEW = GroupViewId(ViewId(1, NODE), 0)


def batch_of(*messages: bytes) -> MessageBatch:
    """A batch of messages to one group."""
    return MessageBatch(("g",), ME, Level.AGREED, VIEW, pack_messages(messages))


class BatchTests(SynchronousTestCase):
    """One frame's messages."""

    def test_what_the_messages_have_in_common(self) -> None:
        """Iterating gives each message with the batch's groups, sender, level and view, in order and every time."""
        batch = batch_of(b"a", b"", b"ccc")
        expected = [Message(("g",), ME, Level.AGREED, data, VIEW) for data in (b"a", b"", b"ccc")]
        self.assertEqual(list(batch), expected)
        self.assertEqual(list(batch), expected)
        self.assertEqual(batch.messages, [b"a", b"", b"ccc"])

    def test_length(self) -> None:
        """The length is the number of messages, empty ones and none at all included."""
        for messages in ((), (b"",), (b"a", b"b"), (b"", b"", b"x", b"yy")):
            self.assertEqual(len(batch_of(*messages)), len(messages))

    def test_cut_apart_once_and_only_when_asked(self) -> None:
        """Nobody pays for messages that are not looked at, and all who look share them."""
        with patch("groupcomm.batches.cut_messages", wraps=cut_messages) as cutting:
            batch = batch_of(b"a", b"b")
            self.assertEqual((len(batch), cutting.call_count), (2, 0))
            repr(batch)
            self.assertEqual(cutting.call_count, 0)
            first = batch.messages
            list(batch)
            self.assertIs(batch.messages, first)
            self.assertEqual(cutting.call_count, 1)

    def test_malformed(self) -> None:
        """A payload that is no messages makes no batch, so whoever has a batch can read it."""
        for payload in (b"", b"\x01", b"\x01\x01\x05abcd", b"\x01\x01\x03abcd"):
            self.assertRaises(MalformedPacket, MessageBatch, ("g",), ME, Level.AGREED, VIEW, payload)

    def test_what_it_says_of_itself(self) -> None:
        """In a log a batch is its number of messages, its sender, its groups and its level."""
        self.assertEqual(repr(batch_of(b"a", b"b")), "<2 messages of me@n1 to g, AGREED>")
        private = MessageBatch((), ME, Level.FIFO, None, pack_messages([b"a"]))
        self.assertEqual(repr(private), "<1 messages of me@n1 to one, FIFO>")

    def test_one_by_one(self) -> None:
        """Among other events, messages of batches come one by one at their place."""
        first, last = TransitionalSignal("g"), Left("g", Reason.LEAVE)
        batch = batch_of(b"a", b"b")
        self.assertEqual(list(each_message([first, batch, last])), [first, *batch, last])
