"""A whole cluster in one process: real engines, a network in memory, virtual time, one seed.

    cluster = Cluster(seed=7)
    a, b, c = cluster.add_nodes("a", "b", "c")
    cluster.run_until(cluster.converged, limit=5.0)
    alice, bob = a.open("alice"), b.open("bob")
    alice.join("chat"), bob.join("chat")
    cluster.run(1.0)
    alice.send("chat", b"hello")
    cluster.run(0.1)
    assert bob.messages("chat") == [b"hello"]

Decides what stands between the nodes besides datagrams: which host answers a connection attempt of the neighbour watch,
and when. The same seed gives the same trace, whatever the hash seed of the interpreter.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Mapping, Sequence

from attrs import evolve

from groupcomm.config import EngineConfig
from groupcomm.engine import Engine
from groupcomm.identity import NodeId
from groupcomm.outputs import Address
from groupcomm.quorum import NO_MEMORY, Filter, Memory
from groupcomm.testing import trace as traces
from groupcomm.testing.interface import EngineFactory, EngineInterface
from groupcomm.testing.network import Conditions, Network
from groupcomm.testing.node import SOCKET_BUFFER_BYTES, TURN_SECONDS, SimulatedNode
from groupcomm.testing.scheduler import Scheduler
from groupcomm.testing.watchers import Watchers
from groupcomm.wire.seal import SEAL_BYTES

RESET_SECONDS = 0.001
"""From the death of a process to the reset of the connections to it."""

REFUSED_SECONDS = 0.01
"""From there, or from a request, to the second refused connection attempt."""

ACKNOWLEDGED_SECONDS = 0.0005
"""From a question on the watch's connection to the acknowledgement of the other kernel."""

DISCOVER_SECONDS = 2.0
"""How often a node that knows of its links is offered an address again."""

FIRST_INCARNATION = 1000

CLOCKED_INCARNATION = 1_600_000_000_000
"""The same with a quorum filter, by which names are told apart from runs: as on a host whose clock is right."""

RESTART_MILLISECONDS = 1000
"""What a restart takes on that clock."""

NODE_PORT = 7400


class TimeLimitReached(AssertionError):
    """What was waited for did not come within the limit of virtual time."""


def product_engine(config: EngineConfig, node: NodeId, stream: random.Random, now: float) -> EngineInterface:
    """The engine everybody runs."""
    return Engine(config, node, stream, now)


