"""A node of groupcomm in this process: ``python -m bench.workers.embedded HOST API CLUSTER ADDRESS KEY``."""

from __future__ import annotations

import sys
from pathlib import Path

from bench.workers.twisted_worker import GROUP, main, reactor, split_arguments
from groupcomm.config import EngineConfig
from groupcomm.node import Node, NodeConfig

if __name__ == "__main__":
    host, api, (cluster, address, key) = split_arguments(sys.argv[1:])
    engine = EngineConfig(cluster=cluster)
    config = NodeConfig(
        engine=engine,
        node=f"h{host}",
        interfaces=(address,),
        discovery=("multicast",),
        key=Path(key) if key else None,
        insecure=not key,
    )
    node = Node(reactor, config)
    reactor.callWhenRunning(node.startService)
    reactor.addSystemEventTrigger("before", "shutdown", node.stopService)
    main(host, api, lambda receiver: node.join(GROUP, receiver))
