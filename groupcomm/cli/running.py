"""How a command runs: the reactor, the signals, and what the exit status says.

Decides the exit statuses (0 done, 1 failed, 2 usage, 3 no daemon there, 4 refused), that an error is one line on
standard error, and that a command ended by a signal dies of that signal, as the shell expects. What a command does is
written in the module of its name.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Coroutine
from contextlib import suppress
from types import FrameType
from typing import Any, Final

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ReactorNotRunning
from twisted.internet.interfaces import IReactorCore, IReactorFromThreads, IReactorTime
from twisted.python.failure import Failure

from groupcomm.errors import GroupcommError, NameInUse, NotConnected, Refused, UsageError

DONE: Final = 0
FAILED: Final = 1
USAGE: Final = 2
NO_DAEMON: Final = 3
REFUSED: Final = 4

CLOSE_SECONDS: Final = 1.0
"""How long a command that a signal ends may take to say goodbye to its daemon."""

ENDING_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class IReactor(IReactorCore, IReactorTime, IReactorFromThreads):
    """What the commands need of a reactor."""

    def run(installSignalHandlers: bool = True) -> None:
        """Run until stopped; every reactor takes this argument."""


class CommandFailed(Exception):
    """A command cannot go on; ``text`` is the line for the user.

    Attributes:
        text: what happened, where, and what to do.
        status: the exit status.
    """

    def __init__(self, text: str, status: int = FAILED) -> None:
        super().__init__(text)
        self.text = text
        self.status = status


def complain(text: str) -> None:
    """Write one line to standard error, whatever the text holds."""
    line = " ".join(text.split())
    with suppress(OSError, ValueError):  # when nobody is listening the exit status still says it
        print(f"groupcomm: {line}", file=sys.stderr, flush=True)


def status_of(error: BaseException) -> tuple[int, str]:
    """The exit status for an error, and its line for the user."""
    if isinstance(error, CommandFailed):
        return error.status, error.text
    if isinstance(error, (NameInUse, Refused)):
        return REFUSED, f"refused: {error}"
    if isinstance(error, UsageError):
        return USAGE, str(error)
    if isinstance(error, NotConnected):
        return FAILED, str(error) or "the connection to the daemon was lost"
    if isinstance(error, GroupcommError):
        return FAILED, str(error) or type(error).__name__
    if isinstance(error, OSError):
        return FAILED, error.strerror or str(error)
    return FAILED, f"{type(error).__name__}: {error}"


class Run:
    """One command under the reactor, from its start to its exit status.

    Invariants: the reactor stops once; a signal is remembered and ends the process by that very signal afterwards.
    """

    def __init__(self, reactor: IReactor) -> None:
        self.reactor = reactor
        self.status = DONE
        self.signal: signal.Signals | None = None
        self._work: Deferred[Any] | None = None
        self._stopped = False

    def run(self, work: Callable[[IReactor], Coroutine[Deferred[Any], Any, int | None]]) -> int:
        """Run ``work`` to its end and return the exit status that it returns; dies of the signal if one ended it."""
        self.reactor.callWhenRunning(self._start, work)
        for number in ENDING_SIGNALS:
            if signal.getsignal(number) is not signal.SIG_IGN:  # nohup, or a shell's background job
                signal.signal(number, self._signalled)
        self.reactor.run(installSignalHandlers=False)
        if self.signal is not None:
            die_of(self.signal)
        return self.status

    def _start(self, work: Callable[[IReactor], Coroutine[Deferred[Any], Any, int | None]]) -> None:
        self._work = Deferred.fromCoroutine(work(self.reactor))
        self._work.addCallbacks(self._done, self._failed)
        self._work.addBoth(lambda _: self._stop())

    def _done(self, status: int | None) -> None:
        self.status = status or DONE

    def _failed(self, failure: Failure) -> None:
        error = failure.value
        assert error is not None
        if self.signal is not None and isinstance(error, CancelledError):
            return
        if isinstance(error, BrokenPipeError):
            self.signal = signal.SIGPIPE
            return
        self.status, text = status_of(error)
        complain(text)

    def _stop(self) -> None:
        if not self._stopped:
            self._stopped = True
            with suppress(ReactorNotRunning):
                self.reactor.stop()

    def _signalled(self, number: int, frame: FrameType | None) -> None:
        """The first signal asks the command to end; a second one, or a command that cannot, ends the process."""
        self.signal = signal.Signals(number)
        signal.signal(number, signal.SIG_DFL)
        signal.signal(signal.SIGALRM, lambda *_: die_of(signal.Signals(number)))
        signal.setitimer(signal.ITIMER_REAL, 2 * CLOSE_SECONDS)  # also when a write to a full pipe holds the reactor
        self.reactor.callFromThread(self._end)

    def _end(self) -> None:
        if self._work is not None:
            self._work.cancel()
        self.reactor.callLater(CLOSE_SECONDS, self._stop)


def die_of(number: signal.Signals) -> None:
    """End this process by a signal, so that who started it can see which."""
    silence_standard_output()
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)


def silence_standard_output() -> None:
    """After a broken pipe: nothing buffered may be tried again at exit."""
    try:
        sys.stdout.flush()
    except (OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def write_line(line: str) -> None:
    """Write a line to standard output at once.

    Raises:
        BrokenPipeError: nobody reads any more; the command ends as by SIGPIPE.
    """
    sys.stdout.write(line + "\n")
    sys.stdout.flush()
