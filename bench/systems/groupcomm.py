"""groupcomm itself, in its two shapes: a node in each process, and a daemon with a client on each host."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from typing import ClassVar

from bench.lab import Lab, Process
from bench.systems.base import START_SECONDS, System
from bench.waiting import wait_for
from groupcomm import __version__

_TWISTD = "from twisted.scripts.twistd import run; run()"


class _Groupcomm(System):
    levels: ClassVar[tuple[str, ...]] = ("agreed", "safe")

    def __init__(self, api: str, *, sealed: bool = True) -> None:
        self.api = api
        self.sealed = sealed
        if not sealed:
            self.name = f"{self.name}-insecure"

    def version(self) -> str:
        """Its version and how it is sent with."""
        seal = "sealed" if self.sealed else "without a key"
        api = "send_many" if self.api == "many" else "send"
        return f"groupcomm {__version__}, {seal}, {api}, Python {sys.version.split()[0]}"


def _cluster(lab: Lab) -> str:
    return f"bench-{lab.prefix}-{os.getpid()}"


class Embedded(_Groupcomm):
    """A node in each process."""

    name = "embedded"

    def start_worker(self, lab: Lab, host: int) -> Process:
        """Start a node."""
        command = [
            sys.executable,
            "-m",
            "bench.workers.embedded",
            str(host),
            self.api,
            _cluster(lab),
            lab.address(host),
            str(lab.key) if self.sealed else "",
        ]
        return lab.start(host, f"embedded-{host}", command)


class Daemons(_Groupcomm):
    """A daemon and a client on each host."""

    name = "daemon"

    def start_nodes(self, lab: Lab) -> Mapping[int, Process]:
        """Start the daemons."""
        for host in lab.hosts:
            (lab.directory / f"control-{host}").unlink(missing_ok=True)
        daemons = {host: self._start_daemon(lab, host) for host in lab.hosts}
        for host, daemon in daemons.items():
            wait_for(daemon, lab.directory, (lab.directory / f"control-{host}").is_socket, START_SECONDS, "listen")
        return daemons

    def _start_daemon(self, lab: Lab, host: int) -> Process:
        twistd = [sys.executable, "-c", _TWISTD, "-n", "--pidfile=", f"--logfile={lab.directory}/daemon-{host}.log"]
        options = {
            "cluster": _cluster(lab),
            "node": f"h{host}",
            "interface": lab.address(host),
            "discovery": "multicast",
            "control": f"unix:{lab.directory}/control-{host}:mode=600",
        }
        settings = [f"--{name}={value}" for name, value in options.items()]
        settings += [f"--key={lab.key}"] if self.sealed else ["--insecure"]
        return lab.start(host, f"daemon-{host}", [*twistd, "groupcomm", *settings])

    def start_worker(self, lab: Lab, host: int) -> Process:
        """Start a client."""
        socket = f"{lab.directory}/control-{host}"
        return lab.start(
            host, f"client-{host}", [sys.executable, "-m", "bench.workers.client", str(host), self.api, socket]
        )
