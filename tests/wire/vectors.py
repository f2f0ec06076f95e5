"""Reads the test vectors of the page that documents the wire format."""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping
from pathlib import Path

from attrs import frozen

from groupcomm.events import Level, Reason
from groupcomm.identity import NodeId, ViewId
from groupcomm.ordering import frames
from groupcomm.quorum import Memory, Primary, Verdict, Vote, Why
from groupcomm.wire import codec, evidence, messages, packets, passport, seal

PAGE = Path(__file__).resolve().parent.parent.parent / "doc" / "design" / "wire.md"
_BLOCK = re.compile(r"^```vector ([^\n]+)\n(.*?)^```", re.MULTILINE | re.DOTALL)


@frozen
class Header:
    """The fields of a packet's header as the page writes them."""

    kind: packets.Kind
    flags: int
    key_epoch: int
    digest: int
    sender: int
    part: int
    sequence: int

    @classmethod
    def of(cls, packet: bytes) -> Header:
        read = packets.Header(packet)
        kind = packets.Kind(read.kind)
        return cls(kind, read.flags, read.key_epoch, read.digest, read.sender, read.part, read.sequence)


@frozen
class Position:
    """The place that a stamped data packet carries."""

    number: int


@frozen
class Raw:
    """Bytes that are read only together with others."""

    data: bytes

    def encode(self) -> bytes:
        return self.data


@frozen
class Frame:
    """The fields of a frame as the page writes them."""

    type: frames.FrameType
    level: Level
    self_discard: bool
    group_position: int
    lamport: int
    ordered: int
    past: tuple[tuple[int, int], ...]
    body: bytes

    @classmethod
    def of(cls, read: frames.Frame) -> Frame:
        return cls(
            read.type,
            read.level,
            read.self_discard,
            read.group_position,
            read.lamport,
            read.ordered,
            tuple(read.past),
            read.body,
        )

    def encode(self) -> bytes:
        outgoing = frames.Outgoing(0, 0, self.type, self.level, self.body, self_discard=self.self_discard)
        return outgoing.encode(self.group_position, self.lamport, self.ordered, self.past)


@frozen
class Vector:
    """One block: its name, its bytes and the values that they stand for."""

    name: str
    data: bytes
    values: tuple[object, ...]


_WORDS: Mapping[str, object] = {
    **{kind.name: kind for kind in packets.Kind},
    **{cls.__name__: cls for cls in (Header, Position, Raw, Frame, NodeId, ViewId, seal.Greeting, passport.Passport)},
    **{name: value for name, value in vars(packets).items() if name in ("NO_SENDER", "Range")},
    **{
        name: value
        for name, value in [*vars(packets).items(), *vars(messages).items()]
        if isinstance(value, type) and value.__module__ in (packets.__name__, messages.__name__) and name != "Header"
    },
    **{cls.__name__: cls for cls in (Memory, Primary, Verdict, Vote, Why)},
    "Finding": evidence.Finding,
    "FrameType": frames.FrameType,
    "Level": Level,
    "Reason": Reason,
    "Record": evidence.Record,
    "cluster_digest": codec.cluster_digest,
    "list_digest": codec.list_digest,
    "unhex": bytes.fromhex,
    "view_digest": codec.view_digest,
    "view_id_digest": codec.view_id_digest,
}


def value_of(text: str) -> object:
    """The value of an expression of constants, tuples, and calls of what the page may name."""
    return _value(ast.parse(text.strip(), mode="eval").body)


def _value(node: ast.expr) -> object:
    if isinstance(node, ast.Constant):
        return node.value
    if isinstance(node, ast.Tuple):
        return tuple(_value(item) for item in node.elts)
    if isinstance(node, ast.Name):
        return _WORDS[node.id]
    if isinstance(node, ast.Attribute):
        member: object = getattr(_value(node.value), node.attr)
        return member
    if isinstance(node, ast.Call):
        called = _value(node.func)
        assert callable(called)
        keywords = {str(keyword.arg): _value(keyword.value) for keyword in node.keywords}
        result: object = called(*(_value(item) for item in node.args), **keywords)
        return result
    raise ValueError(f"{ast.unparse(node)} is not allowed in a vector")


def read_vectors() -> list[Vector]:
    """All vectors of the page, in order."""
    vectors = []
    for name, block in _BLOCK.findall(PAGE.read_text(encoding="utf-8")):
        digits, *values = block.split("\n= ")
        vectors.append(Vector(name, bytes.fromhex(digits), tuple(value_of(value) for value in values)))
    return vectors
