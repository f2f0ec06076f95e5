"""Who accuses whom of being slow, and when enough do."""

from __future__ import annotations

from collections.abc import Collection

from twisted.trial.unittest import SynchronousTestCase

from groupcomm.config import EngineConfig, SlowReceiver
from groupcomm.events import Reason
from groupcomm.identity import NodeId, ViewId
from groupcomm.membership.eviction import Eviction
from groupcomm.membership.lane import Seen
from groupcomm.membership.peers import Peers
from groupcomm.outputs import NodeEvicted, Output, ReceiverSlow, SlowState
from groupcomm.reliability.counters import Counters
from groupcomm.wire.messages import Beacon, Departed, SlowNote, SlowWord

A, B, C, D = ALL = tuple(NodeId(name, 1) for name in "abcd")
VIEW, NEXT = ViewId(1, A), ViewId(2, A)
LIMIT = 2.0
LOOK_SECONDS = 0.05


class Host:
    """Streams in which whoever is named is behind."""

    def __init__(self) -> None:
        self.holding: tuple[NodeId, ...] = ()
        self.trailing: tuple[NodeId, ...] = ()
        self.lagging: tuple[NodeId, ...] = ()
        self.lane: tuple[NodeId, ...] = ()
        self.lacking: tuple[NodeId, ...] = ()
        self.spent = False
        self.handed_to: list[NodeId] = []
        self.told: list[Output] = []

    def look(self) -> Seen:
        return Seen(self.holding, self.trailing, self.lagging, self.spent)

    def lacks_much(self) -> tuple[NodeId, ...]:
        return self.lacking

    def take_into_lane(self, nodes: Collection[NodeId]) -> None:
        self.lane = tuple(sorted(nodes))

    def hand_over(self, node: NodeId) -> None:
        self.handed_to.append(node)

    def lag_bytes(self, node: NodeId) -> int:
        return 5_000

    def tell(self, output: Output) -> None:
        self.told.append(output)


class EvictionCase(SynchronousTestCase):
    """Node a in a view of four."""

    policy = SlowReceiver.EVICT

    def setUp(self) -> None:
        self.now = 100.0
        self.host, self.peers, self.counters = Host(), Peers(), Counters()
        config = EngineConfig(slow_receiver=self.policy, slow_receiver_seconds=LIMIT)
        self.eviction = Eviction(A, config, self.host, self.counters)
        self.look()

    def look(self, seconds: float = LOOK_SECONDS, silent: tuple[NodeId, ...] = ()) -> int:
        """Look for so long; how often the accusations changed."""
        changes = 0
        for _ in range(round(seconds / LOOK_SECONDS)):
            self.now += LOOK_SECONDS
            for node in (B, C, D):
                if node not in silent:
                    self.peers.heard(node, ("10.0.0.1", ord(node.name)), self.now)
            changes += self.eviction.look(self.peers, self.now)
        return changes

    def says(self, node: NodeId, *notes: SlowNote, view: ViewId = VIEW) -> bool:
        """A beacon of another node comes."""
        return self.eviction.beacon_came(Beacon(node, view, 4, 1, False, False, (), notes), VIEW, ALL, self.now)

    def enough(self) -> bool:
        return self.eviction.enough(VIEW, ALL, self.now)


def claim(node: NodeId) -> SlowNote:
    """A sender waits for it."""
    return SlowNote(SlowWord.CLAIM, node, 7_000, 2_100)


def confirmation(node: NodeId) -> SlowNote:
    """Another has seen that it is behind."""
    return SlowNote(SlowWord.CONFIRMATION, node, 0, 2_000)


