"""Sessions of an engine: what a daemon's client and an embedded application have in common."""

from groupcomm.sessions.checks import WAITING_MESSAGE_BYTES, checked_batch, checked_groups, checked_message
from groupcomm.sessions.local import (
    LocalSession,
    SessionEngine,
    SessionHandler,
    SessionHost,
    SessionLimits,
    SessionRecorder,
)
from groupcomm.sessions.results import all_of, fire
from groupcomm.sessions.table import SessionTable

__all__ = [
    "WAITING_MESSAGE_BYTES",
    "LocalSession",
    "SessionEngine",
    "SessionHandler",
    "SessionHost",
    "SessionLimits",
    "SessionRecorder",
    "SessionTable",
    "all_of",
    "checked_batch",
    "checked_groups",
    "checked_message",
    "fire",
]
