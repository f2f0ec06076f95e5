"""What clients may do: the file of rights, and every call against it."""

from __future__ import annotations

import os
import shutil
import socket
import tempfile
from pathlib import Path
from typing import Any

from twisted.cred.credentials import UsernamePassword
from twisted.trial.unittest import SkipTest, SynchronousTestCase

from groupcomm.client import connect
from groupcomm.daemon import caps
from groupcomm.daemon.avatar import ClientAvatar
from groupcomm.daemon.principal import LOOPBACK, Crowd, Principal, local_principal, user_principal
from groupcomm.daemon.records import FAILED, HELLO, JOIN, LEAVE, PRIVATE, SEND, VERSION, record
from groupcomm.daemon.rights import REMEMBERED, AccessRules, Grant, Right, Rights, read_grants
from groupcomm.errors import AccessDenied, UsageError
from groupcomm.packing import pack_messages
from tests.daemon.world import MemoryEndpoint, PlainClient, World

ANNE = Principal("cert:anne", b"digest")
OTHER = os.geteuid() + 1
HI = pack_messages([b"hi"])


class RightsTests(SynchronousTestCase):
    """What grants amount to."""

    def rights(self, *grants: tuple[str, str]) -> Rights:
        """Each a pattern of groups and some rights."""
        return Rights(
            ANNE, [Grant(("*",), (groups,), frozenset(map(Right, words.split()))) for groups, words in grants]
        )

    def test_they_add_up(self) -> None:
        """A right holds for the groups of all grants that have it, and for no others."""
        rights = self.rights(("tea", "join"), ("t?o", "join send"), ("[ab]*", "send"))
        for right, groups in ((Right.JOIN, {"tea", "two"}), (Right.SEND, {"two", "a", "bxy.z/1"})):
            for group in ("tea", "two", "a", "bxy.z/1", "c", "teatime", "xtea", "tea\n", "Tea", "t*o"):
                expected = group in groups or group == "t*o"  # which ``t?o`` matches as well
                self.assertEqual(rights.may(right, group), expected, (right, group))
        self.assertFalse(rights.may(Right.RECEIVE, "tea"))

    def test_everything(self) -> None:
        """``*`` is every group, whatever its name; another pattern that matches much is not that."""
        everything, much = self.rights(("*", "send administer")), self.rights(("?*", "send administer"))
        for rights in (everything, much):
            rights.require(Right.SEND, ["tea", "x" * 255, "a\tb", "é"])
        everything.require_private()
        everything.require_cluster()
        self.assertRaises(AccessDenied, much.require_private)
        self.assertRaises(AccessDenied, much.require_cluster)

    def test_joining_takes_two(self) -> None:
        """A member receives: who may not receive cannot join, nor who may only receive."""
        for words in ("join", "receive", "send administer"):
            self.assertRaises(AccessDenied, self.rights(("tea", words)).require_join, "tea")
        self.rights(("tea", "join"), ("t*", "receive")).require_join("tea")

    def test_the_text_says_what_is_missing(self) -> None:
        """Who, what and where."""
        error = self.assertRaises(AccessDenied, self.rights(("tea", "send")).require, Right.SEND, ["tea", "milk"])
        self.assertEqual(str(error), "cert:anne may not send to group 'milk'")

    def test_bounded(self) -> None:
        """However many groups are asked for, only so many answers are kept, and they stay right."""
        rights = self.rights(("a*", "send"))
        for number in range(3 * REMEMBERED):
            self.assertTrue(rights.may(Right.SEND, f"a{number}"))
            self.assertFalse(rights.may(Right.SEND, f"b{number}"))
            self.assertLessEqual(len(rights._remembered), REMEMBERED)

    def test_patterns_take_no_time(self) -> None:
        """A pattern with many stars is no trap for a name made to be nearly like it: this comes to an end."""
        rights = self.rights(("a*a*a*a*a*a*a*a*a*a*a*a*b", "send"), ("*a*a*a*a*a*a*a*a*b", "send"))
        self.assertFalse(rights.may(Right.SEND, "a" * 255))


