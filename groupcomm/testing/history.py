"""A trace made readable for the checks: who was in which view when, what each message knew, what became of it.

Keeps its own causal bookkeeping, made of nothing but the order of sends and deliveries at each client. Decides the
properties that show while reading (A1, A2, D1, D2, M3, G1, G2, G4, and S1 where the harness says who holds what); the
rest is decided by the ``check_*`` modules.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from attrs import define, field

from groupcomm.events import Level
from groupcomm.identity import MemberId, NodeId
from groupcomm.testing import trace as traces
from groupcomm.testing.records import (
    Delivery,
    Episode,
    GroupStep,
    GroupViewKey,
    MessageRecord,
    NodeRecord,
    NodeStep,
    ProcessRecord,
    ViewKey,
)
from groupcomm.testing.report import Report


@define(eq=False)
class History:
    """Everything the checks look up, built in one pass over the trace.

    Attributes:
        length: how many events the trace has.
        steps_in: the installations of each node view, in their order.
        numbered: the messages in the order of their sends.
        disturbed_index: the last event that was done to the network or a node.
    """

    report: Report
    length: int = 0
    nodes: dict[NodeId, NodeRecord] = field(factory=dict)
    processes: dict[MemberId, ProcessRecord] = field(factory=dict)
    messages: dict[str, MessageRecord] = field(factory=dict)
    numbered: list[MessageRecord] = field(factory=list)
    steps_in: dict[ViewKey, list[NodeStep]] = field(factory=dict)
    disturbed_index: int = -1
    _known: dict[NodeId, GroupViewKey] = field(factory=dict)
    _index: int = 0

    @classmethod
    def of(cls, trace: traces.Trace, report: Report) -> History:
        """Read a trace."""
        history = cls(report, len(trace))
        for index, event in enumerate(trace):
            history._index = index
            reader = _READERS.get(type(event))
            if reader is not None:
                reader(history, event)
                continue
            process = history.processes[event.process]  # type: ignore[union-attr]
            if process.closed_index is not None:
                report.violate("A1", index, f"{process.member} is closed, yet: {traces.describe(event)}")
            else:
                _CLIENT_READERS[type(event)](history, process, event)
        deliveries = [one for process in history.processes.values() for one in process.deliveries]
        report.premise("A1", sum(process.closed_index is not None for process in history.processes.values()))
        report.premise("A2", len(history.numbered))
        report.premise("D1", len(deliveries))
        report.premise("D2", len(deliveries))
        report.premise("M3", sum(len(one.groups) for one in deliveries))
        return history

    def _violate(self, name: str, text: str, *messages: str) -> None:
        self.report.violate(name, self._index, text, *messages)

    # What happens at nodes

    def _read_start(self, event: traces.NodeStarted) -> None:
        self.nodes[event.node] = NodeRecord(event.node, self._index)
        self.disturbed_index = self._index

    def _read_leaving(self, event: traces.NodeLeaving) -> None:
        self.nodes[event.node].leaving_index = self.disturbed_index = self._index

    def _read_end(self, event: traces.NodeEnded) -> None:
        self.nodes[event.node].ended_index = self.disturbed_index = self._index

    def _read_node_view(self, event: traces.NodeViewSeen) -> None:
        node = self.nodes[event.node]
        if node.ended_index is not None:
            self._violate("A1", f"{event.node} installs {event.view.id} after its end")
        key = ViewKey.of(event.view.id)
        together = self.steps_in.setdefault(key, [])
        step = NodeStep(self._index, together[0].key if together else key, event.view, node.identity, node.current)
        node.install(step)
        together.append(step)

    def _read_node_signal(self, event: traces.NodeSignalSeen) -> None:
        node = self.nodes[event.node]
        step = node.current
        if node.ended_index is not None:
            self._violate("A1", f"{event.node} signals after its end")
        if step is None:
            self._violate("M3", f"{event.node} signals before its first view")
        elif step.signal_index is not None:
            self._violate("SIGNAL", f"{event.node} signals twice in {step.key}")
        else:
            step.signal_index = self._index

    def _read_held(self, event: traces.SafeHeld) -> None:
        step = self.nodes[event.node].current
        if step is None or step.signal_index is not None:
            return
        self.report.premise("S1 held")
        if event.lacking:
            lacking = ", ".join(str(node) for node in event.lacking)
            self._violate(
                "S1", f"{event.node} delivers SAFE {event.message}, but {lacking} has not all of it", event.message
            )

    def _read_opened(self, event: traces.Opened) -> None:
        node = self.nodes[event.process.node]
        if event.process in self.processes:
            self._violate("A2", f"{event.process} is opened twice")
            return
        process = self.processes[event.process] = ProcessRecord(event.process, node, self._index)
        node.processes.append(process)

    def _read_fault(self, event: traces.Fault) -> None:
        self.disturbed_index = self._index

    # What happens at clients

    def _read_closed(self, process: ProcessRecord, event: traces.Closed) -> None:
        process.closed_index = self._index

    def _read_join(self, process: ProcessRecord, event: traces.JoinAsked) -> None:
        process.joins.setdefault(event.group, []).append(self._index)

    def _read_leave(self, process: ProcessRecord, event: traces.LeaveAsked) -> None:
        process.leave_asked[event.group] = self._index
        if event.group in process.current:
            process.episodes[event.group][-1].leave_asked_index = self._index

    def _read_signal(self, process: ProcessRecord, event: traces.SignalSeen) -> None:
        if event.group in process.current:
            process.current[event.group].signal_indices.append(self._index)
        else:
            self._violate("M3", f"{process.member} gets a signal of {event.group}, of which it has no view")

    def _read_left(self, process: ProcessRecord, event: traces.LeftSeen) -> None:
        group = event.group
        process.group_views.clear()
        if process.current.pop(group, None) is not None:
            process.episodes[group][-1].ended_index = self._index
        else:
            last = process.lefts[group][-1][0] if group in process.lefts else -1
            if process.join_asked(group) <= last:
                self._violate("M3", f"{process.member} left {group} without having asked to join since it last left")
        step = process.node.current
        process.lefts.setdefault(group, []).append((self._index, step.key if step else None))

    def _read_undeliverable(self, process: ProcessRecord, event: traces.UndeliverableSeen) -> None:
        pass

    def _read_view(self, process: ProcessRecord, event: traces.ViewSeen) -> None:
        view = event.view
        previous = process.current.get(view.group)
        node_step = process.node.current
        key = GroupViewKey.of(view.id)
        step = GroupStep(self._index, key, view, process, previous, node_step.key if node_step else None)
        if previous is None:
            episode = Episode(view.group, process)
            asked = process.leave_asked.get(view.group)
            if asked is not None and asked > process.join_asked(view.group):
                episode.leave_asked_index = asked
            process.episodes.setdefault(view.group, []).append(episode)
        else:
            previous.next = step
        process.episodes[view.group][-1].steps.append(step)
        process.current[view.group] = step
        process.group_views.clear()
        known = self._known.get(process.member.node)
        self._known[process.member.node] = key if known is None else max(known, key)

    def _read_send(self, process: ProcessRecord, event: traces.Sent) -> None:
        if event.message in self.messages:
            self._violate("A2", f"{event.message} is sent twice: a checked run needs distinct messages", event.message)
            return
        node_step = process.node.current
        record = MessageRecord(
            event.message,
            1 << len(self.numbered),
            event,
            self._index,
            node_step.key if node_step else None,
            self._known.get(process.member.node),
            {group: step.key for group, step in process.current.items()},
            event.level,
            event.process,
        )
        self.messages[event.message] = record
        self.numbered.append(record)
        if event.level < Level.FIFO:
            return
        if (before := process.last_ordered_send) is not None:
            record.direct.append(before)
        if event.level >= Level.CAUSAL:
            record.direct.extend(process.recent)
            record.past |= process.known
            process.recent = []
        for earlier in record.direct:
            record.past |= earlier.past | earlier.bit
        process.last_ordered_send = record

    def _read_accepted(self, process: ProcessRecord, event: traces.Accepted) -> None:
        step = process.node.current
        for label in event.messages:
            message = self.messages.get(label)
            if message is None or message.sender != process.member:
                self._violate("D1", f"{process.member} hears of {label}, which it did not send", label)
            else:
                message.accepted.append((self._index, event))
                if message.left_in is None and step is not None:
                    message.left_in = step.key
                if message.left_at is None and not event.stable:
                    message.left_at = self._index

    def _read_delivery(self, process: ProcessRecord, event: traces.Delivered) -> None:
        label = event.message
        message = self.messages.get(label)
        if message is None:
            self._violate("D1", f"{process.member} received {label}, which nobody sent", label)
            return
        sent = message.sent
        if (
            event.digest != sent.digest
            or event.level is not sent.level
            or (event.sender is not sent.process and event.sender != sent.process)
        ):
            self._violate("D1", f"{process.member} received {label} otherwise than sent: {event} for {sent}", label)
        step = process.node.current
        if step is None:
            self._violate("M3", f"{process.member} received {label} before its node's first view", label)
        if sent.recipient is not None:
            self.report.premise("G1")
            if event.groups or str(process.member) != sent.recipient:
                self._violate("G1", f"{process.member} received {label}, private to {sent.recipient}", label)
        else:
            self._check_groups(process, event, message)
        delivery = Delivery(
            self._index,
            message,
            process,
            event.groups,
            step,
            step.key if step else None,
            step is not None and step.signal_index is None,
            self._group_views(process, event.groups),
        )
        self._file(process, delivery)

    @staticmethod
    def _group_views(process: ProcessRecord, groups: tuple[str, ...]) -> dict[str, GroupViewKey]:
        """Its views of the groups: one object for all deliveries between two of its views."""
        views = process.group_views.get(groups)
        if views is None:
            current = process.current
            views = {group: current[group].key for group in groups if group in current}
            process.group_views[groups] = views
        return views

    def _file(self, process: ProcessRecord, delivery: Delivery) -> None:
        message, level = delivery.message, delivery.message.level
        if message.got.setdefault(process, delivery) is not delivery:
            self._violate("D2", f"{process.member} received {message.label} twice", message.label)
        if message.sent.self_discard:
            self.report.premise("G4")
            if message.sender == process.member:
                self._violate("G4", f"{process.member} received {message.label}, which it discards", message.label)
        message.deliveries.append(delivery)
        process.deliveries.append(delivery)
        for group in delivery.group_views:
            process.current[group].deliveries.append(delivery)
        if level >= Level.FIFO:
            process.known |= message.past | message.bit
            process.recent.append(message)
        elif level is Level.UNRELIABLE:
            self.report.premise("UNRELIABLE")

    def _check_groups(self, process: ProcessRecord, event: traces.Delivered, message: MessageRecord) -> None:
        who, label, groups, sent = process.member, event.message, event.groups, message.sent
        current = process.current
        if not groups or (groups != sent.groups and groups != tuple(one for one in sent.groups if one in groups)):
            self._violate("G1", f"{who} received {label} for {groups}, but it was sent to {sent.groups}", label)
        for group in groups:
            if group not in current:
                self._violate("M3", f"{who} received {label} without a view of {group}", label)
        if groups and groups[0] in current:
            expected = current[groups[0]].view.id
            if event.view is not expected and event.view != expected:
                self._violate("M3", f"{who} received {label} as of view {event.view} while in {expected}", label)
        if len(sent.groups) > 1:
            for group in sent.groups:
                if group in current and self._member_since(process, group, message):
                    self.report.premise("G2")
                    if group not in groups:
                        self._violate("G2", f"{who} is in {group} and received {label} for {groups} only", label)

    def _member_since(self, process: ProcessRecord, group: str, message: MessageRecord) -> bool:
        """Whether it gets the message for that group too: an ordered one by its own place, others by the sender's."""
        episode = process.episodes[group][-1]
        reached = message.known is not None and message.known >= episode.first
        return episode.leave_asked_index is None and (message.level >= Level.AGREED or reached)


_READERS: dict[type, Callable[[History, Any], None]] = {
    traces.NodeStarted: History._read_start,
    traces.NodeLeaving: History._read_leaving,
    traces.NodeEnded: History._read_end,
    traces.NodeViewSeen: History._read_node_view,
    traces.NodeSignalSeen: History._read_node_signal,
    traces.SafeHeld: History._read_held,
    traces.Opened: History._read_opened,
    traces.Fault: History._read_fault,
}
_CLIENT_READERS: dict[type, Callable[[History, ProcessRecord, Any], None]] = {
    traces.Closed: History._read_closed,
    traces.JoinAsked: History._read_join,
    traces.LeaveAsked: History._read_leave,
    traces.Sent: History._read_send,
    traces.Accepted: History._read_accepted,
    traces.Delivered: History._read_delivery,
    traces.ViewSeen: History._read_view,
    traces.SignalSeen: History._read_signal,
    traces.LeftSeen: History._read_left,
    traces.UndeliverableSeen: History._read_undeliverable,
}
