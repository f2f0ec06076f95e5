"""Simulated clusters whose nodes have certificates."""

from __future__ import annotations

import random

from attrs import evolve

from groupcomm.config import EngineConfig
from groupcomm.engine import Engine
from groupcomm.identity import NodeId
from groupcomm.testing.cluster import Cluster
from groupcomm.testing.interface import EngineInterface
from groupcomm.testing.network import Conditions
from groupcomm.testing.node import SimulatedClient
from groupcomm.testing.watchers import Watchers
from tests.sealing.authority import identity


def certified_engine(config: EngineConfig, node: NodeId, stream: random.Random, now: float) -> EngineInterface:
    """An engine with the certificate of its node."""
    return Engine(evolve(config, identity=identity(node.name)), node, stream, now)


def certified_cluster(seed: int, *names: str, loss: float = 0.0) -> Cluster:
    """A cluster of these nodes that has converged."""
    cluster = Cluster(
        seed,
        config=EngineConfig(identity=identity(names[0])),
        conditions=Conditions(loss_probability=loss),
        engine_factory=certified_engine,
    )
    Watchers.attach(cluster)
    cluster.add_nodes(*names)
    cluster.run_until(cluster.converged, limit=10.0)
    return cluster


def join(cluster: Cluster, *names: str) -> dict[str, SimulatedClient]:
    """A client on each of these nodes, all in one group."""
    clients = {name: cluster.node(name).open(f"{name}-client") for name in names}
    for client in clients.values():
        client.join("g")
    cluster.run(0.5)
    return clients
