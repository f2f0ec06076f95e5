"""Who comes, sends and goes in a random run, drawn from its seed: everything but what goes wrong."""

from __future__ import annotations

import random
from collections.abc import Sequence

from groupcomm.events import Level
from groupcomm.testing.parameters import GROUPS, LEVELS, Parameters
from groupcomm.testing.steps import TROUBLE_SECONDS, Step


def draw_starts(seed: str, parameters: Parameters, names: Sequence[str]) -> list[Step]:
    """Every node starts, and a little later its clients open their sessions and join."""
    stream = random.Random(f"{seed}/starts")
    spread = stream.choice((0.0, 0.0, 0.1, 0.5))
    steps = []
    for name in names:
        at = stream.random() * spread
        steps.append(Step(at, "start", (name,)))
        steps.append(Step(at + stream.random() * 0.8, "populate", (name,)))
    return steps


def draw_sends(seed: str, parameters: Parameters, names: Sequence[str]) -> list[Step]:
    """Bursts of messages of every level and size."""
    stream = random.Random(f"{seed}/sends")
    number = 0
    steps = []
    for _ in range(parameters.bursts):
        at = 0.5 + stream.random() * (TROUBLE_SECONDS - 0.5 + parameters.seconds)
        name, slot = stream.choice(names), stream.randrange(parameters.clients)
        for _ in range(stream.randint(1, parameters.burst)):
            number += 1
            steps.append(_send(stream, parameters, names, at, name, slot, number))
    return steps


def _send(
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


def draw_memberships(seed: str, parameters: Parameters, names: Sequence[str]) -> list[Step]:
    """Single clients that leave and join again, or close and come back."""
    stream = random.Random(f"{seed}/memberships")
    steps = []
    for _ in range(stream.choice((0, 2, 6))):
        at = TROUBLE_SECONDS + stream.random() * parameters.seconds
        name, slot = stream.choice(names), stream.randrange(parameters.clients)
        group = stream.choice(GROUPS[: parameters.groups])
        if stream.random() < 0.3:
            steps += [Step(at, "close", (name, slot)), Step(at + 0.5 * stream.random(), "populate", (name,))]
        else:
            steps += [
                Step(at, "leave", (name, slot, group)),
                Step(at + 0.5 * stream.random(), "join", (name, slot, group)),
            ]
    return steps


def draw_storms(seed: str, parameters: Parameters, names: Sequence[str]) -> list[Step]:
    """All clients leave and join all groups at about one time, again and again."""
    stream = random.Random(f"{seed}/storms")
    if stream.random() >= 0.07:
        return []
    steps = []
    at = TROUBLE_SECONDS + stream.random() * parameters.seconds
    for _ in range(stream.randint(1, 4)):
        for name in names:
            for slot in range(parameters.clients):
                for group in GROUPS[: parameters.groups]:
                    steps.append(Step(at + 0.01 * stream.random(), "leave", (name, slot, group)))
                    steps.append(Step(at + 0.01 + 0.02 * stream.random(), "join", (name, slot, group)))
        at += 0.05
    return steps


def draw_giants(seed: str, parameters: Parameters, names: Sequence[str]) -> list[Step]:
    """Messages that need a slot, from several senders at once."""
    stream = random.Random(f"{seed}/giants")
    steps = []
    at = TROUBLE_SECONDS + stream.random() * 0.5
    for number in range(parameters.giants):
        size, level = stream.randint(2_100_000, 2_600_000), stream.choice((Level.RELIABLE, Level.FIFO, Level.AGREED))
        name, slot = stream.choice(names), stream.randrange(parameters.clients)
        steps.append(Step(at, "send", (name, slot, f"giant{number}", size, level, GROUPS[:1], False, False)))
        at += stream.random() * 0.02
    return steps


def draw_dominants(seed: str, parameters: Parameters, names: Sequence[str]) -> list[Step]:
    """One sender after the other outweighs all others."""
    if not parameters.dominant:
        return []
    stream = random.Random(f"{seed}/dominants")
    steps = []
    name, at, number, until = stream.choice(names), 0.7, 0, 0.0
    while at < TROUBLE_SECONDS + parameters.seconds + 1.0:
        number += 1
        if at > until:
            name, until = stream.choice(names), at + 0.8 + 0.8 * stream.random()
        size, level = stream.randint(500, 5_000), stream.choice((Level.AGREED, Level.AGREED, Level.AGREED, Level.SAFE))
        steps.append(Step(at, "send", (name, 0, f"d{number}", size, level, GROUPS[:1], False, False)))
        at += stream.expovariate(1.0 / 0.012)
    return steps
