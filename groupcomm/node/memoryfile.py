"""What a node remembers of primary views, kept in the data directory: for dynamic-linear, and only for it.

Decides the form of the file and what happens if it cannot be read or written: a file that cannot be read is a memory
that was lost; one that cannot be written is removed, since a restart must not remember what is no longer true. It is
written in a thread: a disk that is slow holds nothing up but what the engine does not say before it is written.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from groupcomm.errors import EnvironmentFault, UsageError
from groupcomm.identity import NodeId, ViewId, checked_node_name
from groupcomm.outputs import QuorumKept
from groupcomm.quorum import NO_MEMORY, Memory, Primary, Quorum

_MAX_FILE_BYTES = 1024 * 1024

_log = Logger()


def memory_path(data_dir: Path, cluster: str) -> Path:
    """The file of a cluster."""
    return data_dir / f"quorum-{quote(cluster, safe='')}"


def read_memory(data_dir: Path | None, cluster: str, quorum: Quorum) -> Memory:
    """What was kept; nothing if there is nothing, or it cannot be read."""
    if data_dir is None:
        return NO_MEMORY
    path = memory_path(data_dir, cluster)
    try:
        with path.open("rb") as file:
            value = json.loads(file.read(_MAX_FILE_BYTES).decode("utf-8"))
        last = None if value["last"] is None else _primary(value["last"], quorum)
        return Memory(last, tuple(_primary(one, quorum) for one in value["attempts"]), value["whole"] is True)
    except FileNotFoundError:
        return NO_MEMORY
    except (OSError, ValueError, KeyError, TypeError, UsageError) as error:
        _log.error(
            "cannot read what this node remembers of primary views from {path}: {error}; it counts as having forgotten",
            path=str(path),
            error=repr(error),
        )
        return NO_MEMORY


class MemoryKeeper:
    """Keeps what an engine says, one write at a time, the newest next."""

    def __init__(
        self,
        write: Callable[[Memory], Deferred[OSError | None]],
        kept: Callable[[int], None],
        failed: Callable[[str], None],
    ) -> None:
        """Begin.

        Args:
            write: does what ``keep_memory`` does, and does not wait for the disk.
            kept: told the number of what is kept now.
            failed: told why what was kept before can neither be replaced nor removed; it is the last call.
        """
        self._write = write
        self._kept = kept
        self._failed = failed
        self._next: QuorumKept | None = None
        self._busy = False
        self._waiting: list[Deferred[None]] = []

    def keep(self, said: QuorumKept) -> None:
        """Write this, if nothing newer comes before there is time."""
        self._next = said
        if not self._busy:
            self._begin()

    def when_idle(self) -> Deferred[None]:
        """Fires when nothing is being written."""
        idle: Deferred[None] = Deferred()
        if self._busy:
            self._waiting.append(idle)
        else:
            idle.callback(None)
        return idle

    def _begin(self) -> None:
        said, self._next = self._next, None
        self._busy = said is not None
        if said is not None:
            maybeDeferred(self._write, said.memory).addCallbacks(partial(self._written, said.number), self._broken)
            return
        waiting, self._waiting = self._waiting, []
        for idle in waiting:
            idle.callback(None)

    def _written(self, number: int, error: OSError | None) -> None:
        if error is not None:
            _log.error(
                "cannot keep what this node remembers of primary views: {error}; after a restart it counts as having "
                "forgotten",
                error=str(error),
            )
        self._begin()
        self._kept(number)

    def _broken(self, failure: Failure) -> None:
        self._next = None
        self._begin()
        self._failed(failure.getErrorMessage())


def keep_memory(data_dir: Path, cluster: str, quorum: Quorum, memory: Memory) -> OSError | None:
    """Keep it; when this returns it is on the disk, or nothing is.

    Returns:
        Why nothing is; None where it is.

    Raises:
        EnvironmentFault: it can neither be written nor removed.
    """
    path = memory_path(data_dir, cluster)
    value = {
        "last": None if memory.last is None else _plain(memory.last, quorum),
        "attempts": [_plain(one, quorum) for one in memory.attempts],
        "whole": memory.whole,
    }
    try:
        data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        fresh = path.with_name(path.name + ".new")
        with fresh.open("wb") as file:
            file.write(json.dumps(value).encode("utf-8"))
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(path)
        _sync_directory(data_dir)
    except OSError as error:
        _forget(path, error)
        return error
    return None


def _forget(path: Path, error: OSError) -> None:
    """It could not be written: what is there must not be believed."""
    try:
        path.unlink(missing_ok=True)
        _sync_directory(path.parent)
    except OSError:
        raise EnvironmentFault(
            f"what this node remembers of primary views can neither be written to {path} nor removed: {error}"
        ) from None


def _sync_directory(directory: Path) -> None:
    if not directory.exists():
        return
    handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _plain(primary: Primary, quorum: Quorum) -> dict[str, object]:
    proposer = primary.id.proposer
    view = [primary.id.epoch, proposer.name, proposer.incarnation]
    return {"view": view, "nodes": list(quorum.names_in(primary.nodes))}


def _primary(value: Any, quorum: Quorum) -> Primary:
    epoch, name, incarnation = value["view"]
    if not (isinstance(epoch, int) and isinstance(incarnation, int) and epoch > 0):
        raise ValueError("a view id is no number")
    return Primary(ViewId(epoch, NodeId(checked_node_name(name), incarnation)), quorum.map_of(value["nodes"]))
