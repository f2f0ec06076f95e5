"""What a principal may do in which groups: the file of ``--acl``, and what holds without one.

Decides rights alone: who is who was decided when the connection was made. The table of calls and rights is in
``doc/design/access.md``.
"""

from __future__ import annotations

import pwd
import re
import tomllib
from collections.abc import Callable, Iterable, Sequence
from enum import Enum
from fnmatch import fnmatchcase, translate
from pathlib import Path
from typing import Final

from attrs import frozen
from twisted.logger import Logger

from groupcomm.daemon.principal import Principal
from groupcomm.errors import AccessDenied, UsageError

MAX_FILE_BYTES: Final = 1024 * 1024

REMEMBERED: Final = 1024
"""Answers one session may have remembered; then all are forgotten, which costs time only."""


class Right(Enum):
    """What a principal may have."""

    JOIN = "join"
    RECEIVE = "receive"
    SEND = "send"
    ADMINISTER = "administer"


EVERYTHING: Final = frozenset(Right)
TO_TALK: Final = frozenset((Right.JOIN, Right.RECEIVE, Right.SEND))


@frozen
class Grant:
    """Rights for some principals in some groups, all by pattern."""

    to: tuple[str, ...]
    groups: tuple[str, ...]
    rights: frozenset[Right]

    def is_to(self, principal: Principal) -> bool:
        """Whether it is for that principal."""
        return any(fnmatchcase(principal.name, pattern) for pattern in self.to)


class Rights:
    """What one session may do.

    Invariant: at most ``REMEMBERED`` answers are remembered.

    Args:
        principal: whose session it is.
        grants: what it was granted.
    """

    def __init__(self, principal: Principal, grants: Iterable[Grant]) -> None:
        self.principal = principal
        patterns: dict[Right, list[str]] = {}
        for grant in grants:
            for right in grant.rights:
                patterns.setdefault(right, []).extend(grant.groups)
        self._everywhere = frozenset(right for right, groups in patterns.items() if "*" in groups)
        self._patterns = {
            right: re.compile("|".join(map(translate, dict.fromkeys(groups)))) for right, groups in patterns.items()
        }
        self._remembered: dict[tuple[Right, str], bool] = {}

    @property
    def has_any(self) -> bool:
        """Whether there is anything at all that it may do."""
        return bool(self._patterns)

    @property
    def may_see_settings(self) -> bool:
        """Whether it administers anything."""
        return Right.ADMINISTER in self._patterns

    @property
    def sees_all_groups(self) -> bool:
        """Whether there is a right for all groups."""
        return bool(self._everywhere)

    def may(self, right: Right, group: str) -> bool:
        """Whether it has that right for that group."""
        if right in self._everywhere:
            return True
        key = (right, group)
        answer = self._remembered.get(key)
        if answer is None:
            pattern = self._patterns.get(right)
            answer = pattern is not None and pattern.match(group) is not None
            if len(self._remembered) >= REMEMBERED:
                self._remembered.clear()
            self._remembered[key] = answer
        return answer

    def may_see(self, group: str) -> bool:
        """Whether it has any right for that group."""
        return self.sees_all_groups or any(pattern.match(group) for pattern in self._patterns.values())

    def require(self, right: Right, groups: Iterable[str]) -> None:
        """Do nothing if it has that right for each of the groups.

        Raises:
            AccessDenied: for one of them it has not.
        """
        for group in groups:
            if not self.may(right, group):
                raise AccessDenied(f"{self.principal.name} may not {_WORDS[right]} group {group!r}")

    def require_join(self, group: str) -> None:
        """Do nothing if it may be a member of that group, which takes two rights.

        Raises:
            AccessDenied: it may not.
        """
        self.require(Right.JOIN, (group,))
        self.require(Right.RECEIVE, (group,))

    def require_private(self) -> None:
        """Do nothing if it may send to clients that share no group with it.

        Raises:
            AccessDenied: it may not.
        """
        if Right.SEND not in self._everywhere:
            raise AccessDenied(f"{self.principal.name} may not send private messages: that takes send for all groups")

    def require_cluster(self) -> None:
        """Do nothing if it may change the node or the cluster.

        Raises:
            AccessDenied: it may not.
        """
        if Right.ADMINISTER not in self._everywhere:
            raise AccessDenied(f"{self.principal.name} may not administer the cluster")


_WORDS: Final = {
    Right.JOIN: "join",
    Right.RECEIVE: "receive what is sent to",
    Right.SEND: "send to",
    Right.ADMINISTER: "administer",
}


