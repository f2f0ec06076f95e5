"""Who is expelled: a name that no certificate makes a node of this view any more.

    --EXPEL, a name that is not expelled-->   expelled: its passports are refused, nothing of it is opened; if it could
                                              know this node's control secret, this node draws new keys, comes with an
                                              epoch of its own into the next view, and wants that view at once
    --EXPEL, one that is-->                   the same
    --a node is greeted-->                    it is told all names; a node that is told one does as with EXPEL

EXPEL is a frame of level AGREED, so all members of the view pass it at one point of the order. What follows from the
epochs that they come with, the expelled node cannot know: each says its own under its new control secret. Greetings
tell newcomers and other parts of a cluster that was parted, before they can have taken it in.
"""

from __future__ import annotations

from groupcomm.errors import MalformedPacket, UsageError
from groupcomm.identity import NodeId, checked_node_name
from groupcomm.limits import MAX_EXPELLED
from groupcomm.outputs import NodeExpelled
from groupcomm.sealing.guard import Guard
from groupcomm.wire.codec import Reader, Writer


class Expulsion:
    """What one node knows of who is expelled.

    Args:
        node: which node.
        guard: seals and opens.

    Attributes:
        names: who is expelled, and by whom; the earliest is forgotten when full.
        out: bodies of frames to send.
        left_out: names that the next view must not have, for the engine to take.
        news: what is to be told.
    """

    def __init__(self, node: NodeId, guard: Guard) -> None:
        self._node = node
        self._guard = guard
        self.names: dict[str, str] = {}
        self.out: list[bytes] = []
        self.left_out: list[str] = []
        self.news: list[NodeExpelled] = []

    def known(self, names: tuple[str, ...]) -> None:
        """These were expelled before this node was started."""
        for name in names[-MAX_EXPELLED:]:
            if name != self._node.name:
                self.names[name] = ""
                self._guard.exclude(name, 0.0)
        self._guard.tell_of(tuple(self.names))

    def ask(self, name: str) -> None:
        """Expel a node.

        Raises:
            UsageError: a shared key cannot exclude anybody, or that is no name of another node.
        """
        if not self._guard.tells_apart:
            raise UsageError(
                "the nodes of this cluster share a key, and a key cannot exclude anybody who has it: give all other "
                "hosts another key, or use certificates"
            )
        checked_node_name(name)
        if name == self._node.name:
            raise UsageError(f"{name} is this node: stop it, or expel it on another")
        self.out.append(Writer().text(name).text(self._node.name).done())

    def frame(self, body: bytes, now: float) -> None:
        """An expulsion, at its place in the order.

        Raises:
            MalformedPacket: it is none.
        """
        reader = Reader(body)
        name, by = reader.text(64), reader.text(64)
        reader.finish()
        if not self._guard.tells_apart:
            raise MalformedPacket("an expulsion where nodes share a key")
        self._expelled(name, by, now)

    def greeted(self, now: float) -> None:
        """Others may have told who is expelled."""
        told, self._guard.told = self._guard.told, []
        for name, by in told:
            if name not in self.names:
                self._expelled(name, by, now)

    def _expelled(self, name: str, by: str, now: float) -> None:
        if name not in self.names and name != self._node.name:
            while len(self.names) >= MAX_EXPELLED:
                self._guard.readmit(next(iter(self.names)))
                del self.names[next(iter(self.names))]
            self.names[name] = by
            self._guard.tell_of(tuple(self.names))
            if self._guard.exclude(name, now):
                self.left_out.append(name)
        self.news.append(NodeExpelled(name, by))
