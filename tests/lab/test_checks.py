"""The checks of the lab find what they are there to find."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from twisted.trial.unittest import SynchronousTestCase

from tests.lab.checks import (
    Delivered,
    History,
    Sent,
    Signal,
    Step,
    ViewSeen,
    causal_pasts,
    check_agreement,
    check_always,
    check_causal,
    check_fifo,
    check_integrity,
    check_own_messages,
    check_total_order,
    check_undisturbed,
    check_views,
)

A, B = "a@n1", "b@n2"
FIRST = "1-n1-1/0"
SECOND = "2-n1-1/0"


def view(identity: str, *members: str, together: Sequence[str] = ()) -> ViewSeen:
    return ViewSeen(identity, members, frozenset(together))


def got(message: str, level: str = "AGREED", within: str = FIRST) -> Delivered:
    return Delivered((message[0], int(message[1:])), level, within)


def gave(message: str, level: str = "AGREED") -> Sent:
    return Sent((message[0], int(message[1:])), level)


def of(name: str, *steps: Step, over: bool = False) -> History:
    return History(name, [view(FIRST, A, B, together=(name,)), *steps], over)


class CheckTests(SynchronousTestCase):
    """Each check passes a good log and refuses a bad one."""

    def refuses(self, check: Callable[[Sequence[History]], object], *histories: History) -> None:
        self.assertRaises(AssertionError, check, histories)

    def test_a_good_run(self) -> None:
        """A run without faults passes all of them."""
        one = of(A, gave("a1"), got("b1"), got("a1"))
        two = of(B, gave("b1"), got("b1"), got("a1"))
        check_always([one, two])
        check_undisturbed([one, two])

    def test_integrity(self) -> None:
        """A message twice, one that nobody sent, and one at another level are found."""
        self.refuses(check_integrity, of(A, gave("a1"), got("a1"), got("a1")))
        self.refuses(check_integrity, of(A, got("a1")))
        self.refuses(check_integrity, of(A, gave("a1", "FIFO"), got("a1", "AGREED")))

    def test_loss(self) -> None:
        """A message that one of them lacks is found."""
        self.refuses(check_undisturbed, of(A, gave("a1"), got("a1")), of(B))

    def test_fifo(self) -> None:
        """Two messages of one sender in the wrong order are found, whatever their levels from FIFO on."""
        self.refuses(check_fifo, of(B, got("a2", "FIFO"), got("a1", "AGREED")))
        check_fifo([of(B, got("a2", "FIFO"), got("a1", "RELIABLE"))])

    def test_causal(self) -> None:
        """An answer before what it answers is found; a FIFO message answers nothing."""
        asker = of(A, gave("a1", "CAUSAL"), got("a1", "CAUSAL"))
        answers = of(B, got("a1", "CAUSAL"), gave("b1", "CAUSAL"), got("b1", "CAUSAL"))
        wrong = History("c@n3", [view(FIRST, A, B, "c@n3"), got("b1", "CAUSAL"), got("a1", "CAUSAL")])
        self.refuses(check_causal, asker, answers, wrong)
        answers = of(B, got("a1", "CAUSAL"), gave("b1", "FIFO"), got("b1", "FIFO"))
        late = History("c@n3", [view(FIRST, A, B, "c@n3"), got("b1", "FIFO"), got("a1", "CAUSAL")])
        check_causal([asker, answers, late])

    def test_causal_past_goes_through_others(self) -> None:
        """What a message follows is found through members that pass it on."""
        one = of(A, gave("a1"), got("a1"))
        two = of(B, got("a1"), gave("b1", "CAUSAL"))
        three = History("c@n3", [view(FIRST, A, B, "c@n3"), got("b1", "CAUSAL"), gave("c1", "SAFE")])
        self.assertEqual(causal_pasts([three, two, one])["c", 1], {"a": 1, "b": 1})

    def test_total_order(self) -> None:
        """Two orders before the signal are found; after it each component has its own."""
        one = of(A, got("a1"), got("b1"))
        self.refuses(check_total_order, one, of(B, got("b1"), got("a1")))
        check_total_order([one, of(B, Signal(), got("b1"), got("a1"))])

    def test_agreement(self) -> None:
        """Two that change views together but differ in messages, or in their order after the signal, are found."""
        next_view = view(SECOND, A, B, together=(A, B))
        check_agreement([of(A, got("a1"), next_view), of(B, got("a1"), next_view)])
        self.refuses(check_agreement, of(A, got("a1"), next_view), of(B, next_view))
        self.refuses(check_agreement, of(A, got("a1", "RELIABLE"), next_view), of(B, next_view))
        self.refuses(
            check_agreement,
            of(A, Signal(), got("a1"), got("b1"), next_view),
            of(B, Signal(), got("b1"), got("a1"), next_view),
        )
        alone = view("2-n2-1/0", B, together=(B,))
        check_agreement([of(A, got("a1"), next_view), of(B, alone)])

    def test_agreement_says_how_often_it_compared(self) -> None:
        """A check that compared nothing can be told from one that did."""
        next_view = view(SECOND, A, B, together=(A, B))
        self.assertEqual(check_agreement([of(A, next_view)]), 0)
        self.assertEqual(check_agreement([of(A, next_view), of(B, next_view)]), 2)

    def test_own_messages(self) -> None:
        """A member that lacks a message of its own is found; one that is gone may lack the last ones."""
        self.refuses(check_own_messages, of(A, gave("a1")))
        check_own_messages([of(A, gave("a1"), got("a1"), gave("a2"), over=True)])
        self.refuses(check_own_messages, of(A, gave("a1"), gave("a2"), got("a2"), over=True))

    def test_views(self) -> None:
        """Views that shrink, differ under one id, lack their owner or lie about who came along are found."""
        self.refuses(check_views, of(A, view("0-n1-1/0", A, B)))
        self.refuses(check_views, of(A, view("1-n1-1/0", A, B)))
        self.refuses(check_views, History(A, [view(FIRST, A, B)]), History(B, [view(FIRST, B, A)]))
        self.refuses(check_views, History(A, [view(FIRST, B)]))
        self.refuses(check_views, of(A, got("a1", within=SECOND)))
        next_view = view(SECOND, A, B, together=(A,))
        self.refuses(check_views, of(A, next_view), of(B, view(SECOND, A, B, together=(A, B))))
