"""Which views are primary: tables of names, votes and memories."""

from __future__ import annotations

from collections.abc import Mapping

from twisted.trial.unittest import SynchronousTestCase

from groupcomm.identity import NodeId, ViewId
from groupcomm.quorum import NO_MEMORY, NO_QUORUM, Filter, Memory, Primary, Quorum, Verdict, Vote, Why, judge
from groupcomm.quorum.votes import MAX_ATTEMPTS


def node(name: str) -> NodeId:
    return NodeId(name, 1)


def verdict(
    quorum: Quorum,
    names: str,
    memories: Mapping[str, Memory] | None = None,
    *,
    leaving: str = "",
    digests: Mapping[str, int] | None = None,
) -> Verdict:
    participants = tuple(node(name) for name in names)
    members = [one for one in participants if one.name not in leaving]
    votes = {
        one: Vote((digests or {}).get(one.name, 1), (memories or {}).get(one.name, NO_MEMORY)) for one in participants
    }
    return judge(quorum, participants, members, votes, participants[0])


def even(chosen: Filter, names: str, tie_breaker: str | None = None) -> Quorum:
    return Quorum(chosen, tuple((name, 1) for name in names), tie_breaker)


class StaticTests(SynchronousTestCase):
    """Majority and weighted: names alone."""

    def table(self, quorum: Quorum, rows: Mapping[str, Why]) -> None:
        for names, why in rows.items():
            found = verdict(quorum, names)
            self.assertEqual((found.why, found.primary), (why, why in (Why.MAJORITY, Why.TIE_BREAKER)), names)

    def test_no_filter(self) -> None:
        """Every component acts."""
        self.assertEqual(verdict(NO_QUORUM, "x"), Verdict(True, Why.NO_FILTER))

    def test_majority(self) -> None:
        """More than half of the quorum nodes; others do not count."""
        rows = {"abc": Why.MAJORITY, "abcd": Why.MAJORITY, "ab": Why.TOO_FEW, "abxyz": Why.TOO_FEW, "x": Why.TOO_FEW}
        self.table(even(Filter.MAJORITY, "abcde"), rows)

    def test_half(self) -> None:
        """Half is not enough, unless the tie-breaker is in it: so never both halves."""
        self.table(even(Filter.MAJORITY, "abcd"), {"ab": Why.TIE, "cd": Why.TIE, "abc": Why.MAJORITY})
        rows = {"ab": Why.TIE, "cd": Why.TIE_BREAKER, "d": Why.TOO_FEW, "abc": Why.MAJORITY}
        self.table(even(Filter.MAJORITY, "abcd", "d"), rows)

    def test_two_nodes(self) -> None:
        """Of two nodes the one that breaks ties goes on alone."""
        self.table(even(Filter.MAJORITY, "ab", "a"), {"a": Why.TIE_BREAKER, "b": Why.TIE, "ab": Why.MAJORITY})

    def test_weighted(self) -> None:
        """Votes are added up."""
        quorum = Quorum(Filter.WEIGHTED, (("a", 3), ("b", 1), ("c", 1), ("d", 1)), "b")
        rows = {"a": Why.TIE, "ab": Why.MAJORITY, "bcd": Why.TIE_BREAKER, "cd": Why.TOO_FEW}
        self.table(quorum, rows)

    def test_who_leaves_does_not_count(self) -> None:
        """It is about who will be there."""
        self.assertFalse(verdict(even(Filter.MAJORITY, "abc"), "ab", leaving="b").primary)

    def test_no_two_disjoint_sets_are_primary(self) -> None:
        """Of all pairs of components, with all tie-breakers, at most one is primary."""
        names = "abcde"
        votes = {"a": 2, "b": 1, "c": 1, "d": 3, "e": 1}
        for breaker in (None, *names):
            quorum = Quorum(Filter.WEIGHTED, tuple(votes.items()), breaker)
            primary = [
                chosen
                for chosen in range(1, 32)
                if verdict(quorum, "".join(name for index, name in enumerate(names) if chosen >> index & 1)).primary
            ]
            self.assertEqual([(one, two) for one in primary for two in primary if not one & two], [])

    def test_other_settings(self) -> None:
        """Nodes with other settings than the proposer's are named, and nothing is primary."""
        found = verdict(even(Filter.MAJORITY, "abc"), "abc", digests={"b": 2, "c": 0})
        self.assertEqual(found, Verdict(False, Why.OTHER_SETTINGS, 0b110))
        self.assertFalse(verdict(NO_QUORUM, "abc", digests={"a": 0, "b": 0, "c": 7}).primary)


