"""One node's part in quorum: what it says when it answers, what it remembers, and the verdict on its view.

Decides when the memory changes, before READY for a primary view and at the installation of one; and how long its disk
may take for the first.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from groupcomm.identity import NodeId, ViewId
from groupcomm.quorum.judging import describe
from groupcomm.quorum.settings import Filter, Quorum
from groupcomm.quorum.votes import MAX_ATTEMPTS, NO_VERDICT, Memory, Primary, Verdict, Vote

DISK_SECONDS: Final = 5.0
"""A change waits so long for the disks of those who take part; a node whose disk takes twice as long stops."""


class Voter:
    """What one node knows of quorum.

    Attributes:
        memory: what must outlive it.
        number: how often that has changed.
        verdict: on its view; before the first none is primary, unless there is no filter.
        differing: the names of those of its view whose settings are not the proposer's.
    """

    __slots__ = ("_digest", "_kept", "_quorum", "_wanted", "_wanted_at", "differing", "memory", "number", "verdict")

    def __init__(self, quorum: Quorum, digest: int, memory: Memory) -> None:
        self._quorum = quorum
        self._digest = digest
        self.memory = memory
        self.number = self._kept = self._wanted = 0
        self._wanted_at = 0.0
        self.verdict = NO_VERDICT
        self.differing: tuple[str, ...] = ()

    @property
    def vote(self) -> Vote | None:
        """What it says; None without a filter."""
        return None if self._quorum.filter is Filter.NONE else Vote(self._digest, self.memory)

    @property
    def why(self) -> str:
        """Why the view is primary, or is not, for people."""
        names = ", ".join(self.differing)
        return f"{describe(self.verdict.why)}: {names}" if names else describe(self.verdict.why)

    @property
    def highest_epoch(self) -> int:
        """Of the views it remembers: proposals must be above."""
        known = [one.id.epoch for one in (*self.memory.attempts, *filter(None, [self.memory.last]))]
        return max(known, default=0)

    @property
    def waits(self) -> bool:
        """Whether this node may not be READY yet, as its memory is not on the disk."""
        return self._kept < self._wanted

    def is_stuck(self, now: float) -> bool:
        """Whether it waits for longer than others can be asked to wait with it."""
        return self.waits and now - self._wanted_at > 2 * DISK_SECONDS

    def kept(self, number: int, now: float) -> bool:
        """The memory of this number is on the disk; whether this node has waited for that."""
        waited = self.waits
        self._kept, self._wanted_at = max(self._kept, number), now
        return waited and not self.waits

    def plan_came(self, view: ViewId, members: Sequence[NodeId], verdict: Verdict, now: float) -> bool:
        """A plan: before READY it counts as an attempt; whether the memory has changed."""
        before = self.memory
        attempts = tuple(one for one in before.attempts if one.id not in verdict.void and one.id != view)
        if self._quorum.filter is Filter.DYNAMIC_LINEAR and verdict.primary and len(attempts) < MAX_ATTEMPTS:
            attempts = (*attempts, Primary(view, self._quorum.map_of(node.name for node in members)))
        self.memory = Memory(before.last, attempts, before.whole)
        if self.memory == before:
            return False
        if not self.waits:
            self._wanted_at = now
        self.number += 1
        self._wanted = self.number
        return True

    def installed(
        self, view: ViewId, participants: Sequence[NodeId], members: Sequence[NodeId], verdict: Verdict, me: NodeId
    ) -> bool:
        """The view is there; whether the memory has changed."""
        self.verdict = verdict
        self.differing = tuple(node.name for index, node in enumerate(participants) if verdict.differing >> index & 1)
        if self._quorum.filter is not Filter.DYNAMIC_LINEAR or not verdict.primary:
            return False
        nodes = self._quorum.map_of(node.name for node in members)
        self.memory = Memory(Primary(view, nodes), (), self.memory.whole or me in members)
        self.number += 1
        return True
