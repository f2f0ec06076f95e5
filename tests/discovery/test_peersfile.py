"""A file of peers is read again whenever it changes, and whatever is wrong with it is said once."""

from __future__ import annotations

import os
from pathlib import Path
from typing import cast

from twisted.internet import reactor
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import Clock
from twisted.logger import ILogObserver, LogEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase, TestCase
from zope.interface.verify import verifyObject

from groupcomm.discovery.hints import MAX_HINTS, Announcement
from groupcomm.discovery.peersfile import (
    LOGGED_LINES,
    LOOK_SECONDS,
    MAX_FILE_BYTES,
    FileDiscovery,
    Stamp,
    Unreadable,
    Version,
    parse_entries,
    read_version,
)
from groupcomm.identity import NodeId
from groupcomm.interfaces import IDiscovery
from groupcomm.outputs import Address

ANNOUNCEMENT = Announcement("c", NodeId("n1", 1), ("10.0.0.1", "fd77::1"))


class EntriesTests(SynchronousTestCase):
    """What the lines of a file say."""

    def test_entries(self) -> None:
        """One a line, each once; comments and empty lines mean nothing."""
        text = "# nodes\n\n10.0.0.2\n host:5 # one more\r\n[fd77::2]:6\n10.0.0.2:4874\n#"
        entries = parse_entries(text, 4874)
        self.assertEqual(entries.peers, ("10.0.0.2:4874", "host:5", "[fd77::2]:6"))
        self.assertEqual(entries.wrong, ())

    def test_wrong_lines(self) -> None:
        """A wrong line is named by its number, and the others count."""
        entries = parse_entries("a b\n10.0.0.2:1\nc:0\n\x00", 4874)
        self.assertEqual(entries.peers, ("10.0.0.2:1",))
        self.assertEqual([number for number, _ in entries.wrong], [1, 3, 4])

    def test_too_many(self) -> None:
        """So many entries count, and that is said once."""
        entries = parse_entries("\n".join(f"h{number}" for number in range(2 * MAX_HINTS)), 1)
        self.assertEqual(len(entries.peers), MAX_HINTS)
        ((number, why),) = entries.wrong
        self.assertEqual(number, MAX_HINTS + 1)
        self.assertIn("not used", why)


class ReadTests(SynchronousTestCase):
    """Reading it."""

    def setUp(self) -> None:
        self.path = Path(self.mktemp())

    def stamp(self) -> Stamp:
        """The stamp of the file as it is."""
        version = read_version(self.path, None)
        assert version is not None
        return version.stamp

    def test_changes(self) -> None:
        """It is read when written over, replaced, or written at all; not when it is as it was."""
        self.path.write_text("a")
        first = self.stamp()
        self.assertIsNone(read_version(self.path, first))
        self.path.write_text("bb")
        second = read_version(self.path, first)
        self.assertEqual(second.text if second else None, "bb")
        other = self.path.with_name("other")
        other.write_text("cc")
        os.replace(other, self.path)
        third = read_version(self.path, second.stamp if second else None)
        self.assertEqual(third.text if third else None, "cc")

    def test_unreadable(self) -> None:
        """What is no file of text, or too much, is refused in words, and nothing waits for a pipe's writer."""
        self.assertIn("no such file", str(self.assertRaises(Unreadable, read_version, self.path, None)))
        self.path.write_bytes(b"\xff\xfe")
        self.assertIn("UTF-8", str(self.assertRaises(Unreadable, read_version, self.path, None)))
        self.path.write_bytes(b"#" * (MAX_FILE_BYTES + 1))
        self.assertIn("larger", str(self.assertRaises(Unreadable, read_version, self.path, None)))
        for make in (os.mkdir, os.mkfifo):
            self.path.unlink() if self.path.is_file() else self.path.rmdir()
            make(self.path)
            self.assertRaises(Unreadable, read_version, self.path, None)


