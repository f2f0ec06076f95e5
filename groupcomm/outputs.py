"""What an engine tells its driver: datagrams to send, and outputs to act on, in order.

An engine never calls anybody. The driver feeds it, then takes datagrams, outputs and the next deadline.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import TypeAlias

from attrs import define, frozen

from groupcomm.events import Level, Reason, View
from groupcomm.identity import GroupViewId, MemberId, NodeId, ViewId
from groupcomm.quorum import Memory
from groupcomm.wire.evidence import Record
from groupcomm.wire.packets import Packets

Address: TypeAlias = tuple[str, int]
"""Host and UDP port of a node's own socket."""


@define
class Datagram:
    """One datagram to send, or a run of them.

    Attributes:
        data: the bytes, at most ``mtu_bytes``; of a run, those of all its datagrams.
        destination: a node's own socket; None for the multicast group.
        segment_bytes: the size of each datagram of a run, the last of which may be shorter; 0 if it is one datagram.
        packets: of a run that is to be sealed, its packets; ``data`` is empty then.
        link: by which of this node's links it leaves.
    """

    data: bytes
    destination: Address | None
    segment_bytes: int = 0
    packets: Packets | None = None
    link: int = 0

    @property
    def count(self) -> int:
        """How many datagrams that is."""
        if self.packets is not None:
            return self.packets.count
        return -(-len(self.data) // self.segment_bytes) if self.segment_bytes else 1

    @property
    def pieces(self) -> list[bytes]:
        """The datagrams one by one."""
        if self.packets is not None:
            return [self.packets.packet(index) for index in range(self.packets.count)]
        size = self.segment_bytes
        return [self.data[at : at + size] for at in range(0, len(self.data), size)] if size else [self.data]


@define
class FrameDelivered:
    """A frame is delivered to some of this node's sessions.

    Attributes:
        recipients: session number and the groups it is in of those the frame was sent to, in the sender's order
            (empty for a private frame).
        sender: who sent it.
        level: its service level.
        payload: the messages, packed by ``packing.pack_messages``.
        views: for each group named in ``recipients``, its current group view.
    """

    recipients: tuple[tuple[int, tuple[str, ...]], ...]
    sender: MemberId
    level: Level
    payload: bytes
    views: Mapping[str, GroupViewId]


@frozen
class GroupViewDelivered:
    """A group view, for the sessions it is new to. ``view`` is as the named sessions see it."""

    sessions: tuple[int, ...]
    view: View


@frozen
class GroupSignalDelivered:
    """The transitional signal of a group."""

    sessions: tuple[int, ...]
    group: str


@frozen
class GroupLeft:
    """A session is out of a group: the last it hears of it."""

    session: int
    group: str
    reason: Reason


@frozen
class PrivateUndeliverable:
    """A private frame of this session found no such member."""

    session: int
    recipient: str


@define
class SendAccepted:
    """The frame has left the session's queue, or ``stable`` was asked and it is delivered at every node of the view.

    Attributes:
        session: who sent it.
        ticket: what ``Engine.send`` returned.
        complete: False if a view change cut it short: delivered to those of the view who stayed together.
    """

    session: int
    ticket: int
    complete: bool


@frozen
class SessionWritable:
    """The session's queue has fallen to half its limit after having been full."""

    session: int


@frozen
class NodeDeparture:
    """A node of the previous view that is not in the new one.

    Attributes:
        node: which.
        reason: why.
        last_packet: the number of the last packet of its stream that was delivered; 0 if there was none.
    """

    node: NodeId
    reason: Reason
    last_packet: int = 0


@frozen
class NodeViewInstalled:
    """A new node view.

    Attributes:
        id: its id.
        members: its nodes, in the order of their indices.
        transitional: those who came from the same previous view; this node among them.
        departed: the nodes of the previous view who are gone.
        sequencer: who orders first.
        records: what led to it, in the order in which its proposer knew it; at most 48.
        primary: whether this component may act for the whole cluster.
        filtered: whether a quorum filter has decided that.
        why: the reason, for people.
    """

    id: ViewId
    members: tuple[NodeId, ...]
    transitional: tuple[NodeId, ...]
    departed: tuple[NodeDeparture, ...]
    sequencer: NodeId
    records: tuple[Record, ...] = ()
    primary: bool = True
    filtered: bool = False
    why: str = ""


@frozen
class QuorumKept:
    """What the node remembers of primary views has changed, and must outlive it.

    It is written when there is time, later ones instead of earlier ones, and ``Engine.memory_kept`` told: the engine
    says nothing meanwhile that must not be forgotten.

    Attributes:
        memory: all of it.
        number: which it is, counted from 1.
    """

    memory: Memory
    number: int


class SlowState(enum.Enum):
    """How a sender stands with a node that is slow."""

    WAITED_FOR = "waited for"
    CATCHING_UP = "catching up"
    SPENT = "spent"


@frozen
class ReceiverSlow:
    """A node of the view holds this node's sending up: it has become slow, or is slow no more.

    Attributes:
        node: which.
        lag_bytes: what it lacks of what this node has sent.
        seconds: how long it has been so.
        over: whether it is slow no more.
        state: whether it is waited for, is catching up while this node goes on, or may not lack more.
    """

    node: NodeId
    lag_bytes: int
    seconds: float
    over: bool
    state: SlowState = SlowState.WAITED_FOR


@frozen
class NodeEvicted:
    """A node was put out of the view for being slow; this one may be that node.

    Attributes:
        node: which.
        by: who accused it, as far as is known here.
        lag_bytes: what it lacked of what one of them had sent.
        seconds: how long it had been so.
        kept_out_seconds: how long it is not let in again.
    """

    node: NodeId
    by: tuple[NodeId, ...]
    lag_bytes: int
    seconds: float
    kept_out_seconds: float


@frozen
class PacketsRefused:
    """Packets came that do not open: their sender has no key, or another, or is nobody's friend.

    Attributes:
        why: ``unsealed``, ``seal_broken``, ``signature_broken`` or ``passport_refused``.
        source: where the last came from, as far as that can be believed.
        count: how many since this was told last, a minute ago or longer.
        text: what is wrong with the last, if there is more to say.
    """

    why: str
    source: Address
    count: int
    text: str = ""


@frozen
class NodeExpelled:
    """From here on no passport of a node of this name is believed, and the next view is without it.

    Attributes:
        name: of the node; it may be this one, which then has heard that it is expelled.
        by: the name of the node at which that was asked for.
    """

    name: str
    by: str


@frozen
class KeyRotated:
    """From here on this node seals under a new key epoch, and so does every other at this point of the order."""

    number: int


@frozen
class NodeSignal:
    """The node's transitional signal: what follows until the next view is delivered among its transitional set."""


@frozen
class WatchChanged:
    """The neighbours to watch over a connection each, with their own sockets' addresses (TCP on the same port)."""

    peers: tuple[tuple[NodeId, Address], ...]


@frozen
class HostWanted:
    """A watched neighbour is silent: make its host acknowledge something, and call ``host_answers`` if it does."""

    node: NodeId


@frozen
class ProbeWanted:
    """Somebody says this node is dead: find out (two refused connections) and call ``peer_refused`` if so."""

    node: NodeId
    address: Address


@frozen
class Stopped:
    """The engine has ended; nothing follows.

    Attributes:
        reason: ``left`` after a clean leave, else why it cannot go on (``name in use``, ...).
        clean: whether this is the leave that was asked for.
    """

    reason: str
    clean: bool


Output: TypeAlias = (
    FrameDelivered
    | GroupViewDelivered
    | GroupSignalDelivered
    | GroupLeft
    | PrivateUndeliverable
    | SendAccepted
    | SessionWritable
    | NodeViewInstalled
    | QuorumKept
    | ReceiverSlow
    | NodeEvicted
    | PacketsRefused
    | KeyRotated
    | NodeExpelled
    | NodeSignal
    | WatchChanged
    | HostWanted
    | ProbeWanted
    | Stopped
)
