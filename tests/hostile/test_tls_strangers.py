"""Whoever can reach the TLS port sends what it likes: it is gone in time, the others go on, nothing grows."""

from __future__ import annotations

import random
import tracemalloc
from pathlib import Path
from typing import Any, cast

from twisted.internet.protocol import Factory
from twisted.logger import ILogObserver, LogEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from groupcomm.client import Connection, connect
from groupcomm.daemon import caps
from groupcomm.daemon.records import HELLO, SEND, VERSION, record
from groupcomm.interfaces import IGroup
from tests.daemon.tls_world import Papers, Raw, TlsWorld

STRANGER_BYTES = 128 * 1024
"""More than Python may hold for one connection in its handshake, whatever has come over it."""


class TlsStrangerTests(SynchronousTestCase):
    """Two clients that talk, and strangers."""

    def setUp(self) -> None:
        self.papers = Papers(Path(self.mktemp()))
        for name in ("anne", "bob", "mallory"):
            self.papers.issue(name)
        self.world = TlsWorld(self.papers)
        self.anne, self.bob = self.connect("anne"), self.connect("bob")
        self.group: IGroup = self.world.result(self.bob.join("tea"))
        self.before = dict(self.world.factory.counters)
        self.logged: list[LogEvent] = []
        observer = cast(ILogObserver, self.logged.append)
        globalLogPublisher.addObserver(observer)
        self.addCleanup(globalLogPublisher.removeObserver, observer)
        self.random = random.Random(9)

    def tearDown(self) -> None:
        """The two still talk, no stranger is left, and there was a line a minute at most."""
        sent = len(self.world.node.sessions[self.anne.member.client].sent)
        self.world.result(self.anne.send(["tea"], b"still here"))
        self.assertEqual(len(self.world.node.sessions[self.anne.member.client].sent), sent + 1)
        self.assertEqual(self.world.tls_doors.strangers, set())
        self.assertEqual(len(self.world.factory.brokers), 2)
        self.assertEqual(len(self.world.doors.channels), 2)
        minutes = self.world.clock.seconds() / caps.LOG_INTERVAL_SECONDS
        self.assertLessEqual(len([each for each in self.logged if each["log_level"].name != "info"]), minutes + 1)
        self.assertEqual(self.flushLoggedErrors(), [], "an error was logged")

    def connect(self, name: str) -> Connection:
        connection: Connection = self.world.result(connect(self.world.clock, self.world.endpoint(name)))
        return connection

    def stranger(self, data: bytes = b"") -> Raw:
        """A bare connection to the port that has sent that."""
        raw = Raw()
        self.world.attach_tls(raw)
        assert raw.transport is not None
        raw.transport.write(data)
        self.world.settle()
        return raw

    def greeting(self) -> bytes:
        """The first message of a good client."""
        kept: list[bytes] = []

        class Keeper:
            def connect(self, factory: Any) -> Any:
                transport = _Sink(kept)
                protocol = factory.buildProtocol(None)
                protocol.makeConnection(transport)
                raise _Enough

        endpoint = self.world.endpoint("mallory")
        endpoint._plain = Keeper()  # type: ignore[assignment]
        self.assertRaises(_Enough, endpoint.connect, Factory.forProtocol(Raw))
        return b"".join(kept)

    def control(self, name: str = "mallory") -> Raw:
        """A connection through TLS that has said nothing yet."""
        raw = self.world.raw(name)
        self.assertIsNone(raw.lost)
        return raw

    def channel(self) -> Raw:
        """A data channel through TLS that has said nothing yet."""
        endpoint = self.world.endpoint("mallory").for_channel()
        raw: Raw = self.world.result(endpoint.connect(Factory.forProtocol(Raw)))
        return raw

    def test_silence(self) -> None:
        """Strangers that say nothing are closed at the deadline; one more than allowed is closed at once."""
        self.patch(caps, "MAX_HANDSHAKES", 20)
        silent = [self.stranger() for _ in range(30)]
        self.assertEqual([raw.lost is None for raw in silent], [True] * 20 + [False] * 10)
        self.world.advance(caps.LOGIN_SECONDS)
        self.assertTrue(all(raw.lost for raw in silent))
        self.assertEqual([raw.received for raw in silent], [b""] * 30)

    def test_garbage_before_the_handshake(self) -> None:
        """Bytes that are no TLS end the connection: random ones, Perspective Broker's, records, other protocols'."""
        openings = [self.random.randbytes(size) for size in (10, 100, 1000, 100_000)]
        openings += [b"\x02\x82pb", record(HELLO, VERSION, bytes(32)), b"GET / HTTP/1.1\r\n\r\n", b"SSH-2.0-x\r\n"]
        openings += [
            bytes([22, 3, 1, 0xFF, 0xFF]) + bytes(70_000),
            bytes([22, 3, 1, 0x40, 0]) + b"\x01\xff\xff\xff" * 5000,
        ]
        for opening in openings:
            raw = self.stranger(opening)
            self.world.advance(caps.LOGIN_SECONDS)
            self.assertIsNotNone(raw.lost)
            self.assertLessEqual(len(raw.received), 100)
        self.assertEqual(self.world.factory.counters["connections"], self.before["connections"])

    def test_damaged_greetings(self) -> None:
        """A client's first message cut short anywhere, or with any byte changed, is no way in and no way to last."""
        greeting = self.greeting()
        self.assertGreater(len(greeting), 100)
        raws = [self.stranger(greeting[:size]) for size in range(0, len(greeting), 7)]
        for index in range(0, len(greeting), 7):
            changed = bytearray(greeting)
            changed[index] ^= 1 << self.random.randrange(8)
            raws.append(self.stranger(bytes(changed)))
        self.world.advance(caps.LOGIN_SECONDS)
        self.assertTrue(all(raw.lost for raw in raws))
        self.assertEqual(self.world.factory.counters["connections"], self.before["connections"])

    def test_a_little_at_a_time(self) -> None:
        """Who sends its greeting a byte a second does not last longer than who sends none."""
        greeting = self.greeting()
        raw = self.stranger()
        assert raw.transport is not None
        for index in range(round(caps.LOGIN_SECONDS) + 1):
            raw.transport.write(greeting[index : index + 1])
            self.world.advance(1.0)
        self.assertIsNotNone(raw.lost)

    def test_the_same_greeting_again(self) -> None:
        """A greeting that was recorded gets an answer that is of no use without its keys."""
        greeting = self.greeting()
        raws = [self.stranger(greeting) for _ in range(20)]
        self.assertTrue(all(len(raw.received) < 10_000 for raw in raws))
        self.world.advance(caps.LOGIN_SECONDS)
        self.assertTrue(all(raw.lost for raw in raws))

    def test_a_handshake_and_then_silence(self) -> None:
        """Who has a certificate and does not log in, or shows no ticket, is closed at the deadline too."""
        raws = [self.control() for _ in range(5)]
        channels = []
        for _ in range(5):
            channels.append(self.channel())
        self.world.advance(caps.LOGIN_SECONDS)
        self.assertTrue(all(raw.lost for raw in raws + channels))

    def test_a_handshake_and_then_garbage(self) -> None:
        """Who has a certificate and sends nonsense, or requests without a ticket, is cut at once."""
        for data in (b"\xff" * 100, b"\x80" * 100, bytes(1000), self.random.randbytes(100_000)):
            raw = self.control()
            assert raw.transport is not None
            raw.transport.write(data)
            self.world.settle()
            self.world.advance(caps.LOGIN_SECONDS)
            self.assertIsNotNone(raw.lost)
        for data in (record(SEND, 1, b"tea", b"x"), record(HELLO, VERSION, bytes(32)), b"\xff" * 1000):
            raw = self.channel()
            assert raw.transport is not None
            raw.transport.write(data)
            self.world.settle()
            self.assertIsNotNone(raw.lost)

    def test_no_end(self) -> None:
        """Who does not answer the end of TLS is not waited for."""
        raw = self.control()
        (broker,) = [one for one in self.world.factory.brokers if not one.authenticated]
        transport: Any = raw.transport
        transport.transport.peer.deaf = True
        broker.part()
        self.world.advance(caps.FAREWELL_SECONDS + 0.1)
        self.assertEqual(len(self.world.factory.brokers), 2)

    def test_memory(self) -> None:
        """However much a stranger sends before it has shown a certificate, little is kept of it."""
        greeting = self.greeting()
        endless = bytes([22, 3, 1, 0x40, 0]) + bytes([1, 1, 0, 0]) + self.random.randbytes(0x4000 - 4)
        more = bytes([22, 3, 1, 0x40, 0]) + self.random.randbytes(0x4000)
        tracemalloc.start()
        self.addCleanup(tracemalloc.stop)
        before = tracemalloc.get_traced_memory()[0]
        raws = []
        for number in range(60):
            raw = self.stranger(greeting if number % 3 == 0 else endless)
            assert raw.transport is not None
            for _ in range(20 if number % 3 == 2 else 0):
                raw.transport.write(more)
            raws.append(raw)
        self.world.settle()
        held = tracemalloc.get_traced_memory()[0] - before
        self.assertLess(held, len(raws) * STRANGER_BYTES)
        self.world.advance(caps.LOGIN_SECONDS)
        self.assertTrue(all(raw.lost for raw in raws))


class _Enough(Exception):
    """What was wanted is there."""


class _Sink:
    """A transport that keeps what is written."""

    def __init__(self, kept: list[bytes]) -> None:
        self.kept = kept

    def write(self, data: bytes) -> None:
        self.kept.append(data)

    def writeSequence(self, pieces: list[bytes]) -> None:
        self.kept += pieces
