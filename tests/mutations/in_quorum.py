"""Bugs in what makes a view primary."""

from __future__ import annotations

from tests.mutations.mutation import Mutation

MUTATIONS = (
    Mutation(
        "half-is-a-majority",
        "Half of the votes is enough, whoever has the tie-breaker.",
        "quorum/judging.py",
        (("    if twice > total:\n", "    if twice >= total:\n"),),
        ("M5",),
    ),
)
