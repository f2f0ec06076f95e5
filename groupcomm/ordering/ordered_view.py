"""One view's data plane: the streams of all its nodes, put in order, from its installation to its end.

Puts reliability and ordering together: packets of the view go in, released frames come out, packets to send come out.
Decides nothing about membership: it is told when to freeze, what the plan is, and when to finish. From its first answer
on a frozen view sends, stamps, reports and delivers nothing, and takes only packets that a plan names.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import inf
from random import Random

from attrs import evolve, frozen

from groupcomm.config import EngineConfig
from groupcomm.errors import MalformedPacket
from groupcomm.events import Level
from groupcomm.identity import NodeId, ViewId
from groupcomm.limits import (
    MAX_FRAME_BYTES,
    MAX_RANGES,
    MAX_REPAIR_PACKETS,
    MIN_BUDGET_BYTES,
    MIN_WINDOW_BYTES,
    PACKET_OVERHEAD_BYTES,
)
from groupcomm.ordering.assembly import Assembly
from groupcomm.ordering.closing import Closing
from groupcomm.ordering.frames import Frame, FrameType, Outgoing, parse_alone
from groupcomm.ordering.release import Release
from groupcomm.ordering.sending import PacketPlan, Sending
from groupcomm.ordering.sequencer import OwnStamp, Sequencing
from groupcomm.ordering.slots import Slots
from groupcomm.ordering.unreliable import Unreliable
from groupcomm.reliability.counters import Counters
from groupcomm.reliability.flow import Window
from groupcomm.reliability.lane import LEAST_TRIP_SECONDS, REPAIR_BYTES, bytes_from
from groupcomm.reliability.outbox import Outbox
from groupcomm.reliability.repair import RepairQueue
from groupcomm.reliability.reports import Out, Reports
from groupcomm.reliability.requests import Requests
from groupcomm.reliability.rtt import RoundTrip
from groupcomm.reliability.slowness import NOBODY, Look, Waiting, lag_bytes, look
from groupcomm.reliability.stability import Stability
from groupcomm.reliability.stream import Accepted, PacketRun, Stream
from groupcomm.reliability.tail import TailSender
from groupcomm.wire.codec import Reader
from groupcomm.wire.messages import Holding, ViewPlan
from groupcomm.wire.packets import (
    FIRST,
    HEADER_BYTES,
    LAST,
    LAST_OF_VIEW,
    SLOTTED,
    STAMP_POSITION,
    STAMPED,
    UNORDERED,
    WANTS_STATUS,
    ArrivedRun,
    Ask,
    Grant,
    Handover,
    Header,
    Kind,
    Nack,
    Packets,
    Stamp,
    StampRun,
    Status,
    Summary,
    Tail,
    Take,
    encode,
    widen,
)

_AGREED = Level.AGREED
_ASK = Kind.ASK
_DATA = Kind.DATA
_DIRECTORY = FrameType.DIRECTORY
_DUPLICATE = Accepted.DUPLICATE
_GRANT = Kind.GRANT
_HANDOVER = Kind.HANDOVER
_NACK = Kind.NACK
_NEW = Accepted.NEW
_RELIABLE = Level.RELIABLE
_SAFE = Level.SAFE
_STAMP = Kind.STAMP
_STATUS = Kind.STATUS
_SUMMARY = Kind.SUMMARY
_TAIL = Kind.TAIL
_TAKE = Kind.TAKE
_UNRELIABLE = Kind.UNRELIABLE
_LEAST = Level.UNRELIABLE

_HANDOVER_SECONDS = 1.0
_HANDOVER_SHARE = 2 / 3
_STAMP_RUNS = 64
_HELD_WINDOWS = 2
"""Held of a stream, beyond a gap: two grants, since word of what all have takes its time, and one frame in its slot."""
_EMPTY_DIRECTORY = b"\0"
_ONE_PLACED_FRAME = FIRST | LAST | STAMPED
_PLACED_AT = HEADER_BYTES + STAMP_POSITION.size
"""Where the frame begins in a packet whose sender gives it its place."""
_BORDERS = bytes(bool(flags & (FIRST | LAST | STAMPED)) for flags in range(256))
"""Which flags say that a packet is not one in the middle of a frame."""
_KINDS_OF_VIEW = frozenset(kind for kind in Kind if kind <= LAST_OF_VIEW)


@frozen
class ViewSetup:
    """What a view is born with.

    Attributes:
        id: its id.
        members: its nodes, in the order of their indices.
        me: the index of this node.
        sequencer: the index of the first sequencer.
        digest: what its packets carry.
        speakers: the indices of the members that send their directories first; the other directories are empty.
        window_bytes: where the send window starts.
    """

    id: ViewId
    members: tuple[NodeId, ...]
    me: int
    sequencer: int
    digest: int
    speakers: frozenset[int]
    window_bytes: int


class OrderedView:
    """The streams of one view.

    Attributes:
        setup: what it was born with.
        out: packets to send, with the index of the member each is for (None for all) and, of a run of packets, the size
            of each (else 0). Emptied by the engine.
        accepted: tickets (session, ticket, complete) that are done. Emptied by the engine.
        directories: the directory of each node that has sent it.
        frozen: it has answered a proposal.
        lane: who is not waited for, by index: the catch-up lane of this node's stream.
        streams: by index.
        sending: this node's frames on their way into packets.
        window: this node's send window.
    """

    def __init__(
        self,
        setup: ViewSetup,
        config: EngineConfig,
        outbox: Outbox[Outgoing],
        round_trips: Sequence[RoundTrip],
        random: Random,
        counters: Counters,
        now: float,
    ) -> None:
        size, first = len(setup.members), config.first_packet_number
        self.setup = setup
        self._config = config
        self._timing = config.timing
        self._rtts = round_trips
        self._counters = counters
        grant = config.budget_bytes // 2 // size
        self.window = Window(grant, setup.window_bytes, first)
        self._rooms = [grant] * size
        self._least_grant = MIN_BUDGET_BYTES // 2 // size
        self._ahead_limit = 2 * (config.budget_bytes // 2) // PACKET_OVERHEAD_BYTES
        hold_limit = _HELD_WINDOWS * self.window.grant_bytes + MAX_FRAME_BYTES + config.lane_bytes
        self.streams = [Stream(first, self._ahead_limit, hold_limit) for _ in range(size)]
        self._own = self.streams[setup.me]
        self.out: Out = []
        self._open_reports(config, random)
        self._closing = Closing(setup.me, self.streams)
        self._assemblies = [Assembly(index) for index in range(size)]
        self._release = Release(size, first)
        self._release.open = not setup.speakers
        self._sequencing = Sequencing(size, setup.sequencer, self._release)
        self._violations_told = 0
        self._slots = Slots(max(1, config.budget_bytes // 4 // config.max_message_bytes))
        self.sending = Sending(setup.me, outbox, self._release, self.window, config.mtu_bytes)
        self._repairs = RepairQueue(now)
        self.lane: frozenset[int] = frozenset()
        self._lane_repairs = RepairQueue(now)
        self._processed = [first] * size
        self._asked_slot = 0
        self._safe_unplaced = False
        self._passed: list[Frame] = []
        self._ordered_bytes = [0] * size
        self._handover_at = now + _HANDOVER_SECONDS
        self.directories = {index: _EMPTY_DIRECTORY for index in range(size) if index not in setup.speakers}
        self.accepted: list[tuple[int, int, bool]] = []
        self._awaiting: list[tuple[int, int, int]] = []
        self._more = False
        self._rose: set[int] = set()
        self._stamped: list[StampRun] = []
        self._ask_at = inf
        self._ask_wait = 0.0
        self._unreliable = Unreliable(setup.me, setup.digest, size)
        self.unreliable: list[Frame] = []
        self.frozen = False

    def _open_reports(self, config: EngineConfig, random: Random) -> None:
        """What this node says of what it has, what it lacks, and how far its own stream goes."""
        me, digest, size = self.setup.me, self.setup.digest, len(self.streams)
        summed = size > config.suppression_nodes
        self._stability = Stability(size, self._own.contiguous, rows=not summed or me == size - 1)
        self._reports = Reports(
            me,
            digest,
            config,
            self.streams,
            self._stability,
            self._rooms,
            self._counters,
            self.out,
            self,
        )
        self._touched = self._reports.touched
        self._requests = Requests(
            me, digest, config, self.streams, self._stability, self._rtts, random, self._counters, self.out
        )
        self._tail = TailSender(
            me,
            digest,
            self._own,
            self._stability,
            self._rtts,
            self._counters,
            self.out,
            least_wait=self._reports.status_seconds / 2 if summed else 0.0,
            rarely=self._timing.for_nodes(size).heartbeat,
            names_short=not summed,
        )

    # ---- what comes in -------------------------------------------------------------------------------------------

    def packet_received(self, header: Header, packet: bytes, now: float) -> None:
        """A packet with this view's digest.

        Raises:
            MalformedPacket: its body is not of its kind, or it names a node that is not in the view.
        """
        sender, kind = header.sender, header.kind
        if sender >= len(self.streams):
            raise MalformedPacket(f"sender {sender} of {len(self.streams)}")
        if kind not in _KINDS_OF_VIEW:
            self._counters.up("unknown_kind")
            return
        if sender == self.setup.me:
            if kind <= _GRANT and self.frozen and self._closing.plan is None:
                self._counters.up("own_packets_heard")
            return
        if kind <= _GRANT:
            self._numbered(header, packet, now)
        elif kind == _NACK:
            self._nacked(sender, Nack.decode(Reader(packet, HEADER_BYTES)), now)
        elif self.frozen:
            self._counters.up("frozen_dropped")
        elif kind == _STATUS:
            self._status_came(sender, header.flags, Status.decode(Reader(packet, HEADER_BYTES)), now)
        elif kind == _TAIL:
            self._tail_came(sender, Tail.decode(Reader(packet, HEADER_BYTES)), now)
        elif kind == _SUMMARY:
            self._summary_came(sender, Summary.decode(Reader(packet, HEADER_BYTES)))
        elif kind == _UNRELIABLE:
            frame = self._unreliable.came(sender, header.sequence, packet)
            if frame is None:
                self._counters.up("duplicates")
            else:
                self.unreliable.append(frame)

    def pass_through(self, header: Header, packet: bytes) -> Frame | None:
        """The frame of a small packet that can be delivered the moment it comes: what nearly every one is at low rates.

        The same as ``packet_received`` and ``deliver``; None, and nothing is done, if the packet must go that way.
        """
        sender, sequencing, release = header.sender, self._sequencing, self._release
        if header.flags != _ONE_PLACED_FRAME or sender != sequencing.current or sender == self.setup.me or self.frozen:
            return None
        stream = self.streams[sender]
        before = stream.contiguous
        if (
            header.sequence != before + 1 & 0xFFFFFFFF
            or stream.highest != before
            or self._processed[sender] != before
            or self._assemblies[sender].first
            or self._passed
            or sequencing.readable
            or sequencing.taking
            or stream.held_bytes >= stream.hold_limit_bytes
            or len(packet) < _PLACED_AT
            or STAMP_POSITION.unpack_from(packet, HEADER_BYTES)[0] != release.placed + 1 & 0xFFFFFFFF
        ):
            return None
        frame = parse_alone(sender, before + 1, packet, _PLACED_AT)
        if frame is None or not release.passes(frame):
            return None
        release.pass_through(frame)
        stream.append(packet)
        self._processed[sender] = before + 1
        sequencing.passed(sender, before + 1)
        self._ordered_bytes[sender] += frame.size
        self._touched.add(sender)
        self._ask_at, self._ask_wait = inf, 0.0
        self._counters["frames_delivered"] += 1
        return frame

    def _numbered(self, header: Header, packet: bytes, now: float) -> None:
        sender = header.sender
        stream = self.streams[sender]
        number = widen(header.sequence, stream.contiguous)
        if self.frozen and not self._closing.names(sender, number):
            self._counters.up("frozen_dropped")
            return
        wait = self._requests.wait_seconds(sender) if number > stream.highest + 1 else 0.0
        accepted = stream.accept(number, packet, now, wait)
        if accepted is not _NEW:
            self._counters.up("duplicates" if accepted is _DUPLICATE else "too_far_ahead")
            return
        if stream.highest != stream.contiguous:
            self._requests.look_at(sender)
        if self.frozen:
            return
        self._touched.add(sender)
        if header.flags & WANTS_STATUS and header.kind in (_DATA, _STAMP):
            self._reports.wanted(sender, number)
        if self._processed[sender] < stream.contiguous:
            self._advance(sender)
            if self._stamped:
                self._look_for_stamped(now)
        elif header.flags & UNORDERED and header.kind == _DATA and stream.missing_count < MAX_RANGES:
            self._take_early(sender, number)

    def run_received(self, run: ArrivedRun, now: float) -> bool:
        """Packets with this view's digest that came at once; if they are taken, else nothing is done."""
        sender = run.sender
        if self.frozen or sender >= len(self.streams) or sender == self.setup.me:
            return False
        lows = run.numbers
        begin, count = 0, len(lows)
        while begin < count:
            end = begin + 1
            if lows[begin:] == tuple(range(lows[begin], lows[begin] + count - begin)):
                end = count
            while end < count and lows[end] == lows[end - 1] + 1:
                end += 1
            first = widen(lows[begin], self.streams[sender].contiguous)
            packets = run.packets if end - begin == count else run.packets.some(begin, end)
            part = PacketRun(first, run.flags[begin:end], run.bodies[begin:end], packets)
            if not self._take_run(sender, part, now):
                for index in range(begin, end):
                    packet = run.packets.packet(index)
                    self._numbered(Header(packet), packet, now)
            begin = end
        return True

    def _take_run(self, sender: int, run: PacketRun, now: float) -> bool:
        """Take in packets that are all new; False, and nothing is done, if they must be taken one by one."""
        stream = self.streams[sender]
        kinds = set(run.flags)
        if run.first > stream.contiguous + 1 and any(flag & UNORDERED for flag in kinds):
            return False
        if not stream.accept_run(run, now, self._requests.wait_seconds(sender)):
            return False
        self._requests.look_at(sender)
        self._touched.add(sender)
        for flag in kinds:
            if flag & WANTS_STATUS:
                self._reports.wanted(sender, run.first + run.flags.rfind(flag))
        if self._processed[sender] < stream.contiguous:
            self._advance(sender)
            if self._stamped:
                self._look_for_stamped(now)
        return True

    def _look_for_stamped(self, now: float) -> None:
        """The sequencer has what it places: what of it is not here is missing."""
        for run in self._stamped:
            if run.stream < len(self.streams) and run.stream != self.setup.me:
                stream = self.streams[run.stream]
                if run.up_to > stream.highest:
                    wait = self._requests.wait_seconds(run.stream) * 2
                    self._requests.announced(run.stream, run.up_to, now, wait)
        self._stamped.clear()

    def _take_early(self, sender: int, number: int) -> None:
        try:
            frames = self._assemblies[sender].ahead(number, self.streams[sender].packet)
        except MalformedPacket:
            self._counters.up("peer_violations")
            return
        for frame in frames:
            if frame.level == _RELIABLE:
                self._release.add(frame)

    def _advance(self, sender: int, until: int | None = None) -> None:
        """Look into the packets that have become part of the contiguous stream."""
        stream, held = self.streams[sender], self.streams[sender].held
        end = stream.contiguous if until is None else min(until, stream.contiguous)
        self._touched.add(sender)
        number = self._processed[sender] + 1
        while number <= end:
            packet = held[number]
            if isinstance(packet, PacketRun):
                last = min(packet.last, end)
                self._run(sender, number, last, packet)
                number = last + 1
                continue
            try:
                if packet[1] == _DATA:
                    self._data(sender, number, packet[2], packet[HEADER_BYTES:])
                else:
                    self._control(sender, number, packet)
            except MalformedPacket:
                self._counters.up("peer_violations")
            number += 1
        self._processed[sender] = max(self._processed[sender], end)

    def _run(self, sender: int, first: int, last: int, run: PacketRun) -> None:
        """The packets ``first`` to ``last`` of a run: those in the middle of a frame are passed on together."""
        bodies, assembly = run.bodies, self._assemblies[sender]
        borders = run.flags.translate(_BORDERS)
        begin, end = first - run.first, last - run.first + 1
        while begin < end:
            at, border = begin, borders[begin]
            until = at + 1 if border else borders.find(1, at, end)
            begin = until if until > 0 else end
            try:
                if border:
                    self._data(sender, run.first + at, run.flags[at], bodies[at])
                else:
                    assembly.middle(bodies[at:begin])
            except MalformedPacket:
                self._counters.up("peer_violations")
        if last == run.last:
            run.bodies = ()

    def _data(self, sender: int, number: int, flags: int, body: bytes) -> None:
        position = None
        if flags & STAMPED:
            if len(body) < STAMP_POSITION.size:
                raise MalformedPacket(f"{len(body)} bytes are no position")
            low: int = STAMP_POSITION.unpack_from(body)[0]
            position = widen(low, self._release.placed + 1)
            body = body[STAMP_POSITION.size :]
        frames = self._assemblies[sender].packet(number, flags, body)
        if frames or position is not None:
            self._frames(sender, number, frames, flags, position)

    def _frames(self, sender: int, number: int, frames: Sequence[Frame], flags: int, position: int | None) -> None:
        """The frames that end in packet ``number``; the sender has placed those at AGREED and above at ``position``."""
        ordered = 0
        for frame in frames:
            if frame.type is _DIRECTORY:
                self._directory(sender, frame)
                continue
            if frame.level == _LEAST:
                raise MalformedPacket("an unreliable frame in a stream")
            self._release.add(frame)
            if frame.level >= _AGREED:
                ordered += 1
                self._ordered_bytes[sender] += frame.size
                self._safe_unplaced = self._safe_unplaced or frame.level == _SAFE
            if flags & SLOTTED and frame.first != frame.last:
                self._slots.used(sender, number)
        if ordered:
            self._sequencing.frames_came(sender, ordered, number)
            if position is not None:
                self._sequencing.record_came(sender, number, OwnStamp(position, ordered))

    def _directory(self, sender: int, frame: Frame) -> None:
        if sender in self.directories:
            raise MalformedPacket("a directory that is not the first")
        self.directories[sender] = frame.body
        if len(self.directories) == len(self.streams):
            self._release.open = True

    def _control(self, sender: int, number: int, packet: bytes) -> None:
        kind, reader = packet[1], Reader(packet, HEADER_BYTES)
        if kind == _STAMP:
            stamp = Stamp.decode(reader)
            self._sequencing.record_came(sender, number, stamp)
            self._stamped.extend(stamp.runs)
        elif kind == _HANDOVER:
            self._sequencing.record_came(sender, number, Handover.decode(reader))
        elif kind == _TAKE:
            self._sequencing.record_came(sender, number, Take.decode(reader))
        elif kind == _ASK:
            Ask.decode(reader)
            self._slots.asked(sender, number)
        elif kind == _GRANT:
            grant = Grant.decode(reader)
            if not self._sequencing.took_office(sender):
                raise MalformedPacket("a slot from a node that never was the sequencer")
            self._slots.granted(grant.to, grant.ask)
            if grant.to == self.setup.me and grant.ask == self._asked_slot:
                self._asked_slot = 0
                self.sending.granted = True

    def _nacked(self, asker: int, nack: Nack, now: float) -> None:
        if max(nack.stream, nack.asked) >= len(self.streams):
            raise MalformedPacket(f"stream {nack.stream} of {len(self.streams)}")
        self._counters.up("nacks_received")
        stream, rtt = self.streams[nack.stream], self._rtts[asker].or_initial
        if nack.asked != self.setup.me:
            stream.postpone(nack.ranges, now + rtt)
            return
        slow = asker in self.lane
        repairs = self._lane_repairs if slow else self._repairs
        lost = repairs.ask(asker, nack.stream, nack.ranges, stream.held.__contains__, now, rtt)
        if nack.stream == self.setup.me and not self.frozen and not slow:
            self.window.lost(asker, lost, now, self._tail.farthest_seconds)
            self._tail.lost(now)

    def _status_came(self, sender: int, flags: int, status: Status, now: float) -> None:
        me = self.setup.me
        before = self._stability.stable[me], self._stability.delivered[me]
        for entry in status.entries:
            if entry.stream >= len(self.streams) or entry.received > self.streams[entry.stream].highest + (1 << 31):
                raise MalformedPacket(f"a status about {entry}")
            if entry.stream == me and entry.received > self.streams[me].contiguous:
                raise MalformedPacket("a status about packets never sent")
            if self._stability.report(sender, entry):
                self._rose.add(entry.stream)
                self._reports.tell(entry.stream, now)
            elif self._reports.collects and self._stability.covers(entry):
                self._reports.tell(entry.stream, now)
            if entry.received > self.streams[entry.stream].highest:
                wait = self._requests.wait_seconds(entry.stream) * 2
                self._requests.announced(entry.stream, entry.received, now, wait)
        if flags & WANTS_STATUS:
            self._reports.full_wanted = True
        self._tail.measure()
        if status.room_bytes != self._rooms[sender]:
            self._rooms[sender] = status.room_bytes
            self.window.grant_bytes = max(self._least_grant, min(self._rooms))
        if self.lane or before != (self._stability.stable[me], self._stability.delivered[me]):
            self._acknowledge()

    def _summary_came(self, sender: int, summary: Summary) -> None:
        """What the reports of all nodes together say."""
        if sender != self._reports.collector or not self._reports.summed:
            raise MalformedPacket("a summary of one who sums nothing up")
        me = self.setup.me
        for entry in summary.entries:
            if entry.stream >= len(self.streams) or entry.stable > self.streams[entry.stream].contiguous:
                raise MalformedPacket(f"a summary about {entry}")
            if self._stability.sum_came(entry):
                self._rose.add(entry.stream)
                if entry.stream == me:
                    self._acknowledge()
        self._tail.measure()
        self.window.grant_bytes = max(self._least_grant, summary.room_bytes)

    def _acknowledge(self) -> None:
        me = self.setup.me
        stable, delivered = self._stability.stable[me], self._stability.delivered[me]
        if self.window.everybody is None:
            self.window.acknowledged(stable, delivered)
        else:
            self.window.everybody.acknowledged(stable, delivered)
            self.window.acknowledged(*self._stability.least_of(me, self.lane))
        if not self._awaiting:
            return
        done = [item for item in self._awaiting if item[0] <= delivered]
        if done:
            self._awaiting = [item for item in self._awaiting if item[0] > delivered]
            self.accepted.extend((session, ticket, True) for _, session, ticket in done)

    def _tail_came(self, sender: int, tail: Tail, now: float) -> None:
        stream = self.streams[sender]
        if tail.highest > stream.contiguous + (1 << 31):
            raise MalformedPacket("a tail too far ahead")
        if tail.highest > stream.contiguous:
            self._requests.announced(sender, tail.highest, now, 0.0)
        if tail.wanted >> self.setup.me & 1:
            self._reports.full_wanted = True

    # ---- what goes out -------------------------------------------------------------------------------------------

    @property
    def open(self) -> bool:
        """Whether the directories are complete, so that frames are delivered and sessions may send."""
        return self._release.open

    @property
    def position(self) -> int:
        """How many ordered frames are delivered."""
        return self._release.ordered

    @property
    def sequencer(self) -> int:
        """The index of the node that orders."""
        return self._sequencing.current

    @property
    def highest_sent(self) -> int:
        """The number of the last packet this node has sent."""
        return self._own.contiguous

    @property
    def all_delivered(self) -> bool:
        """Whether every node has delivered everything this node has sent."""
        return self._stability.delivered[self.setup.me] >= self.highest_sent

    def deliver(self) -> list[Frame]:
        """The frames that may be delivered now, in order."""
        if self.frozen:
            return []
        sequencing = self._sequencing
        if sequencing.readable:
            sequencing.read()
            if sequencing.violations > self._violations_told:
                self._counters.up("peer_violations", sequencing.violations - self._violations_told)
                self._violations_told = sequencing.violations
        frames, self._passed = self._passed, []
        if self._release.holds:
            frames += self._release.take(self._stability.stable)
        if frames:
            self._touched.update([frame.stream for frame in frames])
            self._ask_at, self._ask_wait = inf, 0.0
            self._counters.up("frames_delivered", len(frames))
        return frames

    def send(self, now: float) -> bool:
        """Put into ``out`` what may leave; True if something of this node's stream did."""
        if self.frozen:
            return False
        own, sending = self._own, self.sending
        before = own.contiguous
        self._measure_room()
        orders = self._sequencing.current == self.setup.me
        if orders:
            self._order(now)
        if sending.ask_for:
            self._ask_for_slot()
        if sending.pending:
            control_only = not self._release.open
            while sending.pending and (plan := sending.next_packets(control_only=control_only)) is not None:
                self._emit_data(plan)
            if sending.ask_for and not sending.granted:
                self._ask_for_slot()
        if own.contiguous == before:
            return False
        if orders:
            self._order(now)
        self._tail.sent(now)
        return True

    def send_at_once(self, frame: Outgoing, now: float) -> bool:
        """Send a small AGREED frame that nothing is before: what nearly every send is at low rates.

        The same as putting it into the outbox and ``send``; False, and nothing is done, if it must go that way. Own
        frames at places given here only: elsewhere, and behind anything that waits, the order is not this node's.
        """
        sequencing, release, me = self._sequencing, self._release, self.setup.me
        if (
            frame.level != _AGREED
            or frame.stable
            or sequencing.current != me
            or self.frozen
            or self._passed
            or not release.open
            or sequencing.taking
            or sequencing.waiting
            or sequencing.readable
            or not release.idle
        ):
            return False
        self._measure_room()
        alone = self.sending.alone(frame)
        if alone is None:
            return False
        data, flags, own = alone
        if own.past or not release.passes(own):
            self._emit_data(PacketPlan([data], bytearray((flags,)), [frame], [own], None, False, 1))
            self._tail.sent(now)
            return True
        body = STAMP_POSITION.pack(release.placed + 1 & 0xFFFFFFFF) + data
        number = own.first = own.last = self._emit(_DATA, body, flags | STAMPED)
        asks = bool(flags & WANTS_STATUS)
        self.window.sent(number, len(data) + PACKET_OVERHEAD_BYTES, slotted=False, asks=asks)
        release.pass_through(own)
        sequencing.passed(me, number)
        self._processed[me] = number
        self._ordered_bytes[me] += own.size
        self._passed.append(own)
        self._counters["frames_sent"] += 1
        if frame.ticket:
            self.accepted.append((frame.session, frame.ticket, True))
        self._tail.sent(now)
        return True

    def _emit_data(self, plan: PacketPlan) -> None:
        """Number the packets of a plan, hand them out, and take this node's own copies of the frames that end."""
        me, bodies, flags = self.setup.me, plan.bodies, plan.flags
        first, count, last_size = self._own.contiguous + 1, len(bodies), len(bodies[-1])
        position = None
        sequencing = self._sequencing
        if plan.ordered_count and self._orders and not sequencing.has_unplaced(me) and not sequencing.readable:
            position = self._release.placed + 1
            bodies[-1] = STAMP_POSITION.pack(position & 0xFFFFFFFF) + bodies[-1]
            flags[-1] |= STAMPED
        if count == 1:
            self._emit(_DATA, bodies[0], flags[0])
        elif len(bodies[-1]) > len(bodies[0]):
            self._emit_run(bytes(flags[:-1]), bodies[:-1])
            self._emit(_DATA, bodies[-1], flags[-1])
        else:
            self._emit_run(bytes(flags), bodies)
        last = self._own.contiguous
        if count > 1:
            size = len(bodies[0]) + PACKET_OVERHEAD_BYTES
            self.window.sent(last - 1, size, slotted=plan.slotted, count=count - 1)
        asks = bool(flags[-1] & WANTS_STATUS)
        self.window.sent(last, last_size + PACKET_OVERHEAD_BYTES, slotted=plan.slotted, asks=asks)
        if plan.ends:
            self._tickets(plan.ends, last)
        assembly = self._assemblies[me]
        if plan.begun is not None:
            plan.begun.first = assembly.first = first
        self._processed[me] = last
        if plan.own:
            for frame in plan.own:
                frame.first = frame.first or last
                frame.last = last
            assembly.first = 0
            self._frames(me, last, plan.own, flags[-1], None)
            if position is not None:
                sequencing.place_own(plan.ordered_count, last)

    def _emit_run(self, flags: bytes, bodies: Sequence[bytes]) -> None:
        """Number several data packets of one size, the last of which may be shorter, and hand them out as one."""
        me, stream = self.setup.me, self._own
        if len(bodies) == 1:
            self._emit(_DATA, bodies[0], flags[0])
            return
        first = stream.contiguous + 1
        packets = Packets.of(self.setup.digest, me, flags, range(first, first + len(bodies)), bodies)
        stream.append_run(PacketRun(first, flags, (), packets))
        self._touched.add(me)
        if flags[-1] & WANTS_STATUS:
            self._reports.wanted(me, stream.contiguous)
        self.out.append((b"", None, packets))
        self._counters.up("packets_sent", len(bodies))

    def _emit(self, kind: Kind, body: bytes, flags: int = 0) -> int:
        """Number a packet of this node's stream and hand it out."""
        me, stream = self.setup.me, self._own
        number = stream.contiguous + 1
        packet = encode(kind, self.setup.digest, me, number, body, flags=flags)
        stream.append(packet)
        self._touched.add(me)
        if flags & WANTS_STATUS:
            self._reports.wanted(me, number)
        self.out.append((packet, None, None))
        self._counters["packets_sent"] += 1
        if kind != _DATA:
            self.window.sent(number, 0, slotted=True)
        return number

    def _tickets(self, ends: list[Outgoing], number: int) -> None:
        self._counters.up("frames_sent", len(ends))
        for frame in ends:
            if frame.stable:
                self._awaiting.append((number, frame.session, frame.ticket))
            elif frame.ticket:
                self.accepted.append((frame.session, frame.ticket, True))

    @property
    def _orders(self) -> bool:
        return self._sequencing.current == self.setup.me and not self._sequencing.taking

    def _order(self, now: float) -> None:
        """The sequencer's part: take the role over, place what is here, hand the role on, give slots."""
        sequencing, me = self._sequencing, self.setup.me
        if sequencing.readable:
            sequencing.read()
        if sequencing.current != me:
            return
        if sequencing.taking:
            if not sequencing.holds_all_placed:
                return
            self._emit(_TAKE, Take(self._release.placed + 1).encode())
            self._ordered_bytes = [0] * len(self.streams)
            self._handover_at = now + _HANDOVER_SECONDS
            self._advance(me)
            sequencing.read()
        if sequencing.waiting and self.open:
            self._stamp(sequencing.unplaced())
        if self._slots.asked_for:
            while (grant := self._slots.next_grant()) is not None:
                self._emit(_GRANT, Grant(*grant).encode())
                self._advance(me)
        if now >= self._handover_at:
            self._handover_at = now + _HANDOVER_SECONDS
            self._consider_handover()

    def _stamp(self, runs: tuple[StampRun, ...]) -> None:
        """Place what is here and has no place."""
        wanted = WANTS_STATUS if self._safe_unplaced else 0
        for at in range(0, len(runs), _STAMP_RUNS):
            self._emit(_STAMP, Stamp(self._release.placed + 1, runs[at : at + _STAMP_RUNS]).encode(), wanted)
            self._advance(self.setup.me)
            self._sequencing.read()
        self._safe_unplaced = False

    def _consider_handover(self) -> None:
        sizes, self._ordered_bytes = self._ordered_bytes, [0] * len(self.streams)
        best = max(range(len(sizes)), key=lambda index: (sizes[index], -index))
        if (
            best == self.setup.me
            or best in self.lane
            or sizes[best] < 64 * 1024
            or sizes[best] <= sum(sizes) * _HANDOVER_SHARE
        ):
            return
        if self._release.safe_waits or self._slots.in_use:
            return
        self.hand_over(best)

    def hand_over(self, to: int) -> None:
        """Give the sequencer's role to another node, if it is this node's to give."""
        if self._orders and to != self.setup.me and not self.frozen:
            self._counters.up("handovers")
            self._emit(_HANDOVER, Handover(self._release.placed, to).encode())
            self._advance(self.setup.me)
            self._sequencing.read()

    def _ask_for_slot(self) -> None:
        if self.sending.ask_for and not self.sending.granted and not self._asked_slot:
            self._asked_slot = self._emit(_ASK, Ask(min(self.sending.ask_for, self._config.max_message_bytes)).encode())
            self._advance(self.setup.me)

    def send_unreliable(self, frame: Outgoing) -> None:
        """Multicast a frame that is not numbered, not repaired and not ordered."""
        self.out.append((self._unreliable.packet(frame), None, None))

    def maintain(self, now: float) -> bool:
        """Reports, requests and repairs that are due; True if by them more may be delivered."""
        if now >= self._repairs.due_at():
            self._repair(now)
        if now >= self._lane_repairs.due_at():
            self._repair_lane(now)
        self._requests.send(now)
        if self.frozen:
            return False
        self._reports.report(now)
        if self._rose:
            self._free()
        self._tail.maintain(now)
        self._reports.repeat(now)
        if self._ask_at != inf or self._lacks_word:
            self._ask_for_word(now)
        more, self._more = self._more, False
        return more

    def _ask_for_word(self, now: float) -> None:
        """Ask for reports as long as something waits for them that nobody else may know of."""
        if self._lacks_word and self._ask_at == inf:
            self._ask_wait = max(2 * self._reports.prompt_seconds, *(rtt.wait_seconds for rtt in self._rtts))
            self._ask_at = now + self._ask_wait
        if now >= self._ask_at:
            self._ask_wait = min(2 * self._ask_wait, self._timing.for_nodes(len(self.streams)).heartbeat)
            self._ask_at = now + self._ask_wait if self._lacks_word else inf
            if self._lacks_word and self._reports.summed:
                self._reports.send_again(now)
            elif self._lacks_word:
                self._reports.send(now, full=True, flags=WANTS_STATUS)
                self._free()

    @property
    def _lacks_word(self) -> bool:
        """Whether this node waits to hear what the others have: to deliver a SAFE frame, or to give a slot again."""
        return self._release.safe_waits or (self._slots.waiting and self._orders)

    def _repair(self, now: float) -> None:
        budget = max(self.window.window_bytes / 2, 64 * 1024) / max(
            0.001, min((rtt.or_initial for index, rtt in enumerate(self._rtts) if index != self.setup.me), default=1.0)
        )
        self._send_again(self._repairs.take(now, self._size_of, budget, 128 * 1024))

    def _repair_lane(self, now: float) -> None:
        """Repair for those in the lane, at a rate that their lines take."""
        trips = [max(self._rtts[index].or_initial, LEAST_TRIP_SECONDS) for index in self.lane]
        budget = REPAIR_BYTES / min(trips, default=LEAST_TRIP_SECONDS)
        self._send_again(self._lane_repairs.take(now, self._size_of, budget, REPAIR_BYTES))

    def _send_again(self, wanted: Sequence[tuple[int, int, int]]) -> None:
        everyone = len(self.streams) > self._config.suppression_nodes
        for stream, number, askers in wanted:
            packet = self.streams[stream].packet(number)
            if packet is None:
                continue
            alone = not askers & (askers - 1) and not (everyone and stream == self.setup.me)
            self.out.append((packet, askers.bit_length() - 1 if alone else None, None))
            self._counters.up("repairs_sent" if stream == self.setup.me else "repairs_for_others")

    @property
    def losses(self) -> dict[str, int]:
        """What of the others' streams was missing in this view, and what of it came as repairs: as counters."""
        return {
            "packets_missing": sum(stream.ever_missing for stream in self.streams),
            "repairs_received": sum(stream.repairs for stream in self.streams),
        }

    def _size_of(self, stream: int, number: int) -> int:
        return len(self.streams[stream].packet(number) or b"")

    @property
    def reports_later(self) -> bool:
        """Whether a report is due at a time that is known, so that what comes now need not be looked at before."""
        return self._reports.is_timed

    def own_rose(self, stream: int) -> None:
        """What all have of that stream has grown by what this node has."""
        self._rose.add(stream)
        self._more = True
        if stream == self.setup.me:
            self._acknowledge()

    def delivered_through(self, index: int) -> int:
        """The number up to which a stream is delivered here."""
        waiting = self._release.waiting_from(index)
        first = self._assemblies[index].first
        if first and (waiting is None or first < waiting):
            waiting = first
        return self._processed[index] if waiting is None else min(waiting - 1, self._processed[index])

    def _free(self) -> None:
        for index in sorted(self._rose):
            stream = self.streams[index]
            stable = min(self._stability.stable[index], self._processed[index])
            if stable > stream.stable:
                stream.free(stable)
                self._release.forget(index, stable)
            self._slots.delivered(index, self._stability.delivered[index])
            if stable == self._stability.stable[index]:
                self._rose.discard(index)

    def next_deadline(self) -> float:
        """When ``maintain`` has something to do; infinite if never."""
        deadline = min(self._requests.due_at(), self._repairs.due_at(), self._lane_repairs.due_at())
        if self.frozen:
            return deadline
        return min(deadline, self._reports.due_at(), self._tail.due_at(), self._ask_at)

    # ---- who is slow -----------------------------------------------------------------------------------------------

    def look(self) -> Look:
        """Who is behind all others at this moment; nobody, where the rows are another's."""
        if self.frozen or not self._stability.has_rows:
            return NOBODY
        window, waiting = self.window, Waiting.NOTHING
        if self.sending.pending and self.open:
            if 2 * window.undelivered_bytes >= window.grant_bytes:
                waiting = Waiting.DELIVERED
            elif 2 * window.outstanding_bytes >= window.window_bytes:
                waiting = Waiting.RECEIVED
        least = max(1, MIN_WINDOW_BYTES // 2 // (self._config.mtu_bytes + PACKET_OVERHEAD_BYTES))
        seen = look(self.streams, self._stability, self.delivered_through, self.setup.me, waiting, least, self.lane)
        if window.everybody is None:
            return seen
        self._measure_room()
        spent = self.sending.pending and self.open and not window.allows(slotted=False)
        lagging = frozenset(index for index in self.lane if not self._caught_up(index))
        return evolve(seen, lagging=lagging, spent=spent and waiting is Waiting.NOTHING)

    # ---- the catch-up lane -----------------------------------------------------------------------------------------

    def lacks_much(self) -> list[int]:
        """Of whose streams this node lacks more packets than one request names."""
        return [index for index, stream in enumerate(self.streams) if stream.missing_count >= MAX_REPAIR_PACKETS]

    @property
    def has_lane(self) -> bool:
        """Whether members can be taken into a lane: where every node has the rows that it needs."""
        return not self._reports.summed

    def take_into_lane(self, indices: frozenset[int]) -> None:
        """From now on these members are not waited for, and no others are not."""
        if indices == self.lane:
            return
        self.lane = self._tail.lane = indices
        if indices:
            self.window.part()
        else:
            self.window.join()
        self._acknowledge()
        self._tail.measure()

    def _caught_up(self, index: int) -> bool:
        """Whether a member in the lane lacks so little that it may count again."""
        everybody, me, window = self.window.everybody, self.setup.me, self.window
        assert everybody is not None
        received, delivered = (self._stability.column(me, delivered=which)[index] for which in (False, True))
        return (
            2 * bytes_from(everybody.unreceived, received) < window.window_bytes
            and 2 * bytes_from(everybody.undelivered, delivered) < window.grant_bytes
        )

    def _measure_room(self) -> None:
        """How much more may be held for those in the lane: by what is held here of all streams."""
        everybody = self.window.everybody
        if everybody is None:
            return
        held = sum(stream.held_bytes + len(stream.held) * PACKET_OVERHEAD_BYTES for stream in self.streams)
        least_budget = 2 * len(self.streams) * min(self._rooms)
        everybody.room_bytes = min(self._config.lane_bytes, least_budget // 4) - held

    def lag_bytes(self, node: int) -> int:
        """What a member lacks of this node's stream: has not received, or else has not delivered."""
        everybody = self.window.everybody
        if everybody is not None:
            received, delivered = (
                self._stability.column(self.setup.me, delivered=which)[node] for which in (False, True)
            )
            return bytes_from(everybody.unreceived, received) or bytes_from(everybody.undelivered, delivered)
        lacks = lag_bytes(self._own, self._stability.received_by(node, self.setup.me))
        return lacks or self.window.undelivered_bytes

    # ---- the end of the view -------------------------------------------------------------------------------------

    def freeze(self) -> None:
        """From the first answer to a proposal on: nothing is sent, stamped, reported or delivered any more."""
        if not self.frozen:
            self.frozen = True
            self.sending.take_back()
        self._requests.to_all = False
        self._requests.planned = None
        self._closing.forget()

    def holdings(self) -> tuple[Holding, ...]:
        """What this node holds of each stream; promised: it stays held until the next view is installed."""
        return tuple(
            Holding(
                stream.contiguous,
                min(self._stability.stable[index], stream.contiguous),
                stream.ranges_above(),
            )
            for index, stream in enumerate(self.streams)
        )

    def credible(self, holdings: Sequence[Holding]) -> bool:
        """Whether a member of this view can hold that: a plan that names much more than is here is refused by all."""
        return self._closing.is_near([(holding.contiguous, holding.ranges) for holding in holdings], self._ahead_limit)

    def apply_plan(self, plan: ViewPlan, providers: list[int | None], now: float) -> None:
        """What the others hold is to be fetched.

        Args:
            plan: of this view.
            providers: for each participant of the change its index in this view; None for strangers.
            now: the time.
        """
        self._closing.apply(plan, providers, self._ahead_limit)
        self._requests.planned = self._closing
        self.want(now)

    def want(self, now: float) -> int:
        """Ask for what the plan names and is not here; returns how many packets that is."""
        missing = self._closing.want(now)
        self._requests.look_at_all()
        return missing

    @property
    def missing(self) -> int:
        """How many packets of the plan are not here."""
        return self._closing.missing

    def finish(self) -> list[Frame | None]:
        """The rest of the view by the plan, None for the transitional signal; nothing can be asked of it afterwards."""
        assert self._closing.plan is not None and not self.missing
        for index, plan in enumerate(self._closing.plan.streams):
            stream = self.streams[index]
            for number in [number for number in stream.held if not self._closing.names(index, number)]:
                del stream.held[number]
            self._advance(index, plan.end)
            for item in plan.ranges:
                for number in range(item.first, item.last + 1):
                    packet = self.streams[index].packet(number)
                    if packet is not None and packet[1] == _DATA and packet[2] & UNORDERED:
                        self._take_early(index, number)
            self._stability.raise_to(index, plan.stable)
        self._sequencing.read()
        frames = [*self._passed, *self._release.finish(self._stability.stable)]
        self._passed = []
        self._counters.up("frames_delivered", len(frames) - 1)
        return frames

    def end_tickets(self, *, complete: bool) -> None:
        """The view is over: those who waited for stability are told whether all of it have the frame."""
        self.accepted.extend((session, ticket, complete) for _, session, ticket in self._awaiting)
        self._awaiting = []

    def check_invariants(self) -> None:
        """Raise ``AssertionError`` if the view contradicts itself."""
        for index, stream in enumerate(self.streams):
            stream.check_invariants()
            assert self._processed[index] <= stream.contiguous
            assert self._stability.received_by(self.setup.me, index) <= stream.contiguous
        self._release.check_invariants()
