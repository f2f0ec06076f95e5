"""The records of a data channel: bytes to records and back (``doc/design/channel.md``).

Both ends use it. Decides how much of a record is held while it is not whole: every length is checked against the limits
of the connection before anything is kept of it.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Final, TypeAlias

from groupcomm.daemon.caps import LARGE_RECORD_BYTES, READ_BYTES

VERSION: Final = 1
HEADER: Final = struct.Struct("!BBHIQ")
HEADER_BYTES: Final = HEADER.size

HELLO: Final = 1
SEND: Final = 2
JOIN: Final = 3
LEAVE: Final = 4
LOGOUT: Final = 5
CREDIT: Final = 6
WELCOME: Final = 16
MESSAGES: Final = 17
EVENT: Final = 18
DONE: Final = 19
FAILED: Final = 20

LEVEL_BITS: Final = 7
STABLE: Final = 8
SELF_DISCARD: Final = 16
PRIVATE: Final = 32
SINGLE: Final = 1

Payload: TypeAlias = bytes | memoryview
"""A large payload is a view of a buffer that holds something else soon: good until the next read."""

Record: TypeAlias = tuple[int, int, int, bytes, Payload]
"""Kind, flags, number, head, payload."""


class RecordError(Exception):
    """The peer sent what no well-behaved one sends; the connection is over."""


def record(kind: int, number: int = 0, head: bytes = b"", payload: bytes = b"", flags: int = 0) -> bytes:
    """One record in one piece."""
    return HEADER.pack(kind, flags, len(head), len(payload), number) + head + payload


_shared_buffer = memoryview(bytearray(READ_BYTES))

_SPARE_BYTES: Final = 2 * 1024 * 1024
"""A buffer for a large payload up to this size is kept for the next one: fresh memory costs more than copying."""

_spare_buffers: list[bytearray] = []


class RecordReader:
    """Cuts a stream of bytes into records.

    All readers of a process read into one buffer: whoever gets ``buffer`` fills it and calls ``received`` before anyone
    else gets it. A record that is not whole is kept as bytes of its own; the payload of a large one is read into a
    buffer of its own, which is not made before it is read on.

    Invariants: ``_tail`` is shorter than a header, a head and ``LARGE_RECORD_BYTES``; while ``missing`` is not 0 the
    payload of ``_begun`` is ``_first``, or the beginning of ``_large_buffer``.

    Attributes:
        max_head: the largest head.
        max_payload: the largest payload.
        missing: bytes that have not come of a large payload that has begun; 0 if none has.
    """

    def __init__(self, max_head: int, max_payload: int, large: Callable[[int], None] | None = None) -> None:
        """A reader at the beginning of a stream.

        Args:
            max_head: the largest head.
            max_payload: the largest payload.
            large: told of the size of each payload above ``LARGE_RECORD_BYTES`` that begins.
        """
        self.max_head = max_head
        self.max_payload = max_payload
        self.missing = 0
        self._large = large
        self._tail = b""
        self._begun: tuple[int, int, int, bytes] = (0, 0, 0, b"")
        self._size = 0
        self._first = b""
        self._large_buffer: bytearray | None = None

    def buffer(self) -> memoryview:
        """Where the next bytes of the stream are to be put."""
        if self.missing:
            return self._large_view()[self._size - self.missing :]
        if self._large_buffer is not None:
            self._give_back()
        tail = self._tail
        if tail:
            _shared_buffer[: len(tail)] = tail
            return _shared_buffer[len(tail) :]
        return _shared_buffer

    def received(self, count: int) -> list[Record]:
        """The records that are whole now that ``count`` bytes have been put into ``buffer``.

        Raises:
            RecordError: a length is over its limit.
        """
        view = _shared_buffer
        end = len(self._tail) + count
        at = 0
        records: list[Record] = []
        if self.missing:
            self.missing -= count
            if not self.missing:
                records.append((*self._begun, self._large_view()))
            return records
        unpack = HEADER.unpack_from
        while end - at >= HEADER_BYTES:
            kind, flags, head_bytes, payload_bytes, number = unpack(view, at)
            if head_bytes > self.max_head or payload_bytes > self.max_payload:
                raise RecordError(f"a record of kind {kind} with a head of {head_bytes} and {payload_bytes} bytes")
            start = at + HEADER_BYTES
            middle = start + head_bytes
            stop = middle + payload_bytes
            if stop > end:
                if payload_bytes > LARGE_RECORD_BYTES and middle <= end:
                    self._begun = (kind, flags, number, bytes(view[start:middle]))
                    self._first = bytes(view[middle:end])
                    self._size = payload_bytes
                    self.missing = stop - end
                    at = end
                    if self._large is not None:
                        self._large(payload_bytes)
                break
            records.append((kind, flags, number, bytes(view[start:middle]), bytes(view[middle:stop])))
            at = stop
        self._tail = bytes(view[at:end])
        return records

    def _large_view(self) -> memoryview:
        """The buffer of the large payload that has begun."""
        buffer = self._large_buffer
        if buffer is None:
            spare = _spare_buffers.pop() if _spare_buffers else bytearray()
            buffer = spare if len(spare) >= self._size else bytearray(self._size + READ_BYTES)
            self._large_buffer = buffer
            buffer[: len(self._first)] = self._first
            self._first = b""
        return memoryview(buffer)[: self._size]

    def _give_back(self) -> None:
        """What was read is done with."""
        buffer, self._large_buffer = self._large_buffer, None
        if buffer is not None and len(buffer) <= _SPARE_BYTES:
            _spare_buffers[:] = [buffer]
