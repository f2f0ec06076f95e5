"""Sends hostile bytes from one host of the lab to a daemon's sockets: what, how much and where it is told.

    python -m tests.lab.inject SETTINGS

SETTINGS is a JSON object: ``targets`` ([host, port] pairs, a multicast group among them or not), ``interface`` (the
address to send from), ``group`` ([address, port] of the cluster's multicast, to listen to), ``kinds`` (a subset of
``KINDS``), ``count`` (how many datagrams of each kind go to each target), ``cluster``, ``seed``. It writes one JSON
object: how many datagrams of each kind were sent to each target.
"""

from __future__ import annotations

import json
import random
import socket
import struct
import sys
import time
from collections.abc import Callable
from typing import Any, Final

from groupcomm.wire.codec import cluster_digest
from groupcomm.wire.packets import HEADER_BYTES, NO_SENDER, Kind, encode

PAUSE_SECONDS: Final = 0.002
"""Between datagrams: hostile, but not more than a busy receiver's buffer holds."""


def random_bytes(draw: random.Random, heard: list[bytes], cluster: str) -> bytes:
    """Anything: a first byte that is no version of the protocol, so that it cannot be a packet by chance."""
    return bytes([draw.randrange(16, 256)]) + draw.randbytes(draw.randrange(0, 1400))


def truncated(draw: random.Random, heard: list[bytes], cluster: str) -> bytes:
    """A real packet of the cluster, cut inside its header."""
    return draw.choice(heard)[: draw.randrange(1, HEADER_BYTES)]


def cut_body(draw: random.Random, heard: list[bytes], cluster: str) -> bytes:
    """A real beacon of the cluster, cut inside its body."""
    beacons = [packet for packet in heard if packet[1] == Kind.BEACON]
    packet = draw.choice(beacons)
    return packet[: draw.randrange(HEADER_BYTES, len(packet))]


def other_cluster(draw: random.Random, heard: list[bytes], cluster: str) -> bytes:
    """A packet that is whole and belongs to another cluster."""
    kind = draw.choice([Kind.BEACON, Kind.PROBE, Kind.JOIN])
    return encode(kind, cluster_digest(f"not {cluster}"), NO_SENDER, draw.randrange(1 << 16), draw.randbytes(60))


KINDS: Final[dict[str, Callable[[random.Random, list[bytes], str], bytes]]] = {
    "random": random_bytes,
    "truncated": truncated,
    "cut body": cut_body,
    "other cluster": other_cluster,
}


def listen(group: tuple[str, int], interface: str, seconds: float) -> list[bytes]:
    """What the cluster multicasts in that time."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as ear:
        ear.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        ear.bind(group)
        membership = struct.pack("4s4s", socket.inet_aton(group[0]), socket.inet_aton(interface))
        ear.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, membership)
        heard: list[bytes] = []
        limit = time.monotonic() + seconds
        while (left := limit - time.monotonic()) > 0:
            ear.settimeout(left)
            try:
                heard.append(ear.recv(65_535))
            except TimeoutError:
                break
        return heard


def main(settings: dict[str, Any]) -> None:
    """Listen, then send."""
    draw = random.Random(settings["seed"])
    heard = listen(tuple(settings["group"]), settings["interface"], 1.5)
    sent: dict[str, int] = dict.fromkeys(settings["kinds"], 0)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as mouth:
        mouth.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(settings["interface"]))
        mouth.bind((settings["interface"], 0))
        for _ in range(settings["count"]):
            for kind in settings["kinds"]:
                for host, port in settings["targets"]:
                    mouth.sendto(KINDS[kind](draw, heard, settings["cluster"]), (host, port))
                    time.sleep(PAUSE_SECONDS)
                sent[kind] += 1
    print(json.dumps({"heard": len(heard), "sent": sent}))


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
