"""``groupcomm chat``: talk in a group from a terminal."""

from __future__ import annotations

import sys
from contextlib import suppress

from twisted.internet.defer import Deferred

from groupcomm.cli.lines import LineSplitter, LineTooLong, PieceReader
from groupcomm.cli.listen import Printer
from groupcomm.cli.rendering import event_as_text
from groupcomm.cli.running import CommandFailed, IReactor, write_line
from groupcomm.cli.send import Pieces
from groupcomm.cli.session import Control, session
from groupcomm.errors import SendIncomplete
from groupcomm.events import Level
from groupcomm.interfaces import IGroup
from groupcomm.limits import MAX_MESSAGE_BYTES

ERASE_TYPED_LINE = "\x1b[1A\x1b[2K"
"""Up one line and clear it: on a terminal the message stands where the group ordered it, not where it was typed."""


async def chat(reactor: IReactor, control: Control, group: str, *, name: str | None) -> None:
    """Join ``group``, print its events, send every line typed; ends with the input or a signal."""
    printer = Printer(event_as_text)
    async with session(reactor, control, name) as connection:
        handle = await connection.join(group, printer)
        interactive = sys.stdin.isatty() and sys.stdout.isatty()
        if interactive:
            write_line(f"You are {connection.member} in {group}. Type a line to send it, Ctrl-D to leave.")
        talking = Deferred.fromCoroutine(talk(PieceReader(reactor), handle, erase=interactive))
        talking.addCallbacks(lambda _: printer.finished(), lambda failure: printer.failed(failure.value))
        try:
            await printer.ended
        finally:
            printer.finished()
            talking.cancel()


async def talk(source: Pieces, group: IGroup, *, erase: bool) -> None:
    """Send every line of ``source`` to ``group``, one after the other, and leave at its end.

    Raises:
        CommandFailed: a line is too long.
    """
    splitter = LineSplitter(MAX_MESSAGE_BYTES)
    ended = False
    while not ended:
        piece = await source.next_piece()
        ended = not piece
        try:
            lines = splitter.feed(piece) if piece else splitter.finish()
        except LineTooLong as error:
            raise CommandFailed(str(error)) from None
        for line in lines:
            if erase:
                sys.stdout.write(ERASE_TYPED_LINE)
                sys.stdout.flush()
            if line:
                with suppress(SendIncomplete):  # the view that follows says who is left
                    await group.send(line, level=Level.AGREED, stable=True)
