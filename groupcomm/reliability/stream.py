"""One node's packets in one view, as this node has them: what is here, what is missing, when to ask for it.

Decides which packets are new, which are gaps and when each gap is due to be asked for. Does not decide whom to ask, nor
what is in a packet. A packet stays held until every node has it, so that any node can repair it for any other.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Sequence
from heapq import heappop, heappush, heapreplace
from math import inf

from groupcomm.limits import MAX_MISSING, MAX_RANGES, MAX_REPAIR_PACKETS
from groupcomm.wire.packets import Packets, Range

_BATCH_SECONDS = 0.002

_FRUITLESS_TRIES = 24
_RARELY_SECONDS = 1.0
_MOST_PUT_OFF_SECONDS = 1.0


class Accepted(enum.Enum):
    """What became of a packet."""

    NEW = enum.auto()
    DUPLICATE = enum.auto()
    TOO_FAR = enum.auto()


_DUPLICATE = Accepted.DUPLICATE
_NEW = Accepted.NEW
_TOO_FAR = Accepted.TOO_FAR


class PacketRun:
    """Packets of one size with consecutive numbers, kept together.

    Attributes:
        first: the number of the first.
        last: the number of the last.
        size_bytes: of each, but the last may be shorter.
        flags: one byte for each, from its header.
        bodies: what follows the header of each; emptied once they have been looked into.
    """

    __slots__ = ("_packets", "bodies", "first", "flags", "last", "size_bytes")

    def __init__(self, first: int, flags: bytes, bodies: Sequence[bytes], packets: Packets) -> None:
        self.first = first
        self.last = first + len(flags) - 1
        self.flags = flags
        self.bodies = bodies
        self.size_bytes = packets.size_bytes
        self._packets = packets

    @property
    def held_bytes(self) -> int:
        """What holding all of them is counted with."""
        return len(self.flags) * self.size_bytes

    def packet(self, number: int) -> bytes:
        """One of them."""
        return self._packets.packet(number - self.first)


class Stream:
    """The packets of one stream, from the first that is not stable yet.

    Attributes:
        contiguous: everything up to here has come.
        highest: the highest number known to have been sent.
        stable: every node of the view has everything up to here; those packets are freed.
        held: the packets above ``stable`` that are here, by number, or the run each is part of. Bound: the sender's
            window; emptied by ``free``; a packet more than ``ahead_limit`` above ``contiguous`` is refused, and so are
            packets beyond a gap at ``hold_limit_bytes``, and all at twice as much: more comes from no honest sender.
        held_bytes: their sizes.
        hold_limit_bytes: see there.
        ever_missing: how many packets were found missing, for the status.
        requests: how many NACKs were sent for it, for the status.
        repairs: how many packets came after they had been asked for, for the status.
    """

    __slots__ = (
        "_ahead_limit",
        "_due_at",
        "_later",
        "_missing",
        "_put_off_limit",
        "_queue",
        "_tracked",
        "contiguous",
        "ever_missing",
        "held",
        "held_bytes",
        "highest",
        "hold_limit_bytes",
        "repairs",
        "requests",
        "stable",
    )

    def __init__(self, first: int, ahead_limit: int, hold_limit_bytes: float = inf) -> None:
        self.contiguous = self.highest = self.stable = self._tracked = first
        self.held: dict[int, bytes | PacketRun] = {}
        self.held_bytes = 0
        self.hold_limit_bytes = hold_limit_bytes
        self._missing: dict[int, tuple[float, int]] = {}
        self._queue: list[tuple[float, int]] = []  # when each is due; an entry that _missing does not confirm is void
        self._later: list[int] = []
        self._ahead_limit = ahead_limit
        self._due_at = self._put_off_limit = inf
        self.ever_missing = self.requests = self.repairs = 0

    @property
    def missing_count(self) -> int:
        """How many missing packets are tracked."""
        return len(self._missing) + len(self._later)

    def accept(self, number: int, packet: bytes, now: float, wait_seconds: float) -> Accepted:
        """Take a packet in.

        Args:
            number: its number.
            packet: its bytes, as they were sent.
            now: the time.
            wait_seconds: how long a gap that it shows may be mere reordering.
        """
        held = self.held
        if self.held_bytes >= self.hold_limit_bytes and not self._has_room(number):
            return _TOO_FAR
        if number == self.contiguous + 1 and self.highest == self.contiguous:
            self.append(packet)
            return _NEW
        if number <= self.contiguous or number in held:
            return _DUPLICATE
        if number > self.contiguous + self._ahead_limit:
            return _TOO_FAR
        held[number] = packet
        self.held_bytes += len(packet)
        if self._missing:
            gap = self._missing.pop(number, None)
            if gap is not None and gap[1]:
                self.repairs += 1
            if self._later and len(self._missing) < MAX_MISSING // 2:
                self._ask_later(now)
        if number == self.contiguous + 1:
            contiguous = number
            while contiguous + 1 in held:
                contiguous += 1
            self.contiguous = contiguous
        if number > self.highest:
            self.announce(number, now, wait_seconds)
        return _NEW

    def _has_room(self, number: int) -> bool:
        """Whether a packet may be taken in although the limit is reached: the very next, up to twice as much."""
        return number == self.contiguous + 1 and self.held_bytes < 2 * self.hold_limit_bytes

    def accept_run(self, run: PacketRun, now: float, wait_seconds: float) -> bool:
        """Take packets in none of which is here yet; if one is, or is too far ahead, False, and nothing is done."""
        first, last, held = run.first, run.last, self.held
        if first <= self.contiguous or last > self.contiguous + self._ahead_limit:
            return False
        if self.held_bytes >= self.hold_limit_bytes:
            return False
        if first == self.highest + 1 == self.contiguous + 1:
            self.append_run(run)
            return True
        numbers = range(first, last + 1)
        if first <= self.highest and not held.keys().isdisjoint(numbers):
            return False
        held.update(dict.fromkeys(numbers, run))
        self.held_bytes += run.held_bytes
        if self._missing and first <= self.highest:
            for number in numbers:
                gap = self._missing.pop(number, None)
                if gap is not None and gap[1]:
                    self.repairs += 1
            if self._later and len(self._missing) < MAX_MISSING // 2:
                self._ask_later(now)
        if first == self.contiguous + 1:
            while last + 1 in held:
                last += 1
            self.contiguous = last
        if run.last > self.highest:
            self.announce(run.last, now, wait_seconds)
        return True

    def append(self, packet: bytes) -> None:
        """The next packet of a stream without gaps: of this node's own it leaves, of another's it has come."""
        self.contiguous = self.highest = self._tracked = number = self.contiguous + 1
        self.held[number] = packet
        self.held_bytes += len(packet)

    def append_run(self, run: PacketRun) -> None:
        """The same for the next packets."""
        self.held.update(dict.fromkeys(range(run.first, run.last + 1), run))
        self.held_bytes += run.held_bytes
        self.contiguous = self.highest = self._tracked = run.last

    def packet(self, number: int) -> bytes | None:
        """A packet that is held; None if it is not."""
        held = self.held.get(number)
        return held.packet(number) if isinstance(held, PacketRun) else held

    def announce(self, highest: int, now: float, wait_seconds: float) -> None:
        """Packets up to ``highest`` are known to exist: those not here become gaps, due after ``wait_seconds``."""
        if highest > self.contiguous + self._ahead_limit:
            highest = self.contiguous + self._ahead_limit
        if highest > self.highest:
            self.highest = highest
        self._track(now + wait_seconds)

    def _track(self, due_at: float) -> None:
        missing, held = self._missing, self.held
        if not missing:
            self._put_off_limit = inf
        number = max(self._tracked, self.contiguous)
        while number < self.highest and len(missing) < MAX_MISSING:
            number += 1
            if number not in held:
                missing[number] = (due_at, 0)
                heappush(self._queue, (due_at, number))
                self.ever_missing += 1
                if due_at < self._due_at:
                    self._due_at = due_at
        self._tracked = number

    def take_due(self, now: float, again_seconds: float) -> list[tuple[int, int]]:
        """The missing packets to ask for now, each with how often it was asked for before, ascending.

        Each is due again after ``again_seconds``, twice as long for every time it was asked before, up to eight times;
        what nobody has sent after so many tries is asked for more and more rarely. One call names a bounded number; the
        others are due a moment later. It looks at what is due and at no other: a member that announces what it never
        sends keeps thousands missing.
        """
        if now < self._due_at:
            return []
        due: list[tuple[int, int]] = []
        missing, queue = self._missing, self._queue
        while queue:
            due_at, number = queue[0]
            gap = missing.get(number)
            if gap is not None and gap[0] == due_at:
                if due_at > now or len(due) == MAX_REPAIR_PACKETS:
                    break
                due.append((number, gap[1]))
                due_at = now + _wait_seconds(gap[1], again_seconds)
                missing[number] = (due_at, gap[1] + 1)
                heapreplace(queue, (due_at, number))
            else:
                heappop(queue)
        due.sort()
        if not queue:
            self._due_at = inf
        else:
            self._due_at = queue[0][0] if queue[0][0] > now else now + _BATCH_SECONDS
        if self._tracked < self.highest and len(self._missing) < MAX_MISSING // 2:
            self._track(now + _BATCH_SECONDS)
        if due:
            self._put_off_limit = inf
        return due

    def postpone(self, ranges: Iterable[Range], until: float) -> None:
        """Another node has asked for these, or they are on their way: do not ask before ``until``.

        Looks at no more packets than one request may name, and puts off for no more than a second between two requests
        of this node: others can save it a request, not keep it from asking.
        """
        self._put_off_limit = min(self._put_off_limit, until + _MOST_PUT_OFF_SECONDS)
        if until > self._put_off_limit:
            return
        room = MAX_REPAIR_PACKETS
        for item in ranges:
            last = min(item.last, item.first + room - 1)
            room -= last - item.first + 1
            for number in range(item.first, last + 1):
                gap = self._missing.get(number)
                if gap is not None and gap[0] < until:
                    self._missing[number] = (until, gap[1])
                    heappush(self._queue, (until, number))
        if len(self._queue) > 4 * MAX_MISSING:
            self._queue = sorted((due_at, number) for number, (due_at, _) in self._missing.items())

    def want_only(self, numbers: list[int], now: float) -> None:
        """Only these packets may still come: ask for them now. More than ``MAX_MISSING`` are asked for in turns."""
        self._missing = {
            number: (now, self._missing[number][1] if number in self._missing else 0)
            for number in numbers[:MAX_MISSING]
        }
        self._queue = sorted((now, number) for number in self._missing)
        self._later = numbers[MAX_MISSING:][::-1]
        self._due_at = now if numbers else inf
        self.highest = max(self.contiguous, *self.held, *numbers, self.contiguous)
        self._tracked = self.highest

    def _ask_later(self, now: float) -> None:
        while self._later and len(self._missing) < MAX_MISSING:
            number = self._later.pop()
            if number > self.contiguous and number not in self.held:
                self._missing[number] = (now, 0)
                heappush(self._queue, (now, number))
                self._due_at = min(self._due_at, now)

    def due_at(self) -> float:
        """When ``take_due`` has something to say; infinite if nothing is missing."""
        return self._due_at if self._missing else inf

    def free(self, stable: int) -> None:
        """Every node has everything up to ``stable``."""
        take, freed = self.held.pop, 0
        number, end = self.stable + 1, min(stable, self.contiguous)
        while number <= end:
            packet = take(number, b"")
            if not isinstance(packet, PacketRun):
                freed += len(packet)
                number += 1
                continue
            after = min(packet.last, end) + 1
            freed += packet.size_bytes * (after - number)
            for other in range(number + 1, after):
                take(other, None)
            number = after
        self.held_bytes -= freed
        self.stable = max(self.stable, min(stable, self.contiguous))

    def ranges_above(self) -> tuple[Range, ...]:
        """What is held above the contiguous part, in at most ``MAX_RANGES`` ranges."""
        above = sorted(number for number in self.held if number > self.contiguous)
        return join_ranges(above)[:MAX_RANGES]

    def check_invariants(self) -> None:
        """Raise ``AssertionError`` if the stream contradicts itself."""
        assert self.stable <= self.contiguous <= self.highest, (self.stable, self.contiguous, self.highest)
        assert self.contiguous + 1 not in self.held
        assert self.held_bytes >= 0
        if self._missing:
            assert min(self._missing) > self.contiguous and self.held.keys().isdisjoint(self._missing)
            assert len(self._missing) <= MAX_MISSING
        assert len(self._missing) <= len(self._queue) <= 4 * MAX_MISSING + MAX_REPAIR_PACKETS


def _wait_seconds(tries: int, again_seconds: float) -> float:
    """How long to wait for a packet that was asked for so often before."""
    waits = again_seconds * (1 << min(tries, 3))
    if tries <= _FRUITLESS_TRIES:
        return waits
    return max(waits, min(_RARELY_SECONDS, waits * (1 << min(tries - _FRUITLESS_TRIES, 20))))


def join_ranges(numbers: Iterable[int]) -> tuple[Range, ...]:
    """Ascending numbers as ranges."""
    ranges: list[Range] = []
    first = last = -1
    for number in numbers:
        if number == last + 1 and first >= 0:
            last = number
            continue
        if first >= 0:
            ranges.append(Range(first, last))
        first = last = number
    if first >= 0:
        ranges.append(Range(first, last))
    return tuple(ranges)
