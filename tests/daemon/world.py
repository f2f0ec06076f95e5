"""A daemon's Perspective Broker side on virtual time, with a node and connections in memory.

``World.settle`` moves bytes and runs calls that are due until nothing happens any more; ``World.advance`` lets time
pass in steps. A client that does not read is one whose ``MemoryTransport.deaf`` is set.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Callable, Sequence
from typing import Any, cast

from twisted.cred.credentials import UsernamePassword
from twisted.cred.portal import Portal
from twisted.internet.address import UNIXAddress
from twisted.internet.defer import Deferred, succeed
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IReactorFDSet, IStreamClientEndpoint
from twisted.internet.protocol import Protocol
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.spread import pb
from zope.interface import alsoProvides, implementer

from groupcomm.batches import MessageBatch, SessionEvent
from groupcomm.daemon.channel_doors import ChannelDoors
from groupcomm.daemon.connection import ServerBroker
from groupcomm.daemon.delivery import DeliveryLimits
from groupcomm.daemon.factory import ControlFactory
from groupcomm.daemon.login import NameChecker
from groupcomm.daemon.principal import Principal, user_principal
from groupcomm.daemon.realm import Realm
from groupcomm.daemon.records import Record, RecordError, RecordReader
from groupcomm.daemon.settings import Origin
from groupcomm.daemon.stream import StreamOwner
from groupcomm.errors import NameInUse, NotAMember
from groupcomm.events import Departure, Left, Level, Outside, Reason, Undeliverable, View
from groupcomm.identity import GroupViewId, MemberId, NodeId, ViewId
from groupcomm.outputs import NodeDeparture
from groupcomm.packing import pack_messages, unpack_messages
from groupcomm.sessions import LocalSession, SessionHandler
from groupcomm.status import (
    FlappingStatus,
    GroupStatus,
    KeptOutStatus,
    LinkStatus,
    NodeStatus,
    PeerStatus,
    RefusalStatus,
    SlowStatus,
    SourceStatus,
    ViewChange,
)
from groupcomm.wire import evidence
from groupcomm.wire.evidence import Finding

NODE = NodeId("n1", 7)
VIEW = ViewId(3, NODE)
OTHER, GONE = NodeId("n2", 8), NodeId("n3", 9)
CHANGES = (
    ViewChange(1.0, ViewId(2, NODE), None, (NODE, OTHER, GONE), (NODE, OTHER, GONE), (), ()),
    ViewChange(
        60.0,
        VIEW,
        ViewId(2, NODE),
        (NODE, OTHER),
        (),
        (NodeDeparture(GONE, Reason.PARTITION, 117),),
        (
            evidence.Record(Finding.PROCESS_SILENT, GONE, OTHER, 310, 3020, 130),
            evidence.Record(Finding.BEGAN, OTHER, OTHER, 305),
            evidence.Record(Finding.NO_WORD, GONE, NODE),
        ),
    ),
)
OUTPUT_BUFFER_BYTES = 65536
CONTROL = "/memory/d.sock"
CHANNELS = "/memory/d.data"


class TurnClock(Clock):
    """A clock whose ``advance`` is one turn, as a reactor's: calls made in it for now are for the next turn."""

    def advance(self, amount: float) -> None:
        self.rightNow += amount
        self._sortCalls()
        for call in [call for call in self.calls if call.getTime() <= self.rightNow]:
            if call.active():
                self.calls.remove(call)
                call.called = 1
                call.func(*call.args, **call.kw)


