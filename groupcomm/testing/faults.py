"""What goes wrong in a random run, drawn from its seed.

Decides the faults of hosts and networks, the ambushes at named packets of a view change, and the merges of several
components. How each is carried out is the run's.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from functools import partial

from groupcomm.events import Level
from groupcomm.testing.parameters import GROUPS, LEVELS, Parameters
from groupcomm.testing.steps import TROUBLE_SECONDS, Step

AMBUSH_KINDS = (
    "JOIN", "RECOVER", "ANSWER", "PLAN", "PLAN", "READY", "READY", "INSTALL", "INSTALL", "DIRECTORY", "STAMP",
    "HANDOVER", "TAKE",
)  # fmt: skip
"""The packets before, after or while sending which a node may fall."""

FAULTS = (
    "crash", "crash", "vanish", "restart", "halves", "halves", "isolate", "bridge", "ring", "cut", "pause", "pause",
    "quit", "clog", "swizzle", "jump", "stutter",
)  # fmt: skip


def draw_faults(seed: str, parameters: Parameters, names: Sequence[str]) -> list[Step]:
    """Faults at any time, each with its end."""
    stream = random.Random(f"{seed}/faults")
    steps = []
    for _ in range(parameters.faults):
        at = TROUBLE_SECONDS + stream.random() * parameters.seconds
        until = at + stream.choice((0.02, 0.1, 0.4, 0.8, 1.4)) * (0.5 + stream.random())
        steps += _fault(stream, stream.choice(FAULTS), names, at, until)
    for name in stream.sample(names, min(parameters.slow_nodes, len(names))):
        steps.append(Step(TROUBLE_SECONDS, "slow", (name, stream.choice((20, 60)))))
    return steps


def draw_narrows(seed: str, parameters: Parameters, names: Sequence[str]) -> list[Step]:
    """A node, or two, whose link lets little through, while one or two others send more than that."""
    stream = random.Random(f"{seed}/narrows")
    if not parameters.evicts:
        return []
    at = TROUBLE_SECONDS + stream.random() * 0.3
    until = at + stream.choice((0.6, 1.2, 2.4))
    slow = stream.sample(names, 1 if len(names) < 5 else stream.choice((1, 1, 2)))
    steps = []
    for name in slow:
        rate = stream.choice((40_000, 80_000))
        steps += [Step(at, "narrow", (name, rate)), Step(until, "widen", (name,))]
        steps += [Step(until + 0.7, "populate", (name,))]
    others = [name for name in names if name not in slow]
    for name in stream.sample(others, min(len(others), stream.choice((1, 1, 2)))):
        for number in range(30):
            label, level = f"{name}-flood-{number}", stream.choice(LEVELS[1:])
            sent_at = at + number * 0.02
            steps.append(Step(sent_at, "send", (name, 0, label, 12_000, level, GROUPS[:1], False, False)))
    return steps


def draw_ambushes(seed: str, parameters: Parameters, names: Sequence[str]) -> list[Step]:
    """Nodes that fall one after the other, each at a named step of a change, and a fault that brings a change about."""
    stream = random.Random(f"{seed}/ambushes")
    ambushes = []
    for _ in range(parameters.ambushes):
        kind = stream.choice(AMBUSH_KINDS if not parameters.dominant else ("HANDOVER", "TAKE"))
        when = stream.choice(("before", "after", "partly"))
        who = stream.choice(("sender", "sender", "sender", "other"))
        how = stream.choice(("crash", "crash", "vanish", "pause"))
        back = stream.choice((None, 0.0, 0.3, 0.8))
        ambushes.append((kind, stream.choice((1, 1, 1, 2, 4)), when, who, how, back))
    if not ambushes:
        return []
    if parameters.dominant:  # the role is handed over without anybody's doing, about a second after the load has moved
        repopulate = [Step(later, "populate", (name,)) for name in names for later in (2.5, 3.5)]
        return [Step(TROUBLE_SECONDS, "ambush", tuple(ambushes)), *repopulate]
    at = TROUBLE_SECONDS + stream.random() * parameters.seconds
    steps = [Step(at, "ambush", tuple(ambushes))]
    provoked = stream.choice(("restart", "crash", "quit", "halves", "halves"))
    if provoked == "quit":
        for name in stream.sample(names, stream.randint(1, len(names) - 1)):
            steps += [Step(at, "quit", (name,)), Step(at + 0.5 + 0.7 * stream.random(), "restart", (name,))]
    elif provoked == "halves":
        steps += _halves(stream, names, at, at + 0.8 + 0.7 * stream.random())
    else:
        steps.append(Step(at, provoked, (stream.choice(names),)))
    return steps + [Step(at + 1.5, "populate", (name,)) for name in names]


def draw_rotations(seed: str, parameters: Parameters, names: Sequence[str]) -> list[Step]:
    """Rotations of the key, by one node or two at about one time, and one at a named step of a view change."""
    stream = random.Random(f"{seed}/rotations")
    steps = []
    for _ in range(stream.choice((0, 1, 1, 2, 4)) if parameters.sealed else 0):
        at = TROUBLE_SECONDS + stream.random() * parameters.seconds
        for name in stream.sample(names, stream.choice((1, 1, 2))):
            steps.append(Step(at + stream.choice((0.0, 0.002)), "rotate", (name,)))
    if parameters.sealed and not parameters.ambushes:
        kind, when = stream.choice(AMBUSH_KINDS[:9]), stream.choice(("before", "after", "partly"))
        at = TROUBLE_SECONDS + stream.random() * parameters.seconds
        steps.append(Step(at, "ambush", ((kind, stream.choice((1, 2)), when, "sender", "rotate_key", None),)))
        if stream.random() < 0.5:
            steps += _halves(stream, names, at, at + 0.8 + 0.7 * stream.random())
        else:
            steps += [Step(at, "restart", (stream.choice(names),))]
    return steps


def draw_merges(seed: str, parameters: Parameters, names: Sequence[str]) -> list[Step]:
    """Two to five components, of which first two and, while these merge, all are healed."""
    stream = random.Random(f"{seed}/merges")
    if stream.random() >= 0.12:
        return []
    at = TROUBLE_SECONDS + stream.random() * parameters.seconds
    count = stream.randint(2, min(5, len(names)))
    sides: list[list[str]] = [[] for _ in range(count)]
    for number, name in enumerate(stream.sample(names, len(names))):
        sides[number if number < count else stream.randrange(count)].append(name)
    split = tuple(tuple(sorted(side)) for side in sides)
    first = at + 0.5 + stream.random()
    steps = [Step(at, "split", split)]
    if count > 2:
        steps.append(Step(first, "split", (split[0] + split[1], *split[2:])))
        first += stream.choice((0.2, 0.8, 1.0, 1.3)) * (0.7 + 0.6 * stream.random())
    return [*steps, Step(first, "heal")]


def _fault(stream: random.Random, kind: str, names: Sequence[str], at: float, until: float) -> list[Step]:
    name = stream.choice(names)
    other = stream.choice([one for one in names if one != name])
    shapes: dict[str, Callable[[], list[Step]]] = {
        "crash": lambda: _death(stream, kind, name, at, until),
        "vanish": lambda: _death(stream, kind, name, at, until),
        "quit": lambda: _death(stream, kind, name, at, until),
        "restart": lambda: [Step(at, "restart", (name,)), Step(until, "populate", (name,))],
        "halves": lambda: _halves(stream, names, at, until),
        "isolate": lambda: [Step(at, "split", ((name,), _others(names, name))), Step(until, "heal")],
        "bridge": lambda: [Step(at, "links", _bridge(stream, names)), Step(until, "heal")],
        "ring": lambda: [Step(at, "links", _ring(stream, names)), Step(until, "heal")],
        "cut": lambda: [Step(at, "cut", (name, other)), Step(until, "restore", (name, other))],
        "pause": lambda: [Step(at, "pause", (name,)), Step(until, "resume", (name,))],
        "clog": lambda: [Step(at, "clog", (name, other)), Step(until, "unclog", (name, other))],
        "swizzle": lambda: _swizzle(stream, names, at, until),
        "stutter": lambda: _stutter(stream, name, at),
        "jump": lambda: [Step(at, "jump", (name, stream.choice((-1.0, -0.1, 0.05, 0.4, 1.5, 60.0))))],
    }
    return shapes[kind]()


def _death(stream: random.Random, kind: str, name: str, at: float, until: float) -> list[Step]:
    steps = [Step(at, kind, (name,))]
    if stream.random() < 0.6:
        steps += [Step(until, "restart", (name,)), Step(until + 0.6 * stream.random(), "populate", (name,))]
    return steps


def _stutter(stream: random.Random, name: str, at: float) -> list[Step]:
    """Much of what a node says in its last moments reaches nobody: others hold pieces of it, with holes."""
    steps = [Step(at, "stutter", (name, stream.choice((0.3, 0.6))))]
    for number in range(stream.randint(3, 8)):
        size, level = (
            stream.choice((10, 100, 3_000, 12_000)),
            stream.choice((Level.RELIABLE, Level.RELIABLE, *LEVELS[1:])),
        )
        label = f"{name}-{at:.6f}-{number}"
        sent_at = at + 0.03 * stream.random()
        steps.append(Step(sent_at, "send", (name, 0, label, size, level, GROUPS[:1], False, False)))
    end = at + stream.choice((0.02, 0.035, 0.1))
    return [*steps, Step(end, stream.choice(("crash", "crash", "vanish")), (name,)), Step(end, "clear_throat", (name,))]


def _halves(stream: random.Random, names: Sequence[str], at: float, until: float) -> list[Step]:
    side = tuple(sorted(stream.sample(names, stream.randint(1, len(names) - 1))))
    return [Step(at, "split", (side, _others(names, *side))), Step(until, "heal")]


def _bridge(stream: random.Random, names: Sequence[str]) -> tuple[tuple[str, str], ...]:
    """Two sides that do not hear each other, and one node that both hear."""
    bridge, *rest = stream.sample(names, len(names))
    middle = stream.randint(1, max(1, len(rest) - 1))
    sides = (rest[:middle], rest[middle:])
    inside = [(one, two) for side in sides for one in side for two in side if one < two]
    return tuple(sorted([*inside, *((bridge, one) for one in rest)]))


def _ring(stream: random.Random, names: Sequence[str]) -> tuple[tuple[str, str], ...]:
    """Each hears its two neighbours only."""
    order = stream.sample(names, len(names))
    return tuple(sorted(zip(order, [*order[1:], order[0]], strict=True)))


def _swizzle(stream: random.Random, names: Sequence[str], at: float, until: float) -> list[Step]:
    """All paths of some nodes clog one node after the other, and open in another order."""
    chosen = stream.sample(names, stream.randint(1, len(names)))
    moment = partial(stream.uniform, at, until)
    steps = []
    for name in chosen:
        first, second = sorted((moment(), moment()))
        steps += [Step(first, "clog_all", (name,)), Step(second, "unclog_all", (name,))]
    return steps


def _others(names: Sequence[str], *excepted: str) -> tuple[str, ...]:
    return tuple(name for name in names if name not in excepted)


def draw_path_faults(seed: str, parameters: Parameters, names: tuple[str, ...]) -> list[Step]:
    """Where nodes search their paths: pairs without multicast, to the end; MTUs that shrink; links that go down."""
    stream = random.Random(f"{seed}/paths")
    steps: list[Step] = []
    for _ in range(parameters.path_faults if parameters.links else 0):
        at = stream.uniform(0.0, parameters.seconds + 1.0)
        kind = stream.choice(("deafen", "deafen", "shrink", "pull"))
        name, other = stream.sample(names, 2)
        until = at + stream.uniform(0.05, 1.5)
        if kind == "deafen":
            steps.append(Step(at, "deafen", (name, other)))
            if stream.random() < 0.3:
                steps.append(Step(until, "undeafen", (name, other)))
        elif kind == "shrink":
            steps.append(Step(at, "shrink", (name, stream.choice((1232, 1300, 1400)))))
            if stream.random() < 0.5:
                steps.append(Step(until, "widen_path", (name,)))
        elif len(parameters.links) > 1:
            link = stream.randrange(len(parameters.links))
            steps.append(Step(at, "pull", (name, link)))
            steps.append(Step(until, "plug", (name, link)))
    return steps
