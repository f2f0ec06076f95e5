"""Frames outside the stream."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from groupcomm.errors import MalformedPacket
from groupcomm.events import Level
from groupcomm.ordering.frames import FrameType, Outgoing
from groupcomm.ordering.unreliable import Unreliable
from groupcomm.wire.packets import Header


class UnreliableTests(SynchronousTestCase):
    """What node 0 sends and node 1 gets."""

    def setUp(self) -> None:
        self.sender = Unreliable(0, 77, 2)
        self.receiver = Unreliable(1, 77, 2)

    def packet(self, body: bytes, level: Level = Level.UNRELIABLE) -> bytes:
        """The next packet."""
        return self.sender.packet(Outgoing(1, 1, FrameType.GROUP, level, body))

    def got(self, packet: bytes) -> bytes | None:
        """What the receiver makes of it."""
        frame = self.receiver.came(0, Header(packet).sequence, packet)
        return None if frame is None else frame.body

    def test_twice_is_once(self) -> None:
        """In any order each frame is taken once."""
        first, second, third = (self.packet(body) for body in (b"one", b"two", b"three"))
        self.assertEqual(
            [self.got(packet) for packet in (second, first, third, first, second, third)],
            [b"two", b"one", b"three", None, None, None],
        )

    def test_too_old(self) -> None:
        """What is so old that nobody knows whether it came is dropped."""
        old = self.packet(b"old")
        for _ in range(1023):
            last = self.packet(b"new")
        just = self.packet(b"newer")
        self.assertEqual([self.got(last), self.got(just), self.got(old)], [b"new", b"newer", None])

    def test_only_unreliable_frames(self) -> None:
        """A frame of another level has no business outside the stream."""
        with self.assertRaises(MalformedPacket):
            self.got(self.packet(b"x", Level.RELIABLE))
