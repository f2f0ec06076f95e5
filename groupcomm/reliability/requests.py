"""What is missing of each stream, when it is asked for, and of whom (NACK).

A gap is asked for after a moment in which it may be mere reordering, of the sender first; after two unanswered requests
of somebody else who has it. Of a view that ends, what the plan names is asked of those whom the plan names.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import inf
from random import Random
from typing import Protocol

from groupcomm.config import EngineConfig
from groupcomm.limits import MAX_NACK_RANGES
from groupcomm.reliability.backoff import backoff_seconds
from groupcomm.reliability.counters import Counters
from groupcomm.reliability.reports import Out
from groupcomm.reliability.rtt import RoundTrip
from groupcomm.reliability.stability import Stability
from groupcomm.reliability.stream import Stream, join_ranges
from groupcomm.wire.packets import Kind, Nack, encode

_REORDER_SECONDS = 0.0005


class Holders(Protocol):
    """A plan that says who holds what."""

    def holder(self, index: int, number: int, tries: int) -> int:
        """Who is asked for a packet: by the index of its stream, its number, and how often it was asked for."""


class Requests:
    """The requests of one node in one view.

    Attributes:
        planned: the plan that says whom to ask; None as long as there is none.
        to_all: whether requests to a sender may go to all, so that others need not ask for the same.
    """

    __slots__ = (
        "_counters",
        "_digest",
        "_gapped",
        "_me",
        "_out",
        "_random",
        "_rtts",
        "_stability",
        "_streams",
        "_suppresses",
        "planned",
        "to_all",
    )

    def __init__(
        self,
        me: int,
        digest: int,
        config: EngineConfig,
        streams: Sequence[Stream],
        stability: Stability,
        rtts: Sequence[RoundTrip],
        random: Random,
        counters: Counters,
        out: Out,
    ) -> None:
        self._me = me
        self._digest = digest
        self._streams = streams
        self._stability = stability
        self._rtts = rtts
        self._random = random
        self._counters = counters
        self._out = out
        self._suppresses = len(streams) > config.suppression_nodes
        self._gapped: set[int] = set()
        self.planned: Holders | None = None
        self.to_all = self._suppresses

    def due_at(self) -> float:
        """When ``send`` has something to ask for; infinite if never."""
        return min((self._streams[index].due_at() for index in self._gapped), default=inf)

    def wait_seconds(self, sender: int) -> float:
        """How long a gap in that sender's stream may be mere reordering, or another's to ask for."""
        if self._suppresses:
            return backoff_seconds(self._random, self._rtts[sender].or_initial, len(self._streams))
        return _REORDER_SECONDS

    def look_at(self, index: int) -> None:
        """Something of that stream may be missing."""
        if self._streams[index].due_at() != inf:
            self._gapped.add(index)

    def look_at_all(self) -> None:
        """Something of any stream may be missing."""
        self._gapped.update(range(len(self._streams)))

    def announced(self, index: int, highest: int, now: float, wait_seconds: float) -> None:
        """That stream is known to go up to ``highest``."""
        self._streams[index].announce(highest, now, wait_seconds)
        self.look_at(index)

    def send(self, now: float) -> None:
        """Ask for what is due."""
        for index in sorted(self._gapped):
            stream = self._streams[index]
            if now < stream.due_at():
                if stream.due_at() == inf:
                    self._gapped.discard(index)
                continue
            wait = self._rtts[index].repair_seconds
            for target, numbers in sorted(self._targets(index, stream.take_due(now, wait)).items()):
                ranges = join_ranges(numbers)
                for at in range(0, len(ranges), MAX_NACK_RANGES):
                    body = Nack(index, target, ranges[at : at + MAX_NACK_RANGES]).encode()
                    packet = encode(Kind.NACK, self._digest, self._me, 0, body)
                    self._out.append((packet, None if self.to_all and target == index else target, None))
                    stream.requests += 1
                    self._counters.up("nacks_sent")

    def _targets(self, index: int, due: list[tuple[int, int]]) -> dict[int, list[int]]:
        """Whom to ask for which packets."""
        targets: dict[int, list[int]] = {}
        for number, tries in due:
            target = index
            if self.planned is not None:
                target = self.planned.holder(index, number, tries)
            elif tries >= 2 and tries % 2 == 0:
                holders = [node for node in self._stability.holders(index, number) if node not in (self._me, index)]
                if holders:
                    target = holders[(number // 16 + index + tries) % len(holders)]
            if target != self._me:
                targets.setdefault(target, []).append(number)
        return targets
