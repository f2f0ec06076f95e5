"""Gathers what can be seen of a host: interfaces, settings of the kernel, clock, routes, and who answers by TCP.

Reads and connects, changes nothing, and takes ``CONNECT_SECONDS`` at most. What cannot be read is left out. Decides
nothing: what the facts mean is for others to say.
"""

from __future__ import annotations

import ctypes
import os
import selectors
import socket
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

from groupcomm.addresses import parse_address
from groupcomm.cli.doctor.finding import Answer, Connected, Host, Interface
from groupcomm.errors import EnvironmentFault, UsageError
from groupcomm.net.interfaces import choose_interface, list_interfaces
from groupcomm.net.watch import parse_banner

CONNECT_SECONDS: Final = 1.5
"""How long all TCP connections together may take to be answered."""

MAX_CONNECTIONS: Final = 128
"""Addresses that are connected to; of more, the first."""

SYSCTLS: Final = ("net.core.rmem_max", "net.core.wmem_max")
"""The settings that are read."""

_PROC: Final = Path("/proc")
_SNMP: Final = (("net/snmp", "Udp"), ("net/snmp6", "Udp6"))
_TIMEX_BYTES: Final = 256
_TIME_ERROR: Final = 5
_BANNER_BYTES: Final = 512


def gather(neighbours: Iterable[str]) -> Host:
    """What can be seen of this host, and of it from here.

    Args:
        neighbours: addresses of other nodes, as a daemon's status shows them.
    """
    addresses = list(dict.fromkeys(neighbours))[:MAX_CONNECTIONS]
    return Host(
        tuple(Interface(one.name, one.address, one.up, one.multicast, one.loopback) for one in list_interfaces()),
        default_interface(),
        sysctls(),
        clock_synchronised(),
        {address: route_to(address) for address in addresses},
        connect_to(addresses),
        udp_received(),
        os.cpu_count() or 1,
        os.getloadavg()[0],
    )


def default_interface() -> str:
    """The interface that a daemon takes unless told, in words; empty if there is none."""
    try:
        return str(choose_interface(None))
    except EnvironmentFault:
        return ""


def sysctls(root: Path = _PROC) -> dict[str, int]:
    """The settings of the kernel that matter here."""
    found = {}
    for name in SYSCTLS:
        with suppress(OSError, ValueError):
            found[name] = int((root / "sys" / name.replace(".", "/")).read_text("ascii"))
    return found


def clock_synchronised() -> bool | None:
    """Whether the kernel has been told by anybody that its clock is right; None where it cannot be asked."""
    try:
        # A struct timex with all modes 0, which asks and sets nothing; larger than any kernel's.
        state = ctypes.CDLL(None, use_errno=True).adjtimex(ctypes.create_string_buffer(_TIMEX_BYTES))
    except (AttributeError, OSError):
        return None
    return None if state < 0 else state != _TIME_ERROR


def route_to(address: str) -> str:
    """The address of this host from which packets to that one leave; empty if they cannot."""
    try:
        host, port = parse_address(address, 1)
        family, kind, _, _, target = socket.getaddrinfo(
            host, port, type=socket.SOCK_DGRAM, flags=socket.AI_NUMERICHOST
        )[0]
        with socket.socket(family, kind) as asking:
            asking.connect(target)
            own = asking.getsockname()
    except (OSError, UsageError):
        return ""
    zone = host.partition("%")[2]
    return f"{own[0].partition('%')[0]}%{zone}" if zone else str(own[0])


def udp_received(root: Path = _PROC) -> tuple[int, int]:
    """Datagrams that the sockets of this host got, and those for which a socket had no room, of both families."""
    got = dropped = 0
    for name, head in _SNMP:
        counted: Mapping[str, int] = {}
        with suppress(OSError, ValueError):
            counted = counters((root / name).read_text("ascii"), head)
        got += counted.get("InDatagrams", 0)
        dropped += counted.get("RcvbufErrors", 0)
    return got, dropped


def counters(text: str, head: str) -> dict[str, int]:
    """The counters of one protocol, from either form of the kernel's tables: two lines for all, or one for each."""
    rows = [line.split() for line in text.splitlines()]
    table = [row[1:] for row in rows if row and row[0] == f"{head}:"]
    if len(table) == 2:
        return dict(zip(table[0], map(int, table[1]), strict=True))
    return {row[0].removeprefix(head): int(row[1]) for row in rows if len(row) == 2 and row[0].startswith(head)}


def connect_to(addresses: Iterable[str]) -> dict[str, Connected]:
    """What comes of a TCP connection to each, all at once."""
    found: dict[str, Connected] = {}
    limit = time.monotonic() + CONNECT_SECONDS
    with selectors.DefaultSelector() as waiting:
        for address in addresses:
            found[address] = Connected(Answer.NONE)
            with suppress(OSError, UsageError):
                host, port = parse_address(address, 1)
                family, kind, _, _, target = socket.getaddrinfo(
                    host, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST
                )[0]
                one = socket.socket(family, kind)
                one.setblocking(False)
                with suppress(BlockingIOError):
                    one.connect(target)
                waiting.register(one, selectors.EVENT_READ, address)
        try:
            while waiting.get_map() and (left := limit - time.monotonic()) > 0:
                for key, _ in waiting.select(left):
                    one = key.fileobj  # type: ignore[assignment]
                    found[key.data] = answer_of(one)
                    waiting.unregister(one)
                    one.close()
        finally:
            for key in list(waiting.get_map().values()):
                key.fileobj.close()  # type: ignore[union-attr]
    return found


def answer_of(connected: socket.socket) -> Connected:
    """What a connection says that can be read from, or has failed."""
    try:
        line = connected.recv(_BANNER_BYTES)
    except ConnectionRefusedError:
        return Connected(Answer.REFUSED)
    except OSError:
        return Connected(Answer.NONE)
    node = parse_banner(line.partition(b"\r\n")[0])
    return Connected(Answer.OTHER) if node is None else Connected(Answer.NODE, node.name)
