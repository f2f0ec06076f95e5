"""Which network interface a node uses: a name or an address becomes an interface with its IPv4 address.

Decides nothing else. An interface that is missing, down or without an address is an ``EnvironmentFault`` that names
what there is instead.
"""

from __future__ import annotations

import array
import fcntl
import socket
from collections.abc import Sequence
from pathlib import Path

import ifaddr
from attrs import frozen

from groupcomm.errors import EnvironmentFault

_IFF_UP = 0x1
_IFF_LOOPBACK = 0x8
_IFF_MULTICAST = 0x1000
_SIOCGIFFLAGS = 0x8913
_ROUTES = Path("/proc/self/net/route")


@frozen
class NetworkInterface:
    """One IPv4 address of one interface of this host.

    Attributes:
        name: the kernel's name, such as ``eth0``.
        index: the kernel's number of it.
        address: the IPv4 address, dotted.
        up: whether it is administratively up.
        loopback: whether it only reaches this host.
        multicast: whether the kernel says that it can multicast.
    """

    name: str
    index: int
    address: str
    up: bool = True
    loopback: bool = False
    multicast: bool = True


def list_interfaces() -> tuple[NetworkInterface, ...]:
    """Every IPv4 address of this host, by interface number."""
    found: list[NetworkInterface] = []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        for adapter in ifaddr.get_adapters():
            flags = _flags(probe, adapter.name)
            found.extend(
                NetworkInterface(
                    adapter.name,
                    adapter.index or 0,
                    str(ip.ip),
                    up=bool(flags & _IFF_UP),
                    loopback=bool(flags & _IFF_LOOPBACK),
                    multicast=bool(flags & _IFF_MULTICAST),
                )
                for ip in adapter.ips
                if ip.is_IPv4
            )
    return tuple(sorted(found, key=lambda interface: (interface.index, interface.address)))


def choose_interface(
    wanted: str | None,
    available: Sequence[NetworkInterface] | None = None,
    default_route: str | None = None,
) -> NetworkInterface:
    """The interface a node uses.

    Args:
        wanted: its name or one of its IPv4 addresses; None or empty: the one of the default route,
            else the first that is up, can multicast and is not loopback, else loopback.
        available: what to choose from; this host's interfaces when not given.
        default_route: the name of the interface of the default route; read from the kernel when ``available`` is
            not given.

    Raises:
        EnvironmentFault: there is no such interface, or it is down or has no IPv4 address.
    """
    if available is None:
        available = list_interfaces()
        default_route = default_route_interface()
    if wanted:
        return _named(wanted, available)
    usable = [interface for interface in available if interface.up]
    for interface in usable:
        if interface.name == default_route:
            return interface
    for interface in usable:
        if interface.multicast and not interface.loopback:
            return interface
    for interface in usable:
        if interface.loopback:
            return interface
    raise EnvironmentFault(f"no interface with an IPv4 address is up; there are: {_names(available)}")


def default_route_interface(table: str | None = None) -> str | None:
    """The name of the interface of the IPv4 default route with the lowest metric, or None.

    Args:
        table: the kernel's route table as ``/proc/net/route`` prints it; read when not given.
    """
    if table is None:
        try:
            table = _ROUTES.read_text(encoding="ascii")
        except OSError:
            return None
    best: tuple[int, str] | None = None
    for line in table.splitlines()[1:]:
        fields = line.split()
        if len(fields) < 8 or fields[1] != "00000000" or fields[7] != "00000000":
            continue
        route = (int(fields[6]), fields[0])
        if best is None or route[0] < best[0]:
            best = route
    return None if best is None else best[1]


def _named(wanted: str, available: Sequence[NetworkInterface]) -> NetworkInterface:
    """The interface with that name or address, if it is usable."""
    matching = [interface for interface in available if wanted in (interface.name, interface.address)]
    for interface in matching:
        if interface.up:
            return interface
    if matching:
        raise EnvironmentFault(f"interface {matching[0].name} ({matching[0].address}) is down")
    raise EnvironmentFault(
        f"there is no interface {wanted!r} with an IPv4 address here; there are: {_names(available)}"
    )


def _names(available: Sequence[NetworkInterface]) -> str:
    """What there is, for people."""
    return ", ".join(f"{interface.name} ({interface.address})" for interface in available) or "none"


def _flags(probe: socket.socket, name: str) -> int:
    """The kernel's flags of an interface; an alias such as ``eth0:1`` has those of its device. 0 when it is gone."""
    request = array.array("B", name.encode()[:15].ljust(40, b"\0"))
    try:
        fcntl.ioctl(probe.fileno(), _SIOCGIFFLAGS, request, True)
    except OSError:
        return 0
    return int.from_bytes(request[16:18].tobytes(), "little" if _LITTLE_ENDIAN else "big")


_LITTLE_ENDIAN = array.array("H", [1]).tobytes()[0] == 1
