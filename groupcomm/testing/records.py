"""What the oracle knows of each node, client and message of a run, made from its trace.

Decides nothing. Three words used throughout: a *step* is one installed view at one place, from its installation to the
next; an *episode* is one membership of one client in one group, from its first view to its end; a delivery is *regular*
if its node had not come to its transitional signal in that view.
"""

from __future__ import annotations

from typing import NamedTuple

from attrs import define, field

from groupcomm.events import Level, View
from groupcomm.identity import GroupViewId, MemberId, NodeId, ViewId
from groupcomm.outputs import NodeViewInstalled
from groupcomm.testing import trace as traces


class ViewKey(NamedTuple):
    """A view id as a tuple: it is compared and looked up for every delivery."""

    epoch: int
    proposer: str
    incarnation: int

    @classmethod
    def of(cls, view: ViewId) -> ViewKey:
        """The key of a view."""
        return cls(view.epoch, view.proposer.name, view.proposer.incarnation)

    def __str__(self) -> str:
        return f"{self.epoch}-{self.proposer}-{self.incarnation:x}"


class GroupViewKey(NamedTuple):
    """A group view id as a tuple."""

    view: ViewKey
    position: int

    @classmethod
    def of(cls, view: GroupViewId) -> GroupViewKey:
        """The key of a group view."""
        return cls(ViewKey.of(view.view), view.position)

    def __str__(self) -> str:
        return f"{self.view}/{self.position}"


@define(eq=False)
class NodeStep:
    """One node view at one node."""

    index: int
    key: ViewKey
    view: NodeViewInstalled
    node: NodeId
    previous: NodeStep | None
    next: NodeStep | None = None
    signal_index: int | None = None


@define(eq=False)
class NodeRecord:
    """One run of one node.

    Attributes:
        by_view: its first step in each view.
    """

    identity: NodeId
    started_index: int
    leaving_index: int | None = None
    ended_index: int | None = None
    steps: list[NodeStep] = field(factory=list)
    by_view: dict[ViewKey, NodeStep] = field(factory=dict)
    processes: list[ProcessRecord] = field(factory=list)

    @property
    def current(self) -> NodeStep | None:
        """The last installed view."""
        return self.steps[-1] if self.steps else None

    def install(self, step: NodeStep) -> None:
        """It went on to the next view."""
        if self.steps:
            self.steps[-1].next = step
        self.steps.append(step)
        self.by_view.setdefault(step.key, step)

    def after(self, view: ViewKey) -> NodeStep | None:
        """The step that came right after its step in ``view``; None if it never came so far."""
        step = self.by_view.get(view)
        return step.next if step is not None else None


@define(eq=False)
class Delivery:
    """One message at one client."""

    index: int
    message: MessageRecord
    process: ProcessRecord
    groups: tuple[str, ...]
    step: NodeStep | None
    node_view: ViewKey | None
    regular: bool
    group_views: dict[str, GroupViewKey]


