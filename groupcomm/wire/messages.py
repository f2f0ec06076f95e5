"""Messages between nodes that need no common view: beacons, probes, and the messages of a view change.

They travel with the digest of the cluster; one that is larger than a datagram is cut into parts that carry one message
number, and a repeat of it is the same bytes under the same number, so that parts add up over repeats.
"""

from __future__ import annotations

import enum
import ipaddress
from functools import lru_cache
from typing import TypeAlias

from attrs import frozen

from groupcomm.errors import MalformedPacket
from groupcomm.events import Reason
from groupcomm.identity import NodeId, ViewId
from groupcomm.limits import (
    MAX_BEACON_ADDRESSES,
    MAX_CONTROL_ASSEMBLIES,
    MAX_CONTROL_ASSEMBLY_BYTES,
    MAX_CONTROL_BYTES,
    MAX_CONTROL_PARTS,
    MAX_DATAGRAM_BYTES,
    MAX_JOIN_RECORDS,
    MAX_KEPT_OUT,
    MAX_LINKS,
    MAX_NODES,
    MAX_PLAN_RECORDS,
    MAX_RANGES,
    MAX_RELAYED_ROWS,
)
from groupcomm.quorum import Verdict, Vote
from groupcomm.quorum.votes import NO_VERDICT
from groupcomm.wire.codec import Reader, Writer, list_digest
from groupcomm.wire.evidence import Record, read_records, write_records
from groupcomm.wire.keys import KeyEpoch
from groupcomm.wire.packets import HEADER_BYTES, NO_SENDER, VERSION, Header, Kind, Range, encode, read_ranges
from groupcomm.wire.votes import read_verdict, read_vote, write_verdict, write_vote

_MAX_HOST_BYTES = 64
_MAX_VIEWS_HEARD = 128
_MAX_ABANDONED = 8
_MAX_SEGMENTS = 4096
_MAX_MILLISECONDS = 1 << 32
_MAX_DEPARTED = 2 * MAX_NODES


class SlowWord(enum.IntEnum):
    """What a beacon says of a slow receiver, and of a node that has come and gone too often."""

    CLAIM = 1
    CONFIRMATION = 2
    KEPT_OUT = 3
    WAITS = 4
    CATCHING_UP = 5


@frozen
class SlowNote:
    """A word on a slow receiver.

    Attributes:
        word: what is said.
        node: who it is about.
        lag_bytes: what it lacks, or lacked when it was evicted; of one that waits, the hundredths of its penalty.
        milliseconds: how long that has been so; of a node that is kept out or waits, how long it still is.
    """

    word: SlowWord
    node: NodeId
    lag_bytes: int
    milliseconds: int

    @classmethod
    def read(cls, reader: Reader) -> SlowNote:
        """The next note of a body."""
        try:
            word = SlowWord(reader.u8())
        except ValueError:
            raise MalformedPacket("an unknown word on a slow receiver") from None
        return cls(word, reader.node(), reader.number(), reader.number())


def _read_address(reader: Reader) -> tuple[str, int]:
    """The next IPv4 or IPv6 address, with a scope perhaps, and port."""
    host, port = reader.text(_MAX_HOST_BYTES), reader.number(65_535)
    if not _is_host(host):
        raise MalformedPacket(f"{host!r} is no address")
    return host, port


@lru_cache(maxsize=4096)
def _is_host(text: str) -> bool:
    """Whether it is an address; nodes name the same ones again and again, and to find out takes long."""
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


@frozen
class LinkReport:
    """What a node hears by one of its links.

    Attributes:
        number: of this beacon among those that went out by this link; 0 unless there are several.
        address: where the node is on this link; None unless there are several.
        unheard: the nodes of which only what is sent to this one arrives, no multicast.
        silent: the nodes of which nothing arrives by this link.
        all_unheard: no multicast of anybody arrives; ``unheard`` is empty then.
    """

    number: int = 0
    address: tuple[str, int] | None = None
    unheard: tuple[NodeId, ...] = ()
    silent: tuple[NodeId, ...] = ()
    all_unheard: bool = False

    def write(self, writer: Writer) -> None:
        """Append it to a body."""
        writer.u8(self.all_unheard | (self.address is not None) << 1).number(self.number)
        if self.address is not None:
            writer.text(self.address[0]).number(self.address[1])
        for nodes in (self.unheard, self.silent):
            writer.number(len(nodes))
            for node in nodes:
                writer.node(node)

    @classmethod
    def read(cls, reader: Reader) -> LinkReport:
        """The next report of a body."""
        flags, number = reader.u8(), reader.number()
        address = _read_address(reader) if flags & 2 else None
        unheard = tuple(reader.node() for _ in range(reader.number(MAX_NODES)))
        silent = tuple(reader.node() for _ in range(reader.number(MAX_NODES)))
        return cls(number, address, unheard, silent, bool(flags & 1))


