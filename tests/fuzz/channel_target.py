"""Both ends of a data channel: at most the connection of who breaks the protocol ends.

The first byte of an input says how its bytes are cut, the rest is steps: bytes of a stranger to the daemon, of a client
with a channel, of a daemon to the client library, time, the messages of honest clients. Nothing raises or is logged as
an error, the counts of both ends hold, the same bytes are the same records however they are cut, an honest client is
served, and when the others have gone nothing of them is left.
"""

from __future__ import annotations

import enum
from random import Random

from twisted.internet.task import Clock

from groupcomm.batches import MessageBatch
from groupcomm.client.channel import ClientChannel
from groupcomm.daemon import caps
from groupcomm.daemon.channel import ServerChannel
from groupcomm.daemon.channel_events import ChannelEncoder, event_record
from groupcomm.daemon.records import (
    CREDIT,
    DONE,
    EVENT,
    FAILED,
    HEADER,
    HEADER_BYTES,
    HELLO,
    JOIN,
    LEAVE,
    LOGOUT,
    MESSAGES,
    PRIVATE,
    SELF_DISCARD,
    SEND,
    SINGLE,
    STABLE,
    VERSION,
    WELCOME,
    RecordError,
    RecordReader,
    record,
)
from groupcomm.daemon.vocabulary import EventReader
from groupcomm.errors import GroupcommError, NotConnected
from groupcomm.events import Left, Level, Reason, TransitionalSignal, Undeliverable, View
from groupcomm.identity import GroupViewId, MemberId
from groupcomm.packing import pack_messages
from tests.daemon.world import NODE, VIEW, MemoryStream, PlainClient, RawChannel, World
from tests.fuzz.steps import Step, any_number, mutate_bytes, mutate_steps, read_steps, write_steps
from tests.fuzz.watching import no_logged_errors

MAX_STEPS = 24
MAX_SECONDS = 40.0
KINDS = (HELLO, SEND, JOIN, LEAVE, LOGOUT, CREDIT, WELCOME, MESSAGES, EVENT, DONE, FAILED)
HI = pack_messages([b"hi"])
MEMBER = MemberId("bob", NODE, 3)
EVENTS = (
    View("chat", GroupViewId(VIEW, 5), (MEMBER,), (MEMBER,), (), (MEMBER,), True),
    TransitionalSignal("chat"),
    Undeliverable("bob@n1"),
    Left("chat", Reason.TOO_SLOW),
)


class StepKind(enum.IntEnum):
    """What a step is."""

    STRANGER = 0
    CLIENT = 1
    DAEMON = 2
    TIME = 3
    HONEST = 4
    DEAF = 5
    HANG_UP = 6
    HOLD = 7
    ASK = 8


class Receiver:
    """What an application makes of the events: it looks at all of each."""

    def __init__(self) -> None:
        self.reader = EventReader()

    def messages_received(self, batch: MessageBatch) -> None:
        """Look at each message."""
        assert len(list(batch)) == len(batch) == len(batch.messages)

    def batch_received(self, batch: list[object]) -> None:
        """Read each event."""
        for event in batch:
            self.reader.read(event)


