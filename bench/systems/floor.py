"""The empty Twisted relay of ``bench/floor.py`` as a system, for its latency."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

import twisted
from bench.lab import Lab, Process
from bench.systems.base import START_SECONDS, System
from bench.waiting import wait_for


class Floor(System):
    """The relay in one of the two shapes."""

    has_views: ClassVar[bool] = False

    def __init__(self, shape: str) -> None:
        self.name = f"floor-{shape}"
        self._shape = shape

    def start_nodes(self, lab: Lab) -> Mapping[int, Process]:
        """Start the relays, if the shape has any."""
        if self._shape == "embedded":
            return {}
        for host in lab.hosts:
            Path(self._socket(lab, host)).unlink(missing_ok=True)
        relays = {
            host: self._start(lab, host, "relay", lab.address(host), self._socket(lab, host)) for host in lab.hosts
        }
        for host, relay in relays.items():
            wait_for(relay, lab.directory, Path(self._socket(lab, host)).is_socket, START_SECONDS, "listen")
        return relays

    def start_worker(self, lab: Lab, host: int) -> Process:
        """Start a worker."""
        if self._shape == "embedded":
            return self._start(lab, host, "embedded", str(host), str(lab.size), lab.address(host))
        return self._start(lab, host, "client", str(host), str(lab.size), self._socket(lab, host))

    def version(self) -> str:
        """Twisted's."""
        return f"an empty relay, Twisted {twisted.__version__}, {type_of_reactor()}"

    def _socket(self, lab: Lab, host: int) -> str:
        return str(lab.directory / f"floor-{host}")

    def _start(self, lab: Lab, host: int, *arguments: str) -> Process:
        name = f"{self.name}-{arguments[0]}-{host}"
        return lab.start(host, name, [sys.executable, "-m", "bench.floor", *arguments])


def type_of_reactor() -> str:
    """The name of the reactor that a process gets unless it says otherwise."""
    from twisted.internet import reactor

    return type(reactor).__name__
