"""Reading and writing the fields that all packets are made of.

A reader checks each length against the bytes that are really there and against the caller's limit before anything
is allocated; its only error is ``MalformedPacket``.
"""

from __future__ import annotations

import struct
from functools import lru_cache
from hashlib import blake2b

from groupcomm.errors import MalformedPacket
from groupcomm.identity import NodeId, ViewId
from groupcomm.limits import MAX_NODE_NAME_BYTES

_U32 = struct.Struct("!I")
_U64 = struct.Struct("!Q")
_MAX_VARINT = (1 << 64) - 1


def varint(number: int) -> bytes:
    """``number`` (0 to 2**64 - 1) in base 128, least significant group first, as protocol buffers write it."""
    if number < 0x80:
        return _ONE_BYTE[number]
    if number < 0x4000:
        return bytes((number & 0x7F | 0x80, number >> 7))
    parts = bytearray()
    while number > 0x7F:
        parts.append(number & 0x7F | 0x80)
        number >>= 7
    parts.append(number)
    return bytes(parts)


_ONE_BYTE = [bytes([number]) for number in range(0x80)]


class Writer:
    """Collects fields into bytes; the counterpart of ``Reader``."""

    __slots__ = ("_parts",)

    def __init__(self) -> None:
        self._parts: list[bytes] = []

    def u8(self, number: int) -> Writer:
        """One byte."""
        self._parts.append(bytes([number]))
        return self

    def u64(self, number: int) -> Writer:
        """Eight bytes, most significant first."""
        self._parts.append(_U64.pack(number))
        return self

    def number(self, number: int) -> Writer:
        """A varint."""
        self._parts.append(varint(number))
        return self

    def text(self, text: str) -> Writer:
        """A length byte and at most 255 bytes of UTF-8."""
        data = text.encode("utf-8")
        self._parts.append(bytes([len(data)]))
        self._parts.append(data)
        return self

    def node(self, node: NodeId) -> Writer:
        """Name and incarnation."""
        return self.text(node.name).u64(node.incarnation)

    def view(self, view: ViewId | None) -> Writer:
        """Epoch and proposer; epoch 0 alone for no view."""
        if view is None:
            return self.u64(0)
        return self.u64(view.epoch).node(view.proposer)

    def bits(self, bits: int, count: int) -> Writer:
        """A map of ``count`` bits, in as many bytes as these need; bit 0 is the lowest of the first byte."""
        return self.raw(bits.to_bytes(-(-count // 8), "little"))

    def raw(self, data: bytes) -> Writer:
        """Bytes as they are."""
        self._parts.append(data)
        return self

    def done(self) -> bytes:
        """All that was written."""
        return b"".join(self._parts)


class Reader:
    """Takes fields off the front of bytes."""

    __slots__ = ("_at", "_data", "_end")

    def __init__(self, data: bytes, at: int = 0, end: int | None = None) -> None:
        self._data = data
        self._at = at
        self._end = len(data) if end is None else end

    @property
    def at(self) -> int:
        """Where the next field begins."""
        return self._at

    @property
    def more(self) -> bool:
        """Whether anything is left."""
        return self._at < self._end

    def u8(self) -> int:
        """One byte."""
        at = self._at
        if at >= self._end:
            raise MalformedPacket("ends inside a byte")
        self._at = at + 1
        return self._data[at]

    def u64(self) -> int:
        """Eight bytes."""
        at = self._at
        if at + 8 > self._end:
            raise MalformedPacket("ends inside a number")
        self._at = at + 8
        number: int = _U64.unpack_from(self._data, at)[0]
        return number

    def number(self, limit: int = _MAX_VARINT) -> int:
        """A varint of at most ``limit``."""
        data, at, end = self._data, self._at, self._end
        if at < end and data[at] < 0x80:
            result = data[at]
            self._at = at + 1
        else:
            result = self._long_number(at)
        if result > limit:
            raise MalformedPacket(f"{result} where at most {limit} is allowed")
        return result

    def _long_number(self, at: int) -> int:
        data, end = self._data, self._end
        result = shift = 0
        while True:
            if at >= end:
                raise MalformedPacket("ends inside a byte")
            byte = data[at]
            at += 1
            result |= (byte & 0x7F) << shift
            if byte < 0x80:
                break
            shift += 7
            if shift > 63:
                raise MalformedPacket("a varint of more than ten bytes")
        self._at = at
        return result

    def end_at(self, end: int) -> None:
        """What follows ``end``, which lies within, is not for this reader."""
        self._end = end

    def text(self, limit: int = 255) -> str:
        """A name: a length byte and as many bytes of UTF-8, at least one and at most ``limit``.

        As strict as ``identity.checked_name``: clients are told of names in lines of text, which a line's end in one
        would break.
        """
        data = self.raw(self.u8())
        if not 0 < len(data) <= limit:
            raise MalformedPacket(f"a name of {len(data)} bytes")
        return _name(data)

    def node(self) -> NodeId:
        """Name and incarnation; the name as strict as ``identity.checked_node_name``."""
        data, at, end = self._data, self._at, self._end
        size = data[at] + 9 if at < end else 0
        if at + size > end or not 9 < size <= MAX_NODE_NAME_BYTES + 9:
            raise MalformedPacket("a node that is cut short, or a name of a size that no node has")
        self._at = at + size
        return _node(data[at + 1 : at + size])

    def view(self) -> ViewId | None:
        """A view id, or None for no view."""
        epoch = self.u64()
        return ViewId(epoch, self.node()) if epoch else None

    def some_view(self) -> ViewId:
        """A view id that must be there."""
        view = self.view()
        if view is None:
            raise MalformedPacket("a view id is missing")
        return view

    def bits(self, count: int) -> int:
        """A map of ``count`` bits."""
        bits = int.from_bytes(self.raw(-(-count // 8)), "little")
        if bits >> count:
            raise MalformedPacket(f"a map of {bits.bit_length()} bits where {count} are allowed")
        return bits

    def raw(self, size: int) -> bytes:
        """``size`` bytes."""
        at = self._at
        if at + size > self._end:
            raise MalformedPacket(f"ends {at + size - self._end} bytes early")
        self._at = at + size
        return self._data[at : at + size]

    def part(self, size: int) -> Reader:
        """A reader of the next ``size`` bytes alone."""
        at = self._at
        end = at + size
        if end > self._end:
            raise MalformedPacket(f"ends {end - self._end} bytes early")
        self._at = end
        return Reader(self._data, at, end)

    def rest(self) -> bytes:
        """All that is left."""
        at = self._at
        self._at = self._end
        return self._data[at : self._end]

    def left(self) -> tuple[bytes, int, int]:
        """Where what is left is: the bytes it is in, its beginning and its end; it counts as read."""
        at = self._at
        self._at = self._end
        return self._data, at, self._end

    def finish(self) -> None:
        """Raise unless everything was read."""
        if self._at != self._end:
            raise MalformedPacket(f"{self._end - self._at} bytes too many")


def digest64(*parts: bytes) -> int:
    """64 bits of BLAKE2b over the parts, each with its length before it."""
    state = blake2b(digest_size=8)
    for part in parts:
        state.update(len(part).to_bytes(4, "big"))
        state.update(part)
    return int.from_bytes(state.digest(), "big")


def cluster_digest(cluster: str) -> int:
    """What membership packets of a cluster carry: 64 bits of its name."""
    return digest64(b"groupcomm cluster", cluster.encode("utf-8"))


def view_digest(cluster: str, view: ViewId, members: tuple[NodeId, ...]) -> int:
    """What stream packets of a view carry: 64 bits of (cluster, view id, member list)."""
    writer = Writer().view(view)
    for member in members:
        writer.node(member)
    return digest64(b"groupcomm view", cluster.encode("utf-8"), writer.done())


def view_id_digest(view: ViewId) -> int:
    """64 bits that stand for a view where its id would be too long."""
    return digest64(b"groupcomm view id", Writer().view(view).done())


def list_digest(nodes: tuple[NodeId, ...]) -> int:
    """64 bits that stand for a list of candidates where it would be too long."""
    writer = Writer()
    for node in nodes:
        writer.node(node)
    return digest64(b"groupcomm candidates", writer.done())


@lru_cache(maxsize=8192)
def _name(data: bytes) -> str:
    try:
        name = data.decode("utf-8")
    except UnicodeDecodeError:
        raise MalformedPacket("a name that is not UTF-8") from None
    if not name.isprintable() or name != name.strip():
        raise MalformedPacket("a name that is not printable")
    return name


@lru_cache(maxsize=8192)
def _node(data: bytes) -> NodeId:
    """A node as it stands in bodies: every packet of a change names the same ones."""
    name = _name(data[:-8])
    if "@" in name or "#" in name or "/" in name:
        raise MalformedPacket("a node name with a sign that no node has")
    return NodeId(name, _U64.unpack(data[-8:])[0])
