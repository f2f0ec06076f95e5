"""Addresses as people write and read them: ``10.0.0.1:4874``, ``[fd77::1]:4874``, ``[fe80::1%eth0]:4874``.

Decides how an address is shown, what ``HOST[:PORT]`` means, and which of the many spellings of an IPv6 address is the
one that is compared: that of RFC 5952, without brackets, with the name of the interface where it is link-local.
"""

from __future__ import annotations

import ipaddress
from typing import Final

from groupcomm.errors import UsageError
from groupcomm.outputs import Address

IPV4_HEADER_BYTES: Final = 28
"""What IPv4 (without options) and UDP put before a datagram."""

IPV6_HEADER_BYTES: Final = 48
"""What IPv6 and UDP put before a datagram."""

_MAX_HOST_CHARACTERS: Final = 253
_NOT_IN_HOSTS: Final = frozenset(" /@#[]:%")


def show_address(address: Address) -> str:
    """An address as it is shown everywhere, and as ``parse_address`` reads it."""
    host, port = address
    return f"{show_host(host)}:{port}"


def show_host(host: str) -> str:
    """A host as it stands before a colon: an IPv6 address in brackets."""
    return f"[{host}]" if ":" in host else host


def family_of(host: str) -> int:
    """4 or 6: which IP a host address is of."""
    return 6 if ":" in host else 4


def header_bytes(host: str) -> int:
    """What IP and UDP put before a datagram to or from a host."""
    return IPV6_HEADER_BYTES if ":" in host else IPV4_HEADER_BYTES


def is_link_local(address: Address) -> bool:
    """Whether an address names an interface of this host, which means nothing to others."""
    return "%" in address[0]


def literal_host(text: str) -> str | None:
    """An IP address, with or without brackets, in the spelling that is compared; None if it is none.

    An IPv4 address that is written as an IPv6 address is an IPv4 address.
    """
    if text[:1] == "[" and text[-1:] == "]" and ":" in text:
        text = text[1:-1]
    try:
        found = ipaddress.ip_address(text)
    except ValueError:
        return None
    if isinstance(found, ipaddress.IPv6Address) and found.ipv4_mapped is not None and found.scope_id is None:
        return str(found.ipv4_mapped)
    return str(found)


def parse_address(text: str, default_port: int) -> Address:
    """Read ``HOST``, ``HOST:PORT``, ``[IPv6]:PORT`` or an IPv6 address alone; a host may be a name.

    Raises:
        UsageError: it is nothing of that form; the text says what would be.
    """
    text = text.strip()
    literal = literal_host(text)
    if literal is not None:
        return literal, default_port
    host, colon, port = text.rpartition(":")
    if not colon:
        host = port
    if host[:1] == "[":
        literal = literal_host(host)
        if literal is None or ":" not in literal:
            raise UsageError(f"{text!r} has no IPv6 address between its brackets")
        host = literal
    elif not host or len(host) > _MAX_HOST_CHARACTERS or not host.isprintable() or set(host) & _NOT_IN_HOSTS:
        raise UsageError(f"{text!r} is not HOST or HOST:PORT, where an IPv6 address with a port is [ADDRESS]:PORT")
    if not colon:
        return host, default_port
    if not is_port(port):
        raise UsageError(f"the port of {text!r} must be 1 to 65535")
    return host, int(port)


def is_port(text: str) -> bool:
    """Whether this is a port number in digits, 1 to 65535."""
    return text.isascii() and text.isdigit() and len(text) <= 5 and 0 < int(text) < 65_536
