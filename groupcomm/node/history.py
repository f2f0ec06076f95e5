"""The last changes of a node's view: what each was, when, and what led to it."""

from __future__ import annotations

from collections import deque

from groupcomm.identity import NodeId, ViewId
from groupcomm.limits import MAX_VIEW_CHANGES
from groupcomm.outputs import NodeViewInstalled
from groupcomm.status import ViewChange


class ViewHistory:
    """Keeps the last ``MAX_VIEW_CHANGES``."""

    def __init__(self) -> None:
        self._changes: deque[ViewChange] = deque(maxlen=MAX_VIEW_CHANGES)
        self._before: ViewId | None = None
        self._members: frozenset[NodeId] = frozenset()

    @property
    def changes(self) -> tuple[ViewChange, ...]:
        """The last changes, the latest at the end."""
        return tuple(self._changes)

    def installed(self, view: NodeViewInstalled, at: float) -> None:
        """A view is installed, at this time on the wall clock."""
        joined = tuple(node for node in view.members if node not in self._members)
        self._changes.append(ViewChange(at, view.id, self._before, view.members, joined, view.departed, view.records))
        self._before, self._members = view.id, frozenset(view.members)
