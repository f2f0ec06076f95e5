"""Packets in words, for logs."""

from __future__ import annotations

from groupcomm.errors import MalformedPacket
from groupcomm.identity import NodeId
from groupcomm.ordering.frames import FrameType
from groupcomm.wire.messages import Beacon, Join, decode_message
from groupcomm.wire.packets import FIRST, HEADER_BYTES, STAMPED, Header, Kind


def packet_label(data: bytes) -> str:
    """The kind of a packet, whose stream and number it has, and what a membership message says; ``?`` if it is none."""
    try:
        header = Header(data)
        kind = Kind(header.kind)
    except (MalformedPacket, ValueError):
        return "?"
    if kind < Kind.BEACON:
        return f"{kind.name} sender {header.sender} number {header.sequence} flags {header.flags:02x}"
    try:
        message = decode_message(kind, data[HEADER_BYTES:])
    except MalformedPacket:
        return f"{kind.name} number {header.sequence} part {header.part:04x}"
    match message:
        case Beacon():
            return f"BEACON of {_name(message.node)} view {message.view} size {message.size} hears {len(message.heard)}"
        case Join():
            names = [f"{message.listed:x}"] if message.candidates is None else map(_name, message.candidates)
            row = f"{' '.join(names)} heard {message.heard:b}"
            return (
                f"JOIN of {_name(message.node)} view {message.view} attempt {message.attempt} serial {message.serial} "
                f"agreed {message.agreed:x} answered {message.answered} row {{{row}}}"
            )
        case _:
            return kind.name


def packet_kind(data: bytes) -> str:
    """The name of a packet's kind, ``DIRECTORY`` for the first packet of a directory; ``?`` if it is none."""
    try:
        header = Header(data)
        kind = Kind(header.kind)
    except (MalformedPacket, ValueError):
        return "?"
    if kind is Kind.DATA and header.flags & FIRST and not header.flags & STAMPED and len(data) > HEADER_BYTES:
        return "DIRECTORY" if data[HEADER_BYTES] >> 3 & 0x0F == FrameType.DIRECTORY else "DATA"
    return kind.name


def _name(node: NodeId) -> str:
    return f"{node.name}.{node.incarnation}"
