"""The results of sends: one for several, and several that have one."""

from __future__ import annotations

from collections.abc import Sequence

from twisted.internet.defer import Deferred, DeferredList
from twisted.python.failure import Failure


def all_of(sending: Sequence[Deferred[None]]) -> Deferred[None]:
    """Fires when all have fired; fails with the first failure, once all have ended."""
    if len(sending) == 1:
        return sending[0]

    def ended(results: Sequence[tuple[bool, object]]) -> None:
        for success, result in results:
            if not success and isinstance(result, Failure):
                result.raiseException()

    ends: Deferred[list[tuple[bool, None]]] = DeferredList(sending, consumeErrors=True)
    return ends.addCallback(ended)


def fire(results: Sequence[Deferred[None]] | Sequence[Deferred[object]], error: Failure | Exception | None) -> None:
    """Fire all of them, alike; those that somebody has cancelled have fired before."""
    for result in results:
        if result.called:
            continue
        if error is None:
            result.callback(None)
        else:
            result.errback(error)
