"""Light-weight groups: who is in, what members are told, and when."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from groupcomm.errors import MalformedPacket
from groupcomm.events import Departure, Level, Outside, Reason
from groupcomm.identity import GroupViewId, MemberId, NodeId, ViewId
from groupcomm.membership.groups import Change, ChangeBody, Groups, group_address
from groupcomm.ordering.frames import Frame, FrameType, Outgoing, parse_frames
from groupcomm.outputs import FrameDelivered, GroupLeft, GroupSignalDelivered, GroupViewDelivered, Output
from groupcomm.wire.codec import varint

A, B, C = (NodeId(name, 1) for name in "abc")
FIRST, SECOND = ViewId(1, A), ViewId(2, A)
ANN, BOB, CEL = MemberId("ann", A, 1), MemberId("bob", B, 1), MemberId("cel", C, 1)


def made(frame_type: FrameType, level: Level, body: bytes, *, group_position: int = 0, discard: bool = False) -> Frame:
    """A frame that has come."""
    sent = Outgoing(1, 1, frame_type, level, body, self_discard=discard)
    (frame,) = parse_frames(0, 1, 1, sent.encode(group_position, 1, 0, ()))
    return frame


def addressed(address: bytes) -> bytes:
    """A body with this address and nothing else."""
    return varint(len(address)) + address


class GroupsCase(SynchronousTestCase):
    """The directory of node a in a view of a, b and c."""

    def setUp(self) -> None:
        self.groups = Groups(A)
        self.position = 0
        self.groups.view_installed(FIRST, (A, B, C), (A,), {}, exchange=False)
        self.out()

    def out(self) -> list[Output]:
        out = list(self.groups.out)
        self.groups.out.clear()
        self.groups.check_invariants()
        return out

    def change(self, change: Change, member: MemberId, group: str = "", reason: Reason = Reason.LEAVE) -> list[Output]:
        body = ChangeBody(change, member.session, member.client, group, reason).encode()
        frame = made(FrameType.CHANGE, Level.AGREED, body)
        self.position += 1
        frame.position = self.position
        self.groups.changed(member.node, frame)
        return self.out()

    def join(self, member: MemberId, group: str = "chat") -> list[Output]:
        return self.change(Change.JOIN, member, group)

    def views(self, outputs: list[Output]) -> list[tuple[tuple[int, ...], GroupViewId, tuple[MemberId, ...]]]:
        return [
            (output.sessions, output.view.id, output.view.members)
            for output in outputs
            if isinstance(output, GroupViewDelivered)
        ]

    def send(
        self, sender: MemberId, *groups: str, level: Level = Level.AGREED, seen: int = 0, discard: bool = False
    ) -> list[FrameDelivered]:
        """What is delivered here of a message."""
        body = group_address(sender.session, sender.client, groups) + b"payload"
        self.groups.deliver(sender.node, made(FrameType.GROUP, level, body, group_position=seen, discard=discard))
        return [output for output in self.out() if isinstance(output, FrameDelivered)]


class OutsideTests(GroupsCase):
    """What members ask for outside of the primary component."""

    def wish(self, member: MemberId, outside: Outside, group: str = "chat") -> None:
        body = ChangeBody(Change.JOIN, member.session, member.client, group, Reason.LEAVE, outside).encode()
        self.position += 1
        frame = made(FrameType.CHANGE, Level.AGREED, body)
        frame.position = self.position
        self.groups.changed(member.node, frame)
        self.out()

    def test_the_strictest_holds(self) -> None:
        """Of all members; it goes with whoever asked for it."""
        anne, ben = MemberId("anne", A, 1), MemberId("ben", B, 1)
        self.assertEqual(self.groups.outside("chat"), Outside.GO_ON)
        self.wish(anne, Outside.READ_ONLY)
        self.assertEqual(self.groups.outside("chat"), Outside.READ_ONLY)
        self.wish(ben, Outside.BLOCKED)
        self.assertEqual(self.groups.outside("chat"), Outside.BLOCKED)
        self.assertEqual([group.outside for group in self.groups.status()], [Outside.BLOCKED])
        self.change(Change.LEAVE, ben, "chat")
        self.assertEqual(self.groups.outside("chat"), Outside.READ_ONLY)

    def test_wishes_are_in_the_directory(self) -> None:
        """Own ones in the own table; those of others are what their tables say, whatever was known before."""
        anne, ben = MemberId("anne", A, 1), MemberId("ben", B, 1)
        self.wish(anne, Outside.READ_ONLY, "a")
        self.wish(anne, Outside.GO_ON, "b")
        self.wish(anne, Outside.BLOCKED, "c")
        self.wish(ben, Outside.BLOCKED, "a")
        table = self.groups.own_table()
        other = Groups(B)
        other.view_installed(FIRST, (A, B), (B,), {}, exchange=True)
        other.exchanged({A: table, B: b"\x00"})
        self.assertEqual([other.outside(name) for name in "abc"], [Outside.READ_ONLY, Outside.GO_ON, Outside.BLOCKED])
        self.groups.view_installed(SECOND, (A, B), (A, B), {}, exchange=True)
        self.groups.exchanged({A: table, B: b"\x01\x01\x03ben\x01\x01a"})
        self.assertEqual(self.groups.outside("a"), Outside.READ_ONLY)

    def test_wishes_for_nothing(self) -> None:
        """A wish for a group that its session is not in, and one that is none, break the table: it counts as empty."""
        good = b"\x01\x01\x03ben\x01\x01a"
        for bad in (b"\x01\x01a\x01", b"\x00\x01b\x01", b"\x00\x01a\x03", b"\x00\x01a"):
            self.groups.view_installed(SECOND, (A, B), (A, B), {}, exchange=True)
            self.assertEqual(self.groups.exchanged({A: b"\x00", B: good + bad}), 1, bad)
        self.assertEqual(self.groups.exchanged({A: b"\x00", B: good + b"\x00\x01a\x02"}), 0)
        self.assertEqual(self.groups.outside("a"), Outside.BLOCKED)

    def test_unknown_wish_in_a_join(self) -> None:
        """It is malformed."""
        body = ChangeBody(Change.JOIN, 1, "ben", "chat", Reason.LEAVE, Outside.BLOCKED).encode()
        frame = made(FrameType.CHANGE, Level.AGREED, body[:-1] + b"\x03")
        self.assertRaises(MalformedPacket, self.groups.changed, B, frame)


class ChangeTests(GroupsCase):
    """Joins and leaves inside a view."""

    def test_the_first_event_of_a_member_is_its_view(self) -> None:
        """It names all members, and of those who joined this member alone."""
        self.join(BOB)
        (output,) = self.join(ANN)
        assert isinstance(output, GroupViewDelivered)
        view = output.view
        self.assertEqual((output.sessions, view.group, view.id), ((1,), "chat", GroupViewId(FIRST, 2)))
        self.assertEqual((view.members, view.joined, view.left, view.transitional), ((ANN, BOB), (ANN,), (), (ANN,)))

    def test_members_see_others_join_and_leave(self) -> None:
        """Each change is a view at its place in the order; its reason is told."""
        self.join(ANN)
        (joined,) = self.join(BOB)
        (left,) = self.change(Change.LEAVE, BOB, "chat", Reason.LEAVE)
        assert isinstance(joined, GroupViewDelivered) and isinstance(left, GroupViewDelivered)
        self.assertEqual((joined.view.joined, joined.view.transitional), ((BOB,), (ANN,)))
        self.assertEqual((left.view.id, left.view.members), (GroupViewId(FIRST, 3), (ANN,)))
        self.assertEqual(left.view.left, (Departure(BOB, Reason.LEAVE),))

    def test_nodes_without_members_of_a_group_are_told_nothing(self) -> None:
        """Joins of others in a group without members here are remembered silently."""
        self.assertEqual(self.join(BOB), [])
        self.assertEqual([status.name for status in self.groups.status()], ["chat"])
        self.assertEqual(self.groups.groups_of(BOB), {"chat"})

    def test_the_last_event_is_that_the_member_left(self) -> None:
        """The leaving member is told that it left; those who stay get a view."""
        self.join(ANN)
        self.join(MemberId("amy", A, 2))
        outputs = self.change(Change.LEAVE, ANN, "chat", Reason.LEAVE)
        self.assertEqual(outputs[0], GroupLeft(1, "chat", Reason.LEAVE))
        self.assertEqual([sessions for sessions, _, _ in self.views(outputs)], [(2,)])

    def test_a_disconnected_client_leaves_all_its_groups(self) -> None:
        """In the order of their names, with the reason it was disconnected for; empty groups are gone."""
        for name in ("b", "a", "c"):
            self.join(ANN, name)
        outputs = self.change(Change.DISCONNECT, ANN, reason=Reason.TOO_SLOW)
        self.assertEqual(outputs, [GroupLeft(1, name, Reason.TOO_SLOW) for name in ("a", "b", "c")])
        self.assertEqual((self.groups.status(), self.groups.groups_of(ANN)), ((), set()))

    def test_what_changes_nothing_is_no_view(self) -> None:
        """Joining twice, leaving a group one is not in, and leaving a group that is not there."""
        self.join(ANN)
        self.assertEqual(self.join(ANN), [])
        self.assertEqual(self.change(Change.LEAVE, BOB, "chat"), [])
        self.assertEqual(self.change(Change.LEAVE, BOB, "nothing"), [])
        self.assertEqual(self.change(Change.DISCONNECT, CEL), [])

    def test_two_sessions_of_a_name_are_two_members(self) -> None:
        """A client that comes back is another member."""
        self.join(ANN)
        (output,) = self.views(self.join(MemberId("bob", B, 1)))
        self.assertEqual(len(output[2]), 2)
        (output,) = self.views(self.join(MemberId("bob", B, 2)))
        self.assertEqual(output[2], (ANN, BOB, MemberId("bob", B, 2)))

    def test_unknown_changes_are_malformed(self) -> None:
        """A change of no known kind or reason gives the one typed error, and so does any truncation."""
        body = ChangeBody(Change.JOIN, 1, "ann", "chat", Reason.LEAVE).encode()
        for size in range(len(body)):
            self.assertRaises(MalformedPacket, ChangeBody.decode, body[:size])
        self.assertRaises(MalformedPacket, ChangeBody.decode, body + b"x")
        self.assertRaises(MalformedPacket, ChangeBody.decode, b"\x04" + body[1:])
        self.assertEqual(ChangeBody.decode(body).encode(), body)


class FrameTests(GroupsCase):
    """Who gets a message."""

    def test_members_here_get_it_in_their_view(self) -> None:
        """It names its sender, who need not be a member, and the view it is delivered in."""
        self.join(ANN)
        self.join(BOB)
        (delivered,) = self.send(CEL, "chat")
        self.assertEqual((delivered.recipients, delivered.sender), (((1, ("chat",)),), CEL))
        self.assertEqual(delivered.views, {"chat": GroupViewId(FIRST, 2)})
        self.assertEqual(delivered.payload, b"payload")

    def test_a_message_to_several_groups_comes_once(self) -> None:
        """It names, in the sender's order, the groups that the member is in."""
        self.join(ANN, "x")
        self.join(ANN, "y")
        self.join(MemberId("amy", A, 2), "y")
        (delivered,) = self.send(BOB, "z", "y", "x")
        self.assertEqual(delivered.recipients, ((1, ("y", "x")), (2, ("y",))))
        self.assertEqual(set(delivered.views), {"x", "y"})

    def test_nobody_here_nothing_to_deliver(self) -> None:
        """A group without members on this node, or without any, gives no output."""
        self.join(BOB)
        self.assertEqual(self.send(BOB, "chat", "nothing"), [])

    def test_a_sender_may_discard_its_own(self) -> None:
        """With self-discard the sending session alone does not get it; the bit of another node's frame is no matter."""
        self.join(ANN)
        self.join(MemberId("amy", A, 2))
        (delivered,) = self.send(ANN, "chat", discard=True)
        self.assertEqual(delivered.recipients, ((2, ("chat",)),))
        (delivered,) = self.send(BOB, "chat", discard=True)
        self.assertEqual(delivered.recipients, ((1, ("chat",)), (2, ("chat",))))

    def test_who_joined_later_does_not_get_what_was_sent_before(self) -> None:
        """Below AGREED a frame reaches those who were members when its sender sent it; AGREED has its own place."""
        self.join(ANN)
        self.join(MemberId("amy", A, 2))
        for level in (Level.RELIABLE, Level.FIFO, Level.CAUSAL):
            self.assertEqual(self.send(BOB, "chat", level=level, seen=0), [])
            self.assertEqual([d.recipients for d in self.send(BOB, "chat", level=level, seen=1)], [((1, ("chat",)),)])
            self.assertEqual(len(self.send(BOB, "chat", level=level, seen=2)[0].recipients), 2)
        for level in (Level.AGREED, Level.SAFE, Level.UNRELIABLE):
            self.assertEqual(len(self.send(BOB, "chat", level=level, seen=0)[0].recipients), 2)

    def test_malformed_bodies_are_refused(self) -> None:
        """A body cut inside its address, with too many groups or an empty name gives the one typed error each time."""
        good = group_address(1, "bob", ["chat"])
        for body in (
            *(good[:size] for size in range(len(good))),
            addressed(b"\x01\x03bob\x41" + b"\x01x" * 65),
            addressed(b"\x01\x03bob\x01\x00"),
            addressed(good[1:] + b"x"),
            addressed(good[1:-1]),
            varint(len(good) + 100) + good[1:],
            varint(1 << 60) + good[1:],
        ):
            frame = made(FrameType.GROUP, Level.AGREED, body)
            for _ in range(2):
                self.assertRaises(MalformedPacket, self.groups.deliver, B, frame)
        self.assertEqual(self.out(), [])

    def test_the_longest_address_is_read(self) -> None:
        """64 groups with 4096 bytes of names and the longest client name go through."""
        names = [f"{number:064}" for number in range(64)]
        self.join(ANN, names[-1])
        (delivered,) = self.send(MemberId("b" * 255, B, 1 << 60), *names)
        self.assertEqual(delivered.recipients, ((1, (names[-1],)),))