class FileTests(SynchronousTestCase):
    """A file that a test changes."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.found: list[Address] = []
        self.version = 0
        self.text: str | None = None
        self.logged: list[str] = []
        globalLogPublisher.addObserver(cast(ILogObserver, self.log))
        self.addCleanup(globalLogPublisher.removeObserver, cast(ILogObserver, self.log))
        self.source = FileDiscovery(
            self.clock, ANNOUNCEMENT, Path("/peers"), 4874, lambda host: succeed((f"10.9.9.{len(host)}",)), self.read
        )
        verifyObject(IDiscovery, self.source)
        self.addCleanup(self.source.stop)

    def log(self, event: LogEvent) -> None:
        """Keep what is logged of this source."""
        if event.get("source") == "file":
            self.logged.append(str(event.get("why", "works")))

    def read(self, path: Path, known: Stamp | None) -> Deferred[Version | None]:
        """The file as the test has it."""
        if self.text is None:
            return fail(Unreadable("there is none"))
        stamp = (self.version, 0, 0, 0, 0)
        return succeed(None if stamp == known else Version(stamp, self.text))

    def write(self, text: str | None) -> None:
        """Change the file, and let it be looked at."""
        self.version += 1
        self.text = text
        self.found.clear()
        self.clock.advance(LOOK_SECONDS)

    def offered(self) -> list[Address]:
        """What is offered next."""
        self.found.clear()
        self.clock.advance(LOOK_SECONDS)
        return list(self.found)

    def start(self) -> None:
        """Start the source."""
        self.successResultOf(self.source.start(4874, self.found.append))

    def test_waited_for(self) -> None:
        """A missing file is waited for; that is logged once, and that it is there at last."""
        self.start()
        self.write(None)
        self.write(None)
        self.assertEqual(self.logged, ["there is none"])
        self.assertTrue(self.source.status().troubled)
        self.write("10.0.0.2\n10.0.0.1\n")
        self.assertEqual(self.found, [("10.0.0.2", 4874)])
        self.assertEqual(self.logged, ["there is none", "works"])
        status = self.source.status()
        self.assertEqual((status.known, status.troubled, status.looks_at), (1, False, "/peers (2 entries)"))

    def test_changes(self) -> None:
        """New entries are offered at once, old ones no more; what vanishes with the file stays."""
        self.text = "10.0.0.2\nname\n[fd77::2]:5"
        self.start()
        self.assertEqual(self.found, [("10.0.0.2", 4874), ("10.9.9.4", 4874), ("fd77::2", 5)])
        self.write("10.0.0.3")
        self.assertIn(("10.0.0.3", 4874), self.found)
        self.assertEqual(self.offered(), [("10.0.0.3", 4874)])
        self.write(None)
        self.assertEqual(self.offered(), [("10.0.0.3", 4874)])
        self.write("")
        self.assertEqual(self.offered(), [])

    def test_wrong_lines(self) -> None:
        """A wrong line is logged with its number, once as long as it stays; not more than a few of many."""
        self.text = "10.0.0.2\na b"
        self.start()
        self.assertEqual(len(self.logged), 1)
        self.assertIn("line 2: ", self.logged[0])
        self.assertIn("line 2: ", self.source.status().trouble or "")
        self.write("10.0.0.3\na b")
        self.assertEqual(len(self.logged), 1)
        self.write("10.0.0.3\na b\nc d")
        self.assertEqual(len(self.logged), 2)
        self.write("a b\n" * 1000)
        self.assertLessEqual(len(self.logged), 2 + LOGGED_LINES)
        self.write("10.0.0.3")
        self.assertFalse(self.source.status().troubled)

    def test_stop(self) -> None:
        """After the end nothing is read, offered or left for later."""
        self.text = "10.0.0.2"
        self.start()
        self.successResultOf(self.source.stop())
        self.found.clear()
        self.clock.advance(LOOK_SECONDS)
        self.assertEqual((self.found, self.clock.getDelayedCalls()), ([], []))


class ThreadTests(TestCase):
    """The real file, in a thread of the real reactor."""

    timeout = 30

    def test_read(self) -> Deferred[None]:
        """A file that is there is found and offered."""
        path = Path(self.mktemp())
        path.write_text("10.0.0.2:5\n")
        found: Deferred[None] = Deferred()
        real = cast(IReactorTime, reactor)
        source = FileDiscovery(real, ANNOUNCEMENT, path, 4874, lambda host: succeed(()))

        def hear(address: Address) -> None:
            if not found.called:
                self.assertEqual(address, ("10.0.0.2", 5))
                found.callback(None)

        self.addCleanup(source.stop)
        return source.start(4874, hear).addCallback(lambda _: found)
