"""The corpora once more, without a fuzzer; and the fuzzer's own tools."""

from __future__ import annotations

from random import Random

from twisted.trial.unittest import SynchronousTestCase

from tests.fuzz.corpus_files import worth_keeping
from tests.fuzz.planted import PLANTS
from tests.fuzz.steps import mutate_bytes, mutate_steps, read_steps, write_steps
from tests.fuzz.target import CORPORA, ENTRIES

MAX_CORPUS_BYTES = 1024 * 1024


class ReplayTests(SynchronousTestCase):
    """Every input in the tree, by its target."""

    def replay(self, name: str) -> None:
        entry = ENTRIES[name]
        target, inputs = entry.load(), entry.inputs()
        self.assertGreater(len(inputs), 30)
        for path in inputs:
            try:
                target.check(path.read_bytes())
            except Exception as error:
                error.add_note(f"python -m tests.fuzz.run --replay {name} {path}")
                raise

    def test_packets(self) -> None:
        """Packets of other nodes, right and wrong, are values or malformed."""
        self.replay("packets")

    def test_engine(self) -> None:
        """A member goes on whatever another sends it."""
        self.replay("engine")

    def test_broker(self) -> None:
        """A daemon serves its clients whatever another says to it over Perspective Broker."""
        self.replay("broker")

    def test_channel(self) -> None:
        """A daemon serves its clients whatever another says to it over a data channel."""
        self.replay("channel")

    def test_corpora_are_small(self) -> None:
        """The corpora are those of the targets, and less than a mebibyte together."""
        self.assertEqual({path.name for path in CORPORA.iterdir()}, set(ENTRIES))
        self.assertLess(sum(path.stat().st_size for path in CORPORA.rglob("*") if path.is_file()), MAX_CORPUS_BYTES)


class ToolTests(SynchronousTestCase):
    """What the targets are made with."""

    def test_any_bytes_are_steps(self) -> None:
        """Steps come back as they were written; bytes that are none are read all the same."""
        steps = [(0, b"abc"), (7, b""), (255, bytes(300))]
        self.assertEqual(read_steps(write_steps(steps)), steps)
        self.assertEqual(read_steps(write_steps(steps)[:-100]), [*steps[:2], (255, bytes(200))])
        random = Random(1)
        for _ in range(200):
            read_steps(random.randbytes(random.randrange(50)))

    def test_mutators_change_and_repeat(self) -> None:
        """With the same seed a mutator makes the same input, with others mostly another one."""
        data = write_steps([(0, b"abc"), (1, b"defg")])

        def mutated(seed: int) -> bytes:
            return mutate_steps(
                data, Random(seed), lambda _: (9, b"new"), lambda step, random: (step[0], mutate_bytes(step[1], random))
            )

        self.assertEqual([mutated(seed) for seed in range(50)], [mutated(seed) for seed in range(50)])
        self.assertGreater(len({mutated(seed) for seed in range(50)}), 20)

    def test_seeds_and_what_becomes_of_them(self) -> None:
        """Every target takes its seeds, and what its mutator makes of them."""
        random = Random(2)
        for entry in ENTRIES.values():
            target = entry.load()
            for seed in random.sample(target.seeds(), 10):
                target.check(seed)
                for _ in range(3):
                    seed = target.mutate(seed, random)[: entry.max_bytes]
                target.check(seed)

    def test_what_is_worth_keeping(self) -> None:
        """Of inputs that run through the same lines the smallest is kept."""
        entry = ENTRIES["packets"]
        payload = next(seed for seed in entry.load().seeds() if seed[0] == 4)
        kept, arcs = worth_keeping(entry, [payload, payload[:1], payload + b"\x01", payload + b"\x01\x02"])
        self.assertIn(payload, kept)
        self.assertNotIn(payload + b"\x01\x02", kept)
        self.assertGreater(arcs, 10)

    def test_planted_bugs_stand_in_the_source(self) -> None:
        """The text of each planted bug stands once in the product, and each target has one to find."""
        for plant in PLANTS:
            self.assertNotEqual(plant.bug.apply(plant.bug.path.read_text()), plant.bug.path.read_text())
        self.assertEqual({plant.target for plant in PLANTS}, set(ENTRIES))
