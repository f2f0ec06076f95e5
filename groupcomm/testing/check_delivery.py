"""Which messages reach whom: D2, D4, D5, D8, G3 and G4.

D4 and D5 hold between the clients of a group for AGREED and SAFE. For RELIABLE to CAUSAL they hold between nodes: one
node view per message, equal sets for those who go from one node view to the same next, and (until the signal, after
which no group view comes before the next node view) never an earlier group view than the message was sent in.
Says nothing about order.
"""

from __future__ import annotations

from groupcomm.events import Level
from groupcomm.identity import GroupViewId, ViewId
from groupcomm.testing.history import Delivery, GroupStep, History, MessageRecord, ProcessRecord


def check_delivery(history: History) -> None:
    """Check what was delivered to whom, whatever its order."""
    _check_duplicates(history)
    for message in history.numbered:
        if message.level >= Level.RELIABLE:
            _check_one_view(history, message)
            _check_completeness(history, message)
            _check_own(history, message)
    _check_sets(history)


def addressed(process: ProcessRecord, message: MessageRecord, index: int) -> bool:
    """Whether ``process`` must count as an addressee of ``message`` at ``index``, as far as the trace proves it.

    Proved is: it is in a group of the message since a view that the sender's node had reached when the message was
    handed over, or that came before the one in which others delivered it; and it has not asked to leave.
    """
    sent = message.sent
    if message.discarded_by(process.member) or sent.level < Level.RELIABLE:
        return False
    if sent.recipient is not None:
        closed = process.closed_index is not None and process.closed_index < index
        return str(process.member) == sent.recipient and process.opened_index < message.sent_index and not closed
    for group in sent.groups:
        episode = process.episode_at(group, index)
        if episode is None or (episode.leave_asked_index is not None and episode.leave_asked_index < index):
            continue
        if _since(episode.first, message, group):
            return True
    return False


def _since(first: GroupViewId, message: MessageRecord, group: str) -> bool:
    """Whether a member since ``first`` gets the message for that group."""
    if message.known is not None and message.known >= first:
        return True
    view = message.delivered_in or message.sent_in
    if view is not None and (first.view < view or (first.view == view and first.position == 0)):
        return True
    placed = message.group_view(group) if message.ordered else None
    return placed is not None and placed >= first


def _check_duplicates(history: History) -> None:
    for process in history.processes.values():
        for delivery in process.deliveries:
            label = delivery.message.label
            history.report.premise("D2")
            if label in process.delivered:
                history.report.violate("D2", f"{process.member} received {label} twice", label)
            process.delivered.add(label)
            if delivery.message.sent.self_discard:
                history.report.premise("G4")
                if delivery.message.discarded_by(process.member):
                    history.report.violate("G4", f"{process.member} received {label}, which it discards", label)


def _check_one_view(history: History, message: MessageRecord) -> None:
    report, label = history.report, message.label
    for delivery in message.deliveries:
        report.premise("D4")
        if delivery.node_view != message.delivered_in:
            first = message.deliveries[0].process.member
            report.violate(
                "D4",
                f"{label} came to {delivery.process.member} in {delivery.node_view}, "
                f"to {first} in {message.delivered_in}",
                label,
            )
        if message.sent_in is not None and delivery.node_view is not None and delivery.node_view < message.sent_in:
            report.violate("D3", f"{label} was sent in {message.sent_in}, delivered in {delivery.node_view}", label)
        for group, view in delivery.group_views.items():
            sent_in = message.sender_views.get(group)
            if sent_in is not None and delivery.regular:
                report.premise("D3 group")
                if view < sent_in:
                    report.violate(
                        "D3", f"{label} was sent in {sent_in}, came to {delivery.process.member} in {view}", label
                    )
    if message.ordered:
        _check_one_group_view(history, message)
    if message.deliveries and message.sent.groups and not set(message.sent.groups) & set(message.sender_views):
        report.premise("G3")


