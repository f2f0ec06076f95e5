"""What a finding is, and the facts of a host that findings follow from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import Enum
from typing import Any, Final

from attrs import Factory, field, frozen

Facts = Mapping[str, Any]
"""A daemon's status, as ``doc/howto/perspective-broker.md`` describes it."""

SHOWN_NAMES: Final = 8
"""Nodes or addresses that one finding names; of more it says how many."""


class Level(Enum):
    """How bad a finding is."""

    OK = "OK"
    WARN = "WARN"
    FAIL = "FAIL"


@frozen
class Finding:
    """One line of the doctor's.

    Attributes:
        level: how bad it is.
        check: what was looked at, in a word: the page on troubles has a section for each.
        text: what was measured.
        advice: what to do; empty where nothing is to be done.
    """

    level: Level
    check: str
    text: str
    advice: str = ""


class Answer(Enum):
    """What a connection to a node's TCP port came to."""

    NODE = "node"
    OTHER = "other"
    REFUSED = "refused"
    NONE = "none"


@frozen
class Connected:
    """How an address answered.

    Attributes:
        answer: in which way.
        node: the name of the node that said so, with ``NODE``.
    """

    answer: Answer
    node: str = ""


@frozen
class Interface:
    """One address of one interface of the host."""

    name: str
    address: str
    up: bool = True
    multicast: bool = True
    loopback: bool = False


@frozen
class Host:
    """What was measured on the host that the doctor runs on.

    Attributes:
        interfaces: every address of it.
        chosen: the interface that a daemon takes by default, in words; empty if it finds none.
        sysctls: settings of the kernel, by name; those that could not be read are not there.
        synchronised: whether something keeps the clock right; None if the kernel does not tell.
        routes: from which of its addresses packets to these addresses leave; empty if they cannot.
        answers: what came of TCP connections to these addresses.
        received: datagrams that all sockets of the host got, and those dropped for want of room in a socket's buffer.
        processors: how many there are.
        load: processes that ran or waited to run, over the last minute.
    """

    interfaces: tuple[Interface, ...] = ()
    chosen: str = ""
    sysctls: Mapping[str, int] = Factory(dict)
    synchronised: bool | None = None
    routes: Mapping[str, str] = Factory(dict)
    answers: Mapping[str, Connected] = Factory(dict)
    received: tuple[int, int] = (0, 0)
    processors: int = field(default=1)
    load: float = 0.0


def fine(check: str, text: str) -> Finding:
    """Nothing is wrong."""
    return Finding(Level.OK, check, text)


def warning(check: str, text: str, advice: str) -> Finding:
    """It works, and not as it should."""
    return Finding(Level.WARN, check, text, advice)


def failure(check: str, text: str, advice: str) -> Finding:
    """Something does not work."""
    return Finding(Level.FAIL, check, text, advice)


def named(items: Iterable[str]) -> str:
    """Some of the names, and how many more there are."""
    every = list(items)
    more = len(every) - SHOWN_NAMES
    return ", ".join(every[:SHOWN_NAMES]) + (f" and {more} more" if more > 0 else "")


def count_of(facts: Facts, *names: str) -> int:
    """How often these things happened since the daemon began."""
    return sum(facts["counters"].get(name, 0) for name in names)


def since(facts: Facts) -> str:
    """For how long the daemon is up, in words."""
    seconds = facts["up_seconds"]
    for unit, length in (("days", 86_400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * length:
            return f"in {seconds / length:.0f} {unit}"
    return f"in {seconds:.0f} s"


def often(facts: Facts, count: int, per_hour: float, least: int = 3) -> bool:
    """Whether that happened so many times at least, and more often than so many times an hour."""
    return count >= least and count > per_hour * facts["up_seconds"] / 3600
