"""Small worlds in full: every order in which packets, timers and faults can come, and the oracle at the end of each."""

from __future__ import annotations

import io
import sys
from collections.abc import Mapping, Sequence

from attrs import evolve
from twisted.trial.unittest import SynchronousTestCase

from groupcomm.identity import NodeId
from groupcomm.membership import membership
from groupcomm.membership.recovery import make_plan
from groupcomm.ordering.ordered_view import OrderedView
from groupcomm.ordering.release import Release
from groupcomm.testing.exhaustive import WORLDS, Outcome, Search, main
from groupcomm.testing.exhaustive_snapshots import Fingerprints, duplicate
from groupcomm.testing.exhaustive_worlds import Rules
from groupcomm.wire.messages import Answer, Plan


class WorldCase(SynchronousTestCase):
    """Searches worlds to their ends."""

    def search(self, name: str, deviations: int = 0) -> Outcome:
        """Look at every point of a world; nothing may be broken and nothing left out."""
        outcome = Search(WORLDS[name], deviations=deviations).run()
        self.assertEqual([str(finding) for finding in outcome.findings], [])
        self.assertTrue(outcome.complete)
        self.assertGreater(outcome.interleavings, outcome.ends)
        return outcome

    def assert_checked(self, outcome: Outcome, *properties: str) -> None:
        """These properties had something to check."""
        self.assertEqual([name for name in properties if not outcome.premises.get(name)], [], outcome.premises)


class QuietWorldTests(WorldCase):
    """Nobody fails."""

    def test_two_nodes_send_at_once(self) -> None:
        """Two nodes agree on the order of two messages, whatever comes first and if one timer fires early."""
        self.assert_checked(self.search("two-agreed", deviations=1), "O5", "O7", "L1", "L2", "L3")

    def test_three_nodes_and_each_level(self) -> None:
        """Two messages of each level from two of three nodes keep what the level promises in every order of arrival."""
        self.assert_checked(self.search("three-fifo"), "D1", "L2", "L3")
        self.assert_checked(self.search("three-causal"), "O3", "O4")
        self.assert_checked(self.search("three-agreed"), "O5", "O7", "O8")
        self.assert_checked(self.search("three-safe"), "S1", "S2", "O7")


class FallTests(WorldCase):
    """One node falls, at any point; of what it has sent each other node gets all, some or nothing."""

    def test_one_of_two_falls(self) -> None:
        """The other goes on alone, with what it has, also if one timer fires before what is on the way has come."""
        self.assert_checked(self.search("two-crash", deviations=1), "D5", "D8", "S1")

    def test_a_sender_falls(self) -> None:
        """Those who stay agree on what the fallen one has sent."""
        self.assert_checked(self.search("sender-crash"), "D5", "D6b", "S1")

    def test_who_orders_falls(self) -> None:
        """Those who stay agree on an order without the one who gave it."""
        self.assert_checked(self.search("sequencer-crash"), "D5", "D6b", "S3")


class ChangeTests(WorldCase):
    """The view changes while a message is on the way."""

    def test_a_node_joins(self) -> None:
        """A message that is sent as a node joins is delivered in one view, the same at all."""
        self.assert_checked(self.search("join"), "D4", "D5", "D6b", "S1")

    def test_one_of_those_who_join_falls(self) -> None:
        """A join of two nodes, of whom either falls at any point, ends in one view of the one who stays."""
        self.assert_checked(self.search("join-crash"), "D5", "D8", "L1", "L3")

    def test_a_packet_of_a_join_is_lost(self) -> None:
        """Any one packet of a join may be lost."""
        self.assert_checked(self.search("join-loss"), "D5", "L1", "L3")

    def test_a_node_leaves(self) -> None:
        """A message that is sent as another node leaves is delivered by both who stay."""
        self.assert_checked(self.search("leave"), "D4", "D5", "S1")

    def test_a_message_at_any_point_of_a_leave(self) -> None:
        """A message that is sent at any point of a leave, recovery included, is delivered in one view."""
        self.assert_checked(self.search("leave-late"), "D4", "D5", "D6b", "D8")

    def test_one_of_those_who_part_falls(self) -> None:
        """A leave, in which either of two nodes falls at any point, ends well for the other."""
        self.assert_checked(self.search("leave-crash"), "D5", "M6")

    def test_a_packet_of_a_leave_is_lost(self) -> None:
        """Any one packet of a leave may be lost, or be overtaken by the next."""
        self.assert_checked(self.search("leave-loss"), "D5", "L1", "L3")
        self.assert_checked(self.search("leave-overtake"), "D5", "L1", "L3")

    def test_a_node_is_cut_off(self) -> None:
        """A node is cut off at any point of an exchange and comes back while the others gather."""
        self.assert_checked(self.search("cut"), "D5", "D6b", "L1", "L3")


