"""Time as it is drawn: evenly while things happen, cut short where nothing does.

Decides how much of the width a stretch without events may take.
"""

from __future__ import annotations

import bisect
from collections.abc import Iterable
from itertools import pairwise

from attrs import frozen

LONGEST_GAP = 0.03
"""The share of the whole time that a stretch without events is drawn as at most ..."""

LEAST_GAP_SECONDS = 0.002
"""... but what is no longer than this is not cut."""


@frozen
class Scale:
    """Seconds to pixels: as time runs, but for gaps, which are cut short.

    Attributes:
        times: where the scale bends, rising.
        places: the pixels there.
        cuts: the middles of the shortened gaps.
    """

    times: tuple[float, ...]
    places: tuple[float, ...]
    cuts: tuple[float, ...]

    @classmethod
    def of(cls, times: Iterable[float], since: float, until: float, left: float, right: float) -> Scale:
        """A scale from ``since`` at ``left`` to ``until`` at ``right``; things happen at ``times``."""
        known = sorted({since, *(at for at in times if since < at < until), until})
        longest = max((until - since) * LONGEST_GAP, LEAST_GAP_SECONDS)
        lengths = [min(later - at, longest) for at, later in pairwise(known)]
        unit = (right - left) / sum(lengths)
        places = [left]
        for length in lengths:
            places.append(places[-1] + length * unit)
        cuts = [
            (places[number] + places[number + 1]) / 2
            for number, length in enumerate(lengths)
            if known[number + 1] - known[number] > 1.5 * length
        ]
        return cls(tuple(known), tuple(places), tuple(cuts))

    def x(self, at: float) -> float:
        """The place of a time; what lies outside is brought to the border."""
        at = max(self.times[0], min(self.times[-1], at))
        after = max(1, bisect.bisect_left(self.times, at))
        before, share = after - 1, self.times[after] - self.times[after - 1]
        return self.places[before] + (self.places[after] - self.places[before]) * (at - self.times[before]) / share

    def at(self, x: float) -> float:
        """The time at a place."""
        after = min(max(1, bisect.bisect_left(self.places, x)), len(self.places) - 1)
        before = after - 1
        share = (x - self.places[before]) / (self.places[after] - self.places[before])
        return self.times[before] + share * (self.times[after] - self.times[before])
