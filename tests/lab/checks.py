"""What the logs of the lab's members must obey: each check raises ``AssertionError`` saying who, which and where.

The checks know nothing of the product's own bookkeeping: messages are known by what stands in them, and what a message
causally follows is worked out here from the logs.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import pairwise
from typing import Any, Final

from attrs import define, field, frozen

Json = dict[str, Any]
MessageId = tuple[str, int]

ORDERED: Final = frozenset(("AGREED", "SAFE"))
FIFO_OR_ABOVE: Final = frozenset(("FIFO", "CAUSAL", "AGREED", "SAFE"))
CAUSAL_OR_ABOVE: Final = frozenset(("CAUSAL", "AGREED", "SAFE"))
RELIABLE_OR_ABOVE: Final = FIFO_OR_ABOVE | {"RELIABLE"}


@frozen
class Sent:
    """A message given to the library."""

    id: MessageId
    level: str


@frozen
class Delivered:
    """A message delivered in a group view."""

    id: MessageId
    level: str
    view: str


@frozen
class ViewSeen:
    """A group view."""

    id: str
    members: tuple[str, ...]
    transitional: frozenset[str]

    @property
    def node_view(self) -> str:
        """The id of the node view it belongs to."""
        return self.id.rpartition("/")[0]

    @property
    def order(self) -> tuple[int, str, int]:
        """What views are ordered by: the epoch, the proposer, the position."""
        node_view, _, position = self.id.rpartition("/")
        epoch, _, proposer = node_view.partition("-")
        return int(epoch), proposer, int(position)


@frozen
class Signal:
    """The transitional signal."""


Step = Sent | Delivered | ViewSeen | Signal


@define
class History:
    """What one member did and saw of one group, in order.

    Attributes:
        name: the member, ``client@node``.
        steps: in the order they happened.
        over: whether it was out of the group, or gone, before the end: what it misses then proves nothing.
    """

    name: str
    steps: list[Step] = field(factory=list)
    over: bool = False

    @property
    def client(self) -> str:
        """The client's name."""
        return self.name.partition("@")[0]

    @classmethod
    def of(cls, name: str, entries: Iterable[Json], group: str = "lab") -> History:
        """Read a member's log.

        Raises:
            AssertionError: a message was damaged, or something followed the last event of the group.
        """
        history = cls(name)
        for entry in entries:
            kind = entry["e"]
            if kind == "send" and group in entry["g"]:
                history.steps.append(Sent((history.client, entry["n"]), entry["l"]))
            elif kind == "m" and entry["g"][:1] == [group]:
                assert entry["id"] is not None, f"{name} received a damaged message from {entry['from']}"
                sender, number = entry["id"]
                assert entry["from"].startswith(f"{sender}@"), f"{name}: {entry['from']} delivered as {sender}'s"
                assert not history.over, f"{name} received a message after it was out of the group"
                history.steps.append(Delivered((sender, number), entry["l"], entry["v"]))
            elif kind == "view" and entry["group"] == group:
                assert not history.over, f"{name} saw a view after it was out of the group"
                seen = ViewSeen(entry["id"], tuple(entry["members"]), frozenset(entry["transitional"]))
                history.steps.append(seen)
            elif kind == "signal" and entry["group"] == group:
                history.steps.append(Signal())
            elif kind == "left" and entry["group"] == group:
                history.over = True
        return history

    def delivered(self, levels: frozenset[str] = RELIABLE_OR_ABOVE) -> list[MessageId]:
        """The messages of these levels, in the order they were delivered."""
        return [step.id for step in self.steps if isinstance(step, Delivered) and step.level in levels]

    def sent(self, levels: frozenset[str] = RELIABLE_OR_ABOVE) -> list[MessageId]:
        """The messages of these levels it sent."""
        return [step.id for step in self.steps if isinstance(step, Sent) and step.level in levels]

    def in_views(self, views: set[str]) -> list[MessageId]:
        """What was delivered in these group views."""
        return [step.id for step in self.steps if isinstance(step, Delivered) and step.view in views]

    def views(self) -> list[ViewSeen]:
        """Its views."""
        return [step for step in self.steps if isinstance(step, ViewSeen)]


