"""The single measurements: what is asked of a deployment, and the figures that come out of it."""

from __future__ import annotations

from typing import Any

from attrs import field, frozen

from bench.lab import Json
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


def throughput(deployment: Deployment, part: str, case: Json, seconds: float) -> Record:
    """Messages a second at the slowest receiver, from when the senders are told to begin to the end of the flood."""
    senders = list(range(1, case["senders"] + 1))
    before = deployment.lab.drops()
    answers = deployment.run(senders, case["size"], ("flood", case["size"], seconds), seconds)
    rates = [answer["messages"] / ((answer["last"] - answer["told"]) / 1e9) for answer in answers.values()]
    figures = {"rate": min(rates), "drops": deployment.lab.drops() - before}
    return Record(part, deployment.system.name, case, figures, _wrong(answers))


def latency(deployment: Deployment, part: str, case: Json, seconds: float) -> Record:
    """One-way latency to the other hosts, in microseconds."""
    sender = case["sender"]
    before = deployment.lab.drops()
    answers = deployment.run([sender], 0, ("probe", case["rate"], seconds, case["level"]), seconds)
    ordered = sorted(sample for host, answer in answers.items() if host != sender for sample in answer["latencies"])
    figures = {"drops": float(deployment.lab.drops() - before)}
    if ordered:
        figures |= {name: percentile(ordered, percent) for name, percent in (("p50", 50), ("p99", 99), ("p999", 99.9))}
    return Record(part, deployment.system.name, case, figures, _wrong(answers))


def _wrong(answers: dict[int, Json]) -> str:
    """The first complaint of a receiver."""
    return next((f"host {host}: {answer['wrong']}" for host, answer in answers.items() if answer["wrong"]), "")
