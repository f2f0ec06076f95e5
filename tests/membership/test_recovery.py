"""The plan that ends old views, from what all participants hold."""

from __future__ import annotations

from collections.abc import Mapping
from random import Random

from twisted.trial.unittest import SynchronousTestCase

from groupcomm.events import Reason
from groupcomm.identity import NodeId, ViewId
from groupcomm.membership.recovery import make_plan
from groupcomm.wire.codec import Reader
from groupcomm.wire.messages import Answer, Departed, Holding, Plan, Segment, StreamPlan
from groupcomm.wire.packets import Range

A, B, C, D = (NodeId(name, 1) for name in "abcd")
OLD, OTHER, NEW = ViewId(1, A), ViewId(2, C), ViewId(3, A)


def answer(
    node: NodeId,
    *holdings: Holding,
    view: ViewId | None = OLD,
    members: tuple[NodeId, ...] = (A, B, C),
    leaving: bool = False,
    synced: bool = True,
    sequencer: int = 0,
    silent: bool = False,
) -> Answer:
    """What ``node`` holds of its old view; nothing of the streams that are not given."""
    if view is None:
        return Answer(node, NEW, None, (), leaving, synced, 0, 1, (), silent)
    rest = (Holding(0, 0, ()),) * (len(members) - len(holdings))
    return Answer(node, NEW, view, members, leaving, synced, sequencer, 1, (*holdings, *rest), silent)


def plan(*answers: Answer, reasons: Mapping[NodeId, Reason] | None = None) -> Plan:
    """The plan for these participants."""
    nodes = tuple(each.node for each in answers)
    return make_plan(NEW, 7, nodes, {each.node: each for each in answers}, reasons or {})


def stream(*answers: Answer) -> StreamPlan:
    """The plan of the first stream of the old view."""
    return plan(*answers).views[0].streams[0]


def provider(made: StreamPlan, number: int) -> set[int]:
    """Who is named for a packet; there is one segment for it at most."""
    named = [{each.holder, each.second} for each in made.segments if each.first <= number <= each.last]
    assert len(named) <= 1, named
    return named[0] if named else set()


def held(contiguous: int, *ranges: tuple[int, int], stable: int = 0) -> Holding:
    """What a node holds of a stream."""
    return Holding(contiguous, stable, tuple(Range(*each) for each in ranges))


class StreamTests(SynchronousTestCase):
    """Where one stream ends, and who provides what."""

    def test_what_all_hold_needs_nothing(self) -> None:
        """Where all have the same, nothing is fetched, and if all of the view are here it is all stable."""
        self.assertEqual(stream(*(answer(node, held(9)) for node in (A, B, C))), StreamPlan(9, 9, (), ()))

    def test_what_some_lack_is_fetched_from_those_who_have_it(self) -> None:
        """The stream ends where the best of them ends; each piece names two holders."""
        made = stream(answer(A, held(5)), answer(B, held(9)), answer(C, held(9)))
        self.assertEqual((made.end, made.ranges), (9, ()))
        (segment,) = made.segments
        self.assertEqual((segment.first, segment.last, {segment.holder, segment.second}), (6, 9, {1, 2}))

    def test_one_holder_is_named_twice(self) -> None:
        """With a single holder there is no choice."""
        made = stream(answer(A, held(5)), answer(B, held(5)), answer(C, held(9)))
        self.assertEqual(made.segments, (Segment(6, 9, 2, 2),))

    def test_different_holes_fill_each_other(self) -> None:
        """Two who lack different packets have the whole together."""
        made = stream(answer(A, held(3, (5, 6))), answer(B, held(4, (6, 6))))
        self.assertEqual((made.end, made.ranges), (6, ()))
        self.assertEqual([(provider(made, number), number) for number in (4, 5)], [({1}, 4), ({0}, 5)])

    def test_a_hole_that_nobody_fills_ends_the_stream(self) -> None:
        """What lies beyond a packet that all lack is named apart, for the RELIABLE frames in it."""
        made = stream(answer(A, held(3, (6, 7))), answer(B, held(2, (5, 5), (7, 9))))
        self.assertEqual((made.end, made.ranges), (3, (Range(5, 9),)))
        self.assertEqual([provider(made, number) for number in (3, 5, 6, 8, 9)], [{0}, {1}, {0}, {1}, {1}])

    def test_stable_is_what_somebody_knows_to_be_everywhere(self) -> None:
        """If nodes of the old view are missing, the best knowledge counts; if none is, the end itself is stable."""
        some = stream(answer(A, held(9, stable=3)), answer(B, held(8, stable=7)))
        self.assertEqual((some.end, some.stable), (9, 7))
        everyone = stream(answer(A, held(9, stable=3)), answer(B, held(8, stable=7)), answer(C, held(8, stable=8)))
        self.assertEqual(everyone.stable, 9)

    def test_every_stream_is_planned(self) -> None:
        """The streams of those who are gone end too, by what the survivors hold."""
        made = plan(answer(A, held(4), held(2), held(6)), answer(B, held(3), held(2), held(5)))
        self.assertEqual([each.end for each in made.views[0].streams], [4, 2, 6])

    def test_random_holdings(self) -> None:
        """Over random holdings: what somebody holds is named, what somebody lacks comes from a holder."""
        random = Random(9)
        for _ in range(200):
            nodes = (A, B, C)[: random.randrange(1, 4)]
            has = {node: {number for number in range(1, 30) if random.random() < 0.75} for node in nodes}
            answers = []
            for node in nodes:
                contiguous = min(set(range(1, 31)) - has[node]) - 1
                above = [Range(number, number) for number in sorted(has[node]) if number > contiguous]
                answers.append(answer(node, Holding(contiguous, 0, tuple(above))))
            made = stream(*answers)
            union = set().union(*has.values())
            self.assertEqual(made.end, min(set(range(1, 31)) - union) - 1)
            named = set(range(1, made.end + 1)) | {n for each in made.ranges for n in range(each.first, each.last + 1)}
            self.assertEqual(named, union)
            fetched: set[int] = set()
            for segment in made.segments:
                span = set(range(segment.first, segment.last + 1))
                self.assertTrue(span <= has[nodes[segment.holder]] and span <= has[nodes[segment.second]])
                self.assertFalse(span & fetched)
                fetched |= span
            self.assertTrue({n for n in union if any(n not in has[node] for node in nodes)} <= fetched <= union)


