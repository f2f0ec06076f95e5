"""Keys as values: the cluster's, those of its epochs, and the keys of packets that are derived from them.

Decides what a key is derived from, never where it is kept or who gets it. Nothing here prints a secret: values that
hold one show themselves without it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence

from attrs import field, frozen
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from groupcomm.errors import MalformedPacket, UsageError
from groupcomm.identity import NodeId
from groupcomm.wire.codec import Reader, Writer

KEY_BYTES = 32
"""Of every secret and every key: AES-256."""

SALT_BYTES = 16
"""What a node draws when it starts, so that no two runs of it ever share a packet key."""

_MAX_EPOCH = (1 << 32) - 1


def derive(secret: bytes, purpose: str, *parts: bytes) -> bytes:
    """32 bytes that depend on all of this and tell nothing of the secret (HKDF with SHA-256, RFC 5869).

    Args:
        secret: 32 bytes of full entropy, hence no salt (RFC 5869, 3.1 and 3.3).
        purpose: what the result is for; no two purposes share a result.
        parts: what else it is bound to, each with its length before it.
    """
    info = Writer().text("groupcomm 1").text(purpose)
    for part in parts:
        info.number(len(part)).raw(part)
    return HKDF(hashes.SHA256(), KEY_BYTES, None, info.done()).derive(secret)


@frozen
class ClusterKey:
    """The key that all nodes of a cluster share. Who has it is a node of the cluster.

    Attributes:
        secret: 32 random bytes.
    """

    secret: bytes = field(repr=False)

    @secret.validator
    def _check(self, _: object, secret: bytes) -> None:
        if len(secret) != KEY_BYTES:
            raise UsageError(f"a cluster key has {KEY_BYTES} bytes, not {len(secret)}")

    @classmethod
    def new(cls, entropy: Callable[[int], bytes]) -> ClusterKey:
        """A new one."""
        return cls(entropy(KEY_BYTES))

    @property
    def fingerprint(self) -> str:
        """Eight characters by which people tell keys apart; they say nothing of the key."""
        return derive(self.secret, "fingerprint").hex()[:8]


@frozen
class KeyEpoch:
    """The secret that all packets of views are sealed under for a time.

    Attributes:
        number: grows by one with each rotation; 0 for the secret that follows from the cluster key.
        secret: 32 bytes.
    """

    number: int
    secret: bytes = field(repr=False)

    @classmethod
    def first(cls, key: ClusterKey, cluster: str) -> KeyEpoch:
        """What a cluster begins with."""
        return cls(0, derive(key.secret, "epoch", cluster.encode()))

    def next(self, entropy: Callable[[int], bytes]) -> KeyEpoch:
        """A new one, which nothing that is known yet leads to."""
        return KeyEpoch(self.number + 1, entropy(KEY_BYTES))

    @property
    def byte(self) -> int:
        """How packets name it."""
        return self.number & 0xFF

    @property
    def digest(self) -> bytes:
        """Eight bytes that tell it from another of the same number."""
        return hashlib.sha256(b"groupcomm 1 epoch digest" + self.secret).digest()[:8]

    def write(self, writer: Writer) -> None:
        """Its form in messages and frames."""
        writer.number(self.number).raw(self.secret)

    @classmethod
    def read(cls, reader: Reader) -> KeyEpoch:
        """The next of a body."""
        number = reader.number(_MAX_EPOCH)
        if not number:
            raise MalformedPacket("the first key epoch is never sent")
        return cls(number, reader.raw(KEY_BYTES))


def merged_epoch(epochs: Sequence[KeyEpoch | None]) -> KeyEpoch | None:
    """The epoch of a view whose members come with these; None stands for the first one, number 0.

    The latest wins. Where partitions have rotated apart, to different secrets of one number, the next number follows
    from all of them: so each number means one secret at every node.
    """
    known = {epoch for epoch in epochs if epoch is not None}
    if not known:
        return None
    latest = max(epoch.number for epoch in known)
    secrets = sorted(epoch.secret for epoch in known if epoch.number == latest)
    if len(secrets) == 1:
        return KeyEpoch(latest, secrets[0])
    return KeyEpoch(latest + 1, derive(secrets[0], "merge", *secrets[1:]))


def view_packet_key(epoch: KeyEpoch, cluster: str, node: NodeId, salt: bytes) -> AESGCM:
    """The key under which one run of one node seals its packets of views."""
    return _packet_key(epoch.secret, "packets of views", cluster, node, salt)


def cluster_packet_key(secret: bytes, cluster: str, node: NodeId, salt: bytes) -> AESGCM:
    """The key under which one run of one node seals its packets of the cluster.

    Args:
        secret: the cluster key; with certificates, the control secret of this run.
        cluster: the cluster's name.
        node: which node.
        salt: of this run.
    """
    return _packet_key(secret, "packets of the cluster", cluster, node, salt)


def _packet_key(secret: bytes, purpose: str, cluster: str, node: NodeId, salt: bytes) -> AESGCM:
    return AESGCM(derive(secret, purpose, cluster.encode(), Writer().node(node).done(), salt))
