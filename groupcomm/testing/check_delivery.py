"""Which messages reach whom: D3, D4, D5, D8 and G3.

What one delivery shows by itself is seen while reading: D1, D2, G1, G2, G4.

D4 and D5 hold between the clients of a group for AGREED and SAFE. For RELIABLE to CAUSAL they hold between nodes: one
node view per message, equal sets for those who go from one node view to the same next, and (until the signal, after
which no group view comes before the next node view) never an earlier group view than the message was sent in.
Says nothing about order.
"""

from __future__ import annotations

from groupcomm.events import Level
from groupcomm.identity import NodeId
from groupcomm.testing.history import History
from groupcomm.testing.records import (
    Delivery,
    GroupStep,
    GroupViewKey,
    MessageRecord,
    NodeRecord,
    ProcessRecord,
    ViewKey,
)


def check_delivery(history: History) -> None:
    """Check what was delivered to whom, whatever its order."""
    for message in history.numbered:
        if message.level >= Level.RELIABLE:
            _check_one_view(history, message)
            _check_completeness(history, message)
            if message.own:
                _check_own(history, message)
    _check_sets(history)


def addressed(process: ProcessRecord, message: MessageRecord, index: int) -> bool:
    """Whether ``process`` must count as an addressee of ``message`` at ``index``, as far as the trace proves it.

    Proved is: it is in a group of the message since a view that the sender's node had reached when the message was
    handed over, or that came before the one in which others delivered it; and it has not asked to leave. Of a private
    message: its session is open. And its node was not asked to leave the cluster, which ends all its sessions.
    """
    sent = message.sent
    if message.level < Level.RELIABLE or (sent.self_discard and message.sender == process.member):
        return False
    if process.node.leaving_index is not None and process.node.leaving_index < index:
        return False
    if sent.recipient is not None:
        named = str(process.member) == sent.recipient and process.opened_index < message.sent_index
        return named and not process.closed_before(index)
    for group in sent.groups:
        if group not in process.episodes:
            continue
        episode = process.episode_at(group, index)
        if episode is None or (episode.leave_asked_index is not None and episode.leave_asked_index < index):
            continue
        if _since(episode.first, message, group):
            return True
    return False


def _since(first: GroupViewKey, message: MessageRecord, group: str) -> bool:
    """Whether a member since ``first`` gets the message for that group."""
    if message.known is not None and message.known >= first:
        return True
    view = message.delivered_in or message.sent_in
    if view is not None and (first.view < view or (first.position == 0 and first.view == view)):
        return True
    placed = message.group_view(group) if message.level >= Level.AGREED else None
    return placed is not None and placed >= first


def _check_one_view(history: History, message: MessageRecord) -> None:
    report, label, deliveries = history.report, message.label, message.deliveries
    view, sent_in, sender_views = message.delivered_in, message.sent_in, message.sender_views
    report.premise("D4", len(deliveries))
    for delivery in deliveries:
        if delivery.node_view != view:
            report.violate(
                "D4",
                delivery.index,
                f"{label} came to {delivery.process.member} in {delivery.node_view}, "
                f"to {deliveries[0].process.member} in {view}",
                label,
            )
        if sent_in is not None and delivery.node_view is not None and delivery.node_view < sent_in:
            report.violate(
                "D3", delivery.index, f"{label} was sent in {sent_in}, delivered in {delivery.node_view}", label
            )
        if not delivery.regular:
            continue
        for group, group_view in delivery.group_views.items():
            if group not in sender_views:
                continue
            report.premise("D3")
            if group_view < sender_views[group]:
                who = delivery.process.member
                report.violate(
                    "D3",
                    delivery.index,
                    f"{label} was sent in {sender_views[group]}, came to {who} in {group_view}",
                    label,
                )
    if message.ordered:
        _check_one_group_view(history, message)
    if deliveries and message.sent.groups and not any(group in sender_views for group in message.sent.groups):
        report.premise("G3")


def _check_one_group_view(history: History, message: MessageRecord) -> None:
    """Before the signals everybody delivers it in the same group view; after them, those who stay together do."""
    places: dict[tuple[str, ViewKey | None], tuple[GroupViewKey, Delivery]] = {}
    for delivery in message.deliveries:
        scope, shown_at = None, delivery.index
        if not delivery.regular and delivery.step is not None:
            following = delivery.step.next
            if following is None:
                continue
            scope, shown_at = following.key, following.index
        for group, view in delivery.group_views.items():
            place, first = places.setdefault((group, scope), (view, delivery))
            if place != view:
                history.report.violate(
                    "D4",
                    shown_at,
                    f"{message.label} came to {delivery.process.member} in view {view} of {group}, "
                    f"to {first.process.member} in {place}",
                    message.label,
                )


