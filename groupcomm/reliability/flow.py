"""How much one node may have under way in a view.

Two bounds, both must allow: the congestion window limits bytes that not all have *received*, the grant limits bytes
that not all have *delivered*. The first follows the network, the second keeps receivers from being filled with what
they cannot deliver yet. Control packets are counted by neither, frames with a slot only by the first.

The congestion window follows the receiver that lacks most. Long round trips mean a queue, or a distance: there the
window halves at a loss and grows by a packet each round, as TCP's does (RFC 5681), so that both get their share. Where
round trips are short a lost packet is back before anybody misses it, and says little about congestion: the window gives
way in proportion to what was lost (as DCTCP does, RFC 8257, section 3.3) and grows by a fraction of itself. A round
lasts from a packet that asks who has it until all do.

Who is in the catch-up lane does not count for either bound; ``groupcomm.reliability.lane`` bounds what
is sent beyond it.
"""

from __future__ import annotations

from collections import deque
from typing import Final

from groupcomm.limits import MIN_WINDOW_BYTES
from groupcomm.reliability.lane import Ledger, Sent, total_up_to

LONG_TRIP_SECONDS: Final = 0.02
"""From here on a round trip is long: more than a local network without a queue needs."""

_GROWTH: Final = 16
_PACKET_BYTES: Final = 1400


