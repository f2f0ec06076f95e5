"""The network interface of a host goes away, comes back and changes under a running daemon."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable

from twisted.trial.unittest import SynchronousTestCase

from tests.lab.harness import Daemon, Lab, measured, wait_until

HOSTS = (1, 2, 3)
MOVED = 3
VIEW_SECONDS = 3.0


class LinksTests(SynchronousTestCase):
    """Three hosts, with what happens to the interface of the last of them."""

    def test_ipv4(self) -> None:
        """The node is heard and hears again after each change, without a restart."""
        with Lab(len(HOSTS)) as lab:
            Changes(lab, "10.77.0.{}/16", "10.77.0.{}:").run(self)

    def test_ipv6(self) -> None:
        """The same over IPv6."""
        with Lab(len(HOSTS), ipv6_only=True) as lab:
            Changes(lab, "fd77::{}/64", "[fd77::{}]:").run(self)


class Changes:
    """One change after the other.

    Args:
        lab: the hosts.
        assigned: an address as it is assigned to an interface, with the host's number to be filled in.
        shown: how it begins in a status.
    """

    def __init__(self, lab: Lab, assigned: str, shown: str) -> None:
        self.lab = lab
        self.assigned = assigned
        self.shown = shown

    def run(self, case: SynchronousTestCase) -> None:
        lab = self.lab
        self.daemons = lab.daemons(HOSTS, "--interface", "eth0")
        self.others = self.daemons[:-1]
        self.changed(case, "down and up", self.down, self.up, MOVED)
        self.changed(case, "without its address, then with it", self.no_address, self.address_of(MOVED), MOVED)
        self.changed(case, "with another address", self.no_address, self.address_of(103), 103)
        self.changed(case, "another device of that name", self.unplug, self.replug, 104)
        lab.judge("D6b", "M1", "M4")

    def changed(
        self, case: SynchronousTestCase, what: str, away: Callable[[], None], back: Callable[[], None], number: int
    ) -> None:
        """The interface goes: the others go on. It comes back: all are in one view again, whichever its address."""
        away()
        self.lab.wait_for_view(self.others)
        moved = self.daemons[-1]
        wait_until(lambda: alone(moved), 30, f"{moved.name} to be alone")
        back()
        began = time.monotonic()
        self.lab.wait_for_view(self.daemons)
        measured(f"one view again, {what}", time.monotonic() - began, "s", VIEW_SECONDS)
        address = wait_until(lambda: self.address_at_first(number), 30, f"the address of {moved.name} to be known")
        case.assertEqual(address, self.shown.format(number))
        case.assertGreater(moved.counter("link_changes"), 0)

    def address_at_first(self, number: int) -> str | None:
        """How the address of the host that changes begins at the first host, once it is the expected one."""
        for peer in self.daemons[0].status()["peers"]:
            if peer["node"] == self.daemons[-1].node and str(peer["address"]).startswith(self.shown.format(number)):
                return self.shown.format(number)
        return None

    # What happens to the interface.

    def down(self) -> None:
        self.lab.link(MOVED, "eth0", "down")

    def up(self) -> None:
        self.lab.link(MOVED, "eth0", "up")

    def no_address(self) -> None:
        """Without an address IPv4 is dead; IPv6 would go on multicasting from an address that is gone."""
        for family in ("-4", "-6"):
            self.ip(family, "addr", "flush", "dev", "eth0")
        if self.lab.ipv6_only:
            self.down()

    def address_of(self, number: int) -> Callable[[], None]:
        def assign() -> None:
            self.up()
            self.ip("addr", "add", self.assigned.format(number), "dev", "eth0", *flags)

        flags = ("nodad",) if self.lab.ipv6_only else ()
        return assign

    def unplug(self) -> None:
        subprocess.run(["ip", "link", "del", self.cable], check=True)

    def replug(self) -> None:
        peer = ["peer", "name", "eth0", "netns", f"{self.lab.prefix}{MOVED}"]
        subprocess.run(["ip", "link", "add", self.cable, "type", "veth", *peer], check=True)
        subprocess.run(["ip", "link", "set", self.cable, "master", f"{self.lab.prefix}lab0", "up"], check=True)
        self.address_of(104)()

    @property
    def cable(self) -> str:
        """The end of the host's link that is at the bridge."""
        return f"{self.lab.prefix}v{MOVED}-0"

    def ip(self, *arguments: str) -> None:
        """Change the network of the host."""
        subprocess.run(self.lab.on(MOVED, "ip", *arguments), check=True)


def alone(daemon: Daemon) -> bool:
    """Whether it is in a view of its own."""
    view = daemon.last_view()
    return view is not None and view[1] == (daemon.node,)
