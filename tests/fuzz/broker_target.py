"""The Perspective Broker server: at most the connection of who breaks the protocol ends.

The first byte of an input says how its bytes are cut, the rest is steps: bytes of a stranger, bytes of a client that
has logged in, time, what work costs, an honest client's messages. Nothing raises or is logged as an error, what is held
is bounded, the same bytes mean the same however they are cut, an honest client is served, and when the others have gone
nothing of them is left.
"""

from __future__ import annotations

import enum
import gc
from random import Random
from typing import TypeAlias

from twisted.cred.credentials import UsernamePassword
from twisted.internet.protocol import Protocol

from groupcomm.daemon import caps
from groupcomm.daemon.avatar import ClientAvatar
from groupcomm.daemon.broker import BudgetedBroker
from groupcomm.daemon.encoding import encode_bytes, encode_head, encode_int
from groupcomm.daemon.login import Challenger, LoginRoot
from tests.daemon.world import MemoryTransport, PlainClient, World, server_broker
from tests.fuzz.steps import Step, any_number, mutate_bytes, mutate_steps, read_steps, write_steps
from tests.fuzz.watching import no_logged_errors

MAX_STEPS = 24
MAX_SECONDS = 20.0
READ_BYTES = 65536
"""What a transport reads at once."""

MAX_OUTPUT_BYTES = 4 * 1024 * 1024
METHODS = tuple(sorted({*LoginRoot.methods, *Challenger.methods, *ClientAvatar.methods}))
WORDS = (b"None", b"boolean", b"unicode", b"list", b"tuple", b"dictionary", b"remote", b"local", b"reference", b"class")
COMMANDS = (b"version", b"message", b"answer", b"error", b"decref", b"didNotUnderstand", b"decache", b"cachemessage")

Tree: TypeAlias = "int | float | bytes | Word | list[Tree]"


class Word(int):
    """A token that stands for a word of the vocabulary."""


class StepKind(enum.IntEnum):
    """What a step is."""

    STRANGER = 0
    CLIENT = 1
    TIME = 2
    HONEST = 3
    DEAF = 4
    HANG_UP = 5
    COST = 6


class Sink(Protocol):
    """Takes what the daemon says and says nothing."""


class Reading(BudgetedBroker):
    """Keeps the expressions it reads."""

    def __init__(self) -> None:
        super().__init__(isClient=False)
        self.expressions: list[object] = []
        self.currentDialect = b"pb"
        transport = MemoryTransport()
        transport.peer = MemoryTransport()
        transport.protocol = self
        self.makeConnection(transport)

    def connectionMade(self) -> None:
        """No greeting."""

    def expressionReceived(self, sexp: object) -> None:
        """Keep it."""
        self.expressions.append(repr(sexp))

    def peer_broke_protocol(self, text: str) -> None:
        """Not logged here."""


class BrokerTarget:
    """See the module."""

    def check(self, data: bytes) -> None:
        """See ``Target``."""
        if not data:
            return
        with no_logged_errors():
            Run(data[0]).go(data[1:])
            gc.collect(0)

    def seeds(self) -> list[bytes]:
        """What a client says, from the greeting to the goodbye, and a call of each method."""
        said = recorded()
        greeting, *calls = said
        seeds = [
            b"\x00" + write_steps([(StepKind.STRANGER, piece) for piece in said]),
            b"\x01" + write_steps([(StepKind.STRANGER, b"".join(said))]),
            b"\x00" + write_steps([*((StepKind.CLIENT, piece) for piece in calls[2:]), (StepKind.TIME, b"\x05\x00")]),
        ]
        steps: list[tuple[int, bytes]] = [
            (StepKind.HONEST, b"1"),
            (StepKind.DEAF, b""),
            (StepKind.HONEST, b"2"),
            (StepKind.TIME, b"\x10\x00"),
        ]
        seeds.append(b"\x00" + write_steps([*steps, (StepKind.DEAF, b""), (StepKind.HANG_UP, b"")]))
        for number, piece in enumerate(calls):
            seeds.append(
                bytes((number % 4,)) + write_steps([(StepKind.STRANGER, greeting), (StepKind.STRANGER, piece)])
            )
            seeds.append(bytes((number % 4,)) + write_steps([(StepKind.CLIENT, piece), (StepKind.HONEST, b"x")]))
        return seeds

    def mutate(self, data: bytes, random: Random) -> bytes:
        """Other values in the same calls, other calls, other bytes."""
        cut = data[:1] if data and random.randrange(6) else bytes((random.choice((0, 0, 1, 7, 255)),))
        return cut + mutate_steps(data[1:], random, fresh, changed)


