"""The plots of a run, as PNG."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bench.results import PERCENTILES, Run, size_text

DOTS_PER_INCH = 110
LEAST_MICROSECONDS = 50
LEAST_MILLISECONDS = 10
LEGEND_ROOM = 4


def draw(run: Run, directory: Path) -> list[Path]:
    """Draw what was measured; the files."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    drawn = []
    for name, drawing in (
        ("throughput", _throughput),
        ("latency", _latency),
        ("loss", _loss),
        ("views", _views),
        ("growth", _growth),
    ):
        if not any(record.part == name and record.figures and not record.wrong for record in run.records):
            continue
        figure, axes = pyplot.subplots(1, 2, figsize=(13, 5))
        drawing(run, axes)
        figure.tight_layout()
        drawn.append(directory / f"{name}.png")
        figure.savefig(drawn[-1], dpi=DOTS_PER_INCH)
        pyplot.close(figure)
    return drawn


def _lines(axis: Any, found: dict[str, dict[float, float]], title: str, across: str, up: str) -> None:
    """One line for each system."""
    for system, points in found.items():
        ordered = sorted(points.items())
        style = "-" if system in ("embedded", "daemon") else "--"
        axis.plot([x for x, _ in ordered], [y for _, y in ordered], style, marker="o", label=system)
    axis.set(title=title, xlabel=across, ylabel=up)
    axis.grid(True, which="both", alpha=0.3)
    if found:
        axis.legend()


def _bars(axis: Any, least: float) -> None:
    """Bars on a logarithmic scale stand on a fixed ground, so that they compare from plot to plot."""
    axis.set(yscale="log")
    axis.set_ylim(bottom=least, top=axis.get_ylim()[1] * LEGEND_ROOM)
    _plain(axis.yaxis)
    axis.grid(True, axis="y", which="both", alpha=0.3)
    axis.legend()


def _plain(axis: Any) -> None:
    """Numbers as people write them, on a logarithmic scale."""
    axis.set_major_formatter("{x:,g}")
    axis.set_minor_formatter("")


def _by(run: Run, part: str, figure: str, across: str, **case: object) -> dict[str, dict[float, float]]:
    """The medians of one figure over one number of the case; of several, the least."""
    found: dict[str, dict[float, float]] = {}
    for system, cases in run.figures(part, figure, **case).items():
        for rest, value in cases.items():
            points = found.setdefault(system, {})
            x = float(dict(rest)[across])
            points[x] = min(value, points.get(x, value))
    return found


def _throughput(run: Run, axes: Any) -> None:
    for axis, senders in zip(axes, (1, 4), strict=True):
        rates = _by(run, "throughput", "rate", "size", senders=senders)
        speeds = {
            system: {size: rate * size / 1e6 for size, rate in points.items()} for system, points in rates.items()
        }
        _lines(
            axis, speeds, f"Throughput, 4 hosts, {senders} sending", "size of a message", "MB/s at the slowest receiver"
        )
        axis.set(xscale="log", yscale="log")
        sizes = sorted({size for points in speeds.values() for size in points})
        axis.set_xticks(sizes, [size_text(int(size)) for size in sizes])
        axis.xaxis.set_minor_formatter("")
        _plain(axis.yaxis)


def _latency(run: Run, axes: Any) -> None:
    for axis, rate in zip(axes, (200, 1000), strict=True):
        found = run.senders(rate, "agreed")
        for at, name in enumerate(PERCENTILES.values()):
            heights = [best[at] for best, _ in found.values()]
            axis.bar([place + at * 0.27 for place in range(len(found))], heights, 0.25, label=name)
        axis.set_xticks([place + 0.27 for place in range(len(found))], list(found), rotation=30, ha="right")
        axis.set(title=f"Latency to another host, 64 B, {rate}/s, best sender", ylabel="µs")
        _bars(axis, LEAST_MICROSECONDS)


def _loss(run: Run, axes: Any) -> None:
    rates = _by(run, "loss", "rate", "loss")
    _lines(axes[0], rates, "1 KiB, one sender, offload off", "% of packets lost", "messages/s")
    delays = {
        system: {percent: value / 1000 for percent, value in points.items()}
        for system, points in _by(run, "loss", "p99", "loss").items()
    }
    _lines(axes[1], delays, "p99 latency at 200 messages/s", "% of packets lost", "ms")
    for axis in axes:
        axis.set(yscale="log")
        _plain(axis.yaxis)


def _views(run: Run, axes: Any) -> None:
    found = run.figures("views", "milliseconds")
    events = list(dict.fromkeys(dict(case)["event"] for cases in found.values() for case in cases))
    for axis, shown in zip(axes, (events[:2], events[2:]), strict=True):
        width = 0.8 / max(1, len(found))
        for offset, (system, cases) in enumerate(found.items()):
            by_event = {dict(case)["event"]: value for case, value in cases.items()}
            places = [at + offset * width for at in range(len(shown))]
            axis.bar(places, [by_event.get(event, 0.0) for event in shown], width * 0.9, label=system)
        axis.set_xticks([at + 0.4 - width / 2 for at in range(len(shown))], shown)
        axis.set(title="Until the last one is told", ylabel="ms")
        _bars(axis, LEAST_MILLISECONDS)


def _growth(run: Run, axes: Any) -> None:
    nodes = sorted({record.case["nodes"] for record in run.records if record.part == "growth" and record.case})
    _lines(axes[0], _by(run, "growth", "rate", "nodes"), "1 KiB, one sender", "nodes", "messages/s")
    for sender in (1, 2):
        found = _by(run, "growth", "p50", "nodes", sender=sender)
        named = {f"{system}, host {sender} sends": points for system, points in found.items()}
        _lines(axes[1], named, "p50 latency at 200 messages/s", "nodes", "µs")
    for axis in axes:
        axis.set(xscale="log", ylim=(0, None))
        axis.set_xticks(nodes, [str(count) for count in nodes])
        axis.xaxis.set_minor_formatter("")
