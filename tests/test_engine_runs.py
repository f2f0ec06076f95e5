"""Packets that come at once are the same to a node as packets that come one by one."""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from random import Random
from typing import ClassVar

from twisted.trial.unittest import SynchronousTestCase

from groupcomm.config import EngineConfig
from groupcomm.engine import Engine
from groupcomm.events import Level
from groupcomm.identity import NodeId
from groupcomm.membership.groups import group_address
from groupcomm.ordering import assembly
from groupcomm.ordering.frames import FrameType, Outgoing
from groupcomm.outputs import Address, Datagram, FrameDelivered, Output
from groupcomm.packing import pack_messages
from groupcomm.wire.packets import (
    FIRST,
    HEADER_BYTES,
    LAST,
    SEALED,
    STAMP_POSITION,
    STAMPED,
    Header,
    Kind,
    Nack,
    Range,
    encode,
    widen,
)

MTU = EngineConfig().mtu_bytes
NAMES = ("a", "b", "c")
UNHINDERED = (Level.RELIABLE, Level.FIFO, Level.CAUSAL, Level.AGREED)
"""What node b delivers when it hears node a alone."""


def address_of(name: str) -> Address:
    """A node's own socket."""
    return f"10.0.0.{ord(name)}", 4874


class World:
    """Three nodes in one view on a network without faults; node a sends."""

    def __init__(self, config: EngineConfig) -> None:
        self.now = 100.0
        self.engines = {name: Engine(config, NodeId(name, 1), Random(name), self.now) for name in NAMES}
        self.outputs: dict[str, list[Output]] = {name: [] for name in NAMES}
        for engine in self.engines.values():
            engine.start(self.now)
        self.run_until_all_are_in()
        self.sessions = {name: self.engines[name].open_session("app", self.now) for name in NAMES}
        for name, session in self.sessions.items():
            self.engines[name].join(session, "g", self.now)
        self.settle()
        self.open_window()

    def run_until_all_are_in(self) -> None:
        for _ in range(100_000):
            views = {engine.status(self.now).members for engine in self.engines.values()}
            if len(views) == 1 and len(views.pop()) == len(NAMES) and not any(self.blocked()):
                return
            self.step()
        raise AssertionError("no view")

    def blocked(self) -> Iterator[bool]:
        return (engine.blocked for engine in self.engines.values())

    def step(self) -> None:
        """Let time pass to the next deadline."""
        self.now = min(engine.next_deadline() or self.now for engine in self.engines.values())
        for engine in self.engines.values():
            deadline = engine.next_deadline()
            if deadline is not None and deadline <= self.now:
                engine.handle_timeout(self.now)
        self.pass_on()

    def settle(self) -> None:
        """A second in which everybody hears everything."""
        for engine in self.engines.values():
            engine.burst_ended(self.now)
        self.pass_on()
        end = self.now + 1.0
        while self.now < end:
            self.step()

    def open_window(self) -> None:
        """Node a sends until it may have a MiB under way."""
        engine = self.engines["a"]
        for _ in range(100):
            if engine.status(self.now).window_bytes >= 1 << 20:
                return
            for _ in range(6):
                engine.send(self.sessions["a"], ["g"], bytes(500_000), Level.FIFO, self.now)
            self.settle()
        raise AssertionError("the window stays small")

    def pass_on(self) -> None:
        """Every datagram reaches everybody at once."""
        for _ in range(1000):
            sent = [(name, each) for name in NAMES for each in self.engines[name].datagrams_to_send(self.now)]
            if not sent:
                break
            for name, datagram in sent:
                for other in NAMES:
                    if datagram.destination in (None, address_of(other)) and other != name:
                        for piece in datagram.pieces:
                            self.engines[other].datagram_received(piece, address_of(name), self.now)
            for engine in self.engines.values():
                engine.burst_ended(self.now)
        for name, engine in self.engines.items():
            self.outputs[name] += engine.take_outputs()

    def sent(self, random: Random, frames: int) -> list[bytes]:
        """The datagrams in which node a sends frames of all sizes and levels, in their order; the last is SAFE."""
        engine, session = self.engines["a"], self.sessions["a"]
        datagrams: list[bytes] = []
        for number in range(1, frames + 1):
            level = random.choice(UNHINDERED) if number < frames else Level.SAFE
            size = random.choice((0, 1, 500, MTU - 60, 3 * MTU, 20 * MTU, 60 * MTU + random.randrange(MTU)))
            engine.send(session, ["g"], random.randbytes(size), level, self.now, stable=random.random() < 0.2)
            if random.random() < 0.5:
                engine.flush(self.now)
        engine.burst_ended(self.now)
        for datagram in engine.datagrams_to_send(self.now):
            datagrams += datagram.pieces
        return datagrams


