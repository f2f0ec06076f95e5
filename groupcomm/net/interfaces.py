"""Which network interfaces a node uses: a name or an address becomes an interface with one of its addresses.

Decides nothing else. An interface that is missing, down or without an address is an ``EnvironmentFault`` that names
what there is instead.
"""

from __future__ import annotations

import array
import fcntl
import ipaddress
import socket
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import ifaddr
from attrs import evolve, field, frozen

from groupcomm.addresses import family_of, literal_host
from groupcomm.errors import EnvironmentFault, UsageError
from groupcomm.limits import MAX_LINKS

FAMILIES: Final = (4, 6)
"""The families of IP, the preferred one first."""

_IFF_UP = 0x1
_IFF_LOOPBACK = 0x8
_IFF_MULTICAST = 0x1000
_SIOCGIFFLAGS = 0x8913
_SIOCGIFMTU = 0x8921
_ROUTES = Path("/proc/self/net/route")
_ROUTES6 = Path("/proc/self/net/ipv6_route")
_ADDRESSES6 = Path("/proc/self/net/if_inet6")
_RTF_REJECT = 0x200
_TEMPORARY, _DUPLICATE, _DEPRECATED, _TENTATIVE = 0x01, 0x08, 0x20, 0x40


@frozen
class NetworkInterface:
    """One address of one interface of this host.

    Attributes:
        name: the kernel's name, such as ``eth0``.
        index: the kernel's number of it.
        address: the address: IPv4 in dots; IPv6 with ``%`` and the name behind it where it is link-local.
        up: whether it is administratively up.
        loopback: whether it only reaches this host.
        multicast: whether the kernel says that it can multicast.
        named: whether it is meant by its name, so that another address of it will do when this one goes.
    """

    name: str
    index: int
    address: str
    up: bool = True
    loopback: bool = False
    multicast: bool = True
    named: bool = field(default=True, eq=False)

    @property
    def family(self) -> int:
        """4 or 6."""
        return family_of(self.address)

    @property
    def link_local(self) -> bool:
        """Whether the address means nothing outside its link."""
        return "%" in self.address

    def __str__(self) -> str:
        return f"{self.name} ({self.address})"


def list_interfaces() -> tuple[NetworkInterface, ...]:
    """Every usable address of this host: by interface number, IPv4 first, what is best to use first."""
    found = [
        (adapter.name, adapter.index or 0, str(ip.ip))
        for adapter in ifaddr.get_adapters()
        for ip in adapter.ips
        if ip.is_IPv4
    ]
    found.sort(key=lambda each: (each[1], each[2]))
    found += ipv6_addresses(_read(_ADDRESSES6))
    listed = []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        for name, index, address in sorted(found, key=lambda each: each[1]):
            flags = int.from_bytes(_ask(probe, _SIOCGIFFLAGS, name)[:2], sys.byteorder)
            listed.append(
                NetworkInterface(
                    name,
                    index,
                    address,
                    up=bool(flags & _IFF_UP),
                    loopback=bool(flags & _IFF_LOOPBACK),
                    multicast=bool(flags & _IFF_MULTICAST),
                )
            )
    return tuple(listed)


def ipv6_addresses(table: str) -> list[tuple[str, int, str]]:
    """What ``/proc/net/if_inet6`` says: names and numbers of interfaces, and addresses, the best of an interface first.

    Best is what lasts and reaches far: not deprecated, not temporary (RFC 8981), not link-local; unique local before
    global, since it does not change with the provider. What the kernel still tries for duplicates is left out.
    """
    found = []
    for line in table.splitlines():
        fields = line.split()
        if len(fields) != 6 or len(fields[0]) != 32:
            continue
        flags = int(fields[4], 16)
        if flags & (_TENTATIVE | _DUPLICATE):
            continue
        address = ipaddress.IPv6Address(bytes.fromhex(fields[0]))
        rank = (
            bool(flags & _DEPRECATED),
            bool(flags & _TEMPORARY),
            address.is_link_local,
            address not in _UNIQUE_LOCAL,
            address,
        )
        text = f"{address}%{fields[5]}" if address.is_link_local else str(address)
        found.append((int(fields[1], 16), rank, fields[5], text))
    return [(name, index, address) for index, _, name, address in sorted(found)]


def choose_interfaces(
    wanted: Sequence[str], family: int | None = None, available: Sequence[NetworkInterface] | None = None
) -> tuple[NetworkInterface, ...]:
    """The interfaces a node uses, in the order of its links.

    Args:
        wanted: what ``choose_interface`` takes, for each; empty: one, by default.
        family: 4 or 6; None: IPv4 where an interface has it.
        available: what to choose from; this host's interfaces when not given.

    Raises:
        UsageError: there are too many, or one twice.
        EnvironmentFault: one cannot be used.
    """
    check_links(wanted)
    if not wanted:
        return (choose_interface(None, available, family=family),)
    available = list_interfaces() if available is None else available
    chosen: list[NetworkInterface] = []
    for text in wanted:
        interface = choose_interface(text, available, family=family)
        if interface in chosen:
            raise UsageError(
                f"interface {text!r} is {interface}, as is {wanted[chosen.index(interface)]!r}: each link needs an "
                "address of its own"
            )
        chosen.append(interface)
    return tuple(chosen)


