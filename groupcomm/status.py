"""What a node says of itself when asked: frozen values for the status commands."""

from __future__ import annotations

from attrs import frozen

from groupcomm.events import Outside
from groupcomm.identity import GroupViewId, MemberId, NodeId, ViewId
from groupcomm.outputs import Address, NodeDeparture, SlowState
from groupcomm.quorum import NO_QUORUM, Quorum
from groupcomm.wire.evidence import Record


@frozen
class PathStatus:
    """One link to one other node.

    Attributes:
        address: the other's on this link; None until it was heard there.
        reach: what of this node's arrives there, as the other says: ``multicast``, ``unicast`` or ``nothing``.
        heard: whether anything of the other arrives here by this link.
        multicast_heard: whether its multicast does.
        round_trip_seconds: by this link; 0.0 until measured.
        loss: which part of the other's last 64 beacons did not come by it; 0.0 with one link, where that is not known.
        mtu_bytes: the largest UDP payload that passes; 65,507 if that is not searched.
        searching: whether that is still being found out.
    """

    address: Address | None
    reach: str
    heard: bool
    multicast_heard: bool
    round_trip_seconds: float
    loss: float
    mtu_bytes: int
    searching: bool


@frozen
class PeerStatus:
    """One other node of the view, as this node sees it.

    Attributes:
        node: which.
        address: its own socket.
        round_trip_seconds: smoothed; 0.0 until measured.
        silent_seconds: since its last authentic packet.
        packets_received: contiguous packets of its stream in this view.
        packets_missing: packets of its stream found missing in this view, ever.
        nacks_sent: requests for packets of its stream.
        repairs_received: packets of its stream that came as repairs.
        unstable_packets: packets of its stream that not every node is known to have.
        paths: by link.
    """

    node: NodeId
    address: Address | None
    round_trip_seconds: float
    silent_seconds: float
    packets_received: int
    packets_missing: int
    nacks_sent: int
    repairs_received: int
    unstable_packets: int
    paths: tuple[PathStatus, ...] = ()


@frozen
class SlowStatus:
    """A node of the view that is slow for this node's sending.

    Attributes:
        node: which.
        lag_bytes: what it lacks of what this node has sent.
        seconds: how long it has been so.
        state: whether it is waited for, is catching up while the sender goes on, or may not lack more.
    """

    node: NodeId
    lag_bytes: int
    seconds: float
    state: SlowState = SlowState.WAITED_FOR


@frozen
class CatchingUpStatus:
    """A node that a sender does not wait for at present, as that sender says.

    Attributes:
        node: which.
        by: the sender.
        lag_bytes: what it lacks of what that one has sent.
        seconds: how long it has been catching up.
    """

    node: NodeId
    by: NodeId
    lag_bytes: int
    seconds: float


@frozen
class KeptOutStatus:
    """A node that was evicted for being slow, and is not let in again yet.

    Attributes:
        node: which; a later run of its name is not let in either.
        lag_bytes: what it lacked.
        seconds: how long it is still kept out.
        times: how often it was evicted lately.
    """

    node: NodeId
    lag_bytes: int
    seconds: float
    times: int


@frozen
class ViewChange:
    """A change of the node view.

    Attributes:
        at: when it was installed, in seconds since 1970.
        view: its id.
        before: the view before it; None for the first.
        members: its nodes.
        joined: those that were not in the view before.
        departed: those of the view before that are out, and why.
        records: what led to it, in the order in which its proposer knew it.
    """

    at: float
    view: ViewId
    before: ViewId | None
    members: tuple[NodeId, ...]
    joined: tuple[NodeId, ...]
    departed: tuple[NodeDeparture, ...]
    records: tuple[Record, ...]


@frozen
class FlappingStatus:
    """A node that has come and gone lately.

    Attributes:
        node: the last run that went.
        penalty: one for each time, halved each minute.
        seconds: how long it is not let in still; 0 if it may come.
    """

    node: NodeId
    penalty: float
    seconds: float


@frozen
class GroupStatus:
    """One group with its current view, and what happens to it outside of the primary component."""

    name: str
    members: tuple[MemberId, ...]
    view: GroupViewId
    outside: Outside = Outside.GO_ON


