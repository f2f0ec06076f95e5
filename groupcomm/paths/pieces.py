"""Datagrams that are larger than a path takes: cut into pieces, and put together again before anything is opened."""

from __future__ import annotations

from groupcomm.limits import LEAST_PATH_BYTES
from groupcomm.outputs import Address
from groupcomm.wire.messages import Assembler, cut
from groupcomm.wire.packets import HEADER_BYTES, VERSION, Header, Kind

_BEGIN = bytes([VERSION, Kind.PIECE, 0])


def is_piece(data: bytes) -> bool:
    """Whether it is a piece of a datagram."""
    return data[:3] == _BEGIN


class Pieces:
    """Cuts and assembles for one node.

    Args:
        digest: of the cluster; pieces of others are left alone.
        number: of the first datagram; a run begins elsewhere than the one before, whose halves may still be held.
    """

    __slots__ = ("_assembler", "_digest", "_number")

    def __init__(self, digest: int, number: int) -> None:
        self._digest = digest
        self._number = number
        self._assembler = Assembler()

    def cut(self, data: bytes) -> list[bytes]:
        """The pieces of a datagram."""
        self._number = (self._number + 1) & 0xFFFFFFFF
        return cut(Kind.PIECE, self._digest, self._number, data, LEAST_PATH_BYTES)

    def add(self, data: bytes, source: Address) -> bytes | None:
        """The datagram once its last piece is here.

        Raises:
            MalformedPacket: it is no piece.
        """
        header = Header(data)
        if header.digest != self._digest:
            return None
        whole = self._assembler.add(header, data[HEADER_BYTES:], source)
        return None if whole is None or is_piece(whole) else whole
