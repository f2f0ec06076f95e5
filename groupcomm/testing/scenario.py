"""One random run: what is done when, drawn from a seed, and its execution on a cluster.

The script is drawn before the run and knows nothing of it, so a step can be dropped without changing the others: that
is how a failing run is made small. A step that makes no sense when its time comes (a crash of a dead node) is passed
over. After the script the network is healed and the cluster has a bounded time to come to rest; then the oracle reads
the trace.
"""

from __future__ import annotations

import random
import traceback
from collections.abc import Callable, Sequence

from attrs import define, field, frozen

from groupcomm.config import EngineConfig
from groupcomm.errors import NameInUse, QueueFull
from groupcomm.events import Level, Reason
from groupcomm.limits import DEFAULT_BUDGET_BYTES, MIN_BUDGET_BYTES
from groupcomm.outputs import Address
from groupcomm.testing.cluster import Cluster, TimeLimitReached, product_engine
from groupcomm.testing.interface import EngineFactory
from groupcomm.testing.network import Conditions, PacketObserver
from groupcomm.testing.node import SimulatedClient, SimulatedNode
from groupcomm.testing.oracle import Report, examine
from groupcomm.testing.packets import packet_kind
from groupcomm.testing.trace import Trace

CONVERGE_SECONDS = 20.0
"""From the healing of the network to one view of all."""

REST_SECONDS = 20.0
"""From there until nothing is outstanding."""

QUIET_LOSS = 0.02
"""The loss that stays after the healing, at most."""

NAMES = ("ash", "bay", "cob", "dew", "elm", "fir", "gum", "hop", "ivy")
GROUPS = ("red", "green", "blue")
LEVELS = tuple(Level)
AMBUSH_KINDS = (
    "JOIN", "RECOVER", "ANSWER", "PLAN", "PLAN", "READY", "READY", "INSTALL", "INSTALL", "DIRECTORY", "STAMP",
    "HANDOVER", "TAKE",
)  # fmt: skip
"""The packets before, after or while sending which a node may fall."""


@frozen
class Parameters:
    """What kind of run it is: drawn first, so that runs differ in kind and not only in detail.

    Attributes:
        nodes: how many.
        clients: how many on each node.
        groups: how many groups they use.
        seconds: of faults and traffic, after all have started.
        send_interval: between two bursts of one client, on average.
        burst: messages of one burst at most.
        levels: how often each level is drawn, from UNRELIABLE on.
        large_probability: that a message needs many packets.
        huge_probability: that it is several hundred kilobytes.
        faults: how many faults.
        conditions: of the network.
        mtu_bytes: of the network and the nodes.
        clock_spread: how much the speeds of two clocks differ at most.
        first_packet_number: where every stream's numbers begin; near 2**32 they wrap in the run.
        suppression_nodes: views larger than this multicast their NACKs.
        budget_bytes: of every node.
        giants: messages of more than a mebibyte, which need a slot, all at about one time.
        dominant: whether one client after the other sends most of what is ordered: each is given the sequencer's role.
        ambushes: how many nodes end, stop or vanish at a named step of a view change.
    """

    nodes: int
    clients: int
    groups: int
    seconds: float
    send_interval: float
    burst: int
    levels: tuple[int, ...]
    large_probability: float
    huge_probability: float
    faults: int
    conditions: Conditions
    mtu_bytes: int
    clock_spread: float
    first_packet_number: int
    suppression_nodes: int
    budget_bytes: int
    giants: int
    dominant: bool
    ambushes: int


@frozen
class Step:
    """One thing to do at a time: the name of a method of ``Run`` without its underscore, and its arguments."""

    at: float
    action: str
    arguments: tuple[object, ...] = ()

    def __str__(self) -> str:
        return f"{self.at:9.6f} {self.action} {' '.join(map(str, self.arguments))}"


@frozen
class Scenario:
    """A whole run before it is run."""

    seed: str
    parameters: Parameters
    steps: tuple[Step, ...]


@define(eq=False)
class Outcome:
    """What came of a run.

    Attributes:
        failure: the first broken property or ``exception`` or ``L1`` (no rest within the bound); None if all is well.
        text: the whole story of it.
    """

    scenario: Scenario
    trace: Trace
    digest: str
    report: Report
    failure: str | None = None
    text: str = ""
    seconds: float = 0.0
    refused_sends: int = 0
    counters: dict[str, int] = field(factory=dict)


