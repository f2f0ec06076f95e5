"""What the sources remember is bounded, and so is the rate at which they tell it."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from groupcomm.discovery.hints import HINTS_PER_SECOND, MAX_HINTS, HintBook, hint_host
from groupcomm.outputs import Address

OWN = ("10.0.0.1", 4874)


class BookTests(SynchronousTestCase):
    """The memory of a source."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.book = HintBook(self.clock.seconds, (OWN[0],), OWN[1])

    def test_learn_and_offer(self) -> None:
        """What is learnt is given once at once and again when offered; this node's own address never."""
        self.assertEqual(self.book.learn("x", (OWN, ("10.0.0.2", 1))), (("10.0.0.2", 1),))
        self.assertEqual(self.book.learn("me", (OWN,)), ())
        self.book.learn("y", (("10.0.0.2", 1), ("10.0.0.3", 1)))
        self.assertEqual(self.book.offer(), (("10.0.0.2", 1), ("10.0.0.3", 1)))
        self.book.learn("x", ())
        self.book.forget("y")
        self.book.forget("z")
        self.assertEqual(self.book.offer(), ())

    def test_bounded(self) -> None:
        """The longest known is forgotten when too many are seen."""
        for number in range(MAX_HINTS + 1):
            self.clock.advance(1)
            self.book.learn(str(number), ((f"10.0.{number // 250}.{number % 250}", 9),))
        offered: set[Address] = set()
        for _ in range(MAX_HINTS // HINTS_PER_SECOND):
            self.clock.advance(1)
            offered.update(self.book.offer())
        self.assertEqual(len(offered), MAX_HINTS)
        self.assertNotIn(("10.0.0.0", 9), offered)

    def test_what_may_be_a_hint(self) -> None:
        """An address that another node can have, as it is compared; of a family that this node has too."""
        for text, host in (
            ("10.0.0.2", "10.0.0.2"),
            ("FD77:0:0::2", "fd77::2"),
            ("fe80::2%eth0", "fe80::2%eth0"),
            ("fe80::2", None),
            ("0.0.0.0", None),
            ("::", None),
            ("224.0.0.1", None),
            ("ff02::1", None),
            ("host", None),
            ("", None),
        ):
            self.assertEqual(hint_host(text), host, text)
        self.assertEqual(self.book.learn("x", (("fd77::2", 1), ("0.0.0.0", 1), ("10.0.0.2", 1))), (("10.0.0.2", 1),))
        both = HintBook(self.clock.seconds, ("10.0.0.1", "fd77::1"), 4874)
        hints = both.learn("x", (("fd77::1", 4874), ("fd77:0::1", 4874), ("FD77::2", 4874), ("10.0.0.1", 4875)))
        self.assertEqual(hints, (("fd77::2", 4874), ("10.0.0.1", 4875)))
        here: Address = ("127.0.0.1", 4875)
        self.assertEqual(self.book.learn("x", (here,)), ())
        self.assertEqual(HintBook(self.clock.seconds, ("127.0.0.1",), 1).learn("x", (here,)), (here,))

    def test_moved(self) -> None:
        """A node with other addresses may use what it could not, and its own address is another."""
        self.book.learn("x", (("10.0.0.2", OWN[1]), ("10.0.0.3", OWN[1])))
        self.book.moved(("10.0.0.2", "fd77::1"))
        self.assertEqual(self.book.known(), (("10.0.0.3", OWN[1]),))
        self.assertEqual(self.book.learn("y", (("fd77::2", 1),)), (("fd77::2", 1),))

    def test_many_addresses_of_one_origin(self) -> None:
        """Of one origin so many are remembered, those that cannot be hints not counted."""
        book = HintBook(self.clock.seconds, ("10.0.0.1",), 1, max_addresses=3)
        hosts = ["fd77::1", *(f"10.0.1.{number}" for number in range(9))]
        self.assertEqual(len(book.learn("x", [(host, 1) for host in hosts])), 3)
        self.assertEqual(len(book.known()), 3)

    def test_rate(self) -> None:
        """In one second only so many are given; what is dropped is counted and comes with a later offer."""
        given = sum(len(self.book.learn(str(number), (("10.0.1.1", number + 1),))) for number in range(100))
        self.assertEqual((given, self.book.dropped), (HINTS_PER_SECOND, 100 - HINTS_PER_SECOND))
        self.assertEqual(self.book.offer(), ())
        self.clock.advance(1.0)
        self.assertEqual(len(self.book.offer()), HINTS_PER_SECOND)
