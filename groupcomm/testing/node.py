"""One node of a simulated cluster: the product's engine, driven as a reactor would drive it, and its clients.

Decides when the engine gets to run: datagrams wait in a bounded socket buffer and are handed over in bursts, one timer
follows the engine's deadline, a paused node runs nothing and finds its timers late. The order of every step is fixed:
input, datagrams, outputs, deadline. The node's clock is its own: another zero than its neighbours', another speed if
asked.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from attrs import define, field

from groupcomm.events import Event, Left, Level, Message, Outside, Reason, TransitionalSignal, Undeliverable, View
from groupcomm.identity import MemberId, NodeId
from groupcomm.outputs import (
    Address,
    FrameDelivered,
    GroupLeft,
    GroupSignalDelivered,
    GroupViewDelivered,
    HostWanted,
    KeyRotated,
    NodeEvicted,
    NodeExpelled,
    NodeSignal,
    NodeViewInstalled,
    Output,
    PacketsRefused,
    PrivateUndeliverable,
    ProbeWanted,
    QuorumKept,
    ReceiverSlow,
    SendAccepted,
    SessionWritable,
    Stopped,
    WatchChanged,
)
from groupcomm.packing import pack_messages, unpack_messages
from groupcomm.quorum.votes import Memory
from groupcomm.status import NodeStatus
from groupcomm.testing import trace as traces
from groupcomm.testing.disk import MemoryWriter
from groupcomm.testing.interface import EngineInterface

if TYPE_CHECKING:
    from groupcomm.testing.cluster import Cluster
    from groupcomm.testing.scheduler import ScheduledCall

T = TypeVar("T")

MAX_SEGMENTS = 64
"""Datagrams that one receive gives at most, where the kernel joins them."""

BURST_DATAGRAMS = 64
"""Datagrams one turn hands over at most."""

PAUSED_SECONDS = 0.01
"""How often a paused process is looked at by what has something for it."""

TURN_SECONDS = 0.00005
"""What one turn takes at least unless told otherwise: datagrams that come meanwhile share the next."""

SOCKET_BUFFER_BYTES = 4 * 1024 * 1024
"""What waits in a node's socket buffer at most unless told otherwise; more is dropped, as a kernel does."""

CLOCK_RESOLUTION_SECONDS = 1e-9
"""A timer that is early by no more than this is on time."""

BUSY_TIMEOUTS = 20
"""An engine whose deadline does not move in so many timeouts at one instant is in a busy loop."""


@define(eq=False)
class Sending:
    """One frame handed over by a client: how far it has come.

    Attributes:
        messages: the labels of its messages.
        stable: whether word was asked for when every node has delivered it.
        accepted: whether the node has reported on it.
        complete: what it reported; None before.
    """

    messages: tuple[str, ...]
    stable: bool
    accepted: bool = False
    complete: bool | None = None


