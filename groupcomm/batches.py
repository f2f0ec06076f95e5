"""Messages that came together: what travels from the engine to an application without a look at each.

Decides nothing: a batch is one frame's payload and what its messages have in common.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TypeAlias

from groupcomm.events import Event, Level, Message
from groupcomm.identity import GroupViewId, MemberId
from groupcomm.packing import cut_messages, read_runs


class MessageBatch:
    """Messages of one sender with one destination and level, next to each other in the order.

    Attributes:
        groups: the groups they were sent to and this member is in, in the sender's order; empty for private messages.
        sender: who sent them.
        level: the service level they were sent at.
        view: the group view of ``groups[0]`` they are delivered in; None for private messages.
        payload: all of them, packed by ``packing.pack_messages``.
    """

    __slots__ = ("_messages", "_runs", "_start", "groups", "level", "payload", "sender", "view")

    def __init__(
        self, groups: tuple[str, ...], sender: MemberId, level: Level, view: GroupViewId | None, payload: bytes
    ) -> None:
        """Read the sizes of the messages.

        Raises:
            MalformedPacket: ``payload`` is none.
        """
        self.groups = groups
        self.sender = sender
        self.level = level
        self.view = view
        self.payload = payload
        self._runs, self._start = read_runs(payload)
        self._messages: list[bytes] | None = None

    @property
    def messages(self) -> list[bytes]:
        """The bytes of each message, in order; shared by all who ask, so leave it as it is."""
        if self._messages is None:
            self._messages = cut_messages(self.payload, self._runs, self._start)
        return self._messages

    def __len__(self) -> int:
        return sum(count for count, _ in self._runs)

    def __iter__(self) -> Iterator[Message]:
        groups, sender, level, view = self.groups, self.sender, self.level, self.view
        return (Message(groups, sender, level, data, view) for data in self.messages)

    def __repr__(self) -> str:
        return f"<{len(self)} messages of {self.sender} to {', '.join(self.groups) or 'one'}, {self.level.name}>"


SessionEvent: TypeAlias = Event | MessageBatch
"""What the handler of a session gets: messages always as batches."""


def each_message(events: Iterable[SessionEvent]) -> Iterator[Event]:
    """The events with the messages of batches one by one."""
    for event in events:
        if isinstance(event, MessageBatch):
            yield from event
        else:
            yield event
