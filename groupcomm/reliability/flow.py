"""How much one node may have under way in a view.

Two bounds, both must allow: the congestion window limits bytes that not all have *received*, the grant limits bytes
that not all have *delivered*. The first follows the network, the second keeps receivers from being filled with what
they cannot deliver yet. Control packets are counted by neither, frames with a slot only by the first.
"""

from __future__ import annotations

from collections import deque
from typing import TypeAlias

from groupcomm.limits import MIN_WINDOW_BYTES

_Sent: TypeAlias = tuple[int, int, int]
"""Packets that left together: the number of the last, the size of each, and all bytes sent up to it."""


class Window:
    """The send window of one node in one view.

    Attributes:
        window_bytes: the congestion window: from ``MIN_WINDOW_BYTES`` to the grant.
        grant_bytes: this node's share of every receiver's room.
    """

    __slots__ = (
        "_cut_at",
        "_delivered_total",
        "_received_total",
        "_threshold",
        "_total",
        "_total_granted",
        "_undelivered",
        "_unreceived",
        "grant_bytes",
        "window_bytes",
    )

    def __init__(self, grant_bytes: int, initial_bytes: int, first: int) -> None:
        self.grant_bytes = max(grant_bytes, MIN_WINDOW_BYTES)
        self.window_bytes = min(max(initial_bytes, MIN_WINDOW_BYTES), self.grant_bytes)
        self._threshold = self.grant_bytes // 2
        self._cut_at = 0.0
        self._unreceived: deque[_Sent] = deque()
        self._undelivered: deque[_Sent] = deque()
        self._total = self._total_granted = 0
        self._received_total = self._delivered_total = 0

    def sent(self, number: int, size: int, *, slotted: bool, count: int = 1) -> None:
        """Packets have left; ``slotted`` bytes do not count against the grant.

        Args:
            number: of the last of them.
            size: bytes of each.
            slotted: see above.
            count: how many.
        """
        self._total += size * count
        self._unreceived.append((number, size, self._total))
        granted = 0 if slotted else size
        self._total_granted += granted * count
        self._undelivered.append((number, granted, self._total_granted))

    def acknowledged(self, received: int, delivered: int) -> None:
        """All have received up to ``received`` and delivered up to ``delivered``; the window opens by what is new."""
        before = self._received_total
        self._received_total = _total_up_to(self._unreceived, received, before)
        self._delivered_total = _total_up_to(self._undelivered, delivered, self._delivered_total)
        new = self._received_total - before
        if new <= 0:
            return
        if self.window_bytes < self._threshold:
            self.window_bytes += new
        else:
            self.window_bytes += max(1, new * 1400 // self.window_bytes)
        self.window_bytes = min(self.window_bytes, self.grant_bytes)

    def lost(self, now: float, rtt: float) -> None:
        """A receiver asked for a packet: halve, at most once per round trip."""
        if now - self._cut_at < rtt:
            return
        self._cut_at = now
        self.window_bytes = max(MIN_WINDOW_BYTES, self.window_bytes // 2)
        self._threshold = self.window_bytes

    @property
    def outstanding_bytes(self) -> int:
        """Sent and not yet received by all."""
        return self._total - self._received_total

    @property
    def undelivered_bytes(self) -> int:
        """Sent, counted against the grant, and not yet delivered by all."""
        return self._total_granted - self._delivered_total

    def allows(self, *, slotted: bool) -> bool:
        """Whether one more packet may leave."""
        if self.outstanding_bytes >= self.window_bytes:
            return False
        return slotted or self.undelivered_bytes < self.grant_bytes

    def packets(self, size: int) -> int:
        """How many packets of ``size`` bytes may leave, whatever the grant says."""
        return max(0, -(-(self.window_bytes - self.outstanding_bytes) // size))


def _total_up_to(sent: deque[_Sent], number: int, total: int) -> int:
    """All bytes sent up to packet ``number``; what lies before is forgotten. ``total`` is the answer of before."""
    while sent and sent[0][0] <= number:
        total = sent.popleft()[2]
    if sent:
        last, size, up_to = sent[0]
        total = max(total, up_to - (last - number) * size)
    return total
