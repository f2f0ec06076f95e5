"""A plain TCP connection beside what is measured, as fast as it goes.

    python -m bench.workers.tcp_worker sink ADDRESS
    python -m bench.workers.tcp_worker source ADDRESS CONTROL

The sink says ``listening``, takes one connection, and for each line of its input says how many bytes have come of it:
``counted`` (``bytes``, ``at``: nanoseconds of the monotonic clock). CONTROL is the congestion control of the source.
"""

from __future__ import annotations

import select
import socket
import sys
import time
from typing import Final

from bench.workers.conversation import say

PORT: Final = 5430
CHUNK_BYTES: Final = 256 * 1024


def sink(address: str) -> None:
    """Take what comes until the connection or the input ends."""
    with socket.create_server((address, PORT)) as listening:
        say({"e": "listening"})
        connected, _ = listening.accept()
    buffer = bytearray(CHUNK_BYTES)
    count = 0
    while True:
        ready, _, _ = select.select([connected, sys.stdin], [], [])
        if connected in ready:
            size = connected.recv_into(buffer)
            if not size:
                return
            count += size
        if sys.stdin in ready:
            if not sys.stdin.readline():
                return
            say({"e": "counted", "bytes": count, "at": time.monotonic_ns()})


def source(address: str, control: str) -> None:
    """Send until the other end is gone, or somebody ends this process."""
    chunk = bytes(CHUNK_BYTES)
    with socket.create_connection((address, PORT)) as connected:
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, control.encode())
        while True:
            connected.sendall(chunk)


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["sink", address]:
            sink(address)
        case ["source", address, control]:
            source(address, control)
