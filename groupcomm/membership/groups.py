"""Light-weight groups inside a view: who is in which, and what its members are told.

Joins, leaves and disconnections are AGREED frames of the member's node, so group views cost no round of their own and
fall at the same place in the order everywhere. A node is the only authority for its own sessions: when views with
different pasts become one, each sends its own table first. Upholds M3, D6 and G1 to G4 for groups.
"""

from __future__ import annotations

import enum
from bisect import insort
from collections.abc import Collection, Iterable, Mapping, Sequence

from attrs import define, evolve, frozen

from groupcomm.errors import MalformedPacket
from groupcomm.events import Departure, Level, Outside, Reason, View
from groupcomm.identity import GroupViewId, MemberId, NodeId, ViewId
from groupcomm.limits import (
    MAX_DESTINATION_BYTES,
    MAX_DESTINATION_GROUPS,
    MAX_DIRECTORY_BYTES,
    MAX_GROUPS_PER_SESSION,
    MAX_SESSIONS,
)
from groupcomm.ordering.frames import Frame
from groupcomm.outputs import FrameDelivered, GroupLeft, GroupSignalDelivered, GroupViewDelivered, Output
from groupcomm.status import GroupStatus
from groupcomm.wire.codec import Reader, Writer, varint

_CAUSAL = Level.CAUSAL
_RELIABLE = Level.RELIABLE

_MAX_NAMES_BYTES = 2 * MAX_DIRECTORY_BYTES
_MAX_ROUTES = 1024


class Change(enum.IntEnum):
    """What a CHANGE frame does."""

    JOIN = 1
    LEAVE = 2
    DISCONNECT = 3


@frozen
class ChangeBody:
    """The body of a CHANGE frame: ``group`` is empty for a disconnection, ``reason`` counts for the others only.

    ``outside`` is what who joins asks for.
    """

    change: Change
    session: int
    client: str
    group: str
    reason: Reason
    outside: Outside = Outside.GO_ON

    def encode(self) -> bytes:
        """The bytes."""
        writer = Writer().u8(self.change).number(self.session).text(self.client).u8(self.reason)
        if self.group:
            writer.text(self.group)
        if self.outside:
            writer.u8(self.outside)
        return writer.done()

    @classmethod
    def decode(cls, body: bytes) -> ChangeBody:
        """The value."""
        reader = Reader(body)
        try:
            change = Change(reader.u8())
            session, client, reason = reader.number(), reader.text(), Reason(reader.u8())
        except ValueError:
            raise MalformedPacket("an unknown change or reason") from None
        group = "" if change is Change.DISCONNECT else reader.text()
        outside = _read_outside(reader) if change is Change.JOIN and reader.more else Outside.GO_ON
        reader.finish()
        return cls(change, session, client, group, reason, outside)


def _read_outside(reader: Reader) -> Outside:
    try:
        return Outside(reader.u8())
    except ValueError:
        raise MalformedPacket("unknown what happens outside of the primary component") from None


def group_address(session: int, client: str, groups: Sequence[str]) -> bytes:
    """How the body of a GROUP frame begins: a length, then who sends to which groups; the payload follows."""
    writer = Writer().number(session).text(client).number(len(groups))
    for group in groups:
        writer.text(group)
    address = writer.done()
    return varint(len(address)) + address


@define(eq=False)
class _Route:
    """To whom a GROUP frame with a certain address goes, as the groups are now.

    Attributes:
        to: the sessions of this node, each with the groups by which it is a member.
        sender: who sent it.
        views: of the groups.
        joined_at: the place in the order of the last join among them: what was sent before knows nothing of it.
    """

    to: tuple[tuple[int, tuple[str, ...]], ...]
    sender: MemberId
    views: Mapping[str, GroupViewId]
    joined_at: int


class _Held:
    """What is kept of the sessions of one node: how many there are, and the bytes of the names of their groups."""

    __slots__ = ("name_bytes", "sessions")

    def __init__(self) -> None:
        self.sessions = self.name_bytes = 0


class _Group:
    """One group.

    Attributes:
        members: with the position in the order at which each joined.
        shown: the members of the last group view.
        gone: why some of them are no longer members.
        signalled: whether the transitional signal has been given since that view.
        primary: whether that view was primary.
        outside: what is to happen outside of the primary component, for members who ask for more than to go on.
    """

    __slots__ = ("gone", "members", "outside", "primary", "shown", "signalled", "view")

    def __init__(self, view: GroupViewId) -> None:
        self.members: dict[MemberId, int] = {}
        self.shown: tuple[MemberId, ...] = ()
        self.gone: dict[MemberId, Reason] = {}
        self.signalled = False
        self.primary = True
        self.outside: dict[MemberId, Outside] = {}
        self.view = view


