"""What every node of a view is known to have received and to have delivered of every stream.

Fed by statuses; rows only grow. The least of a column is stability: repair copies are freed by it and SAFE is released
by it, so it may never be above what some node really has.
"""

from __future__ import annotations

from groupcomm.wire.packets import StatusEntry


class Stability:
    """A matrix of numbers, one row per node, one column per stream.

    Attributes:
        stable: per stream, what every node has received.
        delivered: per stream, what every node has delivered.
    """

    __slots__ = ("_delivered", "_received", "delivered", "stable")

    def __init__(self, size: int, first: int) -> None:
        self._received = [[first] * size for _ in range(size)]
        self._delivered = [[first] * size for _ in range(size)]
        self.stable = [first] * size
        self.delivered = [first] * size

    def report(self, node: int, entry: StatusEntry) -> bool:
        """Take one entry of a status in; True if a minimum rose. Lower numbers than before are late and ignored."""
        stream, rose = entry.stream, False
        row = self._received[node]
        if entry.received > row[stream]:
            before, row[stream] = row[stream], entry.received
            if before == self.stable[stream]:
                self.stable[stream] = min(other[stream] for other in self._received)
                rose = self.stable[stream] > before
        row = self._delivered[node]
        if entry.delivered > row[stream]:
            before, row[stream] = row[stream], entry.delivered
            if before == self.delivered[stream]:
                self.delivered[stream] = min(other[stream] for other in self._delivered)
                rose = rose or self.delivered[stream] > before
        return rose

    def received_by(self, node: int, stream: int) -> int:
        """What ``node`` is known to have received of ``stream``."""
        return self._received[node][stream]

    def raise_to(self, stream: int, stable: int) -> None:
        """The end of the view has proved that all have this much."""
        self.stable[stream] = max(self.stable[stream], stable)

    def short_of(self, stream: int, number: int) -> int:
        """The map of the nodes not known to have delivered ``stream`` up to ``number``."""
        return sum(1 << node for node, row in enumerate(self._delivered) if row[stream] < number)

    def holders(self, stream: int, number: int) -> list[int]:
        """The nodes known to have packet ``number`` of ``stream``."""
        return [node for node, row in enumerate(self._received) if row[stream] >= number]
