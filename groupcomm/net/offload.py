"""What the kernel can do for many datagrams at once, each with a fallback where it cannot.

* UDP generic segmentation offload: a run of datagrams of one size leaves with one system call (``UDP_SEGMENT``).
* UDP generic receive offload: such a run arrives with one system call (``UDP_GRO``) and is walked in place.

Decides only which datagrams go together; their order never changes.
"""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Callable, Sequence
from typing import Final, cast

from groupcomm.outputs import Address, Datagram

MAX_SEGMENTS: Final = 64
"""The kernel's limit of datagrams in one segmented send (``UDP_MAX_SEGMENTS``; newer kernels allow twice as many)."""

MAX_RUN_BYTES: Final = 65_000
"""Bytes in one segmented send: with its headers it must be a datagram that could exist."""

ANCILLARY_BYTES: Final = 64
"""Room for the one control message that a receive offload adds."""

_UDP_SEGMENT: Final = 103
_UDP_GRO: Final = 104
_SEGMENT_SIZE: Final = struct.Struct("=H")
_GRO_SIZE: Final = struct.Struct("=i")
_NOT_SUPPORTED: Final = frozenset(
    {errno.EINVAL, errno.EIO, errno.EMSGSIZE, errno.ENOPROTOOPT, errno.EOPNOTSUPP, errno.ENOSYS}
)


class SegmentingSender:
    """Sends datagrams from one socket, with as few system calls as the kernel allows.

    Invariant: datagrams leave in the order they were given; none is sent twice.

    Attributes:
        segmenting: whether the kernel can cut runs, as far as is known.
        runs: how many left with one call.
        scope: where the socket's address is link-local, the name and the number of its interface: the kernel wants
            the number with every destination.
    """

    def __init__(self, sending: socket.socket, group: Address, failed: Callable[[OSError, int], None]) -> None:
        """Send nothing yet.

        Args:
            sending: a UDP socket that does not block.
            group: where a datagram without a destination goes.
            failed: called with the error and the number of datagrams that were not sent for it.
        """
        self._socket = sending
        self._group = group
        self._failed = failed
        self.segmenting = True
        self.runs = 0
        self.scope: tuple[str, int] | None = None

    def use(self, sending: socket.socket) -> None:
        """Send from another socket from now on."""
        self._socket = sending

    def send(self, datagrams: Sequence[Datagram]) -> None:
        """Send all of them."""
        if self.scope is not None:
            datagrams = [self._with_scope(datagram) for datagram in datagrams]
        if len(datagrams) == 1 and not datagrams[0].segment_bytes:
            self._send_run((datagrams[0].data,), datagrams[0].destination or self._group)
            return
        run: list[bytes] = []
        run_bytes = run_size = 0
        run_destination: Address | None = None
        for datagram in datagrams:
            data, destination = datagram.data, datagram.destination
            if datagram.segment_bytes:
                if run:
                    self._send_run(run, run_destination or self._group)
                    run = []
                self._send_cut(data, datagram.segment_bytes, destination or self._group)
                continue
            size = len(data)
            if run and not (
                size <= run_size
                and destination == run_destination
                and run_bytes + size <= MAX_RUN_BYTES
                and len(run) < MAX_SEGMENTS
            ):
                self._send_run(run, run_destination or self._group)
                run = []
            if not run:
                run_bytes, run_size, run_destination = 0, size, destination
            run.append(data)
            run_bytes += size
            if size < run_size:
                # A shorter one ends its run: only the last segment may be short.
                self._send_run(run, run_destination or self._group)
                run = []
        if run:
            self._send_run(run, run_destination or self._group)

    def _with_scope(self, datagram: Datagram) -> Datagram:
        """The same, its destination as the kernel wants it if it is on this link."""
        if datagram.destination is None or self.scope is None:
            return datagram
        host, _, name = datagram.destination[0].partition("%")
        if name != self.scope[0]:
            return datagram
        full = cast(Address, (host, datagram.destination[1], 0, self.scope[1]))
        return Datagram(datagram.data, full, datagram.segment_bytes, datagram.packets, datagram.link)

    def _send_cut(self, data: bytes, size_bytes: int, destination: Address) -> None:
        """Send datagrams that lie one behind the other, with as few calls as the kernel's limits allow."""
        most = max(1, min(MAX_SEGMENTS, MAX_RUN_BYTES // size_bytes)) * size_bytes
        if len(data) > most:
            for at in range(0, len(data), most):
                self._send_cut(data[at : at + most], size_bytes, destination)
            return
        refused = False
        if self.segmenting and len(data) > size_bytes:
            if self._left_at_once((data,), size_bytes, -(-len(data) // size_bytes), destination):
                return
            refused = True
        pieces = [data[at : at + size_bytes] for at in range(0, len(data), size_bytes)]
        self._send_run(pieces, destination, refused=refused)

    def _send_run(self, run: Sequence[bytes], destination: Address, *, refused: bool = False) -> None:
        """Send datagrams of one size, the last of which may be shorter, to one place.

        If the kernel has ``refused`` them as a run and takes the first of them alone, it cannot segment: else they
        were too long.
        """
        if len(run) > 1 and self.segmenting and not refused and len(run[-1]):
            if self._left_at_once(run, len(run[0]), len(run), destination):
                return
            refused = True
        for data in run:
            try:
                self._socket.sendto(data, destination)
            except OSError as error:
                self._failed(error, 1)
            else:
                if refused:
                    self.segmenting = False
            refused = False

    def _left_at_once(self, run: Sequence[bytes], size_bytes: int, count: int, destination: Address) -> bool:
        """Try to send a run with one call; False if the kernel refuses it as a run."""
        control = [(socket.IPPROTO_UDP, _UDP_SEGMENT, _SEGMENT_SIZE.pack(size_bytes))]
        try:
            self._socket.sendmsg(run, control, 0, destination)
        except OSError as error:
            if error.errno in _NOT_SUPPORTED:
                return False
            self._failed(error, count)
        else:
            self.runs += 1
        return True


def receive_runs(receiving: socket.socket) -> None:
    """Let the socket take runs of datagrams at once, if the kernel can."""
    try:
        receiving.setsockopt(socket.IPPROTO_UDP, _UDP_GRO, 1)
    except OSError:
        return


def segment_size(ancillary: Sequence[tuple[int, int, bytes]], size_bytes: int) -> int:
    """The size of the datagrams in what one receive gave: ``size_bytes`` if it is one datagram."""
    for level, kind, value in ancillary:
        if level == socket.IPPROTO_UDP and kind == _UDP_GRO and len(value) >= _GRO_SIZE.size:
            size: int = _GRO_SIZE.unpack_from(value)[0]
            if 0 < size < size_bytes:
                return size
    return size_bytes
