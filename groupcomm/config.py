"""The frozen settings of an engine, and the relations that must hold between its times.

Holds numbers and checks them; decides nothing. Where an option, an environment variable or a file sets one of
these is the daemon's business.
"""

from __future__ import annotations

import enum
from typing import Protocol

from attrs import evolve, field, frozen

from groupcomm.errors import UsageError
from groupcomm.identity import checked_name
from groupcomm.limits import (
    DEFAULT_BUDGET_BYTES,
    DEFAULT_MTU_BYTES,
    MAX_MESSAGE_BYTES,
    MAX_MTU_BYTES,
    MAX_NODES,
    MAX_SLOW_SECONDS,
    MIN_BUDGET_BYTES,
    MIN_WINDOW_BYTES,
)
from groupcomm.quorum import NO_MEMORY, NO_QUORUM, Memory, Quorum

_UNHURRIED_NODES = 64
_GROWING_TIMES = (
    "heartbeat",
    "probe_after",
    "host_silent",
    "unheard",
    "suspect",
    "join_interval",
    "silent",
    "admit",
    "merge",
    "recover",
    "retry",
    "blocked",
    "leave",
)


class SlowReceiver(enum.Enum):
    """What is done about a node that takes everybody's packets far slower than all others."""

    WAIT = "wait"
    EVICT = "evict"
    CATCH_UP = "catch-up"


def stretch(nodes: int) -> float:
    """How many times as long as in a small view the times are among so many nodes."""
    return max(1.0, nodes / _UNHURRIED_NODES)


@frozen
class Timing:
    """Times in seconds, among up to 64 nodes; ``check`` holds them to each other.

    Attributes:
        heartbeat: how often a node that says nothing else says that it lives; also the beacon's period.
        probe_after: silence after which a peer is asked directly, its host and others too.
        probe_interval: how often it is asked.
        host_silent: silence after which a peer is suspected whose host does not acknowledge anything either.
        unheard: silence after which a peer is suspected that others hear all the while.
        suspect: silence after which a peer is suspected though its host answers: its process may have been stopped.
        join_interval: how often a gathering node repeats its JOIN.
        silent: how long a gathering node waits for a candidate it does not hear.
        admit: how long after its start a change accepts more candidates.
        first: how long a newcomer listens before it founds a view.
        stage: how long the gate collects newcomers at most.
        stage_quiet: how long without a further newcomer ends the collecting.
        merge: how long two views must hear each other in full before they merge.
        between: the least time between two changes for joins or merges; failures are never held back.
        recover: how long a recovery may make no progress.
        retry: how often a recovery message is repeated.
        blocked: how long a newcomer that hears a view waits to be let in before it founds one of its own.
        leave: how long a leaving node waits for the others.
        status: how long after the last new packet a status is sent at the latest.
        prompt: how long a status that somebody waits for may be delayed.
        flap: how long a node that has come and gone twice waits to be let in; each further time doubles it; 0: never.
        readmit: how long a node that was evicted for being slow is kept out for the first time.
    """

    heartbeat: float = 0.25
    probe_after: float = 0.35
    probe_interval: float = 0.02
    host_silent: float = 0.5
    unheard: float = 2.0
    suspect: float = 3.0
    join_interval: float = 0.02
    silent: float = 0.3
    admit: float = 0.15
    first: float = 0.9
    stage: float = 0.15
    stage_quiet: float = 0.05
    merge: float = 0.75
    between: float = 0.5
    recover: float = 0.8
    retry: float = 0.02
    blocked: float = 4.0
    leave: float = 3.0
    status: float = 0.05
    prompt: float = 0.0005
    readmit: float = 10.0
    flap: float = 1.0

    def for_nodes(self, nodes: int) -> Timing:
        """The times among so many nodes: what each says to all is said more rarely in large views.

        Up to 64 nodes the times are what they are; then they grow with the nodes, so that what one node hears in a
        second stays the same.
        """
        factor = stretch(nodes)
        return evolve(self, **{name: getattr(self, name) * factor for name in _GROWING_TIMES}) if factor > 1 else self

    def check(self) -> None:
        """Raise ``UsageError`` naming the first relation that does not hold."""
        relations = (
            ("join_interval * 6 <= silent", self.join_interval * 6 <= self.silent),
            ("suspect >= 4 * heartbeat", self.suspect >= 4 * self.heartbeat),
            ("probe_after > heartbeat", self.probe_after > self.heartbeat),
            (
                "probe_after + 4 * probe_interval < host_silent",
                self.probe_after + 4 * self.probe_interval < self.host_silent,
            ),
            ("host_silent < unheard <= suspect", self.host_silent < self.unheard <= self.suspect),
            ("recover >= silent", self.recover >= self.silent),
            ("admit <= silent / 2", self.admit <= self.silent / 2),
            ("merge >= 3 * heartbeat", self.merge >= 3 * self.heartbeat),
            ("first >= 3 * heartbeat + stage", self.first >= 3 * self.heartbeat + self.stage),
            ("blocked >= 3 * (silent + recover)", self.blocked >= 3 * (self.silent + self.recover)),
            ("leave >= silent + recover", self.leave >= self.silent + self.recover),
            ("readmit >= merge", self.readmit >= self.merge),
        )
        for text, holds in relations:
            if not holds:
                raise UsageError(f"these times contradict each other: {text} does not hold")


