"""What is done when in one random run, drawn from its seed.

The script is drawn before the run and knows nothing of it, so a step can be dropped without changing the others: that
is how a failing run is made small.
"""

from __future__ import annotations

from attrs import frozen

from groupcomm.testing.faults import (
    draw_ambushes,
    draw_faults,
    draw_merges,
    draw_narrows,
    draw_path_faults,
    draw_rotations,
)
from groupcomm.testing.parameters import NAMES, Parameters, draw_parameters
from groupcomm.testing.steps import Step
from groupcomm.testing.traffic import (
    draw_dominants,
    draw_giants,
    draw_memberships,
    draw_sends,
    draw_starts,
    draw_storms,
)

DRAWS = (
    draw_starts, draw_sends, draw_memberships, draw_storms, draw_giants, draw_dominants, draw_faults, draw_ambushes,
    draw_merges, draw_narrows, draw_rotations, draw_path_faults,
)  # fmt: skip
"""Each has a stream of its own, so that one more draw in one shifts nothing in the others."""


@frozen
class Scenario:
    """A whole run before it is run."""

    seed: str
    parameters: Parameters
    steps: tuple[Step, ...]


def draw_scenario(seed: str, nodes: int | None = None) -> Scenario:
    """The whole run that belongs to a seed; with ``nodes`` the same kind of run with so many nodes."""
    parameters = draw_parameters(seed, nodes)
    names = NAMES[: parameters.nodes]
    steps = [step for draw in DRAWS for step in draw(seed, parameters, names)]
    return Scenario(seed, parameters, tuple(sorted(steps, key=lambda step: step.at)))
