"""The systems that are measured, by the names that the command line and the results use."""

from __future__ import annotations

from bench.systems.base import System
from bench.systems.brokers import Nats, ZeroMq
from bench.systems.corosync import Corosync
from bench.systems.floor import Floor
from bench.systems.groupcomm import Daemons, Embedded


def systems(api: str) -> dict[str, System]:
    """All of them.

    Args:
        api: how groupcomm is sent with, ``many`` or ``send``.
    """
    every: tuple[System, ...] = (
        Embedded(api),
        Daemons(api),
        Embedded(api, sealed=False),
        Daemons(api, sealed=False),
        Corosync("udp"),
        Corosync("knet"),
        Corosync("udp", fast=True),
        Corosync("knet", fast=True),
        Corosync("knet", sealed=True),
        Nats(),
        ZeroMq(),
        Floor("embedded"),
        Floor("daemon"),
    )
    return {system.name: system for system in every}
