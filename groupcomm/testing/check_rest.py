"""What a cluster is like that has come to rest: L6, L7, L8, the confirmations of L4, and X6.

The harness says what no trace shows, as an ``EndOfRun``; when the run was disturbed last and what was installed after
that is read from the trace.
"""

from __future__ import annotations

from collections.abc import Iterable

from attrs import frozen

from groupcomm.events import Reason
from groupcomm.identity import NodeId
from groupcomm.testing.history import History
from groupcomm.testing.records import NodeStep, ViewKey
from groupcomm.testing.report import AT_THE_END, Violation
from groupcomm.wire.evidence import Finding

IDLE_DATAGRAMS = 2.0
IDLE_DATAGRAMS_PER_PEER = 0.5
IDLE_GREETINGS = 4.0
"""What an idle node sends in a heartbeat at most: its beacon, and now and then a probe of each other and its answer."""

MOST_BLOCKED_SECONDS = 8.0
"""A node that runs comes out of a view change within this, whatever is done to the network meanwhile."""

BEGUN_VIEWS = 1
"""L7: a change that had begun when the network was healed may end as it began, and what it parted merges again."""

NACKS_AT_LEAST = 50
NACKS_PER_LOST_COPY = 5
"""X6: so many NACKs are expected of a run in which nothing is lost or late, and so many more for every lost copy.

A sender that has vanished is asked again and again, with doubled waits, until it is out: seven times in 1.2 s.
"""


@frozen
class NodeAtEnd:
    """One live node at the end of a run.

    Attributes:
        state: as in ``NodeStatus``; so are the bytes.
        blocked: whether nothing new may be sent.
        unreported: the sends of its live clients of which it has never said that they left.
        unconfirmed: those that were to be confirmed as stable and were not.
        blocked_seconds: the longest time in the whole run for which it could not send.
        datagrams_per_second: what it sent at last, with nothing to do.
    """

    node: NodeId
    state: str = "operational"
    blocked: bool = False
    outstanding_bytes: int = 0
    queued_bytes: int = 0
    unreported: tuple[str, ...] = ()
    unconfirmed: tuple[str, ...] = ()
    blocked_seconds: float = 0.0
    datagrams_per_second: float = 0.0


@frozen
class EndOfRun:
    """What the harness knows at the end of a run.

    Attributes:
        nodes: those that were connected and left in peace; empty if the run did not come so far.
        heartbeat_seconds: how often an idle node says that it lives.
        nacks_sent: the NACKs of the whole run.
        lost_copies: the copies of datagrams that did not arrive, or late.
        repairs_sent: packets that were sent again: each was compared with the original (X5).
        stability_checks: how often what nodes take for stable was compared with what the others have (X4).
        cap_checks: how often what a node holds was compared with its caps (X1).
        nonce_checks: how many packets were sealed, each under a counter that was compared with all before (X3).
        violations: what was seen on the way.
        hints: whether discovery offers the nodes addresses all the time, of such as they cannot reach too.
    """

    nodes: tuple[NodeAtEnd, ...]
    heartbeat_seconds: float = 0.25
    nacks_sent: int = 0
    lost_copies: int = 0
    repairs_sent: int = 0
    stability_checks: int = 0
    cap_checks: int = 0
    nonce_checks: int = 0
    violations: tuple[Violation, ...] = ()
    hints: bool = False


def check_rest(history: History, end: EndOfRun) -> None:
    """Check that everything has come to rest, and how the run went as far as the harness saw it."""
    report = history.report
    report.violations.extend(end.violations)
    for node in end.nodes:
        _check_idle(history, node, most_idle_datagrams(len(end.nodes), end.heartbeat_seconds, hints=end.hints))
        _check_unblocked(history, node)
    report.premise("X1", end.cap_checks)
    report.premise("X3", end.nonce_checks)
    report.premise("X4", end.stability_checks)
    report.premise("X5", end.repairs_sent)
    report.premise("X6", bool(end.nacks_sent))
    if end.nacks_sent > NACKS_AT_LEAST + NACKS_PER_LOST_COPY * end.lost_copies:
        report.violate("X6", AT_THE_END, f"{end.nacks_sent} NACKs for {end.lost_copies} lost copies")
    _check_churn(history, frozenset(node.node for node in end.nodes))


