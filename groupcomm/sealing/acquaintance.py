"""What is kept of a run of another node that has proved to be alive."""

from __future__ import annotations

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from groupcomm.sealing.window import ReplayWindow
from groupcomm.wire.seal import Introduction


class Acquaintance:
    """A run of another node that has proved to be alive.

    Attributes:
        who: its name, incarnation and salt.
        key: of its packets of the cluster.
        keys: of its packets of views, by the byte of the epoch. Bound: ``MAX_KEY_EPOCHS``.
        windows: which counters were seen, of packets for all and for this node.
        heard_at: when something of it was opened last.
        epoch: the byte of the epoch that its last packet of a view was sealed under.
    """

    __slots__ = ("epoch", "heard_at", "key", "keys", "who", "windows")

    def __init__(self, who: Introduction, key: AESGCM, counted: int, answer: int, now: float) -> None:
        self.who = who
        self.key = key
        self.keys: dict[int, AESGCM] = {}
        self.windows = ReplayWindow(counted), ReplayWindow(answer)
        self.heard_at = now
        self.epoch = -1
