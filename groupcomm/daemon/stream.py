"""A connected stream socket that carries records: reads into a shared buffer, writes at once.

Twisted's own transports copy what is written and write it in the reactor's next turn. This one gives the kernel the
buffers as they are, at once, and waits for the socket only for what it has not taken. Knows nothing of what the records
mean.
"""

from __future__ import annotations

import socket
from collections import deque
from typing import Final, Protocol

from twisted.internet.interfaces import IReactorFDSet, IReadWriteDescriptor
from twisted.internet.main import CONNECTION_DONE, CONNECTION_LOST
from twisted.python.failure import Failure
from zope.interface import implementer

from groupcomm.daemon.caps import IO_BUFFER_BYTES
from groupcomm.daemon.principal import Principal, local_principal
from groupcomm.daemon.records import Record, RecordError, RecordReader

_MAX_PIECES: Final = 1024
"""Buffers the kernel takes in one call."""

_FORCED: Final = {socket.SO_SNDBUF: 32, socket.SO_RCVBUF: 33}
"""The options that set the same beyond the limit of ordinary users."""


class StreamOwner(Protocol):
    """Who gets the records."""

    @property
    def reader(self) -> RecordReader:
        """Cuts the stream."""

    def records_received(self, records: list[Record]) -> None:
        """What one read has brought."""

    def broke_protocol(self, text: str) -> None:
        """The peer sent no records; the connection is closed after this."""

    def output_drained(self) -> None:
        """The kernel has taken all that was written."""

    def stream_lost(self) -> None:
        """The connection is over, whoever ended it; called once."""


class RecordStream(Protocol):
    """What an owner needs of its connection."""

    @property
    def backlog(self) -> int:
        """Bytes that were written and that the kernel has not taken."""

    def principal(self) -> Principal:
        """Who is at the other end."""

    def write(self, pieces: list[bytes]) -> None:
        """Write; what the kernel does not take waits."""

    def set_reading(self, reading: bool) -> None:
        """Read or not."""

    def finish(self) -> None:
        """Close when all has been written."""

    def abort(self) -> None:
        """Close now."""


@implementer(IReadWriteDescriptor)
class SocketStream:
    """A connected socket under a reactor.

    Invariants: ``backlog`` is the size of ``_output``; the reactor watches for room if and only if that is not 0.
    """

    def __init__(self, reactor: IReactorFDSet, connected: socket.socket, owner: StreamOwner) -> None:
        """Begin to read.

        Args:
            reactor: watches the socket.
            connected: the socket, which from now on belongs to this object.
            owner: gets the records.
        """
        self._reactor = reactor
        self._socket = connected
        self._owner = owner
        self._reader = owner.reader
        self._output: deque[memoryview | bytes] = deque()
        self._finishing = False
        self.backlog = 0
        self.closed = False
        connected.setblocking(False)
        for option, forced in _FORCED.items():
            try:
                connected.setsockopt(socket.SOL_SOCKET, forced, IO_BUFFER_BYTES)
            except OSError:
                connected.setsockopt(socket.SOL_SOCKET, option, IO_BUFFER_BYTES)
        if connected.family != socket.AF_UNIX:
            connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        reactor.addReader(self)

    def fileno(self) -> int:
        """The descriptor; -1 when closed."""
        return self._socket.fileno()

    def logPrefix(self) -> str:
        """What the reactor logs under."""
        return "channel"

    def principal(self) -> Principal:
        """Who is at the other end, as the kernel says."""
        return local_principal(self._socket)

    def doRead(self) -> object:  # type: ignore[override]  # an exception, whatever the interface says
        """Something has come."""
        try:
            count = self._socket.recv_into(self._reader.buffer())
        except (BlockingIOError, InterruptedError):
            return None
        except OSError:
            return CONNECTION_LOST
        if not count:
            return CONNECTION_DONE
        try:
            records = self._reader.received(count)
            if records:
                self._owner.records_received(records)
        except RecordError as error:
            self._owner.broke_protocol(str(error))
            return CONNECTION_LOST
        return None

    def write(self, pieces: list[bytes]) -> None:
        """Write at once, behind what waits."""
        if self.closed:
            return
        if self.backlog:
            self._output.extend(pieces)
            self.backlog += sum(map(len, pieces))
            return
        size = sum(map(len, pieces))
        sent = self._send(pieces if len(pieces) <= _MAX_PIECES else pieces[:_MAX_PIECES])
        if sent != size:
            self._output.extend(pieces)
            self.backlog = size
            self._drop(sent)
            self._reactor.addWriter(self)

    def doWrite(self) -> object:  # type: ignore[override]
        """The kernel has room."""
        while self.backlog:
            pieces = [self._output[index] for index in range(min(len(self._output), _MAX_PIECES))]
            sent = self._send(pieces)
            if not sent:
                return None
            self._drop(sent)
        self._reactor.removeWriter(self)
        if self._finishing:
            return CONNECTION_DONE
        self._owner.output_drained()
        return None

    def set_reading(self, reading: bool) -> None:
        """Read or not."""
        if self.closed:
            return
        if reading:
            self._reactor.addReader(self)
        else:
            self._reactor.removeReader(self)

    def finish(self) -> None:
        """Close when all has been written."""
        self._finishing = True
        if not self.backlog:
            self.abort()

    def abort(self) -> None:
        """Close now."""
        if self.closed:
            return
        self.closed = True
        self._reactor.removeReader(self)
        self._reactor.removeWriter(self)
        self._socket.close()
        self._output.clear()
        self.backlog = 0
        self._owner.stream_lost()

    def connectionLost(self, reason: Failure) -> None:
        """The reactor is done with it."""
        self.abort()

    def _send(self, pieces: list[bytes] | list[memoryview | bytes]) -> int:
        """How much the kernel takes; none if the connection is broken, which the next read finds."""
        try:
            return self._socket.sendmsg(pieces)
        except OSError:
            return 0

    def _drop(self, sent: int) -> None:
        """So much of the output has been taken."""
        self.backlog -= sent
        output = self._output
        while sent:
            first = output[0]
            if len(first) > sent:
                output[0] = memoryview(first)[sent:]
                return
            sent -= len(first)
            output.popleft()
        while output and not len(output[0]):
            output.popleft()
