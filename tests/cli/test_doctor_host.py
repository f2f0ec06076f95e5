"""What ``groupcomm doctor`` gathers of a host: from made-up tables of a kernel, and on the loopback interface."""

from __future__ import annotations

import os
import socket
import threading
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from groupcomm.cli.doctor import host as host_module
from groupcomm.cli.doctor.finding import Answer, Connected
from groupcomm.cli.doctor.host import (
    CONNECT_SECONDS,
    clock_synchronised,
    connect_to,
    counters,
    gather,
    route_to,
    sysctls,
    udp_received,
)
from groupcomm.identity import NodeId
from groupcomm.net.watch import format_banner

SNMP = """Ip: Forwarding DefaultTTL
Ip: 1 64
Udp: InDatagrams NoPorts InErrors OutDatagrams RcvbufErrors
Udp: 1000 3 20 900 17
UdpLite: InDatagrams RcvbufErrors
UdpLite: 0 0
"""
SNMP6 = """Ip6InReceives                       55
Udp6InDatagrams                 200
Udp6RcvbufErrors                4
UdpLite6InDatagrams             9
"""


class KernelTests(SynchronousTestCase):
    """Tables of the kernel."""

    def setUp(self) -> None:
        self.root = Path(self.mktemp())
        (self.root / "net").mkdir(parents=True)

    def test_datagrams(self) -> None:
        """Both families together; a table that is missing or of another form counts nothing."""
        self.assertEqual(counters(SNMP, "Udp")["RcvbufErrors"], 17)
        self.assertEqual(counters(SNMP6, "Udp6"), {"InDatagrams": 200, "RcvbufErrors": 4})
        self.assertEqual(udp_received(self.root), (0, 0))
        (self.root / "net/snmp").write_text(SNMP)
        self.assertEqual(udp_received(self.root), (1000, 17))
        (self.root / "net/snmp6").write_text(SNMP6)
        self.assertEqual(udp_received(self.root), (1200, 21))
        (self.root / "net/snmp").write_text("Udp: a b\nUdp: 1\n")
        self.assertEqual(udp_received(self.root), (200, 4))

    def test_settings(self) -> None:
        """Those that can be read are there."""
        (self.root / "sys/net/core").mkdir(parents=True)
        (self.root / "sys/net/core/rmem_max").write_text("212992\n")
        self.assertEqual(sysctls(self.root), {"net.core.rmem_max": 212_992})

    def test_this_host(self) -> None:
        """Everything together, of the host that the test runs on."""
        found = gather(["127.0.0.1:9"])
        self.assertIn("127.0.0.1", [each.address for each in found.interfaces])
        self.assertEqual((set(found.routes), set(found.answers)), ({"127.0.0.1:9"}, {"127.0.0.1:9"}))
        self.assertEqual(found.processors, os.cpu_count())
        self.assertIn(clock_synchronised(), (True, False, None))

    def test_route(self) -> None:
        """From where packets leave; nowhere, if that is no address or there is no way."""
        self.assertEqual(route_to("127.0.0.1:4874"), "127.0.0.1")
        self.assertEqual(route_to("a.example:4874"), "")


class ConnectTests(SynchronousTestCase):
    """Who answers by TCP."""

    def listener(self) -> tuple[socket.socket, str]:
        """A port that takes connections, and its address."""
        listening = socket.create_server(("127.0.0.1", 0))
        self.addCleanup(listening.close)
        return listening, f"127.0.0.1:{listening.getsockname()[1]}"

    def says(self, text: bytes) -> str:
        """The address of a port that says this to who comes."""
        listening, address = self.listener()

        def serve() -> None:
            with listening.accept()[0] as one:
                one.sendall(text)

        serving = threading.Thread(target=serve)
        serving.start()
        self.addCleanup(serving.join)
        return address

    def test_each_answer(self) -> None:
        """A node, something else, a port that is closed, one that says nothing, and what is no address; all at once."""
        self.patch(host_module, "CONNECT_SECONDS", min(0.5, CONNECT_SECONDS))
        node = self.says(format_banner(NodeId("beta", 5)))
        other = self.says(b"220 mail\r\n")
        closed, shut = self.listener()
        closed.close()
        _, mute = self.listener()
        found = connect_to([node, other, shut, mute, "a.example:1"])
        self.assertEqual(
            found,
            {
                node: Connected(Answer.NODE, "beta"),
                other: Connected(Answer.OTHER),
                shut: Connected(Answer.REFUSED),
                mute: Connected(Answer.NONE),
                "a.example:1": Connected(Answer.NONE),
            },
        )
