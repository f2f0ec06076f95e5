"""What an application sees: frozen values, in the order the group agreed on.

A group handle yields ``View``, ``Message``, ``TransitionalSignal`` and ``Undeliverable``; the last event of a
group is ``Left``.
"""

from __future__ import annotations

import enum
from typing import TypeAlias

from attrs import frozen

from groupcomm.identity import GroupViewId, MemberId


class Level(enum.IntEnum):
    """What a sender asks of one message: each level from FIFO on includes those before it."""

    UNRELIABLE = 0
    RELIABLE = 1
    FIFO = 2
    CAUSAL = 3
    AGREED = 4
    SAFE = 5


class Outside(enum.IntEnum):
    """What happens to a group outside of the primary component; of what its members ask for, the highest holds."""

    GO_ON = 0
    READ_ONLY = 1
    BLOCKED = 2

    @property
    def label(self) -> str:
        """As it is said in settings and calls: ``read-only``."""
        return self.name.lower().replace("_", "-")


class Reason(enum.IntEnum):
    """Why a member is no longer in a group."""

    LEAVE = 1
    DISCONNECT = 2
    TOO_SLOW = 3
    NODE_LEAVE = 4
    NODE_FAILURE = 5
    PARTITION = 6
    RESTARTED = 7
    EVICTION = 8

    @property
    def label(self) -> str:
        """The words shown to people: ``node failure``."""
        return self.name.lower().replace("_", " ")


@frozen
class Departure:
    """Who left a group, and why."""

    member: MemberId
    reason: Reason


@frozen
class Message:
    """One message, delivered.

    Attributes:
        groups: the groups it was sent to and this member is in, in the sender's order; empty for a private message.
        sender: who sent it; need not be a member.
        level: the service level it was sent at.
        data: the bytes.
        view: the group view of ``groups[0]`` it was delivered in; None for a private message.
    """

    groups: tuple[str, ...]
    sender: MemberId
    level: Level
    data: bytes
    view: GroupViewId | None

    @property
    def private(self) -> bool:
        """Whether it was sent to this member alone."""
        return not self.groups

    def __str__(self) -> str:
        where = ", ".join(self.groups) or "you alone"
        return f"{self.sender} to {where}, {self.level.name}: {self.data!r}"


@frozen
class View:
    """A new group view: every member gets it at the same place in the order.

    Attributes:
        group: the group's name.
        id: equal at every member that gets this view, and greater than that of the view before.
        members: all members, in the same order everywhere.
        joined: those who were not in this member's previous view; for its first view, itself alone.
        left: those of the previous view who are gone, with the reason.
        transitional: those of the previous view who came along with this member and delivered the same messages.
        primary: whether this component may act for the whole cluster.
    """

    group: str
    id: GroupViewId
    members: tuple[MemberId, ...]
    joined: tuple[MemberId, ...]
    left: tuple[Departure, ...]
    transitional: tuple[MemberId, ...]
    primary: bool

    def __str__(self) -> str:
        text = f"view {self.id} of {self.group}: {', '.join(map(str, self.members))}"
        if self.joined:
            text += f"; joined: {', '.join(map(str, self.joined))}"
        if self.left:
            text += f"; left: {', '.join(f'{one.member} ({one.reason.label})' for one in self.left)}"
        return text


@frozen
class TransitionalSignal:
    """From here to the next view of this group, guarantees hold among the coming view's transitional set only."""

    group: str


@frozen
class Undeliverable:
    """A private message found no such member any more.

    Attributes:
        recipient: whom it was for, as ``client@node``.
    """

    recipient: str


@frozen
class Left:
    """The last event of a group: this member is out.

    Attributes:
        group: the group's name.
        reason: why.
    """

    group: str
    reason: Reason


Event: TypeAlias = Message | View | TransitionalSignal | Undeliverable | Left
