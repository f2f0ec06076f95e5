"""How far a peer is: the smoothed round-trip time and how long to wait for an answer."""

from __future__ import annotations

from collections import deque

INITIAL_SECONDS = 0.005
LEAST_WAIT_SECONDS = 0.004
LEAST_REPAIR_SECONDS = 0.002
MOST_WAIT_SECONDS = 0.25
RECENT_SAMPLES = 4


class RoundTrip:
    """RFC 6298's estimator, with bounds that suit a LAN.

    Attributes:
        seconds: the smoothed round-trip time; 0.0 until measured.
    """

    __slots__ = ("_recent", "_variation", "seconds")

    def __init__(self) -> None:
        self.seconds = 0.0
        self._recent: deque[float] = deque(maxlen=RECENT_SAMPLES)
        self._variation = 0.0

    def sample(self, seconds: float) -> None:
        """Add one measurement: RFC 6298, 2.2 and 2.3, alpha 1/8 and beta 1/4; a shorter time is believed sooner.

        What makes a time longer than the network's is mostly a host that was busy, above all when it begins.
        """
        seconds = min(max(seconds, 0.0), MOST_WAIT_SECONDS)
        self._recent.append(seconds)
        if self.seconds == 0.0:
            self.seconds = max(seconds, 1e-6)
            self._variation = seconds / 2
            return
        self._variation += (abs(self.seconds - seconds) - self._variation) / 4
        self.seconds += (seconds - self.seconds) / (8 if seconds > self.seconds else 2)

    @property
    def standing_seconds(self) -> float:
        """The second shortest of the last four, or of what there is; 0.0 until measured.

        A standing queue makes nearly all of them long, a busy host some.
        """
        return sorted(self._recent)[: 1 + (len(self._recent) > 1)][-1] if self._recent else 0.0

    @property
    def or_initial(self) -> float:
        """The round-trip time, or a guess for a LAN before the first measurement."""
        return self.seconds or INITIAL_SECONDS

    @property
    def wait_seconds(self) -> float:
        """How long to wait for an answer before asking again: SRTT + 4 RTTVAR, 4 to 250 ms."""
        estimate = self.seconds + 4 * self._variation if self.seconds else 4 * INITIAL_SECONDS
        return min(max(estimate, LEAST_WAIT_SECONDS), MOST_WAIT_SECONDS)

    @property
    def repair_seconds(self) -> float:
        """How long to wait for a repair: SRTT + 2 RTTVAR, 2 to 250 ms; asking too early costs one small packet."""
        estimate = self.seconds + 2 * self._variation if self.seconds else 4 * INITIAL_SECONDS
        return min(max(estimate, LEAST_REPAIR_SECONDS), MOST_WAIT_SECONDS)
