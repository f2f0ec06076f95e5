"""What the rim asks of a Twisted reactor, as one interface, so that signatures can say it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar, cast

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import (
    IReactorFDSet,
    IReactorFromThreads,
    IReactorPluggableNameResolver,
    IReactorTCP,
    IReactorThreads,
    IReactorTime,
)
from twisted.internet.threads import deferToThreadPool

T = TypeVar("T")


class INodeReactor(IReactorTime, IReactorTCP, IReactorFDSet, IReactorFromThreads, IReactorPluggableNameResolver):
    """Time, TCP, file descriptors, calls from threads and name resolution: any of Twisted's usual reactors."""


def in_thread(reactor: INodeReactor, work: Callable[[], T]) -> Deferred[T]:
    """Do work that waits for a disk in a thread of the reactor's."""
    threads = cast(IReactorThreads, reactor)
    return deferToThreadPool(threads, threads.getThreadPool(), work)


class IWatchReactor(IReactorTime, IReactorTCP):
    """Time and TCP: enough for the neighbour watch."""
