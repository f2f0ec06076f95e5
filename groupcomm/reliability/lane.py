"""The catch-up lane of one sender: what it has sent and what members in its lane lack.

Decides how far a sender may run ahead of them. The two bounds of ``groupcomm.reliability.flow`` follow the other
members; this keeps the same sums for all members, and the room that is left for what the slow ones lack. Rules and
numbers stand in ``doc/design/streams.md``.
"""

from __future__ import annotations

from collections import deque
from typing import Final, TypeAlias

Sent: TypeAlias = tuple[int, int, int]
"""Packets that left together: the number of the last, the size of each, and all bytes sent up to it."""

REPAIR_BYTES: Final = 64 * 1024
"""What is repaired for a member in the lane in one of its round trips."""

LEAST_TRIP_SECONDS: Final = 0.005
"""A round trip counts for that at least."""


class Ledger:
    """What left and not everybody has: received, and delivered.

    Bound: an entry for each run of packets that are not stable.

    Attributes:
        unreceived: what not everybody has received.
        undelivered: what not everybody has delivered.
        received_total: all bytes up to what everybody has received.
        delivered_total: all granted bytes up to what everybody has delivered.
        room_bytes: how much more may leave before what the others hold is too much.
    """

    __slots__ = ("delivered_total", "received_total", "room_bytes", "undelivered", "unreceived")

    def __init__(
        self, unreceived: deque[Sent], undelivered: deque[Sent], received_total: int, delivered_total: int
    ) -> None:
        self.unreceived = deque(unreceived)
        self.undelivered = deque(undelivered)
        self.received_total = received_total
        self.delivered_total = delivered_total
        self.room_bytes = 0

    def sent(self, received: Sent, delivered: Sent, size: int) -> None:
        """Packets have left, as the bounds count them, ``size`` bytes together."""
        self.unreceived.append(received)
        self.undelivered.append(delivered)
        self.room_bytes -= size

    def acknowledged(self, received: int, delivered: int) -> None:
        """Everybody has received and delivered up to these."""
        self.received_total = total_up_to(self.unreceived, received, self.received_total)
        self.delivered_total = total_up_to(self.undelivered, delivered, self.delivered_total)


def total_up_to(sent: deque[Sent], number: int, total: int) -> int:
    """All bytes sent up to packet ``number``; what lies before is forgotten. ``total`` is the answer of before."""
    while sent and sent[0][0] <= number:
        total = sent.popleft()[2]
    if sent:
        last, size, up_to = sent[0]
        total = max(total, up_to - (last - number) * size)
    return total


def bytes_from(sent: deque[Sent], number: int) -> int:
    """The bytes of what left after packet ``number``, as far as that is remembered."""
    if not sent or number >= sent[-1][0]:
        return 0
    for last, size, up_to in sent:
        if last > number:
            return sent[-1][2] - up_to + (last - number) * size
    return 0