class MemorySession:
    """A session of ``MemoryNode``; ``hold`` keeps back the answers of sends, as a node in a view change does."""

    def __init__(self, node: MemoryNode, member: MemberId, handler: SessionHandler) -> None:
        self.node = node
        self.member = member
        self.handler = handler
        self.closed: Reason | None = None
        self.hold = False
        self.held: list[Deferred[None]] = []
        self.sent: list[tuple[tuple[str, ...] | str, bytes, Level, bool, bool]] = []
        self.payloads: list[bytes] = []
        self.asked: dict[str, Outside] = {}
        self.flushes = 0
        self.queue: list[SessionEvent] = []

    def join(self, group: str, outside: Outside = Outside.GO_ON) -> Deferred[None]:
        self.asked[group] = outside
        return self.node.join(self, group)

    def leave(self, group: str) -> Deferred[None]:
        return self.node.leave(self, group, Reason.LEAVE)

    def send(
        self, groups: Sequence[str], data: bytes, level: Level, *, stable: bool = False, self_discard: bool = False
    ) -> Deferred[None]:
        self.sent.append((tuple(groups), data, level, stable, self_discard))
        self.node.deliver(self, tuple(groups), data, level, self_discard)
        return self._accepted()

    def send_many(
        self,
        groups: Sequence[str],
        messages: Sequence[bytes],
        level: Level,
        *,
        stable: bool = False,
        self_discard: bool = False,
    ) -> Deferred[None]:
        """Like a node's: one frame, one answer."""
        self.sent += [(tuple(groups), data, level, stable, self_discard) for data in messages]
        self.node.deliver_batch(self, tuple(groups), level, pack_messages(messages), self_discard)
        return self._accepted()

    def send_private(self, recipient: str, data: bytes, level: Level, *, stable: bool = False) -> Deferred[None]:
        self.sent.append((recipient, data, level, stable, False))
        for session in self.node.sessions.values():
            if str(session.member) == recipient:
                self.node.tell(session, MessageBatch((), self.member, level, None, pack_messages([data])))
                break
        else:
            self.node.tell(self, Undeliverable(recipient))
        return self._accepted()

    def send_payload(
        self,
        destination: tuple[str, ...],
        payload: bytes,
        level: Level,
        *,
        stable: bool = False,
        self_discard: bool = False,
    ) -> Deferred[None]:
        """Like a node's: the payload is delivered as it is."""
        self.payloads.append(payload)
        private = not destination[0]
        where = "@".join(destination[1:]) if private else destination
        for data in unpack_messages(payload):
            self.sent.append((where, data, level, stable, self_discard))
        batch = MessageBatch((), self.member, level, None, payload)
        if not private:
            self.node.deliver_batch(self, destination, level, payload, self_discard)
        elif destination[1] in self.node.sessions and destination[2] == NODE.name:
            self.node.tell(self.node.sessions[destination[1]], batch)
        else:
            self.node.tell(self, Undeliverable(str(where)))
        return self._accepted()

    def flush(self) -> None:
        """Deliver what has been sent."""
        self.flushes += 1

    def close(self, reason: Reason = Reason.DISCONNECT) -> Deferred[None]:
        if self.closed is None:
            self.closed = reason
            for group in sorted(self.node.groups):
                if self in self.node.groups[group]:
                    self.node.leave(self, group, reason)
            del self.node.sessions[self.member.client]
        return succeed(None)

    def release(self) -> None:
        """Answer what was held back."""
        self.hold = False
        held, self.held = self.held, []
        for deferred in held:
            deferred.callback(None)

    def _accepted(self) -> Deferred[None]:
        if not self.hold:
            return succeed(None)
        accepted: Deferred[None] = Deferred()
        self.held.append(accepted)
        return accepted


