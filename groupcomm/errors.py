"""Whose fault it is: the caller's, a peer's, or the environment's.

``UsageError`` is raised to the caller. ``PeerError`` is counted and attributed where the packet came in and never
raised into the reactor. ``EnvironmentFault`` is logged once and shown in the status.
"""

from __future__ import annotations


class GroupcommError(Exception):
    """Base of every error this package raises."""


class UsageError(GroupcommError):
    """The caller asked for something the interface does not allow; nothing was done."""


class NameInUse(UsageError):
    """The client name is held by a live session of this node, or the node name by a live node."""


class MessageTooLarge(UsageError):
    """The message exceeds the size its service level allows; the text says both numbers."""


class NotAMember(UsageError):
    """The group was left, was never joined, or its join has not completed."""


class QueueFull(UsageError):
    """The session's send queue is at its limit: wait for the earlier sends first."""


class SendsWait(QueueFull):
    """Sends of this session wait: for the end of a view change, or until this component is primary again."""


class NotPrimary(UsageError):
    """The group is read-only outside of the primary component, and this component is not primary; nothing was sent."""


class NotConnected(GroupcommError):
    """No daemon there, or the connection or node is closed."""


class Refused(GroupcommError):
    """The daemon refused the login or the request; the text says why."""


class AccessDenied(Refused):
    """Who asked has not the right to it; the text says which. Nothing was done."""


class OutcomeUnknown(GroupcommError):
    """The connection was lost while a send was under way: it was delivered once or not at all."""


class SendIncomplete(GroupcommError):
    """A send with ``stable=True`` was cut short by a view change: delivered to those who stayed together."""


class EnvironmentFault(GroupcommError):
    """The machine does not give what is needed: no interface, no permission, no room on disk."""


class PeerError(GroupcommError):
    """A peer broke the protocol; never leaves the engine."""


class MalformedPacket(PeerError):
    """Bytes that are no packet of this version: the one error of the parser."""
