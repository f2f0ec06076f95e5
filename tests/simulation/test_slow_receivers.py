"""One node that receives far slower than all others: waited for or evicted as was asked, and it is said who and why."""

from __future__ import annotations

from collections.abc import Sequence

from groupcomm.config import EngineConfig, SlowReceiver
from groupcomm.events import Departure, Level, Reason
from groupcomm.outputs import Address, NodeEvicted, ReceiverSlow
from groupcomm.testing.cluster import Cluster
from groupcomm.testing.network import Conditions
from groupcomm.testing.node import SimulatedClient
from groupcomm.testing.packets import packet_kind
from tests.simulation.test_scenarios import ScenarioCase

OFFERED = 400_000
"""What each sender has to send in a second, in bytes."""

NARROW = 80_000
"""What the link of a slow node lets through."""

MESSAGE_BYTES = 4_000
STEP_SECONDS = 0.05
LIMIT_SECONDS = 3.0
DECISION_SECONDS = 1.0
"""From the end of that time to the view without the slow node: beacons, a change, and some looks that saw nothing."""


class SlowCase(ScenarioCase):
    """A cluster whose first node sends more to the group than a slow one can take."""

    def begin(self, names: str, policy: SlowReceiver, *, seed: int = 1, seconds: float = LIMIT_SECONDS) -> None:
        """Nodes in one view, each with a client in the group."""
        self.begin_with(names, EngineConfig(slow_receiver=policy, slow_receiver_seconds=seconds), seed)

    def begin_with(self, names: str, config: EngineConfig, seed: int) -> None:
        """The same with these settings."""
        self.cluster = Cluster(seed, config=config, check_invariants=False)
        self.cluster.add_nodes(*names)
        self.cluster.run_until(self.cluster.converged, 5.0)
        self.members_of_chat = self.clients()
        self.count = 0

    def flood(self, seconds: float, senders: Sequence[int] = (0,)) -> float:
        """Let these clients send; what came back to the first of them, as a share of what it had to send."""
        first = self.members_of_chat[senders[0]]
        had, began = len(first.messages()), self.cluster.now
        while self.cluster.now - began < seconds:
            for sender in senders:
                self.offer(self.members_of_chat[sender], round(OFFERED * STEP_SECONDS / MESSAGE_BYTES))
            self.cluster.run(STEP_SECONDS)
        return (len(first.messages()) - had) * MESSAGE_BYTES / OFFERED / seconds

    def offer(self, sender: SimulatedClient, messages: int) -> None:
        """Send so many, unless there is much in the queue already."""
        for _ in range(messages):
            if sender.node.engine.queued_bytes(sender.session) < OFFERED / 4:
                self.count += 1
                sender.send("chat", b"m%d|" % self.count + bytes(MESSAGE_BYTES), level=Level.AGREED)

    def evicted(self, name: str) -> list[NodeEvicted]:
        """What a node has said of evictions."""
        return [news for news in self.cluster.node(name).slow_news if isinstance(news, NodeEvicted)]

    def slow(self, name: str) -> list[tuple[str, bool]]:
        """Of whom a node has said that it is slow, and of whom that it is slow no more."""
        news = self.cluster.node(name).slow_news
        return [(one.node.name, one.over) for one in news if isinstance(one, ReceiverSlow)]

    def views(self) -> list[int]:
        """How many views each node has had."""
        return [len(node.views) for node in self.cluster.live_nodes()]

    def wait_until_out(self, *slow: str, limit: float = LIMIT_SECONDS + DECISION_SECONDS) -> float:
        """Flood until these are in nobody's view but their own; how long it took."""
        began = self.cluster.now
        rest = [name for name in sorted(self.cluster.nodes) if name not in slow]
        while not self.cluster.converged(rest):
            self.flood(0.05)
            self.assertLess(self.cluster.now - began, limit, self.cluster.summary())
        return self.cluster.now - began