class MemoryNode:
    """A node without a network: one total order for all, in memory."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.sessions: dict[str, MemorySession] = {}
        self.groups: dict[str, list[MemorySession]] = {}
        self.position = 0
        self.opened = 0
        self.stopped = False
        self.refusal: Exception | None = None
        self.expelled: list[str] = []

    def startService(self) -> None:
        if self.refusal is not None:
            raise self.refusal

    def stopService(self) -> Deferred[None]:
        self.stopped = True
        for session in tuple(self.sessions.values()):
            for group in sorted(self.groups):
                if session in self.groups[group]:
                    self.groups[group].remove(session)
                    session.handler.events_received([Left(group, Reason.NODE_LEAVE)])
            session.closed = Reason.NODE_LEAVE
            session.handler.session_ended(Reason.NODE_LEAVE)
        return succeed(None)

    def open_session(self, client_name: str, handler: SessionHandler) -> LocalSession:
        if client_name in self.sessions:
            raise NameInUse(f"the name {client_name!r} is in use at node n1")
        self.opened += 1
        session = MemorySession(self, MemberId(client_name, NODE, self.opened), handler)
        self.sessions[client_name] = session
        return cast(LocalSession, session)

    def join(self, session: MemorySession, group: str) -> Deferred[None]:
        members = self.groups.setdefault(group, [])
        members.append(session)
        self.view(group, joined=session)
        done: Deferred[None] = Deferred()
        self.clock.callLater(0, done.callback, None)
        return done

    def leave(self, session: MemorySession, group: str, reason: Reason) -> Deferred[None]:
        members = self.groups.get(group, [])
        if session not in members:
            raise NotAMember(f"{session.member} is not in group {group!r}")
        members.remove(session)
        if session.closed is None:
            self.tell(session, Left(group, reason))
        else:
            session.handler.events_received([Left(group, reason)])
        self.view(group, left=Departure(session.member, reason))
        return succeed(None)

    def view(self, group: str, joined: MemorySession | None = None, left: Departure | None = None) -> None:
        self.position += 1
        members = tuple(sorted(session.member for session in self.groups[group]))
        for session in self.groups[group]:
            others = tuple(member for member in members if joined is None or member != joined.member)
            view = View(
                group,
                GroupViewId(VIEW, self.position),
                members,
                () if joined is None else (joined.member,),
                () if left is None else (left,),
                (session.member,) if session is joined else others,
                True,
            )
            self.tell(session, view)

    def deliver(
        self, sender: MemorySession, groups: tuple[str, ...], data: bytes, level: Level, self_discard: bool = False
    ) -> None:
        self.deliver_batch(sender, groups, level, pack_messages([data]), self_discard)

    def deliver_batch(
        self, sender: MemorySession, groups: tuple[str, ...], level: Level, payload: bytes, self_discard: bool
    ) -> None:
        """The messages of a frame, as one batch for each who is in one of its groups."""
        for session in self.sessions.values():
            mine = tuple(group for group in groups if session in self.groups.get(group, []))
            if mine and not (self_discard and session is sender):
                self.tell(session, MessageBatch(mine, sender.member, level, GroupViewId(VIEW, self.position), payload))

    def tell(self, session: MemorySession, event: SessionEvent) -> None:
        """Deliver at the end of the turn, in one batch, as a node does."""
        session.queue.append(event)
        if len(session.queue) == 1:
            self.clock.callLater(0, self._hand_over, session)

    def _hand_over(self, session: MemorySession) -> None:
        events, session.queue = session.queue, []
        if events:
            session.handler.events_received(events)

    def rotate_key(self) -> Deferred[int]:
        return succeed(1)

    def expel(self, name: str) -> Deferred[None]:
        self.expelled.append(name)
        return succeed(None)

    def changes(self) -> tuple[ViewChange, ...]:
        """Two changes, the last of which left a node out."""
        return CHANGES

    def status(self) -> NodeStatus:
        return NodeStatus(
            node=NODE,
            cluster="test",
            state="operational",
            view=VIEW,
            members=(NODE, NodeId("n2", 8)),
            sequencer=NODE,
            primary=True,
            groups=tuple(
                GroupStatus(name, tuple(session.member for session in sessions), GroupViewId(VIEW, 1))
                for name, sessions in self.groups.items()
            ),
            peers=(PeerStatus(NodeId("n2", 8), ("127.0.0.1", 4874), 0.001, 0.1, 10, 2, 1, 1, 0),),
            window_bytes=65536,
            outstanding_bytes=100,
            queued_bytes=0,
            counters={"datagrams_sent": 5},
            slow=(SlowStatus(NodeId("n2", 8), 5000, 2.5),),
            kept_out=(KeptOutStatus(NodeId("n3", 9), 6000, 9.5, 2),),
            evicted_by=(NodeId("n4", 10),),
            flapping=(FlappingStatus(NodeId("n5", 11), 2.5, 1.5),),
            discovery=(SourceStatus("dns", "a.org", 1, (("fd77::2", 4874),), "a: no such name", troubled=True),),
            up_seconds=77.5,
            links=(LinkStatus("eth0", ("10.0.0.1", 4874), 1500, False, 8000, 4000, 3),),
            refused=(RefusalStatus("seal_broken", ("10.0.0.9", 4874), 6.5, 17, ""),),
        )


class MemorySocket:
    """A UNIX socket, as far as it says whose the other end is."""

    family = socket.AF_UNIX

    def __init__(self, uid: int) -> None:
        self.uid = uid

    def getsockopt(self, level: int, option: int, size: int, /) -> bytes:
        assert (level, option) == (socket.SOL_SOCKET, socket.SO_PEERCRED)
        return struct.pack("iII", 1, self.uid, self.uid)


class MemoryTransport:
    """One end of a connection in memory, with an output buffer that pauses its producer as a socket's does."""

    def __init__(self) -> None:
        self.peer: MemoryTransport
        self.protocol: Protocol
        self.output = bytearray()
        self.producer: Any = None
        self.producer_paused = False
        self.reading = True
        self.deaf = False
        self.disconnecting = False
        self.lost = False
        self.largest_output = 0
        self.uid = os.geteuid()

    def write(self, data: bytes) -> None:
        if self.lost or self.disconnecting:
            return
        self.output += data
        self.largest_output = max(self.largest_output, len(self.output))
        if len(self.output) > OUTPUT_BUFFER_BYTES and self.producer is not None and not self.producer_paused:
            self.producer_paused = True
            self.producer.pauseProducing()

    def writeSequence(self, pieces: Sequence[bytes]) -> None:
        self.write(b"".join(pieces))

    def registerProducer(self, producer: object, streaming: bool) -> None:
        assert streaming
        self.producer = producer

    def unregisterProducer(self) -> None:
        self.producer = None

    def pauseProducing(self) -> None:
        self.reading = False

    def resumeProducing(self) -> None:
        self.reading = True

    def loseConnection(self) -> None:
        self.disconnecting = True

    def abortConnection(self) -> None:
        self.output.clear()
        self.disconnecting = True
        self.deaf = False
        self.peer.deaf = False

    def getPeer(self) -> str:
        return "memory"

    def getHandle(self) -> MemorySocket:
        return MemorySocket(self.uid)

    def getHost(self) -> UNIXAddress:
        return UNIXAddress(os.fsencode(CONTROL))

    def pump(self) -> bool:
        """Move some bytes to the peer, or the end; whether something happened."""
        if self.lost:
            return False
        if self.output:
            if self.peer.lost:
                self.output.clear()
                return True
            if self.peer.deaf or not self.peer.reading:
                return False
            chunk = bytes(self.output[:65536])
            del self.output[:65536]
            self.peer.protocol.dataReceived(chunk)
            if not self.output and self.producer_paused:
                self.producer_paused = False
                if self.producer is not None:
                    self.producer.resumeProducing()
            return True
        if self.disconnecting:
            self.lose()
            self.peer.lose()
            return True
        return False

    def lose(self) -> None:
        """The connection is gone."""
        if not self.lost:
            self.lost = True
            self.protocol.connectionLost(Failure(ConnectionDone()))


