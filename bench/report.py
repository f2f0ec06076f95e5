"""What people read of a run: a line for each measurement, tables in Markdown, and the files of ``bench/results``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from bench import plots
from bench.measure import Record
from bench.parts import GROUPCOMM
from bench.results import Run, Senders, best_corosync, size_text
from bench.sharing import LINK_MBIT

LATENCY_HEAD = (
    "",
    "best sender",
    "worst sender",
    "p50 over the best corosync's",
    "p99 over the best corosync's",
    "p50 over the floor's",
    "SAFE p50 over AGREED's",
)


def line(record: Record) -> str:
    """One measurement."""
    case = " ".join(f"{name} {value}" for name, value in record.case.items())
    shown = {name: value for name, value in record.figures.items() if value or not name.endswith("drops")}
    figures = "  ".join(f"{name} {_number(value)}" for name, value in shown.items())
    wrong = record.wrong.partition("\n")[0]
    return f"{record.part:<11}{record.system:<19}{case:<43} {figures}  {wrong}".rstrip()


def write(run: Run, directory: Path) -> None:
    """Write ``results.json``, ``README.md`` and the plots."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "results.json").write_text(run.dump() + "\n", encoding="utf-8")
    pictures = plots.draw(run, directory)
    shown = "".join(f"\n![{picture.stem}]({picture.name})\n" for picture in pictures)
    (directory / "README.md").write_text(tables(run) + shown, encoding="utf-8")