def divided(packets: list[bytes], random: Random) -> list[list[bytes]]:
    """Packets as a kernel may join them: one size but for the last of each, which may be shorter."""
    runs: list[list[bytes]] = []
    for packet in packets:
        run = runs[-1] if runs else []
        if run and len(packet) <= len(run[0]) == len(run[-1]) and len(run) < 64 and random.random() < 0.95:
            run.append(packet)
        else:
            runs.append([packet])
    return runs


class Receiver:
    """A node that gets packets."""

    def __init__(self, engine: Engine, source: Address) -> None:
        self.engine = engine
        self.source = source
        self.outputs: list[Output] = []
        self.datagrams: list[Datagram] = []

    def one_by_one(self, packets: list[bytes], now: float) -> None:
        for packet in packets:
            self.engine.datagram_received(packet, self.source, now)

    def together(self, packets: list[bytes], now: float) -> None:
        if len(packets) == 1:
            self.engine.datagram_received(packets[0], self.source, now)
        else:
            self.engine.run_received(b"".join(packets), len(packets[0]), self.source, now)

    def turn(self, now: float) -> None:
        deadline = self.engine.next_deadline()
        if deadline is not None and deadline <= now:
            self.engine.handle_timeout(now)
        self.engine.burst_ended(now)
        self.engine.check_invariants()
        self.outputs += self.engine.take_outputs()
        self.datagrams += self.engine.datagrams_to_send(now)


class RunCase(SynchronousTestCase):
    """Node b hears node a, once in runs and once packet by packet."""

    config = EngineConfig()

    worlds: ClassVar[dict[EngineConfig, World]] = {}

    def setUp(self) -> None:
        if self.config not in self.worlds:
            self.worlds[self.config] = World(self.config)
        self.world = deepcopy(self.worlds[self.config])
        self.now = self.world.now
        engine = self.world.engines["b"]
        self.single = Receiver(deepcopy(engine), address_of("a"))
        self.joined = Receiver(deepcopy(engine), address_of("a"))

    def hear(self, packets: list[bytes], random: Random) -> None:
        """A burst of some runs, and what it causes."""
        for run in divided(packets, random):
            self.single.one_by_one(run, self.now)
            self.joined.together(run, self.now)
            if random.random() < 0.3:
                self.turn()

    def turn(self) -> None:
        for receiver in (self.single, self.joined):
            receiver.turn(self.now)
        self.assert_same()

    def assert_same(self) -> None:
        self.assertEqual(self.joined.outputs, self.single.outputs)
        self.assertEqual(self.joined.datagrams, self.single.datagrams)
        self.assertEqual(self.joined.engine.status(self.now), self.single.engine.status(self.now))
        self.assertEqual(self.joined.engine.next_deadline(), self.single.engine.next_deadline())

    def frames(self) -> int:
        return len([each for each in self.joined.outputs if isinstance(each, FrameDelivered)])


def data_headers(packets: list[bytes]) -> list[Header]:
    """The headers of the data among some packets."""
    return [header for header in map(Header, packets) if header.kind == Kind.DATA]


