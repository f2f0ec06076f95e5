"""The oracle on golden traces: what is right passes and was really looked at, and each way to be wrong has its name."""

from __future__ import annotations

from attrs import evolve
from twisted.trial.unittest import SynchronousTestCase

from groupcomm.events import Level, Reason
from groupcomm.identity import GroupViewId, ViewId
from groupcomm.testing import trace as traces
from groupcomm.testing.oracle import PropertyViolated, check, examine
from groupcomm.testing.swarm import vacuous
from tests.testing.story import GROUP, Story


def partition_story() -> Story:
    """{a b c d} parts into {a b} and {c d} with messages under way, and merges again."""
    story = Story("abcd")
    story.send("a", "m", Level.AGREED)
    story.send("c", "n", Level.SAFE)
    story.deliver("abcd", "mn")
    story.send("a", "f", Level.FIFO)
    story.deliver("ab", "f")
    story.send("b", "x", Level.AGREED)
    story.send("c", "y", Level.AGREED)
    story.signal("ab")
    story.deliver("ab", "x")
    story.install("ab")
    story.signal("cd")
    story.deliver("cd", "y")
    story.install("cd")
    story.send("a", "p")
    story.deliver("ab", "p")
    story.signal("abcd")
    story.install("abcd")
    story.send("d", "q", Level.CAUSAL)
    story.deliver("abcd", "q")
    return story


class GoodTests(SynchronousTestCase):
    def assertGood(self, story: Story, *premises: str, settled: str | None = None) -> None:
        """Nothing is broken, and these properties were really checked."""
        report = story.report(settled)
        self.assertEqual([f"{one.property}: {one.text}" for one in report.violations], [])
        self.assertEqual([name for name in premises if not report.premises.get(name)], [])

    def test_partition_and_merge(self) -> None:
        """Two components go on by themselves and merge: nothing is broken, and everyone ends settled."""
        self.assertGood(
            partition_story(),
            *("D1", "D2", "D4", "D5", "D5 group", "D6a", "D6b", "D6b apart", "M1", "M2", "M3", "M4", "M6", "O5", "O6"),
            *("O6 after signal", "O7", "S1", "S2", "SIGNAL", "L1", "L2", "L3"),
            settled="abcd",
        )

    def test_causal_chain(self) -> None:
        """An answer after its question everywhere."""
        story = Story()
        story.send("a", "q", Level.FIFO)
        story.deliver("ab", "q")
        story.send("b", "r", Level.CAUSAL)
        story.deliver("cab"[:1], "qr")
        story.deliver("ab", "r")
        self.assertGood(story, "O3", "O4", settled="abc")

    def test_fifo_answer_may_overtake(self) -> None:
        """A FIFO message says nothing of what its sender had seen."""
        story = Story()
        story.send("a", "q", Level.FIFO)
        story.deliver("ab", "q")
        story.send("b", "r", Level.FIFO)
        story.deliver("c", "rq")
        self.assertGood(story)

    def test_reliable_is_outside_the_order(self) -> None:
        """RELIABLE messages come in any order, also those of one sender."""
        story = Story()
        story.send("a", "q", Level.RELIABLE)
        story.send("a", "r", Level.RELIABLE)
        story.deliver("b", "rq")
        self.assertGood(story)

    def test_crashed_member_needs_nothing(self) -> None:
        """Who crashes in a view owes nothing, neither SAFE nor sets."""
        story = Story()
        story.send("a", "m", Level.SAFE)
        story.deliver("ab", "m")
        story.crash("c")
        story.signal("ab")
        story.install("ab")
        self.assertGood(story, "S1", settled="ab")

    def test_transitional_safe(self) -> None:
        """SAFE after the signal reaches all who come along."""
        story = Story()
        story.send("a", "m", Level.SAFE)
        story.signal("ab")
        story.deliver("ab", "m")
        story.crash("c")
        story.install("ab")
        self.assertGood(story, "S3")

    def test_transitional_orders_may_differ_between_components(self) -> None:
        """Two components may order the same messages differently after their signals."""
        story = Story("abcd")
        story.send("a", "x")
        story.send("c", "y")
        story.signal("abcd")
        story.deliver("ab", "xy")
        story.deliver("cd", "yx")
        story.install("ab")
        story.install("cd")
        self.assertGood(story, "O6 after signal")

    def test_newcomer_in_the_middle(self) -> None:
        """One who joins later gets what is placed after its join, and not what was sent before it."""
        story = Story("abc", joined=False)
        for name in "ab":
            story.ask_join(name)
        story.join("ab")
        story.send("a", "f", Level.FIFO)
        story.deliver("ab", "f")
        story.ask_join("c")
        story.join("c")
        story.send("a", "g", Level.FIFO)
        story.deliver("abc", "g")
        self.assertGood(story, settled="abc")

    def test_leave(self) -> None:
        """One who left gets nothing more and owes nothing."""
        story = Story()
        story.ask_leave("c")
        story.leave("c")
        story.send("a", "m", Level.SAFE)
        story.deliver("ab", "m")
        self.assertGood(story, settled="abc")

    def test_self_discard_private_and_outsiders(self) -> None:
        """Self-discard, private messages and senders outside the group."""
        story = Story("abcd", joined=False)
        for name in "abc":
            story.ask_join(name)
        story.join("abc")
        story.send("a", "m", self_discard=True)
        story.deliver("bc", "m")
        story.send("d", "n")
        story.deliver("abc", "n")
        story.send("d", "p", to="b")
        story.deliver("b", "p")
        self.assertGood(story, "G1", "G3", "G4", settled="abcd")

    def test_confirmed(self) -> None:
        """A confirmation after everybody has it."""
        story = Story()
        story.send("a", "m")
        story.deliver("abc", "m")
        story.accept("a", "m", stable=True)
        self.assertGood(story, "G5")


class BadTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.story = Story()

    def assertBroken(self, name: str, settled: str | None = None) -> None:
        """Exactly this property, or this one among its consequences, is reported."""
        self.assertIn(name, self.story.broken(settled))

    def test_a1_event_after_crash(self) -> None:
        """A1: a dead client receives."""
        self.story.send("a", "m")
        self.story.crash("c")
        self.story.deliver("c", "m")
        self.assertBroken("A1")

    def test_a2_sent_twice(self) -> None:
        """A2: two messages with one label cannot be told apart."""
        self.story.send("a", "m")
        self.story.send("b", "m")
        self.assertBroken("A2")

    def test_m1_view_without_installer(self) -> None:
        """M1: a node installs a view it is not in."""
        self.story.install("ab", at="abc")
        self.assertBroken("M1")

    def test_m2_older_view(self) -> None:
        """M2: a node goes back to an older view."""
        self.story.install("abc", epoch=0, at="a")
        self.assertBroken("M2")

    def test_m2_older_group_view(self) -> None:
        """M2: a client gets a group view with a smaller id."""
        self.story.regroup("abc", Reason.LEAVE, GroupViewId(ViewId(1, Story.node("a")), 0))
        self.assertBroken("M2")

    def test_m3_message_before_view(self) -> None:
        """M3: a message for a group of which the client has no view."""
        story = self.story = Story("ab", joined=False)
        story.ask_join("a")
        story.join("a")
        story.send("a", "m")
        story.deliver("b", "m")
        self.assertBroken("M3")

    def test_m3_message_of_another_view(self) -> None:
        """M3: a message that says it is of a view the client is not in."""
        self.story.send("a", "m")
        self.story.deliver("b", "m", view=GroupViewId(ViewId(1, Story.node("a")), 7))
        self.assertBroken("M3")

    def test_m4_two_views_with_one_id(self) -> None:
        """M4: two nodes install different views under one id."""
        self.story.install("ab", at="a")
        self.story.install("abc", epoch=self.story.epoch, at="b")
        self.assertBroken("M4")

    def test_m4_group_views(self) -> None:
        """M4: two clients have different members under one group view id."""
        identity = GroupViewId(ViewId(1, Story.node("a")), 9)
        self.story.regroup("abc", Reason.LEAVE, identity, at="a")
        self.story.regroup("ab", Reason.LEAVE, identity, at="b")
        self.assertBroken("M4")

    def test_m6_ghost(self) -> None:
        """M6: a view has a member that never asked to join."""
        story = self.story = Story("ab", joined=False)
        story.ask_join("a")
        story.join("ab")
        self.assertBroken("M6")

    def test_d1_unknown_message(self) -> None:
        """D1: a message that nobody sent, and one with other bytes."""
        self.story.send("a", "m")
        self.story.deliver("b", "m", message="z")
        self.assertBroken("D1")
        self.story = Story()
        self.story.send("a", "m")
        self.story.deliver("b", "m", digest="other")
        self.assertBroken("D1")

    def test_d2_twice(self) -> None:
        """D2: a message comes twice, also in two views."""
        self.story.send("a", "m")
        self.story.deliver("b", "mm")
        self.assertBroken("D2")

    def test_d3_earlier_view(self) -> None:
        """D3: a message comes in a view before the one it was sent in."""
        self.story.install("abc", at="a")
        self.story.send("a", "m", Level.FIFO)
        self.story.deliver("b", "m")
        self.assertBroken("D3")

    def test_d4_two_views(self) -> None:
        """D4: one gets a message before a node view, another after it."""
        self.story.send("a", "m", Level.RELIABLE)
        self.story.deliver("ab", "m")
        self.story.install("abc")
        self.story.deliver("c", "m")
        self.assertBroken("D4")

    def test_d4_two_group_views(self) -> None:
        """D4: AGREED before a join at one, after it at another."""
        story = self.story = Story("abc", joined=False)
        for name in "ab":
            story.ask_join(name)
        story.join("ab")
        story.ask_join("c")
        story.send("a", "m")
        story.deliver("a", "m")
        story.join("c")
        story.deliver("b", "m")
        self.assertBroken("D4")
        self.assertBroken("D5")

    def test_d5_other_set(self) -> None:
        """D5: two go the same way with different messages, at every level but UNRELIABLE."""
        for level in list(Level)[1:]:
            story = self.story = Story()
            story.send("c", "m", level)
            story.deliver("b", "m")
            story.crash("c")
            story.signal("ab")
            story.install("ab")
            self.assertBroken("D5")
        story = Story()
        story.send("c", "m", Level.UNRELIABLE)
        story.deliver("b", "m")
        story.crash("c")
        story.signal("ab")
        story.install("ab")
        self.assertEqual(story.broken(), set())

    def test_d6_transitional_set(self) -> None:
        """D6: too large (one who came from elsewhere), too small, without oneself."""
        for transitional in ("abc", "a", "b"):
            story = self.story = Story()
            story.signal("abc")
            story.install("ab")
            story.install("c")
            story.signal("abc")
            story.install("abc", transitional={"a": transitional})
            self.assertBroken("D6")

    def test_d6_group(self) -> None:
        """D6: a group view with a transitional set that is too large."""
        story = self.story
        story.signal("abc")
        story.install("ab")
        story.install("c")
        story.signal("ab")
        before = story.group_view["a"]
        story.install("abc")
        view = story.group_view["a"]
        self.assertNotIn(Story.client("c"), before.members)
        story.trace.events = [
            evolve(event, view=evolve(view, transitional=view.members))
            if isinstance(event, traces.ViewSeen) and event.view is view
            else event
            for event in story.trace
        ]
        self.assertBroken("D6")

    def test_d8_own_message(self) -> None:
        """D8: a sender goes on without its own message, which others got, or which had left."""
        self.story.send("a", "m")
        self.story.deliver("b", "m")
        self.story.signal("abc")
        self.story.install("abc")
        self.assertBroken("D8")
        self.story = Story()
        self.story.send("a", "m", Level.FIFO)
        self.story.accept("a", "m")
        self.story.signal("abc")
        self.story.install("abc")
        self.assertBroken("D8")

    def test_view_fields(self) -> None:
        """VIEW: joined or left are not what changed."""
        view = self.story.group_view["a"]
        identity = evolve(view.id, position=view.id.position + 1)
        self.story.see("a", evolve(view, id=identity, joined=(Story.client("b"),), transitional=view.members))
        self.assertBroken("VIEW")

    def test_signal_missing(self) -> None:
        """SIGNAL: members part without a signal; a join comes between signal and view; two signals."""
        self.story.install("ab")
        self.assertBroken("SIGNAL")
        self.story = Story()
        self.story.signal("a")
        self.story.regroup("abc", Reason.LEAVE)
        self.assertBroken("SIGNAL")
        self.story = Story()
        self.story.signal("aa")
        self.assertBroken("SIGNAL")

    def test_o1_fifo(self) -> None:
        """O1: two messages of one sender the wrong way round."""
        self.story.send("a", "mn", Level.FIFO)
        self.story.deliver("b", "nm")
        self.assertBroken("O1")

    def test_o2_hole(self) -> None:
        """O2: the second without the first."""
        self.story.send("a", "mn", Level.FIFO)
        self.story.deliver("b", "n")
        self.assertBroken("O2")

    def test_o3_causal(self) -> None:
        """O3: an answer before its question; O8 if the answer is of a weaker level."""
        for level, name in ((Level.CAUSAL, "O3"), (Level.AGREED, "O8")):
            story = self.story = Story()
            story.send("a", "q", level)
            story.deliver("b", "q")
            story.send("b", "r", Level.CAUSAL)
            story.deliver("c", "rq")
            self.assertBroken(name)

    def test_o4_hole_in_the_past(self) -> None:
        """O4: an answer without its question, also over two steps."""
        story = self.story = Story("abcd")
        story.send("a", "q", Level.FIFO)
        story.deliver("b", "q")
        story.send("b", "r", Level.CAUSAL)
        story.deliver("c", "qr")
        story.send("c", "s", Level.CAUSAL)
        story.deliver("d", "rs")
        self.assertBroken("O4")

    def test_o5_two_orders(self) -> None:
        """O5 and O7: two orders before any signal, and a circle of three."""
        self.story.send("a", "m")
        self.story.send("b", "n")
        self.story.deliver("a", "mn")
        self.story.deliver("b", "nm")
        self.assertEqual(self.story.broken() & {"O5", "O7"}, {"O5", "O7"})
        self.story = Story()
        for name, label in zip("abc", "xyz", strict=True):
            self.story.send(name, label)
        for name, labels in zip("abc", ("xy", "yz", "zx"), strict=True):
            self.story.deliver(name, labels)
        self.assertBroken("O5")

    def test_o6_two_orders_in_one_component(self) -> None:
        """O6: after the signal two who stay together must agree, unlike those who part."""
        story = self.story = Story("abcd")
        story.send("c", "m")
        story.send("d", "n")
        story.signal("ab")
        story.deliver("a", "mn")
        story.deliver("b", "nm")
        story.install("ab")
        self.assertEqual(story.broken(), {"O6"})

    def test_o7_skipped(self) -> None:
        """O7: one of the regular sequence is left out."""
        self.story.send("a", "m")
        self.story.send("b", "n")
        self.story.deliver("a", "mn")
        self.story.deliver("c", "n")
        self.assertBroken("O7")

    def test_o8_order_against_cause(self) -> None:
        """O8: the total order of those who saw neither in question contradicts what came before."""
        story = self.story
        story.send("a", "q", Level.AGREED)
        story.deliver("a", "q")
        story.send("a", "r", Level.SAFE)
        story.deliver("b", "rq")
        self.assertTrue(story.broken() & {"O1", "O8"})

    def test_s1_one_goes_on_without(self) -> None:
        """S1: SAFE before the signal, but a member goes on without it or without what was ordered before it."""
        story = self.story
        story.send("a", "m", Level.SAFE)
        story.deliver("ab", "m")
        story.signal("abc")
        story.install("ab")
        story.install("c")
        self.assertEqual(story.broken(), {"S1"})
        story = self.story = Story()
        story.send("a", "m", Level.AGREED)
        story.send("b", "n", Level.SAFE)
        story.deliver("ab", "mn")
        story.deliver("c", "n")
        story.signal("abc")
        story.install("ab")
        story.install("c")
        self.assertBroken("S1")

    def test_s1_at_the_end(self) -> None:
        """S1: in a settled run the promise must have been kept by the end."""
        self.story.send("a", "m", Level.SAFE)
        self.story.deliver("ab", "m")
        self.assertEqual(self.story.broken(), set())
        self.assertBroken("S1", settled="abc")

    def test_s2_member_that_never_installed(self) -> None:
        """S2: SAFE in the regular part of a view that a live member never installed."""
        story = self.story
        story.signal("abc")
        story.install("abc", at="ab")
        story.send("a", "m", Level.SAFE)
        story.deliver("ab", "m")
        story.install("abc", at="c")
        self.assertBroken("S2")

    def test_s3_after_the_signal(self) -> None:
        """S3: SAFE after the signal, and one who came along has it not."""
        story = self.story
        story.send("c", "m", Level.SAFE)
        story.signal("ab")
        story.deliver("a", "m")
        story.install("ab")
        self.assertBroken("S3")

    def test_g1_private_to_another(self) -> None:
        """G1: a private message at somebody else, and a message for a group it was not sent to."""
        self.story.send("a", "m", to="b")
        self.story.deliver("c", "m")
        self.assertBroken("G1")
        self.story = Story()
        self.story.send("a", "m", groups=("other",))
        self.story.deliver("b", "m", groups=(GROUP,))
        self.assertBroken("G1")

    def test_g2_not_all_groups(self) -> None:
        """G2: a member of two groups of the message gets it for one of them only."""
        story = self.story
        view = evolve(story.group_view["b"], group="h", members=(Story.client("b"),))
        view = evolve(view, joined=view.members, transitional=view.members)
        story.add(traces.JoinAsked(story.tick(), Story.client("b"), "h"))
        story.add(traces.ViewSeen(story.tick(), Story.client("b"), view))
        story.send("a", "m", groups=(GROUP, "h"))
        story.deliver("b", "m", groups=("h",), view=view.id)
        self.assertBroken("G2")

    def test_g4_self_discard(self) -> None:
        """G4: a sender gets what it discards; others who lack it are no exception."""
        self.story.send("a", "m", self_discard=True)
        self.story.deliver("ab", "m")
        self.assertBroken("G4")

    def test_g5_confirmed_too_early(self) -> None:
        """G5: confirmed before the last member has it."""
        self.story.send("a", "m")
        self.story.deliver("ab", "m")
        self.story.accept("a", "m", stable=True)
        self.story.deliver("c", "m")
        self.assertEqual(self.story.broken(), {"G5"})

    def test_g5_confirmed_at_the_signal(self) -> None:
        """G5: one given at the signal need not wait for the others, but they must deliver before their next view."""
        for names, broken in (("ab", set[str]()), ("a", {"G5"})):
            story = self.story = Story()
            story.send("c", "m", Level.RELIABLE)
            story.signal("abc")
            story.deliver("c", "m")
            story.accept("c", "m", stable=True)
            story.deliver(names, "m")
            story.install("abc")
            self.assertEqual(story.broken() & {"G5"}, broken)

    def test_l1_other_views(self) -> None:
        """L1: connected nodes end in two views, or a group in two."""
        story = self.story
        story.signal("abc")
        story.install("ab")
        story.install("c")
        self.assertBroken("L1", settled="abc")

    def test_l1_join_unanswered(self) -> None:
        """L1: a join that never got its view."""
        story = self.story = Story("ab", joined=False)
        story.ask_join("a")
        self.assertBroken("L1", settled="ab")

    def test_l2_never_received(self) -> None:
        """L2: a message of the last view that one never received; L3 if that one is its sender."""
        self.story.send("a", "m", Level.RELIABLE)
        self.story.deliver("ab", "m")
        self.assertEqual(self.story.broken(settled="abc"), {"L2"})
        self.story = Story()
        self.story.send("a", "m", Level.RELIABLE)
        self.story.deliver("bc", "m")
        self.assertEqual(self.story.broken(settled="abc"), {"L3"})