@define(eq=False)
class SimulatedClient:
    """A client session on a simulated node.

    Attributes:
        node: its node.
        member: who it is to the others.
        events: everything it received, in order.
        listener: called with each event; may send, join and leave.
        live: until it is closed or its node dies.
    """

    node: SimulatedNode
    session: int
    member: MemberId
    events: list[Event] = field(factory=list)
    listener: Callable[[Event], None] | None = None
    live: bool = True
    writable_count: int = 0
    _joining: set[str] = field(factory=set)
    _leaving: set[str] = field(factory=set)

    def join(self, group: str, outside: Outside = Outside.GO_ON) -> None:
        """Ask to join; the first ``View`` tells when it is done."""
        self.node.command(lambda engine, now: engine.join(self.session, group, now, outside=outside))
        self._joining.add(group)
        self.node.record(traces.JoinAsked(self.node.cluster.now, self.member, group))

    def leave(self, group: str) -> None:
        """Ask to leave; ``Left`` tells when it is done."""
        self.node.command(lambda engine, now: engine.leave(self.session, group, now))
        self._leaving.add(group)
        self.node.record(traces.LeaveAsked(self.node.cluster.now, self.member, group))

    def close(self, reason: Reason = Reason.DISCONNECT) -> None:
        """End the session."""
        self.live = False
        self.node.record(traces.Closed(self.node.cluster.now, self.member))
        self.node.command(lambda engine, now: engine.close_session(self.session, reason, now))
        self.node.forget(self)

    def send(
        self,
        groups: str | Sequence[str],
        data: bytes | Sequence[bytes],
        *,
        level: Level = Level.AGREED,
        stable: bool = False,
        self_discard: bool = False,
    ) -> Sending:
        """Send one message, or several in one frame, to one group or several."""
        names = (groups,) if isinstance(groups, str) else tuple(groups)
        messages = [data] if isinstance(data, bytes) else list(data)
        payload = pack_messages(messages)
        ticket = self.node.command(
            lambda engine, now: engine.send(
                self.session, names, payload, level, now, self_discard=self_discard, stable=stable
            )
        )
        return self._sent(ticket, messages, level, names, None, stable=stable, self_discard=self_discard)

    def send_private(
        self, client: str, node_name: str, data: bytes, *, level: Level = Level.AGREED, stable: bool = False
    ) -> Sending:
        """Send one message to one client."""
        payload = pack_messages([data])
        ticket = self.node.command(
            lambda engine, now: engine.send_private(self.session, client, node_name, payload, level, now, stable=stable)
        )
        return self._sent(ticket, [data], level, (), f"{client}@{node_name}", stable=stable, self_discard=False)

    def messages(self, group: str | None = None) -> list[bytes]:
        """The bytes of the messages received so far, of one group or of all."""
        return [
            event.data
            for event in self.events
            if isinstance(event, Message) and (group is None or group in event.groups)
        ]

    def views(self, group: str) -> list[View]:
        """The views of a group received so far."""
        return [event for event in self.events if isinstance(event, View) and event.group == group]

    def view(self, group: str) -> View | None:
        """The group's current view; None if this client is not in it."""
        for event in reversed(self.events):
            if isinstance(event, View) and event.group == group:
                return event
            if isinstance(event, Left) and event.group == group:
                return None
        return None

    def joining(self, group: str) -> bool:
        """Whether a join was asked for and its first view has not come."""
        return group in self._joining

    def leaving(self, group: str) -> bool:
        """Whether a leave was asked for and ``Left`` has not come."""
        return group in self._leaving

    def deliver(self, event: Event) -> None:
        """Take one event (called by the node)."""
        self.events.append(event)
        if isinstance(event, View):
            self._joining.discard(event.group)
        elif isinstance(event, Left):
            self._joining.discard(event.group)
            self._leaving.discard(event.group)
        if self.listener is not None:
            self.listener(event)

    def _sent(
        self,
        ticket: int,
        messages: Sequence[bytes],
        level: Level,
        groups: tuple[str, ...],
        recipient: str | None,
        *,
        stable: bool,
        self_discard: bool,
    ) -> Sending:
        labels = tuple(traces.message_label(message) for message in messages)
        sending = Sending(labels, stable)
        self.node.sendings[self.session, ticket] = sending
        for label, message in zip(labels, messages, strict=True):
            self.node.record(
                traces.Sent(
                    self.node.cluster.now,
                    self.member,
                    label,
                    traces.message_digest(message),
                    level,
                    groups,
                    recipient,
                    self_discard,
                )
            )
        return sending


