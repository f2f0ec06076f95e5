"""Situations made on purpose, with real engines: what a user would ask "and what if ...?" about."""

from __future__ import annotations

from collections.abc import Sequence

from attrs import evolve
from twisted.trial.unittest import SynchronousTestCase

from groupcomm.errors import QueueFull
from groupcomm.events import Event, Left, Level, Message, Reason, TransitionalSignal, Undeliverable
from groupcomm.outputs import Address
from groupcomm.testing.cluster import Cluster
from groupcomm.testing.network import Conditions
from groupcomm.testing.node import SimulatedClient, SimulatedNode
from groupcomm.testing.oracle import check
from groupcomm.testing.packets import packet_label

ORDERED = (Level.FIFO, Level.CAUSAL, Level.AGREED, Level.SAFE)


class ScenarioCase(SynchronousTestCase):
    """A cluster, and what most scenarios begin and end with."""

    def build(self, names: str | Sequence[str], seed: int = 1, **conditions: float) -> Cluster:
        """Nodes in one view on a network that is clean until the scenario says otherwise (``rough``)."""
        self.conditions = Conditions(**conditions)
        cluster = self.cluster = Cluster(seed)
        cluster.add_nodes(*names)
        cluster.run_until(cluster.converged, 5.0)
        return cluster

    def rough(self) -> None:
        """From now on the network is as bad as ``build`` was told."""
        self.cluster.network.conditions = self.conditions

    def clients(self, group: str = "chat", names: Sequence[str] | None = None) -> list[SimulatedClient]:
        """One client on each node, all in the group, all with the same view of it."""
        nodes = [self.cluster.node(name) for name in (names or sorted(self.cluster.nodes))]
        opened = [node.open("c") for node in nodes]
        for client in opened:
            client.join(group)
        self.cluster.run_until(lambda: self.together(opened, group), 5.0)
        return opened

    @staticmethod
    def together(clients: Sequence[SimulatedClient], group: str = "chat") -> bool:
        """Whether they and nobody else are in the group's view."""
        expected = {client.member for client in clients}
        return all((view := one.view(group)) is not None and set(view.members) == expected for one in clients)

    def settle(self, limit: float = 10.0) -> None:
        """One view of all live nodes, nothing outstanding, and every property holds."""
        cluster = self.cluster
        cluster.run_until(cluster.converged, limit)
        cluster.run_until(self.at_rest, limit)
        cluster.run(1.0)
        check(cluster.trace, settled=[node.identity for node in cluster.live_nodes()])

    def at_rest(self) -> bool:
        statuses = [node.status() for node in self.cluster.live_nodes()]
        return not any(one.outstanding_bytes or one.queued_bytes for one in statuses)

    def members(self, node: SimulatedNode) -> set[str]:
        """The names in a node's view."""
        return {member.name for member in node.status().members}


