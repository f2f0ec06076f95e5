"""The oracle on golden traces: what is right passes and was really looked at, and each way to be wrong has its name."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from groupcomm.events import Level
from groupcomm.testing import trace as traces
from groupcomm.testing.oracle import PropertyViolated, check, examine
from groupcomm.testing.swarm import vacuous
from tests.testing.story import Story


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
