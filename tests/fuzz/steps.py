"""Inputs that are several steps, and random changes of bytes and of steps.

A step is a kind, a size and so many bytes. Any bytes can be read as steps; what a mutator writes keeps the form, so
that a change in one step does not move the borders of all others.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from random import Random
from typing import TypeAlias

from groupcomm.wire.codec import varint

Step: TypeAlias = tuple[int, bytes]
"""Its kind, one byte, and what it brings."""

_HEAD = struct.Struct("!BH")
_NUMBERS = (0, 1, 2, 3, 7, 8, 15, 16, 63, 64, 65, 126, 127, 128, 129, 255, 256, 511, 512, 513, 1023, 1024, 2048, 4095)
_LARGE_NUMBERS = tuple((1 << bits) + more for bits in (15, 16, 31, 32, 40, 48, 63, 64) for more in (-1, 0, 1))


def read_steps(data: bytes) -> list[Step]:
    """The steps of an input; the last may be cut short."""
    steps = []
    at = 0
    while at + _HEAD.size <= len(data):
        kind, size = _HEAD.unpack_from(data, at)
        at += _HEAD.size
        steps.append((kind, data[at : at + size]))
        at += size
    return steps


def write_steps(steps: list[Step]) -> bytes:
    """The input of these steps."""
    return b"".join(_HEAD.pack(kind, len(data)) + data for kind, data in steps)


def any_number(random: Random) -> int:
    """A number at which things end more often than at others."""
    way = random.randrange(4)
    if way == 0:
        return random.choice(_LARGE_NUMBERS)
    return random.choice(_NUMBERS) if way == 1 else random.randrange(12) if way == 2 else random.randrange(1 << 16)


def mutate_bytes(data: bytes, random: Random) -> bytes:
    """The bytes with a few small changes."""
    changed = bytearray(data)
    for _ in range(random.choice((1, 1, 1, 2, 4))):
        way = random.randrange(9)
        at = random.randrange(len(changed) + 1)
        if way == 0 or at == len(changed):
            changed[at:at] = random.randbytes(random.randint(1, 4))
        elif way == 1:
            changed[at] ^= 1 << random.randrange(8)
        elif way == 2:
            changed[at] = random.choice((0, 1, 0x7F, 0x80, 0xFE, 0xFF, random.randrange(256)))
        elif way == 3:
            changed[at] = (changed[at] + random.choice((-1, 1))) % 256
        elif way == 4:
            del changed[at : at + random.randint(1, 4)]
        elif way == 5:
            changed[at : at + 1] = varint(any_number(random) % (1 << 64))
        elif way == 6:
            number = any_number(random) % (1 << 64)
            width = random.choice((2, 4, 8))
            changed[at : at + width] = (number % (1 << 8 * width)).to_bytes(width, "big")
        elif way == 7:
            size = random.randint(1, 16)
            changed[at:at] = changed[at : at + size]
        else:
            del changed[at:]
    return bytes(changed)


def mutate_steps(
    data: bytes, random: Random, fresh: Callable[[Random], Step], change: Callable[[Step, Random], Step]
) -> bytes:
    """The input with a few steps added, changed, moved or left out.

    Args:
        data: the input.
        random: decides.
        fresh: makes a new step.
        change: makes another of a step.
    """
    steps = read_steps(data)
    for _ in range(random.choice((1, 1, 2, 3, 6))):
        way = random.randrange(10)
        at = random.randrange(len(steps) + 1)
        if way < 3 or at == len(steps):
            steps.insert(at, fresh(random))
        elif way < 7:
            steps[at] = change(steps[at], random)
        elif way == 7:
            steps.insert(random.randrange(len(steps) + 1), steps[at])
        elif way == 8:
            steps.insert(random.randrange(len(steps)), steps.pop(at))
        else:
            del steps[at]
    return write_steps([(kind, body[:0xFFFF]) for kind, body in steps])
