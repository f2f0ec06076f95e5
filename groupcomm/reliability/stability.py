"""What every node of a view is known to have received and to have delivered of every stream.

Fed by statuses, or by summaries of them; rows only grow. The least of a column is stability: repair copies are freed by
it and SAFE is released by it, so it may never be above what some node really has.
"""

from __future__ import annotations

from groupcomm.wire.packets import StatusEntry, SummaryEntry


class Stability:
    """A matrix of numbers, one row per node, one column per stream; where another sums reports up, only its least.

    Attributes:
        stable: per stream, what every node has received.
        delivered: per stream, what every node has delivered.
    """

    __slots__ = ("_at_delivered", "_at_stable", "_delivered", "_received", "_size", "delivered", "stable")

    def __init__(self, size: int, first: int, *, rows: bool = True) -> None:
        self._size = size
        self._received = [[first] * size for _ in range(size)] if rows else []
        self._delivered = [[first] * size for _ in range(size)] if rows else []
        self._at_stable = [size] * size
        self._at_delivered = [size] * size
        self.stable = [first] * size
        self.delivered = [first] * size

    def report(self, node: int, entry: StatusEntry) -> bool:
        """Take one entry of a status in; True if a minimum rose. Lower numbers than before are late and ignored."""
        stream, rose = entry.stream, False
        if not self._received:
            return False
        row = self._received[node]
        if entry.received > row[stream]:
            before, row[stream] = row[stream], entry.received
            if before == self.stable[stream]:
                self._at_stable[stream] -= 1
                if not self._at_stable[stream]:
                    self.stable[stream] = min(other[stream] for other in self._received)
                    self._at_stable[stream] = sum(other[stream] == self.stable[stream] for other in self._received)
                    rose = True
        row = self._delivered[node]
        if entry.delivered > row[stream]:
            before, row[stream] = row[stream], entry.delivered
            if before == self.delivered[stream]:
                self._at_delivered[stream] -= 1
                if not self._at_delivered[stream]:
                    self.delivered[stream] = min(other[stream] for other in self._delivered)
                    self._at_delivered[stream] = sum(
                        other[stream] == self.delivered[stream] for other in self._delivered
                    )
                    rose = True
        return rose

    def sum_came(self, entry: SummaryEntry) -> bool:
        """Take one entry of a summary in; True if it says something new."""
        stream = entry.stream
        if entry.stable <= self.stable[stream] and entry.delivered <= self.delivered[stream]:
            return False
        self.stable[stream] = max(self.stable[stream], entry.stable)
        self.delivered[stream] = max(self.delivered[stream], entry.delivered)
        return True

    def covers(self, entry: StatusEntry) -> bool:
        """Whether all nodes are known to have as much as this entry says of one."""
        return entry.received <= self.stable[entry.stream] and entry.delivered <= self.delivered[entry.stream]

    def received_by(self, node: int, stream: int) -> int:
        """What ``node`` is known to have received of ``stream``."""
        return self._received[node][stream] if self._received else self.stable[stream]

    @property
    def has_rows(self) -> bool:
        """Whether it is known what each node has, and not only what all have."""
        return bool(self._received)

    def column(self, stream: int, *, delivered: bool) -> list[int]:
        """What each node is known to have received (or delivered) of ``stream``, where there are rows."""
        return [row[stream] for row in (self._delivered if delivered else self._received)]

    def least_of(self, stream: int, left_out: frozenset[int]) -> tuple[int, int]:
        """What all but these have received and delivered of ``stream``, where there are rows."""
        rows = [index for index in range(self._size) if index not in left_out]
        return (
            min(self._received[index][stream] for index in rows),
            min(self._delivered[index][stream] for index in rows),
        )

    def raise_to(self, stream: int, stable: int) -> None:
        """The end of the view has proved that all have this much."""
        self.stable[stream] = max(self.stable[stream], stable)

    def short_of(self, stream: int, number: int) -> int:
        """The map of the nodes not known to have delivered ``stream`` up to ``number``."""
        if not self._delivered:
            return (1 << self._size) - 1 if self.delivered[stream] < number else 0
        return sum(1 << node for node, row in enumerate(self._delivered) if row[stream] < number)

    def holders(self, stream: int, number: int) -> list[int]:
        """The nodes known to have packet ``number`` of ``stream``; without rows, all that may."""
        if not self._received:
            return list(range(self._size))
        return [node for node, row in enumerate(self._received) if row[stream] >= number]
