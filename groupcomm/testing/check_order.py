"""The order of messages: O1 to O8.

O1 to O4 are read with the oracle's own causal masks; between the clients of one node also by the reports on their
sends, since their messages leave in one stream. The total order is checked as graphs of "received immediately
before": per node view over the regular parts, joined with the causal edges (O5, O8), and per transition over everything
(O6). O7 is checked per group view: the regular sequences are prefixes of one. Says nothing about which messages must
come at all, but for holes: nobody receives what follows a message without that message (O2, O4).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from groupcomm.events import Level
from groupcomm.identity import NodeId
from groupcomm.testing.check_delivery import addressed
from groupcomm.testing.history import History
from groupcomm.testing.records import Delivery, GroupStep, GroupViewKey, MessageRecord, ProcessRecord, ViewKey
from groupcomm.testing.report import AT_THE_END


def check_order(history: History) -> None:
    """Check every order that was promised."""
    by_sender = _by_sender(history)
    for process in history.processes.values():
        _check_causal(history, process, by_sender)
        _check_node_order(history, process)
    _check_total_order(history)
    _check_transitions(history)
    _check_prefixes(history)


def _by_sender(history: History) -> dict[object, int]:
    """The mask of each sender's messages."""
    masks: dict[object, int] = {}
    for message in history.numbered:
        masks[message.sender] = masks.get(message.sender, 0) | message.bit
    return masks


def _check_causal(history: History, process: ProcessRecord, by_sender: dict[object, int]) -> None:
    report = history.report
    premises = {"O1": 0, "O2": 0, "O3": 0, "O4": 0}
    delivered = pasts = settled = 0
    for delivery in process.deliveries:
        message = delivery.message
        if message.level < Level.FIFO:
            continue
        if pasts & message.bit:
            _report_overtaking(history, process, delivery)
        if past := message.past:
            own = by_sender[message.sender]
            premises["O1"] += bool(past & delivered & own)
            premises["O3"] += bool(past & delivered & ~own)
            premises["O2"] += bool(past & own)
            premises["O4"] += bool(past & ~own)
            missing = past & ~delivered & ~settled
            for earlier in _members(history, missing):
                if _hole(process, earlier, delivery):
                    report.violate(
                        "O2" if earlier.sender == message.sender else "O4",
                        delivery.index,
                        f"{process.member} received {message.label} without {earlier.label}, which precedes it",
                        earlier.label,
                        message.label,
                    )
            settled |= missing
        delivered |= message.bit
        pasts |= past
    for name, times in premises.items():
        report.premise(name, times)


def _hole(process: ProcessRecord, earlier: MessageRecord, delivery: Delivery) -> bool:
    """Whether ``earlier`` should have come before this delivery and never does: one that comes late is overtaken."""
    if process in earlier.got:
        return False
    view = earlier.delivered_in or earlier.left_in or earlier.sent_in
    return view is not None and view == delivery.node_view and addressed(process, earlier, delivery.index)


def _report_overtaking(history: History, process: ProcessRecord, late: Delivery) -> None:
    for delivery in process.deliveries:
        if delivery is late:
            return
        if delivery.message.past & late.message.bit:
            early = delivery.message
            if early.sender == late.message.sender:
                name = "O1"
            else:
                name = "O8" if early.level < late.message.level else "O3"
            history.report.violate(
                name,
                late.index,
                f"{process.member} received {early.label} before {late.message.label}, which precedes it",
                late.message.label,
                early.label,
            )
            return


def _check_node_order(history: History, process: ProcessRecord) -> None:
    """FIFO is the node's: what its clients sent at FIFO or above comes in the order in which it left."""
    last: dict[NodeId, tuple[int, Delivery]] = {}
    pairs = 0
    for delivery in process.deliveries:
        message = delivery.message
        left_at = message.left_at
        if message.level < Level.FIFO or left_at is None:
            continue
        node = message.sender.node
        known = last.get(node)
        if known is None:
            last[node] = left_at, delivery
            continue
        last_left_at, earlier = known
        pairs += earlier.message.sender != message.sender
        if left_at > last_left_at:
            last[node] = left_at, delivery
        elif left_at < last_left_at:
            history.report.violate(
                "O1",
                delivery.index,
                f"{process.member} received {earlier.message.label} before {message.label}, "
                "which left the same node earlier",
                message.label,
                earlier.message.label,
            )
    history.report.premise("O1 node", pairs)


