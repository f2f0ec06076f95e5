"""How old views end: the plan, computed from what all participants hold.

The plan of an old view depends on the union of what is held, never on who goes into the new view or who sent what: so a
later plan of the same view only ever names more.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from groupcomm.events import Reason
from groupcomm.identity import NodeId, ViewId
from groupcomm.quorum import NO_QUORUM, Quorum, Vote, judge
from groupcomm.wire.keys import merged_epoch
from groupcomm.wire.messages import Answer, Departed, Holding, Plan, Recover, Segment, StreamPlan, ViewPlan
from groupcomm.wire.packets import Range


def make_plan(
    proposal: ViewId,
    attempt: int,
    participants: tuple[NodeId, ...],
    answers: Mapping[NodeId, Answer],
    reasons: Mapping[NodeId, Reason],
    quorum: Quorum = NO_QUORUM,
) -> Plan:
    """The plan of a proposal.

    Args:
        proposal: the id of the view to come.
        attempt: the attempt it was agreed in.
        participants: in order.
        answers: of every participant.
        reasons: why nodes are gone, where it is known; otherwise they are taken for cut off.
        quorum: the proposer's settings.
    """
    index_of = {node: index for index, node in enumerate(participants)}
    views: dict[ViewId, list[Answer]] = {}
    for node in participants:
        answer = answers[node]
        if answer.view is not None:
            views.setdefault(answer.view, []).append(answer)
    silent = sum(1 << index_of[node] for node in participants if answers[node].silent)
    leaving = sum(1 << index_of[node] for node in participants if answers[node].leaving)
    members = [node for node in participants if not answers[node].leaving]
    departed: dict[NodeId, Reason] = {node: Reason.NODE_LEAVE for node in participants if answers[node].leaving}
    plans = []
    for view in sorted(views):
        from_view = views[view]
        for node in from_view[0].members:
            if node not in index_of:
                departed[node] = reasons.get(node, Reason.PARTITION)
        plans.append(_view_plan(view, from_view, index_of))
    return Plan(
        proposal,
        attempt,
        participants,
        leaving,
        _first_sequencer(members, participants, views),
        _needs_exchange(members, answers),
        tuple(Departed(node, departed[node]) for node in sorted(departed)),
        tuple(plans),
        silent,
        min(answers[node].version for node in participants),
        merged_epoch([answers[node].key for node in participants]),
        verdict=judge(quorum, participants, members, _votes(answers), proposal.proposer),
    )


def _votes(answers: Mapping[NodeId, Answer]) -> dict[NodeId, Vote]:
    return {node: answer.vote for node, answer in answers.items() if answer.vote is not None}


def contradicts(answer: Answer, others: Iterable[Answer]) -> bool:
    """Whether an answer cannot stand beside the others: not of its view, or of other members than they say it has."""
    if answer.view is None:
        return bool(answer.members)
    alike = all(other.members == answer.members for other in others if other.view == answer.view)
    return not alike or answer.node not in answer.members


def is_plan_of(plan: Plan, recover: Recover, view: ViewId | None) -> bool:
    """Whether a plan can be that of a proposal, for a participant that comes from ``view``."""
    return (
        (plan.proposal, plan.attempt, plan.participants) == (recover.proposal, recover.attempt, recover.participants)
        and plan.sequencer in (plan.members or plan.participants)
        and sum(part.view == view for part in plan.views) == (view is not None)
    )


def _needs_exchange(members: Sequence[NodeId], answers: Mapping[NodeId, Answer]) -> bool:
    """Whether tables may differ: members of several old views, or a view whose own exchange was cut short.

    Nodes that all come from nowhere have empty tables, which are equal.
    """
    views = {answers[node].view for node in members}
    return len(views) > 1 or any(not answers[node].synced for node in members)


def _first_sequencer(
    members: Sequence[NodeId], participants: Sequence[NodeId], views: Mapping[ViewId, list[Answer]]
) -> NodeId:
    """The old sequencer if it comes along, of the view most members come from; else the lowest member."""
    if not members:
        return participants[0]
    staying = set(members)
    for view in sorted(views, key=lambda view: (-sum(answer.node in staying for answer in views[view]), view)):
        for answer in views[view]:
            if answer.sequencer < len(answer.members) and answer.members[answer.sequencer] in staying:
                return answer.members[answer.sequencer]
    return members[0]


def _view_plan(view: ViewId, answers: Sequence[Answer], index_of: Mapping[NodeId, int]) -> ViewPlan:
    survivors = tuple(index_of[answer.node] for answer in answers)
    everyone = len(answers) == len(answers[0].members)
    streams = []
    for stream in range(len(answers[0].members)):
        holdings = [(index_of[answer.node], answer.holdings[stream]) for answer in answers]
        streams.append(_stream_plan(holdings, everyone=everyone, turn=stream))
    return ViewPlan(view, survivors, tuple(streams))


def _stream_plan(holdings: Sequence[tuple[int, Holding]], *, everyone: bool, turn: int) -> StreamPlan:
    """Where a stream ends, and who provides what somebody lacks.

    Args:
        holdings: what each survivor (by participant index) holds.
        everyone: whether these are all members of the old view.
        turn: spreads the work over those who could provide.
    """
    low = min(holding.contiguous for _, holding in holdings)
    spans: list[tuple[int, int, int]] = []
    for node, holding in holdings:
        if holding.contiguous > low:
            spans.append((low + 1, holding.contiguous, node))
        spans.extend((item.first, item.last, node) for item in holding.ranges if item.first > low)
    pieces = _pieces(spans)
    covered = _merge((first, last) for first, last, _ in pieces)
    end = low
    if covered and covered[0].first == low + 1:
        end = covered[0].last
        covered = covered[1:]
    segments: list[Segment] = []
    for count, (first, last, holders) in enumerate(_joined(pieces)):
        if len(holders) == len(holdings):
            continue
        holder = holders[(turn + count) % len(holders)]
        second = holders[(turn + count + 1) % len(holders)]
        segments.append(Segment(first, last, holder, second))
    stable = end if everyone else max(holding.stable for _, holding in holdings)
    return StreamPlan(end, stable, tuple(covered), tuple(segments))


def _pieces(spans: Sequence[tuple[int, int, int]]) -> list[tuple[int, int, list[int]]]:
    """Cut overlapping spans (first, last, node) at all their borders: (first, last, nodes that cover it)."""
    borders = sorted([(first, 1, node) for first, _, node in spans] + [(last + 1, -1, node) for _, last, node in spans])
    pieces: list[tuple[int, int, list[int]]] = []
    covering: dict[int, int] = {}
    before = 0
    for at, step, node in borders:
        if covering and at > before:
            pieces.append((before, at - 1, sorted(covering)))
        before = at
        covering[node] = covering.get(node, 0) + step
        if not covering[node]:
            del covering[node]
    return pieces


def _joined(pieces: Sequence[tuple[int, int, list[int]]]) -> list[tuple[int, int, list[int]]]:
    """Adjacent pieces made one where somebody has all of them; who asks names only what it lacks."""
    joined: list[tuple[int, int, list[int]]] = []
    for first, last, holders in pieces:
        if joined and joined[-1][1] + 1 == first:
            common = sorted(set(joined[-1][2]) & set(holders))
            if len(common) >= min(2, len(joined[-1][2]), len(holders)):
                joined[-1] = joined[-1][0], last, common
                continue
        joined.append((first, last, holders))
    return joined


def _merge(spans: Iterable[tuple[int, int]]) -> list[Range]:
    """Ascending disjoint spans, with adjacent ones joined."""
    merged: list[Range] = []
    for first, last in spans:
        if merged and merged[-1].last + 1 == first:
            merged[-1] = Range(merged[-1].first, last)
        else:
            merged.append(Range(first, last))
    return merged
