"""How a view passes from one key epoch to the next: all have the new secret before anybody seals under it.

    idle     --NEW of the next number-->          pending: the epoch is opened, and this node confirms
    pending  --CONFIRM of the last member-->      idle: this node seals under the new epoch
    pending  --NEW-->                             pending: the first in the order counts, others are passed over
    either   --the view is frozen-->              held: what comes now is passed over
    any      --a view is installed-->             idle: the plan names the view's epoch

NEW and CONFIRM are frames of level AGREED, so every node passes each step at the same point of the order: the frame
behind the last CONFIRM is the first that any node seals anew. A frozen node has said, or is about to say, under which
epoch it seals, and keeps to it: the plan takes the latest that anybody has said. Who was asked to rotate, and sees a
view change come between, begins again in the next view unless that has a later epoch already.
"""

from __future__ import annotations

import enum
from collections.abc import Callable

from groupcomm.errors import MalformedPacket
from groupcomm.identity import NodeId
from groupcomm.outputs import KeyRotated
from groupcomm.reliability.counters import Counters
from groupcomm.sealing.guard import Guard
from groupcomm.wire.codec import Reader, Writer
from groupcomm.wire.keys import KeyEpoch


class Step(enum.IntEnum):
    """What a frame of a rotation says."""

    NEW = 0
    """Here is the secret of the next epoch."""
    CONFIRM = 1
    """I have it."""


class Rotation:
    """The rotation of one node's view.

    Args:
        guard: seals and opens.
        entropy: makes so many random bytes.
        counters: what is passed over is counted there.

    Attributes:
        pending: the epoch that not all have confirmed.
        out: bodies of frames to send.
        news: rotations that are done.
    """

    def __init__(self, guard: Guard, entropy: Callable[[int], bytes], counters: Counters) -> None:
        self._guard = guard
        self._entropy = entropy
        self._counters = counters
        self._members: frozenset[NodeId] = frozenset()
        self._confirmed: set[NodeId] = set()
        self._held = True
        self._goal = 0
        self.pending: KeyEpoch | None = None
        self.out: list[bytes] = []
        self.news: list[KeyRotated] = []

    def ask(self) -> None:
        """Rotate; one that is under way will do."""
        if not self.wanted:
            self._goal = self._guard.epoch.number + 1
            if self.pending is None and not self._held:
                self._propose()

    @property
    def wanted(self) -> bool:
        """Whether this node was asked to rotate, and has not."""
        return self._goal > self._guard.epoch.number

    def _propose(self) -> None:
        writer = Writer().u8(Step.NEW)
        self._guard.epoch.next(self._entropy).write(writer)
        self.out.append(writer.done())

    def view_installed(self, members: tuple[NodeId, ...]) -> None:
        """A view begins: what was under way in the last one is over."""
        self._members = frozenset(members)
        self._held = False
        self.pending = None
        self.out.clear()
        if self.wanted:
            self._propose()
        elif self._goal:
            self._done()

    def hold(self) -> None:
        """The view is frozen: under which epoch this node seals is said."""
        self._held = True

    def frame(self, sender: NodeId, body: bytes) -> None:
        """A step, at its place in the order.

        Raises:
            MalformedPacket: it is none.
        """
        reader = Reader(body)
        step = reader.u8()
        if step == Step.NEW:
            epoch = KeyEpoch.read(reader)
            reader.finish()
            self._new(epoch)
        elif step == Step.CONFIRM:
            digest = reader.raw(8)
            reader.finish()
            self._confirm(sender, digest)
        else:
            raise MalformedPacket(f"step {step} of a rotation")

    def _new(self, epoch: KeyEpoch) -> None:
        if self._held or self.pending is not None or epoch.number != self._guard.epoch.number + 1:
            self._counters.up("rotations_passed_over")
            return
        self.pending = epoch
        self._confirmed = set()
        self._guard.expect(epoch)
        self.out.append(Writer().u8(Step.CONFIRM).raw(epoch.digest).done())

    def _confirm(self, sender: NodeId, digest: bytes) -> None:
        pending = self.pending
        if self._held or pending is None or digest != pending.digest:
            self._counters.up("rotations_passed_over")
            return
        self._confirmed.add(sender)
        if self._members <= self._confirmed:
            self._guard.switch(pending)
            self.pending = None
            self._done()

    def _done(self) -> None:
        """This node seals under a later epoch than before."""
        self._goal = 0
        self.news.append(KeyRotated(self._guard.epoch.number))
