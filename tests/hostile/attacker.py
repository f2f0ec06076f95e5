"""An attacker at the network of a simulated cluster, and what the tests of all attacks have in common.

The attacker has a socket on the network: it hears what is multicast, and sends what it likes, to whom it likes, under
any source address. Packets are in the clear, so it can say anything that a node could say: what it reaches is what an
insider who holds the key reaches where packets are sealed.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from types import FrameType as PythonFrame
from typing import cast

from attrs import define
from twisted.logger import ILogObserver, LogEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from groupcomm.config import EngineConfig
from groupcomm.engine import Engine
from groupcomm.events import Level
from groupcomm.identity import NodeId, ViewId
from groupcomm.limits import (
    MAX_CONTROL_ASSEMBLIES,
    MAX_CONTROL_ASSEMBLY_BYTES,
    MAX_MISSING,
    MAX_NODES,
    MAX_STRANGERS,
)
from groupcomm.membership.membership import Membership
from groupcomm.ordering.frames import FrameType, Outgoing
from groupcomm.ordering.ordered_view import OrderedView, ViewSetup
from groupcomm.outputs import Address, Datagram
from groupcomm.packing import pack_messages
from groupcomm.testing.cluster import Cluster
from groupcomm.testing.network import Conditions
from groupcomm.testing.node import SimulatedClient, SimulatedNode
from groupcomm.testing.oracle import check
from groupcomm.wire.codec import cluster_digest, list_digest
from groupcomm.wire.messages import (
    Answer,
    Beacon,
    Inquiry,
    Install,
    Join,
    Message,
    Plan,
    Probe,
    ProbeAck,
    Ready,
    Recover,
    Voucher,
    Who,
    cut,
)
from groupcomm.wire.packets import (
    FIRST,
    LAST,
    LAST_OF_VIEW,
    NO_SENDER,
    Ask,
    Grant,
    Handover,
    Kind,
    Nack,
    Range,
    Stamp,
    StampRun,
    Status,
    StatusEntry,
    Summary,
    SummaryEntry,
    Tail,
    Take,
    encode,
)

STRANGER: Address = ("10.9.9.9", 9999)

LARGEST_DATAGRAM = 65_507
"""What UDP over IPv4 can carry."""

GHOST = NodeId("ghost", 1)
"""A node that never was."""

RELIABLE_LEVELS = tuple(level for level in Level if level is not Level.UNRELIABLE)


class Attacker:
    """Somebody with a socket on the network.

    Attributes:
        address: of the socket.
        sent_bytes: what it has sent.
        answered: what came to its own socket by unicast or multicast.
    """

    def __init__(self, cluster: Cluster, address: Address = STRANGER) -> None:
        self.address = address
        self.sent_bytes = 0
        self.answered: list[bytes] = []
        self._network = cluster.network
        self._network.mtu_bytes = LARGEST_DATAGRAM

    def listen(self) -> None:
        """From now on hear what comes to the own socket."""
        self._network.attach(self.address, lambda data, source: self.answered.append(data))

    def send(self, data: bytes, to: SimulatedNode | None = None, *, source: Address | None = None) -> None:
        """One datagram to a node, or to all, under any source address."""
        self.sent_bytes += len(data)
        self._network.send(Datagram(data, None if to is None else to.address), source or self.address)


def view_packet(view: OrderedView, kind: Kind, body: bytes, *, sender: int, sequence: int = 0, flags: int = 0) -> bytes:
    """A packet that belongs to that view."""
    return encode(kind, view.setup.digest, sender, sequence, body, flags=flags)


def message_packets(message: Message, *, number: int = 1, size: int = 1400, cluster: str = "default") -> list[bytes]:
    """The packets of a membership message."""
    return cut(message.kind, cluster_digest(cluster), number, message.encode(), size)


def beacon_of(node: NodeId, view: ViewId | None = None, size: int = 0, epoch: int = 1) -> Beacon:
    """A beacon that says nothing special."""
    return Beacon(node, view, size, epoch, False, False, ())


def join_of(node: NodeId, candidates: Iterable[NodeId], *, view: ViewId | None = None, attempt: int = 1) -> Join:
    """A JOIN that asks for a change with these candidates."""
    listed = tuple(sorted({node, *candidates}))
    return Join(node, view, None, False, attempt, attempt, 1, 1, 0, list_digest(listed), len(listed), 1, listed, ())


def group_frame(
    session: int = 1,
    client: str = "mallory",
    data: bytes = b"forged",
    *,
    level: Level = Level.AGREED,
    group: str = "chat",
    group_position: int = 0,
    ordered: int = 0,
    past: tuple[tuple[int, int], ...] = (),
) -> bytes:
    """A frame with one message to one group, as it stands in a packet."""
    address = bytes([session]) + bytes([len(client)]) + client.encode() + b"\1" + bytes([len(group)]) + group.encode()
    body = bytes([len(address)]) + address + pack_messages([data])
    return Outgoing(session, 0, FrameType.GROUP, level, body).encode(group_position, 1, ordered, past)


def every_body(members: tuple[NodeId, ...], view: ViewId) -> dict[Kind, bytes]:
    """For each kind of packet a body that is well formed; greetings are the seal's, and tried with it."""
    proposal = ViewId(view.epoch + 1, members[0])
    messages: tuple[Message, ...] = (
        beacon_of(members[1], view, len(members), view.epoch),
        Probe(members[1], 7),
        ProbeAck(members[1], 7),
        join_of(members[1], members, view=view),
        Recover(proposal, 1, 1, members),
        Answer(members[1], proposal, None, (), False, True, 0, view.epoch, ()),
        Plan(proposal, 1, members, 0, members[0], False, (), ()),
        Ready(members[1], proposal, 1, 0),
        Install(proposal, 1),
        Who(members[1], 1),
        Inquiry(members[1], members[0]),
        Voucher(members[1], members[2], 5),
    )
    bodies = {message.kind: message.encode() for message in messages}
    bodies[Kind.DATA] = group_frame()
    bodies[Kind.STAMP] = Stamp(1, (StampRun(1, 1, 1),)).encode()
    bodies[Kind.HANDOVER] = Handover(0, 1).encode()
    bodies[Kind.TAKE] = Take(1).encode()
    bodies[Kind.ASK] = Ask(1 << 22).encode()
    bodies[Kind.GRANT] = Grant(1, 1).encode()
    bodies[Kind.UNRELIABLE] = group_frame(level=Level.UNRELIABLE)
    bodies[Kind.NACK] = Nack(0, 0, (Range(1, 3),)).encode()
    bodies[Kind.STATUS] = Status(1 << 25, (StatusEntry(0, 0, 0),)).encode()
    bodies[Kind.TAIL] = Tail(0, 1).encode()
    bodies[Kind.SUMMARY] = Summary(1 << 25, (SummaryEntry(0, 0, 0),)).encode()
    assert bodies.keys() == set(Kind) - {Kind.GREETING, Kind.PASSPORT, Kind.PIECE}
    return bodies