class WaitTests(SlowCase):
    """``slow_receiver = wait``."""

    def test_the_sender_keeps_to_its_pace_and_says_so(self) -> None:
        """Once, with the bytes and the time; the view stays; when the line is well again that is said too."""
        self.begin("abcd", SlowReceiver.WAIT)
        slow = self.cluster.node("d").identity
        self.assertGreater(self.flood(1.0), 0.9)
        self.cluster.narrow("d", NARROW)
        self.flood(LIMIT_SECONDS - 0.2)
        self.assertEqual((self.slow("a"), self.cluster.node("a").status().slow), ([], ()))
        pace = self.flood(4.0) * OFFERED
        self.assertLess(pace, NARROW)
        self.assertGreater(pace, NARROW / 2)
        (status,) = self.cluster.node("a").status().slow
        self.assertEqual(status.node, slow)
        self.assertGreater(status.lag_bytes, 10_000)
        self.assertGreater(status.seconds, LIMIT_SECONDS)
        self.assertEqual(self.cluster.node("a").status().counters["slow_receivers"], 1)
        self.cluster.widen("d")
        self.assertGreater(self.flood(3.0), 0.9)
        self.assertEqual(self.slow("a"), [("d", False), ("d", True)])
        self.assertEqual([self.slow(name) for name in "bcd"], [[], [], []], "who sends nothing waits for nobody")
        self.assertEqual(self.cluster.node("a").status().slow, ())
        self.assertEqual(self.views(), [self.views()[0]] * 4)
        self.settle(60.0)

    def test_a_receiver_that_catches_up(self) -> None:
        """Who is behind for less than the limit, again and again, is not slow."""
        self.begin("abc", SlowReceiver.WAIT)
        for _ in range(4):
            self.cluster.narrow("c", NARROW)
            self.flood(LIMIT_SECONDS / 2)
            self.cluster.widen("c")
            self.flood(LIMIT_SECONDS / 2)
        self.assertEqual(self.slow("a"), [])

    def test_a_host_that_is_a_little_slower(self) -> None:
        """The sender follows it, and nobody calls it slow."""
        self.begin("abc", SlowReceiver.EVICT)
        self.cluster.narrow("b", 1.2 * NARROW)
        self.cluster.narrow("c", NARROW)
        self.flood(3 * LIMIT_SECONDS)
        self.assertEqual((self.slow("a"), self.evicted("a")), ([], []))

    def test_a_view_of_two(self) -> None:
        """Nobody is slow where there is nobody to be slower than; nor is anybody evicted."""
        self.begin("ab", SlowReceiver.EVICT)
        self.cluster.narrow("b", NARROW)
        self.flood(2 * LIMIT_SECONDS)
        self.assertEqual((self.slow("a"), self.evicted("a")), ([], []))
        self.assertTrue(self.cluster.converged())


