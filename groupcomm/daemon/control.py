"""Where the control socket of a daemon is: its default place, whether it may be used, and how a client finds it.

A UNIX socket is governed by its mode and by the directory it lies in; both are checked here. What may be reached over
the network must be TLS with certificates on both sides; anything else is refused here.
"""

from __future__ import annotations

import errno
import fcntl
import ipaddress
import os
import re
import socket
import stat
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from attrs import frozen

from groupcomm.daemon.caps import MAX_UNAUTHENTICATED, MAX_UNIX_PATH_BYTES
from groupcomm.errors import EnvironmentFault, NotConnected, UsageError

SUFFIX: Final = ".sock"
CHANNEL_SUFFIX: Final = ".data"
BACKLOG: Final = MAX_UNAUTHENTICATED
"""Connections the kernel holds until they are accepted: a UNIX socket refuses the rest at once."""

LOOPBACK: Final = ("127.0.0.1", "localhost", "::1")
TLS_PREFIX: Final = "groupcomm-tls"

CONTROL_PROTOCOL: Final = b"groupcomm-pb"
CHANNEL_PROTOCOL: Final = b"groupcomm-channel"
"""What a client on another host asks for in its first message (ALPN, RFC 7301); control if for nothing."""

_TLS_FORM: Final = f"{TLS_PREFIX}:PORT:privateKey=FILE:certKey=FILE:clientCA=FILE"


@frozen
class TlsFiles:
    """The files of a TLS endpoint, by what its description calls them; all absolute."""

    private_key: Path
    certificate: Path
    client_ca: Path
    revoked: Path | None


@frozen
class TlsControl:
    """A TLS endpoint as its description says: the port, the address to listen on (all if empty), and the files."""

    port: int
    interface: str
    files: TlsFiles


@frozen
class ControlEndpoint:
    """A checked server endpoint description.

    Attributes:
        description: for ``twisted.internet.endpoints.serverFromString``.
        path: of a UNIX socket; None for a TCP port.
        mode: of a UNIX socket.
        tls: of a TLS port; None for all others.
    """

    description: str
    path: Path | None
    mode: int = 0o600
    tls: TlsControl | None = None

    @property
    def lets_everybody_in(self) -> bool:
        """Whether any user of this host may connect to it as itself."""
        return self.path is not None and self.mode == 0o666

    @property
    def channel_path(self) -> Path | None:
        """Where the socket of its data channels lies; None if it has none."""
        if self.path is None:
            return None
        name = self.path.name.removesuffix(SUFFIX) + CHANNEL_SUFFIX
        path = self.path.with_name(name)
        return path if len(os.fsencode(path)) <= MAX_UNIX_PATH_BYTES else None

    @property
    def client_description(self) -> str:
        """What a client passes to ``connect``; a TCP port of 0 has to be replaced by the real one."""
        return self.description if self.path is None else f"unix:{escape(str(self.path))}"


def escape(text: str) -> str:
    """``text`` as one argument of an endpoint description."""
    return text.replace("\\", "\\\\").replace(":", "\\:").replace("=", "\\=")


def run_directory(environ: Mapping[str, str], user: int) -> Path:
    """Where the control socket lies by default.

    Args:
        environ: the environment: ``RUNTIME_DIRECTORY`` (the first of several), else ``XDG_RUNTIME_DIR``, counts.
        user: the effective user id; without either variable root uses ``/run`` and others their home directory.
    """
    if directories := environ.get("RUNTIME_DIRECTORY"):
        return Path(directories.split(":")[0])
    if directory := environ.get("XDG_RUNTIME_DIR"):
        return Path(directory) / "groupcomm"
    return Path("/run/groupcomm") if user == 0 else _home_directory(environ)


def _home_directory(environ: Mapping[str, str]) -> Path:
    cache = environ.get("XDG_CACHE_HOME")
    return (Path(cache) if cache else Path.home() / ".cache") / "groupcomm"


def default_control(cluster: str, node: str, environ: Mapping[str, str], user: int) -> str:
    """The endpoint description of the default control socket.

    Raises:
        UsageError: the path is longer than a socket's may be, or a name cannot stand in a path.
    """
    if "/" in cluster or cluster in (".", ".."):
        raise UsageError(f"the cluster name {cluster!r} cannot be part of a file name: give --control unix:PATH")
    path = run_directory(environ, user) / f"{cluster}-{node}{SUFFIX}"
    checked_path(path)
    return f"unix:{escape(str(path))}"


