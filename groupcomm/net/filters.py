"""Datagrams that the kernel drops before this process wakes for them.

A multicast is looped back to the node that sent it, with the copies for other nodes of its host. A socket filter (the
classic BPF of McCanne and Jacobson, 1993, as Linux runs it) takes it away in the kernel; where it cannot be attached,
whoever reads the socket passes such datagrams over.
"""

from __future__ import annotations

import ctypes
import ipaddress
import socket
import struct
from collections.abc import Sequence
from typing import Final, TypeAlias

SocketAddress: TypeAlias = tuple[str, int] | tuple[str, int, int, int]
"""As the kernel gives it: with flow label and scope for IPv6."""

_SO_ATTACH_FILTER: Final = 26
_NETWORK_HEADER: Final = 0xFFF0_0000
_INTERFACE_INDEX: Final = 0xFFFF_F008
_SOURCE_OF_IPV4: Final = 12
_SOURCE_OF_IPV6: Final = 8
_ALL: Final = 0xFFFF_FFFF
_LOAD_WORD, _LOAD_HALF, _JUMP_IF_EQUAL, _RETURN = 0x20, 0x28, 0x15, 0x06
_Instruction: TypeAlias = tuple[int, int, int, int]
_INSTRUCTION: Final = struct.Struct("=HBBI")


def drop_from(receiving: socket.socket, sources: Sequence[SocketAddress], interface_index: int | None = None) -> bool:
    """Let the kernel drop what comes from these sources to this UDP socket; False if it cannot.

    Args:
        receiving: the socket; a filter that it has already is replaced.
        sources: addresses of the socket's family, with their ports.
        interface_index: if given, what did not come by that interface is dropped too.
    """
    program: list[_Instruction] = []
    if interface_index is not None:
        program += [(_LOAD_WORD, 0, 0, _INTERFACE_INDEX), (_JUMP_IF_EQUAL, 1, 0, interface_index), (_RETURN, 0, 0, 0)]
    for source in sources:
        program += _dropping(ipaddress.ip_address(source[0]).packed, source[1])
    program.append((_RETURN, 0, 0, _ALL))
    packed = b"".join(_INSTRUCTION.pack(*instruction) for instruction in program)
    instructions = ctypes.create_string_buffer(packed, len(packed))
    filtering = struct.pack("@HP", len(program), ctypes.addressof(instructions))
    try:
        receiving.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, filtering)
    except OSError:
        return False
    return True


def _dropping(host: bytes, port: int) -> list[_Instruction]:
    """Drop what comes from there; whatever differs goes on behind these instructions."""
    words = [int.from_bytes(host[at : at + 4], "big") for at in range(0, len(host), 4)]
    first = _NETWORK_HEADER + (_SOURCE_OF_IPV4 if len(words) == 1 else _SOURCE_OF_IPV6)
    length = 2 * len(words) + 3
    program: list[_Instruction] = []
    for place, word in enumerate(words):
        program.append((_LOAD_WORD, 0, 0, first + 4 * place))
        program.append((_JUMP_IF_EQUAL, 0, length - len(program) - 1, word))
    return [*program, (_LOAD_HALF, 0, 0, 0), (_JUMP_IF_EQUAL, 0, 1, port), (_RETURN, 0, 0, 0)]