class FileTests(SynchronousTestCase):
    """The file of rights."""

    def setUp(self) -> None:
        self.path = Path(self.mktemp())

    def read(self, text: str) -> tuple[Grant, ...]:
        self.path.write_text(text, "utf-8")
        return read_grants(self.path, {"bob": 1234}.__getitem__)

    def test_grants(self) -> None:
        """Users by name become user ids; everything else is taken as it is."""
        first, second = self.read(
            '[[grant]]\nto = ["cert:a*", "user:bob", "uid:1?", "loopback"]\n'
            'groups = ["tea", "k.*"]\nrights = ["join"]\n'
            '[[grant]]\nto = ["*"]\ngroups = ["*"]\nrights = ["send", "receive", "administer"]\n'
        )
        self.assertEqual(
            first, Grant(("cert:a*", "uid:1234", "uid:1?", "loopback"), ("tea", "k.*"), frozenset((Right.JOIN,)))
        )
        self.assertEqual(second.rights, frozenset((Right.SEND, Right.RECEIVE, Right.ADMINISTER)))
        for principal in (ANNE, user_principal(1234), user_principal(15), LOOPBACK):
            self.assertTrue(first.is_to(principal))
        for principal in (Principal("cert:bob", b"x"), user_principal(1), user_principal(155)):
            self.assertFalse(first.is_to(principal))
        self.assertEqual(self.read(""), ())

    def test_errors(self) -> None:
        """Every error names the file, and the grant if it is in one."""
        grant = '[[grant]]\nto = ["*"]\ngroups = ["*"]\nrights = ["join"]\n'
        for text, words in (
            ("[[grant]", "line 1"),
            ("[grant]\n", "[[grant]]"),
            ("[[grants]]\n", "not grants"),
            ("x = 1\n", "not x"),
            ("[[grant]]\n", "number 1: it has the keys"),
            (grant + "deny = true\n", "number 1: it has the keys"),
            (grant + grant.replace('["*"]', '"*"', 1), "number 2: to must be a list"),
            (grant.replace('["join"]', "[]"), "rights is empty"),
            (grant.replace('["join"]', '["read"]'), "'read' is no right; there are join, receive, send, administer"),
            (grant.replace('["join"]', "[1]"), "rights must be a list of strings"),
            (grant.replace('["*"]', '["anne"]', 1), "'anne' is none of cert:NAME"),
            (grant.replace('["*"]', '["cert:"]', 1), "'cert:' is none of"),
            (grant.replace('["*"]', '["user:eve"]', 1), "no user 'eve'"),
        ):
            error = self.assertRaises(UsageError, self.read, text)
            self.assertIn(words, str(error))
            self.assertIn(str(self.path), str(error))
        self.path.write_bytes(b"\xff")
        self.assertRaises(UsageError, read_grants, self.path)
        self.path.write_bytes(b"#" * (1024 * 1024 + 1))
        self.assertIn("larger", str(self.assertRaises(UsageError, read_grants, self.path)))

    def test_without_a_file(self) -> None:
        """The daemon's user and root may do everything, everybody else may talk."""
        rules = AccessRules(1000)
        for uid in (0, 1000):
            rules.rights_of(user_principal(uid)).require_cluster()
        for principal in (user_principal(1001), LOOPBACK, ANNE):
            rights = rules.rights_of(principal)
            rights.require_join("tea")
            rights.require(Right.SEND, ["tea"])
            rights.require_private()
            self.assertRaises(AccessDenied, rights.require_cluster)
            self.assertFalse(rights.may_see_settings)

    def test_the_owner_needs_no_grant(self) -> None:
        """With a file the daemon's user and root still may do everything, and who is not in it nothing."""
        self.path.write_text("")
        rules = AccessRules(1000, self.path)
        rules.rights_of(user_principal(0)).require_cluster()
        rules.rights_of(user_principal(1000)).require_cluster()
        for principal in (user_principal(1001), LOOPBACK, ANNE):
            error = self.assertRaises(AccessDenied, rules.rights_of, principal)
            self.assertIn(principal.name, str(error))

    def test_read_again(self) -> None:
        """A change holds for the next login; one with an error, or the loss of the file, changes nothing."""
        grant = '[[grant]]\nto = ["cert:*"]\ngroups = ["{}"]\nrights = ["send"]\n'
        self.path.write_text(grant.format("tea"))
        rules = AccessRules(1000, self.path)
        before = rules.rights_of(ANNE)
        self.path.write_text(grant.format("milk"))
        after = rules.rights_of(ANNE)
        for rights, group in ((before, "tea"), (after, "milk")):
            self.assertEqual([group], [one for one in ("tea", "milk") if rights.may(Right.SEND, one)])
        self.path.write_text("[[grant]]")
        self.assertTrue(rules.rights_of(ANNE).may(Right.SEND, "milk"))
        self.path.unlink()
        self.assertTrue(rules.rights_of(ANNE).may(Right.SEND, "milk"))
        self.path.write_text(grant.format("water"))
        self.assertTrue(rules.rights_of(ANNE).may(Right.SEND, "water"))

    def test_a_bad_file_at_the_start(self) -> None:
        """A daemon does not start with a file that it does not understand."""
        self.path.write_text("[[grant]]")
        self.assertRaises(UsageError, AccessRules, 1000, self.path)


