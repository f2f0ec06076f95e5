"""Members that say nothing: who is asked after them, and when they are suspected.

Decides between a host that is silent and a process that is: the first is found in about half a second, for the second
there is more patience, since its kernel still answers and it may only have been stopped. Before either, the member, its
host and up to three others are asked. The state table and the numbers stand in ``doc/design/membership.md``.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from math import inf
from random import Random
from typing import Final, Protocol

from attrs import define

from groupcomm.config import Timing
from groupcomm.identity import NodeId
from groupcomm.membership.peers import Peer, Peers
from groupcomm.wire.evidence import Finding

ASKED: Final = 3
"""Others that are asked at a time whether they hear a silent member."""

ASK_AGAIN_SECONDS: Final = 0.1
HOST_ASKED_SECONDS: Final = 0.1
"""So long a host is asked at least before its silence counts."""

MAX_LAG_SECONDS: Final = 0.5
LAG_FORGOTTEN_SECONDS: Final = 5.0


class AskingHost(Protocol):
    """What carries the questions out."""

    def ask(self, peer: Peer) -> None:
        """Ask it whether it lives; if this node watches it, make its kernel acknowledge something as well."""

    def ask_others(self, peer: Peer, others: Sequence[NodeId]) -> None:
        """Ask these whether they hear it."""


class OwnLag:
    """How late this node is at its own work: others may be so as well, and what they sent may wait here unread.

    Bound: what counts is at most ``MAX_LAG_SECONDS``, and is forgotten in proportion to the time.
    """

    __slots__ = ("_at", "_seconds")

    def __init__(self) -> None:
        self._seconds = 0.0
        self._at = -inf

    def late(self, seconds: float, now: float) -> None:
        """This node did something so much later than it meant to."""
        seconds = min(seconds, MAX_LAG_SECONDS)
        if seconds > self.seconds(now):
            self._seconds, self._at = seconds, now

    def seconds(self, now: float) -> float:
        """The greatest lateness lately."""
        return max(0.0, self._seconds * (1 - (now - self._at) / LAG_FORGOTTEN_SECONDS)) if self._seconds else 0.0


@define
class _Silence:
    """A member that is asked after, and what has come of it.

    Attributes:
        heard_at: when it was heard last: it is over when that changes.
        since: when asking began.
        asked_at: when it was asked itself last.
        others_at: when others were asked last.
        vouched_at: when another heard it last.
        probes: how often it was asked itself.
    """

    heard_at: float
    since: float
    asked_at: float = -inf
    others_at: float = -inf
    vouched_at: float = -inf
    probes: int = 0


class Suspicion:
    """What a node knows of the members that it does not hear.

    Bound: an entry for each member.
    """

    __slots__ = ("_answered", "_host", "_me", "_random", "_silences", "lag", "watched")

    def __init__(self, me: NodeId, host: AskingHost, random: Random) -> None:
        self._me = me
        self._host = host
        self._random = random
        self._silences: dict[NodeId, _Silence] = {}
        self._answered: dict[NodeId, float] = {}
        self.watched: Collection[NodeId] = ()
        self.lag = OwnLag()

    def installed(self, members: Collection[NodeId]) -> None:
        """A view begins: nothing is held against its members; whose host has ever answered is remembered."""
        self._silences.clear()
        self._answered = {node: at for node, at in self._answered.items() if node in members}

    def host_answered(self, node: NodeId, members: Collection[NodeId], now: float) -> None:
        """The kernel there has acknowledged something."""
        if node in members:
            self._answered[node] = now

    def vouched(self, node: NodeId, seconds_ago: float, now: float) -> None:
        """Another says that it heard this member so long ago."""
        silence = self._silences.get(node)
        if silence is not None:
            silence.vouched_at = max(silence.vouched_at, now - seconds_ago)

    def patience(self, now: float) -> float:
        """How much longer than told this node waits for others, for being late itself."""
        return 2 * self.lag.seconds(now)

    def look(self, peer: Peer, members: Sequence[NodeId], peers: Peers, timing: Timing, now: float) -> Finding | None:
        """Ask after a member that has been silent for ``probe_after``; what is to be thought of it by now."""
        silence = self._silences.get(peer.node)
        if silence is None or silence.heard_at != peer.heard_at:
            silence = self._silences[peer.node] = _Silence(peer.heard_at, now)
        close = peer.node in self.watched
        if close or now - silence.asked_at >= timing.heartbeat:
            silence.asked_at = now
            silence.probes += 1
            self._host.ask(peer)
        if now - silence.others_at >= (ASK_AGAIN_SECONDS if close else 2 * timing.heartbeat):
            silence.others_at = now
            self._ask_others(peer, members, peers, timing, now)
        return self._verdict(peer, silence, timing, now)

    def _ask_others(self, peer: Peer, members: Sequence[NodeId], peers: Peers, timing: Timing, now: float) -> None:
        since = now - timing.probe_after
        others = [
            node
            for node in members
            if node not in (peer.node, self._me) and (other := peers.get(node)) is not None and other.heard_at >= since
        ]
        if others:
            first = int(self._random.random() * len(others))
            self._host.ask_others(peer, (others[first:] + others[:first])[:ASKED])

    def _verdict(self, peer: Peer, silence: _Silence, timing: Timing, now: float) -> Finding | None:
        silent = now - peer.heard_at
        answered_at = self._answered.get(peer.node, -inf)
        slack = self.patience(now) + 2 * peer.round_trip.wait_seconds
        host_limit = timing.host_silent + min(slack, timing.host_silent)
        vouched = now - silence.vouched_at < host_limit
        asked = peer.node in self.watched and now - silence.since >= HOST_ASKED_SECONDS
        if asked and answered_at > -inf and not vouched and now - max(answered_at, peer.heard_at) >= host_limit:
            return Finding.HOST_SILENT
        if vouched and silent >= timing.unheard + min(slack, timing.unheard):
            return Finding.UNHEARD
        if silent >= timing.suspect + min(slack, timing.suspect):
            return Finding.PROCESS_SILENT if answered_at > silence.heard_at else Finding.SILENT
        return None

    def probes(self, node: NodeId) -> int:
        """How often a silent member has been asked."""
        silence = self._silences.get(node)
        return 0 if silence is None else silence.probes

    def is_close(self, node: NodeId) -> bool:
        """Whether a member that this node watches closely is silent: it is asked more often."""
        return node in self.watched and node in self._silences
