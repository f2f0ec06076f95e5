"""Events to the bytes a client's batch is made of, once for all clients of this daemon.

Messages that arrive together and differ in their data alone become one plain event; messages that are too large for one
Perspective Broker string are cut into parts. What was encoded last is remembered, so that what goes to two hundred
clients is encoded once and its bytes are shared by their queues.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from typing import Final, TypeAlias

from attrs import frozen

from groupcomm.daemon.caps import BATCH_BYTES, BATCH_EVENTS, MAX_INLINE_BYTES
from groupcomm.daemon.encoding import encode_value
from groupcomm.daemon.vocabulary import plain_event, plain_messages
from groupcomm.events import Event, Level, Message
from groupcomm.identity import GroupViewId, MemberId

REMEMBERED_RUNS: Final = 256
"""Encoded events and runs of messages kept for other clients: what a burst delivers. When full the oldest goes."""

REMEMBERED_BYTES: Final = 1024 * 1024
"""What they may have together beside the newest."""

_Key: TypeAlias = tuple[int, int, tuple[str, ...], MemberId, Level, GroupViewId | None] | int


@frozen(eq=False)
class Encoded:
    """One plain event or several that belong together.

    Attributes:
        pieces: encoded plain events: parts of a message first, then the event.
        events: how many events of the application that is.
        data: the messages' data, or the event; keeps the objects alive whose identities the encoder remembers.
    """

    pieces: tuple[bytes, ...]
    events: int = 1
    data: tuple[object, ...] = ()

    @property
    def size(self) -> int:
        """Bytes of all pieces."""
        return sum(map(len, self.pieces))


class EventEncoder:
    """Encodes events, and the same messages for several clients once.

    Invariant: at most ``REMEMBERED_RUNS`` are remembered, and at most ``REMEMBERED_BYTES`` without the newest.
    """

    def __init__(self) -> None:
        self._remembered: OrderedDict[_Key, Encoded] = OrderedDict()
        self._bytes = 0

    def encode(self, events: Sequence[Event]) -> Iterator[Encoded]:
        """What to push into a client's queue for these events, in their order."""
        index = 0
        while index < len(events):
            first = events[index]
            if isinstance(first, Message):
                data = _run(first, events, index)
                yield self._messages(first, data)
                index += len(data)
            else:
                yield self._event(first)
                index += 1

    def _event(self, event: Event) -> Encoded:
        """A view or the like, by its identity: the node gives one object to all whom it is for."""
        remembered = self._remembered.get(id(event))
        if remembered is not None:
            return remembered
        return self._remember(id(event), Encoded((encode_value(plain_event(event)),), 1, (event,)))

    def _messages(self, first: Message, data: tuple[bytes, ...]) -> Encoded:
        """A run of messages, by the identity of the data: to compare 16 MiB is no way to save encoding them."""
        key = (id(data[0]), len(data), first.groups, first.sender, first.level, first.view)
        remembered = self._remembered.get(key)
        if remembered is not None and all(mine is other for mine, other in zip(remembered.data, data, strict=True)):
            return remembered
        return self._remember(key, Encoded(_pieces(first, data), len(data), data))

    def _remember(self, key: _Key, encoded: Encoded) -> Encoded:
        forgotten = self._remembered.pop(key, None)
        self._bytes += encoded.size - (forgotten.size if forgotten is not None else 0)
        self._remembered[key] = encoded
        while len(self._remembered) > 1 and (len(self._remembered) > REMEMBERED_RUNS or self._bytes > REMEMBERED_BYTES):
            self._bytes -= self._remembered.popitem(last=False)[1].size
        return encoded


def _run(first: Message, events: Sequence[Event], start: int) -> tuple[bytes, ...]:
    """The data of the messages from ``start`` on that differ in nothing else, as many as one plain event holds."""
    data = [first.data]
    size = len(first.data)
    for index in range(start + 1, len(events)):
        event = events[index]
        if (
            not isinstance(event, Message)
            or size + len(event.data) > BATCH_BYTES
            or len(data) >= BATCH_EVENTS
            or event.level is not first.level
            or not _same(event.sender, first.sender)
            or not _same(event.groups, first.groups)
            or not _same(event.view, first.view)
        ):
            break
        data.append(event.data)
        size += len(event.data)
    return tuple(data)


def _same(one: object, other: object) -> bool:
    """Equal; mostly they are one object, which is quickly seen."""
    return one is other or one == other


def _pieces(first: Message, data: tuple[bytes, ...]) -> tuple[bytes, ...]:
    parts: list[bytes] = []
    if len(data[0]) > MAX_INLINE_BYTES:
        whole = memoryview(data[0])
        starts = range(0, len(whole), MAX_INLINE_BYTES)
        parts = [encode_value(("part", bytes(whole[start : start + MAX_INLINE_BYTES]))) for start in starts[:-1]]
        data = (bytes(whole[starts[-1] :]),)
    return (*parts, encode_value(plain_messages(first.groups, first.sender, first.level, data, first.view)))