class CallTests(SynchronousTestCase):
    """Another user of the host, whom a socket's mode has let in, calls everything there is."""

    def world_with(self, *grants: tuple[str, str]) -> World:
        """A daemon that grants other users each a pattern of groups and some rights."""
        path = Path(self.mktemp())
        path.write_text(
            "".join(
                f'[[grant]]\nto = ["uid:{OTHER}"]\ngroups = ["{groups}"]\nrights = {words.split()!r}\n'
                for groups, words in grants
            )
        )
        self.world = World(channels=True)
        self.world.realm.access = AccessRules(os.geteuid(), path)
        return self.world

    def other(self, name: str = "other", login: bool = True) -> PlainClient:
        self.world.next_uid = OTHER
        return PlainClient(self.world, name, login)

    def assert_denied(self, client: PlainClient, method: str, *arguments: object) -> None:
        kind, text = client.refused(method, *arguments)
        self.assertEqual(kind, "AccessDenied", (method, text))
        self.assertIn(f"uid:{OTHER}", text)

    def test_each_right_alone(self) -> None:
        """With one right alone a client can do what takes that right, and nothing else that takes any."""
        for words, allowed in (
            ("join", set()),
            ("receive", set()),
            ("join receive", {"join"}),
            ("send", {"send", "send_many", "commit"}),
            ("administer", set()),
        ):
            self.world_with(("tea", words))
            client = self.other()
            calls: tuple[tuple[str, tuple[Any, ...]], ...] = (
                ("join", ("tea",)),
                ("send", ("tea", b"x")),
                ("send_many", (["tea"], [b"x", b"y"])),
                ("send_private", ("bob@n1", b"x")),
                ("rotate_key", ()),
                ("expel", ("n2",)),
                ("commit", (client.call("begin", 1), "tea")),
                ("commit_private", (client.call("begin", 1), "bob@n1")),
            )
            for method, arguments in calls:
                if method.startswith("commit"):
                    client.call("part", arguments[0], b"x")
                if method in allowed:
                    client.call(method, *arguments)
                else:
                    self.assert_denied(client, method, *arguments)
            session = self.world.node.sessions["other"]
            self.assertEqual(len(session.sent), 4 if words == "send" else 0)
            self.assertEqual(self.world.node.groups.get("tea", []), [session] if "join" in allowed else [])
            if "join" in allowed:
                client.call("leave", "tea")

    def test_no_method_is_forgotten(self) -> None:
        """Each method is checked above, or takes no right: a new one has to be put here on purpose."""
        checked = {"join", "send", "send_many", "send_private", "commit", "commit_private", "status", "groups"}
        checked |= {"rotate_key", "expel"}
        free = {"changes", "leave", "begin", "part", "open_channel", "whoami", "logout"}
        self.assertEqual(set(ClientAvatar.methods), checked | free)

    def test_several_groups(self) -> None:
        """A message to several groups is sent to all of them or not at all."""
        self.world_with(("tea", "send"), ("milk.*", "send"))
        client = self.other()
        client.call("send", ["tea", "milk.cold"], b"x")
        self.assert_denied(client, "send", ["tea", "milk", "milk.cold"], b"y")
        self.assertEqual([data for _, data, *_ in self.world.node.sessions["other"].sent], [b"x"])

    def test_private(self) -> None:
        """A private message takes the right to send to all groups."""
        self.world_with(("*", "send"))
        client = self.other()
        client.call("send_private", "bob@n1", b"x")
        client.call("commit_private", *self.part(client), "bob@n1")

    def part(self, client: PlainClient) -> tuple[int]:
        number = client.call("begin", 1)
        client.call("part", number, b"x")
        return (number,)

    def test_what_changes_the_cluster(self) -> None:
        """To change the cluster takes the right to administer all groups; so does nothing else."""
        self.world_with(("*", "administer"))
        client = self.other()
        self.assertIsInstance(client.call("rotate_key"), int)
        self.assertIsNone(client.call("expel", "n2"))
        self.assertEqual(self.world.node.expelled, ["n2"])
        self.assert_denied(client, "send", "tea", b"x")

    def test_status_and_groups(self) -> None:
        """Settings are for who administers something; groups are shown where there is any right."""
        for words, settings in (("join", 0), ("administer", 1)):
            self.world_with(("t*", words))
            owner = PlainClient(self.world, "owner")
            for group in ("milk", "tea", "toast", "water"):
                owner.call("join", group)
            client = self.other()
            self.assertEqual(len(client.call("status")["config"]), settings)
            self.assertEqual([one["name"] for one in client.call("groups")], ["tea", "toast"])
            self.assertEqual([one["name"] for one in client.call("groups", "", 1)], ["tea"])
            self.assertEqual([one["name"] for one in client.call("groups", "tea", 1)], ["toast"])
            self.assertEqual(client.call("groups", "toast"), [])
            self.assertEqual(len(owner.call("groups")), 4)
            self.assertEqual(len(owner.call("status")["config"]), 1)

    def test_no_right_no_login(self) -> None:
        """Who is granted nothing cannot log in, and no session is opened."""
        self.world_with()
        client = self.other(login=False)
        failure: Any = self.world.failure(client.factory.login(UsernamePassword(b"other", b""), client))
        self.assertIn(b"AccessDenied", failure.type)
        self.assertEqual(self.world.node.sessions, {})

    def test_over_a_channel(self) -> None:
        """Over a data channel each request is held to the same rights, and is told what is missing."""
        self.world_with(("tea", "send join"), ("milk", "join receive"))
        client = self.other()
        ticket = client.call("open_channel")[2]
        channel = self.world.raw_channel(record(HELLO, VERSION, ticket), uid=OTHER)
        requests = (
            record(JOIN, 1, b"tea"),
            record(JOIN, 2, b"milk"),
            record(SEND, 3, b"tea", HI, 4),
            record(SEND, 4, b"milk", HI, 4),
            record(SEND, 5, b"tea\nmilk", HI, 4),
            record(SEND, 6, b"bob@n1", HI, 4 | PRIVATE),
            record(SEND, 7, b"tea", HI, 4),
            record(SEND, 8, b"milk", HI, 4),
            record(LEAVE, 9, b"milk"),
        )
        channel.stream.write(list(requests))
        self.world.settle()
        failed = {number: (head, payload) for _, _, number, head, payload in channel.kinds(FAILED)}
        self.assertEqual(sorted(failed), [1, 4, 5, 6, 8])
        self.assertEqual({head for head, _ in failed.values()}, {b"AccessDenied"})
        self.assertIn(b"receive what is sent to group 'tea'", failed[1][1])
        self.assertEqual([where for where, *_ in self.world.node.sessions["other"].sent], [("tea",)] * 2)

    def test_the_client_library(self) -> None:
        """A program gets ``AccessDenied`` from the call that is denied, and goes on."""
        self.world_with(("tea", "join receive"))
        self.world.next_uid = OTHER
        connection = self.world.result(connect(self.world.clock, MemoryEndpoint(self.world), name="other"))
        group = self.world.result(connection.join("tea"))
        error = self.world.failure(group.send(b"x")).value
        self.assertIsInstance(error, AccessDenied)
        self.assertIn("may not send to group 'tea'", str(error))
        self.assertIsInstance(self.world.failure(connection.join("milk")).value, AccessDenied)
        self.world.result(group.leave())

    def test_a_ticket_of_another_user(self) -> None:
        """A ticket shown by another user opens nothing, and is used up; its owner goes on without a channel."""
        self.world_with(("*", "send"))
        client = self.other()
        ticket = client.call("open_channel")[2]
        thief = self.world.raw_channel(record(HELLO, VERSION, ticket), uid=OTHER + 1)
        self.assertTrue(thief.stream.closed)
        late = self.world.raw_channel(record(HELLO, VERSION, ticket), uid=OTHER)
        self.assertTrue(late.stream.closed)
        client.call("send", "tea", b"x")


