"""How the others learn where a stream ends: what follows a lost packet shows that it is lost; nothing follows the last.

Decides when to say how far the stream goes (TAIL), and, where packets get lost, when to send the last one again.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import inf

from groupcomm.reliability.counters import Counters
from groupcomm.reliability.reports import Out
from groupcomm.reliability.rtt import RoundTrip
from groupcomm.reliability.stability import Stability
from groupcomm.reliability.stream import Stream
from groupcomm.wire.packets import Kind, Tail, encode

_LOSSY_SECONDS = 10.0
_LEAST_REPEAT_SECONDS = 0.0015
_MOST_REPEATS = 2
_LEAST_TAIL_SECONDS = 0.005


class TailSender:
    """The end of this node's stream in one view.

    Attributes:
        farthest_seconds: the round-trip time to the farthest node, of each what a queue adds too.
        lane: who does not count for that.
    """

    __slots__ = (
        "_counters",
        "_digest",
        "_first_wait",
        "_least_wait",
        "_lossy_until",
        "_me",
        "_names_short",
        "_out",
        "_own",
        "_rarely",
        "_repeat_at",
        "_repeat_wait",
        "_repeats",
        "_rtts",
        "_stability",
        "_tail_at",
        "_tail_wait",
        "farthest_seconds",
        "lane",
    )

    def __init__(
        self,
        me: int,
        digest: int,
        own: Stream,
        stability: Stability,
        rtts: Sequence[RoundTrip],
        counters: Counters,
        out: Out,
        *,
        least_wait: float,
        rarely: float,
        names_short: bool,
    ) -> None:
        """Nothing is sent yet.

        Args:
            me: the index of this node.
            digest: what the view's packets carry.
            own: its stream.
            stability: who has what of it.
            rtts: to each node.
            counters: of the node.
            out: where packets to send go.
            least_wait: the others are not told sooner after the last packet, in seconds.
            rarely: nor, in the end, more often.
            names_short: whether a tail names those who have not got all, so that they answer.
        """
        self._me = me
        self._digest = digest
        self._own = own
        self._stability = stability
        self._rtts = rtts
        self._counters = counters
        self._out = out
        self._least_wait = max(_LEAST_TAIL_SECONDS, least_wait)
        self._rarely = rarely
        self._names_short = names_short
        self.lane: frozenset[int] = frozenset()
        self._tail_at = self._repeat_at = inf
        self._tail_wait = 0.0
        self._repeats = 0
        self._lossy_until = -inf
        self._first_wait = self._repeat_wait = self.farthest_seconds = 0.0
        self.measure()

    def due_at(self) -> float:
        """When ``maintain`` has something to send; infinite if never."""
        return min(self._tail_at, self._repeat_at)

    def measure(self) -> None:
        """Take the round-trip times as they are now."""
        counting = [rtt for index, rtt in enumerate(self._rtts) if index not in self.lane]
        self.farthest_seconds = max(rtt.standing_seconds for rtt in counting)
        own = self._rtts[self._me]
        farthest = max(rtt.or_initial for rtt in counting if rtt is not own or len(counting) == 1)
        self._first_wait = max(self._least_wait, 2 * farthest)
        self._repeat_wait = max(_LEAST_REPEAT_SECONDS, farthest)

    def lost(self, now: float) -> None:
        """Packets get lost here."""
        self._lossy_until = now + _LOSSY_SECONDS

    def sent(self, now: float) -> None:
        """Something of this node's stream has left: see to it that its end is known."""
        self._tail_wait = self._first_wait
        self._tail_at = now + self._tail_wait
        if now < self._lossy_until:
            self._repeat_at = now + self._repeat_wait
            self._repeats = 0

    def maintain(self, now: float) -> None:
        """Send what is due."""
        if now >= self._repeat_at:
            self._repeat_last(now)
        if now >= self._tail_at:
            self._send(now)

    def _repeat_last(self, now: float) -> None:
        """Nothing followed the last packet, and packets get lost here: nobody would miss it. Send it again."""
        self._repeats += 1
        self._repeat_at = now + 2 * self._repeat_wait if self._repeats < _MOST_REPEATS else inf
        packet = self._own.packet(self._own.contiguous)
        if packet is not None:
            self._out.append((packet, None, None))
            self._counters.up("packets_repeated")

    def _send(self, now: float) -> None:
        highest = self._own.contiguous
        short = self._stability.short_of(self._me, highest) & ~(1 << self._me)
        if not short:
            self._tail_at = inf
            return
        self._tail_wait = min(2 * self._tail_wait, self._rarely)
        self._tail_at = now + self._tail_wait
        body = Tail(highest, short if self._names_short else 0).encode()
        packet = encode(Kind.TAIL, self._digest, self._me, 0, body)
        self._out.append((packet, short.bit_length() - 1 if not short & (short - 1) else None, None))
        self._counters.up("tails_sent")
