"""A run as a drawing in SVG: a lane for each node, messages as arrows, views as boxes, crashes as crosses.

Decides what is written and what is left to the tool tips, and the colours: one for each level of messages, one for each
node view, the same at all its nodes. The drawing needs nothing beside itself; every text in it is escaped.
"""

from __future__ import annotations

import colorsys
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from html import escape
from itertools import zip_longest

from attrs import define, field

from groupcomm.events import Level
from groupcomm.identity import ViewId
from groupcomm.testing import trace as traces
from groupcomm.testing.oracle import Report
from groupcomm.testing.pictures import Focus, crowd, node_names, view_name
from groupcomm.testing.timescale import Scale

WIDTH = 1600
LEFT, RIGHT, TOP = 90, 24, 96
LANE, BAND = 110, 26
"""From lane to lane, and the height of the box of a node view."""

MARGIN_SECONDS = 0.002
"""Drawn after the last event."""

TICKS = 16
CHARACTER = 6.2
"""The width of a character of the small text, about."""

LABELLED_MESSAGES = 150
"""With more messages in the drawing all are faint, and only those that matter named; the tool tips name all."""

COLOURS = {
    Level.UNRELIABLE: "#8a8f98",
    Level.RELIABLE: "#0b8a8f",
    Level.FIFO: "#2563d9",
    Level.CAUSAL: "#8b3fd1",
    Level.AGREED: "#d97706",
    Level.SAFE: "#15803d",
}
WRONG = "#d11a2a"

APART = ("partition", "only")
"""How faults begin that last until the network is healed."""

STYLE = f"""
text {{ font: 11px ui-sans-serif, "DejaVu Sans", Arial, sans-serif; fill: #22262c }}
.title {{ font-size: 16px; font-weight: bold }} .name {{ font-size: 14px; font-weight: bold }}
.small {{ font-size: 10px; fill: #4a5059 }} .wrong {{ fill: {WRONG}; font-weight: bold }}
"""


@define
class Stay:
    """One node in one view, or without one, as long as that lasts."""

    node: str
    since: float
    view: traces.NodeViewSeen | None = None
    signal_at: float | None = None
    until: float = float("inf")


def draw(
    trace: Iterable[traces.TraceEvent],
    report: Report | None = None,
    *,
    title: str = "",
    since: float | None = None,
    until: float | None = None,
) -> str:
    """Draw a run.

    Args:
        trace: the events.
        report: of the oracle; what its first violation is about stands out.
        title: above the drawing.
        since: the first second to draw; None: the first event.
        until: the last one; None: the last event.

    Returns:
        The text of an SVG file.
    """
    events = list(trace)
    names = node_names(events)
    times = [event.at for event in events]
    first = since if since is not None else min(times, default=0.0)
    last = until if until is not None else max(times, default=0.0) + MARGIN_SECONDS
    scale = Scale.of(times, first, max(last, first + MARGIN_SECONDS), LEFT, WIDTH - RIGHT)
    drawing = _Drawing(events, names, scale, Focus() if report is None else Focus.of(report))
    height = TOP + LANE * len(names) + 44
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" viewBox="0 0 {WIDTH} {height}">',
        f"<style>{escape(STYLE)}</style>",
        f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>',
        *_legend(title, "" if report is None or not report.violations else report.violations[0].text),
        *drawing.axis(),
        *drawing.partitions(),
        *drawing.lanes(),
        *drawing.messages(),
        *drawing.group_views(),
        *drawing.ends(),
        *drawing.faults(),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def _legend(title: str, wrong: str) -> Iterator[str]:
    yield _text(16, 26, title, "title")
    if wrong:
        yield _text(16, 46, wrong if len(wrong) < 220 else f"{wrong[:220]}...", "wrong")
    x = 16.0
    for level, colour in COLOURS.items():
        yield f'<path d="M{x:.0f} 64h26" stroke="{colour}" stroke-width="2.5"/>'
        yield f'<path d="M{x + 26:.0f} 60l7 4l-7 4z" fill="{colour}"/>'
        yield _text(x + 38, 68, level.name)
        x += 52 + 7.6 * len(level.name)
    for shape, words in (
        ('<circle cx="{}" cy="64" r="3" fill="#22262c"/>', "sent, or received at its own node"),
        ('<rect x="{}" y="57" width="14" height="14" rx="3" fill="#cfe3ff" stroke="#7fa7dd"/>', "node view"),
        ('<path d="M{} 57v14" stroke="#22262c" stroke-width="1.5"/>', "group view"),
        (f'<path d="M{{}} 60l8 8m0-8l-8 8" stroke="{WRONG}" stroke-width="2.5"/>', "node ends"),
    ):
        yield shape.format(f"{x:.0f}")
        yield _text(x + 20, 68, words)
        x += 36 + 6.4 * len(words)


