"""The driver of one engine, from a node's start to its end.

Decides when the engine is fed and in which order what it says is acted on: input, datagrams, outputs, deadline. The
application is never called while the engine is at work. One delayed call exists per node. A stall of this process is
measured by how late that call, or whatever comes before it, is.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final, Protocol, TypeAlias, cast

from attrs import evolve, frozen
from twisted.internet.defer import Deferred, gatherResults, maybeDeferred, succeed
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from groupcomm.addresses import header_bytes, show_address
from groupcomm.config import EngineConfig
from groupcomm.discovery.hints import Announcement
from groupcomm.discovery.sources import IDiscoveryReactor, SourceSettings, make_sources
from groupcomm.engine import Engine
from groupcomm.errors import EnvironmentFault, NotConnected, UsageError
from groupcomm.events import Reason
from groupcomm.identity import MemberId, NodeId
from groupcomm.interfaces import IDiscovery
from groupcomm.net.incarnation import next_incarnation
from groupcomm.net.interfaces import NetworkInterface, choose_interfaces
from groupcomm.net.reactor import INodeReactor, IWatchReactor, in_thread
from groupcomm.net.sockets import DatagramSink, NodeSockets, NodeTransport, SocketConfig
from groupcomm.net.watch import BannerFactory, NeighbourWatch
from groupcomm.node.certfiles import NodeCertificateFiles
from groupcomm.node.config import NodeConfig
from groupcomm.node.expelled import keep_expelled, read_expelled
from groupcomm.node.history import ViewHistory
from groupcomm.node.keyfile import find_key, no_key_text, read_key
from groupcomm.node.memoryfile import MemoryKeeper, keep_memory, read_memory
from groupcomm.node.recorder import TraceRecorder
from groupcomm.node.refusals import Refusals
from groupcomm.outputs import (
    Address,
    Datagram,
    HostWanted,
    KeyRotated,
    NodeEvicted,
    NodeExpelled,
    NodeSignal,
    NodeViewInstalled,
    Output,
    PacketsRefused,
    ProbeWanted,
    QuorumKept,
    ReceiverSlow,
    SlowState,
    Stopped,
    WatchChanged,
)
from groupcomm.quorum import Filter, Memory
from groupcomm.sessions import LocalSession, SessionEngine, SessionHandler, SessionLimits, SessionTable
from groupcomm.status import NodeStatus

STALL_SECONDS: Final = 0.1
"""Whatever happens so much later than the delayed call was due shows a stall of this process."""

TIMER_SLACK_SECONDS: Final = 0.0005
"""The delayed call is not moved for less."""

LINGER_SECONDS: Final = 0.1
"""After a leave the sockets stay open so long: others may still be installing the view without this node."""

JUMP_SECONDS: Final = 1.0
"""Wall clock and monotonic clock part by so much at once only if this machine was stopped, copied or set."""

STOP_SLACK_SECONDS: Final = 1.0
"""How much longer than the engine's own limit a leave is waited for."""

NodeNews: TypeAlias = NodeViewInstalled | NodeSignal | ReceiverSlow | NodeEvicted | KeyRotated | NodeExpelled | Stopped
"""What observers of a node are told."""


