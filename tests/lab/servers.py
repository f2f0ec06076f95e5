"""Servers that others made, on the hosts of the lab: a DNS server (dnsmasq) and a multicast DNS responder (Avahi)."""

from __future__ import annotations

import shutil
import signal
from collections.abc import Sequence
from pathlib import Path

from twisted.trial.unittest import SkipTest

from tests.lab.harness import Daemon, Lab, Process

PACKAGES = {"dnsmasq": "dnsmasq-base", "avahi-daemon": "avahi-daemon"}


def require_server(tool: str) -> None:
    """Skip the test, with the reason, where that server is not installed."""
    if shutil.which(tool, path="/usr/sbin:/usr/bin:/sbin:/bin") is None:
        raise SkipTest(f"this needs {tool}: apt-get install {PACKAGES[tool]}")


def on_mounts(mounts: dict[str, Path], *command: str) -> list[str]:
    """The command line that runs ``command`` with these files or folders in place of the machine's."""
    script = " && ".join(f"mount --bind {path} {place}" for place, path in mounts.items())
    return ["unshare", "--mount", "sh", "-c", f'{script} && exec "$@"', "sh", *command]


class DnsServer(Process):
    """dnsmasq on a host, which answers for ``lab`` only, with records of a time to live of two seconds.

    Attributes:
        resolver: a file like ``/etc/resolv.conf`` that names this server.
    """

    def __init__(self, lab: Lab, host: int, records: Sequence[str]) -> None:
        super().__init__(lab, host, f"dnsmasq-{host}-{len(lab.processes)}")
        self._hosts = lab.directory / f"{self.name}.hosts"
        self._hosts.touch()
        self._settings = lab.directory / f"{self.name}.conf"
        lines = [
            *("no-resolv", "no-hosts", "local=/lab/", "local-ttl=2", "bind-interfaces", "user=root", "group=root"),
            *(f"listen-address=10.77.0.{host}", f"addn-hosts={self._hosts}", *records),
        ]
        self._settings.write_text("\n".join(lines) + "\n")
        self.resolver = lab.directory / f"{self.name}.resolv"
        self.resolver.write_text(f"nameserver 10.77.0.{host}\n")

    def command(self) -> list[str]:
        """The server, with nothing of the machine's."""
        return ["/usr/sbin/dnsmasq", "--keep-in-foreground", "--pid-file=", f"--conf-file={self._settings}"]

    def write_hosts(self, *lines: str) -> None:
        """These addresses and names are known from now on, beside the records."""
        self._hosts.write_text("".join(f"{line}\n" for line in lines))
        self.send_signal(signal.SIGHUP)


class ResolvingDaemon(Daemon):
    """A daemon on a host that asks that DNS server."""

    def __init__(self, lab: Lab, host: int, server: DnsServer, options: Sequence[str]) -> None:
        super().__init__(lab, host, f"n{host}", options)
        self._server = server

    def command(self) -> list[str]:
        """With the server's ``/etc/resolv.conf``."""
        return on_mounts({"/etc/resolv.conf": self._server.resolver}, *super().command())


class Avahi(Process):
    """avahi-daemon on a host, without D-Bus, with one service announced from a file."""

    def __init__(self, lab: Lab, host: int, port: int, cluster: str) -> None:
        super().__init__(lab, host, f"avahi-{host}")
        self._run = lab.directory / f"{self.name}.run"
        self._services = lab.directory / f"{self.name}.services"
        for folder in (self._run, self._services):
            folder.mkdir()
        self._settings = lab.directory / f"{self.name}.conf"
        self._settings.write_text(
            f"[server]\nhost-name=avahi-{host}\nenable-dbus=no\nuse-ipv4=yes\nuse-ipv6=no\n"
            "[publish]\npublish-hinfo=no\npublish-workstation=no\n"
        )
        (self._services / "groupcomm.service").write_text(
            "<?xml version='1.0'?><!DOCTYPE service-group SYSTEM 'avahi-service.dtd'>\n"
            f"<service-group><name>outside-{host}</name><service><type>_groupcomm._udp</type><port>{port}</port>"
            f"<txt-record>cluster={cluster}</txt-record><txt-record>version=1</txt-record></service></service-group>\n"
        )

    def command(self) -> list[str]:
        """The responder, with a run directory and services of its own."""
        mounts = {"/run": self._run, "/etc/avahi/services": self._services}
        options = ("--no-drop-root", "--no-chroot", "--no-rlimits", f"--file={self._settings}")
        return on_mounts(mounts, "/usr/sbin/avahi-daemon", *options)

    def is_running(self) -> bool:
        """Whether it has announced itself."""
        return "Service" in (text := self.errors.read_text("utf-8", "replace")) and "established" in text