def draw_parameters(seed: str) -> Parameters:
    """The kind of run that belongs to a seed."""
    stream = random.Random(f"{seed}/parameters")
    conditions = Conditions(
        loss_probability=stream.choice((0.0, 0.0, 0.01, 0.05, 0.1, 0.2, 0.25)),
        duplicate_probability=stream.choice((0.0, 0.0, 0.02, 0.1)),
        reorder_probability=stream.choice((0.0, 0.0, 0.02, 0.2)),
        reorder_seconds=stream.choice((0.0005, 0.003, 0.02)),
        delay_seconds=stream.choice((0.00005, 0.0002, 0.001, 0.005)),
        jitter_seconds=stream.choice((0.0, 0.00005, 0.0005)),
        tail_probability=stream.choice((0.0, 0.0, 0.001, 0.01)),
        tail_seconds=stream.choice((0.01, 0.05)),
    )
    special = random.Random(f"{seed}/special")
    return Parameters(
        nodes=stream.choice((2, 3, 3, 3, 4, 4, 5, 6, 7)),
        clients=stream.choice((1, 1, 1, 2, 3)),
        groups=stream.randint(1, len(GROUPS)),
        seconds=stream.choice((1.0, 2.0, 3.0)),
        send_interval=stream.choice((0.02, 0.05, 0.2)),
        burst=stream.choice((1, 3, 10)),
        levels=(*(stream.choice((0, 1, 1, 4)) for _ in LEVELS[:-1]), stream.choice((1, 2))),
        large_probability=stream.choice((0.0, 0.02, 0.1)),
        huge_probability=stream.choice((0.0, 0.0, 0.002)),
        faults=stream.choice((0, 1, 2, 4, 7)),
        conditions=conditions,
        mtu_bytes=stream.choice((1200, 1400, 1400, 8900)),
        clock_spread=stream.choice((0.0, 0.0, 0.05)),
        first_packet_number=special.choice((0, 0, (1 << 32) - 100, (1 << 32) - 3, (1 << 31) - 50)),
        suppression_nodes=special.choice((16, 16, 3, 2)),
        budget_bytes=special.choice((DEFAULT_BUDGET_BYTES, MIN_BUDGET_BYTES)),
        giants=special.choice((0,) * 24 + (3,)),
        dominant=special.random() < 0.15,
        ambushes=special.choice((0, 0, 1, 2, 3)),
    )


def draw_scenario(seed: str) -> Scenario:
    """The whole run that belongs to a seed."""
    parameters = draw_parameters(seed)
    names = NAMES[: parameters.nodes]
    steps = [*_draw_starts(seed, parameters, names), *_draw_sends(seed, parameters, names)]
    steps += _draw_faults(seed, parameters, names)
    steps += _draw_memberships(seed, parameters, names)
    steps += _draw_loads(seed, parameters, names)
    steps += _draw_ambushes(seed, parameters, names)
    steps += _draw_merges(seed, parameters, names)
    return Scenario(seed, parameters, tuple(sorted(steps, key=lambda step: step.at)))


def _draw_starts(seed: str, parameters: Parameters, names: Sequence[str]) -> list[Step]:
    stream = random.Random(f"{seed}/starts")
    together = stream.random() < 0.5
    steps = []
    for name in names:
        at = 0.0 if together else stream.random() * 1.5
        steps.append(Step(at, "start", (name,)))
        steps.append(Step(at + stream.random() * 1.5, "populate", (name,)))
    return steps


def _draw_sends(seed: str, parameters: Parameters, names: Sequence[str]) -> list[Step]:
    stream = random.Random(f"{seed}/sends")
    number = 0
    steps = []
    for name in names:
        for slot in range(parameters.clients):
            at = 0.5 + stream.expovariate(1.0 / parameters.send_interval)
            while at < 1.5 + parameters.seconds:
                for _ in range(stream.randint(1, parameters.burst)):
                    number += 1
                    steps.append(_draw_send(stream, parameters, names, at, name, slot, number))
                at += stream.expovariate(1.0 / parameters.send_interval) * parameters.burst**0.5
    return steps


def _draw_send(
    stream: random.Random,
    parameters: Parameters,
    names: Sequence[str],
    at: float,
    name: str,
    slot: int,
    number: int,
) -> Step:
    level = stream.choices(LEVELS, parameters.levels)[0]
    size = stream.choice((0, 10, 100, 300))
    draw = stream.random()
    if level is not Level.UNRELIABLE:
        if draw < parameters.huge_probability:
            size = stream.randint(200_000, 600_000)
        elif draw < parameters.huge_probability + parameters.large_probability:
            size = stream.randint(1_000, 40_000)
    stable, self_discard, private = (stream.random() < odds for odds in (0.05, 0.05, 0.05))
    groups = tuple(sorted(stream.sample(GROUPS[: parameters.groups], stream.choice((1, 1, 1, parameters.groups)))))
    to_node, to_slot = stream.choice(names), stream.randrange(parameters.clients)
    if private:
        return Step(at, "send_private", (name, slot, f"m{number}", size, level, to_node, to_slot))
    return Step(at, "send", (name, slot, f"m{number}", size, level, groups, stable, self_discard))


