"""``groupcomm status``: what the daemon says of itself, its view, its groups and its peers."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from rich.console import Console
from rich.table import Table
from rich.text import Text

from groupcomm.cli.running import CommandFailed, IReactor, write_line
from groupcomm.cli.session import Control, session

SHOWN_GROUPS: Final = 40
"""Groups in the table for people; ``--json`` has them all."""

SHOWN_HINTS: Final = 8
"""Addresses that a source of discovery has found, in the lines for people; ``--json`` has up to 64."""

WIDE_COLUMNS: Final = 160
"""How wide lines may get when the output is no terminal: nothing is cut there."""

Facts = Mapping[str, Any]
"""A daemon's status, as ``doc/howto/perspective-broker.md`` describes it."""


async def status(reactor: IReactor, control: Control, *, as_json: bool, settings: bool) -> None:
    """Print the status, or with ``settings`` the settings and where each came from."""
    async with session(reactor, control, None) as connection:
        facts = await connection.status()
        groups = [] if settings else await connection.groups()
    if settings:
        show(settings_as_object(facts)) if as_json else show_tables([settings_table(facts)])
    elif as_json:
        show({**{key: value for key, value in facts.items() if key != "config"}, **as_objects(facts), "groups": groups})
    else:
        show_tables(
            [node_table(facts), members_table(facts), paths_table(facts), groups_table(groups), counters_table(facts)]
        )


def show(value: object) -> None:
    """Print one JSON object."""
    write_line(json.dumps(value, ensure_ascii=False, default=str))


def show_tables(tables: Iterable[Table | None]) -> None:
    """Print tables as wide as the terminal; no narrower than they need where the output is none."""
    console = Console(highlight=False, width=None if sys.stdout.isatty() else WIDE_COLUMNS)
    with console.capture() as captured:
        for table in tables:
            if table is not None:
                console.print(table)
    for line in captured.get().splitlines():
        write_line(line.rstrip())


def as_objects(facts: Facts) -> dict[str, object]:
    """The members as objects rather than pairs."""
    return {"members": [{"node": name, "incarnation": incarnation} for name, incarnation in facts["members"]]}


def settings_as_object(facts: Facts) -> dict[str, object]:
    """Each setting with its value and its source."""
    return {name: {"value": value, "source": source} for name, value, source in facts["config"]}


def settings_table(facts: Facts) -> Table:
    """Each setting with its value and its source."""
    table = plain_table("setting", "value", "from")
    for name, value, source in facts["config"]:
        table.add_row(*map(Text, (name, value or "-", source)))
    if not facts["config"]:
        raise CommandFailed("the daemon does not tell its settings")
    return table


def node_table(facts: Facts) -> Table:
    """The node and its view."""
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    table.add_column(style="bold")
    table.add_column()
    rows = (
        ("node", f"{facts['node']} (incarnation {facts['incarnation']:x}, groupcomm {facts['version']})"),
        ("cluster", facts["cluster"]),
        ("state", f"{facts['state']}{'' if facts['primary'] else ', not primary'}"),
        *quorum_rows(facts),
        ("view", facts["view"] or "none yet"),
        ("nodes", ", ".join(name for name, _ in facts["members"]) or "-"),
        ("sequencer", facts["sequencer"] or "-"),
        ("seal", f"key epoch {facts['key_epoch']}" if facts["sealed"] else "INSECURE: no key, anybody is a node"),
        ("window", f"{size(facts['outstanding_bytes'])} of {size(facts['window_bytes'])} in use"),
        ("queues", f"{size(facts['queued_bytes'])} to send, {size(facts['client_queue_bytes'])} to clients"),
        ("clients", str(facts["clients"])),
        *slow_rows(facts),
        *discovery_rows(facts),
    )
    for name, value in rows:
        table.add_row(name, Text(value))
    return table


def quorum_rows(facts: Facts) -> list[tuple[str, str]]:
    """How the view stands with the quorum filter, if there is one."""
    quorum = facts["quorum"]
    if quorum["filter"] == "none" and facts["primary"]:
        return []
    words = [quorum["filter"], *([quorum["why"]] if quorum["why"] else [])]
    return [("quorum", f"{': '.join(words)}{' (this node is a witness)' if quorum['witness'] else ''}")]


_SLOW_WORDS: Final = {
    "waited for": "sending has waited for it",
    "catching up": "it is slow, and sending goes on without it: slow",
    "spent": "it should go, since the others can hold no more for it: slow",
}


def slow_rows(facts: Facts) -> list[tuple[str, str]]:
    """Who holds this node's sending up, who was evicted for that, and whether this node was."""
    rows = [
        (
            "slow",
            f"{one['node']} lacks {size(one['lag_bytes'])}; {_SLOW_WORDS[one['state']]} for {one['seconds']:.0f} s",
        )
        for one in facts["slow"]
    ]
    rows += [
        (
            "catching up",
            f"{one['node']} lacks {size(one['lag_bytes'])} of what {one['by']} has sent, for {one['seconds']:.0f} s",
        )
        for one in facts["catching_up"]
    ]
    for one in facts["kept_out"]:
        words = (
            f"{one['node']} for another {one['seconds']:.0f} s: evicted for being slow, lacked {size(one['lag_bytes'])}"
        )
        rows.append(("kept out", words + (f", {one['times']} times now" if one["times"] > 1 else "")))
    for one in facts["flapping"]:
        waits = f"is let in in {one['seconds']:.0f} s" if one["seconds"] else "may come in"
        rows.append(("flapping", f"{one['node']} has come and gone (penalty {one['penalty']:.1f}), {waits}"))
    if facts["evicted_by"]:
        rows.append(("evicted", f"this node, for being slow, by {', '.join(facts['evicted_by'])}"))
    return rows


