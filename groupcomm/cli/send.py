"""``groupcomm send``: one message from the command line, or one for each line of standard input."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, Protocol

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from groupcomm.cli.lines import LineSplitter, LineTooLong, PieceReader
from groupcomm.cli.running import CommandFailed, IReactor, complain
from groupcomm.cli.session import Control, session
from groupcomm.errors import SendIncomplete
from groupcomm.events import Level
from groupcomm.limits import MAX_MESSAGE_BYTES

IN_FLIGHT_BYTES: Final = 2 * 1024 * 1024
"""Sent and not yet confirmed, at most (one larger message goes alone): what this command holds besides one line."""

IN_FLIGHT_MESSAGES: Final = 4096
"""The same in messages."""


class Pieces(Protocol):
    """Where the bytes come from."""

    def next_piece(self) -> Deferred[bytes]:
        """The next piece; empty at the end."""


class SendWindow:
    """The sends under way: makes room by waiting for the oldest, and remembers the first failure.

    Invariants: what is under way is within the two limits, but for a single message larger than the byte limit.
    """

    def __init__(self) -> None:
        self.incomplete = 0
        self._messages = 0
        self._bytes = 0
        self._failure: Failure | None = None
        self._waiting: tuple[Callable[[], bool], Deferred[None]] | None = None

    async def room_for(self, size: int) -> None:
        """Wait until a message of ``size`` bytes may be sent.

        Raises:
            Exception: what an earlier send failed with.
        """
        await self._until(
            lambda: (
                not self._messages or (self._messages < IN_FLIGHT_MESSAGES and self._bytes + size <= IN_FLIGHT_BYTES)
            )
        )

    async def drained(self) -> None:
        """Wait until nothing is under way; raises as ``room_for``."""
        await self._until(lambda: not self._messages)

    def add(self, sending: Deferred[None], size: int) -> None:
        """Count one send until it is confirmed."""
        self._messages += 1
        self._bytes += size
        sending.addBoth(self._ended, size)

    def _ended(self, result: object, size: int) -> None:
        self._messages -= 1
        self._bytes -= size
        if isinstance(result, Failure):
            if result.check(SendIncomplete):
                self.incomplete += 1
            elif self._failure is None:
                self._failure = result
        if self._waiting is not None and (self._failure is not None or self._waiting[0]()):
            (_, waiting), self._waiting = self._waiting, None
            waiting.callback(None)

    async def _until(self, condition: Callable[[], bool]) -> None:
        if self._failure is None and not condition():
            waiting: Deferred[None] = Deferred(lambda _: self._give_up())
            self._waiting = condition, waiting
            await waiting
        if self._failure is not None:
            self._failure.raiseException()

    def _give_up(self) -> None:
        self._waiting = None


Send = Callable[[bytes, bool], "Deferred[None]"]
"""Send one message; the second argument asks to wait until it is stable."""


async def send(
    reactor: IReactor,
    control: Control,
    groups: Sequence[str],
    text: str | None,
    *,
    level: Level,
    name: str | None,
) -> None:
    """Send ``text``, or the lines of standard input, to ``groups``; done when the last message is stable."""
    async with session(reactor, control, name) as connection:

        def send_one(data: bytes, stable: bool) -> Deferred[None]:
            sending: Deferred[None] = connection.send(
                groups, data, level=level, stable=stable and level is not Level.UNRELIABLE
            )
            return sending

        window = SendWindow()
        if text is not None:
            data = text.encode("utf-8", "surrogateescape")
            window.add(send_one(data, True), len(data))
            await window.drained()
        else:
            await send_lines(PieceReader(reactor), send_one, window)
    if window.incomplete:
        complain("note: the view changed on the way; delivered to the members that stayed together")


async def send_lines(source: Pieces, send_one: Send, window: SendWindow) -> None:
    """Send every line of ``source``, holding no more than the window; wait until the last is stable.

    The last line of each piece is the one waited for: the lines before it are stable when it is.

    Raises:
        CommandFailed: a line is too long; those before it have been sent and are stable.
    """
    splitter = LineSplitter(MAX_MESSAGE_BYTES)
    too_long: LineTooLong | None = None
    ended = False
    while not ended and too_long is None:
        piece = await source.next_piece()
        ended = not piece
        try:
            lines = splitter.feed(piece) if piece else splitter.finish()
        except LineTooLong as error:
            lines, too_long = error.before, error
        for index, line in enumerate(lines, 1):
            await window.room_for(len(line))
            window.add(send_one(line, index == len(lines)), len(line))
    await window.drained()
    if too_long is not None:
        raise CommandFailed(f"standard input: {too_long}; the lines before it were sent, nothing after it")
