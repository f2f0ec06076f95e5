"""How events and identities look to a Perspective Broker client: tuples of plain values, first the kind.

The tables in ``doc/howto/perspective-broker.md`` say the same. ``plain_event`` and ``EventReader`` are each other's
inverse: the daemon uses the one, the client library the other. A reader ignores kinds it does not know and values at
the end of a tuple that it does not know, so that both may be added.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, TypeAlias

from groupcomm.errors import PeerError, UsageError
from groupcomm.events import Departure, Event, Left, Level, Message, Reason, TransitionalSignal, Undeliverable, View
from groupcomm.identity import GroupViewId, MemberId, NodeId, ViewId

Plain: TypeAlias = object
"""None, bool, int, float, str, bytes, or a tuple, list or dict of such."""

LEVELS: Final = {level.name.lower(): level for level in Level}
REASONS: Final = {reason.label: reason for reason in Reason}


class UnknownForm(PeerError):
    """The daemon sent something that is no event of this version."""


def plain_member(member: MemberId) -> Plain:
    """``("client@node", incarnation, session)``: the first is for people, the three together are the identity."""
    return (str(member), member.node.incarnation, member.session)


def plain_members(members: Sequence[MemberId]) -> Plain:
    """A list of members."""
    return [plain_member(member) for member in members]


def plain_messages(
    groups: tuple[str, ...], sender: MemberId, level: Level, data: Sequence[bytes], view: GroupViewId | None
) -> Plain:
    """Messages that arrived together: same sender, groups, level and view."""
    where = None if view is None else str(view)
    return ("messages", list(groups), plain_member(sender), level.name.lower(), list(data), where)


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
                plain_members(event.members),
                plain_members(event.joined),
                [(plain_member(departure.member), departure.reason.label) for departure in event.left],
                plain_members(event.transitional),
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


def member_from_text(text: str, incarnation: int, session: int) -> MemberId:
    """The identity behind ``client@node`` and its numbers; the client's name may itself hold an ``@``."""
    client, at, node = text.rpartition("@")
    if not at:
        raise UnknownForm(f"{text!r} is not client@node")
    return MemberId(client, NodeId(node, incarnation), session)


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

    Invariant: ``_parts`` holds parts of one message only, the one whose event comes next.
    """

    def __init__(self) -> None:
        self._parts: list[bytes] = []

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
            case ("messages", list(groups), sender, str(level), list(data), view, *_):
                if self._parts:
                    data = [b"".join((*self._parts, *data))]
                    self._parts.clear()
                where = group_view_from_text(view) if isinstance(view, str) else None
                names, author, service = _texts(groups), read_member(sender), LEVELS[level]
                return [Message(names, author, service, _data(item), where) for item in data]
            case ("part", bytes(part), *_):
                self._parts.append(part)
                return []
            case (
                "view",
                str(group),
                str(view),
                list(members),
                list(joined),
                list(left),
                list(transitional),
                primary,
                *_,
            ):
                return [
                    View(
                        group,
                        group_view_from_text(view),
                        tuple(map(read_member, members)),
                        tuple(map(read_member, joined)),
                        tuple(Departure(read_member(item[0]), REASONS[item[1]]) for item in left),
                        tuple(map(read_member, transitional)),
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


def read_member(plain: object) -> MemberId:
    """The member behind its plain form.

    Raises:
        ValueError: it has no such form.
    """
    match plain:
        case (str(text), int(incarnation), int(session), *_):
            return member_from_text(text, incarnation, session)
    raise ValueError("no member")


def _texts(items: list[object]) -> tuple[str, ...]:
    return tuple(item for item in items if isinstance(item, str))


def _data(item: object) -> bytes:
    if not isinstance(item, bytes):
        raise ValueError("data is bytes")
    return item
