"""What kind of run a seed makes: drawn first, so that runs differ in kind and not only in detail.

Decides how many nodes, clients and messages there are, what the network is like, how clocks and buffers differ, and how
much goes wrong. What goes wrong when is drawn in ``script`` and ``faults``.
"""

from __future__ import annotations

import random
from typing import TypedDict

from attrs import frozen

from groupcomm.events import Level
from groupcomm.limits import DEFAULT_BUDGET_BYTES, MIN_BUDGET_BYTES
from groupcomm.quorum import NO_QUORUM, Filter, Quorum
from groupcomm.testing.network import Conditions
from groupcomm.testing.node import SOCKET_BUFFER_BYTES, TURN_SECONDS

NAMES = ("ash", "bay", "cob", "dew", "elm", "fir", "gum", "hop", "ivy")
GROUPS = ("red", "green", "blue")
LEVELS = tuple(Level)
NODE_WEIGHTS = {3: 30, 4: 22, 5: 16, 6: 12, 7: 9, 8: 6, 9: 5}
"""Of a hundred runs, how many have so many nodes: most bugs need three, and the time goes with the square."""
QUORUM_PROBABILITY = 0.25
"""How often nodes have a quorum filter."""


@frozen
class Parameters:
    """What kind of run it is.

    Attributes:
        nodes: how many, 2 to 9.
        clients: how many on each node.
        groups: how many groups they use.
        seconds: of faults and traffic, after all have started.
        bursts: in how many bursts the clients send.
        burst: messages of one burst at most.
        levels: how often each level is drawn, from UNRELIABLE on.
        large_probability: that a message needs many packets.
        huge_probability: that it is several hundred kilobytes.
        faults: how many faults.
        conditions: of the network.
        mtu_bytes: of the network and the nodes.
        clock_spread: how much a clock is fast or slow at most, as a fraction.
        first_packet_number: where every stream's numbers begin; near 2**32 they wrap in the run.
        suppression_nodes: views larger than this multicast their NACKs.
        budget_bytes: of every node.
        buffer_bytes: of every socket.
        turn_seconds: what one turn of a node takes at least.
        slow_nodes: how many nodes are slow receivers: their turns take many times as long.
        giants: messages of more than two mebibytes, which need a slot, all at about one time.
        dominant: whether one client after the other sends most of what is ordered: each is given the sequencer's role.
        ambushes: how many nodes end, stop or vanish at a named step of a view change.
        core: how many nodes are healed in the end; the others stay cut off from them. 0: all that live.
        evicts: whether nodes evict slow receivers, after a time that fits the run, and some node gets a narrow link.
        sealed: whether the nodes have a key; such runs rotate it too.
        links: what the interfaces of every node take, by link; nothing: one link, of which the engines are not told.
        active: whether all links are used for everything.
        path_faults: how many faults of paths: no multicast from one node to another, smaller MTUs, links that go down.
        quorum: which component may act; with a filter the groups but the first are read-only or blocked elsewhere.
        forgets: whether a restart forgets what the node remembered of primary views.
        disk_seconds: how long a disk takes at most to keep that.
    """

    nodes: int
    clients: int
    groups: int
    seconds: float
    bursts: int
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
    buffer_bytes: int
    turn_seconds: float
    slow_nodes: int
    giants: int
    dominant: bool
    ambushes: int
    core: int
    evicts: bool
    sealed: bool
    links: tuple[int, ...]
    active: bool
    path_faults: int
    quorum: Quorum = NO_QUORUM
    forgets: bool = False
    disk_seconds: float = 0.0


