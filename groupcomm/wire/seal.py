"""Sealed packets: what stands in the clear, what is sealed, and the greeting by which nodes prove that they live.

    header, SEALED set | mark 8 | counter 8 | introduction, kinds of the cluster only | sealed body | tag 16

All that stands before the sealed body is authenticated with it. Decides the form alone: which key, and whether to
believe what was opened, is ``groupcomm.sealing``'s.
"""

from __future__ import annotations

from functools import lru_cache
from struct import Struct

from attrs import field, frozen

from groupcomm.errors import MalformedPacket
from groupcomm.identity import NodeId
from groupcomm.limits import MAX_EXPELLED, MAX_NODE_NAME_BYTES
from groupcomm.wire.codec import Reader, Writer
from groupcomm.wire.keys import KEY_BYTES, SALT_BYTES
from groupcomm.wire.packets import HEADER_BYTES, SEALED, Kind

MARK_BYTES = 8
TAG_BYTES = 16
SEALED_HEAD_BYTES = HEADER_BYTES + MARK_BYTES + 8
SEAL_BYTES = SEALED_HEAD_BYTES - HEADER_BYTES + TAG_BYTES
"""By how much a packet of a view grows."""

MARK = slice(HEADER_BYTES, HEADER_BYTES + MARK_BYTES)
COUNTER = slice(HEADER_BYTES + MARK_BYTES, SEALED_HEAD_BYTES)
NONCE_BYTES = 12
NONCE = slice(SEALED_HEAD_BYTES - NONCE_BYTES, SEALED_HEAD_BYTES)
"""The second half of the mark, which is one with the key, and the counter, which no packet shares."""

UNICAST = 1 << 63
"""Set in the counter of a packet for one node: its packets for all are counted apart, as they may overtake those."""


def sealed_begin(data: bytes, epoch: int) -> bytes:
    """The first bytes of a packet, up to the number, as they stand before a sealed body."""
    return data[:2] + bytes((data[2] | SEALED, epoch)) + data[4:16]


def opened_head(data: bytes) -> bytes:
    """The header of a sealed packet as it stands before the open body."""
    return data[:2] + bytes((data[2] & ~SEALED, 0)) + data[4:HEADER_BYTES]


@lru_cache(maxsize=64)
def heads_format(count: int) -> Struct:
    """What stands before so many sealed bodies, each the header up to the number, the number, the mark, the counter."""
    return Struct("!" + "16sI8sQ" * count)


@lru_cache(maxsize=256)
def sealed_run_format(count: int, size_bytes: int, last_bytes: int) -> Struct:
    """Sealed packets: of each the header up to the number, the number, the mark, the counter, what is sealed."""
    body, last = size_bytes - SEALED_HEAD_BYTES, last_bytes - SEALED_HEAD_BYTES
    return Struct("!" + f"16sI8sQ{body}s" * (count - 1) + f"16sI8sQ{last}s")


@frozen
class Introduction:
    """Who sealed a packet of the cluster: enough to derive the key.

    Attributes:
        node: its name and incarnation.
        salt: of this run; its first eight bytes are the mark.
    """

    node: NodeId
    salt: bytes

    @property
    def mark(self) -> bytes:
        """What stands for it in the packets of views."""
        return self.salt[:MARK_BYTES]

    def encode(self) -> bytes:
        """What follows the counter."""
        return self.salt[MARK_BYTES:] + Writer().node(self.node).done()

    @classmethod
    def read(cls, data: bytes) -> tuple[Introduction, int]:
        """That of a sealed packet, and where what is sealed begins."""
        reader = Reader(data, SEALED_HEAD_BYTES)
        salt = data[MARK] + reader.raw(SALT_BYTES - MARK_BYTES)
        node = reader.node()
        return cls(node, salt), reader.at


@frozen
class Greeting:
    """Nodes that do not know each other prove that they live and are no recording.

    Attributes:
        to: the salt of the node it is for; zeros: of all.
        echo: what that node asked for; zeros: nothing was asked.
        ask: what the sender asks to be sent back; zeros: nothing, for it knows the other.
        counted: packets for all that the sender has sealed: none of them is news to who meets it now.
        secret: with certificates, the sender's control secret; else nothing.
        expelled: with certificates, the names of nodes that are expelled.
    """

    to: bytes
    echo: bytes
    ask: bytes
    counted: int
    secret: bytes = field(default=b"", repr=False)
    expelled: tuple[str, ...] = ()

    kind = Kind.GREETING

    def encode(self) -> bytes:
        """The body."""
        writer = Writer().raw(self.to).raw(self.echo).raw(self.ask).u64(self.counted).raw(self.secret)
        for name in self.expelled:
            writer.text(name)
        return writer.done()

    @classmethod
    def decode(cls, reader: Reader) -> Greeting:
        """The value of a body."""
        to, echo, ask = (reader.raw(SALT_BYTES) for _ in range(3))
        counted, more = reader.u64(), reader.rest()
        if not more:
            return cls(to, echo, ask, counted)
        rest = Reader(more)
        secret, expelled = rest.raw(KEY_BYTES), []
        while rest.at < len(more):
            expelled.append(rest.text(MAX_NODE_NAME_BYTES))
        if len(expelled) > MAX_EXPELLED:
            raise MalformedPacket(f"a greeting names {len(expelled)} expelled nodes")
        return cls(to, echo, ask, counted, secret, tuple(expelled))


TO = slice(HEADER_BYTES, HEADER_BYTES + SALT_BYTES)
"""Where a greeting that is not sealed yet says whom it is for."""

NOBODY = bytes(SALT_BYTES)
"""Zeros, where a salt or a question might be."""


def is_sealed(data: bytes) -> bool:
    """Whether a packet is as long as a sealed one and says that it is one."""
    return len(data) >= SEALED_HEAD_BYTES + TAG_BYTES and bool(data[2] & SEALED)


def is_sealed_run(data: bytes, size_bytes: int) -> bool:
    """Whether the first of these packets is one of data, and it and the last are as long as sealed ones."""
    least = SEALED_HEAD_BYTES + TAG_BYTES
    last_bytes = (len(data) - 1) % size_bytes + 1
    return size_bytes > least and last_bytes > least and data[1] == Kind.DATA and bool(data[2] & SEALED)
