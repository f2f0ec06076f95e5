"""Fragments never finished, overlapping, of changing totals: parts of membership messages and of large frames."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from groupcomm.config import EngineConfig
from groupcomm.errors import MalformedPacket
from groupcomm.events import Level
from groupcomm.limits import (
    MAX_CONTROL_ASSEMBLIES,
    MAX_CONTROL_ASSEMBLY_BYTES,
    MAX_CONTROL_PARTS,
    MAX_FRAME_BYTES,
)
from groupcomm.ordering.assembly import Assembly
from groupcomm.outputs import Address
from groupcomm.paths.pieces import is_piece
from groupcomm.testing.cluster import Cluster
from groupcomm.testing.oracle import check
from groupcomm.wire.codec import cluster_digest
from groupcomm.wire.packets import FIRST, LAST, NO_SENDER, UNORDERED, Kind, encode
from tests.hostile.attacker import HostileCase, group_frame, join_of, message_packets


class MessagePartTests(HostileCase):
    """Parts of membership messages."""

    def part(self, number: int, index: int, count: int, body: bytes = b"x" * 1300) -> bytes:
        """A part of a JOIN."""
        return encode(Kind.JOIN, cluster_digest("default"), NO_SENDER, number, body, part=index << 8 | count)

    def test_never_finished(self) -> None:
        """Ten thousand first parts are held up to their number; an honest message of many parts still comes."""
        node = self.nodes[0]
        self.feed(node, [self.part(number, 0, 2) for number in range(10 * MAX_CONTROL_ASSEMBLIES)])
        assembler = self.engine(node)._assembler
        self.assertEqual(len(assembler._partial), MAX_CONTROL_ASSEMBLIES)
        self.assert_goes_on()
        before = self.membership(node)._attempt
        for data in message_packets(join_of(self.identities[1], self.identities, attempt=before), size=60):
            self.attacker.send(data, node, source=self.nodes[1].address)
        self.assert_goes_on()

    def test_parts_added_to_old_messages(self) -> None:
        """Bytes added to messages begun long ago count like those of new ones."""
        node = self.nodes[0]
        assembler = self.engine(node)._assembler
        for index in range(MAX_CONTROL_PARTS - 1):
            packets = [self.part(number, index, MAX_CONTROL_PARTS, bytes(60_000)) for number in range(20)]
            self.feed(node, packets)
            self.assertLessEqual(assembler._size, MAX_CONTROL_ASSEMBLY_BYTES)
            held = sum(len(part) for parts in assembler._partial.values() for part in parts if part is not None)
            self.assertEqual(held, assembler._size)
        self.assert_goes_on()

    def test_totals_that_change(self) -> None:
        """Parts that disagree on their count, or are beyond it, are malformed, one by one."""
        node, before = self.nodes[0], self.counter(self.nodes[0], "malformed")
        self.feed(node, [self.part(1, 0, 3)])
        wrong = [(0, 2), (1, 4), (3, 3), (200, 3), (0, 0), (5, 0), (0, MAX_CONTROL_PARTS + 1), (255, 255)]
        self.feed(node, [self.part(1, index, count) for index, count in wrong])
        self.assertEqual(self.counter(node, "malformed") - before, len(wrong))
        self.assert_goes_on()

    def test_overlapping(self) -> None:
        """A part that comes again with other bytes takes the place of the first: nothing is counted twice."""
        node = self.nodes[0]
        assembler = self.engine(node)._assembler
        for size in (1, 60_000, 0, 1300, 65_000, 7):
            self.feed(node, [self.part(1, 0, 2, bytes(size))])
            self.assertEqual(assembler._size, size)
        before = self.counter(node, "malformed")
        self.feed(node, [self.part(1, 1, 2, b"")])
        self.assertEqual((assembler._size, self.counter(node, "malformed") - before), (0, 1))
        self.assert_goes_on()


class PieceTests(HostileCase):
    """Pieces of datagrams, which have no seal: what they make up has."""

    def piece(self, number: int, index: int, count: int, body: bytes) -> bytes:
        """A piece."""
        return encode(Kind.PIECE, cluster_digest("default"), NO_SENDER, number, body, part=index << 8 | count)

    def test_never_finished(self) -> None:
        """Whatever begins and never ends is held up to a number, and up to a size; honest pieces still come."""
        node = self.nodes[0]
        assembler = self.engine(node)._pieces._assembler
        self.feed(node, [self.piece(number, 0, 2, bytes(1200)) for number in range(3 * MAX_CONTROL_ASSEMBLIES)])
        self.assertEqual(len(assembler._partial), MAX_CONTROL_ASSEMBLIES)
        self.feed(node, [self.piece(number, 0, 100, bytes(60_000)) for number in range(400)])
        self.assertLessEqual(assembler._size, MAX_CONTROL_ASSEMBLY_BYTES)
        self.assert_goes_on()
        whole = self.own_beacon()
        before = self.counter(node, "datagrams_received")
        for index, body in enumerate((whole[:30], whole[30:])):
            self.attacker.send(self.piece(7, index, 2, body), node, source=self.nodes[1].address)
        self.cluster.run(0.01)
        self.assertGreater(self.counter(node, "datagrams_received"), before)
        self.assert_goes_on()

    def own_beacon(self) -> bytes:
        """A beacon of another node, as it would send it."""
        beacon = self.membership(self.nodes[1])._own_beacon(self.nodes[1].local_now(), reply=False)
        (packet,) = message_packets(beacon)
        return packet

    def test_pieces_of_pieces_and_of_nothing(self) -> None:
        """What is a piece when it is whole, empty, or no packet at all, has no effect but to be counted."""
        node = self.nodes[0]
        inner = self.piece(1, 0, 1, b"x")
        before = self.counter(node, "malformed")
        self.feed(node, [self.piece(2, 0, 1, inner), self.piece(3, 0, 1, b""), self.piece(4, 0, 1, b"garbage")])
        self.feed(node, [self.piece(5, 3, 2, b"x"), self.piece(5, 0, 0, b"x"), self.piece(5, 0, 255, b"x")])
        self.assertEqual(self.counter(node, "malformed") - before, 5)
        self.assert_goes_on()


class SealedPieceTests(SynchronousTestCase):
    """Recorded pieces, in a cluster with a key."""

    def test_pieces_again(self) -> None:
        """Pieces that were sent once make up a datagram that came once: it is dropped unopened, and nothing is lost."""
        cluster = Cluster(seed=3, config=EngineConfig(key=bytes(range(32))), link_bytes=[1472])
        nodes = cluster.add_nodes("a", "b", "c")
        cluster.run_until(cluster.converged, 10.0)
        clients = [node.open("c") for node in nodes]
        for client in clients:
            client.join("chat")
        cluster.run_until(lambda: all(client.view("chat") is not None for client in clients), 5.0)
        recorded: list[tuple[bytes, Address]] = []
        cluster.network.watcher = lambda data, source: recorded.append((data, source)) if is_piece(data) else None
        cluster.shrink("c", 1300)
        for number in range(20):
            clients[0].send("chat", b"%d" % number + bytes(5000))
            cluster.run(0.05)
        cluster.run_until(lambda: all(len(client.messages("chat")) == 20 for client in clients), 10.0)
        self.assertGreater(len(recorded), 10)
        before = nodes[2].status().counters.get("replayed", 0)
        for data, source in recorded:
            nodes[2]._datagram_arrived(data, source)
        cluster.run(0.2)
        self.assertGreater(nodes[2].status().counters["replayed"] - before, len(recorded) // 4)
        clients[0].send("chat", b"after")
        cluster.run_until(lambda: all(client.messages("chat")[-1:] == [b"after"] for client in clients), 5.0)
        self.assertEqual([len(client.messages("chat")) for client in clients], [21] * 3)
        check(cluster.trace)


class FrameInPartsTests(HostileCase):
    """Parts of frames in a member's own stream."""

    def say(self, *packets: tuple[int, bytes]) -> None:
        """Node ``b`` puts data packets with these flags and bodies into its stream."""
        view = self.view(self.nodes[1])

        def emit() -> None:
            for flags, body in packets:
                view._emit(Kind.DATA, body, flags)
            view._advance(self.index(self.nodes[1]))

        self.nodes[1].command(lambda engine, now: emit())
        self.cluster.run(0.05)

    def test_never_finished(self) -> None:
        """A frame that begins, again and again, and never ends holds one frame's bytes; what follows is delivered."""
        for _ in range(200):
            self.say((FIRST, bytes(1300)), *[(0, bytes(1300))] * 9)
        assembly = self.view(self.nodes[0])._assemblies[1]
        self.assertEqual(assembly._size, 13_000)
        self.assert_goes_on()
        self.assertEqual(assembly._size, 0)

    def test_middles_without_a_beginning(self) -> None:
        """Parts of a frame that never began are dropped; a last part without a first delivers nothing."""
        self.say((0, b"x"), (LAST, group_frame()), (0, b"y"), (LAST, group_frame()), (UNORDERED, b"z"))
        self.assertEqual(self.view(self.nodes[0])._assemblies[1]._size, 0)
        self.assertEqual([client.messages("chat") for client in self.clients], [[], [], []])
        self.assert_goes_on()

    def test_a_frame_that_begins_inside_another(self) -> None:
        """A first part ends what was begun before it; only the whole frame is delivered, once."""
        frame = group_frame(level=Level.FIFO, group_position=3)
        self.say((FIRST, bytes(1300)), (0, bytes(1300)), (FIRST, frame[:5]), (LAST, frame[5:]))
        self.assertEqual([client.messages("chat") for client in self.clients], [[b"forged"]] * 3)
        self.assert_goes_on(oracle=False)

    def test_reliable_parts_ahead_of_a_gap(self) -> None:
        """Overlapping parts beyond a gap, of which every one says to be unordered, deliver a frame once."""
        frame = group_frame(level=Level.RELIABLE, group_position=3)
        view = self.view(self.nodes[0])
        stream = view.streams[1]
        first = stream.contiguous + 1
        parts = [(FIRST, frame[:4]), (0, frame[4:8]), (LAST, frame[8:]), (FIRST | LAST, frame)]
        packets = [
            encode(Kind.DATA, view.setup.digest, 1, first + 1 + number, body, flags=flags | UNORDERED)
            for number, (flags, body) in enumerate(parts)
        ]
        for data in [*reversed(packets), *packets]:
            self.attacker.send(data, self.nodes[0])
        self.cluster.run(0.1)
        self.assertEqual(self.clients[0].messages("chat"), [b"forged"] * 2)
        self.engine(self.nodes[0]).check_invariants()

    def test_the_largest_frame(self) -> None:
        """Parts that add up to more than the largest frame are dropped, and counted as one violation."""
        assembly = Assembly(0)
        self.assertEqual(assembly.packet(1, FIRST, bytes(1 << 20)), [])
        for number in range(2, 17):
            self.assertEqual(assembly.packet(number, 0, bytes(1 << 20)), [])
        self.assertEqual(assembly._size, MAX_FRAME_BYTES - 8192)
        with self.assertRaisesRegex(MalformedPacket, "larger than allowed"):
            assembly.packet(17, 0, bytes(8193))
        self.assertEqual((assembly._size, assembly.first), (0, 0))
