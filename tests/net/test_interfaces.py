"""A name or an address becomes an interface, or a clear fault."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from groupcomm.errors import EnvironmentFault, UsageError
from groupcomm.limits import MAX_LINKS
from groupcomm.net.interfaces import (
    NetworkInterface,
    choose_interface,
    choose_interfaces,
    default_route_interface,
    default_route_interface6,
    interface_mtu,
    ipv6_addresses,
    list_interfaces,
)

LO = NetworkInterface("lo", 1, "127.0.0.1", loopback=True, multicast=False)
ETH0 = NetworkInterface("eth0", 2, "10.0.0.5")
ETH1 = NetworkInterface("eth1", 3, "10.1.0.5")
TUN = NetworkInterface("tun0", 4, "10.2.0.5", multicast=False)
DOWN = NetworkInterface("eth2", 5, "10.3.0.5", up=False)

LO6 = NetworkInterface("lo", 1, "::1", loopback=True, multicast=False)
ETH0_LOCAL = NetworkInterface("eth0", 2, "fe80::5%eth0")
ETH1_6 = NetworkInterface("eth1", 3, "fd00::5")
ETH3_6 = NetworkInterface("eth3", 6, "fd03::5")

ADDRESSES6 = """\
00000000000000000000000000000001 01 80 10 80       lo
fe80000000000000000000000000000a 02 40 20 80     eth0
2001 0db8 broken
20010db800000000000000000000000b 02 40 00 01     eth0
20010db800000000000000000000000a 02 40 00 00     eth0
fd00000000000000000000000000000a 02 40 00 20     eth0
fd00000000000000000000000000000b 02 40 00 80     eth0
fd00000000000000000000000000000c 02 40 00 c0     eth0
fd00000000000000000000000000000d 02 40 00 08     eth0
fe80000000000000000000000000000a 0b 40 20 80    eth10
"""

ROUTES6 = """\
fd000000000000000000000000000000 40 00000000000000000000000000000000 00 00000000000000000000000000000000 00000100 00000001 00000000 00000001     eth0
00000000000000000000000000000000 00 00000000000000000000000000000000 00 fe800000000000000000000000000001 00000400 00000003 00000000 00450003     eth1
00000000000000000000000000000000 00 00000000000000000000000000000000 00 fe800000000000000000000000000001 00000080 00000003 00000000 00450003     eth2
00000000000000000000000000000000 00 00000000000000000000000000000000 00 00000000000000000000000000000000 00000001 00000002 00000000 00200200       lo
"""  # noqa: E501

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

    def test_families(self) -> None:
        """IPv4 where an interface has it, else IPv6, unless one of them is asked for."""
        there = (LO, LO6, ETH0, ETH0_LOCAL, ETH1, ETH1_6, ETH3_6)
        self.assertEqual(choose_interface("eth1", there), ETH1)
        self.assertEqual(choose_interface("eth1", there, family=6), ETH1_6)
        self.assertEqual(choose_interface("eth3", there), ETH3_6)
        self.assertEqual(choose_interface("FD00:0::5", there), ETH1_6)
        for wanted in ("fe80::5%eth0", "fe80::5", "[fe80::5]"):
            self.assertEqual(choose_interface(wanted, there), ETH0_LOCAL)
        for wanted, family in (("eth3", 4), ("fd00::5", 4), ("10.0.0.5", 6)):
            fault = self.assertRaises(EnvironmentFault, choose_interface, wanted, there, family=family)
            self.assertIn(f"with an IPv{family} address", str(fault))

    def test_default_of_each_family(self) -> None:
        """The default is IPv4's as long as there is one; loopback comes last, a link-local address last but one."""
        there = (LO, LO6, ETH0, ETH0_LOCAL, ETH1_6, ETH3_6)
        self.assertEqual(choose_interface(None, there, "eth9", "eth3"), ETH0)
        self.assertEqual(choose_interface(None, there, "eth0", "eth3", family=6), ETH3_6)
        self.assertEqual(choose_interface(None, there, family=6), ETH1_6)
        self.assertEqual(choose_interface(None, (LO, LO6, ETH0_LOCAL)), ETH0_LOCAL)
        self.assertEqual(choose_interface(None, (LO, LO6, ETH0_LOCAL, ETH3_6)), ETH3_6)
        self.assertEqual(choose_interface(None, (LO, LO6)), LO)
        self.assertEqual(choose_interface(None, (LO, LO6), family=6), LO6)

    def test_several(self) -> None:
        """One for each that is named, in that order; whether it was meant by its name is kept."""
        there = (LO, ETH0, ETH1, ETH1_6)
        chosen = choose_interfaces(("eth1", "10.0.0.5", "fd00::5"), None, there)
        self.assertEqual(chosen, (ETH1, ETH0, ETH1_6))
        self.assertEqual([interface.named for interface in chosen], [True, False, False])
        self.assertEqual(choose_interfaces((), None, there), (ETH0,))

    def test_several_refused(self) -> None:
        """Not too many, not the same twice, whichever way it is called."""
        there = (LO, ETH0, ETH1)
        for wanted, words in (
            (("eth0", "eth0"), "named twice"),
            (("eth0", "10.0.0.5"), "is eth0 (10.0.0.5), as is 'eth0'"),
            (tuple(f"eth{number}" for number in range(MAX_LINKS + 1)), "at most 8"),
            (("",), "no name"),
        ):
            self.assertIn(words, str(self.assertRaises(UsageError, choose_interfaces, wanted, None, there)))

    def test_ipv6_addresses(self) -> None:
        """Of each interface the best comes first; what the kernel still tries or has refused is left out."""
        self.assertEqual(
            ipv6_addresses(ADDRESSES6),
            [
                ("lo", 1, "::1"),
                *(("eth0", 2, text) for text in ("fd00::b", "2001:db8::a", "fe80::a%eth0", "2001:db8::b", "fd00::a")),
                ("eth10", 11, "fe80::a%eth10"),
            ],
        )

    def test_ipv6_default_route(self) -> None:
        """The one with the lowest metric that is no refusal; without one there is none."""
        self.assertEqual(default_route_interface6(ROUTES6), "eth2")
        self.assertIsNone(default_route_interface6(ROUTES6.splitlines()[0]))

    def test_mtu(self) -> None:
        """What an interface takes, and nothing for one that is not there."""
        self.assertGreaterEqual(interface_mtu("lo"), 1500)
        self.assertEqual(interface_mtu("no-such"), 0)

    def test_this_host(self) -> None:
        """This host has a loopback interface, and the kernel says that it is one."""
        loopback = [interface for interface in list_interfaces() if interface.address == "127.0.0.1"]
        self.assertEqual([interface.loopback for interface in loopback], [True])
