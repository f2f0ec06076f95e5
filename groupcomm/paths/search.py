"""The search for the largest datagram that a path takes: RFC 8899, with the times of a LAN.

Decides which size is probed next and what follows from an answer, or from none. Sizes are those of UDP payloads, as
they leave: sealed.

    searching: the largest size not tried yet is probed; answered: complete. Not answered: the next smaller one.
    complete:  under traffic the size is probed again; not answered: a black hole, search below it from the start.
"""

from __future__ import annotations

from math import inf

from groupcomm.limits import LEAST_PATH_BYTES, MAX_DATAGRAM_BYTES

PROBES = 6
"""So many without an answer: a size does not pass."""

PROBE_SECONDS = 0.06
"""Between two probes of one size, and four round trips."""

CONFIRM_SECONDS = 1.0
"""How often the size in use is probed again under traffic."""

RAISE_SECONDS = 60.0
"""How often sizes that did not pass are tried again."""

_SIZES = (8972, 4052, 1472, 1422, 1372)
"""Payloads worth a try: of MTUs of 9,000, 4,080, 1,500, 1,450 and 1,400 bytes with the 28 of IPv4 and UDP."""


class MtuSearch:
    """What one path takes.

    Attributes:
        most_bytes: no datagram is larger; 0 if nothing is searched, and everything taken to pass.
        birth_bytes: what is taken to pass before the first answer, if so much leaves at all.
        passes_bytes: the largest datagram that passes, as far as is known.
    """

    __slots__ = (
        "_confirmed_at",
        "_known",
        "_lost",
        "_probed_at",
        "_raise_at",
        "_tried",
        "birth_bytes",
        "most_bytes",
        "passes_bytes",
    )

    def __init__(self, most_bytes: int = 0, birth_bytes: int = MAX_DATAGRAM_BYTES) -> None:
        self.most_bytes = most_bytes
        self.birth_bytes = birth_bytes
        self.passes_bytes = min(most_bytes or MAX_DATAGRAM_BYTES, birth_bytes)
        self._known = False
        self._tried = most_bytes
        self._lost = 0
        self._confirmed_at = self._probed_at = -inf
        self._raise_at = inf

    @property
    def searching(self) -> bool:
        """Whether it is not known yet what passes."""
        return bool(self._tried)

    @property
    def waits(self) -> bool:
        """Whether a probe of the size in use, or of the one that is tried, has no answer yet."""
        return self._lost > 0

    def wants(self, now: float, round_trip_seconds: float, *, traffic: bool) -> int:
        """The size to probe now, 0 if none is due. Whoever asks sends that probe."""
        if not self.most_bytes or now - self._probed_at < PROBE_SECONDS + 4 * round_trip_seconds:
            return 0
        if self._tried and self._lost >= PROBES:
            self._does_not_pass(now)
        elif not self._tried and now >= self._raise_at:
            self._try_below(self.most_bytes + 1)
            self._raise_at = inf
        elif not self._tried and traffic and now - self._confirmed_at >= CONFIRM_SECONDS:
            self._tried = self.passes_bytes if self.passes_bytes > LEAST_PATH_BYTES else 0
        if not self._tried:
            return 0
        self._lost += 1
        self._probed_at = now
        return self._tried

    def _does_not_pass(self, now: float) -> None:
        """No probe of the size tried was answered."""
        if self._tried <= self.passes_bytes:
            self.passes_bytes, self._known = LEAST_PATH_BYTES, True
        self._try_below(self._tried)
        self._confirmed_at, self._raise_at = now, now + RAISE_SECONDS

    def _try_below(self, size_bytes: int) -> None:
        """Try the largest size below that is not known to pass."""
        least = self.passes_bytes if self._known else LEAST_PATH_BYTES
        self._tried = next((size for size in (self.most_bytes, *_SIZES) if least < size < size_bytes), 0)
        self._lost = 0

    def answered(self, size_bytes: int, now: float) -> None:
        """A probe of this size has arrived."""
        if size_bytes == self._tried:
            self.passes_bytes, self._known = size_bytes, True
            self._tried = self._lost = 0
            self._confirmed_at = now
            if size_bytes < self.most_bytes:
                self._raise_at = min(self._raise_at, now + RAISE_SECONDS)
