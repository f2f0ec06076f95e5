"""What a node tells the others it has: reports (STATUS), and in a large view the summary of all reports (SUMMARY).

Decides when to report and of which streams. A report says, per stream, up to where everything has come and up to where
it is delivered; it leaves some time after something has moved, at once if somebody waits for it. In a large view
reports go to one collector, who tells all what all together have, and are repeated until a summary covers them.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import inf
from typing import Protocol, TypeAlias, TypeVar

from groupcomm.config import EngineConfig
from groupcomm.reliability.counters import Counters
from groupcomm.reliability.stability import Stability
from groupcomm.reliability.stream import Stream
from groupcomm.wire.packets import HEADER_BYTES, Kind, Packets, Status, StatusEntry, Summary, SummaryEntry, encode

Out: TypeAlias = list[tuple[bytes, int | None, Packets | None]]
"""Packets to send: bytes, the index of the member they are for (None for all), and of a run its packets instead."""

_REPORTING_NODES = 16
_LARGEST_HEAD_BYTES = HEADER_BYTES + 12
_LARGEST_ENTRY_BYTES = 22
_Entry = TypeVar("_Entry", StatusEntry, SummaryEntry)


class ReportingView(Protocol):
    """The view whose streams are reported on."""

    def delivered_through(self, index: int) -> int:
        """The number up to which a stream is delivered here."""

    def own_rose(self, stream: int) -> None:
        """What all have of that stream has grown by what this node has."""


class Reports:
    """The reports of one node in one view.

    Attributes:
        summed: whether reports go to a collector.
        collector: its index.
        collects: whether this node is it.
        status_seconds: how long after something has moved a report leaves.
        prompt_seconds: how long after the last one if somebody waits for it.
        touched: the streams of which something may have come or been delivered since the last ``maintain``.
        full_wanted: somebody wants to hear of all streams.
    """

    __slots__ = (
        "_again_at",
        "_again_wait",
        "_awaited",
        "_budget_bytes",
        "_counters",
        "_digest",
        "_last_status_at",
        "_last_summary_at",
        "_me",
        "_moved",
        "_mtu_bytes",
        "_out",
        "_prompt",
        "_rarely",
        "_reported",
        "_rooms",
        "_stability",
        "_status_at",
        "_streams",
        "_summary_at",
        "_to_tell",
        "_unstable",
        "_view",
        "_wanted",
        "collector",
        "collects",
        "full_wanted",
        "prompt_seconds",
        "status_seconds",
        "summed",
        "touched",
    )

    def __init__(
        self,
        me: int,
        digest: int,
        config: EngineConfig,
        streams: Sequence[Stream],
        stability: Stability,
        rooms: Sequence[int],
        counters: Counters,
        out: Out,
        view: ReportingView,
    ) -> None:
        """Nothing to report yet.

        Args:
            me: the index of this node.
            digest: what the view's packets carry.
            config: the node's settings.
            streams: by index.
            stability: what all have; what this node has is reported to it too.
            rooms: how many undelivered bytes each node takes of a sender.
            counters: of the node.
            out: where packets to send go.
            view: whose streams these are.
        """
        size = len(streams)
        self._me = me
        self._digest = digest
        self._mtu_bytes = config.mtu_bytes
        self._budget_bytes = config.budget_bytes
        self._streams = streams
        self._stability = stability
        self._rooms = rooms
        self._counters = counters
        self._out = out
        self._view = view
        self.summed = size > config.suppression_nodes
        self.collector = size - 1
        self.collects = self.summed and me == self.collector
        slower = max(1.0, size / _REPORTING_NODES) if self.summed else 1.0
        self.status_seconds = config.timing.status * slower
        self.prompt_seconds = config.timing.prompt * slower
        self._rarely = config.timing.for_nodes(size).heartbeat
        self.touched: set[int] = set()
        self.full_wanted = False
        self._reported = [(stream.contiguous, stream.contiguous) for stream in streams]
        self._moved: set[int] = set()
        self._wanted: dict[int, int] = {}
        self._prompt = False
        self._status_at = inf
        self._last_status_at = -inf
        self._unstable: set[int] = set()
        self._again_at = inf
        self._again_wait = 0.0
        self._to_tell: set[int] = set()
        self._awaited: dict[int, int] = {}
        self._summary_at = inf
        self._last_summary_at = -inf

    def due_at(self) -> float:
        """When ``maintain`` has something to say that time has brought; infinite if never."""
        return min(self._status_at, self._again_at, self._summary_at)

    @property
    def is_timed(self) -> bool:
        """Whether a report is due at a time that is known, so that what comes now need not be looked at before."""
        return self._status_at != inf and not (self._wanted or self._prompt or self.full_wanted)

    def wanted(self, stream: int, number: int) -> None:
        """Somebody waits for word that all have this packet."""
        self._wanted[stream] = max(self._wanted.get(stream, 0), number)
        if self.collects:
            self._awaited[stream] = max(self._awaited.get(stream, 0), number)

    def tell(self, stream: int, now: float) -> None:
        """The collector's: what all have of this stream goes into the next summary, soon if somebody waits for it."""
        if not self.collects:
            return
        self._to_tell.add(stream)
        awaited = self._awaited.get(stream)
        due = now + self.status_seconds / 2
        if awaited is not None and self._stability.stable[stream] >= awaited:
            due = max(now, self._last_summary_at + self.prompt_seconds)
            if self._stability.delivered[stream] >= awaited:
                del self._awaited[stream]
        self._summary_at = min(self._summary_at, due)

    def report(self, now: float) -> None:
        """Send a report if somebody waits for it, or something moved and its time has come."""
        for index in sorted(self.touched):
            received, delivered = self._streams[index].contiguous, self._view.delivered_through(index)
            reported = self._reported[index]
            if (received, delivered) == reported:
                continue
            self._moved.add(index)
            if self._wanted and self._wanted.get(index, -1) > reported[1]:
                self._prompt = True
            self._report_own(StatusEntry(index, received, delivered), now)
        self.touched.clear()
        if (self._prompt and self._moved) or self.full_wanted:
            due = self._last_status_at + self.prompt_seconds
            if now >= due:
                self.send(now, full=self.full_wanted)
                return
            self._status_at = min(self._status_at, due)
        elif self._moved and self._status_at == inf:
            self._status_at = now + self.status_seconds
        if now >= self._status_at:
            self.send(now, full=False)

    def repeat(self, now: float) -> None:
        """In a large view: report again what no summary has covered, and send the summary, when they are due."""
        if now >= self._again_at:
            self.send_again(now)
        if now >= self._summary_at:
            self._send_summary(now)

    def _report_own(self, entry: StatusEntry, now: float) -> None:
        """What this node has counts like what the others report."""
        if self._stability.report(self._me, entry):
            self._view.own_rose(entry.stream)
            self.tell(entry.stream, now)

    def send(self, now: float, *, full: bool, flags: int = 0) -> None:
        """Report what has moved, or, ``full``, all streams."""
        entries = []
        for index in range(len(self._streams)) if full else sorted(self._moved | self.touched):
            received, delivered = self._streams[index].contiguous, self._view.delivered_through(index)
            if full or (received, delivered) != self._reported[index]:
                entries.append(StatusEntry(index, received, delivered))
                self._reported[index] = received, delivered
                if self._wanted.get(index, inf) <= delivered:
                    del self._wanted[index]
                self._report_own(entries[-1], now)
        self._moved.clear()
        self._prompt = False
        self._status_at = inf
        self.full_wanted = False
        self._last_status_at = now
        if self.summed:
            self._unstable.update(entry.stream for entry in entries)
            self._again_wait = 2 * self.status_seconds
            self._again_at = now + self._again_wait
        if len(self._streams) > 1 and not self.collects:
            self._put(entries, flags)

    def _put(self, entries: list[StatusEntry], flags: int = 0) -> None:
        """To all; in a large view to the one who sums up."""
        room = self._budget_bytes // 2 // len(self._streams)
        for part in _in_packets(entries, self._mtu_bytes):
            body = Status(room, tuple(part)).encode()
            packet = encode(Kind.STATUS, self._digest, self._me, 0, body, flags=flags)
            self._out.append((packet, self.collector if self.summed else None, None))
            self._counters.up("statuses_sent")

    def send_again(self, now: float) -> None:
        """Repeat what no summary has covered; the report, or the summary, may be lost."""
        entries = []
        for index in sorted(self._unstable):
            entry = StatusEntry(index, *self._reported[index])
            if self._stability.covers(entry):
                self._unstable.discard(index)
            else:
                entries.append(entry)
        self._again_at = inf
        if entries:
            self._again_wait = min(2 * self._again_wait, max(self._rarely, 2 * self.status_seconds))
            self._again_at = now + self._again_wait
            if not self.collects:
                self._put(entries)

    def _send_summary(self, now: float) -> None:
        """The collector's: what all nodes together have."""
        stable, delivered = self._stability.stable, self._stability.delivered
        entries = [SummaryEntry(index, stable[index], delivered[index]) for index in sorted(self._to_tell)]
        self._to_tell.clear()
        self._summary_at = inf
        self._last_summary_at = now
        for part in _in_packets(entries, self._mtu_bytes):
            body = Summary(min(self._rooms), tuple(part)).encode()
            self._out.append((encode(Kind.SUMMARY, self._digest, self._me, 0, body), None, None))
            self._counters.up("summaries_sent")


def _in_packets(entries: list[_Entry], mtu_bytes: int) -> list[list[_Entry]]:
    """Entries in as many lists as have room in a packet each."""
    count = (mtu_bytes - _LARGEST_HEAD_BYTES) // _LARGEST_ENTRY_BYTES
    return [entries[at : at + count] for at in range(0, max(1, len(entries)), count)]