@implementer(IStreamClientEndpoint)
class MemoryEndpoint:
    """Connects to the world's daemon."""

    def __init__(self, world: World) -> None:
        self.world = world

    def connect(self, protocolFactory: Any) -> Deferred[Any]:
        protocol = protocolFactory.buildProtocol(None)
        self.world.attach(protocol)
        return succeed(protocol)


class MemoryStream:
    """One end of a data channel in memory; ``deaf`` is who does not read, so that what is sent to it waits there."""

    def __init__(self) -> None:
        self.peer: MemoryStream
        self.owner: StreamOwner
        self.inbox = bytearray()
        self.output = bytearray()
        self.writes: list[bytes] = []
        self.reading = True
        self.deaf = False
        self.finishing = False
        self.closed = False
        self.uid = os.geteuid()

    def principal(self) -> Principal:
        return user_principal(self.uid)

    @property
    def backlog(self) -> int:
        return len(self.output)

    def write(self, pieces: list[bytes]) -> None:
        if self.closed:
            return
        data = b"".join(pieces)
        self.writes.append(data)
        if self.peer.deaf or self.output:
            self.output += data
        else:
            self.peer.inbox += data

    def set_reading(self, reading: bool) -> None:
        self.reading = reading

    def finish(self) -> None:
        self.finishing = True
        if not self.output:
            self.abort()

    def abort(self) -> None:
        if not self.closed:
            self.closed = True
            self.output.clear()
            self.owner.stream_lost()

    def pump(self) -> bool:
        """Move some bytes, or find the end; whether something happened."""
        if self.closed:
            return False
        if self.output and not self.peer.deaf:
            self.peer.inbox += self.output
            self.output.clear()
            if self.finishing:
                self.abort()
            else:
                self.owner.output_drained()
            return True
        if self.inbox and self.reading and not self.deaf:
            self._read()
            return True
        if self.peer.closed and not self.inbox:
            self.abort()
            return True
        return False

    def _read(self) -> None:
        buffer = self.owner.reader.buffer()
        count = min(len(buffer), len(self.inbox))
        buffer[:count] = self.inbox[:count]
        del self.inbox[:count]
        try:
            records = self.owner.reader.received(count)
            if records:
                self.owner.records_received(records)
        except RecordError as error:
            self.owner.broke_protocol(str(error))
            self.abort()