def _check_completeness(history: History, message: MessageRecord) -> None:
    """Who stays together with the sender, or with one who delivered it, has delivered it before the next node view."""
    view = message.delivered_in or message.left_in
    if view is None:
        return
    proved_at = _proved_at(history, message, view)
    if not proved_at:
        return
    for step in history.steps_in.get(view, ()):
        following = step.next
        if following is None or following.key not in proved_at:
            continue
        for process in history.nodes[step.node].processes:
            if process.closed_before(following.index) or not addressed(process, message, following.index):
                continue
            history.report.premise("D5")
            if process not in message.got:
                history.report.violate(
                    "D8" if process.member == message.sender else "D5",
                    max(following.index, proved_at[following.key]),
                    f"{process.member} went from {view} to {following.key} without {message.label}, "
                    "which those who came along had sent or delivered",
                    message.label,
                )


def _proved_at(history: History, message: MessageRecord, view: ViewKey) -> dict[ViewKey, int]:
    """For each view that came after ``view``: from when on it is known that the message was held by one who came."""
    proved: dict[ViewKey, int] = {}
    holders: dict[NodeId, tuple[NodeRecord, int]] = {message.sender.node: (history.nodes[message.sender.node], 0)}
    for delivery in message.deliveries:
        holders.setdefault(delivery.process.member.node, (delivery.process.node, delivery.index))
    told_at = message.deliveries[0].index if message.deliveries else message.accepted[0][0]
    for node, held_at in holders.values():
        following = node.after(view)
        if following is not None:
            at = max(held_at, following.index, told_at)
            proved[following.key] = min(proved.get(following.key, at), at)
    return proved


def _check_own(history: History, message: MessageRecord) -> None:
    """A frame that had left in a view is delivered to its own sender, a member, before the next."""
    sender = history.processes[message.sender]
    following = None if message.left_in is None else sender.node.after(message.left_in)
    if following is None or sender.closed_before(following.index) or not addressed(sender, message, following.index):
        return
    if not any(
        sender.episode_at(group, message.sent_index) is sender.episode_at(group, following.index)
        for group in message.sent.groups
        if group in message.sender_views
    ):
        return
    history.report.premise("D8")
    delivery = message.got.get(sender)
    if delivery is None or delivery.index > following.index:
        history.report.violate(
            "D8",
            following.index,
            f"{message.label} left in {message.left_in}, but {sender.member} went on to {following.key} without it",
            message.label,
        )


def _check_sets(history: History) -> None:
    """D5 between clients of a group: equal sets of AGREED and SAFE for those who share a view and the next."""
    reference: dict[tuple[str, GroupViewKey, GroupViewKey], tuple[GroupStep, dict[str, MessageRecord]]] = {}
    for process in history.processes.values():
        for group, episodes in process.episodes.items():
            for step in (step for episode in episodes for step in episode.steps if step.next is not None):
                assert step.next is not None
                got = {one.message.label: one.message for one in step.deliveries if one.message.ordered}
                other, expected = reference.setdefault((group, step.key, step.next.key), (step, got))
                if other is step:
                    continue
                history.report.premise("D5 group")
                if got.keys() != expected.keys():
                    _compare_sets(history, group, (step, got), (other, expected))


def _compare_sets(
    history: History,
    group: str,
    mine: tuple[GroupStep, dict[str, MessageRecord]],
    theirs: tuple[GroupStep, dict[str, MessageRecord]],
) -> None:
    (step, got), (other, expected) = mine, theirs
    assert step.next is not None and other.next is not None
    for label in sorted(set(got) ^ set(expected)):
        message = got.get(label) or expected[label]
        lacking, having = (other.process, step.process) if label in got else (step.process, other.process)
        if not message.discarded_by(lacking.member):
            history.report.violate(
                "D5",
                max(step.next.index, other.next.index),
                f"{lacking.member} went from view {step.key} of {group} to {step.next.key} "
                f"without {label}, unlike {having.member}",
                label,
            )