class Run:
    """One daemon, an honest client, and the two that are not.

    Attributes:
        world: the daemon.
        alice: the honest client.
        stranger: a connection that has said nothing yet.
        client: the connection of a client that has logged in.
    """

    def __init__(self, cut: int) -> None:
        self.world = World()
        self.world.factory.time.measure = self._measure
        self.cost_seconds = self.measured = 0.0
        self.cut = cut
        self.alice = PlainClient(self.world, "alice")
        self.alice.call("join", "chat")
        mallory = PlainClient(self.world, "mallory")
        mallory.call("join", "chat")
        self.client = mallory.transport
        self.client.protocol = Sink()
        self.stranger = self.world.attach(Sink())
        self.sent: dict[int, bytearray] = {StepKind.STRANGER: bytearray(), StepKind.CLIENT: bytearray()}
        self.ends_at = self.world.clock.seconds() + MAX_SECONDS

    def go(self, data: bytes) -> None:
        """All steps, and what must be true at the end."""
        self.world.settle()
        for kind, body in read_steps(data)[:MAX_STEPS]:
            self._step(kind % len(StepKind), body)
            self.world.settle()
            self._check_limits()
        for sent in self.sent.values():
            check_cuts(bytes(sent), self.cut)
        self._serves_the_honest()
        self._nothing_is_left()

    def _step(self, kind: int, body: bytes) -> None:
        transport = (
            self.client if kind == StepKind.CLIENT or (kind > StepKind.HONEST and body[:1] > b"\x7f") else self.stranger
        )
        if kind in (StepKind.STRANGER, StepKind.CLIENT):
            self.sent[kind] += body
            size = self.cut or len(body) or 1
            for at in range(0, len(body), size):
                transport.write(body[at : at + size])
                if self.cut:
                    transport.pump()
        elif kind == StepKind.TIME:
            seconds = int.from_bytes(body[:2].ljust(2, b"\x00"), "big") / 1000
            self.world.advance(min(seconds, max(0.0, self.ends_at - self.world.clock.seconds())))
        elif kind == StepKind.HONEST:
            for _ in range(1 + len(body) % 4):
                self.alice.avatar.callRemote("send", "chat", bytes(min(10 * len(body) ** 2, 20_000)))
        elif kind == StepKind.DEAF:
            transport.deaf = not transport.deaf
        elif kind == StepKind.COST:
            self.cost_seconds = len(body) ** 2 / 1000 % 0.1
        else:
            transport.loseConnection()

    def _measure(self) -> float:
        """Processor time, which passes only when it is asked for."""
        self.measured += self.cost_seconds
        return self.measured

    def _check_limits(self) -> None:
        """What the daemon holds of each connection is within its budget, and no call failed by a fault of ours."""
        counters = self.world.factory.counters
        assert counters["calls_failed"] == 0, "a call failed by a fault of the daemon's"
        for transport in (self.stranger, self.client):
            broker = server_broker(transport)
            if not isinstance(broker, BudgetedBroker) or transport.peer.lost:
                continue
            budget = broker.budget
            assert len(broker.listStack) <= caps.MAX_DEPTH, f"lists nested {len(broker.listStack)} deep"
            assert broker._spent_bytes <= budget.call_bytes and broker._spent_elements <= budget.elements
            kept = len(broker._incoming)
            assert kept <= budget.call_bytes + 128 + (READ_BYTES if broker.held_back else 0), f"{kept} bytes wait"
            assert len(broker.localObjects) <= 64, f"{len(broker.localObjects)} objects"
            assert transport.peer.largest_output <= MAX_OUTPUT_BYTES, f"{transport.peer.largest_output} bytes of output"

    def _serves_the_honest(self) -> None:
        """Who keeps to the protocol is in the group and gets its messages, whatever the others do."""
        self.cost_seconds = 0.0
        self.world.advance(1.0)
        before = len(self.alice.kinds("messages"))
        assert not self.alice.transport.lost, "the honest client was cut"
        self.alice.call("send", "chat", b"the end")
        assert len(self.alice.kinds("messages")) == before + 1, "the honest client does not get its message"

    def _nothing_is_left(self) -> None:
        """When the others have gone, the daemon has one connection, one session, and no time runs."""
        world = self.world
        for transport in (self.stranger, self.client):
            transport.deaf = False
            transport.peer.deaf = False
            transport.loseConnection()
        world.advance(caps.LOGIN_SECONDS + caps.FAREWELL_SECONDS)
        assert sorted(world.node.sessions) == ["alice"], sorted(world.node.sessions)
        assert len(world.factory.brokers) == 1 and not world.factory._unauthenticated
        assert world.realm.upload_budget.reserved_bytes == 0
        alices = server_broker(self.alice.transport)
        waiting = [
            call
            for call in world.clock.getDelayedCalls()
            if call.getTime() > world.clock.seconds()
            and getattr(getattr(call, "func", None), "__self__", None) is not alices
        ]
        assert not waiting, waiting


