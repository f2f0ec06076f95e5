"""The parts of the benchmark: which measurements each makes, of which systems."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

from attrs import frozen

from bench.lab import BenchError, Json, Lab
from bench.measure import Record, idle, latency, throughput
from bench.memory import flood
from bench.sharing import LINKS, fairness
from bench.systems.base import Deployment, System

GROUPCOMM = ("embedded", "daemon", "embedded-insecure", "daemon-insecure")
COROSYNC = ("corosync-udp", "corosync-knet", "corosync-knet-sealed")
FAST_COROSYNC = ("corosync-udp-fast", "corosync-knet-fast")
BROKERS = ("nats", "zeromq")
FLOORS = ("floor-embedded", "floor-daemon")

LOSS_SIZE = 1024
LOSS_RATE = 200
VIEW_SECONDS = 60.0
SETTLE_SECONDS = 0.5
IDLE_SECONDS = 5.0


@frozen
class Plan:
    """What of each part is measured.

    Attributes:
        seconds: how long each flood and each series of probes lasts.
        sizes: of the messages of floods, in bytes.
        senders: how many hosts flood at once.
        rates: of probes, a second.
        probers: the hosts that send probes, one after the other.
        losses: the shares of packets that are dropped, in per cent.
        nodes: the sizes of the cluster, for growth.
        tcp: the congestion controls of TCP that a flood shares a link with.
        fairness_seconds: how long a flood and a TCP connection share a link.
        flood_seconds: how long the flood lasts that memory is watched in.
    """

    seconds: float
    sizes: tuple[int, ...]
    senders: tuple[int, ...]
    rates: tuple[int, ...]
    probers: tuple[int, ...]
    losses: tuple[float, ...]
    nodes: tuple[int, ...]
    tcp: tuple[str, ...]
    fairness_seconds: float
    flood_seconds: float


@frozen
class Part:
    """One part.

    Attributes:
        name: what the command line and the results call it.
        systems: the names of the systems it can measure.
        measure: makes its measurements of one system.
        unasked: whether it is measured if nothing is said of parts; not if it takes as long as all the others.
    """

    name: str
    systems: tuple[str, ...]
    measure: Callable[[Lab, System, Plan], Iterator[Record]]
    unasked: bool = True


def _throughput(lab: Lab, system: System, plan: Plan) -> Iterator[Record]:
    """Messages a second at every size."""
    with Deployment(lab, system) as deployment:
        for size in plan.sizes:
            for senders in plan.senders:
                yield throughput(deployment, "throughput", {"size": size, "senders": senders}, plan.seconds)


def _offload(lab: Lab, system: System, plan: Plan) -> Iterator[Record]:
    """The same on links that cut bursts into packets."""
    lab.offload(on=False)
    try:
        with Deployment(lab, system) as deployment:
            for size in plan.sizes:
                for senders in plan.senders:
                    yield throughput(deployment, "offload", {"size": size, "senders": senders}, plan.seconds)
    finally:
        lab.offload(on=True)


def _latency(lab: Lab, system: System, plan: Plan) -> Iterator[Record]:
    """One-way latency, from each prober, at every level the system has."""
    with Deployment(lab, system) as deployment:
        for level in system.levels:
            for rate in plan.rates:
                for sender in plan.probers:
                    case: Json = {"level": level, "rate": rate, "sender": sender}
                    yield latency(deployment, "latency", case, plan.seconds)


def _loss(lab: Lab, system: System, plan: Plan) -> Iterator[Record]:
    """Latency and throughput while every host loses packets; offload off, so that each packet counts."""
    probes: Json = {"level": "agreed", "rate": LOSS_RATE, "sender": 1}
    flood: Json = {"size": LOSS_SIZE, "senders": 1}
    lab.offload(on=False)
    try:
        with Deployment(lab, system) as deployment:
            for percent in plan.losses:
                for measure, case in ((latency, probes), (throughput, flood)):
                    deployment.refresh()
                    lab.loss(percent)
                    try:
                        yield measure(deployment, "loss", {"loss": percent, **case}, plan.seconds)
                    finally:
                        lab.loss(0)
    finally:
        lab.offload(on=True)


def _views(lab: Lab, system: System, plan: Plan) -> Iterator[Record]:
    """How long until the last survivor is told."""
    for case, measure in (
        ("the first node is killed", _kill_first),
        ("the last node is killed", _kill_last),
        ("a host vanishes", _vanish),
        ("a partition heals", _heal),
    ):
        with Deployment(lab, system) as deployment:
            time.sleep(SETTLE_SECONDS)
            try:
                figures = {"milliseconds": measure(deployment)}
                yield Record("views", system.name, {"event": case}, figures)
            except BenchError as error:
                yield Record("views", system.name, {"event": case}, {}, str(error).splitlines()[0])


def _kill_first(deployment: Deployment) -> float:
    return _kill(deployment, deployment.lab.hosts[0])


def _kill_last(deployment: Deployment) -> float:
    return _kill(deployment, deployment.lab.hosts[-1])


def _kill(deployment: Deployment, victim: int) -> float:
    killed = (deployment.nodes or deployment.workers)[victim].kill()
    return _told(deployment, [host for host in deployment.lab.hosts if host != victim], killed)


def _vanish(deployment: Deployment) -> float:
    victim = deployment.lab.size
    gone = time.monotonic_ns()
    deployment.lab.run("link", str(victim), "eth0", "down")
    try:
        return _told(deployment, [host for host in deployment.lab.hosts if host != victim], gone)
    finally:
        deployment.lab.run("link", str(victim), "eth0", "up")


def _heal(deployment: Deployment) -> float:
    hosts = list(deployment.lab.hosts)
    half = len(hosts) // 2
    deployment.lab.run("split", " ".join(map(str, hosts[:half])), " ".join(map(str, hosts[half:])))
    try:
        deployment.wait_for_view(hosts[:half], half, VIEW_SECONDS)
        deployment.wait_for_view(hosts[half:], len(hosts) - half, VIEW_SECONDS)
        time.sleep(SETTLE_SECONDS)
    finally:
        healed = time.monotonic_ns()
        deployment.lab.run("heal")
    return _told(deployment, hosts, healed)


def _told(deployment: Deployment, hosts: list[int], since: int) -> float:
    """Milliseconds until each of these hosts sees exactly them."""
    return (max(deployment.wait_for_view(hosts, len(hosts), VIEW_SECONDS).values()) - since) / 1e6


def _idle(lab: Lab, system: System, plan: Plan) -> Iterator[Record]:
    """What a system costs that has nothing to do."""
    with Deployment(lab, system) as deployment:
        time.sleep(SETTLE_SECONDS)
        yield idle(deployment, "idle", IDLE_SECONDS)


def _growth(_: Lab, system: System, plan: Plan) -> Iterator[Record]:
    """Throughput and latency in clusters of several sizes, each on hosts of its own."""
    for nodes in plan.nodes:
        with Lab(nodes) as lab, Deployment(lab, system) as deployment:
            case: Json = {"nodes": nodes, "level": "agreed", "rate": LOSS_RATE, "sender": 1}
            yield latency(deployment, "growth", case, plan.seconds)
            yield latency(deployment, "growth", {**case, "sender": 2}, plan.seconds)
            yield throughput(deployment, "growth", {"nodes": nodes, "size": LOSS_SIZE, "senders": 1}, plan.seconds)


def _fairness(lab: Lab, system: System, plan: Plan) -> Iterator[Record]:
    """What a TCP connection keeps of a link; offload off, so that a queue takes and drops packets one by one."""
    lab.offload(on=False)
    try:
        with Deployment(lab, system) as deployment:
            for control in plan.tcp:
                for link in LINKS:
                    case: Json = {"link": link, "tcp": control, "size": LOSS_SIZE}
                    yield fairness(deployment, "fairness", case, plan.fairness_seconds)
    finally:
        lab.offload(on=True)


def _flood(lab: Lab, system: System, plan: Plan) -> Iterator[Record]:
    """What the memory of each process does while all hosts send."""
    with Deployment(lab, system) as deployment:
        case: Json = {"size": LOSS_SIZE, "senders": lab.size, "seconds": plan.flood_seconds}
        yield from flood(deployment, "flood", case, plan.flood_seconds)


PARTS = {
    part.name: part
    for part in (
        Part("throughput", GROUPCOMM + COROSYNC + BROKERS, _throughput),
        Part("offload", GROUPCOMM + COROSYNC + BROKERS, _offload),
        Part("latency", GROUPCOMM + COROSYNC + BROKERS + FLOORS, _latency),
        Part("loss", GROUPCOMM + COROSYNC + FAST_COROSYNC, _loss),
        Part("views", GROUPCOMM + COROSYNC + FAST_COROSYNC, _views),
        Part("idle", GROUPCOMM + COROSYNC, _idle),
        Part("growth", ("embedded",), _growth),
        Part("fairness", GROUPCOMM, _fairness, unasked=False),
        Part("flood", GROUPCOMM, _flood, unasked=False),
    )
}
"""All of them, in the order in which they are measured."""
