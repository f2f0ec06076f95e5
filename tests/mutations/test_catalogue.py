"""The catalogue of seeded bugs fits the product, and what tries them can tell a bug from none."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.mutations.catalogue import HARMLESS, HARNESS_ONLY, MUTATIONS, NEVER_FIRST, PROPERTIES
from tests.mutations.mutation import CatalogueOutOfDate, Mutation
from tests.mutations.run import Result, firsts, known_seeds, part_of, report, try_mutation

LEAST_MUTATIONS = 40
MOST_PER_FILE = 4


class CatalogueTests(SynchronousTestCase):
    def test_every_mutation_fits_the_source(self) -> None:
        """Each text that is changed stands exactly once in the product, and the result is a program."""
        for mutation in (*MUTATIONS, HARMLESS):
            source = mutation.path.read_text()
            mutated = mutation.apply(source)
            self.assertNotEqual(mutated, source, mutation.name)
            compile(mutated, mutation.file, "exec", dont_inherit=True)

    def test_there_are_enough_in_enough_places(self) -> None:
        """At least forty, at most four in one file, each with a name of its own."""
        self.assertGreaterEqual(len(MUTATIONS), LEAST_MUTATIONS)
        self.assertEqual(len({mutation.name for mutation in MUTATIONS}), len(MUTATIONS))
        crowded = {
            name: count for name, count in Counter(one.file for one in MUTATIONS).items() if count > MOST_PER_FILE
        }
        self.assertEqual(crowded, {})

    def test_every_property_is_expected_to_catch_one(self) -> None:
        """For each property that a product can break there is a bug that breaks it."""
        expected = {name for mutation in MUTATIONS for name in mutation.expected}
        self.assertEqual(expected, set(PROPERTIES))
        self.assertEqual(set(PROPERTIES) & set(HARNESS_ONLY), set())
        self.assertLessEqual(set(NEVER_FIRST), set(PROPERTIES))

    def test_out_of_date_text_is_an_error(self) -> None:
        """A text that is gone, or stands twice, is not passed over."""
        for source in ("nothing", "a bug or a bug"):
            mutation = Mutation("stale", "None.", "engine.py", (("a bug", "a feature"),), ())
            error = self.assertRaises(CatalogueOutOfDate, mutation.apply, source)
            self.assertIn("stale", str(error))


class RunnerTests(SynchronousTestCase):
    def test_bugs_are_caught(self) -> None:
        """Two bugs, each found by an ordinary run of the campaign, and named with the property that they break."""
        for name in ("repair-made-anew", "discard-flag-lost"):
            mutation = next(one for one in MUTATIONS if one.name == name)
            result = try_mutation(mutation, 30, [known_seeds()[name]])
            self.assertIn(result.caught_by, mutation.expected, str(result))
            self.assertIn(f"caught     {name}", str(result))
            self.assertNotIn("NOT", str(result))

    def test_change_without_a_bug_is_not_caught(self) -> None:
        """What breaks nothing is said to be not caught."""
        result = try_mutation(HARMLESS, 3)
        self.assertIsNone(result.caught_by)
        self.assertEqual(result.seeds, 3)
        self.assertIn("NOT CAUGHT", str(result))

    def test_out_of_date_mutation_is_not_caught(self) -> None:
        """A mutation that does not fit the source any more is red, with the text that is missing."""
        result = try_mutation(Mutation("stale", "None.", "engine.py", (("no such text", ""),), ()), 1)
        self.assertIsNone(result.caught_by)
        self.assertIn("no such text", str(result))

    def test_parts_cover_everything_once(self) -> None:
        """The parts are disjoint and together all; a commit id stands for one of them."""
        parts = [part_of(MUTATIONS, f"{number}/5") for number in range(5)]
        self.assertEqual(sorted(one.name for part in parts for one in part), sorted(one.name for one in MUTATIONS))
        self.assertEqual(part_of(MUTATIONS, "65f24ac0/5"), part_of(MUTATIONS, f"{0x65F24AC0 % 5}/5"))

    def test_report_names_what_was_not_caught(self) -> None:
        """The tables name each mutation with its property, and each property that caught nothing first."""
        caught, missed = MUTATIONS[:2]
        results = [Result(caught, PROPERTIES[0], seed="7", seeds=7), Result(missed, problem="no seed fails")]
        self.assertEqual(firsts(results)[PROPERTIES[0]], results[:1])
        text = report(results)
        self.assertIn(f"| `{caught.name}` ({caught.file}) | {caught.bug} | {PROPERTIES[0]} |", text)
        self.assertIn(f"| `{missed.name}` ({missed.file}) | {missed.bug} | **not caught** |", text)
        self.assertIn(f"| {PROPERTIES[1]} | **none** |", text)
        for name, why in NEVER_FIRST.items():
            self.assertIn(f"| {name} | none: {why} |", text)

    def test_nothing_is_written_to_the_product(self) -> None:
        """Trying a mutation leaves its file as it is."""
        mutation = MUTATIONS[0]
        before = Path(mutation.path).read_bytes()
        try_mutation(mutation, 1)
        self.assertEqual(mutation.path.read_bytes(), before)
