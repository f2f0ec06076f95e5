"""The name a message goes by in traces: short, and without its contents.

A program that marks its messages, ``m17|...``, finds its own names in a trace; any other message is named after its
bytes. Decides nothing else.
"""

from __future__ import annotations

import hashlib
from typing import Final

LABEL_BYTES: Final = 48
"""The longest mark that becomes a label."""


def message_label(data: bytes) -> str:
    """The text before the first ``|`` if that is short and printable, else a digest of the bytes."""
    head, bar, _ = data[: LABEL_BYTES + 1].partition(b"|")
    if head and bar and head.isascii() and (text := head.decode("ascii")).isprintable():
        return text
    return hashlib.blake2b(data, digest_size=8).hexdigest()


def message_digest(data: bytes) -> str:
    """Equal for equal bytes only."""
    return hashlib.blake2b(data, digest_size=12).hexdigest()
