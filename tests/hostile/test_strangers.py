"""Whoever can reach the sockets sends what it likes: the group goes on, everything is counted, nothing grows."""

from __future__ import annotations

import random
from collections.abc import Callable

from groupcomm.events import Level
from groupcomm.identity import NodeId
from groupcomm.limits import MAX_CONTROL_ASSEMBLIES, MAX_MISSING, MAX_STRANGERS
from groupcomm.outputs import Address
from groupcomm.testing.node import SimulatedNode
from groupcomm.testing.oracle import check
from groupcomm.wire.codec import cluster_digest
from groupcomm.wire.messages import Beacon, cut
from groupcomm.wire.packets import FIRST, LAST, NO_SENDER, SEALED, STAMPED, Header, Kind, Tail, encode
from tests.hostile.attacker import STRANGER, HostileCase


class AttackCase(HostileCase):
    """Three nodes, a client on each, and a stranger with a socket."""

    def setUp(self) -> None:
        super().setUp()
        self.random = random.Random(11)

    def inject(self, node: SimulatedNode, data: bytes, source: Address = STRANGER) -> None:
        """The stranger's datagram reaches one node."""
        node._datagram_arrived(data, source)

    def talk_while(self, attack: Callable[[], None], rounds: int = 50) -> None:
        """Messages flow while ``attack`` is called once a round; then all is delivered and every property holds."""
        before = [node.status().view for node in self.nodes]
        for turn in range(rounds):
            attack()
            for client in self.clients:
                client.send("chat", b"%d from %s" % (turn, str(client.member).encode()), level=Level.AGREED)
            self.cluster.run(0.01)
        self.cluster.run(1.0)
        for client in self.clients:
            self.assertEqual(len(client.messages("chat")), 3 * rounds)
        self.assertEqual([node.status().view for node in self.nodes], before)
        check(self.cluster.trace, settled=[node.identity for node in self.nodes])


class GarbageTests(AttackCase):
    def test_random_bytes_are_counted_and_dropped(self) -> None:
        """Datagrams of random bytes of every size are counted one by one and change nothing."""
        sent = 0

        def attack() -> None:
            nonlocal sent
            for size in (0, 1, 19, 20, 21, 100, 1400):
                data = bytes([2]) + self.random.randbytes(size - 1) if size else b""
                self.inject(self.nodes[0], data)
                sent += 1

        before = self.counter(self.nodes[0], "malformed")
        self.talk_while(attack)
        self.assertEqual(self.counter(self.nodes[0], "malformed") - before, sent)

    def test_truncated_packets_are_counted_and_dropped(self) -> None:
        """Every truncation of a beacon of the cluster itself is malformed, and counted as that."""
        beacon = Beacon(NodeId("z", 1), None, 0, 1, False, False, ())
        whole = cut(Kind.BEACON, cluster_digest("default"), 1, beacon.encode(), 1400)[0]
        before = self.counter(self.nodes[0], "malformed")

        def attack() -> None:
            for size in range(len(whole)):
                self.inject(self.nodes[0], whole[:size])

        self.talk_while(attack, rounds=5)
        self.assertEqual(self.counter(self.nodes[0], "malformed") - before, 5 * len(whole))

    def test_another_cluster_is_counted_and_not_heard(self) -> None:
        """Beacons of a cluster of another name are counted and make no stranger known."""
        beacon = Beacon(NodeId("z", 1), None, 0, 1, False, True, ())
        data = cut(Kind.BEACON, cluster_digest("other"), 1, beacon.encode(), 1400)[0]
        before = self.counter(self.nodes[0], "foreign_cluster")
        sent = self.counter(self.nodes[0], "datagrams_sent")
        self.inject(self.nodes[0], data)
        self.cluster.run(0.001)
        self.assertEqual(self.counter(self.nodes[0], "foreign_cluster") - before, 1)
        self.assertLessEqual(self.counter(self.nodes[0], "datagrams_sent") - sent, 1)
        self.talk_while(lambda: self.inject(self.nodes[0], data))
        self.assertEqual(self.counter(self.nodes[0], "foreign_cluster") - before, 51)

    def test_packets_of_another_view_are_counted_and_dropped(self) -> None:
        """Data under the digest of no view of ours is counted; it reaches nobody."""
        data = encode(Kind.DATA, 12345, 0, 1, b"\x02\x01\x00", flags=FIRST | LAST)
        before = self.counter(self.nodes[1], "foreign_view")
        self.talk_while(lambda: self.inject(self.nodes[1], data))
        self.assertEqual(self.counter(self.nodes[1], "foreign_view") - before, 50)

    def test_sealed_packets_are_counted_and_dropped(self) -> None:
        """A packet sealed under a key that nobody has is counted and costs nothing else."""
        data = encode(Kind.DATA, 0, 0, 1, b"x" * 100, flags=SEALED)
        before = self.counter(self.nodes[1], "sealed")
        self.talk_while(lambda: self.inject(self.nodes[1], data))
        self.assertEqual(self.counter(self.nodes[1], "sealed") - before, 50)