@frozen
class Beacon:
    """A node says that it lives, in which view, and which other views it hears.

    Attributes:
        node: the sender.
        view: its view; None while it seeks one.
        size: how many nodes its view has.
        epoch: the highest it has seen.
        gate: whether it admits newcomers for its view.
        reply: whether the receiver is asked to answer with a beacon of its own, by unicast.
        heard: ``view_id_digest`` of the other views of which it has heard every node lately, at most 128.
        notes: on slow receivers.
        links: what it hears by each of its links; nothing if it has one and hears everybody's multicast.
        known: where other nodes are, at most 32 of them, for those who do not hear each other.
    """

    node: NodeId
    view: ViewId | None
    size: int
    epoch: int
    gate: bool
    reply: bool
    heard: tuple[int, ...]
    notes: tuple[SlowNote, ...] = ()
    links: tuple[LinkReport, ...] = ()
    known: tuple[tuple[str, int], ...] = ()

    kind = Kind.BEACON

    def encode(self) -> bytes:
        """The body."""
        writer = Writer().node(self.node).view(self.view).number(self.size).number(self.epoch)
        flags = self.gate | self.reply << 1 | bool(self.notes) << 2 | bool(self.links) << 3 | bool(self.known) << 4
        writer.u8(flags).number(len(self.heard))
        for digest in self.heard:
            writer.u64(digest)
        if self.notes:
            writer.number(len(self.notes))
        for note in self.notes:
            writer.u8(note.word).node(note.node).number(note.lag_bytes).number(note.milliseconds)
        if self.links:
            writer.number(len(self.links))
        for report in self.links:
            report.write(writer)
        if self.known:
            writer.number(len(self.known))
        for host, port in self.known:
            writer.text(host).number(port)
        return writer.done()

    @classmethod
    def decode(cls, reader: Reader) -> Beacon:
        """The value of a body."""
        node, view, size, epoch, flags = (
            reader.node(),
            reader.view(),
            reader.number(MAX_NODES),
            reader.number(),
            reader.u8(),
        )
        heard = tuple(reader.u64() for _ in range(reader.number(_MAX_VIEWS_HEARD)))
        count = reader.number(MAX_KEPT_OUT) if flags & 4 else 0
        notes = tuple(SlowNote.read(reader) for _ in range(count))
        count = reader.number(MAX_LINKS) if flags & 8 else 0
        links = tuple(LinkReport.read(reader) for _ in range(count))
        count = reader.number(MAX_BEACON_ADDRESSES) if flags & 16 else 0
        known = tuple(_read_address(reader) for _ in range(count))
        reader.finish()
        return cls(node, view, size, epoch, bool(flags & 1), bool(flags & 2), heard, notes, links, known)


@frozen
class Probe:
    """A question whether ``node``'s peer lives, how far it is and what passes; ``token`` comes back in the answer.

    Attributes:
        node: who asks.
        token: of this question.
        padding: zeros behind it: whether a datagram of this size arrives is a part of the question.
    """

    node: NodeId
    token: int
    padding: int = 0

    kind = Kind.PROBE

    def encode(self) -> bytes:
        """The body."""
        return Writer().node(self.node).u64(self.token).number(self.padding).raw(bytes(self.padding)).done()

    @classmethod
    def decode(cls, reader: Reader) -> Probe:
        """The value of a body."""
        node, token = reader.node(), reader.u64()
        padding = reader.number(MAX_DATAGRAM_BYTES)
        if any(reader.raw(padding)):
            raise MalformedPacket("a padding that is not zero")
        reader.finish()
        return cls(node, token, padding)