class SameTests(RunCase):
    """Everything that can be seen of the node is the same."""

    def test_nothing_is_lost(self) -> None:
        """Frames of all levels and sizes, however the packets are joined."""
        random = Random(1)
        packets = self.world.sent(random, 30)
        self.assertGreater(len(packets), 100)
        self.hear(packets, random)
        self.now += 0.01
        self.turn()
        self.assertGreater(self.frames(), 20)
        for _ in range(100):
            self.now += 0.02
            self.turn()

    def test_loss_duplicates_and_reordering(self) -> None:
        """With packets missing, doubled and late, the same is asked for, and the same is there in the end."""
        for seed in range(10):
            self.setUp()
            random = Random(seed)
            packets = self.world.sent(random, 20)
            faulty: list[bytes] = []
            late: list[bytes] = []
            for packet in packets:
                chance = random.random()
                if chance < 0.03:
                    continue
                if chance < 0.06:
                    late.append(packet)
                    continue
                faulty.append(packet)
                if chance > 0.97:
                    faulty.append(packet)
                if late and random.random() < 0.2:
                    faulty.append(late.pop(0))
            self.hear(faulty, random)
            self.now += 0.002
            self.hear(late, random)
            self.turn()
            self.now += 0.05
            self.hear(packets, random)
            self.turn()
            self.assertGreater(self.frames(), 15)

    def test_whole_runs_are_lost(self) -> None:
        """Runs that come behind a gap, and the gap in another run later."""
        random = Random(3)
        for _ in range(10):
            self.setUp()
            runs = divided(self.world.sent(random, 10), random)
            random.shuffle(runs)
            for run in runs:
                self.now += 0.0004
                self.single.one_by_one(run, self.now)
                self.joined.together(run, self.now)
                self.turn()
            self.assertGreater(self.frames(), 7)

    def test_others_among_them(self) -> None:
        """Packets of other kinds, streams, views and versions, sealed and short ones, anywhere in what came at once."""
        random = Random(4)
        packets = self.world.sent(random, 20)
        digest = data_headers(packets)[0].digest
        size = max(map(len, packets))
        body = bytes(size - HEADER_BYTES)
        strange = [
            encode(Kind.STAMP, digest, 0, 1, body),
            encode(Kind.DATA, digest, 1, 1, body, flags=3),
            encode(Kind.DATA, digest, 2, 1, body, flags=3),
            encode(Kind.DATA, digest, 77, 1, body),
            encode(Kind.DATA, digest ^ 1, 0, 1, body),
            encode(Kind.DATA, digest, 0, 1, body, flags=SEALED),
            encode(Kind.BEACON, digest, 0, 1, body, part=1),
            b"\x07" + bytes(size - 1),
            random.randbytes(size),
            packets[0][:HEADER_BYTES],
            b"x",
        ]
        mixed: list[bytes] = []
        for packet in packets:
            mixed.append(packet)
            if random.random() < 0.15:
                mixed.append(random.choice(strange))
        self.hear(mixed, random)
        self.now += 0.01
        self.turn()
        self.assertGreater(self.frames(), 12)

    def test_sealed_ones_among_them(self) -> None:
        """A sealed packet is no data to a node without keys, also among others that are."""
        random = Random(8)
        mixed: list[bytes] = []
        for packet in self.world.sent(random, 20):
            if random.random() < 0.05:
                mixed.append(packet[:2] + bytes([packet[2] | SEALED]) + packet[3:])
            mixed.append(packet)
        self.hear(mixed, random)
        self.turn()
        self.assertGreater(self.frames(), 15)

    def test_runs_of_others(self) -> None:
        """Whole runs of another view, in the name of this node, of a node that is not there, and of a silent node."""
        packets = self.world.sent(Random(7), 20)
        header = data_headers(packets)[0]
        for digest, sender in ((header.digest ^ 1, 0), (header.digest, 1), (header.digest, 77), (header.digest, 2)):
            for first in (header.sequence, header.sequence + 50, 1 << 31):
                run = [encode(Kind.DATA, digest, sender, first + index, b"\0" * 99, flags=3) for index in range(20)]
                self.single.one_by_one(run, self.now)
                self.joined.together(run, self.now)
                self.turn()
        counters = self.joined.engine.status(self.now).counters
        self.assertEqual((counters["foreign_view"], counters["malformed"]), (60, 60))
        self.hear(packets, Random(7))
        self.turn()
        self.assertGreater(self.frames(), 15)

    def test_broken_ones_among_them(self) -> None:
        """What is too short for the place it says it has, or a frame too large, costs nothing that follows it."""
        view = self.world.engines["b"]._view
        assert view is not None
        address = group_address(1, "app", ("g",))
        frame = Outgoing(1, 1, FrameType.GROUP, Level.FIFO, pack_messages([b"hi"]), address=address)
        whole = frame.encode(view.position, 0, 0, ())
        zeros = bytes(len(whole))
        self.patch(assembly, "MAX_FRAME_BYTES", 3 * len(whole))
        too_large = ((FIRST, zeros), *((0, zeros) for _ in range(8)), (FIRST | LAST, whole))
        too_short = ((STAMPED, zeros[:2]), (FIRST | LAST | STAMPED, zeros[:3]), (FIRST | LAST, whole))
        number = view.streams[0].contiguous + 1
        for parts in (too_large, too_short[:1], too_short[1:2], too_short[2:], too_large + too_short[:1]):
            packets = [
                encode(Kind.DATA, view.setup.digest, 0, number + index, body, flags=flags)
                for index, (flags, body) in enumerate(parts)
            ]
            number += len(packets)
            self.single.one_by_one(packets, self.now)
            self.joined.together(packets, self.now)
            self.turn()
        self.assertEqual(self.frames(), 3)
        self.assertEqual(self.joined.engine.status(self.now).counters["peer_violations"], 5)

    def test_a_frame_that_does_not_end(self) -> None:
        """Whatever begins next ends it, also a small message that can be delivered the moment it comes."""
        view = self.world.engines["b"]._view
        assert view is not None
        address, position = group_address(1, "app", ("g",)), view.position
        bodies = [
            Outgoing(1, 1, FrameType.GROUP, level, pack_messages([b"hi"]), address=address).encode(
                position, 100, position, ()
            )
            for level in (Level.FIFO, Level.AGREED)
        ]
        small = STAMP_POSITION.pack(position + 1) + bodies[1]
        parts = (FIRST, bodies[0][:9]), (FIRST | LAST | STAMPED, small), (LAST, bodies[0][9:])
        number = view.streams[0].contiguous + 1
        for flags, body in parts:
            packet = encode(Kind.DATA, view.setup.digest, 0, number, body, flags=flags)
            self.single.one_by_one([packet], self.now)
            self.joined.engine.run_received(packet, len(packet), address_of("a"), self.now)
            number += 1
        self.turn()
        self.assertEqual(self.frames(), 1)

    def test_repairs(self) -> None:
        """What came in runs is repaired for others as it was sent, also where only parts of the runs have come."""
        for seed in range(5):
            self.setUp()
            random = Random(seed)
            packets = self.world.sent(random, 40)
            self.hear([packet for packet in packets if random.random() < 0.98], random)
            self.turn()
            headers = data_headers(packets)
            first, last = self.number(headers[0].sequence), self.number(headers[-1].sequence)
            begin = random.randint(first, last - 60)
            nack = Nack(0, 1, (Range(begin, begin + 30), Range(last - 9, last)))
            data = encode(Kind.NACK, headers[0].digest, 2, 0, nack.encode())
            for receiver in (self.single, self.joined):
                receiver.datagrams.clear()
                receiver.engine.datagram_received(data, address_of("c"), self.now)
            for _ in range(20):
                self.now += 0.001
                self.turn()
            repairs = {each.data for each in self.joined.datagrams if Header(each.data).kind == Kind.DATA}
            self.assertGreater(len(repairs), 30)
            self.assertEqual(repairs - set(packets), set())

    def number(self, low: int) -> int:
        """The number of a packet by its low 32 bits."""
        return widen(low, self.config.first_packet_number)

    def test_a_frozen_view(self) -> None:
        """A node that has answered a proposal takes nothing more, in runs or singly."""
        random = Random(5)
        packets = self.world.sent(random, 20)
        self.hear(packets[:40], random)
        for receiver in (self.single, self.joined):
            receiver.engine.freeze()
        self.hear(packets[40:], random)
        self.turn()
        self.assertGreater(self.joined.engine.status(self.now).counters["frozen_dropped"], 0)

    def test_a_node_without_a_view(self) -> None:
        """To a node that is in no view, or in another one, they are packets of a foreign view."""
        random = Random(6)
        packets = self.world.sent(random, 20)
        self.single, self.joined = (
            Receiver(Engine(self.config, NodeId("x", 1), Random(1), self.now), address_of("a")) for _ in range(2)
        )
        for receiver in (self.single, self.joined):
            receiver.engine.start(self.now)
        self.hear(packets, random)
        self.turn()
        self.assertEqual(self.joined.engine.status(self.now).counters["foreign_view"], len(packets))


class LateNumbersTests(SameTests):
    """The same where the low 32 bits of the numbers begin anew in the middle of what is sent."""

    def setUp(self) -> None:
        if self.config.first_packet_number == 0:
            before = data_headers(World(EngineConfig()).sent(Random(1), 5))[0].sequence
            type(self).config = EngineConfig(first_packet_number=(1 << 32) - before - 60)
        super().setUp()

    def test_numbers_begin_anew(self) -> None:
        """What is sent has numbers on both sides."""
        numbers = [header.sequence for header in data_headers(self.world.sent(Random(1), 30))]
        self.assertEqual(numbers[0], (1 << 32) - 60)
        self.assertEqual((min(numbers), max(numbers)), (0, (1 << 32) - 1))
