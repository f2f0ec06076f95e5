"""A file of peers, one a line, read again whenever it changes.

Decides what counts in it and what is said of what does not. The file is looked at in a thread: it may lie on a disk
that does not answer.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Final, TypeAlias, cast

from attrs import evolve, frozen
from twisted.internet.defer import Deferred, maybeDeferred, succeed
from twisted.internet.interfaces import IReactorThreads, IReactorTime
from twisted.internet.task import LoopingCall
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from groupcomm.discovery.hints import MAX_HINTS, Announcement, Found
from groupcomm.discovery.lookups import LookUps
from groupcomm.discovery.static import parse_peer, peer_look_up
from groupcomm.errors import UsageError
from groupcomm.interfaces import IDiscovery
from groupcomm.status import SourceStatus

LOOK_SECONDS: Final = 2.0
"""How often the file is looked at."""

MAX_FILE_BYTES: Final = 64 * 1024
"""A larger file is not read."""

LOGGED_LINES: Final = 10
"""Wrong lines that are logged of one version of the file."""

Stamp: TypeAlias = tuple[int, int, int, int, int]
"""Device, inode, size and the times in nanoseconds: whatever changes a file changes one of them."""


class Unreadable(Exception):
    """The file cannot be used; the text says why."""


@frozen
class Version:
    """The file as it was at one time."""

    stamp: Stamp
    text: str


@frozen
class Entries:
    """What a text says.

    Attributes:
        peers: the entries, each once, as ``str`` of a ``PeerName`` shows them.
        wrong: what is wrong: the number of the line, and why.
    """

    peers: tuple[str, ...]
    wrong: tuple[tuple[int, str], ...]


def read_version(path: Path, known: Stamp | None) -> Version | None:
    """The file as it is now; None if it is as it was. Blocks.

    Raises:
        Unreadable: it is not there, or not what it should be.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        why = "there is no such file yet" if isinstance(error, FileNotFoundError) else str(error.strerror)
        raise Unreadable(why) from None
    try:
        about = os.fstat(descriptor)
        stamp = (about.st_dev, about.st_ino, about.st_size, about.st_mtime_ns, about.st_ctime_ns)
        if not stat.S_ISREG(about.st_mode):
            raise Unreadable("it is no regular file")
        if stamp == known:
            return None
        with open(descriptor, "rb", closefd=False) as file:
            data = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise Unreadable(str(error.strerror)) from None
    finally:
        os.close(descriptor)
    if len(data) > MAX_FILE_BYTES:
        raise Unreadable(f"it is larger than {MAX_FILE_BYTES} bytes")
    try:
        return Version(stamp, data.decode("utf-8-sig"))
    except UnicodeDecodeError:
        raise Unreadable("it is no text in UTF-8") from None


def parse_entries(text: str, default_port: int) -> Entries:
    """Read the lines of a file."""
    peers: dict[str, None] = {}
    wrong: list[tuple[int, str]] = []
    for number, line in enumerate(text.split("\n"), 1):
        entry = line.partition("#")[0].strip()
        if not entry:
            continue
        try:
            peer = str(parse_peer(entry, default_port))
        except UsageError as error:
            wrong.append((number, str(error)))
            continue
        if peer not in peers and len(peers) == MAX_HINTS:
            wrong.append((number, f"more than {MAX_HINTS} entries; this and what follows is not used"))
            break
        peers[peer] = None
    return Entries(tuple(peers), tuple(wrong))


@implementer(IDiscovery)
class FileDiscovery:
    """Offers the addresses in a file."""

    _log = Logger()

    def __init__(
        self,
        reactor: IReactorTime,
        announcement: Announcement,
        path: Path,
        default_port: int,
        resolve: Callable[[str], Deferred[tuple[str, ...]]],
        read: Callable[[Path, Stamp | None], Deferred[Version | None]] | None = None,
    ) -> None:
        """Read nothing before ``start``.

        Args:
            reactor: tells the time.
            announcement: has this node's own addresses, which are never offered with its own port.
            path: the file.
            default_port: the port of an entry without one.
            resolve: gives the addresses of a host name.
            read: does what ``read_version`` does; not given: that, in a thread of the reactor's.
        """
        self._reactor = reactor
        self._path = path
        self._default_port = default_port
        self._read = read if read is not None else self._read_in_thread
        self._lookups = LookUps(reactor, "file", announcement, peer_look_up(resolve))
        self._loop = LoopingCall(self._look)
        self._loop.clock = reactor
        self._stamp: Stamp | None = None
        self._wrong: tuple[str, ...] = ()
        self._entries = 0

    def start(self, port: int, found: Found) -> Deferred[None]:
        """Look at the file, and offer what is in it."""
        self._lookups.start(port, found)
        self._loop.start(LOOK_SECONDS).addErrback(self._broken)
        return succeed(None)

    def stop(self) -> Deferred[None]:
        """Look and offer no more."""
        if self._loop.running:
            self._loop.stop()
        self._lookups.stop()
        return succeed(None)

    def moved(self, hosts: tuple[str, ...]) -> None:
        """The node has other addresses."""
        self._lookups.moved(hosts)

    def status(self) -> SourceStatus:
        """The file, and what its entries mean."""
        status = self._lookups.status(f"{self._path} ({self._entries} entries)")
        if self._wrong and not status.troubled:
            return evolve(status, trouble=f"{self._path}: {self._wrong[0]}", troubled=True)
        return status

    def _look(self) -> Deferred[None]:
        """Look at the file; the loop waits for it."""
        return maybeDeferred(self._read, self._path, self._stamp).addCallbacks(self._seen, self._unreadable)

    def _seen(self, version: Version | None) -> None:
        """The file is as it was, or says something new."""
        if not self._loop.running:
            return
        self._lookups.well(str(self._path))
        if version is None:
            return
        self._stamp = version.stamp
        entries = parse_entries(version.text, self._default_port)
        self._entries = len(entries.peers)
        self._say_wrong(entries.wrong)
        self._lookups.set_names(entries.peers)

    def _unreadable(self, failure: Failure) -> None:
        """It cannot be used now; what it said before stays."""
        failure.trap(Unreadable)
        if self._loop.running:
            self._stamp = None
            self._lookups.trouble(str(self._path), failure.getErrorMessage())

    def _say_wrong(self, wrong: tuple[tuple[int, str], ...]) -> None:
        """Log the wrong lines, each once for as long as it stays as it is."""
        before, self._wrong = self._wrong, tuple(f"line {number}: {why}" for number, why in wrong)
        for line in [line for line in self._wrong if line not in before][:LOGGED_LINES]:
            self._lookups.warn(str(self._path), line)

    def _broken(self, failure: Failure) -> None:
        """The loop has ended by an error that nobody thought of: the other sources go on."""
        self._log.failure("discovery file: {path} is looked at no more", failure, path=str(self._path))

    def _read_in_thread(self, path: Path, known: Stamp | None) -> Deferred[Version | None]:
        """Read it where waiting does no harm."""
        reactor = cast(IReactorThreads, self._reactor)
        return deferToThreadPool(reactor, reactor.getThreadPool(), read_version, path, known)
