"""Who should be in the next view."""

from __future__ import annotations

from attrs import evolve
from twisted.trial.unittest import SynchronousTestCase

from groupcomm.identity import NodeId, ViewId
from groupcomm.membership.gather import Gather, agreement
from groupcomm.wire.codec import list_digest
from groupcomm.wire.evidence import Finding
from groupcomm.wire.messages import Join

A, B, C, D = ALL = tuple(NodeId(name, 1) for name in "abcd")
OLD = ViewId(1, A)
OTHER = ViewId(2, C)


def join(
    node: NodeId, hears: str, *, attempt: int = 1, serial: int = 1, agreed: int = 0, view: ViewId | None = None
) -> Join:
    """A JOIN of ``node`` with a row over a, b, c and d, in which those of ``hears`` have been heard."""
    heard = sum(1 << index for index, other in enumerate(ALL) if other.name in hears)
    listed = list_digest(ALL)
    return Join(node, view, None, False, attempt, attempt, serial, 1, agreed, listed, len(ALL), heard, None, ())


def hear(gather: Gather, said: Join) -> bool:
    """``gather`` takes a JOIN in."""
    return gather.heard(said, ALL)


class RowTests(SynchronousTestCase):
    """Candidates and their rows."""

    def setUp(self) -> None:
        self.gather = Gather(A, None, 1, [B, C], 0.0)

    def test_everybody_is_waited_for(self) -> None:
        """As long as a candidate has not been heard nothing is computed, unless the time for it is over."""
        self.assertEqual(self.gather.waited_for(), {B, C})
        hear(self.gather, join(B, "ac"))
        self.assertEqual(self.gather.waited_for(), {C})
        self.assertIsNone(self.gather.members(settled=False))
        self.assertEqual(self.gather.members(settled=True), (A, B))
        hear(self.gather, join(C, "ab"))
        self.assertEqual(self.gather.members(settled=False), (A, B, C))

    def test_old_words_are_not_heard(self) -> None:
        """A JOIN that repeats or precedes the last one says nothing new."""
        self.assertTrue(hear(self.gather, join(B, "a", serial=5)))
        self.assertFalse(hear(self.gather, join(B, "ac", serial=5)))
        self.assertFalse(hear(self.gather, join(B, "ac", serial=4)))
        self.assertTrue(hear(self.gather, join(B, "ac", serial=6)))

    def test_the_own_row_tells_who_was_heard_first_and_when(self) -> None:
        """It is a map of all candidates in order and changes when somebody is heard for the first time only."""
        self.assertEqual((self.gather.listed, self.gather.heard_map), ((A, B, C), 0b000))
        hear(self.gather, join(C, "", serial=7))
        self.assertEqual((self.gather.digest, self.gather.heard_map), (list_digest((A, B, C)), 0b100))
        hear(self.gather, join(C, "", serial=8))
        self.assertEqual((self.gather.heard_map, self.gather.complete), (0b100, False))
        hear(self.gather, join(B, ""))
        self.assertEqual((self.gather.heard_map, self.gather.complete), (0b110, True))

    def test_the_own_row_follows_the_list(self) -> None:
        """When candidates come and go, who was heard is still said of the same nodes."""
        hear(self.gather, join(C, ""))
        self.gather.exclude(B)
        self.assertEqual((self.gather.listed, self.gather.heard_map), ((A, C), 0b10))
        self.gather.widen([D, NodeId("aa", 1)], 9)
        self.assertEqual((self.gather.listed, self.gather.heard_map), ((A, NodeId("aa", 1), C, D), 0b0100))

    def test_more_candidates_up_to_a_limit(self) -> None:
        """Newcomers are taken in while there is room, and never those who are out."""
        self.assertTrue(self.gather.widen([D], 4))
        self.assertFalse(self.gather.widen([D], 4))
        self.assertFalse(self.gather.widen([NodeId("e", 1)], 4))
        self.gather.exclude(D)
        self.assertFalse(self.gather.widen([D], 9))
        self.assertEqual(self.gather.waited_for(), {B, C})

    def test_who_is_out_stays_out_of_the_change(self) -> None:
        """An excluded node is not heard any more; no node excludes itself."""
        hear(self.gather, join(B, "ac"))
        self.gather.exclude(B)
        self.gather.exclude(A)
        self.assertFalse(hear(self.gather, join(B, "ac", serial=9)))
        self.assertEqual(self.gather.members(settled=True), (A,))
        self.assertEqual(self.gather.listed, (A, C))

    def test_a_later_run_replaces_an_earlier_one(self) -> None:
        """When a name is heard under a higher incarnation, its earlier run is out and cannot come back."""
        again = NodeId("b", 2)
        self.gather.widen([again], 9)
        hear(self.gather, join(again, "ac"))
        self.assertIn(B, self.gather.out)
        self.assertFalse(self.gather.widen([B], 9))
        self.gather.exclude(again)
        self.assertEqual(self.gather.waited_for(), {C})

    def test_a_new_attempt_asks_everybody_anew(self) -> None:
        """The rows of an attempt do not count in the next; who is out stays out."""
        hear(self.gather, join(B, "ac"))
        self.gather.exclude(C)
        self.gather.restart(2, 5.0)
        self.assertEqual((self.gather.attempt, self.gather.begun, self.gather.started_at), (2, 1, 5.0))
        self.assertEqual(self.gather.waited_for(), {B})
        self.assertEqual((self.gather.listed, self.gather.heard_map), ((A, B), 0b00))