def check_always(histories: Sequence[History]) -> None:
    """Everything that holds whatever happened to nodes and network."""
    check_integrity(histories)
    check_views(histories)
    check_fifo(histories)
    check_causal(histories)
    check_total_order(histories)
    check_own_messages(histories)
    check_agreement(histories)


def check_undisturbed(histories: Sequence[History]) -> None:
    """What holds besides when all were members from before the first message until after the last."""
    sent = {message for history in histories for message in history.sent()}
    orders = {history.name: history.delivered(ORDERED) for history in histories}
    first = orders[histories[0].name]
    for history in histories:
        got = set(history.delivered())
        assert got == sent, f"{history.name} lacks {len(sent - got)} of {len(sent)}: {sorted(sent - got)[:5]}"
        assert orders[history.name] == first, (
            f"{history.name} and {histories[0].name} differ in the order of AGREED and SAFE messages "
            f"from place {_first_difference(orders[history.name], first)} on"
        )


def check_last_view(histories: Sequence[History]) -> None:
    """All are in one group view in the end, and have received the same AGREED and SAFE messages in it."""
    last = {history.views()[-1].id for history in histories}
    assert len(last) == 1, f"they ended in different views: {last}"
    received = {
        history.name: [
            step.id
            for step in history.steps
            if isinstance(step, Delivered) and step.level in ORDERED and step.view in last
        ]
        for history in histories
    }
    first = received[histories[0].name]
    for name, messages in received.items():
        assert messages == first, (
            f"{name} and {histories[0].name} differ in the last view from place {_first_difference(messages, first)} on"
        )


def _first_difference(one: Sequence[object], other: Sequence[object]) -> int:
    for place, (left, right) in enumerate(zip(one, other, strict=False)):
        if left != right:
            return place
    return min(len(one), len(other))


def check_integrity(histories: Sequence[History]) -> None:
    """Every message delivered was sent, at that level, and nobody got one twice."""
    sent = {step.id: step.level for history in histories for step in history.steps if isinstance(step, Sent)}
    senders = {history.client for history in histories}
    for history in histories:
        seen: set[MessageId] = set()
        for step in history.steps:
            if not isinstance(step, Delivered):
                continue
            assert step.id not in seen, f"{history.name} received {step.id} twice"
            seen.add(step.id)
            if step.id[0] in senders:
                assert sent.get(step.id) == step.level, (
                    f"{history.name} received {step.id}, sent at {sent.get(step.id)}"
                )


def check_views(histories: Sequence[History]) -> None:
    """Views grow, name whoever sees them, are equal where their ids are, and messages name the view they came in."""
    members: dict[str, tuple[str, ...]] = {}
    previous: dict[tuple[str, str], str | None] = {}
    transitional: dict[tuple[str, str], frozenset[str]] = {}
    for history in histories:
        last: ViewSeen | None = None
        for step in history.steps:
            if isinstance(step, ViewSeen):
                assert history.name in step.members, f"{history.name} is not in its own view {step.id}"
                assert last is None or last.order < step.order, f"{history.name}: view {step.id} after {last}"
                known = members.setdefault(step.id, step.members)
                assert known == step.members, f"view {step.id} has other members at {history.name}"
                previous[step.id, history.name] = last.id if last else None
                transitional[step.id, history.name] = step.transitional
                last = step
            elif isinstance(step, Delivered):
                assert last is not None, f"{history.name} received {step.id} before its first view"
                assert step.view == last.id, f"{history.name} received {step.id} of view {step.view} in {last.id}"
    by_view: dict[str, list[str]] = defaultdict(list)
    for view, name in previous:
        by_view[view].append(name)
    for view, names in by_view.items():
        for one in names:
            own = transitional[view, one]
            for other in names:
                together = previous[view, one] is not None and previous[view, one] == previous[view, other]
                if one != other:
                    assert (other in own) == together, (
                        f"view {view}: {other} is {'' if other in own else 'not '}in the transitional set of {one}, "
                        f"whose previous views are {previous[view, one]} and {previous[view, other]}"
                    )


