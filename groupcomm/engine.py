"""The whole node without I/O: bytes and time go in; datagrams, outputs and the next deadline come out.

Puts the core together and decides the order in which its parts are asked; what they answer is theirs. The driver calls
an input or a command, then takes ``datagrams_to_send``, ``take_outputs`` and ``next_deadline``.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Sequence
from math import inf
from random import Random

from attrs import evolve

from groupcomm.config import EngineConfig
from groupcomm.errors import (
    MalformedPacket,
    MessageTooLarge,
    NameInUse,
    NotAMember,
    NotPrimary,
    QueueFull,
    SendsWait,
    UsageError,
)
from groupcomm.events import Level, Outside, Reason
from groupcomm.identity import MemberId, NodeId, ViewId, checked_name
from groupcomm.limits import (
    CONTROL_QUEUE_BYTES,
    LEAST_PATH_BYTES,
    MAX_DATAGRAM_BYTES,
    MAX_DESTINATION_BYTES,
    MAX_DESTINATION_GROUPS,
    MAX_DIRECTORY_BYTES,
    MAX_GROUPS_PER_SESSION,
    MAX_MEMBERSHIPS,
    MAX_SESSIONS,
    MIN_WINDOW_BYTES,
    PAYLOAD_HEAD_BYTES,
    UNRELIABLE_QUEUE_BYTES,
)
from groupcomm.membership.groups import Change, ChangeBody, Groups, group_address
from groupcomm.membership.lane import Seen
from groupcomm.membership.membership import Membership, State
from groupcomm.membership.peers import Peer
from groupcomm.ordering.frames import Frame, FrameType, Outgoing
from groupcomm.ordering.ordered_view import OrderedView, ViewSetup
from groupcomm.outputs import (
    Address,
    Datagram,
    FrameDelivered,
    HostWanted,
    NodeDeparture,
    NodeSignal,
    NodeViewInstalled,
    Output,
    PrivateUndeliverable,
    ProbeWanted,
    QuorumKept,
    SendAccepted,
    SessionWritable,
    Stopped,
    WatchChanged,
)
from groupcomm.paths.pieces import Pieces, is_piece
from groupcomm.paths.spread import Spread
from groupcomm.quorum import Voter, Why
from groupcomm.reliability.counters import Counters
from groupcomm.reliability.outbox import Outbox
from groupcomm.reliability.rtt import RoundTrip
from groupcomm.sealing.certified import Certified
from groupcomm.sealing.credentials import Credentials, SharedKey
from groupcomm.sealing.expulsion import Expulsion
from groupcomm.sealing.guard import Guard
from groupcomm.sealing.rotation import Rotation
from groupcomm.status import NodeStatus, PeerStatus, QuorumStatus
from groupcomm.wire.codec import Reader, Writer, cluster_digest, digest64, view_digest
from groupcomm.wire.keys import ClusterKey, KeyEpoch
from groupcomm.wire.messages import (
    Answer,
    Assembler,
    Beacon,
    Inquiry,
    Install,
    Join,
    Message,
    Plan,
    Probe,
    Ready,
    Recover,
    Voucher,
    Who,
    cut,
    decode_message,
)
from groupcomm.wire.packets import (
    HEADER_BYTES,
    LAST_NUMBERED,
    LAST_OF_VIEW,
    SEALED,
    ArrivedRun,
    Header,
    Kind,
    is_data_run,
    split_run,
)
from groupcomm.wire.seal import SEAL_BYTES

_CHANGE = FrameType.CHANGE
_DATA = Kind.DATA
_DIRECTORY = FrameType.DIRECTORY
_EXPEL = FrameType.EXPEL
_GONE = FrameType.GONE
_GROUP = FrameType.GROUP
_KEY = FrameType.KEY
_OPERATIONAL = State.OPERATIONAL
_PRIVATE = FrameType.PRIVATE
_RECOVER = State.RECOVER
_STOPPED = State.STOPPED

_WATCHED_NEIGHBOURS = 2
_MAX_ADDRESSES = 64
_EPOCH_SECONDS = 1_577_836_800  # 2020-01-01, in Unix time


class _Session:
    """A client session of this node.

    Attributes:
        member: as the groups know it.
        addresses: how its frames to some groups begin. Bound: ``_MAX_ADDRESSES``; forgotten altogether when full.
        wanted: the groups it is in or has asked to be in, and what it asks for outside of the primary component.
        changes: how many of its group changes have not come back in the order yet.
        closing: it is over once its last frame is delivered.
    """

    __slots__ = ("addresses", "changes", "closing", "member", "wanted")

    def __init__(self, member: MemberId) -> None:
        self.member = member
        self.addresses: dict[tuple[str, ...], bytes] = {}
        self.wanted: dict[str, Outside] = {}
        self.changes = 0
        self.closing = False


class Engine:
    """One node of a cluster.

    Args:
        config: its settings.
        node: its name and incarnation.
        random: the only randomness it uses.
        now: monotonic seconds, as in every later call.
    """

    def __init__(self, config: EngineConfig, node: NodeId, random: Random, now: float) -> None:
        self._config = config
        self._node = node
        self._random = random
        self._counters = Counters()
        self._cluster_digest = cluster_digest(config.cluster)
        self._outbox: Outbox[Outgoing] = Outbox(config.budget_bytes // 4)
        self._groups = Groups(node)
        quorum = config.quorum
        digest = digest64(b"groupcomm quorum", quorum.text.encode()) if quorum.text else 0
        self._voter = Voter(quorum, digest, config.memory)
        self._acting = self._voter.vote is None
        self._held_up: set[int] = set()
        epoch = max(1, (node.incarnation // 1000 - _EPOCH_SECONDS) << 16, self._voter.highest_epoch)
        self._membership = Membership(node, config, self, random, self._counters, epoch)
        self._guard: Guard | None = None
        self._rotation: Rotation | None = None
        self._expulsion: Expulsion | None = None
        credentials: Credentials | None = None
        if config.identity is not None:
            credentials = Certified(node, config.cluster, config.identity, random.randbytes, self._counters)
        elif config.key is not None:
            credentials = SharedKey(ClusterKey(config.key), config.cluster)
        if credentials is not None:
            self._guard = Guard(node, config.cluster, credentials, random.randbytes, self._counters)
            self._rotation = Rotation(self._guard, random.randbytes, self._counters)
            self._expulsion = Expulsion(node, self._guard)
            self._expulsion.known(config.expelled)
        self._seal_bytes = 0 if self._guard is None else SEAL_BYTES
        self._introduction_bytes = 0 if self._guard is None else self._guard.introduction_bytes
        self._view: OrderedView | None = None
        self._directories_read = True
        self._view_peers: tuple[Peer | None, ...] = ()
        self._assembler = Assembler()
        self._outputs: list[Output] = []
        self._datagrams: list[Datagram] = []
        self._sent_messages: dict[Kind, tuple[Message, int, list[bytes]]] = {}
        self._message_number = random.getrandbits(32)
        self._pieces = Pieces(self._cluster_digest, self._message_number)
        self._spread = Spread(self._pieces, active=config.active_links)
        self._sessions: dict[int, _Session] = {}
        self._directory_bytes = 0
        self._memberships = 0
        self._next_session = 1
        self._next_ticket = 1
        self._names: dict[str, int] = {}
        self._unreliable: deque[Outgoing] = deque()
        self._unreliable_bytes = 0
        self._leaving_until = inf
        self._watched: tuple[tuple[NodeId, Address], ...] = ()
        self._probed: dict[NodeId, float] = {}
        self._window_bytes = MIN_WINDOW_BYTES
        self._now = now
        self._stirred = True

    # ---- inputs --------------------------------------------------------------------------------------------------

    def links(self, addresses: Sequence[Address], most_bytes: Sequence[int]) -> None:
        """Which links there are; before ``start``. Without it there is one, and the path MTU is not searched.

        Args:
            addresses: this node's, by link.
            most_bytes: by link, the largest UDP payload that its interface takes.
        """
        largest = max(self._config.mtu_bytes, self._config.max_mtu_bytes) + self._seal_bytes
        peers = self._membership.peers
        peers.most_bytes = tuple(max(LEAST_PATH_BYTES, min(most, largest)) for most in most_bytes)
        peers.birth_bytes = self._config.mtu_bytes + self._seal_bytes
        peers.moved = True
        self._membership.addresses = self._spread.links = tuple(addresses)

    def reading(self, link: int, multicast: bool) -> None:
        """What is received next came by this link, to the group or to this node alone."""
        peers = self._membership.peers
        peers.link, peers.multicast = link, multicast

    def start(self, now: float) -> None:
        """Begin to listen for a view, or to found one."""
        self._begin(now)
        self._membership.start(now)

    def _begin(self, now: float) -> None:
        """Something happens that ``burst_ended`` must look into."""
        self._now = now
        self._stirred = True

    def datagram_received(self, data: bytes, source: Address, now: float) -> None:
        """A datagram from ``source``, whose sender's own socket that is."""
        if is_piece(data):
            whole = self._piece(data, source)
            if whole is None:
                return
            data = whole
        if self._guard is not None:
            opened = self._opened(self._guard, data, source, now)
            if opened is None:
                return
            data = opened
        self._datagram(data, source, now)

    def _piece(self, data: bytes, source: Address) -> bytes | None:
        """The datagram that a piece completes, if it does."""
        self._counters.up("pieces_received")
        try:
            return self._pieces.add(data, source)
        except MalformedPacket:
            self._counters.up("malformed")
            return None

    def _opened(self, guard: Guard, data: bytes, source: Address, now: float) -> bytes | None:
        """What was sealed; None if it is not for this node, or only for its guard."""
        self._now = now
        try:
            opened = guard.open(data, source, now)
        except MalformedPacket:
            self._counters.up("malformed")
            opened = None
        if opened is None:
            self._counters["datagrams_received"] += 1
            for address in guard.met:
                self._stirred = True
                self._membership.hint(address, now)
            guard.met.clear()
            if guard.told and self._expulsion is not None:
                self._stirred = True
                self._expulsion.greeted(now)
                self._leave_out(self._expulsion)
            self._stirred = self._stirred or guard.greets
        return opened

    def _datagram(self, data: bytes, source: Address, now: float) -> None:
        """A datagram in the clear, or one that was opened."""
        self._now = now
        self._counters["datagrams_received"] += 1
        try:
            header = Header(data)
            if header.flags & SEALED:
                self._counters.up("sealed")
            elif header.kind <= LAST_OF_VIEW:
                self._view_packet(header, data, source, now)
            else:
                self._message(header, data, source, now)
        except MalformedPacket:
            self._counters.up("malformed")

    def run_received(self, data: bytes, size_bytes: int, source: Address, now: float) -> None:
        """Datagrams of one source that came at once, of one size but for the last, which may be shorter.

        The same as ``datagram_received`` for each of them, in their order.
        """
        if self._guard is not None:
            run = self._guard.open_run(data, size_bytes, now)
        else:
            run = split_run(data, size_bytes) if is_data_run(data, size_bytes) else None
        if run is None:
            for start in range(0, len(data), size_bytes):
                self.datagram_received(data[start : start + size_bytes], source, now)
        elif not self._data_run(run, source, now):
            for index in range(len(run.flags)):
                self._datagram(run.packets.packet(index), source, now)

    def _data_run(self, run: ArrivedRun, source: Address, now: float) -> bool:
        """Take the packets of a run together, if they may be."""
        view = self._view
        if view is None or run.digest != view.setup.digest or self._membership.ready_for is not None:
            return False
        if not view.run_received(run, now):
            return False
        self._begin(now)
        self._counters.up("datagrams_received", len(run.flags))
        sealer = None if self._guard is None else self._guard.heard
        self._membership.packet_came(source, sealer, now, moves=True)
        return True

    def _view_packet(self, header: Header, data: bytes, source: Address, now: float) -> None:
        view, membership = self._view, self._membership
        if membership.state is _RECOVER:
            ready_for = membership.ready_for
            if ready_for is not None and header.digest == self._digest(ready_for.proposal, ready_for.members):
                self._stirred = True
                membership.install_ready(now)
                view = self._view
        if view is None or header.digest != view.setup.digest:
            self._counters.up("foreign_view")
            return
        sealer = None if self._guard is None else self._guard.heard
        moves = header.kind <= LAST_NUMBERED and header.sender != view.setup.me
        membership.packet_came(source, sealer, now, moves=moves)
        if not view.frozen:
            small = header.kind == _DATA and self._directories_read
            frame = view.pass_through(header, data) if small else None
            if frame is not None:
                self._deliver(frame, view)
                self._stirred = self._stirred or not view.reports_later
                return
            self._stirred = True
            view.packet_received(header, data, now)
            return
        self._stirred = True
        missing = view.missing
        view.packet_received(header, data, now)
        if view.missing < missing:
            self._membership.fetched(now)

    def _message(self, header: Header, data: bytes, source: Address, now: float) -> None:
        self._stirred = True
        if header.digest != self._cluster_digest:
            self._counters.up("foreign_cluster")
            return
        body = self._assembler.add(header, data[HEADER_BYTES:], source)
        if body is None:
            return
        message = decode_message(header.kind, body)
        membership = self._membership
        if message is None:
            self._counters.up("unknown_kind")
        elif membership.state is _STOPPED or (not isinstance(message, Plan | Recover | Install) and self._own(message)):
            return
        elif isinstance(message, Beacon):
            membership.beacon_received(message, source, now)
        elif isinstance(message, Probe):
            membership.probe_received(message, source, now)
        elif isinstance(message, Join):
            membership.join_received(message, source, now)
        elif isinstance(message, Who):
            membership.who_received(message, source, now)
        elif isinstance(message, Inquiry):
            membership.inquiry_received(message, source, now)
        elif isinstance(message, Voucher):
            membership.voucher_received(message, now)
        elif isinstance(message, Recover):
            membership.recover_received(message, source, now)
        elif isinstance(message, Answer):
            membership.answer_received(message, now)
        elif isinstance(message, Plan):
            membership.plan_received(message, source, now)
        elif isinstance(message, Ready):
            membership.ready_received(message, source, now)
        else:
            membership.install_received(message, now)

    def _own(self, message: Message) -> bool:
        node = getattr(message, "node", None)
        return node == self._node

    def flush(self, now: float) -> None:
        """Let what sessions have handed over leave; ``burst_ended`` must follow in the same turn."""
        self._begin(now)
        if self._outbox and self._view is not None and self._view.send(now):
            self._membership.traffic(now)

    def burst_ended(self, now: float) -> None:
        """All datagrams and commands of this turn are in: what they caused leaves together."""
        self._now = now
        if self._stirred:
            self._work(now)

    @property
    def settled(self) -> bool:
        """Whether ``burst_ended`` has nothing to do: nothing came but small messages that are delivered already."""
        return not self._stirred

    def handle_timeout(self, now: float) -> None:
        """The time of ``next_deadline`` has come."""
        self._begin(now)
        if self._guard is not None:
            self._guard.tick(now)
            if self._rotation is not None and self._guard.wants_rotation:
                self._rotation.ask()
        if self._voter.is_stuck(now):
            self._membership.fail("its disk does not take what it must remember of primary views")
        self._membership.unstable = self._view is not None and self._view.window.unreceived_bytes > 0
        self._membership.tick(now)
        self._work(now)

    def add_hint(self, address: Address, now: float) -> None:
        """Another node may be at this address."""
        self._begin(now)
        self._membership.hint(address, now)

    def peer_refused(self, node: NodeId, now: float) -> None:
        """The process of this node is gone: its host has refused two connections."""
        self._begin(now)
        if node in self._membership.members or self._membership.state is not _OPERATIONAL:
            self._membership.peer_refused(node, now)
            self._membership.tick(now)
            self._work(now)

    def host_answers(self, node: NodeId, now: float) -> None:
        """The kernel of this watched neighbour has acknowledged something."""
        self._begin(now)
        self._membership.suspicion.host_answered(node, self._membership.members, now)

    def memory_kept(self, number: int, now: float) -> None:
        """What this ``QuorumKept`` said, and all before, outlives this node now, or nothing does."""
        self._begin(now)
        if self._voter.kept(number, now):
            self._membership.fetched(now)

    def stalled(self, seconds: float, now: float) -> None:
        """The driver did not run for ``seconds``."""
        self._begin(now)
        self._counters.up("stalls")
        self._membership.stalled(seconds, now)

    def clock_jumped(self, now: float) -> None:
        """The wall clock has leapt: this process may be a copy of another, or have been one."""
        self._begin(now)
        if self._guard is not None:
            self._guard.renew(now)

    # ---- the turn ------------------------------------------------------------------------------------------------

    def _work(self, now: float) -> None:
        """Deliver what may be delivered, send what may be sent, until nothing moves."""
        view = self._view
        if view is not None:
            more = True
            while more and view is self._view:
                frames = view.deliver()
                if not self._directories_read:
                    self._read_directories()
                if frames or view.unreliable:
                    self._deliver_frames(frames)
                if self._rotation is not None and self._rotation.out:
                    self._put_steps(_KEY, self._rotation.out, view)
                if self._expulsion is not None and self._expulsion.out:
                    self._put_steps(_EXPEL, self._expulsion.out, view)
                sent = view.send(now)
                if sent:
                    self._membership.traffic(now)
                more = view.maintain(now) or sent
            if self._unreliable:
                self._send_unreliable(view)
            if view.accepted:
                self._tickets(view)
        if self._membership.next_deadline() <= now:
            self._membership.tick(now)
        if self._leaving_until != inf:
            self._leave_if_drained(now)
        for session in self._outbox.take_writable():
            self._outputs.append(SessionWritable(session))
        self._stirred = False

    def _leave_out(self, expulsion: Expulsion) -> None:
        """Go into a view without those who were expelled just now."""
        for name in expulsion.left_out:
            self._membership.expel(name, self._now)
        expulsion.left_out.clear()

    def _put_steps(self, frame_type: FrameType, bodies: list[bytes], view: OrderedView) -> None:
        """Send what the node has to say to all in the order as soon as the view is open."""
        if view.open and not view.frozen and self._directories_read:
            for body in bodies:
                self._outbox.put_control(Outgoing(0, 0, frame_type, Level.AGREED, body), len(body))
            bodies.clear()

    def _tickets(self, view: OrderedView) -> None:
        self._take_group_outputs()
        for session, ticket, complete in view.accepted:
            self._outputs.append(SendAccepted(session, ticket, complete))
        view.accepted.clear()

    def _collect(self) -> None:
        """Take the packets and messages of the parts as datagrams."""
        view = self._view
        if view is not None and view.out:
            for packet, target, packets in view.out:
                if packets is not None:
                    size_bytes = packets.size_bytes
                    if self._guard is None:
                        self._datagrams.append(Datagram(packets.data, None, size_bytes))
                    else:
                        self._datagrams.append(Datagram(b"", None, size_bytes, packets))
                    continue
                if target is None:
                    self._datagrams.append(Datagram(packet, None))
                    continue
                peer = self._view_peers[target]
                if peer is not None:
                    self._datagrams.append(Datagram(packet, peer.address))
            view.out.clear()
        if self._membership.out:
            for message, destination in self._membership.out:
                if destination is None and message.kind is Kind.BEACON:
                    self._collect_beacon(message)
                    continue
                for part in self._encoded(message):
                    self._datagrams.append(Datagram(part, destination))
            self._membership.out.clear()
        if self._guard is not None:
            self._datagrams += self._guard.take_greetings()

    def _collect_beacon(self, beacon: Message) -> None:
        """A beacon to all leaves by each link, and to each node that this does not reach, each time sealed anew.

        Sealed once for all, what comes second would pass for a repetition, and nobody would know that it comes.
        """
        for part in self._encoded(beacon):
            for link in range(max(1, len(self._spread.links))):
                self._datagrams.append(Datagram(part, None, link=link))
            for link, address in self._spread.alone:
                self._datagrams.append(Datagram(part, address, link=link))

    def _encoded(self, message: Message) -> list[bytes]:
        """The datagrams of a message; a repeat is byte-identical, so that its parts add up."""
        last = self._sent_messages.get(message.kind)
        if last is None or last[0] != message:
            self._message_number = (self._message_number + 1) & 0xFFFFFFFF
            number = self._message_number
            room = LEAST_PATH_BYTES - SEAL_BYTES - self._introduction_bytes
            if isinstance(message, Probe) and message.padding:
                message = self._padded(message)
                room = MAX_DATAGRAM_BYTES
            parts = cut(message.kind, self._cluster_digest, number, message.encode(), room)
            last = self._sent_messages[message.kind] = message, number, parts
        return last[2]

    def _padded(self, probe: Probe) -> Probe:
        """A probe that leaves as a datagram of ``padding`` bytes."""
        others = HEADER_BYTES + self._seal_bytes + self._introduction_bytes
        beside = len(probe.encode()) - probe.padding
        return evolve(probe, padding=max(0, probe.padding - others - beside))

    # ---- outputs -------------------------------------------------------------------------------------------------

    def datagrams_to_send(self, now: float) -> list[Datagram]:
        """What is to be sent, in order."""
        self._collect()
        datagrams, self._datagrams = self._datagrams, []
        count = 0
        for datagram in datagrams:
            count += datagram.count if datagram.segment_bytes else 1
        self._counters["datagrams_sent"] += count
        return datagrams

    def seal(self, datagrams: list[Datagram]) -> list[Datagram]:
        """What ``datagrams_to_send`` gave, as it leaves; each is sealed once, in their order."""
        sealed = datagrams if self._guard is None else self._guard.seal(datagrams)
        peers = self._membership.peers
        if peers.moved:
            peers.moved = False
            self._route()
        return self._spread.leave(sealed, peers)

    def _route(self) -> None:
        """The paths have changed: choose by which of them datagrams leave, and how large they may be."""
        view = self._view
        members = [peer.paths for peer in self._view_peers if peer is not None]
        heard = [peer.paths for peer in self._membership.heard_lately(self._now)]
        self._spread.route(members, heard)
        if view is not None and self._spread.links:
            view.sending.fit(min(self._spread.least_bytes, max(self._membership.peers.most_bytes)) - self._seal_bytes)

    def take_outputs(self) -> list[Output]:
        """What the driver has to act on, in order."""
        self._take_group_outputs()
        if self._guard is not None and self._rotation is not None:
            self._take_key_news(self._guard, self._rotation)
        outputs, self._outputs = self._outputs, []
        return outputs

    def _take_key_news(self, guard: Guard, rotation: Rotation) -> None:
        """What is to be told of keys; nothing follows the end."""
        if self._membership.state is not _STOPPED:
            self._outputs.extend(guard.news)
            self._outputs.extend(rotation.news)
            if self._expulsion is not None:
                self._outputs.extend(self._expulsion.news)
        guard.news.clear()
        rotation.news.clear()
        if self._expulsion is not None:
            self._expulsion.news.clear()

    def _take_group_outputs(self) -> None:
        self._outputs.extend(self._groups.out)
        self._groups.out.clear()

    def next_deadline(self) -> float | None:
        """When ``handle_timeout`` is to be called; None if never."""
        deadline = self._membership.next_deadline()
        if self._view is not None:
            deadline = min(deadline, self._view.next_deadline())
        return None if deadline == inf else max(deadline, self._now)

    # ---- frames --------------------------------------------------------------------------------------------------

    def _deliver_frames(self, frames: Sequence[Frame]) -> None:
        view = self._view
        assert view is not None
        for frame in frames:
            self._deliver(frame, view)
        for frame in view.unreliable:
            if view.open:
                self._deliver(frame, view)
        view.unreliable.clear()
        view.sending.group_position = self._groups.position

    def _deliver(self, frame: Frame, view: OrderedView) -> None:
        sender = view.setup.members[frame.stream]
        try:
            if frame.type is _GROUP:
                self._groups.deliver(sender, frame)
            elif frame.type is _CHANGE:
                self._changed(sender, frame)
            elif frame.type is _PRIVATE:
                self._private(sender, frame, view)
            elif frame.type is _GONE:
                self._gone(frame)
            elif frame.type is _KEY and self._rotation is not None:
                self._rotation.frame(sender, frame.body)
            elif frame.type is _EXPEL and self._expulsion is not None:
                self._expulsion.frame(frame.body, self._now)
                self._leave_out(self._expulsion)
        except MalformedPacket:
            self._counters.up("peer_violations")

    def _changed(self, sender: NodeId, frame: Frame) -> None:
        body = self._groups.changed(sender, frame)
        if self._held_up:
            self._let_go_on()
        if sender != self._node:
            return
        if body.session in self._sessions:
            self._sessions[body.session].changes -= 1
        if body.change is Change.DISCONNECT:
            self._forget_session(body.session)

    def _forget_session(self, number: int) -> None:
        session = self._sessions.pop(number, None)
        self._held_up.discard(number)
        if session is not None:
            self._directory_bytes -= sum(len(group.encode()) + 1 for group in session.wanted)
            self._memberships -= len(session.wanted)
            self._names.pop(session.member.client, None)
            self._outbox.forget(number)

    def _private(self, sender: NodeId, frame: Frame, view: OrderedView) -> None:
        reader = Reader(frame.body)
        session, client, node_name, recipient = reader.number(), reader.text(), reader.text(64), reader.text()
        if node_name != self._node.name:
            if sender == self._node and all(node.name != node_name for node in view.setup.members):
                self._outputs.append(PrivateUndeliverable(session, f"{recipient}@{node_name}"))
            return
        number = self._names.get(recipient)
        if number is not None:
            self._take_group_outputs()
            to = ((number, ()),)
            member = MemberId(client, sender, session)
            self._outputs.append(FrameDelivered(to, member, frame.level, reader.rest(), {}))
            return
        body = Writer().node(sender).number(session).text(recipient).text(node_name).done()
        if self._outbox.control_bytes + len(body) > CONTROL_QUEUE_BYTES:
            self._counters.up("answers_dropped")
            return
        gone = Outgoing(0, 0, _GONE, Level.FIFO, body)
        self._outbox.put_control(gone, len(body))

    def _gone(self, frame: Frame) -> None:
        reader = Reader(frame.body)
        node, session, recipient, node_name = reader.node(), reader.number(), reader.text(), reader.text()
        if node == self._node and session in self._sessions:
            self._take_group_outputs()
            self._outputs.append(PrivateUndeliverable(session, f"{recipient}@{node_name}"))

    def _send_unreliable(self, view: OrderedView) -> None:
        while self._unreliable and view.open and not view.frozen:
            frame = self._unreliable.popleft()
            self._unreliable_bytes -= frame.size
            view.send_unreliable(frame)
            self._loop_back(frame, view)
            if frame.ticket:
                self._outputs.append(SendAccepted(frame.session, frame.ticket, True))

    def _loop_back(self, frame: Outgoing, view: OrderedView) -> None:
        """This node's own copy of an unreliable frame."""
        encoded = frame.encode(0, 0, 0, ())
        reader = Reader(encoded)
        kind = reader.u8()
        reader.number()
        self._deliver(Frame(view.setup.me, 0, 0, kind, reader), view)

    # ---- views (what the membership asks of its host) ----------------------------------------------------------------

    def freeze(self) -> None:
        """See ``ViewHost``."""
        if self._rotation is not None:
            self._rotation.hold()
        if self._view is not None:
            self._view.freeze()
        self._acting = self._voter.vote is None and self._acting

    def answer(self, proposal: ViewId, epoch: int, *, leaving: bool) -> Answer:
        """See ``ViewHost``."""
        view = self._view
        if view is None:
            silent, key, vote = self._silent, self._key, self._voter.vote
            return Answer(self._node, proposal, None, (), leaving, True, 0, epoch, (), silent, key=key, vote=vote)
        setup = view.setup
        return Answer(
            self._node,
            proposal,
            setup.id,
            setup.members,
            leaving,
            view.open,
            view.sequencer,
            epoch,
            view.holdings(),
            silent=self._silent,
            key=self._key,
            vote=self._voter.vote,
        )

    @property
    def _key(self) -> KeyEpoch | None:
        """The epoch this node seals under; None for the first."""
        return None if self._guard is None else self._guard.said

    @property
    def _silent(self) -> bool:
        """Whether no session is in a group, or will be at the end of the view by a change that is under way."""
        sessions = self._sessions.values()
        return not any(session.changes or self._groups.groups_of(session.member) for session in sessions)

    def credible(self, answer: Answer) -> bool:
        """See ``ViewHost``."""
        view = self._view
        return view is None or answer.view != view.setup.id or view.credible(answer.holdings)

    def apply_plan(self, plan: Plan, now: float) -> None:
        """See ``ViewHost``."""
        if self._guard is not None:
            self._guard.expect(plan.key)
        if self._voter.plan_came(plan.proposal, plan.members, plan.verdict, now):
            self.tell(QuorumKept(self._voter.memory, self._voter.number))
        view = self._view
        if view is None:
            return
        for part in plan.views:
            if part.view == view.setup.id:
                index_of = {node: index for index, node in enumerate(view.setup.members)}
                view.apply_plan(part, [index_of.get(node) for node in plan.participants], now)

    def missing(self) -> int:
        """See ``ViewHost``."""
        return self._voter.waits + (0 if self._view is None else self._view.missing)

    def probe(self, peer: Peer) -> None:
        """See ``ViewHost``."""
        if self._now - self._probed.get(peer.node, -inf) > self._config.timing.silent:
            self._probed[peer.node] = self._now
            self._outputs.append(ProbeWanted(peer.node, peer.address))

    def ask(self, peer: Peer) -> None:
        """See ``AskingHost``."""
        self._membership.ask(peer, self._now)
        if any(node == peer.node for node, _ in self._watched):
            self._outputs.append(HostWanted(peer.node))

    def ask_others(self, peer: Peer, others: Sequence[NodeId]) -> None:
        """See ``AskingHost``."""
        for node in others:
            other = self._membership.peers.get(node)
            if other is not None:
                self._membership.out.append((Inquiry(self._node, peer.node), other.address))

    def look(self) -> Seen:
        """See ``LookingHost``."""
        view = self._view
        if view is None:
            return Seen()
        seen, members = view.look(), view.setup.members
        holding, trailing, lagging = (
            [members[index] for index in sorted(found)] for found in (seen.holding, seen.trailing, seen.lagging)
        )
        return Seen(holding, trailing, lagging, seen.spent, view.has_lane)

    def lacks_much(self) -> Sequence[NodeId]:
        """See ``LookingHost``."""
        return [] if self._view is None else [self._view.setup.members[index] for index in self._view.lacks_much()]

    def take_into_lane(self, nodes: Collection[NodeId]) -> None:
        """See ``LookingHost``."""
        if self._view is not None:
            members = self._view.setup.members
            self._view.take_into_lane(frozenset(members.index(node) for node in nodes if node in members))

    def hand_over(self, node: NodeId) -> None:
        """See ``LookingHost``."""
        if self._view is not None and node in self._view.setup.members and not self._view.frozen:
            self._view.hand_over(self._view.setup.members.index(node))

    def lag_bytes(self, node: NodeId) -> int:
        """See ``LookingHost``."""
        view = self._view
        return 0 if view is None or node not in view.setup.members else view.lag_bytes(view.setup.members.index(node))

    def tell(self, output: Output) -> None:
        """See ``LookingHost``."""
        self._take_group_outputs()
        self._outputs.append(output)

    def stop(self, reason: str, *, clean: bool) -> None:
        """See ``ViewHost``."""
        self._take_group_outputs()
        self._outputs.append(Stopped(reason, clean))

    def install(self, plan: Plan, now: float) -> None:
        """See ``ViewHost``."""
        if self._voter.installed(plan.proposal, plan.participants, plan.members, plan.verdict, self._node):
            self.tell(QuorumKept(self._voter.memory, self._voter.number))
        departed = {gone.node: gone.reason for gone in plan.departed}
        together: tuple[NodeId, ...] = (self._node,)
        old = self._view
        old_members: tuple[NodeId, ...] = ()
        ends: dict[NodeId, int] = {}
        if old is not None:
            old_members = old.setup.members
            for part in plan.views:
                if part.view == old.setup.id:
                    together = tuple(plan.participants[index] for index in part.survivors)
                    ends = {node: one.end for node, one in zip(old_members, part.streams, strict=False)}
            self._end_view(old, together, plan.members)
            self._window_bytes = max(MIN_WINDOW_BYTES, old.window.window_bytes // 2)
        self._view = None
        members = plan.members
        if self._node not in members:
            return
        if self._guard is not None and self._rotation is not None:
            self._guard.installed(plan.key, members)
            self._rotation.view_installed(members)
        self._begin_view(plan, now)
        self._take_group_outputs()
        staying = tuple(node for node in together if node in members)
        self._outputs.append(
            NodeViewInstalled(
                plan.proposal,
                members,
                staying,
                tuple(
                    NodeDeparture(node, departed[node], ends.get(node, 0)) for node in old_members if node in departed
                ),
                plan.sequencer,
                plan.records,
                plan.verdict.primary,
                plan.verdict.why is not Why.NO_FILTER,
                self._voter.why,
            )
        )
        self._probed.clear()
        primary = plan.verdict.primary
        self._groups.view_installed(plan.proposal, members, staying, departed, exchange=plan.exchange, primary=primary)
        self._acting = primary
        self._let_go_on()
        self._watch(members)

    def _let_go_on(self) -> None:
        """Sessions whose sends wait may try again: there is a new view, or a group that asks for less."""
        for session in sorted(self._held_up):
            if session in self._sessions:
                self._outputs.append(SessionWritable(session))
        self._held_up.clear()

    def _end_view(self, view: OrderedView, together: tuple[NodeId, ...], members: tuple[NodeId, ...]) -> None:
        frames = view.finish()
        self._read_directories()
        signal = frames.index(None)
        self._deliver_frames([frame for frame in frames[:signal] if frame is not None])
        self._take_group_outputs()
        self._outputs.append(NodeSignal())
        self._groups.signal(node for node in together if node in members)
        self._deliver_frames([frame for frame in frames[signal:] if frame is not None])
        self._counters.update(view.losses)
        view.end_tickets(complete=len(together) == len(view.setup.members))
        self._tickets(view)

    def _begin_view(self, plan: Plan, now: float) -> None:
        members = plan.members
        peers = tuple(self._membership.peers.get(node) for node in members)
        self._view_peers = peers
        setup = ViewSetup(
            plan.proposal,
            members,
            members.index(self._node),
            members.index(plan.sequencer),
            self._digest(plan.proposal, members),
            frozenset(members.index(node) for node in plan.speakers),
            self._window_bytes,
        )
        round_trips = [RoundTrip() if peer is None else peer.round_trip for peer in peers]
        self._view = OrderedView(setup, self._config, self._outbox, round_trips, self._random, self._counters, now)
        self._outbox.drop_control(lambda frame: frame.type is _DIRECTORY or frame.type is _KEY)
        self._directories_read = not plan.exchange
        if self._node in plan.speakers:
            body = self._groups.own_table()
            self._outbox.put_control(Outgoing(0, 0, _DIRECTORY, Level.FIFO, body), len(body))

    def _read_directories(self) -> None:
        view = self._view
        if self._directories_read or view is None or not view.open:
            return
        self._directories_read = True
        tables = {view.setup.members[index]: body for index, body in view.directories.items()}
        self._counters.up("peer_violations", self._groups.exchanged(tables))
        self._let_go_on()

    def _digest(self, view: ViewId, members: tuple[NodeId, ...]) -> int:
        return view_digest(self._config.cluster, view, members)

    def _watch(self, members: tuple[NodeId, ...]) -> None:
        """Watch the next two nodes of the ring closely."""
        me, watched = members.index(self._node), []
        for step in range(1, min(_WATCHED_NEIGHBOURS, len(members) - 1) + 1):
            node = members[(me + step) % len(members)]
            peer = self._membership.peers.get(node)
            if peer is not None:
                watched.append((node, peer.address))
        if tuple(watched) != self._watched:
            self._watched = tuple(watched)
            self._membership.suspicion.watched = frozenset(node for node, _ in watched)
            self._outputs.append(WatchChanged(self._watched))

    # ---- commands ------------------------------------------------------------------------------------------------

    def open_session(self, client: str, now: float) -> int:
        """A client session under a name that no live session of this node has.

        Raises:
            NameInUse: a session of that name lives, or its last leave has not its place in the order yet.
            UsageError: the name is not allowed, or the node is full.
        """
        self._begin(now)
        checked_name(client, "a client name")
        if set(client) & set("@#"):
            raise UsageError(f"a client name may not contain @ or #: {client!r}")
        if client in self._names:
            raise NameInUse(f"the client name {client!r} is in use on {self._node}")
        if len(self._sessions) >= MAX_SESSIONS:
            raise UsageError(f"{self._node} serves {MAX_SESSIONS} sessions already")
        number = self._next_session
        self._next_session += 1
        self._sessions[number] = _Session(MemberId(client, self._node, number))
        self._names[client] = number
        return number

    def close_session(self, session: int, reason: Reason, now: float) -> None:
        """End a session: what it has sent still goes, then its groups see it leave."""
        self._begin(now)
        own = self._sessions.get(session)
        if own is None or own.closing:
            return
        own.closing = True
        if own.changes or self._groups.groups_of(own.member):
            self._change(own, Change.DISCONNECT, "", reason)
        else:
            self._forget_session(session)

    def _change(
        self, session: _Session, change: Change, group: str, reason: Reason, outside: Outside = Outside.GO_ON
    ) -> None:
        member = session.member
        body = ChangeBody(change, member.session, member.client, group, reason, outside).encode()
        frame = Outgoing(member.session, 0, _CHANGE, Level.AGREED, body)
        session.changes += 1
        self._outbox.put(member.session, frame, len(body))

    def _session(self, number: int) -> _Session:
        session = self._sessions.get(number)
        if session is None or session.closing:
            raise UsageError(f"there is no session {number}")
        return session

    def join(self, session: int, group: str, now: float, *, outside: Outside = Outside.GO_ON) -> None:
        """Ask to be in a group; the first the session hears of it is its view.

        Args:
            session: whose.
            group: which.
            now: monotonic seconds.
            outside: what is to happen to the group outside of the primary component.
        """
        self._begin(now)
        own = self._session(session)
        self._check_serves()
        checked_name(group, "a group name")
        if group in own.wanted:
            raise UsageError(f"{own.member} is in {group!r} already")
        if len(own.wanted) >= MAX_GROUPS_PER_SESSION:
            raise UsageError(f"{own.member} is in {MAX_GROUPS_PER_SESSION} groups already")
        size = len(group.encode()) + 1
        if self._directory_bytes + size > MAX_DIRECTORY_BYTES:
            raise UsageError(f"the group names of all sessions of {self._node} exceed {MAX_DIRECTORY_BYTES} bytes")
        if self._memberships >= MAX_MEMBERSHIPS:
            raise UsageError(f"the sessions of {self._node} are in {MAX_MEMBERSHIPS} groups together")
        self._check_room(own)
        self._directory_bytes += size
        self._memberships += 1
        own.wanted[group] = outside
        self._change(own, Change.JOIN, group, Reason.LEAVE, outside)

    def _check_serves(self) -> None:
        if self._config.quorum.witness:
            raise UsageError(f"{self._node.name} is a witness: it counts, and serves no clients")

    def _check_room(self, session: _Session) -> None:
        number = session.member.session
        if not self._outbox.has_room(number):
            raise QueueFull(f"{session.member} has {self._outbox.session_bytes(number)} bytes waiting")

    def leave(self, session: int, group: str, now: float) -> None:
        """Ask to be out of a group; the last the session hears of it is that it left."""
        self._begin(now)
        own = self._session(session)
        if group not in own.wanted:
            raise NotAMember(f"{own.member} is not in {group!r}")
        self._check_room(own)
        del own.wanted[group]
        self._directory_bytes -= len(group.encode()) + 1
        self._memberships -= 1
        self._change(own, Change.LEAVE, group, Reason.LEAVE)

    def send(
        self,
        session: int,
        groups: Sequence[str],
        payload: bytes,
        level: Level,
        now: float,
        *,
        self_discard: bool = False,
        stable: bool = False,
    ) -> int:
        """Hand over one frame for one or several groups; returns its ticket.

        Raises:
            QueueFull: the session must wait for ``SessionWritable``.
            MessageTooLarge: more than the level allows.
            NotPrimary: one of the groups is read-only now.
            UsageError: no such session, or a destination that is none.
        """
        self._begin(now)
        own = self._session(session)
        destination = groups if type(groups) is tuple else tuple(groups)
        address = own.addresses.get(destination)
        if address is None:
            self._check_serves()
            address = self._address(own, destination)
        if not self._acting:
            self._check_acting(own, destination)
        return self._put(own, _GROUP, level, payload, len(payload), self_discard, stable, address)

    def _check_acting(self, session: _Session, groups: tuple[str, ...]) -> None:
        """Raise if one of the groups takes no sends where, or as long as it is not known whether, nobody may act."""
        asked = session.wanted
        outside, group = max((max(self._groups.outside(one), asked.get(one, Outside.GO_ON)), one) for one in groups)
        if outside is Outside.GO_ON:
            return
        if outside is Outside.READ_ONLY and self._view is not None and not self._view.frozen:
            raise NotPrimary(f"{group!r} is read-only here: this component is not primary ({self._voter.why})")
        self._held_up.add(session.member.session)
        raise SendsWait(f"sends to {group!r} wait until this component is primary")

    @staticmethod
    def _address(session: _Session, groups: tuple[str, ...]) -> bytes:
        """How frames of this session to these groups begin; remembered."""
        if not 0 < len(groups) <= MAX_DESTINATION_GROUPS:
            raise UsageError(f"a message goes to 1 to {MAX_DESTINATION_GROUPS} groups, not {len(groups)}")
        if len(set(groups)) != len(groups):
            raise UsageError("a group is named twice")
        for group in groups:
            checked_name(group, "a group name")
        if sum(len(group.encode()) for group in groups) > MAX_DESTINATION_BYTES:
            raise UsageError(f"the group names exceed {MAX_DESTINATION_BYTES} bytes")
        if len(session.addresses) >= _MAX_ADDRESSES:
            session.addresses.clear()
        address = session.addresses[groups] = group_address(session.member.session, session.member.client, groups)
        return address

    def send_private(
        self,
        session: int,
        client: str,
        node_name: str,
        payload: bytes,
        level: Level,
        now: float,
        *,
        stable: bool = False,
    ) -> int:
        """Hand over one frame for one member; returns its ticket. Raises as ``send``."""
        self._begin(now)
        own = self._session(session)
        self._check_serves()
        checked_name(client, "a client name")
        checked_name(node_name, "a node name", 64)
        body = Writer().number(session).text(own.member.client).text(node_name).text(client).done() + payload
        return self._put(own, _PRIVATE, level, body, len(payload), False, stable)

    def _put(
        self,
        session: _Session,
        frame_type: FrameType,
        level: Level,
        body: bytes,
        size: int,
        self_discard: bool,
        stable: bool,
        address: bytes = b"",
    ) -> int:
        number = session.member.session
        ticket = self._next_ticket
        frame = Outgoing(
            number, ticket, frame_type, level, body, address=address, self_discard=self_discard, stable=stable
        )
        if level is Level.UNRELIABLE:
            room = self._config.mtu_bytes - HEADER_BYTES - 8 - len(address)
            if len(body) > room:
                raise MessageTooLarge(
                    f"an unreliable message must fit one packet: {size} bytes, {room - len(body) + size} allowed here"
                )
            self._put_unreliable(frame)
        else:
            allowed = self._config.max_message_bytes + PAYLOAD_HEAD_BYTES
            if size > allowed:
                raise MessageTooLarge(f"{size} bytes, at most {self._config.max_message_bytes} are allowed")
            self._check_room(session)
            view = self._view
            if view is not None and self._directories_read and view.send_at_once(frame, self._now):
                self._membership.traffic(self._now)
            else:
                self._outbox.put(number, frame, frame.size)
        self._next_ticket += 1
        return ticket

    def _put_unreliable(self, frame: Outgoing) -> None:
        self._unreliable.append(frame)
        self._unreliable_bytes += frame.size
        while self._unreliable_bytes > UNRELIABLE_QUEUE_BYTES:
            dropped = self._unreliable.popleft()
            self._unreliable_bytes -= dropped.size
            self._counters.up("unreliable_dropped")
            self._outputs.append(SendAccepted(dropped.session, dropped.ticket, False))

    def queued_bytes(self, session: int) -> int:
        """What the session has handed over and the wire has not taken."""
        return self._outbox.session_bytes(session)

    def member(self, session: int) -> MemberId:
        """The session as the groups know it."""
        return self._session(session).member

    def rotate_key(self, now: float) -> None:
        """Bring the view to the next key epoch; ``KeyRotated`` follows.

        Raises:
            UsageError: this cluster has no key.
        """
        self._begin(now)
        if self._rotation is None:
            raise UsageError("this cluster has no key: there is nothing to rotate")
        self._rotation.ask()

    def expel(self, name: str, now: float) -> None:
        """Expel the node of this name, for good; ``NodeExpelled`` follows, and a view without it.

        Raises:
            UsageError: this cluster has no certificates, or that is no name of another node.
        """
        self._begin(now)
        if self._expulsion is None:
            raise UsageError(
                "this cluster has no certificates: nothing tells its nodes apart, and nobody can be expelled"
            )
        self._expulsion.ask(name)

    def leave_cluster(self, now: float) -> None:
        """Leave: all sessions end, what was accepted is sent and delivered, then the others are told."""
        self._begin(now)
        if self._membership.state is _STOPPED or self._leaving_until != inf:
            return
        self._leaving_until = now + self._config.timing.leave
        for number in sorted(self._sessions):
            self.close_session(number, Reason.NODE_LEAVE, now)

    def _leave_if_drained(self, now: float) -> None:
        if self._leaving_until == inf or self._membership.state is _STOPPED:
            return
        view = self._view
        drained = view is None or (not view.frozen and not view.sending.pending and view.all_delivered)
        if not self._membership.leaving and (drained or now >= self._leaving_until - self._config.timing.leave / 2):
            self._membership.leave()
            self._membership.tick(now)
        elif now >= self._leaving_until:
            self._membership.abandon()

    # ---- getters -------------------------------------------------------------------------------------------------

    @property
    def blocked(self) -> bool:
        """Whether nothing new is sent now: no view yet, or a view change."""
        return self._view is None or self._view.frozen or not self._view.open

    def status(self, now: float) -> NodeStatus:
        """The node as it is now."""
        view, membership = self._view, self._membership
        state = "leaving" if self._leaving_until != inf and membership.state is not _STOPPED else membership.state.value
        peers, counters = [], Counters(self._counters)
        counters["copies_sent"] = self._spread.copies
        if view is not None:
            counters.update(view.losses)
            for index, (node, peer) in enumerate(zip(view.setup.members, self._view_peers, strict=True)):
                if peer is not None:
                    stream = view.streams[index]
                    peers.append(
                        PeerStatus(
                            node,
                            peer.address,
                            peer.round_trip.seconds,
                            max(0.0, now - peer.heard_at),
                            stream.contiguous,
                            stream.ever_missing,
                            stream.requests,
                            stream.repairs,
                            stream.contiguous - stream.stable,
                            membership.path_status(peer, now),
                        )
                    )
        return NodeStatus(
            self._node,
            self._config.cluster,
            state,
            membership.view,
            membership.members,
            None if view is None else view.setup.members[view.sequencer],
            view is not None and self._voter.verdict.primary,
            self._groups.status(),
            tuple(peers),
            0 if view is None else view.window.window_bytes,
            0 if view is None else view.window.unreceived_bytes,
            self._outbox.size_bytes,
            dict(sorted(counters.items())),
            membership.eviction.slow(now),
            membership.eviction.readmission.kept_out(now),
            membership.eviction.evicted_by(now),
            self._guard is not None,
            0 if self._guard is None else self._guard.epoch.number,
            catching_up=membership.eviction.catching_up(now),
            quorum=QuorumStatus(
                self._config.quorum,
                "" if view is None else self._voter.why,
                self._voter.differing,
                self._voter.memory.whole,
            ),
            flapping=membership.flapping.shown(now),
        )

    def check_invariants(self) -> None:
        """Raise ``AssertionError`` if the engine contradicts itself."""
        if self._view is not None:
            self._view.check_invariants()
        if self._guard is not None:
            self._guard.check_invariants()
        self._groups.check_invariants()
        assert self._unreliable_bytes <= UNRELIABLE_QUEUE_BYTES