def check_links(wanted: Sequence[str]) -> None:
    """Raise ``UsageError`` if these are too many interfaces, or one is named twice."""
    if len(wanted) > MAX_LINKS:
        raise UsageError(f"a node uses at most {MAX_LINKS} interfaces, not {len(wanted)}")
    for text in wanted:
        if not text or any(map(str.isspace, text)):
            raise UsageError(f"{text!r} is no name or address of an interface")
    if len(set(wanted)) != len(wanted):
        raise UsageError(f"an interface is named twice: {', '.join(wanted)}")


def choose_interface(
    wanted: str | None,
    available: Sequence[NetworkInterface] | None = None,
    default_route: str | None = None,
    default_route6: str | None = None,
    family: int | None = None,
) -> NetworkInterface:
    """The interface of one link.

    Args:
        wanted: its name or one of its addresses; None or empty: the one of the default route, else the first that is
            up, can multicast and is not loopback, both for IPv4 and then for IPv6, else loopback.
        available: what to choose from; this host's interfaces when not given.
        default_route: the name of the interface of the IPv4 default route; read from the kernel when ``available`` is
            not given.
        default_route6: the same for IPv6.
        family: 4 or 6: which family the address must be of; None: IPv4 if the interface has such an address, else IPv6.

    Raises:
        EnvironmentFault: there is no such interface, or it is down or has no address.
    """
    if available is None:
        available = list_interfaces()
        default_route, default_route6 = default_route_interface(), default_route_interface6()
    families = FAMILIES if family is None else (family,)
    fitting = [interface for each in families for interface in available if interface.family == each]
    if wanted:
        return _meant(wanted, fitting, available, family)
    usable = [interface for interface in fitting if interface.up]
    for each in families:
        route = default_route if each == 4 else default_route6
        of_family = [interface for interface in usable if interface.family == each]
        by_route = [interface for interface in of_family if interface.name == route]
        by_reach = sorted(of_family, key=lambda interface: interface.link_local)
        by_reach = [interface for interface in by_reach if interface.multicast and not interface.loopback]
        if by_route or by_reach:
            return (by_route or by_reach)[0]
    for interface in usable:
        if interface.loopback:
            return interface
    raise EnvironmentFault(f"no interface with {_kind(family)} is up; there are: {_names(available)}")


def default_route_interface(table: str | None = None) -> str | None:
    """The name of the interface of the IPv4 default route with the lowest metric, or None.

    Args:
        table: the kernel's route table as ``/proc/net/route`` prints it; read when not given.
    """
    routes = []
    for line in (_read(_ROUTES) if table is None else table).splitlines()[1:]:
        fields = line.split()
        if len(fields) >= 8 and fields[1] == "00000000" and fields[7] == "00000000":
            routes.append((int(fields[6]), fields[0]))
    return min(routes, key=lambda route: route[0])[1] if routes else None


def default_route_interface6(table: str | None = None) -> str | None:
    """The name of the interface of the IPv6 default route with the lowest metric, or None.

    Args:
        table: the kernel's route table as ``/proc/net/ipv6_route`` prints it; read when not given.
    """
    routes = []
    for line in (_read(_ROUTES6) if table is None else table).splitlines():
        fields = line.split()
        if len(fields) == 10 and int(fields[0], 16) == 0 and fields[1] == "00" and not int(fields[8], 16) & _RTF_REJECT:
            routes.append((int(fields[5], 16), fields[9]))
    return min(routes, key=lambda route: route[0])[1] if routes else None


def interface_mtu(name: str) -> int:
    """The largest IP packet that an interface takes, in bytes; 0 when it is gone."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        return int.from_bytes(_ask(probe, _SIOCGIFMTU, name)[:4], sys.byteorder)


def _meant(
    wanted: str, fitting: Sequence[NetworkInterface], available: Sequence[NetworkInterface], family: int | None
) -> NetworkInterface:
    """The interface with that name or address, if it is usable."""
    literal = literal_host(wanted)
    if literal is None:
        matching = [interface for interface in fitting if interface.name == wanted]
    else:
        matching = [
            evolve(each, named=False) for each in fitting if literal in (each.address, each.address.partition("%")[0])
        ]
    for interface in matching:
        if interface.up:
            return interface
    if matching:
        raise EnvironmentFault(f"interface {matching[0]} is down")
    raise EnvironmentFault(
        f"there is no interface {wanted!r} with {_kind(family)} here; there are: {_names(available)}"
    )


def _kind(family: int | None) -> str:
    return "an address" if family is None else f"an IPv{family} address"


def _names(available: Sequence[NetworkInterface]) -> str:
    """What there is, for people."""
    return ", ".join(map(str, available)) or "none"


def _read(path: Path) -> str:
    """A table of the kernel's; empty where there is none."""
    try:
        return path.read_text(encoding="ascii")
    except OSError:
        return ""


def _ask(probe: socket.socket, request: int, name: str) -> bytes:
    """What the kernel says of an interface, zeros when it is gone; an alias such as ``eth0:1`` is its device."""
    asked = array.array("B", name.encode()[:15].ljust(40, b"\0"))
    try:
        fcntl.ioctl(probe.fileno(), request, asked, True)
    except OSError:
        return bytes(24)
    return asked[16:].tobytes()


_UNIQUE_LOCAL: Final = ipaddress.IPv6Network("fc00::/7")