def discovery_rows(facts: Facts) -> list[tuple[str, str]]:
    """What each source of discovery has found, and what is wrong with it."""
    rows = []
    for index, source in enumerate(facts["discovery"]):
        found = source["found"][:SHOWN_HINTS]
        more = source["known"] - len(found)
        words = f"{source['source']}: {source['looks_at']}"
        if source["known"]:
            words += f": {', '.join(found)}" + (f" and {more} more" if more else "")
        elif source["source"] != "multicast":
            words += ": nothing found"
        if source["trouble"]:
            words += f"; {'trouble' if source['troubled'] else 'earlier'}: {source['trouble']}"
        rows.append(("" if index else "discovery", words))
    return rows


def members_table(facts: Facts) -> Table | None:
    """The other nodes of the view: how far, how lossy, how much repaired."""
    if not facts["peers"]:
        return None
    table = plain_table("peer", "address", "round trip", "silent", "packets", "missed", "repaired", "unstable")
    for column in table.columns[2:]:
        column.justify = "right"
    for peer in sorted(facts["peers"], key=lambda peer: str(peer["node"])):
        got = peer["packets_received"]
        missed = peer["packets_missing"]
        share = f" ({100 * missed / got:.1f}%)" if missed and got else ""
        table.add_row(
            Text(peer["node"]),
            peer["address"] or "-",
            milliseconds(peer["round_trip_seconds"]) if peer["round_trip_seconds"] else "-",
            milliseconds(peer["silent_seconds"]),
            f"{got:,}",
            f"{missed:,}{share}",
            f"{peer['repairs_received']:,}",
            f"{peer['unstable_packets']:,}",
        )
    return table


def paths_table(facts: Facts) -> Table | None:
    """The paths to the other nodes, where there are several or one does not carry multicast both ways."""
    peers = [peer for peer in facts["peers"] if peer["paths"]]
    several = any(len(peer["paths"]) > 1 for peer in peers)
    odd = any(path["reach"] != "multicast" or not path["multicast_heard"] for peer in peers for path in peer["paths"])
    if not several and not odd:
        return None
    table = plain_table("path", "address", "reaches it by", "heard by", "round trip", "loss", "largest datagram")
    for column in table.columns[4:]:
        column.justify = "right"
    for peer in sorted(peers, key=lambda peer: str(peer["node"])):
        for link, path in enumerate(peer["paths"]):
            heard = "multicast" if path["multicast_heard"] else "unicast" if path["heard"] else "nothing"
            table.add_row(
                Text(f"{peer['node']}, link {link}" if several else peer["node"]),
                path["address"] or "-",
                path["reach"],
                heard,
                milliseconds(path["round_trip_seconds"]) if path["round_trip_seconds"] else "-",
                f"{100 * path['loss']:.0f}%" if several else "-",
                f"{path['mtu_bytes']:,}" + (" ?" if path["searching"] else ""),
            )
    return table


def groups_table(groups: Sequence[Facts]) -> Table | None:
    """The groups with their members."""
    if not groups:
        return None
    table = plain_table("group", "members", "")
    table.columns[1].justify = "right"
    for group in groups[:SHOWN_GROUPS]:
        members = [str(member) for member in group["members"]]
        names = ", ".join(members[:8]) + (f" and {len(members) - 8} more" if len(members) > 8 else "")
        table.add_row(Text(group["name"]), str(len(members)), Text(names))
    if len(groups) > SHOWN_GROUPS:
        table.add_row(Text(f"... and {len(groups) - SHOWN_GROUPS:,} more (--json lists all)"))
    return table


def counters_table(facts: Facts) -> Table | None:
    """What was counted, but for what never happened."""
    counted = [(name, count) for name, count in sorted(facts["counters"].items()) if count]
    if not counted:
        return None
    table = plain_table("counter", "", "counter", "")
    table.columns[1].justify = table.columns[3].justify = "right"
    half = (len(counted) + 1) // 2
    for index in range(half):
        left, right = counted[index], counted[index + half] if index + half < len(counted) else ("", None)
        table.add_row(left[0], f"{left[1]:,}", right[0], "" if right[1] is None else f"{right[1]:,}")
    return table


def plain_table(*columns: str) -> Table:
    """A table that reads well in a terminal and in a file."""
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold", title_justify="left")
    for name in columns:
        table.add_column(name, overflow="fold")
    return table


def size(count: int) -> str:
    """Bytes for people."""
    if count < 10_000:
        return f"{count} B"
    return f"{count / 1024:,.0f} KiB" if count < 10 * 1024 * 1024 else f"{count / 1024 / 1024:,.0f} MiB"


def milliseconds(seconds: float) -> str:
    """A time for people."""
    return f"{seconds * 1000:.1f} ms" if seconds < 0.1 else f"{seconds:.2f} s"
