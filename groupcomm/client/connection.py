"""A session with a daemon: what ``connect`` gives.

The same interface as an embedded node's (``IConnection``, ``IGroup``). A connection that is lost is not made again:
every handle ends with ``Left``, and what was being sent fails with ``OutcomeUnknown``.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Sequence
from typing import Any

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.interfaces import IReactorTime, IStreamClientEndpoint
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from groupcomm.batches import MessageBatch
from groupcomm.client.channel import ClientChannel, open_channel
from groupcomm.client.link import Link, find_way, open_link
from groupcomm.client.outbox import Outbox, Sender
from groupcomm.daemon.vocabulary import REASONS, EventReader, UnknownForm, member_from_text
from groupcomm.errors import NotConnected, UsageError
from groupcomm.events import Left, Level, Message, Outside, Reason, Undeliverable
from groupcomm.handles import EventRouter, GroupHandle
from groupcomm.identity import MemberId, checked_name
from groupcomm.interfaces import IConnection, IGroup, IGroupEvents
from groupcomm.limits import MAX_BATCH_BYTES, MAX_MESSAGE_BYTES
from groupcomm.sessions import checked_batch, checked_groups, checked_message

CLOSE_SECONDS = 5.0
"""How long a daemon may take to let a client go before the connection is cut."""


def connect(
    reactor: IReactorTime, endpoint: IStreamClientEndpoint | str | None = None, *, name: str | None = None
) -> Deferred[Connection]:
    """Connect to a daemon and log in.

    Args:
        reactor: the reactor.
        endpoint: where the daemon is: a client endpoint or its description, such as ``unix:/run/groupcomm/c-n.sock``,
            or ``tls:HOST:PORT:privateKey=FILE:certKey=FILE:caCerts=FILE`` for one on another host.
            None: what ``GROUPCOMM_CONTROL`` says, else the only control socket found on this host.
        name: this client's name, 1 to 255 bytes of UTF-8, unique at the daemon; None: one is made up. With a
            certificate it is that of the certificate, or begins with that and a ``+``.

    Returns:
        Fires with the connection when the daemon has answered the login.

    Raises:
        NotConnected: no daemon is there; through the Deferred, as all of these.
        Refused: the socket may not be opened, or the daemon refuses the certificate or the login.
        AccessDenied: this client may do nothing there, or not under that name.
        EnvironmentFault: a key or a certificate cannot be read.
        NameInUse: another session at that daemon has the name.
        UsageError: the endpoint or the name is none.
    """
    return Deferred.fromCoroutine(_connect(reactor, endpoint, name))


async def _connect(reactor: IReactorTime, endpoint: IStreamClientEndpoint | str | None, name: str | None) -> Connection:
    way = find_way(reactor, endpoint, os.environ)
    if name is None:
        own = f"{os.getpid()}-{os.urandom(3).hex()}"
        name = f"client-{own}" if way.certified is None else f"{way.certified.client_name}+{own}"
    checked_name(name, "a client name")
    connection = Connection(reactor)
    link = await open_link(reactor, way, name, connection.batch_received)
    connection.opened(link)
    try:
        connection.introduced(member_from_text(str(await link.call("whoami"))))
        channel = await open_channel(reactor, link, connection)
        if channel is not None:
            connection.channel_opened(channel)
        elif connection.closed:
            raise NotConnected("the daemon closed the connection")
    except BaseException:
        link.abort()
        raise
    return connection


@implementer(IConnection)
class Connection:
    """A session with a daemon; made by ``connect``.

    Invariants: once it is closed every handle has ended and every Deferred has fired; ``_groups_in`` are the groups it
    is in or joining.
    """

    _log = Logger()

    def __init__(self, reactor: IReactorTime) -> None:
        self._reactor = reactor
        self._router = EventRouter(self._too_slow)
        self._reader = EventReader()
        self._reason = Reason.DISCONNECT
        self._groups_in: set[str] = set()
        self._closed = False
        self._waiting: list[Deferred[Reason]] = []
        self._link: Link
        self._outbox: Sender
        self._channel: ClientChannel | None = None
        self._checked: tuple[str, ...] = ()
        self._member: MemberId

    def opened(self, link: Link) -> None:
        """The daemon has accepted the login; called by ``connect``."""
        self._link = link
        self._outbox = Outbox(self._reactor, link)
        link.lost.addCallback(lambda _: self._lost())

    def introduced(self, member: MemberId) -> None:
        """The daemon has said who we are; called by ``connect``."""
        self._member = member

    def channel_opened(self, channel: ClientChannel) -> None:
        """From now on messages and events go over a data channel; called by ``connect``."""
        if self._closed:
            channel.abort()
            return
        self._channel = channel
        self._outbox = channel.outbox
        channel.lost.addCallback(lambda _: self._link.abort())

    @property
    def member(self) -> MemberId:
        """This session, as the others see it; its text is ``client@node``."""
        return self._member

    @property
    def closed(self) -> bool:
        """Whether it is over."""
        return self._closed

    def when_closed(self) -> Deferred[Reason]:
        """Fires when the connection is over, with the reason the groups see."""
        if self._closed:
            return succeed(self._reason)
        waiting: Deferred[Reason] = Deferred()
        self._waiting.append(waiting)
        return waiting

    def join(
        self, group: str, listener: IGroupEvents | None = None, *, outside: Outside = Outside.GO_ON
    ) -> Deferred[IGroup]:
        """Join a group; fires with its handle when the join has its place in the order.

        Args:
            group: its name, 1 to 255 bytes of UTF-8.
            listener: called with each event; without one the handle is iterated over.
            outside: what is to happen to the group outside of the primary component.
        """
        try:
            self._check_open()
            checked_name(group, "a group name")
            if group in self._groups_in:
                raise UsageError(f"{self._member} is already in group {group!r}, or is joining it")
        except (UsageError, NotConnected) as error:
            return fail(error)
        asked = (outside.label,) if outside else ()
        handle = GroupHandle(self, group, self._member, listener)
        self._router.add(handle)
        self._groups_in.add(group)

        def joined(_: object) -> IGroup:
            return handle

        def refused(failure: Failure) -> Failure:
            self._router.remove(handle)
            self._groups_in.discard(group)
            return failure

        return self._outbox.call("join", group, *asked).addCallbacks(joined, refused)

    def leave(self, group: str) -> Deferred[None]:
        """Leave a group; what its handle calls."""
        return self._outbox.call("leave", group).addCallback(lambda _: None)

    def send(
        self,
        groups: Sequence[str],
        data: bytes,
        *,
        level: Level = Level.AGREED,
        stable: bool = False,
        self_discard: bool = False,
    ) -> Deferred[None]:
        """Send one message to several groups, member of them or not; each member gets it once.

        Returns:
            Fires when the daemon's node has accepted it (``stable``: when every node of the view has delivered it).
            Fails with ``OutcomeUnknown`` if the connection is lost before that is known.
        """
        try:
            destination = self._destination(groups)
            message = checked_message(data, MAX_MESSAGE_BYTES)
        except UsageError as error:
            return fail(error)
        if type(level) is not Level:
            level = Level(level)
        return self._outbox.send(destination, message, level, stable=stable, self_discard=self_discard)

    def send_many(
        self,
        groups: Sequence[str],
        messages: Sequence[bytes],
        *,
        level: Level = Level.AGREED,
        stable: bool = False,
        self_discard: bool = False,
    ) -> Deferred[None]:
        """Send several messages to several groups, one after the other.

        Args:
            groups: as for ``send``.
            messages: together at most 4 MiB (``MAX_BATCH_BYTES``), each counted with 64 bytes more; or one.
            level: as for ``send``.
            stable: as for ``send``.
            self_discard: as for ``send``.

        Returns:
            As for ``send``, when it is so for all of them; if one of them is no message, or all together are too much,
            none is sent.
        """
        try:
            destination = self._destination(groups)
            batch, _ = checked_batch(messages, MAX_MESSAGE_BYTES, MAX_BATCH_BYTES)
        except UsageError as error:
            return fail(error)
        return self._outbox.send_many(destination, batch, Level(level), stable=stable, self_discard=self_discard)

    def send_private(
        self, recipient: MemberId | str, data: bytes, *, level: Level = Level.AGREED, stable: bool = False
    ) -> Deferred[None]:
        """Send to one member; if it is gone, an ``Undeliverable`` event follows among the private messages."""
        try:
            message = checked_message(data, MAX_MESSAGE_BYTES)
            if "@" not in str(recipient):
                raise UsageError(f"a recipient is client@node, not {str(recipient)!r}")
        except UsageError as error:
            return fail(error)
        return self._outbox.send(str(recipient), message, Level(level), stable=stable, self_discard=False)

    def private_messages(self) -> AsyncIterator[Message | Undeliverable]:
        """What is sent to this session alone, and what of its own private messages found nobody."""
        return self._router.private_messages()

    def status(self) -> Deferred[dict[str, object]]:
        """What the daemon says of itself, its view and its peers, as ``doc/howto/perspective-broker.md`` lists it."""
        return self._link.call("status").addCallback(_checked_status)

    def changes(self) -> Deferred[list[dict[str, Any]]]:
        """The last changes of the daemon's view and what led to each, the latest at the end."""
        return self._link.call("changes").addCallback(_checked_list)

    def rotate_key(self) -> Deferred[int]:
        """Have the daemon's view pass to its next key epoch; fires with its number."""
        return self._link.call("rotate_key").addCallback(_checked_number)

    def expel(self, node_name: str) -> Deferred[None]:
        """Put a node out of a cluster with certificates; fires when the daemon's node hears it no more."""
        return self._link.call("expel", node_name).addCallback(lambda _: None)

    def groups(self) -> Deferred[list[dict[str, object]]]:
        """All groups of the daemon's view, by name: ``name``, ``view`` and ``members`` (as ``client@node``) of each."""
        return Deferred.fromCoroutine(self._groups())

    async def _groups(self) -> list[dict[str, object]]:
        groups: list[dict[str, object]] = []
        after = ""
        while True:
            page = await self._link.call("groups", after)
            if not isinstance(page, list) or not page:
                return groups
            for entry in page:
                members = [str(member_from_text(member)) for member in entry["members"].split("\n") if member]
                groups.append({"name": entry["name"], "view": entry["view"], "members": members})
            after = page[-1]["name"]

    def close(self) -> Deferred[None]:
        """End the session; its groups see it leave. Fires when the connection is closed."""
        if self._closed:
            return succeed(None)
        closed = self.when_closed()
        self._outbox.call("logout").addErrback(lambda _: None)
        cut = self._reactor.callLater(CLOSE_SECONDS, self._link.abort)

        def over(_: Reason) -> None:
            if cut.active():
                cut.cancel()

        return closed.addCallback(over)

    # What the link and the channel call.

    def messages_received(self, batch: MessageBatch) -> None:
        """Messages over the data channel."""
        self._router.route(batch)

    def batch_received(self, batch: list[object]) -> None:
        """A batch of plain events; to return is to acknowledge it."""
        for plain in batch:
            match plain:
                case ("closed", reason, *_):
                    self._reason = REASONS.get(str(reason), self._reason)
                    continue
            try:
                events = self._reader.read(plain)
            except UnknownForm as error:
                self._log.error("the daemon sent what this version cannot read: {error}", error=error)
                self.abort()
                return
            for event in events:
                if isinstance(event, Left):
                    self._groups_in.discard(event.group)
                self._router.route(event)

    def abort(self) -> None:
        """Close the connection at once."""
        self._link.abort()

    def _lost(self) -> None:
        self._closed = True
        broken = self._link.broken
        if self._channel is not None:
            broken = broken or self._channel.broken
            self._channel.abort()
        self._outbox.close(NotConnected(broken or f"the connection to the daemon is closed: {self._reason.label}"))
        self._router.end(self._reason)
        waiting, self._waiting = self._waiting, []
        for waiter in waiting:
            waiter.callback(self._reason)

    def _too_slow(self) -> None:
        self._log.warn("the connection is closed: its private messages are not read")
        self._reason = Reason.TOO_SLOW
        self.abort()

    def _destination(self, groups: Sequence[str]) -> tuple[str, ...]:
        """The groups of a message, checked; those of the last one are not checked again."""
        if not groups or groups != self._checked:
            self._checked = checked_groups(groups)
        return self._checked

    def _check_open(self) -> None:
        if self._closed:
            raise NotConnected(f"the connection to the daemon is closed: {self._reason.label}")


def _checked_number(answer: object) -> int:
    if not isinstance(answer, int):
        raise NotConnected("the daemon's answer has no known form")
    return answer


def _checked_list(answer: object) -> list[dict[str, Any]]:
    if not isinstance(answer, list):
        raise NotConnected("the daemon's answer has no known form")
    return answer


def _checked_status(answer: object) -> dict[str, object]:
    if not isinstance(answer, dict):
        raise NotConnected("the daemon's status has no known form")
    return answer
