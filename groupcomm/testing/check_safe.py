"""What SAFE promises: S1, S2, S3; and what a ``stable`` send is told: S4 and G5.

S1: who delivers a SAFE message before the signal can rely on every member of that view delivering it, and everything
ordered before it and what these follow, unless that member crashes. A member that is still in the view at the end, and
was not left in peace with the settled ones, may deliver yet. G5 is stricter in quiet times: the confirmation comes
after the last delivery; one given at the sender's transitional signal says that all have the message and deliver it
before their next view, or crash.
"""

from __future__ import annotations

from itertools import pairwise

from attrs import frozen

from groupcomm.events import Level
from groupcomm.identity import NodeId
from groupcomm.testing.check_delivery import addressed
from groupcomm.testing.history import History
from groupcomm.testing.records import Delivery, Episode, GroupViewKey, MessageRecord, ProcessRecord, ViewKey
from groupcomm.testing.report import AT_THE_END


def check_safe(history: History, *, settled: frozenset[NodeId] = frozenset()) -> None:
    """Check every SAFE delivery and every confirmation; a settled node has done by the end what it must."""
    demands = _Demands(history)
    for process in history.processes.values():
        demands.read(process)
    for (view, _), (message, witness) in demands.demanded.items():
        _check_delivered_by_all(history, view, message, witness, settled=settled)
    for view, witness in demands.witnesses.items():
        _check_installed_by_all(history, view, witness, settled=settled)
    _check_transitional_safe(history)
    _check_confirmed(history)


class _Demands:
    """What every member must deliver, and the earliest delivery of a SAFE message that says so.

    Attributes:
        demanded: by node view and label.
        witnesses: the first regular SAFE delivery of each node view.
    """

    def __init__(self, history: History) -> None:
        self.demanded: dict[tuple[ViewKey, str], tuple[MessageRecord, Delivery]] = {}
        self.witnesses: dict[ViewKey, Delivery] = {}
        self._history = history

    def read(self, process: ProcessRecord) -> None:
        """Take up what one client delivered: a SAFE message demands all ordered ones before it, and their pasts."""
        waiting: list[MessageRecord] = []
        past = seen = 0
        view: ViewKey | None = None
        for delivery in process.deliveries:
            message = delivery.message
            if message.level < Level.AGREED or not delivery.regular or delivery.node_view is None:
                continue
            if delivery.node_view != view:
                view, waiting, past = delivery.node_view, [], 0
            waiting.append(message)
            past |= message.past
            if message.level is Level.SAFE:
                first = self.witnesses.setdefault(view, delivery)
                if delivery.index < first.index:
                    self.witnesses[view] = delivery
                for one in waiting:
                    self._demand(view, one, delivery)
                self._demand_past(view, past & ~seen, delivery)
                seen |= past
                waiting = []

    def _demand_past(self, view: ViewKey, mask: int, delivery: Delivery) -> None:
        while mask:
            low = mask & -mask
            mask ^= low
            earlier = self._history.numbered[low.bit_length() - 1]
            if earlier.delivered_in == view:
                self._demand(view, earlier, delivery)

    def _demand(self, view: ViewKey, message: MessageRecord, delivery: Delivery) -> None:
        known = self.demanded.get((view, message.label))
        if known is None or delivery.index < known[1].index:
            self.demanded[view, message.label] = message, delivery


def _check_delivered_by_all(
    history: History, view: ViewKey, message: MessageRecord, witness: Delivery, *, settled: frozenset[NodeId]
) -> None:
    for one in _obliged(history, view, message):
        process = one.process
        step = process.node.by_view.get(view)
        if step is None or process.died_in(view) or (step.next is None and process.member.node not in settled):
            continue  # S2 says whether it may be without the view
        end = step.next.index if step.next is not None else AT_THE_END
        if one.may_lack(message, end):
            continue
        history.report.premise("S1")
        if process not in message.got:
            history.report.violate(
                "S1",
                max(end, witness.index),
                f"{witness.process.member} delivered SAFE {witness.message.label} in the regular part of {view}, "
                f"but {process.member} never delivered {message.label}",
                message.label,
            )


@frozen
class _Obliged:
    """Somebody who must deliver a message.

    Attributes:
        places: the groups and views for which the others have it as a member, and whether they were told of every
            change of them (not after their signal); empty for a proved addressee.
    """

    process: ProcessRecord
    places: tuple[tuple[str, GroupViewKey, bool], ...] = ()

    def may_lack(self, message: MessageRecord, end: int) -> bool:
        """Whether it need not have the message at ``end``: its join met the end of the view, or it has left."""
        if self.places:
            return all(
                self._never_came(group, place, end) or not (told or self._stays(group, place, end))
                for group, place, told in self.places
            )
        return any(
            episode.leave_asked_index is not None and episode.leave_asked_index <= end
            for group in message.sent.groups
            for episode in self.process.episodes.get(group, ())
        )

    def _stays(self, group: str, place: GroupViewKey, end: int) -> bool:
        """Whether neither it nor its node had asked to leave."""
        leaving = self.process.node.leaving_index
        if leaving is not None and leaving < end:
            return False
        covering = self._covering(group, place, end)
        return not covering or covering[-1].leave_asked_index is None or covering[-1].leave_asked_index >= end

    def _covering(self, group: str, place: GroupViewKey, end: int) -> list[Episode]:
        return [one for one in self.process.episodes.get(group, ()) if one.first <= place and one.steps[0].index < end]

    def _never_came(self, group: str, place: GroupViewKey, end: int) -> bool:
        """Who hears nothing of a group before its first view of it is not in it yet, whatever others believe."""
        covering = self._covering(group, place, end)
        if not covering:
            return True
        left = covering[-1].leave_asked_index
        return left is not None and any(left < asked < end for asked in self.process.joins[group])


