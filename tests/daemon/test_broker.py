"""What a peer may make the broker parse, and what happens when it goes beyond."""

from __future__ import annotations

import random
from typing import Any

from twisted.internet.protocol import Protocol
from twisted.spread import banana, jelly, pb
from twisted.trial.unittest import SynchronousTestCase

from groupcomm.daemon import caps
from groupcomm.daemon.broker import SERVER_TYPES
from groupcomm.daemon.connection import ServerBroker
from groupcomm.daemon.encoding import encode_bytes, encode_head, encode_value
from tests.daemon.raw_calls import HELLO, call, expression, recorder
from tests.daemon.world import MemoryTransport, PlainClient, World, server_broker


class ParserTests(SynchronousTestCase):
    """The parser reads what Twisted's own reads, and nothing more than the budget."""

    def test_same_as_twisted(self) -> None:
        """Random values that Twisted encodes are read as Twisted reads them, however the bytes are cut."""
        rng = random.Random(1)

        def value(depth: int) -> Any:
            kind = rng.randrange(6 if depth else 5)
            if kind == 5:
                return [value(depth - 1) for _ in range(rng.randrange(4))]
            numbers = (0, 1, 127, 128, 2**31 - 1, 2**31, 2**64, -1, -(2**31), -(2**40))
            return (
                rng.choice(numbers),
                rng.uniform(-1e9, 1e9),
                rng.randbytes(rng.randrange(20)),
                rng.choice(list(banana.Banana.outgoingVocabulary)),
                b"",
            )[kind]

        for _ in range(300):
            sent = [value(4)]
            encoder = banana.Banana(0)
            pieces: Any = MemoryTransport()
            encoder.transport = pieces
            encoder.connectionMade()
            encoder._selectDialect(b"pb")
            pieces.output.clear()
            encoder.sendEncoded(sent)
            data = bytes(pieces.output)
            broker = recorder()
            while data:
                size = rng.randrange(1, len(data) + 1)
                broker.dataReceived(data[:size])
                data = data[size:]
            self.assertEqual(broker.expressions, [sent])

    def test_every_truncation_waits(self) -> None:
        """A call that is not whole does nothing; with its last byte it is there."""
        data = call(b"login", b"alice")
        for size in range(len(data)):
            broker = recorder()
            broker.dataReceived(data[:size])
            self.assertEqual((broker.expressions, broker.violation), ([], None))
            broker.dataReceived(data[size:])
            self.assertEqual(len(broker.expressions), 1)

    def test_byte_by_byte(self) -> None:
        """Bytes may come one at a time."""
        broker = recorder()
        for byte in call(b"login", b"alice") * 2:
            broker.dataReceived(bytes([byte]))
        self.assertEqual(len(broker.expressions), 2)

    def test_budget(self) -> None:
        """Exactly the budget is read, one more of anything ends the connection."""
        for good, bad in (
            (expression(b"x" * caps.MAX_LOGIN_CALL_BYTES), expression(b"x" * (caps.MAX_LOGIN_CALL_BYTES + 1))),
            (expression(*[0] * (caps.MAX_LOGIN_ELEMENTS - 1)), expression(*[0] * caps.MAX_LOGIN_ELEMENTS)),
            (b"\x01\x80" * caps.MAX_DEPTH + b"\x00\x81", b"\x01\x80" * (caps.MAX_DEPTH + 1) + b"\x00\x81"),
            (b"\x01\x80" + b"\x00" * 64 + b"\x81", b"\x01\x80" + b"\x00" * 65 + b"\x81"),
        ):
            broker = recorder()
            broker.dataReceived(good)
            self.assertEqual((len(broker.expressions), broker.violation), (1, None))
            broker.dataReceived(good)
            self.assertEqual(len(broker.expressions), 2, "the budget is for one call")
            broker = recorder()
            broker.dataReceived(bad)
            self.assertEqual(broker.expressions, [])
            self.assertIsNotNone(broker.violation)

    def test_lengths_are_not_believed(self) -> None:
        """A length or count larger than the budget is refused before anything is kept for it."""
        for head in (
            encode_head(2**40, b"\x82"),
            encode_head(2**40, b"\x80"),
            b"\x7f" * 64 + b"\x82",
            b"\x01\x80" * 99,
        ):
            broker = recorder()
            broker.dataReceived(b"\x02\x80" + head)
            self.assertIsNotNone(broker.violation)
            self.assertEqual(len(broker._incoming), 0)

    def test_random_bytes(self) -> None:
        """Random bytes, and valid calls with one byte changed, never raise and leave nothing behind."""
        rng = random.Random(2)
        data = HELLO + call(b"login", [b"unicode", b"alice"])
        for round_number in range(2000):
            world = World()
            transport = world.attach(Protocol())
            broker = server_broker(transport)
            if round_number % 2:
                broker.dataReceived(rng.randbytes(rng.randrange(1, 200)))
            else:
                changed = bytearray(data)
                changed[rng.randrange(len(changed))] = rng.randrange(256)
                broker.dataReceived(bytes(changed))
            self.assertEqual(world.node.sessions, {})
        self.assertEqual(self.flushLoggedErrors(), [])


