"""Bugs in what is known of paths, and in how datagrams leave by them."""

from __future__ import annotations

from tests.mutations.mutation import Mutation

MUTATIONS = (
    Mutation(
        "no-pieces",
        "A datagram that is too large for a path leaves whole.",
        "paths/spread.py",
        (
            (
                "        if size <= passes or datagram.data[1] > LAST_OF_VIEW:\n",
                "        if size:\n",
            ),
        ),
        ("L1", "L3"),
    ),
)
