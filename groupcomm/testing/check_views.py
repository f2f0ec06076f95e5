"""Properties of views: M1, M2, M4, M6 and D6 for nodes and for groups, the fields of a view, and where signals fall.

Reads a ``History``; decides nothing about messages.
"""

from __future__ import annotations

from groupcomm.identity import GroupViewId, MemberId
from groupcomm.outputs import NodeViewInstalled
from groupcomm.testing.history import GroupStep, History, NodeRecord, NodeStep, ProcessRecord


def check_views(history: History) -> None:
    """Check every view that anybody installed."""
    _check_node_views(history)
    _check_group_views(history)


def _check_node_views(history: History) -> None:
    report = history.report
    first_seen: dict[object, NodeViewInstalled] = {}
    installers: dict[object, list[tuple[NodeRecord, NodeStep]]] = {}
    for node in history.nodes.values():
        for step in node.steps:
            view = step.view
            report.premise("M1")
            if node.identity not in view.members:
                report.violate("M1", f"node {node.identity} installs {view.id} without being in it")
            if step.previous is not None:
                report.premise("M2")
                if not step.previous.view.id < view.id:
                    report.violate("M2", f"node {node.identity} installs {view.id} after {step.previous.view.id}")
            other = first_seen.setdefault(view.id, view)
            report.premise("M4", other is not view)
            if (other.members, other.sequencer) != (view.members, view.sequencer):
                report.violate("M4", f"two views have the id {view.id}: {other.members} and {view.members}")
            for member in view.members:
                record = history.nodes.get(member)
                report.premise("M6")
                if record is None or record.started_index > step.index:
                    report.violate("M6", f"{view.id} at {node.identity} has the ghost {member}")
            _check_node_fields(history, node, step)
            installers.setdefault(view.id, []).append((node, step))
    for together in installers.values():
        for node, step in together:
            for other_node, other_step in together:
                if node is other_node:
                    continue
                same = step.previous is not None and other_step.previous is not None
                same = same and step.previous.view.id == other_step.previous.view.id  # type: ignore[union-attr]
                report.premise("D6b" if same else "D6b apart")
                if (other_node.identity in step.view.transitional) != same:
                    report.violate(
                        "D6",
                        f"node {node.identity} installs {step.view.id} with {_names(step.view.transitional)}; "
                        f"{other_node.identity} {'came' if same else 'did not come'} from the same view",
                    )


def _check_node_fields(history: History, node: NodeRecord, step: NodeStep) -> None:
    view, report = step.view, history.report
    before = set(step.previous.view.members) if step.previous is not None else {node.identity}
    report.premise("D6a")
    if node.identity not in view.transitional or not set(view.transitional) <= before & set(view.members):
        report.violate("D6", f"node {node.identity}: {_names(view.transitional)} is no transitional set of {view.id}")
    if step.previous is not None:
        departed = {departure.node for departure in view.departed}
        if departed != before - set(view.members):
            report.violate("VIEW", f"node {node.identity}: the departed of {view.id} are not {_names(departed)}")


def _check_group_views(history: History) -> None:
    seen: dict[tuple[str, GroupViewId], list[GroupStep]] = {}
    for process in history.processes.values():
        for group, episodes in process.episodes.items():
            last: GroupViewId | None = None
            for episode in episodes:
                for step in episode.steps:
                    _check_group_step(history, process, step, last)
                    last = step.view.id
                    seen.setdefault((group, step.view.id), []).append(step)
    for steps in seen.values():
        _check_same_view(history, steps)


def _check_group_step(history: History, process: ProcessRecord, step: GroupStep, last: GroupViewId | None) -> None:
    report, view, me = history.report, step.view, process.member
    where = f"{me}: view {view.id} of {view.group}"
    report.premise("M1")
    if me not in view.members:
        report.violate("M1", f"{where} is without it")
    if last is not None:
        report.premise("M2")
        if not last < view.id:
            report.violate("M2", f"{where} comes after {last}")
    if step.node_view != view.id.view:
        report.violate("M3", f"{where} comes while its node is in {step.node_view}")
    for member in view.members:
        other = history.processes.get(member)
        report.premise("M6")
        if other is None or other.join_asked.get(view.group, step.index) >= step.index:
            report.violate("M6", f"{where} has the ghost {member}, which never asked to join")
    report.premise("D6a")
    if step.previous is None:
        if set(view.transitional) != {me} or set(view.joined) != {me} or view.left:
            report.violate("D6", f"{where} is its first, yet transitional is {_names(view.transitional)}")
        return
    before, now = set(step.previous.view.members), set(view.members)
    if me not in view.transitional or not set(view.transitional) <= before & now:
        report.violate("D6", f"{where}: {_names(view.transitional)} is no transitional set")
    if set(view.joined) != now - before or {departure.member for departure in view.left} != before - now:
        report.violate("VIEW", f"{where}: joined or left are not the difference to {step.previous.view.id}")
    _check_signals(history, step)


def _check_signals(history: History, step: GroupStep) -> None:
    """A view that parts members is announced by one signal, and after a signal only an installation follows."""
    report, view, previous = history.report, step.view, step.previous
    assert previous is not None
    where = f"{step.process.member}: view {view.id} of {view.group}"
    if len(previous.signal_indices) > 1:
        report.violate("SIGNAL", f"{where} comes after {len(previous.signal_indices)} signals")
    if previous.signal_indices and view.id.position != 0:
        report.violate("SIGNAL", f"{where} comes between a signal and the new node view")
    if view.id.position == 0 and step.node_view is not None:
        node_step = step.process.node.step_in(step.node_view)
        assert node_step is not None
        parted = [member for member in previous.view.members if member.node not in node_step.view.transitional]
        report.premise("SIGNAL", bool(parted))
        if parted and not previous.signal_indices:
            report.violate("SIGNAL", f"{where} parts {_names(parted)} without a signal before it")


def _check_same_view(history: History, steps: list[GroupStep]) -> None:
    report, first = history.report, steps[0]
    for step in steps[1:]:
        report.premise("M4")
        if step.view.members != first.view.members:
            report.violate(
                "M4",
                f"{step.process.member} and {first.process.member} have view {step.view.id} of {step.view.group} "
                f"with {_names(step.view.members)} and {_names(first.view.members)}",
            )
    for step in steps:
        transitional = set(step.view.transitional)
        for other in steps:
            if other is step:
                continue
            same = (
                step.previous is not None
                and other.previous is not None
                and step.previous.view.id == other.previous.view.id
            )
            report.premise("D6b" if same else "D6b apart")
            if (other.process.member in transitional) != same:
                report.violate(
                    "D6",
                    f"{step.process.member} gets {step.view.id} of {step.view.group} with {_names(transitional)}; "
                    f"{other.process.member} {'came' if same else 'did not come'} from the same view",
                )


def _names(identities: object) -> str:
    assert isinstance(identities, set | tuple | list)
    texts = [f"{one}#{one.session}" if isinstance(one, MemberId) else f"{one}.{one.incarnation}" for one in identities]
    return "{" + " ".join(sorted(texts)) + "}"
