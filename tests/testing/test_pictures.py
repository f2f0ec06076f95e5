"""Pictures of runs for a terminal."""

from __future__ import annotations

from attrs import evolve
from twisted.trial.unittest import SynchronousTestCase

from groupcomm.events import Level
from groupcomm.identity import MemberId
from groupcomm.testing import trace as traces
from groupcomm.testing.pictures import LEGEND, MOST_WIDTH, WIDTH, picture
from groupcomm.testing.report import Report
from tests.testing.story import Story


def body(text: str) -> list[str]:
    """The rows of a picture, without its head and its legend."""
    return text.splitlines()[1 : -len(LEGEND)]


class PictureTests(SynchronousTestCase):
    """What is in a picture."""

    def test_who_did_what(self) -> None:
        """Each node has a column; sends, receptions, views, signals, faults and ends stand in it."""
        story = Story("ab")
        story.send("a", "x", Level.SAFE)
        story.deliver("ab", "x")
        story.signal("a")
        story.add(traces.Fault(story.tick(), "b pauses"))
        story.crash("b")
        head, *lines = picture(story.trace).splitlines()
        left, right = head.index("a"), head.index("b")
        text = "\n".join(line[left:right] for line in lines)
        for word in ("*starts", "[1-a a b]", "?g", "g{a b}", ">x:S", " x", "~~", "~g"):
            self.assertIn(word, text)
        text = "\n".join(line[right:] for line in lines)
        for word in ("[1-a a b]", "g{a b}", "x", "*pauses", "closes", "X crash"):
            self.assertIn(word, text)
        self.assertNotIn(">x", text)

    def test_nothing_is_received_in_the_row_of_its_sending(self) -> None:
        """Another node's reception is always below the send, however close in time."""
        story = Story("ab")
        before = len(story.trace)
        story.send("a", "x")
        story.deliver("ab", "x")
        story.trace.events[before:] = [evolve(event, at=1.0) for event in story.trace.events[before:]]
        sending, receiving = (line for line in body(picture(story.trace)) if "1.0000" in line)
        self.assertEqual(sending.split()[1:], [">x:A", "x", "|"])
        self.assertEqual(receiving.split()[1:], ["|", "x"])

    def test_faults_of_the_network_go_across(self) -> None:
        """What is done to the network is a line through all columns."""
        story = Story("ab")
        story.add(traces.Fault(story.tick(), "partition a | b"))
        self.assertTrue(any("-- partition a | b ----" in line for line in body(picture(story.trace))))

    def test_safe_message_that_somebody_lacks(self) -> None:
        """A SAFE message that is about to be delivered is shown only if a node of the view has not all of it."""
        story = Story("abc")
        story.send("a", "x", Level.SAFE)
        story.add(traces.SafeHeld(story.tick(), story.node("a"), "x", ()))
        self.assertNotIn("is not at", picture(story.trace))
        story.add(traces.SafeHeld(story.tick(), story.node("a"), "x", (story.node("c"),)))
        self.assertIn("x is not at c", picture(story.trace))

    def test_clients_of_one_node(self) -> None:
        """Where a node has several clients, what happens to all of them alike is told once."""
        story = Story("ab")
        second = MemberId("d", story.node("b"), 2)
        story.add(traces.Opened(story.tick(), second))
        story.send("a", "xy")
        story.deliver("b", "x")
        received = story.trace.events[-1]
        assert isinstance(received, traces.Delivered)
        story.add(evolve(received, process=second))
        story.deliver("b", "y")
        text = picture(story.trace)
        self.assertIn("*.x", text)
        self.assertIn("c.y", text)

    def test_lines_fit(self) -> None:
        """However wide the terminal says it is, lines are no wider than 160 characters, and no more than asked for."""
        story = Story("abcdefgh")
        story.send("a", "0123456789")
        story.deliver("abcdefgh", "0123456789")
        for width in (10, WIDTH, 1000):
            text = picture(story.trace, width=width, lines=20)
            self.assertLessEqual(max(map(len, text.splitlines())), MOST_WIDTH)
        shown = [line for line in body(text) if "not shown" not in line]
        self.assertLessEqual(len(shown), 20)
        self.assertGreater(len(shown), 10)

    def test_long_words_are_cut(self) -> None:
        """A message with a long name does not push the next column away."""
        story = Story("ab")
        story.add(traces.Sent(story.tick(), story.client("a"), "n" * 48, "digest", Level.FIFO, ("g",)))
        self.assertIn("nnn..", picture(story.trace, width=100))

    def test_many_messages_are_counted(self) -> None:
        """What does not fit into a cell is counted."""
        story = Story("abcd")
        labels = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
        story.send("a", labels)
        before = len(story.trace)
        story.deliver("b", labels)
        story.trace.events[before:] = [evolve(event, at=1.0) for event in story.trace.events[before:]]
        lines = body(picture(story.trace))
        first = next(number for number, line in enumerate(lines) if "1.0000" in line)
        words = [word for line in lines[first:] for word in line[12:].split() if word != "|"]
        self.assertEqual(words[-1], "more")
        self.assertGreater(len(words), 20)
        self.assertEqual(int(words[-2]), len(labels) - len(words[:-2]))

    def test_no_nodes(self) -> None:
        """A trace in which no node ever ran gives a sentence."""
        self.assertEqual(picture(traces.Trace()), "no node was started")


class FocusTests(SynchronousTestCase):
    """What is wrong is in the picture, and marked."""

    def setUp(self) -> None:
        self.story = Story("ab")
        self.story.send("a", "x")
        self.story.deliver("ab", "x")
        self.story.deliver("b", "x")
        self.report = self.story.report()

    def marked(self, text: str) -> list[str]:
        return [line for line in body(text) if line[10] == "!"]

    def test_marks(self) -> None:
        """The rows of the violation are marked, and in them its events."""
        self.assertEqual(self.report.violations[0].property, "D2")
        lines = self.marked(picture(self.story.trace, self.report))
        self.assertIn("!>x:A", lines[0])
        self.assertTrue(all("!x" in line or "!>x" in line for line in lines))

    def test_far_from_the_end(self) -> None:
        """When not all fits, what is wrong is shown rather than the end; what is left out is counted."""
        for _ in range(100):
            self.story.time += 1
            self.story.add(traces.Fault(self.story.tick(), "heal"))
        text = picture(self.story.trace, self.report, lines=10)
        self.assertTrue(self.marked(text))
        self.assertRegex(text, r"\d+ rows after this not shown")
        self.assertFalse(any("x" in line for line in body(picture(self.story.trace, lines=10))))

    def test_views(self) -> None:
        """The views that a violation names are marked, and so is the event that shows it."""
        report = Report()
        view = self.story.node_view["a"].id
        index = next(number for number, event in enumerate(self.story.trace) if isinstance(event, traces.NodeStarted))
        report.violate("M1", index, f"node b installs {view} without being in it")
        text = picture(self.story.trace, report)
        self.assertIn("![1-a a b]", text)
        self.assertIn("!*starts", text)

    def test_a_span(self) -> None:
        """A span of time can be asked for; one in which nothing happens says so."""
        text = picture(self.story.trace, since=self.story.time, until=self.story.time)
        self.assertEqual(len([line for line in body(text) if "not shown" not in line]), 1)
        self.assertIn("nothing happened", picture(self.story.trace, since=50.0))
