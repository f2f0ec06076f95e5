"""Traces written by hand: a few lines tell what happened, right or wrong, and the oracle is asked about it."""

from __future__ import annotations

from typing import Any

from attrs import evolve

from groupcomm.events import Departure, Level, Reason, View
from groupcomm.identity import GroupViewId, MemberId, NodeId, ViewId
from groupcomm.outputs import NodeDeparture, NodeViewInstalled
from groupcomm.testing import trace as traces
from groupcomm.testing.check_rest import EndOfRun, NodeAtEnd
from groupcomm.testing.oracle import Report, examine
from groupcomm.wire.evidence import Record

GROUP = "g"


class Story:
    """Nodes named by one letter, with one client each (``c@a``), all in one view and in the group ``g``.

    Every method appends what it says and computes the rest; whatever a story wants wrong is given explicitly.
    """

    def __init__(self, names: str = "abc", *, joined: bool = True) -> None:
        self.trace = traces.Trace()
        self.time = 0.0
        self.epoch = 0
        self.position = 0
        self.sent: dict[str, traces.Sent] = {}
        self.node_view: dict[str, NodeViewInstalled] = {}
        self.group_view: dict[str, View] = {}
        self.settled: str | None = None
        self.filtered = False
        self.not_primary = ""
        self.end: EndOfRun | None = None
        for name in names:
            self.add(traces.NodeStarted(self.tick(), self.node(name)))
        self.install(names)
        for name in names:
            self.open(name)
        if joined:
            for name in names:
                self.ask_join(name)
            self.join(names)

    def tick(self) -> float:
        """The time of the next event."""
        self.time += 0.001
        return self.time

    def add(self, event: traces.TraceEvent) -> None:
        """Append any event."""
        self.trace.append(event)

    @staticmethod
    def node(name: str) -> NodeId:
        return NodeId(name, 1)

    @classmethod
    def client(cls, name: str) -> MemberId:
        return MemberId("c", cls.node(name), 1)

    def open(self, name: str) -> None:
        self.add(traces.Opened(self.tick(), self.client(name)))

    def enter(self, name: str, group: str) -> GroupViewId:
        """The client is alone in another group from now on."""
        self.position += 1
        me, identity = self.client(name), GroupViewId(self.node_view[name].id, self.position)
        self.add(traces.JoinAsked(self.tick(), me, group))
        self.add(traces.ViewSeen(self.tick(), me, View(group, identity, (me,), (me,), (), (me,), True)))
        return identity

    def fault(self, text: str) -> None:
        """Something is done to the network."""
        self.add(traces.Fault(self.tick(), text))

    def settle(self, names: str) -> None:
        """The run is over, and the named nodes were left in peace."""
        self.settled = names

    def rest(self, names: str, *, nacks: int = 0, lost: int = 0, **facts: Any) -> None:
        """As ``settle``; the harness knows these facts of the first of them, and nothing remarkable of the others."""
        self.settled = names
        first = evolve(NodeAtEnd(self.node(names[0])), **facts)
        others = tuple(NodeAtEnd(self.node(name)) for name in names[1:])
        self.end = EndOfRun((first, *others), nacks_sent=nacks, lost_copies=lost)

    def ask_join(self, name: str) -> None:
        self.add(traces.JoinAsked(self.tick(), self.client(name), GROUP))

    def ask_leave(self, name: str) -> None:
        self.add(traces.LeaveAsked(self.tick(), self.client(name), GROUP))

    def leave(self, name: str) -> None:
        """The client hears the last of the group; the others of its node view get a view without it."""
        view = self.group_view.pop(name)
        self.add(traces.LeftSeen(self.tick(), self.client(name), GROUP, Reason.LEAVE))
        self.regroup("".join(one.node.name for one in view.members if one.node.name != name), Reason.LEAVE)

    def crash(self, name: str) -> None:
        self.add(traces.Closed(self.tick(), self.client(name)))
        self.add(traces.NodeEnded(self.tick(), self.node(name), "crash"))
        self.group_view.pop(name, None)

    def install(
        self,
        names: str,
        *,
        at: str | None = None,
        epoch: int | None = None,
        transitional: dict[str, str] | None = None,
        members: str | None = None,
        evicted: str = "",
        records: tuple[Record, ...] = (),
    ) -> None:
        """The named nodes install the next view, and their clients in the group the group view that goes with it.

        Who is evicted with it is gone for that reason, anybody else since the network parted; ``records`` say why.
        """
        if epoch is None:
            self.epoch += 1
            self.position = 0
        identity = ViewId(epoch or self.epoch, self.node(names[0]))
        before = dict(self.node_view)
        for name in names if at is None else at:
            self.install_node(name, identity, members or names, before, transitional, evicted, records)
        grouped = "".join(name for name in names if name in self.group_view)
        if grouped and at is None:
            old = {name: self.group_view[name] for name in grouped}
            gone = {one for view in old.values() for one in view.members} - {self.client(name) for name in grouped}
            if gone or len({view.id for view in old.values()}) > 1:
                self.regroup(grouped, Reason.PARTITION, GroupViewId(identity, 0))

    def install_node(
        self,
        name: str,
        identity: ViewId,
        members: str,
        before: dict[str, NodeViewInstalled],
        transitional: dict[str, str] | None = None,
        evicted: str = "",
        records: tuple[Record, ...] = (),
    ) -> None:
        old = before.get(name)
        nodes = tuple(self.node(one) for one in members)
        if transitional is not None and name in transitional:
            together = tuple(self.node(one) for one in transitional[name])
        elif old is None:
            together = (self.node(name),)
        else:
            together = tuple(
                self.node(one) for one in members if (other := before.get(one)) is not None and other.id == old.id
            )
        gone = [] if old is None else [one for one in old.members if one not in nodes]
        expelled = {self.node(one) for one in evicted}
        departed = tuple(NodeDeparture(one, Reason.EVICTION if one in expelled else Reason.PARTITION) for one in gone)
        primary = not self.filtered or name not in self.not_primary
        view = NodeViewInstalled(
            identity, nodes, together, departed, nodes[0], records, primary=primary, filtered=self.filtered
        )
        self.node_view[name] = view
        self.add(traces.NodeViewSeen(self.tick(), self.node(name), view))

    def join(self, names: str) -> None:
        """The named clients join at one place in the order; those in the group already get the same view."""
        self.regroup("".join(sorted({*self.group_view, *names})), Reason.LEAVE)

    def regroup(
        self, names: str, reason: Reason, identity: GroupViewId | None = None, *, at: str | None = None
    ) -> None:
        """A group view of the named clients, at those named in ``at`` or all."""
        if identity is None:
            self.position += 1
            identity = GroupViewId(self.node_view[names[0]].id, self.position)
        members = tuple(self.client(name) for name in names)
        old = dict(self.group_view)
        for name in names if at is None else at:
            me, before = self.client(name), old.get(name)
            if before is None:
                view = View(GROUP, identity, members, (me,), (), (me,), True)
            else:
                together = tuple(
                    one for one in members if (other := old.get(one.node.name)) is not None and other.id == before.id
                )
                joined = tuple(one for one in members if one not in before.members)
                left = tuple(Departure(one, reason) for one in before.members if one not in members)
                view = View(GROUP, identity, members, joined, left, together, True)
            self.see(name, view)

    def see(self, name: str, view: View) -> None:
        """One client gets a group view."""
        self.group_view[name] = view
        self.add(traces.ViewSeen(self.tick(), self.client(name), view))

    def signal(self, names: str) -> None:
        """The named nodes come to their transitional signal, and so do their clients."""
        for name in names:
            self.add(traces.NodeSignalSeen(self.tick(), self.node(name)))
            if name in self.group_view:
                self.add(traces.SignalSeen(self.tick(), self.client(name), GROUP))

    def send(
        self,
        name: str,
        labels: str,
        level: Level = Level.AGREED,
        *,
        self_discard: bool = False,
        to: str | None = None,
        groups: tuple[str, ...] = (GROUP,),
    ) -> None:
        """One client sends messages, one per letter."""
        for label in labels:
            recipient = None if to is None else f"c@{to}"
            sent = traces.Sent(
                self.tick(),
                self.client(name),
                label,
                f"digest {label}",
                level,
                () if to else groups,
                recipient,
                self_discard,
            )
            self.sent[label] = sent
            self.add(sent)

    def accept(self, name: str, labels: str, *, stable: bool = False) -> None:
        for label in labels:
            self.add(traces.Accepted(self.tick(), self.client(name), (label,), stable, True))

    def deliver(
        self,
        names: str,
        labels: str,
        *,
        message: str | None = None,
        digest: str | None = None,
        groups: tuple[str, ...] | None = None,
        view: GroupViewId | None = None,
    ) -> None:
        """Each of the named clients receives the messages in this order; the options say what is not as it was sent."""
        for name in names:
            for label in labels:
                sent = self.sent[label]
                current = None if sent.recipient or name not in self.group_view else self.group_view[name].id
                self.add(
                    traces.Delivered(
                        self.tick(),
                        self.client(name),
                        message or label,
                        digest or sent.digest,
                        sent.process,
                        sent.level,
                        sent.groups if groups is None else groups,
                        view or current,
                    )
                )

    def report(self, settled: str | None = None) -> Report:
        """What the oracle says."""
        names = settled or self.settled
        nodes = None if names is None else [self.node(name) for name in names]
        return examine(self.trace, settled=nodes, end=self.end)

    def broken(self, settled: str | None = None) -> set[str]:
        """The properties that the oracle found broken."""
        return {violation.property for violation in self.report(settled).violations}