class Library:
    """The client's end, of a daemon that says what it likes.

    Attributes:
        stream: its connection; ``stream.peer`` is the daemon's end.
        channel: the product's.
    """

    def __init__(self) -> None:
        self.clock = Clock()
        self.channel = ClientChannel(self.clock, Receiver())
        self.stream, peer = MemoryStream(), MemoryStream()
        self.stream.peer, peer.peer = peer, self.stream
        self.stream.owner, peer.owner = self.channel, RawChannel()
        self.channel.ready.addBoth(lambda _: None)
        self.channel.lost.addBoth(lambda _: None)
        self.channel.opened(self.stream, bytes(caps.TICKET_BYTES))

    def heard(self, data: bytes, size: int) -> None:
        """The daemon says this, in pieces of that size."""
        for at in range(0, len(data), size):
            if not self.stream.closed:
                self.stream.inbox += data[at : at + size]
                while self.stream.inbox and self.stream.pump():
                    pass
        self.check()

    def ask(self, body: bytes) -> None:
        """The application asks for something."""
        outbox = self.channel.outbox
        what = body[0] if body else 0
        destination = "bob@n1" if what & 8 else ("chat",)
        level = Level(what % 6)
        result = outbox.send(destination, bytes(len(body)), level, stable=bool(what & 16), self_discard=False)
        result.addErrback(lambda failure: failure.trap(GroupcommError))
        if what & 32:
            outbox.call("join", "tea").addErrback(lambda failure: failure.trap(GroupcommError))
        if what & 64:
            self.clock.advance(0)
        self.check()

    def check(self) -> None:
        """The counts hold, and only what has not come is held."""
        self.channel.outbox.check_invariants()
        assert len(self.channel.reader._tail) <= HEADER_BYTES + 0xFFFF + caps.LARGE_RECORD_BYTES

    def end(self) -> None:
        """The connection ends: whoever waits is told."""
        self.clock.advance(0)
        self.check()
        self.channel.outbox.close(NotConnected("over"))
        self.channel.abort()