@frozen
class ProbeAck(Probe):
    """The answer to a probe."""

    kind = Kind.PROBE_ACK


@frozen
class Join:
    """A gathering node's word on who should be in the next view.

    Attributes:
        node: the sender.
        view: the view it is in; None for a newcomer.
        answered: the last proposal it has answered since that view.
        leaving: it takes part in the change but will not be a member.
        attempt: a Lamport number over all attempts of all changes.
        begun: the attempt this sender's change began with.
        serial: grows with each JOIN of this sender.
        epoch: the highest it has seen.
        agreed: the hash of the members it computed; 0 until it could.
        listed: ``list_digest`` of its candidates.
        count: how many these are.
        heard: its row of the matrix of who hears whom: the map of the candidates heard in this attempt.
        candidates: all it considers, itself included, in order; None where ``listed`` has to say enough.
        abandoned: proposals it was READY for and gave up, since its view.
        asks: whether the receiver is asked to answer with its own, by unicast.
        evicts: the map of the candidates that it accuses itself of being too slow.
        records: why it does not want to go on as it was; at most 8.
        relayed: rows of others that do not hear all candidates, by the index of each; at most 8.
    """

    node: NodeId
    view: ViewId | None
    answered: ViewId | None
    leaving: bool
    attempt: int
    begun: int
    serial: int
    epoch: int
    agreed: int
    listed: int
    count: int
    heard: int
    candidates: tuple[NodeId, ...] | None
    abandoned: tuple[ViewId, ...]
    asks: bool = False
    evicts: int = 0
    records: tuple[Record, ...] = ()
    relayed: tuple[tuple[int, int], ...] = ()

    kind = Kind.JOIN

    def encode(self) -> bytes:
        """The body."""
        writer = Writer().node(self.node).view(self.view).view(self.answered)
        flags = self.leaving << 1 | (self.candidates is not None) << 2 | self.asks << 3 | bool(self.evicts) << 4
        flags |= bool(self.records) << 5 | bool(self.relayed) << 6
        writer.u8(flags)
        writer.number(self.attempt).number(self.begun)
        writer.number(self.serial).number(self.epoch).u64(self.agreed)
        writer.number(self.count).bits(self.heard, self.count)
        if self.candidates is None:
            writer.u64(self.listed)
        else:
            for node in self.candidates:
                writer.node(node)
        if self.evicts:
            writer.bits(self.evicts, self.count)
        if self.records:
            write_records(writer, self.records)
        if self.relayed:
            writer.number(len(self.relayed))
        for index, heard in self.relayed:
            writer.number(index).bits(heard, self.count)
        writer.number(len(self.abandoned))
        for view in self.abandoned:
            writer.view(view)
        return writer.done()

    @classmethod
    def decode(cls, reader: Reader) -> Join:
        """The value of a body."""
        node, view, answered, flags = reader.node(), reader.view(), reader.view(), reader.u8()
        attempt, begun, serial = reader.number(), reader.number(), reader.number()
        epoch, agreed = reader.number(), reader.u64()
        count = reader.number(MAX_NODES)
        heard = reader.bits(count)
        candidates = None
        if flags & 4:
            candidates = tuple(reader.node() for _ in range(count))
            listed = list_digest(candidates)
        else:
            listed = reader.u64()
        evicts = reader.bits(count) if flags & 16 else 0
        records = read_records(reader, MAX_JOIN_RECORDS) if flags & 32 else ()
        rows = reader.number(MAX_RELAYED_ROWS) if flags & 64 else 0
        relayed = tuple((reader.number(count - 1), reader.bits(count)) for _ in range(rows if count else 0))
        abandoned = tuple(reader.some_view() for _ in range(reader.number(_MAX_ABANDONED)))
        reader.finish()
        return cls(
            node,
            view,
            answered,
            bool(flags & 2),
            attempt,
            begun,
            serial,
            epoch,
            agreed,
            listed,
            count,
            heard,
            candidates,
            abandoned,
            bool(flags & 8),
            evicts,
            records,
            relayed,
        )


