"""The benchmark believes only what came whole, once and in order."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

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