def _draw_faults(seed: str, parameters: Parameters, names: Sequence[str]) -> list[Step]:
    stream = random.Random(f"{seed}/faults")
    steps = []
    for _ in range(parameters.faults):
        at = 1.0 + stream.random() * parameters.seconds
        until = at + stream.choice((0.02, 0.1, 0.4, 1.0, 2.0)) * (0.5 + stream.random())
        name = stream.choice(names)
        kind = stream.choice(
            (
                "crash",
                "crash",
                "vanish",
                "restart",
                "partition",
                "partition",
                "isolate",
                "cut",
                "pause",
                "pause",
                "quit",
            )
        )
        match kind:
            case "crash" | "vanish":
                steps.append(Step(at, kind, (name,)))
                if stream.random() < 0.5:
                    steps += [Step(until, "restart", (name,)), Step(until + stream.random(), "populate", (name,))]
            case "restart" | "quit":
                steps += [Step(at, kind, (name,))]
                if kind == "quit" and stream.random() < 0.5:
                    steps.append(Step(until, "restart", (name,)))
                steps.append(Step(until + stream.random(), "populate", (name,)))
            case "partition":
                side = tuple(sorted(stream.sample(names, stream.randint(1, len(names) - 1))))
                steps += [Step(at, "partition", (side,)), Step(until, "heal")]
            case "isolate":
                steps += [Step(at, "partition", ((name,),)), Step(until, "heal")]
            case "cut":
                other = stream.choice([one for one in names if one != name])
                steps += [Step(at, "cut", (name, other)), Step(until, "restore", (name, other))]
            case "pause":
                steps += [Step(at, "pause", (name,)), Step(until, "resume", (name,))]
    return steps


def _draw_memberships(seed: str, parameters: Parameters, names: Sequence[str]) -> list[Step]:
    stream = random.Random(f"{seed}/memberships")
    steps = []
    for _ in range(stream.choice((0, 2, 6))):
        at = 1.0 + stream.random() * parameters.seconds
        name, slot = stream.choice(names), stream.randrange(parameters.clients)
        group = stream.choice(GROUPS[: parameters.groups])
        if stream.random() < 0.3:
            steps += [Step(at, "close", (name, slot)), Step(at + stream.random(), "populate", (name,))]
        else:
            steps += [Step(at, "leave", (name, slot, group)), Step(at + stream.random(), "join", (name, slot, group))]
    return steps


def _draw_loads(seed: str, parameters: Parameters, names: Sequence[str]) -> list[Step]:
    """Giants from several senders at once, and one sender that outweighs all others."""
    stream = random.Random(f"{seed}/loads")
    steps = []
    at = 1.5 + stream.random()
    for number in range(parameters.giants):
        size, level = stream.randint(1_050_000, 1_600_000), stream.choice((Level.RELIABLE, Level.FIFO, Level.AGREED))
        name, slot = stream.choice(names), stream.randrange(parameters.clients)
        steps.append(Step(at, "send", (name, slot, f"giant{number}", size, level, GROUPS[:1], False, False)))
        at += stream.random() * 0.02
    if parameters.dominant:
        name, at, number, until = stream.choice(names), 1.2, 0, 0.0
        while at < 1.5 + parameters.seconds:
            number += 1
            if at > until:
                name, until = stream.choice(names), at + 1.0 + stream.random()
            size, level = stream.randint(500, 5_000), stream.choice((Level.AGREED, Level.AGREED, Level.SAFE))
            steps.append(Step(at, "send", (name, 0, f"d{number}", size, level, GROUPS[:1], False, False)))
            at += stream.expovariate(1.0 / 0.012)
    return steps