def _members(history: History, mask: int) -> Iterator[MessageRecord]:
    while mask:
        low = mask & -mask
        yield history.numbered[low.bit_length() - 1]
        mask ^= low


class _Graph:
    """Messages and "comes before" edges, each with the event that shows it; finds the first cycle if there is one."""

    def __init__(self) -> None:
        self._edges: dict[tuple[str, str], tuple[int, str]] = {}

    def add(self, earlier: str, later: str, index: int, why: str) -> None:
        """``earlier`` comes before ``later``, as the event at ``index`` shows."""
        known = self._edges.get((earlier, later))
        if known is None or index < known[0]:
            self._edges[earlier, later] = index, why

    def first_cycle(self) -> tuple[int, list[tuple[str, str]]] | None:
        """The event that closes the first cycle, and its messages, each with why it comes before the next."""
        if not self._remaining(AT_THE_END):
            return None
        indices = sorted({index for index, _ in self._edges.values()})
        low, high = 0, len(indices) - 1
        while low < high:
            middle = (low + high) // 2
            if self._remaining(indices[middle]):
                high = middle
            else:
                low = middle + 1
        return indices[low], self._trace_cycle(self._remaining(indices[low]), indices[low])

    def _remaining(self, until: int) -> set[str]:
        """The messages on and behind cycles of the edges shown by ``until`` (Kahn's algorithm)."""
        after: dict[str, list[str]] = {}
        entering: dict[str, int] = {}
        for (earlier, later), (index, _) in self._edges.items():
            if index <= until:
                after.setdefault(earlier, []).append(later)
                entering[later] = entering.get(later, 0) + 1
        ready = [label for label in after if label not in entering]
        while ready:
            for later in after.get(ready.pop(), ()):
                entering[later] -= 1
                if not entering[later]:
                    del entering[later]
                    ready.append(later)
        return set(entering)

    def _trace_cycle(self, remaining: set[str], until: int) -> list[tuple[str, str]]:
        before = {
            later: earlier
            for (earlier, later), (index, _) in self._edges.items()
            if index <= until and earlier in remaining and later in remaining
        }
        path = [min(before)]
        while (label := before[path[-1]]) not in path:
            path.append(label)
        ring = path[path.index(label) :][::-1]
        following = ring[1:] + ring[:1]
        return [(one, self._edges[one, other][1]) for one, other in zip(ring, following, strict=True)]


def _check_total_order(history: History) -> None:
    graphs: dict[ViewKey, _Graph] = {}
    for process in history.processes.values():
        name, pairs = str(process.member), 0
        for earlier, later in _neighbours(delivery for delivery in process.deliveries if delivery.regular):
            view = earlier.node_view
            if view == later.node_view and view is not None:
                pairs += 1
                graph = graphs.get(view)
                if graph is None:
                    graph = graphs[view] = _Graph()
                graph.add(earlier.message.label, later.message.label, later.index, name)
        history.report.premise("O5", pairs)
    for view in [view for view, graph in graphs.items() if _report_cycle(history, "O5", f"in {view}", graph)]:
        del graphs[view]
    _add_causal_edges(history, graphs)
    for view, graph in graphs.items():
        _report_cycle(history, "O8", f"in {view}", graph)


def _add_causal_edges(history: History, graphs: dict[ViewKey, _Graph]) -> None:
    edges = 0
    for message in history.numbered:
        view = message.delivered_in or message.sent_in
        graph = graphs.get(view) if view is not None else None
        if graph is None:
            continue
        for earlier in message.direct:
            if (earlier.delivered_in or earlier.sent_in) == view:
                edges += 1
                graph.add(earlier.label, message.label, message.sent_index, "causally")
    history.report.premise("O8", edges)


