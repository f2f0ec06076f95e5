"""A session shares frames, keeps the order of what it was asked, and is bounded."""

from __future__ import annotations

from collections.abc import Sequence

from twisted.trial.unittest import SynchronousTestCase

from groupcomm.errors import (
    MessageTooLarge,
    NotAMember,
    NotConnected,
    OutcomeUnknown,
    QueueFull,
    SendIncomplete,
    UsageError,
)
from groupcomm.events import Left, Level, Message, Reason
from groupcomm.identity import GroupViewId, MemberId, ViewId
from groupcomm.limits import COALESCED_FRAME_BYTES, MAX_MESSAGE_BYTES, SESSION_QUEUE_BYTES
from groupcomm.outputs import FrameDelivered, GroupLeft, GroupViewDelivered, SendAccepted, SessionWritable
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

    def frames(self) -> list[tuple[tuple[str, ...], list[bytes], Level]]:
        """What the engine was given to send."""
        return [(call[2], unpack_messages(call[3]), call[4]) for call in self.engine.named("send")]


class SendTests(SessionTestCase):
    """From a message to a frame."""

    def test_one_turn_one_frame(self) -> None:
        """Messages of one turn to one destination are one frame; the next turn begins another."""
        results = [self.session.send(("g",), data, Level.AGREED) for data in (b"a", b"", b"c")]
        self.assertEqual(self.frames(), [])
        self.bench.clock.turn()
        later = self.session.send(("g",), b"d", Level.AGREED)
        self.bench.clock.turn()
        self.assertEqual(self.frames(), [(("g",), [b"a", b"", b"c"], Level.AGREED), (("g",), [b"d"], Level.AGREED)])
        for result in [*results, later]:
            self.successResultOf(result)

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
        """When datagrams come in the same turn, what was sent leaves with the answer."""
        result = self.session.send(("g",), b"a", Level.AGREED)
        self.bench.transport.sink.burst_ended()
        self.assertEqual([call[0] for call in self.engine.calls], ["send", "burst_ended"])
        self.bench.clock.turn()
        self.successResultOf(result)
        self.assertEqual(len(self.frames()), 1)

    def test_frame_size_limit(self) -> None:
        """A frame of several messages stays within its limit; a larger message has one for itself."""
        half = bytes(COALESCED_FRAME_BYTES // 2 - 4)
        for data in (half, half, b"x", bytes(COALESCED_FRAME_BYTES + 1)):
            self.session.send(("g",), data, Level.FIFO)
        self.bench.clock.turn()
        self.assertEqual([len(messages) for _, messages, _ in self.frames()], [2, 1, 1])
        for call in self.engine.named("send")[:2]:
            self.assertLessEqual(len(call[3]), COALESCED_FRAME_BYTES)

    def test_unreliable_fits_a_packet(self) -> None:
        """Unreliable messages share a frame only as long as it surely fits one packet."""
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
        results = [self.session.send(("g",), data, Level.SAFE, stable=True) for data in (b"a", b"b")]
        self.bench.clock.turn()
        for result in results:
            self.assertNoResult(result)
        self.bench.say(SendAccepted(1, 1, True))
        for result in results:
            self.successResultOf(result)

    def test_cut_short(self) -> None:
        """A stable send that a view change cuts short says so."""
        result = self.session.send(("g",), b"a", Level.SAFE, stable=True)
        self.bench.clock.turn()
        self.bench.say(SendAccepted(1, 1, False))
        self.failureResultOf(result, SendIncomplete)


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
        kinds = [event.data if isinstance(event, Message) else "view" for event in self.handler.events]
        self.assertEqual(kinds, [b"a", b"b", "view", b"c"])

    def test_several_sessions(self) -> None:
        """Each session gets the groups it is in; a session that is gone gets nothing."""
        other = RecordingHandler()
        self.bench.node.open_session("two", other)
        self.bench.say(self.frame([(1, ("g",)), (2, ("g", "h")), (9, ("g",))], b"a"))
        first, second = self.handler.events[0], other.events[0]
        assert isinstance(first, Message) and isinstance(second, Message)
        self.assertEqual((first.groups, second.groups), (("g",), ("g", "h")))

    def test_unreadable_frame(self) -> None:
        """A payload that is no messages is counted and harms nobody."""
        bad = FrameDelivered(((1, ("g",)),), self.session.member, Level.AGREED, b"\x09x", {})
        self.bench.say(bad, self.frame([(1, ("g",))], b"ok"))
        self.assertEqual(len(self.handler.events), 1)
        self.assertEqual(self.bench.node.status().counters["unreadable_frames"], 1)

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


class CloseTests(SessionTestCase):
    """The end of a session."""

    def test_close(self) -> None:
        """What was sent goes first, the groups end with the reason, and nothing works any more."""
        self.enter("g")
        sent = self.session.send(("g",), b"a", Level.AGREED)
        self.successResultOf(self.session.close(Reason.TOO_SLOW))
        self.successResultOf(sent)
        self.assertEqual([call[0] for call in self.engine.calls], ["send", "close_session"])
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