def _draw_ambushes(seed: str, parameters: Parameters, names: Sequence[str]) -> list[Step]:
    """Nodes that fall at a named step of a change, and a fault that makes a change come about."""
    stream = random.Random(f"{seed}/ambushes")
    steps = []
    for _ in range(parameters.ambushes):
        at = 1.0 + stream.random() * parameters.seconds
        kind = stream.choice(AMBUSH_KINDS)
        when = stream.choice(("before", "after", "partly"))
        how = stream.choice(("crash", "crash", "vanish", "pause"))
        back = stream.choice((None, 0.0, 0.3, 1.5))
        steps.append(Step(at, "ambush", (kind, when, how, back, stream.choice((1, 1, 2, 4)))))
        provoked = stream.choice(("restart", "crash", "quit", "partition"))
        if provoked == "quit":
            for name in stream.sample(names, stream.randint(1, len(names) - 1)):
                steps += [Step(at, "quit", (name,)), Step(at + 0.5 + stream.random(), "restart", (name,))]
        elif provoked == "partition":
            side = tuple(sorted(stream.sample(names, stream.randint(1, len(names) - 1))))
            steps += [Step(at, "partition", (side,)), Step(at + 1.0 + stream.random(), "heal")]
        else:
            steps.append(Step(at, provoked, (stream.choice(names),)))
        steps += [Step(at + 2.0, "populate", (name,)) for name in names]
    return steps


def _draw_merges(seed: str, parameters: Parameters, names: Sequence[str]) -> list[Step]:
    """Several components, of which first two and, while these merge, all are healed."""
    stream = random.Random(f"{seed}/merges")
    if len(names) < 3 or stream.random() >= 0.2:
        return []
    at = 1.0 + stream.random() * parameters.seconds
    count = stream.randint(3, min(5, len(names)))
    sides: list[list[str]] = [[] for _ in range(count)]
    for number, name in enumerate(stream.sample(names, len(names))):
        sides[number if number < count else stream.randrange(count)].append(name)
    split = tuple(tuple(sorted(side)) for side in sides)
    together = (split[0] + split[1], *split[2:])
    first = at + 0.5 + 1.5 * stream.random()
    return [
        Step(at, "split", split),
        Step(first, "split", together),
        Step(first + stream.choice((0.2, 0.8, 1.0, 1.3)) * (0.7 + 0.6 * stream.random()), "heal"),
    ]