class HostileClientTests(SynchronousTestCase):
    """What the daemon does with clients that break the protocol."""

    def setUp(self) -> None:
        self.world = World()

    def tearDown(self) -> None:
        self.assertEqual(self.flushLoggedErrors(), [], "an error was logged")

    def stranger(self) -> tuple[MemoryTransport, ServerBroker]:
        transport = self.world.attach(Protocol())
        return transport, server_broker(transport)

    def assert_cut(self, data: bytes) -> None:
        transport, broker = self.stranger()
        broker.dataReceived(HELLO)
        broker.dataReceived(data)
        self.world.settle()
        self.assertTrue(transport.lost, data[:80])
        self.assertNotIn(broker, self.world.factory.brokers)

    def test_breaches(self) -> None:
        """Each ends the connection, and no other."""
        alice = PlainClient(self.world, "alice")
        for data in (
            expression(b"nothing"),
            expression(),
            expression(1),
            encode_bytes(b"message"),
            expression(b"message", 1),
            expression(b"cachemessage", 1, b"root", b"login", 1, [b"tuple"], [b"dictionary"]),
            expression(b"decache", 1),
            expression(b"decref", 99),
            expression(b"decref", [1]),
            expression(b"answer", 99, 1),
            expression(b"error", 99, 1),
            expression(b"answer", [], 1),
            expression(b"version", 5),
            expression(b"didNotUnderstand", b"x"),
            expression(b"message", 1, [b"x"], b"login", 1, [b"tuple"], [b"dictionary"]),
            call(b"\xff\xfe"),
        ):
            self.assert_cut(data)
        alice.call("send", "chat", b"still here")
        self.assertEqual(self.world.factory.counters["connections_cut"], 16)

    def test_types(self) -> None:
        """A value of a type that may not be sent ends the connection, wherever it stands."""
        values: list[Any] = [
            [b"module", b"os"],
            [b"function", b"os.system"],
            [b"class", b"os.popen"],
            [b"instance", [b"class", b"subprocess.Popen"], [b"dictionary"]],
            [b"subprocess.Popen", [b"dictionary"]],
            [b"twisted.spread.pb.CopyableFailure", [b"dictionary"]],
            [b"twisted.spread.flavors.RemoteCache", [b"dictionary"]],
            [b"method", b"x", [b"None"], [b"None"]],
            [b"persistent", 1],
            [b"local", b"root"],
            [b"lcache", 1],
            [b"cached", 1],
            [b"decimal", 1, 100000000],
            [b"set", 1],
            [b"frozenset", 1],
            [b"datetime", b"1 1 1 1 1 1 1"],
            [b"reference", 1, [b"list"]],
            [b"dereference", 1],
            [b"unpersistable", b"x"],
            [b"\xff", b"x"],
            [],
            [[]],
            [5],
            [b"unicode", b"\xff"],
            [b"boolean", b"maybe"],
            [b"dictionary", [b"x"]],
            [b"dictionary", [[b"list"], 1]],
        ]
        for value in values:
            for place in (value, [b"list", value], [b"dictionary", [b"k", value]]):
                self.assert_cut(call(b"login", place))

    def test_registries(self) -> None:
        """The types that may come in are these, whatever is registered in this process."""
        pb.setUnjellyableForClass("tests.Evil", pb.RemoteCopy)
        self.addCleanup(lambda: jelly.unjellyableRegistry.pop(b"tests.Evil"))  # type: ignore[call-overload]
        self.assertFalse(SERVER_TYPES.isTypeAllowed(b"tests.Evil"))
        incoming = {name for name in SERVER_TYPES.allowedTypes if b"." not in name}
        self.assertEqual(incoming, {b"None", b"boolean", b"unicode", b"list", b"tuple", b"dictionary", b"remote"})
        dotted = {name for name in SERVER_TYPES.allowedTypes if b"." in name}
        self.assertTrue(all(name.startswith(b"builtins.") for name in dotted), dotted)
        for name in dotted:
            self.assert_cut(call(b"login", [name, [b"dictionary"]]))

    def test_login_deadline(self) -> None:
        """Who does not log in within 5 s is cut off; who has logged in stays."""
        alice = PlainClient(self.world, "alice")
        transport, broker = self.stranger()
        broker.dataReceived(HELLO)
        self.world.advance(caps.LOGIN_SECONDS - 0.1)
        self.assertFalse(transport.lost)
        self.world.advance(0.2)
        self.assertTrue(transport.lost)
        self.assertFalse(alice.transport.lost)

    def test_too_many_strangers(self) -> None:
        """Beyond the cap a connection is closed at once; when one has gone there is room again."""
        strangers = [self.stranger()[0] for _ in range(caps.MAX_UNAUTHENTICATED)]
        refused = self.world.attach(Protocol())
        self.world.settle()
        self.assertTrue(refused.lost)
        strangers[0].loseConnection()
        self.world.settle()
        PlainClient(self.world, "alice")

    def test_calls_before_login(self) -> None:
        """Before login there is the login and nothing else, and its arguments are checked."""
        _, broker = self.stranger()
        broker.dataReceived(HELLO)
        for method, *args in (
            (b"join", b"chat"),
            (b"login",),
            (b"login", b""),
            (b"login", b"x" * 256),
            (b"login", 5),
            (b"login", b"\xff"),
            (b"login", b"a\nb"),
            (b"login", b"a", b"b"),
            (b"__class__",),
        ):
            transport = self.world.transports[-1]
            transport.output.clear()
            broker.dataReceived(call(method, *args))
            self.assertIn(b"BadArgument", bytes(transport.output))
        broker.dataReceived(call(b"login", b"a", target=b"nothing"))
        self.assertIn(b"BadArgument", bytes(transport.output))

    def test_attempts(self) -> None:
        """A connection may try a few logins."""
        transport, broker = self.stranger()
        broker.dataReceived(HELLO)
        for request in range(9):
            broker.dataReceived(call(b"login", b"alice", request=request))
        self.assertIn(b"LoginRefused", bytes(transport.peer.output))
        self.assertLess(len(broker.localObjects), 12)

    def test_answers_that_are_not_read(self) -> None:
        """A client that calls and does not read its answers is not read from any more: output does not grow."""
        alice = PlainClient(self.world, "alice")
        alice.transport.deaf = True
        for _ in range(2000):
            for _ in range(20):
                alice.avatar.callRemote("groups").addErrback(lambda _: None)
            alice.transport.pump()
            alice.transport.pump()
        server = alice.transport.peer
        self.assertFalse(server.reading)
        self.assertLess(server.largest_output, 512 * 1024)

    def test_log_is_bounded(self) -> None:
        """A hundred breaches are one line, and another one a minute later."""
        lines: list[str] = []
        self.patch(self.world.factory, "log", _Log(lines))
        for _ in range(100):
            self.assert_cut(expression(b"nothing"))
        self.assertEqual(len(lines), 1)
        self.world.advance(caps.LOG_INTERVAL_SECONDS)
        self.assert_cut(expression(b"nothing"))
        self.assertEqual(len(lines), 2)
        self.assertIn("99 more", lines[1])