class OwnFrameTests(GroupsCase):
    """This node's own copy of a frame, which has its address apart."""

    def test_it_is_delivered_as_others_are(self) -> None:
        """The same recipients, sender, payload and views as for what came back from the wire."""
        self.join(ANN)
        self.join(MemberId("amy", A, 2))
        for discard in (False, True):
            sent = Outgoing(
                1,
                1,
                FrameType.GROUP,
                Level.CAUSAL,
                b"payload",
                address=group_address(1, "ann", ["chat"]),
                self_discard=discard,
            )
            (come,) = parse_frames(0, 1, 1, sent.encode(9, 1, 0, ()))
            self.groups.deliver(A, Frame.sent(0, sent, 9, 1, 0, ()))
            own = self.out()
            self.groups.deliver(A, come)
            self.assertEqual(own, self.out())
            self.assertEqual(len(own), 1)
            self.assertEqual(come.body, Frame.sent(0, sent, 9, 1, 0, ()).body)


class RememberedTests(GroupsCase):
    """Who gets what is remembered from one message to the next, until something changes."""

    def setUp(self) -> None:
        super().setUp()
        self.join(ANN)
        self.assertEqual(self.recipients(), [1])

    def recipients(self, level: Level = Level.AGREED, seen: int = 0) -> list[int]:
        """The sessions that get the next message of the same sender to the same groups."""
        return [
            session
            for delivered in self.send(BOB, "chat", "more", level=level, seen=seen)
            for session, _ in delivered.recipients
        ]

    def test_a_join_and_a_leave(self) -> None:
        """Who has joined gets the next message, who has left does not."""
        amy = MemberId("amy", A, 2)
        self.join(amy)
        self.assertEqual(self.recipients(), [1, 2])
        self.change(Change.LEAVE, ANN, "chat")
        self.assertEqual(self.recipients(), [2])
        self.change(Change.DISCONNECT, amy)
        self.assertEqual(self.recipients(), [])
        self.join(ANN, "more")
        self.assertEqual(self.recipients(), [1])

    def test_a_join_elsewhere(self) -> None:
        """A member of another node changes the view that a message is delivered in."""
        self.assertEqual(self.send(BOB, "chat", "more")[0].views, {"chat": GroupViewId(FIRST, 1)})
        self.join(CEL)
        self.assertEqual(self.send(BOB, "chat", "more")[0].views, {"chat": GroupViewId(FIRST, 2)})

    def test_the_time_of_sending(self) -> None:
        """What was sent before a join is kept from who joined, in whatever order such messages come."""
        self.join(MemberId("amy", A, 2))
        for seen, sessions in ((2, [1, 2]), (1, [1]), (2, [1, 2]), (0, []), (1, [1]), (9, [1, 2])):
            self.assertEqual(self.recipients(Level.FIFO, seen), sessions)
        self.assertEqual(self.recipients(Level.AGREED, 0), [1, 2])

    def test_self_discard_and_the_sender(self) -> None:
        """The same address with another option, or from another node, is another matter."""
        self.assertEqual(len(self.send(ANN, "chat")), 1)
        self.assertEqual(self.send(ANN, "chat", discard=True), [])
        self.assertEqual(len(self.send(ANN, "chat")), 1)
        there = MemberId("ann", B, 1)
        frame = made(FrameType.GROUP, Level.AGREED, group_address(1, "ann", ["chat"]), discard=True)
        frame.stream = 1
        self.groups.deliver(B, frame)
        self.assertEqual([each.sender for each in self.out() if isinstance(each, FrameDelivered)], [there])

    def test_the_signal(self) -> None:
        """Between the signal and the next view, who has joined meanwhile gets nothing."""
        self.groups.signal((A, B))
        self.out()
        self.join(MemberId("amy", A, 2))
        self.assertEqual(self.recipients(), [1])

    def test_a_view(self) -> None:
        """With the new view messages are delivered in the group's new view, and senders have other indices."""
        self.join(CEL)
        self.assertEqual(self.send(CEL, "chat")[0].sender.node, C)
        self.groups.signal((A, B))
        self.groups.view_installed(SECOND, (A, B), (A, B), {C: Reason.NODE_FAILURE}, exchange=False)
        self.out()
        (delivered,) = self.send(MemberId("cel", B, 1), "chat")
        self.assertEqual((delivered.sender.node, delivered.views), (B, {"chat": GroupViewId(SECOND, 0)}))

    def test_an_exchange(self) -> None:
        """After an exchange the group views count that follow from it."""
        self.join(CEL)
        self.groups.signal((A, B, C))
        self.groups.view_installed(SECOND, (A, B, C), (A, B, C), {}, exchange=True)
        self.out()
        self.recipients()
        self.groups.exchanged({A: self.groups.own_table(), B: b"\x00", C: b"\x00"})
        self.out()
        self.assertEqual(self.send(BOB, "chat", "more")[0].views, {"chat": GroupViewId(SECOND, 0)})

    def test_many_senders(self) -> None:
        """With more senders than are remembered every message still reaches whom it is for."""
        for number in range(3000):
            sender = MemberId(f"client {number}", B, number + 1)
            (delivered,) = self.send(sender, "chat")
            self.assertEqual((delivered.sender, delivered.recipients), (sender, ((1, ("chat",)),)))
        self.assertLessEqual(len(self.groups._routes), 1024)


