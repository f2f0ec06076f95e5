"""Messages to payloads and back."""

from __future__ import annotations

from random import Random

from twisted.trial.unittest import SynchronousTestCase

from groupcomm.errors import MalformedPacket
from groupcomm.limits import MAX_FRAME_MESSAGES
from groupcomm.packing import pack_messages, read_runs, unpack_messages
from groupcomm.wire.codec import varint


def payload_of(*runs: tuple[int, int], body: bytes = b"") -> bytes:
    """A payload written by hand: its runs as count and size, then these bytes."""
    return b"".join((varint(len(runs)), *(varint(count) + varint(size) for count, size in runs), body))


class MessageTests(SynchronousTestCase):
    """Several messages in one payload."""

    def test_messages_come_back(self) -> None:
        """Any number of messages of any size, empty ones included, unpack as they were packed."""
        for messages in (
            [],
            [b""],
            [b"", b""],
            [b"a"],
            [b"one", b"two", b"six"],
            [b"x" * 127, b"y" * 128, b"", b"z" * 16384],
            [b"", b"", b"a", b"b", b"", b"cc", b"cc", b""],
            [bytes(size) for size in range(200)],
        ):
            self.assertEqual(unpack_messages(pack_messages(messages)), messages)

    def test_random_messages_come_back(self) -> None:
        """However sizes repeat and change, messages unpack as they were packed, and are counted without a look."""
        random = Random(5)
        for _ in range(300):
            messages = [random.randbytes(random.choice((0, 1, 1, 1, 2, 130))) for _ in range(random.randrange(40))]
            payload = pack_messages(messages)
            self.assertEqual(unpack_messages(payload), messages)
            self.assertEqual(sum(count for count, _ in read_runs(payload)[0]), len(messages))

    def test_one_message_costs_little(self) -> None:
        """A single message costs two bytes and its length: one byte below 128 bytes, two below 16 KiB."""
        self.assertEqual(
            [len(pack_messages([bytes(size)])) - size for size in (0, 127, 128, 16383, 16384)], [3, 3, 4, 4, 5]
        )

    def test_messages_of_one_size_cost_a_few_bytes_altogether(self) -> None:
        """A thousand messages of one size have one run; each change of size costs another."""
        self.assertEqual(len(pack_messages([bytes(100)] * 1000)), 100_000 + 1 + 2 + 1)
        self.assertEqual(len(pack_messages([bytes(100)] * 1000 + [b"x"] * 2)), 100_002 + 1 + (2 + 1) + (1 + 1))
        self.assertEqual(len(pack_messages([b"a", b"bb"] * 10)), 30 + 1 + 20 * 2)

    def test_at_most_so_many_messages(self) -> None:
        """A payload of 16,384 messages is read, in one run or in as many; one more, however small, is malformed."""
        for messages in ([b""] * MAX_FRAME_MESSAGES, [b"", b"x"] * (MAX_FRAME_MESSAGES // 2)):
            self.assertEqual(unpack_messages(pack_messages(messages)), messages)
            self.assertRaises(MalformedPacket, unpack_messages, pack_messages([*messages, b""]))
        half = MAX_FRAME_MESSAGES // 2
        self.assertEqual(len(unpack_messages(payload_of((half, 0), (half, 0)))), MAX_FRAME_MESSAGES)
        self.assertRaises(MalformedPacket, unpack_messages, payload_of((half, 0), (half + 1, 0)))

    def test_truncated_payloads_are_malformed(self) -> None:
        """A payload cut anywhere is malformed, and so is one with a byte too many."""
        for messages in ([b""], [b"one"], [b"one", b"two"], [b"one", b"", b"three" * 50], [b"x" * 200] * 200):
            whole = pack_messages(messages)
            self.assertEqual(unpack_messages(whole), messages)
            for size in range(len(whole)):
                self.assertRaises(MalformedPacket, unpack_messages, whole[:size])
            self.assertRaises(MalformedPacket, unpack_messages, whole + b"x")

    def test_lengths_that_do_not_add_up_are_malformed(self) -> None:
        """Sizes of more or less than the bytes that are there are refused, however large."""
        for payload in (
            b"",
            payload_of(body=b"a"),
            payload_of((1, 5), body=b"abcd"),
            payload_of((1, 3), body=b"abcd"),
            payload_of((2, 2), body=b"abc"),
            payload_of((0, 3), body=b"abc"),
            payload_of((MAX_FRAME_MESSAGES, 2**60), body=b"abcd"),
            payload_of((2, 4), (2, 4), body=b"abcd" * 2),
            varint(MAX_FRAME_MESSAGES + 1),
            varint(2**64 - 1),
            b"\xff" * 20,
        ):
            self.assertRaises(MalformedPacket, unpack_messages, payload)

    def test_more_runs_than_needed_are_read(self) -> None:
        """Runs that could be one, and runs of no messages, give the same messages."""
        payload = payload_of((1, 2), (0, 1), (1, 2), (2, 0), body=b"aabb")
        self.assertEqual(unpack_messages(payload), [b"aa", b"bb", b"", b""])

    def test_random_bytes_are_messages_or_malformed(self) -> None:
        """Whatever the bytes, the result packs to a payload that unpacks alike, or there is the one typed error."""
        random, read, refused = Random(4), 0, 0
        for _ in range(6000):
            runs = [(random.randrange(4), random.randrange(5)) for _ in range(random.randrange(4))]
            size = max(0, sum(count * each for count, each in runs) + random.choice((-1, 0, 0, 1)))
            payload = bytearray(payload_of(*runs, body=random.randbytes(size)))
            if random.random() < 0.3:
                payload[random.randrange(len(payload))] = random.randrange(256)
            try:
                messages = unpack_messages(bytes(payload))
            except MalformedPacket:
                refused += 1
                continue
            self.assertEqual(unpack_messages(pack_messages(messages)), messages)
            read += 1
        self.assertGreater(read, 1000)
        self.assertGreater(refused, 1000)
