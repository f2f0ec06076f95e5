"""The sources by name, as the settings name them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from twisted.internet.interfaces import IReactorFromThreads, IReactorPluggableNameResolver, IReactorTime

from groupcomm.discovery.hints import Announcement
from groupcomm.discovery.multicast import MulticastDiscovery
from groupcomm.discovery.static import StaticDiscovery, parse_peer, reactor_resolver
from groupcomm.errors import UsageError
from groupcomm.interfaces import IDiscovery

SOURCES: Final = ("zeroconf", "multicast", "static")
"""Every source there is."""

DEFAULT_SOURCES: Final = ("zeroconf", "multicast")
"""What a node uses that is not told otherwise."""


class IDiscoveryReactor(IReactorTime, IReactorFromThreads, IReactorPluggableNameResolver):
    """What the sources need of a reactor."""


def check_sources(names: Sequence[str], peers: Sequence[str], default_port: int) -> None:
    """Raise ``UsageError`` if these are not names of sources, each at most once, and readable peers."""
    for name in names:
        if name not in SOURCES:
            raise UsageError(f"there is no discovery {name!r}; there are: {', '.join(SOURCES)}")
    if len(set(names)) != len(names):
        raise UsageError(f"a discovery is named twice: {', '.join(names)}")
    for peer in peers:
        parse_peer(peer, default_port)


def make_sources(
    reactor: IDiscoveryReactor,
    announcement: Announcement,
    names: Sequence[str],
    peers: Sequence[str],
    default_port: int,
) -> tuple[IDiscovery, ...]:
    """Make the named sources, and the static one whenever there are peers.

    Args:
        reactor: for all of them.
        announcement: what they may tell others.
        names: which.
        peers: the static list, each ``HOST[:PORT]``.
        default_port: the port of a peer without one.
    """
    check_sources(names, peers, default_port)
    sources: list[IDiscovery] = []
    if "zeroconf" in names:
        # The rest of the package is to be usable where the zeroconf library is not.
        from groupcomm.discovery.zeroconf import ZeroconfDiscovery

        sources.append(ZeroconfDiscovery(reactor, announcement))
    if "multicast" in names:
        sources.append(MulticastDiscovery())
    if peers:
        parsed = [parse_peer(peer, default_port) for peer in peers]
        sources.append(StaticDiscovery(reactor, announcement.interface_address, parsed, reactor_resolver(reactor)))
    return tuple(sources)