class AccusingTests(EvictionCase):
    """What a node says of what it sees."""

    def test_a_sender_claims(self) -> None:
        """When its time is up, once, with bytes and seconds; and takes it back when it is over."""
        self.host.holding = self.host.trailing = (D,)
        self.assertEqual(self.look(LIMIT - LOOK_SECONDS), 0)
        self.assertEqual(self.eviction.notes(self.now), ())
        self.assertEqual(self.look(2 * LOOK_SECONDS), 1)
        (note,) = self.eviction.notes(self.now)
        self.assertEqual((note.word, note.node, note.lag_bytes), (SlowWord.CLAIM, D, 5_000))
        self.assertLess(abs(note.milliseconds / 1000 - LIMIT), 3 * LOOK_SECONDS)
        (news,) = self.host.told
        assert isinstance(news, ReceiverSlow)
        self.assertEqual((news.node, news.lag_bytes, news.over), (D, 5_000, False))
        (shown,) = self.eviction.slow(self.now)
        self.assertEqual((shown.node, shown.lag_bytes), (D, 5_000))
        self.assertEqual(self.counters["slow_receivers"], 1)
        self.host.holding = ()
        self.assertEqual(self.look(LIMIT), 1)
        self.assertEqual((self.eviction.notes(self.now), self.eviction.slow(self.now)), ((), ()))
        self.assertEqual(self.host.told[1:], [ReceiverSlow(D, 0, 0.0, True)])

    def test_others_confirm(self) -> None:
        """If there is a claim, and they have seen the same for half of the time."""
        self.host.trailing = (D,)
        self.look(LIMIT)
        self.assertEqual(self.eviction.accused, frozenset(), "nobody says to be held up")
        self.says(B, confirmation(D))
        self.assertEqual(self.look(), 0)
        self.says(B, claim(D), claim(C))
        self.assertEqual(self.look(), 1)
        self.assertEqual([note.word for note in self.eviction.notes(self.now)], [SlowWord.CONFIRMATION])
        self.assertEqual(self.eviction.accused, {D})

    def test_half_of_the_time(self) -> None:
        """And not less."""
        self.host.trailing = (D,)
        for seconds, accused in ((LIMIT / 2 - 2 * LOOK_SECONDS, frozenset()), (2 * LOOK_SECONDS, {D})):
            self.says(B, claim(D))
            self.look(seconds)
            self.says(B, claim(D))
            self.look()
            self.assertEqual(self.eviction.accused, accused)

    def test_who_is_silent_is_not_slow(self) -> None:
        """That is failure detection's."""
        self.host.holding = self.host.trailing = (D,)
        self.look(10 * LIMIT, silent=(D,))
        self.assertEqual((self.eviction.accused, self.host.told), (frozenset(), []))


class WaitingTests(EvictionCase):
    """A node that was told to wait."""

    policy = SlowReceiver.WAIT

    def test_it_says_so_and_accuses_nobody(self) -> None:
        """Neither of what it sees itself nor with others."""
        self.host.holding = self.host.trailing = (D,)
        self.says(B, claim(D))
        self.look(2 * LIMIT)
        self.assertEqual(len(self.host.told), 1)
        self.assertEqual((self.eviction.accused, self.eviction.notes(self.now)), (frozenset(), ()))
        self.assertFalse(self.enough())

    def test_a_new_view_changes_nothing(self) -> None:
        """Who is slow is slow in the next view too; who is gone is not."""
        self.host.holding = (C, D)
        self.look(LIMIT + LOOK_SECONDS)
        self.eviction.installed((), (A, B, D), {}, self.now)
        self.assertEqual([one.node for one in self.eviction.slow(self.now)], [D])


