"""The file with the key: made for its owner alone, found where it should be, refused if others can read it."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from groupcomm.config import EngineConfig
from groupcomm.errors import EnvironmentFault, UsageError
from groupcomm.node import NodeConfig
from groupcomm.node.driver import with_key
from groupcomm.node.keyfile import SYSTEM_DIRECTORY, find_key, key_paths, no_key_text, read_key, write_new_key


class KeyFileTests(SynchronousTestCase):
    """Making, finding and reading."""

    def setUp(self) -> None:
        self.directory = Path(self.mktemp())
        self.directory.mkdir()
        self.path = self.directory / "cluster.key"

    def test_a_new_key_is_for_its_owner_alone(self) -> None:
        """32 bytes, mode 0600 whatever the umask, another one each time, and read back as it was made."""
        before = os.umask(0)
        self.addCleanup(os.umask, before)
        made = write_new_key(self.path)
        self.assertEqual(stat.S_IMODE(self.path.stat().st_mode), 0o600)
        self.assertEqual(self.path.read_bytes(), made.secret)
        self.assertEqual(read_key(self.path), made)
        self.assertNotEqual(write_new_key(self.directory / "other.key").secret, made.secret)

    def test_never_written_over(self) -> None:
        """A key that is there stays, and so does anything else at that path, a dangling link too."""
        made = write_new_key(self.path)
        self.assertRaises(UsageError, write_new_key, self.path)
        self.assertEqual(read_key(self.path), made)
        link = self.directory / "link.key"
        link.symlink_to(self.directory / "nowhere")
        self.assertRaises(UsageError, write_new_key, link)
        self.assertFalse((self.directory / "nowhere").exists())

    def test_others_may_not_read_it(self) -> None:
        """Any right of the group or of others makes it unfit; the text names the command that mends it."""
        write_new_key(self.path)
        for bit in (0o040, 0o020, 0o010, 0o004, 0o002, 0o001):
            self.path.chmod(0o600 | bit)
            fault = self.assertRaises(EnvironmentFault, read_key, self.path)
            self.assertIn(f"chmod 600 {self.path}", str(fault))
        self.path.chmod(0o400)
        read_key(self.path)

    def test_no_key_at_all(self) -> None:
        """Nothing there, a directory, too short, too long: each says which file and why."""
        for content, text in (
            (None, "No such file"),
            (b"x" * 31, "32 bytes"),
            (b"x" * 33, "32 bytes"),
            (b"", "32 bytes"),
        ):
            self.path.unlink(missing_ok=True)
            if content is not None:
                self.path.touch(0o600)
                self.path.write_bytes(content)
            fault = self.assertRaises(EnvironmentFault, read_key, self.path)
            self.assertIn(str(self.path), str(fault))
            self.assertIn(text, str(fault))
        os.mkfifo(self.directory / "pipe")
        for path in (self.directory, self.directory / "pipe"):
            self.assertIn("not a file", str(self.assertRaises(EnvironmentFault, read_key, path)))

    def test_where_it_is_looked_for(self) -> None:
        """In the system's place, then in the user's; the name of a cluster leads nowhere else."""
        environ = {"XDG_CONFIG_HOME": str(self.directory), "HOME": "/users/anne"}
        own = self.directory / "groupcomm" / "shop.key"
        self.assertEqual(key_paths("shop", environ), (SYSTEM_DIRECTORY / "shop.key", own))
        self.assertEqual(key_paths("shop", {"HOME": "/users/anne"})[1], Path("/users/anne/.config/groupcomm/shop.key"))
        self.assertEqual(key_paths("../../x", environ)[1].parent, own.parent)
        self.assertIsNone(find_key("shop", environ))
        own.parent.mkdir()
        made = write_new_key(own)
        self.assertEqual(find_key("shop", environ), (own, made))
        own.chmod(0o644)
        self.assertRaises(EnvironmentFault, find_key, "shop", environ)

    def test_what_a_node_without_one_says(self) -> None:
        """The command, the places and the way to do without."""
        text = no_key_text("shop", {"XDG_CONFIG_HOME": "/c"})
        for part in ("groupcomm key new", "--key", "/etc/groupcomm/shop.key", "/c/groupcomm/shop.key", "--insecure"):
            self.assertIn(part, text)


class NodeKeyTests(SynchronousTestCase):
    """What a node makes of its settings."""

    def setUp(self) -> None:
        self.directory = Path(self.mktemp())
        self.directory.mkdir()
        self.patch(os, "environ", {**os.environ, "XDG_CONFIG_HOME": str(self.directory)})

    def test_the_key_of_the_settings(self) -> None:
        """Given as bytes, as a file, or found where it should be."""
        path = self.directory / "groupcomm" / "tests-only.key"
        path.parent.mkdir()
        secret = write_new_key(path).secret
        engine = EngineConfig(cluster="tests-only")
        self.assertEqual(with_key(NodeConfig(engine=engine)).key, secret)
        self.assertEqual(with_key(NodeConfig(key=path)).key, secret)
        self.assertEqual(with_key(NodeConfig(engine=EngineConfig(key=bytes(32)))).key, bytes(32))

    def test_none_is_only_what_was_asked_for(self) -> None:
        """Without a key a node does not start, unless it is told to; both at once contradict each other."""
        engine = EngineConfig(cluster="tests-only")
        self.assertRaises(EnvironmentFault, with_key, NodeConfig(engine=engine))
        self.assertIsNone(with_key(NodeConfig(engine=engine, insecure=True)).key)
        self.assertRaises(UsageError, NodeConfig, engine=engine, insecure=True, key=Path("x"))
        self.assertRaises(UsageError, NodeConfig, engine=EngineConfig(key=bytes(32)), insecure=True)

    def test_settings_do_not_show_the_key(self) -> None:
        """Neither what a node was told nor an engine's settings say the key when they are printed."""
        engine = EngineConfig(key=b"Z" * 32)
        for value in (engine, NodeConfig(engine=engine)):
            self.assertNotIn("ZZZZ", repr(value))
