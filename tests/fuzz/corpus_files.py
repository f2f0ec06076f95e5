"""Which inputs are worth keeping in the tree: by the arcs of the product's source that each runs through.

Works without atheris. An input is kept if it runs from one line to another in a way that none of the smaller ones does.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterable
from types import CodeType, FrameType
from typing import Any

from tests.fuzz.target import ROOT, Entry, Target

Arc = tuple[CodeType, int, int]
"""In which function, from which line to which."""


class ArcTracer:
    """Notes the arcs of some modules while a function runs.

    Attributes:
        arcs: those of the last run.
    """

    def __init__(self, entry: Entry) -> None:
        self.arcs: set[Arc] = set()
        self._entry = entry
        self._watched: dict[CodeType, bool] = {}
        self._last: dict[FrameType, int] = {}

    def run(self, target: Target, data: bytes) -> set[Arc]:
        """The arcs of one input."""
        self.arcs = set()
        sys.settrace(self._call)
        try:
            target.check(data)
        finally:
            sys.settrace(None)
            self._last.clear()
        return self.arcs

    def _call(self, frame: FrameType, event: str, argument: object) -> Any:
        code = frame.f_code
        watched = self._watched.get(code)
        if watched is None:
            watched = self._watched[code] = self._entry.watches(frame.f_globals.get("__name__", ""))
        if not watched:
            return None
        self._last[frame] = -1
        return self._line

    def _line(self, frame: FrameType, event: str, argument: object) -> Any:
        if event == "line":
            self.arcs.add((frame.f_code, self._last.get(frame, -1), frame.f_lineno))
            self._last[frame] = frame.f_lineno
        elif event == "return":
            self._last.pop(frame, None)
        return self._line


def worth_keeping(entry: Entry, inputs: Iterable[bytes]) -> tuple[list[bytes], int]:
    """The inputs that run through an arc that none of the smaller ones does, and how many arcs that is."""
    target, tracer = entry.load(), ArcTracer(entry)
    ordered = sorted(set(inputs), key=lambda data: (len(data), data))
    for data in ordered[:3]:
        target.check(data)  # what is done only once in a process does not count
    found: set[Arc] = set()
    kept = []
    for data in ordered:
        arcs = tracer.run(target, data)
        if not arcs <= found:
            found |= arcs
            kept.append(data)
    return kept, len(found)


def save(entry: Entry, inputs: Iterable[bytes]) -> None:
    """Make these the corpus in the tree; each file has the digest of its content as its name."""
    entry.corpus.mkdir(parents=True, exist_ok=True)
    names = set()
    for data in inputs:
        name = hashlib.sha1(data, usedforsecurity=False).hexdigest()[:16]
        names.add(name)
        (entry.corpus / name).write_bytes(data)
    for path in entry.corpus.iterdir():
        if path.name not in names:
            path.unlink()


def size_text(entry: Entry) -> str:
    """How large the corpus in the tree is."""
    sizes = [path.stat().st_size for path in entry.inputs()]
    return f"{len(sizes)} inputs of {sum(sizes):,} bytes in {entry.corpus.relative_to(ROOT)}"
