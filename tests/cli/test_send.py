"""Sending lines: the window, the order, and what goes wrong."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.trial.unittest import SynchronousTestCase

from groupcomm.cli.running import CommandFailed
from groupcomm.cli.send import IN_FLIGHT_BYTES, IN_FLIGHT_MESSAGES, SendWindow, send_lines
from groupcomm.errors import NotConnected, SendIncomplete
from groupcomm.limits import MAX_MESSAGE_BYTES


class Pieces:
    """An input that was written beforehand."""

    def __init__(self, *pieces: bytes) -> None:
        self._pieces = [*pieces, b""]
        self.taken = 0

    def next_piece(self) -> Deferred[bytes]:
        self.taken += 1
        return succeed(self._pieces.pop(0))


class Recorder:
    """Takes messages and confirms them when the test says so."""

    def __init__(self) -> None:
        self.sent: list[tuple[bytes, bool]] = []
        self.open: list[Deferred[None]] = []

    def send(self, data: bytes, stable: bool) -> Deferred[None]:
        self.sent.append((data, stable))
        self.open.append(Deferred())
        return self.open[-1]

    def confirm(self, count: int) -> None:
        some, self.open = self.open[:count], self.open[count:]
        for each in some:
            each.callback(None)


def start(source: Pieces, recorder: Recorder, window: SendWindow | None = None) -> Deferred[None]:
    coroutine: Any = send_lines(source, recorder.send, window or SendWindow())
    return Deferred.fromCoroutine(coroutine)


class SendLinesTests(SynchronousTestCase):
    """One message for each line."""

    def test_lines_in_order(self) -> None:
        """Each line is a message; the last of each piece is waited for until it is stable."""
        recorder = Recorder()
        done = start(Pieces(b"a\nb\nc", b"d\n", b"e"), recorder)
        self.assertEqual(recorder.sent, [(b"a", False), (b"b", True), (b"cd", True), (b"e", True)])
        recorder.confirm(3)
        self.assertNoResult(done)
        recorder.confirm(1)
        self.successResultOf(done)

    def test_empty_input(self) -> None:
        """No line, no message."""
        recorder = Recorder()
        self.successResultOf(start(Pieces(), recorder))
        self.assertEqual(recorder.sent, [])

    def test_back_pressure_by_count(self) -> None:
        """What is under way is bounded: nothing more is read until there is room."""
        recorder = Recorder()
        pieces: Sequence[bytes] = [b"x\n"] * (IN_FLIGHT_MESSAGES + 5)
        source = Pieces(*pieces)
        done = start(source, recorder)
        self.assertEqual(len(recorder.sent), IN_FLIGHT_MESSAGES)
        self.assertEqual(source.taken, IN_FLIGHT_MESSAGES + 1)
        recorder.confirm(1)
        self.assertEqual(len(recorder.sent), IN_FLIGHT_MESSAGES + 1)
        while recorder.open:
            recorder.confirm(1)
        self.successResultOf(done)
        self.assertEqual(len(recorder.sent), len(pieces))

    def test_back_pressure_by_size(self) -> None:
        """Bytes under way are bounded too, but for a single message larger than the bound."""
        recorder = Recorder()
        large = bytes(IN_FLIGHT_BYTES + 1)
        done = start(Pieces(large + b"\n", b"small\n"), recorder)
        self.assertEqual(len(recorder.sent), 1)
        recorder.confirm(1)
        self.assertEqual(len(recorder.sent), 2)
        recorder.confirm(1)
        self.successResultOf(done)

    def test_failure_ends_it(self) -> None:
        """When a send fails, nothing more is sent, and the failure is the command's."""
        recorder = Recorder()
        source = Pieces(*[b"x\n"] * (IN_FLIGHT_MESSAGES + 1))
        done = start(source, recorder)
        recorder.open[0].errback(NotConnected("gone"))
        self.failureResultOf(done, NotConnected)
        self.assertEqual(len(recorder.sent), IN_FLIGHT_MESSAGES)

    def test_view_change_is_no_failure(self) -> None:
        """A send cut short by a view change reached those who stayed: it is noted, and the rest goes on."""
        recorder, window = Recorder(), SendWindow()
        done = start(Pieces(b"a\n", b"b\n"), recorder, window)
        recorder.open[0].errback(SendIncomplete())
        recorder.open[1].callback(None)
        self.successResultOf(done)
        self.assertEqual(window.incomplete, 1)

    def test_line_too_long(self) -> None:
        """A line longer than a message may be ends it with its number; what stood before it was sent."""
        recorder = Recorder()
        done = start(Pieces(b"a\nb\n" + bytes(MAX_MESSAGE_BYTES + 1)), recorder)
        self.assertEqual([data for data, _ in recorder.sent], [b"a", b"b"])
        self.assertNoResult(done)
        recorder.confirm(2)
        error = self.failureResultOf(done, CommandFailed).value
        self.assertIn("line 3", error.text)
        self.assertEqual(error.status, 1)
