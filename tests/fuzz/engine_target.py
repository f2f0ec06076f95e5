"""A member of a view that gets garbage which passes for authentic: no packet of an insider makes it fail.

The first byte of an input chooses the state of a small cluster to begin with, the rest is steps: packets in another
member's name, time, messages of honest clients. No step raises, the engines' invariants hold, memory, datagrams and
turns stay within their limits, and when it is over every node that runs still answers and has a next deadline.
"""

from __future__ import annotations

import enum
from random import Random

import attrs

from groupcomm.config import EngineConfig
from groupcomm.engine import Engine
from groupcomm.errors import GroupcommError, MalformedPacket
from groupcomm.events import Level, Reason
from groupcomm.identity import NodeId, ViewId
from groupcomm.limits import (
    MAX_CONTROL_ASSEMBLIES,
    MAX_CONTROL_ASSEMBLY_BYTES,
    MAX_CONTROL_PARTS,
    MAX_FRAME_BYTES,
    MAX_MISSING,
    MAX_NODES,
    MAX_REPAIR_PACKETS,
    MAX_STRANGERS,
    MAX_STREAM_PACKETS,
)
from groupcomm.ordering.frames import parse_frames
from groupcomm.outputs import Address
from groupcomm.wire import messages
from groupcomm.wire.codec import Reader, cluster_digest
from groupcomm.wire.packets import (
    FIRST,
    HEADER,
    HEADER_BYTES,
    LAST,
    LAST_NUMBERED,
    LAST_OF_VIEW,
    SEALED,
    SLOTTED,
    STAMP_POSITION,
    STAMPED,
    UNORDERED,
    VERSION,
    WANTS_STATUS,
    Header,
    Kind,
    is_data_run,
    split_run,
)
from tests.fuzz.small_world import GROUP, Member, SmallWorld
from tests.fuzz.steps import Step, any_number, mutate_bytes, mutate_steps, read_steps, write_steps
from tests.wire.test_vectors import BODIES, VECTORS, encodable
from tests.wire.vectors import Frame

STRANGER: Address = ("10.9.9.9", 9999)
MAX_STEPS = 24
MAX_SECONDS = 1.5
"""All time of one input, before the end."""

MOST_AT_ONCE = 2 * (MAX_REPAIR_PACKETS + MAX_CONTROL_PARTS)
"""Datagrams of one turn: the repairs one NACK may pull, a message in all its parts, and as much again."""

TURNS_PER_SECOND = 20_000
"""Far more than an engine needs; two that answer each other's answers reach it."""

REST_SECONDS = 0.6
MANY_MISSING = 500
GAPPED_SECONDS = 0.05


class StepKind(enum.IntEnum):
    """What a step is; see ``EngineTarget``."""

    PACKET = 0
    RUN = 1
    TIME = 2
    SEND = 3
    LOSE = 4
    AGAIN = 5
    SESSION = 6


RIGHT_DIGEST = 1
"""The packet gets the digest of the receiver's view or of the cluster, whichever its kind has."""
NEXT_NUMBER = 2
"""Its number counts from the next that the receiver expects of the stream, with 8 for that one."""
AS_IT_CAME = 4
"""It has not been opened: it is a stranger's, unless its seal is right."""


def settled(config: EngineConfig) -> SmallWorld:
    """Three members in one view, clients in one group, some messages delivered."""
    world = SmallWorld(config)
    world.run(3.0)
    for member in world.members:

        def open_session(engine: Engine, now: float, member: Member = member) -> None:
            member.session = engine.open_session("c", now)
            engine.join(member.session, GROUP, now)

        world.turn(member, open_session)
    world.run(0.5)
    for number, level in enumerate((Level.FIFO, Level.AGREED, Level.SAFE)):
        world.send(number, b"hello", level)
    world.run(0.5)
    assert [member.delivered for member in world.members] == [3, 3, 3]
    return world


def beginnings(config: EngineConfig) -> list[SmallWorld]:
    """States to begin with: at rest, with frames on their way, and in the course of a view change."""
    rest = settled(config)
    busy = rest.copy()
    for number, level in ((0, Level.SAFE), (1, Level.CAUSAL), (2, Level.AGREED)):
        busy.send(number, bytes(5000), level)
    busy.run(0.0005)
    gathering = busy.copy()
    gathering.crash(2)
    gathering.run(0.012)
    recovering = gathering.copy()
    recovering.run(0.02)
    return [rest, busy, gathering, recovering]


