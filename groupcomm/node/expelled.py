"""Who is expelled, kept in the data directory: so a restart of all nodes at once does not let anybody in again.

Decides what happens to a file that cannot be read or written: the node goes on, and its log says so. The file lets
nobody in, and revocation does not depend on it.
"""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote

from twisted.logger import Logger

from groupcomm.errors import UsageError
from groupcomm.identity import checked_node_name
from groupcomm.limits import MAX_EXPELLED

_MAX_FILE_BYTES = 64 * 1024

_log = Logger()


def expelled_path(data_dir: Path, cluster: str) -> Path:
    """The file with the names of those who are expelled from a cluster, one a line, the latest last."""
    return data_dir / f"expelled-{quote(cluster, safe='')}"


def read_expelled(data_dir: Path | None, cluster: str) -> tuple[str, ...]:
    """Who is expelled, as far as it was kept."""
    if data_dir is None:
        return ()
    path = expelled_path(data_dir, cluster)
    try:
        with path.open("rb") as file:
            lines = file.read(_MAX_FILE_BYTES).decode("utf-8").splitlines()
        names = dict.fromkeys(checked_node_name(line) for line in lines if line)
    except FileNotFoundError:
        return ()
    except (OSError, UnicodeDecodeError, UsageError) as error:
        _log.error("cannot read who is expelled from {path}: {error}", path=str(path), error=str(error))
        return ()
    return tuple(names)[-MAX_EXPELLED:]


def keep_expelled(data_dir: Path | None, cluster: str, name: str) -> None:
    """Keep one name more."""
    if data_dir is None:
        return
    path = expelled_path(data_dir, cluster)
    names = [*(one for one in read_expelled(data_dir, cluster) if one != name), name][-MAX_EXPELLED:]
    fresh = path.with_name(path.name + ".new")
    try:
        data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        fresh.write_text("".join(f"{one}\n" for one in names), "utf-8")
        fresh.replace(path)
    except OSError as error:
        _log.error("cannot keep who is expelled in {path}: {error}", path=str(path), error=str(error))
