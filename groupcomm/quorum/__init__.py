"""Which component may act for the whole cluster: a question of names, votes, and what nodes remember.

Values and pure functions, used by the membership at every view change and by the what-if tool. The rules are in
``doc/design/quorum.md``.
"""

from groupcomm.quorum.judging import describe, judge
from groupcomm.quorum.settings import NO_QUORUM, Filter, Quorum, parse_quorum_nodes
from groupcomm.quorum.voter import Voter
from groupcomm.quorum.votes import NO_MEMORY, Memory, Primary, Verdict, Vote, Why

__all__ = [
    "NO_MEMORY",
    "NO_QUORUM",
    "Filter",
    "Memory",
    "Primary",
    "Quorum",
    "Verdict",
    "Vote",
    "Voter",
    "Why",
    "describe",
    "judge",
    "parse_quorum_nodes",
]
