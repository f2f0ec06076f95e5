"""Errors that Twisted logs instead of raising: in a fuzz target each is a finding."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from twisted.logger import ILogObserver, LogEvent, LogLevel, formatEvent, globalLogBeginner, globalLogPublisher
from zope.interface import implementer


@contextmanager
def no_logged_errors() -> Iterator[None]:
    """Within this, whatever is logged as an error, or printed because nobody can catch it, is raised at the end."""
    errors: list[LogEvent] = []
    printed: list[str] = []
    before, sys.unraisablehook = (
        sys.unraisablehook,
        lambda args: printed.append(f"{args.exc_value!r} in {args.object!r}"),
    )

    @implementer(ILogObserver)
    def watch(event: LogEvent) -> None:
        if event["log_level"] in (LogLevel.error, LogLevel.critical):
            errors.append(event)

    globalLogPublisher.addObserver(watch)
    try:
        yield
    finally:
        globalLogPublisher.removeObserver(watch)
        sys.unraisablehook = before
    assert not printed, printed
    for event in errors:
        failure = event.get("log_failure")
        raise AssertionError(f"an error was logged: {formatEvent(event)}") from getattr(failure, "value", None)


def log_nothing() -> None:
    """Log into the void: until a program begins to log, Twisted keeps what is logged."""
    globalLogBeginner.beginLoggingTo([], discardBuffer=True, redirectStandardIO=False)
