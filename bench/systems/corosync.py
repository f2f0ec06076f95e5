"""corosync, over UDP multicast or kronosnet, with a client of libcpg in C on each host.

Its settings are ``bench/peers/corosync-udp.conf`` and ``corosync-knet.conf``. Each instance gets a ``/run`` and a state
directory of its own, in the mount namespace that ``ip netns exec`` makes for it.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from string import Template
from typing import Final

from bench.lab import BenchError, Lab, Process
from bench.systems.base import START_SECONDS, System

PEERS: Final = Path(__file__).parents[1] / "peers"
READY: Final = "Completed service synchronization, ready to provide service"

_OWN_RUN: Final = 'mount -t tmpfs none /run && exec corosync -f -c "$0"'


class Corosync(System):
    """corosync with one of its transports."""

    def __init__(self, transport: str) -> None:
        self.name = f"corosync-{transport}"
        self._transport = transport

    def start_nodes(self, lab: Lab) -> Mapping[int, Process]:
        """Compile the worker, start corosync on every host."""
        compiled = subprocess.run(
            ["gcc", "-O2", "-o", str(lab.directory / "cpg_worker"), str(PEERS / "cpg_worker.c"), "-lcpg"],
            capture_output=True,
            text=True,
            check=False,
        )
        if compiled.returncode:
            raise BenchError(f"cpg_worker.c: {compiled.stderr}")
        nodes = {host: self._start(lab, host) for host in lab.hosts}
        limit = time.monotonic() + START_SECONDS
        for node in nodes.values():
            while READY not in node.log():
                if time.monotonic() > limit or not node.running:
                    raise BenchError(f"{node.name} does not start:\n{node.log()}")
                time.sleep(0.02)
        return nodes

    def _start(self, lab: Lab, host: int) -> Process:
        name = f"{self.name}-{host}"
        state = lab.directory / f"{name}.state"
        state.mkdir(exist_ok=True)
        nodes = "".join(
            f"  node {{\n    ring0_addr: {lab.address(one)}\n    name: h{one}\n    nodeid: {one}\n  }}\n"
            for one in lab.hosts
        )
        template = Template((PEERS / f"{self.name}.conf").read_text())
        config = lab.directory / f"{name}.conf"
        config.write_text(template.substitute(nodes=nodes, state=state, address=lab.address(host)))
        (lab.directory / f"{name}.err").unlink(missing_ok=True)
        return lab.start(host, name, ["sh", "-c", _OWN_RUN, str(config)])

    def start_worker(self, lab: Lab, host: int) -> Process:
        """Start a client."""
        return lab.start(host, f"cpg-{self._transport}-{host}", [str(lab.directory / "cpg_worker"), str(host)])

    def version(self) -> str:
        """What the package says."""
        said = subprocess.run(["corosync", "-v"], capture_output=True, text=True, check=False).stdout
        return f"corosync {said.split(chr(39))[1]}, {self._transport}"
