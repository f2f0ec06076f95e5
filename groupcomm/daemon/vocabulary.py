"""How events and identities look to a Perspective Broker client: tuples of plain values, first the kind.

The tables in ``doc/howto/perspective-broker.md`` say the same. ``plain_event`` and ``EventReader`` are each other's
inverse: the daemon uses the one, the client library the other. A reader ignores kinds it does not know and values at
the end of a tuple that it does not know, so that both may be added.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, TypeAlias

from groupcomm.errors import PeerError, UsageError
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

Plain: TypeAlias = object
"""None, bool, int, float, str, bytes, or a tuple, list or dict of such."""

LEVELS: Final = {level.name.lower(): level for level in Level}
OUTSIDE: Final = {outside.label: outside for outside in Outside}
REMEMBERED_MEMBERS: Final = 10_000
"""Identities a reader keeps, so that members of one view are the same objects in the next."""

REASONS: Final = {reason.label: reason for reason in Reason}


class UnknownForm(PeerError):
    """The daemon sent something that is no event of this version."""


def member_text(member: MemberId) -> str:
    """``client@node#incarnation.session``: what stands before the ``#`` is for people, the whole is the identity."""
    return f"{member.client}@{member.node.name}#{member.node.incarnation:x}.{member.session}"


def members_text(members: Sequence[MemberId]) -> str:
    """Members, one a line; no name has a line's end in it.

    One string and not a list of them, since a view of hundreds goes to each of hundreds, and reading a list costs
    its readers a hundred times as much.
    """
    return "\n".join(map(member_text, members))


def plain_messages(
    groups: tuple[str, ...], sender: MemberId, level: Level, data: Sequence[bytes], view: GroupViewId | None
) -> Plain:
    """Messages that arrived together: same sender, groups, level and view."""
    where = None if view is None else str(view)
    return ("messages", list(groups), member_text(sender), level.name.lower(), list(data), where)


def plain_event(event: Event) -> Plain:
    """One event as a tuple of plain values."""
    match event:
        case Message():
            return plain_messages(event.groups, event.sender, event.level, [event.data], event.view)
        case View():
            return (
                "view",
                event.group,
                str(event.id),
                members_text(event.members),
                members_text(event.joined),
                [(member_text(departure.member), departure.reason.label) for departure in event.left],
                members_text(event.transitional),
                event.primary,
            )
        case TransitionalSignal():
            return ("transitional", event.group)
        case Undeliverable():
            return ("undeliverable", event.recipient)
        case Left():
            return ("left", event.group, event.reason.label)


def checked_level(level: object) -> Level:
    """The level meant by a name (``"agreed"``) or a number (0 to 5).

    Raises:
        UsageError: there is no such level.
    """
    if isinstance(level, str) and level in LEVELS:
        return LEVELS[level]
    if isinstance(level, int) and not isinstance(level, bool) and 0 <= level <= max(Level):
        return Level(level)
    raise UsageError(f"a level is one of {', '.join(LEVELS)} (or 0 to {int(max(Level))}), not {level!r:.40}")


def checked_outside(outside: object) -> Outside:
    """What ``"go-on"``, ``"read-only"`` or ``"blocked"`` mean.

    Raises:
        UsageError: it is none of them.
    """
    if isinstance(outside, bytes):
        outside = outside.decode("utf-8", "replace")
    if isinstance(outside, str) and outside in OUTSIDE:
        return OUTSIDE[outside]
    raise UsageError(f"outside of the primary component a group is one of {', '.join(OUTSIDE)}, not {outside!r:.40}")


def member_from_text(text: str) -> MemberId:
    """The identity behind ``client@node#incarnation.session``; the client's name may itself hold ``@`` and ``#``.

    Raises:
        UnknownForm: it has no such form.
    """
    client, at, rest = text.rpartition("@")
    node, number_sign, numbers = rest.partition("#")
    incarnation, dot, session = numbers.partition(".")
    try:
        if at and number_sign and dot:
            return MemberId(client, NodeId(node, int(incarnation, 16)), int(session))
    except ValueError:
        pass
    raise UnknownForm(f"{text!r:.80} is not client@node#incarnation.session") from None


def group_view_from_text(text: str) -> GroupViewId:
    """The identity behind the text of a group view's id, ``epoch-node-incarnation/position``."""
    try:
        view, _, position = text.rpartition("/")
        epoch, _, proposer = view.partition("-")
        node, _, incarnation = proposer.rpartition("-")
        return GroupViewId(ViewId(int(epoch), NodeId(node, int(incarnation, 16))), int(position))
    except ValueError:
        raise UnknownForm(f"{text!r} is no group view") from None


class EventReader:
    """Plain events of one session back to values; keeps the parts of a message until the last is there.

    Invariants: ``_parts`` holds parts of one message only, the one whose event comes next; ``_members`` has at most
    ``REMEMBERED_MEMBERS`` identities, and begins anew when full.
    """

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._members: dict[str, MemberId] = {}

    def read(self, event: object) -> list[Event]:
        """The events in one plain event: none for a part or an unknown kind, several for messages of one frame.

        Raises:
            UnknownForm: it has the name of a known kind and not its form.
        """
        if not isinstance(event, tuple) or not event:
            raise UnknownForm("an event is a tuple with its kind first")
        try:
            return self._read(event)
        except (ValueError, TypeError, KeyError, IndexError) as error:
            raise UnknownForm(f"a {event[0]!r:.40} event of another form: {error!r:.120}") from None

    def _read(self, event: tuple[object, ...]) -> list[Event]:
        match event:
            case ("messages", list(groups), str(sender), str(level), list(data), view, *_):
                if self._parts:
                    data = [b"".join((*self._parts, *data))]
                    self._parts.clear()
                where = group_view_from_text(view) if isinstance(view, str) else None
                names, author, service = _texts(groups), self._member(sender), LEVELS[level]
                return [Message(names, author, service, _data(item), where) for item in data]
            case ("part", bytes(part), *_):
                self._parts.append(part)
                return []
            case ("view", str(group), str(view), str(members), str(joined), list(left), str(along), primary, *_):
                return [
                    View(
                        group,
                        group_view_from_text(view),
                        self._member_set(members),
                        self._member_set(joined),
                        tuple(Departure(self._member(member), REASONS[reason]) for member, reason in left),
                        self._member_set(along),
                        bool(primary),
                    )
                ]
            case ("transitional", str(group), *_):
                return [TransitionalSignal(group)]
            case ("undeliverable", str(recipient), *_):
                return [Undeliverable(recipient)]
            case ("left", str(group), str(reason), *_):
                return [Left(group, REASONS[reason])]
            case ("messages" | "part" | "view" | "transitional" | "undeliverable" | "left", *_):
                raise ValueError("wrong values")
        return []

    def _member(self, text: str) -> MemberId:
        member = self._members.get(text)
        if member is None:
            if len(self._members) >= REMEMBERED_MEMBERS:
                self._members.clear()
            member = self._members[text] = member_from_text(text)
        return member

    def _member_set(self, text: str) -> tuple[MemberId, ...]:
        return tuple(map(self._member, text.split("\n"))) if text else ()


def _texts(items: list[object]) -> tuple[str, ...]:
    return tuple(item for item in items if isinstance(item, str))


def _data(item: object) -> bytes:
    if not isinstance(item, bytes):
        raise ValueError("data is bytes")
    return item
