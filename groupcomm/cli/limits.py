"""``groupcomm limits``: every cap of a daemon, what it lets be held, and what all of it comes to at the worst."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from attrs import evolve
from rich.table import Table
from rich.text import Text

from groupcomm.cli.running import CommandFailed, IReactor
from groupcomm.cli.session import Control, session
from groupcomm.cli.status import plain_table, settings_as_object, show, show_tables, size
from groupcomm.daemon.worst_case import NOT_HELD, Cap, Holding, Sizing, all_caps, holdings, total_bytes


def limits(sizing: Sizing, *, as_json: bool) -> None:
    """Print the caps, and the worst-case memory of a daemon of that size."""
    if as_json:
        show(as_object(sizing))
    else:
        show_tables([sizing_table(sizing), holdings_table(sizing), *other_tables()])


async def limits_of_daemon(reactor: IReactor, control: Control, sizing: Sizing, *, as_json: bool) -> None:
    """The same, with the budget and the number of clients that the daemon is set to."""
    async with session(reactor, control, None) as connection:
        facts = await connection.status()
    limits(as_set(sizing, facts), as_json=as_json)


def as_set(sizing: Sizing, facts: Mapping[str, object]) -> Sizing:
    """The size with what a daemon's settings say of it."""
    settings = settings_as_object(facts)
    numbers: list[int] = []
    for name in ("budget", "max-clients"):
        match settings.get(name):
            case {"value": str(text)} if text.isdecimal():
                numbers.append(int(text))
            case _:
                raise CommandFailed(f"the daemon does not tell its {name}: give the numbers as options")
    return evolve(sizing, budget_bytes=numbers[0], clients=numbers[1])


def as_object(sizing: Sizing) -> dict[str, object]:
    """All of it as plain values."""
    caps = all_caps()
    return {
        "nodes": sizing.nodes,
        "clients": sizing.clients,
        "budget_bytes": sizing.budget_bytes,
        "total_bytes": total_bytes(sizing),
        "held": [
            {
                "what": holding.what,
                "caps": {name: caps[name].value for name in holding.names},
                "per": holding.per,
                "each_bytes": holding.each_bytes,
                "count": holding.count,
                "bytes": holding.bytes,
                "when_full": holding.when_full,
            }
            for holding in holdings(sizing)
        ],
        "others": [
            {"name": name, "value": caps[name].value, "why": why, "text": caps[name].text}
            for why, names in NOT_HELD.items()
            for name in names
        ],
    }


def sizing_table(sizing: Sizing) -> Table:
    """What the figures are for, and what they come to."""
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    table.add_column(style="bold")
    table.add_column()
    table.add_row("for", f"{sizing.nodes} nodes, {sizing.clients} clients, a budget of {size(sizing.budget_bytes)}")
    table.add_row("at the worst", f"{size(total_bytes(sizing))} of memory")
    return table


def holdings_table(sizing: Sizing) -> Table:
    """What is held: the caps, and the bytes."""
    table = plain_table("held at the worst", "each", "times", "together", "when full", "limits")
    for column in table.columns[1:4]:
        column.justify = "right"
    caps = all_caps()
    for holding in holdings(sizing):
        times = f"{holding.count:,} x {holding.per}" if holding.per != "node" else f"{holding.count:,}"
        table.add_row(
            Text(holding.what),
            size(holding.each_bytes),
            times,
            size(holding.bytes),
            Text(holding.when_full),
            Text(named(holding, caps)),
        )
    return table


def named(holding: Holding, caps: Mapping[str, Cap]) -> str:
    """The caps that bound something, with their values."""
    return ", ".join(f"{name} {number(caps[name])}" for name in holding.names)


def number(cap: Cap) -> str:
    """The value of a cap, in its unit."""
    if cap.name.endswith("_BYTES"):
        return size(int(cap.value))
    if cap.name.endswith("_SECONDS"):
        return f"{cap.value:g} s"
    return f"{cap.value:,}"


def other_tables() -> Sequence[Table]:
    """The caps of which nothing more is held when they are larger."""
    caps = all_caps()
    tables = []
    for why, names in NOT_HELD.items():
        table = plain_table(why, "", "")
        table.columns[1].justify = "right"
        for name in names:
            table.add_row(name, number(caps[name]), Text(caps[name].text))
        tables.append(table)
    return tables