def checked_path(path: Path) -> Path:
    """``path`` if a UNIX socket can have it.

    Raises:
        UsageError: it is relative or too long; the text says both numbers.
    """
    size = len(os.fsencode(path))
    if size > MAX_UNIX_PATH_BYTES:
        raise UsageError(
            f"the control socket's path has {size} bytes, {MAX_UNIX_PATH_BYTES} is the most a UNIX socket can have: "
            f"{path}; give a shorter one with --control unix:PATH"
        )
    if not path.is_absolute():
        raise UsageError(f"the control socket's path must be absolute: {path}")
    return path


def parse_control(description: str) -> ControlEndpoint:
    """Check a server endpoint description for the control service.

    Allowed are ``unix:PATH[:mode=600|660|666]``, the absolute path alone, ``tcp:PORT:interface=127.0.0.1`` (or
    localhost, ::1), and ``groupcomm-tls:PORT:...``.

    Raises:
        UsageError: anything else; the text says what is allowed.
    """
    words, options = split_description(client_description(description))
    kind = words[0]
    if kind == "unix":
        return _parse_unix(description, words, options)
    if kind == "tcp":
        port = words[1] if len(words) > 1 else options.get("port", "")
        if not port.isdecimal() or int(port) > 65535 or set(options) - {"port", "interface"}:
            raise UsageError(f"{description}: a TCP control endpoint is tcp:PORT:interface=127.0.0.1")
        if options.get("interface") not in LOOPBACK:
            raise UsageError(
                f"{description}: a TCP control port is for this host only, since whoever reaches it may use the "
                f"groups: add :interface=127.0.0.1, or use unix:PATH; for other hosts use {_TLS_FORM}"
            )
        interface = options["interface"].replace(":", "\\:").replace("localhost", "127.0.0.1")
        return ControlEndpoint(f"tcp:{int(port)}:interface={interface}:backlog={BACKLOG}", None)
    if kind == TLS_PREFIX:
        tls = parse_tls(words[1:], options)
        return ControlEndpoint(description, None, tls=tls)
    raise UsageError(f"{description}: use unix:PATH, tcp:PORT:interface=127.0.0.1, or {_TLS_FORM}")


def parse_tls(words: Sequence[str], options: Mapping[str, str]) -> TlsControl:
    """What a description of a TLS endpoint says, behind its prefix.

    Args:
        words: the port.
        options: ``privateKey``, ``clientCA``, and if given ``certKey``, ``interface`` and ``revoked``.

    Raises:
        UsageError: something is missing, is not known, or is no port or address; the text says what is allowed.
    """
    known = {"port", "privateKey", "certKey", "clientCA", "interface", "revoked"}
    if unknown := sorted(set(options) - known):
        raise UsageError(f"{TLS_PREFIX} has no {unknown[0]}=; it is {_TLS_FORM}[:interface=ADDRESS][:revoked=FILE]")
    ports = [*words, *([options["port"]] if "port" in options else [])]
    if len(ports) != 1 or not ports[0].isdecimal() or int(ports[0]) > 65535:
        raise UsageError(f"{TLS_PREFIX} takes one port: {_TLS_FORM}")
    for name in ("privateKey", "clientCA"):
        if not options.get(name):
            raise UsageError(f"{TLS_PREFIX} takes {name}=FILE: {_TLS_FORM}")
    interface = options.get("interface", "")
    if interface:
        try:
            interface = str(ipaddress.ip_address(interface))
        except ValueError:
            raise UsageError(f"interface={interface} is no address of this host, such as 192.0.2.1") from None
    private_key, revoked = Path(options["privateKey"]).absolute(), options.get("revoked")
    return TlsControl(
        int(ports[0]),
        interface,
        TlsFiles(
            private_key,
            Path(options["certKey"]).absolute() if options.get("certKey") else private_key,
            Path(options["clientCA"]).absolute(),
            Path(revoked).absolute() if revoked else None,
        ),
    )


def _parse_unix(description: str, words: Sequence[str], options: Mapping[str, str]) -> ControlEndpoint:
    path = words[1] if len(words) > 1 else options.get("address", "")
    if not path or len(words) > 2 or set(options) - {"address", "mode"}:
        raise UsageError(f"{description}: a UNIX control endpoint is unix:PATH or unix:PATH:mode=660")
    mode = options.get("mode", "600").lstrip("0")
    if mode not in ("600", "660", "666"):
        raise UsageError(f"{description}: the mode is 600 (this user), 660 (its group) or 666 (all users of this host)")
    checked_path(Path(path))
    # Twisted's lock file would survive a crash; the daemon has its own (``SocketGuard``).
    return ControlEndpoint(f"unix:{escape(path)}:mode={mode}:lockfile=0:backlog={BACKLOG}", Path(path), int(mode, 8))