class MatrixTests(SynchronousTestCase):
    """The set in which all hear each other."""

    def members(self, *joins: Join, settled: bool = True) -> tuple[NodeId, ...] | None:
        gather = Gather(A, None, 1, [B, C, D], 0.0)
        for each in joins:
            hear(gather, each)
        return gather.members(settled=settled)

    def test_all_hear_all(self) -> None:
        """Then all are members, at once."""
        rows = join(B, "acd"), join(C, "abd"), join(D, "abc")
        self.assertEqual(self.members(*rows, settled=False), (A, B, C, D))

    def test_rows_over_other_lists_are_understood(self) -> None:
        """A row is a map of its sender's candidates, whatever this node's own are: nodes count, not places."""
        for hears, expected in ((0b0101, (A, C)), (0b0110, (A,))):
            gather = Gather(A, None, 1, [C], 0.0)
            names = (A, B, C, D)
            other = Join(C, None, None, False, 1, 1, 1, 1, 0, list_digest(names), 4, hears, names, ())
            self.assertTrue(gather.heard(other, names))
            self.assertEqual(gather.members(settled=True), expected)

    def test_a_node_that_hears_nobody_is_left_out(self) -> None:
        """A one-way link counts as no link: the node with most of them goes."""
        rows = join(B, "acd"), join(C, "abd"), join(D, "")
        self.assertIsNone(self.members(*rows, settled=False))
        self.assertEqual(self.members(*rows), (A, B, C))

    def test_a_missing_edge_costs_one_node(self) -> None:
        """When two do not hear each other, the later in order goes and the other stays."""
        rows = join(B, "ad"), join(C, "ad"), join(D, "abc")
        self.assertEqual(self.members(*rows), (A, B, D))

    def test_among_equals_the_smaller_old_view_loses(self) -> None:
        """The node with fewer companions from its old view goes, this node's own view counted alike."""
        rows = join(B, "ad", view=OLD), join(C, "ad", view=OTHER), join(D, "abc", view=OTHER)
        self.assertEqual(self.members(*rows), (A, C, D))
        for view, expected in ((OLD, (A, B, D)), (None, (A, C, D))):
            gather = Gather(A, view, 1, [B, C, D], 0.0)
            for each in (join(B, "ad", view=OLD), join(C, "ad", view=OTHER), join(D, "abc", view=OTHER)):
                hear(gather, each)
            self.assertEqual(gather.members(settled=True), expected)

    def test_a_node_that_is_left_out_looks_among_the_rest(self) -> None:
        """Both halves of a parted set compute their own members."""
        self.assertEqual(self.members(join(B, "a"), join(C, "d"), join(D, "c")), (A, B))
        gather = Gather(D, None, 1, [A, B, C], 0.0)
        for each in (join(A, "b"), join(B, "a"), join(C, "d")):
            hear(gather, each)
        self.assertEqual(gather.members(settled=True), (C, D))

    def test_all_who_hear_the_same_compute_the_same(self) -> None:
        """Every member of the computed set computes that set from the same rows."""
        hears = {"a": "bcd", "b": "acd", "c": "ab", "d": "ab"}
        results = set()
        for me in (A, B, C):
            results.add(self.computed_by(me, hears))
        self.assertEqual(results, {(A, B, C)})

    def computed_by(self, me: NodeId, hears: dict[str, str]) -> tuple[NodeId, ...] | None:
        """What a node computes if each hears these, and passes on the rows that do not hear everybody."""
        gathers = {node: Gather(node, None, 1, ALL, 0.0) for node in ALL}
        for serial in (1, 2):
            rows = {node: join(node, hears[node.name], serial=serial) for node in ALL}
            rows = {node: evolve(row, relayed=gathers[node].relays) for node, row in rows.items()}
            for node, gather in gathers.items():
                for other in ALL:
                    if other != node and other.name in hears[node.name]:
                        hear(gather, rows[other])
        return gathers[me].members(settled=True)

    def test_a_one_way_link_costs_the_one_that_does_not_hear(self) -> None:
        """Wherever it is in the order: what a single node does not hear is its own affair; it computes the same."""
        for deaf in ALL:
            for mute in ALL:
                if mute == deaf:
                    continue
                hears = {node.name: "abcd".replace(node.name, "") for node in ALL}
                hears[deaf.name] = hears[deaf.name].replace(mute.name, "")
                rest = tuple(node for node in ALL if node != deaf)
                for me in ALL:
                    self.assertEqual(self.computed_by(me, hears), (deaf,) if me == deaf else rest, (deaf, mute, me))

    def test_what_was_found_is_told(self) -> None:
        """Who did not hear whom, and who said nothing."""
        gather = Gather(A, None, 1, ALL, 0.0)
        hear(gather, join(B, "a"))
        hear(gather, join(C, "ab"))
        members = gather.members(settled=True)
        assert members is not None
        self.assertEqual(members, (A, C))
        self.assertEqual(gather.findings(members), [(Finding.NO_WORD, A, D), (Finding.ONE_WAY, B, C)])