@define(eq=False)
class Run:
    """A scenario at work."""

    scenario: Scenario
    cluster: Cluster
    refused_sends: int = 0
    _clients: dict[tuple[str, int], SimulatedClient] = field(factory=dict)

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
        rates = {name: 1.0 + parameters.clock_spread * (stream.random() - 0.5) for name in NAMES}
        cluster = Cluster(
            scenario.seed,
            config=EngineConfig(
                mtu_bytes=parameters.mtu_bytes,
                first_packet_number=parameters.first_packet_number,
                suppression_nodes=parameters.suppression_nodes,
                budget_bytes=parameters.budget_bytes,
            ),
            conditions=parameters.conditions,
            check_invariants=check_invariants,
            clock_rates=rates,
            engine_factory=engine_factory,
        )
        cluster.network.observer = observer
        run = cls(scenario, cluster)
        for step in scenario.steps:
            cluster.scheduler.call_at(step.at, run._bound(step))
        return run

    def execute(self) -> Outcome:
        """Run it to its end and ask the oracle."""
        cluster, failure, text = self.cluster, None, ""
        settled = None
        try:
            last = max((step.at for step in self.scenario.steps), default=0.0)
            cluster.run(until=max(1.6 + self.scenario.parameters.seconds, last + 0.1))
            self._settle()
            settled = [node.identity for node in cluster.live_nodes()]
        except TimeLimitReached as error:
            failure, text = "L1", str(error)
        except Exception:
            failure, text = "exception", traceback.format_exc()
        report = examine(cluster.trace, settled=settled)
        if report.violations and failure != "exception":
            failure = report.violations[0].property
            text = "\n".join(f"{one.property}: {one.text}" for one in report.violations[:10]) + "\n" + text
        outcome = Outcome(self.scenario, cluster.trace, cluster.trace.digest(), report, failure, text, cluster.now)
        outcome.refused_sends = self.refused_sends
        for node in cluster.live_nodes():
            for name, number in node.status().counters.items():
                outcome.counters[name] = outcome.counters.get(name, 0) + number
        return outcome

    def _bound(self, step: Step) -> Callable[[], None]:
        return lambda: getattr(self, f"_{step.action}")(*step.arguments)

    def _settle(self) -> None:
        """Heal everything, wait for one view, send once more at every level, and wait until nothing is outstanding."""
        cluster = self.cluster
        cluster.heal()
        cluster.network.tap = None
        quiet_loss = min(QUIET_LOSS, cluster.network.conditions.loss_probability)
        cluster.network.conditions = Conditions(loss_probability=quiet_loss)
        for node in cluster.live_nodes():
            node.resume()
        if not cluster.live_nodes():
            return
        cluster.run_until(cluster.converged, CONVERGE_SECONDS, every=0.01)
        for number, (name, slot) in enumerate(sorted(self._clients)):
            for level in LEVELS:
                self._send(name, slot, f"probe{number}{level.name}", 20, level, GROUPS[:1], False, False)
        cluster.run_until(self._at_rest, REST_SECONDS, every=0.05)
        cluster.run(1.0)  # a node that fell late has come back by then
        cluster.run_until(cluster.converged, CONVERGE_SECONDS, every=0.01)
        cluster.run_until(lambda: cluster.converged() and self._at_rest(), REST_SECONDS, every=0.05)
        cluster.run(0.5)

    def _at_rest(self) -> bool:
        for node in self.cluster.live_nodes():
            status = node.status()
            if status.outstanding_bytes or status.queued_bytes or status.state != "operational":
                return False
            if not all(sending.accepted for (session, _), sending in node.sendings.items() if session in node.clients):
                return False
        return True

    # The steps

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
                    client.join(group)

    def _join(self, name: str, slot: int, group: str) -> None:
        client = self._client(name, slot)
        if client is not None and client.view(group) is None and not client.joining(group):
            client.join(group)

    def _leave(self, name: str, slot: int, group: str) -> None:
        client = self._client(name, slot)
        if client is not None and client.view(group) is not None and not client.leaving(group):
            client.leave(group)

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
            except QueueFull:
                self.refused_sends += 1

    def _send_private(
        self, name: str, slot: int, label: str, size: int, level: Level, to_node: str, to_slot: int
    ) -> None:
        client = self._client(name, slot)
        if client is not None:
            try:
                client.send_private(f"c{to_slot}", to_node, self._data(label, size), level=level)
            except QueueFull:
                self.refused_sends += 1

    def _data(self, label: str, size: int) -> bytes:
        return f"{label}|".encode() + random.Random(f"{self.scenario.seed}/data/{label}").randbytes(size)

    def _crash(self, name: str) -> None:
        if (node := self._node(name)) is not None:
            node.crash()

    def _vanish(self, name: str) -> None:
        if (node := self._node(name)) is not None:
            node.vanish()

    def _restart(self, name: str) -> None:
        if name in self.cluster.nodes:
            self.cluster.nodes[name].restart()

    def _quit(self, name: str) -> None:
        if (node := self._node(name)) is not None:
            node.leave()

    def _partition(self, side: tuple[str, ...]) -> None:
        inside = [name for name in sorted(self.cluster.nodes) if name in side]
        outside = [name for name in sorted(self.cluster.nodes) if name not in side]
        self.cluster.partition(inside, outside)

    def _split(self, *sides: tuple[str, ...]) -> None:
        self.cluster.heal()
        self.cluster.partition(*[[name for name in side if name in self.cluster.nodes] for side in sides])

    def _ambush(self, kind: str, when: str, how: str, back: float | None, nth: int) -> None:
        """The node that sends the ``nth`` packet of this kind falls: before, after, or having reached one node."""
        seen = 0

        def tap(data: bytes, source: Address) -> int | None:
            nonlocal seen
            if packet_kind(data) != kind:
                return None
            seen += 1
            if seen < nth:
                return None
            network.tap = None
            node = next(node for node in self.cluster.nodes.values() if node.address == source)
            network.mute(source)
            self.cluster.scheduler.call_later(0.0, lambda: self._fall(node, how, back))
            return {"before": 0, "after": None, "partly": 1}[when]

        network = self.cluster.network
        network.tap = tap

    def _fall(self, node: SimulatedNode, how: str, back: float | None) -> None:
        self.cluster.network.unmute(node.address)
        if not node.running:
            return
        getattr(node, how)()
        if how == "pause":
            self.cluster.scheduler.call_later(1.0 if back is None else back, node.resume)
        elif back is not None:
            self.cluster.scheduler.call_later(back, lambda: self._restart(node.name))
            self.cluster.scheduler.call_later(back + 0.5, lambda: self._populate(node.name))

    def _heal(self) -> None:
        self.cluster.heal()

    def _cut(self, name: str, other: str) -> None:
        if name in self.cluster.nodes and other in self.cluster.nodes:
            self.cluster.cut(name, other)

    def _restore(self, name: str, other: str) -> None:
        if name in self.cluster.nodes and other in self.cluster.nodes:
            self.cluster.restore(name, other)

    def _pause(self, name: str) -> None:
        if (node := self._node(name)) is not None:
            node.pause()

    def _resume(self, name: str) -> None:
        if name in self.cluster.nodes:
            self.cluster.nodes[name].resume()
