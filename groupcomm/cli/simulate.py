"""``groupcomm simulate``: makes a random run of a whole cluster on virtual time again, and shows it."""

from __future__ import annotations

import shutil
import sys
from typing import Final, TextIO

import click
from rich.table import Table
from rich.text import Text

from groupcomm.cli.running import DONE, FAILED, write_line
from groupcomm.cli.status import plain_table, show_tables
from groupcomm.outputs import Address
from groupcomm.testing.drawing import draw
from groupcomm.testing.packets import packet_label
from groupcomm.testing.parameters import NAMES, draw_parameters
from groupcomm.testing.pictures import WIDTH, picture
from groupcomm.testing.reporting import (
    commit_id,
    failure_lines,
    parameter_rows,
    replay_line,
    script_lines,
    shrunken_line,
)
from groupcomm.testing.scenario import Outcome, Run
from groupcomm.testing.script import Scenario, draw_scenario
from groupcomm.testing.shrinking import shrink
from groupcomm.testing.swarm import summary_line
from groupcomm.testing.trace import describe

PREMISE_COLUMNS: Final = 4


def simulate(
    seed: str,
    *,
    nodes: int | None = None,
    svg: TextIO | None = None,
    verbose: bool = False,
    small: bool = False,
    since: float | None = None,
    until: float | None = None,
) -> int:
    """Make the run of a seed, and show it.

    Args:
        seed: of the run.
        nodes: how many, instead of what the seed says: then it is another run than that of a campaign.
        svg: where to write a drawing.
        verbose: whether to print every event and packet, and a picture of a run in which all is well.
        small: whether to drop from a failing run what the failure does not need.
        since: the first second of the pictures, and of what ``verbose`` prints.
        until: the last one.

    Returns:
        The exit status: 0 if all properties held.
    """
    if nodes is not None and nodes > len(NAMES):
        raise click.BadParameter(f"there are names for {len(NAMES)} nodes", param_hint="'--nodes'")
    usual = draw_parameters(seed).nodes
    scenario = draw_scenario(seed, nodes)
    outcome = Run.of(scenario).execute()
    shrunken = shrink(outcome) if small and outcome.failure is not None else None
    shown = outcome if shrunken is None else shrunken.outcome
    write_line(f"seed {seed} at commit {commit_id()}")
    if nodes not in (None, usual):
        write_line(f"with {nodes} nodes instead of {usual}: not the run that a campaign makes of this seed")
    show_tables([parameters_table(shown.scenario)])
    write_line("")
    write_line("the script:" if shrunken is None else shrunken_line(outcome, shrunken))
    for line in script_lines(shown.scenario.steps, everything=verbose):
        write_line(line)
    write_line("")
    since_shown, until_shown = since or 0.0, float("inf") if until is None else until
    if verbose:
        show_events(shown.scenario, since_shown, until_shown)
    show_tables([premises_table(shown)])
    write_line("")
    width = shutil.get_terminal_size((WIDTH, 24)).columns if sys.stdout.isatty() else WIDTH
    if shown.failure is not None:
        for line in failure_lines(shown, width=width, since=since_shown, until=until_shown):
            write_line(line)
    elif verbose or since is not None or until is not None:
        write_line(picture(shown.trace, shown.report, width=width, since=since_shown, until=until_shown))
    if svg is not None:
        svg.write(draw(shown.trace, shown.report, title=summary_line(shown), since=since, until=until))
    write_line(summary_line(shown))
    write_line(f"again: {replay_line(seed, nodes=nodes, shrink=small)}")
    return DONE if shown.failure is None else FAILED


def parameters_table(scenario: Scenario) -> Table:
    """What kind of run it is."""
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    table.add_column(style="bold")
    table.add_column()
    for name, value in parameter_rows(scenario.parameters):
        table.add_row(name, Text(value))
    return table


def premises_table(outcome: Outcome) -> Table:
    """How often each property had something to check."""
    table = plain_table(*("property", "checked") * PREMISE_COLUMNS)
    for column in table.columns[1::2]:
        column.justify = "right"
    checked = sorted(outcome.report.premises.items())
    height = -(-len(checked) // PREMISE_COLUMNS)
    for number in range(height):
        cells = []
        for name, times in checked[number::height]:
            cells += [name, f"{times:,}"]
        table.add_row(*cells)
    return table


def show_events(scenario: Scenario, since: float, until: float) -> None:
    """Run it once more, and print every event of the clients and nodes, and what became of every packet."""
    packets: list[tuple[float, str]] = []

    def observe(fate: str, source: Address, receiver: Address, data: bytes) -> None:
        names = {node.address: name for name, node in run.cluster.nodes.items()}
        path = f"{names.get(source, source)} -> {names.get(receiver, receiver)}"
        line = f"{run.cluster.now:10.6f}   {path:12} {fate:9} {packet_label(data)} ({len(data)} bytes)"
        packets.append((run.cluster.now, line))

    run = Run.of(scenario, observer=observe)
    events = [(event.at, describe(event)) for event in run.execute().trace]
    for at, line in sorted(events + packets, key=lambda one: one[0]):
        if since <= at <= until:
            write_line(line)
    write_line(run.cluster.summary())
    write_line("")
