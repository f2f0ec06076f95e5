"""Zeroconf alone on a host: announces itself and prints every address it is given as a hint, one JSON string a line.

python -m tests.lab.finder CLUSTER NAME PORT ADDRESS ...
"""

from __future__ import annotations

import json
import sys
from typing import cast

from twisted.internet import reactor
from twisted.internet.interfaces import IReactorCore, IReactorFromThreads

from groupcomm.addresses import show_address
from groupcomm.discovery.hints import Announcement
from groupcomm.discovery.zeroconf import ZeroconfDiscovery
from groupcomm.identity import NodeId
from groupcomm.outputs import Address


def found(address: Address) -> None:
    """Print a hint."""
    print(json.dumps(show_address(address)), flush=True)


def main() -> None:
    """Run until told to end."""
    cluster, name, port, *addresses = sys.argv[1:]
    announcement = Announcement(cluster, NodeId(name, 1), tuple(addresses))
    source = ZeroconfDiscovery(cast(IReactorFromThreads, reactor), announcement)
    core = cast(IReactorCore, reactor)
    core.callWhenRunning(source.start, int(port), found)
    core.addSystemEventTrigger("before", "shutdown", source.stop)
    core.run()


if __name__ == "__main__":
    main()
