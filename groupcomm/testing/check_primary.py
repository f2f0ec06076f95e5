"""Property M5: primary views form one chain, each connected to the one before; and everybody is told alike.

Reads a ``History``. What connects two primary views is a name: a member of both, which was READY for the one, since it
was installed, before it answered the other. Nothing is said where no quorum filter decides.
"""

from __future__ import annotations

from itertools import pairwise

from groupcomm.testing.history import History
from groupcomm.testing.records import NodeStep, ViewKey


def check_primary(history: History) -> None:
    """Check every view that a quorum filter decided on."""
    primaries: dict[ViewKey, NodeStep] = {}
    for key, together in history.steps_in.items():
        _check_told_alike(history, together)
        first = together[0]
        if first.view.filtered and first.view.primary:
            primaries[key] = first
    chain = [primaries[key] for key in sorted(primaries)]
    for before, after in pairwise(chain):
        history.report.premise("M5")
        one, two = _names(before), _names(after)
        if not one & two:
            history.report.violate(
                "M5",
                max(before.index, after.index),
                f"{before.key} of {' '.join(sorted(one))} and {after.key} of {' '.join(sorted(two))} are both primary, "
                "and nobody is in both",
            )
    _check_group_views(history)


def _names(step: NodeStep) -> set[str]:
    return {node.name for node in step.view.members}


def _check_told_alike(history: History, together: list[NodeStep]) -> None:
    first = together[0].view
    for step in together[1:]:
        if step.view.primary != first.primary:
            history.report.violate(
                "M5", step.index, f"{step.key} is primary at one of its nodes and not at {step.node}"
            )


def _check_group_views(history: History) -> None:
    for process in history.processes.values():
        for episodes in process.episodes.values():
            for step in (step for episode in episodes for step in episode.steps):
                node_step = None if step.node_view is None else process.node.by_view.get(step.node_view)
                if node_step is None or not node_step.view.filtered:
                    continue
                history.report.premise("M5 group")
                if step.view.primary != node_step.view.primary:
                    history.report.violate(
                        "M5",
                        step.index,
                        f"{process.member}: view {step.view.id} of {step.view.group} and its node view do not agree on "
                        "whether they are primary",
                    )
