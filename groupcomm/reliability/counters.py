"""Counters by name: only ever growing, shown by the status."""

from __future__ import annotations

from collections import Counter


class Counters(Counter[str]):
    """What happened how often. Bound: the names are ours, never a peer's."""

    def up(self, name: str, count: int = 1) -> None:
        """Count."""
        self[name] += count