class _Log:
    def __init__(self, lines: list[str]) -> None:
        self.lines = lines

    def warn(self, form: str, **values: object) -> None:
        self.lines.append(form.format(**values))


class EncodingTests(SynchronousTestCase):
    """Values encoded here are what Perspective Broker encodes."""

    def test_same_as_twisted(self) -> None:
        """Twisted reads what is encoded here as the value it was, and sends the same for it."""
        values: list[Any] = [
            None,
            True,
            False,
            0,
            -1,
            127,
            128,
            2**31 - 1,
            2**31,
            -(2**31) + 1,
            -(2**31),
            2**63,
            b"",
            b"list",
            b"x" * 300,
            "",
            "\u00fcml\u00e4ut",
            (),
            [],
            {},
            ("a", [b"b", {"c": (None, True)}], {}),
        ]
        for value in values:
            broker = recorder()
            broker.dataReceived(b"\x01\x80" + encode_value(value))
            (read,) = broker.expressions
            assert isinstance(read, list)
            unjellied = jelly.unjelly(read[0], jelly.globalSecurity)
            self.assertEqual(unjellied, value)
            self.assertIs(type(unjellied), type(value))
            self.assertEqual(read[0], self.as_lists(jelly.jelly(value, jelly.globalSecurity)))

    def as_lists(self, value: object) -> object:
        if isinstance(value, list | tuple):
            return [self.as_lists(item) for item in value]
        return value.encode() if isinstance(value, str) else value

    def test_other_types(self) -> None:
        """Anything else is refused."""
        for value in (1.5, object(), {1, 2}, [b"x", bytearray(b"y")]):
            self.assertRaises(TypeError, encode_value, value)
