"""What a long flood does to the memory of every process: whether it stays flat."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import suppress
from statistics import mean
from types import TracebackType
from typing import Final

from bench.lab import Json, Lab, Process
from bench.measure import Record, throughput
from bench.systems.base import Deployment

SAMPLES: Final = 200
"""How often each process is looked at during a flood."""

WARM_SHARE: Final = 0.2
"""Of the time, which is for filling what may be filled: growth is counted from then on."""

ENDS_SHARE: Final = 0.1
"""Of the samples that count: so many at the beginning are compared with so many at the end."""


class Sampler:
    """Looks at the memory of all processes of a lab, until it is closed. A context manager.

    Attributes:
        samples: bytes of each process, by its name.
    """

    def __init__(self, lab: Lab, every_seconds: float) -> None:
        self.samples: dict[str, list[int]] = defaultdict(list)
        self._processes: list[Process] = list(lab.processes)
        self._every_seconds = every_seconds
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Sampler:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._closed.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._closed.wait(self._every_seconds):
            for process in self._processes:
                with suppress(OSError):  # it has ended, which the measurement says
                    self.samples[process.name].append(process.memory_bytes())


def growth(samples: Sequence[int]) -> float:
    """Bytes by which the end of the samples is above their beginning, the time for filling left out."""
    counted = samples[int(len(samples) * WARM_SHARE) :]
    ends = max(1, int(len(counted) * ENDS_SHARE))
    return mean(counted[-ends:]) - mean(counted[:ends])


def flood(deployment: Deployment, part: str, case: Json, seconds: float) -> Iterator[Record]:
    """A long flood: for each kind of process the largest memory at its end, the largest growth, in MB, and the rate."""
    deployment.refresh()
    with Sampler(deployment.lab, seconds / SAMPLES) as sampler:
        sent = throughput(deployment, part, case, seconds)
    if sent.wrong:
        yield sent
        return
    kinds: dict[str, list[list[int]]] = defaultdict(list)
    for name, samples in sampler.samples.items():
        kinds[name.rpartition("-")[0]].append(samples[: SAMPLES - 1])
    for kind, of_kind in kinds.items():
        figures = {
            "memory": max(samples[-1] for samples in of_kind) / 1e6,
            "growth": max(growth(samples) for samples in of_kind) / 1e6,
        }
        yield Record(part, sent.system, {**case, "process": kind}, sent.figures | figures)
