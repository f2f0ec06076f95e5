"""The datagram network."""

from __future__ import annotations

from attrs import evolve
from twisted.trial.unittest import SynchronousTestCase

from groupcomm.outputs import Address, Datagram
from groupcomm.testing.network import CLOG_DATAGRAMS, NARROW_BYTES, Conditions, Network
from groupcomm.testing.scheduler import Scheduler

A, B, C = ("10.0.0.1", 1), ("10.0.0.2", 1), ("10.0.0.3", 1)


class NetworkTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.got: list[tuple[Address, Address, bytes]] = []
        self.times: list[float] = []

    def build(self, conditions: Conditions | None = None, seed: str = "1") -> Network:
        """A network with three sockets whose receptions are collected."""
        network = Network(Scheduler(), seed, conditions or Conditions(), 1400)
        for address in (A, B, C):
            network.attach(address, self.collector(network, address))
        return network

    def collector(self, network: Network, address: Address):  # type: ignore[no-untyped-def]
        def collect(data: bytes, source: Address) -> None:
            self.got.append((source, address, data))
            self.times.append(network.scheduler.now)

        return collect

    def test_multicast_reaches_all_with_the_sender(self) -> None:
        """A multicast comes to everybody once, the sender's own copy first."""
        network = self.build()
        network.send(Datagram(b"x", None), A)
        network.scheduler.run(1.0)
        self.assertEqual(self.got[0], (A, A, b"x"))
        self.assertEqual(sorted(self.got), [(A, A, b"x"), (A, B, b"x"), (A, C, b"x")])

    def test_unicast_reaches_one(self) -> None:
        """A unicast comes to its addressee; one to nobody's address is lost."""
        network = self.build()
        network.send(Datagram(b"x", C), A)
        network.send(Datagram(b"y", ("10.9.9.9", 1)), A)
        network.scheduler.run(1.0)
        self.assertEqual(self.got, [(A, C, b"x")])

    def test_datagram_over_the_mtu_is_a_bug(self) -> None:
        """The MTU itself passes, one byte more is an error of the sender."""
        network = self.build()
        network.send(Datagram(bytes(1400), B), A)
        with self.assertRaises(AssertionError):
            network.send(Datagram(bytes(1401), B), A)

    def test_a_run_is_its_datagrams(self) -> None:
        """Datagrams that leave as one arrive one by one, each with a fate of its own, and each within the MTU."""
        network = self.build()
        network.send(Datagram(b"aaabbbcc", B, 3), A)
        network.scheduler.run(1.0)
        self.assertEqual(self.got, [(A, B, b"aaa"), (A, B, b"bbb"), (A, B, b"cc")])
        self.assertEqual((network.counters["sent"], network.counters["deliver"]), (3, 3))
        with self.assertRaises(AssertionError):
            network.send(Datagram(bytes(2802), B, 1401), A)
        self.got.clear()
        network = self.build(Conditions(loss_probability=0.5))
        network.send(Datagram(b"".join(b"%03d" % number for number in range(400)), B, 3), A)
        network.scheduler.run(1.0)
        self.assertTrue(150 < len(self.got) < 250, len(self.got))

    def test_loss_is_per_receiver(self) -> None:
        """Of many multicasts at half loss each receiver gets about half, not the same half; the sender all."""
        network = self.build(Conditions(loss_probability=0.5))
        for number in range(400):
            network.send(Datagram(number.to_bytes(2, "big"), None), A)
        network.scheduler.run(10.0)
        by = {one: {data for _, receiver, data in self.got if receiver == one} for one in (A, B, C)}
        self.assertEqual(len(by[A]), 400)
        for one in (B, C):
            self.assertTrue(150 < len(by[one]) < 250, len(by[one]))
        self.assertNotEqual(by[B], by[C])

    def test_loss_to_one_receiver_and_on_one_path(self) -> None:
        """Loss can be set for a receiver and for a path."""
        network = self.build()
        network.loss_to[B] = 1.0
        network.loss_between[C, A] = 1.0
        network.send(Datagram(b"a", None), A)
        network.send(Datagram(b"c", None), C)
        network.scheduler.run(1.0)
        self.assertEqual(sorted(self.got), [(A, A, b"a"), (A, C, b"a"), (C, C, b"c")])

    def test_order_is_kept_without_reordering(self) -> None:
        """Jitter and tails keep the order of a path; reordering breaks it."""
        steady = Conditions(jitter_seconds=0.001, tail_probability=0.1)
        network = self.build(steady)
        for number in range(200):
            network.send(Datagram(bytes([number]), B), A)
        network.scheduler.run(60.0)
        arrived = [data for _, _, data in self.got]
        self.assertEqual(arrived, sorted(arrived))
        self.got.clear()
        network = self.build(evolve(steady, reorder_probability=0.2))
        for number in range(200):
            network.send(Datagram(bytes([number]), B), A)
        network.scheduler.run(60.0)
        arrived = [data for _, _, data in self.got]
        self.assertNotEqual(arrived, sorted(arrived))
        self.assertEqual(len(arrived), 200)

    def test_a_stuttering_sender_is_heard_by_all_or_by_nobody(self) -> None:
        """Loss at the sender takes a datagram from all receivers alike; its own loop still has it."""
        network = self.build()
        network.loss_from[A] = 0.5
        for number in range(100):
            network.send(Datagram(bytes([number]), None), A)
        network.scheduler.run(1.0)
        heard = [[data for _, address, data in self.got if address == place] for place in (A, B, C)]
        self.assertEqual(len(heard[0]), 100)
        self.assertEqual(heard[1], heard[2])
        self.assertTrue(20 < len(heard[1]) < 80)

    def test_duplicates(self) -> None:
        """With certainty of it, every datagram comes twice."""
        network = self.build(Conditions(duplicate_probability=1.0))
        network.send(Datagram(bytes(100), B), A)
        network.scheduler.run(1.0)
        self.assertEqual(self.got, [(A, B, bytes(100))] * 2)
        self.assertEqual(network.counters["duplicate"], 1)

    def test_corruption_is_found_by_the_checksum(self) -> None:
        """A datagram whose bits were flipped does not come, and is counted."""
        network = self.build(Conditions(corrupt_probability=1.0))
        network.send(Datagram(bytes(100), B), A)
        network.scheduler.run(1.0)
        self.assertEqual((self.got, network.counters["corrupt"]), ([], 1))

    def test_garbage_comes_besides(self) -> None:
        """A stranger's datagram comes with each, and takes nothing away."""
        network = self.build(Conditions(garbage_probability=1.0))
        network.send(Datagram(bytes(100), B), A)
        network.scheduler.run(1.0)
        self.assertEqual(len(self.got), 2)
        self.assertIn((A, B, bytes(100)), self.got)
        self.assertEqual(network.counters["garbage"], 1)

    def test_clogged_path_delivers_late_and_in_order(self) -> None:
        """What a clogged path holds back comes when it opens, in its order; the other direction is not touched."""
        network = self.build()
        network.clog(A, B)
        for data in (b"1", b"2", b"3"):
            network.send(Datagram(data, B), A)
        network.send(Datagram(b"x", A), B)
        network.scheduler.run(1.0)
        self.assertEqual(self.got, [(B, A, b"x")])
        network.unclog(A, B)
        network.scheduler.run(2.0)
        self.assertEqual([data for _, _, data in self.got], [b"x", b"1", b"2", b"3"])
        self.assertEqual(network.counters["clog"], 3)

    def test_clogged_path_holds_a_limited_number(self) -> None:
        """Beyond its limit a clogged path loses what comes, and healing opens it."""
        network = self.build()
        network.clog(A, B)
        for _ in range(CLOG_DATAGRAMS + 1):
            network.send(Datagram(b"x", B), A)
        network.scheduler.run(1.0)
        network.heal()
        network.scheduler.run(2.0)
        self.assertEqual(len(self.got), CLOG_DATAGRAMS)

    def test_cut_is_one_way_and_partition_both(self) -> None:
        """A cut loses one direction, a partition both between its sides, healing undoes both."""
        network = self.build()
        network.cut(A, B)
        network.send(Datagram(b"1", B), A)
        network.send(Datagram(b"2", A), B)
        network.scheduler.run(1.0)
        self.assertEqual(self.got, [(B, A, b"2")])
        network.partition([A, B], [C])
        self.assertFalse(network.connected(A, C) or network.connected(C, B))
        network.restore(A, B)
        self.assertTrue(network.connected(A, B))
        network.heal()
        self.assertTrue(network.connected(C, A))

    def test_what_is_on_the_way_when_a_path_is_cut_is_lost(self) -> None:
        """A cut also loses datagrams that left before it."""
        network = self.build()
        network.send(Datagram(b"x", B), A)
        network.cut(A, B)
        network.scheduler.run(1.0)
        self.assertEqual(self.got, [])

    def test_rate_spreads_a_burst(self) -> None:
        """A host sends no faster than its rate."""
        network = self.build(Conditions(rate_bytes_per_second=1400 * 100, jitter_seconds=0.0))
        for _ in range(10):
            network.send(Datagram(bytes(1400), B), A)
        network.scheduler.run(1.0)
        self.assertAlmostEqual(self.times[-1] - self.times[0], 0.09, places=3)

    def test_a_narrow_link_lets_so_much_through(self) -> None:
        """One receiver gets no more than its rate, all senders together; little waits before it, the rest is lost."""
        network = self.build(Conditions(jitter_seconds=0.0))
        network.rate_to[B] = 1400 * 100
        for _ in range(100):
            network.send(Datagram(bytes(1400), None), A)
            network.send(Datagram(bytes(1400), B), C)
        network.scheduler.run(10.0)
        arrived = [at for at, (_, receiver, _) in zip(self.times, self.got, strict=True) if receiver == B]
        self.assertEqual(len(arrived), NARROW_BYTES // 1400 + 1)
        self.assertAlmostEqual(arrived[-1] - arrived[0], (len(arrived) - 1) / 100, places=3)
        self.assertEqual(sum(receiver == C for _, receiver, _ in self.got), 100)

    def test_same_seed_same_run(self) -> None:
        """Two networks with one seed do the same; another seed does something else."""
        rough = Conditions(loss_probability=0.3, duplicate_probability=0.2, reorder_probability=0.2)
        runs = []
        for seed in ("1", "1", "2"):
            self.got.clear()
            self.times.clear()
            network = self.build(rough, seed)
            for number in range(100):
                network.send(Datagram(bytes([number]), None), A)
            network.scheduler.run(1.0)
            runs.append((list(self.got), list(self.times)))
        self.assertEqual(runs[0], runs[1])
        self.assertNotEqual(runs[0], runs[2])

    def test_one_more_kind_of_fault_does_not_shift_the_loss(self) -> None:
        """What is lost is the same with and without duplication: each purpose draws from its own stream."""
        lost = []
        for duplicates in (0.0, 0.5):
            self.got.clear()
            network = self.build(Conditions(loss_probability=0.3, duplicate_probability=duplicates))
            for number in range(100):
                network.send(Datagram(bytes([number]), B), A)
            network.scheduler.run(1.0)
            lost.append({data for _, _, data in self.got})
        self.assertEqual(lost[0], lost[1])
