"""A random run at work: its script on a cluster of real engines, the healing, and what the oracle says.

A step that makes no sense when its time comes (a crash of a dead node) is passed over. After the script a core of nodes
is healed and left in peace; it has a bounded time to come to one view with nothing outstanding. Then the oracle reads
the trace.
"""

from __future__ import annotations

import random
import traceback
from collections.abc import Callable, Iterable
from functools import partial

from attrs import define, evolve, field

from groupcomm.config import EngineConfig, SlowReceiver, Timing
from groupcomm.errors import NameInUse, NotPrimary, QueueFull
from groupcomm.events import Level, Outside, Reason
from groupcomm.limits import MIN_WINDOW_BYTES
from groupcomm.outputs import Address, NodeEvicted
from groupcomm.quorum import NO_QUORUM
from groupcomm.testing.cluster import Cluster, TimeLimitReached, product_engine
from groupcomm.testing.interface import EngineFactory
from groupcomm.testing.network import Conditions, PacketObserver
from groupcomm.testing.node import SimulatedClient, SimulatedNode
from groupcomm.testing.oracle import EndOfRun, Report, examine
from groupcomm.testing.packets import packet_kind
from groupcomm.testing.parameters import GROUPS, LEVELS, NAMES
from groupcomm.testing.script import Scenario
from groupcomm.testing.trace import Trace
from groupcomm.testing.watchers import Watchers
from groupcomm.wire.keys import KEY_BYTES

CONVERGE_SECONDS = 20.0
"""From the healing of the network to one view of the core."""

SLOW_SECONDS, READMIT_SECONDS = 0.3, 0.8
"""How soon a receiver is slow in a run that evicts, and for how long it is kept out for the first time."""

FLAP_SECONDS = 0.02
"""How long a node waits that has come and gone twice: so that whoever falls often is back before the end."""

REST_SECONDS = 20.0
"""From there until nothing is outstanding."""

QUIET_LOSS = 0.02
"""The loss that stays after the healing, at most."""


@define(eq=False)
class Outcome:
    """What came of a run.

    Attributes:
        failure: the first broken property or ``exception`` or ``L1`` (no rest within the bound); None if all is well.
        text: the whole story of it.
        seconds: of virtual time, all in all.
        converge_seconds: from the healing to one view of the core; None if there was none.
        rest_seconds: from there until nothing was outstanding.
        faults: how often each kind of fault struck.
        counters: of the engines that lived at the end, added up.
    """

    scenario: Scenario
    trace: Trace
    digest: str
    report: Report
    failure: str | None = None
    text: str = ""
    seconds: float = 0.0
    converge_seconds: float | None = None
    rest_seconds: float | None = None
    refusals: int = 0
    faults: dict[str, int] = field(factory=dict)
    counters: dict[str, int] = field(factory=dict)