class NodeIdentity(Protocol):
    """The certificate of a node, and what tells whether those of others are good."""

    @property
    def certificate(self) -> bytes:
        """In DER."""

    def sign(self, data: bytes) -> bytes:
        """The signature of its key, of 64 bytes."""

    def check(self, certificate: bytes, name: str, data: bytes, signature: bytes) -> str | None:
        """What is wrong with another's certificate; None if it is good.

        Args:
            certificate: in DER.
            name: of the node that it must be of.
            data: what its key must have signed.
            signature: of that, 64 bytes.
        """


@frozen
class EngineConfig:
    """What one engine is told at birth.

    Attributes:
        cluster: the cluster's name; nodes of other clusters are neither heard nor disturbed.
        timing: the times.
        mtu_bytes: the largest datagram sent before it is known what the paths to the others take, 1,200 to 65,000
            bytes, without the 32 bytes of the seal.
        max_mtu_bytes: the largest that is searched for, where the driver says what its links take.
        active_links: whether everything is sent by all links; if not, by the lowest that reaches everybody.
        budget_bytes: the byte budget of the node, at least 64 MiB.
        max_message_bytes: the largest message accepted from a session, at most 16 MiB.
        max_nodes: the largest view, at most 512.
        first_packet_number: packets of a view are numbered from the next one on; equal at all nodes.
        suppression_nodes: views larger than this multicast their NACKs and suppress each other's, report to one node
            that sums the reports up, and name their candidates by a digest. It must be the same at all nodes.
        slow_receiver: what is done about a receiver that holds the others up; best the same at all nodes.
        slow_receiver_seconds: how long it must hold a sender up to be called slow.
        catch_up_bytes: with ``CATCH_UP``, how much may be held for those who catch up, at most a quarter of the budget;
            None: a quarter.
        catch_up_seconds: with ``CATCH_UP``, how long a member may catch up at a stretch.
        identity: the certificate with which the node proves who it is, instead of a key.
        expelled: names of nodes that were expelled before this run; with an identity only.
        quorum: which component may act for the whole cluster.
        memory: what the node remembers of primary views, for dynamic-linear; kept from its last run if it could be.
        key: the secret that all nodes of the cluster share, 32 bytes; None: packets are not sealed, and whoever reaches
            the network is a node.
    """

    cluster: str = "default"
    timing: Timing = Timing()
    mtu_bytes: int = DEFAULT_MTU_BYTES
    budget_bytes: int = DEFAULT_BUDGET_BYTES
    max_message_bytes: int = MAX_MESSAGE_BYTES
    max_nodes: int = MAX_NODES
    first_packet_number: int = 0
    suppression_nodes: int = 16
    slow_receiver: SlowReceiver = SlowReceiver.WAIT
    slow_receiver_seconds: float = 5.0
    key: bytes | None = field(default=None, repr=False)
    identity: NodeIdentity | None = None
    expelled: tuple[str, ...] = ()
    max_mtu_bytes: int = MAX_MTU_BYTES
    active_links: bool = False
    catch_up_bytes: int | None = None
    catch_up_seconds: float = 60.0
    quorum: Quorum = NO_QUORUM
    memory: Memory = NO_MEMORY

    def __attrs_post_init__(self) -> None:
        checked_name(self.cluster, "a cluster name")
        if self.key is not None and self.identity is not None:
            raise UsageError("a key and a certificate contradict each other: give one of them")
        self.timing.check()
        if not 1200 <= self.mtu_bytes <= 65_000:
            raise UsageError(f"mtu_bytes must be 1,200 to 65,000, not {self.mtu_bytes}")
        if not 1200 <= self.max_mtu_bytes <= 65_000:
            raise UsageError(f"max_mtu_bytes must be 1,200 to 65,000, not {self.max_mtu_bytes}")
        if self.budget_bytes < MIN_BUDGET_BYTES:
            raise UsageError(f"budget_bytes must be at least {MIN_BUDGET_BYTES}, not {self.budget_bytes}")
        if not 0 < self.max_message_bytes <= MAX_MESSAGE_BYTES:
            raise UsageError(f"max_message_bytes must be 1 to {MAX_MESSAGE_BYTES}, not {self.max_message_bytes}")
        if not 1 <= self.max_nodes <= MAX_NODES:
            raise UsageError(f"max_nodes must be 1 to {MAX_NODES}, not {self.max_nodes}")
        if not 0.1 <= self.slow_receiver_seconds <= MAX_SLOW_SECONDS:
            raise UsageError(
                f"slow_receiver_seconds must be 0.1 to {MAX_SLOW_SECONDS}, not {self.slow_receiver_seconds}"
            )
        most = self.budget_bytes // 4
        if self.catch_up_bytes is not None and not MIN_WINDOW_BYTES <= self.catch_up_bytes <= most:
            raise UsageError(f"catch_up_bytes must be {MIN_WINDOW_BYTES} to {most}, not {self.catch_up_bytes}")
        if not 0.1 <= self.catch_up_seconds <= MAX_SLOW_SECONDS:
            raise UsageError(f"catch_up_seconds must be 0.1 to {MAX_SLOW_SECONDS}, not {self.catch_up_seconds}")

    @property
    def lane_bytes(self) -> int:
        """How much may be held for those who catch up; nothing under other policies."""
        if self.slow_receiver is not SlowReceiver.CATCH_UP:
            return 0
        return self.budget_bytes // 4 if self.catch_up_bytes is None else self.catch_up_bytes
