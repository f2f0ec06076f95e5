"""What every attack on the control connections is held against: the group goes on, one line, nobody gets in."""

from __future__ import annotations

from collections.abc import Iterable
from typing import cast

from twisted.internet.protocol import Protocol
from twisted.logger import ILogObserver, LogEvent, LogLevel, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from groupcomm.daemon import caps
from groupcomm.daemon.connection import ServerBroker
from tests.daemon.raw_calls import HELLO, call, errors_in
from tests.daemon.world import MemoryTransport, PlainClient, World

READ_BYTES = 65536
"""What a transport of Twisted reads at once."""


class Attacker(Protocol):
    """A connection that sends what it likes and keeps what it gets."""

    transport: MemoryTransport  # type: ignore[assignment]

    def __init__(self, world: World) -> None:
        self.received = bytearray()
        self._world = world
        world.attach(self)
        self.send(HELLO)

    def dataReceived(self, data: bytes) -> None:
        """Keep it."""
        self.received += data

    @property
    def broker(self) -> ServerBroker:
        """The daemon's end."""
        return cast(ServerBroker, self.transport.peer.protocol)

    @property
    def cut(self) -> bool:
        """Whether the daemon has ended the connection."""
        return self.transport.lost

    @property
    def errors(self) -> list[tuple[str, str]]:
        """The errors it has got, name and text, if nothing was taken from ``received`` but the whole."""
        return errors_in(bytes(self.received))

    def refusals(self, name: str) -> int:
        """How many errors of that name it has got."""
        return sum(1 for error, _ in self.errors if error == name)

    def send(self, data: bytes) -> None:
        """Send, and wait until nothing moves any more."""
        self.transport.write(data)
        self._world.settle()

    def log_in(self, name: bytes) -> int:
        """Log in by hand; the number of the avatar."""
        self.send(call(b"login", name))
        challenger = max(number for number in self.broker.localObjects if isinstance(number, int))
        self.send(call(b"respond", b"", [b"remote", 1], target=challenger, request=2))
        return max(number for number in self.broker.localObjects if isinstance(number, int))


class BrokerAttack(SynchronousTestCase):
    """A daemon with two clients in a group, and whoever attacks it.

    After each test the two still hear each other, nobody has got in who should not have, and the log has one line at
    most.
    """

    allowed_lines = 1

    def setUp(self) -> None:
        self.world = World()
        self.lines: list[LogEvent] = []
        observer = cast(ILogObserver, self._watch_log)
        globalLogPublisher.addObserver(observer)
        self.addCleanup(globalLogPublisher.removeObserver, observer)
        self.alice = PlainClient(self.world, "alice")
        self.bob = PlainClient(self.world, "bob")
        for client in (self.alice, self.bob):
            client.call("join", "chat")
        self.guests = {"alice", "bob"}
        self._said = 0

    def tearDown(self) -> None:
        self.assert_group_goes_on()
        self.assertEqual(set(self.world.node.sessions), self.guests, "somebody got in, or was put out")
        texts = [str(event.get("log_format")) for event in self.lines]
        self.assertLessEqual(len(self.lines), self.allowed_lines, texts)
        self.assertEqual(self.flushLoggedErrors(), [], "an error was logged")

    def assert_group_goes_on(self) -> None:
        """Each of the two sends, and both receive it."""
        for sender in (self.alice, self.bob):
            self._said += 1
            data = b"message %d" % self._said
            sender.call("send", "chat", data)
            self.world.settle()
            for client in (self.alice, self.bob):
                self.assertEqual(client.kinds("messages")[-1][4], [data])

    def assert_cut_without_trace(self, attacker: Attacker) -> None:
        """The connection is gone and nothing of it is held."""
        self.world.settle()
        self.assertTrue(attacker.cut)
        self.assertEqual(held(attacker.broker), (0, 0))
        self.assertNotIn(attacker.broker, self.world.factory.brokers)

    def attacker(self) -> Attacker:
        """A connection that has not logged in."""
        return Attacker(self.world)

    def logged_in(self, name: bytes = b"mallory") -> tuple[Attacker, int]:
        """A connection that has logged in, as anybody may who can connect; and the number of its avatar."""
        self.guests.add(name.decode())
        attacker = Attacker(self.world)
        return attacker, attacker.log_in(name)

    def _watch_log(self, event: LogEvent) -> None:
        level = event.get("log_level")
        if level is not None and level >= LogLevel.warn:
            self.lines.append(event)


def held(broker: ServerBroker) -> tuple[int, int]:
    """What is held of a call that is not whole: bytes, and values."""

    def count(items: Iterable[object]) -> tuple[int, int]:
        size = values = 0
        for item in items:
            values += 1
            if isinstance(item, bytes):
                size += len(item)
            elif isinstance(item, list):
                inner, more = count(item)
                size, values = size + inner, values + more
        return size, values

    size, values = count(items for _, items in broker.listStack)
    return size + len(broker._incoming), values


def most_bytes(logged_in: bool) -> int:
    """What may be held of a call that is not whole: the call, and one read."""
    return (caps.MAX_CALL_BYTES if logged_in else caps.MAX_LOGIN_CALL_BYTES) + READ_BYTES
