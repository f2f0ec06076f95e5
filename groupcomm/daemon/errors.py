"""The closed set of errors a Perspective Broker client can get; nothing else about the daemon ever reaches it.

The names are part of the interface (``doc/howto/perspective-broker.md``): a client sees the dotted name of the class
and the text. ``as_peer_error`` decides which of them stands for what was raised here; ``as_local_error`` is the way
back, for the client library.
"""

from __future__ import annotations

from typing import Final

from twisted.spread import pb

from groupcomm import errors


class DaemonError(pb.Error):
    """Base of what a client can be told."""


class BadArgument(DaemonError):
    """An argument has the wrong type, size or value, or there is no such method; nothing was done."""


class LoginRefused(DaemonError):
    """The login was refused; the text says why."""


class AccessDenied(DaemonError):
    """This client has not the right to do that; the text says which right is missing. Nothing was done."""


class NameInUse(DaemonError):
    """Another live session of this daemon has that name."""


class MessageTooLarge(DaemonError):
    """The message exceeds what its service level allows."""


class NotAMember(DaemonError):
    """This session is not in that group."""


class NotPrimary(DaemonError):
    """The group is read-only outside of the primary component, and this component is not primary; nothing was sent."""


class LimitReached(DaemonError):
    """A cap was reached; the text says which and what to do."""


class SendIncomplete(DaemonError):
    """A stable send was cut short by a view change: delivered to those who stayed together."""


class SessionClosed(DaemonError):
    """The session is over: closed by the client, by the daemon, or because the daemon stops."""


class InternalError(DaemonError):
    """The daemon failed in a way it does not know; its log has more."""


_BY_LOCAL: Final[tuple[tuple[type[errors.GroupcommError], type[DaemonError]], ...]] = (
    (errors.NameInUse, NameInUse),
    (errors.MessageTooLarge, MessageTooLarge),
    (errors.NotAMember, NotAMember),
    (errors.NotPrimary, NotPrimary),
    (errors.QueueFull, LimitReached),
    (errors.UsageError, BadArgument),
    (errors.SendIncomplete, SendIncomplete),
    (errors.AccessDenied, AccessDenied),
    (errors.Refused, LoginRefused),
    (errors.NotConnected, SessionClosed),
    (errors.OutcomeUnknown, SessionClosed),
)

_BY_NAME: Final[dict[str, type[errors.GroupcommError]]] = {
    "BadArgument": errors.UsageError,
    "LoginRefused": errors.Refused,
    "AccessDenied": errors.AccessDenied,
    "NameInUse": errors.NameInUse,
    "MessageTooLarge": errors.MessageTooLarge,
    "NotAMember": errors.NotAMember,
    "NotPrimary": errors.NotPrimary,
    "LimitReached": errors.Refused,
    "SendIncomplete": errors.SendIncomplete,
    "SessionClosed": errors.NotConnected,
    "InternalError": errors.Refused,
}


def as_peer_error(error: BaseException) -> DaemonError:
    """What the client is told of ``error``: a member of the closed set, with a text that is safe to show.

    What is neither the client's fault nor foreseen keeps its text to itself: it may hold paths, addresses or data.
    """
    if isinstance(error, DaemonError):
        return error
    for local, peer in _BY_LOCAL:
        if isinstance(error, local):
            return peer(str(error))
    return InternalError("the daemon failed on this call; its log says why")


def as_local_error(remote_type: str | bytes, text: str) -> errors.GroupcommError:
    """What the client library raises for an error it got.

    Args:
        remote_type: the dotted name of the class.
        text: its text.
    """
    name = remote_type.decode("utf-8", "replace") if isinstance(remote_type, bytes) else remote_type
    return _BY_NAME.get(name.rpartition(".")[2], errors.Refused)(text)
