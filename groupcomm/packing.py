"""Messages to frame payloads and back.

A client packs messages into one payload; the engine never looks inside. A payload begins with the lengths of its
messages, run-length encoded, and goes on with their bytes: messages of one size cost a few bytes altogether and are
packed and unpacked without a look at each.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import TypeAlias

from groupcomm.errors import MalformedPacket
from groupcomm.limits import MAX_FRAME_MESSAGES
from groupcomm.wire.codec import Reader, varint

Runs: TypeAlias = tuple[tuple[int, int], ...]
"""How many messages of which size, in their order."""

_ONE_RUN = varint(1)
_ONE_MESSAGE = _ONE_RUN + varint(1)


def pack_messages(messages: Sequence[bytes]) -> bytes:
    """One payload of several messages, at most ``MAX_FRAME_MESSAGES``."""
    if len(messages) == 1:
        return b"".join((_ONE_MESSAGE, varint(len(messages[0])), messages[0]))
    sizes = list(map(len, messages))
    if sizes and sizes.count(sizes[0]) == len(sizes):
        return b"".join((_ONE_RUN, varint(len(sizes)), varint(sizes[0]), *messages))
    runs = [(sum(1 for _ in same), size) for size, same in groupby(sizes)]
    head = b"".join(varint(count) + varint(size) for count, size in runs)
    return b"".join((varint(len(runs)), head, *messages))


def read_runs(payload: bytes) -> tuple[Runs, int]:
    """The sizes of the messages of a payload, and where the first message begins.

    Raises:
        MalformedPacket: the lengths do not add up, or there are more than ``MAX_FRAME_MESSAGES``.
    """
    if len(payload) > 4 and payload[0] == 1 and payload[1] < 0x80:
        # One run of small numbers, as nearly every payload begins that has somebody waiting for it.
        count, size, at = payload[1], payload[2], 3
        if size >= 0x80:
            size, at = size & 0x7F | payload[3] << 7, 4
        if at + count * size == len(payload) and (at == 3 or payload[3] < 0x80):
            return ((count, size),), at
    reader = Reader(payload)
    runs = []
    left, messages = len(payload), MAX_FRAME_MESSAGES
    for _ in range(reader.number(MAX_FRAME_MESSAGES)):
        count = reader.number(messages)
        size = reader.number(left)
        messages -= count
        left -= count * size
        runs.append((count, size))
    if left != reader.at:
        raise MalformedPacket(f"messages of {len(payload) - left} bytes in {len(payload) - reader.at}")
    return tuple(runs), reader.at


def cut_messages(payload: bytes, runs: Runs, start: int) -> list[bytes]:
    """The messages of a payload, by what ``read_runs`` says of it."""
    messages: list[bytes] = []
    for count, size in runs:
        end = start + count * size
        if count == 1:
            messages.append(payload[start:end])
        elif size:
            messages += [payload[at : at + size] for at in range(start, end, size)]
        else:
            messages += [b""] * count
        start = end
    return messages


def unpack_messages(payload: bytes) -> list[bytes]:
    """The messages of a payload; raises ``MalformedPacket`` as ``read_runs``."""
    return cut_messages(payload, *read_runs(payload))
