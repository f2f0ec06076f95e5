"""Who may send a large frame: at most so many at once, so that half-received ones fit every receiver.

Asks and grants are numbered packets, so every node knows them all and the next sequencer can go on where the last one
stopped.
"""

from __future__ import annotations

from collections import deque

from groupcomm.limits import MAX_ASKS


class _Granted:
    __slots__ = ("ask", "last", "node")

    def __init__(self, node: int, ask: int) -> None:
        self.node = node
        self.ask = ask
        self.last: int | None = None


class Slots:
    """Asks and grants of one view, in the order they were read.

    Bound: one ask at a time per honest node; of no node more than ``MAX_ASKS``.

    A grant, the end of its frame, and word that all have delivered it come from different nodes, in any order.
    """

    __slots__ = ("_answered", "_asks", "_delivered", "_ended", "_granted", "count")

    def __init__(self, count: int) -> None:
        self.count = count
        self._asks: deque[tuple[int, int]] = deque()
        self._granted: list[_Granted] = []
        self._answered: dict[int, int] = {}
        self._delivered: dict[int, int] = {}
        self._ended: dict[int, deque[int]] = {}

    def asked(self, node: int, ask: int) -> None:
        """Packet ``ask`` of ``node`` asks for a slot."""
        if ask <= self._answered.get(node, 0):
            return
        own = [other for other in self._asks if other[0] == node]
        if len(own) >= MAX_ASKS:
            self._asks.remove(own[0])
        self._asks.append((node, ask))

    def granted(self, node: int, ask: int) -> None:
        """The sequencer has answered that ask."""
        if (node, ask) in self._asks:
            self._asks.remove((node, ask))
        if ask <= self._answered.get(node, 0):
            return
        self._answered[node] = ask
        granted = _Granted(node, ask)
        if self._ended.get(node):
            granted.last = self._ended[node].popleft()
        self._granted.append(granted)
        self._let_go(node)

    def used(self, node: int, last: int) -> None:
        """The large frame of ``node`` ends in packet ``last`` of its stream."""
        for granted in self._granted:
            if granted.node == node and granted.last is None:
                granted.last = last
                self._let_go(node)
                return
        self._ended.setdefault(node, deque(maxlen=64)).append(last)

    def delivered(self, node: int, number: int) -> None:
        """All have delivered the stream of ``node`` up to ``number``."""
        self._delivered[node] = number
        self._let_go(node)

    def _let_go(self, node: int) -> None:
        if not self._granted:
            return
        number = self._delivered.get(node, -1)
        self._granted = [
            granted
            for granted in self._granted
            if granted.node != node or granted.last is None or granted.last > number
        ]

    def next_grant(self) -> tuple[int, int] | None:
        """The ask to grant now, if a slot is free."""
        return self._asks[0] if self._asks and len(self._granted) < self.count else None

    @property
    def asked_for(self) -> bool:
        """Whether anybody asks for a slot."""
        return bool(self._asks)

    @property
    def waiting(self) -> bool:
        """Whether somebody asks for a slot and none is free."""
        return bool(self._asks) and len(self._granted) >= self.count

    @property
    def in_use(self) -> bool:
        """Whether any slot is given."""
        return bool(self._granted)
