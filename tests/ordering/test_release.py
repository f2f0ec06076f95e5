"""The release rules, one level after the other, and what is delivered when a view ends."""

from __future__ import annotations

from itertools import permutations
from random import Random

from twisted.trial.unittest import SynchronousTestCase

from groupcomm.ordering.frames import Frame
from groupcomm.ordering.release import Release
from tests.ordering.made import AGREED, CAUSAL, FIFO, RELIABLE, SAFE, frame

NOTHING_STABLE = (0, 0, 0)
STAMP = (0, 100)
"""Where the stamps of these tests are said to be: packet 100 of stream 0."""


class ReleaseCase(SynchronousTestCase):
    """A view of three nodes, open."""

    def setUp(self) -> None:
        self.release = Release(3, 0)
        self.release.open = True

    def add(self, *frames: Frame) -> None:
        for each in frames:
            self.release.add(each)

    def place(self, *streams: int) -> None:
        for stream in streams:
            self.release.place(stream, 1, STAMP)

    def take(self, *stable: int) -> list[str]:
        """The names of what is delivered now."""
        taken = [each.body.decode() for each in self.release.take(stable or NOTHING_STABLE)]
        self.release.check_invariants()
        return taken

    def finish(self, *stable: int) -> list[str]:
        """The names of what is delivered at the end; ``--`` is the transitional signal."""
        taken = list(self.release.finish(stable or NOTHING_STABLE))
        self.release.check_invariants()
        return ["--" if each is None else each.body.decode() for each in taken]


class FifoTests(ReleaseCase):
    """RELIABLE and FIFO."""

    def test_fifo_frames_leave_in_their_streams_order(self) -> None:
        """Nothing but the stream's own order matters."""
        self.add(frame(1, 1, FIFO, "a"), frame(0, 1, FIFO, "x"), frame(1, 2, FIFO, "b"))
        self.assertEqual([name for name in self.take() if name != "x"], ["a", "b"])
        self.assertEqual(self.release.delivered, [1, 2, 0])

    def test_nothing_leaves_before_the_view_is_open(self) -> None:
        """Until the directories are complete everything waits, of whatever level."""
        self.release.open = False
        self.add(frame(0, 1, RELIABLE, "r"), frame(0, 2, FIFO, "f"), frame(1, 1, AGREED, "a"))
        self.place(1)
        self.assertEqual(self.take(9, 9, 9), [])
        self.release.open = True
        self.assertEqual(self.take(), ["r", "f", "a"])

    def test_a_view_that_never_opened_ends_without_deliveries(self) -> None:
        """What waited for directories that did not come is delivered by nobody."""
        self.release.open = False
        self.add(frame(0, 1, RELIABLE, "r"), frame(0, 2, FIFO, "f"))
        self.assertEqual(self.finish(9, 9, 9), ["--"])

    def test_fifo_waits_behind_an_agreed_frame_of_its_stream(self) -> None:
        """A FIFO frame does not overtake a frame of a higher level that its node sent before; RELIABLE may."""
        self.add(frame(1, 1, AGREED, "agreed"), frame(1, 2, FIFO, "fifo"), frame(1, 3, RELIABLE, "reliable"))
        self.assertEqual(self.take(), ["reliable"])
        self.place(1)
        self.assertEqual(self.take(), ["agreed", "fifo"])

    def test_frames_wait_for_the_group_change_their_sender_had_seen(self) -> None:
        """A frame sent after a join is not delivered before it, at RELIABLE and FIFO too."""
        self.add(
            frame(1, 1, RELIABLE, "reliable", group_position=1),
            frame(1, 2, FIFO, "fifo", group_position=1),
            frame(2, 1, AGREED, "join"),
        )
        self.assertEqual(self.take(), [])
        self.place(2)
        self.assertEqual(self.take()[0], "join")
        self.assertEqual(self.release.delivered, [0, 1, 1])
        self.assertIsNone(self.release.waiting_from(1))


