"""Names that stand for addresses: looked up for ever, and what they mean is offered again and again.

Decides when a name is looked up again, how long an answer is kept after the name has failed, and that trouble is
logged once. What names there are, and how one is looked up, is the sources' business.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from attrs import define, frozen
from twisted.internet.defer import CancelledError, Deferred, maybeDeferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from groupcomm.discovery.hints import MAX_ADDRESSES, Announcement, Found, HintBook
from groupcomm.outputs import Address
from groupcomm.status import SourceStatus

OFFER_SECONDS: Final = 2.0
"""How often all addresses are offered, and names looked at: this finds the others again after a partition."""

LEAST_SECONDS: Final = 2.0
"""An answer counts for so long, however short its time to live."""

MOST_SECONDS: Final = 60.0
"""An answer counts for no longer, however long its time to live."""

KEPT_SECONDS: Final = 3600.0
"""So long after its last answer a name that has failed still stands for what it meant then."""

MAX_LOOK_UPS: Final = 8
"""Look-ups under way at once; the other names wait."""

SHOWN_ADDRESSES: Final = 64
"""Addresses that the status names of one source."""


class LookUpFailed(Exception):
    """A name has no addresses; the text says why."""


@frozen
class Answer:
    """What a name stands for.

    Attributes:
        addresses: where other nodes may be.
        seconds: how long that holds.
    """

    addresses: tuple[Address, ...]
    seconds: float


@define
class _Name:
    due: float = float("-inf")
    answered: float = float("-inf")
    known: bool = False
    under_way: Deferred[Answer] | None = None


class LookUps:
    """The names of one source.

    Invariants: at most ``MAX_LOOK_UPS`` are under way; nothing is after ``stop``.
    """

    _log = Logger()

    def __init__(
        self,
        reactor: IReactorTime,
        source: str,
        announcement: Announcement,
        look_up: Callable[[str], Deferred[Answer]],
        max_addresses: int = MAX_ADDRESSES,
    ) -> None:
        """Look up nothing before ``start``.

        Args:
            reactor: tells the time.
            source: what the source is called, in the log and the status.
            announcement: has this node's own addresses.
            look_up: looks one name up, in a bounded time; may be cancelled.
            max_addresses: how many are remembered of one name.
        """
        self._reactor = reactor
        self._source = source
        self._own_hosts = announcement.interface_addresses
        self._look_up = look_up
        self._max_addresses = max_addresses
        self._names: dict[str, _Name] = {}
        self._troubled: dict[str, str] = {}
        self._last_trouble: str | None = None
        self._book: HintBook | None = None
        self._found: Found | None = None
        self._loop: LoopingCall | None = None

    def set_names(self, names: Sequence[str]) -> None:
        """From now on these are the names; what was known of others is forgotten."""
        before, self._names = self._names, {}
        for name in names:
            self._names[name] = before.pop(name) if name in before else self._names.get(name, _Name())
        for name, gone in before.items():
            if self._book is not None:
                self._book.forget(name)
            self._troubled.pop(name, None)
            if gone.under_way is not None:
                gone.under_way.cancel()
        self._look()

    def start(self, port: int, found: Found) -> None:
        """Look up every name, and offer what is known now and every ``OFFER_SECONDS``."""
        self._book = HintBook(self._reactor.seconds, self._own_hosts, port, self._max_addresses)
        self._found = found
        self._loop = LoopingCall(self._offer)
        self._loop.clock = self._reactor
        self._loop.start(OFFER_SECONDS)

    def moved(self, hosts: tuple[str, ...]) -> None:
        """The node has other addresses: other hints may be of use, so every name is looked up again soon."""
        self._own_hosts = hosts
        if self._book is not None:
            self._book.moved(hosts)
        for name in self._names.values():
            name.due = float("-inf")

    def stop(self) -> None:
        """Offer nothing more; look-ups under way are given up."""
        self._found = None
        if self._loop is not None and self._loop.running:
            self._loop.stop()
        names, self._names = self._names, {}
        for name in names.values():
            if name.under_way is not None:
                name.under_way.cancel()

    def trouble(self, about: str, why: str) -> None:
        """Say what is wrong with something: once, until it is well again."""
        self._last_trouble = f"{about}: {why}"
        if about not in self._troubled:
            self.warn(about, why)
        self._troubled[about] = why

    def warn(self, about: str, why: str) -> None:
        """Log what is wrong with something."""
        self._log.warn("discovery {source}: {about}: {why}", source=self._source, about=about, why=why)

    def well(self, about: str) -> None:
        """There is nothing wrong with it any more."""
        if self._troubled.pop(about, None) is not None:
            self._log.info("discovery {source}: {about} works again", source=self._source, about=about)

    def status(self, looks_at: str) -> SourceStatus:
        """What the source looks at, what it has found, and its last trouble."""
        found = self._book.known() if self._book is not None else ()
        lasting = [f"{about}: {why}" for about, why in self._troubled.items()]
        trouble = lasting[-1] if lasting else self._last_trouble
        return SourceStatus(self._source, looks_at, len(found), found[:SHOWN_ADDRESSES], trouble, bool(lasting))

    def _offer(self) -> None:
        """Offer what is known, then look up what is due."""
        if self._book is not None:
            self._give(self._book.offer())
        self._look()

    def _look(self) -> None:
        """Look up what is due, as far as may be at once; what has waited longest comes first."""
        if self._found is None or self._book is None:
            return
        now = self._reactor.seconds()
        for text, name in sorted(self._names.items(), key=lambda entry: entry[1].due):
            if name.known and now - name.answered > KEPT_SECONDS:
                name.known = False
                self._book.forget(text)
            under_way = sum(other.under_way is not None for other in self._names.values())
            if now >= name.due and name.under_way is None and under_way < MAX_LOOK_UPS:
                self._begin(text, name)

    def _begin(self, text: str, name: _Name) -> None:
        """Look one name up."""
        name.under_way = looking = maybeDeferred(self._look_up, text)
        looking.addCallbacks(self._answered, self._failed, callbackArgs=(text, name), errbackArgs=(text, name))

    def _answered(self, answer: Answer, text: str, name: _Name) -> None:
        """A name stands for these addresses now."""
        if not answer.addresses:
            self._failed(Failure(LookUpFailed("it has no address")), text, name)
            return
        name.under_way = None
        if self._names.get(text) is not name or self._book is None:
            return
        now = self._reactor.seconds()
        name.answered, name.known = now, True
        name.due = now + min(MOST_SECONDS, max(LEAST_SECONDS, answer.seconds))
        self.well(text)
        self._give(self._book.learn(text, answer.addresses))

    def _failed(self, failure: Failure, text: str, name: _Name) -> None:
        """A name could not be looked up; what it was before stays offered for a while."""
        name.under_way = None
        if self._names.get(text) is name and not failure.check(CancelledError):
            name.due = self._reactor.seconds()
            self.trouble(text, failure.getErrorMessage())

    def _give(self, addresses: tuple[Address, ...]) -> None:
        """Hand out hints."""
        for address in addresses:
            if self._found is not None:
                self._found(address)
