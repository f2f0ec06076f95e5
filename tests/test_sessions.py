"""A session shares frames, keeps the order of what it was asked, and is bounded."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from groupcomm.batches import MessageBatch
from groupcomm.errors import (
    MessageTooLarge,
    NotAMember,
    NotConnected,
    NotPrimary,
    OutcomeUnknown,
    QueueFull,
    SendIncomplete,
    SendsWait,
    UsageError,
)
from groupcomm.events import Left, Level, Message, Reason
from groupcomm.identity import GroupViewId, MemberId, ViewId
from groupcomm.limits import (
    COALESCED_FRAME_BYTES,
    MAX_FRAME_MESSAGES,
    MAX_MESSAGE_BYTES,
    PAYLOAD_HEAD_BYTES,
    SESSION_QUEUE_BYTES,
)
from groupcomm.outputs import Datagram, FrameDelivered, GroupLeft, GroupViewDelivered, SendAccepted, SessionWritable
from groupcomm.packing import pack_messages, unpack_messages
from tests.node_double import NodeBench, RecordingHandler, view_of


class SessionTestCase(SynchronousTestCase):
    """A session on a recording engine."""

    def setUp(self) -> None:
        self.bench = NodeBench()
        self.bench.node.startService()
        self.engine = self.bench.engine
        self.handler = RecordingHandler()
        self.session = self.bench.node.open_session("app", self.handler)
        self.bench.clock.turn()
        self.engine.calls.clear()

    def enter(self, group: str) -> None:
        """Let the session be a member."""
        joining = self.session.join(group)
        self.bench.clock.turn()
        me = self.session.member
        self.bench.say(GroupViewDelivered((1,), view_of(group, me, joined=(me,))))
        self.successResultOf(joining)
        self.engine.calls.clear()

    def begin_turn(self) -> None:
        """Let something leave, so that what follows in this turn is collected."""
        self.session.send(("first",), b"", Level.RELIABLE)
        self.engine.calls.clear()

    def frames(self) -> list[tuple[tuple[str, ...], list[bytes], Level]]:
        """What the engine was given to send."""
        return [(call[2], unpack_messages(call[3]), call[4]) for call in self.engine.named("send")]


class SendTests(SessionTestCase):
    """From a message to a frame."""

    def test_the_first_of_a_turn_leaves_at_once(self) -> None:
        """The first message of a turn has left when ``send`` returns; its sender is told at the end of the turn."""
        self.engine.datagrams.append(Datagram(b"a", None))
        result = self.session.send(("g",), b"a", Level.AGREED)
        self.assertEqual(self.frames(), [(("g",), [b"a"], Level.AGREED)])
        self.assertEqual(self.bench.transport.sent, [Datagram(b"a", None)])
        self.assertNoResult(result)
        self.bench.clock.turn()
        self.successResultOf(result)
        self.assertEqual(len(self.frames()), 1)

    def test_the_rest_of_a_turn_is_one_frame(self) -> None:
        """Messages behind the first of a turn, to one destination, share a frame; the next turn begins anew."""
        results = [self.session.send(("g",), data, Level.AGREED) for data in (b"a", b"b", b"", b"d")]
        self.assertEqual(self.frames(), [(("g",), [b"a"], Level.AGREED)])
        self.bench.clock.turn()
        self.assertEqual(self.frames()[1:], [(("g",), [b"b", b"", b"d"], Level.AGREED)])
        results.append(self.session.send(("g",), b"e", Level.AGREED))
        self.assertEqual(self.frames()[2:], [(("g",), [b"e"], Level.AGREED)])
        self.bench.clock.turn()
        for result in results:
            self.successResultOf(result)
        self.assertEqual(len(self.frames()), 3)

    def test_one_turn_of_several_sessions(self) -> None:
        """A turn has one first message, whichever session it comes from, and a join leaves at once as well."""
        other = self.bench.node.open_session("two", RecordingHandler())
        self.bench.clock.turn()
        self.engine.calls.clear()
        self.session.send(("g",), b"a", Level.AGREED)
        other.send(("g",), b"b", Level.AGREED)
        self.assertEqual([call[1] for call in self.engine.named("send")], [1])
        self.bench.clock.turn()
        self.assertEqual([call[1] for call in self.engine.named("send")], [1, 2])
        self.session.join("g")
        self.assertEqual(self.engine.named("join"), [("join", 1, "g")])

    def test_nothing_is_called_inside_a_send(self) -> None:
        """What a send causes here, an event of another session even, comes at the end of the turn, not inside it."""
        seen: list[str] = []
        inside = False

        def tell() -> None:
            seen.append("inside" if inside else "later")

        self.enter("g")
        self.handler.reaction = tell
        view = GroupViewId(ViewId(7, self.session.member.node), 1)
        self.engine.outputs.append(
            FrameDelivered(((1, ("g",)),), self.session.member, Level.FIFO, pack_messages([b"a"]), {"g": view})
        )
        inside = True
        sent = self.session.send(("g",), b"a", Level.FIFO)
        sent.addCallback(lambda _: tell())
        many = self.session.send_many(("g",), [b"b", b"c"], Level.FIFO)
        many.addCallback(lambda _: tell())
        inside = False
        self.assertEqual(self.engine.outputs, [])
        self.assertEqual(seen, [])
        self.bench.clock.turn()
        self.assertEqual(seen, ["later"] * 3)

    def test_order_across_destinations(self) -> None:
        """What goes elsewhere, or otherwise, begins a frame of its own: the session's order is kept."""
        for groups, level in (
            (("g",), Level.AGREED),
            (("h",), Level.AGREED),
            (("g",), Level.AGREED),
            (("g",), Level.SAFE),
        ):
            self.session.send(groups, b"x", level)
        self.session.send(("g",), b"x", Level.SAFE, self_discard=True)
        self.session.send(("g",), b"x", Level.SAFE, self_discard=True, stable=True)
        self.session.send_private("bob@n2", b"p", Level.SAFE)
        self.session.send(("g",), b"x", Level.SAFE)
        self.bench.clock.turn()
        sent = self.engine.named("send", "send_private")
        self.assertEqual(len(sent), 8)
        self.assertEqual(sent[6], ("send_private", 1, "bob", "n2", pack_messages([b"p"]), Level.SAFE, False))

    def test_flushed_with_a_burst(self) -> None:
        """When datagrams come in the same turn, what was collected leaves with the answer."""
        self.begin_turn()
        result = self.session.send(("g",), b"a", Level.AGREED)
        self.bench.transport.sink.burst_ended()
        self.assertEqual([call[0] for call in self.engine.calls], ["send", "burst_ended"])
        self.bench.clock.turn()
        self.successResultOf(result)
        self.assertEqual(len(self.frames()), 1)

    def test_a_burst_under_way_collects(self) -> None:
        """While datagrams are being handed in nothing leaves by itself: it goes along with the answer."""
        self.bench.transport.sink.datagram_received(b"d", ("10.0.0.2", 7))
        self.session.send(("g",), b"a", Level.AGREED)
        self.assertEqual(self.frames(), [])
        self.bench.transport.sink.burst_ended()
        self.assertEqual([call[0] for call in self.engine.calls], ["datagram_received", "send", "burst_ended"])

    def test_frame_size_limit(self) -> None:
        """A frame of several messages stays within its limit; a larger message has one for itself."""
        self.begin_turn()
        half = bytes(COALESCED_FRAME_BYTES // 2 - 5)
        for data in (half, half, b"x", bytes(COALESCED_FRAME_BYTES + 1)):
            self.session.send(("g",), data, Level.FIFO)
        self.bench.clock.turn()
        self.assertEqual([len(messages) for _, messages, _ in self.frames()], [2, 1, 1])
        for call in self.engine.named("send")[:2]:
            self.assertLessEqual(len(call[3]), COALESCED_FRAME_BYTES)

    def test_a_full_frame_is_within_the_limit(self) -> None:
        """However the sizes of its messages differ, a frame with its lengths is no larger than the limit."""
        for sizes in (
            [COALESCED_FRAME_BYTES // 2 - 5, COALESCED_FRAME_BYTES // 2 - 4],
            [COALESCED_FRAME_BYTES // 2 - 4, COALESCED_FRAME_BYTES // 2 - 4],
            [COALESCED_FRAME_BYTES // 3 - each for each in (3, 4, 5)],
            [128 + number % 2 for number in range(1000)],
            [number % 2 for number in range(30_000)],
        ):
            self.begin_turn()
            for size in sizes:
                self.session.send(("g",), bytes(size), Level.FIFO)
            self.bench.clock.turn()
            self.session.send_many(("g",), [bytes(size) for size in sizes], Level.FIFO)
            self.bench.clock.turn()
            calls = self.engine.named("send")
            self.assertLessEqual(max(len(call[3]) for call in calls), COALESCED_FRAME_BYTES)
            sent = [len(data) for call in calls for data in unpack_messages(call[3])]
            self.assertEqual(sent, sizes * 2)

    def test_empty_messages_are_bounded_too(self) -> None:
        """Messages without a byte do not fill a frame with more than a receiver reads."""
        self.begin_turn()
        for _ in range(MAX_FRAME_MESSAGES + 2):
            self.session.send(("g",), b"", Level.FIFO)
        self.bench.clock.turn()
        counts = [len(messages) for _, messages, _ in self.frames()]
        self.assertEqual(sum(counts), MAX_FRAME_MESSAGES + 2)
        self.assertLessEqual(max(counts), MAX_FRAME_MESSAGES)

    def test_unreliable_fits_a_packet(self) -> None:
        """Unreliable messages share a frame only as long as it surely fits one packet."""
        self.begin_turn()
        for _ in range(4):
            self.session.send(("g",), bytes(300), Level.UNRELIABLE)
        self.bench.clock.turn()
        self.assertEqual([len(messages) for _, messages, _ in self.frames()], [2, 2])

    def test_refused(self) -> None:
        """What cannot be sent is refused through the Deferred, and nothing is done."""
        for groups, data, error in (
            ((), b"", UsageError),
            (("",), b"", UsageError),
            (("g" * 256,), b"", UsageError),
            (tuple(f"g{number}" for number in range(65)), b"", UsageError),
            (("g",), bytes(MAX_MESSAGE_BYTES + 1), MessageTooLarge),
            (("g",), "text", UsageError),
        ):
            self.failureResultOf(self.session.send(groups, data, Level.FIFO), error)  # type: ignore[arg-type]
        self.failureResultOf(self.session.send_private("bob", b"", Level.FIFO), UsageError)
        self.bench.clock.turn()
        self.assertEqual(self.frames(), [])

    def test_engine_refuses_one_frame(self) -> None:
        """A frame that the engine refuses fails alone."""
        self.engine.refusal = MessageTooLarge("too large for one packet")
        bad = self.session.send(("g",), b"a", Level.UNRELIABLE)
        self.bench.clock.turn()
        self.engine.refusal = None
        good = self.session.send(("g",), b"b", Level.AGREED)
        self.bench.clock.turn()
        self.failureResultOf(bad, MessageTooLarge)
        self.successResultOf(good)

    def test_stable(self) -> None:
        """A stable send fires when its frame is stable, all messages of the frame alike."""
        self.begin_turn()
        results = [self.session.send(("g",), data, Level.SAFE, stable=True) for data in (b"a", b"b")]
        self.bench.clock.turn()
        for result in results:
            self.assertNoResult(result)
        self.bench.say(SendAccepted(1, 2, True))
        for result in results:
            self.successResultOf(result)

    def test_cut_short(self) -> None:
        """A stable send that a view change cuts short says so."""
        result = self.session.send(("g",), b"a", Level.SAFE, stable=True)
        self.bench.clock.turn()
        self.bench.say(SendAccepted(1, 1, False))
        self.failureResultOf(result, SendIncomplete)


class SendManyTests(SessionTestCase):
    """Several messages in one call."""

    def test_one_frame(self) -> None:
        """Messages of one call are one frame, which leaves at once when it is the first of its turn."""
        result = self.session.send_many(("g", "h"), [b"a", b"", b"ccc"], Level.SAFE, self_discard=True)
        self.assertEqual(self.frames(), [(("g", "h"), [b"a", b"", b"ccc"], Level.SAFE)])
        self.assertEqual(self.engine.named("send")[0][5:], (True, False))
        self.assertNoResult(result)
        self.bench.clock.turn()
        self.successResultOf(result)

    def test_as_many_frames_as_needed(self) -> None:
        """What is too much for one frame is several, in order, each within the limit; the result is for all."""
        messages = [bytes([number % 256]) * 1000 for number in range(200)]
        messages[100:100] = [bytes(COALESCED_FRAME_BYTES + 5)]
        result = self.session.send_many(("g",), messages, Level.AGREED)
        self.bench.clock.turn()
        self.successResultOf(result)
        frames = [sent for _, sent, _ in self.frames()]
        self.assertEqual([data for sent in frames for data in sent], messages)
        self.assertEqual(len(frames), 5)
        for call, sent in zip(self.engine.named("send"), frames, strict=True):
            self.assertTrue(len(call[3]) <= COALESCED_FRAME_BYTES or len(sent) == 1)

    def test_unreliable_frames_fit_a_packet(self) -> None:
        """Unreliable messages of one call share frames that surely fit one packet."""
        self.session.send_many(("g",), [bytes(300)] * 5, Level.UNRELIABLE)
        self.assertEqual([len(messages) for _, messages, _ in self.frames()], [2, 2, 1])

    def test_order_with_other_sends(self) -> None:
        """What is sent before and after, one by one or packed, keeps its place."""
        self.begin_turn()
        self.session.send(("g",), b"1", Level.AGREED)
        self.session.send_many(("g",), [b"2", b"3"], Level.AGREED)
        self.session.send(("g",), b"4", Level.AGREED)
        self.session.send(("g",), b"5", Level.AGREED)
        self.session.send_payload(("g",), pack_messages([b"6", b"7"]), Level.AGREED)
        self.session.send(("g",), b"8", Level.AGREED)
        self.session.send_many(("g",), [b"9"], Level.AGREED)
        self.bench.clock.turn()
        self.assertEqual(b"".join(data for _, sent, _ in self.frames() for data in sent), b"123456789")

    def test_nothing(self) -> None:
        """No messages are sent at once, and no frame."""
        self.successResultOf(self.session.send_many(("g",), [], Level.AGREED))
        self.bench.clock.turn()
        self.assertEqual(self.engine.calls, [])

    def test_whatever_is_bytes(self) -> None:
        """Messages may be any kind of bytes; a change of a buffer after the call is not sent."""
        buffer = bytearray(b"one")
        self.begin_turn()
        messages: list[Any] = [buffer, memoryview(b"two"), b"three"]
        self.session.send_many(("g",), messages, Level.AGREED)
        buffer[:] = b"xxx"
        self.bench.clock.turn()
        self.assertEqual(self.frames(), [(("g",), [b"one", b"two", b"three"], Level.AGREED)])

    def test_one_bad_message_and_none_is_sent(self) -> None:
        """If one message or the destination cannot be sent, nothing of the call is."""
        for groups, bad, error in (
            (("g",), "text", UsageError),
            (("g",), None, UsageError),
            (("g",), bytes(MAX_MESSAGE_BYTES + 1), MessageTooLarge),
            (("g",), bytearray(MAX_MESSAGE_BYTES + 1), MessageTooLarge),
            ((), b"", UsageError),
            (("",), b"", UsageError),
        ):
            result = self.session.send_many(groups, [b"good", bad, b"good"], Level.AGREED)  # type: ignore[list-item]
            self.failureResultOf(result, error)
        self.bench.clock.turn()
        self.assertEqual(self.engine.calls, [])
        self.assertEqual(self.session.waiting_bytes, 0)

    def test_too_much(self) -> None:
        """When too much waits already, all of the call is refused and nothing of it waits."""
        self.engine.refusal = QueueFull("full")
        waiting = self.session.send(("g",), bytes(SESSION_QUEUE_BYTES - 10_000), Level.AGREED)
        before = self.session.waiting_bytes
        self.failureResultOf(self.session.send_many(("g",), [bytes(1000)] * 20, Level.AGREED), QueueFull)
        self.assertEqual(self.session.waiting_bytes, before)
        fits = self.session.send_many(("g",), [bytes(1000)] * 5, Level.AGREED)
        self.engine.refusal = None
        self.bench.say(SessionWritable(1))
        self.bench.clock.turn()
        self.successResultOf(waiting)
        self.successResultOf(fits)
        self.assertEqual([len(sent) for _, sent, _ in self.frames()], [1, 5])
        self.assertEqual(self.session.waiting_bytes, 0)

    def test_what_waits_for_the_primary_component(self) -> None:
        """It waits as for room, with all that the session does after it, and goes once, in its order."""
        self.engine.refusal = SendsWait("not primary")
        first = self.session.send(("g",), b"1", Level.AGREED)
        second = self.session.send(("h",), b"2", Level.AGREED)
        self.bench.clock.turn()
        self.assertNoResult(first)
        self.assertNoResult(second)
        self.engine.refusal = None
        self.bench.say(SessionWritable(1))
        self.bench.clock.turn()
        self.successResultOf(first)
        self.successResultOf(second)
        self.assertEqual([(groups, sent) for groups, sent, _ in self.frames()], [(("g",), [b"1"]), (("h",), [b"2"])])

    def test_read_only_groups_refuse(self) -> None:
        """The send fails, and those after it go on."""
        self.engine.refusal = NotPrimary("read-only")
        refused = self.session.send(("g",), b"1", Level.AGREED)
        self.bench.clock.turn()
        self.failureResultOf(refused, NotPrimary)
        self.engine.refusal = None
        accepted = self.session.send(("g",), b"2", Level.AGREED)
        self.bench.clock.turn()
        self.successResultOf(accepted)

    def test_room_is_made_first(self) -> None:
        """What the engine can still take does not count: it is handed over before a call is refused."""
        self.begin_turn()
        first = self.session.send(("g",), bytes(100_000), Level.AGREED)
        second = self.session.send_many(("g",), [bytes(SESSION_QUEUE_BYTES - 50_000)], Level.AGREED)
        self.bench.clock.turn()
        self.successResultOf(first)
        self.successResultOf(second)

    def test_stable(self) -> None:
        """A stable call fires when all its frames are stable."""
        result = self.session.send_many(("g",), [bytes(COALESCED_FRAME_BYTES)] * 2, Level.SAFE, stable=True)
        self.bench.clock.turn()
        self.bench.say(SendAccepted(1, 2, True))
        self.assertNoResult(result)
        self.bench.say(SendAccepted(1, 1, True))
        self.successResultOf(result)

    def test_cut_short(self) -> None:
        """A stable call of which a view change cuts one frame short says so, once the others have ended too."""
        result = self.session.send_many(("g",), [bytes(COALESCED_FRAME_BYTES)] * 2, Level.SAFE, stable=True)
        self.bench.clock.turn()
        self.bench.say(SendAccepted(1, 1, False))
        self.assertNoResult(result)
        self.bench.say(SendAccepted(1, 2, True))
        self.failureResultOf(result, SendIncomplete)

    def test_closed(self) -> None:
        """A session that is over sends nothing."""
        self.session.close()
        self.failureResultOf(self.session.send_many(("g",), [b"a"], Level.AGREED), NotConnected)
        self.failureResultOf(self.session.send_many(("g",), [], Level.AGREED), NotConnected)
        self.failureResultOf(self.session.send_payload(("g",), pack_messages([b"a"]), Level.AGREED), NotConnected)


class SendPayloadTests(SessionTestCase):
    """Messages that come packed."""

    def send(self, *messages: bytes, stable: bool = False) -> Deferred[None]:
        """Send to a group."""
        return self.session.send_payload(("g",), pack_messages(messages), Level.AGREED, stable=stable)

    def test_collected(self) -> None:
        """A payload is a frame as it is; even the first of a turn waits for its end."""
        results = [self.send(b"a", b"b"), self.send(b"c")]
        self.assertEqual(self.frames(), [])
        self.bench.clock.turn()
        self.assertEqual(self.frames(), [(("g",), [b"a", b"b"], Level.AGREED), (("g",), [b"c"], Level.AGREED)])
        for result in results:
            self.successResultOf(result)

    def test_what_follows_leaves_with_it(self) -> None:
        """What a session sends itself behind a payload does not overtake it."""
        self.send(b"a")
        self.session.send(("g",), b"b", Level.AGREED)
        self.session.send(("g",), b"c", Level.AGREED)
        self.bench.clock.turn()
        self.assertEqual([sent for _, sent, _ in self.frames()], [[b"a"], [b"b", b"c"]])

    def test_private(self) -> None:
        """A private payload goes to one member."""
        payload = pack_messages([b"a", b"b"])
        result = self.session.send_payload(("", "bob", "n2"), payload, Level.FIFO)
        self.bench.clock.turn()
        self.successResultOf(result)
        self.assertEqual(
            self.engine.named("send_private"), [("send_private", 1, "bob", "n2", payload, Level.FIFO, False)]
        )

    def test_stable(self) -> None:
        """A stable payload fires when it is stable; its options are the frame's."""
        result = self.send(b"a", stable=True)
        self.bench.clock.turn()
        self.assertNoResult(result)
        self.assertEqual(self.engine.named("send")[0][5:], (False, True))
        self.bench.say(SendAccepted(1, 1, True))
        self.successResultOf(result)

    def test_refused(self) -> None:
        """Groups that are none are refused through the Deferred."""
        for groups in (tuple(f"g{number}" for number in range(65)), ("g" * 256,), ()):
            self.failureResultOf(self.session.send_payload(groups, pack_messages([b"a"]), Level.AGREED), UsageError)
        self.bench.clock.turn()
        self.assertEqual(self.engine.calls, [])

    def test_size(self) -> None:
        """The largest message with its length is sent; what is larger is refused, whatever is in it."""
        self.successResultOf(self.settled(self.send(bytes(MAX_MESSAGE_BYTES))))
        self.engine.calls.clear()
        for groups in (("g",), ("", "bob", "n2")):
            large = bytes(MAX_MESSAGE_BYTES + PAYLOAD_HEAD_BYTES + 1)
            self.failureResultOf(self.session.send_payload(groups, large, Level.AGREED), MessageTooLarge)
        self.assertEqual(self.session.waiting_bytes, 0)
        self.bench.clock.turn()
        self.assertEqual(self.engine.calls, [])

    def settled(self, result: Deferred[None]) -> Deferred[None]:
        """The same at the end of the turn."""
        self.bench.clock.turn()
        return result

    def test_bounded(self) -> None:
        """Payloads wait for room like messages, within the same bound."""
        self.engine.refusal = QueueFull("full")
        large = self.send(bytes(SESSION_QUEUE_BYTES))
        self.failureResultOf(self.send(b"x"), QueueFull)
        self.engine.refusal = None
        self.bench.say(SessionWritable(1))
        self.bench.clock.turn()
        self.successResultOf(large)
        self.assertEqual(self.session.waiting_bytes, 0)


class BackPressureTests(SessionTestCase):
    """When the engine's queue is full."""

    def test_wait_for_room(self) -> None:
        """Sends wait, in order, until the session is writable again."""
        self.engine.refusal = QueueFull("full")
        first = self.session.send(("g",), b"a", Level.AGREED)
        self.bench.clock.turn()
        second = self.session.send(("h",), b"b", Level.AGREED)
        self.bench.clock.turn()
        self.assertNoResult(first)
        self.engine.refusal = None
        self.bench.say(SessionWritable(1))
        self.bench.clock.turn()
        self.successResultOf(first)
        self.successResultOf(second)
        self.assertEqual([groups for groups, _, _ in self.frames()], [("g",), ("h",)])

    def test_go_on_when_frames_have_left(self) -> None:
        """Frames leaving the queue wake the session too."""
        self.engine.refusal = QueueFull("full")
        first = self.session.send(("g",), b"a", Level.AGREED)
        self.bench.clock.turn()
        self.engine.refusal = None
        self.engine.queued = SESSION_QUEUE_BYTES // 2 + 1
        self.bench.say(SendAccepted(1, 77, True))
        self.bench.clock.turn()
        self.assertNoResult(first)
        self.engine.queued -= 1
        self.bench.say(SendAccepted(1, 78, True))
        self.bench.clock.turn()
        self.successResultOf(first)

    def test_bounded(self) -> None:
        """What waits is bounded: more is refused, but one message of any size may always wait."""
        self.engine.refusal = QueueFull("full")
        large = self.session.send(("g",), bytes(MAX_MESSAGE_BYTES), Level.AGREED)
        self.failureResultOf(self.session.send(("g",), b"x", Level.AGREED), QueueFull)
        self.engine.refusal = None
        self.bench.say(SessionWritable(1))
        self.bench.clock.turn()
        self.successResultOf(large)
        self.assertEqual(self.session.waiting_bytes, 0)

    def test_a_busy_turn_is_handed_over_early(self) -> None:
        """A turn that sends more than may wait goes to the engine meanwhile."""
        results = [self.session.send(("g",), bytes(1000), Level.AGREED) for _ in range(2 * SESSION_QUEUE_BYTES // 1000)]
        self.assertLess(self.session.waiting_bytes, SESSION_QUEUE_BYTES)
        self.bench.clock.turn()
        for result in results:
            self.successResultOf(result)

    def test_leave_waits_behind_sends(self) -> None:
        """A leave does not overtake what was sent before."""
        self.enter("g")
        self.engine.refusal = QueueFull("full")
        self.session.send(("g",), b"a", Level.AGREED)
        self.bench.clock.turn()
        self.engine.refusal = None
        self.session.leave("g")
        self.bench.clock.turn()
        self.assertEqual(self.engine.named("leave"), [])
        self.bench.say(SessionWritable(1))
        self.bench.clock.turn()
        self.assertEqual([call[0] for call in self.engine.named("send", "leave")], ["send", "leave"])


class MembershipTests(SessionTestCase):
    """Joining and leaving."""

    def test_join_twice(self) -> None:
        """A group is joined once at a time."""
        self.session.join("g")
        self.failureResultOf(self.session.join("g"), UsageError)
        self.enter("h")
        self.failureResultOf(self.session.join("h"), UsageError)
        self.assertEqual(self.session.groups, ("h",))

    def test_leave_without_join(self) -> None:
        """Leaving what was not joined, or not yet, is refused."""
        self.failureResultOf(self.session.leave("g"), NotAMember)
        self.session.join("g")
        self.failureResultOf(self.session.leave("g"), NotAMember)

    def test_view_comes_before_the_join_fires(self) -> None:
        """When a join fires, its view has been given to the handler."""
        joining = self.session.join("g")
        seen: list[int] = []
        joining.addCallback(lambda _: seen.append(len(self.handler.events)))
        self.bench.clock.turn()
        self.bench.say(GroupViewDelivered((1,), view_of("g", self.session.member)))
        self.assertEqual(seen, [1])

    def test_put_out_while_joining(self) -> None:
        """A join that ends with being put out fails."""
        joining = self.session.join("g")
        self.bench.clock.turn()
        self.bench.say(GroupLeft(1, "g", Reason.EVICTION))
        self.failureResultOf(joining, NotAMember)


class DeliveryTests(SessionTestCase):
    """From what the engine says to events."""

    def frame(self, recipients: Sequence[tuple[int, tuple[str, ...]]], *messages: bytes) -> FrameDelivered:
        """A frame."""
        view = GroupViewId(ViewId(7, self.session.member.node), 1)
        names = {group for _, groups in recipients for group in groups}
        payload = pack_messages(messages)
        return FrameDelivered(
            tuple(recipients), self.session.member, Level.AGREED, payload, dict.fromkeys(sorted(names), view)
        )

    def test_one_batch(self) -> None:
        """Everything that comes at once for a session is one batch, in order."""
        self.bench.say(
            self.frame([(1, ("g",))], b"a", b"b"),
            GroupViewDelivered((1,), view_of("g", self.session.member)),
            self.frame([(1, ("g",))], b"c"),
        )
        self.assertEqual(len(self.handler.batches), 1)
        kinds = [event.messages if isinstance(event, MessageBatch) else "view" for event in self.handler.events]
        self.assertEqual(kinds, [[b"a", b"b"], "view", [b"c"]])

    def test_messages_of_a_frame(self) -> None:
        """The messages of a frame have its sender and level, and the view of the first group they come in."""
        views = {name: GroupViewId(ViewId(7, self.session.member.node), place) for place, name in enumerate("gh", 1)}
        sender = MemberId("bob", self.session.member.node, 4)
        payload = pack_messages([b"a", b"b"])
        self.bench.say(FrameDelivered(((1, ("h", "g")),), sender, Level.SAFE, payload, views))
        self.assertEqual(
            self.messages(), [Message(("h", "g"), sender, Level.SAFE, data, views["h"]) for data in (b"a", b"b")]
        )

    def test_private_messages(self) -> None:
        """Private messages are a batch without groups and view."""
        me = self.session.member
        self.bench.say(FrameDelivered(((1, ()),), me, Level.FIFO, pack_messages([b"a", b"b"]), {}))
        self.assertEqual(self.messages(), [Message((), me, Level.FIFO, data, None) for data in (b"a", b"b")])

    def messages(self) -> list[Message]:
        """The messages of all batches that the handler got."""
        return [message for batch in self.handler.events if isinstance(batch, MessageBatch) for message in batch]

    def test_several_sessions(self) -> None:
        """Each session gets the groups it is in; a session that is gone gets nothing."""
        other = RecordingHandler()
        self.bench.node.open_session("two", other)
        self.bench.say(self.frame([(1, ("g",)), (2, ("g", "h")), (9, ("g",))], b"a"))
        first, second = self.handler.events[0], other.events[0]
        assert isinstance(first, MessageBatch) and isinstance(second, MessageBatch)
        self.assertEqual((first.groups, second.groups), (("g",), ("g", "h")))

    def test_sessions_in_the_same_groups_share(self) -> None:
        """However many sessions a frame is for, its messages are held once for those in the same groups."""
        other = RecordingHandler()
        self.bench.node.open_session("two", other)
        self.bench.say(self.frame([(1, ("g",)), (2, ("g",))], b"a"))
        self.assertIs(self.handler.events[0], other.events[0])

    def test_unreadable_frame(self) -> None:
        """A payload that is no messages is counted, once for all it is for, and harms nobody."""
        other = RecordingHandler()
        self.bench.node.open_session("two", other)
        for payload in (b"", b"\x09x", b"\x01\x01\x05abc", b"\x01\x81\x80\x01\x00"):
            everyone = ((1, ("g",)), (2, ("g", "h")))
            bad = FrameDelivered(everyone, self.session.member, Level.AGREED, payload, {})
            self.bench.say(bad, self.frame([(1, ("g",))], b"ok"))
        self.assertEqual([message.data for message in self.messages()], [b"ok"] * 4)
        self.assertEqual(other.events, [])
        self.assertEqual(self.bench.node.status().counters["unreadable_frames"], 4)

    def test_handler_fails(self) -> None:
        """A handler that raises is logged, and gets the next batch."""

        def fail() -> None:
            raise ValueError("handler")

        self.handler.reaction = fail
        self.bench.say(self.frame([(1, ("g",))], b"a"))
        self.bench.say(self.frame([(1, ("g",))], b"b"))
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 2)
        self.assertEqual(len(self.handler.batches), 2)

    def test_handler_sends(self) -> None:
        """A handler may send and close from within: the engine is never called while it is at work."""
        sent = []

        def react() -> None:
            sent.append(self.session.send(("g",), b"re", Level.CAUSAL))
            if len(sent) == 2:
                self.session.close()

        self.handler.reaction = react
        self.bench.say(self.frame([(1, ("g",))], b"a"))
        self.bench.clock.turn()
        self.handler.reaction = lambda: None if self.session.closed else react()
        self.bench.say(self.frame([(1, ("g",))], b"b"))
        self.bench.clock.turn()
        self.assertEqual(len(self.frames()), 2)
        for result in sent:
            self.successResultOf(result)
        self.assertEqual(self.engine.named("close_session"), [("close_session", 1, Reason.DISCONNECT)])

    def test_what_a_handler_sends_is_one_frame(self) -> None:
        """Messages sent from within a handler are collected, however many; those waiting for them are told."""
        sent: list[Deferred[None]] = []

        def react() -> None:
            self.handler.reaction = None
            sent.append(self.session.send(("g",), b"1", Level.AGREED))
            sent.append(self.session.send(("g",), b"2", Level.AGREED))
            sent.append(self.session.send_many(("g",), [b"3", b"4"], Level.AGREED))
            self.assertEqual(self.frames(), [])

        self.handler.reaction = react
        self.bench.say(self.frame([(1, ("g",))], b"a"))
        self.bench.clock.turn()
        self.assertEqual([data for _, data, _ in self.frames()], [[b"1", b"2"], [b"3", b"4"]])
        for result in sent:
            self.successResultOf(result)

    def test_a_handler_that_answers_each_of_its_own(self) -> None:
        """What a node says because of what a handler sent comes to the handler again, until it sends no more."""
        left = [3]

        def react() -> None:
            if left[0]:
                left[0] -= 1
                self.session.send(("g",), b"again", Level.AGREED)
                self.engine.outputs.append(self.frame([(1, ("g",))], b"again"))

        self.handler.reaction = react
        self.bench.say(self.frame([(1, ("g",))], b"a"))
        self.bench.clock.run_for(1)
        self.assertEqual([message.data for message in self.messages()], [b"a", b"again", b"again", b"again"])
        self.assertEqual([data for _, data, _ in self.frames()], [[b"again"]] * 3)


class CloseTests(SessionTestCase):
    """The end of a session."""

    def test_close(self) -> None:
        """What was sent goes first, the groups end with the reason, and nothing works any more."""
        self.enter("g")
        sent = self.session.send(("g",), b"a", Level.AGREED)
        self.successResultOf(self.session.close(Reason.TOO_SLOW))
        self.successResultOf(sent)
        self.assertEqual([call[0] for call in self.engine.named("send", "close_session")], ["send", "close_session"])
        self.assertEqual(self.handler.events[-1], Left("g", Reason.TOO_SLOW))
        self.assertIsNone(self.handler.ended)
        self.failureResultOf(self.session.send(("g",), b"a", Level.AGREED), NotConnected)
        self.failureResultOf(self.session.join("h"), NotConnected)
        self.failureResultOf(self.session.leave("g"), NotConnected)
        self.successResultOf(self.session.close())
        self.bench.clock.turn()
        self.assertEqual(len(self.engine.named("close_session")), 1)
        self.bench.say(GroupLeft(1, "g", Reason.TOO_SLOW))
        self.assertEqual(self.handler.events.count(Left("g", Reason.TOO_SLOW)), 1)

    def test_nobody_waits_for_ever(self) -> None:
        """Whoever waits is told: sent or not, or unknown."""
        self.enter("g")
        stable = self.session.send(("g",), b"a", Level.SAFE, stable=True)
        self.bench.clock.turn()
        leaving = self.session.leave("g")
        self.bench.clock.turn()
        self.engine.refusal = QueueFull("full")
        waiting = self.session.send(("g",), b"b", Level.AGREED)
        joining = self.session.join("h")
        self.session.close()
        self.failureResultOf(stable, OutcomeUnknown)
        self.failureResultOf(waiting, NotConnected)
        self.failureResultOf(joining, NotConnected)
        self.successResultOf(leaving)

    def test_same_name_again(self) -> None:
        """After a close its client name is free: the next session of it is another member."""
        self.session.close()
        again = self.bench.node.open_session("app", RecordingHandler())
        self.assertEqual(again.member, MemberId("app", self.bench.node.id, 2))