class Window:
    """The send window of one node in one view.

    Attributes:
        window_bytes: the congestion window: from ``MIN_WINDOW_BYTES`` to the grant.
        grant_bytes: this node's share of every receiver's room.
        everybody: the same sums with those in the catch-up lane; None while nobody is in it.
    """

    __slots__ = (
        "_cut_at",
        "_delivered_total",
        "_long",
        "_losses",
        "_received_total",
        "_round_end",
        "_round_packets",
        "_round_peak_bytes",
        "_threshold",
        "_total",
        "_total_granted",
        "_undelivered",
        "_unreceived",
        "everybody",
        "grant_bytes",
        "window_bytes",
    )

    def __init__(self, grant_bytes: int, initial_bytes: int, first: int) -> None:
        self.grant_bytes = max(grant_bytes, MIN_WINDOW_BYTES)
        self.window_bytes = min(max(initial_bytes, MIN_WINDOW_BYTES), self.grant_bytes)
        self._threshold = self.grant_bytes // 2
        self._cut_at = 0.0
        self._unreceived: deque[Sent] = deque()
        self._undelivered: deque[Sent] = deque()
        self._total = self._total_granted = 0
        self._received_total = self._delivered_total = 0
        self._long = False
        self._round_end: int | None = None
        self._round_packets = self._round_peak_bytes = 0
        self._losses: dict[int, int] = {}
        self.everybody: Ledger | None = None

    def part(self) -> None:
        """Somebody is taken into the catch-up lane: from now on it does not count."""
        if self.everybody is None:
            self.everybody = Ledger(self._unreceived, self._undelivered, self._received_total, self._delivered_total)

    def join(self) -> None:
        """Nobody is in the lane any more: all count again."""
        everybody, self.everybody = self.everybody, None
        if everybody is not None:
            self._unreceived, self._undelivered = everybody.unreceived, everybody.undelivered
            self._received_total, self._delivered_total = everybody.received_total, everybody.delivered_total

    def sent(self, number: int, size: int, *, slotted: bool, count: int = 1, asks: bool = False) -> None:
        """Packets have left; ``slotted`` bytes do not count against the grant.

        Args:
            number: of the last of them.
            size: bytes of each.
            slotted: see above.
            count: how many.
            asks: whether the last of them asks who has it: a round may begin with it.
        """
        self._total += size * count
        self._unreceived.append((number, size, self._total))
        granted = 0 if slotted else size
        self._total_granted += granted * count
        self._undelivered.append((number, granted, self._total_granted))
        if self.everybody is not None:
            self.everybody.sent(self._unreceived[-1], self._undelivered[-1], size * count)
        self._round_packets += count
        if asks and self._round_end is None:
            self._round_end = number

    def acknowledged(self, received: int, delivered: int) -> None:
        """All have received up to ``received`` and delivered up to ``delivered``; the window opens by what is new."""
        before = self._received_total
        self._round_peak_bytes = max(self._round_peak_bytes, self._total - before)
        self._received_total = total_up_to(self._unreceived, received, before)
        self._delivered_total = total_up_to(self._undelivered, delivered, self._delivered_total)
        new = self._received_total - before
        if new <= 0:
            return
        if self.window_bytes < self._threshold and 2 * self._round_peak_bytes >= self.window_bytes:
            self.window_bytes = min(self.window_bytes + new, self.grant_bytes)
        if self._round_end is not None and received >= self._round_end:
            self._end_round()

    def _end_round(self) -> None:
        """All have the packet that the round began with: judge by what was lost meanwhile."""
        used = 2 * self._round_peak_bytes >= self.window_bytes
        window = self.window_bytes
        if self._losses and not self._long:
            lost = min(1.0, max(self._losses.values()) / max(1, self._round_packets))
            window -= int(window * lost / 2)
            self._threshold = min(self._threshold, window)
        if used and self.window_bytes >= self._threshold:
            window += _PACKET_BYTES if self._long else window // _GROWTH
        self.window_bytes = min(max(window, MIN_WINDOW_BYTES), self.grant_bytes)
        self._round_end = None
        self._round_packets = self._round_peak_bytes = 0
        self._losses.clear()

    def lost(self, asker: int, packets: int, now: float, trip_seconds: float) -> None:
        """A receiver asks for packets; where round trips are long, halve, at most once in one.

        Args:
            asker: the receiver.
            packets: how many it lacks that it did not ask for lately.
            now: the time.
            trip_seconds: the round-trip time to the farthest receiver, with what a standing queue adds.
        """
        self._losses[asker] = self._losses.get(asker, 0) + packets
        self._long = trip_seconds >= LONG_TRIP_SECONDS
        if not self._long or now - self._cut_at < trip_seconds:
            return
        self._cut_at = now
        self.window_bytes = max(MIN_WINDOW_BYTES, self.window_bytes // 2)
        self._threshold = self.window_bytes

    @property
    def outstanding_bytes(self) -> int:
        """Sent and not yet received by all that count."""
        return self._total - self._received_total

    @property
    def unreceived_bytes(self) -> int:
        """Sent and not yet received by all, those in the catch-up lane among them."""
        return self._total - (self._received_total if self.everybody is None else self.everybody.received_total)

    @property
    def undelivered_bytes(self) -> int:
        """Sent, counted against the grant, and not yet delivered by all that count."""
        return self._total_granted - self._delivered_total

    def allows(self, *, slotted: bool) -> bool:
        """Whether one more packet may leave."""
        if self._total - self._received_total >= self.window_bytes:
            return False
        if not slotted and self._total_granted - self._delivered_total >= self.grant_bytes:
            return False
        return self.everybody is None or self._runs_ahead(self.everybody, slotted=slotted)

    def _runs_ahead(self, everybody: Ledger, *, slotted: bool) -> bool:
        """Whether it may leave although somebody in the lane lacks what was sent before."""
        unreceived = self._total - everybody.received_total
        undelivered = self._total_granted - everybody.delivered_total
        if unreceived < self.window_bytes and (slotted or undelivered < self.grant_bytes):
            return True
        return everybody.room_bytes > 0 and undelivered - unreceived < self.grant_bytes

    def packets(self, size: int) -> int:
        """How many packets of ``size`` bytes may leave, whatever the grant says."""
        room = self.window_bytes - self.outstanding_bytes
        if self.everybody is not None:
            room = min(room, max(self.everybody.room_bytes, self.window_bytes - self.unreceived_bytes))
        return max(0, -(-room // size))
