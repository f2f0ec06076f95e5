"""``groupcomm why``: the last changes of the view, and for each what led to it, in plain words."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import Any, Final

from groupcomm.cli.running import CommandFailed, IReactor, write_line
from groupcomm.cli.session import Control, session
from groupcomm.cli.status import show

Facts = Mapping[str, Any]
"""One change, as ``doc/howto/perspective-broker.md`` describes it."""

WORDS: Final = {
    "host silent": "{by} had not heard it for {silent}; its host acknowledged nothing{probes}",
    "process silent": "{by} had not heard it for {silent}, though its host still acknowledged{probes}",
    "silent": "{by} had not heard it for {silent}{probes}",
    "unheard": "{by} had not heard it for {silent}, though others did",
    "refused": "its host refused two connections of {by}: its process was gone",
    "restarted": "{by} heard a later run of it",
    "went on": "{by} heard that it was in a later view",
    "gave up": "{by} heard that it had given this view up",
    "expelled": "it was expelled, as {by} knew",
    "too slow": "{by} found that it was too slow{slow}",
    "no word": "it said nothing to {by} in the change",
    "one way": "{by} did not hear it in the change",
    "no progress": "{by} waited for it in an attempt at the change that came no further",
    "leaves": "it said that it leaves",
    "came": "it asked to come in",
}
BACKWARDS: Final = {
    "unheard": "it had not heard {about} for {silent}, though others did",
    "one way": "it did not hear {about} in the change",
    "gave up": "it had heard that {about} had given the view up",
}
"""The same for who found it, where that one is out."""


async def why(
    reactor: IReactor, control: Control, view: str | None, *, node: str | None, count: int, as_json: bool
) -> None:
    """Print the last changes, those of one view or those that have to do with one node."""
    async with session(reactor, control, None) as connection:
        changes = await connection.changes()
    chosen = [
        change
        for change in changes
        if (view is None or change["view"].startswith(view)) and (node is None or concerns(change, node))
    ][-count:]
    if not chosen and (view is not None or node is not None):
        raise CommandFailed("none of the last changes is of that view and node")
    if as_json:
        show({"changes": chosen})
        return
    for change in chosen:
        for line in explained(change):
            write_line(line)


def concerns(change: Facts, node: str) -> bool:
    """Whether a node came or went with a change, or is in what led to it."""
    names = {*change["joined"], *(gone["node"] for gone in change["departed"])}
    return node in names or any(node in (record["about"], record["by"]) for record in change["records"])


def explained(change: Facts) -> Iterator[str]:
    """One change in words: the view, who came, who went and for what."""
    at = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(change["at"]))
    yield f"{at}  view {change['view']} ({', '.join(change['members'])})"
    if change["before"] is None:
        yield "    the first view of this node"
    for record in change["records"]:
        if record["finding"] == "began":
            ago = seconds(record["before_seconds"])
            yield f"    {record['about']} began the change, {ago} before the end of the old view"
    told: set[int] = set()
    gone = {one["node"]: one for one in change["departed"]}
    for name, departed in gone.items():
        last = f"; its packets up to {departed['last_packet']} were delivered" if departed["last_packet"] else ""
        yield f"    {name} is out: {departed['reason']}{last}"
        for number, record in enumerate(change["records"]):
            if (line := line_about(record, name)) is not None and number not in told:
                told.add(number)
                yield f"        {line}"
    joined = [name for name in change["joined"] if change["before"] is not None]
    if joined:
        yield f"    {', '.join(joined)} came in"
    for number, record in enumerate(change["records"]):
        if number not in told and record["finding"] not in ("began", "came") and record["finding"] in WORDS:
            yield f"    of {record['about']}: {sentence(WORDS, record)}"


def line_about(record: Facts, name: str) -> str | None:
    """What a record says of a node that is out; None if it says nothing of it."""
    finding = record["finding"]
    if record["about"] == name and finding in WORDS:
        return sentence(WORDS, record)
    if record["by"] == name and finding in BACKWARDS:
        return sentence(BACKWARDS, record)
    return None


def sentence(words: Mapping[str, str], record: Facts) -> str:
    """A record in words."""
    count = record["count"]
    return words[record["finding"]].format(
        by=record["by"],
        about=record["about"],
        silent=seconds(record["silent_seconds"]),
        slow=slowness(record),
        probes=f"; {count} probes were lost" if count else "",
    )


def slowness(record: Facts) -> str:
    """By how much a node was slow, where that is known."""
    held_up = f" for {seconds(record['silent_seconds'])}" if record["silent_seconds"] else ""
    return held_up + (f", and lacked {record['count']} bytes of what it had sent" if record["count"] else "")


def seconds(value: float) -> str:
    """A time for people."""
    return f"{value:.2f} s" if value >= 0.1 else f"{value * 1000:.0f} ms"
