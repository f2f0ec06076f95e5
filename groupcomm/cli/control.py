"""Where the daemon is: what ``--control`` may look like, and what is taken when it is not given. Does not connect."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from groupcomm.cli.running import NO_DAEMON, USAGE, CommandFailed
from groupcomm.daemon.control import SeveralDaemons, checked_path, escape, find_control, first_control
from groupcomm.errors import NotConnected


def control_endpoint(given: str | None, environment: Mapping[str, str]) -> str:
    """The client endpoint description of the daemon to talk to.

    Args:
        given: what the user said: a Twisted client endpoint description, or the path of a UNIX socket.
        environment: tells where daemons of this user put their sockets.

    Raises:
        UsageError: a path that no UNIX socket can have.
        CommandFailed: nothing was given, and there is no daemon or more than one; the text lists them.
    """
    given = given or first_control(environment.get("GROUPCOMM_CONTROL", ""))
    if not given:
        try:
            return find_control(environment, os.geteuid())
        except SeveralDaemons as error:
            raise CommandFailed(str(error), USAGE) from None
        except NotConnected as error:
            raise CommandFailed(str(error), NO_DAEMON) from None
    if is_path(given):
        return f"unix:{escape(str(checked_path(Path(given).absolute())))}"
    return given


def is_path(text: str) -> bool:
    """Whether the user gave a file name rather than an endpoint description."""
    return text.startswith(("/", "./", "../")) or (text.endswith(".sock") and ":" not in text)
