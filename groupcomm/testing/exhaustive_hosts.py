"""One node as a function: a state and an input give the next state and what it causes.

Decides what a turn of a node is, and when two states are one: when all the engine holds, field by field, and all that
happened at the node so far, are equal. So a search executes each turn once, however often it comes by; that is what
makes it possible to look at every interleaving of a small world.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TypeAlias, cast

from attrs import frozen

from groupcomm.config import EngineConfig
from groupcomm.events import Level
from groupcomm.identity import MemberId, NodeId, ViewId
from groupcomm.outputs import (
    Address,
    FrameDelivered,
    GroupLeft,
    GroupSignalDelivered,
    GroupViewDelivered,
    NodeSignal,
    NodeViewInstalled,
    Output,
    ProbeWanted,
    SendAccepted,
    Stopped,
    WatchChanged,
)
from groupcomm.packing import pack_messages, unpack_messages
from groupcomm.testing import trace as traces
from groupcomm.testing.exhaustive_snapshots import Fingerprints, SameDraw, duplicate
from groupcomm.testing.interface import EngineFactory, EngineInterface

GROUP = "chat"
CLIENT = "c"
BUSY_TIMEOUTS = 20
"""An engine whose deadline does not move in so many timeouts at one instant is in a busy loop."""

LIVE_HOSTS = 2000
"""States whose objects are kept; those of an older one are made again from an ancestor when it is needed."""

Command: TypeAlias = tuple[str, ...]
"""What the client or the operator of a node does: ``open``, ``join``, ``leave``, or ``send`` with label and level."""

Input: TypeAlias = tuple[str, float, object]
"""``packet`` (source address, bytes), ``timer``, ``refused`` (a node), ``start`` or ``command``; with the time."""

Situation: TypeAlias = tuple[str, tuple[ViewId | None, int]]
"""What an engine says of itself, its view, and of how many nodes that is."""


@frozen
class Effects:
    """What a turn has caused.

    Attributes:
        datagrams: bytes and the address they go to; None for all others.
        events: what is to be noted in the trace, at time 0.0: the search knows the time.
        asked: nodes of which this one wants to know whether they are dead.
    """

    datagrams: tuple[tuple[bytes, Address | None], ...]
    events: tuple[traces.TraceEvent, ...]
    asked: tuple[NodeId, ...]


class Host:
    """A node process with one client, which may be in one group.

    Attributes:
        identity: the process.
        engine: the product's, or what a test puts in its place.
        deadline: when it wants to be called; None if never.
        watched: its neighbours.
        waiting: the labels of what the client has sent and the node has not reported on, by ticket.
        stopped: the engine has ended.
        phase: what the engine says of itself.
        view: its view, and of how many nodes that is.
    """

    def __init__(self, identity: NodeId, address: Address, draw: float, factory: EngineFactory, now: float) -> None:
        self.identity = identity
        self.engine: EngineInterface = factory(EngineConfig(), identity, SameDraw(draw), now)
        self.deadline: float | None = None
        self.watched: tuple[NodeId, ...] = ()
        self.waiting: dict[int, str] = {}
        self.stopped = False
        self.phase = ""
        self.view: tuple[ViewId | None, int] = (None, 0)
        self._address = address
        self._member: MemberId | None = None

    def take(self, given: Input) -> Effects:
        """One turn. Its own multicasts come back at once, in turns of their own, before anything else does."""
        kind, now, what = given
        datagrams: list[tuple[bytes, Address | None]] = []
        events: list[traces.TraceEvent] = []
        asked: list[NodeId] = []
        engine = self.engine
        if kind == "packet":
            source, data = cast(tuple[Address, bytes], what)
            engine.datagram_received(data, source, now)
            engine.burst_ended(now)
        elif kind == "timer":
            self._time_out(now)
        elif kind == "refused":
            engine.peer_refused(cast(NodeId, what), now)
        else:
            self._command(cast(Command, what), events, now)
            engine.burst_ended(now)
        own = self._collect(datagrams, events, asked, now)
        while own and not self.stopped:
            for data in own:
                engine.datagram_received(data, self._address, now)
            engine.burst_ended(now)
            own = self._collect(datagrams, events, asked, now)
        self.deadline = None if self.stopped else engine.next_deadline()
        status = engine.status(now)
        self.phase, self.view = status.state, (status.view, len(status.members))
        return Effects(tuple(datagrams), tuple(events), tuple(asked))

    def end(self, how: str) -> list[traces.TraceEvent]:
        """What the trace says when the process is gone."""
        events: list[traces.TraceEvent] = [] if self._member is None else [traces.Closed(0.0, self._member)]
        return [*events, traces.NodeEnded(0.0, self.identity, how)]

    def _time_out(self, now: float) -> None:
        for _ in range(BUSY_TIMEOUTS):
            self.engine.handle_timeout(now)
            deadline = self.engine.next_deadline()
            if deadline is None or deadline > now:
                return
        raise AssertionError(f"the engine of {self.identity} wants to be called again and again at {now}")

    def _command(self, command: Command, events: list[traces.TraceEvent], now: float) -> None:
        engine, name = self.engine, command[0]
        if name == "start":
            events.append(traces.NodeStarted(0.0, self.identity))
            engine.start(now)
        elif name == "open":
            self._member = engine.member(engine.open_session(CLIENT, now))
            events.append(traces.Opened(0.0, self._member))
        elif name == "leave":
            engine.leave_cluster(now)
        elif self._member is None:
            raise ValueError(f"{command} before the session is open")
        elif name == "join":
            engine.join(self._member.session, GROUP, now)
            events.append(traces.JoinAsked(0.0, self._member, GROUP))
        elif name == "send":
            label, level = command[1], Level[command[2]]
            data = f"{label}|".encode()
            ticket = engine.send(self._member.session, (GROUP,), pack_messages([data]), level, now)
            self.waiting[ticket] = label
            events.append(
                traces.Sent(0.0, self._member, label, traces.message_digest(data), level, (GROUP,), None, False)
            )
        else:
            raise ValueError(f"no such command: {command}")

    def _collect(
        self,
        datagrams: list[tuple[bytes, Address | None]],
        events: list[traces.TraceEvent],
        asked: list[NodeId],
        now: float,
    ) -> list[bytes]:
        """Take what the engine has to say; returns the multicasts, which come back."""
        self.engine.check_invariants()
        own = []
        for datagram in self.engine.datagrams_to_send(now):
            for data in datagram.pieces:
                assert len(data) <= EngineConfig().mtu_bytes, "a datagram over the MTU"
                datagrams.append((data, datagram.destination))
                if datagram.destination in (None, self._address):
                    own.append(data)
        for output in self.engine.take_outputs():
            self._act_on(output, events, asked)
        return own

    def _act_on(self, output: Output, events: list[traces.TraceEvent], asked: list[NodeId]) -> None:
        member = self._member
        match output:
            case NodeViewInstalled():
                events.append(traces.NodeViewSeen(0.0, self.identity, output))
            case NodeSignal():
                events.append(traces.NodeSignalSeen(0.0, self.identity))
            case WatchChanged():
                self.watched = tuple(node for node, _ in output.peers)
                asked.extend(self.watched)
            case ProbeWanted():
                asked.append(output.node)
            case Stopped():
                self.stopped = True
                events.extend(self.end("left" if output.clean else output.reason))
            case _ if member is not None:
                self._client_sees(member, output, events)

    def _client_sees(self, member: MemberId, output: Output, events: list[traces.TraceEvent]) -> None:
        match output:
            case FrameDelivered():
                for _, groups in output.recipients:
                    for data in unpack_messages(output.payload):
                        view = output.views[groups[0]]
                        label, digest = traces.message_label(data), traces.message_digest(data)
                        delivered = traces.Delivered(
                            0.0, member, label, digest, output.sender, output.level, groups, view
                        )
                        events.append(delivered)
            case GroupViewDelivered():
                events.append(traces.ViewSeen(0.0, member, output.view))
            case GroupSignalDelivered():
                events.append(traces.SignalSeen(0.0, member, output.group))
            case GroupLeft():
                events.append(traces.LeftSeen(0.0, member, output.group, output.reason))
            case SendAccepted():
                label = self.waiting.pop(output.ticket)
                events.append(traces.Accepted(0.0, member, (label,), False, output.complete))


class LiveHosts:
    """Hosts that change: for the parts of a run in which nothing is chosen. A host's number is its place."""

    def __init__(self, hosts: list[Host]) -> None:
        self.hosts = hosts

    def step(self, number: int, given: Input) -> tuple[int, Effects]:
        """One turn of a host."""
        return number, self.hosts[number].take(given)

    def host(self, number: int) -> Host:
        """The host, to be looked at."""
        return self.hosts[number]

    def deadline(self, number: int) -> float | None:
        """When it wants to be called."""
        return self.hosts[number].deadline

    def watched(self, number: int) -> tuple[NodeId, ...]:
        """Its neighbours; none if it has ended."""
        return self.hosts[number].watched

    def stopped(self, number: int) -> bool:
        """Whether it has ended."""
        return self.hosts[number].stopped

    def situation(self, number: int) -> Situation:
        """Its phase and its view."""
        return self.hosts[number].phase, self.hosts[number].view