class Run:
    """One daemon with an honest client and the two that are not, and a client library with a daemon that is not.

    Attributes:
        world: the daemon.
        alice: the honest client's channel.
        client: the channel of a client that has logged in.
        stranger: a connection without a ticket.
    """

    def __init__(self, cut: int) -> None:
        self.world = World(channels=True)
        self.cut = cut
        self.alice = self._open("alice")
        self.client = self._open("mallory")
        self.stranger = self.world.raw_channel()
        self.library = Library()
        self.asked = 1
        self._say(self.alice, record(JOIN, 1, b"chat"))
        self._say(self.client, record(JOIN, 1, b"chat"))
        self.sent: dict[int, bytearray] = {kind: bytearray() for kind in (0, 1, 2)}
        self.ends_at = self.world.clock.seconds() + MAX_SECONDS

    def _open(self, name: str) -> RawChannel:
        _, _, ticket = PlainClient(self.world, name).call("open_channel")
        channel = self.world.raw_channel(record(HELLO, VERSION, ticket))
        assert [each[0] for each in channel.records] == [WELCOME]
        return channel

    def _say(self, channel: RawChannel, *data: bytes) -> None:
        channel.stream.write(list(data))
        self.world.settle()

    def go(self, data: bytes) -> None:
        """All steps, and what must be true at the end."""
        for kind, body in read_steps(data)[:MAX_STEPS]:
            self._step(kind % len(StepKind), body)
            self.world.settle()
            self._check_limits()
        for sent in self.sent.values():
            check_cuts(bytes(sent), self.cut)
        self.library.end()
        self._serves_the_honest()
        self._nothing_is_left()

    def _step(self, kind: int, body: bytes) -> None:
        other = self.client if body[:1] > b"\x7f" else self.stranger
        size = self.cut or len(body) or 1
        if kind in (StepKind.STRANGER, StepKind.CLIENT):
            self.sent[kind] += body
            stream = self.stranger.stream if kind == StepKind.STRANGER else self.client.stream
            for at in range(0, len(body), size):
                stream.write([body[at : at + size]])
                if self.cut:
                    stream.peer.pump()
        elif kind == StepKind.DAEMON:
            self.sent[kind] += body
            self.library.heard(body, size)
        elif kind == StepKind.TIME:
            seconds = int.from_bytes(body[:2].ljust(2, b"\x00"), "big") / 1000
            self.world.advance(min(seconds, max(0.0, self.ends_at - self.world.clock.seconds())))
        elif kind == StepKind.HONEST:
            for _ in range(1 + len(body) % 4):
                self.asked += 1
                payload = pack_messages([bytes(min(10 * len(body) ** 2, 20_000))])
                self._say(self.alice, record(SEND, self.asked, b"chat", payload, 4))
        elif kind == StepKind.DEAF:
            other.stream.deaf = not other.stream.deaf
        elif kind == StepKind.HANG_UP:
            other.stream.abort()
        elif kind == StepKind.HOLD:
            session = self.world.node.sessions.get("mallory")
            if session is not None and session.hold:
                session.release()
            elif session is not None:
                session.hold = True
        else:
            self.library.ask(body)

    def _check_limits(self) -> None:
        """What the daemon holds of each connection is within its caps, and no request failed by a fault of ours."""
        assert self.world.factory.counters["calls_failed"] == 0, "a request failed by a fault of the daemon's"
        budget = self.world.realm.upload_budget
        assert 0 <= budget.reserved_bytes <= caps.MAX_UPLOAD_TOTAL_BYTES, budget.reserved_bytes
        for channel in self.world.doors.channels:
            channel.check_invariants()
            assert len(channel.reader._tail) <= HEADER_BYTES + caps.MAX_HEAD_BYTES + caps.LARGE_RECORD_BYTES
            assert channel._unanswered <= caps.CHANNEL_WINDOW_BYTES + caps.REQUEST_BYTES
            assert channel.remembered_bytes <= caps.DESTINATIONS_BYTES
        strangers = self.stranger.stream.peer.owner
        if isinstance(strangers, ServerChannel) and strangers not in self.world.doors.channels:
            assert len(strangers.reader._tail) <= HEADER_BYTES + 2 * caps.TICKET_BYTES

    def _serves_the_honest(self) -> None:
        """Who keeps to the protocol is in the group and gets its messages, whatever the others do."""
        assert not self.alice.stream.closed, "the honest client was cut"
        before = len(self.alice.kinds(MESSAGES))
        self._say(self.alice, record(SEND, self.asked + 1, b"chat", HI, 4))
        self.world.advance(2 * caps.ANSWER_SECONDS)
        assert len(self.alice.kinds(MESSAGES)) == before + 1, "the honest client does not get its message"
        assert self.alice.kinds(DONE)[-1][2] == self.asked + 1 and not self.alice.kinds(FAILED)

    def _nothing_is_left(self) -> None:
        """When the others have gone, the daemon has one channel, one session, and no time runs."""
        world = self.world
        session = world.node.sessions.get("mallory")
        if session is not None and session.hold:
            session.release()
        for channel in (self.client, self.stranger):
            channel.stream.deaf = channel.stream.peer.deaf = False
            channel.stream.abort()
        world.advance(caps.TICKET_SECONDS + caps.FAREWELL_SECONDS)
        assert sorted(world.node.sessions) == ["alice"], sorted(world.node.sessions)
        assert len(world.doors.channels) == 1 and not world.doors._strangers and not world.doors._tickets
        assert world.realm.upload_budget.reserved_bytes == 0
        waiting = [call for call in world.clock.getDelayedCalls() if call.getTime() > world.clock.seconds()]
        assert not waiting, waiting


def check_cuts(data: bytes, cut: int) -> None:
    """The records in these bytes are the same whether they come at once or in pieces; one read may refuse more."""
    (whole, refused), (pieces, refused_too) = (records_of(data, size) for size in (caps.READ_BYTES, cut or 3))
    assert refused == refused_too, "the same bytes are refused or not, as they are cut"
    assert whole == (pieces[: len(whole)] if refused else pieces), "the same bytes are other records in pieces"
    for kind, flags, number, head, payload in pieces:
        assert record(kind, number, head, payload, flags) in data, "a record that is not in the bytes"


