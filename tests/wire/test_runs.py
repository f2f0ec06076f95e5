"""Data packets that lie one behind the other, written and read at once."""

from __future__ import annotations

from random import Random

from twisted.trial.unittest import SynchronousTestCase

from groupcomm.outputs import Datagram
from groupcomm.wire.packets import (
    FIRST,
    HEADER_BYTES,
    LAST,
    SEALED,
    STAMPED,
    UNORDERED,
    WANTS_STATUS,
    Kind,
    Packets,
    encode,
    is_data_run,
    split_run,
)

DIGEST = 0xACB18D5F4823FC1A
SENDER = 3


def one_by_one(first: int, flags: bytes, bodies: list[bytes], sender: int = SENDER, digest: int = DIGEST) -> bytes:
    """The packets of a run as each is written by itself."""
    return b"".join(
        encode(Kind.DATA, digest, sender, first + index, body, flags=flag)
        for index, (flag, body) in enumerate(zip(flags, bodies, strict=True))
    )


def encode_run(digest: int, sender: int, first: int, flags: bytes, bodies: list[bytes]) -> bytes:
    """Packets with consecutive numbers, one behind the other; each of them is also there by itself."""
    packets = Packets.of(digest, sender, flags, range(first, first + len(bodies)), bodies)
    apart = [packets.packet(index) for index in range(packets.count)]
    data = packets.data
    assert apart == [packets.packet(index) for index in range(packets.count)]
    return data


class RunTests(SynchronousTestCase):
    """Writing and reading."""

    def made(self, random: Random) -> tuple[bytes, list[bytes]]:
        """The flags and bodies of some packets of one size, the last of which may be shorter."""
        count, size = random.randint(1, 60), random.randint(1, 1380)
        flags = bytes(random.choice((0, 0, 0, FIRST, LAST | WANTS_STATUS, STAMPED, UNORDERED)) for _ in range(count))
        bodies = [random.randbytes(size) for _ in range(count - 1)]
        return flags, [*bodies, random.randbytes(random.randint(1, size))]

    def test_a_run_is_the_packets_one_behind_the_other(self) -> None:
        """Written at once they are the same bytes as written one by one, whatever their flags."""
        random = Random(1)
        for _ in range(100):
            flags, bodies = self.made(random)
            first = random.choice((1, 41, 1 << 31, 1 << 40, random.getrandbits(40)))
            self.assertEqual(
                encode_run(DIGEST, SENDER, first, flags, bodies).hex(), one_by_one(first, flags, bodies).hex()
            )

    def test_a_run_comes_back(self) -> None:
        """Flags, numbers and bodies of each are those that were written."""
        random = Random(2)
        for _ in range(100):
            flags, bodies = self.made(random)
            data = encode_run(DIGEST, SENDER, 77, flags, bodies)
            size = HEADER_BYTES + len(bodies[0])
            self.assertTrue(is_data_run(data, size))
            read = split_run(data, size)
            assert read is not None
            self.assertEqual(
                (read.flags, list(read.numbers), list(read.bodies)), (flags, list(range(77, 77 + len(flags))), bodies)
            )

    def test_numbers_go_on_at_the_end_of_their_32_bits(self) -> None:
        """The low 32 bits of the numbers are on the wire, also where they begin anew within a run."""
        bodies = [bytes([index]) * 9 for index in range(6)]
        for first in range((1 << 32) - 7, (1 << 32) + 2):
            data = encode_run(DIGEST, SENDER, first, bytes(6), bodies)
            self.assertEqual(data, one_by_one(first, bytes(6), bodies))
            read = split_run(data, HEADER_BYTES + 9)
            assert read is not None
            self.assertEqual(list(read.numbers), [number & 0xFFFFFFFF for number in range(first, first + 6)])

    def test_a_run_of_one(self) -> None:
        """One packet is a run as well."""
        data = encode_run(DIGEST, SENDER, 5, bytes([FIRST]), [b"body"])
        self.assertEqual(data, encode(Kind.DATA, DIGEST, SENDER, 5, b"body", flags=FIRST))
        read = split_run(data, len(data))
        assert read is not None
        self.assertEqual((read.flags, list(read.numbers), list(read.bodies)), (bytes([FIRST]), [5], [b"body"]))


