"""The sources by name, as the settings name them."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from attrs import frozen
from twisted.internet.interfaces import (
    IReactorPluggableNameResolver,
    IReactorTCP,
    IReactorThreads,
    IReactorTime,
    IReactorUDP,
)

from groupcomm.discovery.dns import DnsDiscovery, parse_dns
from groupcomm.discovery.hints import Announcement
from groupcomm.discovery.multicast import MulticastDiscovery
from groupcomm.discovery.peersfile import FileDiscovery
from groupcomm.discovery.static import StaticDiscovery, parse_peer, reactor_resolver
from groupcomm.errors import UsageError
from groupcomm.interfaces import IDiscovery

SOURCES: Final = ("zeroconf", "multicast", "static", "dns", "file")
"""Every source there is."""

DEFAULT_SOURCES: Final = ("zeroconf", "multicast")
"""What a node uses that is not told otherwise, beside those that are told where to look."""


class IDiscoveryReactor(IReactorTime, IReactorThreads, IReactorPluggableNameResolver, IReactorUDP, IReactorTCP):
    """What the sources need of a reactor."""


@frozen
class SourceSettings:
    """Which sources there are, and where they look.

    Attributes:
        names: of ``SOURCES``; the last three are in use whenever they are told where to look.
        default_port: the port of what is given without one.
        peers: the static list, each ``HOST[:PORT]``.
        dns: names in the DNS, each ``NAME[:PORT]``, ``_SERVICE._PROTO.DOMAIN`` or ``srv:NAME``.
        peers_file: a file with one ``HOST[:PORT]`` a line.
    """

    names: tuple[str, ...]
    default_port: int
    peers: tuple[str, ...] = ()
    dns: tuple[str, ...] = ()
    peers_file: Path | None = None

    def __attrs_post_init__(self) -> None:
        for name in self.names:
            if name not in SOURCES:
                raise UsageError(f"there is no discovery {name!r}; there are: {', '.join(SOURCES)}")
        if len(set(self.names)) != len(self.names):
            raise UsageError(f"a discovery is named twice: {', '.join(self.names)}")
        for peer in self.peers:
            parse_peer(peer, self.default_port)
        for name in self.dns:
            parse_dns(name, self.default_port)


def make_sources(
    reactor: IDiscoveryReactor, announcement: Announcement, settings: SourceSettings
) -> tuple[IDiscovery, ...]:
    """Make the sources.

    Args:
        reactor: for all of them.
        announcement: what they may tell others.
        settings: which.
    """
    port = settings.default_port
    resolve = reactor_resolver(reactor)
    sources: list[IDiscovery] = []
    if "zeroconf" in settings.names:
        # The rest of the package is to be usable where the zeroconf library is not.
        from groupcomm.discovery.zeroconf import ZeroconfDiscovery

        sources.append(ZeroconfDiscovery(reactor, announcement))
    if "multicast" in settings.names:
        sources.append(MulticastDiscovery())
    if settings.peers:
        peers = [parse_peer(peer, port) for peer in settings.peers]
        sources.append(StaticDiscovery(reactor, announcement, peers, resolve))
    if settings.dns:
        names = [parse_dns(name, port) for name in settings.dns]
        sources.append(DnsDiscovery(reactor, announcement, names))
    if settings.peers_file is not None:
        sources.append(FileDiscovery(reactor, announcement, settings.peers_file, port, resolve))
    return tuple(sources)