def _obliged(history: History, view: ViewKey, message: MessageRecord) -> list[_Obliged]:
    """The members of the group views it was delivered in (an ordered message), or its proved addressees.

    After the signal no view is shown of who has left meanwhile: a delivery before it says who the members are.
    """
    if message.sent.recipient is not None or not message.ordered or not message.deliveries:
        found = []
        for step in history.steps_in.get(view, ()):
            index = step.next.index if step.next is not None else AT_THE_END
            processes = history.nodes[step.node].processes
            found += [_Obliged(process) for process in processes if addressed(process, message, index)]
        return found
    places: dict[ProcessRecord, tuple[tuple[str, GroupViewKey, bool], ...]] = {}
    for group in message.sent.groups:
        deliveries = [delivery for delivery in message.deliveries if group in delivery.group_views]
        for delivery in sorted(deliveries, key=lambda one: not one.regular):
            episode = delivery.process.episode_at(group, delivery.index)
            if episode is None:
                continue
            place = episode.step_at(delivery.index)
            for member in place.view.members:
                process = history.processes.get(member)
                if process is not None and not message.discarded_by(member):
                    places[process] = (*places.get(process, ()), (group, place.key, delivery.regular))
            if delivery.regular:
                break
    return [_Obliged(process, where) for process, where in places.items()]


def _check_installed_by_all(history: History, view: ViewKey, witness: Delivery, *, settled: frozenset[NodeId]) -> None:
    assert witness.step is not None
    for member in witness.step.view.members:
        node = history.nodes.get(member)
        history.report.premise("S2")
        if node is None or view in node.by_view or node.ended_index is not None:
            continue
        later = next((step.index for step in node.steps if step.key > view), AT_THE_END)
        if member in settled or later < AT_THE_END:
            history.report.violate(
                "S2",
                max(later, witness.index),
                f"{witness.process.member} delivered SAFE {witness.message.label} in the regular part of {view}, "
                f"which node {member} never installed",
                witness.message.label,
            )


def _check_transitional_safe(history: History) -> None:
    for process in history.processes.values():
        for delivery in process.deliveries:
            message, step = delivery.message, delivery.step
            if delivery.regular or message.level is not Level.SAFE or step is None or step.next is None:
                continue
            for member in step.next.view.transitional:
                following = history.nodes[member].after(step.key)
                if following is not None:
                    others = history.nodes[member].processes
                    _check_came_along(history, delivery, step.next.index, following.index, others)


def _check_came_along(
    history: History, delivery: Delivery, went_at: int, came_at: int, others: list[ProcessRecord]
) -> None:
    message = delivery.message
    for other in others:
        if other.closed_before(came_at) or not addressed(other, message, came_at):
            continue
        history.report.premise("S3")
        if other not in message.got:
            history.report.violate(
                "S3",
                max(went_at, came_at),
                f"{delivery.process.member} delivered SAFE {message.label} after its signal in {delivery.node_view}; "
                f"{other.member} came along and did not",
                message.label,
            )


def _check_confirmed(history: History) -> None:
    confirmed: dict[ProcessRecord, list[tuple[int, MessageRecord]]] = {}
    for message in history.numbered:
        for number, (index, accepted) in enumerate(message.accepted):
            if number:
                history.report.violate("S4", index, f"{message.sender} hears of {message.label} twice", message.label)
            if not (accepted.stable and accepted.complete) or message.level < Level.RELIABLE:
                continue
            if message.level >= Level.FIFO:
                confirmed.setdefault(history.processes[message.sender], []).append((index, message))
            _check_confirmation(history, message, index)
    for process, found in confirmed.items():
        for (before, earlier), (after, later) in pairwise(found):
            history.report.premise("S4")
            if after < before:
                history.report.violate(
                    "S4",
                    before,
                    f"{process.member} hears that {later.label} is stable before {earlier.label}, which it sent first",
                    earlier.label,
                    later.label,
                )


def _check_confirmation(history: History, message: MessageRecord, index: int) -> None:
    view = message.delivered_in or message.left_in
    if view is None:
        return
    for one in _obliged(history, view, message):
        by = _deadline(history, message, one.process, index, view)
        if one.process.closed_before(index) or by is None or one.may_lack(message, index):
            continue
        history.report.premise("G5")
        delivery = message.got.get(one.process)
        if delivery is None or delivery.index > by:
            history.report.violate(
                "G5",
                by,
                f"{message.label} was confirmed as stable before {one.process.member} delivered it",
                message.label,
            )


def _deadline(
    history: History, message: MessageRecord, process: ProcessRecord, index: int, view: ViewKey
) -> int | None:
    """By when ``process`` must have delivered what was confirmed at ``index``; None if it need not."""
    sender_step = history.nodes[message.sender.node].by_view.get(view)
    if sender_step is None or sender_step.signal_index is None or sender_step.signal_index > index:
        return index
    step = process.node.by_view.get(view)
    if step is None or step.next is None or process.died_in(view):
        return None
    return step.next.index