class RawChannel:
    """A client's end of a data channel that sends what bytes it likes."""

    def __init__(self) -> None:
        self.reader = RecordReader(0xFFFF, 32 * 1024 * 1024)
        self.records: list[Record] = []
        self.stream: MemoryStream

    def records_received(self, records: list[Record]) -> None:
        self.records += [(kind, flags, number, head, bytes(payload)) for kind, flags, number, head, payload in records]

    def broke_protocol(self, text: str) -> None:
        raise AssertionError(text)

    def output_drained(self) -> None:
        """Nothing waits for that."""

    def stream_lost(self) -> None:
        """``stream.closed`` says it."""

    def kinds(self, kind: int) -> list[Record]:
        """The records of one kind."""
        return [each for each in self.records if each[0] == kind]


class World:
    """A daemon, and whoever connects to it; with ``channels`` clients get data channels.

    Work takes no time here, unless a test adds to ``processor_seconds``.

    Attributes:
        next_uid: whose the next connection is; None: the daemon's own user's.
    """

    def __init__(self, limits: DeliveryLimits | None = None, *, channels: bool = False) -> None:
        self.clock = TurnClock()
        if channels:
            alsoProvides(self.clock, IReactorFDSet)  # clients have sockets of their own, which ``dial`` gives them
        self.node = MemoryNode(self.clock)
        self.realm = Realm(self.clock, self.node, (Origin("cluster", "test", "option"),), limits)
        self.processor_seconds = 0.0
        portal, exempt = Portal(self.realm, [NameChecker()]), self.realm.access.is_owner
        self.factory = ControlFactory(self.clock, portal, exempt, lambda: self.processor_seconds)
        self.realm.counters = self.factory.counters
        self.doors = ChannelDoors(self.clock, self.realm.upload_budget, self.factory, self.realm.access.is_owner)
        self.realm.channels = self.doors
        if channels:
            self.doors.add_place(UNIXAddress(os.fsencode(CONTROL)), ("unix", CHANNELS))
        self.next_uid: int | None = None
        self.transports: list[MemoryTransport] = []
        self.streams: list[MemoryStream] = []

    def dial(self, reactor: object, path: str, owner: StreamOwner) -> MemoryStream:
        """What a client's connection to the channels' socket gives, in place of ``channel.dial``."""
        assert path == CHANNELS
        mine, other = MemoryStream(), MemoryStream()
        mine.peer, other.peer = other, mine
        mine.owner = owner
        other.uid = self._take_uid()
        self.streams += [mine, other]
        channel = self.doors.buildProtocol(None)
        if channel is None:
            other.closed = True
        else:
            other.owner = channel
            channel.makeConnection(other)
        return mine

    def raw_channel(self, *data: bytes, uid: int | None = None) -> RawChannel:
        """A connection of that user, or this one, to the channels' socket that has sent that."""
        self.next_uid = uid
        channel = RawChannel()
        channel.stream = self.dial(None, CHANNELS, channel)
        channel.stream.write(list(data))
        self.settle()
        return channel

    def attach(self, protocol: Protocol) -> MemoryTransport:
        """Connect ``protocol`` to the daemon; its transport."""
        mine, other = MemoryTransport(), MemoryTransport()
        mine.peer, other.peer = other, mine
        mine.protocol = protocol
        other.uid = self._take_uid()
        broker = self.factory.buildProtocol(None)
        if broker is None:
            other.lost = True
            mine.disconnecting = True
            other.protocol = Protocol()
        else:
            other.protocol = broker
        self.transports += [mine, other]
        protocol.makeConnection(mine)
        if broker is not None:
            broker.makeConnection(other)
        return mine

    def _take_uid(self) -> int:
        """Whose the next connection is."""
        uid, self.next_uid = self.next_uid, None
        return os.geteuid() if uid is None else uid

    def settle(self) -> None:
        """Until nothing moves; no time passes."""
        for _ in range(100_000):
            due = [call for call in self.clock.getDelayedCalls() if call.getTime() <= self.clock.seconds()]
            self.clock.advance(0)
            moved = [transport.pump() for transport in self.transports]
            moved += [stream.pump() for stream in self.streams]
            if not due and not any(moved):
                return
        raise AssertionError("it does not come to rest")

    def advance(self, seconds: float) -> None:
        """Let time pass, stepping from deadline to deadline."""
        self.settle()
        end = self.clock.seconds() + seconds
        while True:
            times = [call.getTime() for call in self.clock.getDelayedCalls()]
            until = min([end, *times])
            self.clock.advance(max(0.0, until - self.clock.seconds()))
            self.settle()
            if until >= end:
                return

    def result(self, deferred: Deferred[Any]) -> Any:
        """What it fires with; raises what it fails with."""
        self.settle()
        results: list[Any] = []
        deferred.addBoth(results.append)
        assert results, "it has not fired"
        if isinstance(results[0], pb.CopiedFailure):
            raise AssertionError(f"{results[0].type!r}: {results[0].value}")
        if isinstance(results[0], Failure):
            results[0].raiseException()
        return results[0]

    def failure(self, deferred: Deferred[Any]) -> Failure:
        """What it fails with."""
        self.settle()
        results: list[Any] = []
        deferred.addBoth(results.append)
        assert results, "it has not fired"
        assert isinstance(results[0], Failure), f"it has not failed: {results[0]!r}"
        return results[0]