class ViewTests(ScenarioCase):
    def test_three_nodes_form_a_view(self) -> None:
        """Three nodes started together are in one view within two seconds, and install few on the way."""
        cluster = Cluster(1)
        nodes = cluster.add_nodes("a", "b", "c")
        took = cluster.run_until(cluster.converged, 5.0)
        self.assertLess(took, 2.0)
        for node in nodes:
            self.assertLessEqual(len(node.views), 2)
        check(cluster.trace, settled=[node.identity for node in nodes])

    def test_lone_node_founds_a_view(self) -> None:
        """A node that hears nobody is a view of its own."""
        self.build("a")
        (client,) = self.clients()
        client.send("chat", b"m|to myself", level=Level.SAFE)
        self.settle()
        self.assertEqual(client.messages(), [b"m|to myself"])

    def test_herd_of_newcomers(self) -> None:
        """Twenty nodes that start at once, with loss, come to one view in few steps."""
        cluster = self.cluster = Cluster(2, conditions=Conditions(loss_probability=0.01))
        cluster.add_nodes(*[f"n{number:02}" for number in range(20)])
        took = cluster.run_until(cluster.converged, 10.0)
        self.assertLess(took, 6.0)
        self.assertLessEqual(max(len(node.views) for node in cluster.live_nodes()), 5)
        self.settle()

    def test_newcomers_join_a_running_view(self) -> None:
        """Nodes that come later are taken in together while messages flow."""
        cluster = self.build("ab")
        old = self.clients()
        for number in range(50):
            old[number % 2].send("chat", f"m{number}|".encode(), level=ORDERED[number % 4])
        cluster.add_nodes("c", "d")
        cluster.run_until(cluster.converged, 5.0)
        self.assertLessEqual(len(cluster.node("a").views), 4)
        self.settle()
        self.assertEqual(len(old[0].messages()), 50)
        self.assertEqual(len(old[1].messages()), 50)

    def test_killed_process_is_out_within_200_ms(self) -> None:
        """A killed process leaves the view in 0.2 s: the host's kernel tells its neighbours."""
        for victim in "abc":
            cluster = self.build("abc", seed=ord(victim))
            self.clients()
            cluster.run(1.0)
            cluster.node(victim).crash()
            took = cluster.run_until(cluster.converged, 3.0)
            self.assertLess(took, 0.2, victim)
            self.settle()

    def test_vanished_host_is_out_within_1500_ms(self) -> None:
        """A host that is switched off leaves the view in 1.5 s."""
        for victim in "abc":
            cluster = self.build("abc", seed=ord(victim))
            cluster.run(1.0)
            cluster.node(victim).vanish()
            took = cluster.run_until(cluster.converged, 4.0)
            self.assertLess(took, 1.5, victim)
            self.settle()

    def test_killed_process_at_heavy_loss(self) -> None:
        """At 20 % loss a killed process is out in 1.5 s."""
        for seed in range(5):
            cluster = self.build("abcd", seed=seed, loss_probability=0.2)
            self.rough()
            cluster.run(1.0)
            cluster.node("b").crash()
            took = cluster.run_until(cluster.converged, 5.0)
            self.assertLess(took, 1.5)
            cluster.network.conditions = Conditions()
            self.settle()

    def test_leave_is_reported_as_leave(self) -> None:
        """A node that leaves in good order is told from one that failed, and so are a client's leave and its death."""
        cluster = self.build("abc")
        a, b, c = self.clients()
        second = cluster.node("b").open("second")
        second.join("chat")
        cluster.run_until(lambda: self.together([a, b, c, second]), 2.0)
        second.leave("chat")
        cluster.run(0.5)
        self.assertEqual(second.events[-1], Left("chat", Reason.LEAVE))
        self.assertEqual([one.reason for one in a.views("chat")[-1].left], [Reason.LEAVE])
        b.close()
        cluster.run(0.5)
        self.assertEqual([one.reason for one in a.views("chat")[-1].left], [Reason.DISCONNECT])
        cluster.node("b").leave()
        cluster.run_until(lambda: not cluster.node("b").process_alive, 5.0)
        stopped = cluster.node("b").stopped
        assert stopped is not None
        self.assertTrue(stopped.clean)
        cluster.run_until(cluster.converged, 3.0)
        self.assertEqual([one.reason for one in cluster.node("a").views[-1].departed], [Reason.NODE_LEAVE])
        cluster.node("c").leave()
        cluster.run_until(cluster.converged, 5.0)
        self.assertEqual([one.reason for one in a.views("chat")[-1].left], [Reason.NODE_LEAVE])
        self.settle()

    def test_short_pause_changes_no_view(self) -> None:
        """A process that stands still for 0.4 s is not suspected."""
        cluster = self.build("abc")
        views = len(cluster.node("a").views)
        cluster.run(1.0)
        cluster.node("b").pause()
        cluster.run(0.4)
        cluster.node("b").resume()
        cluster.run(3.0)
        self.assertEqual(len(cluster.node("a").views), views)
        self.settle()

    def test_long_pause_costs_the_paused_one_only(self) -> None:
        """One that stands still for 6 s is out, the others stay together, and it comes back."""
        cluster = self.build("abcd")
        views = len(cluster.node("a").views)
        cluster.node("b").pause()
        cluster.run(6.0)
        self.assertEqual(self.members(cluster.node("a")), {"a", "c", "d"})
        cluster.node("b").resume()
        cluster.run_until(cluster.converged, 5.0)
        for view in cluster.node("a").views[views:]:
            self.assertLessEqual({"a", "c", "d"}, {one.name for one in view.members})
        self.settle()

    def test_restart_under_the_same_name(self) -> None:
        """A new process with an old name is another node; the old one is out at once, as restarted."""
        cluster = self.build("abc")
        self.clients()
        cluster.node("b").restart()
        cluster.run_until(cluster.converged, 5.0)
        self.assertEqual({one.incarnation for one in cluster.node("a").status().members}, {1000, 1001})
        self.settle()