@define(eq=False)
class MessageRecord:
    """One message and its fate.

    Attributes:
        bit: its own bit in the causal masks.
        past: the messages that precede it: same-sender edges among FIFO and above, received-before-sent edges if it is
            CAUSAL or above, and what follows from them.
        direct: the edges themselves.
        sent_in: the node view of its sender when it was handed over; it may have left in a later one.
        known: the highest group view that any client on its sender's node had seen by then.
        sender_views: its sender's groups at that time.
        got: the first delivery at each client.
        accepted: the reports on it, each with its index.
        left_in: the node view in which it is known to have left its sender's node.
        left_at: when its sender's node said that it had left.
    """

    label: str
    bit: int
    sent: traces.Sent
    sent_index: int
    sent_in: ViewKey | None
    known: GroupViewKey | None
    sender_views: dict[str, GroupViewKey]
    level: Level
    sender: MemberId
    past: int = 0
    direct: list[MessageRecord] = field(factory=list)
    deliveries: list[Delivery] = field(factory=list)
    got: dict[ProcessRecord, Delivery] = field(factory=dict)
    accepted: list[tuple[int, traces.Accepted]] = field(factory=list)
    left_in: ViewKey | None = None
    left_at: int | None = None

    @property
    def ordered(self) -> bool:
        """Whether it has a place in the total order."""
        return self.level >= Level.AGREED

    @property
    def delivered_in(self) -> ViewKey | None:
        """The node view of its first delivery."""
        return self.deliveries[0].node_view if self.deliveries else None

    @property
    def own(self) -> bool:
        """Whether its sender was in one of its groups when it sent it, and wants its copy."""
        return not self.sent.self_discard and any(group in self.sender_views for group in self.sent.groups)

    def group_view(self, group: str) -> GroupViewKey | None:
        """The view of ``group`` it was delivered in, where first delivered to that group."""
        return next((one.group_views[group] for one in self.deliveries if group in one.group_views), None)

    def discarded_by(self, member: MemberId) -> bool:
        """Whether ``member`` sent it and asked not to get it."""
        return self.sent.self_discard and self.sender == member


@define(eq=False)
class GroupStep:
    """One group view at one client."""

    index: int
    key: GroupViewKey
    view: View
    process: ProcessRecord
    previous: GroupStep | None
    node_view: ViewKey | None
    next: GroupStep | None = None
    signal_indices: list[int] = field(factory=list)
    deliveries: list[Delivery] = field(factory=list)


@define(eq=False)
class Episode:
    """One membership."""

    group: str
    process: ProcessRecord
    steps: list[GroupStep] = field(factory=list)
    leave_asked_index: int | None = None
    ended_index: int | None = None

    @property
    def first(self) -> GroupViewKey:
        """The id of its first view."""
        return self.steps[0].key

    def step_at(self, index: int) -> GroupStep:
        """The step that holds at ``index``, which is after its beginning."""
        return next(step for step in reversed(self.steps) if step.index <= index)


@define(eq=False)
class ProcessRecord:
    """One client session.

    Attributes:
        group_views: by the groups of a message, its present view of each that it is in.
        joins: when each group was asked for.
        leave_asked: when each group was last asked to be left.
        lefts: when each group was left, and in which view of the node.
        known: the mask of what it has received, with the pasts.
        recent: what it has received since its last send at CAUSAL or above.
    """

    member: MemberId
    node: NodeRecord
    opened_index: int
    closed_index: int | None = None
    episodes: dict[str, list[Episode]] = field(factory=dict)
    current: dict[str, GroupStep] = field(factory=dict)
    group_views: dict[tuple[str, ...], dict[str, GroupViewKey]] = field(factory=dict)
    joins: dict[str, list[int]] = field(factory=dict)
    leave_asked: dict[str, int] = field(factory=dict)
    lefts: dict[str, list[tuple[int, ViewKey | None]]] = field(factory=dict)
    deliveries: list[Delivery] = field(factory=list)
    known: int = 0
    recent: list[MessageRecord] = field(factory=list)
    last_ordered_send: MessageRecord | None = None

    def join_asked(self, group: str) -> int:
        """When it last asked to join; -1 if never."""
        return self.joins[group][-1] if group in self.joins else -1

    def episode_at(self, group: str, index: int) -> Episode | None:
        """The membership of ``group`` that holds at ``index``."""
        for episode in self.episodes.get(group, ()):
            if episode.steps[0].index <= index and (episode.ended_index is None or episode.ended_index > index):
                return episode
        return None

    def closed_before(self, index: int) -> bool:
        """Whether it was closed, or its node died, before ``index``."""
        return self.closed_index is not None and self.closed_index < index

    def died_in(self, view: ViewKey) -> bool:
        """Whether its crash (or close) came before its node left ``view``, or before it was ever there."""
        if self.closed_index is None:
            return False
        step = self.node.by_view.get(view)
        return step is None or step.next is None or self.closed_index < step.next.index
