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
    Mutation(
        "oldest-primary-decides",
        "Dynamic-linear asks for a majority of the oldest primary view that somebody remembers.",
        "quorum/judging.py",
        (("last = max((memory.last for", "last = min((memory.last for"),),
        ("M5",),
    ),
)