class PlainClient(pb.Referenceable):
    """A client made of ``twisted.spread.pb`` alone."""

    def __init__(self, world: World, name: str | bytes, login: bool = True) -> None:
        self.world = world
        self.batches: list[list[Any]] = []
        self.on_batch: Callable[[list[Any]], Any] = lambda batch: None
        self.factory = pb.PBClientFactory()
        protocol: Any = self.factory.buildProtocol(None)
        self.transport = world.attach(protocol)
        if login:
            self.avatar: Any = world.result(self.factory.login(UsernamePassword(cast(bytes, name), b""), self))

    def remote_events(self, batch: list[Any]) -> Any:
        self.batches.append(batch)
        return self.on_batch(batch)

    @property
    def events(self) -> list[Any]:
        """All events so far."""
        return [event for batch in self.batches for event in batch]

    def kinds(self, kind: str) -> list[Any]:
        """The events of one kind."""
        return [event for event in self.events if event[0] == kind]

    def call(self, method: str, *args: object, **keywords: object) -> Any:
        """Call and wait for the answer."""
        return self.world.result(self.avatar.callRemote(method, *args, **keywords))

    def refused(self, method: str, *args: object, **keywords: object) -> tuple[str, str]:
        """Call and give the class name and text of the error."""
        failure: Any = self.world.failure(self.avatar.callRemote(method, *args, **keywords))
        return failure.type.decode().rpartition(".")[2] if isinstance(failure.type, bytes) else failure.type.rpartition(
            "."
        )[2], str(failure.value)


def server_broker(transport: MemoryTransport) -> ServerBroker:
    """The daemon's end of a client's connection."""
    return cast(ServerBroker, transport.peer.protocol)
