"""How many answers a node gives to those who are not in its view.

An answer may be larger than what asked for it, and the address it goes to may be a lie: so many a second are given, and
no flood of questions makes them more. Whoever gets none asks again.
"""

from __future__ import annotations

from groupcomm.limits import MAX_ANSWERS_PER_SECOND


class AnswerBudget:
    """A token bucket, full at first, of one second's answers."""

    __slots__ = ("_left", "_left_at")

    def __init__(self) -> None:
        self._left = float(MAX_ANSWERS_PER_SECOND)
        self._left_at = 0.0

    def take(self, now: float) -> bool:
        """Whether one more answer may be given now; if so, it counts."""
        earned = max(0.0, now - self._left_at) * MAX_ANSWERS_PER_SECOND
        self._left = min(MAX_ANSWERS_PER_SECOND, self._left + earned)
        self._left_at = now
        if self._left < 1.0:
            return False
        self._left -= 1.0
        return True
