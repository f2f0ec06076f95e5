"""What users call and implement, and the seams between the parts.

``IGroup`` is one interface for the embedded node and for a client of a daemon.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from typing import TYPE_CHECKING

from zope.interface import Attribute, Interface

from groupcomm.events import Level, Outside

if TYPE_CHECKING:
    from twisted.internet.defer import Deferred

    from groupcomm.batches import MessageBatch
    from groupcomm.events import Event, Message, Undeliverable
    from groupcomm.identity import MemberId
    from groupcomm.status import SourceStatus


class IGroupEvents(Interface):
    """What a member implements to be called with its group's events; no method may block."""

    def event_received(event: Event) -> None:
        """One event of the group, in its order. An exception is logged and changes nothing for the others."""


class IGroupBatchEvents(IGroupEvents):
    """The same for a member that takes messages by the batch: nothing is done for each message that it does not do."""

    def messages_received(batch: MessageBatch) -> None:
        """Messages next to each other in the group's order, alike in all but their bytes (``batch.messages``).

        Called instead of ``event_received`` for messages; all other events come there. How messages are grouped is
        not part of the order: the next member may get them in other batches.
        """


class IGroup(Interface):
    """One membership of one group. Also an asynchronous iterator of its events, which ends after ``Left``.

    Without a listener (``IGroupEvents``) events wait in a bounded queue until they are iterated over.
    """

    name = Attribute("The group's name.")
    member = Attribute("This member, as the others see it (a MemberId; over a client connection, its text form).")

    def send(
        data: bytes, *, level: Level = Level.AGREED, stable: bool = False, self_discard: bool = False
    ) -> Deferred[None]:
        """Send one message to the group.

        Args:
            data: at most 16 MiB (UNRELIABLE: what fits one packet).
            level: the service level; what is not said otherwise has one order at all members (AGREED).
            stable: wait until it is delivered at every node of the view.
            self_discard: this member does not get its own copy.

        Returns:
            Fires when the node has accepted the message: from then on it is delivered exactly once to this member's
            component as long as the node lives. With ``stable`` it fires when every node of the view has delivered it.
            Waiting for it is the back-pressure.

        Raises:
            MessageTooLarge, NotAMember, NotConnected, NotPrimary, OutcomeUnknown, QueueFull, SendIncomplete: through
                the Deferred.
        """

    def send_many(
        messages: Sequence[bytes],
        *,
        level: Level = Level.AGREED,
        stable: bool = False,
        self_discard: bool = False,
    ) -> Deferred[None]:
        """Send several messages to the group, one after the other: the fast way for many small ones.

        Args:
            messages: together at most 4 MiB (``limits.MAX_BATCH_BYTES``), each counted with 64 bytes more; a single one
                may be as large as any.
            level: as for ``send``.
            stable: as for ``send``.
            self_discard: as for ``send``.

        Returns:
            Fires when all of them are accepted (``stable``: delivered everywhere); fails as ``send``. If one is no
            message or too large, or all together are too much (``QueueFull``), none is sent.
        """

    def leave() -> Deferred[None]:
        """Leave the group; fires when the leave has its place in the order. ``Left`` is the last event."""

    def __aiter__() -> AsyncIterator[Event]:
        """The events not handed to a listener."""


class IConnection(Interface):
    """A session: an embedded node's own or one with a daemon."""

    member = Attribute("This session's name as the others see it: ``client@node``.")

    def join(group: str, listener: IGroupEvents | None = None, *, outside: Outside = Outside.GO_ON) -> Deferred[IGroup]:
        """Join a group; fires with the handle when the join has its place in the order.

        The first event is the ``View`` that names this member.

        Args:
            group: which.
            listener: gets its events.
            outside: what is to happen to the group outside of the primary component, for all its members; the
                strictest that one of them asks for holds. Has an effect only with a quorum filter.
        """

    def send(
        groups: Sequence[str],
        data: bytes,
        *,
        level: Level = Level.AGREED,
        stable: bool = False,
        self_discard: bool = False,
    ) -> Deferred[None]:
        """Send one message to several groups (a member or not): each member gets it once, at one place in the order."""

    def send_many(
        groups: Sequence[str],
        messages: Sequence[bytes],
        *,
        level: Level = Level.AGREED,
        stable: bool = False,
        self_discard: bool = False,
    ) -> Deferred[None]:
        """Send several messages to several groups, one after the other: the fast way for many small ones."""

    def send_private(
        recipient: MemberId | str, data: bytes, *, level: Level = Level.AGREED, stable: bool = False
    ) -> Deferred[None]:
        """Send to one member, ``client@node``. If it is gone, an ``Undeliverable`` event follows."""

    def private_messages() -> AsyncIterator[Message | Undeliverable]:
        """Private messages and ``Undeliverable`` events of this session."""

    def close() -> Deferred[None]:
        """End the session; the groups see it leave."""


class IDiscovery(Interface):
    """A source of hints where other nodes may be; never an authority."""

    def start(port: int, found: Callable[[tuple[str, int]], None]) -> Deferred[None]:
        """Announce our UDP ``port`` and call ``found((host, port))`` for every address seen, from then on."""

    def stop() -> Deferred[None]:
        """Withdraw the announcement; fires when nothing is left running."""

    def moved(hosts: tuple[str, ...]) -> None:
        """These are the node's addresses now; it may have lost an interface and got it back."""

    def status() -> SourceStatus:
        """What it looks at, what it has found, and its last trouble."""