class EvictTests(SlowCase):
    """``slow_receiver = evict``."""

    def check_evicted(self, *slow: str) -> None:
        """All say the same of it, those who are evicted too."""
        rest = [name for name in sorted(self.cluster.nodes) if name not in slow]
        for name in rest:
            news = self.evicted(name)
            self.assertEqual(sorted(one.node.name for one in news), list(slow))
            for one in news:
                self.assertTrue({who.name for who in one.by} <= set(rest))
                self.assertGreater(one.lag_bytes, 10_000)
                self.assertGreater(one.seconds, LIMIT_SECONDS * 0.99)
            departed = self.cluster.node(name).views[-1].departed
            self.assertEqual([(one.node.name, one.reason) for one in departed], [(n, Reason.EVICTION) for n in slow])
        for name in slow:
            self.cluster.run_until(lambda name=name: bool(self.evicted(name)), 10.0)  # type: ignore[misc]
            (own,) = self.evicted(name)
            self.assertEqual(own.node.name, name)
            self.assertTrue(own.by and {who.name for who in own.by} <= set(rest))

    def test_out_once_and_the_others_at_full_speed(self) -> None:
        """All agree, every group view says why, the evicted node learns it and goes on alone; then it comes back."""
        self.begin("abcd", SlowReceiver.EVICT)
        self.assertGreater(self.flood(1.0), 0.9)
        before = self.views()
        slow = self.members_of_chat[3].member
        self.cluster.narrow("d", NARROW)
        took = self.wait_until_out("d")
        self.assertGreater(took, LIMIT_SECONDS)
        self.assertGreater(self.flood(3.0), 0.9)
        self.check_evicted("d")
        self.assertEqual(self.views(), [count + 1 for count in before])
        for client in self.members_of_chat[:3]:
            view = client.view("chat")
            assert view is not None
            self.assertEqual(view.left, (Departure(slow, Reason.EVICTION),))
        alone = self.members_of_chat[3].view("chat")
        assert alone is not None
        self.assertEqual(alone.members, (slow,))
        self.assertEqual({gone.reason for gone in alone.left}, {Reason.PARTITION})
        status = self.cluster.node("d").status()
        self.assertEqual([node.name for node in status.evicted_by], ["a", "b", "c"])
        self.assertEqual([one.node.name for one in self.cluster.node("c").status().kept_out], ["d"])
        self.cluster.widen("d")
        took += 3.0 + self.cluster.run_until(self.cluster.converged, 15.0)
        self.assertGreater(took, LIMIT_SECONDS + self.cluster.config.timing.readmit)
        self.settle()
        self.assertEqual(self.cluster.node("d").status().evicted_by, ())

    def test_kept_out_for_longer_each_time(self) -> None:
        """A line that stays slow: evicted, back after 10 s, evicted, back after 20 s, and no view more than that."""
        self.begin("abcd", SlowReceiver.EVICT, seconds=1.0)
        self.cluster.narrow("d", NARROW)
        before = self.views()[0]
        for kept_out in (10.0, 20.0):
            self.wait_until_out("d", limit=3.0)
            left_at = self.cluster.now
            self.cluster.run_until(self.at_rest, 30.0)
            self.cluster.run_until(self.cluster.converged, kept_out + 3.0)
            self.assertGreater(self.cluster.now - left_at, kept_out)
        self.assertEqual([one.kept_out_seconds for one in self.evicted("b")], [10.0, 20.0])
        self.assertEqual(self.views(), [before + 4] * 4)
        self.settle(60.0)

    def test_a_restart_does_not_let_it_in_sooner(self) -> None:
        """It goes by the name: who comes back as a new run waits like the old one."""
        self.begin("abcd", SlowReceiver.EVICT, seconds=1.0)
        self.cluster.narrow("d", NARROW)
        self.wait_until_out("d", limit=3.0)
        left_at = self.cluster.now
        self.cluster.node("d").restart()
        self.cluster.widen("d")
        self.cluster.run_until(self.cluster.converged, 15.0)
        self.assertGreater(self.cluster.now - left_at, self.cluster.config.timing.readmit)
        self.settle()

    def test_whoever_it_is(self) -> None:
        """The lowest of all, who would begin a merge, and the sequencer are evicted and kept out like any other."""
        for slow, sender in (("a", 1), ("b", 0)):
            self.begin("abc", SlowReceiver.EVICT, seconds=1.0)
            self.members_of_chat[0], self.members_of_chat[sender] = (
                self.members_of_chat[sender],
                self.members_of_chat[0],
            )
            self.cluster.narrow(slow, NARROW)
            self.wait_until_out(slow, limit=3.0)
            self.flood(5.0)
            self.assertFalse(self.cluster.converged())
            self.cluster.widen(slow)
            self.cluster.run_until(self.at_rest, 30.0)
            self.cluster.run_until(self.cluster.converged, 15.0)
            self.settle()

    def test_a_busy_host(self) -> None:
        """It need not be the line: a node that has not the time to take what comes is as slow."""
        self.begin("abcd", SlowReceiver.EVICT)
        node = self.cluster.node("c")
        node.turn_seconds, node.buffer_bytes = 0.8, 200_000
        self.wait_until_out("c", limit=2 * LIMIT_SECONDS)
        self.check_evicted("c")
        node.turn_seconds = 0.001
        self.cluster.run_until(self.cluster.converged, 20.0)
        self.settle()

    def test_two_of_five(self) -> None:
        """Both go, in one change or in two: the second also because it says its word too late in that of the first."""
        self.begin("abcde", SlowReceiver.EVICT)
        before = self.views()[0]
        self.cluster.narrow("b", NARROW)
        self.cluster.narrow("d", NARROW)
        self.wait_until_out("b", "d", limit=4 * LIMIT_SECONDS)
        for name in "ace":
            views = self.cluster.node(name).views[before:]
            gone = [(one.node.name, one.reason) for view in views for one in view.departed]
            self.assertEqual(sorted(gone), [("b", Reason.EVICTION), ("d", Reason.EVICTION)])
            self.assertTrue(self.evicted(name))

    def test_two_senders(self) -> None:
        """Each holds the slow node to account for its own stream, and it goes once."""
        self.begin("abcd", SlowReceiver.EVICT)
        before = self.views()
        self.cluster.narrow("d", NARROW)
        self.flood(LIMIT_SECONDS + DECISION_SECONDS, (0, 1))
        self.check_evicted("d")
        self.assertEqual(self.views(), [count + 1 for count in before])

    def test_with_loss_beside(self) -> None:
        """At 5 % loss on every host it is found as well."""
        self.begin("abcd", SlowReceiver.EVICT)
        self.cluster.network.conditions = Conditions(loss_probability=0.05)
        self.cluster.narrow("d", NARROW)
        self.wait_until_out("d", limit=2 * LIMIT_SECONDS)
        self.check_evicted("d")


