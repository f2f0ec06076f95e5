"""A trace made readable for the checks: who was in which view when, what each message knew, what became of it.

Keeps its own causal bookkeeping, made of nothing but the order of sends and deliveries at each client. Decides the
properties that show while reading (A1, A2, D1, M3, G1); the rest is decided by the ``check_*`` modules.

Three words used throughout: a *step* is one installed view at one place, from its installation to the next; an
*episode* is one membership of one client in one group, from its first view to its end; a delivery is *regular* if its
node had not come to its transitional signal in that view.
"""

from __future__ import annotations

from attrs import define, field, frozen

from groupcomm.events import Level, View
from groupcomm.identity import GroupViewId, MemberId, NodeId, ViewId
from groupcomm.outputs import NodeViewInstalled
from groupcomm.testing import trace as traces

AT_THE_END = 1 << 60
"""An index after every event."""


@frozen
class Violation:
    """One property that does not hold, and the messages (or views) that show it."""

    property: str
    text: str
    messages: tuple[str, ...] = ()


@define(eq=False)
class Report:
    """What the oracle found.

    Attributes:
        violations: in the order they were found.
        premises: for each property how often there was something to check: a property never checked proves nothing.
    """

    violations: list[Violation] = field(factory=list)
    premises: dict[str, int] = field(factory=dict)

    def violate(self, name: str, text: str, *messages: str) -> None:
        """A property does not hold."""
        self.violations.append(Violation(name, text, messages))

    def premise(self, name: str, times: int = 1) -> None:
        """There was something to check."""
        self.premises[name] = self.premises.get(name, 0) + times


@define(eq=False)
class NodeStep:
    """One node view at one node."""

    index: int
    view: NodeViewInstalled
    previous: NodeStep | None
    next: NodeStep | None = None
    signal_index: int | None = None


@define(eq=False)
class NodeRecord:
    """One run of one node."""

    identity: NodeId
    started_index: int
    ended_index: int | None = None
    steps: list[NodeStep] = field(factory=list)

    @property
    def current(self) -> NodeStep | None:
        """The last installed view."""
        return self.steps[-1] if self.steps else None

    def step_in(self, view: ViewId) -> NodeStep | None:
        """The step in which it was in ``view``."""
        return next((step for step in self.steps if step.view.id == view), None)


@define(eq=False)
class Delivery:
    """One message at one client."""

    index: int
    message: MessageRecord
    process: ProcessRecord
    groups: tuple[str, ...]
    node_view: ViewId | None
    regular: bool
    group_views: dict[str, GroupViewId]


@define(eq=False)
class MessageRecord:
    """One message and its fate.

    Attributes:
        bit: its own bit in the causal masks.
        past: the messages that precede it: same-sender edges among FIFO and above, received-before-sent edges if it is
            CAUSAL or above, and what follows from them.
        direct: the edges themselves.
        sent_in: the node view of its sender when it was handed over; it may have left in a later one.
        known: the highest group view that any client on its sender's node had seen by then.
        delivered_in: the node view it was delivered in, where first delivered.
    """

    label: str
    bit: int
    sent: traces.Sent
    sent_index: int
    sent_in: ViewId | None
    known: GroupViewId | None
    sender_views: dict[str, GroupViewId]
    past: int = 0
    direct: list[MessageRecord] = field(factory=list)
    deliveries: list[Delivery] = field(factory=list)
    accepted: list[tuple[int, traces.Accepted, ViewId | None]] = field(factory=list)

    @property
    def level(self) -> Level:
        """The level it was sent at."""
        return self.sent.level

    @property
    def sender(self) -> MemberId:
        """The client that sent it."""
        return self.sent.process

    @property
    def ordered(self) -> bool:
        """Whether it has a place in the total order."""
        return self.sent.level >= Level.AGREED

    @property
    def delivered_in(self) -> ViewId | None:
        """The node view of its first delivery."""
        return self.deliveries[0].node_view if self.deliveries else None

    def group_view(self, group: str) -> GroupViewId | None:
        """The view of ``group`` it was delivered in, where first delivered to that group."""
        return next((delivery.group_views[group] for delivery in self.deliveries if group in delivery.groups), None)

    def discarded_by(self, member: MemberId) -> bool:
        """Whether ``member`` sent it and asked not to get it."""
        return self.sent.self_discard and self.sent.process == member


@define(eq=False)
class GroupStep:
    """One group view at one client."""

    index: int
    view: View
    process: ProcessRecord
    previous: GroupStep | None
    node_view: ViewId | None
    next: GroupStep | None = None
    signal_indices: list[int] = field(factory=list)
    deliveries: list[Delivery] = field(factory=list)