def split_description(description: str) -> tuple[list[str], dict[str, str]]:
    """The positional and the named arguments of an endpoint description, with its escapes undone."""
    words: list[str] = []
    options: dict[str, str] = {}
    key: str | None = None
    current = ""
    escaped = False
    for character in [*description, ":"]:
        if escaped:
            current += character
            escaped = False
        elif character == "\\":
            escaped = True
        elif character == "=" and key is None and words:
            key, current = current, ""
        elif character == ":":
            if key is None:
                words.append(current)
            else:
                options[key] = current
            key, current = None, ""
        else:
            current += character
    return words, options


class SocketGuard:
    """The right to listen on one UNIX socket path, held by a lock on ``PATH.lock`` that the kernel gives back.

    Args:
        path: the socket's path.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock: int | None = None

    def acquire(self) -> None:
        """Make the directory, take the lock, remove a socket left behind by a dead daemon.

        Raises:
            EnvironmentFault: a live daemon has the socket, something else has its name, or the directory is not fit.
        """
        _prepare_directory(self.path.parent)
        try:
            lock = os.open(f"{self.path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            raise EnvironmentFault(f"cannot make {self.path}.lock: {error.strerror}") from None
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._remove_stale()
        except BlockingIOError:
            os.close(lock)
            raise EnvironmentFault(
                f"another daemon is running with the control socket {self.path}: stop it, or give another --node or "
                f"--control"
            ) from None
        except EnvironmentFault:
            os.close(lock)
            raise
        self._lock = lock

    def release(self) -> None:
        """Remove the socket and give up the lock."""
        if self._lock is not None:
            self.path.unlink(missing_ok=True)
            os.close(self._lock)
            self._lock = None

    def _remove_stale(self) -> None:
        try:
            mode = self.path.lstat().st_mode
        except FileNotFoundError:
            return
        if not stat.S_ISSOCK(mode):
            raise EnvironmentFault(f"{self.path} exists and is no socket: remove it, or give another --control")
        if is_live(self.path):
            raise EnvironmentFault(f"another program is listening on {self.path}: stop it, or give another --control")
        self.path.unlink(missing_ok=True)


def _prepare_directory(directory: Path) -> None:
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = directory.stat()
    except OSError as error:
        raise EnvironmentFault(f"cannot make the run directory {directory}: {error.strerror}") from None
    if status.st_uid not in (0, os.geteuid()):
        raise EnvironmentFault(f"the run directory {directory} belongs to another user: give another --control")
    if status.st_mode & 0o022 and not status.st_mode & stat.S_ISVTX:
        raise EnvironmentFault(f"others may write to the run directory {directory}: chmod go-w it, or give another")


def is_live(path: Path) -> bool:
    """Whether somebody listens on this UNIX socket; one that we may not open counts as dead."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as probe:
        code = probe.connect_ex(os.fsencode(path))
    return code in (0, errno.EAGAIN, errno.EINPROGRESS)


class SeveralDaemons(NotConnected):
    """Which daemon is meant must be said."""


def first_control(text: str) -> str:
    """The first of the control endpoints in a list as the environment holds it; empty if there is none."""
    return next((item for item in re.split(r"[\s,]+", text) if item), "")


def is_tls(description: str) -> bool:
    """Whether a client endpoint description is one of ours for a daemon on another host."""
    return description.partition(":")[0] in ("tls", TLS_PREFIX)


def client_description(given: str) -> str:
    """A client endpoint description as it is, or that of the UNIX socket of an absolute path."""
    return f"unix:{escape(str(checked_path(Path(given))))}" if given.startswith("/") else given


def find_control(environ: Mapping[str, str], user: int) -> str:
    """The client endpoint description of the daemon to talk to, when none was given.

    Args:
        environ: the environment: of a list in ``GROUPCOMM_CONTROL`` the first item is taken.
        user: the effective user id.

    Raises:
        NotConnected: no daemon's socket is there.
        SeveralDaemons: several are; the text lists them.
    """
    if given := first_control(environ.get("GROUPCOMM_CONTROL", "")):
        return client_description(given)
    directories = dict.fromkeys((run_directory(environ, user), Path("/run/groupcomm"), _home_directory(environ)))
    found = [path for directory in directories for path in _sockets(directory) if is_live(path)]
    if len(found) == 1:
        return f"unix:{escape(str(found[0]))}"
    if found:
        listing = "\n".join(f"  unix:{escape(str(path))}" for path in found)
        raise SeveralDaemons(f"several daemons run here, say which with --control or GROUPCOMM_CONTROL:\n{listing}")
    looked = ", ".join(str(directory) for directory in directories)
    raise NotConnected(f"no daemon runs here (looked in {looked}): start one with: twistd groupcomm")


def _sockets(directory: Path) -> list[Path]:
    try:
        return sorted(path for path in directory.iterdir() if path.suffix == SUFFIX and path.is_socket())
    except OSError:
        return []