def most_idle_datagrams(nodes: int, heartbeat_seconds: float, *, hints: bool = False) -> float:
    """How many datagrams a second an idle node of so many sends at most; more if it is offered addresses."""
    known = (IDLE_DATAGRAMS + IDLE_DATAGRAMS_PER_PEER * nodes) / heartbeat_seconds
    return known + IDLE_GREETINGS if hints else known


def _check_idle(history: History, end: NodeAtEnd, most_datagrams: float) -> None:
    report = history.report
    report.premise("L6")
    if end.outstanding_bytes or end.queued_bytes:
        text = f"{end.node} is idle and has {end.outstanding_bytes} bytes on their way, {end.queued_bytes} queued"
        report.violate("L6", AT_THE_END, text)
    if end.datagrams_per_second > most_datagrams:
        report.violate(
            "L6", AT_THE_END, f"{end.node} is idle and sends {end.datagrams_per_second:.1f} datagrams a second"
        )


def _check_unblocked(history: History, end: NodeAtEnd) -> None:
    report = history.report
    report.premise("L8")
    if end.blocked or end.state != "operational":
        report.violate("L8", AT_THE_END, f"{end.node} ends blocked, {end.state}")
    if end.blocked_seconds > MOST_BLOCKED_SECONDS:
        report.violate("L8", AT_THE_END, f"{end.node} was blocked for {end.blocked_seconds:.1f} s")
    if end.unreported:
        report.violate("L8", AT_THE_END, f"{end.node} never took {' '.join(end.unreported)}", *end.unreported)
    report.premise("L4")
    if end.unconfirmed:
        report.violate("L4", AT_THE_END, f"{end.node} never confirmed {' '.join(end.unconfirmed)}", *end.unconfirmed)


def _check_churn(history: History, settled: frozenset[NodeId]) -> None:
    """After the last disturbance the components merge, those that are cut off go, at worst one by one, and no more.

    Nobody leaves a view in which all are together, unless it is evicted for being slow: then it comes back.
    """
    views: set[object] = set()
    parted: set[object] = set()
    gone: set[NodeId] = set()
    later: dict[NodeId, list[NodeStep]] = {}
    for identity in sorted(settled):
        steps = history.nodes[identity].steps
        before = [step for step in steps if step.index < history.disturbed_index]
        later[identity] = [step for step in steps if step.index > history.disturbed_index]
        views.add(before[-1].key if before else identity)
        gone.update(set(before[-1].view.members) - settled if before else ())
        parted.update(step.key for step in later[identity][:1])
    evictions = _evictions(step for after in later.values() for step in after)
    last_eviction = max(evictions.values(), default=history.disturbed_index)
    allowed = len(views) - 1 + max(1, len(gone)) + BEGUN_VIEWS + max(0, len(parted) - 1) + 2 * len(evictions)
    for identity, after in later.items():
        history.report.premise("L7")
        if len(after) > allowed:
            history.report.violate(
                "L7",
                after[allowed].index,
                f"{identity} installs {len(after)} views after the last disturbance, "
                f"which left {len(views)} components and {len(gone)} nodes that had to go",
            )
        whole = [step for step in after if settled == set(step.view.members) and step.index > last_eviction]
        if whole and whole[0] is not after[-1]:
            history.report.violate(
                "L7",
                after[-1].index,
                f"{identity} had all that are settled in {whole[0].key}, and yet installs {after[-1].key}",
            )


def _evictions(steps: Iterable[NodeStep]) -> dict[tuple[ViewKey, NodeId], int]:
    """Who was evicted with which view since it was too slow, and where in the trace that was seen last."""
    return {
        (step.key, gone.node): step.index
        for step in sorted(steps, key=lambda step: step.index)
        for gone in step.view.departed
        if gone.reason is Reason.EVICTION
        and any(one.finding is Finding.TOO_SLOW and one.about == gone.node for one in step.view.records)
    }
