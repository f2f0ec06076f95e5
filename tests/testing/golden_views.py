"""Golden traces that break a property of processes and views: A1 to M6, D6, VIEW and SIGNAL."""

from __future__ import annotations

from attrs import evolve

from groupcomm.events import Reason
from groupcomm.identity import GroupViewId, ViewId
from groupcomm.testing import trace as traces
from tests.testing.golden import bad
from tests.testing.story import GROUP, Story


@bad("A1")
def received_after_its_end(s: Story) -> None:
    s.send("a", "m")
    s.crash("c")
    s.deliver("c", "m")


@bad("A1")
def installed_after_its_end(s: Story) -> None:
    s.crash("c")
    s.install("abc", at="c")


@bad("A2")
def sent_twice(s: Story) -> None:
    s.send("a", "m")
    s.send("b", "m")


@bad("A2")
def opened_twice(s: Story) -> None:
    s.open("a")


@bad("M1")
def node_view_without_its_installer(s: Story) -> None:
    s.install("ab", at="abc")


@bad("M1")
def group_view_without_its_receiver(s: Story) -> None:
    s.regroup("ab", Reason.LEAVE, at="abc")


@bad("M2")
def node_goes_back(s: Story) -> None:
    s.install("abc", epoch=1, at="a")


@bad("M2")
def group_goes_back(s: Story) -> None:
    s.regroup("abc", Reason.LEAVE, GroupViewId(ViewId(1, s.node("a")), 0))


@bad("M3", names="ab", joined=False)
def message_before_any_view(s: Story) -> None:
    s.ask_join("a")
    s.join("a")
    s.send("a", "m")
    s.deliver("b", "m")


@bad("M3")
def message_of_another_view(s: Story) -> None:
    s.send("a", "m")
    s.deliver("b", "m", view=GroupViewId(ViewId(1, s.node("a")), 7))


@bad("M3")
def left_twice(s: Story) -> None:
    s.ask_leave("c")
    s.leave("c")
    s.add(traces.LeftSeen(s.tick(), s.client("c"), GROUP, Reason.LEAVE))


@bad("M4")
def two_node_views_of_one_id(s: Story) -> None:
    s.install("ab", at="a")
    s.install("abc", epoch=s.epoch, at="b")


@bad("M4")
def two_group_views_of_one_id(s: Story) -> None:
    identity = GroupViewId(ViewId(1, s.node("a")), 9)
    s.regroup("abc", Reason.LEAVE, identity, at="a")
    s.regroup("ab", Reason.LEAVE, identity, at="b")


@bad("M5", names="abcd", joined=False)
def two_halves_are_primary(s: Story) -> None:
    s.filtered = True
    s.install("ab")
    s.install("cd")


@bad("M5", names="abc", joined=False)
def primary_at_one_of_two(s: Story) -> None:
    s.filtered = True
    s.not_primary = "b"
    s.install("ab")


@bad("M5", names="abc")
def group_view_that_is_primary_where_its_node_is_not(s: Story) -> None:
    s.filtered = True
    s.not_primary = "abc"
    s.signal("abc")
    s.install("ab")
    s.install("c")


@bad("M6", names="ab", joined=False)
def member_that_never_asked(s: Story) -> None:
    s.ask_join("a")
    s.join("ab")


@bad("M6")
def member_that_left_is_back(s: Story) -> None:
    s.ask_leave("c")
    s.leave("c")
    s.install("abc")
    s.join("c")


@bad("M6")
def member_without_its_node(s: Story) -> None:
    s.signal("ab")
    s.install("ab", at="ab")
    s.regroup("abc", Reason.LEAVE, GroupViewId(s.node_view["a"].id, 0), at="a")


@bad("M6")
def dead_node_in_a_later_view(s: Story) -> None:
    s.crash("c")
    s.signal("ab")
    s.install("ab")
    s.install("abc", at="ab")


@bad("D6")
def transitional_set_too_large(s: Story) -> None:
    s.signal("abc")
    s.install("ab")
    s.install("c")
    s.signal("abc")
    s.install("abc", transitional={"a": "abc"})


@bad("D6")
def transitional_set_too_small(s: Story) -> None:
    s.install("abc", transitional={"a": "a"})


@bad("D6")
def transitional_set_of_a_group_too_large(s: Story) -> None:
    s.signal("abc")
    s.install("ab")
    s.install("c")
    s.signal("ab")
    s.install("abc")
    view = s.group_view["a"]
    for number, event in enumerate(s.trace.events):
        if isinstance(event, traces.ViewSeen) and event.view is view:
            s.trace.events[number] = evolve(event, view=evolve(view, transitional=view.members))


@bad("VIEW")
def joined_who_was_there(s: Story) -> None:
    view = s.group_view["a"]
    identity = evolve(view.id, position=view.id.position + 1)
    s.see("a", evolve(view, id=identity, joined=(s.client("b"),), transitional=view.members))


@bad("VIEW")
def departed_who_stays(s: Story) -> None:
    before = dict(s.node_view)
    identity = ViewId(2, s.node("a"))
    s.install_node("a", identity, "abc", before)
    event = s.trace.events[-1]
    assert isinstance(event, traces.NodeViewSeen)
    s.signal("abc")
    s.install("ab", epoch=3, at="b")
    gone = s.node_view["b"].departed
    s.trace.events[-1 - len("abc") * 2 - 1] = evolve(event, view=evolve(event.view, departed=gone))


@bad("SIGNAL")
def parted_without_a_signal(s: Story) -> None:
    s.install("ab")


@bad("SIGNAL")
def join_between_signal_and_view(s: Story) -> None:
    s.signal("a")
    s.regroup("abc", Reason.LEAVE)


@bad("SIGNAL")
def two_signals(s: Story) -> None:
    s.signal("aa")