class ReportTests(SynchronousTestCase):
    def test_violation_shows_messages_and_events(self) -> None:
        """What is raised names the property, the messages and the last events of every process."""
        story = Story()
        story.send("a", "m")
        story.deliver("b", "mm")
        with self.assertRaises(PropertyViolated) as caught:
            check(story.trace)
        self.assertEqual(caught.exception.property, "D2")
        self.assertIn("received m twice", str(caught.exception))
        self.assertIn("deliver m AGREED from c@a", str(caught.exception))

    def test_vacuity_is_seen(self) -> None:
        """A run in which nothing happened has checked next to nothing, and that shows."""
        self.assertIn("D5", vacuous(examine(traces.Trace()).premises))

    def test_digest_tells_runs_apart(self) -> None:
        """Equal runs have equal digests, different ones do not."""
        one, two, other = partition_story(), partition_story(), Story()
        self.assertEqual(one.trace.digest(), two.trace.digest())
        self.assertNotEqual(one.trace.digest(), other.trace.digest())

    def test_labels(self) -> None:
        """A message goes by the text before its first bar, or by a digest of its bytes."""
        self.assertEqual(traces.message_label(b"m17|" + bytes(9)), "m17")
        for data in (b"", b"no bar", b"\xff|x", b"\n|x", bytes(100) + b"|", b"|x"):
            self.assertRegex(traces.message_label(data), "^[0-9a-f]{16}$")
