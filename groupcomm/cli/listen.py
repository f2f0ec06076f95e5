"""``groupcomm listen``: print every event of some groups."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from twisted.internet.defer import Deferred
from zope.interface import implementer

from groupcomm.cli.rendering import event_as_json, event_as_text
from groupcomm.cli.running import CommandFailed, IReactor, write_line
from groupcomm.cli.session import Control, session
from groupcomm.client import Connection
from groupcomm.events import Event, Left, Message, Reason
from groupcomm.interfaces import IGroupEvents


@implementer(IGroupEvents)
class Printer:
    """Prints the events of all groups of one session, in the order they come.

    Invariants: nothing is printed after the ``count``-th message or after a failure; ``ended`` fires once.
    """

    def __init__(self, render: Callable[[Event], str], count: int | None = None) -> None:
        self.ended: Deferred[None] = Deferred()
        self._render = render
        self._remaining = count
        self._over = False

    def event_received(self, event: Event) -> None:
        """Print one event and see whether it was the last."""
        if self._over:
            return
        try:
            write_line(self._render(event))
        except OSError as error:
            self._end(error)
            return
        if isinstance(event, Left):
            self._end(why_out(event))
        elif isinstance(event, Message) and self._remaining is not None:
            self._remaining -= 1
            if not self._remaining:
                self._end(None)

    def finished(self) -> None:
        """Nothing more is to be printed."""
        if not self._over:
            self._end(None)

    def failed(self, error: BaseException) -> None:
        """It cannot go on."""
        if not self._over:
            self._end(error)

    def _end(self, error: BaseException | None) -> None:
        self._over = True
        if error is None:
            self.ended.callback(None)
        else:
            self.ended.errback(error)


def why_out(event: Left) -> CommandFailed:
    """What to say when a group has ended under us."""
    if event.reason is Reason.DISCONNECT:
        return CommandFailed("the connection to the daemon was lost")
    return CommandFailed(f"out of group {event.group}: {event.reason.label}")


async def print_private(connection: Connection, printer: Printer) -> None:
    """Print what is sent to this session alone."""
    async for event in connection.private_messages():
        printer.event_received(event)


async def listen(
    reactor: IReactor, control: Control, groups: Sequence[str], *, as_json: bool, name: str | None, count: int | None
) -> None:
    """Join ``groups`` and print what happens in them, until ``count`` messages or a signal."""
    printer = Printer(event_as_json if as_json else event_as_text, count)
    async with session(reactor, control, name) as connection:
        private = Deferred.fromCoroutine(print_private(connection, printer))
        private.addErrback(lambda failure: None)  # it ends with the connection, which the groups tell of
        try:
            for group in dict.fromkeys(groups):
                await connection.join(group, printer)
            await printer.ended
        finally:
            printer.finished()
            private.cancel()