class RunTests(AttackCase):
    """Several datagrams at once, which the kernel of one of the nodes joins."""

    def setUp(self) -> None:
        super().setUp()
        self.node = next(node for node in self.nodes if node.receive_offload)
        self.digest = self.view(self.node).setup.digest
        members = self.view(self.node).setup.members
        self.other = next(index for index, node in enumerate(members) if node != self.node.identity)

    def inject_all(self, packets: list[bytes]) -> None:
        for data in packets:
            self.inject(self.node, data)

    def test_each_of_a_run_is_counted(self) -> None:
        """Empty datagrams, random bytes, sealed packets and such of another view count one by one, in any mixture."""
        foreign = encode(Kind.DATA, 12345, 0, 1, bytes(80), flags=FIRST | LAST)
        sealed = encode(Kind.DATA, self.digest, self.other, 1, bytes(80), flags=SEALED)
        names = ("malformed", "foreign_view", "sealed")
        before = [self.counter(self.node, name) for name in names]

        def attack() -> None:
            for kind in ([b""], [b"\x02" * 100], [foreign], [sealed], [foreign, sealed, b"\x02" * 100, b""]):
                self.inject_all(kind * 5)

        self.talk_while(attack, rounds=20)
        grown = [self.counter(self.node, name) - count for name, count in zip(names, before, strict=True)]
        self.assertEqual(grown, [20 * 20, 20 * 10, 20 * 10])

    def test_a_run_far_ahead_makes_no_gaps(self) -> None:
        """Forged packets a million numbers ahead are counted one by one and ask for nothing."""
        nacks = self.counter(self.node, "nacks_sent")
        forged = [
            encode(Kind.DATA, self.digest, self.other, 1_000_000 + number, bytes(50), flags=FIRST | LAST)
            for number in range(20)
        ]
        self.inject_all(forged)
        self.cluster.run(1.0)
        self.assertEqual(self.counter(self.node, "too_far_ahead"), 20)
        self.assertEqual(self.counter(self.node, "nacks_sent"), nacks)

    def test_runs_that_come_again(self) -> None:
        """Everything that was ever sent, sent again at any time, counts as duplicates and is delivered once."""
        kept: list[bytes] = []
        self.cluster.network.watcher = lambda data, source: kept.append(data)
        self.clients[0].send("chat", b"x" * 50_000)
        self.cluster.run(0.1)
        self.cluster.network.watcher = None
        numbered = [data for data in kept if Header(data).kind == Kind.DATA]
        self.assertGreater(len(numbered), 30)
        got = [len(client.messages("chat")) for client in self.clients]
        for _ in range(5):
            self.random.shuffle(numbered)
            self.inject_all(numbered)
            self.cluster.run(0.01)
        self.assertEqual([len(client.messages("chat")) for client in self.clients], got)
        check(self.cluster.trace, settled=[node.identity for node in self.nodes])

    def test_a_forged_run_of_broken_frames(self) -> None:
        """Packets in a member's name that are no frames are dropped and counted; the node itself goes on."""
        begin = self.view(self.node).streams[self.other].highest + 1
        random_bodies = [self.random.randbytes(200) for _ in range(40)]
        flags = [self.random.choice((0, 0, FIRST, LAST, FIRST | LAST, STAMPED | LAST)) for _ in random_bodies]
        self.inject_all(
            [
                encode(Kind.DATA, self.digest, self.other, begin + index, body, flags=flags[index])
                for index, body in enumerate(random_bodies)
            ]
        )
        self.cluster.run(0.01)
        self.assertEqual(self.view(self.node).streams[self.other].contiguous, begin + 39)
        self.assertGreater(self.counter(self.node, "peer_violations"), 0)
        self.engine(self.node).check_invariants()


class NumberTests(AttackCase):
    def view_digest(self) -> int:
        return self.view(self.nodes[0]).setup.digest

    def test_number_far_ahead_makes_no_gaps(self) -> None:
        """A forged packet a million numbers ahead is counted and asks for nothing."""
        digest = self.view_digest()
        data = encode(Kind.DATA, digest, 1, 1_000_000, b"", flags=FIRST | LAST)
        nacks = self.counter(self.nodes[0], "nacks_sent")
        for _ in range(20):
            self.inject(self.nodes[0], data)
        self.cluster.run(1.0)
        self.assertEqual(self.counter(self.nodes[0], "too_far_ahead"), 20)
        self.assertEqual(self.counter(self.nodes[0], "nacks_sent"), nacks)

    def test_tail_that_lies_costs_bounded_memory(self) -> None:
        """A forged tail makes a node ask for packets that never were, but never track more than its cap."""
        digest = self.view_digest()
        data = encode(Kind.TAIL, digest, 1, 0, Tail(50_000, 0).encode())
        self.inject(self.nodes[0], data)
        self.cluster.run(0.5)
        stream = self.view(self.nodes[0]).streams[1]
        self.assertTrue(0 < stream.missing_count <= MAX_MISSING)


class FloodTests(AttackCase):
    def test_beacons_of_a_thousand_names_are_forgotten(self) -> None:
        """Made-up nodes fill a table of fixed size; the view's own nodes are never forgotten."""
        for number in range(4 * MAX_STRANGERS):
            name = NodeId(f"ghost{number}", number)
            beacon = Beacon(name, None, 0, 1, False, False, ())
            data = cut(Kind.BEACON, cluster_digest("default"), number, beacon.encode(), 1400)[0]
            self.inject(self.nodes[0], data, ("10.8.0.1", 1000 + number))
        self.cluster.run(0.01)
        peers = self.engine(self.nodes[0])._membership.peers
        self.assertLessEqual(len(peers._by_node), MAX_STRANGERS + 3)
        self.assertTrue(all(peers.get(node.identity) is not None for node in self.nodes[1:]))

    def test_half_messages_are_forgotten(self) -> None:
        """First parts of messages that never end fill a table of fixed size."""
        for number in range(4 * MAX_CONTROL_ASSEMBLIES):
            part = encode(Kind.JOIN, cluster_digest("default"), NO_SENDER, number, b"x" * 1000, part=2)
            self.inject(self.nodes[0], part)
        self.cluster.run(0.01)
        self.assertTrue(self.engine(self.nodes[0])._assembler._partial)
        self.assertLessEqual(len(self.engine(self.nodes[0])._assembler._partial), MAX_CONTROL_ASSEMBLIES)
        self.talk_while(lambda: None, rounds=5)