class Cluster:
    """Nodes, network and clock.

    Attributes:
        seed: every draw of the run comes from it.
        config: the settings of the engines.
        nodes: by name; after a restart the new process.
        network: conditions, cuts and counters.
        scheduler: the clock.
        trace: what happened.
        check_invariants: whether every engine checks itself after every step.
        watchers: told of every datagram and turn, if attached.
        disks: by node name, what a restart finds of what the node remembered of primary views.
        keeps_memory: whether nodes have a data directory for that.
        disk_seconds: how long the disk of a new node takes for a write at most.
        clock_rates: by node name, how fast its clock runs (1.0 is right).
        turn_seconds: what one turn of a new node takes at least.
        buffer_bytes: what the socket of a new node holds.
        link_bytes: the links that nodes have, with the largest datagram that their interfaces take; nothing: one, and
            engines are not told of it.
    """

    def __init__(
        self,
        seed: int | str = 0,
        *,
        config: EngineConfig | None = None,
        conditions: Conditions | None = None,
        check_invariants: bool = True,
        clock_rates: Mapping[str, float] | None = None,
        engine_factory: EngineFactory = product_engine,
        turn_seconds: float = TURN_SECONDS,
        buffer_bytes: int = SOCKET_BUFFER_BYTES,
        link_bytes: Sequence[int] = (),
    ) -> None:
        self.seed = str(seed)
        self.config = config or EngineConfig()
        self.scheduler = Scheduler()
        mtu_bytes = self.config.mtu_bytes + (SEAL_BYTES if self.config.key or self.config.identity else 0)
        self.link_bytes = tuple(link_bytes)
        self.network = Network(
            self.scheduler, self.seed, conditions or Conditions(), max((mtu_bytes, *self.link_bytes))
        )
        self.trace = traces.Trace()
        self.nodes: dict[str, SimulatedNode] = {}
        self.check_invariants = check_invariants
        self.clock_rates = dict(clock_rates or {})
        self.turn_seconds = turn_seconds
        self.buffer_bytes = buffer_bytes
        self.watchers: Watchers | None = None
        self.disks: dict[str, Memory] = {}
        self.keeps_memory = True
        self.disk_seconds = 0.0
        self._engine_factory = engine_factory
        self._acknowledgements = random.Random(f"{self.seed}/acknowledgements")
        self._hosts: dict[Address, SimulatedNode] = {}

    @property
    def now(self) -> float:
        """Virtual seconds since the beginning."""
        return self.scheduler.now

    # Nodes

    def add_node(self, name: str, *, incarnation: int | None = None) -> SimulatedNode:
        """Switch on a new host and start a node on it."""
        if incarnation is None:
            incarnation = CLOCKED_INCARNATION if self._clocked else FIRST_INCARNATION
        assert name not in self.nodes, f"there is a node {name} already"
        number = len(self.nodes) + 1
        links = range(max(1, len(self.link_bytes)))
        addresses = tuple((f"10.{link}.{number // 250}.{number % 250 + 1}", NODE_PORT) for link in links)
        return self._begin(name, addresses, incarnation)

    def add_nodes(self, *names: str) -> list[SimulatedNode]:
        """Start several nodes at this instant."""
        return [self.add_node(name) for name in names]

    def restart(self, node: SimulatedNode) -> SimulatedNode:
        """Start a new process where ``node`` was; the host is switched on if need be."""
        later = RESTART_MILLISECONDS if self._clocked else 1
        return self._begin(node.name, node.addresses, node.identity.incarnation + later)

    @property
    def _clocked(self) -> bool:
        return self.config.quorum.filter is not Filter.NONE

    def node(self, name: str) -> SimulatedNode:
        """The node's latest process."""
        return self.nodes[name]

    def live_nodes(self) -> list[SimulatedNode]:
        """The nodes whose process lives, by name."""
        return [self.nodes[name] for name in sorted(self.nodes) if self.nodes[name].process_alive]

    def converged(self, names: Iterable[str] | None = None) -> bool:
        """Whether all the named nodes (all live ones) are in one operational view of exactly these."""
        nodes = self.live_nodes() if names is None else [self.nodes[name] for name in names]
        statuses = [node.status() for node in nodes]
        members = {node.identity for node in nodes}
        return all(
            status.state == "operational"
            and status.view is not None
            and status.view == statuses[0].view
            and set(status.members) == members
            for status in statuses
        )

    # Time

    def run(self, seconds: float = 0.0, *, until: float | None = None) -> None:
        """Let so many seconds pass, or run up to the time ``until``."""
        self.scheduler.run(self.now + seconds if until is None else until)

    def run_until(self, predicate: Callable[[], bool], limit: float = 10.0, *, every: float = 0.001) -> float:
        """Run until ``predicate()`` holds, looking every so many seconds.

        Returns:
            The seconds it took.

        Raises:
            TimeLimitReached: it did not hold within ``limit`` seconds.
        """
        began_at = self.now
        while not predicate():
            if self.now - began_at >= limit:
                name = getattr(predicate, "__name__", "what was waited for")
                raise TimeLimitReached(f"{name} did not come within {limit} s\n{self.summary()}")
            self.run(every)
        return self.now - began_at

    # Faults of the network

    def partition(self, *sides: Iterable[str]) -> None:
        """Cut the named sides off from each other."""
        named = [sorted(side) for side in sides]
        self.trace.append(traces.Fault(self.now, "partition " + " | ".join(" ".join(side) for side in named)))
        self.network.partition(*[[own for name in side for own in self.nodes[name].addresses] for side in named])

    def cut(self, source: str, destination: str) -> None:
        """Lose everything from one node to another, one way."""
        self.trace.append(traces.Fault(self.now, f"cut {source} -> {destination}"))
        for one, other in self._paths(source, destination):
            self.network.cut(one, other)

    def deafen(self, source: str, destination: str) -> None:
        """Lose the multicasts from one node to another, on every link; what is sent to it alone passes."""
        self.trace.append(traces.Fault(self.now, f"no multicast {source} -> {destination}"))
        self.network.deaf.update(self._paths(source, destination))

    def undeafen(self, source: str, destination: str) -> None:
        """Undo ``deafen``."""
        self.trace.append(traces.Fault(self.now, f"multicast again {source} -> {destination}"))
        self.network.deaf.difference_update(self._paths(source, destination))

    def shrink(self, name: str, takes_bytes: int | None) -> None:
        """Let a node's path lose larger datagrams without a word; None: no more."""
        self.trace.append(traces.Fault(self.now, f"the path to {name} takes {takes_bytes or 'all'} bytes"))
        for address in self.nodes[name].addresses:
            self.network.takes_bytes.pop(address, None)
            if takes_bytes is not None:
                self.network.takes_bytes[address] = takes_bytes

    def pull(self, name: str, link: int) -> None:
        """Pull the cable of one of a node's links."""
        self.trace.append(traces.Fault(self.now, f"link {link} of {name} goes down"))
        own = self.nodes[name].addresses[link]
        for other in (node.addresses[link] for node in self.nodes.values() if node.name != name):
            self.network.cut(own, other)
            self.network.cut(other, own)

    def plug(self, name: str, link: int) -> None:
        """Undo ``pull``."""
        self.trace.append(traces.Fault(self.now, f"link {link} of {name} comes up"))
        own = self.nodes[name].addresses[link]
        for other in (node.addresses[link] for node in self.nodes.values() if node.name != name):
            self.network.restore(own, other)
            self.network.restore(other, own)

    def _paths(self, source: str, destination: str) -> list[tuple[Address, Address]]:
        """From where to where datagrams go from one node to another, by link."""
        return list(zip(self.nodes[source].addresses, self.nodes[destination].addresses, strict=True))

    def restore(self, source: str, destination: str) -> None:
        """Undo one ``cut``."""
        self.trace.append(traces.Fault(self.now, f"restore {source} -> {destination}"))
        for one, other in self._paths(source, destination):
            self.network.restore(one, other)
        self._look_at_all_watches()

    def link(self, *pairs: tuple[str, str]) -> None:
        """Leave only the paths between the named pairs, both ways; every other one is cut."""
        self.trace.append(traces.Fault(self.now, "only " + " ".join(f"{one}-{two}" for one, two in pairs)))
        kept = {frozenset(pair) for pair in pairs}
        for one in sorted(self.nodes):
            for two in sorted(self.nodes):
                if one != two and frozenset((one, two)) not in kept:
                    for source, destination in self._paths(one, two):
                        self.network.cut(source, destination)

    def clog(self, source: str, destination: str) -> None:
        """Hold everything from one node to another back, one way."""
        self.trace.append(traces.Fault(self.now, f"clog {source} -> {destination}"))
        for one, other in self._paths(source, destination):
            self.network.clog(one, other)

    def unclog(self, source: str, destination: str) -> None:
        """Let it come, late."""
        self.trace.append(traces.Fault(self.now, f"unclog {source} -> {destination}"))
        for one, other in self._paths(source, destination):
            self.network.unclog(one, other)

    def narrow(self, name: str, bytes_per_second: float) -> None:
        """Let no more than that through to a node."""
        self.trace.append(traces.Fault(self.now, f"{name} receives {bytes_per_second:g} bytes a second"))
        self.network.rate_to[self.nodes[name].address] = bytes_per_second

    def widen(self, name: str) -> None:
        """Undo ``narrow``."""
        self.trace.append(traces.Fault(self.now, f"{name} receives without limit"))
        self.network.rate_to.pop(self.nodes[name].address, None)

    def heal(self) -> None:
        """Undo every cut, clog and partition."""
        self.trace.append(traces.Fault(self.now, "heal"))
        self.network.heal()
        self._look_at_all_watches()

    # The neighbour watch

    def watch_changed(self, watcher: SimulatedNode) -> None:
        """A node watches other neighbours now: those already dead refuse it at once."""
        for peer, address in watcher.watched:
            self._look(watcher, peer, address, REFUSED_SECONDS)
            self.ask_host(watcher, peer)

    def process_died(self, node: SimulatedNode) -> None:
        """The connections of those who watched it are reset, and it refuses new ones."""
        for watcher in self.live_nodes():
            for peer, address in watcher.watched:
                if address in node.addresses:
                    self._look(watcher, peer, address, RESET_SECONDS + REFUSED_SECONDS)

    def probe(self, prober: SimulatedNode, peer: NodeId, address: Address) -> None:
        """A node wants to know whether a peer is dead."""
        self._look(prober, peer, address, REFUSED_SECONDS)

    def ask_host(self, watcher: SimulatedNode, peer: NodeId) -> None:
        """A node wants to know whether the kernel of a neighbour answers: one packet there, one back."""
        address = next((address for node, address in watcher.watched if node == peer), None)
        host = None if address is None else self._hosts.get(address)
        if address is None or host is None or not host.host_alive:
            return
        conditions = self.network.conditions
        lost = 1.0 - (1.0 - max(conditions.loss_probability, self.network.loss_to.get(address, 0.0))) ** 2
        there_and_back = self.network.connected(watcher.address, address) and self.network.connected(
            address, watcher.address
        )
        if there_and_back and self._acknowledgements.random() >= lost:
            seconds = ACKNOWLEDGED_SECONDS + 2 * conditions.delay_seconds
            self.scheduler.call_later(seconds, lambda: watcher.host_answers(peer))

    def _look(self, watcher: SimulatedNode, peer: NodeId, address: Address, seconds: float) -> None:
        if self._refuses(watcher, peer, address):
            self.scheduler.call_later(
                seconds, lambda: watcher.refuse(peer) if self._refuses(watcher, peer, address) else None
            )

    def _refuses(self, watcher: SimulatedNode, peer: NodeId, address: Address) -> bool:
        host = self._hosts.get(address)
        if host is None:
            return False
        own = watcher.addresses[host.addresses.index(address)]
        return (
            host.host_alive
            and self.network.connected(own, address)
            and self.network.connected(address, own)
            and not (host.process_alive and host.identity == peer)
        )

    def _look_at_all_watches(self) -> None:
        for watcher in self.live_nodes():
            self.watch_changed(watcher)

    def _discover(self, node: SimulatedNode) -> None:
        """Offer a node the address of one other, and again every now and then, as the sources of discovery do."""
        if not node.process_alive:
            return
        others = [other for other in self.live_nodes() if other is not node]
        if others:  # one address is enough
            node.hint(others[0].address)
        self.scheduler.call_later(DISCOVER_SECONDS, lambda: self._discover(node))

    # For people

    def summary(self) -> str:
        """Each node with its state and view, one line each."""
        lines = [f"at {self.now:.6f} s, seed {self.seed}:"]
        for name in sorted(self.nodes):
            node = self.nodes[name]
            if not node.process_alive:
                lines.append(f"  {name}: dead")
                continue
            status = node.status()
            members = " ".join(member.name for member in status.members)
            lines.append(
                f"  {name}: {status.state}{' paused' * node.paused} view {status.view} of {{{members}}} "
                f"outstanding {status.outstanding_bytes} queued {status.queued_bytes}"
            )
        return "\n".join(lines)

    def _begin(self, name: str, addresses: tuple[Address, ...], incarnation: int) -> SimulatedNode:
        identity = NodeId(name, incarnation)
        clock_zero = random.Random(f"{self.seed}/clock/{name}/{incarnation}").uniform(0.0, 100_000.0)
        clock_rate = self.clock_rates.get(name, 1.0)
        local_now = clock_zero + self.now * clock_rate
        stream = random.Random(f"{self.seed}/engine/{name}/{incarnation}")
        config = evolve(self.config, memory=self.disks.get(name, NO_MEMORY))
        engine = self._engine_factory(config, identity, stream, local_now)
        node = SimulatedNode(
            self,
            name,
            addresses,
            clock_zero,
            clock_rate,
            identity,
            engine,
            turn_seconds=self.turn_seconds,
            buffer_bytes=self.buffer_bytes,
            receive_offload=int(addresses[0][0].rpartition(".")[2]) % 2 == 0,
        )
        self.nodes[name] = node
        for address in addresses:
            self._hosts[address] = node
        if self.link_bytes:
            engine.links(addresses, self.link_bytes)
        node.begin()
        if self.link_bytes:
            self._discover(node)
        self._look_at_all_watches()
        return node
