"""Golden traces in which everything is as it should be."""

from __future__ import annotations

from groupcomm.events import Level, Reason
from groupcomm.testing import trace as traces
from groupcomm.wire.evidence import Finding, Record
from tests.testing.golden import good
from tests.testing.story import GROUP, Story


@good(
    *("D1", "D2", "D3", "D4", "D5", "D6", "M1", "M2", "M3", "M4", "M6", "O1", "O2", "O5", "O6", "O7", "S1", "S2"),
    *("VIEW", "SIGNAL", "L1", "L2", "L3", "L4", "A2"),
    names="abcd",
)
def partition_and_merge(s: Story) -> None:
    s.send("a", "m", Level.AGREED)
    s.send("c", "n", Level.SAFE)
    s.deliver("abcd", "mn")
    s.send("a", "f", Level.FIFO)
    s.deliver("ab", "f")
    s.send("b", "x", Level.AGREED)
    s.send("c", "y", Level.AGREED)
    s.signal("ab")
    s.deliver("ab", "x")
    s.install("ab")
    s.signal("cd")
    s.deliver("cd", "y")
    s.install("cd")
    s.send("a", "p")
    s.deliver("ab", "p")
    s.signal("abcd")
    s.install("abcd")
    s.send("d", "q", Level.CAUSAL)
    s.send("d", "r", Level.CAUSAL)
    s.send("a", "s", Level.SAFE)
    s.deliver("abcd", "qrs")
    s.settle("abcd")


@good("M5", names="abc", joined=False)
def a_majority_and_the_rest(s: Story) -> None:
    s.filtered = True
    s.install("abc")
    s.not_primary = "c"
    s.install("ab")
    s.install("c")
    s.not_primary = ""
    s.install("abc")


@good("O3", "O4", "O8")
def answers_after_questions(s: Story) -> None:
    s.send("a", "q")
    s.deliver("ab", "q")
    s.send("b", "r", Level.AGREED)
    s.deliver("c", "qr")
    s.deliver("ab", "r")
    s.settle("abc")


@good("A1", "S1", "D8")
def who_crashes_owes_nothing(s: Story) -> None:
    s.send("a", "m", Level.SAFE)
    s.accept("a", "m")
    s.deliver("ab", "m")
    s.crash("c")
    s.signal("ab")
    s.install("ab")
    s.settle("ab")


@good("D5")
def who_leaves_the_cluster_is_owed_no_private_message(s: Story) -> None:
    s.send("b", "n")
    s.deliver("abc", "n")
    s.add(traces.NodeLeaving(s.tick(), s.node("a")))
    s.send("b", "m", to="a")
    s.accept("b", "m")
    s.add(traces.UndeliverableSeen(s.tick(), s.client("b"), "c@a"))
    s.crash("c")
    s.signal("ab")
    s.install("ab")


@good("G5")
def confirmed_without_one_whose_node_leaves(s: Story) -> None:
    s.send("b", "n", Level.SAFE)
    s.deliver("abc", "n")
    s.accept("b", "n", stable=True)
    s.add(traces.NodeLeaving(s.tick(), s.node("c")))
    s.send("a", "m", Level.SAFE)
    s.signal("abc")
    s.add(traces.LeftSeen(s.tick(), s.client("c"), GROUP, Reason.NODE_LEAVE))
    s.group_view.pop("c")
    s.deliver("ab", "m")
    s.accept("a", "m", stable=True)
    s.install("abc")


@good("S3")
def safe_after_the_signal(s: Story) -> None:
    s.send("a", "m", Level.SAFE)
    s.signal("ab")
    s.deliver("ab", "m")
    s.crash("c")
    s.install("ab")


@good("O6", names="abcd")
def components_order_for_themselves(s: Story) -> None:
    s.send("a", "x")
    s.send("c", "y")
    s.signal("abcd")
    s.deliver("ab", "xy")
    s.deliver("cd", "yx")
    s.install("ab")
    s.install("cd")


@good("G1", "G3", "G4", names="abcd", joined=False)
def discarded_private_and_from_outside(s: Story) -> None:
    for name in "abc":
        s.ask_join(name)
    s.join("abc")
    s.send("a", "m", self_discard=True)
    s.deliver("bc", "m")
    s.send("d", "n")
    s.deliver("abc", "n")
    s.send("d", "p", to="b")
    s.deliver("b", "p")
    s.settle("abcd")


@good("G2")
def several_groups(s: Story) -> None:
    s.enter("b", "h")
    s.send("a", "m", groups=(GROUP, "h"))
    s.deliver("b", "m", groups=(GROUP, "h"))
    s.deliver("ac", "m", groups=(GROUP,))


@good("G5", "S4")
def confirmed_in_order(s: Story) -> None:
    s.send("a", "mn")
    s.deliver("abc", "mn")
    s.accept("a", "mn", stable=True)


@good("UNRELIABLE")
def unreliable_may_be_lost_and_overtake(s: Story) -> None:
    s.send("a", "mn", Level.UNRELIABLE)
    s.deliver("b", "nm")
    s.deliver("c", "n")
    s.settle("abc")


@good("L6", "L7", "L8", "X6")
def comes_to_rest(s: Story) -> None:
    s.fault("heal")
    s.send("a", "m")
    s.deliver("abc", "m")
    s.rest("abc", nacks=20, datagrams_per_second=6.0, blocked_seconds=1.5)


@good("L7")
def too_slow_and_back_again(s: Story) -> None:
    s.fault("heal")
    s.install("abc")
    s.signal("abc")
    s.install("ab", evicted="c", records=(Record(Finding.TOO_SLOW, s.node("c"), s.node("a")),))
    s.install("c")
    s.signal("abc")
    s.install("abc")
    s.rest("abc")


@good("M6")
def newcomer_and_leaver(s: Story) -> None:
    s.ask_leave("c")
    s.leave("c")
    s.install("abc")
    s.ask_join("c")
    s.join("c")
    s.settle("abc")
