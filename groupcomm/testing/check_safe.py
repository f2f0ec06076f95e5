"""What SAFE promises: S1, S2, S3; and G5, what a confirmed ``stable`` send promises.

S1: who delivers a SAFE message before the signal can rely on every member of that view delivering it, and everything
ordered before it, unless that member crashes. In a run that is not settled, a member that is still in the view at the
end may deliver yet. G5 is stricter in quiet times: the confirmation comes after the last delivery; one given at the
sender's transitional signal says that all have the message and deliver it before their next view, or crash.
"""

from __future__ import annotations

from groupcomm.events import Level
from groupcomm.identity import ViewId
from groupcomm.testing.check_delivery import addressed
from groupcomm.testing.history import AT_THE_END, Delivery, History, MessageRecord, ProcessRecord


def check_safe(history: History, *, settled: bool) -> None:
    """Check every SAFE delivery and every confirmation."""
    demanded: dict[tuple[ViewId, str], tuple[MessageRecord, str]] = {}
    witnesses: dict[ViewId, Delivery] = {}
    for process in history.processes.values():
        for view, prefix, last in _safe_prefixes(process):
            witnesses.setdefault(view, last)
            reason = f"{process.member} delivered SAFE {last.message.label}"
            for message in prefix:
                demanded.setdefault((view, message.label), (message, reason))
            _add_causal_past(history, view, last.message, reason, demanded)
    for (view, _), (message, reason) in demanded.items():
        _check_delivered_by_all(history, view, message, reason, settled=settled)
    for view, witness in witnesses.items():
        _check_installed_by_all(history, view, witness, settled=settled)
    _check_transitional_safe(history)
    _check_confirmed(history)


def _safe_prefixes(process: ProcessRecord) -> list[tuple[ViewId, list[MessageRecord], Delivery]]:
    """Per node view: the ordered messages up to the last SAFE one of the regular part, and that one."""
    ordered: dict[ViewId, list[Delivery]] = {}
    for delivery in process.deliveries:
        if delivery.message.ordered and delivery.regular and delivery.node_view is not None:
            ordered.setdefault(delivery.node_view, []).append(delivery)
    prefixes = []
    for view, deliveries in ordered.items():
        safe = [number for number, one in enumerate(deliveries) if one.message.level is Level.SAFE]
        if safe:
            prefix = [one.message for one in deliveries[: safe[-1] + 1]]
            prefixes.append((view, prefix, deliveries[safe[-1]]))
    return prefixes


def _add_causal_past(
    history: History,
    view: ViewId,
    last: MessageRecord,
    reason: str,
    demanded: dict[tuple[ViewId, str], tuple[MessageRecord, str]],
) -> None:
    mask = last.past
    while mask:
        low = mask & -mask
        mask ^= low
        earlier = history.numbered[low.bit_length() - 1]
        if earlier.delivered_in == view:
            demanded.setdefault((view, earlier.label), (earlier, reason + ", which follows it"))


def _check_delivered_by_all(
    history: History, view: ViewId, message: MessageRecord, reason: str, *, settled: bool
) -> None:
    got = {delivery.process.member for delivery in message.deliveries}
    for process in _obliged(history, view, message):
        step = process.node.step_in(view)
        if process.died_in(view) or (step is not None and step.next is None and not settled):
            continue
        if step is None:
            continue  # S2 says whether that may be
        end = step.next.index if step.next is not None else AT_THE_END
        if _may_have_left(process, message, end) or _came_too_late(process, message, end):
            continue
        history.report.premise("S1")
        if process.member not in got:
            history.report.violate(
                "S1",
                f"{reason} in the regular part of {view}, but {process.member} never delivered {message.label}",
                message.label,
            )


