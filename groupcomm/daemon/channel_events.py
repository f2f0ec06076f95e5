"""Events to the records of a data channel, and the heads of these records back.

Messages stay the batches they came as: the payload is passed on as it is. Heads repeat and are remembered; so are
views, which go to many clients.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Final

from groupcomm.batches import MessageBatch, SessionEvent
from groupcomm.daemon.channel_queue import Outgoing
from groupcomm.daemon.records import EVENT, HEADER, MESSAGES, Payload, record
from groupcomm.daemon.vocabulary import (
    UnknownForm,
    group_view_from_text,
    member_from_text,
    member_text,
    plain_event,
)
from groupcomm.events import Event, Level
from groupcomm.identity import GroupViewId, MemberId
from groupcomm.packing import pack_messages
from groupcomm.wire.codec import Reader

REMEMBERED_HEADS: Final = 1024
"""Heads remembered by one encoder or reader; when it is full it begins anew."""

REMEMBERED_EVENTS: Final = 64
"""The same for events: what a burst gives to many clients."""


class ChannelEncoder:
    """Makes the records of events; one for all channels of a daemon.

    Invariant: at most ``REMEMBERED_HEADS`` and ``REMEMBERED_EVENTS`` are remembered.
    """

    def __init__(self) -> None:
        self._heads: dict[tuple[MemberId, tuple[str, ...]], tuple[GroupViewId | None, bytes]] = {}
        self._events: dict[int, tuple[Event, bytes]] = {}

    def encode(self, events: Sequence[SessionEvent]) -> list[Outgoing]:
        """The record of each event, in their order."""
        records: list[Outgoing] = []
        for event in events:
            if isinstance(event, MessageBatch):
                head = self._head(event.sender, event.groups, event.view)
                payload = event.payload
                records.append((HEADER.pack(MESSAGES, event.level, len(head), len(payload), 0) + head, payload))
            else:
                records.append((self._event(event), b""))
        return records

    def _head(self, sender: MemberId, groups: tuple[str, ...], view: GroupViewId | None) -> bytes:
        known = self._heads.get((sender, groups))
        if known is not None and (known[0] is view or known[0] == view):
            return known[1]
        if len(self._heads) >= REMEMBERED_HEADS:
            self._heads.clear()
        text = "\n".join((member_text(sender), "" if view is None else str(view), *groups))
        head = text.encode("utf-8")
        self._heads[(sender, groups)] = (view, head)
        return head

    def _event(self, event: Event) -> bytes:
        """By its identity: the node gives one object to all whom it is for."""
        known = self._events.get(id(event))
        if known is not None:
            return known[1]
        if len(self._events) >= REMEMBERED_EVENTS:
            self._events.clear()
        encoded = event_record(plain_event(event))
        self._events[id(event)] = (event, encoded)
        return encoded


def event_record(plain: object) -> bytes:
    """The record of an event in its plain form."""
    return record(EVENT, payload=json.dumps(plain, ensure_ascii=False, separators=(",", ":")).encode("utf-8"))


def read_event(payload: Payload) -> tuple[object, ...]:
    """The plain form of an event.

    Raises:
        UnknownForm: it is none.
    """
    try:
        plain = json.loads(bytes(payload))
    except (ValueError, RecursionError) as error:
        raise UnknownForm(f"an event that cannot be read: {error!r:.120}") from None
    if not isinstance(plain, list):
        raise UnknownForm("an event is an array")
    return tuple(plain)


class BatchReader:
    """Batches of messages from their records.

    Invariant: at most ``REMEMBERED_HEADS`` heads are remembered.
    """

    def __init__(self) -> None:
        self._heads: dict[bytes, tuple[MemberId, GroupViewId | None, tuple[str, ...]]] = {}

    def read(self, flags: int, head: bytes, payload: Payload) -> MessageBatch:
        """The batch of a ``MESSAGES`` record.

        Raises:
            UnknownForm: the head is of another form; ``MalformedPacket``: the payload is.
        """
        known = self._heads.get(head)
        if known is None:
            known = self._read_head(head)
        if flags > max(Level):
            raise UnknownForm(f"there is no level {flags}")
        if isinstance(payload, bytes):
            return MessageBatch(known[2], known[0], _LEVELS[flags], known[1], payload)
        size, start = _only_message(payload)
        if start + size != len(payload):
            return MessageBatch(known[2], known[0], _LEVELS[flags], known[1], bytes(payload))
        return _LargeMessage(known[2], known[0], _LEVELS[flags], known[1], bytes(payload[start:]))

    def _read_head(self, head: bytes) -> tuple[MemberId, GroupViewId | None, tuple[str, ...]]:
        try:
            sender, view, *groups = head.decode("utf-8").split("\n")
        except ValueError:
            raise UnknownForm("messages with a head of another form") from None
        known = (member_from_text(sender), group_view_from_text(view) if view else None, tuple(groups))
        if len(self._heads) >= REMEMBERED_HEADS:
            self._heads.clear()
        self._heads[head] = known
        return known


class _LargeMessage(MessageBatch):
    """A batch of one message that was taken from where it was read, without the payload around it."""

    __slots__ = ()

    def __init__(
        self, groups: tuple[str, ...], sender: MemberId, level: Level, view: GroupViewId | None, message: bytes
    ) -> None:
        super().__init__(groups, sender, level, view, _HEAD_OF_ONE)
        self._messages = [message]

    @property
    def payload(self) -> bytes:
        """The message, packed."""
        assert self._messages is not None
        return pack_messages(self._messages)

    @payload.setter
    def payload(self, payload: bytes) -> None:
        """There is none."""


def _only_message(payload: memoryview) -> tuple[int, int]:
    """The size of the message and where it begins, if there is but one; sizes that fit nothing otherwise."""
    reader = Reader(bytes(payload[:_MAX_HEAD_BYTES]))
    if reader.number() != 1 or reader.number() != 1:
        return 0, 0
    return reader.number(), reader.at


_LEVELS: Final = tuple(Level)
_HEAD_OF_ONE: Final = pack_messages([b""])
_MAX_HEAD_BYTES: Final = 16