def check_fifo(histories: Sequence[History]) -> None:
    """The messages of one sender at FIFO and above come in the order they were sent."""
    for history in histories:
        last: dict[str, int] = {}
        for sender, number in history.delivered(FIFO_OR_ABOVE):
            assert number > last.get(sender, 0), f"{history.name}: {sender} {number} after {last[sender]}"
            last[sender] = number


Vector = dict[str, int]


def causal_pasts(histories: Sequence[History]) -> dict[MessageId, Vector]:
    """For each message at FIFO or above, the highest number of each sender that it causally follows.

    A message follows what its sender sent before it at these levels; one at CAUSAL and above also what its sender had
    received, and what that followed. One FIFO message says nothing of what its sender had received.
    """
    pasts: dict[MessageId, Vector] = {}
    positions = dict.fromkeys((history.name for history in histories), 0)
    seen: dict[str, Vector] = {history.name: {} for history in histories}
    own: dict[str, Vector] = {history.name: {} for history in histories}
    senders = {history.client for history in histories}
    advanced = True
    while advanced:  # each log in turn, up to the first message whose own past is not known yet
        advanced = False
        for history in histories:
            name, steps = history.name, history.steps
            while positions[name] < len(steps):
                step = steps[positions[name]]
                if isinstance(step, Sent) and step.level in FIFO_OR_ABOVE:
                    if step.level in CAUSAL_OR_ABOVE:
                        _merge(own[name], seen[name])
                    pasts[step.id] = dict(own[name])
                    own[name][step.id[0]] = step.id[1]
                elif isinstance(step, Delivered) and step.level in FIFO_OR_ABOVE and step.id[0] in senders:
                    if step.id not in pasts:
                        break
                    _merge(seen[name], pasts[step.id])
                    _merge(seen[name], {step.id[0]: step.id[1]})
                positions[name] += 1
                advanced = True
    stuck = [history.name for history in histories if positions[history.name] < len(history.steps)]
    assert not stuck, f"these received a message before it was sent: {stuck}"
    return pasts


def _merge(into: Vector, other: Vector) -> None:
    for sender, number in other.items():
        if number > into.get(sender, 0):
            into[sender] = number


def check_causal(histories: Sequence[History]) -> None:
    """Nobody gets a message after one that causally follows it."""
    pasts = causal_pasts(histories)
    for history in histories:
        promised: Vector = {}
        by: dict[str, MessageId] = {}
        for message in history.delivered(FIFO_OR_ABOVE):
            sender, number = message
            assert number > promised.get(sender, 0), (
                f"{history.name} received {message} after {by[sender]}, which follows it"
            )
            for other, upto in pasts.get(message, {}).items():
                if upto > promised.get(other, 0):
                    promised[other] = upto
                    by[other] = message


def check_total_order(histories: Sequence[History]) -> None:
    """Messages at AGREED and SAFE come in one order.

    Before the transitional signal every member delivers a prefix of one sequence of each node view; between two
    members, whatever both deliver in one node view comes in the same order, if they leave that view together.
    """
    longest: dict[str, tuple[str, list[MessageId]]] = {}
    for history in histories:
        for view, (joined_late, messages) in _regular_parts(history).items():
            if joined_late:
                continue
            name, known = longest.get(view, (history.name, []))
            place = min(len(known), len(messages))
            assert known[:place] == messages[:place], (
                f"in view {view} {name} and {history.name} differ in the order "
                f"from place {_first_difference(known, messages)} on: "
                f"{known[_first_difference(known, messages)]} and {messages[_first_difference(known, messages)]}"
            )
            if len(messages) > len(known):
                longest[view] = history.name, messages
    for index, one in enumerate(histories):
        places = {message: place for place, message in enumerate(_regular_messages(one))}
        for other in histories[index + 1 :]:
            common = [places[message] for message in _regular_messages(other) if message in places]
            assert all(left < right for left, right in pairwise(common)), (
                f"{one.name} and {other.name} received the same messages in different orders"
            )


