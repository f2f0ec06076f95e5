"""``slow_receiver = catch-up``: the senders go on without a slow node, which gets everything, only later."""

from __future__ import annotations

from groupcomm.config import EngineConfig, SlowReceiver
from groupcomm.events import Level
from groupcomm.limits import DEFAULT_MTU_BYTES, MIN_WINDOW_BYTES, PACKET_OVERHEAD_BYTES
from groupcomm.outputs import ReceiverSlow, SlowState
from groupcomm.testing.network import Conditions
from groupcomm.wire.evidence import Finding
from tests.simulation.test_slow_receivers import OFFERED, SlowCase

SEEDS = (1, 2)
PACKET_BYTES = DEFAULT_MTU_BYTES + PACKET_OVERHEAD_BYTES
TENTH = OFFERED / 10


class CatchUpCase(SlowCase):
    """A cluster whose nodes were told so."""

    def begin_catching(self, names: str, seed: int = 1, room: int | None = None, seconds: float = 60.0) -> None:
        """As ``begin``; the limit is a second, and there is so much room and time to catch up."""
        config = EngineConfig(
            slow_receiver=SlowReceiver.CATCH_UP,
            slow_receiver_seconds=1.0,
            catch_up_bytes=room,
            catch_up_seconds=seconds,
        )
        self.begin_with(names, config, seed)

    def states(self, name: str) -> list[SlowState]:
        """What a node has said of a slow one, in order, but that it is over."""
        news = self.cluster.node(name).slow_news
        return [one.state for one in news if isinstance(one, ReceiverSlow) and not one.over]

    def check_view_kept(self, views: list[int]) -> None:
        self.assertEqual(self.views(), views)
        self.assertEqual(self.evicted("a"), [])


class CatchingUpTests(CatchUpCase):
    """There is room for what the slow node lacks."""

    def test_the_sender_keeps_its_rate(self) -> None:
        """With a line of a tenth of it: four fifths at least, and the slow one has everything in the end."""
        for seed in SEEDS:
            self.begin_catching("abcde", seed)
            full = self.flood(2.0)
            views = self.views()
            self.cluster.narrow("e", TENTH)
            self.flood(2.0)
            self.assertEqual(self.states("a"), [SlowState.CATCHING_UP], self.cluster.summary())
            self.assertGreater(self.flood(8.0), 0.8 * full)
            (status,) = self.cluster.node("a").status().slow
            self.assertEqual((status.node.name, status.state), ("e", SlowState.CATCHING_UP))
            self.assertGreater(status.lag_bytes, OFFERED)
            for name in "abcd":
                (seen,) = self.cluster.node(name).status().catching_up
                self.assertEqual((seen.node.name, seen.by.name), ("e", "a"))
                self.assertGreater(seen.lag_bytes, OFFERED)
            self.cluster.widen("e")
            self.flood(4.0)
            self.assertEqual(self.cluster.node("a").status().catching_up, ())
            self.check_view_kept(views)
            self.settle(60.0)

    def test_caught_up_while_the_senders_rest(self) -> None:
        """A line that stays slow is enough where there are pauses: nobody goes, and the lane is left each time."""
        self.begin_catching("abcd", room=4_000_000)
        views = self.views()
        self.cluster.narrow("d", TENTH)
        for _ in range(2):
            self.assertGreater(self.flood(2.0), 0.6)
            self.assertNotEqual(self.cluster.node("a").status().catching_up, ())
            self.cluster.run_until(lambda: self.cluster.node("a").status().catching_up == (), 60.0)
        self.check_view_kept(views)
        self.settle(60.0)

    def test_safe_waits_for_it(self) -> None:
        """SAFE and ``stable=True`` still mean that every member has it."""
        self.begin_catching("abcd")
        self.cluster.narrow("d", TENTH)
        self.flood(4.0)
        sender = self.members_of_chat[0]
        number = sender.send("chat", b"safe|", level=Level.SAFE)
        self.flood(2.0)
        self.assertNotIn(b"safe|", sender.messages())
        self.cluster.widen("d")
        self.flood(3.0)
        self.assertTrue(any(bytes(message).startswith(b"safe|") for message in sender.messages()), number)
        self.settle(60.0)

    def test_two_senders_and_loss(self) -> None:
        """Each has its own lane; packets get lost on the way to everybody; then a crash of a sender, and a newcomer."""
        for seed in SEEDS:
            self.begin_catching("abcde", seed)
            self.cluster.network.conditions = Conditions(loss_probability=0.02)
            self.cluster.narrow("e", TENTH)
            self.flood(3.0, (0, 1))
            by = {one.by.name for one in self.cluster.node("c").status().catching_up}
            self.assertTrue(by and by <= {"a", "b"}, by)
            self.cluster.node("b").crash()
            self.members_of_chat.pop(1)
            self.flood(5.0)
            self.cluster.add_nodes("f")
            self.flood(3.0)
            self.cluster.widen("e")
            self.cluster.run_until(lambda: self.cluster.converged("acdef"), 60.0)
            self.settle(60.0)


class SpentTests(CatchUpCase):
    """There is no room, or no time, for more."""

    def test_the_room_is_used_up(self) -> None:
        """It is evicted like any slow node, with bytes and seconds in the evidence, and comes back later."""
        for seed in SEEDS:
            self.begin_catching("abcde", seed, room=1_000_000)
            self.cluster.narrow("e", TENTH)
            took = self.wait_until_out("e", limit=8.0)
            self.assertGreater(took, 1_000_000 / OFFERED)
            self.assertEqual(self.states("a"), [SlowState.CATCHING_UP, SlowState.SPENT])
            (own,) = self.evicted("a")
            self.assertGreater(own.lag_bytes, 500_000)
            records = [one for one in self.cluster.node("c").views[-1].records if one.finding is Finding.TOO_SLOW]
            self.assertTrue(any(one.count > 500_000 and one.silent_milliseconds > 1000 for one in records), records)
            self.assertGreater(self.flood(2.0), 0.9)
            self.cluster.widen("e")
            self.cluster.run_until(self.cluster.converged, 20.0)
            self.settle(60.0)

    def test_the_time_is_over(self) -> None:
        """However much room there is."""
        self.begin_catching("abcd", seconds=3.0)
        self.cluster.narrow("d", TENTH)
        took = self.wait_until_out("d", limit=6.0)
        self.assertGreater(took, 4.0)

    def test_what_is_held_is_bounded(self) -> None:
        """Whatever two senders offer, no node holds much more than the room for those who catch up."""
        room = 1_000_000
        self.begin_catching("abcd", room=room)
        self.cluster.narrow("d", TENTH)
        most = 0
        while self.cluster.converged():
            self.flood(0.05, (0, 1))
            for name in "abc":
                peers = self.cluster.node(name).status().peers
                most = max(most, PACKET_BYTES * sum(peer.unstable_packets for peer in peers))
            self.assertLess(self.cluster.now, 20.0)
        self.assertGreater(most, room / 2)
        self.assertLess(most, room + 4 * MIN_WINDOW_BYTES)
