"""Who has sent packets that were not let in: from where, why, and when the node last told of it."""

from __future__ import annotations

from groupcomm.limits import MAX_REFUSALS
from groupcomm.outputs import Address, PacketsRefused
from groupcomm.status import RefusalStatus


class Refusals:
    """Keeps ``MAX_REFUSALS``, one for each sender and reason: those told of last."""

    def __init__(self) -> None:
        self._told: dict[tuple[str, Address], tuple[PacketsRefused, int, float]] = {}

    def told(self, news: PacketsRefused, now: float) -> None:
        """The node tells of such packets."""
        key = news.why, news.source
        _, count, _ = self._told.pop(key, (news, 0, now))
        self._told[key] = news, count + news.count, now
        if len(self._told) > MAX_REFUSALS:
            del self._told[next(iter(self._told))]

    def status(self, now: float) -> tuple[RefusalStatus, ...]:
        """What is remembered, the latest at the end."""
        return tuple(
            RefusalStatus(why, source, max(0.0, now - at), count, news.text)
            for (why, source), (news, count, at) in self._told.items()
        )