class TrafficTests(ScenarioCase):
    def flood(
        self,
        clients: Sequence[SimulatedClient],
        count: int,
        *,
        levels: Sequence[Level] = ORDERED,
        every: float = 0.001,
        size: int = 100,
        prefix: str = "m",
    ) -> None:
        """Schedule ``count`` messages, one client after the other, as long as each lives."""
        for number in range(count):
            client = clients[number % len(clients)]
            level = levels[number % len(levels)]
            data = f"{prefix}{number}|".encode() + bytes(size)

            def send(client: SimulatedClient = client, data: bytes = data, level: Level = level) -> None:
                if client.live and client.node.running:
                    client.send("chat", data, level=level)

            self.cluster.scheduler.call_later(number * every, send)

    def test_mixed_levels_with_loss(self) -> None:
        """Four nodes send at all levels at once, at 5 and at 20 % loss: everything arrives, in order, once."""
        for loss in (0.05, 0.2):
            cluster = self.build("abcd", seed=7, loss_probability=loss)
            clients = self.clients()
            self.rough()
            self.flood(clients, 800, levels=(*ORDERED, Level.RELIABLE), every=0.0005, size=800)
            cluster.run(0.5)
            cluster.run_until(lambda: all(len(one.messages()) == 800 for one in clients), 30.0)  # noqa: B023
            self.settle()
            self.assertEqual(len(cluster.node("a").views), len(cluster.node("b").views))
            self.assertGreater(sum(node.status().counters.get("repairs_sent", 0) for node in cluster.live_nodes()), 0)

    def test_losses_are_counted_beyond_the_view(self) -> None:
        """What was missing and repaired in a view is still in the counters after it; what is said of peers begins anew.

        A node whose view goes on counts as it goes.
        """
        cluster = self.build("abc", seed=7, loss_probability=0.1)
        clients = self.clients()
        self.rough()
        self.flood(clients, 400)
        cluster.run(2.0)
        node = cluster.node("a")
        before = node.status()
        for name in ("packets_missing", "repairs_received"):
            self.assertEqual(before.counters[name], sum(getattr(peer, name) for peer in before.peers))
            self.assertGreater(before.counters[name], 10)
        cluster.network.conditions = Conditions()
        cluster.node("c").crash()
        cluster.run(1.0)
        self.settle()
        after = node.status()
        self.assertEqual(len(after.members), 2)
        for name in ("packets_missing", "repairs_received"):
            self.assertGreaterEqual(after.counters[name], before.counters[name])
            self.assertLess(sum(getattr(peer, name) for peer in after.peers), before.counters[name])

    def test_crash_of_the_sequencer_in_traffic(self) -> None:
        """The sequencer dies in the middle, with loss: the survivors go on with the same messages."""
        for seed in range(6):
            cluster = self.build("abcd", seed=seed, loss_probability=0.1)
            clients = self.clients()
            self.rough()
            self.flood(clients, 400)
            cluster.run(0.1 + 0.03 * seed)
            sequencer = cluster.node("a").status().sequencer
            assert sequencer is not None
            cluster.node(sequencer.name).crash()
            cluster.run(1.0)
            self.settle(20.0)
            survivors = [one for one in clients if one.live]
            self.assertEqual(len(survivors), 3)
            orders = [[one for one in client.events if isinstance(one, Message)] for client in survivors]
            agreed = [[one.data for one in order if one.level >= Level.AGREED] for order in orders]
            self.assertEqual(agreed[0], agreed[1])
            self.assertEqual(agreed[0], agreed[2])

    def test_repair_by_a_holder_when_the_sender_is_dead(self) -> None:
        """A message that one survivor holds and another lacks reaches that one though its sender is dead."""
        cluster = self.build("abc")
        a, b, c = self.clients()
        cluster.cut("c", "b")
        c.send("chat", b"m|last words", level=Level.FIFO)
        cluster.run(0.0015)
        cluster.node("c").crash()
        cluster.heal()
        cluster.run(0.5)
        self.settle()
        self.assertEqual(a.messages(), [b"m|last words"])
        self.assertEqual(b.messages(), [b"m|last words"])
        repaired = sum(cluster.node(name).status().counters.get("repairs_for_others", 0) for name in "ab")
        self.assertGreater(repaired, 0)

    def test_partition_and_merge(self) -> None:
        """Two halves go on by themselves and are one again within five seconds of the healing."""
        cluster = self.build("abcd", seed=3)
        clients = self.clients()
        self.flood(clients, 3000, every=0.001)
        cluster.run(0.5)
        cluster.partition("ab", "cd")
        cluster.run(2.0)
        self.assertEqual(self.members(cluster.node("a")), {"a", "b"})
        self.assertEqual(self.members(cluster.node("d")), {"c", "d"})
        self.assertEqual([one.reason for one in clients[0].views("chat")[-1].left], [Reason.PARTITION] * 2)
        self.assertIn(TransitionalSignal("chat"), clients[0].events)
        cluster.heal()
        took = cluster.run_until(lambda: cluster.converged() and self.together(clients), 10.0)
        self.assertLess(took, 5.0)
        self.settle()

    def test_safe_waits_for_everybody(self) -> None:
        """SAFE is delivered nowhere as long as one member lacks it, and everywhere soon after."""
        cluster = self.build("abc")
        clients = self.clients()
        cluster.cut("a", "c")
        cluster.cut("b", "c")
        clients[0].send("chat", b"m|x", level=Level.SAFE)
        cluster.run(0.1)
        self.assertEqual([one.messages() for one in clients], [[], [], []])
        cluster.heal()
        cluster.run(0.3)
        self.assertEqual([one.messages() for one in clients], [[b"m|x"]] * 3)
        self.settle()

    def test_causal_chain_over_a_lossy_path(self) -> None:
        """Question, answer and answer to that arrive in this order even where the question is lost at first."""
        for level in (Level.CAUSAL, Level.AGREED):
            cluster = self.build("abc", seed=5)
            a, b, c = self.clients()

            def answer(event: Event, b: SimulatedClient = b, level: Level = level) -> None:
                if isinstance(event, Message) and event.data.startswith(b"q"):
                    b.send("chat", b"r" + event.data, level=level)

            b.listener = answer
            cluster.network.loss_between[cluster.node("a").address, cluster.node("c").address] = 0.7
            for number in range(40):
                a.send("chat", f"q{number}|".encode(), level=Level.FIFO)
                cluster.run(0.005)
            cluster.network.loss_between.clear()
            self.settle()
            got = c.messages()
            self.assertEqual(len(got), 80)
            for number in range(40):
                question = got.index(f"q{number}|".encode())
                self.assertLess(question, got.index(f"rq{number}|".encode()))

    def test_ten_mebibyte_message_with_loss(self) -> None:
        """A 10 MiB message at AGREED arrives whole at 2 % loss."""
        cluster = self.build("abc", seed=9, loss_probability=0.02)
        cluster.check_invariants = False
        clients = self.clients()
        self.rough()
        data = b"big|" + bytes(range(256)) * (10 * 4096)
        clients[1].send("chat", data, level=Level.AGREED)
        clients[2].send("chat", b"after|", level=Level.AGREED)
        cluster.run_until(lambda: all(len(one.messages()) == 2 for one in clients), 60.0, every=0.01)
        for client in clients:
            self.assertIn(data, client.messages())
        self.settle()

    def test_unreliable_is_delivered_where_it_arrives(self) -> None:
        """UNRELIABLE messages come at most once, some are lost, none is repaired."""
        cluster = self.build("abc", loss_probability=0.3, duplicate_probability=0.3)
        clients = self.clients()
        self.rough()
        self.flood(clients[:1], 200, levels=[Level.UNRELIABLE])
        cluster.run(1.0)
        for client in clients[1:]:
            self.assertTrue(100 < len(client.messages()) < 180, len(client.messages()))
        cluster.network.conditions = Conditions()
        self.settle()

    def test_suppression_in_a_large_view(self) -> None:
        """With 20 nodes a loss at many of them draws few NACKs and few repairs: they hear each other."""
        cluster = self.build([f"n{number:02}" for number in range(20)], seed=4)
        clients = self.clients()
        sender = clients[7]
        counts_before = self.totals("nacks_sent"), self.totals("repairs_sent")
        for other in clients:
            if other is not sender:
                path = (sender.node.address, other.node.address)
                cluster.network.loss_between[path] = 1.0
        sender.send("chat", b"m|lost by all", level=Level.FIFO)
        cluster.run(0.0005)
        cluster.network.loss_between.clear()
        sender.send("chat", b"n|seen by all", level=Level.FIFO)
        cluster.run_until(lambda: all(len(one.messages()) == 2 for one in clients), 2.0)
        nacks = self.totals("nacks_sent") - counts_before[0]
        repairs = self.totals("repairs_sent") - counts_before[1]
        self.assertLess(nacks, 12)
        self.assertLess(repairs, 8)
        self.settle()

    def totals(self, counter: str) -> int:
        return sum(node.status().counters.get(counter, 0) for node in self.cluster.live_nodes())

    def test_lone_frame_at_heavy_loss(self) -> None:
        """At 20 % loss a lone FIFO frame arrives at all of three nodes within 50 ms in 99 of 100 cases."""
        cluster = self.build("abc", seed=11, loss_probability=0.2)
        clients = self.clients()
        self.rough()
        latencies = []
        for number in range(200):
            before = [len(one.messages()) for one in clients]
            clients[number % 3].send("chat", f"m{number}|".encode(), level=Level.FIFO)
            took = cluster.run_until(
                lambda before=before: all(  # type: ignore[misc]
                    len(one.messages()) > count for one, count in zip(clients, before, strict=True)
                ),
                2.0,
                every=0.0005,
            )
            latencies.append(took)
            cluster.run(0.02)
        latencies.sort()
        self.assertLess(latencies[int(len(latencies) * 0.99)], 0.05, latencies[-10:])
        cluster.network.conditions = Conditions()
        self.settle()

    def test_quiet_cluster_sends_heartbeats_only(self) -> None:
        """Ten seconds after the last message only beacons and heartbeats are on the wire, a few per second."""
        cluster = self.build("abcd", loss_probability=0.05)
        clients = self.clients()
        self.rough()
        self.flood(clients, 100)
        cluster.run(3.0)
        cluster.network.conditions = Conditions()
        cluster.run(10.0)
        kinds: dict[str, int] = {}

        def observe(fate: str, source: Address, receiver: Address, data: bytes) -> None:
            if source != receiver:
                kind = packet_label(data).split()[0]
                kinds[kind] = kinds.get(kind, 0) + 1

        cluster.network.observer = observe
        cluster.run(10.0)
        self.assertLessEqual(set(kinds), {"BEACON", "STATUS", "TAIL", "PROBE", "PROBE_ACK"}, kinds)
        self.assertLess(sum(kinds.values()), 4 * 3 * 10 * 10, kinds)
        self.settle()

    def test_back_pressure_and_writable(self) -> None:
        """A session that sends more than its queue holds is refused, told when it can go on, and loses nothing."""
        cluster = self.build("ab")
        a, b = self.clients()
        accepted = 0
        with self.assertRaises(QueueFull):
            for number in range(400):
                a.send("chat", f"m{number}|".encode() + bytes(30_000), level=Level.FIFO)
                accepted += 1
        self.assertGreater(accepted, 100)
        cluster.run_until(lambda: a.writable_count > 0, 10.0)
        cluster.run_until(lambda: len(b.messages()) == accepted, 20.0)
        self.settle()


