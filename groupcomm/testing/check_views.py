"""Properties of views: M1, M2, M4, M6 and D6 for nodes and for groups, the fields of a view, and where signals fall.

Reads a ``History``; decides nothing about messages.
"""

from __future__ import annotations

from groupcomm.identity import MemberId
from groupcomm.testing.history import History
from groupcomm.testing.records import GroupStep, GroupViewKey, NodeRecord, NodeStep, ProcessRecord


def check_views(history: History) -> None:
    """Check every view that anybody installed."""
    _check_node_views(history)
    _check_group_views(history)


def _check_node_views(history: History) -> None:
    for node in history.nodes.values():
        for step in node.steps:
            _check_node_step(history, node, step)
    for together in history.steps_in.values():
        _check_same_node_view(history, together)
        for step in together:
            if step.previous is not None:
                _check_no_dead(history, step, history.steps_in[step.previous.key][0].index)


def _check_node_step(history: History, node: NodeRecord, step: NodeStep) -> None:
    report, view, at = history.report, step.view, step.index
    before = {node.identity}
    report.premise("M1")
    if node.identity not in view.members:
        report.violate("M1", at, f"node {node.identity} installs {view.id} without being in it")
    if step.previous is not None:
        before = set(step.previous.view.members)
        report.premise("M2")
        report.premise("VIEW")
        if not step.previous.key < step.key:
            report.violate("M2", at, f"node {node.identity} installs {view.id} after {step.previous.key}")
        departed = {departure.node for departure in view.departed}
        if departed != before - set(view.members):
            report.violate("VIEW", at, f"node {node.identity}: the departed of {view.id} are not {_names(departed)}")
    for member in view.members:
        record = history.nodes.get(member)
        report.premise("M6")
        if record is None or record.started_index > at:
            report.violate("M6", at, f"{view.id} at {node.identity} has the ghost {member}")
    report.premise("D6a")
    if node.identity not in view.transitional or not set(view.transitional) <= before & set(view.members):
        report.violate(
            "D6", at, f"node {node.identity}: {_names(view.transitional)} is no transitional set of {view.id}"
        )


def _check_no_dead(history: History, step: NodeStep, first_index: int) -> None:
    """Who was dead before anybody installed the view before took part in no later change."""
    for member in step.view.members:
        record = history.nodes.get(member)
        if record is not None and record.ended_index is not None:
            history.report.premise("M6 dead")
            if record.ended_index < first_index:
                history.report.violate(
                    "M6",
                    step.index,
                    f"{step.key} at {step.node} has {member}, dead before the view before it was installed",
                )


def _check_same_node_view(history: History, together: list[NodeStep]) -> None:
    report, view = history.report, together[0].view
    for step in together:
        if step.view is not view:
            report.premise("M4")
            if (step.view.members, step.view.sequencer) != (view.members, view.sequencer):
                report.violate(
                    "M4", step.index, f"two views have the id {view.id}: {view.members} and {step.view.members}"
                )
        transitional = set(step.view.transitional)
        for other in together:
            if other.node == step.node:
                continue
            same = step.previous is not None and other.previous is not None
            same = same and step.previous.key == other.previous.key  # type: ignore[union-attr]
            report.premise("D6b" if same else "D6b apart")
            if (other.node in transitional) != same:
                report.violate(
                    "D6",
                    max(step.index, other.index),
                    f"node {step.node} installs {view.id} with {_names(transitional)}; "
                    f"{other.node} {'came' if same else 'did not come'} from the same view",
                )


def _check_group_views(history: History) -> None:
    seen: dict[tuple[str, GroupViewKey], list[GroupStep]] = {}
    for process in history.processes.values():
        for group, episodes in process.episodes.items():
            last: GroupViewKey | None = None
            for episode in episodes:
                for step in episode.steps:
                    _check_group_step(history, process, step, last)
                    last = step.key
                    seen.setdefault((group, step.key), []).append(step)
    for steps in seen.values():
        _check_same_view(history, steps)