def captured() -> list[bytes]:
    """Packets as honest nodes send them: of founding, merging, traffic, loss, a crash and a leave; one of each look."""
    found: dict[tuple[int, int, int], bytes] = {}
    for config in CONFIGS:
        world = SmallWorld(config)
        world.keep = 100_000
        world.run(3.0)
        for member in world.members:

            def open_session(engine: Engine, now: float, member: Member = member) -> None:
                member.session = engine.open_session("c", now)
                engine.join(member.session, GROUP, now)

            world.turn(member, open_session)
        world.run(0.3)
        for number, level in enumerate((*Level, *Level)):
            world.losing = number % 3
            world.send(number % 3, bytes(3000 * (number % 2) + 20), level)
            world.run(0.02)
        if config.key is not None:
            world.turn(world.members[0], lambda engine, now: engine.rotate_key(now))
            world.run(0.3)
        world.turn(world.members[1], lambda engine, now: engine.leave_cluster(now))
        world.run(0.5)
        world.crash(2)
        world.run(1.0)
        for data in world.clear:
            found.setdefault((data[1], data[2], min(len(data), 60) // 8), data)
    return list(found.values())


CONFIGS = (EngineConfig(), EngineConfig(suppression_nodes=2), EngineConfig(key=bytes(range(32))))
"""Few nodes, what large views do with few nodes, and nodes that seal their packets."""


class EngineTarget:
    """See the module.

    A ``PACKET`` step is four bytes and the packet: to whom, from whose address, how the header is mended, and the
    number's offset. A ``RUN`` has the number of packets before these. ``TIME`` has milliseconds, ``SEND`` who, at which
    level and how much, ``LOSE`` a count, ``AGAIN`` to whom and which of the last honest datagrams, ``SESSION`` who and
    what.
    """

    def __init__(self) -> None:
        self._beginnings = [world for config in CONFIGS for world in beginnings(config)]
        self._captured: list[bytes] = []
        self._nodes = [member.identity for member in self._beginnings[0].members]
        self._views = [
            status.view
            for world in self._beginnings
            for status in (world.members[0].engine.status(world.now),)
            if status.view is not None
        ]

    def check(self, data: bytes) -> None:
        """See ``Target``."""
        if not data:
            return
        messages._decode_short.cache_clear()
        messages._decode_long.cache_clear()
        world = self._beginnings[data[0] % len(self._beginnings)].copy()
        world.ends_at = world.now + MAX_SECONDS
        for kind, body in read_steps(data[1:])[:MAX_STEPS]:
            self._step(world, kind % len(StepKind), body)
            check_limits(world)
        world.losing = 0
        world.ends_at = world.now + REST_SECONDS
        world.run(most_seconds(world), int(REST_SECONDS * TURNS_PER_SECOND))
        check_limits(world)
        for member in world.members:
            if member.alive:
                assert member.engine.next_deadline() is not None, f"{member.identity} wants never to be called again"

    def _step(self, world: SmallWorld, kind: int, body: bytes) -> None:
        first = body[0] if body else 0
        second = body[1] if len(body) > 1 else 0
        member = world.members[first % 3]
        if kind == StepKind.PACKET and len(body) >= 4:
            packet = self._mended(world, member, body[2], body[3], body[4:])
            source = self._source(world, second)
            self._arrives(world, member, body[2], packet, source)
        elif kind == StepKind.RUN and len(body) >= 5:
            count = 2 + first % 40
            member = world.members[second % 3]
            packets = [self._mended(world, member, body[3], body[4] + index, body[5:]) for index in range(count)]
            source = self._source(world, body[2])
            run, size = b"".join(packets), len(packets[0])
            if size and (body[3] & AS_IT_CAME or member.engine._guard is None):
                world.turn(member, lambda engine, now: engine.run_received(run, size, source, now))
            elif size and is_data_run(run, size) and (arrived := split_run(run, size)) is not None:
                world.turn(member, lambda engine, now: engine._data_run(arrived, source, now))
        elif kind == StepKind.TIME:
            seconds = min((first << 8 | second) % 2000 / 1000, most_seconds(world))
            world.run(seconds, int((seconds + 0.1) * TURNS_PER_SECOND))
        elif kind == StepKind.SEND and member.alive:
            self._command(
                world, member, lambda: world.send(first % 3, bytes(min(8 * len(body) ** 2, 20_000)), Level(second % 6))
            )
        elif kind == StepKind.LOSE:
            world.losing = first
        elif kind == StepKind.AGAIN and world.wire:
            packet = world.wire[-1 - second % len(world.wire)]
            source = self._source(world, body[2] if len(body) > 2 else 0)
            world.receive(member, packet, source)
        elif kind == StepKind.SESSION and member.alive:
            self._session(world, member, second % 7)

    def _session(self, world: SmallWorld, member: Member, what: int) -> None:
        def change(engine: Engine, now: float) -> None:
            if what == 0:
                engine.join(member.session, "more", now)
            elif what == 1:
                engine.leave(member.session, GROUP, now)
            elif what == 2:
                engine.close_session(member.session, Reason.DISCONNECT, now)
            elif what == 3:
                engine.leave_cluster(now)
            elif what == 4:
                engine.rotate_key(now)
            elif what == 5:
                engine.clock_jumped(now)
            else:
                engine.send_private(member.session, "c", "abc"[int(now * 1000) % 3], b"\x01\x01\x02hi", Level.FIFO, now)

        self._command(world, member, lambda: world.turn(member, change))

    @staticmethod
    def _command(world: SmallWorld, member: Member, call: object) -> None:
        """A client's command, which may be refused."""
        assert callable(call)
        try:
            call()
        except MalformedPacket:
            raise
        except GroupcommError:
            world.turn(member, lambda engine, now: None)

    @staticmethod
    def _arrives(world: SmallWorld, member: Member, mode: int, packet: bytes, source: Address) -> None:
        """A packet that was sealed by a member and has been opened, or one that was not."""
        if mode & AS_IT_CAME:
            world.receive(member, packet, source)
        else:
            world.turn(member, lambda engine, now: engine._datagram(packet, source, now))

    @staticmethod
    def _source(world: SmallWorld, which: int) -> Address:
        return world.members[which % 4].address if which % 4 < 3 else (STRANGER[0], 9000 + which)

    @staticmethod
    def _mended(world: SmallWorld, member: Member, mode: int, offset: int, packet: bytes) -> bytes:
        """The packet with what only the moment of its arrival decides."""
        if len(packet) < HEADER_BYTES:
            return packet
        version, kind, flags, epoch, digest, sender, part, sequence = HEADER.unpack_from(packet)
        view = member.engine._view
        if mode & RIGHT_DIGEST:
            version, flags = VERSION, flags & ~SEALED
            if kind > LAST_OF_VIEW:
                digest = cluster_digest("default")
            elif view is not None:
                digest = view.setup.digest
        if mode & NEXT_NUMBER and view is not None and sender < len(view.streams) and kind <= LAST_NUMBERED:
            sequence = max(0, view.streams[sender].contiguous + 1 + offset - 8) & 0xFFFFFFFF
        return HEADER.pack(version, kind, flags, epoch, digest, sender, part, sequence) + packet[HEADER_BYTES:]

    # What a mutator makes.

    def seeds(self) -> list[bytes]:
        """Each captured packet, some time, and honest traffic after it."""
        seeds = []
        talk = [(StepKind.SEND, bytes((2, 4))), (StepKind.TIME, bytes((0, 20)))]
        for number, packet in enumerate(self._pool()):
            for begin in (number % len(self._beginnings), 0):
                step = (StepKind.PACKET, bytes((number % 3, (number + 1) % 3, RIGHT_DIGEST | NEXT_NUMBER, 8)) + packet)
                seeds.append(bytes((begin,)) + write_steps([step, *talk]))
        body = b"\x05" + bytes((0, 1, 3, 8)) + next(data for data in self._pool() if data[1] == Kind.DATA)
        seeds.append(b"\x00" + write_steps([(StepKind.RUN, body), *talk]))
        steps = [(StepKind.SESSION, bytes((who, what))) for who in range(2) for what in (0, 1, 2, 4, 5, 3)]
        seeds.append(
            b"\x00" + write_steps([(StepKind.LOSE, b"\x03"), *steps, (StepKind.AGAIN, b"\x00\x03\x01"), *talk])
        )
        return seeds

    def mutate(self, data: bytes, random: Random) -> bytes:
        """Packets like those of honest nodes with some fields changed, in another order, to others."""
        begin = data[:1] if data and random.randrange(8) else bytes((random.randrange(len(self._beginnings)),))
        return begin + mutate_steps(data[1:], random, self._fresh, self._changed)

    def _pool(self) -> list[bytes]:
        """Packets to begin with: captured ones, and those of the page on the wire format."""
        if not self._captured:
            self._captured = captured() + [vector.data for vector in VECTORS if vector.name.split()[0].isupper()]
        return self._captured

    def _fresh(self, random: Random) -> Step:
        way = random.randrange(10)
        if way < 6:
            head = bytes((random.randrange(3), random.randrange(4), random.choice((1, 3, 3, 3, 3, 7)), 8))
            return self._changed((StepKind.PACKET, head + random.choice(self._pool())), random)
        if way == 6:
            head = bytes((random.randrange(40), random.randrange(3), random.randrange(4), 3, 8))
            return StepKind.RUN, head + self._packet(random.choice(self._pool()), random)
        if way == 7:
            return StepKind.TIME, random.choice((1, 1, 2, 5, 10, 20, 60, 300, 1100)).to_bytes(2, "big")
        kind = random.choice((StepKind.SEND, StepKind.LOSE, StepKind.AGAIN, StepKind.SESSION))
        return kind, random.randbytes(random.choice((2, 3, 20)))

    def _changed(self, step: Step, random: Random) -> Step:
        kind, body = step
        head_bytes = 4 if kind == StepKind.PACKET else 5 if kind == StepKind.RUN else len(body)
        head, packet = bytearray(body[:head_bytes]), body[head_bytes:]
        if head and random.randrange(3) == 0:
            at = random.randrange(len(head))
            head[at] = random.choice((0, 1, 2, 3, 7, 8, 9, random.randrange(256)))
        return kind, bytes(head) + (self._packet(packet, random) if packet else b"")

    def _packet(self, packet: bytes, random: Random) -> bytes:
        """A packet with a few fields changed; its form is kept, mostly."""
        way = random.randrange(8)
        if way == 0 or len(packet) < HEADER_BYTES:
            return mutate_bytes(packet, random)
        if way == 1:
            return packet[:HEADER_BYTES] + mutate_bytes(packet[HEADER_BYTES:], random)
        if way == 2:
            return self._header(packet, random)
        try:
            return self._body(packet, random)
        except Exception:
            return mutate_bytes(packet, random)  # a value that cannot be written, or a packet that was none before

    @staticmethod
    def _header(packet: bytes, random: Random) -> bytes:
        version, kind, flags, epoch, digest, sender, part, sequence = HEADER.unpack_from(packet)
        way = random.randrange(6)
        if way == 0:
            flags ^= random.choice((FIRST, LAST, STAMPED, WANTS_STATUS, UNORDERED, SLOTTED))
        elif way == 1:
            sender = random.choice((0, 1, 2, 2, 3, 0xFFFF))
        elif way == 2:
            sequence = any_number(random) & 0xFFFFFFFF
        elif way == 3:
            part = random.choice((1, 2, 0x101, 0x102, 128, random.getrandbits(16)))
        elif way == 4:
            kind = random.choice(tuple(Kind))
        else:
            sequence = (sequence + random.choice((-2, -1, 1, 2, 40))) & 0xFFFFFFFF
        return HEADER.pack(version, kind, flags, epoch, digest, sender, part, sequence) + packet[HEADER_BYTES:]

    def _body(self, packet: bytes, random: Random) -> bytes:
        """The packet with one field of its value changed."""
        header = Header(packet)
        start = HEADER_BYTES + (STAMP_POSITION.size if header.kind == Kind.DATA and header.flags & STAMPED else 0)
        if header.kind in (Kind.DATA, Kind.UNRELIABLE):
            frames = [Frame.of(frame) for frame in parse_frames(0, 1, 1, packet[start:])]
            if not frames:
                return mutate_bytes(packet, random)
            at = random.randrange(len(frames))
            changed = self._value(frames[at], random)
            body = b"".join(encodable(changed if n == at else frame).encode() for n, frame in enumerate(frames))
        else:
            decode = BODIES.get(header.kind)
            value = decode(Reader(packet, start)) if decode else messages.decode_message(header.kind, packet[start:])
            body = encodable(self._value(value, random)).encode()
        return packet[:start] + body

    def _value(self, value: object, random: Random) -> object:
        """Another value of the same kind."""
        if isinstance(value, NodeId):
            return random.choice((*self._nodes, NodeId("z", 5), attrs.evolve(value, incarnation=value.incarnation + 1)))
        if isinstance(value, ViewId) or value is None:
            view = random.choice(self._views)
            return random.choice((view, attrs.evolve(view, epoch=view.epoch + random.choice((-1, 1, 1, 2, 1 << 20)))))
        if isinstance(value, bool):
            return not value
        if isinstance(value, enum.Enum):
            return random.choice(tuple(type(value)))
        if isinstance(value, int):
            return max(0, random.choice((value - 1, value + 1, value + 2, 0, any_number(random))))
        if isinstance(value, bytes):
            return mutate_bytes(value, random)
        if isinstance(value, str):
            return random.choice((value + "x", value[1:], "c", GROUP, "a", "b", "z"))
        if isinstance(value, tuple):
            items = list(value)
            way = random.randrange(5)
            at = random.randrange(len(items) + 1)
            if way == 0 and items:
                items.insert(at, random.choice(items))
            elif way == 1 and items:
                del items[at - 1]
            elif way == 2 and items:
                items.reverse()
            elif items:
                at %= len(items)
                items[at] = self._value(items[at], random)
            return tuple(items)
        if attrs.has(type(value)):
            name = random.choice([field.name for field in fields_of(value) if field.init])
            field = self._value(getattr(value, name), random)
            if name == "count" and isinstance(field, int):
                field %= 2 * MAX_NODES  # the size of a map, which is made
            changed: object = attrs.evolve(value, **{name: field})  # type: ignore[misc]
            return changed
        return value


def fields_of(value: object) -> tuple[attrs.Attribute[object], ...]:
    """The fields of a value of any attrs class."""
    fields: tuple[attrs.Attribute[object], ...] = type(value).__attrs_attrs__  # type: ignore[attr-defined]
    return fields


def most_seconds(world: SmallWorld) -> float:
    """How long to let it run: a shorter time with many packets missing, for each millisecond of that costs several."""
    views = [member.engine._view for member in world.members]
    missing = sum(stream.missing_count for view in views if view is not None for stream in view.streams)
    return min(GAPPED_SECONDS if missing > MANY_MISSING else MAX_SECONDS, world.ends_at - world.now)


def check_limits(world: SmallWorld) -> None:
    """What an engine holds and does at once is within its limits (X1)."""
    assert world.most_at_once <= MOST_AT_ONCE, f"{world.most_at_once} datagrams in one turn"
    for member in world.members:
        engine = member.engine
        status = engine.status(world.now)
        most_queued = CONFIGS[0].budget_bytes // 4 + 2 * MAX_FRAME_BYTES
        assert status.queued_bytes <= most_queued, f"{status.queued_bytes} bytes queued"
        for peer in status.peers:
            assert peer.unstable_packets <= MAX_STREAM_PACKETS, f"{peer.unstable_packets} packets held"
        assert len(engine._membership.peers._by_node) <= MAX_STRANGERS + len(world.members)
        assert len(engine._assembler._partial) <= MAX_CONTROL_ASSEMBLIES
        assert engine._assembler._size <= MAX_CONTROL_ASSEMBLY_BYTES + CONFIGS[0].mtu_bytes
        if engine._view is not None:
            for stream in engine._view.streams:
                assert stream.missing_count <= MAX_MISSING, f"{stream.missing_count} packets missing"


TARGET = EngineTarget()
