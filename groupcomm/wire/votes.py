"""How votes and verdicts of quorum look in ANSWER and PLAN."""

from __future__ import annotations

from groupcomm.errors import MalformedPacket
from groupcomm.limits import MAX_NODES
from groupcomm.quorum import Memory, Primary, Verdict, Vote, Why
from groupcomm.quorum.votes import MAX_ATTEMPTS, NO_VERDICT
from groupcomm.wire.codec import Reader, Writer

_LAST = 1
_WHOLE = 2


def write_vote(writer: Writer, vote: Vote) -> None:
    """The counterpart of ``read_vote``."""
    memory = vote.memory
    writer.u64(vote.digest).u8((memory.last is not None) * _LAST | memory.whole * _WHOLE)
    if memory.last is not None:
        _write_primary(writer, memory.last)
    writer.number(len(memory.attempts))
    for attempt in memory.attempts:
        _write_primary(writer, attempt)


def read_vote(reader: Reader) -> Vote:
    """A vote."""
    digest, flags = reader.u64(), reader.u8()
    last = _read_primary(reader) if flags & _LAST else None
    attempts = tuple(_read_primary(reader) for _ in range(reader.number(MAX_ATTEMPTS)))
    return Vote(digest, Memory(last, attempts, bool(flags & _WHOLE)))


def write_verdict(writer: Writer, verdict: Verdict, participants: int) -> None:
    """The counterpart of ``read_verdict``."""
    writer.u8(verdict.why)
    if verdict.why is Why.NO_FILTER:
        return
    writer.u8(verdict.primary).bits(verdict.differing, participants).number(len(verdict.void))
    for view in verdict.void:
        writer.view(view)


def read_verdict(reader: Reader, participants: int) -> Verdict:
    """A verdict on a view of so many participants."""
    try:
        why = Why(reader.u8())
    except ValueError:
        raise MalformedPacket("an unknown reason of a verdict") from None
    if why is Why.NO_FILTER:
        return NO_VERDICT
    primary = bool(reader.u8())
    differing = reader.bits(participants)
    void = tuple(reader.some_view() for _ in range(reader.number(participants * MAX_ATTEMPTS)))
    return Verdict(primary, why, differing, void)


def _write_primary(writer: Writer, primary: Primary) -> None:
    count = primary.nodes.bit_length()
    writer.view(primary.id).number(count).bits(primary.nodes, count)


def _read_primary(reader: Reader) -> Primary:
    view, count = reader.some_view(), reader.number(MAX_NODES)
    return Primary(view, reader.bits(count))