class DynamicTests(SynchronousTestCase):
    """Dynamic-linear: what is remembered."""

    def setUp(self) -> None:
        self.quorum = even(Filter.DYNAMIC_LINEAR, "abcde")

    def view(self, number: int, names: str) -> Primary:
        return Primary(ViewId(number, node("a")), self.quorum.map_of(names))

    def remember(self, names: str, last: Primary, *attempts: Primary) -> dict[str, Memory]:
        return {name: Memory(last, attempts, True) for name in names}

    def why(self, names: str, memories: Mapping[str, Memory], leaving: str = "") -> Why:
        found = verdict(self.quorum, names, memories, leaving=leaving)
        self.assertEqual(found.primary, found.why in (Why.MAJORITY, Why.TIE_BREAKER, Why.ALL), names)
        return found.why

    def test_begins_with_all(self) -> None:
        """Where nobody remembers anything, all quorum nodes must come together."""
        self.assertEqual(self.why("abcd", {}), Why.FORGOTTEN)
        self.assertEqual(self.why("abcde", {}), Why.ALL)
        self.assertEqual(self.why("abcdex", {}), Why.ALL)

    def test_majority_of_the_last(self) -> None:
        """What counts is the last primary view, not the list."""
        three = self.remember("abc", self.view(5, "abc"))
        self.assertEqual(self.why("ab", three), Why.MAJORITY)
        self.assertEqual(self.why("c", three), Why.TOO_FEW)
        self.assertEqual(self.why("cde", three), Why.TOO_FEW)

    def test_newest_memory_counts(self) -> None:
        """Who was left behind does not decide."""
        memories = {**self.remember("de", self.view(1, "abcde")), **self.remember("c", self.view(5, "abc"))}
        self.assertEqual(self.why("cde", memories), Why.TOO_FEW)
        self.assertEqual(self.why("bcde", {**memories, **self.remember("b", self.view(5, "abc"))}), Why.MAJORITY)

    def test_ties(self) -> None:
        """Of two halves of the last view that with its lowest name goes on; or with the tie-breaker if it was there."""
        two = self.remember("bd", self.view(5, "bd"))
        self.assertEqual((self.why("b", two), self.why("d", two)), (Why.TIE_BREAKER, Why.TIE))
        self.quorum = even(Filter.DYNAMIC_LINEAR, "abcde", "d")
        self.assertEqual((self.why("b", two), self.why("d", two)), (Why.TIE, Why.TIE_BREAKER))
        self.quorum = even(Filter.DYNAMIC_LINEAR, "abcde", "a")
        self.assertEqual((self.why("b", two), self.why("d", two)), (Why.TIE_BREAKER, Why.TIE))

    def test_leaving_hands_over(self) -> None:
        """Of two nodes either may leave cleanly: it takes part in the change."""
        two = self.remember("ab", self.view(5, "ab"))
        self.assertEqual(self.why("ab", two, leaving="a"), Why.MAJORITY)
        self.assertEqual(self.why("ab", two, leaving="ab"), Why.TOO_FEW)

    def test_install_cut_short(self) -> None:
        """{a, b, c} was primary, {a, b} perhaps: b goes nowhere with c, and a goes on with or without b."""
        before, attempt = self.view(5, "abc"), self.view(6, "ab")
        b, c = Memory(before, (attempt,), True), Memory(before, (), True)
        self.assertEqual(self.why("bc", {"b": b, "c": c}), Why.ATTEMPT)
        self.assertEqual(self.why("a", {"a": Memory(attempt, (), True)}), Why.TIE_BREAKER)
        self.assertEqual(self.why("ac", {"a": Memory(before, (attempt,), True), "c": c}), Why.MAJORITY)
        self.assertEqual(self.why("ab", {"a": Memory(attempt, (), True), "b": b}), Why.MAJORITY)

    def test_void_attempts(self) -> None:
        """An attempt is void if one of its members was never READY, or if all are here and none has installed it."""
        before, attempt = self.view(5, "abcd"), self.view(6, "abc")
        ready, not_ready = Memory(before, (attempt,), True), Memory(before, (), True)
        found = verdict(self.quorum, "cd", {"c": ready, "d": not_ready})
        self.assertEqual((found.why, found.void), (Why.TIE, ()))
        found = verdict(self.quorum, "bcd", {"b": not_ready, "c": ready, "d": not_ready})
        self.assertEqual((found.primary, found.void), (True, (attempt.id,)))
        found = verdict(self.quorum, "abc", dict.fromkeys("abc", ready))
        self.assertEqual((found.primary, found.void), (True, (attempt.id,)))

    def test_who_forgot_says_nothing(self) -> None:
        """It counts for nobody, and it does not make an attempt void."""
        before, attempt = self.view(5, "abc"), self.view(6, "abc")
        self.assertEqual(self.why("ab", self.remember("a", before)), Why.FORGOTTEN)
        ready = Memory(before, (attempt,), True)
        found = verdict(self.quorum, "abc", {"a": ready, "b": ready})
        self.assertEqual((found.primary, found.void), (True, ()))

    def test_attempts_of_who_forgot_still_bind(self) -> None:
        """What it was READY for since it forgot holds others back."""
        before, attempt = self.view(5, "abc"), self.view(6, "abd")
        memories = {**self.remember("bc", before), "d": Memory(None, (attempt,), False)}
        self.assertEqual(self.why("bcd", memories), Why.MAJORITY)
        memories["b"] = Memory(before, (attempt,), True)
        self.assertEqual(self.why("bcd", memories), Why.ATTEMPT)

    def test_bound(self) -> None:
        """A node with as many attempts as it may have takes part in no more; all together it does."""
        before = self.view(5, "abcde")
        attempts = tuple(self.view(10 + number, "abcde") for number in range(MAX_ATTEMPTS))
        full = Memory(before, attempts, True)
        self.assertEqual(self.why("abcd", dict.fromkeys("abcd", full)), Why.TOO_MANY_ATTEMPTS)
        found = verdict(self.quorum, "abcde", dict.fromkeys("abcde", full))
        self.assertEqual((found.why, len(found.void)), (Why.ALL, MAX_ATTEMPTS))