def check_cuts(data: bytes, cut: int) -> None:
    """The expressions in these bytes are the same whether they come at once or in pieces, and end at the same place."""
    whole, pieces = Reading(), Reading()
    whole.dataReceived(data)
    size = cut or 3
    for at in range(0, len(data), size):
        pieces.dataReceived(data[at : at + size])
    assert whole.expressions == pieces.expressions, "the same bytes read otherwise when they come in pieces"
    assert whole.violation == pieces.violation, f"{whole.violation} or {pieces.violation}"


def recorded() -> list[bytes]:
    """The greeting, and then the bytes of each call that a client made of Twisted's own classes makes."""
    world = World()
    said: list[bytes] = []
    alice = PlainClient(world, "carol", login=False)
    write = alice.transport.write

    def note(data: bytes) -> None:
        said.append(data)
        write(data)

    alice.transport.write = note  # type: ignore[method-assign]
    world.settle()
    greeting = len(said)
    alice.avatar = world.result(alice.factory.login(UsernamePassword(b"carol", b""), alice))
    for method, *args in CALLS:
        world.settle()
        before = len(said)
        alice.avatar.callRemote(method, *args).addErrback(lambda _: None)
        world.settle()
        said[before:] = [b"".join(said[before:])]
    return [b"".join(said[:greeting]), *said[greeting:]]


CALLS: tuple[tuple[object, ...], ...] = (
    ("whoami",),
    ("join", "chat"),
    ("send", "chat", b"hello", "agreed", True, False),
    ("send", ["chat", "tea"], b"hello", 5),
    ("send_many", "chat", [b"a", b"b", b"c"], "safe"),
    ("send_private", "carol@n1", b"psst"),
    ("begin", 10),
    ("part", 1, b"12345"),
    ("part", 1, b"67890"),
    ("commit", 1, "chat"),
    ("begin", 3),
    ("part", 2, b"abc"),
    ("commit_private", 2, "carol@n1"),
    ("open_channel",),
    ("status",),
    ("changes",),
    ("groups", "", 10),
    ("leave", "chat"),
    ("logout",),
)


# Trees of tokens: what a mutator makes.


def read_tree(data: bytes, at: int = 0, depth: int = 0) -> tuple[Tree, int]:
    """The value that begins at ``at``, and where it ends.

    Raises:
        ValueError: there is none.
    """
    number = shift = 0
    while True:
        if at >= len(data) or shift > 448:
            raise ValueError("no token")
        kind = data[at]
        at += 1
        if kind >= 0x80:
            break
        number |= kind << shift
        shift += 7
    if kind == 0x80:
        items: list[Tree] = []
        if depth > 40:
            raise ValueError("too deep")
        for _ in range(number):
            item, at = read_tree(data, at, depth + 1)
            items.append(item)
        return items, at
    if kind == 0x82:
        if number > len(data) - at:
            raise ValueError("cut short")
        return data[at : at + number], at + number
    if kind == 0x87:
        return Word(number), at
    if kind in (0x81, 0x85):
        return number, at
    if kind in (0x83, 0x86):
        return -number, at
    raise ValueError("another kind")


def write_tree(tree: Tree) -> bytes:
    """The bytes of a value."""
    if isinstance(tree, list):
        return encode_head(len(tree), b"\x80") + b"".join(map(write_tree, tree))
    if isinstance(tree, bytes):
        return encode_bytes(tree)
    if isinstance(tree, Word):
        return encode_head(tree % (1 << 64), b"\x87")
    assert isinstance(tree, int)
    return encode_int(tree)


