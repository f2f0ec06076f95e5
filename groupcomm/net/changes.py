"""Word of the kernel that interfaces or addresses of this host have changed.

Decides only when to look again: shortly after the first word, since they come in swarms, and not what has changed.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Final

from twisted.internet.interfaces import IDelayedCall, IReadDescriptor
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from groupcomm.net.reactor import INodeReactor

LOOK_SECONDS: Final = 0.2
"""From the first word of a change to the look at what there is: what comes meanwhile is seen by the same look."""

_GROUPS: Final = 0x1 | 0x10 | 0x100
"""Links, IPv4 addresses and IPv6 addresses (``RTMGRP_LINK``, ``RTMGRP_IPV4_IFADDR``, ``RTMGRP_IPV6_IFADDR``)."""

_MAX_WORD_BYTES: Final = 64 * 1024
_MOST_WORDS: Final = 64


@implementer(IReadDescriptor)
class InterfaceChanges:
    """Listens to the kernel's routing socket, from construction to ``stop``; without such sockets nothing is heard."""

    _log = Logger()

    def __init__(self, reactor: INodeReactor, changed: Callable[[], None]) -> None:
        """Listen.

        Args:
            reactor: reads and waits.
            changed: called when something may have changed.
        """
        self._reactor = reactor
        self._changed = changed
        self._due: IDelayedCall | None = None
        self._socket: socket.socket | None = None
        try:
            self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
            self._socket.setblocking(False)
            self._socket.bind((0, _GROUPS))
        except OSError as error:
            self._log.warn("changes of network interfaces will not be noticed: {error}", error=str(error))
            self._close()
        else:
            reactor.addReader(self)

    def look_soon(self, seconds: float = LOOK_SECONDS) -> None:
        """Call ``changed`` after that time, if it is not to be called already."""
        if self._due is None:
            self._due = self._reactor.callLater(seconds, self._look)

    def stop(self) -> None:
        """Listen no more."""
        if self._due is not None:
            self._due.cancel()
            self._due = None
        if self._socket is not None:
            self._reactor.removeReader(self)
            self._close()

    def fileno(self) -> int:
        """The descriptor to wait on."""
        return -1 if self._socket is None else self._socket.fileno()

    def doRead(self) -> None:
        """Something has changed; what, is looked up later."""
        for _ in range(_MOST_WORDS):
            try:
                if self._socket is None or not self._socket.recv(_MAX_WORD_BYTES):
                    break
            except (BlockingIOError, InterruptedError):
                break
            except OSError:
                break  # words were lost for want of room: all the more has changed
        self.look_soon()

    def connectionLost(self, reason: Failure) -> None:
        """The reactor reads it no more."""
        self._close()

    def logPrefix(self) -> str:
        """What Twisted calls it in its log."""
        return type(self).__name__

    def _look(self) -> None:
        self._due = None
        self._changed()

    def _close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None
