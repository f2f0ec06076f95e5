"""Which counters of a sender have been seen: the replay window (RFC 4303, 3.4.3, with a wider map)."""

from __future__ import annotations

from groupcomm.limits import REPLAY_WINDOW

_MASK = (1 << REPLAY_WINDOW) - 1


class ReplayWindow:
    """Takes each counter once. What is older than the window counts as seen.

    Args:
        floor: everything up to here counts as seen.

    Invariant: ``bits`` has ``REPLAY_WINDOW`` bits at most; bit i is set if ``highest`` - i was seen.
    """

    __slots__ = ("bits", "highest")

    def __init__(self, floor: int) -> None:
        self.highest = floor
        self.bits = _MASK

    def is_new(self, counter: int) -> bool:
        """Whether it may be taken. Asked before a packet is opened; nothing changes before it was."""
        age = self.highest - counter
        return age < 0 or (age < REPLAY_WINDOW and not self.bits >> age & 1)

    def take(self, counter: int) -> None:
        """It was seen, in a packet that is authentic."""
        age = self.highest - counter
        if age < 0:
            self.bits = (self.bits << -age | 1) & _MASK if -age < REPLAY_WINDOW else 1
            self.highest = counter
        elif age < REPLAY_WINDOW:
            self.bits |= 1 << age

    def take_run(self, first: int, count: int) -> None:
        """Several in a row were seen, all of them above ``highest``."""
        last = first + count - 1
        ahead = last - self.highest
        kept = self.bits << ahead if ahead < REPLAY_WINDOW else 0
        self.bits = (kept | (1 << count) - 1) & _MASK
        self.highest = last
