"""A name or an address becomes an interface, or a clear fault."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from groupcomm.errors import EnvironmentFault
from groupcomm.net.interfaces import NetworkInterface, choose_interface, default_route_interface, list_interfaces

LO = NetworkInterface("lo", 1, "127.0.0.1", loopback=True, multicast=False)
ETH0 = NetworkInterface("eth0", 2, "10.0.0.5")
ETH1 = NetworkInterface("eth1", 3, "10.1.0.5")
TUN = NetworkInterface("tun0", 4, "10.2.0.5", multicast=False)
DOWN = NetworkInterface("eth2", 5, "10.3.0.5", up=False)

ROUTES = """\
Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT
eth0\t00000A0A\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0
eth0\t00000000\t0100000A\t0003\t0\t0\t200\t00000000\t0\t0\t0
eth1\t00000000\t0100010A\t0003\t0\t0\t100\t00000000\t0\t0\t0
"""


class ChooseTests(SynchronousTestCase):
    """Which interface a node uses."""

    def test_by_name_and_by_address(self) -> None:
        """A name and an address both say which."""
        for wanted in ("eth1", "10.1.0.5"):
            self.assertEqual(choose_interface(wanted, (LO, ETH0, ETH1)), ETH1)

    def test_default(self) -> None:
        """Without a wish: the default route's, else the first that can multicast, else loopback."""
        self.assertEqual(choose_interface(None, (LO, ETH0, ETH1), "eth1"), ETH1)
        self.assertEqual(choose_interface("", (LO, TUN, ETH0, ETH1), "ppp0"), ETH0)
        self.assertEqual(choose_interface(None, (LO, TUN, DOWN)), LO)

    def test_not_there(self) -> None:
        """What is not there, or down, is said with what there is."""
        fault = self.assertRaises(EnvironmentFault, choose_interface, "wlan0", (LO, ETH0))
        self.assertIn("eth0 (10.0.0.5)", str(fault))
        fault = self.assertRaises(EnvironmentFault, choose_interface, "eth2", (LO, DOWN))
        self.assertIn("down", str(fault))
        self.assertRaises(EnvironmentFault, choose_interface, None, ())

    def test_default_route(self) -> None:
        """The default route with the lowest metric counts; without one there is none."""
        self.assertEqual(default_route_interface(ROUTES), "eth1")
        self.assertIsNone(default_route_interface(ROUTES[: ROUTES.index("eth0\t00000000")]))
        self.assertIsNone(default_route_interface("header\nbroken line\n"))

    def test_this_host(self) -> None:
        """This host has a loopback interface, and the kernel says that it is one."""
        loopback = [interface for interface in list_interfaces() if interface.address == "127.0.0.1"]
        self.assertEqual([interface.loopback for interface in loopback], [True])