@frozen
class Who:
    """A node has a JOIN of the receiver and does not know the candidates that ``listed`` stands for."""

    node: NodeId
    listed: int

    kind = Kind.WHO

    def encode(self) -> bytes:
        """The body."""
        return Writer().node(self.node).u64(self.listed).done()

    @classmethod
    def decode(cls, reader: Reader) -> Who:
        """The value of a body."""
        node, listed = reader.node(), reader.u64()
        reader.finish()
        return cls(node, listed)


@frozen
class Inquiry:
    """A node does not hear ``about``, and asks another member whether it does."""

    node: NodeId
    about: NodeId

    kind = Kind.INQUIRY

    def encode(self) -> bytes:
        """The body."""
        return Writer().node(self.node).node(self.about).done()

    @classmethod
    def decode(cls, reader: Reader) -> Inquiry:
        """The value of a body."""
        node, about = reader.node(), reader.node()
        reader.finish()
        return cls(node, about)


@frozen
class Voucher:
    """The answer: ``about`` was heard so many milliseconds ago."""

    node: NodeId
    about: NodeId
    milliseconds: int

    kind = Kind.VOUCHER

    def encode(self) -> bytes:
        """The body."""
        return Writer().node(self.node).node(self.about).number(self.milliseconds).done()

    @classmethod
    def decode(cls, reader: Reader) -> Voucher:
        """The value of a body."""
        node, about, milliseconds = reader.node(), reader.node(), reader.number(_MAX_MILLISECONDS)
        reader.finish()
        return cls(node, about, milliseconds)


@frozen
class Recover:
    """The proposer of a view asks its participants what they hold.

    Attributes:
        proposal: the id of the view to come.
        attempt: the attempt it was agreed in.
        agreed: the hash all participants announced.
        participants: in order; the leaving ones too.
    """

    proposal: ViewId
    attempt: int
    agreed: int
    participants: tuple[NodeId, ...]

    kind = Kind.RECOVER

    def encode(self) -> bytes:
        """The body."""
        writer = Writer().view(self.proposal).number(self.attempt).u64(self.agreed).number(len(self.participants))
        for node in self.participants:
            writer.node(node)
        return writer.done()

    @classmethod
    def decode(cls, reader: Reader) -> Recover:
        """The value of a body."""
        proposal, attempt, agreed = reader.some_view(), reader.number(), reader.u64()
        participants = tuple(reader.node() for _ in range(reader.number(MAX_NODES)))
        reader.finish()
        return cls(proposal, attempt, agreed, participants)


@frozen
class Holding:
    """What a node holds of one stream of its old view.

    Attributes:
        contiguous: it has everything up to here.
        stable: and knows that all have everything up to here.
        ranges: what it has above the contiguous part, at most 32.
    """

    contiguous: int
    stable: int
    ranges: tuple[Range, ...]


@frozen
class Answer:
    """What a frozen node holds of its old view.

    Attributes:
        node: the sender.
        proposal: what it answers.
        view: its old view; None for a newcomer.
        members: of that view, in order; empty for a newcomer.
        leaving: it goes with this change.
        synced: it has seen every member's directory in that view.
        silent: it has no session in a group or about to be: its directory will be empty.
        sequencer: index of the one it last followed.
        epoch: the highest it has seen.
        holdings: of each stream, by index.
        version: the highest of the wire format that the sender speaks, 1 to 64.
        key: the epoch it seals under; None for the first.
        vote: what it says of quorum; None without a filter.
    """

    node: NodeId
    proposal: ViewId
    view: ViewId | None
    members: tuple[NodeId, ...]
    leaving: bool
    synced: bool
    sequencer: int
    epoch: int
    holdings: tuple[Holding, ...]
    silent: bool = False
    version: int = VERSION
    key: KeyEpoch | None = None
    vote: Vote | None = None

    kind = Kind.ANSWER

    def encode(self) -> bytes:
        """The body."""
        writer = Writer().node(self.node).view(self.proposal).view(self.view).number(len(self.members))
        for member in self.members:
            writer.node(member)
        writer.u8(self.leaving | self.synced << 1 | (self.version - 1) << 2)
        writer.u8(self.silent | (self.key is not None) << 1 | (self.vote is not None) << 2)
        if self.key is not None:
            self.key.write(writer)
        if self.vote is not None:
            write_vote(writer, self.vote)
        writer.number(self.sequencer).number(self.epoch)
        for holding in self.holdings:
            writer.number(holding.contiguous).number(holding.contiguous - holding.stable)
            write_ranges(writer, holding.contiguous, holding.ranges)
        return writer.done()

    @classmethod
    def decode(cls, reader: Reader) -> Answer:
        """The value of a body."""
        node, proposal, view = reader.node(), reader.some_view(), reader.view()
        members = tuple(reader.node() for _ in range(reader.number(MAX_NODES)))
        flags, more = reader.u8(), reader.u8()
        key = KeyEpoch.read(reader) if more & 2 else None
        vote = read_vote(reader) if more & 4 else None
        sequencer, epoch = reader.number(MAX_NODES), reader.number()
        holdings = []
        for _ in members:
            contiguous = reader.number()
            stable = contiguous - reader.number(contiguous)
            holdings.append(Holding(contiguous, stable, read_ranges(reader, contiguous, MAX_RANGES)))
        reader.finish()
        leaving, synced, silent, version = bool(flags & 1), bool(flags & 2), bool(more & 1), (flags >> 2) + 1
        held = tuple(holdings)
        return cls(node, proposal, view, members, leaving, synced, sequencer, epoch, held, silent, version, key, vote)


