"""Messages to payloads and back, and frames to parts."""

from __future__ import annotations

from random import Random

from twisted.trial.unittest import SynchronousTestCase

from groupcomm.errors import MalformedPacket
from groupcomm.packing import cut_frame, pack_messages, unpack_messages


class MessageTests(SynchronousTestCase):
    """Several messages in one payload."""

    def test_messages_come_back(self) -> None:
        """Any number of messages of any size, empty ones included, unpack as they were packed."""
        for messages in ([], [b""], [b"", b""], [b"a"], [b"x" * 127, b"y" * 128, b"", b"z" * 16384]):
            self.assertEqual(unpack_messages(pack_messages(messages)), messages)

    def test_a_payload_is_little_more_than_its_messages(self) -> None:
        """The length of a message costs one byte below 128 bytes, two below 16 KiB."""
        self.assertEqual(
            [len(pack_messages([bytes(size)])) - size for size in (0, 127, 128, 16383, 16384)], [1, 1, 2, 2, 3]
        )

    def test_truncated_payloads_are_malformed_or_shorter(self) -> None:
        """A payload cut between two messages is the messages before; cut anywhere else it is malformed."""
        messages = [b"one", b"", b"three" * 50]
        whole = pack_messages(messages)
        borders = {len(pack_messages(messages[:count])): count for count in range(4)}
        for size in range(len(whole) + 1):
            if size in borders:
                self.assertEqual(unpack_messages(whole[:size]), messages[: borders[size]])
            else:
                self.assertRaises(MalformedPacket, unpack_messages, whole[:size])

    def test_lengths_that_do_not_add_up_are_malformed(self) -> None:
        """A length beyond the payload is refused, however large."""
        for payload in (b"\x01", b"\x05abcd", b"\xff" * 9 + b"\x01", b"\xff" * 20):
            self.assertRaises(MalformedPacket, unpack_messages, payload)

    def test_random_bytes_are_messages_or_malformed(self) -> None:
        """Whatever the bytes, the result packs to a payload that unpacks alike, or there is the one typed error."""
        random, read = Random(4), 0
        for _ in range(3000):
            try:
                messages = unpack_messages(random.randbytes(random.randrange(12)))
            except MalformedPacket:
                continue
            self.assertEqual(unpack_messages(pack_messages(messages)), messages)
            read += 1
        self.assertGreater(read, 100)


class CutTests(SynchronousTestCase):
    """Frames that do not fit a packet."""

    def test_parts_are_full_but_for_the_last(self) -> None:
        """A frame of n rooms makes n parts, and they join to the frame."""
        for size, sizes in ((1, [1]), (9, [9]), (10, [10]), (11, [10, 1]), (20, [10, 10]), (25, [10, 10, 5])):
            parts = cut_frame(bytes(range(size)), 10)
            self.assertEqual([len(part) for part in parts], sizes)
            self.assertEqual(b"".join(parts), bytes(range(size)))
