"""Lengths that are read one off: bugs which the fuzzer must find."""

from __future__ import annotations

from attrs import frozen

from tests.mutations.mutation import Mutation


@frozen
class Plant:
    """A bug and the target that is to find it."""

    bug: Mutation
    target: str


def _plant(target: str, name: str, bug: str, file: str, old: str, new: str) -> Plant:
    return Plant(Mutation(name, bug, file, ((old, new),), ()), target)


PLANTS = (
    _plant(
        "packets",
        "number-one-byte-short",
        "A number of eight bytes is read where there are seven.",
        "wire/codec.py",
        "        if at + 8 > self._end:\n",
        "        if at + 7 > self._end:\n",
    ),
    _plant(
        "packets",
        "bytes-one-short",
        "So many bytes are read where there is one less.",
        "wire/codec.py",
        "        at = self._at\n        if at + size > self._end:\n",
        "        at = self._at\n        if at + size > self._end + 1:\n",
    ),
    _plant(
        "packets",
        "frame-one-byte-over",
        "A frame may end one byte behind its packet.",
        "ordering/frames.py",
        "        if at > end:\n            raise",
        "        if at > end + 1:\n            raise",
    ),
    _plant(
        "engine",
        "sender-one-too-many",
        "A packet may name one sender more than the view has nodes.",
        "ordering/ordered_view.py",
        "        if sender >= len(self.streams):\n",
        "        if sender > len(self.streams):\n",
    ),
    _plant(
        "broker",
        "string-one-byte-early",
        "A string counts as whole when its last byte has not come.",
        "daemon/broker.py",
        "            if following > size:\n",
        "            if following > size + (kind == _STRING and number > 0):\n",
    ),
    _plant(
        "channel",
        "record-one-byte-early",
        "A record counts as whole when its last byte has not come.",
        "daemon/records.py",
        "            if stop > end:\n",
        "            if stop > end + 1:\n",
    ),
)
