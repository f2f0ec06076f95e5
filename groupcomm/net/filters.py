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
from typing import Final

from groupcomm.outputs import Address

_SO_ATTACH_FILTER: Final = 26
_NETWORK_HEADER: Final = 0xFFF0_0000
_SOURCE_OF_IPV4: Final = 12
_INSTRUCTION: Final = struct.Struct("=HBBI")
_LOAD_WORD, _LOAD_HALF, _JUMP_IF_EQUAL, _RETURN = 0x20, 0x28, 0x15, 0x06


def drop_from(receiving: socket.socket, source: Address) -> bool:
    """Let the kernel drop what comes from ``source`` to this UDP socket over IPv4; False if it cannot."""
    host, port = int(ipaddress.IPv4Address(source[0])), source[1]
    program = b"".join(
        _INSTRUCTION.pack(*instruction)
        for instruction in (
            (_LOAD_WORD, 0, 0, _NETWORK_HEADER + _SOURCE_OF_IPV4),
            (_JUMP_IF_EQUAL, 0, 3, host),
            (_LOAD_HALF, 0, 0, 0),
            (_JUMP_IF_EQUAL, 0, 1, port),
            (_RETURN, 0, 0, 0),
            (_RETURN, 0, 0, 0xFFFF_FFFF),
        )
    )
    instructions = ctypes.create_string_buffer(program, len(program))
    filtering = struct.pack("@HP", len(program) // _INSTRUCTION.size, ctypes.addressof(instructions))
    try:
        receiving.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, filtering)
    except OSError:
        return False
    return True