class NodeEngine(SessionEngine, Protocol):
    """What a node needs of an engine."""

    def links(self, addresses: Sequence[Address], most_bytes: Sequence[int]) -> None:
        """Which links there are, and what they take."""

    def start(self, now: float) -> None:
        """Begin."""

    def reading(self, link: int, multicast: bool) -> None:
        """What is received next came by this link, from the group's socket or this node's own."""

    def datagram_received(self, data: bytes, source: Address, now: float) -> None:
        """One datagram of a burst."""

    def run_received(self, data: bytes, size_bytes: int, source: Address, now: float) -> None:
        """Several datagrams of a burst, that came at once."""

    def burst_ended(self, now: float) -> None:
        """The burst is over: answer."""

    @property
    def settled(self) -> bool:
        """Whether ``burst_ended`` has nothing to do."""

    def flush(self, now: float) -> None:
        """Let what was handed over leave; ``burst_ended`` follows in the same turn."""

    def handle_timeout(self, now: float) -> None:
        """The deadline has come."""

    def add_hint(self, address: Address, now: float) -> None:
        """Another node may be there."""

    def peer_refused(self, node: NodeId, now: float) -> None:
        """A node's process has died."""

    def host_answers(self, node: NodeId, now: float) -> None:
        """The kernel of a watched node has acknowledged something."""

    def memory_kept(self, number: int, now: float) -> None:
        """What ``QuorumKept`` has said under this number outlives this node."""

    def stalled(self, seconds: float, now: float) -> None:
        """This process did not run for so long."""

    def open_session(self, client: str, now: float) -> int:
        """Open a session; its number."""

    def member(self, session: int) -> MemberId:
        """Who a session is."""

    def leave_cluster(self, now: float) -> None:
        """Leave, to end with ``Stopped``."""

    def datagrams_to_send(self, now: float) -> list[Datagram]:
        """What leaves now."""

    def take_outputs(self) -> list[Output]:
        """What has happened."""

    def next_deadline(self) -> float | None:
        """When to call ``handle_timeout``."""

    def status(self, now: float) -> NodeStatus:
        """What it says of itself."""

    def clock_jumped(self, now: float) -> None:
        """The wall clock has leapt."""

    def rotate_key(self, now: float) -> None:
        """Bring the view to the next key epoch."""

    def expel(self, name: str, now: float) -> None:
        """Expel a node."""

    def seal(self, datagrams: list[Datagram]) -> list[Datagram]:
        """What leaves, as it leaves."""


@frozen
class NodeSeams:
    """Where a test puts something else.

    Attributes:
        make_engine: makes the engine.
        open_transport: opens the sockets.
        make_sources: makes the discovery sources.
        find_interfaces: chooses the interfaces, one for each link.
        in_thread: does work that waits for a disk, outside the reactor's thread.
        clock: monotonic seconds. Not the reactor's, which is the wall clock and may jump.
        wall_clock: seconds since 1970.
    """

    make_engine: Callable[[EngineConfig, NodeId, random.Random, float], NodeEngine] = Engine
    open_transport: Callable[[INodeReactor, SocketConfig, DatagramSink, BannerFactory], NodeTransport] = NodeSockets
    make_sources: Callable[[IDiscoveryReactor, Announcement, SourceSettings], Sequence[IDiscovery]] = make_sources
    find_interfaces: Callable[[Sequence[str], int | None], tuple[NetworkInterface, ...]] = choose_interfaces
    in_thread: Callable[[INodeReactor, Callable[[], OSError | None]], Deferred[OSError | None]] = in_thread
    clock: Callable[[], float] = time.monotonic
    wall_clock: Callable[[], float] = time.time


def with_key(config: NodeConfig) -> EngineConfig:
    """The engine's settings, with the key or the certificate.

    Raises:
        EnvironmentFault: there is none, and none is not what was asked for; or it is unfit.
    """
    engine = config.engine
    if config.insecure or engine.key is not None or engine.identity is not None:
        return engine
    if config.certificates is not None:
        expelled = read_expelled(config.data_dir, engine.cluster)
        return evolve(engine, identity=NodeCertificateFiles(config.certificates, config.node), expelled=expelled)
    if config.key is not None:
        return evolve(engine, key=read_key(config.key).secret)
    found = find_key(engine.cluster, os.environ)
    if found is None:
        raise EnvironmentFault(no_key_text(engine.cluster, os.environ))
    return evolve(engine, key=found[1].secret)


def with_memory(engine: EngineConfig, config: NodeConfig) -> EngineConfig:
    """The engine's settings, with what the node remembers of primary views."""
    if engine.quorum.filter is not Filter.DYNAMIC_LINEAR:
        return engine
    return evolve(engine, memory=read_memory(config.data_dir, engine.cluster, engine.quorum))


