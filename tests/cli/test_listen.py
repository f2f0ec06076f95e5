"""Printing events until it is enough, and what ends it."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable

from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from groupcomm.cli.listen import Printer
from groupcomm.cli.rendering import event_as_text
from groupcomm.cli.running import CommandFailed
from groupcomm.events import Event, Left, Level, Message, Reason, TransitionalSignal
from groupcomm.identity import GroupViewId, MemberId, NodeId, ViewId
from groupcomm.interfaces import IGroupEvents

NODE = NodeId("alpha", 1)
VIEW = GroupViewId(ViewId(1, NODE))


def message(text: str) -> Message:
    return Message(("tea",), MemberId("anne", NODE, 1), Level.AGREED, text.encode(), VIEW)


class Output(io.StringIO):
    """A standard output that breaks when the test says so."""

    broken = False
    flushed = 0

    def write(self, text: str) -> int:
        if self.broken:
            raise BrokenPipeError
        return super().write(text)

    def flush(self) -> None:
        self.flushed += 1


class PrinterTests(SynchronousTestCase):
    """The events of all groups, one line each."""

    def setUp(self) -> None:
        self.output = Output()
        self.patch(sys, "stdout", self.output)

    def printer(self, count: int | None = None, render: Callable[[Event], str] = event_as_text) -> Printer:
        return Printer(render, count)

    def test_is_a_listener(self) -> None:
        """It is what a group calls with its events."""
        verifyObject(IGroupEvents, self.printer())

    def test_every_line_at_once(self) -> None:
        """Each line is flushed when it is written, so that a pipe gets it at once."""
        printer = self.printer()
        for number in range(1, 4):
            printer.event_received(message(str(number)))
            self.assertEqual(self.output.flushed, number)
        self.assertEqual(self.output.getvalue().count("\n"), 3)
        self.assertNoResult(printer.ended)

    def test_count(self) -> None:
        """After so many messages nothing more is printed; other events do not count."""
        printer = self.printer(2)
        for event in (TransitionalSignal("tea"), message("one"), TransitionalSignal("tea"), message("two")):
            self.assertNoResult(printer.ended)
            printer.event_received(event)
        self.successResultOf(printer.ended)
        before = self.output.getvalue()
        printer.event_received(message("three"))
        self.assertEqual(self.output.getvalue(), before)

    def test_put_out(self) -> None:
        """Being out of a group ends it with the reason, after that was printed."""
        printer = self.printer()
        printer.event_received(Left("tea", Reason.TOO_SLOW))
        self.assertIn("too slow", self.output.getvalue())
        error = self.failureResultOf(printer.ended, CommandFailed).value
        self.assertEqual((error.status, error.text), (1, "out of group tea: too slow"))

    def test_connection_lost(self) -> None:
        """The end of the connection is told as such, once, however many groups it ends."""
        printer = self.printer()
        printer.event_received(Left("tea", Reason.DISCONNECT))
        printer.event_received(Left("milk", Reason.DISCONNECT))
        self.assertIn("connection", self.failureResultOf(printer.ended, CommandFailed).value.text)

    def test_broken_pipe(self) -> None:
        """When nobody reads any more, it ends."""
        printer = self.printer()
        self.output.broken = True
        printer.event_received(message("one"))
        self.failureResultOf(printer.ended, BrokenPipeError)
        printer.event_received(message("two"))
        printer.finished()
        printer.failed(CommandFailed("too late"))