@define(eq=False)
class Run:
    """A scenario at work."""

    scenario: Scenario
    cluster: Cluster
    watchers: Watchers
    end: EndOfRun | None = None
    refusals: int = 0
    faults: dict[str, int] = field(factory=dict)
    core: tuple[str, ...] = ()
    converge_seconds: float | None = None
    rest_seconds: float | None = None
    _clients: dict[tuple[str, int], SimulatedClient] = field(factory=dict)
    _returning: int = 0

    @classmethod
    def of(
        cls,
        scenario: Scenario,
        *,
        check_invariants: bool = True,
        observer: PacketObserver | None = None,
        engine_factory: EngineFactory = product_engine,
    ) -> Run:
        """Make the cluster and schedule every step."""
        parameters = scenario.parameters
        stream = random.Random(f"{scenario.seed}/clocks")
        rates = {name: 1.0 + parameters.clock_spread * stream.uniform(-1.0, 1.0) for name in NAMES}
        config = EngineConfig(
            mtu_bytes=parameters.mtu_bytes,
            first_packet_number=parameters.first_packet_number,
            suppression_nodes=parameters.suppression_nodes,
            budget_bytes=parameters.budget_bytes,
            timing=Timing(flap=FLAP_SECONDS),
            key=random.Random(f"{scenario.seed}/key").randbytes(KEY_BYTES) if parameters.sealed else None,
            active_links=parameters.active,
            quorum=parameters.quorum,
        )
        if parameters.evicts:
            config = evolve(
                config,
                timing=Timing(readmit=READMIT_SECONDS, flap=FLAP_SECONDS),
                suppression_nodes=max(16, parameters.suppression_nodes),
                slow_receiver=SlowReceiver.EVICT,
                slow_receiver_seconds=SLOW_SECONDS,
            )
            lanes = random.Random(f"{scenario.seed}/lanes")
            if lanes.random() < 0.6:
                config = evolve(
                    config,
                    slow_receiver=SlowReceiver.CATCH_UP,
                    catch_up_bytes=lanes.choice((MIN_WINDOW_BYTES, 250_000, None)),
                    catch_up_seconds=lanes.choice((0.5, 60.0)),
                )
        cluster = Cluster(
            scenario.seed,
            config=config,
            conditions=parameters.conditions,
            check_invariants=check_invariants,
            clock_rates=rates,
            engine_factory=engine_factory,
            turn_seconds=parameters.turn_seconds,
            buffer_bytes=parameters.buffer_bytes,
            link_bytes=parameters.links,
        )
        cluster.keeps_memory = not parameters.forgets
        cluster.disk_seconds = parameters.disk_seconds
        cluster.network.observer = observer
        run = cls(scenario, cluster, Watchers.attach(cluster))
        for step in scenario.steps:
            cluster.scheduler.call_at(step.at, partial(getattr(run, f"_{step.action}"), *step.arguments))
        return run

    def execute(self) -> Outcome:
        """Run it to its end and ask the oracle."""
        cluster, failure, text = self.cluster, None, ""
        settled = None
        try:
            cluster.run(until=max((step.at for step in self.scenario.steps), default=0.0) + 0.01)
            self._settle()
            settled = [self.cluster.nodes[name].identity for name in self.core]
        except TimeLimitReached as error:
            failure, text = "L1", str(error)
        except Exception:
            failure, text = "exception", traceback.format_exc()
        report = examine(cluster.trace, settled=settled, end=self.end or self.watchers.so_far())
        if report.violations and failure != "exception":
            failure = report.violations[0].property
            text = "\n".join(f"{one.property}: {one.text}" for one in report.violations[:10]) + "\n" + text
        outcome = Outcome(self.scenario, cluster.trace, cluster.trace.digest(), report, failure, text, cluster.now)
        outcome.converge_seconds, outcome.rest_seconds = self.converge_seconds, self.rest_seconds
        outcome.refusals, outcome.faults = self.refusals, self.faults
        if any(isinstance(one, NodeEvicted) for node in cluster.nodes.values() for one in node.slow_news):
            outcome.faults["evicted"] = 1
        for node in cluster.live_nodes():
            for name, number in node.status().counters.items():
                outcome.counters[name] = outcome.counters.get(name, 0) + number
        return outcome

    def _settle(self) -> None:
        """Heal a core, wait for its one view, let every client send once, and wait until nothing is outstanding."""
        cluster = self.cluster
        cluster.heal()
        cluster.network.tap = None
        cluster.network.loss_from.clear()
        cluster.network.rate_to.clear()
        quiet_loss = min(QUIET_LOSS, cluster.network.conditions.loss_probability)
        cluster.network.conditions = Conditions(loss_probability=quiet_loss)
        for node in cluster.live_nodes():
            node.resume()
        while self._returning:  # those who fell in an ambush and are to come back
            cluster.run(0.05)
        self._choose_core()
        if not self.core:
            return
        self.converge_seconds = cluster.run_until(self._converged, CONVERGE_SECONDS, every=0.01)
        for number, (name, slot) in enumerate(sorted(self._clients)):
            self._send(name, slot, f"probe{number}", 20, LEVELS[-1 - number % len(LEVELS)], GROUPS[:1], False, False)
        self.rest_seconds = cluster.run_until(lambda: self._at_rest() and self._converged(), REST_SECONDS, every=0.02)
        self.end = self.watchers.rest(self.core)

    def _choose_core(self) -> None:
        live = [node.name for node in self.cluster.live_nodes() if not node.leaving]
        stream = random.Random(f"{self.scenario.seed}/core")
        size = self.scenario.parameters.core
        self.core = tuple(sorted(stream.sample(live, size))) if 0 < size < len(live) else tuple(live)
        rest = [name for name in sorted(self.cluster.nodes) if name not in self.core]
        if 0 < size < len(live):
            self._struck("core")
            self.cluster.partition(self.core, rest)

    def _converged(self) -> bool:
        nodes = [self.cluster.nodes[name] for name in self.core]
        last = {node.views[-1].id if node.views else None for node in nodes}
        return len(last) == 1 and self.cluster.converged(self.core)

    def _at_rest(self) -> bool:
        for name in self.core:
            node = self.cluster.nodes[name]
            if not all(sending.accepted for (session, _), sending in node.sendings.items() if session in node.clients):
                return False
            status = node.status()
            if status.outstanding_bytes or status.queued_bytes or status.state != "operational":
                return False
        return True

    def _struck(self, kind: str) -> None:
        self.faults[kind] = self.faults.get(kind, 0) + 1

    # The steps: who comes, sends and goes

    def _node(self, name: str) -> SimulatedNode | None:
        node = self.cluster.nodes.get(name)
        return node if node is not None and node.running and not node.leaving else None

    def _client(self, name: str, slot: int) -> SimulatedClient | None:
        client = self._clients.get((name, slot))
        usable = client is not None and client.live and client.node.running and not client.node.leaving
        return client if usable else None

    def _start(self, name: str) -> None:
        self.cluster.add_node(name)

    def _populate(self, name: str) -> None:
        node = self._node(name)
        if node is None:
            return
        for slot in range(self.scenario.parameters.clients):
            if (client := self._clients.get((name, slot))) is not None and client.live:
                continue
            try:
                client = self._clients[name, slot] = node.open(f"c{slot}")
            except NameInUse:  # the last session of that name has not left all its groups yet
                self.cluster.scheduler.call_later(0.1, lambda: self._populate(name))
                return
            stream = random.Random(f"{self.scenario.seed}/groups/{name}/{slot}")
            for group in GROUPS[: self.scenario.parameters.groups]:
                if stream.random() < 0.8:
                    self._join_group(client, group)

    def _join(self, name: str, slot: int, group: str) -> None:
        client = self._client(name, slot)
        if client is not None and client.view(group) is None and not client.joining(group):
            self._join_group(client, group)

    def _join_group(self, client: SimulatedClient, group: str) -> None:
        """The first group goes on everywhere, so that what is sent at the end is not refused."""
        outside = Outside.GO_ON
        if self.scenario.parameters.quorum != NO_QUORUM and group != GROUPS[0]:
            outside = random.Random(f"{self.scenario.seed}/outside/{client.member}/{group}").choice(tuple(Outside))
        self._refusable(lambda name: client.join(name, outside), group)

    def _leave(self, name: str, slot: int, group: str) -> None:
        client = self._client(name, slot)
        if client is not None and client.view(group) is not None and not client.leaving(group):
            self._refusable(client.leave, group)

    def _refusable(self, change: Callable[[str], None], group: str) -> None:
        """A join or leave, which is refused while the queue of its session is full: as a send is."""
        try:
            change(group)
        except QueueFull:
            self.refusals += 1

    def _close(self, name: str, slot: int) -> None:
        client = self._client(name, slot)
        if client is not None:
            client.close(Reason.DISCONNECT)

    def _send(
        self,
        name: str,
        slot: int,
        label: str,
        size: int,
        level: Level,
        groups: tuple[str, ...],
        stable: bool,
        self_discard: bool,
    ) -> None:
        client = self._client(name, slot)
        if client is not None:
            try:
                client.send(groups, self._data(label, size), level=level, stable=stable, self_discard=self_discard)
            except (NotPrimary, QueueFull):
                self.refusals += 1

    def _send_private(
        self, name: str, slot: int, label: str, size: int, level: Level, to_node: str, to_slot: int
    ) -> None:
        client = self._client(name, slot)
        if client is not None:
            try:
                client.send_private(f"c{to_slot}", to_node, self._data(label, size), level=level)
            except QueueFull:
                self.refusals += 1

    def _data(self, label: str, size: int) -> bytes:
        return f"{label}|".encode() + random.Random(f"{self.scenario.seed}/data/{label}").randbytes(size)

    # The steps: faults of hosts

    def _crash(self, name: str) -> None:
        if (node := self._node(name)) is not None:
            self._struck("crash")
            node.crash()

    def _vanish(self, name: str) -> None:
        if (node := self._node(name)) is not None:
            self._struck("vanish")
            node.vanish()

    def _restart(self, name: str) -> None:
        if name in self.cluster.nodes:
            self._struck("restart")
            self.cluster.nodes[name].restart()

    def _quit(self, name: str) -> None:
        if (node := self._node(name)) is not None:
            self._struck("quit")
            node.leave()

    def _pause(self, name: str) -> None:
        if (node := self._node(name)) is not None:
            self._struck("pause")
            node.pause()

    def _resume(self, name: str) -> None:
        if name in self.cluster.nodes:
            self.cluster.nodes[name].resume()

    def _slow(self, name: str, factor: int) -> None:
        if (node := self._node(name)) is not None:
            self._struck("slow")
            node.turn_seconds *= factor

    def _narrow(self, name: str, rate: int) -> None:
        if self._node(name) is not None:
            self._struck("narrow")
            self.cluster.narrow(name, rate)

    def _widen(self, name: str) -> None:
        if name in self.cluster.nodes:
            self.cluster.widen(name)

    def _jump(self, name: str, seconds: float) -> None:
        if (node := self._node(name)) is not None:
            self._struck("jump")
            node.jump_clock(seconds)

    def _ambush(self, *ambushes: tuple[str, int, str, str, str, float | None]) -> None:
        """Lie in wait for the first; when it has struck, for the next."""
        if not ambushes:
            return
        (kind, nth, when, who, how, back), *later = ambushes
        network, seen = self.cluster.network, 0

        def tap(data: bytes, source: Address) -> int | None:
            nonlocal seen
            if packet_kind(data) != kind:
                return None
            seen += 1
            if seen < nth:
                return None
            network.tap = None
            victim = self._victim(source, who)
            if victim is not None:
                for address in victim.addresses:
                    network.mute(address)
                self.cluster.scheduler.call_later(0.0, lambda: self._fall(victim, kind, how, back))
            self._ambush(*later)
            return {"before": 0, "after": None, "partly": 1}[when] if who == "sender" else None

        network.tap = tap

    def _victim(self, source: Address, who: str) -> SimulatedNode | None:
        """The node that sends, or another one: a change then begins in the middle of what the packet is about."""
        nodes = [node for node in self.cluster.live_nodes() if (source in node.addresses) == (who == "sender")]
        return nodes[len(nodes) // 2] if nodes else None

    def _fall(self, node: SimulatedNode, kind: str, how: str, back: float | None) -> None:
        for address in node.addresses:
            self.cluster.network.unmute(address)
        if not node.running:
            return
        self._struck("rotate" if how == "rotate_key" else f"ambush {kind}")
        getattr(node, how)()
        if how == "pause":
            self._return(0.8 if back is None else back, node.resume)
        elif back is not None:
            self._return(back, lambda: self._restart(node.name))
            self._return(back + 0.3, lambda: self._populate(node.name))

    def _return(self, seconds: float, function: Callable[[], object]) -> None:
        self._returning += 1

        def come() -> None:
            self._returning -= 1
            function()

        self.cluster.scheduler.call_later(seconds, come)

    def _rotate(self, name: str) -> None:
        if (node := self._node(name)) is not None:
            self._struck("rotate")
            node.rotate_key()

    # The steps: faults of the network

    def _stutter(self, name: str, loss_probability: float) -> None:
        if (node := self._node(name)) is not None:
            self._struck("stutter")
            self.cluster.network.loss_from[node.address] = loss_probability

    def _clear_throat(self, name: str) -> None:
        if name in self.cluster.nodes:
            self.cluster.network.loss_from.pop(self.cluster.nodes[name].address, None)

    def _split(self, *sides: tuple[str, ...]) -> None:
        self._struck("split")
        self.cluster.heal()
        self.cluster.partition(*[self._existing(side) for side in sides])

    def _links(self, *pairs: tuple[str, str]) -> None:
        self._struck("links")
        self.cluster.heal()
        self.cluster.link(*pairs)

    def _heal(self) -> None:
        self.cluster.heal()

    def _cut(self, name: str, other: str) -> None:
        if len(self._existing((name, other))) == 2:
            self._struck("cut")
            self.cluster.cut(name, other)

    def _restore(self, name: str, other: str) -> None:
        if len(self._existing((name, other))) == 2:
            self.cluster.restore(name, other)

    def _clog(self, name: str, other: str) -> None:
        if len(self._existing((name, other))) == 2:
            self._struck("clog")
            self.cluster.clog(name, other)

    def _unclog(self, name: str, other: str) -> None:
        if len(self._existing((name, other))) == 2:
            self.cluster.unclog(name, other)

    def _clog_all(self, name: str) -> None:
        for other in self._existing(NAMES):
            if other != name and name in self.cluster.nodes:
                self._clog(name, other)
                self._clog(other, name)

    def _unclog_all(self, name: str) -> None:
        for other in self._existing(NAMES):
            if other != name and name in self.cluster.nodes:
                self._unclog(name, other)
                self._unclog(other, name)

    def _deafen(self, name: str, other: str) -> None:
        if len(self._existing((name, other))) == 2:
            self._struck("deafen")
            self.cluster.deafen(name, other)

    def _undeafen(self, name: str, other: str) -> None:
        if len(self._existing((name, other))) == 2:
            self.cluster.undeafen(name, other)

    def _shrink(self, name: str, takes_bytes: int) -> None:
        if name in self.cluster.nodes:
            self._struck("shrink")
            self.cluster.shrink(name, takes_bytes)

    def _widen_path(self, name: str) -> None:
        if name in self.cluster.nodes:
            self.cluster.shrink(name, None)

    def _pull(self, name: str, link: int) -> None:
        if name in self.cluster.nodes:
            self._struck("pull")
            self.cluster.pull(name, link)

    def _plug(self, name: str, link: int) -> None:
        if name in self.cluster.nodes:
            self.cluster.plug(name, link)

    def _existing(self, names: Iterable[str]) -> list[str]:
        return [name for name in names if name in self.cluster.nodes]
