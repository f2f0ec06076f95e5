"""An engine that cheats: all of them share one world that knows everything at once and orders everything.

It shows that the cluster drives engines and that the oracle accepts a run in which nothing is wrong. It takes part in
no view change protocol: the world sees at once who has died.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from attrs import define, field

from groupcomm.config import EngineConfig
from groupcomm.events import Departure, Level, Outside, Reason, View
from groupcomm.identity import GroupViewId, MemberId, NodeId, ViewId
from groupcomm.outputs import (
    Address,
    Datagram,
    FrameDelivered,
    GroupLeft,
    GroupSignalDelivered,
    GroupViewDelivered,
    NodeDeparture,
    NodeSignal,
    NodeViewInstalled,
    Output,
    PrivateUndeliverable,
    SendAccepted,
    Stopped,
)
from groupcomm.status import NodeStatus
from groupcomm.testing.cluster import Cluster


@define(eq=False)
class PerfectWorld:
    """What all perfect engines share."""

    engines: dict[NodeId, PerfectEngine] = field(factory=dict)
    members: tuple[NodeId, ...] = ()
    epoch: int = 0
    position: int = 0
    groups: dict[str, list[MemberId]] = field(factory=dict)
    cluster: Cluster | None = None

    def engine(self, config: EngineConfig, node: NodeId, stream: random.Random, now: float) -> PerfectEngine:
        """The factory to give to a cluster."""
        return PerfectEngine(self, node)

    def look_for_dead(self) -> None:
        """Install a view without the nodes whose process has died."""
        assert self.cluster is not None
        for node in self.members:
            if not self.cluster.nodes[node.name].process_alive or self.cluster.nodes[node.name].identity != node:
                self.install(tuple(one for one in self.members if one != node), Reason.NODE_FAILURE)

    def view_id(self) -> ViewId:
        return ViewId(self.epoch, min(self.members))

    def install(self, members: tuple[NodeId, ...], reason: Reason) -> None:
        """All of the new view go from the old one to it."""
        before, self.members = self.members, tuple(sorted(members))
        gone = [node for node in before if node not in members]
        self.epoch, self.position = self.epoch + 1, 0
        parted = sorted(name for name, group in self.groups.items() if any(one.node in gone for one in group))
        if not self.members:
            self.groups.clear()
            return
        for node in self.members:
            engine = self.engines[node]
            if node in before:
                engine.outputs.append(NodeSignal())
                for name in parted:
                    if sessions := engine.sessions_in(self.groups[name]):
                        engine.outputs.append(GroupSignalDelivered(sessions, name))
            transitional = tuple(one for one in self.members if one in before) if node in before else (node,)
            departed = tuple(NodeDeparture(one, reason) for one in gone) if node in before else ()
            engine.outputs.append(
                NodeViewInstalled(self.view_id(), self.members, transitional, departed, self.members[0])
            )
        for name in parted:
            old = self.groups[name]
            self.groups[name] = [one for one in old if one.node not in gone]
            self.deliver_view(name, old, reason)

    def change(self, name: str, members: list[MemberId], reason: Reason) -> None:
        """Join or leave, at its own place in the order."""
        self.position += 1
        old = self.groups.get(name, [])
        self.groups[name] = members
        for gone in (one for one in old if one not in members):
            engine = self.engines[gone.node]
            if gone.session in engine.sessions:
                engine.outputs.append(GroupLeft(gone.session, name, reason))
        self.deliver_view(name, old, reason)

    def deliver_view(self, name: str, old: list[MemberId], reason: Reason) -> None:
        members = tuple(sorted(self.groups[name]))
        left = tuple(Departure(one, reason) for one in old if one not in members)
        stayed = tuple(one for one in members if one in old)
        joined = tuple(one for one in members if one not in old)
        identity = GroupViewId(self.view_id(), self.position)
        for member in members:
            engine = self.engines[member.node]
            if member in old:
                view = View(name, identity, members, joined, left, stayed, True)
            else:
                view = View(name, identity, members, (member,), (), (member,), True)
            engine.views[name] = identity
            engine.outputs.append(GroupViewDelivered((member.session,), view))
        for node in self.members:
            self.engines[node].views[name] = identity


@define(eq=False)
class PerfectEngine:
    """One node's door to the world.

    Attributes:
        received: what has come, each with its source in place of the destination.
    """

    world: PerfectWorld
    node: NodeId
    outputs: list[Output] = field(factory=list)
    sessions: dict[int, MemberId] = field(factory=dict)
    views: dict[str, GroupViewId] = field(factory=dict)
    wake: bool = False
    next_at: float = 0.0
    session_count: int = 0
    ticket_count: int = 0
    stalls: list[float] = field(factory=list)
    refused: list[NodeId] = field(factory=list)
    hints: list[Address] = field(factory=list)
    received: list[Datagram] = field(factory=list)
    busy: bool = False

    def links(self, addresses: Sequence[Address], most_bytes: Sequence[int]) -> None:
        """Nothing depends on it."""

    def start(self, now: float) -> None:
        self.next_at = now + 0.05
        self.world.engines[self.node] = self
        self.world.look_for_dead()
        self.world.install((*self.world.members, self.node), Reason.NODE_LEAVE)
        self.wake = True

    def reading(self, link: int, multicast: bool) -> None: ...

    def datagram_received(self, data: bytes, source: Address, now: float) -> None:
        self.received.append(Datagram(data, source))
        self.world.look_for_dead()

    def run_received(self, data: bytes, size_bytes: int, source: Address, now: float) -> None:
        self.received.append(Datagram(data, source, size_bytes))
        self.world.look_for_dead()

    def flush(self, now: float) -> None: ...

    def burst_ended(self, now: float) -> None: ...

    def handle_timeout(self, now: float) -> None:
        self.world.look_for_dead()
        self.next_at = now if self.busy else now + 0.05

    def add_hint(self, address: Address, now: float) -> None:
        self.hints.append(address)

    def peer_refused(self, node: NodeId, now: float) -> None:
        self.refused.append(node)

    def host_answers(self, node: NodeId, now: float) -> None: ...

    def memory_kept(self, number: int, now: float) -> None: ...

    def stalled(self, seconds: float, now: float) -> None:
        self.stalls.append(seconds)

    def clock_jumped(self, now: float) -> None: ...

    def rotate_key(self, now: float) -> None: ...
    def expel(self, name: str, now: float) -> None: ...

    def seal(self, datagrams: list[Datagram]) -> list[Datagram]:
        return datagrams

    def open_session(self, client: str, now: float) -> int:
        self.session_count += 1
        self.sessions[self.session_count] = MemberId(client, self.node, self.session_count)
        return self.session_count

    def close_session(self, session: int, reason: Reason, now: float) -> None:
        member = self.sessions.pop(session)
        for name, members in sorted(self.world.groups.items()):
            if member in members:
                self.world.change(name, [one for one in members if one != member], reason)
        self.wake = True

    def join(self, session: int, group: str, now: float, *, outside: Outside = Outside.GO_ON) -> None:
        self.world.look_for_dead()
        members = self.world.groups.get(group, [])
        self.world.change(group, [*members, self.sessions[session]], Reason.LEAVE)
        self.wake = True

    def leave(self, session: int, group: str, now: float) -> None:
        me = self.sessions[session]
        self.world.change(group, [one for one in self.world.groups[group] if one != me], Reason.LEAVE)
        self.wake = True

    def send(
        self,
        session: int,
        groups: Sequence[str],
        payload: bytes,
        level: Level,
        now: float,
        *,
        self_discard: bool = False,
        stable: bool = False,
    ) -> int:
        self.world.look_for_dead()
        me = self.sessions[session]
        for node in self.world.members:
            engine = self.world.engines[node]
            recipients = []
            for number, member in sorted(engine.sessions.items()):
                matched = tuple(name for name in groups if member in self.world.groups.get(name, ()))
                if matched and not (self_discard and member == me):
                    recipients.append((number, matched))
            if recipients:
                views = {name: engine.views[name] for name in groups if name in engine.views}
                engine.outputs.append(FrameDelivered(tuple(recipients), me, level, payload, views))
        return self._accepted(session, stable)

    def send_private(
        self,
        session: int,
        client: str,
        node_name: str,
        payload: bytes,
        level: Level,
        now: float,
        *,
        stable: bool = False,
    ) -> int:
        self.world.look_for_dead()
        me = self.sessions[session]
        for node in self.world.members:
            for number, member in sorted(self.world.engines[node].sessions.items()):
                if (member.client, node.name) == (client, node_name):
                    frame = FrameDelivered(((number, ()),), me, level, payload, {})
                    self.world.engines[node].outputs.append(frame)
                    return self._accepted(session, stable)
        self.outputs.append(PrivateUndeliverable(session, f"{client}@{node_name}"))
        return self._accepted(session, stable)

    def sessions_in(self, members: Sequence[MemberId]) -> tuple[int, ...]:
        """The own sessions among members."""
        return tuple(one.session for one in members if one.node == self.node)

    def _accepted(self, session: int, stable: bool) -> int:
        self.ticket_count += 1
        self.outputs.append(SendAccepted(session, self.ticket_count, not stable))
        self.wake = True
        return self.ticket_count

    def queued_bytes(self, session: int) -> int:
        return 0

    def member(self, session: int) -> MemberId:
        return self.sessions[session]

    def leave_cluster(self, now: float) -> None:
        self.world.install(tuple(one for one in self.world.members if one != self.node), Reason.NODE_LEAVE)
        self.outputs.append(Stopped("left", True))
        self.wake = True

    def datagrams_to_send(self, now: float) -> list[Datagram]:
        wake, self.wake = self.wake, False
        return [Datagram(b"wake", None)] if wake else []

    def take_outputs(self) -> list[Output]:
        taken, self.outputs = self.outputs, []
        return taken

    def next_deadline(self) -> float | None:
        return self.next_at

    def status(self, now: float) -> NodeStatus:
        view = self.world.view_id() if self.world.members else None
        members = self.world.members
        return NodeStatus(
            self.node, "perfect", "operational", view, members, None, True, (), (), 0, 0, 0, {"datagrams_sent": 0}
        )

    def check_invariants(self) -> None: ...

    @property
    def blocked(self) -> bool:
        return False
