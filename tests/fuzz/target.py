"""What a fuzz target is, and which there are.

A target says what may become of any bytes: ``check`` returns or raises. It knows nothing of atheris, so that an input
that was found can be repeated with plain Python.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from random import Random
from typing import Protocol, cast

from attrs import frozen

ROOT = Path(__file__).resolve().parent.parent.parent
CORPORA = Path(__file__).resolve().parent / "corpus"


class Target(Protocol):
    """One thing that is fuzzed; its module has it as ``TARGET``."""

    def check(self, data: bytes) -> None:
        """Feed it the input.

        Raises:
            Exception: any at all is a finding.
        """

    def seeds(self) -> list[bytes]:
        """Inputs to begin with: what well-behaved peers send."""

    def mutate(self, data: bytes, random: Random) -> bytes:
        """Another input like this one, which keeps its form."""


@frozen
class Entry:
    """A target in the table.

    Attributes:
        name: what it is called; its module in this package and its corpus have that name.
        about: what is fuzzed.
        watched: the modules, with those below them, whose edges count.
        max_bytes: the largest input.
    """

    name: str
    about: str
    watched: tuple[str, ...]
    max_bytes: int

    @property
    def corpus(self) -> Path:
        """The inputs in the tree."""
        return CORPORA / self.name

    def load(self) -> Target:
        """The target; its module, and with it the product, is imported now."""
        return cast(Target, import_module(f"tests.fuzz.{self.name}_target").TARGET)

    def watches(self, module: str) -> bool:
        """Whether the edges of this module count."""
        return any(module == name or module.startswith(f"{name}.") for name in self.watched)

    def inputs(self) -> list[Path]:
        """The files of the corpus, the smallest first."""
        return sorted(self.corpus.glob("*"), key=lambda path: (path.stat().st_size, path.name))


_READING = ("groupcomm.wire", "groupcomm.packing", "groupcomm.ordering", "groupcomm.membership")
_CHANNEL = (
    "groupcomm.daemon.channel",
    "groupcomm.daemon.channel_doors",
    "groupcomm.daemon.channel_events",
    "groupcomm.daemon.channel_queue",
    "groupcomm.daemon.records",
    "groupcomm.daemon.schema",
    "groupcomm.daemon.uploads",
    "groupcomm.daemon.vocabulary",
    "groupcomm.batches",
    "groupcomm.client.channel",
    "groupcomm.client.channel_outbox",
    "groupcomm.packing",
    "groupcomm.wire.codec",
)
_BROKER = ("groupcomm.daemon", "groupcomm.identity")

ENTRIES = {
    entry.name: entry
    for entry in (
        Entry("packets", "every decoder of packets, messages, frames and what they carry", _READING, 4096),
        Entry(
            "engine",
            "a member of a view that gets garbage from another",
            ("groupcomm.engine", "groupcomm.reliability", "groupcomm.sealing", *_READING),
            8192,
        ),
        Entry("broker", "the Perspective Broker server, before and after login", _BROKER, 8192),
        Entry("channel", "both ends of a data channel, before and after the ticket", _CHANNEL, 8192),
    )
}
