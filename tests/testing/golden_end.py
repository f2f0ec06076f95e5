"""Golden traces that break what SAFE promises, and what must have happened by the end: S1 to S4, L1 to L8, X6."""

from __future__ import annotations

from groupcomm.events import Level
from groupcomm.testing import trace as traces
from tests.testing.golden import bad
from tests.testing.story import Story


@bad("S1")
def parted_without_it(s: Story) -> None:
    s.send("a", "m", Level.SAFE)
    s.deliver("ab", "m")
    s.signal("abc")
    s.install("ab")
    s.install("c")


@bad("S1")
def never_came_to_one(s: Story) -> None:
    s.send("a", "m", Level.SAFE)
    s.deliver("ab", "m")
    s.settle("abc")


@bad("S1")
def released_before_all_have_it(s: Story) -> None:
    s.send("a", "m", Level.SAFE)
    s.add(traces.SafeHeld(s.tick(), s.node("b"), "m", (s.node("c"),)))
    s.deliver("abc", "m")


@bad("S2")
def member_that_passes_the_view_over(s: Story) -> None:
    s.signal("abc")
    s.install("abc", at="ab")
    s.send("a", "m", Level.SAFE)
    s.deliver("ab", "m")
    s.install("abc", at="c")


@bad("S2")
def member_that_never_comes(s: Story) -> None:
    s.signal("abc")
    s.install("abc", at="ab")
    s.send("a", "m", Level.SAFE)
    s.deliver("ab", "m")
    s.settle("abc")


@bad("S3")
def came_along_without_it(s: Story) -> None:
    s.send("c", "m", Level.SAFE)
    s.signal("ab")
    s.deliver("a", "m")
    s.install("ab")


@bad("S3")
def private_and_lost_after_the_signal(s: Story) -> None:
    s.send("c", "m", Level.SAFE)
    s.signal("abc")
    s.deliver("ac", "m")
    s.install("abc")


@bad("S4")
def confirmed_twice(s: Story) -> None:
    s.send("a", "m")
    s.deliver("abc", "m")
    s.accept("a", "mm", stable=True)


@bad("S4")
def confirmed_out_of_order(s: Story) -> None:
    s.send("a", "mn")
    s.deliver("abc", "mn")
    s.accept("a", "nm", stable=True)


@bad("L1")
def ends_in_two_views(s: Story) -> None:
    s.signal("abc")
    s.install("ab")
    s.install("c")
    s.settle("abc")


@bad("L1", names="ab", joined=False)
def join_without_an_answer(s: Story) -> None:
    s.ask_join("a")
    s.settle("ab")


@bad("L1")
def leave_without_an_answer(s: Story) -> None:
    s.ask_leave("a")
    s.settle("abc")


@bad("L2")
def never_received(s: Story) -> None:
    s.send("a", "m", Level.RELIABLE)
    s.deliver("ab", "m")
    s.settle("abc")


@bad("L2", names="abcd", joined=False)
def never_received_from_outside(s: Story) -> None:
    for name in "ab":
        s.ask_join(name)
    s.join("ab")
    s.install("abcd")
    s.send("d", "m")
    s.settle("abcd")


@bad("L3")
def own_never_received(s: Story) -> None:
    s.send("a", "m", Level.RELIABLE)
    s.deliver("bc", "m")
    s.settle("abc")


@bad("L3")
def own_received_by_nobody(s: Story) -> None:
    s.send("a", "m", Level.AGREED)
    s.settle("abc")


@bad("L4")
def private_safe_never_received(s: Story) -> None:
    s.send("a", "m", Level.SAFE, to="b")
    s.settle("abc")


@bad("L4")
def never_confirmed(s: Story) -> None:
    s.send("a", "m", Level.SAFE)
    s.deliver("abc", "m")
    s.rest("abc", unconfirmed=("m",))


@bad("L6")
def idle_with_bytes_on_their_way(s: Story) -> None:
    s.rest("abc", outstanding_bytes=1)


@bad("L6")
def idle_and_noisy(s: Story) -> None:
    s.rest("abc", datagrams_per_second=100.0)


@bad("L7")
def views_of_the_same(s: Story) -> None:
    s.fault("heal")
    for _ in range(2):
        s.install("abc")
    s.rest("abc")


@bad("L7")
def in_and_out_by_mistake(s: Story) -> None:
    s.fault("heal")
    for _ in range(2):
        s.signal("abc")
        s.install("ab")
        s.install("c")
        s.signal("abc")
        s.install("abc")
    s.rest("abc")


@bad("L7")
def evicted_and_nobody_says_why(s: Story) -> None:
    s.fault("heal")
    s.install("abc")
    s.signal("abc")
    s.install("ab", evicted="c")
    s.install("c")
    s.signal("abc")
    s.install("abc")
    s.rest("abc")


@bad("L8")
def ends_blocked(s: Story) -> None:
    s.rest("abc", blocked=True)


@bad("L8")
def blocked_too_long(s: Story) -> None:
    s.rest("abc", blocked_seconds=60.0)


@bad("L8")
def send_never_taken(s: Story) -> None:
    s.send("a", "m", Level.UNRELIABLE)
    s.rest("abc", unreported=("m",))


@bad("X6")
def more_requests_than_losses(s: Story) -> None:
    s.rest("abc", nacks=600, lost=100)


@bad("X6")
def requests_for_nothing(s: Story) -> None:
    s.rest("abc", nacks=100)
