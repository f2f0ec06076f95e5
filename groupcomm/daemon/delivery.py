"""The queue of events on their way to one client: batches, acknowledgements, and when a client is too slow.

Decides how much is handed to Perspective Broker at once and, for the data channel too, when to give up on a client. It
does not know what an event is: it is given encoded bytes, which may be shared with the queues of other clients.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from attrs import frozen
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.python.failure import Failure

from groupcomm.daemon import caps
from groupcomm.limits import CLIENT_QUEUE_BYTES, CLIENT_QUEUE_EVENTS


@frozen
class DeliveryLimits:
    """When a client is too slow; by default the caps.

    Attributes:
        queue_bytes: a client over this that acknowledges nothing for ``patience_seconds`` is too slow.
        queue_events: the same in events.
        hard_bytes: a client over this is too slow at once.
        hard_events: the same in events.
        patience_seconds: how long it may acknowledge nothing.
    """

    queue_bytes: int = CLIENT_QUEUE_BYTES
    queue_events: int = CLIENT_QUEUE_EVENTS
    hard_bytes: int = caps.CLIENT_HARD_BYTES
    hard_events: int = caps.CLIENT_HARD_EVENTS
    patience_seconds: float = caps.CLIENT_PATIENCE_SECONDS


class Backlog:
    """What one client has not acknowledged, and when that is too much.

    Attributes:
        queued_bytes: bytes that wait or are unacknowledged.
        queued_events: how many events that is.
    """

    def __init__(self, clock: IReactorTime, limits: DeliveryLimits | None) -> None:
        self._clock = clock
        self._limits = limits or DeliveryLimits()
        self._progress = clock.seconds()
        self._reading = True
        self._closed = False
        self._empty: list[Deferred[None]] = []
        self.queued_bytes = 0
        self.queued_events = 0

    @property
    def busy(self) -> bool:
        """Whether the client is so far behind that its own sends are not answered."""
        fraction = caps.THROTTLE_FRACTION
        return not self._closed and (
            self.queued_bytes * fraction > self._limits.queue_bytes
            or self.queued_events * fraction > self._limits.queue_events
        )

    def set_reading(self, reading: bool) -> None:
        """Tell whether the daemon reads from the client now: while it does not, no acknowledgement can come."""
        if reading and not self._reading:
            self._progress = self._clock.seconds()
        self._reading = reading

    def when_empty(self) -> Deferred[None]:
        """Fires when everything queued so far has been acknowledged, or the queue is closed."""
        done: Deferred[None] = Deferred()
        if self._closed or not self.queued_bytes:
            done.callback(None)
        else:
            self._empty.append(done)
        return done

    def _over_limit(self) -> bool:
        limits = self._limits
        if self.queued_bytes >= limits.hard_bytes or self.queued_events >= limits.hard_events:
            return True
        if self.queued_bytes < limits.queue_bytes and self.queued_events < limits.queue_events:
            return False
        return self._reading and self._clock.seconds() - self._progress >= limits.patience_seconds

    def _tell_empty(self) -> None:
        waiters, self._empty = self._empty, []
        for waiter in waiters:
            waiter.callback(None)


class Delivery(Backlog):
    """Events of one session, handed over in batches, a bounded number of them unacknowledged.

    A client that is quick gets each burst at once; the slower its acknowledgements, the larger the batches.

    Invariants: ``queued_bytes`` and ``queued_events`` count what waits and what is unacknowledged; at most
    ``BATCHES_IN_FLIGHT`` batches are unacknowledged, and none leaves while ``IN_FLIGHT_BYTES`` are.

    Args:
        clock: tells the time and calls back at the end of the reactor's turn, so that a burst shares a batch.
        hand_over: hands one batch to the client; its Deferred fires when the client has acknowledged it.
        too_slow: called once, when the client is given up on. Nothing is handed over any more from then on.
        relaxed: called whenever the queue has fallen below a ``THROTTLE_FRACTION`` of its limit.
        limits: when the client is too slow.
    """

    def __init__(
        self,
        clock: IReactorTime,
        hand_over: Callable[[list[bytes]], Deferred[object]],
        too_slow: Callable[[], None],
        relaxed: Callable[[], None],
        limits: DeliveryLimits | None = None,
    ) -> None:
        super().__init__(clock, limits)
        self._hand_over = hand_over
        self._too_slow = too_slow
        self._relaxed = relaxed
        self._waiting: deque[tuple[bytes, int]] = deque()
        self._in_flight = 0
        self._in_flight_bytes = 0
        self._flush: IDelayedCall | None = None

    def push(self, pieces: tuple[bytes, ...], events: int = 1) -> None:
        """Queue one event.

        Args:
            pieces: encoded plain events that belong together: parts, then the event itself.
            events: how many events of the application that is.
        """
        if self._closed:
            return
        if self.queued_events == 0:
            self._progress = self._clock.seconds()
        elif self._over_limit():
            self._too_slow()
            self.close()
            return
        for index, piece in enumerate(pieces):
            count = events if index == len(pieces) - 1 else 0
            self._waiting.append((piece, count))
            self.queued_bytes += len(piece)
        self.queued_events += events
        if self._flush is None and self._may_hand_over():
            self._flush = self._clock.callLater(0, self._flush_now)

    def close(self) -> None:
        """Drop what waits; nothing is handed over any more."""
        self._closed = True
        self._waiting.clear()
        self.queued_bytes = self.queued_events = 0
        if self._flush is not None:
            self._flush.cancel()
            self._flush = None
        self._tell_empty()

    def check_invariants(self) -> None:
        """Raise ``AssertionError`` if the counts are wrong."""
        assert 0 <= self._in_flight <= caps.BATCHES_IN_FLIGHT
        assert self._closed or self.queued_bytes >= sum(len(piece) for piece, _ in self._waiting)
        assert self._closed or self.queued_events >= sum(count for _, count in self._waiting)

    def _may_hand_over(self) -> bool:
        return (
            not self._closed
            and bool(self._waiting)
            and self._in_flight_bytes < caps.IN_FLIGHT_BYTES
            and (
                self._in_flight < caps.SMALL_BATCHES_IN_FLIGHT
                or (self._in_flight < caps.BATCHES_IN_FLIGHT and self._full_batch_waits())
            )
        )

    def _full_batch_waits(self) -> bool:
        return len(self._waiting) >= caps.BATCH_EVENTS or self.queued_bytes - self._in_flight_bytes >= caps.BATCH_BYTES

    def _flush_now(self) -> None:
        self._flush = None
        while self._may_hand_over():
            batch: list[bytes] = []
            size = events = 0
            while self._waiting and size < caps.BATCH_BYTES and len(batch) < caps.BATCH_EVENTS:
                piece, count = self._waiting.popleft()
                batch.append(piece)
                size += len(piece)
                events += count
            self._in_flight += 1
            self._in_flight_bytes += size
            self._hand_over(batch).addBoth(self._acknowledged, size, events)

    def _acknowledged(self, result: object, size: int, events: int) -> None:
        self._in_flight -= 1
        self._in_flight_bytes -= size
        if isinstance(result, Failure):  # the connection is lost, which will close us: nobody is there to hand over to
            result.cleanFailure()
            return
        if self._closed:
            return
        self._progress = self._clock.seconds()
        self.queued_bytes -= size
        self.queued_events -= events
        if not self.busy:
            self._relaxed()
        if self._flush is None and self._may_hand_over():
            self._flush_now()
        if not self.queued_bytes:
            self._tell_empty()
