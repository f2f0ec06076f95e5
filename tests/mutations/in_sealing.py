"""Bugs in the sealing of packets."""

from __future__ import annotations

from tests.mutations.mutation import Mutation

MUTATIONS = (
    Mutation(
        "counters-begin-anew",
        "A node counts its packets from the beginning again when it seals under another epoch.",
        "sealing/sealer.py",
        (
            (
                "        self.epoch = epoch\n        self._view_key",
                "        self.epoch, self._counts = epoch, [0, UNICAST]\n        self._view_key",
            ),
        ),
        ("X3",),
    ),
    Mutation(
        "salt-of-the-name",
        "Every run of a node has the same salt.",
        "sealing/sealer.py",
        (
            (
                "Introduction(self._node, self._entropy(SALT_BYTES))",
                "Introduction(self._node, self._node.name.encode().ljust(SALT_BYTES))",
            ),
        ),
        ("X3",),
    ),
)