@define
class _Drawing:
    """The parts of one drawing."""

    events: Sequence[traces.TraceEvent]
    names: Sequence[str]
    scale: Scale
    focus: Focus
    opacity: float = 1.0
    """Of messages that are as they should be."""
    _taken: dict[str, list[tuple[float, float]]] = field(factory=dict)
    """Where each row of text is written already."""

    @property
    def bottom(self) -> float:
        return TOP + LANE * len(self.names)

    def y(self, node: str) -> float:
        """The middle of a node's lane."""
        return TOP + LANE * (self.names.index(node) + 0.5)

    def shown(self, at: float) -> bool:
        """Whether a time is in the drawing."""
        return self.scale.times[0] <= at <= self.scale.times[-1]

    def room(self, row: str, x: float, text: str) -> bool:
        """Whether a text fits into a row from ``x`` on; it is taken then."""
        begin, end = x - 2, x + CHARACTER * len(text) + 4
        taken = self._taken.setdefault(row, [])
        if end > WIDTH - 4 or any(begin < other_end and other < end for other, other_end in taken):
            return False
        taken.append((begin, end))
        return True

    def axis(self) -> Iterator[str]:
        """Seconds, and where time is cut short."""
        places = [LEFT + (WIDTH - LEFT - RIGHT) * number / TICKS for number in range(TICKS + 1)]
        digits = 3 if self.scale.at(places[1]) - self.scale.at(places[0]) < 0.5 else 2
        for x in places:
            yield f'<path d="M{x:.1f} {TOP}V{self.bottom:.0f}" stroke="#eef0f3"/>'
            label = f"{self.scale.at(x):.{digits}f} s"
            yield _text(min(x, WIDTH - RIGHT - 8) - 3.1 * len(label), self.bottom + 18, label, "small")
        for x in self.scale.cuts:
            yield (
                f'<path d="M{x - 3:.1f} {self.bottom + 5:.0f}l4-10m-1 10l4-10" stroke="#4a5059" fill="none">'
                "<title>time is cut short here</title></path>"
            )
        if self.scale.cuts:
            yield _text(LEFT, self.bottom + 36, "//  time in which nothing happens is cut short", "small")

    def stays(self) -> Iterator[Stay]:
        """Each node's time in each view."""
        now: dict[str, Stay] = {}
        for event in self.events:
            if isinstance(event, traces.NodeSignalSeen) and event.node.name in now:
                now[event.node.name].signal_at = event.at
            elif isinstance(event, traces.NodeStarted | traces.NodeViewSeen | traces.NodeEnded):
                name = event.node.name
                if (before := now.pop(name, None)) is not None:
                    before.until = event.at
                    yield before
                if not isinstance(event, traces.NodeEnded):
                    now[name] = Stay(name, event.at, event if isinstance(event, traces.NodeViewSeen) else None)
        yield from now.values()

    def lanes(self) -> Iterator[str]:
        """The nodes and their views as boxes, paler after the transitional signal."""
        for name in self.names:
            y = self.y(name)
            yield _text(LEFT - 12, y + 5, name, "name", end=True)
            yield f'<path d="M{LEFT} {y}H{WIDTH - RIGHT}" stroke="#c3c8d0" stroke-dasharray="2 4"/>'
        for stay in self.stays():
            yield from self._stay(stay)

    def _stay(self, stay: Stay) -> Iterator[str]:
        if not (stay.since <= self.scale.times[-1] and stay.until >= self.scale.times[0]):
            return
        y, x, end = self.y(stay.node), self.scale.x(stay.since), self.scale.x(stay.until)
        if stay.view is None:
            yield f'<path d="M{x:.1f} {y}H{end:.1f}" stroke="#6b7280" stroke-width="2"/>'
            return
        view = stay.view.view
        wrong = str(view.id) in self.focus.words
        yield (
            f'<g><title>{escape(traces.describe(stay.view))}</title><rect x="{x:.1f}" y="{y - BAND / 2}" '
            f'width="{max(end - x - 1, 1.5):.1f}" height="{BAND}" rx="4" fill="{_pastel(view.id, 0.9)}" '
            f'stroke="{WRONG if wrong else _pastel(view.id, 0.6)}" stroke-width="{2.5 if wrong else 1}"/>'
        )
        if stay.signal_at is not None:
            at = self.scale.x(stay.signal_at)
            yield (
                f'<rect x="{at:.1f}" y="{y - BAND / 2 + 1}" width="{max(end - at - 2, 1):.1f}" height="{BAND - 2}" '
                f'fill="#ffffff" opacity="0.65"/>'
            )
        members = " ".join(member.name for member in view.members)
        label = next(
            (text for text in (f"{view_name(view.id)}: {members}", view_name(view.id), str(view.id.epoch))
             if CHARACTER * len(text) + 8 < end - x),
            "",
        )  # fmt: skip
        yield f"{_text(x + 5, y + 4, label)}</g>"

    def messages(self) -> Iterator[str]:
        """A dot where a message is sent, an arrow to each node that receives it; those that matter last, on top."""
        sent = {event.message: event for event in self.events if isinstance(event, traces.Sent)}
        named = sum(self.shown(event.at) for event in sent.values()) <= LABELLED_MESSAGES
        self.opacity = (0.45 if self.focus.words else 0.9) if named else 0.3
        above = list(self._some_messages(sent, named=True, wrong=True))  # first, so that there is room for their names
        yield from self._some_messages(sent, named=named, wrong=False)
        yield from above

    def _some_messages(self, sent: Mapping[str, traces.Sent], *, named: bool, wrong: bool) -> Iterator[str]:
        drawn: set[tuple[str, str, float]] = set()
        for event in self.events:
            if not isinstance(event, traces.Sent | traces.Delivered) or (event.message in self.focus.words) != wrong:
                continue
            if isinstance(event, traces.Sent):
                if self.shown(event.at):
                    yield from self._sent(event, named=named, wrong=wrong)
            elif event.message in sent and (key := (event.message, event.process.node.name, event.at)) not in drawn:
                drawn.add(key)
                yield from self._delivered(sent[event.message], event, wrong=wrong)

    def _sent(self, event: traces.Sent, *, named: bool, wrong: bool) -> Iterator[str]:
        x, y = self.scale.x(event.at), self.y(event.process.node.name)
        colour = WRONG if wrong else COLOURS[event.level]
        yield (
            f'<circle cx="{x:.1f}" cy="{y}" r="{4 if wrong else 3}" fill="{colour}">'
            f"<title>{escape(traces.describe(event))}</title></circle>"
        )
        row = f"{event.process.node.name} sends"
        if named and self.room(row, x, event.message):
            yield _text(x + 2, y + BAND / 2 + 12, event.message, "wrong" if wrong else "small")

    def _delivered(self, sent: traces.Sent, event: traces.Delivered, *, wrong: bool) -> Iterator[str]:
        if not (event.at >= self.scale.times[0] and sent.at <= self.scale.times[-1]):
            return
        here, there = sent.process.node.name, event.process.node.name
        colour = WRONG if wrong else COLOURS[event.level]
        opacity = 0.9 if wrong else self.opacity
        tip = f"<title>{escape(traces.describe(event))}</title>"
        x, y = self.scale.x(event.at), self.y(there)
        if here == there:
            if self.shown(event.at):
                yield f'<circle cx="{x:.1f}" cy="{y}" r="2" fill="{colour}" opacity="{opacity}">{tip}</circle>'
            return
        down = 1 if self.y(here) < y else -1
        begin_x, begin_y, end_y = self.scale.x(sent.at), self.y(here) + down * BAND / 2, y - down * BAND / 2
        dashes = ' stroke-dasharray="5 3"' if sent.recipient is not None else ""
        yield (
            f'<g opacity="{opacity}">{tip}<path d="M{begin_x:.1f} {begin_y:.1f}L{x:.1f} {end_y:.1f}" stroke="{colour}" '
            f'stroke-width="{2.4 if wrong else 1.1}" fill="none"{dashes}/>'
        )
        if self.shown(event.at):
            yield _arrow_head(begin_x, begin_y, x, end_y, colour)
        yield "</g>"

    def group_views(self) -> Iterator[str]:
        """A line over the lane where clients get a view of a group, with its members where there is room."""
        drawn: set[tuple[str, str]] = set()
        for event in self.events:
            if not isinstance(event, traces.ViewSeen) or not self.shown(event.at):
                continue
            node, view = event.process.node.name, event.view
            if (node, str(view.id) + view.group) in drawn:
                continue
            drawn.add((node, str(view.id) + view.group))
            x, y = self.scale.x(event.at), self.y(node) - BAND / 2
            wrong = str(view.id) in self.focus.words
            yield (
                f'<path d="M{x:.1f} {y + 2}v-20" stroke="{WRONG if wrong else "#22262c"}" stroke-width="1.2">'
                f"<title>{escape(traces.describe(event))}</title></path>"
            )
            label = f"{view.group}: {crowd(view.members)}"
            for number in range(2):
                if self.room(f"{node} views {number}", x + 3, label):
                    yield _text(x + 3, y - 10 - 12 * number, label, "wrong" if wrong else "small")
                    break

    def ends(self) -> Iterator[str]:
        """A cross where a node process ends."""
        for event in self.events:
            if isinstance(event, traces.NodeEnded) and self.shown(event.at):
                x, y = self.scale.x(event.at), self.y(event.node.name)
                yield (
                    f'<path d="M{x - 8:.1f} {y - 8}l16 16m0-16l-16 16" stroke="{WRONG}" stroke-width="3.5">'
                    f"<title>{escape(traces.describe(event))}</title></path>"
                )
                yield _text(x + 11, y + BAND, event.how, "wrong")

    def partitions(self) -> Iterator[str]:
        """The time from a partition to the next healing is shaded."""
        since: float | None = None
        for event in (*self.events, traces.Fault(self.scale.times[-1], "heal")):
            if not isinstance(event, traces.Fault):
                continue
            if event.text.startswith(APART) and since is None:
                since = event.at
            elif event.text == "heal" and since is not None:
                x, end = self.scale.x(since), self.scale.x(event.at)
                if end > x:
                    yield (
                        f'<rect x="{x:.1f}" y="{TOP}" width="{end - x:.1f}" height="{LANE * len(self.names)}" '
                        'fill="#f4e3c1" opacity="0.45"><title>partitioned</title></rect>'
                    )
                since = None

    def faults(self) -> Iterator[str]:
        """What was done to the network stands above a line through all lanes, what was done to a node at its lane."""
        found = [event for event in self.events if isinstance(event, traces.Fault) and self.shown(event.at)]
        for event, later in zip_longest(found, found[1:]):
            if event.text == "heal" and later is not None and later.at == event.at and later.text.startswith(APART):
                continue  # one partition makes room for the next
            x = self.scale.x(event.at)
            first, _, rest = event.text.partition(" ")
            tip = f"<title>{escape(traces.describe(event))}</title>"
            if first in self.names:
                y = self.y(first)
                yield f'<path d="M{x:.1f} {y - 24}v48" stroke="#b45309" stroke-width="2">{tip}</path>'
                yield _text(x + 3, y + BAND + 12, rest)
                continue
            yield (
                f'<path d="M{x:.1f} {TOP - 14}V{self.bottom:.0f}" stroke="#b45309" stroke-dasharray="6 4">{tip}</path>'
            )
            if self.room("faults", x, event.text):
                yield _text(x + 3, TOP - 5, event.text)


