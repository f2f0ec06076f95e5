"""What a daemon remembers of the destinations of one client's records."""

from __future__ import annotations

from collections.abc import Sequence

from groupcomm.daemon import caps
from groupcomm.daemon import channel as daemon_channel
from groupcomm.daemon.channel import ServerChannel
from groupcomm.daemon.records import SEND, record
from groupcomm.daemon.schema import group_names
from groupcomm.limits import MAX_NAME_BYTES
from groupcomm.packing import pack_messages
from tests.daemon.test_channel import ChannelCase
from tests.daemon.world import World


class DestinationTests(ChannelCase):
    """Heads that come again are not read again."""

    def sends(self, heads: Sequence[bytes]) -> ServerChannel:
        """Send a message to each, and give the daemon's end."""
        _, channel = self.open("alice")
        session = self.world.node.sessions["alice"]
        payload = pack_messages([b"x"])
        for number, head in enumerate(heads, 1):
            self.send(channel, record(SEND, number, head, payload, 4))
        self.assertEqual(self.failures(channel), [])
        self.assertEqual([destination for destination, *_ in session.sent], [names(head) for head in heads])
        (server,) = self.world.doors.channels
        server.check_invariants()
        return server

    def test_read_once(self) -> None:
        """Of a few hundred destinations in turn each is read once; the messages go where they should."""
        reads: list[object] = []

        def counted(value: object) -> tuple[str, ...]:
            reads.append(value)
            return group_names(value)

        self.patch(daemon_channel, "group_names", counted)
        self.sends([b"group-%d" % number for number in range(350)] * 2)
        self.assertEqual(len(reads), 350)

    def test_what_is_remembered_is_bounded(self) -> None:
        """A client with ever new destinations, of long names or of many, is served and takes no more room."""
        for make in (lambda n: b"g%03d" % n, longest, lambda n: b"\n".join(b"%d.%d" % (n, part) for part in range(64))):
            self.world = World(channels=True)
            server = self.sends([make(number) for number in range(600)])
            self.assertLessEqual(server.remembered_bytes, caps.DESTINATIONS_BYTES)


def names(head: bytes) -> tuple[str, ...]:
    """The groups of a head."""
    return tuple(head.decode().split("\n"))


def longest(number: int) -> bytes:
    """A head of as many bytes as names may have."""
    return b"\n".join((b"%d-%d-" % (number, part)).ljust(MAX_NAME_BYTES, b"x") for part in range(16))
