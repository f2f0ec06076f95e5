"""How often a second something may be done for others, who might ask for more.

What cannot be refused to an honest one is given so many times a second, and no flood of requests makes it more.
"""

from __future__ import annotations


class Allowance:
    """A token bucket, full at first, of one second's worth.

    Args:
        per_second: how often.
    """

    __slots__ = ("_left", "_left_at", "_per_second")

    def __init__(self, per_second: int) -> None:
        self._per_second = per_second
        self._left = float(per_second)
        self._left_at = 0.0

    def take(self, now: float) -> bool:
        """Whether it may be done once more now; if so, it counts."""
        earned = (now - self._left_at) * self._per_second
        self._left = min(self._per_second, self._left + earned)
        self._left_at = now
        if self._left < 1.0:
            return False
        self._left -= 1.0
        return True
