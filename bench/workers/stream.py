"""What is sent, and how a receiver knows that it got all of it: in order, without a gap, whole.

The messages of a flood are made before it begins: a cycle of different ones, sent over and over. A receiver makes the
same cycle and compares, so that a check costs little beside what is measured. The end of a flood says how many there
were, so that a whole lost cycle is seen too.

Every message begins with ``HEAD``: sender, kind, run, number. A message to measure latency goes on with the time it
was sent, in nanoseconds of the monotonic clock, which all hosts of the lab share.
"""

from __future__ import annotations

import struct
import time
from collections.abc import Sequence
from typing import Final

FLOOD: Final = 0
END: Final = 1
PROBE: Final = 2

HEAD: Final = struct.Struct("<BBBxI")
PROBE_BODY: Final = struct.Struct("<BBBxIQ")
PROBE_BYTES: Final = 64
MIN_BYTES: Final = PROBE_BODY.size

_CYCLE_BYTES: Final = 1 << 20
_MAX_CYCLE: Final = 1021
_MIN_CYCLE: Final = 5


def cycle(run: int, sender: int, size: int) -> list[bytes]:
    """The messages of one sender's flood: their count is prime to the sizes of batches, their bytes all differ."""
    count = max(_MIN_CYCLE, min(_MAX_CYCLE, _CYCLE_BYTES // size))
    pattern = bytes(range(256)) * (size // 256 + 2)
    messages = []
    for number in range(count):
        shift = (number * 7 + sender * 31) % 256
        messages.append(HEAD.pack(sender, FLOOD, run, number) + pattern[shift : shift + size - HEAD.size])
    return messages


def end_of_flood(run: int, sender: int, count: int) -> bytes:
    """The message after the last of a flood or of a series of probes."""
    return HEAD.pack(sender, END, run, count).ljust(MIN_BYTES, b"\0")


def probe(run: int, sender: int, number: int) -> bytes:
    """A message that says when it was sent: now."""
    return PROBE_BODY.pack(sender, PROBE, run, number, time.monotonic_ns()).ljust(PROBE_BYTES, b"\0")


class Tally:
    """What one receiver got of one run.

    Attributes:
        received: how many messages of floods and probes.
        last: when the last end came, in nanoseconds; without it, when the report was asked for.
        wrong: the first thing that was not as it should be; empty if all was well.
        views: how many views have come since the run began: who is put out of one misses messages by right.
        latencies: of the probes, in microseconds.
        complete: whether every sender's end has come.
    """

    def __init__(self, run: int, size: int, senders: Sequence[int]) -> None:
        self.run = run
        self.received = 0
        self.last = 0
        self.wrong = ""
        self.views = 0
        self.latencies: list[int] = []
        self._open = set(senders)
        self._cycles = {sender: cycle(run, sender, size) if size else [] for sender in senders}
        self._taken = dict.fromkeys(senders, 0)

    @property
    def complete(self) -> bool:
        """Whether every sender's end has come."""
        return not self._open

    def batch(self, messages: Sequence[bytes]) -> None:
        """Several messages of one sender, in their order."""
        if messages[-1][1] != FLOOD or messages[0][1] != FLOOD:
            for message in messages:
                self.one(message)
            return
        sender = messages[0][0]
        expected = self._cycles.get(sender)
        if not expected:
            self._blame(f"a message of sender {sender}, who does not send")
            return
        start = 0
        place = self._taken[sender] % len(expected)
        while start < len(messages):
            part = messages[start : start + len(expected) - place]
            if part != expected[place : place + len(part)]:
                self._blame(f"of sender {sender}, after message {self._taken[sender]}: not what was sent, or not then")
                break
            start += len(part)
            place = 0
        self._taken[sender] += len(messages)
        self.received += len(messages)

    def one(self, message: bytes) -> None:
        """One message of any kind."""
        kind = message[1]
        if kind == FLOOD:
            sender = message[0]
            expected = self._cycles.get(sender)
            taken = self._taken.get(sender, 0)
            if not expected or message != expected[taken % len(expected)]:
                self._blame(f"of sender {sender}, after message {taken}: not what was sent, or not then")
            self._taken[sender] = taken + 1
            self.received += 1
        elif kind == PROBE:
            self._probe(message)
        else:
            self._end(message)

    def answer(self) -> dict[str, object]:
        """What is reported of it."""
        if not self.complete:
            self.last = time.monotonic_ns()
        return {
            "e": "received",
            "run": self.run,
            "messages": self.received,
            "last": self.last,
            "complete": self.complete,
            "wrong": f"{self.wrong} (views that came meanwhile: {self.views})" if self.wrong else "",
            "latencies": self.latencies,
        }

    def _probe(self, message: bytes) -> None:
        now = time.monotonic_ns()
        sender, _, _, number, sent = PROBE_BODY.unpack_from(message)
        if number != self._taken.get(sender):
            self._blame(f"probe {number} of sender {sender} came after {self._taken.get(sender)}")
        self._taken[sender] = number + 1
        self.received += 1
        self.latencies.append((now - sent) // 1000)

    def _end(self, message: bytes) -> None:
        self.last = time.monotonic_ns()
        sender, _, run, count = HEAD.unpack_from(message)
        if run != self.run:
            self._blame(f"the end of run {run} in run {self.run}")
        elif count != self._taken.get(sender):
            self._blame(f"sender {sender} sent {count}, {self._taken.get(sender)} came")
        self._open.discard(sender)

    def _blame(self, what: str) -> None:
        if not self.wrong:
            self.wrong = what
