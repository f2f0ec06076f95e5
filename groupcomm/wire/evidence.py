"""What led to a view: who noted what about whom, as it travels in JOIN and PLAN and is told to applications.

Decides only how a record looks and how many of them a message carries. What is noted when is the membership's business.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence

from attrs import frozen

from groupcomm.errors import MalformedPacket
from groupcomm.identity import NodeId
from groupcomm.wire.codec import Reader, Writer


class Finding(enum.IntEnum):
    """What was found of a node."""

    HOST_SILENT = 1
    PROCESS_SILENT = 2
    SILENT = 3
    UNHEARD = 4
    REFUSED = 5
    RESTARTED = 6
    WENT_ON = 7
    GAVE_UP = 8
    EXPELLED = 9
    TOO_SLOW = 10
    NO_WORD = 11
    ONE_WAY = 12
    NO_PROGRESS = 13
    LEAVES = 14
    CAME = 15
    BEGAN = 16

    @property
    def label(self) -> str:
        """As it stands in JSON: ``host silent``."""
        return self.name.lower().replace("_", " ")


@frozen
class Record:
    """One link of the chain that led to a view.

    Attributes:
        finding: what was found.
        about: of whom.
        by: by whom; of ``BEGAN`` the same, who began the change.
        before_milliseconds: how long before the plan of the view that was known to its proposer.
        silent_milliseconds: how long ``by`` had not heard ``about`` then, or that had been slow; 0 where
            that says nothing.
        count: probes without an answer, the last packet of its stream, or the bytes that it lacked of what ``by`` had
            sent; 0 where that says nothing.
    """

    finding: Finding
    about: NodeId
    by: NodeId
    before_milliseconds: int = 0
    silent_milliseconds: int = 0
    count: int = 0

    def write(self, writer: Writer) -> None:
        """The counterpart of ``read``."""
        writer.u8(self.finding).node(self.about).node(self.by)
        writer.number(self.before_milliseconds).number(self.silent_milliseconds).number(self.count)

    @classmethod
    def read(cls, reader: Reader) -> Record:
        """The next record of a body."""
        try:
            finding = Finding(reader.u8())
        except ValueError:
            raise MalformedPacket("an unknown finding") from None
        about, by = reader.node(), reader.node()
        return cls(finding, about, by, reader.number(), reader.number(), reader.number())


def write_records(writer: Writer, records: Sequence[Record]) -> None:
    """How many, and each of them."""
    writer.number(len(records))
    for record in records:
        record.write(writer)


def read_records(reader: Reader, limit: int) -> tuple[Record, ...]:
    """The counterpart of ``write_records``."""
    return tuple(Record.read(reader) for _ in range(reader.number(limit)))
