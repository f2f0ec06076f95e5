"""A client of the daemon on this host: ``python -m bench.workers.client HOST API SOCKET``."""

from __future__ import annotations

import sys

from twisted.internet.defer import Deferred

from bench.workers.twisted_worker import GROUP, Receiver, main, reactor, split_arguments
from groupcomm.client import connect
from groupcomm.interfaces import IGroup

if __name__ == "__main__":
    host, api, (socket,) = split_arguments(sys.argv[1:])

    def join(receiver: Receiver) -> Deferred[IGroup]:
        """Connect, then join."""
        connecting = connect(reactor, f"unix:{socket}", name="bench")
        return connecting.addCallback(lambda connection: connection.join(GROUP, receiver))

    main(host, api, join)
