"""Runs of datagrams keep their order and their borders, with the kernel's help or without."""

from __future__ import annotations

import errno
import random
import socket
import struct
from collections.abc import Sequence
from typing import cast

from twisted.trial.unittest import SynchronousTestCase

from groupcomm.net.offload import MAX_RUN_BYTES, MAX_SEGMENTS, SegmentingSender, segment_size
from groupcomm.outputs import Address, Datagram

GROUP = ("239.0.0.1", 1)
PEER = ("10.0.0.2", 2)


class FakeSocket:
    """Takes datagrams as the kernel does, or refuses."""

    def __init__(self) -> None:
        self.calls: list[list[bytes]] = []
        self.arrived: list[tuple[bytes, Address]] = []
        self.run_error: int | None = None
        self.error: int | None = None
        self.longest = 65_507

    def sendto(self, data: bytes, destination: Address) -> int:
        if self.error is not None:
            raise OSError(self.error, "no")
        if len(data) > self.longest:
            raise OSError(errno.EMSGSIZE, "no")
        self.calls.append([data])
        self.arrived.append((data, destination))
        return len(data)

    def sendmsg(
        self, buffers: Sequence[bytes], control: Sequence[tuple[int, int, bytes]], flags: int, destination: Address
    ) -> int:
        if self.run_error is not None:
            raise OSError(self.run_error, "no")
        size = struct.unpack("=H", control[0][2])[0]
        joined = b"".join(buffers)
        if len(joined) > 65_507:
            raise OSError(errno.EMSGSIZE, "no")
        if len(joined) > 64 * size:
            raise OSError(errno.EINVAL, "no")
        assert joined
        self.calls.append(list(buffers))
        self.arrived.extend((joined[at : at + size], destination) for at in range(0, len(joined), size))
        return len(joined)


def made(rng: random.Random) -> Datagram:
    """A datagram, or a run that was made as one."""
    destination = rng.choice((None, None, None, PEER))
    if rng.random() < 0.2:
        size = rng.choice((1, 100, 1400))
        return Datagram(rng.randbytes(rng.randrange(size, 46 * size + 1)), destination, size)
    return Datagram(rng.randbytes(rng.choice((0, 1, 100, 1400, 1400, 1400, 9000))), destination)


def arriving(sent: Sequence[Datagram]) -> list[tuple[bytes, Address]]:
    """What arrives of it, and where."""
    return [(piece, datagram.destination or GROUP) for datagram in sent for piece in datagram.pieces]