def every_packet(setup: ViewSetup, *, sender: int, sequence: int = 0) -> dict[Kind, bytes]:
    """A well-formed packet of each kind: of that view, from that sender in it, or of its cluster."""
    packets = {}
    for kind, body in every_body(setup.members, setup.id).items():
        flags = FIRST | LAST if kind is Kind.DATA else 0
        if kind <= LAST_OF_VIEW:
            packets[kind] = encode(kind, setup.digest, sender, sequence, body, flags=flags)
        else:
            packets[kind] = encode(kind, cluster_digest("default"), NO_SENDER, sequence, body, part=1)
    return packets


@define
class Work:
    """How many Python functions were called."""

    calls: int = 0


@contextmanager
def counted_work() -> Iterator[Work]:
    """Count the calls that are made inside."""
    work = Work()

    def called(frame: PythonFrame, event: str, argument: object) -> None:
        if event == "call":
            work.calls += 1

    before = sys.getprofile()
    sys.setprofile(called)
    try:
        yield work
    finally:
        sys.setprofile(before)


class HostileCase(SynchronousTestCase):
    """A cluster with a client on each node, all in one group, and an attacker.

    Attributes:
        names: of the nodes.
        config: of their engines.
        conditions: of the network.
        seed: of the run.
    """

    names: tuple[str, ...] = ("a", "b", "c")
    config = EngineConfig()
    conditions = Conditions()
    seed = 5

    def setUp(self) -> None:
        self.cluster = Cluster(self.seed, config=self.config, conditions=self.conditions)
        self.nodes = self.cluster.add_nodes(*self.names)
        self.cluster.run_until(self.cluster.converged, 10.0)
        self.clients = [node.open("c") for node in self.nodes]
        for client in self.clients:
            client.join("chat")
        everybody = len(self.nodes)
        self.cluster.run_until(lambda: all(len(members(client)) == everybody for client in self.clients), 5.0)
        self.cluster.run(1.0)
        self.attacker = Attacker(self.cluster)
        self.rounds = 0
        self.lines: list[LogEvent] = []
        observer = cast(ILogObserver, self.lines.append)
        globalLogPublisher.addObserver(observer)
        self.addCleanup(globalLogPublisher.removeObserver, observer)

    # What is looked at

    def engine(self, node: SimulatedNode) -> Engine:
        """The product's engine in a simulated node."""
        assert isinstance(node.engine, Engine)
        return node.engine

    def membership(self, node: SimulatedNode) -> Membership:
        """What a node knows of the others."""
        return self.engine(node)._membership

    def view(self, node: SimulatedNode) -> OrderedView:
        """The data plane of a node's view."""
        view = self.engine(node)._view
        assert view is not None
        return view

    def index(self, node: SimulatedNode) -> int:
        """The index of a node in its view."""
        return self.view(node).setup.me

    @property
    def identities(self) -> tuple[NodeId, ...]:
        """The nodes as they stand in their view."""
        return self.view(self.nodes[0]).setup.members

    def counter(self, node: SimulatedNode, name: str) -> int:
        """How often something happened to a node."""
        return node.status().counters.get(name, 0)

    def views(self) -> list[ViewId | None]:
        """The view that each node is in."""
        return [node.status().view for node in self.nodes]

    def feed(self, node: SimulatedNode, packets: Iterable[bytes], source: Address = STRANGER) -> Work:
        """Give a node's engine packets at once; what it did to take them in, and to answer."""
        with counted_work() as work:
            now = node.local_now()
            for data in packets:
                node.engine.datagram_received(data, source, now)
            node.command(lambda engine, now: None)
            self.cluster.run(0.0)
        return work

    # What has to hold

    def assert_goes_on(self, *, new_view: bool = False, oracle: bool = True) -> None:
        """The nodes are in the view they were in (or, all, in a new one), and what they send now reaches everybody.

        Args:
            new_view: whether a change was to be.
            oracle: whether the whole run must keep every property; not where the attacker has said in a member's name
                what that never said.
        """
        if new_view:
            self.cluster.run_until(lambda: self.cluster.converged(self.names), 30.0)
        self.cluster.run(0.5)
        before = [len(client.messages("chat")) for client in self.clients]
        self.rounds += 1
        for client in self.clients:
            for level in RELIABLE_LEVELS:
                client.send("chat", f"{self.rounds} {level} {client.node.name}".encode(), level=level)
        self.cluster.run(1.0)
        got = [len(client.messages("chat")) - count for client, count in zip(self.clients, before, strict=True)]
        self.assertEqual(got, [len(self.clients) * len(RELIABLE_LEVELS)] * len(self.clients))
        self.assertEqual(len(set(self.views())), 1)
        for node in self.nodes:
            self.engine(node).check_invariants()
            self.assert_bounded(node)
        self.assertEqual(self.lines, [], "nothing is logged")
        if oracle:
            check(self.cluster.trace, settled=[node.identity for node in self.nodes])

    def assert_bounded(self, node: SimulatedNode) -> None:
        """Nothing that a node holds for others is larger than its limit."""
        engine, membership, view = self.engine(node), self.membership(node), self.view(node)
        known = MAX_STRANGERS + len(membership.members)
        held = {
            "peers": (len(membership.peers._by_node), known),
            "addresses": (len(membership.peers._by_address), known),
            "half messages": (len(engine._assembler._partial), MAX_CONTROL_ASSEMBLIES),
            "their bytes": (engine._assembler._size, MAX_CONTROL_ASSEMBLY_BYTES),
            "lists of candidates": (len(membership._lists), 32),
            "waiting joins": (len(membership._unlisted), 2 * MAX_NODES),
            "probes": (len(membership._probes), 4 * MAX_NODES),
            "hints": (len(membership._hints), 256),
            "suspects": (len(membership._suspects), MAX_NODES),
            "dead": (len(membership._dead), MAX_NODES),
            "absent": (len(membership._absent), MAX_NODES),
            "repairs": (len(view._repairs._asked), 4096 + 256),
            "repaired": (len(view._repairs._repaired_at), 4096 + 256),
            "unreliable": (len(view.unreliable), 64),
            "views seen": (len(membership._admission._merging), known),
        }
        for index, stream in enumerate(view.streams):
            held[f"missing of stream {index}"] = stream.missing_count, MAX_MISSING
        too_many = {name: numbers for name, numbers in held.items() if numbers[0] > numbers[1]}
        self.assertEqual(too_many, {})


def members(client: SimulatedClient) -> tuple[object, ...]:
    """The members of the group as a client sees them."""
    view = client.view("chat")
    return () if view is None else view.members
