"""The multicast beacon as a source: nothing to do here, since every engine multicasts beacons by itself.

It exists so that the list of sources can name it and the status can say that it is in use.
"""

from __future__ import annotations

from twisted.internet.defer import Deferred, succeed
from zope.interface import implementer

from groupcomm.discovery.hints import Found
from groupcomm.interfaces import IDiscovery
from groupcomm.status import SourceStatus


@implementer(IDiscovery)
class MulticastDiscovery:
    """Gives no hints: nodes that hear each other's beacons need none."""

    def start(self, port: int, found: Found) -> Deferred[None]:
        """Nothing to start."""
        return succeed(None)

    def stop(self) -> Deferred[None]:
        """Nothing to stop."""
        return succeed(None)

    def moved(self, hosts: tuple[str, ...]) -> None:
        """Nothing to change."""

    def status(self) -> SourceStatus:
        """What it is; what it has found are the nodes of the view."""
        return SourceStatus("multicast", "the beacons of every node")
