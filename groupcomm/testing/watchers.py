"""What no event at the borders shows: what went over the wire, who holds what, who was blocked for how long.

The network and the nodes of a cluster tell a ``Watchers`` of every datagram and every turn; it keeps what the oracle
needs besides the trace. Decides the engine invariants that can be seen from outside while the run goes on: X1 (what is
queued and held stays below its caps; the engine's ``check_invariants`` sees more of it, after every step), X3 (no
counter is used twice by one run of a node), X4 (nobody believes more to be stable than the others have), X5 (a repair
is the original, byte for byte, before it is sealed) and X9 (nothing follows the end). The others: X2 is the network's,
X8 the node's; X6 is judged at the end; X10 is that no exception is caught on the way from the engine to whoever runs
the cluster. Nobody configures a rate (X7).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from attrs import define, field

from groupcomm.identity import NodeId, ViewId
from groupcomm.limits import MAX_FRAME_BYTES, MAX_STREAM_PACKETS
from groupcomm.outputs import Address, Datagram
from groupcomm.paths.pieces import is_piece
from groupcomm.status import NodeStatus
from groupcomm.testing import trace as traces
from groupcomm.testing.check_rest import EndOfRun, NodeAtEnd, most_idle_datagrams
from groupcomm.testing.report import Violation
from groupcomm.wire.packets import HEADER_BYTES, LAST_NUMBERED, Header, Kind, widen
from groupcomm.wire.seal import COUNTER, MARK, is_sealed

if TYPE_CHECKING:
    from groupcomm.testing.cluster import Cluster
    from groupcomm.testing.node import Sending, SimulatedNode

IDENTITY = slice(4, 20)
"""View digest, sender and number in a packet: what makes it the same packet again."""

SENDER = slice(12, 14)
NUMBER = slice(16, 20)

GAP_SECONDS = 0.5
"""A blocked node has a turn more often than this; if not, it was stopped, and that is not its fault."""


@define(eq=False)
class Blocking:
    """How long a node has been blocked.

    Attributes:
        since: when it began, None if it is not blocked.
        seen_at: the last turn.
        longest: the longest time so far.
    """

    since: float | None = None
    seen_at: float = 0.0
    longest: float = 0.0


@define(eq=False)
class Watchers:
    """The facts of one run.

    Attributes:
        violations: of X1, X4, X5 and X9, each at the place that the trace had reached.
        sent: how many datagrams each socket has sent.
        nacks_sent: how many of all were NACKs.
        repairs_sent: how many were packets that had been sent before.
        stability_checks: how often X4 was looked at.
        cap_checks: how often X1 was looked at.
        nonce_checks: how often X3 was looked at.
    """

    cluster: Cluster
    violations: list[Violation] = field(factory=list)
    sent: dict[Address, int] = field(factory=dict)
    nacks_sent: int = 0
    repairs_sent: int = 0
    stability_checks: int = 0
    cap_checks: int = 0
    nonce_checks: int = 0
    _nonces: dict[bytes, bytes] = field(factory=dict)
    _packets: dict[bytes, bytes] = field(factory=dict)
    _fresh: dict[Address, int] = field(factory=dict)
    _left: dict[str, tuple[NodeId, ViewId | None, int]] = field(factory=dict)
    _held: set[str] = field(factory=set)
    _blocking: dict[NodeId, Blocking] = field(factory=dict)

    @classmethod
    def attach(cls, cluster: Cluster) -> Watchers:
        """Watch a cluster from now on."""
        watchers = cls(cluster)
        cluster.watchers = watchers
        cluster.network.watcher = watchers.packet_on_wire
        return watchers

    def packet_on_wire(self, data: bytes, source: Address) -> None:
        """A datagram reaches the network, as it is there."""
        self.sent[source] = self.sent.get(source, 0) + 1
        if not is_sealed(data):
            later_piece = is_piece(data) and Header(data).part >> 8
            sealed_piece = is_piece(data) and is_sealed(data[HEADER_BYTES:])
            if self.nonce_checks and data[1] != Kind.PASSPORT and not later_piece and not sealed_piece:
                self._violate("X3", f"a packet of {source[0]} left unsealed")
            return
        nonce = data[MARK.start : COUNTER.stop]
        # The same datagram may go to several places: one packet was sealed, once.
        if self._nonces.get(nonce, data) != data:
            self._violate("X3", f"the counter {int.from_bytes(data[COUNTER])} of {source[0]} is used twice")
        self._nonces[nonce] = data
        self.nonce_checks += 1

    def datagram_sent(self, datagram: Datagram, source: Address) -> None:
        """A node has a datagram to send, not sealed yet."""
        for data in datagram.pieces:
            self._packet_sent(data, source)

    def _packet_sent(self, data: bytes, source: Address) -> None:
        kind = data[1]
        if kind > LAST_NUMBERED:
            if kind == Kind.NACK:
                self.nacks_sent += 1
            return
        identity = data[IDENTITY]
        first = self._packets.get(identity)
        if first is None:
            self._packets[identity] = data
            self._fresh.setdefault(source, int.from_bytes(data[NUMBER]))
            return
        self.repairs_sent += 1
        if first is not data and first != data:
            number = int.from_bytes(data[NUMBER])
            self._violate("X5", f"packet {number} of sender {int.from_bytes(data[SENDER])} is sent again otherwise")

    def turn_ended(self, node: SimulatedNode) -> None:
        """A node's engine has had its say, and what it said is acted on."""
        self._fresh.pop(node.address, None)
        now = self.cluster.now
        blocking = self._blocking.get(node.identity)
        if blocking is None:
            blocking = self._blocking[node.identity] = Blocking()
        if not (node.process_alive and node.engine.blocked):
            blocking.since = None
            return
        if blocking.since is None or now - blocking.seen_at > GAP_SECONDS:
            blocking.since = now
        blocking.seen_at = now
        blocking.longest = max(blocking.longest, now - blocking.since)

    def accepted(self, node: SimulatedNode, sending: Sending) -> None:
        """A node says that a frame has left in this turn: its last packet is the first new one of the turn or later."""
        fresh = self._fresh.get(node.address)
        if fresh is not None and not sending.stable and node.views:
            for label in sending.messages:
                self._left[label] = node.identity, node.views[-1].id, fresh

    def delivers_safe(self, node: SimulatedNode, label: str) -> None:
        """A node is about to deliver a SAFE message: the first who does so relies on all the others."""
        if label in self._held or label not in self._left:
            return
        self._held.add(label)
        sender, view, number = self._left[label]
        if node.views[-1].id != view:
            return
        statuses = self._statuses(node)
        lacking = tuple(
            other for other, received in _received(statuses, sender).items() if received < widen(number, received)
        )
        self.cluster.trace.append(traces.SafeHeld(self.cluster.now, node.identity, label, lacking))
        for stream in node.views[-1].members:
            self._check_stability(statuses, stream)

    def _statuses(self, node: SimulatedNode) -> dict[NodeId, NodeStatus]:
        """What the live members of a node's view that are in it say of themselves."""
        view = node.views[-1]
        found = {}
        for member in view.members:
            other = self.cluster.nodes.get(member.name)
            if other is not None and other.process_alive and other.identity == member:
                status = other.status()
                self._check_caps(status, len(other.clients))
                if status.view == view.id:
                    found[member] = status
        return found

    def _check_caps(self, status: NodeStatus, clients: int) -> None:
        self.cap_checks += 1
        most = self.cluster.config.budget_bytes // 4 + (clients + 1) * MAX_FRAME_BYTES
        if status.queued_bytes > most:
            self._violate("X1", f"{status.node} has {status.queued_bytes} bytes queued, {most} are allowed")
        for peer in status.peers:
            if peer.unstable_packets > MAX_STREAM_PACKETS:
                self._violate("X1", f"{status.node} holds {peer.unstable_packets} packets of {peer.node}")

    def _check_stability(self, statuses: dict[NodeId, NodeStatus], stream: NodeId) -> None:
        received = _received(statuses, stream)
        if not received:
            return
        self.stability_checks += 1
        slowest = min(received, key=lambda node: received[node])
        for node, status in statuses.items():
            for peer in status.peers:
                if peer.node == stream and peer.packets_received - peer.unstable_packets > received[slowest]:
                    self._violate(
                        "X4",
                        f"{node} takes packet {peer.packets_received - peer.unstable_packets} of {stream} for stable, "
                        f"{slowest} has {received[slowest]}",
                    )

    def ended(self, node: SimulatedNode, following: int) -> None:
        """An engine has said that it is at its end, and so many outputs came after that."""
        if following:
            self._violate("X9", f"{node.identity} says {following} more things after its end")

    def rest(self, names: Iterable[str], quiet: float = 0.2, seconds: float = 0.5) -> EndOfRun:
        """Let an idle cluster run on until it is quiet, and say what the named nodes are like then.

        Args:
            names: those that are left in peace.
            quiet: how long to wait first.
            seconds: for how long to count; up to six times, as long as the nodes are not quiet, or are changing their
                view: one that hears too late that another is cut off still tries to merge with it.
        """
        nodes = [self.cluster.node(name) for name in names]
        heartbeat = self.cluster.config.timing.heartbeat
        self.cluster.run(quiet)
        for _ in range(6):
            before = dict(self.sent)
            self.cluster.run(seconds)
            facts = tuple(self._at_end(node, before, seconds) for node in nodes)
            most = most_idle_datagrams(len(nodes), heartbeat, hints=bool(self.cluster.link_bytes))
            if all(one.datagrams_per_second <= most and one.state == "operational" for one in facts):
                break
        return self.so_far(facts)

    def so_far(self, nodes: tuple[NodeAtEnd, ...] = ()) -> EndOfRun:
        """What is known of a run that did not come to its rest, or of one that did, with its nodes."""
        counters = self.cluster.network.counters
        lost = sum(counters.get(fate, 0) for fate in ("drop", "cut", "clog", "corrupt", "late"))
        lost += sum(node.buffer_drops for node in self.cluster.nodes.values())
        return EndOfRun(
            nodes,
            self.cluster.config.timing.heartbeat,
            self.nacks_sent,
            lost,
            self.repairs_sent,
            self.stability_checks,
            self.cap_checks,
            self.nonce_checks,
            tuple(self.violations),
            bool(self.cluster.link_bytes),
        )

    def _at_end(self, node: SimulatedNode, before: dict[Address, int], seconds: float) -> NodeAtEnd:
        status = node.status()
        waiting = [one for (session, _), one in node.sendings.items() if session in node.clients and not one.accepted]
        return NodeAtEnd(
            node.identity,
            status.state,
            node.engine.blocked,
            status.outstanding_bytes,
            status.queued_bytes,
            tuple(label for one in waiting if not one.stable for label in one.messages),
            tuple(label for one in waiting if one.stable for label in one.messages),
            self._blocking[node.identity].longest,
            (self.sent.get(node.address, 0) - before.get(node.address, 0)) / seconds,
        )

    def _violate(self, name: str, text: str) -> None:
        self.violations.append(Violation(name, text, (), len(self.cluster.trace)))


def _received(statuses: dict[NodeId, NodeStatus], stream: NodeId) -> dict[NodeId, int]:
    """Up to which packet each other node has the stream of one."""
    return {
        node: peer.packets_received
        for node, status in statuses.items()
        for peer in status.peers
        if peer.node == stream and node != stream
    }