def _obliged(history: History, view: ViewId, message: MessageRecord) -> list[ProcessRecord]:
    """The members of the group views it was delivered in (an ordered message), or its proved addressees."""
    obliged: dict[object, ProcessRecord] = {}
    if message.sent.recipient is None and message.ordered:
        for delivery in message.deliveries:
            for group in delivery.groups:
                current = delivery.process.episode_at(group, delivery.index)
                if current is None:
                    continue
                step = max((one for one in current.steps if one.index < delivery.index), key=lambda one: one.index)
                for member in step.view.members:
                    if not message.discarded_by(member) and member in history.processes:
                        obliged[member] = history.processes[member]
            if delivery.regular:
                break
    else:
        for process in history.processes.values():
            step_of_node = process.node.step_in(view)
            if step_of_node is None:
                continue
            index = step_of_node.next.index if step_of_node.next is not None else AT_THE_END
            if addressed(process, message, index):
                obliged[process.member] = process
    return list(obliged.values())


def _may_have_left(process: ProcessRecord, message: MessageRecord, end: int) -> bool:
    """Whether it asked to leave the message's groups before the end of the view."""
    return any(
        episode.leave_asked_index is not None and episode.leave_asked_index <= end
        for group in message.sent.groups
        for episode in process.episodes.get(group, ())
    )


def _came_too_late(process: ProcessRecord, message: MessageRecord, end: int) -> bool:
    """Whether its join met the end of the view: it hears nothing of a group before its first view of it."""
    return message.sent.recipient is None and not any(
        episode.steps and episode.steps[0].index <= end
        for group in message.sent.groups
        for episode in process.episodes.get(group, ())
    )


def _check_installed_by_all(history: History, view: ViewId, witness: Delivery, *, settled: bool) -> None:
    step = witness.process.node.step_in(view)
    assert step is not None
    for member in step.view.members:
        node = history.nodes.get(member)
        history.report.premise("S2")
        if node is None or node.step_in(view) is not None or node.ended_index is not None:
            continue
        if settled or (node.current is not None and node.current.view.id > view):
            history.report.violate(
                "S2",
                f"{witness.process.member} delivered SAFE {witness.message.label} in the regular part of {view}, "
                f"which node {member} never installed",
                witness.message.label,
            )


def _check_transitional_safe(history: History) -> None:
    for process in history.processes.values():
        for delivery in process.deliveries:
            message, view = delivery.message, delivery.node_view
            if delivery.regular or message.level is not Level.SAFE or view is None:
                continue
            step = process.node.step_in(view)
            if step is None or step.next is None:
                continue
            for other in history.processes.values():
                if other.member.node not in step.next.view.transitional or other.died_in(view):
                    continue
                other_step = other.node.step_in(view)
                if (
                    other_step is None
                    or other_step.next is None
                    or not addressed(other, message, other_step.next.index)
                ):
                    continue
                history.report.premise("S3")
                if not any(one.process is other for one in message.deliveries):
                    history.report.violate(
                        "S3",
                        f"{process.member} delivered SAFE {message.label} after its signal in {view}; "
                        f"{other.member} came along and did not",
                        message.label,
                    )


def _check_confirmed(history: History) -> None:
    for message in history.numbered:
        for index, accepted, _ in message.accepted:
            if not (accepted.stable and accepted.complete) or message.level < Level.RELIABLE:
                continue
            view = message.delivered_in
            if view is None:
                continue
            for process in _obliged(history, view, message):
                closed = process.closed_index is not None and process.closed_index < index
                if closed or _may_have_left(process, message, index):
                    continue
                by = _deadline(history, message, process, index, view)
                if by is None:
                    continue
                history.report.premise("G5")
                if not any(one.process is process and one.index < by for one in message.deliveries):
                    history.report.violate(
                        "G5",
                        f"{message.label} was confirmed as stable before {process.member} delivered it",
                        message.label,
                    )


def _deadline(history: History, message: MessageRecord, process: ProcessRecord, index: int, view: ViewId) -> int | None:
    """By when ``process`` must have delivered what was confirmed at ``index``; None if it need not."""
    sender_step = history.nodes[message.sender.node].step_in(view)
    if sender_step is None or sender_step.signal_index is None or sender_step.signal_index > index:
        return index
    step = process.node.step_in(view)
    if step is None or step.next is None or process.died_in(view):
        return None
    return step.next.index
