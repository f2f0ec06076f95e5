"""Whether a view is primary: a function of the settings, the names, and what the participants remember.

Upholds M5: of any two primary views the later one was agreed to by a node that had a part in the one before.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from groupcomm.identity import NodeId, ViewId
from groupcomm.quorum.settings import Filter, Quorum
from groupcomm.quorum.votes import MAX_ATTEMPTS, NO_VERDICT, NO_VOTE, Memory, Primary, Verdict, Vote, Why


def judge(
    quorum: Quorum, participants: Sequence[NodeId], members: Sequence[NodeId], votes: Mapping[NodeId, Vote], own: NodeId
) -> Verdict:
    """The verdict on a proposed view.

    Args:
        quorum: the proposer's settings.
        participants: all who agree to it, in order.
        members: those of them who will be in it.
        votes: of the participants; one without a vote has no filter.
        own: the proposer.
    """
    digest = votes.get(own, NO_VOTE).digest
    differing = sum(1 << index for index, node in enumerate(participants) if votes.get(node, NO_VOTE).digest != digest)
    if differing:
        return Verdict(False, Why.OTHER_SETTINGS, differing)
    if quorum.filter is Filter.NONE:
        return NO_VERDICT
    present = quorum.map_of(node.name for node in members)
    if quorum.filter is not Filter.DYNAMIC_LINEAR:
        why = by_votes(quorum, present)
        return Verdict(why in (Why.MAJORITY, Why.TIE_BREAKER), why)
    memories = {node.name: votes[node].memory for node in participants}
    return _by_last_primary(quorum, present, memories)


def by_votes(quorum: Quorum, present: int) -> Why:
    """What the votes of a map of quorum nodes come to, with majority and weighted."""
    votes = dict(quorum.nodes)
    have = sum(votes[name] for name in quorum.names_in(present))
    return _compared(2 * have, sum(votes.values()), tie=quorum.tie_breaker in quorum.names_in(present))


def by_majority_of(quorum: Quorum, present: int, nodes: int) -> Why:
    """What a map of quorum nodes comes to as a part of those of a view."""
    breaker = quorum.map_of([quorum.tie_breaker]) if quorum.tie_breaker is not None else 0
    if not breaker & nodes:
        breaker = nodes & -nodes
    return _compared(2 * (present & nodes).bit_count(), nodes.bit_count(), tie=bool(breaker & present))


def _compared(twice: int, total: int, *, tie: bool) -> Why:
    if twice > total:
        return Why.MAJORITY
    if twice < total:
        return Why.TOO_FEW
    return Why.TIE_BREAKER if tie else Why.TIE


def _by_last_primary(quorum: Quorum, present: int, memories: Mapping[str, Memory]) -> Verdict:
    """Dynamic-linear: a quorum of the last primary view, and of all that may have been primary since."""
    held = memories.values()
    last = max((memory.last for memory in held if memory.last is not None), key=lambda one: one.id, default=None)
    since = {
        attempt.id: attempt for memory in held for attempt in memory.attempts if last is None or attempt.id > last.id
    }
    attempts = [since[view] for view in sorted(since)]
    void = tuple(attempt.id for attempt in attempts if _is_void(quorum, attempt, memories))
    open_ones = [attempt for attempt in attempts if attempt.id not in void]
    if not present:
        return Verdict(False, Why.TOO_FEW, void=void)
    if quorum.map_of(memories) == quorum.everybody:  # nobody is elsewhere, in whatever was attempted
        return Verdict(True, Why.ALL, void=tuple(sorted(since)))
    if last is None:
        return Verdict(False, Why.FORGOTTEN, void=void)
    whole = quorum.map_of(name for name, memory in memories.items() if memory.whole)
    why = by_majority_of(quorum, whole, last.nodes)
    if why in (Why.TOO_FEW, Why.TIE):
        some = by_majority_of(quorum, quorum.map_of(memories), last.nodes)
        return Verdict(False, why if some in (Why.TOO_FEW, Why.TIE) else Why.FORGOTTEN, void=void)
    for attempt in open_ones:
        if by_majority_of(quorum, whole, attempt.nodes) in (Why.TOO_FEW, Why.TIE):
            return Verdict(False, Why.ATTEMPT, void=void)
    if any(len(_still_open(memory, void)) >= MAX_ATTEMPTS for memory in held):
        return Verdict(False, Why.TOO_MANY_ATTEMPTS, void=void)
    return Verdict(True, why, void=void)


def _still_open(memory: Memory, void: tuple[ViewId, ...]) -> list[Primary]:
    return [attempt for attempt in memory.attempts if attempt.id not in void]


def _is_void(quorum: Quorum, attempt: Primary, memories: Mapping[str, Memory]) -> bool:
    """Whether it is certain that nobody has installed it, or ever will.

    No participant has: the last primary view that one of them has installed is older.
    """
    names = quorum.names_in(attempt.nodes)
    if any(name in memories and memories[name].whole and attempt not in memories[name].attempts for name in names):
        return True
    return all(name in memories and memories[name].whole for name in names)


_TEXTS = {
    Why.NO_FILTER: "every component acts",
    Why.MAJORITY: "a majority is here",
    Why.TIE_BREAKER: "half is here, with the tie-breaker",
    Why.ALL: "all quorum nodes are here",
    Why.TOO_FEW: "less than half is here",
    Why.TIE: "exactly half is here, without the tie-breaker",
    Why.OTHER_SETTINGS: "nodes here have other quorum settings",
    Why.FORGOTTEN: "too few here remember the last primary view: all quorum nodes must come together",
    Why.ATTEMPT: "a view that may have become primary has too many nodes elsewhere",
    Why.TOO_MANY_ATTEMPTS: "too many views may have become primary",
}


def describe(why: Why) -> str:
    """The reason, for people."""
    return _TEXTS[why]