def any_value(random: Random, depth: int = 3) -> Tree:
    """A value as a client may send it, of any type."""
    way = random.randrange(12 if depth else 7)
    if way == 0:
        return random.choice((-1, 1)) * any_number(random)
    if way == 1:
        return random.choice((b"chat", b"alice", b"mallory@n1", b"agreed", b"", b"\xff", b"x" * 300, b"a\nb"))
    if way == 2:
        return [
            b"unicode",
            random.choice((b"chat", b"tea", b"alice@n1", b"safe", "ä\u2028".encode(), b"\xed\xa0\x80", b"x" * 256)),
        ]
    if way == 3:
        return [b"None"]
    if way == 4:
        return [b"boolean", random.choice((b"true", b"false", b"maybe"))]
    if way == 5:
        return [random.choice((b"remote", b"local", b"reference")), random.randrange(6)]
    if way == 6:
        return Word(random.randrange(40))
    if way < 10:
        word = random.choice((b"list", b"tuple"))
        return [word, *(any_value(random, depth - 1) for _ in range(random.randrange(4)))]
    if way == 10:
        return [
            b"dictionary",
            *([any_value(random, 0), any_value(random, depth - 1)] for _ in range(random.randrange(3))),
        ]
    return [random.choice(WORDS), *(any_value(random, depth - 1) for _ in range(random.randrange(3)))]


def any_call(random: Random) -> Tree:
    """A command, mostly the call of a method that there is."""
    if random.randrange(5) == 0:
        return [random.choice(COMMANDS), *(any_value(random, 1) for _ in range(random.randrange(4)))]
    target: Tree = random.choice((b"root", 1, 1, 2, 2, 3, 4))
    method = random.choice(METHODS).encode()
    args: list[Tree] = [any_value(random) for _ in range(random.randrange(5))]
    keywords: list[Tree] = [[random.choice((b"level", b"stable", b"data", b"x")), any_value(random)]]
    return [
        b"message",
        random.randrange(10),
        target,
        method,
        random.choice((0, 1, 1)),
        [b"tuple", *args],
        [b"dictionary", *(keywords if random.randrange(4) == 0 else [])],
    ]


def fresh(random: Random) -> Step:
    """A new step."""
    way = random.randrange(10)
    if way < 7:
        kind = StepKind.CLIENT if way < 5 else StepKind.STRANGER
        hello = encode_bytes(b"pb") if kind == StepKind.STRANGER and random.randrange(2) else b""
        return kind, hello + b"".join(write_tree(any_call(random)) for _ in range(random.choice((1, 1, 1, 3))))
    if way == 7:
        return StepKind.TIME, random.choice((1, 10, 500, 5000, 31000)).to_bytes(2, "big")
    return random.choice((StepKind.HONEST, StepKind.DEAF, StepKind.HANG_UP, StepKind.COST)), random.randbytes(
        random.choice((1, 1, 40))
    )


def changed(step: Step, random: Random) -> Step:
    """A step with another value in one of its calls."""
    kind, body = step
    if kind not in (StepKind.STRANGER, StepKind.CLIENT) or random.randrange(4) == 0:
        return kind, mutate_bytes(body, random)
    trees: list[Tree] = []
    at = 0
    try:
        while at < len(body):
            tree, at = read_tree(body, at)
            trees.append(tree)
    except ValueError:
        pass
    rest = body[at:]
    if not trees:
        return kind, mutate_bytes(body, random)
    change_tree(trees, random)
    return kind, b"".join(map(write_tree, trees)) + rest


def change_tree(items: list[Tree], random: Random) -> None:
    """Change one value somewhere inside."""
    while True:
        at = random.randrange(len(items)) if items else 0
        inner = items[at] if items else None
        if not isinstance(inner, list) or random.randrange(4) == 0:
            break
        items = inner
    way = random.randrange(8)
    if not items or way == 0:
        items.insert(at, any_value(random))
    elif way == 1:
        del items[at]
    elif way == 2:
        items.insert(at, items[random.randrange(len(items))])
    elif way == 3:
        wrapped = items[at]
        for _ in range(random.choice((1, 2, caps.MAX_DEPTH, caps.MAX_DEPTH + 1))):
            wrapped = [wrapped]
        items[at] = wrapped
    elif way == 4 and isinstance(inner, bytes):
        items[at] = random.choice((mutate_bytes(inner, random), random.choice(METHODS).encode(), random.choice(WORDS)))
    elif way == 4 and isinstance(inner, int):
        items[at] = inner + random.choice((-1, 1, 2, 1 << 31, 1 << 64))
    elif way == 5:
        items[at] = [random.choice(WORDS), items[at]]
    elif way == 6:
        items[at] = any_call(random)
    else:
        items[at] = any_value(random)


TARGET = BrokerTarget()
