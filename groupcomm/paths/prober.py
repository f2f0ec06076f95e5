"""Padded probes: how large a datagram each path takes, and how far the other end is by it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from groupcomm.identity import NodeId
from groupcomm.outputs import Address
from groupcomm.paths.path import Path

_PROBES_AT_ONCE = 8
_PROBES_AT_REST = 2
_MAX_WAITING = 1024
_FIRST_TOKEN = 1 << 62


def _is_answered(entry: tuple[NodeId, int, Path]) -> bool:
    """Paths with a probe that is not answered come first: there something may be wrong."""
    return not entry[2].search.waits


class Probed(Protocol):
    """Another node, as far as probes of its paths go."""

    @property
    def node(self) -> NodeId:
        """Which."""

    @property
    def paths(self) -> tuple[Path, ...]:
        """By link."""


class Prober:
    """The padded probes of one node that wait for their answers; the oldest is forgotten when there are too many.

    Attributes:
        lost: whether less passes somewhere than before the last call of ``due``.
    """

    __slots__ = ("_sent", "_token", "_turn", "lost")

    def __init__(self) -> None:
        self._token = _FIRST_TOKEN
        self._turn = 0
        self.lost = False
        self._sent: dict[int, tuple[NodeId, int, int, float]] = {}

    def due(self, others: Iterable[Probed], now: float, *, traffic: bool) -> list[tuple[int, int, Address]]:
        """Token, size and address of the probes to be sent now; the next call goes on where this one ends."""
        probes: list[tuple[int, int, Address]] = []
        most = _PROBES_AT_ONCE if traffic else _PROBES_AT_REST
        self.lost = False
        paths = [
            (one.node, link, path)
            for one in others
            for link, path in enumerate(one.paths)
            if path.usable and path.search.most_bytes
        ]
        start = self._turn % len(paths) if paths else 0
        paths = sorted(paths[start:] + paths[:start], key=_is_answered)
        for index, (node, link, path) in enumerate(paths):
            before = path.search.passes_bytes
            size = path.search.wants(now, path.round_trip.seconds, traffic=traffic)
            self.lost = self.lost or path.search.passes_bytes < before
            if size and path.address is not None:
                self._token += 1
                self._sent[self._token] = node, link, size, now
                probes.append((self._token, size, path.address))
                if len(probes) == most:
                    self._turn = (self._turn + index + 1) % len(paths)
                    break
        while len(self._sent) > _MAX_WAITING:
            del self._sent[next(iter(self._sent))]
        return probes

    def answered(self, token: int, other: Probed, now: float) -> bool:
        """An answer came; whether it changes what passes."""
        asked = self._sent.pop(token, None)
        if asked is None or asked[0] != other.node:
            return False
        _, link, size, sent_at = asked
        path = other.paths[link]
        before = path.search.passes_bytes
        path.search.answered(size, now)
        path.round_trip.sample(now - sent_at)
        return path.search.passes_bytes != before