class AccessRules:
    """Who gets which rights.

    Args:
        owner: the user id of the daemon, which has every right, as root has.
        path: the file with the grants; None: everybody else may talk in all groups.

    Raises:
        UsageError: the file is not as it must be.
    """

    _log = Logger()

    def __init__(self, owner: int, path: Path | None = None) -> None:
        self._owners = {"uid:0", f"uid:{owner}"}
        self._path = path
        self._version: tuple[int, ...] | None = None
        self._grants: tuple[Grant, ...] = (Grant(("*",), ("*",), TO_TALK),)
        if path is not None:
            self._version = _version(path)
            self._grants = read_grants(path)

    def is_owner(self, principal: Principal) -> bool:
        """Whether it is the daemon's own user, or root."""
        return principal.name in self._owners

    def rights_of(self, principal: Principal) -> Rights:
        """What a session that begins now may do.

        Raises:
            AccessDenied: nothing.
        """
        if self.is_owner(principal):
            return Rights(principal, (Grant(("*",), ("*",), EVERYTHING),))
        if self._path is not None:
            self._read_again(self._path)
        rights = Rights(principal, (grant for grant in self._grants if grant.is_to(principal)))
        if not rights.has_any:
            raise AccessDenied(f"{principal.name} has no right in any group of this daemon")
        return rights

    def _read_again(self, path: Path) -> None:
        """Read the file if it has changed; what was read last goes on if it has an error."""
        try:
            version = _version(path)
            if version == self._version:
                return
            self._version = version
            self._grants = read_grants(path)
        except UsageError as error:
            self._log.error("the rights stay as they were: {error}", error=error)
        else:
            self._log.info("rights read from {path}", path=path)


def _version(path: Path) -> tuple[int, ...]:
    try:
        status = path.stat()
    except OSError:
        return ()
    return status.st_mtime_ns, status.st_size, status.st_ino


def read_grants(path: Path, find_user: Callable[[str], int] | None = None) -> tuple[Grant, ...]:
    """The grants in a TOML file.

    Args:
        path: the file.
        find_user: gives the user id for a name, or raises ``KeyError``; asks the system unless given.

    Raises:
        UsageError: it cannot be read, or is not as it must be; the text names the file and the place.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UsageError(f"cannot read the file of rights {path}: {error.strerror}") from None
    if len(data) > MAX_FILE_BYTES:
        raise UsageError(f"the file of rights {path} is larger than {MAX_FILE_BYTES} bytes")
    try:
        table = tomllib.loads(data.decode("utf-8"))
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UsageError(f"{path}: {error}") from None
    entries = table.pop("grant", [])
    if table or not isinstance(entries, list):
        raise UsageError(f"{path}: there are [[grant]] tables and nothing else, not {', '.join(table) or 'grant'}")
    grants = []
    for number, entry in enumerate(entries, 1):
        try:
            grants.append(_grant(entry, find_user or _user_id))
        except UsageError as error:
            raise UsageError(f"{path}: [[grant]] number {number}: {error}") from None
    return tuple(grants)


def _grant(entry: object, find_user: Callable[[str], int]) -> Grant:
    if not isinstance(entry, dict) or set(entry) != {"to", "groups", "rights"}:
        raise UsageError("it has the keys to, groups and rights")
    words = _texts(entry, "rights")
    known = {right.value: right for right in Right}
    for word in words:
        if word not in known:
            raise UsageError(f"{word!r} is no right; there are {', '.join(known)}")
    to = tuple(_principal_pattern(text, find_user) for text in _texts(entry, "to"))
    return Grant(to, _texts(entry, "groups"), frozenset(known[word] for word in words))


def _texts(entry: dict[str, object], key: str) -> tuple[str, ...]:
    value = entry[key]
    if not isinstance(value, Sequence) or isinstance(value, str) or not all(isinstance(one, str) for one in value):
        raise UsageError(f"{key} must be a list of strings")
    if not value:
        raise UsageError(f"{key} is empty")
    return tuple(value)


def _principal_pattern(text: str, find_user: Callable[[str], int]) -> str:
    kind, _, name = text.partition(":")
    if kind == "user" and name:
        try:
            return f"uid:{find_user(name)}"
        except KeyError:
            raise UsageError(f"there is no user {name!r} here") from None
    if text in ("*", "loopback") or (kind in ("uid", "cert") and name):
        return text
    raise UsageError(f"{text!r} is none of cert:NAME, uid:NUMBER, user:NAME, loopback and *")


def _user_id(name: str) -> int:
    return pwd.getpwnam(name).pw_uid