class HostStates:
    """Every state that a host was seen in, by number, and every turn that was taken."""

    def __init__(self) -> None:
        self.turns = 0
        self._numbers: dict[tuple[bytes, int], int] = {}
        self._histories: dict[tuple[int, tuple[traces.TraceEvent, ...]], int] = {}
        self._history: list[int] = []
        self._origins: list[tuple[int, Input] | None] = []
        self._looks: list[tuple[float | None, tuple[NodeId, ...], bool, Situation]] = []
        self._live: OrderedDict[int, Host] = OrderedDict()
        self._steps: dict[tuple[int, Input], tuple[int, Effects]] = {}
        self._fingerprints = Fingerprints()

    def __len__(self) -> int:
        return len(self._history)

    def add(self, host: Host) -> int:
        """A state to begin with; it is kept."""
        number = self._note(host, -1 - len(self), None)
        self._live.move_to_end(number)
        return number

    def step(self, number: int, given: Input) -> tuple[int, Effects]:
        """The state after this input, and what it causes."""
        found = self._steps.get((number, given))
        if found is None:
            host = duplicate(self.host(number))
            self.turns += 1
            effects = host.take(given)
            history = self._history[number]
            if effects.events:
                history = self._histories.setdefault((history, effects.events), len(self._histories))
            found = self._steps[number, given] = self._note(host, history, (number, given)), effects
        return found

    def deadline(self, number: int) -> float | None:
        """When the host wants to be called in this state."""
        return self._looks[number][0]

    def watched(self, number: int) -> tuple[NodeId, ...]:
        """Its neighbours in this state."""
        return self._looks[number][1]

    def stopped(self, number: int) -> bool:
        """Whether it has ended in this state."""
        return self._looks[number][2]

    def situation(self, number: int) -> Situation:
        """Its phase and its view in this state."""
        return self._looks[number][3]

    def history(self, number: int) -> int:
        """Equal for states in which the same has happened at the node."""
        return self._history[number]

    def host(self, number: int) -> Host:
        """The host in this state, to be looked at only."""
        path: list[Input] = []
        at = number
        while at not in self._live:
            origin = self._origins[at]
            assert origin is not None
            at, given = origin
            path.append(given)
        host = self._live[at]
        if self._origins[at] is not None:
            self._live.move_to_end(at)
        if path:
            host = duplicate(host)
            for given in reversed(path):
                host.take(given)
            self._keep(number, host)
        return host

    def _note(self, host: Host, history: int, origin: tuple[int, Input] | None) -> int:
        key = self._fingerprints.of(host), history
        number = self._numbers.get(key)
        if number is None:
            number = self._numbers[key] = len(self._history)
            self._history.append(history)
            self._origins.append(origin)
            self._looks.append((host.deadline, host.watched, host.stopped, (host.phase, host.view)))
            self._keep(number, host)
        return number

    def _keep(self, number: int, host: Host) -> None:
        self._live[number] = host
        if len(self._live) > LIVE_HOSTS:
            for old in self._live:
                if self._origins[old] is not None:
                    del self._live[old]
                    break