class SeededBugTests(SynchronousTestCase):
    """The search finds what is there."""

    def find(self, name: str, deviations: int = 0) -> str:
        """What the search finds first; a run of its choices alone finds it too."""
        search = Search(WORLDS[name], deviations=deviations)
        (finding,) = search.run().findings
        again = Search(WORLDS[name], deviations=deviations)
        lines: list[str] = []
        again.replay(finding.choices, lines.append)
        self.assertEqual([each.text for each in again.outcome.findings], [finding.text])
        self.assertGreater(len(lines), len(finding.choices))
        return finding.text

    def test_safe_too_early(self) -> None:
        """SAFE that is released without the report of the other node is found: the sender may fall before it sends."""
        self.patch(Release, "_is_safe", lambda release, frame, stable: True)
        self.assertTrue(self.find("two-crash").startswith("S"))

    def test_a_plan_that_forgets_a_packet(self) -> None:
        """A plan that ends a stream where not all hold it, but somebody does, is found, if repairs come too late."""

        def forgetful(
            proposal: object,
            attempt: int,
            participants: Sequence[NodeId],
            answers: Mapping[NodeId, Answer],
            *rest: object,
        ) -> Plan:
            plan: Plan = make_plan(proposal, attempt, participants, answers, *rest)  # type: ignore[arg-type]
            views = []
            for view in plan.views:
                holdings = [answers[plan.participants[index]].holdings for index in view.survivors]
                ends = [min(holding.contiguous for holding in column) for column in zip(*holdings, strict=True)]
                streams = [
                    evolve(stream, end=min(stream.end, end), segments=())
                    for stream, end in zip(view.streams, ends, strict=True)
                ]
                views.append(evolve(view, streams=tuple(streams)))
            return evolve(plan, views=tuple(views))

        self.patch(membership, "make_plan", forgetful)
        self.assertTrue(self.find("sender-crash", deviations=1))

    def test_a_node_that_does_not_freeze(self) -> None:
        """A node that goes on in the old view after it has told what it holds is found."""
        self.patch(OrderedView, "freeze", lambda view: None)
        self.assertTrue(self.find("leave-late").startswith("D5"))


class SearchTests(SynchronousTestCase):
    """What the search relies on."""

    def test_leaving_orders_out_loses_no_end(self) -> None:
        """Looking at one order of what cannot influence each other reaches the same ends as looking at all orders."""
        few = Search(WORLDS["three-agreed"]).run()
        self.patch(Rules, "_all_known", lambda rules, state, index: False)
        all_orders = Search(WORLDS["three-agreed"]).run()
        self.assertLess(few.points, all_orders.points)
        self.assertEqual(few.ends, all_orders.ends)

    def test_a_copy_is_equal_and_apart(self) -> None:
        """A copy of objects has the name of the original until one of them changes, and shares what was shared."""
        shared: list[object] = [1, {"key": (2.5, b"bytes")}]
        thing = {"one": shared, "two": shared, "set": {3, 4}}
        copy, names = duplicate(thing), Fingerprints()
        self.assertIs(copy["one"], copy["two"])
        self.assertEqual(names.of(copy), names.of(thing))
        shared.append(None)
        self.assertNotEqual(names.of(copy), names.of(thing))
        self.assertEqual(len(copy["one"]), 2)

    def test_sharing_counts(self) -> None:
        """Two lists are not one list twice."""
        one: list[int] = []
        names = Fingerprints()
        self.assertNotEqual(names.of([one, one]), names.of([[], []]))

    def test_state_that_cannot_be_read(self) -> None:
        """What has a state that cannot be seen is refused rather than passed over."""
        for thing in (io.BytesIO(), iter([1]), lambda: None, type):
            self.assertRaises(TypeError, duplicate, [thing])
            self.assertRaises(TypeError, Fingerprints().of, [thing])


class CommandTests(SynchronousTestCase):
    """``python -m groupcomm.testing.exhaustive``."""

    def run_command(self, *arguments: str) -> tuple[int, str]:
        """The exit status, and what was printed."""
        output = io.StringIO()
        self.patch(sys, "stdout", output)
        return main(arguments), output.getvalue()

    def test_search(self) -> None:
        """A world is searched and its figures printed."""
        status, text = self.run_command("two-agreed", "--window", "0.01")
        self.assertEqual(status, 0)
        self.assertIn("two-agreed, 0 deviations: ", text)
        self.assertIn("0 findings", text)

    def test_not_complete(self) -> None:
        """A search that was given up says so."""
        self.assertIn("INCOMPLETE", self.run_command("three-safe", "--points", "20")[1])

    def test_replay(self) -> None:
        """A replay tells each step and what the clients saw."""
        status, text = self.run_command("--replay", "two-agreed", "1,1")
        self.assertEqual(status, 0)
        self.assertIn("2 of 2: b: send m2 AGREED", text)
        self.assertIn("deliver m2 AGREED from c@b", text)

    def test_a_bug(self) -> None:
        """What is broken is printed with the choices that lead there, and the exit status tells."""
        self.patch(Release, "_is_safe", lambda release, frame, stable: True)
        status, text = self.run_command("two-crash")
        self.assertEqual(status, 1)
        self.assertIn("1 findings\ntwo-crash ", text)

    def test_unknown_world(self) -> None:
        """A world that does not exist is refused."""
        self.patch(sys, "stderr", io.StringIO())
        self.assertRaises(SystemExit, main, ["nowhere"])
