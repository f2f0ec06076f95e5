"""One logged-in client: what it may call, and the way of its events to it, over Perspective Broker or its data channel.

Decides when a call is answered: a send when the node has accepted it (``stable``: delivered everywhere) and the client
is not far behind with reading. A client that is too far behind is put out here, with the reason its groups see. The
methods and their arguments are the tables of ``doc/howto/perspective-broker.md``.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence, Set
from typing import TYPE_CHECKING, ClassVar, Final

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.spread import pb
from zope.interface import implementer

from groupcomm.batches import MessageBatch, SessionEvent, each_message
from groupcomm.daemon import caps
from groupcomm.daemon.delivery import Delivery, DeliveryLimits
from groupcomm.daemon.encoding import encode_value
from groupcomm.daemon.errors import BadArgument, LimitReached, SessionClosed
from groupcomm.daemon.principal import Principal
from groupcomm.daemon.rights import Right, Rights
from groupcomm.daemon.schema import (
    DeclaredMethods,
    Method,
    Parameter,
    flag,
    group_name,
    group_names,
    message_data,
    message_list,
    message_size,
    node_name,
    number_up_to,
    recipient,
    text,
)
from groupcomm.daemon.uploads import Uploads
from groupcomm.daemon.vocabulary import checked_level, checked_outside, member_text
from groupcomm.events import Left, Level, Outside, Reason, View
from groupcomm.limits import MAX_GROUPS_PER_SESSION
from groupcomm.sessions import LocalSession

if TYPE_CHECKING:
    from groupcomm.daemon.broker import BudgetedBroker
    from groupcomm.daemon.channel import ServerChannel
    from groupcomm.daemon.connection import ServerBroker
    from groupcomm.daemon.realm import Realm


MESSAGE_BYTES: Final = 128
"""What a waiting message is counted as beside its data: a million empty ones are not free."""

_ANY_NUMBER: Final = 2**31 - 1
_LEVEL: Final = Parameter("level", checked_level, Level.AGREED)
_STABLE: Final = Parameter("stable", flag, False)
_DISCARD: Final = Parameter("self_discard", flag, False)
_OUTSIDE: Final = Parameter("outside", checked_outside, Outside.GO_ON)
_GROUPS: Final = Parameter("groups", group_names)
_RECIPIENT: Final = Parameter("recipient", recipient)
_NUMBER: Final = Parameter("number", number_up_to(_ANY_NUMBER))


@implementer(pb.IPerspective)
class ClientAvatar(DeclaredMethods):
    """What a client has in its hand after login, and the handler of its session. Of no use once that is over.

    Invariants: ``_groups`` are the groups whose view the client was told and whose end it was not; calls are made of
    the session in the order they came in; while one waits in ``_gate`` the connection is not read; events go over
    ``_channel`` if there is one, and into ``_kept`` while there is a ticket for one.
    """

    def __init__(
        self,
        realm: Realm,
        broker: ServerBroker,
        name: str,
        mind: pb.RemoteReference | None,
        limits: DeliveryLimits,
        rights: Rights,
    ) -> None:
        self.name = name
        self.rights = rights
        self._realm = realm
        self._broker = broker
        self._mind = mind
        self._clock = realm.clock
        self._session: LocalSession | None = None
        self._uploads = Uploads(realm.clock, realm.upload_budget)
        self.limits = limits
        self._delivery = Delivery(realm.clock, self._hand_over, self._too_slow, self._answer_held, limits)
        self._held: deque[Deferred[None]] = deque()
        self._gate: deque[tuple[Callable[[], Deferred[None]], int, Deferred[None]]] = deque()
        self._groups: set[str] = set()
        self._channel: ServerChannel | None = None
        self._kept: list[SessionEvent] | None = None
        self._kept_bytes = 0
        self._asked = False
        self._pending_calls = 0
        self._pending_bytes = 0

    def opened(self, session: LocalSession) -> None:
        """The node has opened the session."""
        self._session = session

    @property
    def principal(self) -> Principal:
        """Who it is."""
        return self._broker.principal

    @property
    def groups_joined(self) -> Set[str]:
        """The groups this client is in, now and later."""
        return self._groups

    @property
    def queued_bytes(self) -> int:
        """Bytes of events that the client has not acknowledged."""
        return self._delivery.queued_bytes if self._channel is None else self._channel.queued_bytes

    # The ways a session ends.

    def connection_lost(self) -> None:
        """The connection is gone without a goodbye."""
        self._delivery.close()
        session = self._take_session()
        if session is not None:
            session.close(Reason.DISCONNECT)
        if self._channel is not None:
            self._channel.abort()

    def farewell(self, reason: Reason) -> Deferred[None]:
        """End the session in peace: the client gets what is queued, the end of each group, and the reason.

        Fires when it has acknowledged that, or has had its time, and the connection is closed.
        """
        session = self._session
        if session is None:
            return self._broker.when_lost()
        session.close(reason)
        return self._say_goodbye(reason)

    def session_ended(self, reason: Reason) -> None:
        """The node has ended the session."""
        if self._session is not None:
            self._say_goodbye(reason)

    def _say_goodbye(self, reason: Reason) -> Deferred[None]:
        self._withdraw_offer()
        for group in sorted(self._groups):
            self._push_plain(("left", group, reason.label))
        self._push_plain(("closed", reason.label))
        self._take_session()
        told = self._delivery.when_empty() if self._channel is None else self._channel.when_empty()
        told.addTimeout(caps.FAREWELL_SECONDS, self._clock)
        return told.addBoth(self._part)

    def _part(self, result: object) -> Deferred[None]:
        self._delivery.close()
        if self._channel is not None:
            self._channel.finish()
        return self._broker.part()

    def _too_slow(self) -> None:
        session = self._take_session()
        if session is None:
            return
        self._realm.client_too_slow(self)
        session.close(Reason.TOO_SLOW)
        if self._mind is not None:
            last = encode_value(("closed", Reason.TOO_SLOW.label))
            self._broker.call_with_encoded(self._mind, b"events", [last]).addErrback(lambda _: None)
        self._broker.part()
        if self._channel is not None:
            self._channel.abort()

    def _take_session(self) -> LocalSession | None:
        """The session, if it is not over; from now on it is, and calls that wait fail."""
        session, self._session = self._session, None
        if session is not None:
            self._uploads.close()
            self._realm.forget(self)
            self._withdraw_offer()
            if self._channel is not None:
                self._channel.session_over()
            while self._gate:
                self._gate.popleft()[2].errback(SessionClosed("the session is over"))
            while self._held:
                self._held.popleft().callback(None)
            self._mind_reading()
        return session

    # Events on their way to the client.

    def events_received(self, events: Sequence[SessionEvent]) -> None:
        """The node delivers events to this session."""
        if self._session is None:
            return
        for event in events:
            if isinstance(event, View):
                self._groups.add(event.group)
            elif isinstance(event, Left):
                self._groups.discard(event.group)
        if self._channel is not None:
            self._channel.push(events)
        elif self._kept is not None:
            self._keep(events)
        elif self._mind is not None:
            for encoded in self._realm.encoder.encode(list(each_message(events))):
                self._delivery.push(encoded.pieces, encoded.events)

    def _push_plain(self, plain: object) -> None:
        if self._channel is not None:
            self._channel.push_plain(plain)
        elif self._mind is not None:
            self._delivery.push((encode_value(plain),))

    def _hand_over(self, batch: list[bytes]) -> Deferred[object]:
        assert self._mind is not None
        return self._broker.call_with_encoded(self._mind, b"events", batch)

    # The data channel.

    def open_channel(self) -> tuple[str, str | int, bytes]:
        """Where the data channel is, and a ticket for it."""
        self._open_session()
        if self._asked:
            raise BadArgument("a data channel is opened first, or not at all, and once")
        if self._realm.channels is None:
            raise LimitReached("there is no data channel here: go on without")
        offer = self._realm.channels.offer(self, self._broker.transport.getHost())
        self._asked = True
        self._kept = []
        return offer

    def channel_opened(self, channel: ServerChannel) -> LocalSession | None:
        """The ticket was shown: from now on all events go there, first those that have come since it was issued."""
        self._channel = channel
        kept, self._kept = self._kept, None
        if kept:
            channel.push(kept)
        return self._session

    def offer_ended(self) -> None:
        """The ticket was not shown: it stays with Perspective Broker."""
        kept, self._kept = self._kept, None
        if kept:
            self.events_received(kept)

    def channel_lost(self) -> None:
        """The channel is gone: so is the client, unless this is the end anyway."""
        if self._session is not None:
            self._broker.abort()
            self.connection_lost()

    def channel_too_slow(self) -> None:
        """It does not read its events."""
        self._too_slow()

    def join_group(self, group: str, outside: Outside) -> Deferred[None]:
        """Join, asked for over the channel."""
        return self._may_join(group).join(group, outside)

    def leave_group(self, group: str) -> Deferred[None]:
        """Leave, asked for over the channel."""
        return self._open_session().leave(group)

    def _keep(self, events: Sequence[SessionEvent]) -> None:
        """While there is a ticket; nobody is in a group by then, so it is private messages at most."""
        assert self._kept is not None
        self._kept += events
        self._kept_bytes += sum(len(event.payload) for event in events if isinstance(event, MessageBatch))
        if self._kept_bytes > self.limits.queue_bytes or len(self._kept) > self.limits.queue_events:
            self._withdraw_offer()

    def _withdraw_offer(self) -> None:
        if self._kept is not None and self._realm.channels is not None:
            self._realm.channels.withdraw(self)

    # Calls.

    def perspectiveMessageReceived(self, broker: BudgetedBroker, message: str, args: object, kw: object) -> object:
        """The same as for any declared method; here because ``IPerspective`` wants it."""
        return self.remoteMessageReceived(broker, message, args, kw)

    def _open_session(self) -> LocalSession:
        if self._session is None:
            raise SessionClosed("this session is over: log in again")
        return self._session

    def _messaging_session(self) -> LocalSession:
        """The session, for a call that could go over the channel as well."""
        session = self._open_session()
        if self._channel is not None:
            raise BadArgument("this session has a data channel: messages, joins and leaves go there")
        self._asked = True
        self._withdraw_offer()
        return session

    def _may_join(self, group: str) -> LocalSession:
        session = self._open_session()
        self.rights.require_join(group)
        if len(self._groups) >= MAX_GROUPS_PER_SESSION:
            raise LimitReached(f"a session may be in {MAX_GROUPS_PER_SESSION} groups: leave one first")
        return session

    def join(self, group: str, outside: Outside) -> Deferred[None]:
        """Join a group; answered when the join has its place in the order."""
        self._messaging_session()
        session = self._may_join(group)
        if self._mind is None:
            raise LimitReached("to join, log in with a client object: its remote_events method gets the events")
        return self._pending(lambda: session.join(group, outside), 0)

    def leave(self, group: str) -> Deferred[None]:
        """Leave a group; answered when the leave has its place in the order."""
        session = self._messaging_session()
        return self._pending(lambda: session.leave(group), 0)

    def send(
        self, groups: tuple[str, ...], data: bytes, level: Level, stable: bool, self_discard: bool
    ) -> Deferred[None]:
        """Send one message."""
        return self.send_many(groups, (data,), level, stable, self_discard)

    def send_many(
        self, groups: tuple[str, ...], messages: tuple[bytes, ...], level: Level, stable: bool, self_discard: bool
    ) -> Deferred[None]:
        """Send several messages; answered once for all."""
        session = self._messaging_session()
        self.rights.require(Right.SEND, groups)

        def call() -> Deferred[None]:
            if len(messages) == 1:  # which may share a frame with those of other calls
                return session.send(groups, messages[0], level, stable=stable, self_discard=self_discard)
            return session.send_many(groups, messages, level, stable=stable, self_discard=self_discard)

        return self._pending(call, sum(map(len, messages)) + len(messages) * MESSAGE_BYTES).addCallback(self._hold)

    def send_private(self, recipient: str, data: bytes, level: Level, stable: bool) -> Deferred[None]:
        """Send one message to one member."""
        session = self._messaging_session()
        self.rights.require_private()
        return self._pending(
            lambda: session.send_private(recipient, data, level, stable=stable), len(data) + MESSAGE_BYTES
        ).addCallback(self._hold)

    def begin(self, size: int) -> Deferred[int]:
        """Begin a message in parts; answered with its number when there is room for it."""
        self._messaging_session()
        return self._uploads.begin(size)

    def part(self, number: int, data: bytes) -> None:
        """Add the next part."""
        self._messaging_session()
        self._uploads.part(number, data)

    def commit(
        self, number: int, groups: tuple[str, ...], level: Level, stable: bool, self_discard: bool
    ) -> Deferred[None]:
        """Send the message whose parts are all here."""
        self._messaging_session()
        self.rights.require(Right.SEND, groups)
        return self.send(groups, self._uploads.take(number), level, stable, self_discard)

    def commit_private(self, number: int, recipient: str, level: Level, stable: bool) -> Deferred[None]:
        """Send the message whose parts are all here to one member."""
        self._messaging_session()
        self.rights.require_private()
        return self.send_private(recipient, self._uploads.take(number), level, stable)

    def status(self) -> object:
        """What the node and the daemon say of themselves."""
        self._open_session()
        return self._realm.status(self.rights)

    def changes(self) -> object:
        """The last changes of the view, and what led to them."""
        self._open_session()
        return self._realm.changes()

    def rotate_key(self) -> Deferred[int]:
        """Have the view pass to its next key epoch; fires with its number."""
        self._open_session()
        self.rights.require_cluster()
        return self._realm.rotate_key()

    def expel(self, node: str) -> Deferred[None]:
        """Expel a node; fires when this one hears it no more."""
        self._open_session()
        self.rights.require_cluster()
        return self._realm.expel(node)

    def groups(self, after: str, count: int) -> object:
        """A page of the groups."""
        self._open_session()
        return self._realm.groups(after, count, self.rights)

    def whoami(self) -> object:
        """This session, as the others see it."""
        return member_text(self._open_session().member)

    def logout(self) -> None:
        """End the session; its groups see it leave. The connection is closed when the client has its last events."""
        self._open_session()
        self.farewell(Reason.LEAVE)

    def _pending(self, call: Callable[[], Deferred[None]], size: int) -> Deferred[None]:
        """Make a call of the session in its turn and count it until it is done."""
        done: Deferred[None] = Deferred()
        self._gate.append((call, size, done))
        self._run_gate()
        return done

    def _run_gate(self) -> None:
        while self._gate and self._session is not None and self._fits(self._gate[0][1]):
            call, size, done = self._gate.popleft()
            self._pending_calls += 1
            self._pending_bytes += size
            maybeDeferred(call).addBoth(self._done, size).chainDeferred(done)
        self._mind_reading()

    def _fits(self, size: int) -> bool:
        return not self._pending_bytes or self._pending_bytes + size <= caps.MAX_PENDING_BYTES

    def _done(self, result: None, size: int) -> None:
        self._pending_calls -= 1
        self._pending_bytes -= size
        self._run_gate()
        return result

    def _mind_reading(self) -> None:
        full = self._session is not None and (bool(self._gate) or self._pending_calls >= caps.MAX_PENDING_CALLS)
        self._broker.set_reading(not full)
        self._delivery.set_reading(not full)

    def _hold(self, result: None) -> Deferred[None] | None:
        """Keep back the answer of a client that is far behind with reading what others send."""
        if self._mind is None or not self._delivery.busy or len(self._held) >= caps.MAX_PENDING_CALLS:
            return None
        held: Deferred[None] = Deferred()
        self._held.append(held)
        return held

    def _answer_held(self) -> None:
        while self._held and not self._delivery.busy:
            self._held.popleft().callback(None)

    methods: ClassVar[Mapping[str, Method]] = {
        "join": Method(join, (Parameter("group", group_name), _OUTSIDE)),
        "leave": Method(leave, (Parameter("group", group_name),)),
        "send": Method(send, (_GROUPS, Parameter("data", message_data), _LEVEL, _STABLE, _DISCARD)),
        "send_many": Method(send_many, (_GROUPS, Parameter("messages", message_list), _LEVEL, _STABLE, _DISCARD)),
        "send_private": Method(send_private, (_RECIPIENT, Parameter("data", message_data), _LEVEL, _STABLE)),
        "begin": Method(begin, (Parameter("size", message_size),)),
        "part": Method(part, (_NUMBER, Parameter("data", message_data))),
        "commit": Method(commit, (_NUMBER, _GROUPS, _LEVEL, _STABLE, _DISCARD)),
        "commit_private": Method(commit_private, (_NUMBER, _RECIPIENT, _LEVEL, _STABLE)),
        "open_channel": Method(open_channel),
        "status": Method(status),
        "changes": Method(changes),
        "rotate_key": Method(rotate_key),
        "expel": Method(expel, (Parameter("node", node_name),)),
        "groups": Method(
            groups,
            (
                Parameter("after", text, ""),
                Parameter("count", number_up_to(caps.STATUS_PAGE_GROUPS), caps.STATUS_PAGE_GROUPS),
            ),
        ),
        "whoami": Method(whoami),
        "logout": Method(logout),
    }