class NobodyIsEvictedTests(SlowCase):
    """Where nobody is slow, or one node alone thinks so."""

    def check_nobody(self) -> None:
        self.assertEqual([self.evicted(name) for name in sorted(self.cluster.nodes)], [[]] * len(self.cluster.nodes))
        self.assertTrue(self.cluster.converged())
        self.assertEqual(self.views(), [self.views()[0]] * len(self.cluster.nodes))

    def test_loss_that_everybody_has(self) -> None:
        """At 20 % loss on every host, in views of three and of five, with one sender and with two."""
        for names, senders in (("abc", (0,)), ("abcde", (0, 1))):
            self.begin(names, SlowReceiver.EVICT, seed=len(names))
            self.cluster.network.conditions = Conditions(loss_probability=0.2)
            self.flood(3 * LIMIT_SECONDS, senders)
            self.check_nobody()
            self.assertEqual(self.slow("a"), [])

    def test_pauses(self) -> None:
        """A node that stands still for less than a suspicion takes, again and again, is not slow."""
        self.begin("abc", SlowReceiver.EVICT)
        for _ in range(6):
            self.cluster.node("c").pause()
            self.flood(0.8)
            self.cluster.node("c").resume()
            self.flood(0.5)
        self.check_nobody()

    def test_an_accuser_that_does_not_hear_the_accused(self) -> None:
        """It says that it waits, and whom for; but nobody else sees that, and so nobody goes."""
        self.begin("abcd", SlowReceiver.EVICT)
        deaf, mute = self.cluster.node("a").address, self.cluster.node("d").address

        def loses(data: bytes, source: Address, receiver: Address) -> bool:
            return source == mute and receiver == deaf and packet_kind(data) == "STATUS"

        self.cluster.network.loses = loses
        self.flood(2 * LIMIT_SECONDS)
        self.assertEqual(self.slow("a"), [("d", False)])
        self.check_nobody()

    def test_a_sender_whose_own_line_is_slow(self) -> None:
        """What it knows of all others is equally old: it accuses nobody, and others who send find that it is slow."""
        self.begin("abcd", SlowReceiver.EVICT)
        self.cluster.narrow("a", NARROW / 10)
        self.flood(2 * LIMIT_SECONDS)
        self.assertEqual(self.slow("a"), [])
        self.check_nobody()
