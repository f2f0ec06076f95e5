"""Three engines, a client on each, and a network in memory, all of which can be copied at any moment.

Decides nothing about what is right: it runs the engines as a driver does and counts what they do, and keeps to plain
objects, so that one state of it can be the beginning of any number of runs.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from hashlib import shake_128
from types import MethodType

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from groupcomm.config import EngineConfig
from groupcomm.engine import Engine
from groupcomm.errors import MalformedPacket
from groupcomm.events import Level
from groupcomm.identity import NodeId
from groupcomm.outputs import Address, FrameDelivered, Output, ProbeWanted, Stopped, WatchChanged
from groupcomm.packing import pack_messages, unpack_messages
from groupcomm.testing.exhaustive_snapshots import SameDraw, duplicate, never_changes

NAMES = ("a", "b", "c")
GROUP = "chat"
LATENCY_SECONDS = 0.001
REFUSED_SECONDS = 0.01
BUSY_TIMEOUTS = 20
"""An engine whose deadline does not move in so many timeouts at one instant is in a busy loop."""

MAX_WAITING = 20_000
"""Datagrams on their way: a network loses the rest."""


class Draw(SameDraw):
    """Draws the same number each time, and bytes that depend on nothing but their count."""

    def randbytes(self, n: int) -> bytes:
        """So many bytes."""
        return shake_128(repr(self.value).encode()).digest(n)


never_changes(AESGCM, Draw, MethodType, range)


class Member:
    """One node: its engine and the number of its client's session.

    Attributes:
        identity: the process.
        address: its socket.
        engine: the product's.
        session: the client's; 0 until it is open.
        alive: whether the process runs.
        deadline: when the engine wants to be called.
        watched: its neighbours.
        delivered: how many messages its client got.
        sent: how many datagrams it has sent.
    """

    def __init__(self, identity: NodeId, address: Address, config: EngineConfig, draw: float) -> None:
        self.identity = identity
        self.address = address
        self.engine = Engine(config, identity, Draw(draw), 0.0)
        self.session = 0
        self.alive = True
        self.deadline: float | None = None
        self.watched: tuple[tuple[NodeId, Address], ...] = ()
        self.delivered = 0
        self.sent = 0


class SmallWorld:
    """The members, the datagrams on their way, and the time.

    Attributes:
        now: seconds.
        members: by number.
        losing: so many datagrams more are lost.
        wire: the last datagrams that were sent, the latest last.
        clear: the same before they were sealed.
        turns: how often an engine was called.
        most_at_once: how many datagrams one turn has caused at most.
        keep: how many datagrams ``wire`` has at most.
        ends_at: until when its user wants to run it.
    """

    def __init__(self, config: EngineConfig) -> None:
        self.now = 0.0
        self.losing = 0
        self.wire: list[bytes] = []
        self.clear: list[bytes] = []
        self.turns = 0
        self.most_at_once = 0
        self.keep = 32
        self.ends_at = 0.0
        self._queue: list[tuple[float, int, int, bytes, Address]] = []
        self._order = 0
        self._refusals: list[tuple[float, int, int]] = []
        self.members = [
            Member(NodeId(name, 1000), (f"10.0.0.{number + 1}", 7400), config, 0.25 + number / 4)
            for number, name in enumerate(NAMES)
        ]
        for member in self.members:
            self.turn(member, lambda engine, now: engine.start(now))

    def copy(self) -> SmallWorld:
        """Another one in the same state."""
        return duplicate(self)

    def run(self, seconds: float, most_turns: int | None = None) -> None:
        """Let time pass.

        Raises:
            AssertionError: the engines were called more often than ``most_turns``.
        """
        end = self.now + seconds
        limit = None if most_turns is None else self.turns + most_turns
        while True:
            at = min([end, *self._next_times()])
            if at >= end:
                self.now = end
                return
            self.now = max(self.now, at)
            self._step()
            assert limit is None or self.turns <= limit, f"more than {most_turns} turns in {seconds:.3f} s"

    def turn(self, member: Member, call: Callable[[Engine, float], object]) -> None:
        """Call a member's engine as a driver does; its own multicasts come back in turns of their own."""
        if not member.alive:
            return
        engine = member.engine
        call(engine, self.now)
        engine.burst_ended(self.now)
        own = self._collect(member)
        while own and member.alive:
            for data in own:
                engine.datagram_received(data, member.address, self.now)
            engine.burst_ended(self.now)
            own = self._collect(member)
        member.deadline = engine.next_deadline() if member.alive else None

    def receive(self, member: Member, data: bytes, source: Address) -> None:
        """A datagram has come."""
        self.turn(member, lambda engine, now: engine.datagram_received(data, source, now))

    def send(self, number: int, data: bytes, level: Level) -> None:
        """A client sends to the group."""
        member = self.members[number]
        self.turn(member, lambda engine, now: engine.send(member.session, (GROUP,), pack_messages([data]), level, now))

    def crash(self, number: int) -> None:
        """The process of a member ends."""
        self._end(self.members[number])

    def put(self, number: int, data: bytes, source: Address) -> None:
        """A datagram for a member is on its way."""
        if self.losing:
            self.losing -= 1
        elif len(self._queue) < MAX_WAITING:
            self._order += 1
            heapq.heappush(self._queue, (self.now + LATENCY_SECONDS, self._order, number, data, source))

    def _next_times(self) -> list[float]:
        times = [member.deadline for member in self.members if member.alive and member.deadline is not None]
        times += [queue[0][0] for queue in (self._queue, self._refusals) if queue]
        return times

    def _step(self) -> None:
        """What is due now, once."""
        while self._queue and self._queue[0][0] <= self.now:
            _, _, number, data, source = heapq.heappop(self._queue)
            self.receive(self.members[number], data, source)
        while self._refusals and self._refusals[0][0] <= self.now:
            _, number, dead = self._refusals.pop(0)
            self._refuse(self.members[number], self.members[dead].identity)
        for member in self.members:
            for _ in range(BUSY_TIMEOUTS):
                if not member.alive or member.deadline is None or member.deadline > self.now:
                    break
                self.turn(member, lambda engine, now: engine.handle_timeout(now))
            else:
                raise AssertionError(f"the engine of {member.identity} wants to be called again and again")

    def _collect(self, member: Member) -> list[bytes]:
        """Take what an engine has to say; its own multicasts come back."""
        self.turns += 1
        engine = member.engine
        engine.check_invariants()
        own = []
        count = 0
        datagrams = engine.datagrams_to_send(self.now)
        for datagram in datagrams:
            self.clear += datagram.pieces
        del self.clear[: -self.keep]
        for datagram in engine.seal(datagrams):
            for data in datagram.pieces:
                count += 1
                self.wire.append(data)
                for number, other in enumerate(self.members):
                    if other is not member and datagram.destination in (None, other.address):
                        self.put(number, data, member.address)
                if datagram.destination in (None, member.address):
                    own.append(data)
        del self.wire[: -self.keep]
        member.sent += count
        self.most_at_once = max(self.most_at_once, count)
        for output in engine.take_outputs():
            self._act_on(member, output)
        return own

    def _act_on(self, member: Member, output: Output) -> None:
        if isinstance(output, FrameDelivered):
            try:
                member.delivered += len(unpack_messages(output.payload))
            except MalformedPacket:
                return  # a session counts it and drops it
        elif isinstance(output, WatchChanged):
            member.watched = output.peers
            for node, _ in output.peers:
                self._look(member, node)
        elif isinstance(output, ProbeWanted):
            self._look(member, output.node)
        elif isinstance(output, Stopped):
            self._end(member)

    def _end(self, member: Member) -> None:
        member.alive = False
        member.deadline = None
        for other in self.members:
            if other.alive and any(node == member.identity for node, _ in other.watched):
                self._look(other, member.identity)

    def _refuse(self, member: Member, node: NodeId) -> None:
        """The watch has found that a neighbour is dead."""
        self.turn(member, lambda engine, now: engine.peer_refused(node, now))

    def _look(self, watcher: Member, node: NodeId) -> None:
        """The watch finds a dead process by the refusal of its host; of strangers it finds nothing."""
        for number, other in enumerate(self.members):
            if other.identity == node and not other.alive:
                self._refusals.append((self.now + REFUSED_SECONDS, self.members.index(watcher), number))
                self._refusals.sort()
