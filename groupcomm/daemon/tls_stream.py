"""A data channel over a transport of Twisted's, as TLS is one: the same contract as a socket's stream.

Knows neither TLS nor what the records mean. ``SocketStream`` is quicker where the connection is a bare socket.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure

from groupcomm.daemon.caps import ANSWER_BACKLOG_BYTES, FAREWELL_SECONDS
from groupcomm.daemon.principal import LOOPBACK, Principal
from groupcomm.daemon.records import RecordError
from groupcomm.daemon.stream import StreamOwner


class TransportStream(Protocol):
    """A stream of records over a connection.

    The transport does not say how much it holds, only that it is more than it likes; then ``backlog`` is above what an
    owner answers at.

    Invariant: while reading is off, what comes all the same is kept in ``_kept``; it is what the transport had read.

    Args:
        clock: the reactor's time.
        owner: gets the records.
        opened: called when the connection is there.
        principal: who is at the other end, where somebody asks.
    """

    transport: Any

    def __init__(
        self,
        clock: IReactorTime,
        owner: StreamOwner,
        opened: Callable[[TransportStream], None] = lambda _: None,
        principal: Principal = LOOPBACK,
    ) -> None:
        self._clock = clock
        self._owner = owner
        self._opened = opened
        self._principal = principal
        self._reader = owner.reader
        self._paused = False
        self._kept = b""
        self._closed = False
        self._resuming: IDelayedCall | None = None
        self._cut_off: IDelayedCall | None = None
        self.backlog = 0

    def principal(self) -> Principal:
        """Who is at the other end."""
        return self._principal

    def connectionMade(self) -> None:
        """The connection is there; what is written now is not to wait for what will be."""
        self.transport.setTcpNoDelay(True)
        self.transport.registerProducer(self, True)
        self._opened(self)

    def dataReceived(self, data: bytes) -> None:
        """Something has come."""
        self._kept = self._kept + data if self._paused else self._cut(data)

    def _cut(self, data: bytes) -> bytes:
        """Cut it into records, as much at a time as the reader has room for; the rest, once reading is off."""
        view = memoryview(data)
        while view and not (self._closed or self._paused):
            buffer = self._reader.buffer()
            count = min(len(buffer), len(view))
            buffer[:count] = view[:count]
            view = view[count:]
            try:
                records = self._reader.received(count)
                if records:
                    self._owner.records_received(records)
            except RecordError as error:
                self._owner.broke_protocol(str(error))
                self.abort()
        return b"" if self._closed else bytes(view)

    def write(self, pieces: list[bytes]) -> None:
        """Write, behind what waits."""
        if not self._closed:
            self.transport.writeSequence(pieces)

    def set_reading(self, reading: bool) -> None:
        """Read or not."""
        if self._closed:
            return
        if reading and self._paused and self._resuming is None:
            self._resuming = self._clock.callLater(0, self._resume)
        elif not reading:
            self._resuming = _cancelled(self._resuming)
            if not self._paused:
                self._paused = True
                self.transport.pauseProducing()

    def _resume(self) -> None:
        """What was kept goes first, and may turn reading off again."""
        self._resuming = None
        self._paused = False
        kept, self._kept = self._kept, b""
        if kept:
            self.dataReceived(kept)
        if not self._paused and not self._closed:
            self.transport.resumeProducing()

    def finish(self) -> None:
        """Close when all has been written; a peer that does not let it go has a little time."""
        if not self._closed and self._cut_off is None:
            self._cut_off = self._clock.callLater(FAREWELL_SECONDS, self.abort)
            self.transport.unregisterProducer()
            self.transport.loseConnection()

    def abort(self) -> None:
        """Close now."""
        if not self._closed:
            self._close()
            self.transport.abortConnection()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """It is over."""
        if not self._closed:
            self._close()

    def _close(self) -> None:
        self._closed = True
        self._kept = b""
        self.backlog = 0
        self._resuming = _cancelled(self._resuming)
        self._cut_off = _cancelled(self._cut_off)
        self._owner.stream_lost()

    # What the transport calls: its output is full, and not any more.

    def pauseProducing(self) -> None:
        """More waits than the transport likes."""
        self.backlog = ANSWER_BACKLOG_BYTES + 1

    def resumeProducing(self) -> None:
        """Nothing waits."""
        if not self._closed:
            self.backlog = 0
            self._owner.output_drained()

    def stopProducing(self) -> None:
        """The connection is closing; ``connectionLost`` follows."""


def _cancelled(call: IDelayedCall | None) -> IDelayedCall | None:
    """None, in place of a call that is not to come any more."""
    if call is not None and call.active():
        call.cancel()
    return None
