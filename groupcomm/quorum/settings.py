"""What may be configured of quorum, and what contradicts itself."""

from __future__ import annotations

import enum
import re
from collections.abc import Iterable, Sequence
from typing import Final

from attrs import frozen

from groupcomm.errors import UsageError
from groupcomm.identity import checked_node_name
from groupcomm.limits import MAX_NODES

MAX_VOTES: Final = 1_000_000


class Filter(enum.Enum):
    """How it is decided which component may act."""

    NONE = "none"
    MAJORITY = "majority"
    WEIGHTED = "weighted"
    DYNAMIC_LINEAR = "dynamic-linear"


@frozen
class Quorum:
    """The quorum settings of a node; all but ``witness`` must be the same at all nodes.

    Attributes:
        filter: how it is decided.
        nodes: the names that count, in any order, each with its votes.
        tie_breaker: the name that decides between two halves.
        witness: whether this node serves no clients and only counts.
    """

    filter: Filter = Filter.NONE
    nodes: tuple[tuple[str, int], ...] = ()
    tie_breaker: str | None = None
    witness: bool = False

    def __attrs_post_init__(self) -> None:
        if self.filter is Filter.NONE:
            if self.nodes or self.tie_breaker is not None or self.witness:
                raise UsageError(
                    "quorum nodes, a tie-breaker and a witness mean nothing without a quorum filter: "
                    f"say which of {', '.join(one.value for one in Filter if one is not Filter.NONE)}"
                )
            return
        if not self.nodes:
            raise UsageError(f"the quorum filter {self.filter.value} needs the names of the quorum nodes")
        if len(self.nodes) > MAX_NODES:
            raise UsageError(f"there may be {MAX_NODES} quorum nodes, not {len(self.nodes)}")
        named: set[str] = set()
        for name, votes in self.nodes:
            checked_node_name(name)
            if name in named:
                raise UsageError(f"the quorum node {name!r} is named twice")
            named.add(name)
            if not 1 <= votes <= MAX_VOTES:
                raise UsageError(
                    f"the quorum node {name!r} has {votes} votes: it must be 1 to {MAX_VOTES}; "
                    "leave out who has no vote"
                )
            if votes != 1 and self.filter is not Filter.WEIGHTED:
                raise UsageError(
                    f"the quorum node {name!r} has {votes} votes: with {self.filter.value} each has one, say weighted"
                )
        if self.tie_breaker is not None and self.tie_breaker not in named:
            raise UsageError(
                f"the tie-breaker {self.tie_breaker!r} is none of the quorum nodes {', '.join(sorted(named))}"
            )

    def check_node(self, name: str) -> None:
        """Raise ``UsageError`` if the node of this name cannot have these settings."""
        if self.witness and name not in self.names:
            raise UsageError(f"the witness {name!r} is none of the quorum nodes {', '.join(self.names)}")

    @property
    def names(self) -> tuple[str, ...]:
        """The names that count, sorted: what maps of quorum nodes are maps of."""
        return tuple(sorted(name for name, _ in self.nodes))

    @property
    def everybody(self) -> int:
        """The map of all quorum nodes."""
        return (1 << len(self.nodes)) - 1

    def map_of(self, names: Iterable[str]) -> int:
        """Those of these names that are quorum nodes, as a map."""
        present = set(names)
        return sum(1 << index for index, name in enumerate(self.names) if name in present)

    def names_in(self, nodes: int) -> tuple[str, ...]:
        """The names in a map."""
        return tuple(name for index, name in enumerate(self.names) if nodes >> index & 1)

    @property
    def text(self) -> str:
        """What must be the same everywhere, as a text that is the same if it is."""
        if self.filter is Filter.NONE:
            return ""
        nodes = " ".join(f"{name}:{votes}" for name, votes in sorted(self.nodes))
        return f"{self.filter.value}\n{nodes}\n{self.tie_breaker or ''}"


NO_QUORUM: Final = Quorum()
"""Every component acts."""


def parse_quorum_nodes(texts: Sequence[str]) -> tuple[tuple[str, int], ...]:
    """The quorum nodes in texts of the form ``a,b:3,c``: names with their votes, 1 unless said.

    Raises:
        UsageError: one is no name, or its votes no number.
    """
    nodes = []
    for item in (item for text in texts for item in re.split(r"[\s,]+", text) if item):
        name, colon, votes = item.rpartition(":")
        if not colon:
            name, votes = item, "1"
        if not (votes.isascii() and votes.isdecimal() and len(votes) <= 9):
            raise UsageError(f"{item!r} is not NAME or NAME:VOTES")
        nodes.append((checked_node_name(name), int(votes)))
    return tuple(nodes)