class CausalTests(ReleaseCase):
    """CAUSAL."""

    def test_an_answer_waits_for_its_question(self) -> None:
        """A causal frame is delivered after what its node had delivered, whichever comes first."""
        self.add(frame(1, 1, CAUSAL, "answer", lamport=2, past=((0, 1),)))
        self.assertEqual(self.take(), [])
        self.add(frame(0, 1, CAUSAL, "question", lamport=1))
        self.assertEqual(self.take(), ["question", "answer"])

    def test_causal_frames_that_do_not_depend_do_not_wait(self) -> None:
        """A causal frame needs no place in the total order and no other stream."""
        self.add(frame(0, 1, AGREED, "unplaced"), frame(1, 1, CAUSAL, "causal"))
        self.assertEqual(self.take(), ["causal"])

    def test_a_causal_frame_waits_for_the_ordered_ones_its_node_had_delivered(self) -> None:
        """Dependence on the total order is a count of it."""
        self.add(frame(2, 1, CAUSAL, "after", ordered=2), frame(0, 1, AGREED, "one"), frame(1, 1, AGREED, "two"))
        self.place(0)
        self.assertEqual(self.take(), ["one"])
        self.place(1)
        self.assertEqual(self.take(), ["two", "after"])

    def test_dependencies_reach_through_others(self) -> None:
        """A chain over three nodes leaves in its order, whatever order the frames come in."""
        chain = [
            frame(0, 1, FIFO, "a"),
            frame(1, 1, CAUSAL, "b", lamport=1, past=((0, 1),)),
            frame(2, 1, CAUSAL, "c", lamport=2, past=((1, 1),)),
        ]
        for order in permutations(chain):
            self.setUp()
            taken = []
            for each in order:
                self.add(each)
                taken += self.take()
            self.assertEqual(taken, ["a", "b", "c"])

    def test_a_frame_that_depends_on_a_stream_that_is_not_there_never_leaves(self) -> None:
        """A dependency on a fourth of three nodes is never met."""
        self.add(frame(0, 1, CAUSAL, "odd", past=((3, 1),)))
        self.assertEqual(self.take(9, 9, 9), [])
        self.assertEqual(self.finish(9, 9, 9), ["--"])

    def test_what_an_own_frame_depends_on_is_named_once(self) -> None:
        """A frame names what was delivered since the node's last, its own stream and the total order excepted."""
        self.add(frame(0, 1, FIFO, "mine"), frame(1, 1, FIFO, "a"), frame(1, 2, FIFO, "b"), frame(2, 1, AGREED, "c"))
        self.place(2)
        self.take()
        self.assertEqual(self.release.past(0), [(1, 2)])
        self.assertEqual(self.release.past(0), [])
        self.add(frame(2, 2, FIFO, "d"))
        self.take()
        self.assertEqual(self.release.past(0), [(2, 2)])

    def test_lamport_times_follow_what_is_delivered(self) -> None:
        """A node's Lamport time is never below that of what it has delivered."""
        self.add(frame(1, 1, CAUSAL, "a", lamport=7), frame(2, 1, CAUSAL, "b", lamport=3))
        self.take()
        self.assertEqual(self.release.lamport, 7)


class AgreedTests(ReleaseCase):
    """AGREED."""

    def test_agreed_frames_leave_in_the_order_of_their_places(self) -> None:
        """Each gets its place and leaves in it, however the frames came."""
        frames = [
            frame(0, 1, AGREED, "x"),
            frame(0, 2, AGREED, "y"),
            frame(1, 1, AGREED, "z"),
            frame(2, 1, AGREED, "w"),
        ]
        self.add(*frames)
        self.assertEqual(self.take(), [])
        self.place(2, 0, 1, 0)
        self.assertEqual(self.take(), ["w", "x", "z", "y"])
        self.assertEqual([each.position for each in frames], [2, 4, 3, 1])
        self.assertEqual((self.release.ordered, self.release.placed), (4, 4))

    def test_a_place_waits_for_its_frame(self) -> None:
        """A frame that has not come holds up all later places, and only those."""
        self.place(1, 0)
        self.add(frame(0, 1, AGREED, "second"), frame(2, 1, FIFO, "other"))
        self.assertEqual(self.take(), ["other"])
        self.add(frame(1, 1, AGREED, "first"))
        self.assertEqual(self.take(), ["first", "second"])

    def test_one_run_places_many(self) -> None:
        """A run gives consecutive places to frames of one stream."""
        self.release.place(1, 3, STAMP)
        self.add(*(frame(1, number, AGREED, f"{number}") for number in (1, 2, 3, 4)))
        self.assertEqual(self.take(), ["1", "2", "3"])

    def test_fifo_frames_between_do_not_count(self) -> None:
        """Only AGREED and SAFE frames take places."""
        self.release.place(1, 2, STAMP)
        self.add(frame(1, 1, AGREED, "1"), frame(1, 2, FIFO, "f"), frame(1, 3, AGREED, "2"))
        self.assertEqual(self.take(), ["1", "f", "2"])
        self.assertEqual(self.release.ordered, 2)

    def test_any_order_of_arrival_gives_the_same_total_order(self) -> None:
        """Over random interleavings of frames and stamps, all deliver the ordered frames alike, and causes first."""
        random = Random(11)
        order = [random.randrange(3) for _ in range(30)]
        results = set()
        for _ in range(20):
            self.setUp()
            waiting = [
                [frame(stream, number + 1, AGREED, f"{stream}-{number}") for number in range(order.count(stream))]
                for stream in range(3)
            ]
            places, taken = list(order), []
            while places or any(waiting):
                if places and random.random() < 0.4:
                    self.place(places.pop(0))
                else:
                    stream = random.choice([stream for stream in range(3) if waiting[stream]] or [3])
                    if stream < 3:
                        self.add(waiting[stream].pop(0))
                taken += self.take()
            results.add(tuple(taken))
        self.assertEqual(len(results), 1)
        self.assertEqual(len(results.pop()), 30)


