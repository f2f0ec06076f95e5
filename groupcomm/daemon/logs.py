"""The log of the daemon: its level and its form, text or one JSON object a line."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, TextIO, cast

from twisted.logger import (
    FileLogObserver,
    FilteringLogObserver,
    ILogObserver,
    LogEvent,
    LogLevel,
    LogLevelFilterPredicate,
    formatEvent,
    textFileLogObserver,
)
from twisted.python.failure import Failure
from twisted.python.logfile import LogFile

from groupcomm.daemon.settings import Settings


def make_observer(settings: Settings, stream: TextIO) -> ILogObserver:
    """An observer that writes what is at least of the level, in the form the settings say."""
    if settings.log_format == "json":
        observer = FileLogObserver(stream, event_as_json)
    else:
        observer = textFileLogObserver(stream)
    predicate = LogLevelFilterPredicate(LogLevel.levelWithName(settings.log_level))
    return cast(ILogObserver, FilteringLogObserver(observer, [predicate]))


def log_stream(twistd_options: Mapping[str, object]) -> TextIO | None:
    """Where twistd's own options say that the log goes; None if they name a logger of their own or syslog."""
    if twistd_options.get("logger") or twistd_options.get("syslog"):
        return None
    name = twistd_options.get("logfile")
    if name == "-" or (not name and twistd_options.get("nodaemon")):
        return sys.stdout
    return cast(TextIO, LogFile.fromFullPath(str(name or "twistd.log")))


def event_as_json(event: LogEvent) -> str:
    """One log event as one line: time, level, where from, and the message; a failure with its traceback."""
    level = event.get("log_level")
    line: dict[str, Any] = {
        "time": datetime.fromtimestamp(event.get("log_time", 0.0), UTC).isoformat(timespec="milliseconds"),
        "level": level.name if level is not None else "info",
        "namespace": event.get("log_namespace"),
        "message": formatEvent(event),
    }
    failure = event.get("log_failure")
    if isinstance(failure, Failure):
        line["traceback"] = failure.getTraceback()
    return json.dumps(line, ensure_ascii=False) + "\n"