def write_ranges(writer: Writer, at: int, ranges: tuple[Range, ...]) -> None:
    """The counterpart of ``read_ranges``."""
    writer.number(len(ranges))
    for item in ranges:
        writer.number(item.first - at).number(item.last - item.first)
        at = item.last


@frozen
class Segment:
    """Packets somebody may lack, and two participants (by index) who have them."""

    first: int
    last: int
    holder: int
    second: int


@frozen
class StreamPlan:
    """Where one stream of an old view ends.

    Attributes:
        end: everything up to here is delivered.
        stable: up to here, all of the old view are known to have it.
        ranges: beyond ``end``, what is still held by somebody; only RELIABLE frames of it count.
        segments: what must be fetched from whom.
    """

    end: int
    stable: int
    ranges: tuple[Range, ...]
    segments: tuple[Segment, ...]


@frozen
class ViewPlan:
    """How one old view ends: who of the participants comes from it, and its streams by index."""

    view: ViewId
    survivors: tuple[int, ...]
    streams: tuple[StreamPlan, ...]


@frozen
class Departed:
    """A node of an old view that will not be in the new one."""

    node: NodeId
    reason: Reason


@frozen
class Plan:
    """All that must be known to end the old views and begin the new one; a function of the answers alone.

    Attributes:
        proposal: the id of the view to come.
        attempt: the attempt it was agreed in.
        participants: in order.
        leaving: map of the participants that are not members.
        silent: map of the participants whose directory is empty and not sent.
        sequencer: who orders first, by name and incarnation; ignored when there are no members.
        exchange: whether the members must send their directories first.
        departed: who of the old views is gone, and why.
        views: the old views.
        version: of the wire format in the view: the highest that all participants speak.
        key: the epoch that packets of the view are sealed under; None for the first.
        records: what led to the change, as far as the proposer knows; at most 48.
        verdict: whether the view is primary.
    """

    proposal: ViewId
    attempt: int
    participants: tuple[NodeId, ...]
    leaving: int
    sequencer: NodeId
    exchange: bool
    departed: tuple[Departed, ...]
    views: tuple[ViewPlan, ...]
    silent: int = 0
    version: int = VERSION
    key: KeyEpoch | None = None
    records: tuple[Record, ...] = ()
    verdict: Verdict = NO_VERDICT

    kind = Kind.PLAN

    @property
    def members(self) -> tuple[NodeId, ...]:
        """The members of the view to come, in order."""
        return tuple(node for index, node in enumerate(self.participants) if not self.leaving >> index & 1)

    @property
    def speakers(self) -> tuple[NodeId, ...]:
        """The members that send their directories, in order."""
        absent = self.leaving | self.silent
        if not self.exchange:
            return ()
        return tuple(node for index, node in enumerate(self.participants) if not absent >> index & 1)

    def encode(self) -> bytes:
        """The body."""
        writer = Writer().view(self.proposal).number(self.attempt).number(len(self.participants))
        for node in self.participants:
            writer.node(node)
        count = len(self.participants)
        writer.bits(self.leaving, count).bits(self.silent, count).node(self.sequencer)
        writer.u8(self.exchange | (self.key is not None) << 1 | (self.version - 1) << 2)
        if self.key is not None:
            self.key.write(writer)
        writer.number(len(self.departed))
        for departed in self.departed:
            writer.node(departed.node).u8(departed.reason)
        write_records(writer, self.records)
        writer.number(len(self.views))
        for view in self.views:
            writer.view(view.view).number(len(view.survivors))
            for index in view.survivors:
                writer.number(index)
            writer.number(len(view.streams))
            for stream in view.streams:
                writer.number(stream.end).number(stream.stable)
                write_ranges(writer, stream.end, stream.ranges)
                writer.number(len(stream.segments))
                for segment in stream.segments:
                    writer.number(segment.first).number(segment.last - segment.first)
                    writer.number(segment.holder).number(segment.second)
        write_verdict(writer, self.verdict, count)
        return writer.done()

    @classmethod
    def decode(cls, reader: Reader) -> Plan:
        """The value of a body."""
        proposal, attempt = reader.some_view(), reader.number()
        participants = tuple(reader.node() for _ in range(reader.number(MAX_NODES)))
        leaving, silent = reader.bits(len(participants)), reader.bits(len(participants))
        sequencer, flags = reader.node(), reader.u8()
        key = KeyEpoch.read(reader) if flags & 2 else None
        departed = tuple(Departed(reader.node(), _read_reason(reader)) for _ in range(reader.number(_MAX_DEPARTED)))
        records = read_records(reader, MAX_PLAN_RECORDS)
        views = tuple(cls._decode_view(reader, len(participants)) for _ in range(reader.number(len(participants))))
        verdict = read_verdict(reader, len(participants))
        reader.finish()
        exchange, version = bool(flags & 1), (flags >> 2) + 1
        return cls(
            proposal,
            attempt,
            participants,
            leaving,
            sequencer,
            exchange,
            departed,
            views,
            silent,
            version,
            key,
            records,
            verdict,
        )

    @staticmethod
    def _decode_view(reader: Reader, participants: int) -> ViewPlan:
        view = reader.some_view()
        last = participants - 1
        survivors = tuple(reader.number(last) for _ in range(reader.number(participants)))
        streams = []
        for _ in range(reader.number(MAX_NODES)):
            end, stable = reader.number(), reader.number()
            ranges = read_ranges(reader, end, MAX_NODES * MAX_RANGES)
            segments = []
            for _ in range(reader.number(_MAX_SEGMENTS)):
                first = reader.number()
                until = first + reader.number(1 << 32)
                segments.append(Segment(first, until, reader.number(last), reader.number(last)))
            streams.append(StreamPlan(end, stable, ranges, tuple(segments)))
        return ViewPlan(view, survivors, tuple(streams))