class GroupTests(ScenarioCase):
    def test_multi_group_send_is_delivered_once_in_one_place(self) -> None:
        """A message to two groups comes once to members of both, at one place among the messages of each."""
        cluster = self.build("abc", seed=2, loss_probability=0.1)
        a, b, c = self.clients("red")
        for client in (b, c):
            client.join("green")
        cluster.run_until(lambda: self.together([b, c], "green"), 2.0)
        self.rough()
        for number in range(60):
            a.send("red", f"r{number}|".encode())
            b.send("green", f"g{number}|".encode())
            c.send(["red", "green"], f"both{number}|".encode())
            cluster.run(0.002)
        cluster.run_until(lambda: [len(one.messages()) for one in (a, b, c)] == [120, 180, 180], 10.0)
        self.assertEqual(b.messages(), c.messages())
        self.assertEqual(a.messages(), [data for data in b.messages() if not data.startswith(b"g")])
        both = [event for event in b.events if isinstance(event, Message) and event.data.startswith(b"both")]
        self.assertEqual({event.groups for event in both}, {("red", "green")})
        self.settle()

    def test_outsider_may_send(self) -> None:
        """A client that is in no group sends to one; it gets nothing back."""
        cluster = self.build("ab")
        member, outsider = self.clients(names="a")[0], cluster.node("b").open("out")
        outsider.send("chat", b"m|hello")
        self.settle()
        self.assertEqual((member.messages(), outsider.messages()), ([b"m|hello"], []))

    def test_private_and_undeliverable(self) -> None:
        """A private message reaches one client; one to nobody comes back as undeliverable, also when it died."""
        cluster = self.build("abc")
        a, b, c = self.clients()
        a.send_private("c", "b", b"p|psst")
        a.send_private("nobody", "b", b"q|hello?")
        a.send_private("c", "nowhere", b"r|hello?")
        cluster.run(0.5)
        self.assertEqual((b.messages(), c.messages()), ([b"p|psst"], []))
        self.assertEqual(
            {event for event in a.events if isinstance(event, Undeliverable)},
            {Undeliverable("nobody@b"), Undeliverable("c@nowhere")},
        )
        cluster.node("b").crash()
        cluster.run(1.0)
        a.send_private("c", "b", b"s|still there?")
        cluster.run(0.5)
        self.assertEqual(a.events[-1], Undeliverable("c@b"))
        self.settle()

    def test_stable_send_is_confirmed_after_delivery_everywhere(self) -> None:
        """With ``stable`` the confirmation comes when everybody has it, and says so."""
        cluster = self.build("abc", loss_probability=0.2)
        clients = self.clients()
        self.rough()
        sendings = [clients[0].send("chat", f"m{n}|".encode(), level=Level.FIFO, stable=True) for n in range(20)]
        cluster.run_until(lambda: all(one.accepted for one in sendings), 5.0)
        self.assertEqual({one.complete for one in sendings}, {True})
        self.assertEqual({len(one.messages()) for one in clients}, {20})
        cluster.network.conditions = Conditions()
        self.settle()

    def test_self_discard(self) -> None:
        """A sender that asks so does not get its own copy; the others do."""
        self.build("ab")
        a, b = self.clients()
        a.send("chat", b"m|x", self_discard=True)
        self.settle()
        self.assertEqual((a.messages(), b.messages()), ([], [b"m|x"]))

    def test_group_of_clients_on_one_node(self) -> None:
        """Clients of one node are members like any; a view change elsewhere does not touch their group."""
        cluster = self.build("abc")
        node = cluster.node("a")
        pair = [node.open("one"), node.open("two")]
        for client in pair:
            client.join("local")
        cluster.run_until(lambda: self.together(pair, "local"), 2.0)
        views = len(pair[0].views("local"))
        cluster.node("c").crash()
        cluster.run(1.0)
        pair[0].send("local", b"m|x", level=Level.CAUSAL)
        self.settle()
        self.assertEqual(len(pair[0].views("local")), views)
        self.assertEqual(pair[1].messages(), [b"m|x"])

    def test_different_directories_merge(self) -> None:
        """Groups that arose in two components have all their members after the merge."""
        cluster = self.build("abcd")
        cluster.partition("ab", "cd")
        cluster.run(2.0)
        left = self.clients("x", names="a") + self.clients("left", names="b")
        right = self.clients("right", names="d")
        right[0].join("x")
        cluster.run(0.5)
        cluster.heal()
        cluster.run_until(lambda: cluster.converged() and self.together([left[0], right[0]], "x"), 10.0)
        self.assertTrue(self.together(left[1:], "left"))
        left[0].send("x", b"m|x")
        self.settle()
        self.assertEqual(right[0].messages(), [b"m|x"])


