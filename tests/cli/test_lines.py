"""Cutting standard input into messages."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorFromThreads
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from groupcomm.cli.lines import LineSplitter, LineTooLong, PieceReader


class LineSplitterTests(SynchronousTestCase):
    """Pieces in, lines out."""

    def test_lines(self) -> None:
        """A newline ends a line and is not part of it; an empty line is a line."""
        splitter = LineSplitter(100)
        self.assertEqual(splitter.feed(b"one\n\ntwo\n"), [b"one", b"", b"two"])
        self.assertEqual(splitter.finish(), [])

    def test_last_line_without_newline(self) -> None:
        """What stands after the last newline is a line at the end of the input."""
        splitter = LineSplitter(100)
        self.assertEqual(splitter.feed(b"one\ntwo"), [b"one"])
        self.assertEqual(splitter.finish(), [b"two"])
        self.assertEqual(splitter.finish(), [])

    def test_any_cut_gives_the_same_lines(self) -> None:
        """It makes no difference where the pieces are cut."""
        draw = random.Random(1)
        text = b"".join(draw.choice([b"a", b"bc", b"\n", b"\r", b"\x00"]) for _ in range(400))
        whole = LineSplitter(1000)
        expected = whole.feed(text) + whole.finish()
        for _ in range(50):
            splitter, lines, at = LineSplitter(1000), [], 0
            while at < len(text):
                size = draw.randrange(1, 40)
                lines += splitter.feed(text[at : at + size])
                at += size
            self.assertEqual(lines + splitter.finish(), expected)

    def test_limit(self) -> None:
        """A line of the limit passes, one byte more does not, and the lines before it are handed out."""
        self.assertEqual(LineSplitter(3).feed(b"abc\n"), [b"abc"])
        for pieces in ([b"ok\nabcd\n"], [b"ok\nab", b"cd"]):
            splitter = LineSplitter(3)
            before: list[bytes] = []
            error: LineTooLong | None = None
            for piece in pieces:
                try:
                    before += splitter.feed(piece)
                except LineTooLong as raised:
                    error = raised
                    before += raised.before
            assert error is not None
            self.assertEqual((error.number, before), (2, [b"ok"]))
            self.assertIn("line 2", str(error))


@implementer(IReactorFromThreads)
class Inbox:
    """A reactor of which only the calls from threads are used; they are made when the test says so."""

    def __init__(self) -> None:
        self.read, self.write = os.pipe()
        self.calls: list[tuple[Callable[..., Any], tuple[object, ...]]] = []

    def callFromThread(self, callable: Callable[..., Any], *args: object, **kwargs: object) -> None:
        self.calls.append((callable, args))
        os.write(self.write, b"!")

    def callInThread(self, function: object, *arguments: object, **keywords: object) -> None:
        raise NotImplementedError

    def getThreadPool(self) -> object:
        raise NotImplementedError

    def suggestThreadPoolSize(self, size: int) -> None:
        raise NotImplementedError

    def wait(self) -> None:
        os.read(self.read, 1)
        function, arguments = self.calls.pop(0)
        function(*arguments)


class PieceReaderTests(SynchronousTestCase):
    """Reading in a thread, on request."""

    def setUp(self) -> None:
        self.read, self.write = os.pipe()
        self.inbox = Inbox()
        self.addCleanup(os.close, self.inbox.read)
        self.addCleanup(os.close, self.inbox.write)
        self.addCleanup(os.close, self.read)
        self.reader = PieceReader(self.inbox, self.read)

    def next_piece(self) -> bytes:
        piece: Deferred[bytes] = self.reader.next_piece()
        self.inbox.wait()
        return self.successResultOf(piece)

    def test_pieces_and_end(self) -> None:
        """Each request gets what is there; at the end the piece is empty."""
        os.write(self.write, b"abc")
        self.assertEqual(self.next_piece(), b"abc")
        os.write(self.write, b"def")
        self.assertEqual(self.next_piece(), b"def")
        os.close(self.write)
        self.assertEqual(self.next_piece(), b"")

    def test_nothing_is_read_unasked(self) -> None:
        """Without a request nothing is taken from the pipe, so that its writer is held up."""
        os.write(self.write, b"abc")
        self.next_piece()
        os.set_blocking(self.write, False)
        size = 0
        while True:
            try:
                size += os.write(self.write, bytes(4096))
            except BlockingIOError:
                break
        self.assertGreater(size, 0)
        os.set_blocking(self.read, False)
        taken = 0
        while taken < size:
            taken += len(os.read(self.read, 65_536))
        self.assertEqual(taken, size)
        os.close(self.write)

    def test_error(self) -> None:
        """What cannot be read fails the request."""
        os.close(self.write)
        reader = PieceReader(self.inbox, -1)
        piece = reader.next_piece()
        self.inbox.wait()
        self.failureResultOf(piece, OSError)
