"""What the parts of a view that send of their own accord are tested with: three streams, and what they put out."""

from __future__ import annotations

from groupcomm.reliability.counters import Counters
from groupcomm.reliability.reports import Out
from groupcomm.reliability.rtt import RoundTrip
from groupcomm.reliability.stability import Stability
from groupcomm.reliability.stream import Stream
from groupcomm.wire.codec import Reader
from groupcomm.wire.packets import HEADER_BYTES, Header, Kind

DIGEST = 77
ME = 0


class ViewDouble:
    """The parts of a view of three nodes, of which this one is the first; packets are numbered from 1."""

    def __init__(self, size: int = 3) -> None:
        self.streams = [Stream(0, 1000) for _ in range(size)]
        self.stability = Stability(size, 0)
        self.rtts = [RoundTrip() for _ in range(size)]
        self.counters = Counters()
        self.out: Out = []

    def packets_came(self, stream: int, *numbers: int, now: float = 0.0, wait: float = 0.0) -> None:
        """Packets of one stream."""
        for number in numbers:
            self.streams[stream].accept(number, bytes(HEADER_BYTES), now, wait)

    def taken(self) -> list[tuple[Kind, int | None, Reader]]:
        """What was put out since the last look: kind, for whom, and the body."""
        taken = [(Kind(Header(data).kind), to, Reader(data, HEADER_BYTES)) for data, to, _ in self.out]
        self.out.clear()
        return taken
