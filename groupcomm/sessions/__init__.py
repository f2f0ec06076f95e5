"""Sessions of an engine: what a daemon's client and an embedded application have in common."""

from groupcomm.sessions.local import (
    LocalSession,
    SessionEngine,
    SessionHandler,
    SessionHost,
    SessionLimits,
    SessionRecorder,
    all_of,
)
from groupcomm.sessions.table import SessionTable

__all__ = [
    "LocalSession",
    "SessionEngine",
    "SessionHandler",
    "SessionHost",
    "SessionLimits",
    "SessionRecorder",
    "SessionTable",
    "all_of",
]