def _check_one_group_view(history: History, message: MessageRecord) -> None:
    """Before the signals everybody delivers it in the same group view; after them, those who stay together do."""
    places: dict[tuple[str, ViewId | None], tuple[GroupViewId, Delivery]] = {}
    for delivery in message.deliveries:
        scope: ViewId | None = None
        if not delivery.regular and delivery.node_view is not None:
            scope = history.transition(delivery.process.member.node, delivery.node_view)
            if scope is None:
                continue
        for group, view in delivery.group_views.items():
            place, first = places.setdefault((group, scope), (view, delivery))
            if place != view:
                history.report.violate(
                    "D4",
                    f"{message.label} came to {delivery.process.member} in view {view} of {group}, "
                    f"to {first.process.member} in {place}",
                    message.label,
                )


def _check_completeness(history: History, message: MessageRecord) -> None:
    """Who stays together with the sender, or with one who delivered it, has delivered it before the next node view."""
    view = message.delivered_in
    if view is None:
        return
    holders = [message.sender.node, *(delivery.process.member.node for delivery in message.deliveries)]
    nexts = {history.transition(node, view) for node in holders} - {None}
    if not nexts:
        return
    got = {delivery.process.member for delivery in message.deliveries}
    for process in history.processes.values():
        step = process.node.step_in(view)
        if step is None or step.next is None or step.next.view.id not in nexts:
            continue
        if process.closed_index is not None and process.closed_index < step.next.index:
            continue
        if not addressed(process, message, step.next.index):
            continue
        history.report.premise("D5")
        if process.member not in got:
            history.report.violate(
                "D8" if process.member == message.sender else "D5",
                f"{process.member} went from {view} to {step.next.view.id} without {message.label}, which those who "
                "came along had sent or delivered",
                message.label,
            )


def _check_own(history: History, message: MessageRecord) -> None:
    """A frame that had left in a view is delivered to its own sender, a member, before the next."""
    sender = history.processes[message.sender]
    if message.sent.self_discard or not set(message.sent.groups) & set(message.sender_views):
        return
    for index, accepted, view in message.accepted:
        if accepted.stable or view is None:
            continue
        step = sender.node.step_in(view)
        if step is None or step.next is None or not addressed(sender, message, step.next.index):
            continue
        if sender.closed_index is not None and sender.closed_index < step.next.index:
            continue
        if not any(
            sender.episode_at(group, message.sent_index) is sender.episode_at(group, step.next.index)
            for group in message.sent.groups
            if group in message.sender_views
        ):
            continue
        history.report.premise("D8")
        if not any(delivery.process is sender and delivery.index < step.next.index for delivery in message.deliveries):
            history.report.violate(
                "D8",
                f"{message.label} left in {view} (accepted at event {index}), "
                f"but {sender.member} went on to {step.next.view.id} without it",
                message.label,
            )


def _check_sets(history: History) -> None:
    """D5 between clients of a group: equal sets of AGREED and SAFE for those who share a view and the next."""
    reference: dict[tuple[str, GroupViewId, GroupViewId], tuple[GroupStep, dict[str, MessageRecord]]] = {}
    for process in history.processes.values():
        for group, episodes in process.episodes.items():
            for step in (step for episode in episodes for step in episode.steps if step.next is not None):
                assert step.next is not None
                got = {one.message.label: one.message for one in step.deliveries if one.message.ordered}
                other, expected = reference.setdefault((group, step.view.id, step.next.view.id), (step, got))
                if other is step:
                    continue
                history.report.premise("D5 group")
                for label in sorted(set(got) ^ set(expected)):
                    message = got.get(label) or expected[label]
                    lacking, having = (other.process, process) if label in got else (process, other.process)
                    if not message.discarded_by(lacking.member):
                        history.report.violate(
                            "D5",
                            f"{lacking.member} went from view {step.view.id} of {group} to {step.next.view.id} "
                            f"without {label}, unlike {having.member}",
                            label,
                        )
