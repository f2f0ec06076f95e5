"""Who is who: nodes, views, members and group views, as ordered, hashable values.

An identity is never an address and never a bare number: a node is its name and the incarnation it runs under, a
member is a client session on such a node.
"""

from __future__ import annotations

from attrs import field, frozen

from groupcomm.errors import UsageError
from groupcomm.limits import MAX_NAME_BYTES, MAX_NODE_NAME_BYTES


def checked_name(name: str, what: str, limit: int = MAX_NAME_BYTES) -> str:
    """Return ``name`` if it can name a group, client, node or cluster.

    Args:
        name: the name, 1 to ``limit`` bytes of UTF-8, printable, without surrounding white space.
        what: what the name is for, to be used in the error.
        limit: the largest size in bytes.

    Raises:
        UsageError: the name is empty, too long, not encodable or not printable.
    """
    try:
        size = len(name.encode("utf-8"))
    except UnicodeEncodeError:
        raise UsageError(f"{what} {name!r} cannot be encoded as UTF-8") from None
    if not 0 < size <= limit:
        raise UsageError(f"{what} must be 1 to {limit} bytes of UTF-8, not {size}")
    if not name.isprintable() or name != name.strip():
        raise UsageError(f"{what} {name!r} has unprintable characters or surrounding white space")
    return name


def checked_node_name(name: str) -> str:
    """Return ``name`` if it can name a node: as any name, but without ``@``, ``#`` and ``/``."""
    checked_name(name, "a node name", MAX_NODE_NAME_BYTES)
    if set(name) & set("@#/"):
        raise UsageError(f"a node name may not contain @, # or /: {name!r}")
    return name


@frozen(order=False, cache_hash=True)
class NodeId:
    """One run of one node: two runs of a name are two nodes.

    Compared and hashed for every packet of a view change, hence without the detours of generated comparisons.

    Attributes:
        name: chosen by the operator, unique in the cluster.
        incarnation: grows with every start of that name; 64 bits.
    """

    name: str
    incarnation: int

    def __lt__(self, other: NodeId) -> bool:
        return (self.name, self.incarnation) < (other.name, other.incarnation)

    def __gt__(self, other: NodeId) -> bool:
        return (self.name, self.incarnation) > (other.name, other.incarnation)

    def __le__(self, other: NodeId) -> bool:
        return (self.name, self.incarnation) <= (other.name, other.incarnation)

    def __ge__(self, other: NodeId) -> bool:
        return (self.name, self.incarnation) >= (other.name, other.incarnation)

    def __str__(self) -> str:
        return self.name


@frozen(order=True)
class ViewId:
    """The id of a view: ordered by epoch first, unique because a proposer uses an epoch once.

    Attributes:
        epoch: greater than that of any view or proposal its members had seen; 64 bits.
        proposer: the node that proposed it.
    """

    epoch: int
    proposer: NodeId

    def __str__(self) -> str:
        return f"{self.epoch}-{self.proposer.name}-{self.proposer.incarnation:x}"


@frozen(order=True, cache_hash=True)
class MemberId:
    """A client session as the groups know it; two sessions under one name are two members.

    Attributes:
        client: the name the client chose.
        node: the node that serves it.
        session: counts the sessions of that node's incarnation, from 1.
    """

    client: str
    node: NodeId
    session: int

    def __str__(self) -> str:
        return f"{self.client}@{self.node.name}"


@frozen(order=True)
class GroupViewId:
    """The id of a group view: the node view, then the place in its total order (0: at the installation itself)."""

    view: ViewId
    position: int = field(default=0)

    def __str__(self) -> str:
        return f"{self.view}/{self.position}"