class RefusalTests(SynchronousTestCase):
    """What is no run; each of it has then to be read one by one."""

    def setUp(self) -> None:
        self.bodies = [bytes([index]) * 30 for index in range(5)]
        self.flags = bytes([FIRST, 0, 0, 0, LAST])
        self.packets = [
            encode(Kind.DATA, DIGEST, SENDER, 10 + index, body, flags=self.flags[index])
            for index, body in enumerate(self.bodies)
        ]
        self.size = HEADER_BYTES + 30
        self.assertIsNotNone(split_run(b"".join(self.packets), self.size))

    def test_another_head_among_them(self) -> None:
        """Another stream, view, kind, version, key or part anywhere in it makes it no run."""
        others = [
            encode(Kind.STAMP, DIGEST, SENDER, 12, bytes(30)),
            encode(Kind.DATA, DIGEST + 1, SENDER, 12, bytes(30)),
            encode(Kind.DATA, DIGEST, SENDER + 1, 12, bytes(30)),
            encode(Kind.DATA, DIGEST, SENDER, 12, bytes(30), part=1),
            encode(Kind.DATA, DIGEST, SENDER, 12, bytes(30), flags=SEALED),
            b"\x02" + self.packets[2][1:],
            self.packets[2][:3] + b"\x01" + self.packets[2][4:],
            bytes(self.size),
        ]
        for other in others:
            for index in range(1, 5):
                packets = [*self.packets[:index], other, *self.packets[index + 1 :]]
                self.assertIsNone(split_run(b"".join(packets), self.size), other[:HEADER_BYTES].hex())

    def test_the_first_says_whether_it_may_be_one(self) -> None:
        """What does not begin with data of this version in the clear is no run; nor are packets without a body."""
        rest = b"".join(self.packets[1:])
        self.assertTrue(is_data_run(self.packets[0] + rest, self.size))
        for first in (
            encode(Kind.STAMP, DIGEST, SENDER, 10, bytes(30)),
            encode(Kind.BEACON, DIGEST, SENDER, 10, bytes(30)),
            encode(Kind.DATA, DIGEST, SENDER, 10, bytes(30), flags=SEALED),
            b"\x02" + self.packets[0][1:],
            bytes(self.size),
        ):
            self.assertFalse(is_data_run(first + rest, self.size))
        for size in range(1, HEADER_BYTES + 1):
            self.assertFalse(is_data_run(b"".join(self.packets), size))
            self.assertFalse(is_data_run(b"x" * size * 2, size))

    def test_less_than_a_header_is_no_run(self) -> None:
        """The first bytes of a packet, up to its whole header, are no run, whatever size packets are said to have."""
        for size in range(HEADER_BYTES + 1):
            self.assertFalse(is_data_run(self.packets[0][:size], self.size))
        self.assertTrue(is_data_run(self.packets[0][: HEADER_BYTES + 1], self.size))

    def test_a_last_one_without_a_body(self) -> None:
        """Where the last is cut inside its header or right behind it, it is no run; with one byte more it is one."""
        data = b"".join(self.packets)
        for size in range(1, HEADER_BYTES + 1):
            self.assertIsNone(split_run(data[: 4 * self.size + size], self.size))
        read = split_run(data[: 4 * self.size + HEADER_BYTES + 1], self.size)
        assert read is not None
        self.assertEqual(list(read.bodies), [*self.bodies[:4], self.bodies[4][:1]])

    def test_any_bytes(self) -> None:
        """Any bytes of any length, divided by any size, are a run or are not; nothing is raised."""
        random = Random(4)
        begin = self.packets[0][:HEADER_BYTES]
        for _ in range(2000):
            data = random.choice((b"", begin)) + random.randbytes(random.choice((21, 60, 200, 3000)))
            size = random.randint(HEADER_BYTES + 1, len(data))
            is_data_run(data, size)
            split_run(data, size)


class PieceTests(SynchronousTestCase):
    """A run as a datagram to send."""

    def test_pieces(self) -> None:
        """They are the datagrams that arrive; one datagram is one piece, also an empty one."""
        self.assertEqual(Datagram(b"aaabbbc", None, 3).pieces, [b"aaa", b"bbb", b"c"])
        self.assertEqual(Datagram(b"aaabbb", None, 3).pieces, [b"aaa", b"bbb"])
        self.assertEqual(Datagram(b"aa", None, 3).pieces, [b"aa"])
        self.assertEqual(Datagram(b"aaabbbc", None).pieces, [b"aaabbbc"])
        self.assertEqual(Datagram(b"", None).pieces, [b""])
