"""A datagram network in memory: what a LAN does to packets, drawn from one seed.

Decides which receivers get a datagram, when, how often and in what shape. A datagram to None is multicast: every socket
of the link gets its copy, the sender's own included, as a looped-back multicast does. Between two hosts datagrams keep
their order unless a fault says otherwise. Upholds nothing of its own but the size limit: a datagram over the MTU is a
bug of the sender and raised.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from functools import partial

from attrs import define, field, frozen

from groupcomm.outputs import Address, Datagram
from groupcomm.testing.scheduler import Scheduler

DatagramSink = Callable[[bytes, Address], None]
"""Takes the bytes and the sender's address."""

PacketTap = Callable[[bytes, Address], int | None]
"""Asked about each datagram and its sender: how many other nodes it may reach, None for all of them."""

PacketObserver = Callable[[str, Address, Address, bytes], None]
"""Told what became of each copy (``deliver``, ``drop``, ``cut``, ``clog``, ``corrupt``, ...): from, to, bytes."""

NARROW_BYTES = 32 * 1024
"""What waits before a narrow link at most; more is dropped."""

CLOG_DATAGRAMS = 1000
"""What a clogged path holds back at most; more is dropped."""


@frozen
class Conditions:
    """What the network does to each copy of a datagram. Probabilities are per receiver.

    Attributes:
        loss_probability: it does not arrive.
        duplicate_probability: it arrives twice.
        reorder_probability: it arrives up to ``reorder_seconds`` late and others pass it.
        reorder_seconds: the most that a reordered one is late.
        delay_seconds: the least time on the way.
        jitter_seconds: the mean of what is added to it, exponentially distributed; keeps the order.
        tail_probability: it is held up for up to ``tail_seconds``, and so is what comes after it on that path.
        tail_seconds: the longest such time.
        corrupt_probability: bits of it are flipped: the receiver's UDP checksum finds it and drops it.
        garbage_probability: before it comes a datagram of random bytes, as a stranger on the port would send.
        rate_bytes_per_second: what a host can send; the rest waits in its queue.
    """

    loss_probability: float = 0.0
    duplicate_probability: float = 0.0
    reorder_probability: float = 0.0
    reorder_seconds: float = 0.002
    delay_seconds: float = 0.0001
    jitter_seconds: float = 0.00005
    tail_probability: float = 0.0
    tail_seconds: float = 0.02
    corrupt_probability: float = 0.0
    garbage_probability: float = 0.0
    rate_bytes_per_second: float = 125_000_000.0


