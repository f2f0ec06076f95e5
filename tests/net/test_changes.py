"""Word of the kernel has interfaces looked at again, once for a swarm of words."""

from __future__ import annotations

import socket
from typing import cast

from twisted.trial.unittest import SynchronousTestCase

from groupcomm.net import changes
from groupcomm.net.changes import LOOK_SECONDS, InterfaceChanges
from groupcomm.net.reactor import INodeReactor
from tests.node_double import MemoryClock


class ChangesTests(SynchronousTestCase):
    """On a reactor that is stepped by hand, with a pair of sockets in the place of the kernel's."""

    def setUp(self) -> None:
        self.clock = MemoryClock()
        self.looks: list[float] = []
        self.changes = InterfaceChanges(cast(INodeReactor, self.clock), self.looked)
        self.addCleanup(self.changes.stop)

    def looked(self) -> None:
        self.looks.append(self.clock.seconds())

    def test_a_swarm_of_words(self) -> None:
        """However many come at once, there is one look, a moment after the first."""
        assert self.changes._socket is not None
        self.changes._socket.close()
        kernel, self.changes._socket = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.addCleanup(kernel.close)
        self.changes._socket.setblocking(False)
        for _ in range(3):
            kernel.send(b"word")
        self.changes.doRead()
        self.clock.advance(LOOK_SECONDS / 2)
        kernel.send(b"word")
        self.changes.doRead()
        self.assertEqual(self.looks, [])
        self.clock.run_for(1.0)
        self.assertEqual(self.looks, [LOOK_SECONDS])
        kernel.send(b"word")
        self.changes.doRead()
        self.clock.run_for(1.0)
        self.assertEqual(len(self.looks), 2)

    def test_stop(self) -> None:
        """After the end nothing is looked at, and nothing is left open."""
        self.assertEqual(self.clock.readers, {self.changes})
        self.changes.look_soon()
        self.changes.stop()
        self.clock.run_for(1.0)
        self.assertEqual((self.looks, self.clock.readers, self.changes.fileno()), ([], set(), -1))

    def test_a_host_that_tells_nothing(self) -> None:
        """Without the kernel's socket a node runs all the same."""

        class Refusing:
            AF_NETLINK, SOCK_RAW, NETLINK_ROUTE = socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE

            @staticmethod
            def socket(*_: int) -> socket.socket:
                raise PermissionError("no")

        self.patch(changes, "socket", Refusing)
        deaf = InterfaceChanges(cast(INodeReactor, self.clock), self.looked)
        self.assertEqual(deaf.fileno(), -1)
        deaf.look_soon()
        self.clock.run_for(1.0)
        self.assertEqual(len(self.looks), 1)
        deaf.stop()