@define(eq=False)
class Episode:
    """One membership."""

    group: str
    process: ProcessRecord
    steps: list[GroupStep] = field(factory=list)
    leave_asked_index: int | None = None
    ended_index: int | None = None

    @property
    def first(self) -> GroupViewId:
        """The id of its first view."""
        return self.steps[0].view.id


@define(eq=False)
class ProcessRecord:
    """One client session."""

    member: MemberId
    node: NodeRecord
    opened_index: int
    closed_index: int | None = None
    episodes: dict[str, list[Episode]] = field(factory=dict)
    current: dict[str, GroupStep] = field(factory=dict)
    join_asked: dict[str, int] = field(factory=dict)
    join_asked_last: dict[str, int] = field(factory=dict)
    leave_asked: dict[str, int] = field(factory=dict)
    deliveries: list[Delivery] = field(factory=list)
    delivered: set[str] = field(factory=set)
    known: int = 0
    recent: list[MessageRecord] = field(factory=list)
    last_ordered_send: MessageRecord | None = None

    def episode_at(self, group: str, index: int) -> Episode | None:
        """The membership of ``group`` that holds at ``index``."""
        for episode in self.episodes.get(group, ()):
            if episode.steps[0].index <= index and (episode.ended_index is None or episode.ended_index > index):
                return episode
        return None

    def died_in(self, view: ViewId) -> bool:
        """Whether its crash (or close) came before its node left ``view``, or before it was ever there."""
        if self.closed_index is None:
            return False
        step = self.node.step_in(view)
        return step is None or step.next is None or self.closed_index < step.next.index