@frozen
class QuorumStatus:
    """How the node's view stands with the quorum filter.

    Attributes:
        settings: those of this node.
        why: why the view is primary, or is not; empty before the first.
        differing: names of nodes of the view whose settings are not those of its proposer.
        remembers: whether this node counts where the last primary view decides.
    """

    settings: Quorum = NO_QUORUM
    why: str = ""
    differing: tuple[str, ...] = ()
    remembers: bool = True


_NO_FILTER = QuorumStatus()


@frozen
class SourceStatus:
    """One source of discovery.

    Attributes:
        name: of the source: ``dns``, ``zeroconf``, ...
        looks_at: what it looks at, in words.
        known: how many addresses it knows at which other nodes may be.
        found: these addresses, 64 of them at most.
        trouble: what went wrong last, or None.
        troubled: whether that lasts.
    """

    name: str
    looks_at: str
    known: int = 0
    found: tuple[Address, ...] = ()
    trouble: str | None = None
    troubled: bool = False


@frozen
class LinkStatus:
    """One of the node's own links, and what its sockets have got of the kernel.

    Attributes:
        interface: its name.
        address: the node's own on it.
        mtu_bytes: the largest IP packet that the interface takes; 0 if there never was one.
        away: whether the interface is down or the address gone.
        receive_buffer_bytes: what the socket with the smaller buffer may hold, of what others have sent.
        send_buffer_bytes: what may wait to leave.
        drops: datagrams to the node itself that the kernel had no room for, or found damaged; at the group's socket it
            counts the node's own multicasts too, so that these are left out.
    """

    interface: str
    address: Address
    mtu_bytes: int
    away: bool
    receive_buffer_bytes: int
    send_buffer_bytes: int
    drops: int


@frozen
class RefusalStatus:
    """Packets from somewhere that are not let in.

    Attributes:
        why: as in ``PacketsRefused``.
        source: where they came from, as far as that can be believed.
        seconds: since the node last told of them, which it does once a minute for each ``why``.
        count: how many were told of, ever.
        text: what is wrong with the last, if there is more to say.
    """

    why: str
    source: Address
    seconds: float
    count: int
    text: str


@frozen
class NodeStatus:
    """A node, its view, its groups and its counters.

    Attributes:
        state: ``seeking``, ``operational``, ``gather``, ``recover``, ``leaving`` or ``stopped``.
        window_bytes: how much this node may have sent that not all have received.
        outstanding_bytes: how much of it is used.
        queued_bytes: accepted from sessions and not yet sent.
        counters: only ever growing, by name.
        slow: who is slow for this node's sending.
        kept_out: who was evicted for being slow and is not let in again yet.
        evicted_by: who has evicted this node for being slow and keeps it out still.
        flapping: who has come and gone lately, and is let in the more slowly.
        sealed: whether packets are sealed; if not, whoever reaches the network is a node.
        key_epoch: the number of the key epoch that packets are sealed under.
        discovery: the sources of discovery.
        quorum: how the view stands with the quorum filter.
        up_seconds: since this run of the node began.
        links: the node's own.
        refused: who sends what is not let in, the latest at the end.
        catching_up: who is in the catch-up lane of any sender of the view.
    """

    node: NodeId
    cluster: str
    state: str
    view: ViewId | None
    members: tuple[NodeId, ...]
    sequencer: NodeId | None
    primary: bool
    groups: tuple[GroupStatus, ...]
    peers: tuple[PeerStatus, ...]
    window_bytes: int
    outstanding_bytes: int
    queued_bytes: int
    counters: dict[str, int]
    slow: tuple[SlowStatus, ...] = ()
    kept_out: tuple[KeptOutStatus, ...] = ()
    evicted_by: tuple[NodeId, ...] = ()
    sealed: bool = False
    key_epoch: int = 0
    discovery: tuple[SourceStatus, ...] = ()
    quorum: QuorumStatus = _NO_FILTER
    flapping: tuple[FlappingStatus, ...] = ()
    up_seconds: float = 0.0
    links: tuple[LinkStatus, ...] = ()
    refused: tuple[RefusalStatus, ...] = ()
    catching_up: tuple[CatchingUpStatus, ...] = ()
