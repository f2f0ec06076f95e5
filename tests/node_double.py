"""An engine that records what it is told and says what a test gives it; a reactor and sockets to go with it."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from typing import Any, cast

from twisted.internet.defer import Deferred, maybeDeferred, succeed
from twisted.internet.task import Clock
from twisted.internet.testing import MemoryReactor

from groupcomm.config import EngineConfig
from groupcomm.errors import NameInUse
from groupcomm.events import Level, Outside, Reason, View
from groupcomm.identity import GroupViewId, MemberId, NodeId, ViewId
from groupcomm.interfaces import IDiscovery
from groupcomm.net.interfaces import NetworkInterface
from groupcomm.net.reactor import INodeReactor
from groupcomm.net.sockets import DatagramSink, SocketConfig
from groupcomm.net.watch import BannerFactory
from groupcomm.node import NodeConfig, NodeSeams
from groupcomm.node.service import Node
from groupcomm.outputs import Address, Datagram, Output, Stopped
from groupcomm.status import LinkStatus, NodeStatus

LOOPBACK = NetworkInterface("lo", 1, "127.0.0.1", loopback=True, multicast=False)


class RecordingEngine:
    """Has the interface of ``Engine``; ``calls`` has each call as a tuple without its time, ``times`` the times."""

    def __init__(self, config: EngineConfig, node: NodeId, rng: random.Random, now: float) -> None:
        self.config = config
        self.node = node
        self.calls: list[tuple[Any, ...]] = []
        self.times: list[float] = []
        self.outputs: list[Output] = []
        self.datagrams: list[Datagram] = []
        self.deadline: float | None = None
        self.refusal: Exception | None = None
        self.queued = 0
        self.sealed_after_jumps: list[int] = []
        self.stop_at_once = True
        self._names: dict[int, str] = {}
        self._sessions = 0
        self._tickets = 0
        self._busy = False

    def _call(self, now: float, *call: Any) -> None:
        assert not self.times or now >= self.times[-1], "time went back"
        self.times.append(now)
        self.calls.append(call)

    def named(self, *names: str) -> list[tuple[Any, ...]]:
        """The calls of these names."""
        return [call for call in self.calls if call[0] in names]

    def links(self, addresses: Sequence[Address], most_bytes: Sequence[int]) -> None:
        self.told_links = tuple(addresses), tuple(most_bytes)

    def start(self, now: float) -> None:
        self._call(now, "start")

    def reading(self, link: int, multicast: bool) -> None:
        self.calls.append(("reading", link, multicast))

    def datagram_received(self, data: bytes, source: Address, now: float) -> None:
        self._call(now, "datagram_received", data, source)

    def run_received(self, data: bytes, size_bytes: int, source: Address, now: float) -> None:
        self._call(now, "run_received", data, size_bytes, source)

    settled = False

    def clock_jumped(self, now: float) -> None:
        self._call(now, "clock_jumped")

    def rotate_key(self, now: float) -> None:
        self._call(now, "rotate_key")
        if self.refusal is not None:
            raise self.refusal

    def expel(self, name: str, now: float) -> None:
        self._call(now, "expel", name)
        if self.refusal is not None:
            raise self.refusal

    def seal(self, datagrams: list[Datagram]) -> list[Datagram]:
        self.sealed_after_jumps.append(len(self.named("clock_jumped")))
        return datagrams

    def flush(self, now: float) -> None:
        self._call(now, "flush")

    def burst_ended(self, now: float) -> None:
        self._call(now, "burst_ended")

    def handle_timeout(self, now: float) -> None:
        self._call(now, "handle_timeout")
        self.deadline = None

    def add_hint(self, address: Address, now: float) -> None:
        self._call(now, "add_hint", address)

    def peer_refused(self, node: NodeId, now: float) -> None:
        self._call(now, "peer_refused", node)

    def host_answers(self, node: NodeId, now: float) -> None:
        self._call(now, "host_answers", node)

    def memory_kept(self, number: int, now: float) -> None:
        self._call(now, "memory_kept", number)

    def stalled(self, seconds: float, now: float) -> None:
        self._call(now, "stalled", round(seconds, 3))

    def open_session(self, client: str, now: float) -> int:
        if client in self._names.values():
            raise NameInUse(f"client name {client!r} is in use")
        self._call(now, "open_session", client)
        self._sessions += 1
        self._names[self._sessions] = client
        return self._sessions

    def close_session(self, session: int, reason: Reason, now: float) -> None:
        self._call(now, "close_session", session, reason)
        del self._names[session]

    def join(self, session: int, group: str, now: float, *, outside: Outside = Outside.GO_ON) -> None:
        self._refuse()
        self._call(now, "join", session, group, *([outside] if outside else []))

    def leave(self, session: int, group: str, now: float) -> None:
        self._refuse()
        self._call(now, "leave", session, group)

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
        self._refuse()
        self._call(now, "send", session, tuple(groups), payload, level, self_discard, stable)
        self._tickets += 1
        return self._tickets

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
        self._refuse()
        self._call(now, "send_private", session, client, node_name, payload, level, stable)
        self._tickets += 1
        return self._tickets

    def _refuse(self) -> None:
        if self.refusal is not None:
            raise self.refusal

    def queued_bytes(self, session: int) -> int:
        return self.queued

    def member(self, session: int) -> MemberId:
        return MemberId(self._names[session], self.node, session)

    def leave_cluster(self, now: float) -> None:
        self._call(now, "leave_cluster")
        if self.stop_at_once:
            self.outputs.append(Stopped("left", clean=True))

    def datagrams_to_send(self, now: float) -> list[Datagram]:
        taken, self.datagrams = self.datagrams, []
        return taken

    def take_outputs(self) -> list[Output]:
        taken, self.outputs = self.outputs, []
        return taken

    def next_deadline(self) -> float | None:
        return self.deadline

    def status(self, now: float) -> NodeStatus:
        return NodeStatus(
            node=self.node,
            cluster=self.config.cluster,
            state="operational",
            view=None,
            members=(),
            sequencer=None,
            primary=True,
            groups=(),
            peers=(),
            window_bytes=0,
            outstanding_bytes=0,
            queued_bytes=0,
            counters={"datagrams_received": 3},
        )


class RecordingTransport:
    """Sockets that send nowhere."""

    def __init__(
        self, reactor: INodeReactor, config: SocketConfig, sink: DatagramSink, neighbours: BannerFactory
    ) -> None:
        self.config = config
        self.sink = sink
        self.sent: list[Datagram] = []
        self.waiting: list[tuple[bytes, Address]] = []
        self.closed = False
        self.addresses: tuple[Address, ...] = (("127.0.0.1", 4874),)
        self.link_mtus: tuple[int, ...] = (65_536,)

    @property
    def address(self) -> Address:
        return self.addresses[0]

    @property
    def counters(self) -> dict[str, int]:
        return {"send_no_room": 0}

    def links(self) -> tuple[LinkStatus, ...]:
        return tuple(LinkStatus("lo", address, 65_536, False, 8, 4, 0) for address in self.addresses)

    def send(self, datagrams: Iterable[Datagram]) -> None:
        self.sent.extend(datagrams)

    def read_waiting(self) -> None:
        waiting, self.waiting = self.waiting, []
        for data, source in waiting:
            self.sink.datagram_received(data, source)

    def close(self) -> Deferred[None]:
        self.closed = True
        return succeed(None)


class MemoryClock(MemoryReactor, Clock):
    """A reactor that connects nothing and whose time is stepped by hand."""

    def __init__(self) -> None:
        MemoryReactor.__init__(self)
        Clock.__init__(self)

    def turn(self) -> None:
        """One reactor turn: everything due now."""
        self.advance(0)

    def run_for(self, seconds: float) -> None:
        """Let time pass from one delayed call to the next."""
        end = self.seconds() + seconds
        while self.getDelayedCalls():
            due = min(call.getTime() for call in self.getDelayedCalls())
            if due > end:
                break
            self.advance(max(0.0, due - self.seconds()))
        self.advance(end - self.seconds())


class RecordingHandler:
    """The handler of a session, recording."""

    def __init__(self) -> None:
        self.batches: list[list[object]] = []
        self.ended: Reason | None = None
        self.reaction: Callable[[], None] | None = None

    @property
    def events(self) -> list[object]:
        return [event for batch in self.batches for event in batch]

    def events_received(self, events: Sequence[object]) -> None:
        self.batches.append(list(events))
        if self.reaction is not None:
            self.reaction()

    def session_ended(self, reason: Reason) -> None:
        self.ended = reason


class NodeBench:
    """A node on a recording engine."""

    def __init__(self, config: NodeConfig | None = None, sources: Sequence[IDiscovery] = ()) -> None:
        self.clock = MemoryClock()
        self.in_thread: Callable[[Callable[[], OSError | None]], Deferred[OSError | None]] = maybeDeferred
        self.wall_seconds = 1_000_000.0
        self.engines: list[RecordingEngine] = []
        self.transports: list[RecordingTransport] = []
        seams = NodeSeams(
            make_engine=self._make_engine,
            open_transport=self._open_transport,
            make_sources=lambda *_: sources,
            find_interfaces=lambda wanted, family: (LOOPBACK,),
            in_thread=lambda _, work: self.in_thread(work),
            clock=self.clock.seconds,
            wall_clock=lambda: self.wall_seconds + self.clock.seconds(),
        )
        config = config or NodeConfig(node="n1", insecure=True)
        self.node = Node(cast(INodeReactor, self.clock), config, seams)

    def _make_engine(self, config: EngineConfig, node: NodeId, rng: random.Random, now: float) -> RecordingEngine:
        self.engines.append(RecordingEngine(config, node, rng, now))
        return self.engines[-1]

    def _open_transport(
        self, reactor: INodeReactor, config: SocketConfig, sink: DatagramSink, neighbours: BannerFactory
    ) -> RecordingTransport:
        self.transports.append(RecordingTransport(reactor, config, sink, neighbours))
        return self.transports[-1]

    @property
    def engine(self) -> RecordingEngine:
        return self.engines[-1]

    @property
    def transport(self) -> RecordingTransport:
        return self.transports[-1]

    def say(self, *outputs: Output) -> None:
        """Let the engine say this at the next burst."""
        self.engine.outputs.extend(outputs)
        self.transport.sink.burst_ended()


def view_of(group: str, *members: MemberId, joined: Sequence[MemberId] = ()) -> View:
    """A group view."""
    node = members[0].node
    return View(group, GroupViewId(ViewId(7, node), 1), tuple(members), tuple(joined), (), (), True)
