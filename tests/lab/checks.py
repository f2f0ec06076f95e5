"""What a member hears is what its daemon has recorded of its session.

The oracle judges the traces of the daemons; this is the rest of the way, to the programs.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from groupcomm.identity import MemberId, NodeId
from groupcomm.testing import trace as traces
from groupcomm.testing.trace import Trace, TraceEvent

Json = dict[str, Any]
Step = tuple[object, ...]


def by_session(trace: Trace) -> dict[MemberId, list[TraceEvent]]:
    """The events of each session."""
    sessions: dict[MemberId, list[TraceEvent]] = defaultdict(list)
    for event in trace:
        process = getattr(event, "process", None)
        if process is not None:
            sessions[process].append(event)
    return sessions


def session_of(sessions: Iterable[MemberId], node: NodeId, client: str) -> MemberId | None:
    """The session that a client of that name had on a node; the last, if it had several."""
    own = [session for session in sessions if session.node == node and session.client == client]
    return max(own, default=None)


def difference(entries: Sequence[Json], events: Sequence[TraceEvent]) -> str | None:
    """Where a member's log departs from the trace of its session; None if it does not.

    A member whose session is over may lack the last events, and is told at once that it is out of its groups.
    """
    over = any(isinstance(event, traces.Closed) for event in events)
    recorded, heard = list(_recorded(events)), list(_heard(entries))
    while over and heard and heard[-1][0] == "left" and heard != recorded[: len(heard)]:
        heard.pop()
    if departure := _departure(heard, recorded, "heard", "its daemon recorded", shorter_is_fine=over):
        return departure
    given = [
        (f"{entry['by']} {entry['n']}", entry["l"], tuple(entry["g"])) for entry in entries if entry["e"] == "send"
    ]
    taken = [(event.message, event.level.name, event.groups) for event in events if isinstance(event, traces.Sent)]
    if not given:  # a member that keeps no list of what it sends
        return None
    return _departure(taken, given, "had its daemon take", "it sent", shorter_is_fine=over)


def _departure(
    one: Sequence[Step], other: Sequence[Step], did: str, where: str, *, shorter_is_fine: bool
) -> str | None:
    for place, (left, right) in enumerate(zip(one, other, strict=False)):
        if left != right:
            return f"it {did} {left} as number {place}, where {where} {right}"
    if len(one) > len(other) or (len(one) < len(other) and not shorter_is_fine):
        return f"it {did} {len(one)} things, {where} {len(other)}"
    return None


def _heard(entries: Iterable[Json]) -> Iterator[Step]:
    for entry in entries:
        kind = entry["e"]
        if kind == "m":
            yield "message", _label(entry["id"]), entry["from"], entry["l"], tuple(entry["g"]), entry["v"]
        elif kind == "view":
            yield "view", entry["group"], entry["id"], tuple(entry["members"]), tuple(entry["transitional"])
        elif kind == "signal":
            yield "signal", entry["group"]
        elif kind == "left":
            yield "left", entry["group"], entry["reason"]


def _label(identified: Sequence[object] | None) -> str:
    return "a damaged message" if identified is None else f"{identified[0]} {identified[1]}"


def _recorded(events: Iterable[TraceEvent]) -> Iterator[Step]:
    for event in events:
        if isinstance(event, traces.Delivered):
            yield "message", event.message, str(event.sender), event.level.name, event.groups, str(event.view)
        elif isinstance(event, traces.ViewSeen):
            view = event.view
            members, together = tuple(map(str, view.members)), tuple(map(str, view.transitional))
            yield "view", view.group, str(view.id), members, together
        elif isinstance(event, traces.SignalSeen):
            yield "signal", event.group
        elif isinstance(event, traces.LeftSeen):
            yield "left", event.group, event.reason.label
