"""Clients that read slowly or not at all, and who else notices."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from groupcomm.daemon import caps
from groupcomm.daemon.delivery import Delivery, DeliveryLimits
from groupcomm.daemon.encoder import REMEMBERED_BYTES, EventEncoder
from groupcomm.daemon.encoding import encode_value
from groupcomm.daemon.vocabulary import plain_event
from groupcomm.events import Level, Message
from groupcomm.identity import GroupViewId, MemberId
from tests.daemon.world import NODE, VIEW, PlainClient, World

SMALL = DeliveryLimits(queue_bytes=40_000, queue_events=400, hard_bytes=80_000, hard_events=800, patience_seconds=1.0)


class DeliveryTests(SynchronousTestCase):
    """The queue of one client."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.batches: list[tuple[list[bytes], Deferred[object]]] = []
        self.too_slow = 0
        self.relaxed = 0
        self.delivery = Delivery(self.clock, self.hand_over, self.count_slow, self.count_relaxed, SMALL)

    def tearDown(self) -> None:
        self.delivery.check_invariants()

    def hand_over(self, batch: list[bytes]) -> Deferred[object]:
        answer: Deferred[object] = Deferred()
        self.batches.append((batch, answer))
        return answer

    def count_slow(self) -> None:
        self.too_slow += 1

    def count_relaxed(self) -> None:
        self.relaxed += 1

    def push(self, count: int, size: int = 10) -> None:
        for _ in range(count):
            self.delivery.push((b"x" * size,))
            self.delivery.check_invariants()

    def acknowledge(self) -> None:
        """Acknowledge the oldest batch."""
        self.batches.pop(0)[1].callback(None)
        self.clock.advance(0)
        self.delivery.check_invariants()

    def test_one_turn_is_one_batch(self) -> None:
        """What comes in one turn leaves together, in its order."""
        for piece in (b"a", b"b", b"c"):
            self.delivery.push((piece,))
        self.assertEqual(self.batches, [])
        self.clock.advance(0)
        self.assertEqual([batch for batch, _ in self.batches], [[b"a", b"b", b"c"]])

    def test_small_batches(self) -> None:
        """Two small batches are unacknowledged; then what comes waits, and leaves together when one is acknowledged."""
        for _ in range(caps.SMALL_BATCHES_IN_FLIGHT + 3):
            self.push(1)
            self.clock.advance(0)
        self.assertEqual(len(self.batches), caps.SMALL_BATCHES_IN_FLIGHT)
        self.acknowledge()
        self.assertEqual([len(batch) for batch, _ in self.batches], [1, 3])

    def test_full_batches(self) -> None:
        """So many full batches are unacknowledged and no more; each acknowledgement lets the next one go."""
        delivery = Delivery(self.clock, self.hand_over, self.count_slow, self.count_relaxed)
        for _ in range((caps.BATCHES_IN_FLIGHT + 2) * caps.BATCH_EVENTS):
            delivery.push((b"x",))
        self.clock.advance(0)
        self.assertEqual(len(self.batches), caps.BATCHES_IN_FLIGHT)
        self.acknowledge()
        self.assertEqual([len(batch) for batch, _ in self.batches], [caps.BATCH_EVENTS] * caps.BATCHES_IN_FLIGHT)

    def test_bounded_bytes_in_flight(self) -> None:
        """A few large pieces are enough in flight."""
        delivery = Delivery(self.clock, self.hand_over, self.count_slow, self.count_relaxed)
        delivery.push(tuple(b"x" * caps.MAX_INLINE_BYTES for _ in range(10)))
        self.clock.advance(0)
        self.assertEqual(len(self.batches), caps.IN_FLIGHT_BYTES // caps.MAX_INLINE_BYTES)
        for _ in range(10):
            self.acknowledge()
        self.assertEqual(delivery.queued_bytes, 0)

    def test_silent_client_is_too_slow(self) -> None:
        """At the limit, and nothing acknowledged for a second: too slow, once, and nothing is kept."""
        self.push(400)
        self.clock.advance(0)
        self.push(100)
        self.assertEqual(self.too_slow, 0, "a burst is no fault of the client's")
        self.clock.advance(0.9)
        self.push(1)
        self.assertEqual(self.too_slow, 0)
        self.clock.advance(0.2)
        self.push(1)
        self.assertEqual(self.too_slow, 1)
        self.push(1000)
        self.assertEqual((self.too_slow, self.delivery.queued_bytes, self.delivery.queued_events), (1, 0, 0))

    def test_reading_client_is_not(self) -> None:
        """At the limit, but acknowledging: it goes on."""
        for _ in range(20):
            self.push(200)
            self.clock.advance(0.5)
            while self.delivery.queued_events > 250:
                self.acknowledge()
        self.assertEqual(self.too_slow, 0)

    def test_hard_limits(self) -> None:
        """At the hard limit nothing helps: in events, and in bytes."""
        self.push(800)
        self.assertEqual(self.too_slow, 0)
        self.push(1)
        self.assertEqual(self.too_slow, 1)
        other = Delivery(self.clock, self.hand_over, self.count_slow, self.count_relaxed, SMALL)
        other.push((b"x" * 80_000,))
        self.assertEqual(self.too_slow, 1, "one large event always fits")
        other.push((b"x",))
        self.assertEqual(self.too_slow, 2)

    def test_time_unread_by_us_does_not_count(self) -> None:
        """While the daemon itself does not read from the client it waits for no acknowledgement."""
        self.push(450)
        self.clock.advance(0)
        self.delivery.set_reading(False)
        self.clock.advance(10)
        self.push(1)
        self.delivery.set_reading(True)
        self.clock.advance(0.9)
        self.push(1)
        self.assertEqual(self.too_slow, 0)
        self.clock.advance(0.2)
        self.push(1)
        self.assertEqual(self.too_slow, 1)

    def test_when_empty(self) -> None:
        """It fires with the last acknowledgement, or when the queue is closed."""
        self.successResultOf(self.delivery.when_empty())
        self.push(1)
        empty = self.delivery.when_empty()
        self.clock.advance(0)
        self.assertNoResult(empty)
        self.acknowledge()
        self.successResultOf(empty)
        self.push(1)
        empty = self.delivery.when_empty()
        self.delivery.close()
        self.successResultOf(empty)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_busy(self) -> None:
        """A client far behind is busy, and it is told when it is not any more."""
        self.push(100)
        self.assertFalse(self.delivery.busy)
        self.push(1)
        self.assertTrue(self.delivery.busy)
        self.clock.advance(0)
        self.acknowledge()
        self.assertEqual((self.delivery.busy, self.relaxed), (False, 1))


class EncoderTests(SynchronousTestCase):
    """Messages are encoded once for all clients."""

    def message(self, data: bytes, client: str = "a") -> Message:
        return Message(("g",), MemberId(client, NODE, 1), Level.AGREED, data, GroupViewId(VIEW, 1))

    def test_runs(self) -> None:
        """Messages that differ in their data alone share an event."""
        events = [self.message(b"1"), self.message(b"2"), self.message(b"3", "b"), self.message(b"4")]
        encoded = list(EventEncoder().encode(events))
        self.assertEqual([each.events for each in encoded], [2, 1, 1])
        self.assertEqual(encoded[1].pieces, (encode_value(plain_event(events[2])),))

    def test_shared(self) -> None:
        """The same data for another client is the same bytes, not equal ones; other data of that size is not."""
        encoder = EventEncoder()
        data = bytes(100_000)
        (first,) = encoder.encode([self.message(data)])
        (second,) = encoder.encode([self.message(data)])
        (third,) = encoder.encode([self.message(bytes(100_000))])
        (fourth,) = encoder.encode([self.message(data, "b")])
        self.assertIs(first.pieces[0], second.pieces[0])
        self.assertIsNot(first.pieces[0], third.pieces[0])
        self.assertNotEqual(first.pieces, fourth.pieces)

    def test_bounded(self) -> None:
        """What is remembered is bounded in bytes, the newest apart."""
        encoder = EventEncoder()
        for _ in range(50):
            list(encoder.encode([self.message(bytes(REMEMBERED_BYTES // 3))]))
        self.assertLessEqual(len(encoder._remembered), 3)
        list(encoder.encode([self.message(bytes(4 * REMEMBERED_BYTES))]))
        self.assertEqual(len(encoder._remembered), 1)
        self.assertEqual(encoder._bytes, sum(each.size for each in encoder._remembered.values()))

    def test_parts(self) -> None:
        """A piece is never larger than Perspective Broker takes."""
        for size in (caps.MAX_INLINE_BYTES, caps.MAX_INLINE_BYTES + 1, 3 * caps.MAX_INLINE_BYTES):
            (encoded,) = EventEncoder().encode([self.message(bytes(size))])
            self.assertEqual(len(encoded.pieces), -(-size // caps.MAX_INLINE_BYTES))
            self.assertLess(max(map(len, encoded.pieces)), 640 * 1024)


class SlowClientTests(SynchronousTestCase):
    """A client that stops reading, among others that do read."""

    def setUp(self) -> None:
        self.world = World(SMALL)

    def tearDown(self) -> None:
        self.assertEqual(self.flushLoggedErrors(), [], "an error was logged")

    def test_client_that_stops_reading(self) -> None:
        """It is put out with the reason ``too slow``; its connection ends; the others get everything."""
        clients = [PlainClient(self.world, name) for name in ("alice", "bob", "slow")]
        for client in clients:
            client.call("join", "chat")
        alice, bob, slow = clients
        slow.transport.deaf = True
        for number in range(1500):
            alice.avatar.callRemote("send", "chat", b"%04d" % number + b"x" * 200)
            self.world.advance(0.01)
        self.assertNotIn("slow", self.world.node.sessions)
        data = [item[:4] for event in bob.kinds("messages") for item in event[4]]
        self.assertEqual(data, [b"%04d" % number for number in range(1500)])
        self.assertEqual(bob.kinds("view")[-1][5], [("slow@n1#7.3", "too slow")])
        self.world.advance(caps.FAREWELL_SECONDS + 1)
        self.assertTrue(slow.transport.lost)
        self.assertEqual(self.world.factory.counters["clients_too_slow"], 1)
        self.assertLess(slow.transport.peer.largest_output, 200_000)
        self.assertEqual(len(self.world.factory.brokers), 2)

    def test_it_is_told(self) -> None:
        """If it reads again in time, the last thing it gets is the reason."""
        alice, slow = PlainClient(self.world, "alice"), PlainClient(self.world, "slow")
        slow.call("join", "chat")
        slow.transport.deaf = True
        while "slow" in self.world.node.sessions:
            alice.avatar.callRemote("send", "chat", b"x" * 1000)
            self.world.advance(0.1)
        slow.transport.deaf = False
        self.world.settle()
        self.assertEqual(slow.events[-1], ("closed", "too slow"))
        self.assertTrue(slow.transport.lost)

    def test_client_that_answers_late(self) -> None:
        """A client that takes its time with each batch is not put out, and gets all."""
        alice, late = PlainClient(self.world, "alice"), PlainClient(self.world, "late")
        late.call("join", "chat")

        def later(batch: list[Any]) -> Deferred[None]:
            done: Deferred[None] = Deferred()
            self.world.clock.callLater(0.3, done.callback, None)
            return done

        late.on_batch = later
        for _ in range(300):
            alice.avatar.callRemote("send", "chat", b"x" * 1000)
            self.world.advance(0.02)
        self.world.advance(10)
        self.assertEqual(len([item for event in late.kinds("messages") for item in event[4]]), 300)

    def test_who_sends_reads(self) -> None:
        """The sends of a client far behind with reading are answered only when it has caught up."""
        alice = PlainClient(self.world, "alice")
        alice.call("join", "chat")
        acknowledgements: list[Deferred[None]] = []

        def withhold(batch: list[Any]) -> Deferred[None]:
            acknowledgements.append(Deferred())
            return acknowledgements[-1]

        alice.on_batch = withhold
        answers = [alice.avatar.callRemote("send", "chat", b"x" * 1000) for _ in range(20)]
        self.world.settle()
        late = alice.avatar.callRemote("send", "chat", b"x")
        self.world.settle()
        self.assertNoResult(late)
        while acknowledgements:
            acknowledgements.pop(0).callback(None)
            self.world.settle()
        self.successResultOf(late)
        for answer in answers:
            self.successResultOf(answer)


class PendingTests(SynchronousTestCase):
    """Clients that send faster than the node accepts."""

    def setUp(self) -> None:
        self.world = World()
        self.alice = PlainClient(self.world, "alice")
        self.session = self.world.node.sessions["alice"]

    def test_not_read_beyond_the_cap(self) -> None:
        """Whoever does not wait for answers is not read from; when the node accepts again, all goes on, in order."""
        self.session.hold = True
        block = b"x" * 100_000
        answers = [self.alice.avatar.callRemote("send", "chat", b"%03d" % number + block) for number in range(100)]
        self.world.settle()
        self.assertFalse(self.alice.transport.peer.reading)
        self.assertLessEqual(sum(len(sent[1]) for sent in self.session.sent), caps.MAX_PENDING_BYTES)
        for _ in range(100):
            self.session.release()
            self.world.settle()
        for answer in answers:
            self.successResultOf(answer)
        self.assertEqual([sent[1][:3] for sent in self.session.sent], [b"%03d" % number for number in range(100)])
        self.assertTrue(self.alice.transport.peer.reading)

    def test_many_small_ones(self) -> None:
        """The same in calls."""
        self.session.hold = True
        for _ in range(3 * caps.MAX_PENDING_CALLS):
            self.alice.avatar.callRemote("send", "chat", b"")
        self.world.settle()
        self.assertFalse(self.alice.transport.peer.reading)
        self.assertLess(len(self.session.sent), 2 * caps.MAX_PENDING_CALLS)
        self.session.release()
        self.world.settle()
        self.assertEqual(len(self.session.sent), 3 * caps.MAX_PENDING_CALLS)

    def test_connection_lost_meanwhile(self) -> None:
        """A connection that is lost while calls wait leaves nothing behind."""
        self.session.hold = True
        for _ in range(50):
            self.alice.avatar.callRemote("send", "chat", b"x" * 100_000).addErrback(lambda _: None)
        self.world.settle()
        self.alice.transport.peer.lose()
        self.alice.transport.lose()
        self.session.release()
        self.world.settle()
        self.assertEqual((self.world.node.sessions, self.world.clock.getDelayedCalls()), ({}, []))

    def test_uploads(self) -> None:
        """Messages in parts: two at a time, sizes held, dropped after 30 s without a part, gone with the session."""
        first = self.alice.call("begin", 1000)
        self.alice.call("begin", 1000)
        self.assertEqual(self.alice.refused("begin", 1000)[0], "LimitReached")
        self.alice.call("part", first, b"x" * 999)
        self.assertEqual(self.alice.refused("commit", first, "chat")[0], "BadArgument")
        self.alice.call("part", first, b"x")
        self.alice.call("commit", first, "chat")
        third = self.alice.call("begin", 1000)
        self.alice.call("part", third, b"x" * 1000)
        self.assertEqual(self.alice.refused("part", third, b"x")[0], "BadArgument")
        self.assertEqual(self.alice.refused("commit", third, "chat")[0], "BadArgument")
        self.world.advance(caps.UPLOAD_SECONDS + 1)
        self.assertEqual(self.world.realm.upload_budget.reserved_bytes, 0)
        self.alice.call("begin", 1000)
        self.alice.transport.loseConnection()
        self.world.settle()
        self.assertEqual(self.world.realm.upload_budget.reserved_bytes, 0)

    def test_uploads_of_many_clients(self) -> None:
        """Announced bytes of all clients are bounded: who comes later waits for its number."""
        size = caps.MAX_UPLOAD_TOTAL_BYTES // 8
        clients = [PlainClient(self.world, f"c{number}") for number in range(5)]
        numbers = [client.avatar.callRemote("begin", size) for client in clients for _ in range(2)]
        self.world.settle()
        self.assertEqual([number.called for number in numbers], [True] * 8 + [False] * 2)
        clients[0].transport.loseConnection()
        self.world.settle()
        self.assertEqual(self.world.result(numbers[8]), 1)
        clients[4].transport.loseConnection()
        clients[1].transport.loseConnection()
        self.world.settle()
        self.assertLess(self.world.realm.upload_budget.reserved_bytes, 5 * size)
        for number in numbers:
            number.addErrback(lambda _: None)
