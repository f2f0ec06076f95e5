"""Where the microseconds go inside the engine: ``python -m bench.stations [--size BYTES] [--frames N]``.

Four engines of one view in this process, no sockets and no clients: one sends frames at AGREED, the others take them.
Each station on the way is timed by itself and shown as the lower quintile of all frames, in microseconds, which other
work on the machine moves least. What kernel, reactor and handles add is the difference to ``python -m bench``.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Callable, Sequence
from time import perf_counter
from typing import Final, TypeVar

from groupcomm.events import Level
from groupcomm.outputs import Datagram
from groupcomm.packing import pack_messages
from groupcomm.testing import Cluster
from groupcomm.testing.interface import EngineInterface

GROUP: Final = "bench"
FRAME_SECONDS: Final = 0.001
STATIONS: Final = (
    ("send", "the sender's engine takes a frame from a session"),
    ("flush", "what may leave becomes packets: from here on it is on the wire"),
    ("own", "the sender delivers its own copy, and looks after its view"),
    ("receive", "a receiver's engine takes what one receive gives"),
    ("deliver", "it delivers, and looks after its view"),
)

T = TypeVar("T")


class Stations:
    """One sender and three receivers."""

    def __init__(self, size: int) -> None:
        self._times: dict[str, list[float]] = defaultdict(list)
        self._payload = pack_messages([bytes(size)])
        cluster = Cluster(1)
        cluster.check_invariants = False
        nodes = cluster.add_nodes("a", "b", "c", "d")
        assert cluster.run_until(cluster.converged, 10.0)
        clients = [node.open("client") for node in nodes]
        for client in clients:
            client.join(GROUP)
        cluster.run(1.0)
        self._session = clients[0].session
        self._engines: list[EngineInterface] = [node.engine for node in nodes]
        self._addresses = [node.address for node in nodes]
        self._now = [node.local_now() for node in nodes]

    def frame(self) -> None:
        """Let one frame go all the way, and the reports on it back."""
        self._now = [now + FRAME_SECONDS for now in self._now]
        sender, now = self._engines[0], self._now[0]
        self._timed("send", lambda: sender.send(self._session, (GROUP,), self._payload, Level.AGREED, now))
        self._timed("flush", lambda: sender.flush(now))
        datagrams = sender.datagrams_to_send(now)
        self._timed("own", lambda: sender.burst_ended(now))
        sender.take_outputs()
        for index in range(1, len(self._engines)):
            self._take("receive", index, 0, datagrams)
            self._timed("deliver", lambda at=index: self._engines[at].burst_ended(self._now[at]))  # type: ignore[misc]
            self._engines[index].take_outputs()
        for index, engine in enumerate(self._engines):
            self._answer(index, engine)

    def report(self) -> list[tuple[str, float, str]]:
        """Each station: its name, the lower quintile in microseconds, what happens there."""
        return [(name, sorted(self._times[name])[len(self._times[name]) // 5] * 1e6, what) for name, what in STATIONS]

    def forget(self) -> None:
        """What was measured so far was for warming up."""
        self._times.clear()

    def _answer(self, index: int, engine: EngineInterface) -> None:
        deadline = engine.next_deadline()
        if deadline is not None and deadline <= self._now[index]:
            engine.handle_timeout(self._now[index])
        datagrams = engine.datagrams_to_send(self._now[index])
        for other in range(len(self._engines)):
            if other != index and datagrams:
                self._take("", other, index, datagrams)
                self._engines[other].burst_ended(self._now[other])

    def _take(self, station: str, index: int, sender: int, datagrams: Sequence[Datagram]) -> None:
        engine, source, now = self._engines[index], self._addresses[sender], self._now[index]
        for datagram in datagrams:
            if datagram.segment_bytes:
                self._timed(
                    station,
                    lambda run=datagram: engine.run_received(run.data, run.segment_bytes, source, now),  # type: ignore[misc]
                )
            else:
                self._timed(
                    station,
                    lambda one=datagram: engine.datagram_received(one.data, source, now),  # type: ignore[misc]
                )

    def _timed(self, station: str, call: Callable[[], T]) -> T:
        begun = perf_counter()
        result = call()
        self._times[station].append(perf_counter() - begun)
        return result


def main() -> None:
    """Measure and print."""
    assert __doc__ is not None
    parser = argparse.ArgumentParser(prog="python -m bench.stations", description=__doc__)
    parser.add_argument("--size", type=int, default=64, help="bytes of the one message of each frame (64)")
    parser.add_argument("--frames", type=int, default=2000, help="how many (2000)")
    options = parser.parse_args()
    stations = Stations(options.size)
    for _ in range(options.frames // 10):
        stations.frame()
    stations.forget()
    for _ in range(options.frames):
        stations.frame()
    for name, microseconds, what in stations.report():
        print(f"{name:8} {microseconds:8.1f} us  {what}")


if __name__ == "__main__":
    main()
