"""Clusters without multicast, with paths that take less, and with several links, on virtual time."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from twisted.trial.unittest import SynchronousTestCase

from groupcomm.config import EngineConfig
from groupcomm.events import Level
from groupcomm.outputs import Address
from groupcomm.testing.cluster import Cluster
from groupcomm.testing.network import Conditions
from groupcomm.testing.node import SimulatedClient
from groupcomm.testing.oracle import check

SEEDS = range(3)
KEY = bytes(range(32))
LEVELS = [level for level in Level if level is not Level.UNRELIABLE]


class PathTests(SynchronousTestCase):
    """Four nodes with a client each, which all send at all levels."""

    def begin(
        self,
        seed: int,
        *,
        deaf: bool = False,
        links: Sequence[int] = (),
        active: bool = False,
        loss: float = 0.0,
        nodes: int = 4,
    ) -> None:
        """A cluster in one view; every other seed has a key. Nodes with links have a hint of one other."""
        config = EngineConfig(key=KEY if seed % 2 else None, active_links=active)
        self.cluster = Cluster(seed, config=config, conditions=Conditions(loss_probability=loss), link_bytes=links)
        self.names = [f"n{number}" for number in range(nodes)]
        if deaf:
            self.cluster.network.deaf = _Everybody()
        self.cluster.add_nodes(*self.names)
        self.formed_after = self.cluster.run_until(self.cluster.converged, 10.0)
        self.clients = [self.cluster.node(name).open("c") for name in self.names]
        for client in self.clients:
            client.join("g")
        self.cluster.run_until(lambda: all(self.sees_all(client) for client in self.clients), 10.0)
        self.view = self.cluster.node(self.names[0]).status().view
        self.sent = 0

    def sees_all(self, client: SimulatedClient) -> bool:
        """Whether it is in a group view of all."""
        view = client.view("g")
        return view is not None and len(view.members) == len(self.names)

    def exchange(self, rounds: int = 40, size: int = 1000, limit: float = 30.0) -> float:
        """Let everybody send so often, and wait until everybody has it; the seconds that took."""
        began = self.cluster.now
        for number in range(rounds):
            for index, client in enumerate(self.clients):
                label = b"%s %d %d " % (client.member.node.name.encode(), self.sent, number)
                client.send("g", label + bytes(size), level=LEVELS[(number + index) % len(LEVELS)])
            self.cluster.run(0.002)
        self.sent += rounds * len(self.clients)
        self.cluster.run_until(lambda: all(len(one.messages("g")) == self.sent for one in self.clients), limit)
        return self.cluster.now - began

    def end(self) -> None:
        """The view is the one of the beginning, and what was delivered is right."""
        for name in self.names:
            self.assertEqual(self.cluster.node(name).status().view, self.view, name)
        check(self.cluster.trace)

    def test_no_multicast_at_all(self) -> None:
        """Nodes that hear of one by a hint form one view as soon as others, and all is delivered in order."""
        for seed in SEEDS:
            self.begin(seed, deaf=True, links=[1472], loss=0.02 * (seed % 3))
            self.assertLess(self.formed_after, 3.0)
            self.exchange()
            multicasts = self.cluster.network.counters["cut"]
            self.exchange()
            beacons = (self.cluster.network.counters["cut"] - multicasts) / len(self.names)
            self.assertLess(beacons, 30, "packets of the view are multicast to nobody")
            self.end()

    def test_multicast_is_lost_in_one_direction(self) -> None:
        """Copies go where multicast does not arrive, within 2 s of traffic, and end when it does again."""
        for seed in SEEDS:
            self.begin(seed)
            self.cluster.deafen("n0", "n3")
            self.exchange()
            self.cluster.run(2.0)
            nacks = self.counter("n3", "nacks_sent")
            self.exchange()
            self.assertEqual(self.counter("n3", "nacks_sent"), nacks, "what is copied is asked for all the same")
            self.cluster.undeafen("n0", "n3")
            self.cluster.run(1.0)
            sent = self.cluster.network.counters["sent"]
            self.exchange(rounds=1)
            self.assertLess(self.cluster.network.counters["sent"] - sent, 60)
            self.end()

    def counter(self, name: str, counter: str) -> int:
        """Of a node."""
        return self.cluster.node(name).status().counters.get(counter, 0)

    def test_jumbo_frames(self) -> None:
        """Where interfaces take them, packets are large: far fewer leave than with 1,400 bytes."""
        counts = []
        for bytes_on_link in (1472, 8972):
            self.begin(1, links=[bytes_on_link])
            self.cluster.run(1.0)
            before = self.counter("n0", "datagrams_sent")
            self.clients[0].send("g", bytes(1_000_000))
            self.cluster.run_until(lambda: all(one.messages("g") for one in self.clients), 10.0)
            counts.append(self.counter("n0", "datagrams_sent") - before)
            self.end()
        self.assertLess(5 * counts[1], counts[0])

    def test_a_black_hole(self) -> None:
        """A path that takes less all at once, without a word, delays what is under way, and nothing else."""
        for seed in SEEDS:
            for link in (1472, 8972):
                self.begin(seed, links=[link], loss=0.01 * (seed % 3))
                self.exchange(rounds=10, size=20_000)
                self.cluster.shrink("n2", 1372)
                taken = self.exchange(rounds=10, size=20_000)
                self.assertLess(taken, 6.0)
                self.cluster.run(1.5)
                pieces = self.counter("n2", "pieces_received")
                self.exchange(rounds=10, size=20_000)
                self.assertEqual(self.counter("n2", "pieces_received"), pieces, "new packets are still too large")
                self.end()

    def test_a_black_hole_swallows_the_last_message(self) -> None:
        """What is under way is traffic enough to find the black hole, even if nothing else moves any more."""
        for seed in SEEDS[:2]:
            self.begin(seed, links=[1472])
            for _ in range(8):  # so that the size in use was confirmed a moment ago
                self.exchange(rounds=1)
                self.cluster.run(0.2)
            self.cluster.shrink("n2", 1372)
            self.clients[0].send("g", bytes(3000), level=Level.FIFO)
            self.cluster.run_until(lambda: all(len(one.messages("g")) > self.sent for one in self.clients), 4.0)
            self.end()

    def test_a_narrow_path_from_the_beginning(self) -> None:
        """A node behind a tunnel gets into the view and gets everything."""
        for seed in SEEDS:
            self.begin(seed, links=[1472])
            self.cluster.shrink("n1", 1300)
            self.cluster.nodes["n1"].restart()
            self.cluster.run_until(self.cluster.converged, 10.0)
            self.clients[1] = self.cluster.node("n1").open("d")
            self.clients[1].join("g")
            self.cluster.run_until(lambda: self.sees_all(self.clients[1]), 10.0)
            self.clients[0].send("g", bytes(100_000))
            self.cluster.run_until(lambda: bool(self.clients[1].messages("g")), 10.0)
            check(self.cluster.trace)

    def test_links_fail_and_return(self) -> None:
        """One link of a node, then the other, go down and come back under load: no view changes, nothing is lost."""
        for seed in SEEDS:
            for active in (False, True):
                self.begin(seed, links=[1472, 1472], active=active, loss=0.01 * (seed % 3))
                for link in (0, 1):
                    self.cluster.pull("n1", link)
                    for _ in range(3):
                        taken = self.exchange(rounds=20)
                        self.assertLess(taken, 0.5 if active and not seed % 3 else 3.0)
                        self.cluster.run(0.5)
                    self.cluster.plug("n1", link)
                    self.cluster.run(2.0)
                    self.exchange(rounds=20)
                self.end()

    def test_a_whole_network_fails(self) -> None:
        """The first network goes away for everybody: the second carries everything."""
        for seed in SEEDS:
            self.begin(seed, links=[1472, 1472])
            for name in self.names:
                self.cluster.pull(name, 0)
            self.exchange()
            self.cluster.run(2.0)
            self.assertLess(self.exchange(rounds=10), 0.2)
            self.end()

    def test_nodes_on_different_links_only(self) -> None:
        """One node is on the first network only, one on the second only: the others reach both."""
        for seed in SEEDS:
            self.begin(seed, links=[1472, 1472])
            self.cluster.pull("n1", 0)
            self.exchange()
            self.end()

    def test_an_address_changes_under_traffic(self) -> None:
        """A node that moves is found at its new address though its packets, from there, never stop."""
        for seed in SEEDS:
            self.begin(seed, links=[1472], loss=0.02)
            mover = self.cluster.node("n2")
            self.cluster.network.detach(mover.address)
            mover.addresses = (("10.0.0.77", 7400),)
            self.cluster.network.attach(mover.address, mover._datagram_arrived)
            self.cluster._hosts[mover.address] = mover
            mover.engine.links(mover.addresses, [1472])
            self.assertLess(self.exchange(rounds=40, size=200), 6.0)
            (peer,) = [one for one in self.cluster.node("n0").status().peers if one.node.name == "n2"]
            self.assertEqual(peer.address, ("10.0.0.77", 7400))
            self.end()

    def test_multicast_that_is_slower_than_unicast(self) -> None:
        """Copies end when multicast arrives again, though each comes after the copy."""
        self.begin(1)
        one, other = self.cluster.node("n0").address, self.cluster.node("n1").address
        self.cluster.deafen("n0", "n1")
        self.cluster.run(3.0)
        self.assertEqual(self.reach("n0", "n1"), "unicast")
        network, node = self.cluster.network, self.cluster.node("n1")

        def arrive(data: bytes, source: Address, *, multicast: bool) -> None:
            network.multicast = multicast
            node._datagram_arrived(data, source)
            network.multicast = False

        def late(data: bytes, source: Address) -> None:
            held = 0.02 if network.multicast and source == one else 0.0
            self.cluster.scheduler.call_later(held, partial(arrive, data, source, multicast=network.multicast))

        network.attach(other, late)
        self.cluster.undeafen("n0", "n1")
        self.cluster.run(2.0)
        self.assertEqual(self.reach("n0", "n1"), "multicast")

    def reach(self, sender: str, receiver: str) -> str:
        """What of a node's arrives at another, as that says."""
        (peer,) = [one for one in self.cluster.node(sender).status().peers if one.node.name == receiver]
        return peer.paths[0].reach

    def test_status(self) -> None:
        """The status says of each path what passes, what is heard, and how far it is."""
        self.begin(1, links=[1472, 1472])
        self.cluster.deafen("n0", "n1")
        self.exchange()
        self.cluster.run(3.0)
        (peer,) = [one for one in self.cluster.node("n0").status().peers if one.node.name == "n1"]
        self.assertEqual([path.reach for path in peer.paths], ["unicast", "unicast"])
        self.assertEqual([path.multicast_heard for path in peer.paths], [True, True])
        self.assertEqual([path.mtu_bytes for path in peer.paths], [1472, 1472])
        self.assertTrue(all(0 < path.round_trip_seconds < 0.01 for path in peer.paths))
        (peer,) = [one for one in self.cluster.node("n1").status().peers if one.node.name == "n0"]
        self.assertEqual([path.reach for path in peer.paths], ["multicast", "multicast"])
        self.assertEqual([path.multicast_heard for path in peer.paths], [False, False])


class _Everybody(set[tuple[Address, Address]]):
    """All pairs there are."""

    def __contains__(self, pair: object) -> bool:
        return True