@define(eq=False)
class History:
    """Everything the checks look up, built in one pass over the trace."""

    report: Report
    nodes: dict[NodeId, NodeRecord] = field(factory=dict)
    processes: dict[MemberId, ProcessRecord] = field(factory=dict)
    messages: dict[str, MessageRecord] = field(factory=dict)
    numbered: list[MessageRecord] = field(factory=list)
    _known: dict[NodeId, GroupViewId] = field(factory=dict)
    _index: int = 0

    @classmethod
    def of(cls, trace: traces.Trace, report: Report) -> History:
        """Read a trace."""
        history = cls(report)
        for index, event in enumerate(trace):
            history._index = index
            history._read(event)
        return history

    def transition(self, node: NodeId, view: ViewId) -> ViewId | None:
        """The view that ``node`` installed right after ``view``; None if it never did."""
        record = self.nodes.get(node)
        step = record.step_in(view) if record is not None else None
        return step.next.view.id if step is not None and step.next is not None else None

    def _read(self, event: traces.TraceEvent) -> None:
        match event:
            case traces.NodeStarted():
                self.nodes[event.node] = NodeRecord(event.node, self._index)
            case traces.NodeEnded():
                self.nodes[event.node].ended_index = self._index
            case traces.NodeViewSeen():
                self._read_node_view(event)
            case traces.NodeSignalSeen():
                step = self.nodes[event.node].current
                if step is None:
                    self.report.violate("M3", f"{event.node} signals before its first view")
                elif step.signal_index is not None:
                    self.report.violate("SIGNAL", f"{event.node} signals twice in {step.view.id}")
                else:
                    step.signal_index = self._index
            case traces.Opened():
                node = self.nodes[event.process.node]
                self.processes[event.process] = ProcessRecord(event.process, node, self._index)
            case traces.Fault():
                pass
            case _:
                self._read_at_client(event)

    def _read_node_view(self, event: traces.NodeViewSeen) -> None:
        node = self.nodes[event.node]
        if node.ended_index is not None:
            self.report.violate("A1", f"{event.node} installs {event.view.id} after its end")
        step = NodeStep(self._index, event.view, node.current)
        if node.current is not None:
            node.current.next = step
        node.steps.append(step)

    def _read_at_client(self, event: traces.TraceEvent) -> None:
        assert not isinstance(
            event,
            traces.Fault
            | traces.NodeStarted
            | traces.NodeEnded
            | traces.NodeViewSeen
            | traces.NodeSignalSeen
            | traces.Opened,
        )
        process = self.processes[event.process]
        if process.closed_index is not None:
            self.report.violate("A1", f"{event.process} is closed, yet: {traces.describe(event)}")
            return
        match event:
            case traces.Closed():
                process.closed_index = self._index
            case traces.JoinAsked():
                process.join_asked.setdefault(event.group, self._index)
                process.join_asked_last[event.group] = self._index
            case traces.LeaveAsked():
                process.leave_asked[event.group] = self._index
                if event.group in process.current:
                    process.episodes[event.group][-1].leave_asked_index = self._index
            case traces.Sent():
                self._read_send(process, event)
            case traces.Accepted():
                for label in event.messages:
                    step = process.node.current
                    self.messages[label].accepted.append((self._index, event, step.view.id if step else None))
            case traces.Delivered():
                self._read_delivery(process, event)
            case traces.ViewSeen():
                self._read_view(process, event.view)
            case traces.SignalSeen():
                if event.group in process.current:
                    process.current[event.group].signal_indices.append(self._index)
                else:
                    self.report.violate(
                        "M3", f"{event.process} gets a signal of {event.group}, of which it has no view"
                    )
            case traces.LeftSeen():
                if process.current.pop(event.group, None) is None:
                    if event.group not in process.join_asked:
                        self.report.violate("M3", f"{event.process} left {event.group} without having asked to join")
                else:
                    process.episodes[event.group][-1].ended_index = self._index
            case traces.UndeliverableSeen():
                pass

    def _read_view(self, process: ProcessRecord, view: View) -> None:
        previous = process.current.get(view.group)
        node_step = process.node.current
        step = GroupStep(self._index, view, process, previous, node_step.view.id if node_step else None)
        if previous is None:
            episode = Episode(view.group, process)
            asked = process.leave_asked.get(view.group)
            if asked is not None and asked > process.join_asked_last.get(view.group, -1):
                episode.leave_asked_index = asked
            process.episodes.setdefault(view.group, []).append(episode)
        else:
            previous.next = step
        process.episodes[view.group][-1].steps.append(step)
        process.current[view.group] = step
        known = self._known.get(process.member.node)
        self._known[process.member.node] = view.id if known is None else max(known, view.id)

    def _read_send(self, process: ProcessRecord, event: traces.Sent) -> None:
        if event.message in self.messages:
            self.report.violate(
                "A2", f"{event.message} is sent twice: a checked run needs distinct messages", event.message
            )
            return
        node_step = process.node.current
        record = MessageRecord(
            event.message,
            1 << len(self.numbered),
            event,
            self._index,
            node_step.view.id if node_step else None,
            self._known.get(process.member.node),
            {group: step.view.id for group, step in process.current.items()},
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

    def _read_delivery(self, process: ProcessRecord, event: traces.Delivered) -> None:
        report, who, label = self.report, event.process, event.message
        report.premise("D1")
        message = self.messages.get(label)
        if message is None:
            report.violate("D1", f"{who} received {label}, which nobody sent", label)
            return
        sent = message.sent
        if (event.digest, event.sender, event.level) != (sent.digest, sent.process, sent.level):
            report.violate("D1", f"{who} received {label} otherwise than sent: {event} for {sent}", label)
        self._check_addressee(process, event, sent)
        node_step = process.node.current
        delivery = Delivery(
            self._index,
            message,
            process,
            event.groups,
            node_step.view.id if node_step else None,
            node_step is None or node_step.signal_index is None,
            {group: process.current[group].view.id for group in event.groups if group in process.current},
        )
        message.deliveries.append(delivery)
        process.deliveries.append(delivery)
        for group in event.groups:
            if group in process.current:
                process.current[group].deliveries.append(delivery)
        if sent.level >= Level.FIFO:
            process.known |= message.past | message.bit
            process.recent.append(message)

    def _member_since(self, process: ProcessRecord, group: str, sent: traces.Sent) -> bool:
        """Whether it gets the message for that group too: an ordered one by its own place, others by the sender's."""
        episode = process.episodes[group][-1]
        known = self.messages[sent.message].known
        reached = known is not None and known >= episode.first
        return episode.leave_asked_index is None and (sent.level >= Level.AGREED or reached)

    def _check_addressee(self, process: ProcessRecord, event: traces.Delivered, sent: traces.Sent) -> None:
        report, who, label = self.report, event.process, event.message
        if process.node.current is None:
            report.violate("M3", f"{who} received {label} before its node's first view", label)
        if sent.recipient is not None:
            report.premise("G1")
            if event.groups or str(who) != sent.recipient:
                report.violate("G1", f"{who} received {label}, private to {sent.recipient}", label)
            return
        if not event.groups or event.groups != tuple(group for group in sent.groups if group in event.groups):
            report.violate("G1", f"{who} received {label} for {event.groups}, but it was sent to {sent.groups}", label)
        for group in event.groups:
            report.premise("M3")
            if group not in process.current:
                report.violate("M3", f"{who} received {label} without a view of {group}", label)
        if event.groups and event.groups[0] in process.current:
            current = process.current[event.groups[0]].view.id
            if event.view != current:
                report.violate("M3", f"{who} received {label} as of view {event.view} while in {current}", label)
        for group in sent.groups:
            if group in process.current and group not in event.groups and self._member_since(process, group, sent):
                report.violate("G2", f"{who} is in {group} and received {label} for {event.groups} only", label)
