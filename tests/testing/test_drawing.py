"""Drawings of runs."""

from __future__ import annotations

from xml.etree import ElementTree

from twisted.trial.unittest import SynchronousTestCase

from groupcomm.events import Level
from groupcomm.testing import trace as traces
from groupcomm.testing.drawing import COLOURS, WIDTH, WRONG, draw
from groupcomm.testing.timescale import Scale
from tests.testing.story import Story

SVG = "{http://www.w3.org/2000/svg}"


def texts(drawing: str) -> list[str]:
    """What is written in a drawing."""
    return [element.text or "" for element in ElementTree.fromstring(drawing).iter(f"{SVG}text")]


def tips(drawing: str) -> list[str]:
    """The tool tips."""
    return [element.text or "" for element in ElementTree.fromstring(drawing).iter(f"{SVG}title")]


def arrows(drawing: str, colour: str) -> list[ElementTree.Element]:
    """The arrows of one colour, without the legend's."""
    return ElementTree.fromstring(drawing).findall(f".//{SVG}g/{SVG}path[@stroke='{colour}']")


class DrawingTests(SynchronousTestCase):
    """What is in a drawing."""

    def test_a_whole_story(self) -> None:
        """Nodes, views, messages in the colour of their level, a crash, a partition and a pause are there."""
        story = Story("abc")
        story.send("a", "x", Level.CAUSAL)
        story.deliver("abc", "x")
        story.add(traces.Fault(story.tick(), "partition a b | c"))
        story.add(traces.Fault(story.tick(), "b pauses"))
        story.signal("ab")
        story.crash("c")
        story.install("ab")
        story.add(traces.Fault(story.tick(), "heal"))
        drawing = draw(story.trace, title="a story")
        for text in ("a story", "a", "b", "c", "x", "1-a: a b c", "2-a: a b", "crash", "partition a b | c", "pauses"):
            self.assertIn(text, texts(drawing))
        self.assertTrue(any("g: a b" in text for text in texts(drawing)))
        self.assertTrue(any("deliver x CAUSAL" in tip for tip in tips(drawing)))
        self.assertIn("partitioned", tips(drawing))
        self.assertEqual(len(arrows(drawing, COLOURS[Level.CAUSAL])), 2)

    def test_one_partition_after_another(self) -> None:
        """Where a partition takes the place of another, the new one is named and not the healing between them."""
        story = Story("ab")
        story.add(traces.Fault(story.tick(), "partition a | b"))
        at = story.tick()
        story.add(traces.Fault(at, "heal"))
        story.add(traces.Fault(at, "only a-b"))
        self.assertIn("only a-b", texts(draw(story.trace)))
        self.assertNotIn("heal", texts(draw(story.trace)))

    def test_text_is_escaped(self) -> None:
        """Names that look like markup stay text."""
        story = Story("a")
        story.add(traces.Fault(story.tick(), "cut <a> & b"))
        drawing = draw(story.trace, title='<script>"&')
        self.assertIn('<script>"&', texts(drawing))
        self.assertIn("cut <a> & b", texts(drawing))
        self.assertEqual(list(ElementTree.fromstring(drawing).iter(f"{SVG}script")), [])

    def test_needs_nothing_else(self) -> None:
        """Nothing in it refers to another file or place."""
        drawing = draw(Story("ab").trace)
        self.assertEqual(drawing.count("http"), 1)
        self.assertNotIn("href", drawing)
        self.assertNotIn("url(", drawing)

    def test_a_span(self) -> None:
        """Only the span asked for is drawn; arrows that begin before it come in from its border."""
        story = Story("ab")
        story.send("a", "xy")
        between = story.time + 0.0005
        story.deliver("ab", "x")
        story.crash("b")
        whole, part = draw(story.trace), draw(story.trace, since=between, until=story.time - 0.0005)
        self.assertIn("crash", texts(whole))
        self.assertNotIn("crash", texts(part))
        self.assertTrue(any(tip.endswith("send y AGREED to g") for tip in tips(whole)))
        self.assertFalse(any(tip.endswith("send y AGREED to g") for tip in tips(part)))
        self.assertTrue(any("deliver x" in tip for tip in tips(part)))

    def test_what_is_wrong(self) -> None:
        """What the first violation is about stands out, and it is said what is wrong."""
        story = Story("ab")
        story.send("a", "xy")
        story.deliver("a", "xy")
        story.deliver("b", "xyx")
        report = story.report()
        drawing = draw(story.trace, report)
        self.assertIn(report.violations[0].text, texts(drawing))
        styles = {element.text: element.get("class") for element in ElementTree.fromstring(drawing).iter(f"{SVG}text")}
        self.assertEqual(styles["x"], "wrong")
        self.assertEqual((len(arrows(drawing, WRONG)), len(arrows(draw(story.trace), WRONG))), (2, 0))

    def test_empty(self) -> None:
        """An empty trace makes an empty drawing."""
        self.assertEqual(ElementTree.fromstring(draw(traces.Trace())).tag, f"{SVG}svg")


class ScaleTests(SynchronousTestCase):
    """Time on paper."""

    def test_keeps_order(self) -> None:
        """What is later is further right, and within the borders."""
        times = [0.0, 0.001, 0.0015, 5.0, 5.1, 60.0]
        scale = Scale.of(times, 0.0, 60.0, 90.0, float(WIDTH))
        places = [scale.x(at) for at in times]
        self.assertEqual(places, sorted(places))
        self.assertEqual((places[0], places[-1]), (90.0, float(WIDTH)))
        self.assertEqual((scale.x(-5.0), scale.x(100.0)), (90.0, float(WIDTH)))

    def test_gaps_are_cut(self) -> None:
        """A minute without events takes little room and is marked; without gaps nothing is."""
        times = [number / 100 for number in range(100)] + [61.0 + number / 100 for number in range(100)]
        scale = Scale.of(times, 0.0, 62.0, 0.0, 1000.0)
        self.assertLess(scale.x(61.0) - scale.x(0.99), 520.0)
        self.assertEqual(len(scale.cuts), 1)
        self.assertEqual(Scale.of([number / 100 for number in range(100)], 0.0, 1.0, 0.0, 1000.0).cuts, ())

    def test_back(self) -> None:
        """The time at a place is the time that is drawn there."""
        scale = Scale.of([0.0, 1.0, 2.0, 9.0], 0.0, 10.0, 0.0, 1000.0)
        for at in (0.0, 0.5, 2.5, 9.0, 10.0):
            self.assertAlmostEqual(scale.at(scale.x(at)), at)
