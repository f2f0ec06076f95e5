"""Seals what this node sends: its own keys, and the counters that no two packets share.

Upholds X3: one counter for each kind of destination serves all keys of this node, and no run draws another's salt.
"""

from __future__ import annotations

from collections.abc import Callable
from struct import Struct

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from groupcomm.identity import NodeId
from groupcomm.outputs import Datagram
from groupcomm.sealing.credentials import Credentials
from groupcomm.wire.keys import SALT_BYTES, KeyEpoch, view_packet_key
from groupcomm.wire.packets import HEADER_BYTES, LAST_OF_VIEW, Kind, Packets
from groupcomm.wire.seal import (
    NONCE,
    NONCE_BYTES,
    SEAL_BYTES,
    SEALED_HEAD_BYTES,
    TO,
    UNICAST,
    Introduction,
    heads_format,
    sealed_begin,
)

_COUNTER = Struct("!Q")


class Sealer:
    """Seals the packets of one node.

    Args:
        node: which node.
        cluster: the cluster's name.
        credentials: what the node proves itself with.
        entropy: makes so many random bytes.

    Attributes:
        me: as whom it introduces itself; new with each salt.
        epoch: what packets of views are sealed under.
        sealed: how many were, under this epoch and salt.
    """

    def __init__(self, node: NodeId, cluster: str, credentials: Credentials, entropy: Callable[[int], bytes]) -> None:
        self._node = node
        self._cluster = cluster
        self._credentials = credentials
        self._entropy = entropy
        self._counts = [0, UNICAST]
        self.epoch = credentials.first
        self.renew()

    def renew(self) -> None:
        """Draw a salt: from now on seal under keys that nothing was sealed under before."""
        self.me = Introduction(self._node, self._entropy(SALT_BYTES))
        self._introduction = self.me.encode()
        self._key = self._credentials.renew(self.me)
        self.use(self.epoch)

    def use(self, epoch: KeyEpoch) -> None:
        """Seal packets of views under this epoch."""
        self.epoch = epoch
        self._view_key = view_packet_key(epoch, self._cluster, self._node, self.me.salt)
        self.sealed = 0

    @property
    def counted(self) -> int:
        """How many packets for all it has sealed: the last one's counter."""
        return self._counts[0]

    @property
    def introduction_bytes(self) -> int:
        """By how much packets of the cluster grow beyond those of views."""
        return len(self._introduction) + self._credentials.signature_bytes

    def seal(self, datagram: Datagram) -> Datagram:
        """The same, sealed; a passport stays as it is: who gets it has no key yet."""
        data, to_one, size = datagram.data, datagram.destination is not None, datagram.segment_bytes
        if datagram.packets is not None:
            sealed = self._seal_run(datagram.packets, to_one)
            return Datagram(sealed, datagram.destination, size + SEAL_BYTES, None, datagram.link)
        if data[1] == Kind.PASSPORT:
            return datagram
        counter = self._counts[to_one] = self._counts[to_one] + 1
        key: AESGCM
        if data[1] <= LAST_OF_VIEW:
            self.sealed += 1
            key, epoch, introduction = self._view_key, self.epoch.byte, b""
        else:
            key, epoch, introduction = self._key, 0, self._introduction
        head = b"".join((sealed_begin(data, epoch), data[16:HEADER_BYTES], self.me.mark, _COUNTER.pack(counter)))
        nonce, head, body = head[NONCE], head + introduction, data[HEADER_BYTES:]
        if data[1] == Kind.GREETING:
            key = self._credentials.key_to(data[TO]) or key
        elif introduction:
            body += self._credentials.sign(head + body)
        return Datagram(head + key.encrypt(nonce, body, head), datagram.destination, link=datagram.link)

    def _seal_run(self, packets: Packets, to_one: bool) -> bytes:
        """The packets of a run: of a view, always."""
        parts = packets.parts
        assert parts is not None, "a run that is to be sealed was joined"
        count = len(parts.flags)
        first = self._counts[to_one] + 1
        self._counts[to_one] += count
        self.sealed += count
        epoch = self.epoch.byte
        begins = {flags: sealed_begin(begin, epoch) for flags, begin in parts.begins().items()}
        fields: list[bytes | int] = [self.me.mark] * (4 * count)
        fields[0::4] = map(begins.__getitem__, parts.flags)
        fields[1::4] = parts.low_numbers
        fields[3::4] = range(first, first + count)
        clear = heads_format(count).pack(*fields)
        ends = range(SEALED_HEAD_BYTES, len(clear) + 1, SEALED_HEAD_BYTES)
        heads = [clear[end - SEALED_HEAD_BYTES : end] for end in ends]
        nonces = [clear[end - NONCE_BYTES : end] for end in ends]
        pieces = [b""] * (2 * count)
        pieces[0::2] = heads
        pieces[1::2] = map(self._view_key.encrypt, nonces, parts.bodies, heads)
        return b"".join(pieces)

    def check_invariants(self) -> None:
        """Raise ``AssertionError`` if it contradicts itself."""
        assert self._counts[0] < UNICAST <= self._counts[1] < UNICAST << 1
