"""What the rim asks of a Twisted reactor, as one interface, so that signatures can say it."""

from __future__ import annotations

from twisted.internet.interfaces import (
    IReactorFDSet,
    IReactorFromThreads,
    IReactorPluggableNameResolver,
    IReactorTCP,
    IReactorTime,
)


class INodeReactor(IReactorTime, IReactorTCP, IReactorFDSet, IReactorFromThreads, IReactorPluggableNameResolver):
    """Time, TCP, file descriptors, calls from threads and name resolution: any of Twisted's usual reactors."""


class IWatchReactor(IReactorTime, IReactorTCP):
    """Time and TCP: enough for the neighbour watch."""
