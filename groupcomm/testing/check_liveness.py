"""What must have happened by the end of a run whose network became quiet: L1, L2, L3.

The time bounds are the caller's: it lets the run go on for as long as the bound and then asks.
"""

from __future__ import annotations

from groupcomm.events import Level
from groupcomm.identity import NodeId
from groupcomm.testing.check_delivery import addressed
from groupcomm.testing.history import AT_THE_END, History


def check_liveness(history: History, settled: frozenset[NodeId]) -> None:
    """Check that the settled nodes agree on everything and that nothing is outstanding among them."""
    _check_node_view(history, settled)
    _check_group_views(history, settled)
    _check_messages(history, settled)


def _check_node_view(history: History, settled: frozenset[NodeId]) -> None:
    for identity in sorted(settled):
        history.report.premise("L1")
        step = history.nodes[identity].current
        if step is None or frozenset(step.view.members) != settled:
            members = "no view" if step is None else f"{step.view.id} of {[str(one) for one in step.view.members]}"
            history.report.violate("L1", f"node {identity} ends in {members}, not with all that are connected")
    views = {step.view.id for identity in settled if (step := history.nodes[identity].current) is not None}
    if len(views) > 1:
        history.report.violate("L1", f"the connected nodes end in {len(views)} views")


def _check_group_views(history: History, settled: frozenset[NodeId]) -> None:
    last: dict[str, tuple[object, object]] = {}
    for process in history.processes.values():
        if process.closed_index is not None or process.member.node not in settled:
            continue
        for group, asked in process.join_asked_last.items():
            left = process.leave_asked.get(group, -1)
            if left > asked:
                continue
            history.report.premise("L1")
            step = process.current.get(group)
            if step is None and not any(episode.ended_index for episode in process.episodes.get(group, ())):
                history.report.violate("L1", f"{process.member} asked to join {group} and never got a view")
        for group, step in process.current.items():
            found = last.setdefault(group, (step.view.id, step.view.members))
            if found != (step.view.id, step.view.members):
                history.report.violate("L1", f"{process.member} ends in view {step.view.id} of {group}, not {found[0]}")


def _check_messages(history: History, settled: frozenset[NodeId]) -> None:
    final = {step.view.id for identity in settled if (step := history.nodes[identity].current) is not None}
    live = [
        process
        for process in history.processes.values()
        if process.closed_index is None and process.member.node in settled
    ]
    for message in history.numbered:
        if message.level < Level.RELIABLE:
            continue
        got = {delivery.process.member for delivery in message.deliveries}
        sender = history.processes[message.sender]
        in_final = message.delivered_in in final or (message.sent_in in final and sender in live)
        for process in live:
            own = process is sender and set(message.sent.groups) & set(message.sender_views)
            if not (own or in_final) or not addressed(process, message, AT_THE_END):
                continue
            history.report.premise("L3" if own else "L2")
            if process.member not in got:
                history.report.violate(
                    "L3" if own else "L2", f"{process.member} never received {message.label}", message.label
                )
