"""What waits to be sent: fair among sessions, bounded for each."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from groupcomm.limits import SESSION_QUEUE_BYTES
from groupcomm.reliability.outbox import QUANTUM_BYTES, Outbox

KIB = 1024
MIB = 1024 * KIB


def anything(item: str) -> bool:
    """Every item may go."""
    return True


class OutboxTests(SynchronousTestCase):
    """Queues of several sessions."""

    def setUp(self) -> None:
        self.outbox: Outbox[str] = Outbox(32 * MIB)

    def take_all(self, count: int | None = None) -> list[str]:
        taken: list[str] = []
        while count is None or len(taken) < count:
            item = self.outbox.take(anything)
            if item is None:
                break
            taken.append(item[0])
        return taken

    def test_a_session_keeps_its_order(self) -> None:
        """What one session hands over leaves in that order, and then nothing waits."""
        for number in range(5):
            self.outbox.put(1, f"{number}", 70 * KIB)
        self.assertEqual((self.outbox.size_bytes, self.outbox.session_bytes(1)), (350 * KIB, 350 * KIB))
        self.assertTrue(self.outbox)
        self.assertEqual(self.take_all(), ["0", "1", "2", "3", "4"])
        self.assertEqual((self.outbox.size_bytes, self.outbox.session_bytes(1), bool(self.outbox)), (0, 0, False))

    def test_sessions_share_by_bytes(self) -> None:
        """A session with large items and one with small ones get the same bytes over time."""
        for number in range(100):
            self.outbox.put(1, f"large {number}", 32 * KIB)
        for number in range(3000):
            self.outbox.put(2, f"small {number}", KIB)
        sizes = {"large": 0, "small": 0}
        for name in self.take_all(1500):
            sizes[name.split()[0]] += 32 * KIB if name.startswith("large") else KIB
        self.assertLessEqual(abs(sizes["large"] - sizes["small"]), 2 * QUANTUM_BYTES)

    def test_a_busy_session_delays_another_by_a_quantum(self) -> None:
        """However much one session has waiting, another's item leaves after a few quanta at most."""
        for number in range(4000):
            self.outbox.put(1, f"{number}", KIB)
        self.take_all(10)
        self.outbox.put(2, "urgent", 100)
        self.assertIn("urgent", self.take_all(2 * QUANTUM_BYTES // KIB + 1))

    def test_the_nodes_own_items_go_first(self) -> None:
        """Control items leave before all sessions, in their order, and can be the only ones that may leave."""
        self.outbox.put(1, "data", 10)
        self.outbox.put_control("one", 10)
        self.outbox.put_control("two", 10)
        self.assertEqual(self.outbox.take(anything, control_only=True), ("one", 10))
        self.assertEqual(self.outbox.take(anything), ("two", 10))
        self.assertIsNone(self.outbox.take(anything, control_only=True))
        self.assertEqual(self.outbox.take(anything), ("data", 10))

    def test_unwanted_control_items_are_dropped(self) -> None:
        """Control items that have lost their meaning leave the queue, the others stay in order."""
        for item in ("directory", "gone", "directory 2"):
            self.outbox.put_control(item, 10)
        self.outbox.drop_control(lambda item: item.startswith("directory"))
        self.assertEqual(self.take_all(), ["gone"])

    def test_control_items_are_counted(self) -> None:
        """Their bytes are counted from the moment they wait to the moment they leave, or are dropped."""
        self.outbox.put(1, "data", 1000)
        for size, item in enumerate(("directory", "gone", "key"), 1):
            self.outbox.put_control(item, size)
        self.assertEqual(self.outbox.control_bytes, 6)
        self.outbox.drop_control(lambda item: item == "gone")
        self.assertEqual(self.outbox.control_bytes, 4)
        self.outbox.take(anything)
        self.assertEqual(self.outbox.control_bytes, 3)
        self.outbox.put_back(0, "directory", 1)
        self.assertEqual(self.outbox.control_bytes, 4)
        self.take_all()
        self.assertEqual(self.outbox.control_bytes, 0)

    def test_what_was_put_back_is_next(self) -> None:
        """An item taken back leaves first again, also if its session had nothing else."""
        self.outbox.put(1, "a", 10)
        self.outbox.put(2, "b", 10)
        self.outbox.put(2, "c", 10)
        self.assertEqual(self.take_all(3)[:1], ["a"])
        self.outbox.put(2, "c", 10)
        self.outbox.put_back(1, "a", 10)
        self.outbox.put_back(2, "b", 10)
        self.assertEqual(self.outbox.size_bytes, 30)
        self.assertEqual(self.take_all(), ["b", "c", "a"])
        self.outbox.put_control("later", 10)
        self.outbox.put_back(0, "own", 10)
        self.assertEqual(self.take_all(), ["own", "later"])
        self.assertEqual(self.outbox.size_bytes, 0)

    def test_a_session_is_bounded(self) -> None:
        """At its limit a session is refused; one item may exceed the limit; the others are not touched."""
        self.outbox.put(1, "most", SESSION_QUEUE_BYTES - 1)
        self.assertTrue(self.outbox.has_room(1))
        self.outbox.put(1, "one byte", 1)
        self.assertFalse(self.outbox.has_room(1))
        self.assertTrue(self.outbox.has_room(2))

    def test_all_together_are_bounded(self) -> None:
        """When all sessions together reach the limit, each may still have one item, and no more."""
        self.outbox = Outbox(MIB)
        self.outbox.put(1, "full", MIB)
        self.assertTrue(self.outbox.has_room(2))
        self.outbox.put(2, "first", 10)
        self.assertFalse(self.outbox.has_room(2))
        self.assertTrue(self.outbox.has_room(3))

    def test_a_refused_session_is_told_when_there_is_room(self) -> None:
        """It is told once, when its queue has fallen to half of its limit; one that was not refused is not told."""
        quarter = SESSION_QUEUE_BYTES // 4
        for number in range(4):
            self.outbox.put(1, f"{number}", quarter)
            self.outbox.put(2, f"{number}", quarter // 16)
        self.assertFalse(self.outbox.has_room(1))
        self.assertTrue(self.outbox.has_room(2))
        told = []
        for _ in range(8):
            self.take_all(1)
            told.append((self.outbox.session_bytes(1), self.outbox.take_writable()))
        self.assertEqual([bytes_left for bytes_left, sessions in told if sessions], [2 * quarter])
        self.assertEqual([sessions for _, sessions in told if sessions], [[1]])

    def test_items_that_may_not_go_are_passed_over(self) -> None:
        """A session whose next item must wait keeps its order and does not hold up others."""
        self.outbox.put(1, "wait", 10)
        self.outbox.put(1, "behind", 10)
        self.outbox.put(2, "go", 10)
        first = [self.outbox.take(lambda item: item != "wait") for _ in range(2)]
        self.assertIn(("go", 10), first)
        self.assertIsNone(self.outbox.take(lambda item: item != "wait"))
        self.assertEqual(self.take_all(), ["wait", "behind"])

    def test_a_large_item_does_not_wait_for_one_that_may_not_go(self) -> None:
        """However many turns an item needs, one call finds it behind a session that is passed over."""
        self.outbox.put(1, "wait", 10)
        self.outbox.put(2, "large", 900 * KIB)
        self.assertEqual(self.outbox.take(lambda item: item != "wait"), ("large", 900 * KIB))
        self.assertIsNone(self.outbox.take(lambda item: item != "wait"))

    def test_a_session_that_is_over_is_forgotten(self) -> None:
        """Nothing is kept of a session without items; one that still has items keeps them."""
        self.outbox.put(1, "a", 10)
        self.outbox.forget(1)
        self.assertEqual(self.take_all(), ["a"])
        self.outbox.forget(1)
        self.assertEqual(self.outbox.session_bytes(1), 0)
        self.assertTrue(self.outbox.has_room(1))
