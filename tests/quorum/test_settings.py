"""What may be configured of quorum."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from groupcomm.errors import UsageError
from groupcomm.quorum import NO_QUORUM, Filter, Quorum, parse_quorum_nodes

ABC = (("a", 1), ("b", 1), ("c", 1))


class QuorumTests(SynchronousTestCase):
    """Settings that are good, and settings that contradict themselves."""

    def test_names_and_maps(self) -> None:
        """Maps are over the sorted names, whatever order they were given in, and others are not in them."""
        quorum = Quorum(Filter.MAJORITY, (("c", 1), ("a", 1), ("b", 1)))
        self.assertEqual(quorum.names, ("a", "b", "c"))
        self.assertEqual(quorum.everybody, 7)
        self.assertEqual(quorum.map_of(["c", "a", "x"]), 5)
        self.assertEqual(quorum.names_in(6), ("b", "c"))

    def test_text_is_what_must_be_alike(self) -> None:
        """Order and witness do not matter; filter, names, votes and tie-breaker do."""
        one = Quorum(Filter.WEIGHTED, (("a", 2), ("b", 1)))
        self.assertEqual(one.text, Quorum(Filter.WEIGHTED, (("b", 1), ("a", 2)), witness=True).text)
        others = (
            Quorum(Filter.WEIGHTED, (("a", 1), ("b", 2))),
            Quorum(Filter.WEIGHTED, (("a", 2), ("c", 1))),
            Quorum(Filter.WEIGHTED, (("a", 2), ("b", 1)), "a"),
            Quorum(Filter.MAJORITY, (("a", 1), ("b", 1))),
            NO_QUORUM,
        )
        self.assertEqual(len({one.text, *(other.text for other in others)}), 1 + len(others))

    def test_contradictions(self) -> None:
        """Each is refused with a text that names what is wrong."""
        for text, arguments in (
            ("mean nothing without", (Filter.NONE, ABC)),
            ("mean nothing without", (Filter.NONE, (), "a")),
            ("mean nothing without", (Filter.NONE, (), None, True)),
            ("needs the names", (Filter.MAJORITY, ())),
            ("'a' is named twice", (Filter.MAJORITY, (*ABC, ("a", 1)))),
            ("'d' has 0 votes", (Filter.WEIGHTED, (*ABC, ("d", 0)))),
            ("'d' has 1000001 votes", (Filter.WEIGHTED, (*ABC, ("d", 1_000_001)))),
            ("say weighted", (Filter.MAJORITY, (*ABC, ("d", 2)))),
            ("say weighted", (Filter.DYNAMIC_LINEAR, (*ABC, ("d", 2)))),
            ("the tie-breaker 'x' is none of the quorum nodes a, b, c", (Filter.MAJORITY, ABC, "x")),
            ("may not contain", (Filter.MAJORITY, (("a@b", 1),))),
        ):
            error = self.assertRaises(UsageError, Quorum, *arguments)
            self.assertIn(text, str(error))

    def test_a_witness_must_count(self) -> None:
        """A witness that is no quorum node would be of no use."""
        quorum = Quorum(Filter.MAJORITY, ABC, witness=True)
        quorum.check_node("b")
        self.assertIn("'w'", str(self.assertRaises(UsageError, quorum.check_node, "w")))
        Quorum(Filter.MAJORITY, ABC).check_node("w")

    def test_parsing(self) -> None:
        """Names with or without votes, in one text or several."""
        self.assertEqual(parse_quorum_nodes(["a,b:3", " c "]), (("a", 1), ("b", 3), ("c", 1)))
        for wrong in ("a:x", "a:-1", ":3", "a:1000000000"):
            self.assertRaises(UsageError, parse_quorum_nodes, [wrong])