@define(eq=False)
class Network:
    """All sockets, the paths between them and the faults on these.

    Attributes:
        scheduler: the clock.
        seed: of every draw made here; each purpose has a stream of its own, so that one more draw shifts no other.
        conditions: of all paths; ``loss_to`` adds to them per receiver, ``loss_between`` per path.
        mtu_bytes: the largest datagram.
        loss_from: by sender, how likely a datagram reaches nobody at all.
        rate_to: by receiver, the bytes in a second that its link lets through; those not named have no such limit.
        counters: what became of the copies.
        observer: told of every copy, for logs.
        loses: asked about every copy (data, source, receiver): whether exactly this one is lost.
        tap: asked about every datagram before it is on the wire.
        watcher: told of every datagram that a node sends.
        deaf: pairs of sender and receiver between whom no multicast passes.
        takes_bytes: by receiver, the largest datagram that its path takes; larger ones vanish.
        multicast: whether the copy that is being handed to a socket was sent to the group.
    """

    scheduler: Scheduler
    seed: str
    conditions: Conditions = Conditions()
    mtu_bytes: int = 65_507
    loss_to: dict[Address, float] = field(factory=dict)
    loss_between: dict[tuple[Address, Address], float] = field(factory=dict)
    loss_from: dict[Address, float] = field(factory=dict)
    rate_to: dict[Address, float] = field(factory=dict)
    counters: dict[str, int] = field(factory=dict)
    observer: PacketObserver | None = None
    loses: Callable[[bytes, Address, Address], bool] | None = None
    tap: PacketTap | None = None
    watcher: DatagramSink | None = None
    deaf: set[tuple[Address, Address]] = field(factory=set)
    takes_bytes: dict[Address, int] = field(factory=dict)
    multicast: bool = False
    _links: dict[Address, int] = field(factory=dict)
    _muted: set[Address] = field(factory=set)
    _sockets: dict[Address, DatagramSink] = field(factory=dict)
    _cuts: set[tuple[Address, Address]] = field(factory=set)
    _clogs: dict[tuple[Address, Address], list[tuple[str, bytes, bool]]] = field(factory=dict)
    _last_arrival: dict[tuple[Address, Address], float] = field(factory=dict)
    _link_free_at: dict[Address, float] = field(factory=dict)
    _narrow_free_at: dict[Address, float] = field(factory=dict)
    _loss: random.Random = field(init=False)
    _delay: random.Random = field(init=False)
    _tail: random.Random = field(init=False)
    _reorder: random.Random = field(init=False)
    _duplicate: random.Random = field(init=False)
    _corrupt: random.Random = field(init=False)

    def __attrs_post_init__(self) -> None:
        for purpose in ("loss", "delay", "tail", "reorder", "duplicate", "corrupt"):
            setattr(self, f"_{purpose}", random.Random(f"{self.seed}/network/{purpose}"))

    def attach(self, address: Address, sink: DatagramSink, link: int = 0) -> None:
        """Open a socket on a link: from now on its copies go to ``sink``."""
        self._sockets[address] = sink
        self._links[address] = link

    def detach(self, address: Address) -> None:
        """Close a socket: what is on the way to it is lost."""
        self._sockets.pop(address, None)

    def send(self, datagram: Datagram, source: Address) -> None:
        """Put a datagram, or a run of them, on the wire.

        Raises:
            AssertionError: one is larger than the MTU.
        """
        for data in datagram.pieces:
            self._send(data, datagram.destination, source)

    def _send(self, data: bytes, destination: Address | None, source: Address) -> None:
        size = len(data)
        assert size <= self.mtu_bytes, f"a datagram of {size} bytes on a network with an MTU of {self.mtu_bytes}"
        if self.watcher is not None:
            self.watcher(data, source)
        if source in self._muted:
            return
        self._count("sent")
        reaches = self.tap(data, source) if self.tap is not None else None
        departs_at = max(self.scheduler.now, self._link_free_at.get(source, 0.0))
        departs_at += size / self.conditions.rate_bytes_per_second
        self._link_free_at[source] = departs_at
        receivers = self._group(source) if destination is None else [destination]
        if reaches is not None:
            others = [receiver for receiver in receivers if receiver != source]
            receivers = self._loss.sample(others, min(reaches, len(others)))
        if self.loss_from and self._happens(self._loss, self.loss_from.get(source, 0.0)):
            for receiver in receivers:
                if receiver != source:
                    self._note("drop", source, receiver, data)
            receivers = [receiver for receiver in receivers if receiver == source]
        for receiver in receivers:
            self._send_copy(data, source, receiver, departs_at, multicast=destination is None)

    def _group(self, source: Address) -> list[Address]:
        """Every socket on the sender's link."""
        link = self._links.get(source, 0)
        return [address for address in sorted(self._sockets) if self._links[address] == link]

    def mute(self, source: Address) -> None:
        """Nothing that ``source`` sends reaches the wire."""
        self._muted.add(source)

    def unmute(self, source: Address) -> None:
        """Undo ``mute``."""
        self._muted.discard(source)

    def cut(self, source: Address, destination: Address) -> None:
        """Lose everything from ``source`` to ``destination``; the other direction is not touched."""
        self._cuts.add((source, destination))

    def restore(self, source: Address, destination: Address) -> None:
        """Undo ``cut``."""
        self._cuts.discard((source, destination))

    def partition(self, *sides: Iterable[Address]) -> None:
        """Cut every path between addresses of different sides, both ways. Earlier cuts stay."""
        listed = [tuple(side) for side in sides]
        for number, side in enumerate(listed):
            for other in (address for later in listed[number + 1 :] for address in later):
                for address in side:
                    self.cut(address, other)
                    self.cut(other, address)

    def clog(self, source: Address, destination: Address) -> None:
        """Hold everything from ``source`` to ``destination`` back; it comes late, in its order, all at once."""
        self._clogs.setdefault((source, destination), [])

    def unclog(self, source: Address, destination: Address) -> None:
        """Let what was held back on a path arrive now."""
        for fate, data, multicast in self._clogs.pop((source, destination), ()):
            self.scheduler.call_later(0.0, partial(self._arrive, fate, data, source, destination, multicast))

    def heal(self) -> None:
        """Undo every cut and clog."""
        self._cuts.clear()
        for source, destination in sorted(self._clogs):
            self.unclog(source, destination)

    def connected(self, source: Address, destination: Address) -> bool:
        """Whether anything from ``source`` can arrive at ``destination``."""
        return source == destination or (source, destination) not in self._cuts

    def _send_copy(
        self, data: bytes, source: Address, receiver: Address, departs_at: float, *, multicast: bool
    ) -> None:
        conditions = self.conditions
        if source == receiver:  # the loop inside the host: no wire, no fault
            self._arrive_at(departs_at, "deliver", data, source, receiver, multicast)
            return
        if (multicast and (source, receiver) in self.deaf) or len(data) > self.takes_bytes.get(receiver, len(data)):
            self._note("cut", source, receiver, data)
            return
        if self.loses is not None and self.loses(data, source, receiver):
            self._note("drop", source, receiver, data)
            return
        if self._cuts and (source, receiver) in self._cuts:
            self._note("cut", source, receiver, data)
            return
        loss = conditions.loss_probability
        if self.loss_to or self.loss_between:
            loss = max(loss, self.loss_to.get(receiver, 0.0), self.loss_between.get((source, receiver), 0.0))
        if self._happens(self._loss, loss):
            self._note("drop", source, receiver, data)
            return
        if self._happens(self._corrupt, conditions.corrupt_probability):
            self._note("corrupt", source, receiver, data)
            return
        arrives_at = self._arrival(source, receiver, departs_at)
        if receiver in self.rate_to:
            passed_at = self._pass_narrow(receiver, len(data), arrives_at)
            if passed_at is None:
                self._note("drop", source, receiver, data)
                return
            arrives_at = passed_at
        if self._happens(self._corrupt, conditions.garbage_probability):
            garbage = self._corrupt.randbytes(self._corrupt.choice((0, 1, 12, 24, 64, len(data))))
            self._arrive_at(arrives_at, "garbage", garbage, source, receiver, multicast)
        self._arrive_at(arrives_at, "deliver", data, source, receiver, multicast)
        if self._happens(self._duplicate, conditions.duplicate_probability):
            again_at = arrives_at + self._duplicate.random() * conditions.reorder_seconds
            self._arrive_at(again_at, "duplicate", data, source, receiver, multicast)

    def _arrival(self, source: Address, receiver: Address, departs_at: float) -> float:
        conditions = self.conditions
        path = (source, receiver)
        arrives_at = departs_at + conditions.delay_seconds
        if conditions.jitter_seconds:
            arrives_at += self._delay.expovariate(1.0 / conditions.jitter_seconds)
        if self._happens(self._reorder, conditions.reorder_probability):
            self._count("late")
            return arrives_at + self._reorder.random() * conditions.reorder_seconds
        if self._happens(self._tail, conditions.tail_probability):
            self._count("late")
            arrives_at += self._tail.random() * conditions.tail_seconds
        arrives_at = max(arrives_at, self._last_arrival.get(path, 0.0))
        self._last_arrival[path] = arrives_at
        return arrives_at

    def _pass_narrow(self, receiver: Address, size: int, arrives_at: float) -> float | None:
        """When a datagram has passed the receiver's narrow link; None if too much waits there already."""
        free_at = max(arrives_at, self._narrow_free_at.get(receiver, 0.0))
        if (free_at - arrives_at) * self.rate_to[receiver] > NARROW_BYTES:
            return None
        self._narrow_free_at[receiver] = free_at = free_at + size / self.rate_to[receiver]
        return free_at

    def _arrive_at(
        self, at: float, fate: str, data: bytes, source: Address, receiver: Address, multicast: bool
    ) -> None:
        self.scheduler.call_at(at, partial(self._arrive, fate, data, source, receiver, multicast))

    def _arrive(self, fate: str, data: bytes, source: Address, receiver: Address, multicast: bool) -> None:
        sink = self._sockets.get(receiver)
        if sink is None or (self._cuts and not self.connected(source, receiver)):
            self._note("cut", source, receiver, data)
            return
        if self._clogs and (held := self._clogs.get((source, receiver))) is not None:
            if len(held) < CLOG_DATAGRAMS:
                held.append((fate, data, multicast))
            self._note("clog", source, receiver, data)
            return
        self._note(fate, source, receiver, data)
        self.multicast = multicast
        sink(data, source)
        self.multicast = False

    @staticmethod
    def _happens(stream: random.Random, probability: float) -> bool:
        return probability > 0.0 and stream.random() < probability

    def _count(self, what: str) -> None:
        self.counters[what] = self.counters.get(what, 0) + 1

    def _note(self, fate: str, source: Address, receiver: Address, data: bytes) -> None:
        self._count(fate)
        if self.observer is not None:
            self.observer(fate, source, receiver, data)
