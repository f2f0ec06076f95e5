"""What nodes tell each other of quorum, and what they remember of it: frozen values.

Nodes are maps over the sorted names of the quorum nodes (``Quorum.names``): they mean something only between nodes of
the same settings, which ``Vote.digest`` tells.
"""

from __future__ import annotations

import enum
from typing import Final

from attrs import frozen

from groupcomm.identity import ViewId

MAX_ATTEMPTS: Final = 16


class Why(enum.IntEnum):
    """Why a view is primary, or is not."""

    NO_FILTER = 0
    MAJORITY = 1
    TIE_BREAKER = 2
    ALL = 3
    TOO_FEW = 4
    TIE = 5
    OTHER_SETTINGS = 6
    FORGOTTEN = 7
    ATTEMPT = 8
    TOO_MANY_ATTEMPTS = 9


@frozen
class Primary:
    """A view that was primary, or may have been.

    Attributes:
        id: of the view.
        nodes: the quorum nodes among its members.
    """

    id: ViewId
    nodes: int


@frozen
class Memory:
    """What a node remembers of primary views, for dynamic-linear.

    Attributes:
        last: the last it took part in that was installed.
        attempts: those newer than that for which it was READY, and which are not known never to have been installed.
        whole: whether nothing is missing: it has been a member of a primary view since it last forgot.
    """

    last: Primary | None = None
    attempts: tuple[Primary, ...] = ()
    whole: bool = False


NO_MEMORY: Final = Memory()


@frozen
class Vote:
    """What a node says when it answers a proposal.

    Attributes:
        digest: of its settings; 0 without a filter.
        memory: of primary views; empty with the filters that need none.
    """

    digest: int
    memory: Memory = NO_MEMORY


@frozen
class Verdict:
    """What the proposer decides of a view; at all its members the same.

    Attributes:
        primary: whether it may act for the whole cluster.
        why: the reason.
        differing: map of the participants whose settings are not the proposer's.
        void: attempts that will never be installed by anybody.
    """

    primary: bool = True
    why: Why = Why.NO_FILTER
    differing: int = 0
    void: tuple[ViewId, ...] = ()


NO_VOTE: Final = Vote(0)
NO_VERDICT: Final = Verdict()
