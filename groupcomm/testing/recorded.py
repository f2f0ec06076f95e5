"""One trace file of a real node, read back: the events of each run in it.

Decides which files are sound. A file may hold several runs, one after the other. The last line of a run may be
unfinished: the node was killed while it wrote, and nothing of what that line says has left the machine.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar

from attrs import define, field

from groupcomm.events import Departure, Level, Reason, View
from groupcomm.identity import GroupViewId, MemberId, NodeId, ViewId
from groupcomm.node.recorder import TRACE_FORMAT
from groupcomm.outputs import NodeDeparture, NodeViewInstalled
from groupcomm.testing import trace as traces
from groupcomm.testing.trace import TraceEvent

T = TypeVar("T")

_WRONG: Final = (KeyError, IndexError, TypeError, ValueError, AttributeError)
"""What reading a value of the wrong form raises."""


class LogError(Exception):
    """These logs cannot be judged; the text says which one and why."""


@define(eq=False)
class RunLog:
    """What one run of a node has recorded.

    Attributes:
        path: the file.
        node: whose run it is.
        cluster: the cluster's name.
        boot: equal for all logs whose times can be compared.
        events: in their order, the start first.
        ended: whether the log says how the run ended.
        limit_at: when its file had reached its limit; None if it has not: all that followed is unknown.
        open: the sessions that were open at the end, by number.
    """

    path: Path
    node: NodeId
    cluster: str
    boot: str
    events: list[TraceEvent]
    ended: bool = False
    limit_at: float | None = None
    open: dict[int, MemberId] = field(factory=dict)


def read_log(path: Path) -> list[RunLog]:
    """The runs in one file. A line that was not finished ends its run: the node was killed while it wrote.

    Raises:
        LogError: it cannot be read, or is damaged: in another way than that.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise LogError(f"cannot read {path}: {error.strerror}") from None
    lines = data.split(b"\n")
    lines.pop()  # what follows the last newline is nothing, or a line that was not finished
    runs: list[_RunReader] = []
    for index, line in enumerate(lines):
        try:
            value = json.loads(line)
            if value["e"] == "start":
                runs.append(_RunReader(path, value))
            elif not runs:
                raise ValueError("the first line does not tell of a start")
            else:
                runs[-1].read(value)
        except _WRONG as error:
            if runs and _begins_run(lines[index + 1 : index + 2]):
                continue
            raise LogError(f"{path}:{index + 1}: this is no line of a trace: {error}") from None
    return [run.log for run in runs]


def _begins_run(following: Sequence[bytes]) -> bool:
    return bool(following) and following[0].startswith(b'{"e":"start",')