class HostileNetworkTests(ScenarioCase):
    def test_one_way_link_costs_one_node_once(self) -> None:
        """A link that works one way only parts one node off, and the views do not form anew without end."""
        for source, destination in ("bc", "ab", "cd", "da"):
            cluster = self.build("abcd")
            views = len(cluster.node("a").views)
            cluster.cut(source, destination)
            cluster.run(6.0)
            self.assertLessEqual(max(len(node.views) for node in cluster.live_nodes()), views + 2)
            sizes = sorted(len(node.status().members) for node in cluster.live_nodes())
            self.assertEqual(sizes, [1, 3, 3, 3], f"{source} -> {destination} cut")
            cluster.heal()
            self.settle()

    def test_garbage_harms_nobody(self) -> None:
        """Random bytes at every socket are counted, and the group goes on."""
        cluster = self.build("ab", seed=6)
        clients = self.clients()
        before = [node.status().counters.get("malformed", 0) for node in cluster.live_nodes()]
        for number in range(100):
            for node in cluster.live_nodes():
                node._datagram_arrived(bytes([number]) * number, ("10.9.9.9", 9))
            cluster.run(0.001)
        clients[0].send("chat", b"m|x")
        self.settle()
        after = [node.status().counters.get("malformed", 0) for node in cluster.live_nodes()]
        self.assertEqual([new - old for new, old in zip(after, before, strict=True)], [100, 100])

    def test_two_clusters_do_not_mix(self) -> None:
        """Packets of another cluster on the same network are counted and change nothing."""
        cluster = self.build("ab")
        ours = cluster.config
        cluster.config = evolve(ours, cluster="other")
        stranger = cluster.add_node("x")
        cluster.config = ours
        cluster.run(5.0)
        self.assertEqual(self.members(cluster.node("a")), {"a", "b"})
        self.assertEqual(self.members(stranger), {"x"})
        self.assertGreater(cluster.node("a").status().counters.get("foreign_cluster", 0), 0)
        check(cluster.trace)