def _check_transitions(history: History) -> None:
    graphs: dict[tuple[ViewKey, ViewKey], _Graph] = {}
    for process in history.processes.values():
        name, pairs, after_signal = str(process.member), 0, 0
        for earlier, later in _neighbours(process.deliveries):
            step = later.step
            if step is None or step.next is None or earlier.step is not step:
                continue
            pairs += 1
            after_signal += not later.regular
            key = (step.key, step.next.key)
            graph = graphs.get(key)
            if graph is None:
                graph = graphs[key] = _Graph()
            graph.add(earlier.message.label, later.message.label, step.next.index, name)
        history.report.premise("O6", pairs)
        history.report.premise("O6 after signal", after_signal)
    for (view, following), graph in graphs.items():
        _report_cycle(history, "O6", f"from {view} to {following}", graph)


def _neighbours(deliveries: Iterable[Delivery]) -> Iterator[tuple[Delivery, Delivery]]:
    last: Delivery | None = None
    for delivery in deliveries:
        if delivery.message.level >= Level.AGREED:
            if last is not None:
                yield last, delivery
            last = delivery


def _report_cycle(history: History, name: str, where: str, graph: _Graph) -> bool:
    found = graph.first_cycle()
    if found is None:
        return False
    index, cycle = found
    text = ", ".join(f"{label} before the next ({why})" for label, why in cycle)
    history.report.violate(name, index, f"the order {where} is a circle: {text}", *(label for label, _ in cycle))
    return True


def _check_prefixes(history: History) -> None:
    sequences: dict[tuple[str, GroupViewKey], list[tuple[GroupStep, list[Delivery]]]] = {}
    for process in history.processes.values():
        for group, episodes in process.episodes.items():
            for step in (step for episode in episodes for step in episode.steps):
                regular = [one for one in step.deliveries if one.regular and one.message.ordered]
                sequences.setdefault((group, step.key), []).append((step, regular))
    for found in sequences.values():
        longest = max(found, key=lambda one: len(one[1]))
        for step, sequence in found:
            if step is not longest[0]:
                _check_prefix(history, step, sequence, *longest)
                _check_skipped(history, step, longest[1])


def _check_prefix(
    history: History, step: GroupStep, sequence: list[Delivery], other: GroupStep, expected: list[Delivery]
) -> None:
    me, them = step.process.member, other.process.member
    mine = [one for one in sequence if not one.message.discarded_by(them)]
    theirs = [one for one in expected if not one.message.discarded_by(me)]
    history.report.premise("O7", bool(mine and theirs))
    for one, their in zip(mine, theirs, strict=False):
        if one.message is not their.message:
            history.report.violate(
                "O7",
                max(one.index, their.index),
                f"in view {step.key} of {step.view.group} {me} received {one.message.label} "
                f"where {them} received {their.message.label}",
                one.message.label,
                their.message.label,
            )
            return


def _check_skipped(history: History, step: GroupStep, expected: list[Delivery]) -> None:
    """Who leaves a node view may have left out messages that others had in it, but of those it parts from only.

    A group view can outlast several node views: the one in which the message was delivered counts.
    """
    if step.next is None:
        return
    for delivery in expected:
        message = delivery.message
        if step.process in message.got or message.discarded_by(step.process.member) or delivery.node_view is None:
            continue
        node_step = step.process.node.by_view.get(delivery.node_view)
        if node_step is None or node_step.next is None or step.next.index < node_step.next.index:
            continue
        history.report.premise("O7 after signal")
        if message.sender.node in node_step.next.view.transitional:
            history.report.violate(
                "O7",
                max(node_step.next.index, delivery.index),
                f"{step.process.member} went from {step.key} of {step.view.group} to {step.next.key} "
                f"with the sender of {message.label}, but left that out",
                message.label,
            )