class _RunReader:
    """Makes events of the lines of one run. Bad lines raise one of ``_WRONG``."""

    def __init__(self, path: Path, first: Any) -> None:
        if first["format"] != TRACE_FORMAT:
            raise ValueError(f"a trace of format {first['format']}, not {TRACE_FORMAT}")
        self._names: dict[tuple[Any, ...], Any] = {}
        self._sent: set[tuple[int, str]] = set()
        self._at = 0.0
        node = NodeId(*first["node"])
        self.log = RunLog(path, node, first["cluster"], first["boot"], [])
        self.log.events.append(traces.NodeStarted(self._time(first), node))

    def read(self, line: Any) -> None:
        """One line after the first."""
        if self.log.ended or self.log.limit_at is not None:
            raise ValueError("it follows the end")
        at = self._time(line)
        kind = line["e"]
        if kind == "limit":
            self.log.limit_at = at
        elif (of_node := _NODE_LINES.get(kind)) is not None:
            self.log.events.append(of_node(self, at, line))
        elif kind == "open":
            member = MemberId(line["client"], self.log.node, line["s"])
            if member.session in self.log.open:
                raise ValueError(f"session {member.session} is open already")
            self.log.open[member.session] = member
            self.log.events.append(traces.Opened(at, member))
        else:
            self.log.events.append(_SESSION_LINES[kind](self, at, self.log.open[line["s"]], line))

    def _time(self, line: Any) -> float:
        at = line["at"]
        if not isinstance(at, float | int) or at < self._at:
            raise ValueError("its time is before that of the line above")
        self._at = at
        return float(at)

    # What lines say of the node.

    def _leaving(self, at: float, line: Any) -> TraceEvent:
        return traces.NodeLeaving(at, self.log.node)

    def _end(self, at: float, line: Any) -> TraceEvent:
        self.log.ended = True
        return traces.NodeEnded(at, self.log.node, line["how"])

    def _node_view(self, at: float, line: Any) -> TraceEvent:
        departed = (NodeDeparture(self._node(gone[:2]), Reason[gone[2]]) for gone in line["departed"])
        view = NodeViewInstalled(
            self._view_id(line["v"]),
            tuple(map(self._node, line["members"])),
            tuple(map(self._node, line["transitional"])),
            tuple(departed),
            self._node(line["sequencer"]),
            primary=line["primary"],
            filtered=line["filtered"],
        )
        return traces.NodeViewSeen(at, self.log.node, view)

    def _node_signal(self, at: float, line: Any) -> TraceEvent:
        return traces.NodeSignalSeen(at, self.log.node)

    # What lines say of a session.

    def _close(self, at: float, member: MemberId, line: Any) -> TraceEvent:
        del self.log.open[member.session]
        return traces.Closed(at, member)

    def _join(self, at: float, member: MemberId, line: Any) -> TraceEvent:
        return traces.JoinAsked(at, member, line["g"])

    def _leave(self, at: float, member: MemberId, line: Any) -> TraceEvent:
        return traces.LeaveAsked(at, member, line["g"])

    def _send(self, at: float, member: MemberId, line: Any) -> TraceEvent:
        self._sent.add((member.session, line["m"]))
        return traces.Sent(
            at, member, line["m"], line["d"], Level[line["l"]], tuple(line["g"]), line["to"], line["discard"]
        )

    def _accepted(self, at: float, member: MemberId, line: Any) -> TraceEvent:
        if not all((member.session, label) in self._sent for label in line["m"]):
            raise ValueError("it reports on a message that the session did not send")
        return traces.Accepted(at, member, tuple(line["m"]), line["stable"], line["complete"])

    def _deliver(self, at: float, member: MemberId, line: Any) -> TraceEvent:
        view = None if line["v"] is None else self._group_view(line["v"])
        level, sender = Level[line["l"]], self._member(line["from"])
        return traces.Delivered(at, member, line["m"], line["d"], sender, level, tuple(line["g"]), view)

    def _view(self, at: float, member: MemberId, line: Any) -> TraceEvent:
        view = View(
            line["g"],
            self._group_view(line["v"]),
            tuple(map(self._member, line["members"])),
            tuple(map(self._member, line["joined"])),
            tuple(Departure(self._member(gone[:4]), Reason[gone[4]]) for gone in line["left"]),
            tuple(map(self._member, line["transitional"])),
            line["primary"],
        )
        return traces.ViewSeen(at, member, view)

    def _signal(self, at: float, member: MemberId, line: Any) -> TraceEvent:
        return traces.SignalSeen(at, member, line["g"])

    def _left(self, at: float, member: MemberId, line: Any) -> TraceEvent:
        return traces.LeftSeen(at, member, line["g"], Reason[line["reason"]])

    def _undeliverable(self, at: float, member: MemberId, line: Any) -> TraceEvent:
        return traces.UndeliverableSeen(at, member, line["to"])

    # Identities, one value for each.

    def _node(self, values: Sequence[Any]) -> NodeId:
        return self._once(values, lambda name, incarnation: NodeId(name, incarnation))

    def _view_id(self, values: Sequence[Any]) -> ViewId:
        return self._once(values, lambda epoch, *proposer: ViewId(epoch, self._node(proposer)))

    def _member(self, values: Sequence[Any]) -> MemberId:
        return self._once(values, lambda client, *rest: MemberId(client, self._node(rest[:2]), rest[2]))

    def _group_view(self, values: Sequence[Any]) -> GroupViewId:
        return self._once(values, lambda *rest: GroupViewId(self._view_id(rest[:3]), rest[3]))

    def _once(self, values: Sequence[Any], make: Callable[..., T]) -> T:
        key = (len(values), type(values[0]), *values)
        found: T | None = self._names.get(key)
        if found is None:
            found = self._names[key] = make(*values)
        return found


_NODE_LINES: Final[dict[str, Callable[[_RunReader, float, Any], TraceEvent]]] = {
    "leaving": _RunReader._leaving,
    "end": _RunReader._end,
    "node view": _RunReader._node_view,
    "node signal": _RunReader._node_signal,
}

_SESSION_LINES: Final[dict[str, Callable[[_RunReader, float, MemberId, Any], TraceEvent]]] = {
    "close": _RunReader._close,
    "join": _RunReader._join,
    "leave": _RunReader._leave,
    "send": _RunReader._send,
    "accepted": _RunReader._accepted,
    "deliver": _RunReader._deliver,
    "view": _RunReader._view,
    "signal": _RunReader._signal,
    "left": _RunReader._left,
    "undeliverable": _RunReader._undeliverable,
}
