"""What would be: which components of a broken cluster are primary, and what more each of them survives.

The same functions decide as at a view change. For dynamic-linear it is taken that nobody has forgotten anything, and
that no view change is cut short.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from attrs import frozen

from groupcomm.errors import UsageError
from groupcomm.quorum.judging import by_majority_of, by_votes, describe
from groupcomm.quorum.settings import Filter, Quorum
from groupcomm.quorum.votes import Why

_PRIMARY = (Why.MAJORITY, Why.TIE_BREAKER, Why.ALL, Why.NO_FILTER)


@frozen
class Component:
    """Nodes that can reach each other, and nobody else.

    Attributes:
        nodes: their names, sorted.
        primary: whether they may act.
        why: the reason.
        votes: how many they have.
        total: of how many that count.
        survives: how many of them may fail at once, whichever they are, so that the others still are primary.
        one_by_one: the same if they fail one after the other, each after the view without the one before.
    """

    nodes: tuple[str, ...]
    primary: bool
    why: str
    votes: int
    total: int
    survives: int
    one_by_one: int


def components(
    quorum: Quorum, sides: Sequence[Iterable[str]], down: Iterable[str] = (), last: Iterable[str] | None = None
) -> tuple[Component, ...]:
    """What each component is.

    Args:
        quorum: the settings.
        sides: the components, without those that are down; the nodes that are in none of them make one more.
        down: nodes that are gone.
        last: the last primary view, for dynamic-linear; None: all quorum nodes.

    Raises:
        UsageError: a name is no quorum node, or stands in two places.
    """
    left = set(quorum.names)
    before = quorum.everybody if last is None else _checked_map(quorum, last)
    if not before:
        raise UsageError("the last primary view had a node")
    for name in _checked(quorum, down):
        left.discard(name)
    found = []
    for side in sides:
        names = _checked(quorum, side)
        for name in names:
            if name not in left:
                raise UsageError(f"{name!r} stands in two places")
            left.discard(name)
        found.append(quorum.map_of(names))
    if left:
        found.append(quorum.map_of(left))
    return tuple(_component(quorum, nodes, before) for nodes in found if nodes)


def _checked(quorum: Quorum, names: Iterable[str]) -> tuple[str, ...]:
    checked = tuple(dict.fromkeys(names))
    for name in checked:
        if name not in quorum.names:
            raise UsageError(f"{name!r} is none of the quorum nodes {', '.join(quorum.names)}")
    return checked


def _checked_map(quorum: Quorum, names: Iterable[str]) -> int:
    return quorum.map_of(_checked(quorum, names))


def _component(quorum: Quorum, nodes: int, last: int) -> Component:
    why = _why(quorum, nodes, last)
    primary = why in _PRIMARY
    votes, counting = _votes(quorum, nodes, last), _votes(quorum, quorum.everybody, last)
    survives = _survives(quorum, nodes, nodes) if primary else 0
    one_by_one = _one_by_one(quorum, nodes) if primary else 0
    return Component(quorum.names_in(nodes), primary, describe(why), votes, counting, survives, one_by_one)


def _why(quorum: Quorum, nodes: int, last: int) -> Why:
    if quorum.filter is Filter.NONE:
        return Why.NO_FILTER
    if quorum.filter is not Filter.DYNAMIC_LINEAR:
        return by_votes(quorum, nodes)
    return Why.ALL if nodes == quorum.everybody else by_majority_of(quorum, nodes, last)


def _votes(quorum: Quorum, nodes: int, last: int) -> int:
    if quorum.filter is Filter.DYNAMIC_LINEAR:
        return (nodes & last).bit_count()
    votes = dict(quorum.nodes)
    return sum(votes[name] for name in quorum.names_in(nodes))


def _survives(quorum: Quorum, nodes: int, last: int) -> int:
    """How many may fail at once: the worst that can is that those with most votes do, or with them the tie-breaker."""
    count = 0
    while count < nodes.bit_count() - 1 and all(
        _why(quorum, nodes & ~gone, last) in _PRIMARY for gone in _worst(quorum, nodes, last, count + 1)
    ):
        count += 1
    return count


def _one_by_one(quorum: Quorum, nodes: int) -> int:
    """How many may fail one after the other; where the last view does not matter, as many as at once."""
    if quorum.filter is not Filter.DYNAMIC_LINEAR:
        return _survives(quorum, nodes, nodes)
    count, last = 0, nodes
    while nodes.bit_count() > 1:
        worst = next(
            (gone for gone in _worst(quorum, nodes, last, 1) if _why(quorum, nodes & ~gone, last) not in _PRIMARY), None
        )
        if worst is not None:
            break
        nodes &= ~_worst(quorum, nodes, last, 1)[0]
        last = nodes
        count += 1
    return count


def _worst(quorum: Quorum, nodes: int, last: int, count: int) -> tuple[int, ...]:
    """So many nodes of which the loss is worst: those with most votes; or what breaks ties, and those."""
    votes = dict(quorum.nodes)
    heaviest = sorted(quorum.names_in(nodes), key=lambda name: (-votes[name], name))
    chosen = quorum.map_of(heaviest[:count])
    breaker = quorum.map_of([quorum.tie_breaker]) if quorum.tie_breaker is not None else 0
    if quorum.filter is Filter.DYNAMIC_LINEAR and not breaker & last:
        breaker = last & -last
    if not breaker & nodes:
        return (chosen,)
    others = [name for name in heaviest if not quorum.map_of([name]) & breaker]
    return chosen, breaker | quorum.map_of(others[: count - 1])