def _read_reason(reader: Reader) -> Reason:
    try:
        return Reason(reader.u8())
    except ValueError:
        raise MalformedPacket("an unknown reason") from None


@frozen
class Ready:
    """A participant has the plan and still lacks ``missing`` packets of it; 0 is READY."""

    node: NodeId
    proposal: ViewId
    plan: int
    missing: int

    kind = Kind.READY

    def encode(self) -> bytes:
        """The body."""
        return Writer().node(self.node).view(self.proposal).u64(self.plan).number(self.missing).done()

    @classmethod
    def decode(cls, reader: Reader) -> Ready:
        """The value of a body."""
        node, proposal, plan, missing = reader.node(), reader.some_view(), reader.u64(), reader.number()
        reader.finish()
        return cls(node, proposal, plan, missing)


@frozen
class Install:
    """All are READY: the proposal is a view now, under the plan with this digest."""

    proposal: ViewId
    plan: int

    kind = Kind.INSTALL

    def encode(self) -> bytes:
        """The body."""
        return Writer().view(self.proposal).u64(self.plan).done()

    @classmethod
    def decode(cls, reader: Reader) -> Install:
        """The value of a body."""
        proposal, plan = reader.some_view(), reader.u64()
        reader.finish()
        return cls(proposal, plan)


