"""One thing that is done at one time in a random run, and when trouble begins."""

from __future__ import annotations

from attrs import frozen

TROUBLE_SECONDS = 0.9
"""When faults begin: by then nodes that started at once have a view and their clients are in their groups."""


@frozen
class Step:
    """One thing to do at a time: the name of a method of ``Run`` without its underscore, and its arguments."""

    at: float
    action: str
    arguments: tuple[object, ...] = ()

    def __str__(self) -> str:
        return f"{self.at:9.6f} {self.action} {' '.join(map(str, self.arguments))}"
