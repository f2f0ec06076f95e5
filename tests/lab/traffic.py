"""Rounds of messages at all levels among the members of a lab, and the wait until all have all of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from tests.lab.harness import Json, Member, wait_until

LEVELS: Final = ["UNRELIABLE", "RELIABLE", "FIFO", "CAUSAL", "AGREED", "SAFE"]


def wait_until_together(members: Sequence[Member], seconds: float = 30.0) -> None:
    """Wait until each of them sees the view of the group that they alone make."""
    titles = [member.title for member in members]
    for member in members:
        member.wait_for_view(titles, seconds)


def send_round(members: Sequence[Member], number: int, *, messages: int, most_bytes: int) -> None:
    """Tell each of them to send so many messages, of 50 to ``most_bytes`` bytes, at all levels."""
    for index, member in enumerate(members):
        member.tell(
            {
                "do": "send",
                "number": number,
                "seed": 1000 * number + index,
                "messages": messages,
                "sizes": [50, most_bytes],
                "levels": LEVELS,
            }
        )


def wait_until_sent(members: Sequence[Member], number: int, seconds: float) -> list[Json]:
    """Wait until each of them has sent its round of this number; what they say of it."""
    return [member.wait_for("sent", seconds, count=number) for member in members]


def wait_until_received(members: Sequence[Member], seconds: float) -> int:
    """Wait until each of them has every message that any has sent, but the UNRELIABLE ones; how many those are."""
    sent = sum(len(member.reliable("send")) for member in members)
    wait_until(
        lambda: all(len(member.reliable("m")) >= sent for member in members),
        seconds,
        f"every client to have all {sent} messages",
        every=0.1,
    )
    return sent
