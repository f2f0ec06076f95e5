"""How much one node may have under way in a view.

Two bounds, both must allow: the congestion window limits bytes that not all have *received*, the grant limits bytes
that not all have *delivered*. The first follows the network, the second keeps receivers from being filled with what
they cannot deliver yet. Control packets are counted by neither, frames with a slot only by the first.
"""

from __future__ import annotations

from groupcomm.limits import MIN_WINDOW_BYTES


class Window:
    """The send window of one node in one view.

    Attributes:
        window_bytes: the congestion window: from ``MIN_WINDOW_BYTES`` to the grant.
        grant_bytes: this node's share of every receiver's room.
    """

    __slots__ = (
        "_cut_at",
        "_delivered",
        "_grant_sums",
        "_received",
        "_sums",
        "_threshold",
        "_total",
        "_total_granted",
        "grant_bytes",
        "window_bytes",
    )

    def __init__(self, grant_bytes: int, initial_bytes: int, first: int) -> None:
        self.grant_bytes = max(grant_bytes, MIN_WINDOW_BYTES)
        self.window_bytes = min(max(initial_bytes, MIN_WINDOW_BYTES), self.grant_bytes)
        self._threshold = self.grant_bytes // 2
        self._cut_at = 0.0
        self._sums: dict[int, int] = {first: 0}
        self._grant_sums: dict[int, int] = {first: 0}
        self._total = self._total_granted = 0
        self._received = self._delivered = first

    def sent(self, number: int, size: int, *, slotted: bool) -> None:
        """Packet ``number`` of ``size`` bytes has left; ``slotted`` bytes do not count against the grant."""
        self._total += size
        if not slotted:
            self._total_granted += size
        self._sums[number] = self._total
        self._grant_sums[number] = self._total_granted

    def acknowledged(self, received: int, delivered: int) -> None:
        """All have received up to ``received`` and delivered up to ``delivered``; the window opens by what is new."""
        before = self._sums[self._received]
        for number in range(self._received, received):
            self._sums.pop(number, None)
        for number in range(self._delivered, delivered):
            self._grant_sums.pop(number, None)
        self._received, self._delivered = max(self._received, received), max(self._delivered, delivered)
        new = self._sums[self._received] - before
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
        return self._total - self._sums[self._received]

    @property
    def undelivered_bytes(self) -> int:
        """Sent, counted against the grant, and not yet delivered by all."""
        return self._total_granted - self._grant_sums[self._delivered]

    def allows(self, *, slotted: bool) -> bool:
        """Whether one more packet may leave."""
        if self.outstanding_bytes >= self.window_bytes:
            return False
        return slotted or self.undelivered_bytes < self.grant_bytes
