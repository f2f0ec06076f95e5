"""Who is slow: a member that, look after look, lacks what all others have.

Decides who is behind at one look, from what the statuses have said, and from many looks who is slow and when that is
over. What is done about it is the membership's business. Rules and numbers stand in ``doc/design/streams.md``.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Collection, Hashable, Sequence
from typing import Final, Generic, TypeVar

from attrs import frozen

from groupcomm.reliability.stability import Stability
from groupcomm.reliability.stream import Stream

MOST_SECONDS: Final = 0.25
"""What one look counts for at most: a node that did not run has seen nothing meanwhile."""

_PAYBACK: Final = 3
_PART_OF_OTHERS: Final = 8

Node = TypeVar("Node", bound=Hashable)


class Waiting(enum.Enum):
    """What a sender that has something to send waits for."""

    NOTHING = enum.auto()
    RECEIVED = enum.auto()
    DELIVERED = enum.auto()


@frozen
class Look:
    """Who is behind at one moment, by index.

    Attributes:
        holding: in this node's own stream, which has to wait for them.
        trailing: in any stream.
        lagging: of those in this node's catch-up lane, who has not caught up.
        spent: whether this node's stream has to wait for them all the same.
    """

    holding: frozenset[int] = frozenset()
    trailing: frozenset[int] = frozenset()
    lagging: frozenset[int] = frozenset()
    spent: bool = False


NOBODY: Final = Look()


def behind(lags: Sequence[int], least: int) -> frozenset[int]:
    """Who lacks what more than half of the view have, or nearly have: an eighth of what the last one lacks.

    Args:
        lags: what each member of the view lacks.
        least: so much the last one must lack at least.
    """
    worst = max(lags)
    if worst < least:
        return frozenset()
    last = frozenset(index for index, lag in enumerate(lags) if _PART_OF_OTHERS * lag > worst)
    return last if 2 * len(last) < len(lags) else frozenset()


def look(
    streams: Sequence[Stream],
    stability: Stability,
    delivered_here: Callable[[int], int],
    me: int,
    waiting: Waiting,
    least: int,
    lane: frozenset[int] = frozenset(),
) -> Look:
    """Look at all streams of a view.

    Args:
        streams: by index.
        stability: what the members have reported.
        delivered_here: what this node has delivered of a stream.
        me: the index of this node.
        waiting: what its own stream waits for.
        least: packets that somebody must lack of another's stream to be behind.
        lane: who is not waited for in its own stream; the others are judged among themselves.
    """
    holding: frozenset[int] = frozenset()
    trailing: set[int] = set()
    for index, stream in enumerate(streams):
        end = stream.highest
        if stability.delivered[index] >= end:
            continue
        waits = index == me and waiting is not Waiting.NOTHING
        enough = 1 if waits else least
        received = [end - number for number in stability.column(index, delivered=False)]
        received[index], received[me] = 0, end - stream.contiguous
        _leave_out(received, lane if index == me else ())
        last = behind(received, enough)
        if not last and not (waits and waiting is Waiting.RECEIVED):
            delivered = [end - number for number in stability.column(index, delivered=True)]
            delivered[me] = end - delivered_here(index)
            _leave_out(delivered, lane if index == me else ())
            last = behind(delivered, enough)
        if me not in last:
            trailing |= last
            holding = last if waits else holding
    return Look(holding, frozenset(trailing))


def _leave_out(lags: list[int], indices: Collection[int]) -> None:
    for index in indices:
        lags[index] = 0


class Patience(Generic[Node]):
    """For how long each member has been behind; time in which it is not counts threefold against that.

    Bound: one entry for each member of the view.

    Attributes:
        slow: who has been behind for ``limit_seconds``, and not made up for it since.
    """

    __slots__ = ("_behind", "_limit_seconds", "_looked_at", "_since", "slow")

    def __init__(self, limit_seconds: float) -> None:
        self._limit_seconds = limit_seconds
        self._looked_at = 0.0
        self._behind: dict[Node, float] = {}
        self._since: dict[Node, float] = {}
        self.slow: list[Node] = []

    def looked(self, last: Collection[Node], now: float) -> tuple[list[Node], list[Node]]:
        """At this look these were behind, in order; returns who has become slow by it, and who is slow no more."""
        seconds = min(now - self._looked_at, MOST_SECONDS)
        self._looked_at = now
        begun, over = [], []
        for node in last:
            self._since.setdefault(node, now - seconds)
            self._behind[node] = min(self._behind.get(node, 0.0) + seconds, self._limit_seconds)
            if self._behind[node] >= self._limit_seconds and node not in self.slow:
                begun.append(node)
        for node in [node for node in self._behind if node not in last]:
            self._behind[node] -= _PAYBACK * seconds
            if self._behind[node] <= 0.0:
                if node in self.slow:
                    over.append(node)
                self.forget(node)
        self.slow += begun
        return begun, over

    def behind_seconds(self, node: Node) -> float:
        """How much time is counted against a member."""
        return self._behind.get(node, 0.0)

    def since(self, node: Node, now: float) -> float:
        """When a member began to be behind; ``now`` if it is not."""
        return self._since.get(node, now)

    def forget(self, node: Node) -> None:
        """Begin anew with this member."""
        self._behind.pop(node, None)
        self._since.pop(node, None)
        if node in self.slow:
            self.slow.remove(node)

    def keep(self, members: Collection[Node]) -> None:
        """Forget all but these."""
        for node in [node for node in self._behind if node not in members]:
            self.forget(node)


def lag_bytes(stream: Stream, number: int) -> int:
    """The bytes of a stream beyond packet ``number`` that are held here."""
    return sum(len(stream.packet(later) or b"") for later in range(number + 1, stream.contiguous + 1))