def _check_group_step(history: History, process: ProcessRecord, step: GroupStep, last: GroupViewKey | None) -> None:
    report, view, me, at = history.report, step.view, process.member, step.index
    where = f"{me}: view {view.id} of {view.group}"
    report.premise("M1")
    if me not in view.members:
        report.violate("M1", at, f"{where} is without it")
    if last is not None:
        report.premise("M2")
        report.premise("VIEW")
        if not last < step.key:
            report.violate("M2", at, f"{where} comes after {last}")
    if step.node_view != step.key.view:
        report.violate("M3", at, f"{where} comes while its node is in {step.node_view}")
    for member in view.members:
        _check_no_ghost(history, step, member)
    report.premise("D6a")
    if step.previous is None:
        if set(view.transitional) != {me} or set(view.joined) != {me} or view.left:
            report.violate("D6", at, f"{where} is its first, yet transitional is {_names(view.transitional)}")
        return
    before, now = set(step.previous.view.members), set(view.members)
    if me not in view.transitional or not set(view.transitional) <= before & now:
        report.violate("D6", at, f"{where}: {_names(view.transitional)} is no transitional set")
    if set(view.joined) != now - before or {departure.member for departure in view.left} != before - now:
        report.violate("VIEW", at, f"{where}: joined or left are not the difference to {step.previous.key}")
    _check_signals(history, step)


def _check_no_ghost(history: History, step: GroupStep, member: MemberId) -> None:
    """Who is in a group view has asked to join, is on a node of the node view, and has not left in an earlier one."""
    group, report = step.view.group, history.report
    where = f"{step.process.member}: view {step.key} of {group}"
    report.premise("M6")
    other = history.processes.get(member)
    if other is None or group not in other.joins or other.joins[group][0] >= step.index:
        report.violate("M6", step.index, f"{where} has the ghost {member}, which never asked to join")
        return
    node_step = step.process.node.by_view.get(step.key.view)
    if node_step is not None and member.node not in node_step.view.members:
        report.violate("M6", step.index, f"{where} has the ghost {member}, whose node is not in {step.key.view}")
    for left_at, left_in in other.lefts.get(group, ()):
        if left_in is None or not left_in < step.key.view or left_at > step.index:
            continue
        report.premise("M6 left")
        if not any(left_at < asked < step.index for asked in other.joins[group]):
            report.violate("M6", step.index, f"{where} has the ghost {member}, which left in {left_in}")


def _check_signals(history: History, step: GroupStep) -> None:
    """A view that parts members is announced by one signal, and after a signal only an installation follows."""
    report, view, previous, at = history.report, step.view, step.previous, step.index
    assert previous is not None
    where = f"{step.process.member}: view {view.id} of {view.group}"
    if len(previous.signal_indices) > 1:
        report.violate(
            "SIGNAL", previous.signal_indices[1], f"{where} comes after {len(previous.signal_indices)} signals"
        )
    if previous.signal_indices and step.key.position != 0:
        report.violate("SIGNAL", at, f"{where} comes between a signal and the new node view")
    node_step = None if step.node_view is None else step.process.node.by_view[step.node_view]
    if step.key.position == 0 and node_step is not None:
        together = node_step.view.transitional
        parted = [member for member in previous.view.members if member.node not in together]
        report.premise("SIGNAL", bool(parted))
        if parted and not previous.signal_indices:
            report.violate("SIGNAL", at, f"{where} parts {_names(parted)} without a signal before it")


def _check_same_view(history: History, steps: list[GroupStep]) -> None:
    report = history.report
    steps.sort(key=lambda one: one.index)
    first = steps[0]
    for step in steps[1:]:
        report.premise("M4")
        if step.view.members != first.view.members:
            report.violate(
                "M4",
                step.index,
                f"{step.process.member} and {first.process.member} have view {step.key} of {step.view.group} "
                f"with {_names(step.view.members)} and {_names(first.view.members)}",
            )
    for step in steps:
        transitional = set(step.view.transitional)
        for other in steps:
            if other is step:
                continue
            same = step.previous is not None and other.previous is not None
            same = same and step.previous.key == other.previous.key  # type: ignore[union-attr]
            report.premise("D6b" if same else "D6b apart")
            if (other.process.member in transitional) != same:
                report.violate(
                    "D6",
                    max(step.index, other.index),
                    f"{step.process.member} gets {step.key} of {step.view.group} with {_names(transitional)}; "
                    f"{other.process.member} {'came' if same else 'did not come'} from the same view",
                )


def _names(identities: object) -> str:
    assert isinstance(identities, set | tuple | list)
    texts = [f"{one}#{one.session}" if isinstance(one, MemberId) else f"{one}.{one.incarnation}" for one in identities]
    return "{" + " ".join(sorted(texts)) + "}"
