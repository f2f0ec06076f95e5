"""What happened in a run, at two borders: that of the clients and that of the nodes.

One list in the order in which things happened. Recorders append; the oracle reads. Decides nothing.

A message is known by its label, see ``groupcomm.labels``. In a checked run every message needs bytes (and a label, if
it has one) of its own.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from operator import attrgetter
from typing import TypeAlias, get_args

from attrs import define, field, fields, frozen

from groupcomm.events import Level, Reason, View
from groupcomm.identity import GroupViewId, MemberId, NodeId
from groupcomm.labels import message_digest as message_digest
from groupcomm.labels import message_label as message_label
from groupcomm.outputs import NodeViewInstalled


@frozen
class Opened:
    """A client session began."""

    at: float
    process: MemberId


@frozen
class Closed:
    """A client session ended: it was closed, or its node died. For the oracle a crash of that process."""

    at: float
    process: MemberId


@frozen
class JoinAsked:
    """A client asked to join."""

    at: float
    process: MemberId
    group: str


@frozen
class LeaveAsked:
    """A client asked to leave."""

    at: float
    process: MemberId
    group: str


@frozen
class Sent:
    """A client handed over one message, and the node took it.

    Attributes:
        recipient: ``client@node`` of a private message, else None.
    """

    at: float
    process: MemberId
    message: str
    digest: str
    level: Level
    groups: tuple[str, ...]
    recipient: str | None = None
    self_discard: bool = False


@frozen
class Accepted:
    """The node reported on a send: it left the queue, or with ``stable`` every node delivered it (if ``complete``)."""

    at: float
    process: MemberId
    messages: tuple[str, ...]
    stable: bool
    complete: bool


@frozen
class Delivered:
    """A client received one message."""

    at: float
    process: MemberId
    message: str
    digest: str
    sender: MemberId
    level: Level
    groups: tuple[str, ...]
    view: GroupViewId | None


@frozen
class ViewSeen:
    """A client received a group view."""

    at: float
    process: MemberId
    view: View


@frozen
class SignalSeen:
    """A client received a group's transitional signal."""

    at: float
    process: MemberId
    group: str


@frozen
class LeftSeen:
    """A client heard the last of a group."""

    at: float
    process: MemberId
    group: str
    reason: Reason


@frozen
class UndeliverableSeen:
    """A client was told that a private message found nobody."""

    at: float
    process: MemberId
    recipient: str


@frozen
class NodeStarted:
    """A node process began to run."""

    at: float
    node: NodeId


@frozen
class NodeLeaving:
    """A node was asked to leave the cluster: its sessions end, and it waits only for what they have sent."""

    at: float
    node: NodeId


@frozen
class NodeEnded:
    """A node process is gone: ``crash``, ``vanish``, ``left`` or what its engine said when it stopped."""

    at: float
    node: NodeId
    how: str


@frozen
class NodeViewSeen:
    """A node installed a view."""

    at: float
    node: NodeId
    view: NodeViewInstalled


@frozen
class NodeSignalSeen:
    """A node came to its transitional signal."""

    at: float
    node: NodeId


@frozen
class SafeHeld:
    """A node is about to deliver a SAFE message, and this is who of its view has not all of it: nobody, it trusts.

    Recorded by a harness that can look into the nodes, for the first delivery of a message.
    """

    at: float
    node: NodeId
    message: str
    lacking: tuple[NodeId, ...]


@frozen
class Fault:
    """What was done to the network or a node; for the reader, the oracle passes over it."""

    at: float
    text: str


TraceEvent: TypeAlias = (
    Opened
    | Closed
    | JoinAsked
    | LeaveAsked
    | Sent
    | Accepted
    | Delivered
    | ViewSeen
    | SignalSeen
    | LeftSeen
    | UndeliverableSeen
    | NodeStarted
    | NodeLeaving
    | NodeEnded
    | NodeViewSeen
    | NodeSignalSeen
    | SafeHeld
    | Fault
)


