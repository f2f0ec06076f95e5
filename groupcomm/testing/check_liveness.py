"""What must have happened by the end of a run whose network became quiet: L1 to L4.

The time bounds are the caller's: it lets the run go on for as long as the bound and then asks.
"""

from __future__ import annotations

from groupcomm.events import Level
from groupcomm.identity import NodeId
from groupcomm.testing.check_delivery import addressed
from groupcomm.testing.history import History
from groupcomm.testing.records import GroupViewKey, MessageRecord, ViewKey
from groupcomm.testing.report import AT_THE_END


def check_liveness(history: History, settled: frozenset[NodeId]) -> None:
    """Check that the settled nodes agree on everything and that nothing is outstanding among them."""
    _check_node_view(history, settled)
    _check_group_views(history, settled)
    _check_messages(history, settled)


def _check_node_view(history: History, settled: frozenset[NodeId]) -> None:
    report = history.report
    steps = []
    for identity in sorted(settled):
        report.premise("L1")
        step = history.nodes[identity].current
        if step is None or frozenset(step.view.members) != settled:
            members = "no view" if step is None else f"{step.key} of {[str(one) for one in step.view.members]}"
            report.violate("L1", AT_THE_END, f"node {identity} ends in {members}, not with all that are connected")
        if step is not None:
            steps.append(step)
    views = {step.key for step in steps}
    if len(views) > 1:
        report.violate("L1", AT_THE_END, f"the connected nodes end in {len(views)} views")


def _check_group_views(history: History, settled: frozenset[NodeId]) -> None:
    report = history.report
    last: dict[str, tuple[GroupViewKey, object]] = {}
    members: dict[str, set[object]] = {}
    for process in history.processes.values():
        if process.closed_index is not None or process.member.node not in settled:
            continue
        for group in process.joins:
            asked = process.join_asked(group)
            if process.leave_asked.get(group, -1) > asked:
                report.premise("L1")
                if group in process.current:
                    report.violate("L1", AT_THE_END, f"{process.member} asked to leave {group} and is in it still")
                continue
            report.premise("L1")
            left_at = process.lefts[group][-1][0] if group in process.lefts else -1
            if group not in process.current and left_at < asked:
                report.violate("L1", AT_THE_END, f"{process.member} asked to join {group} and never got a view")
        for group, step in process.current.items():
            members.setdefault(group, set()).add(process.member)
            found = last.setdefault(group, (step.key, step.view.members))
            if found != (step.key, step.view.members):
                report.violate("L1", AT_THE_END, f"{process.member} ends in view {step.key} of {group}, not {found[0]}")
    for group, (key, listed) in last.items():
        if set(listed) != members[group]:  # type: ignore[call-overload]
            report.violate("L1", AT_THE_END, f"the last view {key} of {group} is not of those who are in it")


def _check_messages(history: History, settled: frozenset[NodeId]) -> None:
    final = {step.key for identity in settled if (step := history.nodes[identity].current) is not None}
    live = [one for one in history.processes.values() if one.closed_index is None and one.member.node in settled]
    for message in history.numbered:
        if message.level < Level.RELIABLE:
            continue
        sender = history.processes[message.sender]
        in_final = _belongs_to(message, final) or (message.sent_in in final and sender in live)
        for process in live if in_final else (sender,) if sender in live else ():
            own = process is sender and message.own
            if not (own or in_final) or not addressed(process, message, AT_THE_END):
                continue
            name = "L3" if own else "L4" if message.level is Level.SAFE else "L2"
            history.report.premise(name)
            if process not in message.got:
                history.report.violate(
                    name, AT_THE_END, f"{process.member} never received {message.label}", message.label
                )


def _belongs_to(message: MessageRecord, views: set[ViewKey]) -> bool:
    return message.delivered_in in views or message.left_in in views