class SafeTests(ReleaseCase):
    """SAFE."""

    def test_a_safe_frame_waits_until_all_have_it(self) -> None:
        """It leaves when every node has its last packet, and not a packet earlier."""
        self.add(frame(1, 5, SAFE, "safe"))
        self.release.place(1, 1, (0, 3))
        self.assertEqual(self.take(3, 4, 0), [])
        self.assertTrue(self.release.safe_waits)
        self.assertEqual(self.take(3, 5, 0), ["safe"])
        self.assertFalse(self.release.safe_waits)

    def test_a_safe_frame_waits_until_all_have_its_stamp(self) -> None:
        """A place that only some know is no place to be sure of."""
        self.add(frame(1, 5, SAFE, "safe"))
        self.release.place(1, 1, (0, 3))
        self.assertEqual(self.take(2, 5, 0), [])
        self.assertEqual(self.take(3, 5, 0), ["safe"])

    def test_a_safe_frame_waits_until_all_have_what_is_ordered_before(self) -> None:
        """Earlier AGREED frames, and the stamps that placed them, must be everywhere too."""
        self.add(frame(2, 7, AGREED, "agreed"), frame(1, 5, SAFE, "safe"))
        self.release.place(2, 1, (0, 3))
        self.release.place(1, 1, (0, 3))
        self.assertEqual(self.take(3, 5, 6), ["agreed"])
        self.assertEqual(self.take(3, 5, 7), ["safe"])
        self.setUp()
        self.add(frame(2, 7, AGREED, "agreed"), frame(1, 5, SAFE, "safe"))
        self.release.place(2, 1, (2, 8))
        self.release.place(1, 1, (0, 3))
        self.assertEqual(self.take(3, 5, 7), ["agreed"])
        self.assertEqual(self.take(3, 5, 8), ["safe"])

    def test_a_safe_frame_waits_until_all_have_what_it_depends_on(self) -> None:
        """FIFO and causal frames that its node had delivered must be everywhere, also those of an earlier frame."""
        self.add(frame(2, 4, FIFO, "cause"), frame(1, 4, CAUSAL, "between", lamport=1, past=((2, 1),)))
        self.assertEqual(sorted(self.take()), ["between", "cause"])
        self.add(frame(1, 5, SAFE, "safe", lamport=2))
        self.release.place(1, 1, (0, 3))
        self.assertEqual(self.take(3, 5, 3), [])
        self.assertEqual(self.take(3, 5, 4), ["safe"])

    def test_what_is_behind_a_safe_frame_waits_with_it(self) -> None:
        """An AGREED frame does not overtake a SAFE one in the order."""
        self.add(frame(1, 5, SAFE, "safe"), frame(2, 1, AGREED, "agreed"))
        self.release.place(1, 1, (0, 3))
        self.release.place(2, 1, (0, 3))
        self.assertEqual(self.take(2, 5, 1), [])
        self.assertEqual(self.take(3, 5, 0), ["safe", "agreed"])

    def test_stable_frames_need_not_be_remembered(self) -> None:
        """What all have is forgotten, and what depends on it is still judged rightly."""
        self.add(frame(2, 4, FIFO, "old"), frame(2, 6, FIFO, "new"))
        self.take()
        self.release.forget(2, 4)
        self.add(frame(1, 5, SAFE, "safe", past=((2, 2),)))
        self.release.place(1, 1, (0, 3))
        self.assertEqual(self.take(3, 5, 5), [])
        self.assertEqual(self.take(3, 5, 6), ["safe"])


class WaitingTests(ReleaseCase):
    """What is told of frames that wait."""

    def test_the_first_waiting_packet_is_known(self) -> None:
        """Delivered is everything before the first packet of a frame that waits, early ones included."""
        self.assertIsNone(self.release.waiting_from(1))
        self.add(frame(1, 5, AGREED, "a"), frame(1, 6, AGREED, "b"))
        self.assertEqual(self.release.waiting_from(1), 5)
        self.add(frame(1, 3, RELIABLE, "r", group_position=1))
        self.assertEqual(self.release.waiting_from(1), 3)
        self.assertIsNone(self.release.waiting_from(0))


