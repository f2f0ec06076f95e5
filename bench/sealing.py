"""What sealing costs, by processor time, without a network.

    python -m bench.sealing [--repeat 200]

Prints the best of so many for each: a run of packets as the kernel takes and gives them, sealed and opened by a guard;
the cipher alone in as many calls; other ciphers in its place; one call for all; and the derivation of a key. What is
over after the cipher in a run is what the guard does itself: heads, nonces and copies.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable, Iterator
from typing import Final, Protocol

from cryptography.hazmat.primitives.ciphers.aead import AESGCM, AESOCB3, ChaCha20Poly1305

from groupcomm.identity import NodeId
from groupcomm.limits import DEFAULT_MTU_BYTES
from groupcomm.outputs import Datagram
from groupcomm.wire.keys import KEY_BYTES, SALT_BYTES, ClusterKey, KeyEpoch, view_packet_key
from groupcomm.wire.packets import HEADER_BYTES, Packets
from groupcomm.wire.seal import NONCE_BYTES, SEALED_HEAD_BYTES
from tests.sealing.world import Party, meet

RUN_PACKETS: Final = 46
"""As many of the usual size as one send takes."""

BODY_BYTES: Final = DEFAULT_MTU_BYTES - HEADER_BYTES
CALLS: Final = 20
"""How often what is short is done for one measurement."""


class Cipher(Protocol):
    """An AEAD with a key."""

    def encrypt(self, nonce: bytes, data: bytes, associated_data: bytes | None) -> bytes:
        """Seal."""


def best(act: Callable[[], object], repeat: int, calls: int = 1) -> float:
    """The least processor time of ``repeat`` measurements, in microseconds for one call."""
    times = []
    for _ in range(repeat):
        began = time.process_time_ns()
        for _ in range(calls):
            act()
        times.append(time.process_time_ns() - began)
    return min(times) / calls / 1000


def a_run() -> Datagram:
    """Full data packets that leave together, not sealed yet."""
    bodies = [os.urandom(BODY_BYTES) for _ in range(RUN_PACKETS)]
    packets = Packets.of(7, 0, bytes(RUN_PACKETS), range(1, RUN_PACKETS + 1), bodies)
    return Datagram(b"", None, packets.size_bytes, packets)


def of_a_guard(repeat: int) -> Iterator[tuple[str, float]]:
    """A run sealed by one node and opened by another."""
    sender, receiver = Party("a"), Party("b")
    meet(sender, receiver)
    run = a_run()
    yield "seal a run", best(lambda: sender.guard.seal([run]), repeat)
    sealed = iter(sender.guard.seal([run] * (repeat + 1)))

    def open_next() -> None:
        datagram = next(sealed)
        assert receiver.guard.open_run(datagram.data, datagram.segment_bytes, 0.0) is not None

    yield "open a run", best(open_next, repeat)


def of_ciphers(repeat: int) -> Iterator[tuple[str, float]]:
    """Each cipher alone, for as many packets as a run has."""
    key, head, nonce = os.urandom(KEY_BYTES), os.urandom(SEALED_HEAD_BYTES), os.urandom(NONCE_BYTES)
    bodies = [os.urandom(BODY_BYTES) for _ in range(RUN_PACKETS)]
    ciphers: dict[str, Cipher] = {
        "AES-256-GCM": AESGCM(key),
        "ChaCha20-Poly1305": ChaCha20Poly1305(key),
        "AES-256-OCB3": AESOCB3(key),
    }
    for name, cipher in ciphers.items():
        for of, packets in (("", bodies), (" of no bytes", [b""] * RUN_PACKETS)):

            def seal_each(cipher: Cipher = cipher, packets: list[bytes] = packets) -> None:
                for body in packets:
                    cipher.encrypt(nonce, body, head)

            yield f"{name}, a packet{of}", best(seal_each, repeat) / RUN_PACKETS
    together = b"".join(bodies)
    yield (
        "AES-256-GCM, one call for a whole run",
        best(lambda: ciphers["AES-256-GCM"].encrypt(nonce, together, head), repeat),
    )


def of_keys(repeat: int) -> Iterator[tuple[str, float]]:
    """The key of one node in one key epoch."""
    epoch, salt = KeyEpoch.first(ClusterKey(os.urandom(KEY_BYTES)), "default"), os.urandom(SALT_BYTES)
    node = NodeId("node", 1)
    yield "derive a key", best(lambda: view_packet_key(epoch, "default", node, salt), repeat, CALLS)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m bench.sealing", description=__doc__)
    parser.add_argument("--repeat", type=int, default=200, help="how often each is measured; the best is printed")
    repeat = parser.parse_args().repeat
    print(f"runs of {RUN_PACKETS} packets of {DEFAULT_MTU_BYTES} bytes; best of {repeat}, processor time")
    for measure in (of_a_guard, of_ciphers, of_keys):
        for name, microseconds in measure(repeat):
            print(f"{name:<40} {microseconds:8.2f} µs")


if __name__ == "__main__":
    main()
