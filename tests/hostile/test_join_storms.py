"""Join storms: newcomers and candidates by the thousand, and group changes of one insider without end."""

from __future__ import annotations

from attrs import evolve

from groupcomm.events import Level, Reason
from groupcomm.identity import NodeId, ViewId
from groupcomm.limits import MAX_STRANGERS
from groupcomm.membership import groups
from groupcomm.membership.groups import Change, ChangeBody, Groups
from groupcomm.ordering.frames import FrameType, Outgoing
from groupcomm.wire.codec import Writer
from tests.hostile.attacker import STRANGER, HostileCase, beacon_of, join_of, message_packets


class NewcomerTests(HostileCase):
    """Nodes that never were ask to be let in."""

    def test_beacons_of_newcomers(self) -> None:
        """Four hundred newcomers a second that are none: messages flow on, and changes have their least distance."""
        installed = self.counter(self.nodes[0], "views_installed")
        begun = self.cluster.now
        for turn in range(100):
            for number in range(20):
                for data in message_packets(beacon_of(NodeId(f"ghost{turn}-{number}", 1)), number=number):
                    self.attacker.send(data)
            self.clients[0].send("chat", b"%d" % turn)
            self.cluster.run(0.05)
        changes = self.counter(self.nodes[0], "views_installed") - installed
        self.assertLess(changes, (self.cluster.now - begun) / self.config.timing.between + 1)
        self.cluster.run(1.0)
        self.assertEqual([len(client.messages("chat")) for client in self.clients], [100] * 3)
        self.cluster.run(10.0)
        self.assert_goes_on(new_view=True)

    def test_joins_with_as_many_names_as_fit(self) -> None:
        """JOINs of five hundred candidates, each a later attempt: no view is formed of them; messages flow on."""
        for turn in range(100):
            ghosts = [NodeId(f"{number:03}" + "x" * 60, turn) for number in range(500)]
            join = join_of(NodeId(f"g{turn}", 1), [*self.identities, *ghosts], attempt=turn + 10)
            for data in message_packets(join, number=turn, size=65_000):
                self.attacker.send(data)
            self.clients[0].send("chat", b"%d" % turn)
            self.cluster.run(0.05)
        for node in self.nodes:
            self.assert_bounded(node)
            gather = self.membership(node)._gather
            self.assertLessEqual(0 if gather is None else len(gather.candidates), self.config.max_nodes)
        self.cluster.run(1.0)
        self.assertEqual([len(client.messages("chat")) for client in self.clients], [100] * 3)
        self.cluster.run(20.0)
        self.assert_goes_on(new_view=True)

    def test_joins_that_gave_our_view_up(self) -> None:
        """Strangers by the thousand that say to have given our view up are no members of it, and not remembered."""
        view = self.views()[0]
        assert view is not None
        packets = []
        for number in range(3 * MAX_STRANGERS):
            join = evolve(join_of(NodeId(f"g{number}", 1), ()), abandoned=(view,))
            packets += message_packets(join, number=number)
        work = self.feed(self.nodes[0], packets)
        self.assertLess(work.calls / len(packets), 150)
        self.assertEqual(len(self.membership(self.nodes[0])._absent), 0)
        self.assert_goes_on()

    def test_work_of_strangers(self) -> None:
        """However many strangers are known, one more costs as much as the first."""
        packets = [
            data
            for number in range(4 * MAX_STRANGERS)
            for data in message_packets(beacon_of(NodeId(f"ghost{number}", 1), ViewId(1, NodeId("g", 1)), 500))
        ]
        first = self.feed(self.nodes[0], packets[: MAX_STRANGERS // 2])
        self.feed(self.nodes[0], packets[MAX_STRANGERS // 2 : -MAX_STRANGERS // 2])
        last = self.feed(self.nodes[0], packets[-MAX_STRANGERS // 2 :])
        self.assertLess(last.calls, 2 * first.calls)
        self.assert_goes_on()

    def test_the_same_name_twice(self) -> None:
        """A second node of a name stops, the one in the view stays; of two strangers of one name nobody suffers."""
        twin = self.cluster.add_node("b-twin")
        twin.crash()
        for incarnation in range(1, 50):
            for data in message_packets(beacon_of(NodeId("b", incarnation)), number=incarnation):
                self.attacker.send(data)
                self.attacker.send(data, self.nodes[1], source=self.nodes[0].address)
            self.cluster.run(0.01)
        self.assertIsNone(self.nodes[1].stopped)
        self.cluster.run(5.0)
        self.assert_goes_on(new_view=True)

    def test_a_members_address(self) -> None:
        """A stranger that sends from a member's address, or a member's beacon from elsewhere, takes nothing from it."""
        peers = self.membership(self.nodes[0]).peers
        member, address = self.nodes[1].identity, self.nodes[1].address
        for data in message_packets(beacon_of(NodeId("ghost", 1))):
            self.attacker.send(data, self.nodes[0], source=address)
        for data in message_packets(beacon_of(member, self.views()[0], 3)):
            self.attacker.send(data, self.nodes[0], source=STRANGER)
        self.cluster.run(0.01)
        known = peers.get(member)
        assert known is not None
        self.assertEqual(known.address, address)
        self.assertIs(peers.at(address), known)
        self.assert_goes_on(new_view=True)


class GroupChangeTests(HostileCase):
    """Node ``b`` changes groups by frames of its own, past the limits that its sessions would have."""

    def join(self, session: int, group: str) -> None:
        """A session that nobody opened joins a group."""
        body = ChangeBody(Change.JOIN, session, f"s{session}", group, Reason.LEAVE).encode()
        frame = Outgoing(0, 0, FrameType.CHANGE, Level.AGREED, body)
        self.engine(self.nodes[1])._outbox.put_control(frame, frame.size)

    def kept(self) -> list[int]:
        """How many of ``b``'s memberships each node knows."""
        member_of = [self.engine(node)._groups._of_member for node in self.nodes]
        node = self.nodes[1].identity
        return [sum(len(names) for member, names in one.items() if member.node == node) for one in member_of]

    def test_more_names_than_a_node_may_have(self) -> None:
        """Joins beyond the bytes that the names of one node may have are void at all nodes alike, and counted."""
        self.patch(groups, "_MAX_NAMES_BYTES", 20_000)
        for number in range(300):
            self.join(100 + number, f"{number:03}" + "g" * 196)
        self.cluster.run(0.5)
        self.assertEqual(self.kept(), [100] * 3)
        for node in self.nodes:
            self.assertEqual(self.counter(node, "peer_violations"), 201)
        self.assert_goes_on(oracle=False)

    def test_more_sessions_than_a_node_may_have(self) -> None:
        """So are those of more sessions than a node may have."""
        self.patch(groups, "MAX_SESSIONS", 50)
        for number in range(100):
            self.join(100 + number, "chat-too")
        self.cluster.run(0.5)
        self.assertEqual(self.kept(), [50] * 3)
        self.assert_goes_on(oracle=False)

    def test_more_groups_than_a_session_may_have(self) -> None:
        """And those of one session in more groups than it may be in."""
        self.patch(groups, "MAX_GROUPS_PER_SESSION", 50)
        for number in range(100):
            self.join(100, str(number))
        self.cluster.run(0.5)
        self.assertEqual(self.kept(), [51] * 3)
        self.assert_goes_on(oracle=False)

    def test_a_directory_with_too_many_names(self) -> None:
        """A directory of more bytes of names than a node may have is broken, and counts as empty."""
        self.patch(groups, "_MAX_NAMES_BYTES", 1000)
        names = [f"{number:03}" for number in range(250)]
        for count, broken in ((250, 0), (251, 1)):
            own = Groups(NodeId("other", 1))
            own._view = ViewId(1, NodeId("me", 1))
            writer = Writer().number(1).number(7).text("c").number(count)
            for name in (*names, "more")[:count]:
                writer.text(name)
            self.assertEqual(own.exchanged({NodeId("x", 1): writer.done()}), broken)
            self.assertEqual(len(own.status()), 0 if broken else count)
            own.check_invariants()