class NodeDriver:
    """One run of a node, from its start to its end: the driver of one engine."""

    _log = Logger()

    def __init__(
        self, reactor: INodeReactor, config: NodeConfig, seams: NodeSeams, tell: Callable[[NodeNews], None]
    ) -> None:
        self._reactor = reactor
        self._config = config
        self._seams = seams
        self._tell = tell
        self.stopped: Stopped | None = None
        interfaces = seams.find_interfaces(config.interfaces, config.family)
        self.id = NodeId(config.node, next_incarnation(config.node, seams.wall_clock(), config.data_dir))
        self._last_now = self._began = seams.clock()
        self._burst_now: float | None = None
        self._timer: IDelayedCall | None = None
        self._timer_due = 0.0
        self._flush: IDelayedCall | None = None
        self._unflushed: dict[LocalSession, None] = {}
        self._delivering = False
        self._ended = False
        self._silent = False
        self._outbox: list[Output] = []
        self.history = ViewHistory()
        self._refusals = Refusals()
        self._when_stopped: list[Deferred[None]] = []
        self._sessions = SessionTable()
        self._watch = NeighbourWatch(cast(IWatchReactor, reactor), self._refused, self._host_answers)
        self._banner = BannerFactory(self.id)
        self._counters = {"hints": 0}
        engine_config = with_memory(with_key(config), config)
        self._sealed = not config.insecure
        self._keeper = MemoryKeeper(self._write_memory, self._memory_kept, self._memory_failed)
        self._engine = seams.make_engine(engine_config, self.id, random.SystemRandom(), self._last_now)
        self._process = os.getpid()
        self._clocks_apart = seams.wall_clock() - self._last_now
        self._rotations: list[Deferred[int]] = []
        self._expulsions: dict[str, list[Deferred[None]]] = {}
        sockets = SocketConfig(
            interfaces,
            config.multicast_group,
            config.multicast_port,
            config.port,
            group6=config.multicast_group6,
        )
        self._groups = sockets.groups
        self._recorder = self._open_trace()
        try:
            self.transport = seams.open_transport(reactor, sockets, self, self._banner)
        except BaseException:
            if self._recorder is not None:
                self._recorder.close()
            raise
        self._sources: Sequence[IDiscovery] = ()
        self.moved()
        announcement = Announcement(config.engine.cluster, self.id, tuple(host for host, _ in self.transport.addresses))
        self._sources = seams.make_sources(cast(IDiscoveryReactor, reactor), announcement, config.sources)

    def begin(self) -> None:
        """Let the engine and the sources begin."""
        if self._recorder is not None:
            self._recorder.started()
        groups = ", ".join(map(show_address, self._groups))
        self._log.info(
            "node {node} of cluster {cluster} listening on {addresses}, group {groups}",
            node=self.id.name,
            cluster=self._config.engine.cluster,
            addresses=", ".join(map(show_address, self.transport.addresses)),
            groups=groups,
        )
        if not self._sealed:
            self._log.warn(
                "INSECURE: node {node} has no key: whoever reaches {groups} can read, forge and join",
                node=self.id.name,
                groups=groups,
            )
        now = self.now()
        self._engine.start(now)
        self._answer(now)
        for source in self._sources:
            started = maybeDeferred(source.start, self.transport.address[1], self._hint)
            started.addErrback(self._source_failed, source)

    def end(self) -> Deferred[None]:
        """Leave and close everything; fires when nothing is left."""
        self._ended = True
        stopping = [maybeDeferred(source.stop).addErrback(self._source_failed, source) for source in self._sources]
        leaving: Deferred[None] = Deferred()
        if self.stopped is None:
            now = self._hand_over()
            if self._recorder is not None:
                self._recorder.leaving_cluster()
            self._sessions.node_leaves()
            self._engine.leave_cluster(now)
            self._engine.burst_ended(now)
            self._when_stopped.append(leaving)
            limit = self._config.engine.timing.leave + STOP_SLACK_SECONDS
            leaving.addTimeout(limit, self._reactor).addErrback(self._leave_failed)
            leaving.addCallback(self._linger)
            self._settle(now)
        else:
            leaving.callback(None)
        leaving.addCallback(lambda _: self._close())
        return gatherResults([leaving, *stopping]).addCallback(lambda _: None)

    # What the sessions and sockets call.

    def now(self) -> float:
        """The engine's time; tells the engine of a stall that shows."""
        now = max(self._last_now, self._seams.clock())
        self._last_now = now
        if self._timer is not None and now - self._timer_due > STALL_SECONDS:
            late_seconds = now - self._timer_due
            self._timer_due = now
            if self.stopped is None:
                self._engine.stalled(late_seconds, now)
        return now

    def open_session(self, client_name: str, handler: SessionHandler) -> LocalSession:
        """Open a session."""
        if self.stopped is not None or self._ended:
            raise NotConnected("the node has stopped" if self.stopped is not None else "the node is leaving")
        engine = self._engine
        number = engine.open_session(client_name, self.now())
        member = engine.member(number)
        if self._recorder is not None:
            self._recorder.opened(member)
        limits = SessionLimits(self._config.engine.max_message_bytes, self._config.engine.mtu_bytes // 2)
        session = LocalSession(self, engine, number, member, handler, limits, self._recorder)
        self._sessions.add(session)
        self.schedule_flush(session)
        return session

    def schedule_flush(self, session: LocalSession) -> None:
        """What that session has leaves now if it is the first of this reactor turn, else at the end of it."""
        if self._flush is None and not self._delivering and self._burst_now is None and self.stopped is None:
            self._unflushed[session] = None
            self._send(self._hand_over())
        self.collect(session)

    def collect(self, session: LocalSession) -> None:
        """Hand over what that session has at the end of this reactor turn."""
        self._unflushed[session] = None
        if self._flush is None:
            self._flush = self._reactor.callLater(0, self._flush_due)

    def flush(self) -> None:
        """What sessions have collected leaves now; what it causes here follows at the end of the turn."""
        if self._unflushed and not self._delivering and self._burst_now is None and self.stopped is None:
            self._send(self._hand_over())

    def rotate_key(self) -> Deferred[int]:
        """Bring the view to the next key epoch; fires with its number when this node seals under it.

        Raises:
            UsageError: through the Deferred: this cluster has no key.
        """
        result: Deferred[int] = Deferred()
        try:
            now = self.now()
            self._engine.rotate_key(now)
        except UsageError as error:
            result.errback(error)
            return result
        self._rotations.append(result)
        if not self._delivering and self._burst_now is None:
            self._answer(now)
        return result

    def expel(self, name: str) -> Deferred[None]:
        """Expel a node; fires when this node hears it no more.

        Raises:
            UsageError: through the Deferred: this cluster has no certificates, or that is no name of another node.
        """
        result: Deferred[None] = Deferred()
        try:
            now = self.now()
            self._engine.expel(name, now)
        except UsageError as error:
            result.errback(error)
            return result
        self._expulsions.setdefault(name, []).append(result)
        if not self._delivering and self._burst_now is None:
            self._answer(now)
        return result

    def forget(self, session: LocalSession) -> None:
        """A session is over."""
        self._sessions.discard(session)

    def reading(self, link: int, multicast: bool) -> None:
        """What is received next came by this link, from the group's socket or this node's own."""
        self._engine.reading(link, multicast)

    def moved(self) -> None:
        """This is where the links are now, and what they take."""
        addresses = self.transport.addresses
        sizes = zip(addresses, self.transport.link_mtus, strict=True)
        self._engine.links(addresses, [mtu_bytes - header_bytes(host) for (host, _), mtu_bytes in sizes])
        for source in self._sources:
            source.moved(tuple(host for host, _ in addresses))

    def datagram_received(self, data: bytes, source: Address) -> None:
        """One datagram of a burst."""
        if self.stopped is not None:
            return
        now = self._burst_now
        if now is None:
            now = self._burst_now = self.now()
        self._engine.datagram_received(data, source, now)

    def run_received(self, data: bytes, size_bytes: int, source: Address) -> None:
        """Several datagrams of a burst, each of ``size_bytes`` but the last, which may be shorter."""
        if self.stopped is not None:
            return
        now = self._burst_now
        if now is None:
            now = self._burst_now = self.now()
        self._engine.run_received(data, size_bytes, source, now)

    def burst_ended(self) -> None:
        """The burst is over: what it has completed is delivered, and what that makes sessions send goes along."""
        self._burst_now = None
        if self.stopped is None:
            self._take_outputs()
            if self._outbox and not self._delivering:
                self._deliver()
        if self.stopped is None and not self._quiet():
            self._answer(self._hand_over())

    def _quiet(self) -> bool:
        """Whether neither engine, sessions nor time have anything to do at the end of a burst."""
        due = self._timer is None or self._last_now >= self._timer_due
        return self._engine.settled and not due and not self._unflushed

    def status(self) -> NodeStatus:
        """The engine's, with the counters of the rim."""
        now = self.now()
        status = self._engine.status(now)
        counters = {
            **status.counters,
            **self.transport.counters,
            **self._watch.counters,
            **self._sessions.counters,
            **self._counters,
        }
        return evolve(
            status,
            counters=counters,
            discovery=tuple(source.status() for source in self._sources),
            up_seconds=now - self._began,
            links=self.transport.links(),
            refused=self._refusals.status(now),
        )

    # The driver's order: input, datagrams, outputs, deadline.

    def _hand_over(self) -> float:
        """Give the engine what the sessions have; the time it is."""
        now = self.now()
        if self._unflushed:
            for session in tuple(self._unflushed):
                session.hand_over()
        return now

    def _answer(self, now: float) -> None:
        """Let the engine run what is due and answer."""
        if self._timer is None or now >= self._timer_due:
            deadline = self._engine.next_deadline()
            if deadline is not None and deadline <= now:
                self._engine.handle_timeout(now)
        self._engine.burst_ended(now)
        self._settle(now)

    def _send(self, now: float) -> None:
        """Let what was handed over leave; the application is told of nothing before the end of the turn."""
        self._engine.flush(now)
        self._put_out(now)

    def _put_out(self, now: float) -> None:
        """Send; a trace has it all before the first datagram leaves."""
        datagrams = self._engine.datagrams_to_send(now)
        self._take_outputs()
        if datagrams and not self._silent:
            self._look_for_copies(now)
            self.transport.send(self._engine.seal(datagrams))

    def _look_for_copies(self, now: float) -> None:
        """A forked process, and a machine that was copied, must not seal under the keys of what it was."""
        before, self._clocks_apart = self._clocks_apart, self._seams.wall_clock() - self._seams.clock()
        if abs(self._clocks_apart - before) > JUMP_SECONDS or os.getpid() != self._process:
            self._process = os.getpid()
            self._engine.clock_jumped(now)

    def _take_outputs(self) -> None:
        """Keep what the engine says for the next delivery; a trace has it, and all before, when this returns."""
        outputs = self._engine.take_outputs()
        if self._recorder is not None:
            self._recorder.happened(outputs)
        self._outbox += outputs

    def _settle(self, now: float) -> None:
        """Send, deliver, wait for the next deadline."""
        self._put_out(now)
        if not self._delivering:
            self._deliver()
            self._arm()

    def _deliver(self) -> None:
        """Tell the application what has happened."""
        self._delivering = True
        try:
            while self._outbox:
                outputs, self._outbox = self._outbox, []
                for output in outputs:
                    if not self._sessions.take(output):
                        self._act_on(output)
                self._sessions.deliver()
            self._fire_accepted()
        finally:
            self._delivering = False

    def _fire_accepted(self) -> None:
        """Tell the senders what has been accepted, unless the end of the turn does."""
        if self._flush is None:
            unflushed, self._unflushed = self._unflushed, {}
            for session in unflushed:
                session.fire_accepted()

    def _flush_due(self) -> None:
        """The end of a reactor turn."""
        self._flush = None
        if self.stopped is None:
            self._answer(self._hand_over())
        else:
            self._fire_accepted()

    def _act_on(self, output: Output) -> None:
        """What an output means to the node itself."""
        if isinstance(output, WatchChanged):
            self._watch.watch(output.peers)
        elif isinstance(output, QuorumKept):
            self._keeper.keep(output)
        elif isinstance(output, HostWanted):
            self._watch.ask_host(output.node)
        elif isinstance(output, ProbeWanted):
            self._watch.probe(output.node, output.address)
        elif isinstance(output, NodeViewInstalled):
            self.history.installed(output, self._seams.wall_clock())
            self._log.info(
                "view {view}: {members}; left: {departed}{primary}{insecure}",
                view=str(output.id),
                members=", ".join(map(str, output.members)),
                departed=", ".join(f"{gone.node} ({gone.reason.label})" for gone in output.departed) or "nobody",
                primary="" if output.primary else f"; NOT PRIMARY: {output.why}",
                insecure="" if self._sealed else "; INSECURE: no key",
            )
            self._tell(output)
        elif isinstance(output, ReceiverSlow | NodeEvicted):
            self._log_slow(output)
            self._tell(output)
        elif isinstance(output, PacketsRefused):
            self._refusals.told(output, self._last_now)
            self._log_refused(output)
        elif isinstance(output, KeyRotated):
            self._key_rotated(output)
        elif isinstance(output, NodeExpelled):
            self._node_expelled(output)
        elif isinstance(output, NodeSignal):
            self._tell(output)
        elif isinstance(output, Stopped):
            self._engine_stopped(output)

    def _log_slow(self, news: ReceiverSlow | NodeEvicted) -> None:
        """Who is slow, by how much, and what is done about it."""
        if isinstance(news, NodeEvicted):
            who = "this node" if news.node == self.id else f"node {news.node}"
            self._log.warn(
                "{who} was evicted for being slow, by {by}: it lacked {lag_bytes} bytes of what was sent, behind all "
                "others for {seconds:.1f} s; it is kept out for {kept_out_seconds:.0f} s",
                who=who,
                by=", ".join(map(str, news.by)),
                lag_bytes=news.lag_bytes,
                seconds=news.seconds,
                kept_out_seconds=news.kept_out_seconds,
            )
        elif news.over:
            self._log.warn("node {node} is slow no more", node=str(news.node))
        elif news.state is not SlowState.WAITED_FOR:
            self._log.warn(
                "node {node} is slow: {what}; it has been slow for {seconds:.1f} s and lacks {lag_bytes} bytes; "
                "slow-receiver is {policy}",
                node=str(news.node),
                what="it catches up" if news.state is SlowState.CATCHING_UP else "it has not caught up, and should go",
                seconds=news.seconds,
                lag_bytes=news.lag_bytes,
                policy=self._config.engine.slow_receiver.value,
            )
        else:
            self._log.warn(
                "node {node} is slow: this node's sending has waited for it for {seconds:.1f} s, it lacks {lag_bytes} "
                "bytes; slow-receiver is {policy}",
                node=str(news.node),
                seconds=news.seconds,
                lag_bytes=news.lag_bytes,
                policy=self._config.engine.slow_receiver.value,
            )

    def _log_refused(self, news: PacketsRefused) -> None:
        """Whose packets do not open; the engine says it once a minute."""
        if news.why == "unsealed":
            text = "packets without a seal come from {source} ({count}): a node there runs without a key"
        elif news.why == "passport_refused":
            text = "a node at {source} is not let in ({count}): {why}"
        elif news.why == "signature_broken":
            text = "packets from {source} are not signed by whom they name ({count}): a node of this cluster forges"
        else:
            text = "packets from {source} do not open ({count}): a node there has another key for this cluster"
        self._log.warn(text, source=show_address(news.source), count=news.count, why=news.text)

    def _key_rotated(self, news: KeyRotated) -> None:
        """This node, and the others at the same point of the order, seal under a new epoch."""
        self._log.info("key epoch {number} begins", number=news.number)
        waiting, self._rotations = self._rotations, []
        for deferred in waiting:
            deferred.callback(news.number)
        self._tell(news)

    def _node_expelled(self, news: NodeExpelled) -> None:
        """A node is expelled, perhaps this one."""
        who = "this node" if news.name == self.id.name else f"the node {news.name}"
        if news.name != self.id.name:
            keep_expelled(self._config.data_dir, self._config.engine.cluster, news.name)
        self._log.warn("{who} is expelled, as was asked for on {by}", who=who, by=news.by)
        for deferred in self._expulsions.pop(news.name, []):
            deferred.callback(None)
        self._tell(news)

    def _engine_stopped(self, output: Stopped) -> None:
        """The engine has ended: so do the sessions."""
        self._sessions.deliver()
        self.stopped = output
        if self._recorder is not None:
            self._recorder.ended(output.reason)
        if output.clean:
            self._log.info("node {node} has left the cluster", node=self.id.name)
        else:
            self._log.critical("node {node} has stopped: {reason}", node=self.id.name, reason=output.reason)
        self._sessions.end_all(Reason.NODE_LEAVE if output.clean else Reason.NODE_FAILURE)
        self._watch.watch(())
        self._tell(output)
        rotations, self._rotations = self._rotations, []
        for rotation in rotations:
            rotation.errback(NotConnected("the node has stopped"))
        expulsions, self._expulsions = self._expulsions, {}
        for expulsion in [one for name in expulsions for one in expulsions[name]]:
            expulsion.errback(NotConnected("the node has stopped"))
        waiting, self._when_stopped = self._when_stopped, []
        for deferred in waiting:
            deferred.callback(None)

    def _arm(self) -> None:
        """See to it that the delayed call comes at the next deadline; too early does no harm."""
        deadline = None if self.stopped is not None else self._engine.next_deadline()
        if deadline is None:
            return
        now = self._last_now
        if self._timer is None:
            self._timer = self._reactor.callLater(max(0.0, deadline - now), self._timer_fired)
        elif self._timer_due > deadline + TIMER_SLACK_SECONDS or self._timer_due <= now:
            self._timer.reset(max(0.0, deadline - now))
        else:
            return
        self._timer_due = max(now, deadline)

    def _timer_fired(self) -> None:
        """A deadline may have come."""
        now = self.now()
        self._timer = None
        if self.stopped is not None:
            return
        deadline = self._engine.next_deadline()
        if deadline is None or deadline > now:
            self._arm()
            return
        # What has come already is read before anything is concluded from its absence.
        self.transport.read_waiting()
        self._burst_now = None
        self._answer(self._hand_over())

    # What comes from the watch and the sources.

    def _refused(self, node: NodeId) -> None:
        """A process has died."""
        if self.stopped is None:
            now = self.now()
            self._engine.peer_refused(node, now)
            self._answer(now)

    def _host_answers(self, node: NodeId) -> None:
        """A watched host lives, whatever its process does."""
        if self.stopped is None:
            self._engine.host_answers(node, self.now())

    def _write_memory(self, memory: Memory) -> Deferred[OSError | None]:
        """Without a data directory there is nothing to wait for."""
        engine, directory = self._config.engine, self._config.data_dir
        if directory is None:
            return succeed(None)
        return self._seams.in_thread(
            self._reactor, partial(keep_memory, directory, engine.cluster, engine.quorum, memory)
        )

    def _memory_kept(self, number: int) -> None:
        """What the engine waits with may be said."""
        if self.stopped is None:
            now = self.now()
            self._engine.memory_kept(number, now)
            self._answer(now)

    def _memory_failed(self, why: str) -> None:
        """A node that can neither keep nor forget says nothing any more and stops."""
        if self.stopped is None:
            self._silent = True
            self._outbox.append(Stopped(why, clean=False))
            if not self._delivering:
                self._deliver()

    def _hint(self, address: Address) -> None:
        """Another node may be there."""
        if self.stopped is None and not self._ended:
            self._counters["hints"] += 1
            now = self.now()
            self._engine.add_hint(address, now)
            self._answer(now)

    def _source_failed(self, failure: Failure, source: IDiscovery) -> None:
        """A source does not work; the node goes on without."""
        self._log.failure("discovery {source} failed", failure, source=type(source).__name__)

    # The end.

    def _leave_failed(self, failure: Failure) -> None:
        """The others have not let us go in time."""
        self._log.warn("node {node} could not leave in time; it stops all the same", node=self.id.name)

    def _open_trace(self) -> TraceRecorder | None:
        """The recorder of this run, if one is asked for."""
        config = self._config
        if config.trace is None:
            return None
        return TraceRecorder(
            config.trace,
            config.trace_limit_bytes,
            self.id,
            config.engine.cluster,
            self._seams.clock,
            self._seams.wall_clock,
        )

    def _linger(self, _: object) -> Deferred[None]:
        """Stay reachable for a moment."""
        lingering: Deferred[None] = Deferred()
        self._reactor.callLater(LINGER_SECONDS, lingering.callback, None)
        return lingering

    def _close(self) -> Deferred[None]:
        """Close everything."""
        if self.stopped is None:
            self._engine_stopped(Stopped("gave up leaving", clean=False))
        for call in (self._timer, self._flush):
            if call is not None and call.active():
                call.cancel()
        self._timer = self._flush = None
        self._fire_accepted()
        closing = [self._watch.stop(), self._banner.drop_all(), self.transport.close(), self._keeper.when_idle()]
        return gatherResults(closing).addCallback(lambda _: None)