class SenderTests(SynchronousTestCase):
    """Sending."""

    def setUp(self) -> None:
        self.fake = FakeSocket()
        self.failures: list[tuple[int | None, int]] = []
        self.sender = SegmentingSender(
            cast(socket.socket, self.fake), GROUP, lambda error, count: self.failures.append((error.errno, count))
        )

    def test_any_sequence(self) -> None:
        """Whatever is sent arrives as it is: same datagrams, same order, same places."""
        rng = random.Random(7)
        for _ in range(200):
            sent = [made(rng) for _ in range(rng.randrange(1, 150))]
            self.fake.arrived.clear()
            self.sender.send(sent)
            self.assertEqual(self.fake.arrived, arriving(sent))
        self.assertEqual(self.failures, [])

    def test_limits(self) -> None:
        """A run stays within the kernel's limits."""
        self.sender.send([Datagram(b"x" * 100, None)] * (MAX_SEGMENTS + 1))
        self.sender.send([Datagram(b"x" * 30_000, None)] * 3)
        self.assertEqual([len(run) for run in self.fake.calls], [MAX_SEGMENTS, 1, 2, 1])
        self.assertLessEqual(max(sum(map(len, run)) for run in self.fake.calls), MAX_RUN_BYTES)

    def test_kernel_cannot(self) -> None:
        """Where the kernel cannot, each datagram is sent by itself, and it is not asked again."""
        self.fake.run_error = errno.EINVAL
        self.sender.send([Datagram(b"x", None)] * 3)
        self.fake.run_error = None
        self.sender.send([Datagram(b"y", None)] * 3)
        self.assertEqual([len(run) for run in self.fake.calls], [1] * 6)
        self.assertFalse(self.sender.segmenting)

    def test_a_run_that_was_made_as_one(self) -> None:
        """It leaves with one system call, in its place among others, and is not joined with them."""
        run = Datagram(b"aaabbbcc", None, 3)
        self.sender.send([run])
        self.sender.send([Datagram(b"xxx", None), run, Datagram(b"yyy", None), Datagram(b"zzz", None)])
        self.assertEqual(self.fake.calls, [[run.data], [b"xxx"], [run.data], [b"yyy", b"zzz"]])
        self.assertEqual([data for data, _ in self.fake.arrived[3:]], [b"xxx", b"aaa", b"bbb", b"cc", b"yyy", b"zzz"])
        self.assertEqual(self.sender.runs, 3)

    def test_a_made_run_beyond_the_limits(self) -> None:
        """It leaves in as few parts as the kernel allows."""
        for size, count, calls in ((9000, 46, 7), (100, 2 * MAX_SEGMENTS, 2), (40_000, 3, 3)):
            self.setUp()
            run = Datagram(random.Random(1).randbytes(size * count - 1), PEER, size)
            self.sender.send([run])
            self.assertEqual(self.fake.arrived, arriving([run]))
            self.assertEqual(len(self.fake.calls), calls)
            self.assertTrue(self.sender.segmenting)

    def test_a_made_run_where_the_kernel_cannot(self) -> None:
        """It is cut into its datagrams, which are sent one by one, once each, at its own place."""
        for error in (errno.EINVAL, errno.EIO, errno.EOPNOTSUPP):
            self.setUp()
            self.fake.run_error = error
            sent = [
                Datagram(b"aaabbbcc", PEER, 3),
                Datagram(b"x", None),
                Datagram(b"dd", None, 2),
                Datagram(b"eeefff", None, 3),
            ]
            self.sender.send(sent)
            self.assertEqual(self.fake.arrived, arriving(sent))
            self.assertEqual((self.failures, self.sender.segmenting, self.sender.runs), ([], False, 0))
            self.fake.run_error = None
            self.sender.send(sent[:1])
            self.assertEqual(self.fake.calls[-3:], [[b"aaa"], [b"bbb"], [b"cc"]])

    def test_a_made_run_without_room(self) -> None:
        """Where there is no room for it, each of its datagrams counts; each sent alone has a chance of its own."""
        self.fake.run_error = self.fake.error = errno.EAGAIN
        self.sender.send([Datagram(b"aaabbbcc", None, 3)])
        self.assertEqual((self.failures, self.sender.segmenting), ([(errno.EAGAIN, 3)], True))
        self.fake.run_error = errno.EINVAL
        self.sender.send([Datagram(b"aaabbbcc", None, 3)])
        self.assertEqual(self.failures[1:], [(errno.EAGAIN, 1)] * 3)

    def test_too_long_for_the_interface(self) -> None:
        """A run of datagrams that are too long fails one by one, and the next run is a run again."""
        for error in (errno.EMSGSIZE, errno.EINVAL):
            self.setUp()
            self.fake.run_error = error
            self.fake.longest = 2
            self.sender.send([Datagram(b"aaabbbcc", None, 3), Datagram(b"ddd", PEER), Datagram(b"eee", PEER)])
            self.assertEqual(self.failures, [(errno.EMSGSIZE, 1)] * 4)
            self.assertEqual(self.fake.arrived, [(b"cc", GROUP)])
            self.assertTrue(self.sender.segmenting)

    def test_link_local_destinations(self) -> None:
        """The kernel is told the number of the interface, for runs too; other destinations stay as they are."""
        self.sender.scope = ("eth0", 7)
        here, there = ("fe80::1%eth0", 5), ("fe80::1%eth1", 5)
        self.sender.send([Datagram(b"x", here)])
        self.sender.send([Datagram(b"aabb", here, 2), Datagram(b"y", there), Datagram(b"z", None)])
        full = ("fe80::1", 5, 0, 7)
        self.assertEqual(self.fake.arrived, [(b"x", full), (b"aa", full), (b"bb", full), (b"y", there), (b"z", GROUP)])

    def test_another_socket(self) -> None:
        """What follows is sent from the socket that is to be used now."""
        self.sender.send([Datagram(b"x", None)])
        other = FakeSocket()
        self.sender.use(cast(socket.socket, other))
        self.sender.send([Datagram(b"y", None), Datagram(b"yy", PEER), Datagram(b"yy", PEER)])
        self.assertEqual(self.fake.arrived, [(b"x", GROUP)])
        self.assertEqual(other.calls, [[b"y"], [b"yy", b"yy"]])

    def test_no_room(self) -> None:
        """A run the kernel has no room for is given up as a whole; the next one is tried again."""
        self.fake.run_error = self.fake.error = errno.ENOBUFS
        self.sender.send([Datagram(b"x", None)] * 3 + [Datagram(b"y", PEER)])
        self.assertEqual(self.failures, [(errno.ENOBUFS, 3), (errno.ENOBUFS, 1)])
        self.assertTrue(self.sender.segmenting)


class ReceiveTests(SynchronousTestCase):
    """Receiving."""

    def test_segment_size(self) -> None:
        """The kernel's word on the size counts if it makes sense; else it is one datagram."""
        udp, gro = socket.IPPROTO_UDP, 104
        self.assertEqual(segment_size([(udp, gro, struct.pack("=i", 1400))], 4000), 1400)
        for size in (0, -1, 4000, 5000):
            self.assertEqual(segment_size([(udp, gro, struct.pack("=i", size))], 4000), 4000)
        for ancillary in (
            [],
            [(udp, gro, b"x")],
            [(udp, 1, struct.pack("=i", 1400))],
            [(0, gro, struct.pack("=i", 9))],
        ):
            self.assertEqual(segment_size(ancillary, 4000), 4000)
