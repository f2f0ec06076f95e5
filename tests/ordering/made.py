"""Frames and packets made by hand."""

from __future__ import annotations

from groupcomm.events import Level
from groupcomm.ordering.frames import Frame, FrameType, Outgoing, parse_frames
from groupcomm.wire.packets import Kind, encode

RELIABLE, FIFO, CAUSAL, AGREED, SAFE = (
    Level.RELIABLE,
    Level.FIFO,
    Level.CAUSAL,
    Level.AGREED,
    Level.SAFE,
)


def outgoing(level: Level, body: bytes = b"", session: int = 1, *, ticket: int = 1, stable: bool = False) -> Outgoing:
    """A frame of a session, to be sent."""
    return Outgoing(session, ticket, FrameType.GROUP, level, body, stable=stable)


def frame(
    stream: int,
    last: int,
    level: Level,
    name: str,
    *,
    group_position: int = 0,
    lamport: int = 0,
    ordered: int = 0,
    past: tuple[tuple[int, int], ...] = (),
) -> Frame:
    """A frame that has come in packet ``last`` of ``stream``; its body is ``name``."""
    data = outgoing(level, name.encode()).encode(group_position, lamport, ordered, past)
    (come,) = parse_frames(stream, last, last, data)
    return come


def packet(number: int, body: bytes, flags: int, kind: Kind = Kind.DATA) -> bytes:
    """A packet of a stream."""
    return encode(kind, 0, 0, number, body, flags=flags)
