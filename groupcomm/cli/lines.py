"""Lines from a file descriptor, a bounded piece at a time and without holding the reactor.

A thread reads, and only when asked: so a slow group slows the program that writes to our standard input, and what is
held is one piece and one unfinished line. Standard input is left in the mode it came in (it may be shared).
"""

from __future__ import annotations

import os
import threading
from queue import SimpleQueue
from typing import Final

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorFromThreads
from twisted.python.failure import Failure

PIECE_BYTES: Final = 65_536
"""How much is read at once: what a pipe holds."""


class LineTooLong(Exception):
    """A line is longer than a message may be.

    Attributes:
        number: which line, from 1.
        before: the complete lines before it that were not handed out yet.
    """

    def __init__(self, number: int, limit: int, before: list[bytes]) -> None:
        super().__init__(f"line {number} is longer than the {limit:,} bytes a message may have")
        self.number = number
        self.before = before


class LineSplitter:
    """Cuts pieces into lines. Holds at most one unfinished line, shorter than the limit.

    A line ends with a newline, which is not part of it; the last one may lack it.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._parts: list[bytes] = []
        self._size = 0
        self._count = 0

    def feed(self, piece: bytes) -> list[bytes]:
        """The lines that ``piece`` completes.

        Raises:
            LineTooLong: a line, complete or not, exceeds the limit.
        """
        lines: list[bytes] = []
        *ends, rest = piece.split(b"\n")
        for end in ends:
            self._add(end, lines)
            lines.append(self._take())
        self._add(rest, lines)
        return lines

    def finish(self) -> list[bytes]:
        """The last line, if it lacked its newline."""
        return [self._take()] if self._size else []

    def _add(self, part: bytes, before: list[bytes]) -> None:
        if self._size + len(part) > self._limit:
            raise LineTooLong(self._count + 1, self._limit, before)
        if part:
            self._parts.append(part)
            self._size += len(part)

    def _take(self) -> bytes:
        line = self._parts[0] if len(self._parts) == 1 else b"".join(self._parts)
        self._parts, self._size = [], 0
        self._count += 1
        return line


class PieceReader:
    """Reads a file descriptor in a thread of its own, one piece for each request."""

    def __init__(self, reactor: IReactorFromThreads, descriptor: int = 0) -> None:
        self._reactor = reactor
        self._descriptor = descriptor
        self._wanted: SimpleQueue[Deferred[bytes]] = SimpleQueue()
        self._thread: threading.Thread | None = None

    def next_piece(self) -> Deferred[bytes]:
        """The next piece as soon as there is any; empty at the end. One request at a time."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._read, name="standard input", daemon=True)
            self._thread.start()
        piece: Deferred[bytes] = Deferred(lambda _: None)
        self._wanted.put(piece)
        return piece

    def _read(self) -> None:
        while True:
            piece = self._wanted.get()
            try:
                data = os.read(self._descriptor, PIECE_BYTES)
            except OSError as error:
                self._reactor.callFromThread(self._answer, piece, Failure(error))
                return
            self._reactor.callFromThread(self._answer, piece, data)
            if not data:
                return

    @staticmethod
    def _answer(piece: Deferred[bytes], result: bytes | Failure) -> None:
        if not piece.called:
            piece.callback(result)
