"""Events on their way to a client over its data channel: written as far as its credit goes, queued beyond that.

Decides when a record is written; when a client is given up on is decided for both ways of delivery alike.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import TypeAlias

from twisted.internet.interfaces import IReactorTime

from groupcomm.daemon import caps
from groupcomm.daemon.delivery import Backlog, DeliveryLimits
from groupcomm.daemon.records import RecordError

Outgoing: TypeAlias = tuple[bytes, bytes]
"""A record's header and head in one piece, and its payload, which other queues may share."""


class ChannelQueue(Backlog):
    """The events of one session.

    Invariants: ``queued_bytes`` is what waits and what is unread; ``queued_events`` are the records that wait; unread
    are at most ``CHANNEL_CREDIT_BYTES``, or less than ``CREDIT_STEP_BYTES`` and one record.
    """

    def __init__(
        self,
        clock: IReactorTime,
        write: Callable[[list[bytes]], None],
        too_slow: Callable[[], None],
        relaxed: Callable[[], None],
        limits: DeliveryLimits | None = None,
    ) -> None:
        """An empty queue.

        Args:
            clock: tells the time.
            write: writes pieces of records to the client.
            too_slow: called once, when the client is given up on. Nothing is written any more from then on.
            relaxed: called with each credit after which the client is not ``busy``.
            limits: when the client is too slow.
        """
        super().__init__(clock, limits)
        self._write = write
        self._too_slow = too_slow
        self._relaxed = relaxed
        self._waiting: deque[Outgoing] = deque()
        self._unread_bytes = 0

    def push(self, records: Sequence[Outgoing]) -> None:
        """Write these, or queue what there is no credit for."""
        if self._closed:
            return
        pieces: list[bytes] = []
        for top, payload in records:
            if self.queued_bytes < caps.CREDIT_STEP_BYTES:  # so much a client may keep for itself: it owes no credit
                self._progress = self._clock.seconds()
            if self.queued_bytes and self._over_limit():
                self._too_slow()
                self.close()
                return
            size = len(top) + len(payload)
            self.queued_bytes += size
            if self._waiting or not self._has_credit(size):
                self._waiting.append((top, payload))
                self.queued_events += 1
            else:
                self._unread_bytes += size
                pieces += (top, payload) if payload else (top,)
        if pieces:
            self._write(pieces)

    def credit(self, size: int) -> None:
        """The client is done with so many bytes.

        Raises:
            RecordError: so many were not sent.
        """
        if not 0 < size <= self._unread_bytes:
            raise RecordError(f"credit for {size} bytes where {self._unread_bytes} are unread")
        self._unread_bytes -= size
        if self._closed:
            return
        self.queued_bytes -= size
        self._progress = self._clock.seconds()
        pieces: list[bytes] = []
        while self._waiting:
            top, payload = self._waiting[0]
            if not self._has_credit(len(top) + len(payload)):
                break
            self._waiting.popleft()
            self.queued_events -= 1
            self._unread_bytes += len(top) + len(payload)
            pieces += (top, payload)
        if pieces:
            self._write(pieces)
        if not self.busy:
            self._relaxed()
        if not self.queued_bytes:
            self._tell_empty()

    def close(self) -> None:
        """Drop what waits; nothing is written any more."""
        self._closed = True
        self._waiting.clear()
        self.queued_bytes = self.queued_events = 0
        self._tell_empty()

    def check_invariants(self) -> None:
        """Raise ``AssertionError`` if the counts are wrong."""
        waiting = sum(len(top) + len(payload) for top, payload in self._waiting)
        assert self._closed or self.queued_bytes == waiting + self._unread_bytes
        assert self._closed or self.queued_events == len(self._waiting)

    def _has_credit(self, size: int) -> bool:
        unread = self._unread_bytes
        return unread < caps.CREDIT_STEP_BYTES or unread + size <= caps.CHANNEL_CREDIT_BYTES
