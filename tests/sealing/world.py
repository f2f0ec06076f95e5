"""Guards that talk to each other without a network, and what a test needs to make their packets."""

from __future__ import annotations

from random import Random

from groupcomm.config import NodeIdentity
from groupcomm.identity import NodeId
from groupcomm.outputs import Address, Datagram
from groupcomm.reliability.counters import Counters
from groupcomm.sealing.certified import Certified
from groupcomm.sealing.credentials import Credentials, SharedKey
from groupcomm.sealing.guard import Guard
from groupcomm.wire.codec import cluster_digest
from groupcomm.wire.keys import ClusterKey
from groupcomm.wire.packets import NO_SENDER, Kind, encode

KEY = ClusterKey(bytes(range(32)))
OTHER_KEY = ClusterKey(bytes(32))


class Party:
    """A guard with an address; ``opened`` is what it has let through. With an identity it has no key."""

    def __init__(
        self,
        name: str,
        *,
        incarnation: int = 1,
        key: ClusterKey = KEY,
        cluster: str = "default",
        identity: NodeIdentity | None = None,
    ) -> None:
        self.node = NodeId(name, incarnation)
        self.cluster = cluster
        self.address: Address = (f"10.0.0.{ord(name[0])}", 7400)
        self.counters = Counters()
        entropy = Random(f"{name}/{incarnation}").randbytes
        credentials: Credentials = SharedKey(key, cluster)
        if identity is not None:
            credentials = Certified(self.node, cluster, identity, entropy, self.counters)
        self.guard = Guard(self.node, cluster, credentials, entropy, self.counters)
        self.opened: list[bytes] = []

    def view_packet(self, body: bytes = b"body", *, kind: Kind = Kind.DATA, number: int = 1) -> bytes:
        """A packet of a view, not sealed."""
        return encode(kind, 7, 0, number, body, flags=3)

    def cluster_packet(self, body: bytes = b"body", kind: Kind = Kind.BEACON) -> bytes:
        """A packet of the cluster, not sealed."""
        return encode(kind, cluster_digest(self.cluster), NO_SENDER, 0, body, part=1)

    def seal(self, packet: bytes, to: Party | None = None) -> bytes:
        """As it leaves, for all or for one."""
        (sealed,) = self.guard.seal([Datagram(packet, None if to is None else to.address)])
        return sealed.data

    def take(self, data: bytes, sender: Party, now: float = 0.0) -> bytes | None:
        """It has come from there."""
        opened = self.guard.open(data, sender.address, now)
        self.guard.check_invariants()
        if opened is not None:
            self.opened.append(opened)
        return opened

    def greetings(self) -> list[Datagram]:
        """What it has to say to strangers, sealed."""
        return self.guard.seal(self.guard.take_greetings())


def converse(*parties: Party, now: float = 0.0) -> int:
    """Carry greetings to and fro until nobody has one; how many there were."""
    count = 0
    while True:
        waiting = [(party, datagram) for party in parties for datagram in party.greetings()]
        if not waiting:
            return count
        for sender, datagram in waiting:
            count += 1
            for party in parties:
                if party is not sender and datagram.destination in (None, party.address):
                    party.take(datagram.data, sender, now)


def meet(one: Party, other: Party, now: float = 0.0) -> None:
    """Make two known to each other."""
    other.take(one.seal(one.cluster_packet()), one, now)
    converse(one, other, now=now)
    assert other.take(one.seal(one.cluster_packet()), one, now) is not None
    assert one.take(other.seal(other.cluster_packet()), other, now) is not None