class EvictionTests(SynchronousTestCase):
    """Members that enough of the others accuse of being too slow."""

    def gather(self, me: NodeId, accused: str, *joins: Join, view: ViewId | None = OLD) -> Gather:
        gather = Gather(me, view, 1, ALL, 0.0, frozenset(node for node in ALL if node.name in accused))
        for each in joins:
            hear(gather, each)
        return gather

    @staticmethod
    def accusing(node: NodeId, accused: str, hears: str = "abcd", view: ViewId = OLD) -> Join:
        evicts = sum(1 << index for index, other in enumerate(ALL) if other.name in accused)
        return evolve(join(node, hears.replace(node.name, ""), view=view), evicts=evicts)

    def test_two_of_three_are_enough(self) -> None:
        """It is out at once, and nobody waits for its row; it finds itself alone."""
        gather = self.gather(A, "d", self.accusing(B, "d"), self.accusing(C, ""))
        self.assertEqual(gather.outvoted(), {D: {A, B}})
        self.assertEqual(gather.members(settled=False), (A, B, C))
        rows = self.accusing(A, "d"), self.accusing(B, "d"), self.accusing(C, "")
        self.assertEqual(self.gather(D, "", *rows).members(settled=False), (D,))

    def test_one_is_not(self) -> None:
        """Whoever accuses alone harms nobody, not even where it is half of those who could."""
        rows = self.accusing(B, ""), self.accusing(C, ""), self.accusing(D, "")
        self.assertEqual(self.gather(A, "bcd", *rows).members(settled=False), ALL)
        pair = self.accusing(B, "", "ab"), self.accusing(A, "b", "ab")
        for me, accused, row in ((A, "b", pair[0]), (B, "", pair[1])):
            gather = Gather(me, OLD, 1, (A, B), 0.0, frozenset(node for node in ALL if node.name in accused))
            gather.heard(evolve(row, listed=gather.digest, count=2), (A, B))
            self.assertEqual(gather.members(settled=True), (A, B))

    def test_half_is_not(self) -> None:
        """Two of four of the same view leave all in."""
        nodes = tuple(NodeId(name, 1) for name in "abcde")
        gather = Gather(nodes[0], OLD, 1, nodes, 0.0, frozenset(nodes[4:]))
        for index, node in enumerate(nodes[1:], 1):
            row = Join(node, OLD, None, False, 1, 1, 1, 1, 0, gather.digest, 5, 31 ^ 1 << index, None, ())
            gather.heard(evolve(row, evicts=16 * (index == 1)), nodes)
        self.assertEqual(gather.members(settled=False), nodes)

    def test_strangers_have_no_vote(self) -> None:
        """Only who comes from the same view counts."""
        rows = self.accusing(B, "d", view=OTHER), self.accusing(C, "", view=OLD), self.accusing(D, "", view=OLD)
        self.assertEqual(self.gather(A, "d", *rows).members(settled=False), ALL)

    def test_all_compute_the_same(self) -> None:
        """Whoever stays, from the same rows; who is out forms what is left over, also with others who are."""
        words = {"a": "cd", "b": "cd", "c": "", "d": "a"}
        expected = {"a": (A, B), "b": (A, B), "c": (C, D), "d": (C, D)}
        for me in ALL:
            rows = [self.accusing(node, words[node.name]) for node in ALL if node != me]
            self.assertEqual(self.gather(me, words[me.name], *rows).members(settled=False), expected[me.name])

    def test_a_missing_edge_costs_its_node_all_the_same(self) -> None:
        """Among those who stay the matrix counts as ever."""
        rows = self.accusing(B, "d", "ad"), self.accusing(C, "d", "ad"), self.accusing(D, "", "abc")
        gather = self.gather(A, "d", *rows)
        self.assertIsNone(gather.members(settled=False))
        self.assertEqual(gather.members(settled=True), (A, B))

    def test_what_is_said_is_a_map_of_the_own_list(self) -> None:
        """It follows the list."""
        gather = self.gather(A, "cd")
        self.assertEqual(gather.evicts, 0b1100)
        gather.exclude(B)
        self.assertEqual(gather.evicts, 0b110)