def tables(run: Run) -> str:
    """Everything that was measured, in Markdown: medians, and for groupcomm the ratio to the best corosync."""
    blocks = ["# Results", _preamble(run)]
    blocks += _throughput(run, "throughput", "Throughput: messages/s (MB/s) at the slowest receiver")
    blocks += _throughput(run, "offload", "Throughput, segmentation offload off")
    blocks += _latency(run)
    blocks += _loss(run)
    blocks += _views(run)
    blocks += _idle(run)
    blocks += _growth(run)
    blocks += _fairness(run)
    blocks += _flood(run)
    blocks += _faults(run)
    return "\n\n".join(blocks) + "\n"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """One Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _preamble(run: Run) -> str:
    lines = [
        f"{run.date}, commit {run.commit}, {run.machine}.",
        f"Command: `{run.command}`. Medians. In brackets: the rate over that of the best corosync in the same run.",
        "",
        *(f"- {name}: {version}" for name, version in run.versions.items()),
    ]
    return "\n".join(lines)


def _throughput(run: Run, part: str, title: str) -> Iterator[str]:
    for senders in sorted({record.case["senders"] for record in run.records if record.part == part and record.case}):
        found = {
            system: {dict(case)["size"]: value for case, value in cases.items()}
            for system, cases in run.figures(part, "rate", senders=senders).items()
        }
        sizes = sorted({size for cases in found.values() for size in cases})

        def cell(system: str, size: int, found: dict[str, dict[int, float]] = found) -> str:
            rate = found[system].get(size)
            if rate is None:
                return ""
            best = best_corosync({name: cases[size] for name, cases in found.items() if size in cases}, max)
            ratio = f" [{rate / best:.2f}]" if best and system in GROUPCOMM else ""
            return f"{_number(rate)} ({_number(rate * size / 1e6)}){ratio}"

        yield f"## {title}, {senders} {'sender' if senders == 1 else 'senders'}"
        yield table(
            ["", *(size_text(size) for size in sizes)],
            [[system, *(cell(system, size) for size in sizes)] for system in found],
        )


def _latency(run: Run) -> Iterator[str]:
    rates = sorted({record.case["rate"] for record in run.records if record.part == "latency" and record.case})
    for rate in rates:
        levels = {level: run.senders(rate, level) for level in ("agreed", "safe")}
        rows = [_latency_row(system, system, senders, levels["agreed"]) for system, senders in levels["agreed"].items()]
        rows += [
            _latency_row(f"{system} SAFE", system, senders, levels["agreed"])
            for system, senders in levels["safe"].items()
        ]
        if rows:
            yield f"## One-way latency to another host, 64 B, {rate} messages/s: p50 / p99 / p99.9 in µs"
            yield table(LATENCY_HEAD, rows)


def _latency_row(name: str, system: str, senders: Senders, agreed: dict[str, Senders]) -> list[str]:
    """One system at one level; ratios for the best sender and, against the best corosync, for the worst."""
    cells = [name, *(" / ".join(_number(value) for value in percentiles) for percentiles in senders)]
    own = agreed.get(system)
    if system not in GROUPCOMM or own is None:
        return [*cells, "", "", "", ""]
    if own is not senders:
        return [*cells, "", "", "", f"{senders[0][0] / own[0][0]:.2f}"]
    for at in (0, 1):
        both = []
        for place, percentiles in enumerate(senders):
            best = best_corosync({other: theirs[place][at] for other, theirs in agreed.items()}, min)
            both.append(f"{percentiles[at] / best:.2f}" if best else "")
        cells.append(", ".join(filter(None, both)))
    floor = agreed.get(f"floor-{system.partition('-')[0]}")
    return [*cells, f"{senders[0][0] / floor[0][0]:.2f}" if floor else "", ""]


def _loss(run: Run) -> Iterator[str]:
    rates = run.figures("loss", "rate")
    delays = run.figures("loss", "p99")
    losses = sorted({dict(case)["loss"] for cases in (*rates.values(), *delays.values()) for case in cases})

    def at(cases: dict[Any, float], percent: float) -> float | None:
        return next((value for case, value in cases.items() if dict(case)["loss"] == percent), None)

    if not losses:
        return
    yield "## With loss on every host, offload off: 1 KiB messages/s, one sender (share of the loss-free rate)"
    rows = []
    for system, cases in rates.items():
        free = at(cases, 0)
        values = [at(cases, percent) for percent in losses]
        rows.append(
            [
                system,
                *(
                    "" if value is None else _number(value) + (f" ({value / free:.0%})" if free else "")
                    for value in values
                ),
            ]
        )
    yield table(["", *(f"{percent:g} %" for percent in losses)], rows)
    yield "## With loss on every host: p99 latency in ms at 200 messages/s"
    rows = []
    for system, cases in delays.items():
        values = [at(cases, percent) for percent in losses]
        rows.append([system, *("" if value is None else _number(value / 1000) for value in values)])
    yield table(["", *(f"{percent:g} %" for percent in losses)], rows)


def _views(run: Run) -> Iterator[str]:
    found = run.figures("views", "milliseconds")
    events = list(dict.fromkeys(dict(case)["event"] for cases in found.values() for case in cases))
    if not events:
        return
    yield "## Change of the view: ms until the last one concerned is told"
    rows = []
    for system, cases in found.items():
        by_event = {dict(case)["event"]: value for case, value in cases.items()}
        rows.append([system, *(_number(by_event[event]) if event in by_event else "" for event in events)])
    yield table(["", *events], rows)


def _idle(run: Run) -> Iterator[str]:
    found = {name: run.figures("idle", name) for name in ("percent", "packets")}
    if not found["percent"]:
        return
    yield "## Idle"
    rows = [[system, *(_number(figures[system][()]) for figures in found.values())] for system in found["percent"]]
    yield table(["", "% of a core on each host", "packets/s of a host for each other"], rows)


def _growth(run: Run) -> Iterator[str]:
    rates = run.figures("growth", "rate").get("embedded", {})
    if not rates:
        return
    p50 = run.figures("growth", "p50").get("embedded", {})
    yield "## Growth, embedded: 1 KiB messages/s with one sender, p50 in µs at 200 messages/s from host 1 and 2"
    rows = []
    for case, rate in rates.items():
        nodes = dict(case)["nodes"]
        delays = [value for other, value in p50.items() if dict(other)["nodes"] == nodes]
        rows.append([str(nodes), _number(rate), " / ".join(_number(value) for value in delays)])
    yield table(["nodes", "messages/s", "p50"], rows)


def _fairness(run: Run) -> Iterator[str]:
    cases: dict[tuple[str, str, str], list[Record]] = {}
    for record in run.records:
        if record.part == "fairness" and record.figures and not record.wrong:
            cases.setdefault((record.system, record.case["link"], record.case["tcp"]), []).append(record)
    if not cases:
        return
    yield f"## Beside TCP on a link of {LINK_MBIT} Mbit/s, offload off: Mbit/s of payload at the receivers"
    rows = []
    for case, records in cases.items():
        shares = [record.figures["share"] for record in records]
        middle = [_number(median(record.figures[name] for record in records)) for name in ("flood", "tcp")]
        every = ", ".join(f"{share:.0%}" for share in shares)
        rows.append([*case, *middle, f"{median(shares):.0%} ({every})"])
    yield table(
        ["", "the link", "TCP's control", "the flood, 1 KiB", "TCP", "TCP's share of the link (each run)"], rows
    )


def _flood(run: Run) -> Iterator[str]:
    found = {name: run.figures("flood", name) for name in ("rate", "memory", "growth")}
    if not found["rate"]:
        return
    yield "## Memory in a long flood of all hosts, 1 KiB: MB of the largest process, growth after a fifth of the time"
    rows = []
    for system, cases in found["rate"].items():
        for case in cases:
            shown = dict(case)
            figures = [found[name][system][case] for name in ("rate", "memory", "growth")]
            rows.append([system, shown["process"], f"{shown['seconds']:g}", *map(_number, figures)])
    yield table(["", "process", "seconds", "messages/s", "at the end", "growth"], rows)


def _faults(run: Run) -> Iterator[str]:
    yield "## What was received, what was dropped"
    if not run.faults:
        yield "Every receiver got every message whole, once, in order; the kernel dropped no packet for want of room."
    else:
        yield "Void, or doubtful because the kernel itself dropped packets:"
        yield "\n".join(f"- {line(record)}" for record in run.faults)
    overflows: dict[tuple[str, str], int] = {}
    for record in run.records:
        if dropped := record.figures.get("socket_drops"):
            key = record.system, record.part
            overflows[key] = overflows.get(key, 0) + int(dropped)
    if overflows:
        yield "Datagrams that found the socket of a receiver full, and were repaired:"
        yield "\n".join(f"- {system}, {part}: {dropped:,}" for (system, part), dropped in overflows.items())


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