class ViewTests(GroupsCase):
    """Groups when the node view changes."""

    def setUp(self) -> None:
        super().setUp()
        for member in (ANN, BOB, CEL):
            self.join(member)
        self.join(ANN, "own")

    def install(
        self, members: tuple[NodeId, ...], together: tuple[NodeId, ...], exchange: bool = False, **gone: Reason
    ) -> list[Output]:
        departed = {NodeId(name, 1): reason for name, reason in gone.items()}
        self.groups.view_installed(SECOND, members, together, departed, exchange=exchange)
        return self.out()

    def test_only_groups_that_lose_members_get_the_signal(self) -> None:
        """A group all of whose members come along is not disturbed."""
        self.groups.signal((A, B))
        self.assertEqual(self.out(), [GroupSignalDelivered((1,), "chat")])
        self.assertEqual(self.views(self.install((A, B), (A, B))), [((1,), GroupViewId(SECOND, 0), (ANN, BOB))])

    def test_members_of_gone_nodes_leave_with_their_nodes_reason(self) -> None:
        """A failed node's members fail, those of a node that is only cut off are parted."""
        self.groups.signal((A,))
        self.out()
        (output,) = self.install((A,), (A,), c=Reason.NODE_FAILURE)
        assert isinstance(output, GroupViewDelivered)
        self.assertEqual(output.view.left, (Departure(BOB, Reason.PARTITION), Departure(CEL, Reason.NODE_FAILURE)))
        self.assertEqual((output.view.joined, output.view.transitional), ((), (ANN,)))

    def test_a_change_that_loses_nobody_is_no_group_view(self) -> None:
        """A newcomer node, without sessions yet, changes no group."""
        self.groups.signal((A, B, C))
        self.assertEqual(self.out(), [])
        self.assertEqual(self.install((A, B, C, NodeId("d", 1)), (A, B, C)), [])

    def test_changes_between_signal_and_view_are_part_of_the_view(self) -> None:
        """A join or leave that is delivered after the signal shows in the one view at the installation."""
        self.groups.signal((A, B))
        self.out()
        dora = MemberId("dora", B, 2)
        self.assertEqual(self.join(dora), [])
        self.assertEqual(self.change(Change.LEAVE, BOB, "chat", Reason.LEAVE), [])
        (output,) = self.install((A, B), (A, B), c=Reason.NODE_FAILURE)
        assert isinstance(output, GroupViewDelivered)
        self.assertEqual((output.view.members, output.view.joined), ((ANN, dora), (dora,)))
        self.assertEqual(output.view.left, (Departure(BOB, Reason.LEAVE), Departure(CEL, Reason.NODE_FAILURE)))

    def test_a_member_that_joins_in_between_gets_messages_from_its_view_on(self) -> None:
        """Before its first view a member gets no messages."""
        self.groups.signal((A, B))
        self.out()
        self.join(MemberId("amy", A, 2))
        (delivered,) = self.send(BOB, "chat")
        self.assertEqual(delivered.recipients, ((1, ("chat",)),))
        sessions = [output[0] for output in self.views(self.install((A, B), (A, B)))]
        self.assertEqual(sessions, [(1,), (2,)])
        (delivered,) = self.send(BOB, "chat")
        self.assertEqual(delivered.recipients, ((1, ("chat",)), (2, ("chat",))))

    def test_positions_begin_anew_with_each_view(self) -> None:
        """A member of the old view counts as one from the beginning of the new one."""
        self.groups.signal((A, B, C))
        self.install((A, B, C), (A, B, C))
        self.assertEqual(self.groups.position, 0)
        self.assertEqual(len(self.send(BOB, "chat", level=Level.FIFO, seen=0)), 1)

    def test_an_exchange_shows_who_is_on_other_nodes(self) -> None:
        """With different pasts, the tables of all decide, and one view follows for each group that changed."""
        other = Groups(NodeId("d", 1))
        other.view_installed(ViewId(1, NodeId("d", 1)), (NodeId("d", 1),), (NodeId("d", 1),), {}, exchange=False)
        dan = MemberId("dan", NodeId("d", 1), 1)
        frame = made(FrameType.CHANGE, Level.AGREED, ChangeBody(Change.JOIN, 1, "dan", "chat", Reason.LEAVE).encode())
        frame.position = 1
        other.changed(dan.node, frame)
        bobs = Groups(B)
        bobs.view_installed(FIRST, (B,), (B,), {}, exchange=False)
        frame = made(FrameType.CHANGE, Level.AGREED, ChangeBody(Change.JOIN, 1, "bob", "chat", Reason.LEAVE).encode())
        frame.position = 1
        bobs.changed(B, frame)
        self.groups.signal((A, B))
        self.out()
        self.assertEqual(self.install((A, B, NodeId("d", 1)), (A, B), exchange=True), [])
        tables = {A: self.groups.own_table(), B: bobs.own_table(), NodeId("d", 1): other.own_table()}
        self.groups.exchanged(tables)
        (output,) = self.out()
        assert isinstance(output, GroupViewDelivered)
        self.assertEqual(output.view.members, (ANN, BOB, dan))
        self.assertEqual((output.view.joined, output.view.transitional), ((dan,), (ANN, BOB)))
        self.assertEqual(output.view.left, (Departure(CEL, Reason.PARTITION),))

    def test_a_table_takes_back_what_its_node_no_longer_says(self) -> None:
        """A node is the authority for its own sessions: what its table does not name has left."""
        self.groups.signal((A, B, C))
        self.install((A, B, C), (A, B, C), exchange=True)
        self.groups.exchanged({A: self.groups.own_table(), B: b"\x00", C: b"\x01\x01\x03cel\x01\x04chat"})
        (output,) = self.out()
        assert isinstance(output, GroupViewDelivered)
        self.assertEqual((output.view.members, output.view.left), ((ANN, CEL), (Departure(BOB, Reason.LEAVE),)))

    def test_who_is_together_counts_over_all_changes_since_the_last_group_view(self) -> None:
        """If a view ends before its exchange is complete, only those who came along in both changes are named."""
        self.groups.signal((A, B))
        self.install((A, B, C), (A, B), exchange=True)
        self.groups.signal((A, C))
        third = ViewId(3, A)
        self.groups.view_installed(third, (A, C), (A, C), {B: Reason.NODE_FAILURE}, exchange=True)
        self.groups.exchanged({A: self.groups.own_table(), C: b"\x01\x01\x03cel\x01\x04chat"})
        views = [output.view for output in self.out() if isinstance(output, GroupViewDelivered)]
        self.assertEqual([(view.members, view.transitional) for view in views], [((ANN, CEL), (ANN,))])

    def test_one_signal_for_one_group_view(self) -> None:
        """If a view ends before its exchange is complete, the next signal is no news: the first still holds."""
        self.groups.signal((A, B))
        self.assertEqual(self.out(), [GroupSignalDelivered((1,), "chat")])
        self.install((A, B, C), (A, B), exchange=True)
        self.groups.signal((A, C))
        self.assertEqual(self.out(), [])
        self.groups.view_installed(ViewId(3, A), (A, C), (A, C), {B: Reason.NODE_FAILURE}, exchange=True)
        self.groups.exchanged({A: self.groups.own_table(), C: b"\x01\x01\x03cel\x01\x04chat"})
        self.assertEqual(len(self.views(self.out())), 1)
        self.groups.signal((A,))
        self.assertEqual(self.out(), [GroupSignalDelivered((1,), "chat")])

    def test_broken_tables_count_as_empty(self) -> None:
        """A table that does not add up is told, and does not keep the group views of the others back."""
        for table in (b"", b"\x01", b"\x00\x00", b"\xff\xff\x7f"):
            self.install((A, B, C), (A, B, C), exchange=True)
            self.assertEqual(self.groups.exchanged({B: table}), 1)