class AgreementTests(SynchronousTestCase):
    """When all have said the same."""

    def setUp(self) -> None:
        self.gather = Gather(A, None, 3, [B, C], 0.0)
        self.members = (A, B, C)
        self.digest = agreement(3, self.members)

    def test_all_must_have_announced_the_same(self) -> None:
        """One that announces something else, or nothing, is enough for no agreement; it is the dissenter."""
        hear(self.gather, join(B, "ac", agreed=self.digest))
        hear(self.gather, join(C, "ab", agreed=0))
        self.assertFalse(self.gather.agreed(self.members))
        self.assertEqual(self.gather.dissenter(self.members), C)
        hear(self.gather, join(C, "ab", serial=2, agreed=self.digest))
        self.assertTrue(self.gather.agreed(self.members))
        self.assertIsNone(self.gather.dissenter(self.members))

    def test_of_several_dissenters_the_last_goes(self) -> None:
        """One is left out at a time, the last in order."""
        hear(self.gather, join(B, "ac", agreed=1))
        hear(self.gather, join(C, "ab", agreed=2))
        self.assertEqual(self.gather.dissenter(self.members), C)

    def test_an_agreement_of_another_attempt_does_not_count(self) -> None:
        """What was announced is compared with what this attempt's members are, not with the last one's."""
        self.assertEqual(self.gather.announcement(self.members), self.digest)
        self.gather.restart(4, 1.0)
        self.assertEqual(self.gather.announcement(self.members), agreement(4, self.members))

    def test_a_node_alone_agrees_with_itself(self) -> None:
        """Without others there is nobody to wait for."""
        self.assertTrue(Gather(A, None, 1, [], 0.0).agreed((A,)))

    def test_an_announcement_names_attempt_and_members(self) -> None:
        """The same members in another attempt, or others in the same, are another announcement; none is 0."""
        digests = {agreement(3, (A, B)), agreement(4, (A, B)), agreement(3, (A, C)), agreement(3, (A,)), 0}
        self.assertEqual(len(digests), 5)