class PlanTests(SynchronousTestCase):
    """The plan as a whole."""

    def test_members_are_the_participants_that_stay(self) -> None:
        """A leaving participant takes part in the change, is no member, and its reason is that it left."""
        made = plan(answer(A), answer(B, leaving=True), answer(C))
        self.assertEqual((made.members, made.leaving), ((A, C), 0b010))
        self.assertEqual(made.departed, (Departed(B, Reason.NODE_LEAVE),))

    def test_the_gone_have_their_reasons(self) -> None:
        """A node of an old view that does not take part has the known reason, else it is cut off."""
        self.assertEqual(
            plan(answer(A), reasons={C: Reason.NODE_FAILURE, D: Reason.RESTARTED}).departed,
            (Departed(B, Reason.PARTITION), Departed(C, Reason.NODE_FAILURE)),
        )

    def test_each_old_view_has_its_part(self) -> None:
        """Views that merge end each by itself, in the order of their ids, with the participants that come from them."""
        made = plan(
            answer(A, held(5), members=(A, B)),
            answer(B, held(5), members=(A, B)),
            answer(C, held(2), view=OTHER, members=(C, D)),
            answer(D, held(3), view=OTHER, members=(C, D)),
        )
        self.assertEqual([(each.view, each.survivors) for each in made.views], [(OLD, (0, 1)), (OTHER, (2, 3))])
        self.assertEqual([len(each.streams) for each in made.views], [2, 2])
        self.assertEqual(made.views[1].streams[0].segments, (Segment(3, 3, 3, 3),))

    def test_directories_are_exchanged_when_pasts_differ(self) -> None:
        """Members of one view need no exchange, nor do newcomers among themselves; all other mixtures do."""
        new = answer(D, view=None)
        self.assertFalse(plan(answer(A), answer(B)).exchange)
        self.assertFalse(plan(answer(C, view=None), new).exchange)
        self.assertTrue(plan(answer(A), new).exchange)
        self.assertTrue(plan(answer(A), answer(C, view=OTHER, members=(C, D))).exchange)
        self.assertTrue(plan(answer(A), answer(B, synced=False)).exchange)
        self.assertFalse(plan(answer(A), answer(B, synced=False, leaving=True)).exchange)

    def test_who_has_nothing_to_say_sends_no_directory(self) -> None:
        """The speakers are the members with sessions in groups, and nobody where there is no exchange."""
        mixed = plan(answer(A, silent=True), answer(B), answer(C, leaving=True), answer(D, view=None, silent=True))
        self.assertEqual((mixed.silent, mixed.speakers), (0b1001, (B,)))
        self.assertEqual(plan(answer(A), answer(B, silent=True)).speakers, ())

    def test_the_sequencer_stays_if_it_can(self) -> None:
        """The one that was followed goes on; if it is gone or leaves, the lowest member does."""
        self.assertEqual(plan(answer(A, sequencer=1), answer(B, sequencer=1)).sequencer, B)
        self.assertEqual(plan(answer(A, sequencer=2), answer(B, sequencer=2)).sequencer, A)
        self.assertEqual(plan(answer(A, sequencer=1), answer(B, sequencer=1, leaving=True)).sequencer, A)
        self.assertEqual(plan(answer(A, leaving=True)).sequencer, A)

    def test_of_several_views_the_larger_gives_the_sequencer(self) -> None:
        """The view that most members come from is followed."""
        made = plan(
            answer(A, members=(A,)),
            answer(C, view=OTHER, members=(C, D), sequencer=1),
            answer(D, view=OTHER, members=(C, D), sequencer=1),
        )
        self.assertEqual(made.sequencer, D)

    def test_a_sequencer_that_cannot_be_is_passed_over(self) -> None:
        """An answer that names a sequencer beyond its view does no harm."""
        self.assertEqual(plan(answer(A, sequencer=64), answer(B, sequencer=1)).sequencer, B)

    def test_newcomers_alone_have_no_old_views(self) -> None:
        """Their plan has members and nothing to end."""
        made = plan(answer(A, view=None), answer(B, view=None))
        self.assertEqual((made.members, made.views, made.departed, made.sequencer), ((A, B), (), (), A))

    def test_a_plan_survives_the_wire(self) -> None:
        """What was made is what the participants read."""
        made = plan(
            answer(A, held(3, (6, 7), stable=2), held(1 << 31)),
            answer(B, held(2, (5, 5), (7, 9), stable=1), held(5), leaving=True),
            answer(D, view=None),
        )
        self.assertEqual(Plan.decode(Reader(made.encode())), made)
