"""Which members a sender takes into its catch-up lane, when they have caught up, and when its patience is spent.

Decides on a node's own findings, for its own stream only. How far a sender runs ahead of its lane is
``groupcomm.reliability.lane``'s; the state table stands in ``doc/design/streams.md``.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from attrs import frozen

from groupcomm.config import EngineConfig, SlowReceiver
from groupcomm.identity import NodeId


@frozen
class Seen:
    """What one look at the streams has shown.

    Attributes:
        holding: who holds this node's stream up at this moment.
        trailing: who is behind all others in any stream.
        lagging: of those in the lane, who has not caught up.
        spent: whether this node's stream has to wait for those in the lane all the same.
        has_lane: whether there can be a lane in this view.
    """

    holding: Sequence[NodeId] = ()
    trailing: Sequence[NodeId] = ()
    lagging: Sequence[NodeId] = ()
    spent: bool = False
    has_lane: bool = True


class Lane:
    """The members that this node's stream does not wait for.

    Bound: an entry for each member of the view.

    Attributes:
        since: who is in it, and since when.
        spent: of whom enough is held, or who has been in it for too long.
    """

    __slots__ = ("_limit_seconds", "_used", "since", "spent")

    def __init__(self, config: EngineConfig) -> None:
        self._used = config.slow_receiver is SlowReceiver.CATCH_UP
        self._limit_seconds = config.catch_up_seconds
        self.since: dict[NodeId, float] = {}
        self.spent: set[NodeId] = set()

    def looked(self, seen: Seen, slow: Collection[NodeId], now: float) -> list[NodeId]:
        """A look was made, by which these are slow; returns whose time or room is spent by it."""
        if not self._used:
            return []
        for node in [node for node in self.since if node not in seen.lagging]:
            del self.since[node]
            self.spent.discard(node)
        over = [node for node, at in self.since.items() if seen.spent or now - at >= self._limit_seconds]
        newly = sorted(set(over) - self.spent)
        self.spent.update(newly)
        if seen.has_lane:
            for node in seen.holding:
                if node in slow:
                    self.since.setdefault(node, now)
        return newly

    def over(self) -> None:
        """A new view: everybody has had everything."""
        self.since.clear()
        self.spent.clear()