class Groups:
    """The directory of one node: every member of every group of the view.

    Bound: what the nodes' own caps allow, ``MAX_SESSIONS`` sessions of ``MAX_GROUPS_PER_SESSION`` groups each, and
    twice ``MAX_DIRECTORY_BYTES`` of names, since joins may come before leaves that were asked for earlier. A node that
    joins more breaks the protocol: its change is void, at all nodes alike.

    Attributes:
        position: place in the order of the last group change delivered.
    """

    __slots__ = (
        "_changed",
        "_checked",
        "_groups",
        "_held",
        "_in_transition",
        "_me",
        "_of_member",
        "_primary",
        "_routes",
        "_together",
        "_view",
        "out",
        "position",
    )

    def __init__(self, me: NodeId) -> None:
        self._me = me
        self._groups: dict[str, _Group] = {}
        self._of_member: dict[MemberId, set[str]] = {}
        self._held: dict[NodeId, _Held] = {}
        self._view: ViewId | None = None
        self._primary = True
        self._together: set[NodeId] | None = None
        self._changed: set[str] = set()
        self._in_transition = False
        self._checked: tuple[object, ...] = ()
        self._routes: dict[tuple[int, bytes, bool], _Route] = {}
        self.position = 0
        self.out: list[Output] = []

    # ---- changes ---------------------------------------------------------------------------------------------------

    def changed(self, sender: NodeId, frame: Frame) -> ChangeBody:
        """A CHANGE frame is delivered."""
        body = ChangeBody.decode(frame.body)
        self._routes.clear()
        member = MemberId(body.client, sender, body.session)
        self.position = frame.position
        if body.change is Change.JOIN:
            self._join(member, body.group, frame.position, body.outside)
        elif body.change is Change.LEAVE:
            self._leave(member, body.group, body.reason)
        else:
            for group in sorted(self._of_member.get(member, ())):
                self._leave(member, group, body.reason)
        return body

    def _join(self, member: MemberId, name: str, position: int, outside: Outside = Outside.GO_ON) -> None:
        assert self._view is not None
        group = self._groups.get(name)
        if group is not None and member in group.members:
            return
        self._check_room(member, name)
        if group is None:
            group = self._groups[name] = _Group(GroupViewId(self._view, position))
        self._add(member, name, position)
        if outside:
            self._groups[name].outside[member] = outside
        self._show(name)

    def _check_room(self, member: MemberId, name: str) -> None:
        """Raise ``MalformedPacket`` if a session of that node cannot be in one more group."""
        held, names = self._held.get(member.node), self._of_member.get(member)
        if held is None:
            return
        if (
            (names is None and held.sessions >= MAX_SESSIONS)
            or (names is not None and len(names) >= MAX_GROUPS_PER_SESSION)
            or held.name_bytes + _size_of(name) > _MAX_NAMES_BYTES
        ):
            raise MalformedPacket(f"{member} joins more groups than sessions of one node may")

    def _add(self, member: MemberId, name: str, position: int) -> None:
        """A member of a group that is there."""
        self._groups[name].members[member] = position
        held = self._held.setdefault(member.node, _Held())
        if member not in self._of_member:
            self._of_member[member] = set()
            held.sessions += 1
        self._of_member[member].add(name)
        held.name_bytes += _size_of(name)

    def _leave(self, member: MemberId, name: str, reason: Reason) -> None:
        group = self._groups.get(name)
        if group is None or member not in group.members:
            return
        self._remove(member, name, reason)
        if member.node == self._me:
            self.out.append(GroupLeft(member.session, name, reason))
        self._show(name)

    def _remove(self, member: MemberId, name: str, reason: Reason) -> None:
        group = self._groups[name]
        del group.members[member]
        group.outside.pop(member, None)
        if member in group.shown:
            group.gone[member] = reason
        names, held = self._of_member[member], self._held[member.node]
        names.discard(name)
        held.name_bytes -= _size_of(name)
        if not names:
            del self._of_member[member]
            held.sessions -= 1
            if not held.sessions:
                del self._held[member.node]
        self._changed.add(name)

    def _show(self, name: str) -> None:
        """Deliver a group view here, unless the node's own view is about to change: then with that."""
        self._changed.add(name)
        if not self._in_transition:
            self._deliver_view(name, self.position)

    def _deliver_view(self, name: str, position: int) -> None:
        group = self._groups[name]
        self._changed.discard(name)
        assert self._view is not None
        before = group.shown
        members = _in_order(before, group.members)
        if members == before and not group.gone and group.view.view == self._view:
            return
        group.view = GroupViewId(self._view, position)
        now, then = set(members), set(before)
        together = self._together
        joined = tuple(member for member in members if member not in then)
        stayed = tuple(member for member in members if member in then and (together is None or member.node in together))
        left = tuple(
            Departure(member, group.gone.get(member, Reason.PARTITION)) for member in before if member not in now
        )
        view = View(name, group.view, members, joined, left, stayed, self._primary)
        group.shown = members
        group.primary = self._primary
        group.gone = {}
        group.signalled = False
        ours = [member for member in members if member.node == self._me]
        old = tuple(member.session for member in ours if member in then)
        if old:
            self.out.append(GroupViewDelivered(old, view))
        for member in ours:
            if member not in then:
                first = evolve(view, joined=(member,), left=(), transitional=(member,))
                self.out.append(GroupViewDelivered((member.session,), first))
        if not members:
            del self._groups[name]

    # ---- frames ----------------------------------------------------------------------------------------------------

    def deliver(self, sender: NodeId, frame: Frame) -> None:
        """A GROUP frame is delivered: to those of this node's members who were in when it was sent, or in its place."""
        address, payload = frame.addressed(2 * MAX_DESTINATION_BYTES)
        key = frame.stream, address, frame.self_discard
        route = self._routes.get(key)
        if route is None:
            route = self._route(sender, address, frame.self_discard, None)
            if len(self._routes) >= _MAX_ROUTES:
                self._routes.clear()
            self._routes[key] = route
        if _RELIABLE <= frame.level <= _CAUSAL and frame.group_position < route.joined_at:
            route = self._route(sender, address, frame.self_discard, frame.group_position)
        if route.to:
            self.out.append(FrameDelivered(route.to, route.sender, frame.level, payload, route.views))

    def _route(self, sender: NodeId, address: bytes, self_discard: bool, seen_by_sender: int | None) -> _Route:
        """Who gets what is so addressed; of those who have joined since ``seen_by_sender``, nobody."""
        reader = Reader(address)
        reader.number()
        session, client = reader.number(), reader.text()
        names = tuple(reader.text() for _ in range(reader.number(MAX_DESTINATION_GROUPS)))
        reader.finish()
        recipients: dict[int, list[str]] = {}
        views = {}
        last_join = 0
        for name in names:
            group = self._groups.get(name)
            if group is None:
                continue
            for member, joined_at in group.members.items():
                if member.node != self._me or (seen_by_sender is not None and joined_at > seen_by_sender):
                    continue
                if self._in_transition and member not in group.shown:
                    continue
                if self_discard and member.session == session and sender == self._me:
                    continue
                recipients.setdefault(member.session, []).append(name)
                views[name] = group.view
                last_join = max(last_join, joined_at)
        to = tuple((number, tuple(recipients[number])) for number in sorted(recipients))
        return _Route(to, MemberId(client, sender, session), views, last_join)

    # ---- node views --------------------------------------------------------------------------------------------------

    def signal(self, together: Iterable[NodeId]) -> None:
        """The view is about to change: tell the groups that have members on nodes that do not come along.

        Once per group view: a node view that breaks before the directories are exchanged shows none of the group.
        """
        self._in_transition = True
        self._routes.clear()
        staying = set(together)
        for name in sorted(self._groups):
            group = self._groups[name]
            ours = tuple(
                member.session for member in group.shown if member.node == self._me and member in group.members
            )
            if ours and not group.signalled and any(member.node not in staying for member in group.members):
                group.signalled = True
                self.out.append(GroupSignalDelivered(ours, name))

    def view_installed(
        self,
        view: ViewId,
        members: Sequence[NodeId],
        together: Iterable[NodeId],
        departed: Mapping[NodeId, Reason],
        *,
        exchange: bool,
        primary: bool = True,
    ) -> None:
        """A new node view: members on nodes that are gone leave; the group views follow now, or after the exchange."""
        self._view = view
        self._primary = primary
        self._routes.clear()
        self.position = 0
        staying = set(together)
        self._together = staying if self._together is None else self._together & staying
        present = set(members)
        for member in [
            member for member in self._of_member if member.node not in present or member.node not in staying
        ]:
            for name in sorted(self._of_member[member]):
                self._remove(member, name, departed.get(member.node, Reason.PARTITION))
        for group in self._groups.values():
            group.members = dict.fromkeys(group.members, 0)
        if not exchange:
            self._deliver_changed()

    def _deliver_changed(self) -> None:
        self._in_transition = False
        self._routes.clear()
        self._changed.update(name for name, group in self._groups.items() if group.primary != self._primary)
        for name in sorted(self._changed):
            if name in self._groups:
                self._deliver_view(name, 0)
        self._changed.clear()
        self._together = None

    def own_table(self) -> bytes:
        """The body of this node's DIRECTORY frame."""
        own = sorted(member for member in self._of_member if member.node == self._me)
        writer = Writer().number(len(own))
        for member in own:
            names = sorted(self._of_member[member])
            writer.number(member.session).text(member.client).number(len(names))
            for name in names:
                writer.text(name)
        asked = [(index, member, name) for index, member in enumerate(own) for name in sorted(self._of_member[member])]
        strict = [(index, name, self._groups[name].outside.get(member)) for index, member, name in asked]
        for index, name, outside in strict:
            if outside is not None:
                writer.number(index).text(name).u8(outside)
        return writer.done()

    def exchanged(self, tables: Mapping[NodeId, bytes]) -> int:
        """The tables of all members are here: they replace what was known of other nodes' sessions.

        Returns:
            How many tables are broken: they count as empty, at all nodes alike.
        """
        assert self._view is not None
        wanted: dict[MemberId, dict[str, Outside]] = {}
        broken = 0
        for node in sorted(tables):
            if node == self._me:
                continue
            try:
                wanted.update(_read_table(node, tables[node]))
            except MalformedPacket:
                broken += 1
        for member in [member for member in self._of_member if member.node != self._me]:
            for name in sorted(self._of_member[member] - set(wanted.get(member, ()))):
                self._remove(member, name, Reason.LEAVE)
        for member in sorted(wanted):
            for name in wanted[member]:
                group = self._groups.get(name)
                if group is None:
                    group = self._groups[name] = _Group(GroupViewId(self._view, 0))
                if member not in group.members:
                    self._add(member, name, 0)
                    self._changed.add(name)
                group.outside.pop(member, None)
                if wanted[member][name]:
                    group.outside[member] = wanted[member][name]
        self._deliver_changed()
        return broken

    # ---- getters -----------------------------------------------------------------------------------------------------

    def groups_of(self, member: MemberId) -> set[str]:
        """The groups a member is in."""
        return self._of_member.get(member, set())

    def outside(self, name: str) -> Outside:
        """What happens to a group outside of the primary component: the strictest that its members ask for."""
        group = self._groups.get(name)
        return max(group.outside.values(), default=Outside.GO_ON) if group is not None else Outside.GO_ON

    def status(self) -> tuple[GroupStatus, ...]:
        """All groups with members, in order."""
        return tuple(
            GroupStatus(name, self._groups[name].shown, self._groups[name].view, self.outside(name))
            for name in sorted(self._groups)
            if self._groups[name].shown
        )

    def check_invariants(self) -> None:
        """Raise ``AssertionError`` if the two directions of the directory differ; looks when something changed."""
        memberships = sum(len(group.members) for group in self._groups.values())
        state = self._view, self.position, self._in_transition, memberships, len(self._of_member)
        if state == self._checked:
            return
        self._checked = state
        for member, names in self._of_member.items():
            assert names and all(member in self._groups[name].members for name in names), member
        assert memberships == sum(len(names) for names in self._of_member.values())
        assert sum(held.sessions for held in self._held.values()) == len(self._of_member)
        assert all(0 < held.name_bytes <= _MAX_NAMES_BYTES for held in self._held.values())


