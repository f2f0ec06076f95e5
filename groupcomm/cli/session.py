"""A command's connection to its daemon: opened with clear errors, and always closed."""

from __future__ import annotations

import getpass
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Final

from attrs import frozen
from twisted.internet.defer import TimeoutError as NoAnswer

from groupcomm.cli.control import control_endpoint
from groupcomm.cli.running import CLOSE_SECONDS, NO_DAEMON, CommandFailed, IReactor
from groupcomm.client import Connection, connect
from groupcomm.daemon.control import is_tls
from groupcomm.errors import NotConnected

ANSWER_SECONDS: Final = 15.0
"""How long a daemon may take to accept a login."""


@frozen
class Control:
    """Where to find the daemon, as the user said it."""

    given: str | None
    environment: Mapping[str, str]


def default_name() -> str:
    """The client name when none is given: the user's, with the process number because names are unique on a node."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = f"uid{os.getuid()}"
    return f"{user}-{os.getpid()}"


@asynccontextmanager
async def session(reactor: IReactor, control: Control, name: str | None) -> AsyncIterator[Connection]:
    """A connection to the daemon, closed at the end whatever happens.

    Raises:
        CommandFailed: no daemon is there, or it does not let us in.
    """
    connection = await opened(reactor, control, name)
    try:
        yield connection
    finally:
        closing = connection.close()
        closing.addTimeout(CLOSE_SECONDS, reactor)
        closing.addErrback(lambda _: None)  # it is over in any case
        await closing


async def opened(reactor: IReactor, control: Control, name: str | None) -> Connection:
    """Connect and log in under ``name``; without one the user's, or over TLS that of the certificate."""
    where = control_endpoint(control.given, control.environment)
    attempt = connect(reactor, where, name=name or (None if is_tls(where) else default_name()))
    attempt.addTimeout(ANSWER_SECONDS, reactor)
    try:
        return await attempt
    except NoAnswer:
        raise CommandFailed(f"no answer from {where} within {ANSWER_SECONDS:g} s", NO_DAEMON) from None
    except NotConnected as error:
        raise CommandFailed(str(error), NO_DAEMON) from None
