"""A trace of one run of a node, as a file: what happened at the border of the node and at that of its clients.

Decides what is written, when it is on the file, and when to stop. One JSON object a line; ``at`` is the monotonic
clock, which all processes of one machine share. What a datagram tells others is on the file before the datagram leaves,
and what it brought is written after it came. So the files of several nodes of one machine, merged by time, are in an
order in which every cause stands before its effects, and a node that is killed leaves all that others can know of it.

Messages are written as label and digest, never with their contents. The file is bounded; at the limit, or when it
cannot be written, the recorder says so and stops, and the node goes on. ``groupcomm.testing.logs`` reads such files.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from io import FileIO
from pathlib import Path
from typing import Any, Final

from attrs import define, field
from twisted.logger import Logger

from groupcomm._version import __version__
from groupcomm.errors import EnvironmentFault, MalformedPacket
from groupcomm.events import Level, View
from groupcomm.identity import GroupViewId, MemberId, NodeId, ViewId
from groupcomm.labels import message_digest, message_label
from groupcomm.outputs import (
    FrameDelivered,
    GroupLeft,
    GroupSignalDelivered,
    GroupViewDelivered,
    NodeSignal,
    NodeViewInstalled,
    Output,
    PrivateUndeliverable,
    SendAccepted,
    Stopped,
)
from groupcomm.packing import unpack_messages

TRACE_FORMAT: Final = 1
"""The number in the first line; a reader refuses others."""

LAST_LINE_BYTES: Final = 128
"""Kept free for the line that says that the limit is reached."""

_dumps: Final = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False).encode
_NOTHING: Final[Mapping[str, Any]] = {}
_BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")


@define(eq=False)
class _OpenSession:
    """One session and its sends that the node has not reported on."""

    member: MemberId
    tickets: dict[int, tuple[list[str], bool]] = field(factory=dict)


class TraceRecorder:
    """Writes the trace of one run of a node.

    Invariants: lines are complete and in the order of their times; the file never grows beyond the limit; nothing is
    written of a session before ``opened`` and after ``closed``, or after ``ended``.
    """

    _log = Logger()

    def __init__(
        self,
        path: Path,
        limit_bytes: int,
        node: NodeId,
        cluster: str,
        clock: Callable[[], float],
        wall_clock: Callable[[], float],
    ) -> None:
        """Open the file; a run is added to what earlier ones have left there.

        Args:
            path: the file; made, for its owner only, if it is not there.
            limit_bytes: how large it may grow.
            node: whose run it is.
            cluster: the cluster's name.
            clock: monotonic seconds.
            wall_clock: seconds since 1970.

        Raises:
            EnvironmentFault: it cannot be written, or another daemon writes it.
        """
        self._path = path
        self._limit_bytes = limit_bytes
        self._node = node
        self._cluster = cluster
        self._clock = clock
        self._wall_clock = wall_clock
        self._lines: list[str] = []
        self._sessions: dict[int, _OpenSession] = {}
        self._file: FileIO | None = _open_log(path)
        self._size_bytes = self._file.tell()

    @property
    def recording(self) -> bool:
        """Whether it still writes."""
        return self._file is not None

    # The node.

    def started(self) -> None:
        """The node begins to run: the first line."""
        self._log.info("recording a trace in {path}", path=str(self._path))
        values = {
            "format": TRACE_FORMAT,
            "node": _node(self._node),
            "cluster": self._cluster,
            "wall": self._wall_clock(),
            "boot": boot_id(),
            "version": __version__,
        }
        self._add("start", self._clock(), values)
        self.write()

    def happened(self, outputs: Iterable[Output]) -> None:
        """What the engine says; on the file when this returns, with everything before."""
        if self._file is None:
            return
        at = self._clock()
        for output in outputs:
            self._record(at, output)
        self.write()

    def leaving_cluster(self) -> None:
        """The node was asked to leave the cluster."""
        if self._file is not None:
            self._add("leaving", self._clock(), {})

    def ended(self, how: str) -> None:
        """The node's last line; nothing follows."""
        if self._file is None:
            return
        at = self._clock()
        self._add_for(sorted(self._sessions), "close", at)
        self._sessions.clear()
        self._add("end", at, {"how": how})
        self.write()
        self.close()

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()
            self._file = None
        self._lines.clear()
        self._sessions.clear()

    # The commands of its clients.

    def opened(self, member: MemberId) -> None:
        """A session has begun."""
        if self._file is not None:
            self._sessions[member.session] = _OpenSession(member)
            self._add_for((member.session,), "open", self._clock(), {"client": member.client})

    def closed(self, session: int) -> None:
        """A session has ended."""
        self._add_for((session,), "close", self._clock())
        self._sessions.pop(session, None)

    def joining(self, session: int, group: str) -> None:
        """The engine has taken a join."""
        self._add_for((session,), "join", self._clock(), {"g": group})

    def leaving(self, session: int, group: str) -> None:
        """The engine has taken a leave."""
        self._add_for((session,), "leave", self._clock(), {"g": group})

    def sent(
        self,
        session: int,
        ticket: int,
        messages: Sequence[bytes],
        level: Level,
        groups: Sequence[str],
        recipient: str | None = None,
        *,
        stable: bool,
        self_discard: bool,
    ) -> None:
        """The engine has taken a frame."""
        own = self._sessions.get(session)
        if own is None:
            return
        at = self._clock()
        labels = [message_label(message) for message in messages]
        own.tickets[ticket] = (labels, stable)
        common = {"l": level.name, "g": groups, "to": recipient, "discard": self_discard}
        for label, message in zip(labels, messages, strict=True):
            self._add_for((session,), "send", at, {"m": label, "d": message_digest(message), **common})

    # Helpers.

    def _record(self, at: float, output: Output) -> None:
        match output:
            case FrameDelivered():
                self._record_frame(at, output)
            case GroupViewDelivered():
                self._add_for(output.sessions, "view", at, _view(output.view))
            case GroupSignalDelivered():
                self._add_for(output.sessions, "signal", at, {"g": output.group})
            case GroupLeft():
                self._add_for((output.session,), "left", at, {"g": output.group, "reason": output.reason.name})
            case PrivateUndeliverable():
                self._add_for((output.session,), "undeliverable", at, {"to": output.recipient})
            case SendAccepted():
                self._record_accepted(at, output)
            case NodeViewInstalled():
                self._add("node view", at, _node_view(output))
            case NodeSignal():
                self._add("node signal", at, {})
            case Stopped():
                self.ended(output.reason)
            case _:
                pass

    def _record_frame(self, at: float, frame: FrameDelivered) -> None:
        try:
            messages = unpack_messages(frame.payload)
        except MalformedPacket:
            return  # no session gets any of it
        common = {"from": _member(frame.sender), "l": frame.level.name}
        whats = [_dumps({"m": message_label(data), "d": message_digest(data), **common})[1:-1] for data in messages]
        for number, groups in frame.recipients:
            if number in self._sessions:
                view = _group_view(frame.views[groups[0]]) if groups else None
                where = _dumps({"g": groups, "v": view})[1:]
                begin = f'{{"e":"deliver","at":{at!r},"s":{number},'
                self._lines.extend(f"{begin}{what},{where}" for what in whats)

    def _record_accepted(self, at: float, output: SendAccepted) -> None:
        own = self._sessions.get(output.session)
        sending = own.tickets.pop(output.ticket, None) if own is not None else None
        if sending is not None:
            labels, stable = sending
            values = {"m": labels, "stable": stable, "complete": output.complete}
            self._add_for((output.session,), "accepted", at, values)

    def _add(self, kind: str, at: float, values: Mapping[str, Any]) -> None:
        self._lines.append(_dumps({"e": kind, "at": at, **values}))

    def _add_for(self, sessions: Iterable[int], kind: str, at: float, values: Mapping[str, Any] = _NOTHING) -> None:
        """The same line for each of these sessions that is open."""
        for number in sessions:
            if number in self._sessions:
                self._add(kind, at, {"s": number, **values})

    def write(self) -> None:
        """Bring what is recorded to the file; stop if it does not fit."""
        if self._file is None or not self._lines:
            return
        lines, self._lines = self._lines, []
        data = ("\n".join(lines) + "\n").encode()
        room_bytes = self._limit_bytes - LAST_LINE_BYTES - self._size_bytes
        full = len(data) > room_bytes
        if full:
            data = self._as_far_as_it_fits(lines, room_bytes) if room_bytes >= 0 else b""
        try:
            written = self._file.write(data)
        except OSError as error:
            self._stop("cannot be written ({reason})", reason=error.strerror)
            return
        self._size_bytes += written
        if written < len(data):
            self._stop("cannot be written ({reason})", reason="no room")
        elif full:
            self._stop("has reached its limit of {limit} bytes", limit=self._limit_bytes)

    def _as_far_as_it_fits(self, lines: Sequence[str], room_bytes: int) -> bytes:
        """The first of the lines, and the last line there will be."""
        kept = bytearray()
        for line in lines:
            encoded = line.encode() + b"\n"
            if len(kept) + len(encoded) > room_bytes:
                limit = {"e": "limit", "at": json.loads(line)["at"], "bytes": self._limit_bytes}
                return bytes(kept) + _dumps(limit).encode() + b"\n"
            kept += encoded
        return bytes(kept)

    def _stop(self, why: str, **values: object) -> None:
        self._log.warn(f"the trace {{path}} {why}: nothing more is recorded", path=str(self._path), **values)
        self.close()


