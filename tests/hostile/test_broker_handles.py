"""Handles of sessions that are over, and of sessions that never were one's own."""

from __future__ import annotations

from twisted.spread import pb

from groupcomm.daemon import caps
from groupcomm.daemon.avatar import ClientAvatar
from groupcomm.events import Reason
from tests.daemon.raw_calls import call
from tests.daemon.world import PlainClient
from tests.hostile.broker_case import BrokerAttack

CALLS: tuple[tuple[bytes, tuple[object, ...]], ...] = (
    (b"join", (b"chat",)),
    (b"leave", (b"chat",)),
    (b"send", (b"chat", b"stale")),
    (b"send_many", (b"chat", [b"list", b"stale"])),
    (b"send_private", (b"alice@n1", b"stale")),
    (b"begin", (5,)),
    (b"part", (1, b"stale")),
    (b"commit", (1, b"chat")),
    (b"commit_private", (1, b"alice@n1")),
    (b"open_channel", ()),
    (b"status", ()),
    (b"changes", ()),
    (b"groups", ()),
    (b"whoami", ()),
    (b"rotate_key", ()),
    (b"expel", (b"delta",)),
    (b"logout", ()),
)


class HandleTests(BrokerAttack):
    def test_after_logout(self) -> None:
        """Every method of an avatar fails once its session is over, and does nothing."""
        attacker, avatar = self.logged_in()
        session = self.world.node.sessions["mallory"]
        attacker.transport.deaf = True  # so that the daemon waits before it closes the connection
        attacker.send(call(b"begin", 5, target=avatar, request=3))
        attacker.send(call(b"part", 1, b"stale", target=avatar, request=4))
        attacker.send(call(b"logout", target=avatar, request=5))
        for request, (method, args) in enumerate(CALLS, 10):
            attacker.send(call(method, *args, target=avatar, request=request))
        attacker.transport.deaf = False
        self.world.settle()
        self.assertEqual([name for name, _ in attacker.errors], ["SessionClosed"] * len(CALLS))
        self.assertEqual(session.sent, [])
        self.assertEqual(self.world.node.groups["chat"], [self.world.node.sessions[name] for name in ("alice", "bob")])
        self.world.advance(caps.FAREWELL_SECONDS + 0.1)
        self.assert_cut_without_trace(attacker)
        self.guests.discard("mallory")

    def test_every_method_is_tried(self) -> None:
        """The test above names every method there is."""
        self.assertEqual({method.decode() for method, _ in CALLS}, set(ClientAvatar.methods))

    def test_calls_on_their_way_at_logout(self) -> None:
        """Sends that waited when the session ended fail, and are not made."""
        attacker, avatar = self.logged_in()
        session = self.world.node.sessions["mallory"]
        session.hold = True
        data = b"x" * (caps.MAX_PENDING_BYTES // 4)
        attacker.send(b"".join(call(b"send", b"tea", data, target=avatar, request=number) for number in range(3, 9)))
        made = len(session.sent)
        session.handler.session_ended(Reason.TOO_SLOW)
        session.close(Reason.TOO_SLOW)
        session.release()
        self.world.settle()
        self.assertEqual(len(session.sent), made)
        self.guests.discard("mallory")
        attacker.transport.loseConnection()

    def test_the_name_again(self) -> None:
        """Who logs in under a name that has become free gets a session of its own; the old handle stays dead."""
        first = PlainClient(self.world, "carol")
        old = first.avatar
        first.call("logout")
        self.world.settle()
        second = PlainClient(self.world, "carol")
        self.guests.add("carol")
        self.assertRaises(pb.DeadReferenceError, old.callRemote, "send", "chat", b"x")
        self.assertEqual(second.call("whoami").rpartition(".")[2], "4")
