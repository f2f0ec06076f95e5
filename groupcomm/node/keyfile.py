"""Where the key of a cluster is kept: a file of 32 bytes that nobody else may read.

Decides where it is looked for, and what makes a file unfit. A key that others could read is refused, not used with a
warning: who can read it is a node of the cluster.
"""

from __future__ import annotations

import os
import secrets
import stat
from collections.abc import Mapping
from pathlib import Path

from groupcomm.errors import EnvironmentFault, UsageError
from groupcomm.wire.keys import KEY_BYTES, ClusterKey

SYSTEM_DIRECTORY = Path("/etc/groupcomm")


def key_paths(cluster: str, environ: Mapping[str, str]) -> tuple[Path, ...]:
    """Where the key of a cluster is looked for if no file is named, in this order."""
    name = f"{cluster.replace('/', '-')}.key"
    home = environ.get("XDG_CONFIG_HOME") or os.path.join(environ.get("HOME") or os.path.expanduser("~"), ".config")
    return SYSTEM_DIRECTORY / name, Path(home) / "groupcomm" / name


def read_key(path: Path) -> ClusterKey:
    """The key in a file.

    Raises:
        EnvironmentFault: there is none, others may read it, or it is no key; the text says what to do.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise EnvironmentFault(f"cannot read the key {path}: {error.strerror}") from None
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise EnvironmentFault(f"the key {path} is not a file")
        if found.st_mode & 0o077:
            mode = stat.S_IMODE(found.st_mode)
            raise EnvironmentFault(f"others may read the key {path} (mode {mode:04o}): chmod 600 {path}")
        if found.st_uid not in (os.geteuid(), 0):
            raise EnvironmentFault(f"the key {path} belongs to somebody else (user {found.st_uid})")
        secret = os.read(descriptor, KEY_BYTES + 1)
    finally:
        os.close(descriptor)
    if len(secret) != KEY_BYTES:
        raise EnvironmentFault(f"{path} is no key: a key has {KEY_BYTES} bytes. Make one with: groupcomm key new FILE")
    return ClusterKey(secret)


def find_key(cluster: str, environ: Mapping[str, str]) -> tuple[Path, ClusterKey] | None:
    """The key of a cluster, from the first place that has one; None if none has.

    Raises:
        EnvironmentFault: there is one, and it is unfit.
    """
    for path in key_paths(cluster, environ):
        if os.path.lexists(path):
            return path, read_key(path)
    return None


def no_key_text(cluster: str, environ: Mapping[str, str]) -> str:
    """What to tell somebody who has none."""
    places = " or ".join(str(path) for path in key_paths(cluster, environ))
    return (
        f"there is no key for the cluster {cluster!r}: make one with `groupcomm key new FILE`, copy it to every host, "
        f"and name it with --key (in a program: NodeConfig.key), or put it at {places}. Without a key whoever reaches "
        "the network is a node; --insecure (NodeConfig.insecure) says that this is meant"
    )


def write_new_key(path: Path) -> ClusterKey:
    """Make a new key in a file that does not exist yet, with mode 0600.

    Raises:
        UsageError: there is something at that path already.
        EnvironmentFault: the file cannot be written.
    """
    key = ClusterKey.new(secrets.token_bytes)
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        raise UsageError(f"{path} exists already: a key is never written over") from None
    except OSError as error:
        raise EnvironmentFault(f"cannot write the key {path}: {error.strerror}") from None
    with os.fdopen(descriptor, "wb") as file:
        os.fchmod(file.fileno(), 0o600)
        file.write(key.secret)
    return key