def draw_parameters(seed: str, nodes: int | None = None) -> Parameters:
    """The kind of run that belongs to a seed.

    Args:
        seed: any text.
        nodes: 2 to 9: so many instead of the number drawn. That is another run than the seed's own.
    """
    if nodes is not None and not 2 <= nodes <= len(NAMES):
        raise ValueError(f"a run has 2 to {len(NAMES)} nodes, not {nodes}")
    stream = random.Random(f"{seed}/parameters")
    drawn_nodes = stream.choices(tuple(NODE_WEIGHTS), tuple(NODE_WEIGHTS.values()))[0]
    conditions = Conditions(
        loss_probability=stream.choice((0.0, 0.0, 0.01, 0.05, 0.1, 0.2, 0.25)),
        duplicate_probability=stream.choice((0.0, 0.0, 0.02, 0.1)),
        reorder_probability=stream.choice((0.0, 0.0, 0.02, 0.2)),
        reorder_seconds=stream.choice((0.0005, 0.003, 0.02)),
        delay_seconds=stream.choice((0.00005, 0.0002, 0.001, 0.005)),
        jitter_seconds=stream.choice((0.0, 0.00005, 0.0005)),
        tail_probability=stream.choice((0.0, 0.0, 0.001, 0.01)),
        tail_seconds=stream.choice((0.01, 0.05)),
        corrupt_probability=stream.choice((0.0, 0.0, 0.0, 0.02)),
        garbage_probability=stream.choice((0.0, 0.0, 0.0, 0.02)),
    )
    return Parameters(
        nodes=drawn_nodes if nodes is None else nodes,
        clients=stream.choice((1, 1, 1, 1, 2, 3)),
        groups=stream.randint(1, len(GROUPS)),
        seconds=stream.choice((0.4, 0.7, 1.0, 1.6)),
        bursts=stream.choice((4, 10, 20, 40)),
        burst=stream.choice((1, 2, 2, 5)),
        levels=(*(stream.choice((0, 1, 1, 4)) for _ in LEVELS[:-1]), stream.choice((1, 2))),
        large_probability=stream.choice((0.0, 0.02, 0.1)),
        huge_probability=stream.choice((0.0,) * 7 + (0.005,)),
        faults=stream.choice((0, 1, 2, 3, 5)),
        conditions=conditions,
        mtu_bytes=stream.choice((1200, 1400, 1400, 8900)),
        clock_spread=stream.choice((0.0, 0.0, 0.05)),
        first_packet_number=stream.choice((0, 0, (1 << 32) - 100, (1 << 32) - 3, (1 << 31) - 50)),
        suppression_nodes=stream.choice((16, 16, 3, 2)),
        budget_bytes=stream.choice((DEFAULT_BUDGET_BYTES, MIN_BUDGET_BYTES)),
        buffer_bytes=stream.choice((SOCKET_BUFFER_BYTES,) * 4 + (65_536, 16_384)),
        turn_seconds=stream.choice((TURN_SECONDS, 0.0002, 0.0005)),
        slow_nodes=stream.choice((0,) * 7 + (1,)),
        giants=stream.choice((0,) * 149 + (3,)),
        dominant=stream.random() < 0.06,
        ambushes=stream.choice((0, 0, 0, 1, 1, 2, 3)),
        core=stream.choice((0, 0, 0, 1, 2, 3)),
        evicts=stream.random() < 0.08,
        sealed=stream.random() < 0.3,
        links=_draw_links(seed, stream),
        active=stream.random() < 0.5,
        path_faults=stream.choice((1, 2, 4)),
        **_draw_quorum(seed, drawn_nodes if nodes is None else nodes),
    )


def _draw_links(seed: str, stream: random.Random) -> tuple[int, ...]:
    """One run of six searches its paths: with several links, and copies, a run takes twice as long."""
    drawn: tuple[int, ...] = stream.choice(((),) * 9 + ((1472,), (8972,), (1472, 1472), (8972, 1472)))
    return drawn if random.Random(f"{seed}/links").random() < 0.5 else ()


class _Drawn(TypedDict):
    quorum: Quorum
    forgets: bool
    disk_seconds: float


def _draw_quorum(seed: str, nodes: int) -> _Drawn:
    stream = random.Random(f"{seed}/quorum")
    if stream.random() >= QUORUM_PROBABILITY:
        return {"quorum": NO_QUORUM, "forgets": False, "disk_seconds": 0.0}
    chosen = stream.choice((Filter.MAJORITY, Filter.WEIGHTED, *[Filter.DYNAMIC_LINEAR] * 3))
    names = NAMES[: max(2, nodes - stream.choice((0, 0, 0, 1)))]
    votes = [stream.choice((1, 1, 2, 3)) if chosen is Filter.WEIGHTED else 1 for _ in names]
    breaker = stream.choice((None, stream.choice(names)))
    quorum = Quorum(chosen, tuple(zip(names, votes, strict=True)), breaker)
    forgets = chosen is Filter.DYNAMIC_LINEAR and stream.random() < 0.3
    return {"quorum": quorum, "forgets": forgets, "disk_seconds": stream.choice((0.0, 0.0, 0.02, 0.3, 1.5))}
