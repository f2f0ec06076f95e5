"""corosync, over UDP multicast or kronosnet, with a client of libcpg in C on each host.

Its settings are ``bench/peers/corosync-udp.conf`` and ``corosync-knet.conf``, its timers the defaults of corosync or,
as ``...-fast``, the shortest that it accepts. The defaults carry more when no packet is lost; with loss and for changes
of the view the short ones do better. Each instance gets a ``/run``, a ``/dev/shm`` and a state directory of its
own, in the mount namespace that ``ip netns exec`` makes for it and that its client enters: nothing of them is left.
"""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from string import Template
from typing import Final

from bench.lab import BenchError, Lab, Process
from bench.systems.base import START_SECONDS, System
from bench.waiting import wait_for

PEERS: Final = Path(__file__).parents[1] / "peers"
READY: Final = "Completed service synchronization, ready to provide service"

FAST_TIMERS: Final = "token: 130\n  token_coefficient: 0\n  consensus: 160\n  join: 30\n  merge: 100"
"""With the four retransmits of a token that are the default, token_retransmit is its least, 30 ms."""

_NO_SEAL: Final = "crypto_cipher: none\n  crypto_hash: none"
_SEAL: Final = "crypto_cipher: aes256\n  crypto_hash: sha256\n  keyfile: {keyfile}"

_OWN_MOUNTS: Final = 'mount -t tmpfs none /run && mount -t tmpfs none /dev/shm && exec corosync -f -c "$0"'


def _is_ready(node: Process) -> bool:
    return READY in node.log()


class Corosync(System):
    """corosync with one of its transports."""

    def __init__(self, transport: str, *, fast: bool = False, sealed: bool = False) -> None:
        self.name = f"corosync-{transport}{'-fast' if fast else ''}{'-sealed' if sealed else ''}"
        self._transport = transport
        self._sealed = sealed
        self._nodes: dict[int, Process] = {}
        self._timers = FAST_TIMERS if fast else "# timers: the defaults"

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
        self._nodes = {host: self._start(lab, host) for host in lab.hosts}
        for node in self._nodes.values():
            wait_for(node, lab.directory, partial(_is_ready, node), START_SECONDS, "start")
        return self._nodes

    def _start(self, lab: Lab, host: int) -> Process:
        name = f"{self.name}-{host}"
        state = lab.directory / f"{name}.state"
        state.mkdir(exist_ok=True)
        nodes = "".join(
            f"  node {{\n    ring0_addr: {lab.address(one)}\n    name: h{one}\n    nodeid: {one}\n  }}\n"
            for one in lab.hosts
        )
        template = Template((PEERS / f"corosync-{self._transport}.conf").read_text())
        config = lab.directory / f"{name}.conf"
        seal = _SEAL.format(keyfile=lab.key) if self._sealed else _NO_SEAL
        settings = template.substitute(
            nodes=nodes, state=state, address=lab.address(host), timers=self._timers, seal=seal
        )
        config.write_text(settings)
        return lab.start(host, name, ["sh", "-c", _OWN_MOUNTS, str(config)])

    def start_worker(self, lab: Lab, host: int) -> Process:
        """Start a client."""
        beside = ["nsenter", "--mount", "--target", str(self._nodes[host].child.pid)]
        worker = [str(lab.directory / "cpg_worker"), str(host)]
        return lab.start(host, f"cpg-{self._transport}-{host}", [*beside, *worker])

    def version(self) -> str:
        """What the package says."""
        said = subprocess.run(["corosync", "-v"], capture_output=True, text=True, check=False).stdout
        seal = ", aes256 and sha256" if self._sealed else ""
        return f"corosync {said.split(chr(39))[1]}, {self._transport}{seal}"