class CatchUpTests(EvictionCase):
    """A node that goes on without a slow one."""

    policy = SlowReceiver.CATCH_UP

    def setUp(self) -> None:
        super().setUp()
        self.host.holding = self.host.trailing = (D,)
        self.look(LIMIT + LOOK_SECONDS)
        self.host.holding, self.host.lagging = (), (D,)

    def states(self) -> list[SlowState]:
        return [one.state for one in self.host.told if isinstance(one, ReceiverSlow) and not one.over]

    def test_it_is_taken_into_the_lane(self) -> None:
        """When its time is up; it is said, with bytes and seconds, and accuses nobody."""
        self.assertEqual((self.host.lane, self.states()), ((D,), [SlowState.CATCHING_UP]))
        self.look(5.0)
        (note,) = self.eviction.notes(self.now)
        self.assertEqual((note.word, note.node, note.lag_bytes), (SlowWord.CATCHING_UP, D, 5_000))
        self.assertEqual(self.eviction.accused, frozenset())
        self.says(B, note)
        self.says(C, note)
        self.assertFalse(self.enough(), "three who go on without it want nobody out")
        self.assertEqual([one.by for one in self.eviction.catching_up(self.now)], [A, B, C])
        (slow,) = self.eviction.slow(self.now)
        self.assertEqual(slow.state, SlowState.CATCHING_UP)

    def test_it_has_caught_up(self) -> None:
        """It counts again at once, and is slow no more after a while; meanwhile one look takes it in again."""
        self.host.lagging = ()
        self.look()
        self.assertEqual((self.host.lane, self.eviction.notes(self.now)), ((), ()))
        self.host.holding = (D,)
        self.look()
        self.assertEqual(self.host.lane, (D,))
        self.host.holding = ()
        self.look(LIMIT)
        self.assertEqual(self.host.told[-1], ReceiverSlow(D, 0, 0.0, True))
        self.assertEqual(self.states(), [SlowState.CATCHING_UP])

    def test_no_more_room(self) -> None:
        """It is claimed, and with another who has seen it behind it goes."""
        self.host.spent = True
        self.look()
        self.assertEqual(self.states(), [SlowState.CATCHING_UP, SlowState.SPENT])
        self.assertEqual(self.eviction.notes(self.now)[0].word, SlowWord.CLAIM)
        self.assertFalse(self.enough())
        self.says(B, confirmation(D))
        self.assertTrue(self.enough())
        self.assertEqual(self.eviction.found(D, self.now)[0], 5_000)
        self.host.spent = False
        self.look()
        self.assertEqual(self.states(), [SlowState.CATCHING_UP, SlowState.SPENT], "said once")
        self.assertEqual(self.eviction.accused, {D})

    def test_no_more_time(self) -> None:
        """However much room there is."""
        self.look(59.0)
        self.assertEqual(self.eviction.accused, frozenset())
        self.look(2.0)
        self.assertEqual(self.eviction.accused, {D})

    def test_a_new_view(self) -> None:
        """The lane is empty; who is slow still is taken in at the first look that finds it in the way."""
        self.eviction.installed((), ALL, {}, self.now)
        self.host.lagging = ()
        self.assertEqual(self.eviction.in_lanes(), set())
        self.look()
        self.assertEqual(self.eviction.notes(self.now), ())
        self.host.holding = (D,)
        self.look()
        self.assertEqual(self.eviction.in_lanes(), {D})

    def test_the_sequencer_in_a_lane(self) -> None:
        """It gives its role to who says so; and who lacks much of what it hears does not blame others for silence."""
        self.says(B, SlowNote(SlowWord.CATCHING_UP, A, 1, 1))
        self.assertEqual(self.host.handed_to, [B])
        self.assertFalse(self.eviction.is_overrun(self.peers, self.now))
        self.host.lacking = (B,)
        self.assertTrue(self.eviction.is_overrun(self.peers, self.now))
        self.assertFalse(self.eviction.is_overrun(self.peers, self.now + 1.0), "the sender is silent too")


class EnoughTests(EvictionCase):
    """When a change begins."""

    def setUp(self) -> None:
        super().setUp()
        self.host.holding = self.host.trailing = (D,)
        self.look(LIMIT + LOOK_SECONDS)

    def test_two_of_three(self) -> None:
        """This node and one other are enough; this node alone is not, nor with one who accuses somebody else."""
        self.assertFalse(self.enough())
        self.says(B, claim(C))
        self.assertFalse(self.enough())
        self.says(B, confirmation(D))
        self.assertTrue(self.enough())

    def test_what_was_said_long_ago(self) -> None:
        """It counts for a second."""
        self.says(B, confirmation(D))
        self.now += 0.99
        self.assertTrue(self.enough())
        self.now += 0.02
        self.assertFalse(self.enough())

    def test_what_was_taken_back(self) -> None:
        """It counts no more."""
        self.says(B, confirmation(D))
        self.says(B)
        self.assertFalse(self.enough())

    def test_another_view(self) -> None:
        """What is said there does not count here, nor what is said by a node that is not of the view."""
        self.says(B, confirmation(D), view=NEXT)
        self.says(NodeId("x", 1), confirmation(D))
        self.assertFalse(self.enough())
        self.host.holding = self.host.trailing = (C,)
        self.says(NodeId("x", 1), claim(C))
        self.look(LIMIT / 2)
        self.assertNotIn(C, self.eviction.accused)


