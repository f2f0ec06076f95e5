"""The benchmark believes only what came whole, once and in order."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from bench.measure import Record
from bench.memory import growth
from bench.report import tables
from bench.results import Run
from bench.workers.conversation import Flood, Probe, Receive, parse
from bench.workers.stream import Tally, cycle, end_of_flood, probe

RUN, SENDER, SIZE = 3, 1, 64


class TallyTests(SynchronousTestCase):
    """What a receiver of a flood says of it."""

    def setUp(self) -> None:
        self.messages = cycle(RUN, SENDER, SIZE)
        self.tally = Tally(RUN, SIZE, [SENDER])

    def end(self, count: int) -> None:
        """The sender says that there were so many."""
        self.tally.one(end_of_flood(RUN, SENDER, count))

    def test_all_is_well(self) -> None:
        """Messages by the batch and alone, more than once through the cycle, are what was sent."""
        self.tally.batch(self.messages[:100])
        self.tally.one(self.messages[100])
        self.tally.batch(self.messages[101:] + self.messages[:50])
        self.tally.batch([*self.messages[50:60], end_of_flood(RUN, SENDER, len(self.messages) + 60)])
        self.assertEqual(self.tally.wrong, "")
        self.assertTrue(self.tally.complete)
        self.assertEqual(self.tally.received, len(self.messages) + 60)

    def test_a_lost_message_is_seen(self) -> None:
        """A gap, within a batch or between two, is named."""
        for batches in ([self.messages[:5] + self.messages[6:9]], [self.messages[:5], self.messages[6:9]]):
            self.setUp()
            for batch in batches:
                self.tally.batch(batch)
            self.assertNotEqual(self.tally.wrong, "")

    def test_a_second_copy_is_seen(self) -> None:
        """A message that comes twice is named."""
        self.tally.one(self.messages[0])
        self.tally.one(self.messages[0])
        self.assertNotEqual(self.tally.wrong, "")

    def test_two_in_the_wrong_order_are_seen(self) -> None:
        """So is one that comes before its elder."""
        self.tally.batch([self.messages[1], self.messages[0]])
        self.assertNotEqual(self.tally.wrong, "")

    def test_a_changed_byte_is_seen(self) -> None:
        """And one that is not what was sent."""
        self.tally.one(self.messages[0][:-1] + b"?")
        self.assertNotEqual(self.tally.wrong, "")

    def test_a_whole_lost_cycle_is_seen(self) -> None:
        """The end tells how many there were."""
        self.tally.batch(self.messages[:10])
        self.end(10 + len(self.messages))
        self.assertNotEqual(self.tally.wrong, "")

    def test_a_stranger_is_seen(self) -> None:
        """A message of one who was not to send is named."""
        self.tally.batch(cycle(RUN, SENDER + 1, SIZE)[:3])
        self.assertNotEqual(self.tally.wrong, "")

    def test_a_lost_probe_is_seen(self) -> None:
        """Messages that measure latency are numbered too."""
        self.tally = Tally(RUN, 0, [SENDER])
        self.tally.one(probe(RUN, SENDER, 0))
        self.assertEqual(self.tally.wrong, "")
        self.tally.one(probe(RUN, SENDER, 2))
        self.assertNotEqual(self.tally.wrong, "")
        self.assertEqual(len(self.tally.latencies), 2)


class MemoryTests(SynchronousTestCase):
    """Whether memory is flat is told from its samples."""

    def test_filling_does_not_count(self) -> None:
        """What grows in the first fifth of the time only has not grown."""
        self.assertEqual(growth([10 * number for number in range(200)] + [2000] * 800), 0)

    def test_growth_counts(self) -> None:
        """What goes on growing has grown by nearly as much as it gained in the time that counts."""
        self.assertEqual(growth([1000 * number for number in range(1000)]), 720_000)

    def test_a_peak_between_is_none(self) -> None:
        """One sample that stands out says little."""
        samples = [5000] * 1000
        samples[-1] = 5800
        self.assertEqual(growth(samples), 10)

    def test_few_samples(self) -> None:
        """Two are enough to compare."""
        self.assertEqual(growth([1, 1]), 0)


class TableTests(SynchronousTestCase):
    """What is read of a run."""

    def tables(self, *records: Record) -> str:
        """The tables of a run with these measurements."""
        return tables(Run("python -m bench", "today", "abc", "a machine", {"daemon": "groupcomm"}, list(records)))

    def test_fairness(self) -> None:
        """Medians of both flows, and TCP's share in every run; a void run is told and does not count."""
        case = {"link": "into a receiver", "tcp": "cubic", "size": 1024}
        records = [
            Record("fairness", "daemon", case, {"tcp": tcp, "flood": 95 - tcp, "share": tcp / 100})
            for tcp in (30.0, 50.0, 44.0)
        ]
        shown = self.tables(*records, Record("fairness", "daemon", case, {}, "host 2 has ended"))
        self.assertIn("| daemon | into a receiver | cubic | 51 | 44 | 44% (30%, 50%, 44%) |", shown)
        self.assertIn("host 2 has ended", shown)

    def test_flood(self) -> None:
        """A row for each kind of process."""
        shown = self.tables(
            *(
                Record(
                    "flood",
                    "daemon",
                    {"size": 1024, "senders": 4, "seconds": 600.0, "process": process},
                    {"rate": 60_000.0, "cpu": 30.0, "memory": memory, "growth": 0.5},
                )
                for process, memory in (("daemon", 115.0), ("client", 55.0))
            )
        )
        self.assertIn("| daemon | daemon | 600 | 60,000 | 115 | 0.5 |", shown)
        self.assertIn("| daemon | client | 600 | 60,000 | 55 | 0.5 |", shown)

    def test_what_was_not_measured_has_no_table(self) -> None:
        """No empty tables."""
        shown = self.tables(Record("idle", "daemon", {}, {"percent": 0.5, "packets": 1.0}))
        self.assertIn("## Idle", shown)
        self.assertNotIn("TCP", shown)
        self.assertNotIn("Memory", shown)


class CommandTests(SynchronousTestCase):
    """What a worker is told."""

    def test_commands_are_read(self) -> None:
        """Each command has its words."""
        self.assertEqual(parse("receive 3 64 1,2"), Receive(3, 64, (1, 2)))
        self.assertEqual(parse("flood 3 64 0.5"), Flood(3, 64, 0.5))
        self.assertEqual(parse("probe 3 200 2 safe"), Probe(3, 200.0, 2.0, "safe"))

    def test_anything_else_is_refused(self) -> None:
        """A line that is no command is an error."""
        self.assertRaises(ValueError, parse, "flood 3")
