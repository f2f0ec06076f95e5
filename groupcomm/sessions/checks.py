"""What may be sent: the same for an embedded session and for both ways of a client to its daemon.

Decides what is a destination, a message, and a list of messages for one call; not whether there is room for it now.
What only the node knows, the size of an unreliable message above all, it says itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from groupcomm.errors import MessageTooLarge, QueueFull, UsageError
from groupcomm.identity import checked_name
from groupcomm.limits import MAX_DESTINATION_GROUPS

WAITING_MESSAGE_BYTES: Final = 64
"""What a waiting message counts beside its data: a million empty ones are not free."""


def checked_groups(groups: Sequence[str]) -> tuple[str, ...]:
    """The groups of a message; a string is the name of one.

    Raises:
        UsageError: none, too many, or a name that cannot be one.
    """
    destination = (groups,) if isinstance(groups, str) else tuple(groups)
    if not 0 < len(destination) <= MAX_DESTINATION_GROUPS:
        raise UsageError(f"a message goes to 1 to {MAX_DESTINATION_GROUPS} groups, not {len(destination)}")
    for group in destination:
        checked_name(group, "a group name")
    return destination


def checked_message(data: bytes, max_bytes: int) -> bytes:
    """One message, as bytes that nobody changes.

    Args:
        data: any kind of bytes.
        max_bytes: the largest message.

    Raises:
        UsageError: no bytes, or too many (``MessageTooLarge``).
    """
    if type(data) is not bytes:
        data = _as_bytes(data)
    if len(data) > max_bytes:
        raise MessageTooLarge(f"a message may have {max_bytes} bytes, not {len(data)}")
    return data


def checked_batch(messages: Sequence[bytes], max_bytes: int, max_batch_bytes: int) -> tuple[list[bytes], int]:
    """The messages of one call, none if one of them is bad.

    Args:
        messages: any kind of bytes each.
        max_bytes: the largest message.
        max_batch_bytes: the most that several may count together; a single message may have its own size.

    Returns:
        The messages, and what they count while they wait.

    Raises:
        UsageError: one of them cannot be sent (``MessageTooLarge`` among the reasons).
        QueueFull: all together are more than ever may wait.
    """
    batch = messages if type(messages) is list else list(messages)
    if not batch:
        return batch, 0
    if set(map(type, batch)) != {bytes}:
        batch = [_as_bytes(data) for data in batch]
    sizes = list(map(len, batch))
    if max(sizes) > max_bytes:
        raise MessageTooLarge(f"a message may have {max_bytes} bytes, not {max(sizes)}")
    counted = sum(sizes) + len(sizes) * WAITING_MESSAGE_BYTES
    if counted > max_batch_bytes and len(batch) > 1:
        raise QueueFull(
            f"one call may have messages of {max_batch_bytes} bytes together, each counted with "
            f"{WAITING_MESSAGE_BYTES} more, not {len(batch)} messages of {counted}: make several calls"
        )
    return batch, counted


def _as_bytes(data: object) -> bytes:
    if not isinstance(data, bytes | bytearray | memoryview):
        raise UsageError(f"a message is bytes, not {type(data).__name__}")
    return bytes(data)
