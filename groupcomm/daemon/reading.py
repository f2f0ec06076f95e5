"""How much of the reactor's time the connections of a daemon's clients may take, and who goes on next.

Decides when a connection has to wait: within a turn of the reactor, so that the node's own sockets and timers are
served in time, and over seconds, for those whose calls cost much to read. What a call may hold is the broker's to say.
"""

from __future__ import annotations

from collections.abc import Callable
from time import thread_time
from typing import Protocol

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from groupcomm.daemon import caps


class Share:
    """So much of something in a second, and so much at once.

    Invariant: ``_taken`` is what was taken and has not been earned back since.

    Args:
        clock: tells the time.
        per_second: how much is earned back in a second.
        at_once: how much may be taken beyond that.
    """

    def __init__(self, clock: IReactorTime, per_second: float, at_once: float) -> None:
        self._clock = clock
        self._per_second = per_second
        self._at_once = at_once
        self._taken = 0.0
        self._settled_at = clock.seconds()

    def take(self, amount: float) -> float:
        """Take; the seconds until no more is taken than there may be."""
        now = self._clock.seconds()
        earned = (now - self._settled_at) * self._per_second
        self._settled_at = now
        self._taken = max(0.0, self._taken - earned) + amount
        return max(0.0, self._taken - self._at_once) / self._per_second


class Reader(Protocol):
    """A connection that may have to wait."""

    def go_on(self) -> None:
        """It may read again, as long as ``ReadingTime.left`` says so."""


class ReadingTime:
    """The time that the connections of one daemon's clients take.

    Invariants: ``_spent`` is what was spent since ``_next_turn`` was last called, in one turn of the reactor or in
    many; it is called in the next turn when none is left, or when somebody waits. Whoever waits is asked to go on in
    the order of coming, and before anybody who comes later.

    Args:
        clock: the reactor's; a call in 0 seconds is made in its next turn.
        measure: the processor time of this thread, in seconds.
    """

    def __init__(self, clock: IReactorTime, measure: Callable[[], float] = thread_time) -> None:
        self._clock = clock
        self._spent = 0.0
        self._next: IDelayedCall | None = None
        self._waiting: dict[Reader, None] = {}
        self.measure = measure
        self.decoding = Share(clock, caps.DECODE_SHARE_OF_ALL, caps.DECODE_SHARE_OF_ALL)

    @property
    def left(self) -> bool:
        """Whether anybody may read before the next turn."""
        return self._spent < caps.TURN_SECONDS

    def spend(self, seconds: float) -> None:
        """So much processor time was spent on calls."""
        self._spent += seconds
        if self._spent >= caps.TURN_SECONDS:
            self._see_to_next()

    def wait(self, reader: Reader) -> None:
        """Ask this one to go on when there is time."""
        self._waiting[reader] = None
        self._see_to_next()

    def forget(self, reader: Reader) -> None:
        """This one has gone."""
        self._waiting.pop(reader, None)

    def _see_to_next(self) -> None:
        if self._next is None:
            self._next = self._clock.callLater(0, self._next_turn)

    def _next_turn(self) -> None:
        self._next = None
        self._spent = 0.0
        while self._waiting and self.left:
            reader = next(iter(self._waiting))
            del self._waiting[reader]
            reader.go_on()
        if self._waiting:
            self._see_to_next()