def _in_order(before: tuple[MemberId, ...], members: Collection[MemberId]) -> tuple[MemberId, ...]:
    """Members in order; most of them were shown in order before, which saves most comparisons."""
    ordered, then = [member for member in before if member in members], set(before)
    for member in members:
        if member not in then:
            insort(ordered, member)
    return tuple(ordered)


def _read_table(node: NodeId, table: bytes) -> dict[MemberId, dict[str, Outside]]:
    reader = Reader(table)
    result: dict[MemberId, dict[str, Outside]] = {}
    members = []
    for _ in range(reader.number(MAX_SESSIONS)):
        session, client = reader.number(), reader.text()
        names = [reader.text() for _ in range(reader.number(MAX_GROUPS_PER_SESSION))]
        members.append(MemberId(client, node, session))
        result[members[-1]] = dict.fromkeys(names, Outside.GO_ON)
    while reader.more:
        index, name = reader.number(), reader.text()
        if index >= len(members) or name not in result[members[index]]:
            raise MalformedPacket("a wish for a group that nobody is in")
        result[members[index]][name] = _read_outside(reader)
    if sum(_size_of(name) for names in result.values() for name in names) > _MAX_NAMES_BYTES:
        raise MalformedPacket("more names than sessions of one node may have")
    return result


def _size_of(name: str) -> int:
    return len(name.encode()) + 1
