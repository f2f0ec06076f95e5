"""Waiting for what a process does on disk, a line in its log or a socket, until the kernel tells of it."""

from __future__ import annotations

import ctypes
import os
import select
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from bench.lab import BenchError, Process

_CREATED_OR_CHANGED: Final = 0x100 | 0x2 | 0x80
"""IN_CREATE, IN_MODIFY and IN_MOVED_TO of inotify(7)."""


def wait_for(process: Process, directory: Path, condition: Callable[[], bool], seconds: float, what: str) -> None:
    """Wait until ``condition`` holds, which a change of a file in ``directory`` makes true.

    Args:
        process: who is to make it true; when it ends there is no more to wait for.
        directory: where it happens.
        condition: looked at now and after each change.
        seconds: how long that may take.
        what: is not done, for the error.

    Raises:
        BenchError: it did not come to that, with what the process has logged.
    """
    limit = time.monotonic() + seconds
    libc = ctypes.CDLL(None, use_errno=True)
    changes = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
    ended = os.pidfd_open(process.child.pid)
    try:
        if changes < 0 or libc.inotify_add_watch(changes, os.fsencode(directory), _CREATED_OR_CHANGED) < 0:
            raise OSError(ctypes.get_errno(), "inotify")
        while not condition():
            ready, _, _ = select.select([changes, ended], [], [], max(0.0, limit - time.monotonic()))
            if ended in ready or not ready:
                raise BenchError(f"{process.name} does not {what}:\n{process.log()}")
            os.read(changes, 1 << 16)
    finally:
        os.close(ended)
        if changes >= 0:
            os.close(changes)