def _pastel(view: ViewId, lightness: float) -> str:
    """A colour that belongs to a view: in all drawings, and at all its nodes."""
    hue = zlib.crc32(str(view).encode()) / (1 << 32)
    return "#" + "".join(f"{round(255 * part):02x}" for part in colorsys.hls_to_rgb(hue, lightness, 0.6))


def _arrow_head(x: float, y: float, to_x: float, to_y: float, colour: str) -> str:
    length = max(((to_x - x) ** 2 + (to_y - y) ** 2) ** 0.5, 0.001)
    along_x, along_y = (to_x - x) / length, (to_y - y) / length
    base_x, base_y = to_x - 7 * along_x, to_y - 7 * along_y
    return (
        f'<path d="M{to_x:.1f} {to_y:.1f}L{base_x - 3 * along_y:.1f} {base_y + 3 * along_x:.1f}'
        f'L{base_x + 3 * along_y:.1f} {base_y - 3 * along_x:.1f}z" fill="{colour}"/>'
    )


def _text(x: float, y: float, text: str, style: str = "", *, end: bool = False) -> str:
    anchor = ' text-anchor="end"' if end else ""
    kind = f' class="{style}"' if style else ""
    return f'<text x="{x:.1f}" y="{y:.1f}"{kind}{anchor}>{escape(text)}</text>'
