"""The single measurements: what is asked of a deployment, and the figures that come out of it."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from attrs import field, frozen

from bench.lab import BenchError, Json, Lab
from bench.systems.base import Deployment


@frozen
class Record:
    """One figure or several of one measurement.

    Attributes:
        part: which part of the benchmark.
        system: of which system.
        case: the circumstances, such as the size and the number of senders.
        figures: what came out.
        wrong: what makes the figures void; empty if nothing does.
    """

    part: str
    system: str
    case: dict[str, Any]
    figures: dict[str, float] = field(factory=dict)
    wrong: str = ""


def percentile(ordered: list[int], percent: float) -> float:
    """The value that so many percent of them do not exceed."""
    return float(ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))])


class Drops:
    """What the kernel drops from now on: ``drops`` void a measurement, ``socket_drops`` a protocol has to repair."""

    def __init__(self, lab: Lab) -> None:
        self._lab = lab
        self._before = self._now()

    def figures(self) -> dict[str, float]:
        """How much, until now."""
        return {name: float(count - self._before[name]) for name, count in self._now().items()}

    def _now(self) -> dict[str, int]:
        return {"drops": self._lab.drops(), "socket_drops": self._lab.socket_drops()}


def throughput(deployment: Deployment, part: str, case: Json, seconds: float) -> Record:
    """Messages a second at the slowest receiver, from when the senders are told to begin to the end of the flood.

    And ``cpu``: microseconds of processor time, of all processes together, for each message that was sent. Where the
    end did not come in time, it is the rate of what came.
    """
    senders = list(range(1, case["senders"] + 1))

    def measured(lab: Lab) -> tuple[dict[str, float], str]:
        cpu = lab.cpu_seconds()
        answers = deployment.run(senders, case["size"], ("flood", case["size"], seconds), seconds)
        cpu = lab.cpu_seconds() - cpu
        rates = [answer["messages"] / ((answer["last"] - answer["told"]) / 1e9) for answer in answers.values()]
        most = max(1, *(answer["messages"] for answer in answers.values()))
        return {"rate": min(rates), "cpu": cpu * 1e6 / most}, first_complaint(answers)

    return record_of(deployment, part, case, measured)


def latency(deployment: Deployment, part: str, case: Json, seconds: float) -> Record:
    """One-way latency to the other hosts, in microseconds; void if not all came in time.

    And ``cpu``, as for ``throughput``: on a busy machine it says more than a time that others' work is part of.
    """
    sender = case["sender"]

    def measured(lab: Lab) -> tuple[dict[str, float], str]:
        cpu = lab.cpu_seconds()
        answers = deployment.run([sender], 0, ("probe", case["rate"], seconds, case["level"]), seconds)
        cpu = lab.cpu_seconds() - cpu
        samples = sorted(sample for host, answer in answers.items() if host != sender for sample in answer["latencies"])
        if not all(answer["complete"] for answer in answers.values()):
            return {}, f"only {len(samples)} latencies came in time"
        figures = {"p50": percentile(samples, 50), "p99": percentile(samples, 99), "p999": percentile(samples, 99.9)}
        figures["cpu"] = cpu * 1e6 / (case["rate"] * seconds)
        return figures, first_complaint(answers)

    return record_of(deployment, part, case, measured)


def record_of(
    deployment: Deployment, part: str, case: Json, measured: Callable[[Lab], tuple[dict[str, float], str]]
) -> Record:
    """What was measured and what the kernel dropped meanwhile; a failure is a record too."""
    name = deployment.system.name
    try:
        deployment.refresh()
        drops = Drops(deployment.lab)
        figures, wrong = measured(deployment.lab)
    except BenchError as error:
        return Record(part, name, case, {}, str(error))
    return Record(part, name, case, figures | drops.figures(), wrong)


def idle(deployment: Deployment, part: str, seconds: float) -> Record:
    """What a host costs that has nothing to do: percent of a core, and packets a second for each of the others."""
    lab = deployment.lab
    cpu, packets = lab.cpu_seconds(), lab.packets_sent()
    time.sleep(seconds)
    figures = {
        "percent": (lab.cpu_seconds() - cpu) / seconds / lab.size * 100,
        "packets": (lab.packets_sent() - packets) / seconds / lab.size / (lab.size - 1),
    }
    return Record(part, deployment.system.name, {}, figures)


def first_complaint(answers: dict[int, Json]) -> str:
    """The first complaint of a receiver."""
    return next((f"host {host}: {answer['wrong']}" for host, answer in answers.items() if answer["wrong"]), "")