class KernelTests(SynchronousTestCase):
    """Who is at the other end of a real socket."""

    def listening(self) -> tuple[socket.socket, str]:
        directory = Path(tempfile.mkdtemp(prefix="gc-"))
        self.addCleanup(shutil.rmtree, directory)
        directory.chmod(0o711)
        listening = socket.socket(socket.AF_UNIX)
        self.addCleanup(listening.close)
        listening.bind(str(directory / "s"))
        (directory / "s").chmod(0o666)
        listening.listen()
        return listening, str(directory / "s")

    def test_own_user(self) -> None:
        """A connection of this process is this user's."""
        listening, path = self.listening()
        with socket.socket(socket.AF_UNIX) as connecting:
            connecting.connect(path)
            with listening.accept()[0] as accepted:
                self.assertEqual(local_principal(accepted), user_principal(os.geteuid()))

    def test_another_user(self) -> None:
        """The user is the one who connected, whoever has the connection later."""
        if os.geteuid():
            raise SkipTest("only root can be somebody else")
        listening, path = self.listening()
        with socket.socket(socket.AF_UNIX) as connecting:
            os.seteuid(4321)
            try:
                connecting.connect(path)
            finally:
                os.seteuid(0)
            with listening.accept()[0] as accepted:
                self.assertEqual(local_principal(accepted), user_principal(4321))

    def test_loopback(self) -> None:
        """Of a TCP connection of this host nothing is known."""
        with socket.socket() as connected:
            self.assertEqual(local_principal(connected), LOOPBACK)


