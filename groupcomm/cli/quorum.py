"""``groupcomm quorum``: how the quorum of a running cluster stands, or would stand; status 1 if nothing is primary."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.text import Text

from groupcomm.cli.running import CommandFailed, IReactor, write_line
from groupcomm.cli.session import Control, session
from groupcomm.cli.status import plain_table, show, show_tables
from groupcomm.quorum import Filter, Quorum, parse_quorum_nodes
from groupcomm.quorum.whatif import Component, components


class NotPrimaryHere(CommandFailed):
    """Everything was said; the exit status tells the rest."""


def what_if(
    nodes: Sequence[str],
    *,
    chosen: str | None,
    tie_breaker: str | None,
    down: Sequence[str],
    split: Sequence[str],
    last: str | None,
    as_json: bool,
) -> int:
    """Print which components would be primary; the exit status: 0 if one is."""
    quorum = quorum_of(parse_quorum_nodes(nodes), chosen, tie_breaker)
    found = components(quorum, [_names(side) for side in split], _names(",".join(down)), _names(last) if last else None)
    if as_json:
        show({"filter": quorum.filter.value, "components": [as_object(one) for one in found]})
    else:
        show_components(quorum, found)
    return 0 if any(one.primary for one in found) else 1


def quorum_of(nodes: tuple[tuple[str, int], ...], chosen: str | None, tie_breaker: str | None) -> Quorum:
    """The settings; without a filter it is majority, or weighted if somebody has more than one vote."""
    if chosen is None:
        chosen = Filter.MAJORITY.value if all(votes == 1 for _, votes in nodes) else Filter.WEIGHTED.value
    return Quorum(Filter(chosen), nodes, tie_breaker)


def as_object(one: Component) -> dict[str, object]:
    """A component as plain values."""
    return {
        "nodes": list(one.nodes),
        "primary": one.primary,
        "why": one.why,
        "votes": one.votes,
        "total": one.total,
        "survives": one.survives,
        "survives_one_by_one": one.one_by_one,
    }


def show_components(quorum: Quorum, found: Sequence[Component]) -> None:
    """A table for people."""
    table = plain_table("component", "votes", "", "survives", "one by one")
    for column in table.columns[3:]:
        column.justify = "right"
    for one in found:
        table.add_row(
            Text(", ".join(one.nodes)),
            f"{one.votes} of {one.total}",
            f"{'PRIMARY' if one.primary else 'not primary'}: {one.why}",
            str(one.survives) if one.primary else "-",
            str(one.one_by_one) if one.primary else "-",
        )
    show_tables([table])
    if not any(one.primary for one in found):
        write_line(f"no component is primary ({quorum.filter.value})")


async def how_it_stands(reactor: IReactor, control: Control, *, as_json: bool) -> None:
    """Print how the daemon's view stands.

    Raises:
        NotPrimaryHere: it is not primary.
    """
    async with session(reactor, control, None) as connection:
        facts = await connection.status()
    if as_json:
        show(facts_as_object(facts))
    else:
        for line in lines_of(facts):
            write_line(line)
    if not facts["primary"]:
        raise NotPrimaryHere(f"the view of {facts['node']} is not primary")


def facts_as_object(facts: Mapping[str, Any]) -> dict[str, object]:
    """What a daemon's status says of quorum."""
    members = [name for name, _ in facts["members"]]
    return {
        "node": facts["node"],
        "view": facts["view"],
        "members": members,
        "primary": facts["primary"],
        **{key: value for key, value in facts["quorum"].items() if key != "nodes"},
        "nodes": [{"node": name, "votes": votes, "here": name in members} for name, votes in facts["quorum"]["nodes"]],
    }


def lines_of(facts: Mapping[str, Any]) -> list[str]:
    """The same for people."""
    quorum, members = facts["quorum"], [name for name, _ in facts["members"]]
    lines = [
        f"view {facts['view'] or 'none yet'}: {'PRIMARY' if facts['primary'] else 'NOT PRIMARY'}"
        f"{': ' + quorum['why'] if quorum['why'] else ''}",
        f"filter {quorum['filter']}{', tie-breaker ' + quorum['tie_breaker'] if quorum['tie_breaker'] else ''}",
    ]
    for name, votes in quorum["nodes"]:
        lines.append(f"  {name}: {votes} vote{'s' if votes > 1 else ''}, {'here' if name in members else 'missing'}")
    others = sorted(set(members) - {name for name, _ in quorum["nodes"]})
    if quorum["nodes"] and others:
        lines.append(f"  without a vote: {', '.join(others)}")
    if quorum["filter"] == Filter.DYNAMIC_LINEAR.value and not quorum["remembers"]:
        lines.append("this node has forgotten the last primary view: it counts again when it has been in one")
    return lines


def _names(text: str) -> list[str]:
    return [name for name, _ in parse_quorum_nodes([text])]
