"""Messages to frame payloads and back, and frames to packets.

A client packs messages into one payload; the engine never looks inside. A frame larger than a packet is cut into
packets of equal room; small frames share one.
"""

from __future__ import annotations

from collections.abc import Sequence

from groupcomm.wire.codec import Reader, varint


def pack_messages(messages: Sequence[bytes]) -> bytes:
    """One payload of several messages: each with its length before it."""
    parts: list[bytes] = []
    for message in messages:
        parts.append(varint(len(message)))
        parts.append(message)
    return b"".join(parts)


def unpack_messages(payload: bytes) -> list[bytes]:
    """The messages of a payload.

    Raises:
        MalformedPacket: the lengths do not add up.
    """
    reader = Reader(payload)
    messages = []
    while reader.at < len(payload):
        messages.append(reader.raw(reader.number(len(payload))))
    return messages


def cut_frame(frame: bytes, room_bytes: int) -> list[bytes]:
    """The parts of a frame, each at most ``room_bytes``."""
    return [frame[at : at + room_bytes] for at in range(0, len(frame), room_bytes)]