class CrowdTests(SynchronousTestCase):
    """How many connections one principal may have."""

    def test_the_cap(self) -> None:
        """One more than allowed is not let in until one has gone; others are counted by themselves."""
        crowd = Crowd(2, lambda principal: principal.name == "uid:0")
        self.assertEqual([crowd.enter(ANNE) for _ in range(3)], [True, True, False])
        self.assertTrue(crowd.enter(Principal("cert:bob", b"b")))
        crowd.leave(ANNE)
        self.assertEqual([crowd.enter(Principal("cert:anne", b"other")) for _ in range(2)], [True, False])
        for exempt in (LOOPBACK, user_principal(0)):
            self.assertTrue(all(crowd.enter(exempt) for _ in range(5)))

    def test_connections(self) -> None:
        """Of another user so many connections are let in, and one more is closed at once; the owner has any number."""
        self.patch(caps, "MAX_PRINCIPAL_CONNECTIONS", 3)
        world = World(channels=True)
        clients = []
        for number in range(4):
            world.next_uid = OTHER
            clients.append(PlainClient(world, f"other{number}", login=False))
            world.settle()
        self.assertEqual([client.transport.lost for client in clients], [False, False, False, True])
        self.assertEqual(world.factory.counters["connections_refused"], 1)
        streams = [world.raw_channel(uid=OTHER).stream for _ in range(4)]
        self.assertEqual([stream.closed for stream in streams], [False, False, False, True])
        for number in range(5):
            PlainClient(world, f"owner{number}")
        clients[0].transport.loseConnection()
        streams[0].abort()
        world.settle()
        world.next_uid = OTHER
        again = PlainClient(world, "other")
        self.assertFalse(again.transport.lost)
        self.assertFalse(world.raw_channel(uid=OTHER).stream.closed)
