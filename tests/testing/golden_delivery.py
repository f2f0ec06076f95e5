"""Golden traces that break who receives what: D1 to D8, and G1 to G5 about addressing."""

from __future__ import annotations

from groupcomm.events import Level, Reason
from groupcomm.testing import trace as traces
from tests.testing.golden import bad
from tests.testing.story import GROUP, Story


@bad("D1")
def message_that_nobody_sent(s: Story) -> None:
    s.send("a", "m")
    s.deliver("b", "m", message="z")


@bad("D1")
def message_with_other_bytes(s: Story) -> None:
    s.send("a", "m")
    s.deliver("b", "m", digest="other")


@bad("D2")
def twice_in_a_row(s: Story) -> None:
    s.send("a", "m")
    s.deliver("b", "mm")


@bad("D2")
def twice_in_two_views(s: Story) -> None:
    s.send("a", "m", Level.RELIABLE)
    s.deliver("abc", "m")
    s.install("abc")
    s.deliver("b", "m")


@bad("D3")
def in_an_earlier_node_view(s: Story) -> None:
    s.install("abc", at="a")
    s.send("a", "m", Level.FIFO)
    s.deliver("b", "m")


@bad("D3", names="abcd", joined=False)
def in_an_earlier_group_view(s: Story) -> None:
    for name in "abcd":
        s.ask_join(name)
    s.join("abc")
    s.regroup("abcd", Reason.LEAVE, at="a")
    s.send("a", "m", Level.FIFO)
    s.deliver("b", "m")


@bad("D4")
def in_two_node_views(s: Story) -> None:
    s.send("a", "m", Level.RELIABLE)
    s.deliver("ab", "m")
    s.install("abc", at="c")
    s.deliver("c", "m")


@bad("D4", joined=False)
def in_two_group_views(s: Story) -> None:
    for name in "abc":
        s.ask_join(name)
    s.join("ab")
    s.send("a", "m")
    s.deliver("a", "m")
    s.regroup("abc", Reason.LEAVE, at="bc")
    s.deliver("b", "m")


@bad("D5")
def went_on_without(s: Story) -> None:
    s.send("c", "m", Level.RELIABLE)
    s.deliver("b", "m")
    s.crash("c")
    s.signal("ab")
    s.install("ab")


@bad("D5")
def leaves_only_later(s: Story) -> None:
    s.send("b", "m", to="a")
    s.accept("b", "m")
    s.crash("c")
    s.signal("ab")
    s.install("ab")
    s.add(traces.NodeLeaving(s.tick(), s.node("a")))


@bad("D5", joined=False)
def other_sets_between_two_group_views(s: Story) -> None:
    for name in "abc":
        s.ask_join(name)
    s.join("ab")
    s.send("a", "m")
    s.deliver("a", "m")
    s.join("c")


@bad("D5", names="abcd", joined=False)
def accepted_and_never_seen(s: Story) -> None:
    for name in "abc":
        s.ask_join(name)
    s.join("abc")
    s.install("abcd")
    s.send("d", "m", Level.FIFO)
    s.accept("d", "m")
    s.signal("abcd")
    s.install("abcd")


@bad("D8")
def own_message_that_others_have(s: Story) -> None:
    s.send("a", "m")
    s.deliver("bc", "m")
    s.signal("abc")
    s.install("abc")


@bad("D8")
def own_message_that_left(s: Story) -> None:
    s.send("a", "m", Level.FIFO)
    s.accept("a", "m")
    s.signal("abc")
    s.install("abc")


@bad("G1")
def private_to_another(s: Story) -> None:
    s.send("a", "m", to="b")
    s.deliver("c", "m")


@bad("G1")
def group_it_was_not_sent_to(s: Story) -> None:
    s.send("a", "m", groups=("other",))
    s.deliver("b", "m", groups=(GROUP,))


@bad("G2")
def for_one_of_two_groups(s: Story) -> None:
    identity = s.enter("b", "h")
    s.send("a", "m", groups=(GROUP, "h"))
    s.deliver("b", "m", groups=("h",), view=identity)


@bad("G2")
def fifo_for_one_of_two_groups(s: Story) -> None:
    s.enter("b", "h")
    s.send("b", "m", Level.FIFO, groups=(GROUP, "h"))
    s.deliver("b", "m", groups=(GROUP,))


@bad("G3", first="D5", names="abcd", joined=False)
def outsider_heard_by_half(s: Story) -> None:
    for name in "ab":
        s.ask_join(name)
    s.join("ab")
    s.install("abcd")
    s.send("d", "m", Level.FIFO)
    s.deliver("a", "m")
    s.signal("abcd")
    s.install("abcd")


@bad("G3", first="D2", names="abcd", joined=False)
def outsider_heard_twice(s: Story) -> None:
    for name in "ab":
        s.ask_join(name)
    s.join("ab")
    s.send("d", "m")
    s.deliver("a", "mm")


@bad("G4")
def discarded_and_received(s: Story) -> None:
    s.send("a", "m", self_discard=True)
    s.deliver("ab", "m")


@bad("G4")
def discarded_and_received_by_its_sender_alone(s: Story) -> None:
    s.send("a", "m", Level.RELIABLE, self_discard=True)
    s.deliver("bca", "m")


@bad("G5")
def confirmed_too_early(s: Story) -> None:
    s.send("a", "m")
    s.deliver("ab", "m")
    s.accept("a", "m", stable=True)
    s.deliver("c", "m")


@bad("G5")
def confirmed_at_the_signal_and_lost(s: Story) -> None:
    s.send("c", "m", Level.RELIABLE)
    s.signal("abc")
    s.deliver("ac", "m")
    s.accept("c", "m", stable=True)
    s.install("abc")


@bad("UNRELIABLE", first="D2")
def unreliable_twice(s: Story) -> None:
    s.send("a", "m", Level.UNRELIABLE)
    s.deliver("b", "mm")


@bad("UNRELIABLE", first="D1")
def unreliable_damaged(s: Story) -> None:
    s.send("a", "m", Level.UNRELIABLE)
    s.deliver("b", "m", digest="other")
