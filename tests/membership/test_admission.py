"""Who may come in: newcomers at the gate, and whole views."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from groupcomm.config import EngineConfig
from groupcomm.identity import NodeId, ViewId
from groupcomm.limits import MAX_STRANGERS
from groupcomm.membership.admission import Admission
from groupcomm.membership.flapping import Flapping
from groupcomm.membership.peers import Peers
from groupcomm.membership.readmission import Readmission
from groupcomm.wire.codec import view_id_digest
from groupcomm.wire.messages import Beacon

A, B, C, D, E = (NodeId(name, 1) for name in "abcde")
MINE, THEIRS = ViewId(1, A), ViewId(2, C)
CONFIG = EngineConfig()
TIMING = CONFIG.timing


def address(node: NodeId) -> tuple[str, int]:
    """Where a node is."""
    return "10.0.0.1", ord(node.name[-1])


class AdmissionCase(SynchronousTestCase):
    """What node ``me`` knows of others from their beacons."""

    me = A
    config = CONFIG

    def setUp(self) -> None:
        self.peers = Peers()
        self.readmission = Readmission(TIMING.readmit)
        self.flapping = Flapping(self.me, TIMING.flap)
        self.admission = Admission(self.me, self.config, self.readmission, self.flapping)

    def beacon(
        self, node: NodeId, now: float, view: ViewId | None = None, size: int = 0, heard: tuple[ViewId, ...] = ()
    ) -> None:
        """``node`` says where it is and which other views it hears."""
        peer = self.peers.heard(node, address(node), now)
        peer.beacon = Beacon(node, view, size, 1, False, False, tuple(view_id_digest(other) for other in heard))


class FounderTests(AdmissionCase):
    """Newcomers among themselves."""

    def founders(self, waited: float, now: float) -> list[NodeId] | None:
        return self.admission.founders(self.peers, waited, now)

    def test_a_node_that_hears_nobody_founds_a_view_alone(self) -> None:
        """When it has listened long enough and nobody is there."""
        self.assertEqual(self.founders(TIMING.first, 10.0), [])

    def test_the_lowest_founds_for_all(self) -> None:
        """It takes all newcomers it hears, once no further one has come for a while."""
        self.beacon(C, 9.9)
        self.beacon(B, 9.9)
        self.assertIsNone(self.founders(TIMING.first, 10.0))
        self.assertIsNone(self.founders(TIMING.first, 10.0 + TIMING.stage_quiet * 0.9))
        self.assertEqual(self.founders(TIMING.first, 10.0 + TIMING.stage_quiet), [B, C])

    def test_collecting_ends(self) -> None:
        """Newcomers who keep coming hold the founding up for so long and no longer."""
        now, found = 10.0, None
        for number in range(100):
            self.beacon(NodeId(f"n{number:03}", 1), now)
            found = self.founders(TIMING.first, now)
            if found is not None:
                break
            now += TIMING.stage_quiet * 0.9
        assert found is not None
        self.assertTrue(TIMING.stage <= now - 10.0 <= TIMING.stage + TIMING.stage_quiet, now)

    def test_a_founded_view_has_room_for_so_many(self) -> None:
        """Of more newcomers than fit, the first in order come in."""
        self.admission = Admission(A, EngineConfig(max_nodes=8), self.readmission, self.flapping)
        nodes = [NodeId(f"n{number:03}", 1) for number in range(9)]
        for node in nodes:
            self.beacon(node, 9.9)
        self.founders(TIMING.first, 9.9)
        self.assertEqual(self.founders(TIMING.first, 10.0), nodes[:7])

    def test_where_there_is_a_view_none_is_founded(self) -> None:
        """A newcomer that hears members of a view waits for its gate, until it is clear that it does not open."""
        self.beacon(C, 9.9, THEIRS, 1)
        self.assertIsNone(self.founders(TIMING.blocked * 0.99, 10.0))
        self.assertEqual(self.founders(TIMING.blocked, 10.0), [])

    def test_the_silent_do_not_count(self) -> None:
        """Who was not heard for six heartbeats is taken for gone."""
        self.beacon(C, 10.0 - 6 * TIMING.heartbeat - 0.01, THEIRS, 1)
        self.assertEqual(self.founders(TIMING.first, 10.0), [])


class HigherFounderTests(AdmissionCase):
    """A newcomer that is not the lowest."""

    me = C

    def test_the_others_wait_for_the_lowest(self) -> None:
        """They found only if the lowest has not in twice the time."""
        self.beacon(B, 9.9)
        self.admission.founders(self.peers, TIMING.first, 9.9)
        self.assertIsNone(self.admission.founders(self.peers, 1.99 * TIMING.first, 10.0))
        self.admission.founders(self.peers, 2 * TIMING.first, 10.0)
        self.assertEqual(self.admission.founders(self.peers, 2 * TIMING.first, 10.1), [B])


class GateTests(AdmissionCase):
    """Newcomers at the gate of a view."""

    def wanted(self, now: float, members: tuple[NodeId, ...] = (A, B)) -> list[NodeId]:
        self.peers.keep(members)
        return self.admission.wanted(self.peers, members, MINE, now)

    def test_newcomers_come_in_batches(self) -> None:
        """They are collected until no further one comes, and then come in together."""
        self.assertEqual(self.wanted(10.0), [])
        self.beacon(D, 10.0)
        self.assertEqual(self.wanted(10.0), [])
        self.beacon(C, 10.02)
        self.assertEqual(self.wanted(10.02), [])
        self.assertEqual(self.wanted(10.02 + TIMING.stage_quiet + 0.001), [C, D])

    def test_who_was_left_out_must_be_heard_again(self) -> None:
        """A newcomer that was silent during a change does not start the next by what it said before."""
        self.beacon(D, 10.0)
        self.admission.installed(10.1, delays=False)
        for now in (10.1, 10.3):
            self.assertEqual(self.wanted(now), [])
        self.beacon(D, 10.35)
        self.wanted(10.35)
        self.assertEqual(self.wanted(10.35 + TIMING.stage_quiet + 0.001), [D])

    def test_only_the_lowest_member_is_the_gate(self) -> None:
        """Another member lets nobody in."""
        admission = Admission(B, CONFIG, self.readmission, self.flapping)
        self.peers.keep((A, B))
        self.beacon(D, 10.0)
        for now in (10.0, 10.5):
            self.assertEqual(admission.wanted(self.peers, (A, B), MINE, now), [])

    def test_a_full_view_lets_nobody_in(self) -> None:
        """There is room for so many nodes; the first in order come in."""
        members = (A, *(NodeId(f"m{number:03}", 1) for number in range(CONFIG.max_nodes - 2)))
        self.beacon(E, 10.0)
        self.beacon(D, 10.0)
        self.wanted(10.0, members)
        self.assertEqual(self.wanted(10.2, members), [D])
        self.assertEqual(self.wanted(10.4, (*members, NodeId("z", 1))), [])

    def test_a_second_run_of_a_members_name_waits(self) -> None:
        """As long as the name is in the view, a newcomer with it does not come in beside it."""
        self.beacon(NodeId("b", 2), 10.0)
        self.wanted(10.0)
        self.assertEqual(self.wanted(10.2), [])

    def test_a_restarted_member_is_known(self) -> None:
        """Its name is heard under a higher incarnation while it is silent itself; a lower one proves nothing."""
        self.peers.keep((A, B))
        self.peers.heard(B, address(B), 10.0)
        self.beacon(NodeId("b", 2), 10.0)
        self.assertEqual(self.admission.restarted(self.peers, (A, B), 10.0 + TIMING.probe_after), [])
        late = 10.1 + TIMING.probe_after
        self.assertEqual(self.admission.restarted(self.peers, (A, B), late), [B])
        self.peers.forget(NodeId("b", 2))
        self.beacon(NodeId("b", 0), 10.0)
        self.assertEqual(self.admission.restarted(self.peers, (A, B), late), [])

    def test_views_that_are_heard_whole_are_named(self) -> None:
        """The beacon names the other views of which every node was heard lately."""
        self.peers.keep((A, B))
        self.beacon(B, 10.0, MINE, 2)
        self.beacon(C, 10.0, THEIRS, 2)
        self.assertEqual(self.admission.heard(self.peers, MINE, 10.0), ())
        self.beacon(D, 10.0, THEIRS, 2)
        self.beacon(E, 10.0, ViewId(3, E), 1)
        both = view_id_digest(THEIRS), view_id_digest(ViewId(3, E))
        self.assertEqual(self.admission.heard(self.peers, MINE, 10.0), both)
        self.beacon(E, 10.0 + TIMING.heartbeat, ViewId(3, E), 1)
        self.assertEqual(self.admission.heard(self.peers, MINE, 10.0 + 6.5 * TIMING.heartbeat), both[1:])

    def test_nodes_of_a_large_view_are_heard_more_rarely(self) -> None:
        """A view of 512 nodes sends its beacons at an eighth of the pace, and is not taken for gone meanwhile."""
        self.beacon(C, 10.0, THEIRS, 512)
        self.beacon(D, 10.0, THEIRS, 64)
        self.assertEqual(self.admission.known(self.peers, 10.0 + 6 * TIMING.heartbeat), 2)
        self.assertEqual(self.admission.known(self.peers, 10.0 + 8 * TIMING.heartbeat), 1)
        self.assertEqual(self.admission.known(self.peers, 10.0 + 49 * TIMING.heartbeat), 0)


class MergeTests(AdmissionCase):
    """Two views that hear each other."""

    def all_hear(self, now: float, deaf: NodeId | None = None) -> list[NodeId]:
        """Beacons of both views, of which all but ``deaf`` hear the whole other view; whom node a takes in."""
        self.peers.keep((A, B))
        for node, other, view in ((B, THEIRS, MINE), (C, MINE, THEIRS), (D, MINE, THEIRS)):
            self.beacon(node, now, view, 2, () if node == deaf else (other,))
        return self.admission.wanted(self.peers, (A, B), MINE, now)

    def test_views_that_hear_each_other_merge_after_a_while(self) -> None:
        """Every cross pair must hear each other both ways for so long."""
        self.assertEqual(self.all_hear(10.0), [])
        self.assertEqual(self.all_hear(10.0 + TIMING.merge - 0.01), [])
        self.assertEqual(self.all_hear(10.0 + TIMING.merge), [C, D])

    def test_one_deaf_node_keeps_views_apart(self) -> None:
        """A node of either view that does not hear the other starts the time anew."""
        for deaf in (B, C, D):
            self.setUp()
            self.all_hear(10.0)
            self.all_hear(10.5, deaf)
            self.assertEqual(self.all_hear(10.0 + TIMING.merge), [])
            self.assertEqual(self.all_hear(10.0 + 2 * TIMING.merge), [C, D])

    def test_a_view_that_is_not_heard_whole_does_not_merge(self) -> None:
        """As long as a node of it is missing, so that there are fewer than it says, it stays outside."""
        self.peers.keep((A, B))
        for now in (10.0, 10.5, 11.0):
            self.beacon(B, now, MINE, 2, (THEIRS,))
            self.beacon(C, now, THEIRS, 2, (MINE,))
            self.assertEqual(self.admission.wanted(self.peers, (A, B), MINE, now), [])

    def test_the_lowest_of_all_begins(self) -> None:
        """The gate of the view with the lower node takes the others in; the other gate waits for it."""
        admission = Admission(C, CONFIG, self.readmission, self.flapping)
        self.peers.keep((C, D))
        for now in (10.0, 10.5, 11.0, 11.5):
            for node, other, view in ((D, MINE, THEIRS), (A, THEIRS, MINE), (B, THEIRS, MINE)):
                self.beacon(node, now, view, 2, (other,))
            self.assertEqual(admission.wanted(self.peers, (C, D), THEIRS, now), [])

    def test_views_that_do_not_fit_together_stay_apart(self) -> None:
        """A merge that would exceed the largest view does not begin."""
        self.admission = Admission(A, EngineConfig(max_nodes=3), self.readmission, self.flapping)
        self.all_hear(10.0)
        self.assertEqual(self.all_hear(11.0), [])
        self.assertEqual(self.all_hear(12.0), [])


class PeerTests(SynchronousTestCase):
    """Whom a node remembers."""

    def setUp(self) -> None:
        self.peers = Peers()

    def test_a_node_is_found_by_name_and_by_address(self) -> None:
        """Its last address counts, and who spoke from it last owns it."""
        peer = self.peers.heard(B, ("10.0.0.2", 1), 1.0)
        self.assertIs(self.peers.at(("10.0.0.2", 1)), peer)
        self.peers.heard(B, ("10.0.0.3", 1), 2.0)
        self.assertIsNone(self.peers.at(("10.0.0.2", 1)))
        self.assertIs(self.peers.at(("10.0.0.3", 1)), self.peers.get(B))
        self.assertEqual((peer.seen_at, peer.heard_at), (1.0, 2.0))

    def test_strangers_are_bounded_and_members_stay(self) -> None:
        """One stranger more than remembered makes the longest silent be forgotten, never a member."""
        self.peers.heard(B, ("10.0.0.2", 1), 0.0)
        self.peers.keep((A, B))
        nodes = [NodeId(f"n{number:03}", 1) for number in range(MAX_STRANGERS + 2)]
        for number, node in enumerate(nodes):
            self.peers.heard(node, ("10.0.1.1", number), 1.0 + number)
        self.assertEqual(len(self.peers.strangers()), MAX_STRANGERS + 1)
        self.assertIsNone(self.peers.get(nodes[0]))
        self.assertIsNone(self.peers.at(("10.0.1.1", 0)))
        self.assertIsNotNone(self.peers.get(B))

    def test_a_pause_of_our_own_is_nobodys_silence(self) -> None:
        """Time in which this node did not run is not counted against others."""
        peer = self.peers.heard(B, ("10.0.0.2", 1), 1.0)
        self.peers.excuse(5.0)
        self.assertEqual(peer.heard_at, 6.0)


class KeptOutTests(AdmissionCase):
    """Who was evicted for being slow."""

    def test_a_view_with_such_a_node_is_not_named(self) -> None:
        """Nor is it merged with: as long as one node does not name it, nobody begins."""
        self.beacon(B, 10.0, MINE, 2, heard=(THEIRS,))
        self.beacon(C, 10.0, THEIRS, 1, heard=(MINE,))
        self.peers.keep((A, B))
        self.assertEqual(self.admission.heard(self.peers, MINE, 10.0), (view_id_digest(THEIRS),))
        kept_out = self.readmission.evicted(C, 5, 10.0)
        self.assertEqual(self.admission.heard(self.peers, MINE, 10.1), ())
        until = 10.0 + kept_out
        for step in range(100):
            now = 10.0 + step * 0.2
            self.beacon(B, now, MINE, 2, heard=(THEIRS,))
            self.beacon(C, now, THEIRS, 1, heard=(MINE,))
            wanted = self.admission.wanted(self.peers, (A, B), MINE, now)
            self.assertEqual(wanted, [C] if now >= until + TIMING.merge else [], now)
            if wanted:
                return
        self.fail("it never came back")

    def test_a_later_run_of_its_name_is_not_let_in(self) -> None:
        """The gate goes by the name."""
        self.peers.keep((A, B))
        until = 10.0 + self.readmission.evicted(C, 5, 10.0)
        again = NodeId(C.name, 2)
        for now, expected in ((until - 0.01, []), (until + 1.0, []), (until + 1.0 + TIMING.stage_quiet, [again])):
            self.beacon(again, now)
            self.assertEqual(self.admission.wanted(self.peers, (A, B), MINE, now), expected, now)
