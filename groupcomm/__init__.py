"""Process groups for Twisted: ordered, reliable multicast with views.

The public names, gathered from where they are written. What an application sends and receives is here; a session
comes from ``groupcomm.client.connect`` (a client of a daemon) or ``groupcomm.node.Node`` (the process is itself a
node of the cluster).
"""

from groupcomm._version import __version__
from groupcomm.errors import (
    AccessDenied,
    EnvironmentFault,
    GroupcommError,
    MessageTooLarge,
    NameInUse,
    NotAMember,
    NotConnected,
    NotPrimary,
    OutcomeUnknown,
    QueueFull,
    Refused,
    SendIncomplete,
    UsageError,
)
from groupcomm.events import (
    Departure,
    Event,
    Left,
    Level,
    Message,
    Outside,
    Reason,
    TransitionalSignal,
    Undeliverable,
    View,
)
from groupcomm.identity import GroupViewId, MemberId, NodeId, ViewId
from groupcomm.interfaces import IConnection, IGroup, IGroupEvents

__all__ = [
    "AccessDenied",
    "Departure",
    "EnvironmentFault",
    "Event",
    "GroupViewId",
    "GroupcommError",
    "IConnection",
    "IGroup",
    "IGroupEvents",
    "Left",
    "Level",
    "MemberId",
    "Message",
    "MessageTooLarge",
    "NameInUse",
    "NodeId",
    "NotAMember",
    "NotConnected",
    "NotPrimary",
    "OutcomeUnknown",
    "Outside",
    "QueueFull",
    "Reason",
    "Refused",
    "SendIncomplete",
    "TransitionalSignal",
    "Undeliverable",
    "UsageError",
    "View",
    "ViewId",
    "__version__",
]