def _regular_messages(history: History) -> list[MessageId]:
    messages: list[MessageId] = []
    regular = True
    for step in history.steps:
        if isinstance(step, ViewSeen):
            regular = True
        elif isinstance(step, Signal):
            regular = False
        elif isinstance(step, Delivered) and regular and step.level in ORDERED:
            messages.append(step.id)
    return messages


def _regular_parts(history: History) -> dict[str, tuple[bool, list[MessageId]]]:
    """For each node view: whether it joined in its course, and its AGREED and SAFE messages before the signal."""
    parts: dict[str, tuple[bool, list[MessageId]]] = {}
    view = ""
    regular = True
    for step in history.steps:
        if isinstance(step, ViewSeen):
            if step.node_view != view:
                view, regular = step.node_view, True
                parts[view] = (step.order[2] > 0, [])
        elif isinstance(step, Signal):
            regular = False
        elif isinstance(step, Delivered) and regular and step.level in ORDERED:
            parts[view][1].append(step.id)
    return parts


def check_own_messages(histories: Sequence[History]) -> None:
    """Whoever stays in the group receives all it sent itself; whoever did not, the first of it without a hole."""
    for history in histories:
        if history.over:
            own = [message for message in history.delivered(FIFO_OR_ABOVE) if message[0] == history.client]
            assert own == history.sent(FIFO_OR_ABOVE)[: len(own)], f"{history.name} received its own with holes"
        else:
            missing = set(history.sent()).difference(history.delivered())
            assert not missing, f"{history.name} lacks its own {sorted(missing)[:5]} ({len(missing)})"


def check_agreement(histories: Sequence[History]) -> int:
    """Those who go from one view to the next together deliver the same before it; returns how often this was compared.

    AGREED and SAFE messages, in the same order: between two group views. All reliable levels: between two node views,
    for those who were members from the first one's start to the second one's.
    """
    compared = 0
    by_group_view: dict[tuple[str, str], tuple[str, list[MessageId]]] = {}
    by_node_view: dict[tuple[str, str], tuple[str, list[MessageId]]] = {}
    for history in histories:
        for start, end, messages in _stretches(history, ORDERED, lambda view: view.id):
            name, known = by_group_view.setdefault((start.id, end.id), (history.name, messages))
            assert known == messages, _disagreement(start, end, (name, known), (history.name, messages))
            compared += name != history.name
        for start, end, messages in _stretches(history, RELIABLE_OR_ABOVE, lambda view: view.node_view):
            if start.order[2] == 0 == end.order[2]:
                name, known = by_node_view.setdefault((start.id, end.id), (history.name, messages))
                assert set(known) == set(messages), _disagreement(start, end, (name, known), (history.name, messages))
                compared += name != history.name
    return compared


def _stretches(
    history: History, levels: frozenset[str], unit: Callable[[ViewSeen], str]
) -> Iterator[tuple[ViewSeen, ViewSeen, list[MessageId]]]:
    """What a member delivered between two views of different units: the first view of each, and the messages."""
    start: ViewSeen | None = None
    messages: list[MessageId] = []
    for step in history.steps:
        if isinstance(step, ViewSeen):
            if start is None or unit(step) != unit(start):
                if start is not None:
                    yield start, step, messages
                start, messages = step, []
        elif isinstance(step, Delivered) and step.level in levels:
            messages.append(step.id)


def _disagreement(
    start: ViewSeen, end: ViewSeen, one: tuple[str, list[MessageId]], other: tuple[str, list[MessageId]]
) -> str:
    difference = sorted(set(one[1]).symmetric_difference(other[1]))
    what = (
        f"only one of them received {difference[:5]} ({len(difference)})"
        if difference
        else f"in different orders from place {_first_difference(one[1], other[1])} on"
    )
    return f"{one[0]} and {other[0]} went from {start.id} to {end.id} together, but {what}"
