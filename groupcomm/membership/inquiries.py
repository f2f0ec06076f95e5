"""Members that were asked after by others, and do not answer this node either yet: who is told when they do."""

from __future__ import annotations

from typing import Final

from groupcomm.identity import NodeId
from groupcomm.outputs import Address

MAX_ASKED: Final = 64
MAX_ASKERS: Final = 8


class Inquiries:
    """Who waits for word of whom.

    Bound: ``MAX_ASKED`` members, ``MAX_ASKERS`` addresses for each; those of a view at most.
    """

    __slots__ = ("_waiting",)

    def __init__(self) -> None:
        self._waiting: dict[NodeId, dict[Address, None]] = {}

    def asked(self, about: NodeId, asker: Address) -> bool:
        """Somebody wants to hear of it; False if too many do already."""
        waiting = self._waiting.get(about)
        if waiting is None:
            if len(self._waiting) >= MAX_ASKED:
                return False
            waiting = self._waiting[about] = {}
        if len(waiting) < MAX_ASKERS:
            waiting[asker] = None
        return True

    def answered(self, about: NodeId) -> list[Address]:
        """It has answered this node: who is to be told."""
        return list(self._waiting.pop(about, ()))

    def clear(self) -> None:
        """The view is over."""
        self._waiting.clear()
