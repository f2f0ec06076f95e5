"""What a Python user would take today, without total order or membership: NATS and ZeroMQ.

A sender does not get its own messages from them: the other hosts receive.
"""

from __future__ import annotations

import importlib.metadata
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar, Final

from bench.lab import Lab, Process
from bench.systems.base import START_SECONDS, System
from bench.waiting import wait_for

NATS_CONFIG: Final = Path(__file__).parents[1] / "peers" / "nats.conf"


class Nats(System):
    """A NATS server on host 1, a client in Python on each host."""

    name = "nats"
    has_views: ClassVar[bool] = False
    reaches_self: ClassVar[bool] = False

    def start_nodes(self, lab: Lab) -> Mapping[int, Process]:
        """Start the server."""
        server = lab.start(1, "nats-server", ["nats-server", "-c", str(NATS_CONFIG)])
        wait_for(server, lab.directory, lambda: "Server is ready" in server.log(), START_SECONDS, "start")
        return {}

    def start_worker(self, lab: Lab, host: int) -> Process:
        """Start a client."""
        command = [sys.executable, "-m", "bench.workers.nats_worker", str(host), str(lab.size), lab.address(1)]
        return lab.start(host, f"nats-{host}", command)

    def version(self) -> str:
        """Server and client."""
        server = subprocess.run(["nats-server", "-v"], capture_output=True, text=True, check=False).stdout.split()[-1]
        return f"nats-server {server}, nats-py {importlib.metadata.version('nats-py')}"


class ZeroMq(System):
    """A publisher and a subscriber on each host, over TCP."""

    name = "zeromq"
    has_views: ClassVar[bool] = False
    reaches_self: ClassVar[bool] = False

    def start_worker(self, lab: Lab, host: int) -> Process:
        """Start a worker."""
        addresses = [lab.address(host), *(lab.address(other) for other in lab.hosts if other != host)]
        command = [sys.executable, "-m", "bench.workers.zeromq_worker", str(host), *addresses]
        return lab.start(host, f"zeromq-{host}", command)

    def version(self) -> str:
        """Library and binding."""
        import zmq

        return f"ZeroMQ {zmq.zmq_version()}, pyzmq {zmq.__version__}"
