"""A session inside the node's own process, as applications use it: ``IConnection`` without a daemon."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure
from zope.interface import implementer

from groupcomm.batches import SessionEvent
from groupcomm.events import Level, Message, Outside, Reason, Undeliverable
from groupcomm.handles import EventRouter, GroupHandle
from groupcomm.identity import MemberId
from groupcomm.interfaces import IConnection, IGroup, IGroupEvents
from groupcomm.sessions import LocalSession, SessionHandler


@implementer(IConnection)
class LocalConnection:
    """One session of a node, with handles for its groups."""

    def __init__(self, open_session: Callable[[SessionHandler], LocalSession]) -> None:
        """Open it.

        Args:
            open_session: opens the session for the handler it is given.

        Raises:
            NameInUse: a live session of the node has that client name.
            NotConnected: the node does not run.
        """
        self._router = EventRouter(self._too_slow)
        self._session = open_session(self)

    @property
    def member(self) -> MemberId:
        """This session as the others see it."""
        return self._session.member

    @property
    def closed(self) -> bool:
        """Whether it is over."""
        return self._session.closed

    def join(
        self, group: str, listener: IGroupEvents | None = None, *, outside: Outside = Outside.GO_ON
    ) -> Deferred[IGroup]:
        """Join a group; fires with its handle when the join has its place in the order."""
        handle = GroupHandle(self, group, self._session.member, listener)
        joining = self._session.join(group, outside)
        if not joining.called:
            self._router.add(handle)

        def joined(_: None) -> IGroup:
            return handle

        def refused(failure: Failure) -> Failure:
            self._router.remove(handle)
            return failure

        return joining.addCallbacks(joined, refused)

    def send(
        self,
        groups: Sequence[str],
        data: bytes,
        *,
        level: Level = Level.AGREED,
        stable: bool = False,
        self_discard: bool = False,
    ) -> Deferred[None]:
        """Send one message to several groups, member of them or not."""
        return self._session.send(groups, data, level, stable=stable, self_discard=self_discard)

    def send_many(
        self,
        groups: Sequence[str],
        messages: Sequence[bytes],
        *,
        level: Level = Level.AGREED,
        stable: bool = False,
        self_discard: bool = False,
    ) -> Deferred[None]:
        """Send several messages to several groups, one after the other, at the cost of little more than one."""
        return self._session.send_many(groups, messages, level, stable=stable, self_discard=self_discard)

    def send_private(
        self, recipient: MemberId | str, data: bytes, *, level: Level = Level.AGREED, stable: bool = False
    ) -> Deferred[None]:
        """Send to one member; if it is gone, an ``Undeliverable`` event follows among the private messages."""
        return self._session.send_private(recipient, data, level, stable=stable)

    def private_messages(self) -> AsyncIterator[Message | Undeliverable]:
        """What is sent to this session alone, and what of its own private messages found nobody."""
        return self._router.private_messages()

    def leave(self, group: str) -> Deferred[None]:
        """Leave a group; what its handle calls."""
        return self._session.leave(group)

    def close(self, reason: Reason = Reason.DISCONNECT) -> Deferred[None]:
        """End the session; the groups see it leave."""
        closing = self._session.close(reason)
        self._router.end(reason)
        return closing

    def events_received(self, events: Sequence[SessionEvent]) -> None:
        """Events of the session; called by the node."""
        for event in events:
            self._router.route(event)

    def session_ended(self, reason: Reason) -> None:
        """The node has ended the session."""
        self._router.end(reason)

    def _too_slow(self) -> None:
        """Private messages are not read."""
        self.close(Reason.TOO_SLOW)