@define(eq=False)
class SimulatedNode:
    """A host with one node process on it.

    Attributes:
        cluster: the cluster it lives in.
        name: of the node and its host.
        addresses: of its own sockets, by link; a restart keeps them.
        engine: the running process's engine.
        identity: the running process.
        process_alive: whether a process runs (paused ones do).
        host_alive: whether the kernel answers.
        paused: whether the process is stopped.
        receive_offload: whether its kernel gives several datagrams of one size with one receive.
        leaving: whether it was asked to leave the cluster: its sessions are closed, it only waits for the others.
        stopped: what the engine said when it ended.
        clients: live sessions by number.
        sendings: frames handed over, by session and ticket.
        slow_news: what it said of slow receivers, in order.
        key_news: what it said of keys, in order.
        turn_seconds: what one turn takes at least; a large one makes a slow receiver.
        buffer_bytes: what the socket holds while the process is busy.
        disk: what writes the process's memory.
    """

    cluster: Cluster
    name: str
    addresses: tuple[Address, ...]
    clock_zero: float
    clock_rate: float
    identity: NodeId
    engine: EngineInterface
    process_alive: bool = True
    host_alive: bool = True
    paused: bool = False
    receive_offload: bool = True
    leaving: bool = False
    stopped: Stopped | None = None
    clients: dict[int, SimulatedClient] = field(factory=dict)
    sendings: dict[tuple[int, int], Sending] = field(factory=dict)
    watched: tuple[tuple[NodeId, Address], ...] = ()
    views: list[NodeViewInstalled] = field(factory=list)
    slow_news: list[ReceiverSlow | NodeEvicted] = field(factory=list)
    key_news: list[KeyRotated | NodeExpelled | PacketsRefused] = field(factory=list)
    buffer_drops: int = 0
    turn_seconds: float = TURN_SECONDS
    buffer_bytes: int = SOCKET_BUFFER_BYTES
    _buffer: deque[tuple[bytes, Address, int, bool]] = field(factory=deque)
    _buffered_bytes: int = 0
    _wake: ScheduledCall | None = None
    _burst_end: ScheduledCall | None = None
    _timer: ScheduledCall | None = None
    _deadline: float | None = None
    _busy_until: float = 0.0
    _paused_at: float = 0.0
    _local_now: float = 0.0
    _outputs: deque[Output] = field(factory=deque)
    _dispatching: bool = False
    disk: MemoryWriter = field(init=False)

    def __attrs_post_init__(self) -> None:
        cluster = self.cluster
        stream = random.Random(f"{cluster.seed}/disk/{self.name}/{self.identity.incarnation}")
        self.disk = MemoryWriter(cluster.scheduler, stream, cluster.disk_seconds, self._write, self._written)

    @property
    def address(self) -> Address:
        """On the first link."""
        return self.addresses[0]

    # Faults and commands

    def open(self, client: str) -> SimulatedClient:
        """Open a client session."""
        session = self.command(lambda engine, now: engine.open_session(client, now))
        member = self.engine.member(session)
        opened = SimulatedClient(self, session, member)
        self.clients[session] = opened
        self.record(traces.Opened(self.cluster.now, member))
        return opened

    def leave(self) -> None:
        """Leave the cluster in good order."""
        self.record(traces.NodeLeaving(self.cluster.now, self.identity))
        self.leaving = True
        self.command(lambda engine, now: engine.leave_cluster(now))

    def crash(self) -> None:
        """Kill the process; the host's kernel resets its connections."""
        self._end("crash")
        self.cluster.process_died(self)

    def vanish(self) -> None:
        """Switch the host off: nothing answers any more."""
        self.host_alive = False
        self._end("vanish")

    def restart(self) -> SimulatedNode:
        """Start a new process with the same name and address and a higher incarnation; ends one that still runs.

        Returns:
            The node from now on: this object stays what it is, a dead process.
        """
        if self.process_alive:
            self.crash()
        return self.cluster.restart(self)

    def pause(self) -> None:
        """Stop the process as SIGSTOP does: its kernel still takes datagrams, as many as the buffer holds."""
        if not self.paused and self.process_alive:
            self.paused = True
            self._paused_at = self.cluster.now
            self.record(traces.Fault(self.cluster.now, f"{self.name} pauses"))

    def resume(self) -> None:
        """Let it run on: all timers are late, the buffer is full of old datagrams."""
        if not self.paused:
            return
        self.paused = False
        self.record(traces.Fault(self.cluster.now, f"{self.name} resumes"))
        if self.process_alive:
            seconds = self.cluster.now - self._paused_at
            self._input(lambda engine, now: engine.stalled(seconds * self.clock_rate, now))
            self._end_burst()
            self._wake_soon()

    def jump_clock(self, seconds: float) -> None:
        """Its clock leaps, as that of a virtual machine that was moved; the engine's time never goes back."""
        self.record(traces.Fault(self.cluster.now, f"the clock of {self.name} jumps by {seconds:.3f} s"))
        self.clock_zero += seconds
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self.running:
            self._set_timer()
        if self.running and seconds > 0.0:
            self._input(lambda engine, now: engine.stalled(seconds, now))
        if self.running:
            self._input(lambda engine, now: engine.clock_jumped(now))

    def rotate_key(self) -> None:
        """Ask it to bring the view to the next key epoch."""
        self.record(traces.Fault(self.cluster.now, f"{self.name} rotates the key"))
        self.command(lambda engine, now: engine.rotate_key(now))

    def expel(self, name: str) -> None:
        """Ask it to expel another node."""
        self.record(traces.Fault(self.cluster.now, f"{self.name} expels {name}"))
        self.command(lambda engine, now: engine.expel(name, now))

    def command(self, function: Callable[[EngineInterface, float], T]) -> T:
        """Give the engine one command; the burst that it is part of ends when this instant does."""
        result = function(self.engine, self.local_now())
        if self._burst_end is None:
            self._burst_end = self.cluster.scheduler.call_later(0.0, self._end_burst)
        return result

    def status(self) -> NodeStatus:
        """What the engine says of itself."""
        return self.engine.status(self.local_now())

    def record(self, event: traces.TraceEvent) -> None:
        """Append to the trace of the run."""
        self.cluster.trace.append(event)

    def forget(self, client: SimulatedClient) -> None:
        """The session is closed: nothing reaches it any more."""
        self.clients.pop(client.session, None)

    # What the driver does

    def local_now(self) -> float:
        """The time on this node's own clock."""
        self._local_now = max(self._local_now, self.clock_zero + self.cluster.now * self.clock_rate)
        return self._local_now

    def begin(self) -> None:
        """Open the socket and start the engine."""
        for link, address in enumerate(self.addresses):
            self.cluster.network.attach(address, partial(self._datagram_arrived, link=link), link)
        self.record(traces.NodeStarted(self.cluster.now, self.identity))
        self._input(lambda engine, now: engine.start(now))

    def hint(self, address: Address) -> None:
        """Discovery found somebody."""
        if self.running:
            self._input(lambda engine, now: engine.add_hint(address, now))

    def refuse(self, node: NodeId) -> None:
        """The neighbour watch saw that ``node`` is dead."""
        if self.running:
            self._input(lambda engine, now: engine.peer_refused(node, now))

    def host_answers(self, node: NodeId) -> None:
        """The host of a neighbour has acknowledged something on the watch's connection."""
        if self.running:
            self._input(lambda engine, now: engine.host_answers(node, now))

    def _write(self, memory: Memory) -> None:
        if self.process_alive and self.cluster.keeps_memory:
            self.cluster.disks[self.name] = memory

    def _written(self, number: int) -> None:
        if self.running:
            self._input(lambda engine, now: engine.memory_kept(number, now))
            self._end_burst()
        elif self.process_alive:
            self.cluster.scheduler.call_later(PAUSED_SECONDS, partial(self._written, number))

    @property
    def running(self) -> bool:
        """Whether the process is alive and not paused."""
        return self.process_alive and not self.paused

    def _datagram_arrived(self, data: bytes, source: Address, link: int = 0) -> None:
        if self._buffered_bytes + len(data) > self.buffer_bytes:
            self.buffer_drops += 1
            return
        self._buffer.append((data, source, link, self.cluster.network.multicast))
        self._buffered_bytes += len(data)
        self._wake_soon()

    def _wake_soon(self) -> None:
        if self._wake is None and self.running and self._buffer:
            self._wake = self.cluster.scheduler.call_at(self._busy_until, self._read_burst)

    def _read_burst(self) -> None:
        self._wake = None
        if not self.running:
            return
        now = self.local_now()
        self._busy_until = self.cluster.now + self.turn_seconds
        left = BURST_DATAGRAMS
        while left > 0 and self._buffer:
            run, source = self._take_run()
            left -= len(run)
            if len(run) == 1:
                self.engine.datagram_received(run[0], source, now)
            else:
                self.engine.run_received(b"".join(run), len(run[0]), source, now)
        self._wake_soon()
        self._end_burst()

    def _take_run(self) -> tuple[list[bytes], Address]:
        """What one receive gives: a datagram, or what a kernel that joins datagrams has made one run of."""
        data, source, link, multicast = self._buffer.popleft()
        self.engine.reading(link, multicast)
        run, size = [data], len(data)
        while self.receive_offload and self._buffer and len(run) < MAX_SEGMENTS:
            following, *from_where = self._buffer[0]
            if from_where != [source, link, multicast] or not 0 < len(following) <= size or len(run[-1]) < size:
                break
            run.append(following)
            self._buffer.popleft()
        self._buffered_bytes -= sum(map(len, run))
        return run, source

    def _end_burst(self) -> None:
        if self._burst_end is not None:
            self._burst_end.cancel()
            self._burst_end = None
        if self.running:
            self._input(lambda engine, now: engine.burst_ended(now))

    def _input(self, function: Callable[[EngineInterface, float], None]) -> None:
        function(self.engine, self.local_now())
        self._after_input()

    def _after_input(self) -> None:
        if self.cluster.check_invariants:
            self.engine.check_invariants()
        datagrams = self.engine.datagrams_to_send(self.local_now())
        if self.cluster.watchers is not None:
            for datagram in datagrams:
                self.cluster.watchers.datagram_sent(datagram, self.address)
        for datagram in self.engine.seal(datagrams):
            self.cluster.network.send(datagram, self.addresses[datagram.link])
        self._outputs.extend(self.engine.take_outputs())
        self._dispatch()
        if self.cluster.watchers is not None:
            self.cluster.watchers.turn_ended(self)
        if self.process_alive:
            self._set_timer()

    def _set_timer(self) -> None:
        self._deadline = deadline = self.engine.next_deadline()
        if deadline is None:
            return
        at = (deadline - self.clock_zero) / self.clock_rate
        if self._timer is not None:
            if self._timer.at <= at:
                return  # it fires early, and is then set anew
            self._timer.cancel()
        self._timer = self.cluster.scheduler.call_at(at, self._timeout)

    def _timeout(self) -> None:
        self._timer = None
        if not self.running or self._deadline is None:
            return
        if self._deadline > self.local_now() + CLOCK_RESOLUTION_SECONDS:
            self._set_timer()
            return
        self._local_now = max(self._local_now, self._deadline)
        for _ in range(BUSY_TIMEOUTS):
            self._input(lambda engine, now: engine.handle_timeout(now))
            deadline = self.engine.next_deadline() if self.process_alive else None
            if deadline is None or deadline > self._local_now:
                return
        raise AssertionError(f"the engine of {self.name} wants to be called again and again at {self._local_now}")

    def _dispatch(self) -> None:
        if self._dispatching:
            return
        self._dispatching = True
        try:
            while self._outputs:
                self._act_on(self._outputs.popleft())
        finally:
            self._dispatching = False

    def _act_on(self, output: Output) -> None:
        at = self.cluster.now
        match output:
            case FrameDelivered():
                self._deliver_frame(output)
            case GroupViewDelivered():
                for client in self._live(output.sessions):
                    self.record(traces.ViewSeen(at, client.member, output.view))
                    client.deliver(output.view)
            case GroupSignalDelivered():
                for client in self._live(output.sessions):
                    self.record(traces.SignalSeen(at, client.member, output.group))
                    client.deliver(TransitionalSignal(output.group))
            case GroupLeft():
                for client in self._live((output.session,)):
                    self.record(traces.LeftSeen(at, client.member, output.group, output.reason))
                    client.deliver(Left(output.group, output.reason))
            case PrivateUndeliverable():
                for client in self._live((output.session,)):
                    self.record(traces.UndeliverableSeen(at, client.member, output.recipient))
                    client.deliver(Undeliverable(output.recipient))
            case SendAccepted():
                self._accepted(output)
            case SessionWritable():
                for client in self._live((output.session,)):
                    client.writable_count += 1
            case QuorumKept():
                self.disk.keep(output)
            case NodeViewInstalled():
                self.views.append(output)
                self.record(traces.NodeViewSeen(at, self.identity, output))
            case ReceiverSlow() | NodeEvicted():
                self.slow_news.append(output)
            case KeyRotated() | NodeExpelled() | PacketsRefused():
                self.key_news.append(output)
            case NodeSignal():
                self.record(traces.NodeSignalSeen(at, self.identity))
            case WatchChanged():
                self.watched = output.peers
                self.cluster.watch_changed(self)
            case HostWanted():
                self.cluster.ask_host(self, output.node)
            case ProbeWanted():
                self.cluster.probe(self, output.node, output.address)
            case Stopped():
                self.stopped = output
                if self.cluster.watchers is not None:
                    self.cluster.watchers.ended(self, len(self._outputs))
                self._end("left" if output.clean else output.reason)
                self.cluster.process_died(self)

    def _deliver_frame(self, frame: FrameDelivered) -> None:
        messages = unpack_messages(frame.payload)
        if frame.level is Level.SAFE and self.cluster.watchers is not None:
            for data in messages:
                self.cluster.watchers.delivers_safe(self, traces.message_label(data))
        for session, groups in frame.recipients:
            for client in self._live((session,)):
                for data in messages:
                    if not client.live:
                        break
                    view = frame.views[groups[0]] if groups else None
                    self.record(
                        traces.Delivered(
                            self.cluster.now,
                            client.member,
                            traces.message_label(data),
                            traces.message_digest(data),
                            frame.sender,
                            frame.level,
                            groups,
                            view,
                        )
                    )
                    client.deliver(Message(groups, frame.sender, frame.level, data, view))

    def _accepted(self, output: SendAccepted) -> None:
        sending = self.sendings.get((output.session, output.ticket))
        assert sending is not None, f"{self.name} reports on ticket {output.ticket}, which was never given"
        assert not sending.accepted, f"{self.name} reports twice on ticket {output.ticket}"
        sending.accepted, sending.complete = True, output.complete
        if self.cluster.watchers is not None:
            self.cluster.watchers.accepted(self, sending)
        for client in self._live((output.session,)):
            self.record(
                traces.Accepted(self.cluster.now, client.member, sending.messages, sending.stable, output.complete)
            )

    def _live(self, sessions: Sequence[int]) -> list[SimulatedClient]:
        return [self.clients[session] for session in sessions if session in self.clients]

    def _end(self, how: str) -> None:
        if not self.process_alive:
            return
        self.process_alive = False
        self.paused = False
        for address in self.addresses:
            self.cluster.network.detach(address)
        for call in (self._wake, self._burst_end, self._timer):
            if call is not None:
                call.cancel()
        self._outputs.clear()
        self._buffer.clear()
        for session in sorted(self.clients):
            client = self.clients[session]
            client.live = False
            self.record(traces.Closed(self.cluster.now, client.member))
        self.clients.clear()
        self.record(traces.NodeEnded(self.cluster.now, self.identity, how))