class EndTests(ReleaseCase):
    """The rest of a view, when no more packets can come."""

    def test_the_signal_comes_between(self) -> None:
        """What may be delivered by the rules of the view comes before the signal, the rest after it."""
        self.add(frame(0, 1, FIFO, "f"), frame(1, 1, SAFE, "stable"), frame(1, 2, SAFE, "not stable"))
        self.release.place(1, 2, (0, 2))
        self.assertEqual(self.finish(2, 1, 0), ["f", "stable", "--", "not stable"])

    def test_a_safe_frame_all_are_known_to_have_comes_before_the_signal(self) -> None:
        """The united knowledge of those who go on can make a frame safe for the whole old view."""
        self.add(frame(1, 1, SAFE, "safe"))
        self.release.place(1, 1, (0, 2))
        self.assertEqual(self.take(1, 1, 0), [])
        self.assertEqual(self.finish(2, 1, 0), ["safe", "--"])

    def test_an_empty_end_is_the_signal_alone(self) -> None:
        """With nothing left there is the signal, once."""
        self.assertEqual(self.finish(), ["--"])

    def test_unplaced_frames_follow_by_lamport_time(self) -> None:
        """What the sequencer did not place is ordered by Lamport time, then stream, then number."""
        self.add(
            frame(0, 1, AGREED, "b0", lamport=5),
            frame(0, 2, AGREED, "d0", lamport=9),
            frame(1, 1, AGREED, "a1", lamport=4),
            frame(1, 2, AGREED, "c1", lamport=5),
            frame(2, 1, SAFE, "e2", lamport=9),
        )
        self.assertEqual(self.finish(), ["--", "a1", "b0", "c1", "d0", "e2"])

    def test_placed_frames_go_before_unplaced_ones(self) -> None:
        """Stamps that have come count, whatever the Lamport times say."""
        self.add(frame(0, 1, AGREED, "late", lamport=9), frame(1, 1, AGREED, "early", lamport=1))
        self.place(0)
        self.assertEqual(self.finish(), ["late", "--", "early"])

    def test_the_order_at_the_end_does_not_depend_on_arrival(self) -> None:
        """Survivors with the same frames deliver the same order, whatever order the frames came in."""
        results = set()
        for order in permutations(range(3)):
            self.setUp()
            for stream in order:
                self.add(*(frame(stream, n, AGREED, f"{stream}{n}", lamport=3 * n - stream) for n in (1, 2)))
            results.add(tuple(self.finish()))
        self.assertEqual(len(results), 1)
        self.assertEqual(len(results.pop()), 7)

    def test_a_lost_frame_leaves_a_hole(self) -> None:
        """A place whose frame died with its sender is skipped; what does not depend on it is delivered."""
        self.place(1, 0)
        self.add(frame(0, 1, AGREED, "independent", lamport=1))
        self.assertEqual(self.finish(), ["--", "independent"])

    def test_what_depends_on_a_lost_frame_is_lost_with_it(self) -> None:
        """A frame whose sender had delivered the lost one is delivered by nobody, nor what depends on that."""
        self.place(0, 1)
        self.add(
            frame(2, 1, CAUSAL, "saw it", lamport=2, ordered=1),
            frame(2, 2, FIFO, "behind"),
            frame(0, 1, AGREED, "first"),
            frame(0, 2, AGREED, "saw both", lamport=3, ordered=2),
            frame(0, 3, RELIABLE, "in its group", group_position=2),
            frame(0, 4, RELIABLE, "in an older group", group_position=1),
        )
        self.assertEqual(self.finish(), ["first", "saw it", "behind", "in an older group", "--"])
        self.setUp()
        self.place(1)
        self.add(
            frame(0, 1, AGREED, "saw it", lamport=3, ordered=1),
            frame(0, 2, FIFO, "behind"),
            frame(2, 1, CAUSAL, "further", lamport=4, past=((0, 1),)),
            frame(2, 2, RELIABLE, "in its group", group_position=1),
        )
        self.assertEqual(self.finish(), ["--"])

    def test_frames_behind_a_lost_one_in_its_stream_are_lost(self) -> None:
        """A stream never skips its own frames: what its node sent after the lost frame goes with it."""
        self.place(1, 1)
        self.add(frame(0, 1, AGREED, "fine", lamport=2))
        self.assertEqual(self.finish(), ["--", "fine"])
        self.setUp()
        self.place(1, 2, 1, 2)
        self.add(frame(2, 1, AGREED, "waits", ordered=1), frame(2, 2, AGREED, "too"))
        self.assertEqual(self.finish(), ["--"])

    def test_unplaced_frames_that_cannot_be_delivered_do_not_hold_up_others(self) -> None:
        """Without a lost frame's cause some are dropped; the rest of the order goes on."""
        self.add(
            frame(0, 1, CAUSAL, "depends on nothing here", lamport=1, past=((1, 1),)),
            frame(0, 2, AGREED, "behind it", lamport=2),
            frame(2, 1, AGREED, "free", lamport=3),
        )
        self.assertEqual(self.finish(), ["--", "free"])