def records_of(data: bytes, size: int) -> tuple[list[tuple[int, int, int, bytes, bytes]], bool]:
    """The records in these bytes, read in pieces of that size, and whether they are refused then."""
    reader = RecordReader(caps.MAX_HEAD_BYTES, caps.MAX_PAYLOAD_BYTES)
    records: list[tuple[int, int, int, bytes, bytes]] = []
    try:
        while data:
            buffer = reader.buffer()
            count = min(size, len(buffer), len(data))
            buffer[:count] = data[:count]
            data = data[count:]
            for kind, flags, number, head, payload in reader.received(count):
                records.append((kind, flags, number, head, bytes(payload)))
    except RecordError:
        return records, True
    return records, False


class ChannelTarget:
    """See the module."""

    def check(self, data: bytes) -> None:
        """See ``Target``."""
        if data:
            with no_logged_errors():
                Run(data[0]).go(data[1:])

    def seeds(self) -> list[bytes]:
        """What clients and daemons say."""
        client = [
            record(SEND, 2, b"chat", HI, 4),
            record(SEND, 3, b"chat\ntea", pack_messages([b"a", b"bb", b"ccc"]), 5 | STABLE),
            record(SEND, 4, b"alice@n1", HI, 1 | PRIVATE),
            record(SEND, 5, b"chat", HI, 4 | SELF_DISCARD),
            record(CREDIT, 100),
            record(JOIN, 6, b"tea"),
            record(LEAVE, 7, b"tea"),
            record(SEND, 8, b"\xff", HI, 7),
            record(LOGOUT, 9),
        ]
        encoder = ChannelEncoder()
        batch = MessageBatch(("chat",), MEMBER, Level.AGREED, GroupViewId(VIEW, 5), pack_messages([b"a", b"b"]))
        daemon = [record(WELCOME, VERSION), record(DONE, 1), record(DONE, 2, flags=SINGLE)]
        daemon += [top + payload for top, payload in encoder.encode([batch, *EVENTS])]
        daemon += [
            record(FAILED, 3, b"NameInUse", b"no"),
            event_record(("closed", "too slow")),
            event_record(("x", None)),
        ]
        large = [HEADER.pack(SEND, 4, 4, caps.LARGE_RECORD_BYTES + 9, 2) + b"chat" + bytes(500)]
        asks: list[Step] = [(StepKind.ASK, bytes((what,))) for what in (4, 20, 44, 84)]
        seeds = [
            b"\x00" + write_steps([(StepKind.CLIENT, piece) for piece in client]),
            b"\x07" + write_steps([(StepKind.CLIENT, b"".join(client)), (StepKind.TIME, b"\x01\x00")]),
            b"\x00" + write_steps([*asks, *((StepKind.DAEMON, piece) for piece in daemon)]),
            b"\x05" + write_steps([asks[0], (StepKind.DAEMON, b"".join(daemon))]),
            b"\x00" + write_steps([(StepKind.CLIENT, large[0]), (StepKind.TIME, b"\x80\x00"), (StepKind.HONEST, b"a")]),
        ]
        others = (StepKind.HOLD, StepKind.DEAF, StepKind.HONEST)
        seeds.append(b"\x00" + write_steps([*((kind, b"\xff") for kind in others), (StepKind.CLIENT, client[0])]))
        for piece in client:
            for kind in (StepKind.STRANGER, StepKind.CLIENT):
                seeds.append(b"\x00" + write_steps([(kind, piece)]))
        for piece in daemon:
            seeds.append(b"\x00" + write_steps([asks[0], (StepKind.DAEMON, piece)]))
        return seeds

    def mutate(self, data: bytes, random: Random) -> bytes:
        """Other records, other fields in them, other bytes."""
        cut = data[:1] if data and random.randrange(6) else bytes((random.choice((0, 0, 1, 7, 255)),))
        return cut + mutate_steps(data[1:], random, fresh, changed)


