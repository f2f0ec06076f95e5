"""All mutations, and the properties that they are to break."""

from __future__ import annotations

from tests.mutations import in_engine, in_membership, in_ordering, in_quorum, in_reliability, in_sealing
from tests.mutations.mutation import Mutation

MUTATIONS: tuple[Mutation, ...] = (
    *in_ordering.MUTATIONS,
    *in_membership.MUTATIONS,
    *in_reliability.MUTATIONS,
    *in_engine.MUTATIONS,
    *in_sealing.MUTATIONS,
    *in_quorum.MUTATIONS,
)

HARMLESS = Mutation(
    "harmless",
    "None: a name is written in another way.",
    "packing.py",
    (
        (
            "    messages: list[bytes] = []\n    for count, size in runs:",
            "    messages: list[bytes] = list()\n    for count, size in runs:",
        ),
    ),
    (),
)
"""What must not be caught: the runner can say so."""

PROPERTIES = (
    "X1", "X3", "X4", "X5", "X6", "X9",
    "A2", "D1", "G1", "M3", "D2", "G4", "G2", "D3",
    "M1", "M2", "M4", "M5", "M6", "D6", "VIEW", "SIGNAL",
    "D4", "O1", "O2", "O3", "O4", "O8", "O7", "O5",
    "S4", "G5", "S1", "S3", "S2", "D8", "D5", "O6",
    "L1", "L3", "L4", "L2", "L8", "L6", "L7",
    "exception",
)  # fmt: skip
"""Each is to be the first to catch at least one. ``exception``: what a run itself runs into (also the
engine's own part of X1, X2, X8, X10)."""

HARNESS_ONLY = {
    "A1": "the harness takes nothing from a dead process, and a closed session has no listener any more",
    "A3": "nobody is told to stop sending: sends wait, so only a harness could send at the wrong time",
}
"""What no bug of the product can be the first to break, and why."""

NEVER_FIRST = {
    "O7": "the bug that broke it first, a stamp read backwards where its frames are missing, makes no difference in a "
    "few hundred runs any more: since the packets of a frame come together, frames are seldom later than their stamps",
    "S2": "needs a member that lives and never installs the view, and SAFE released without its word: no run has had "
    "that; a bug that releases SAFE without somebody's word shows as X4, S1 or L1 at a member that is merely slow",
}
"""What no mutation is the first to break in the runs there are, and why; that there is none here is not red."""


def mutation_named(name: str) -> Mutation:
    """The mutation of that name."""
    return next(mutation for mutation in (*MUTATIONS, HARMLESS) if mutation.name == name)
