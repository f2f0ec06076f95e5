"""What proves that a node is of the cluster: the shared key, or, in ``certified``, a certificate of its own.

Decides under which key packets of the cluster are sealed and opened. What happens to them then is the same for both:
see ``guard``.
"""

from __future__ import annotations

from typing import Final, Protocol

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from groupcomm.outputs import Address, Datagram
from groupcomm.wire.keys import ClusterKey, KeyEpoch, cluster_packet_key
from groupcomm.wire.seal import Greeting, Introduction


class PassportRefused(Exception):  # what happened, not an error of this node
    """A passport is not good; the text says why."""


class Credentials(Protocol):
    """What one node proves itself with, and what others prove themselves with to it."""

    @property
    def first(self) -> KeyEpoch:
        """The key epoch that this node begins with."""

    @property
    def passports(self) -> bool:
        """Whether nodes have passports; if not, all begin with the same key epoch, and nobody need say it."""

    @property
    def signature_bytes(self) -> int:
        """By how much packets of the cluster grow inside the seal."""

    @property
    def secret(self) -> bytes:
        """What greetings carry, so that who gets one can open this node's packets of the cluster."""

    def renew(self, me: Introduction) -> AESGCM:
        """A run begins: the key that it seals packets of the cluster under."""

    def key_to(self, salt: bytes) -> AESGCM | None:
        """The key of greetings for this run alone; None: there is none of its own."""

    def key_of(self, who: Introduction, *, greeting: bool) -> AESGCM | None:
        """The key of packets of the cluster of a run that may not be known; None: they cannot be opened."""

    def key_met(self, who: Introduction, greeting: Greeting) -> AESGCM | None:
        """The key of packets of the cluster of a run that has proved to be alive; None: it has not told it."""

    def sign(self, data: bytes) -> bytes:
        """The signature of a packet of the cluster."""

    def verifies(self, who: Introduction, signature: bytes, data: bytes) -> bool:
        """Whether that is the signature of this run."""

    def lacks(self, who: Introduction, now: float) -> None:
        """A packet of the cluster came from a run that is not known."""

    def exclude(self, name: str) -> bool:
        """From now on refuse all passports of the node of this name; whether one was held."""

    def readmit(self, name: str) -> None:
        """Undo it."""

    def show(self, now: float) -> None:
        """Let others know of this run, if it is time to."""

    def take(self, data: bytes, source: Address, now: float) -> Introduction | None:
        """A passport came: whose, if it is good.

        Raises:
            PassportRefused: it is not.
            MalformedPacket: it is none.
        """

    def tick(self, now: float) -> list[tuple[Introduction, Address]]:
        """Time passes; who should be asked to prove that it lives unless it is known, and where it was."""

    def take_out(self) -> list[Datagram]:
        """What is to be sent, in the clear."""

    @property
    def sends(self) -> bool:
        """Whether there is such."""

    def check_invariants(self) -> None:
        """Raise ``AssertionError`` if it contradicts itself."""


class SharedKey:
    """The key that all nodes of a cluster share: who has it is a node."""

    passports: Final = False
    signature_bytes: Final = 0
    secret: Final = b""
    sends: Final = False

    def __init__(self, key: ClusterKey, cluster: str) -> None:
        self._key = key
        self._cluster = cluster
        self.first = KeyEpoch.first(key, cluster)

    def renew(self, me: Introduction) -> AESGCM:
        """See ``Credentials``."""
        return self.key_of(me)

    def key_to(self, salt: bytes) -> AESGCM | None:
        """None: all can open everything."""
        return None

    def key_of(self, who: Introduction, *, greeting: bool = False) -> AESGCM:
        """See ``Credentials``."""
        return cluster_packet_key(self._key.secret, self._cluster, who.node, who.salt)

    def key_met(self, who: Introduction, greeting: Greeting) -> AESGCM:
        """See ``Credentials``."""
        return self.key_of(who)

    def sign(self, data: bytes) -> bytes:
        """Nothing: a shared key tells nobody apart."""
        return b""

    def verifies(self, who: Introduction, signature: bytes, data: bytes) -> bool:
        """Always: there is nothing to verify."""
        return True

    def lacks(self, who: Introduction, now: float) -> None:
        """Every packet of the cluster can be opened: nothing is lacking."""

    def exclude(self, name: str) -> bool:
        """A shared key excludes nobody."""
        return False

    def readmit(self, name: str) -> None:
        """Nobody was excluded."""

    def show(self, now: float) -> None:
        """There is nothing to show."""

    def take(self, data: bytes, source: Address, now: float) -> Introduction | None:
        """Passports mean nothing here."""
        return None

    def tick(self, now: float) -> list[tuple[Introduction, Address]]:
        """Nobody."""
        return []

    def take_out(self) -> list[Datagram]:
        """Nothing."""
        return []

    def check_invariants(self) -> None:
        """There is nothing that could contradict itself."""