Message: TypeAlias = (
    Beacon | Probe | ProbeAck | Join | Who | Inquiry | Voucher | Recover | Answer | Plan | Ready | Install
)
_DECODERS: dict[
    int,
    type[Beacon]
    | type[Probe]
    | type[ProbeAck]
    | type[Join]
    | type[Who]
    | type[Inquiry]
    | type[Voucher]
    | type[Recover]
    | type[Answer]
    | type[Plan]
    | type[Ready]
    | type[Install],
] = {
    cls.kind: cls
    for cls in (Beacon, Probe, ProbeAck, Join, Who, Inquiry, Voucher, Recover, Answer, Plan, Ready, Install)
}


def decode_message(kind: int, body: bytes) -> Message | None:
    """The message in ``body``; None for a kind this version does not know.

    Raises:
        MalformedPacket: the bytes are no such message.
    """
    if kind in _REPEATED:
        return _decode_short(kind, body) if len(body) <= _SHORT_BYTES else _decode_long(kind, body)
    return _decode(kind, body)


def _decode(kind: int, body: bytes) -> Message | None:
    decoder = _DECODERS.get(kind)
    return None if decoder is None else decoder.decode(Reader(body))


_REPEATED = frozenset({Kind.BEACON, Kind.JOIN, Kind.RECOVER, Kind.PLAN, Kind.INSTALL})
"""They come many times with the same bytes, and to every node of a process."""

_SHORT_BYTES = 512
_decode_short = lru_cache(maxsize=2 * MAX_NODES)(_decode)
_decode_long = lru_cache(maxsize=16)(_decode)


def cut(kind: Kind, cluster: int, number: int, body: bytes, mtu_bytes: int) -> list[bytes]:
    """The datagrams of one message, each at most ``mtu_bytes``."""
    room = mtu_bytes - HEADER_BYTES
    count = max(1, -(-len(body) // room))
    return [
        encode(kind, cluster, NO_SENDER, number, body[index * room : (index + 1) * room], part=index << 8 | count)
        for index in range(count)
    ]


_PartKey: TypeAlias = tuple[object, int, int]
"""What the parts of one message have in common: source, kind and number."""


class Assembler:
    """Puts the parts of messages together.

    Holds at most ``MAX_CONTROL_ASSEMBLIES`` messages and ``MAX_CONTROL_ASSEMBLY_BYTES`` of them; the oldest is dropped
    when a part of one more arrives, so what an enemy can do is make honest messages be repeated.
    """

    __slots__ = ("_partial", "_size")

    def __init__(self) -> None:
        self._size = 0
        self._partial: dict[_PartKey, list[bytes | None]] = {}

    def add(self, header: Header, body: bytes, source: object) -> bytes | None:
        """The whole body once its last part is here.

        Raises:
            MalformedPacket: it is no part of such a message, or the message is too large.
        """
        index, count = header.part >> 8, header.part & 0xFF
        if count == 1 and index == 0:
            return body
        if index >= count or count > MAX_CONTROL_PARTS:
            raise MalformedPacket(f"part {index} of {count}")
        key = (source, header.kind, header.sequence)
        while self._size + len(body) > MAX_CONTROL_ASSEMBLY_BYTES:
            self._drop(next(iter(self._partial)))
        parts = self._partial.get(key)
        if parts is None:
            if len(self._partial) >= MAX_CONTROL_ASSEMBLIES:
                self._drop(next(iter(self._partial)))
            parts = self._partial[key] = [None] * count
        if len(parts) != count:
            raise MalformedPacket(f"a message of {len(parts)} parts and of {count}")
        self._size += len(body) - len(parts[index] or b"")
        parts[index] = body
        if None in parts:
            return None
        whole = b"".join(part for part in parts if part is not None)
        self._drop(key)
        if len(whole) > MAX_CONTROL_BYTES:
            raise MalformedPacket(f"a message of {len(whole)} bytes")
        return whole

    def _drop(self, key: _PartKey) -> None:
        self._size -= sum(len(part) for part in self._partial.pop(key) if part is not None)
