"""When to ask for a missing packet if others may miss it too."""

from __future__ import annotations

from math import exp, log
from random import Random

FEEDBACK_FACTOR = 4
"""K of RFC 5401: how many round trips the draw spreads over, for multicast feedback."""


def backoff_seconds(random: Random, round_trip_seconds: float, group_size: int) -> float:
    """The random delay before a NACK that others may make unnecessary.

    RFC 5401, section 3.2: a truncated exponential over ``T = K * RTT`` with ``L = ln(group_size) + 1``, so that few
    of many receivers draw a short time.
    """
    most = FEEDBACK_FACTOR * round_trip_seconds
    spread = log(group_size) + 1
    draw = random.random() * spread / most + spread / (most * (exp(spread) - 1))
    return most / spread * log(draw * (exp(spread) - 1) * most / spread)
