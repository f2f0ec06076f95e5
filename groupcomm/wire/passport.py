"""The passport of one run of one node: its certificate, and the keys that this run signs and agrees with.

Decides the form alone: whether a passport is good is ``groupcomm.sealing``'s and ``groupcomm.trust``'s to say.
"""

from __future__ import annotations

from attrs import evolve, frozen

from groupcomm.errors import MalformedPacket
from groupcomm.identity import NodeId
from groupcomm.limits import MAX_CERTIFICATE_BYTES, MAX_PASSPORT_ASKS
from groupcomm.wire.codec import Reader, Writer
from groupcomm.wire.keys import KEY_BYTES, SALT_BYTES
from groupcomm.wire.packets import Kind
from groupcomm.wire.seal import MARK_BYTES, Introduction

SIGNATURE_BYTES = 64
"""Of ECDSA on P-256, r and s one behind the other, and of Ed25519."""


@frozen
class Passport:
    """Who a run of a node is, by its certificate.

    Attributes:
        asks: marks of nodes whose passports the sender has not; not signed.
        certificate: of the node, in DER.
        node: its name and incarnation.
        salt: of this run.
        signing: the public key (Ed25519) that this run signs packets of the cluster with.
        agreement: the public key (X25519) under which others greet it.
        signature: of all this, but for ``asks``, by the key of the certificate.
    """

    asks: tuple[bytes, ...]
    certificate: bytes
    node: NodeId
    salt: bytes
    signing: bytes
    agreement: bytes
    signature: bytes

    kind = Kind.PASSPORT

    @property
    def who(self) -> Introduction:
        """The run that it is of."""
        return Introduction(self.node, self.salt)

    def statement(self, digest: int) -> bytes:
        """What is signed, in the cluster with this digest."""
        return Writer().text("groupcomm 1 passport").u64(digest).raw(self._fields()).done()

    def asking(self, asks: tuple[bytes, ...]) -> Passport:
        """The same, asking for the passports of others."""
        return self if asks == self.asks else evolve(self, asks=asks)

    def _fields(self) -> bytes:
        writer = Writer().number(len(self.certificate)).raw(self.certificate).node(self.node).raw(self.salt)
        return writer.raw(self.signing).raw(self.agreement).done()

    def encode(self) -> bytes:
        """The body."""
        return bytes([len(self.asks)]) + b"".join(self.asks) + self._fields() + self.signature

    @classmethod
    def decode(cls, reader: Reader) -> Passport:
        """The value of a body."""
        count = reader.u8()
        if count > MAX_PASSPORT_ASKS:
            raise MalformedPacket(f"a passport asks for {count} others")
        asks = tuple(reader.raw(MARK_BYTES) for _ in range(count))
        certificate = reader.raw(reader.number(MAX_CERTIFICATE_BYTES))
        node, salt = reader.node(), reader.raw(SALT_BYTES)
        passport = cls(
            asks, certificate, node, salt, reader.raw(KEY_BYTES), reader.raw(KEY_BYTES), reader.raw(SIGNATURE_BYTES)
        )
        reader.finish()
        return passport
