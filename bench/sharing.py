"""How a flood shares a link of 100 Mbit/s with a TCP connection: what each gets through, counted at the receivers."""

from __future__ import annotations

import sys
import time
from typing import Final

from bench.lab import Json, Lab, Process
from bench.measure import Record, first_complaint, record_of
from bench.systems.base import ANSWER_SECONDS, START_SECONDS, Deployment, Run
from tests.lab.hosts import end_all

LINK_MBIT: Final = 100
SENDER: Final = 1
RECEIVER: Final = 2
LINKS: Final = {"into a receiver": (RECEIVER, "in"), "out of the sender": (SENDER, "out")}
"""Where the narrow link is: at the port of the switch, which both flows share with nobody, or at the sender's own."""

WARM_SECONDS: Final = 5.0
"""Both have begun so long ago when counting begins: what slow start does is not what they settle at."""


def fairness(deployment: Deployment, part: str, case: Json, seconds: float) -> Record:
    """Mbit/s of payload that a flood and a TCP connection get through one link, and TCP's share of the link."""
    size = case["size"]

    def measured(lab: Lab) -> tuple[dict[str, float], str]:
        host, direction = LINKS[case["link"]]
        lab.rate(host, f"{LINK_MBIT}mbit", direction)
        try:
            run = deployment.begin([SENDER], size, ("flood", size, WARM_SECONDS + seconds))
            sink, source = _connect(lab, case["tcp"])
            time.sleep(WARM_SECONDS)
            before = _count(deployment, run, sink)
            time.sleep(seconds)
            after = _count(deployment, run, sink)
            end_all([source, sink])
            answers = deployment.gather(run, WARM_SECONDS)
        finally:
            lab.rate(host, "0", direction)
        flood = min(
            (after[0][one]["messages"] - before[0][one]["messages"])
            * size
            * 8000
            / (after[0][one]["last"] - before[0][one]["last"])
            for one in run.receivers
        )
        tcp = (after[1]["bytes"] - before[1]["bytes"]) * 8000 / (after[1]["at"] - before[1]["at"])
        return {"tcp": tcp, "flood": flood, "share": tcp / LINK_MBIT}, first_complaint(answers)

    return record_of(deployment, part, case, measured)


def _connect(lab: Lab, control: str) -> tuple[Process, Process]:
    """A TCP connection through the link, which sends from now on: its sink and its source."""
    command = [sys.executable, "-m", "bench.workers.tcp_worker"]
    address = lab.address(RECEIVER)
    sink = lab.start(RECEIVER, "tcp-sink", [*command, "sink", address])
    sink.answer(START_SECONDS, lambda answer: bool(answer["e"] == "listening"))
    return sink, lab.start(SENDER, "tcp-source", [*command, "source", address, control])


def _count(deployment: Deployment, run: Run, sink: Process) -> tuple[dict[int, Json], Json]:
    """What has come of both by now."""
    sink.tell("report")
    flood = deployment.so_far(run)
    return flood, sink.answer(ANSWER_SECONDS, lambda answer: bool(answer["e"] == "counted"))
