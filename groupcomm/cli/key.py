"""``groupcomm key``: make the key of a cluster, and have a running cluster pass to its next key epoch."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import click

from groupcomm.cli.running import IReactor, write_line
from groupcomm.cli.session import Control, session
from groupcomm.errors import EnvironmentFault, UsageError
from groupcomm.node.keyfile import key_paths, write_new_key


def default_key_path(cluster: str, environ: Mapping[str, str], user: int) -> Path:
    """Where daemons of this user look for a key that nobody names: for root the system's place, else the user's."""
    system, own = key_paths(cluster, environ)
    return own if user else system


def new_key(file: str | None, cluster: str) -> int:
    """Make a key, in the file named or where daemons look for it; say where it is and how to tell it from others."""
    path = default_key_path(cluster, os.environ, os.geteuid()) if file is None else Path(file)
    try:
        if file is None:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        key = write_new_key(path)
    except OSError as error:
        raise click.ClickException(f"cannot make {path.parent}: {error.strerror}") from None
    except (EnvironmentFault, UsageError) as error:
        raise click.ClickException(str(error)) from None
    write_line(
        f"{path}: key {key.fingerprint} for the cluster {cluster!r}; copy the file to its other hosts, mode 0600"
    )
    return 0


async def rotate(reactor: IReactor, control: Control) -> None:
    """Have the cluster seal under a new key epoch; returns when the daemon does."""
    async with session(reactor, control, None) as connection:
        number = await connection.rotate_key()
    write_line(f"key epoch {number} begins: every node of the view seals under it")
