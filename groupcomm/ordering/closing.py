"""What the plan of a view change says of the streams of the view that ends.

A plan names, for each stream, up to where it is delivered, what beyond that is, and who holds what.
"""

from __future__ import annotations

from collections.abc import Sequence

from groupcomm.errors import MalformedPacket
from groupcomm.reliability.stream import Stream
from groupcomm.wire.messages import Segment, ViewPlan
from groupcomm.wire.packets import Range


class Closing:
    """The plan of one view, if there is one.

    Attributes:
        plan: the plan; None before one has come, and after a proposal that came to nothing.
    """

    __slots__ = ("_me", "_planned", "_providers", "_streams", "plan")

    def __init__(self, me: int, streams: Sequence[Stream]) -> None:
        """No plan.

        Args:
            me: the index of this node.
            streams: by index.
        """
        self._me = me
        self._streams = streams
        self.plan: ViewPlan | None = None
        self._planned: list[tuple[int, frozenset[int]]] = []
        self._providers: list[int | None] = []

    def forget(self) -> None:
        """Another proposal: its plan will be another."""
        self.plan = None
        self._planned = []

    def is_near(self, named: Sequence[tuple[int, Sequence[Range]]], ahead_limit: int) -> bool:
        """Whether so much can be told of these streams.

        Args:
            named: for each stream a number up to which all is named, and ranges above it.
            ahead_limit: how many packets of all streams together may be named that are not here.
        """
        if len(named) != len(self._streams):
            return False
        count = 0
        for stream, (end, ranges) in zip(self._streams, named, strict=True):
            if ranges and ranges[-1].last > stream.contiguous + ahead_limit:
                return False
            count += max(0, end - stream.contiguous) + sum(item.last - item.first + 1 for item in ranges)
        return count <= ahead_limit

    def apply(self, plan: ViewPlan, providers: list[int | None], ahead_limit: int) -> None:
        """This is the plan.

        Args:
            plan: of this view.
            providers: for each participant of the change its index in this view; None for strangers.
            ahead_limit: how many packets beyond what is here a plan may name.

        Raises:
            MalformedPacket: it cannot be a plan of this view.
        """
        if not self.is_near([(part.end, part.ranges) for part in plan.streams], ahead_limit):
            raise MalformedPacket("a plan for other streams, or too far ahead")
        self.plan = plan
        self._providers = providers
        self._planned = [
            (stream.end, frozenset(number for item in stream.ranges for number in range(item.first, item.last + 1)))
            for stream in plan.streams
        ]

    def want(self, now: float) -> int:
        """See to it that what the plan names and is not here is asked for; returns how many packets that is."""
        missing = 0
        for stream, (end, beyond) in zip(self._streams, self._planned, strict=True):
            lacks = [number for number in range(stream.contiguous + 1, end + 1) if number not in stream.held]
            lacks += sorted(number for number in beyond if number > stream.contiguous and number not in stream.held)
            missing += len(lacks)
            stream.want_only(lacks, now)
        return missing

    @property
    def missing(self) -> int:
        """How many packets of the plan are not here."""
        return sum(stream.missing_count for stream in self._streams) if self.plan is not None else 0

    def names(self, stream: int, number: int) -> bool:
        """Whether the plan names that packet."""
        if not self._planned:
            return False
        end, beyond = self._planned[stream]
        return number <= end or number in beyond

    def holder(self, index: int, number: int, tries: int) -> int:
        """Who is asked for a packet that the plan names: one or the other of the two it says hold it."""
        assert self.plan is not None
        segment = _segment_of(self.plan.streams[index].segments, number)
        if segment is None:
            return self._me
        provider = self._providers[segment.second if tries % 2 else segment.holder]
        return self._me if provider is None else provider


def _segment_of(segments: tuple[Segment, ...], number: int) -> Segment | None:
    for segment in segments:
        if segment.first <= number <= segment.last:
            return segment
    return None
