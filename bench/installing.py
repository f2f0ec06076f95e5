"""What the benchmark needs beside this package, and how it comes onto a Debian machine."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

from bench.lab import ROOT

TOOLS = {
    "corosync": "corosync",
    "gcc": "gcc",
    "nats-server": "nats-server",
    "ip": "iproute2",
    "tc": "iproute2",
    "nft": "nftables",
    "ethtool": "ethtool",
}
"""A command, and the Debian package that brings it."""

HEADERS = {"/usr/include/corosync/cpg.h": "libcpg-dev"}
MODULES = ("matplotlib", "nats", "zmq")


def install() -> None:
    """Install what is missing: Debian's packages, then the extra ``bench`` of this project.

    Raises:
        subprocess.CalledProcessError: apt-get or pip failed, and has said why.
    """
    packages = {package for tool, package in TOOLS.items() if shutil.which(tool) is None}
    packages |= {package for header, package in HEADERS.items() if not Path(header).exists()}
    if packages:
        print(f"bench: installing {', '.join(sorted(packages))}", flush=True)
        subprocess.run(["apt-get", "update", "-qq"], check=True)
        options = ["-y", "-qq", "--no-install-recommends", "-o", "Dpkg::Use-Pty=0"]
        subprocess.run(["apt-get", "install", *options, *sorted(packages)], check=True, env=_unattended())
    if any(importlib.util.find_spec(module) is None for module in MODULES):
        print("bench: installing the extra 'bench' with pip", flush=True)
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, "--config-settings", "editable_mode=compat", "--editable", f"{ROOT}[bench]"], check=True)
        importlib.invalidate_caches()


def _unattended() -> dict[str, str]:
    """The environment in which apt-get asks nothing."""
    return {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