def any_record(random: Random, *, from_daemon: bool) -> bytes:
    """A record that may make sense."""
    kinds = KINDS[6:] if from_daemon else KINDS[:6]
    kind = random.choice(kinds if random.randrange(8) else KINDS)
    number = random.choice((0, 1, 2, 2, 3, 4, 100, 1000, any_number(random) % (1 << 64)))
    head = random.choice((b"chat", b"tea", b"", b"chat\ntea", b"alice@n1", b"NameInUse", b"\xff", b"n" * 300))
    if kind == MESSAGES:
        head = random.choice((b"bob@n1#7.3\n3-n1-7/5\nchat", b"bob@n1#7.3\n\nchat\ntea", b"b", b"bob@n1#x.y\n\n"))
    sizes = random.choice(((), (0,), (2,), (3, 3, 3), (1, 2, 3), (5000,)))
    payload = random.choice((pack_messages([bytes(size) for size in sizes]), b"", b"\x01", b"\x02\x01\x00\x01\x00"))
    if kind == EVENT:
        payload = random.choice(
            (b"[]", b"{}", b'["closed"]', b'["left","chat","leave"]', b'["view"]', b"[" * 2000, b"1")
        )
    data = record(kind, number, head, payload, random.choice((0, 1, 4, 5, 7, 8, 12, 20, 36, 255)))
    if random.randrange(10) == 0:
        head_bytes, payload_bytes = random.choice((4, 0xFFFF, caps.MAX_HEAD_BYTES)), any_number(random) & 0xFFFFFFFF
        return HEADER.pack(kind, 4, head_bytes, payload_bytes, number) + data[HEADER_BYTES:]
    return data


def fresh(random: Random) -> Step:
    """A new step."""
    way = random.randrange(12)
    if way < 8:
        kind = random.choice((StepKind.STRANGER, StepKind.CLIENT, StepKind.CLIENT, StepKind.DAEMON, StepKind.DAEMON))
        count = random.choice((1, 1, 2, 5))
        return kind, b"".join(any_record(random, from_daemon=kind == StepKind.DAEMON) for _ in range(count))
    if way == 8:
        return StepKind.TIME, random.choice((1, 2, 10, 500, 5000, 31000)).to_bytes(2, "big")
    kinds = (StepKind.HONEST, StepKind.DEAF, StepKind.HANG_UP, StepKind.HOLD, StepKind.ASK)
    return random.choice(kinds), random.randbytes(random.choice((1, 1, 1, 40)))


def changed(step: Step, random: Random) -> Step:
    """A step with another field in one of its records."""
    kind, body = step
    if kind > StepKind.DAEMON or len(body) < HEADER_BYTES or random.randrange(4) == 0:
        return kind, mutate_bytes(body, random)
    starts = [0]
    while True:
        _, _, head_bytes, payload_bytes, _ = HEADER.unpack_from(body, starts[-1])
        end = starts[-1] + HEADER_BYTES + head_bytes + payload_bytes
        if end + HEADER_BYTES > len(body):
            break
        starts.append(end)
    at = random.choice(starts)
    what, flags, head_bytes, payload_bytes, number = HEADER.unpack_from(body, at)
    middle, end = at + HEADER_BYTES + head_bytes, at + HEADER_BYTES + head_bytes + payload_bytes
    head, payload = body[at + HEADER_BYTES : middle], body[middle:end]
    way = random.randrange(6)
    if way == 0:
        what = random.choice(KINDS)
    elif way == 1:
        flags = random.choice((flags ^ 1 << random.randrange(8), random.randrange(256)))
    elif way == 2:
        number = (number + random.choice((-1, 1, 1, 2, any_number(random)))) % (1 << 64)
    elif way == 3:
        head = mutate_bytes(head, random)
    elif way == 4:
        payload = mutate_bytes(payload, random)
    else:
        return kind, body[:at] + any_record(random, from_daemon=kind == StepKind.DAEMON) + body[end:]
    return kind, body[:at] + record(what, number, head[:0xFFFF], payload, flags) + body[end:]


TARGET = ChannelTarget()
