"""What the benchmark and a worker say to each other: commands in words, answers in JSON, one a line.

Commands:

    receive RUN SIZE SENDERS      make ready to check a run; SIZE 0: probes; SENDERS: 1,2,3. Answer: receiving
    flood RUN SIZE SECONDS        send as fast as the system takes it, then the end of the flood. Answer: sent
    probe RUN RATE SECONDS LEVEL  send RATE messages a second, each with its time, then the end. Answer: sent
    report                        say what was received so far
    quit                          end

Answers have the key ``e``: ``view`` (``members``: how many see each other now, ``at``), ``receiving``, ``sent``
(``messages``), ``received`` (see ``stream.Tally.answer``), ``failed`` (``why``). All times are nanoseconds of the
monotonic clock.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Final

from attrs import frozen

BATCH_BYTES: Final = 56 * 1024
"""How much a sender hands over with one call, if the system takes several messages at once."""

OUTSTANDING_BYTES: Final = 2 << 20
"""How much a sender has under way that the system has not accepted yet."""


@frozen
class Receive:
    """Make ready to check a run."""

    run: int
    size: int
    senders: tuple[int, ...]


@frozen
class Flood:
    """Send as fast as the system takes it."""

    run: int
    size: int
    seconds: float


@frozen
class Probe:
    """Send at a rate."""

    run: int
    rate: float
    seconds: float
    level: str


@frozen
class Report:
    """Say what was received so far."""


@frozen
class Quit:
    """End."""


Command = Receive | Flood | Probe | Report | Quit


def parse(line: str) -> Command:
    """One line as a command."""
    match line.split():
        case ["receive", run, size, senders]:
            return Receive(int(run), int(size), tuple(int(one) for one in senders.split(",")))
        case ["flood", run, size, seconds]:
            return Flood(int(run), int(size), float(seconds))
        case ["probe", run, rate, seconds, level]:
            return Probe(int(run), float(rate), float(seconds), level)
        case ["report"]:
            return Report()
        case ["quit"]:
            return Quit()
    raise ValueError(f"no command: {line!r}")


def say(answer: dict[str, object]) -> None:
    """One answer."""
    sys.stdout.write(json.dumps(answer, separators=(",", ":")) + "\n")
    sys.stdout.flush()


def say_view(members: int) -> None:
    """So many see each other, from now on."""
    say({"e": "view", "members": members, "at": time.monotonic_ns()})