def _open_log(path: Path) -> FileIO:
    """The file, locked, at its end, on a line of its own."""
    try:
        log = FileIO(path, "a+", opener=lambda name, flags: os.open(name, flags, 0o600))
        try:
            fcntl.flock(log, fcntl.LOCK_EX | fcntl.LOCK_NB)
            size = log.seek(0, os.SEEK_END)
            if size and os.pread(log.fileno(), 1, size - 1) != b"\n":
                log.write(b"\n")
        except BaseException:
            log.close()
            raise
    except BlockingIOError:
        raise EnvironmentFault(f"another daemon records its trace in {path}: give each a file of its own") from None
    except OSError as error:
        raise EnvironmentFault(f"cannot write the trace {path}: {error.strerror}") from None
    return log


def boot_id() -> str:
    """Equal where the monotonic clock is the same one."""
    try:
        return _BOOT_ID.read_text().strip()
    except OSError:
        return ""


def _node(node: NodeId) -> list[Any]:
    return [node.name, node.incarnation]


def _member(member: MemberId) -> list[Any]:
    return [member.client, *_node(member.node), member.session]


def _view_id(view: ViewId) -> list[Any]:
    return [view.epoch, *_node(view.proposer)]


def _group_view(view: GroupViewId) -> list[Any]:
    return [*_view_id(view.view), view.position]


def _view(view: View) -> dict[str, Any]:
    return {
        "g": view.group,
        "v": _group_view(view.id),
        "members": [_member(member) for member in view.members],
        "joined": [_member(member) for member in view.joined],
        "left": [[*_member(gone.member), gone.reason.name] for gone in view.left],
        "transitional": [_member(member) for member in view.transitional],
        "primary": view.primary,
    }


def _node_view(view: NodeViewInstalled) -> dict[str, Any]:
    return {
        "v": _view_id(view.id),
        "members": [_node(node) for node in view.members],
        "transitional": [_node(node) for node in view.transitional],
        "departed": [[*_node(gone.node), gone.reason.name] for gone in view.departed],
        "sequencer": _node(view.sequencer),
        "primary": view.primary,
        "filtered": view.filtered,
    }