_PLAIN = frozenset((str, float, int, bool, type(None)))
_FIELDS = {kind: attrgetter(*(one.name for one in fields(kind))) for kind in get_args(TraceEvent)}
"""The values of an event, in the order of its class: every kind of event has at least two."""


def place_of(event: TraceEvent) -> str:
    """The process or node an event happened at, as text; empty for faults."""
    if isinstance(event, Fault):
        return ""
    if isinstance(event, NodeStarted | NodeLeaving | NodeEnded | NodeViewSeen | NodeSignalSeen | SafeHeld):
        return f"{event.node.name}.{event.node.incarnation}"
    return str(event.process)


def describe(event: TraceEvent) -> str:
    """One line for people."""
    return f"{event.at:10.6f} {place_of(event):14} {_account(event)}"


def _account(event: TraceEvent) -> str:
    match event:
        case Sent():
            to = event.recipient or ",".join(event.groups)
            return f"send {event.message} {event.level.name} to {to}" + (" self-discard" * event.self_discard)
        case Accepted():
            what = "stable" if event.stable else "accepted"
            return f"{what} {' '.join(event.messages)}" + ("" if event.complete else " INCOMPLETE")
        case Delivered():
            return f"deliver {event.message} {event.level.name} from {event.sender} in {event.view}"
        case ViewSeen():
            view = event.view
            companions = _names(view.transitional)
            return f"view {view.group} {view.id} members {_names(view.members)} transitional {companions}"
        case SignalSeen():
            return f"signal {event.group}"
        case LeftSeen():
            return f"left {event.group}: {event.reason.label}"
        case JoinAsked() | LeaveAsked():
            return f"{type(event).__name__[:-5].lower()} {event.group} asked"
        case UndeliverableSeen():
            return f"undeliverable to {event.recipient}"
        case NodeViewSeen():
            installed = event.view
            return (
                f"NODE VIEW {installed.id} members {_names(installed.members)} "
                f"transitional {_names(installed.transitional)} sequencer {installed.sequencer}"
            )
        case NodeSignalSeen():
            return "NODE SIGNAL"
        case SafeHeld():
            return f"SAFE {event.message} held by all" + (f" but {_names(event.lacking)}" if event.lacking else "")
        case NodeEnded():
            return f"node ended: {event.how}"
        case Fault():
            return f"* {event.text}"
        case _:
            return type(event).__name__.lower()


def _names(identities: Iterable[MemberId | NodeId]) -> str:
    return "{" + " ".join(str(identity) for identity in identities) + "}"


@define(eq=False)
class Trace:
    """The events of one run, in their order."""

    events: list[TraceEvent] = field(factory=list)

    def append(self, event: TraceEvent) -> None:
        """Record one event."""
        self.events.append(event)

    def __iter__(self) -> Iterator[TraceEvent]:
        return iter(self.events)

    def __len__(self) -> int:
        return len(self.events)

    def digest(self) -> str:
        """Equal for two runs with the same events at the same times, whatever the hash seed of the interpreter."""
        texts: dict[int, str] = {}
        lines = []
        for event in self.events:
            kind = type(event)
            words = [kind.__name__]
            for value in _FIELDS[kind](event):
                if type(value) in _PLAIN:
                    words.append(repr(value))
                    continue
                text = texts.get(id(value))
                if text is None:  # identities and views stand in many events: each object is spelt once
                    text = texts[id(value)] = repr(value)
                words.append(text)
            lines.append(",".join(words))
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()

    def last_events(self, per_place: int = 50) -> str:
        """The last events of every process and node, merged in order: what a failure report shows."""
        remaining: dict[str, int] = {}
        chosen: list[TraceEvent] = []
        for event in reversed(self.events):
            place = place_of(event)
            left = remaining.setdefault(place, per_place)
            if left:
                remaining[place] = left - 1
                chosen.append(event)
        return "\n".join(describe(event) for event in reversed(chosen))
