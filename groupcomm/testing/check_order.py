"""The order of messages: O1 to O8.

O1 to O4 are read with the oracle's own causal masks. The total order is checked as graphs of "received immediately
before": per node view over the regular parts, joined with the causal edges (O5, O8), and per transition over everything
(O6). O7 is checked per group view: the regular sequences are prefixes of one. Says nothing about which messages must
come at all, but for holes: nobody receives what follows a message without that message (O2, O4).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from groupcomm.events import Level
from groupcomm.identity import GroupViewId, ViewId
from groupcomm.testing.check_delivery import addressed
from groupcomm.testing.history import Delivery, GroupStep, History, MessageRecord, ProcessRecord


def check_order(history: History) -> None:
    """Check every order that was promised."""
    for process in history.processes.values():
        _check_causal(history, process)
    _check_total_order(history)
    _check_transitions(history)
    _check_prefixes(history)


def _check_causal(history: History, process: ProcessRecord) -> None:
    report = history.report
    delivered = pasts = settled = 0
    for delivery in process.deliveries:
        message = delivery.message
        if message.level < Level.FIFO:
            continue
        if pasts & message.bit:
            _report_overtaking(history, process, delivery)
        report.premise("O1/O3", bool(message.past & delivered))
        missing = message.past & ~delivered & ~settled
        for earlier in _members(history, missing):
            if _hole(process, earlier, delivery):
                name = "O2" if earlier.sender == message.sender else "O4"
                report.violate(
                    name,
                    f"{process.member} received {message.label} without {earlier.label}, which precedes it",
                    earlier.label,
                    message.label,
                )
        report.premise("O2/O4", bool(message.past))
        settled |= missing
        delivered |= message.bit
        pasts |= message.past


def _hole(process: ProcessRecord, earlier: MessageRecord, delivery: Delivery) -> bool:
    """Whether ``earlier`` should have come before this delivery: both belong to one view and to this process."""
    view = earlier.delivered_in or earlier.sent_in
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
                f"{process.member} received {early.label} before {late.message.label}, which precedes it",
                late.message.label,
                early.label,
            )
            return


def _members(history: History, mask: int) -> Iterator[MessageRecord]:
    while mask:
        low = mask & -mask
        yield history.numbered[low.bit_length() - 1]
        mask ^= low


class _Graph:
    """Messages and "comes before" edges; finds a cycle if there is one (Kahn's algorithm)."""

    def __init__(self) -> None:
        self._after: dict[str, dict[str, str]] = {}

    def add(self, earlier: str, later: str, why: str) -> None:
        """``earlier`` comes before ``later``."""
        self._after.setdefault(earlier, {}).setdefault(later, why)
        self._after.setdefault(later, {})

    def cycle(self) -> list[tuple[str, str]]:
        """The messages of a cycle, each with why it comes before the next; empty if there is none."""
        entering = dict.fromkeys(self._after, 0)
        for laters in self._after.values():
            for later in laters:
                entering[later] += 1
        ready = [label for label, number in entering.items() if number == 0]
        while ready:
            label = ready.pop()
            del entering[label]
            for later in self._after[label]:
                entering[later] -= 1
                if entering[later] == 0:
                    ready.append(later)
        return self._trace_cycle(entering)

    def _trace_cycle(self, remaining: dict[str, int]) -> list[tuple[str, str]]:
        if not remaining:
            return []
        before = {later: label for label in remaining for later in self._after[label] if later in remaining}
        path = [next(iter(remaining))]
        while (label := before[path[-1]]) not in path:
            path.append(label)
        ring = path[path.index(label) :][::-1]
        following = ring[1:] + ring[:1]
        return [(one, self._after[one][other]) for one, other in zip(ring, following, strict=True)]


def _check_total_order(history: History) -> None:
    graphs: dict[ViewId, _Graph] = {}
    for process in history.processes.values():
        regular = (delivery for delivery in process.deliveries if delivery.regular)
        for earlier, later in _neighbours(regular):
            if earlier.node_view == later.node_view and earlier.node_view is not None:
                history.report.premise("O5")
                graph = graphs.setdefault(earlier.node_view, _Graph())
                graph.add(earlier.message.label, later.message.label, str(process.member))
    for name in ("O5", "O8"):
        for view, graph in graphs.items():
            if name == "O8":
                _add_causal_edges(history, view, graph)
            _report_cycle(history, name, f"in {view}", graph)


def _add_causal_edges(history: History, view: ViewId, graph: _Graph) -> None:
    for message in history.numbered:
        if (message.delivered_in or message.sent_in) != view:
            continue
        for earlier in message.direct:
            if (earlier.delivered_in or earlier.sent_in) == view:
                history.report.premise("O8")
                graph.add(earlier.label, message.label, "causally")


def _check_transitions(history: History) -> None:
    graphs: dict[tuple[ViewId, ViewId], _Graph] = {}
    for process in history.processes.values():
        for earlier, later in _neighbours(process.deliveries):
            view = earlier.node_view
            if view is None or later.node_view != view:
                continue
            following = history.transition(process.member.node, view)
            if following is None:
                continue
            history.report.premise("O6")
            history.report.premise("O6 after signal", not later.regular)
            graph = graphs.setdefault((view, following), _Graph())
            graph.add(earlier.message.label, later.message.label, str(process.member))
    for (view, following), graph in graphs.items():
        _report_cycle(history, "O6", f"from {view} to {following}", graph)


def _neighbours(deliveries: Iterable[Delivery]) -> Iterator[tuple[Delivery, Delivery]]:
    last: Delivery | None = None
    for delivery in deliveries:
        if delivery.message.ordered:
            if last is not None:
                yield last, delivery
            last = delivery


def _report_cycle(history: History, name: str, where: str, graph: _Graph) -> None:
    if cycle := graph.cycle():
        text = ", ".join(f"{label} before the next ({why})" for label, why in cycle)
        history.report.violate(name, f"the order {where} is a circle: {text}", *(label for label, _ in cycle))


def _check_prefixes(history: History) -> None:
    sequences: dict[tuple[str, GroupViewId], list[tuple[ProcessRecord, list[MessageRecord]]]] = {}
    for process in history.processes.values():
        for group, episodes in process.episodes.items():
            for step in (step for episode in episodes for step in episode.steps):
                sequences.setdefault((group, step.view.id), []).append((process, _regular_sequence(step)))
    for (group, view), found in sequences.items():
        longest = max(found, key=lambda one: len(one[1]))
        for process, sequence in found:
            if process is longest[0]:
                continue
            mine = [one for one in sequence if not one.discarded_by(longest[0].member)]
            theirs = [one for one in longest[1] if not one.discarded_by(process.member)]
            length = min(len(mine), len(theirs))
            history.report.premise("O7", bool(length))
            for one, other in zip(mine[:length], theirs[:length], strict=True):
                if one is not other:
                    history.report.violate(
                        "O7",
                        f"in view {view} of {group} {process.member} received {one.label} "
                        f"where {longest[0].member} received {other.label}",
                        one.label,
                        other.label,
                    )
                    break


def _regular_sequence(step: GroupStep) -> list[MessageRecord]:
    return [one.message for one in step.deliveries if one.regular and one.message.ordered]
