"""A run as a picture for a terminal: a column for each node, time downwards, one line for what is close together.

Decides what of a trace is shown, how an event is written in a few characters, and which lines are chosen when not all
fit: those around what broke a property, and without any the last ones. Reading down never goes back in time, and no
message is received in the line in which it is sent.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import TypeAlias

from attrs import define, field, frozen

from groupcomm.identity import MemberId, ViewId
from groupcomm.testing import trace as traces
from groupcomm.testing.oracle import Report

LEAST_WIDTH, WIDTH, MOST_WIDTH = 100, 120, 160
"""Characters of a line."""

LINES = 60
"""Lines of a picture, without its head."""

TIME_CHARACTERS = 12
LEAST_COLUMN = 10
LINE_SECONDS = 0.002
"""Events of different nodes this close together share a line."""

CELL_LINES = 4
"""Lines that one cell is broken into at most, before a new row begins."""

WORD = re.compile(r"[^\s,;:(){}]+")

LEGEND = (
    ">m:A  sends m (U nreliable, R eliable, F ifo, C ausal, A greed, S afe)    m  receives m    =m  m is stable",
    "[3-a b c]  node view 3 by a, of b and c    g{b c}  view of group g    ~g  its signal, ~~ the node's",
    "?g  asks to join, -?g to leave, -g  is out    x.m  at client x, *.m at all of the node    !  see what is wrong",
)


@frozen
class Focus:
    """What the first violation is about: the events that a picture must show, and marks.

    Attributes:
        words: the messages, and the ids of views that its text names.
        index: of the event that shows it; no event's if only the end does.
    """

    words: frozenset[str] = frozenset()
    index: int = -1

    @classmethod
    def of(cls, report: Report) -> Focus:
        """What a report found first; nothing if it found nothing."""
        if not report.violations:
            return cls()
        first = report.violations[0]
        return cls(frozenset((*first.messages, *WORD.findall(first.text))), first.at_index)

    def touches(self, index: int, event: traces.TraceEvent) -> bool:
        """Whether this event of the trace is part of the matter."""
        if index == self.index:
            return True
        match event:
            case traces.Sent() | traces.Delivered() | traces.SafeHeld():
                return event.message in self.words
            case traces.Accepted():
                return event.stable and not self.words.isdisjoint(event.messages)
            case traces.ViewSeen() | traces.NodeViewSeen():
                return str(event.view.id) in self.words
        return False


@define(eq=False)
class Word:
    """One event in a cell, or the same at several clients of a node."""

    text: str
    clients: list[str]
    client_count: int = 0
    marked: bool = False

    def __str__(self) -> str:
        who = "*" if len(self.clients) == self.client_count else "+".join(self.clients)
        return "!" * self.marked + (f"{who}." if self.clients else "") + self.text


@define(eq=False)
class Cell:
    """What happened at one node at about one time, and how many messages more came and went."""

    words: list[Word] = field(factory=list)
    more: int = 0

    def lines(self, width: int) -> list[str]:
        """As lines of so many characters."""
        return _broken([*map(str, self.words), *([f"+{self.more} more"] if self.more else ())], width)

    def merged(self, word: Word) -> bool:
        """Whether the word could be told together with the one before it."""
        if not self.words or self.more or not word.clients:
            return False
        last = self.words[-1]
        if (last.text, last.marked) != (word.text, word.marked) or set(word.clients) & set(last.clients):
            return False
        last.clients += word.clients
        return True


@define(eq=False)
class Row:
    """What happened at about one time: a cell for each node, or one text across all of them."""

    at: float
    cells: dict[str, Cell] = field(factory=dict)
    across: str = ""
    marked: bool = False
    sent: dict[str, str] = field(factory=dict)
    """Where each message was sent."""
    down: frozenset[str] = frozenset()
    """The nodes without a process at its end."""


def picture(
    trace: Iterable[traces.TraceEvent],
    report: Report | None = None,
    *,
    width: int = WIDTH,
    lines: int = LINES,
    since: float = 0.0,
    until: float = float("inf"),
) -> str:
    """Draw a run, or what of it matters most.

    Args:
        trace: the events.
        report: of the oracle; the events of its first violation are marked and shown.
        width: characters of a line, brought between 100 and 160.
        lines: to show at most, besides the head and the legend.
        since: the first second to show.
        until: the last one.
    """
    events = list(trace)
    names = node_names(events)
    if not names:
        return "no node was started"
    width = max(LEAST_WIDTH, min(MOST_WIDTH, width))
    column = max(LEAST_COLUMN, (width - TIME_CHARACTERS) // len(names))
    rows = list(_rows(events, names, Focus() if report is None else Focus.of(report), column - 2))
    shown = _chosen([row for row in rows if since <= row.at <= until], lines, column)
    head = " " * TIME_CHARACTERS + "".join(name[: column - 1].ljust(column) for name in names)
    return "\n".join((head.rstrip(), *_written(shown, rows, names, column), *LEGEND))


def node_names(events: Iterable[traces.TraceEvent]) -> list[str]:
    """The names of all nodes that ever ran, in order."""
    return sorted({event.node.name for event in events if isinstance(event, traces.NodeStarted)})


# Rows


def _rows(events: Sequence[traces.TraceEvent], names: Sequence[str], focus: Focus, width: int) -> Iterator[Row]:
    """The events as rows."""
    speech = _Speech(events)
    row: Row | None = None
    down = set(names)
    for index, event in enumerate(events):
        marked = focus.touches(index, event)
        place, word = speech.of(event, names, marked)
        if isinstance(event, traces.NodeStarted):
            down.discard(event.node.name)
        elif isinstance(event, traces.NodeEnded):
            down.add(event.node.name)
        if word is None:
            continue
        if row is not None and not (place and _takes(row, event, place, word, width)):
            yield row
            row = None
        if not place:
            yield Row(event.at, across=str(word), marked=marked, down=frozenset(down))
            continue
        if row is None:
            row = Row(event.at)
            row.cells[place] = Cell([word])
        row.marked |= marked
        row.down = frozenset(down)
        if isinstance(event, traces.Sent):
            row.sent[event.message] = place
    if row is not None:
        yield row


def _takes(row: Row, event: traces.TraceEvent, place: str, word: Word, width: int) -> bool:
    """Put a word in a row, if it may stand there and there is room."""
    if event.at - row.at > LINE_SECONDS:
        return False
    if isinstance(event, traces.Delivered) and row.sent.get(event.message, place) != place:
        return False
    cell = row.cells.setdefault(place, Cell())
    if cell.merged(word):
        return True
    if not cell.more:
        cell.words.append(word)
        if len(cell.lines(width)) < CELL_LINES:
            return True
        cell.words.pop()
    if isinstance(event, traces.Sent | traces.Delivered) and not word.marked:
        cell.more += 1
        return True
    return False


_NodeEvent: TypeAlias = (
    traces.NodeStarted | traces.NodeLeaving | traces.NodeEnded | traces.NodeViewSeen | traces.NodeSignalSeen
)


class _Speech:
    """Events in a few characters."""

    def __init__(self, events: Iterable[traces.TraceEvent]) -> None:
        clients: dict[str, set[str]] = {}
        for event in events:
            if isinstance(event, traces.Opened):
                clients.setdefault(event.process.node.name, set()).add(event.process.client)
        self._client_counts = {node: len(names) for node, names in clients.items()}

    def of(self, event: traces.TraceEvent, names: Sequence[str], marked: bool) -> tuple[str, Word | None]:
        """The column it belongs in (empty: across all), and its word (None: not shown)."""
        if isinstance(event, traces.Fault):
            first, _, rest = event.text.partition(" ")
            return (first, Word(f"*{rest}", [], marked=marked)) if first in names else ("", Word(event.text, []))
        if isinstance(event, _NodeEvent):
            return event.node.name, Word(self._of_node(event), [], marked=marked)
        if isinstance(event, traces.SafeHeld):
            words = f"{event.message} is not at {' '.join(one.name for one in event.lacking)}"
            return event.node.name, Word(words, [], marked=marked) if event.lacking else None
        node = event.process.node.name
        text = self._of_client(event)
        if marked and isinstance(event, traces.Accepted):  # elsewhere a report on a send says nothing new
            text = f"={' '.join(event.messages)}"
        count = self._client_counts.get(node, 1)
        return node, Word(text, [event.process.client] if count > 1 else [], count, marked) if text else None

    @staticmethod
    def _of_node(
        event: _NodeEvent,
    ) -> str:
        match event:
            case traces.NodeStarted():
                return "*starts"
            case traces.NodeLeaving():
                return "*leaves"
            case traces.NodeEnded():
                return f"X {event.how}"
            case traces.NodeViewSeen():
                return f"[{view_name(event.view.id)} {' '.join(one.name for one in event.view.members)}]"
            case traces.NodeSignalSeen():
                return "~~"

    @staticmethod
    def _of_client(event: traces.TraceEvent) -> str:
        match event:
            case traces.Sent():
                return f">{event.message}:{event.level.name[0]}"
            case traces.Delivered():
                return event.message
            case traces.ViewSeen():
                return f"{event.view.group}{{{crowd(event.view.members)}}}"
            case traces.SignalSeen():
                return f"~{event.group}"
            case traces.LeftSeen():
                return f"-{event.group} {event.reason.label}"
            case traces.JoinAsked():
                return f"?{event.group}"
            case traces.LeaveAsked():
                return f"-?{event.group}"
            case traces.UndeliverableSeen():
                return f"nobody: {event.recipient}"
            case traces.Accepted() if not event.complete:
                return f"incomplete: {' '.join(event.messages)}"
            case traces.Closed():
                return "closes"
        return ""


def view_name(view: ViewId) -> str:
    """A view in few characters: the epoch alone need not be unique."""
    return f"{view.epoch}-{view.proposer.name}"


def crowd(members: Iterable[MemberId]) -> str:
    """Members by their nodes: ``ash bay*2``."""
    return " ".join(
        name if number == 1 else f"{name}*{number}"
        for name, number in Counter(member.node.name for member in members).items()
    )


# Lines


def _chosen(rows: Sequence[Row], lines: int, column: int) -> list[Row]:
    """The rows nearest to the marked ones, or to the end, as many as fit; in their order."""
    marked = [number for number, row in enumerate(rows) if row.marked] or [len(rows)]
    heights = [_height(row, column) for row in rows]
    chosen: list[int] = []
    for number in sorted(range(len(rows)), key=lambda number: (min(abs(number - one) for one in marked), -number)):
        if heights[number] > lines:
            break
        lines -= heights[number]
        chosen.append(number)
    return [rows[number] for number in sorted(chosen)]


def _height(row: Row, column: int) -> int:
    return 1 if row.across else max(len(cell.lines(column - 2)) for cell in row.cells.values())


def _written(shown: Sequence[Row], rows: Sequence[Row], names: Sequence[str], column: int) -> Iterator[str]:
    places = {id(row): number for number, row in enumerate(rows)}
    if not shown:
        yield f"{'':{TIME_CHARACTERS}}nothing happened in this time"
        return
    before = -1
    for row in shown:
        place = places[id(row)]
        if place != before + 1:
            number = place - before - 1
            yield f"{'':{TIME_CHARACTERS}}... {number} row{'s' * (number > 1)} not shown ..."
        before = place
        yield from _written_row(row, names, column)
    if before + 1 < len(rows):
        yield f"{'':{TIME_CHARACTERS}}... {len(rows) - before - 1} rows after this not shown ..."


def _written_row(row: Row, names: Sequence[str], column: int) -> Iterator[str]:
    mark = "!" if row.marked else " "
    if row.across:
        width = column * len(names)
        text = f"-- {row.across} "[:width]
        yield f"{row.at:10.4f}{mark} {text.ljust(width, '-')}"
        return
    cells = {name: row.cells.get(name, Cell()).lines(column - 2) for name in names}
    for number in range(max(map(len, cells.values()))):
        line = f"{row.at:10.4f}{mark} " if number == 0 else " " * TIME_CHARACTERS
        for name in names:
            text = cells[name][number] if number < len(cells[name]) else ""
            line += (text or ("." if name in row.down else "|")).ljust(column)
        yield line.rstrip()


def _broken(words: Iterable[str], width: int) -> list[str]:
    """Words as lines of a cell; a word too long is cut."""
    lines: list[str] = []
    for word in (part for each in words for part in _parts(each, width)):
        if lines and len(lines[-1]) + 1 + len(word) <= width:
            lines[-1] += f" {word}"
        else:
            lines.append(word)
    return lines


def _parts(word: str, width: int) -> Iterator[str]:
    """A word that fits stays whole; one that does not is broken at its spaces, then cut."""
    if len(word) <= width:
        yield word
        return
    for part in word.split(" "):
        yield part if len(part) <= width else f"{part[: width - 2]}.."
