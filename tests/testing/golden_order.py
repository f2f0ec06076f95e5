"""Golden traces that break an order: O1 to O8."""

from __future__ import annotations

from groupcomm.events import Level
from groupcomm.identity import GroupViewId
from tests.testing.golden import bad
from tests.testing.story import Story


@bad("O1")
def second_before_first(s: Story) -> None:
    s.send("a", "mn", Level.FIFO)
    s.deliver("b", "nm")


@bad("O1")
def second_before_first_ordered(s: Story) -> None:
    s.send("a", "m", Level.SAFE)
    s.send("a", "n", Level.CAUSAL)
    s.send("a", "o", Level.FIFO)
    s.deliver("b", "mon")


@bad("O2")
def second_without_first(s: Story) -> None:
    s.send("a", "mn", Level.FIFO)
    s.deliver("b", "n")


@bad("O2")
def fifo_without_agreed(s: Story) -> None:
    s.send("a", "m", Level.AGREED)
    s.send("a", "n", Level.FIFO)
    s.deliver("b", "n")


@bad("O3", joined=False)
def answer_before_question_at_one_who_was_not_owed_it(s: Story) -> None:
    for name in "ab":
        s.ask_join(name)
    s.join("ab")
    s.send("a", "q", Level.CAUSAL)
    s.deliver("b", "q")
    s.ask_join("c")
    s.join("c")
    s.send("b", "r", Level.CAUSAL)
    s.deliver("c", "rq")


@bad("O3", joined=False)
def fifo_question_after_its_answer(s: Story) -> None:
    for name in "ab":
        s.ask_join(name)
    s.join("ab")
    s.send("a", "q", Level.FIFO)
    s.deliver("ab", "q")
    s.ask_join("c")
    s.join("c")
    s.send("b", "r", Level.CAUSAL)
    s.send("b", "t", Level.AGREED)
    s.deliver("c", "rtq")


@bad("O4", names="abcd")
def answer_without_question(s: Story) -> None:
    s.send("a", "q", Level.FIFO)
    s.deliver("b", "q")
    s.send("b", "r", Level.CAUSAL)
    s.deliver("d", "r")


@bad("O4", names="abcd")
def hole_two_steps_back(s: Story) -> None:
    s.send("a", "q", Level.FIFO)
    s.deliver("b", "q")
    s.send("b", "r", Level.CAUSAL)
    s.deliver("c", "qr")
    s.send("c", "t", Level.CAUSAL)
    s.deliver("d", "qt")


def _own_groups(s: Story) -> dict[str, tuple[tuple[str, ...], GroupViewId]]:
    """Clients a, b and c are each alone in a group of their own."""
    return {name: ((group,), s.enter(name, group)) for name, group in zip("abc", "ghk", strict=True)}


@bad("O5", joined=False)
def two_orders_in_two_groups(s: Story) -> None:
    places = _own_groups(s)
    s.send("a", "m", groups=("g", "h"))
    s.send("b", "n", groups=("g", "h"))
    for name, labels in (("a", "mn"), ("b", "nm")):
        s.deliver(name, labels, groups=places[name][0], view=places[name][1])


@bad("O5", joined=False)
def circle_through_three_groups(s: Story) -> None:
    places = _own_groups(s)
    for name, label in zip("abc", "xyz", strict=True):
        s.send(name, label, groups=("g", "h", "k"))
    for name, labels in (("a", "xy"), ("b", "yz"), ("c", "zx")):
        s.deliver(name, labels, groups=places[name][0], view=places[name][1])


@bad("O6", names="abcd")
def two_orders_in_one_component(s: Story) -> None:
    s.send("c", "m")
    s.send("d", "n")
    s.signal("ab")
    s.deliver("a", "mn")
    s.deliver("b", "nm")
    s.install("ab")


@bad("O6", names="abcdef")
def circle_in_one_component(s: Story) -> None:
    for name, label in zip("def", "xyz", strict=True):
        s.send(name, label)
    s.signal("abc")
    for name, labels in (("a", "xyz"), ("b", "yzx"), ("c", "zxy")):
        s.deliver(name, labels)
    s.install("abc")


@bad("O7")
def one_of_the_sequence_left_out(s: Story) -> None:
    s.send("a", "m")
    s.send("b", "n")
    s.deliver("a", "mn")
    s.deliver("c", "n")


@bad("O7")
def two_orders_before_the_signal(s: Story) -> None:
    s.send("a", "m")
    s.send("b", "n")
    s.deliver("a", "mn")
    s.deliver("c", "nm")


@bad("O8", joined=False)
def causal_overtakes_agreed(s: Story) -> None:
    for name in "ab":
        s.ask_join(name)
    s.join("ab")
    s.send("a", "q", Level.AGREED)
    s.deliver("ab", "q")
    s.ask_join("c")
    s.join("c")
    s.send("b", "r", Level.CAUSAL)
    s.signal("c")
    s.deliver("c", "rq")


@bad("O8", joined=False)
def order_against_the_cause(s: Story) -> None:
    places = _own_groups(s)
    s.send("a", "q", groups=("h",))
    s.send("a", "r", groups=("k",))
    s.send("b", "z", groups=("h", "k"))
    s.deliver("b", "zq", groups=places["b"][0], view=places["b"][1])
    s.deliver("c", "rz", groups=places["c"][0], view=places["c"][1])
