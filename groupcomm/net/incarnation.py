"""The incarnation of a run of a node: greater than that of every earlier run of the same name.

It is the wall clock in milliseconds, and where a data directory is given never less than one more than what is stored
there; the new value is on disk before anybody hears it.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final
from urllib.parse import quote

from groupcomm.errors import EnvironmentFault

MAX_INCARNATION: Final = (1 << 63) - 1
"""Larger numbers are not written, and in a file mean that it was not written by us."""


def next_incarnation(node_name: str, wall_seconds: float, data_dir: Path | None) -> int:
    """Draw the incarnation of a run that begins now.

    Args:
        node_name: the node.
        wall_seconds: the wall clock, seconds since 1970.
        data_dir: where the last one is kept; made if it is not there. None: nothing is kept.

    Raises:
        EnvironmentFault: the directory cannot be used, or what is stored there is no incarnation.
    """
    clock = max(1, int(wall_seconds * 1000))
    if data_dir is None:
        return clock
    path = data_dir / f"incarnation-{quote(node_name, safe='')}"
    try:
        data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        drawn = max(_stored(path) + 1, clock)
        _store(path, drawn)
    except OSError as error:
        raise EnvironmentFault(f"data directory {data_dir}: {error.strerror or error}") from None
    return drawn


def _stored(path: Path) -> int:
    """The last one, 0 if there is none."""
    try:
        with path.open("rb") as stored:
            text = stored.read(32).strip()
    except FileNotFoundError:
        return 0
    if not text.isdigit() or not int(text) < MAX_INCARNATION:
        raise EnvironmentFault(f"{path} holds no incarnation; remove it if the clock of this host is right")
    return int(text)


def _store(path: Path, incarnation: int) -> None:
    """Write it so that a crash leaves the old one or the new one."""
    fresh = path.with_name(path.name + ".new")
    with fresh.open("wb") as stored:
        stored.write(b"%d\n" % incarnation)
        stored.flush()
        os.fsync(stored.fileno())
    fresh.replace(path)
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
