"""The kernel drops what comes from one socket, and nothing else."""

from __future__ import annotations

import select
import socket
import struct
from typing import cast

from twisted.trial.unittest import SkipTest, SynchronousTestCase

from groupcomm.net.filters import SocketAddress, drop_from

HOST = "127.0.0.1"
GROUP = "239.192.71.68"


class RefusingSocket:
    """A socket of a kernel without socket filters."""

    def setsockopt(self, level: int, option: int, value: bytes) -> None:
        raise OSError("no")


class FilterTests(SynchronousTestCase):
    """On this host's loopback interface."""

    def setUp(self) -> None:
        self.receiving = self.bound()
        self.own, self.other = self.bound(), self.bound()

    def bound(self, host: str = HOST) -> socket.socket:
        """A UDP socket on a port nobody has."""
        made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.addCleanup(made.close)
        made.bind((host, 0))
        return made

    def bound6(self) -> socket.socket:
        """The same over IPv6."""
        try:
            made = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
            self.addCleanup(made.close)
            made.bind(("::1", 0))
        except OSError as error:
            raise SkipTest(f"this host has no IPv6: {error}") from None
        return made

    def received(self, receiving: socket.socket) -> list[bytes]:
        """What has come; on loopback a datagram is there when its sending returns."""
        got = []
        while select.select([receiving], [], [], 0.0)[0]:
            got.append(receiving.recv(65_535))
        return got

    def send_all(self, destination: SocketAddress) -> None:
        for sending, data in ((self.own, b"own"), (self.other, b"other"), (self.own, b""), (self.other, b"x" * 9000)):
            sending.sendto(data, destination)

    def test_one_source_is_dropped(self) -> None:
        """What comes from that address and port does not come, everything else does, of any size."""
        self.assertTrue(drop_from(self.receiving, [self.own.getsockname()]))
        self.send_all(self.receiving.getsockname())
        self.assertEqual(self.received(self.receiving), [b"other", b"x" * 9000])

    def test_nothing_wakes_the_process(self) -> None:
        """What is dropped does not make the socket readable."""
        drop_from(self.receiving, [self.own.getsockname()])
        self.own.sendto(b"own", self.receiving.getsockname())
        self.assertEqual(select.select([self.receiving], [], [], 0.05)[0], [])

    def test_the_whole_address_counts(self) -> None:
        """The same port at another address, and another port at the same address, are others."""
        port = self.own.getsockname()[1]
        self.assertTrue(drop_from(self.receiving, [("127.0.0.2", port)]))
        self.send_all(self.receiving.getsockname())
        self.assertEqual(self.received(self.receiving), [b"own", b"other", b"", b"x" * 9000])
        self.assertTrue(drop_from(self.receiving, [(HOST, port ^ 1)]))
        self.send_all(self.receiving.getsockname())
        self.assertEqual(len(self.received(self.receiving)), 4)

    def test_own_multicasts_are_dropped(self) -> None:
        """On a group's socket own multicasts do not come back, those of another node of the host come."""
        receiving = self.bound(GROUP)
        loopback = socket.inet_aton(HOST)
        receiving.setsockopt(
            socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, struct.pack("=4s4s", socket.inet_aton(GROUP), loopback)
        )
        self.assertTrue(drop_from(receiving, [self.own.getsockname()]))
        for sending in (self.own, self.other):
            sending.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, loopback)
        self.send_all((GROUP, receiving.getsockname()[1]))
        self.assertEqual(self.received(receiving), [b"other", b"x" * 9000])

    def test_several_sources(self) -> None:
        """Each of them is dropped; a filter that was there before counts no more."""
        self.assertTrue(drop_from(self.receiving, [self.own.getsockname(), self.other.getsockname()]))
        self.send_all(self.receiving.getsockname())
        self.assertEqual(self.received(self.receiving), [])
        self.assertTrue(drop_from(self.receiving, []))
        self.send_all(self.receiving.getsockname())
        self.assertEqual(len(self.received(self.receiving)), 4)

    def test_one_interface(self) -> None:
        """What comes by another interface is dropped, if that is asked for."""
        loopback = socket.if_nametoindex("lo")
        self.assertTrue(drop_from(self.receiving, [self.own.getsockname()], loopback))
        self.send_all(self.receiving.getsockname())
        self.assertEqual(self.received(self.receiving), [b"other", b"x" * 9000])
        self.assertTrue(drop_from(self.receiving, [], loopback + 1))
        self.send_all(self.receiving.getsockname())
        self.assertEqual(self.received(self.receiving), [])

    def test_ipv6(self) -> None:
        """The same over IPv6, where every part of the address counts."""
        self.receiving, self.own, self.other = (self.bound6() for _ in range(3))
        own, other = self.own.getsockname(), self.other.getsockname()
        self.assertTrue(drop_from(self.receiving, [own], socket.if_nametoindex("lo")))
        self.send_all(self.receiving.getsockname())
        self.assertEqual(self.received(self.receiving), [b"other", b"x" * 9000])
        strangers = [(host, own[1], 0, 0) for host in ("fd00::1", "0:1::1", "::1:0:1", "::2")]
        self.assertTrue(drop_from(self.receiving, strangers))
        self.send_all(self.receiving.getsockname())
        self.assertEqual(len(self.received(self.receiving)), 4)
        self.assertTrue(drop_from(self.receiving, [*strangers, own, other]))
        self.send_all(self.receiving.getsockname())
        self.assertEqual(self.received(self.receiving), [])

    def test_a_kernel_that_cannot(self) -> None:
        """It is said, and nothing else happens."""
        self.assertFalse(drop_from(cast(socket.socket, RefusingSocket()), [(HOST, 1)]))
