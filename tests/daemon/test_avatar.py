"""What a client made of ``twisted.spread.pb`` alone can do, and what the daemon answers."""

from __future__ import annotations

from twisted.cred.credentials import Anonymous, UsernamePassword
from twisted.spread import pb
from twisted.trial.unittest import SynchronousTestCase

from groupcomm.daemon import caps
from groupcomm.events import Level, Outside, Reason
from groupcomm.limits import MAX_DESTINATION_GROUPS, MAX_MESSAGE_BYTES
from tests.daemon.world import PlainClient, World

ALICE = "alice@n1#7.1"


class PlainClientTests(SynchronousTestCase):
    """A client with nothing of this project installed."""

    def setUp(self) -> None:
        self.world = World()

    def tearDown(self) -> None:
        self.assertEqual(self.flushLoggedErrors(), [], "an error was logged")

    def test_login_join_send(self) -> None:
        """It logs in, joins, and gets its view and its own message."""
        alice = PlainClient(self.world, b"alice")
        alice.call("join", "chat")
        alice.call("send", "chat", b"hello")
        view, message = alice.events
        self.assertEqual(view, ("view", "chat", "3-n1-7/1", ALICE, ALICE, [], ALICE, True))
        self.assertEqual(message, ("messages", ["chat"], ALICE, "agreed", [b"hello"], "3-n1-7/1"))

    def test_outside_of_the_primary_component(self) -> None:
        """A join says what is to happen there; another word is refused."""
        alice = PlainClient(self.world, b"alice")
        alice.call("join", "chat", "read-only")
        alice.call("join", "tea", outside="blocked")
        alice.call("join", "milk")
        self.assertEqual(alice.refused("join", "x", "loud")[0], "BadArgument")
        self.assertEqual(
            self.world.node.sessions["alice"].asked,
            {"chat": Outside.READ_ONLY, "tea": Outside.BLOCKED, "milk": Outside.GO_ON},
        )

    def test_several_clients_see_the_same(self) -> None:
        """What one sends all get, in one order; who leaves is named with the reason."""
        alice, bob = PlainClient(self.world, "alice"), PlainClient(self.world, "bob")
        for client in (alice, bob):
            client.call("join", "chat")
        for number in range(5):
            (alice, bob)[number % 2].call("send", "chat", b"%d" % number, level="safe")
        seen = [[event[4] for event in client.kinds("messages")] for client in (alice, bob)]
        self.assertEqual(seen[0], seen[1])
        alice.call("logout")
        self.assertEqual(alice.events[-2:], [("left", "chat", "leave"), ("closed", "leave")])
        self.assertEqual(bob.events[-1][5], [(ALICE, "leave")])
        self.assertTrue(alice.transport.lost)

    def test_names_and_levels_in_any_form(self) -> None:
        """A group can be text or bytes, alone or in a list; a level its name or number; options go by keyword."""
        alice = PlainClient(self.world, "alice")
        alice.call("send", b"g", b"1", 5, True, True)
        alice.call("send", ["g", "h"], b"2", level="fifo", stable=1)
        alice.call("send_many", ("g",), [b"3", b""])
        session = self.world.node.sessions["alice"]
        self.assertEqual(
            session.sent,
            [
                (("g",), b"1", Level.SAFE, True, True),
                (("g", "h"), b"2", Level.FIFO, True, False),
                (("g",), b"3", Level.AGREED, False, False),
                (("g",), b"", Level.AGREED, False, False),
            ],
        )

    def test_private_messages(self) -> None:
        """A private message comes without groups; one to nobody is undeliverable."""
        alice, bob = PlainClient(self.world, "alice"), PlainClient(self.world, "b@b")
        alice.call("send_private", "b@b@n1", b"psst")
        bob.call("send_private", ALICE, b"yes?")
        alice.call("send_private", "carol@n1", b"hello?")
        self.assertEqual(bob.events, [("messages", [], ALICE, "agreed", [b"psst"], None)])
        self.assertEqual(alice.events[0][4], [b"yes?"])
        self.assertEqual(alice.events[1], ("undeliverable", "carol@n1"))

    def test_large_message_in_parts(self) -> None:
        """A message of 16 MiB goes in parts, and comes in parts, for plain Perspective Broker."""
        alice = PlainClient(self.world, "alice")
        alice.call("join", "chat")
        data = bytes(range(256)) * (MAX_MESSAGE_BYTES // 256)
        number = alice.call("begin", len(data))
        for start in range(0, len(data), caps.MAX_INLINE_BYTES):
            alice.call("part", number, data[start : start + caps.MAX_INLINE_BYTES])
        alice.call("commit", number, "chat", "safe")
        parts = [event[1] for event in alice.kinds("part")]
        (message,) = alice.kinds("messages")
        self.assertEqual(b"".join([*parts, *message[4]]), data)
        self.assertEqual(message[3], "safe")
        self.assertEqual(alice.refused("commit", number, "chat")[0], "BadArgument")

    def test_one_session_per_name(self) -> None:
        """A name that is in use is refused with words; when its session has gone it is free."""
        alice = PlainClient(self.world, "alice")
        other = PlainClient(self.world, "alice", login=False)
        failure = self.world.failure(other.factory.login(UsernamePassword(b"alice", b""), other))
        self.assertIn("NameInUse", str(failure.type))
        self.assertIn("in use", str(failure.value))
        alice.transport.loseConnection()
        self.world.settle()
        self.world.result(other.factory.login(UsernamePassword(b"alice", b""), other))

    def test_no_anonymous_login(self) -> None:
        """Anonymous login is refused, and so is a second login on a connection."""
        client = PlainClient(self.world, "", login=False)
        failure = self.world.failure(client.factory.login(Anonymous(), client))
        self.assertIn("LoginRefused", str(failure.type))
        alice = PlainClient(self.world, "alice")
        failure = self.world.failure(alice.factory.login(UsernamePassword(b"bob", b""), alice))
        self.assertIn("LoginRefused", str(failure.type))

    def test_connection_lost(self) -> None:
        """Who goes without a word is out of its groups with the reason disconnect."""
        alice, bob = PlainClient(self.world, "alice"), PlainClient(self.world, "bob")
        for client in (alice, bob):
            client.call("join", "chat")
        alice.transport.loseConnection()
        self.world.settle()
        self.assertEqual(bob.events[-1][5], [(ALICE, "disconnect")])
        self.assertNotIn("alice", self.world.node.sessions)

    def test_without_a_client_object(self) -> None:
        """Who logs in without an object for events can send and cannot join."""
        client = PlainClient(self.world, "mute", login=False)
        client.avatar = self.world.result(client.factory.login(UsernamePassword(b"mute", b"")))
        client.call("send", "chat", b"hello")
        self.assertEqual(client.refused("join", "chat")[0], "LimitReached")

    def test_events_method_that_fails(self) -> None:
        """A client whose method raises has been given the batch all the same: it goes on."""
        alice = PlainClient(self.world, "alice")

        def fail(batch: object) -> None:
            raise pb.Error("no")

        alice.on_batch = fail
        alice.call("join", "chat")
        alice.call("send", "chat", b"1")
        self.assertEqual(len(alice.kinds("messages")), 1)

    def test_status(self) -> None:
        """The status names the node, its view, its peers and the settings with their origin."""
        alice = PlainClient(self.world, "alice")
        alice.call("join", "chat")
        status = alice.call("status")
        self.assertEqual(status["node"], "n1")
        self.assertEqual(status["members"], [("n1", 7), ("n2", 8)])
        self.assertEqual(status["peers"][0]["round_trip_seconds"], 0.001)
        self.assertEqual(status["slow"], [{"node": "n2", "lag_bytes": 5000, "seconds": 2.5, "state": "waited for"}])
        kept_out = {"node": "n3", "lag_bytes": 6000, "seconds": 9.5, "times": 2}
        self.assertEqual((status["kept_out"], status["evicted_by"]), ([kept_out], ["n4"]))
        self.assertEqual(status["flapping"], [{"node": "n5", "penalty": 2.5, "seconds": 1.5}])
        (source,) = status["discovery"]
        self.assertEqual((source["source"], source["found"], source["known"]), ("dns", ["[fd77::2]:4874"], 1))
        self.assertEqual((source["trouble"], source["troubled"]), ("a: no such name", True))
        self.assertEqual(status["config"], [("cluster", "test", "option")])
        self.assertEqual(status["up_seconds"], 77.5)
        (link,) = status["links"]
        self.assertEqual((link["interface"], link["address"], link["mtu_bytes"]), ("eth0", "10.0.0.1:4874", 1500))
        self.assertEqual((link["receive_buffer_bytes"], link["send_buffer_bytes"], link["drops"]), (8000, 4000, 3))
        (refused,) = status["refused"]
        self.assertEqual((refused["why"], refused["source"], refused["count"]), ("seal_broken", "10.0.0.9:4874", 17))
        self.assertEqual(status["longest_client_queue_bytes"], 0)
        self.assertEqual(status["clients"], 1)
        self.assertEqual(
            alice.call("groups"), [{"name": "chat", "view": "3-n1-7/1", "members": ALICE, "outside": "go-on"}]
        )
        self.assertEqual(alice.call("groups", "chat"), [])
        self.assertEqual(alice.call("whoami"), ALICE)


class BadCallTests(SynchronousTestCase):
    """Arguments that no method takes: an error with words, nothing done, the connection goes on."""

    def setUp(self) -> None:
        self.world = World()
        self.alice = PlainClient(self.world, "alice")

    def tearDown(self) -> None:
        self.assertEqual(self.flushLoggedErrors(), [], "an error was logged")

    def test_bad_arguments(self) -> None:
        """Each is refused as ``BadArgument``, and the session lives."""
        too_many = [f"g{number}" for number in range(MAX_DESTINATION_GROUPS + 1)]
        for method, args in (
            ("nothing", ()),
            ("__init__", ()),
            ("close", ()),
            ("join", ()),
            ("join", (1,)),
            ("join", ("",)),
            ("join", ("x" * 256,)),
            ("join", ("chat", "more")),
            ("send", ("chat", "text")),
            ("send", ("chat", b"x", "loud")),
            ("send", ("chat", b"x", 6)),
            ("send", ("chat", b"x", True)),
            ("send", ("chat", b"x", "fifo", "yes")),
            ("send", ([], b"x")),
            ("send", (["g", "g"], b"x")),
            ("send", (too_many, b"x")),
            ("send", ([["g"]], b"x")),
            ("send", ({"g": 1}, b"x")),
            ("send", (None, b"x")),
            ("send", ("chat", b"x", 1.5)),
            ("send_many", ("chat", [])),
            ("send_many", ("chat", b"x")),
            ("send_private", ("alice", b"x")),
            ("send_private", ("alice@n/1", b"x")),
            ("begin", (0,)),
            ("begin", (MAX_MESSAGE_BYTES + 1,)),
            ("part", (1, b"x")),
            ("commit", (1, "chat")),
            ("groups", ("", 0)),
            ("status", (1,)),
        ):
            with self.subTest(method=method, args=str(args)[:60]):
                self.assertEqual(self.alice.refused(method, *args)[0], "BadArgument")
        self.assertEqual(self.alice.refused("leave", "chat")[0], "NotAMember")
        self.assertEqual(self.alice.refused("send", "chat", b"x", loud=True)[0], "BadArgument")
        self.assertEqual(self.alice.refused("send", "chat", b"x", data=b"y")[0], "BadArgument")
        self.assertEqual(self.world.node.sessions["alice"].sent, [])
        self.alice.call("send", "chat", b"still here")

    def test_limits_are_named(self) -> None:
        """The text of an error says what was given and what is allowed."""
        self.assertIn("255", self.alice.refused("join", "x" * 256)[1])
        self.assertIn(str(MAX_DESTINATION_GROUPS), self.alice.refused("send", [], b"x")[1])
        self.assertIn("agreed", self.alice.refused("send", "g", b"x", "loud")[1])

    def test_both_sides_of_name_limit(self) -> None:
        """255 bytes are a name, 256 are none."""
        self.alice.call("join", "x" * 255)
        self.alice.call("join", "\u00e9" * 127)
        self.assertEqual(self.alice.refused("join", "\u00e9" * 128)[0], "BadArgument")

    def test_after_the_session(self) -> None:
        """A session that is over answers every call with ``SessionClosed``."""
        session = self.world.node.sessions["alice"]
        session.close(Reason.NODE_LEAVE)
        session.handler.session_ended(Reason.NODE_LEAVE)
        call = self.alice.avatar.callRemote("send", "chat", b"x")
        failure = self.world.failure(call)
        self.assertIn("SessionClosed", str(failure.type))
        self.assertEqual(self.alice.events[-1], ("closed", "node leave"))


class FaultTests(SynchronousTestCase):
    """What happens when the daemon itself is at fault."""

    def test_internal_error(self) -> None:
        """The client is told no detail, the traceback is logged once a minute, and the connection goes on."""
        world = World()
        alice = PlainClient(world, "alice")
        self.patch(world.node, "status", lambda: 1 / 0)
        for _ in range(5):
            name, text = alice.refused("status")
            self.assertEqual(name, "InternalError")
            self.assertNotIn("zero", text)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.assertEqual(world.factory.counters["calls_failed"], 5)
        alice.call("send", "chat", b"still here")