class AfterwardsTests(EvictionCase):
    """What is known of an eviction."""

    def test_who_stays_keeps_it_out(self) -> None:
        """And says so: to its node, and to all by its beacon."""
        self.says(B, claim(D))
        self.says(C, claim(D))
        self.eviction.installed((Departed(D, Reason.EVICTION),), (A, B, C), {D: {B, C}}, self.now)
        self.assertEqual(self.host.told, [NodeEvicted(D, (B, C), 7_000, 2.1, 10.0)])
        self.assertEqual(self.eviction.notes(self.now + 4.0), (SlowNote(SlowWord.KEPT_OUT, D, 7_000, 6_000),))
        self.assertEqual(self.eviction.notes(self.now + 10.0), ())
        self.assertEqual(self.counters["evictions"], 1)

    def test_another_reason(self) -> None:
        """Who went for another reason, or was accused by nobody, is not kept out."""
        self.eviction.installed((Departed(D, Reason.NODE_FAILURE),), (A, B, C), {D: {B, C}}, self.now)
        self.eviction.installed((Departed(D, Reason.EVICTION),), (A, B, C), {}, self.now)
        self.assertEqual((self.host.told, self.eviction.notes(self.now)), ([], ()))

    def test_an_accusation_counts_in_one_view(self) -> None:
        """If the accused is in the next all the same, its time begins anew."""
        self.host.holding = self.host.trailing = (D,)
        self.look(LIMIT + LOOK_SECONDS)
        self.says(B, claim(D))
        self.eviction.installed((), ALL, {}, self.now)
        self.assertEqual(self.eviction.accused, frozenset())
        self.look(LIMIT / 2)
        self.assertEqual((self.eviction.accused, self.enough()), (frozenset(), False))

    def test_the_evicted_node_learns_it_in_its_change(self) -> None:
        """By whom, what it lacked and for how long."""
        self.says(B, claim(A))
        self.eviction.installed((Departed(B, Reason.PARTITION),), (A,), {A: {B, C}}, self.now)
        self.assertEqual(self.host.told, [NodeEvicted(A, (B, C), 7_000, 2.1, 10.0)])
        self.assertEqual(self.eviction.evicted_by(self.now), (B, C))
        self.assertEqual(self.counters["evicted"], 1)

    def test_or_later_by_a_beacon(self) -> None:
        """Once, and as long as it is kept out; by its name, since it may have been restarted."""
        kept_out = SlowNote(SlowWord.KEPT_OUT, NodeId(A.name, 0), 6_000, 8_000)
        self.assertFalse(self.says(B, SlowNote(SlowWord.KEPT_OUT, D, 1, 1), view=NEXT))
        self.assertTrue(self.says(B, kept_out, view=NEXT))
        self.assertTrue(self.says(C, kept_out, view=NEXT))
        self.assertEqual(self.host.told, [NodeEvicted(A, (B,), 6_000, 0.0, 8.0)])
        self.assertEqual(self.eviction.evicted_by(self.now + 7.9), (B, C))
        self.assertEqual(self.eviction.evicted_by(self.now + 8.0), ())

    def test_over_when_it_is_back(self) -> None:
        """In a view with one of them it is evicted no more; the next time is news again."""
        kept_out = SlowNote(SlowWord.KEPT_OUT, A, 6_000, 8_000)
        self.says(B, kept_out, view=NEXT)
        self.eviction.installed((), (A, B, C), {}, self.now)
        self.assertEqual(self.eviction.evicted_by(self.now), ())
        self.says(B, kept_out, view=NEXT)
        self.assertEqual(len(self.host.told), 2)
