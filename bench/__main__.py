"""groupcomm beside its peers, on hosts of the lab, in one run.

    python -m bench                        everything, five times; writes nothing unless --output says where
    python -m bench --only throughput latency --systems embedded corosync-udp --sizes 1024 --senders 1 --repeat 1

The second gives one ratio in 20 seconds; what is too long for one sitting can be made in pieces, with --append. Every
line printed is one measurement; at the end come the medians and the ratios to the best corosync of the run.
"""

from __future__ import annotations

import argparse
import os
import shlex
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

from bench import report, results
from bench.installing import install
from bench.lab import BenchError, Lab
from bench.measure import Record
from bench.parts import PARTS, Plan
from bench.systems import systems

HOSTS = 4


def options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    every = tuple(systems("many"))
    unasked = tuple(name for name, part in PARTS.items() if part.unasked)
    asked = ", ".join(name for name in PARTS if name not in unasked)
    parser.add_argument(
        "--only", nargs="+", choices=PARTS, default=unasked, help=f"the parts to measure (all but {asked})"
    )
    parser.add_argument("--systems", nargs="+", choices=every, default=every, help="the systems to measure")
    parser.add_argument(
        "--sizes", nargs="+", type=int, default=(64, 1024, 8192, 65536, 1 << 20), help="bytes a message"
    )
    parser.add_argument("--senders", nargs="+", type=int, default=(1, 4), help="hosts that flood at once")
    parser.add_argument("--rates", nargs="+", type=int, default=(200, 1000), help="messages a second, for latency")
    parser.add_argument("--probers", nargs="+", type=int, default=(1, 2, 3, 4), help="hosts that send them, in turn")
    parser.add_argument("--losses", nargs="+", type=float, default=(0, 1, 5, 10), help="per cent of packets lost")
    parser.add_argument(
        "--nodes", nargs="+", type=int, default=(2, 4, 8, 16, 32), help="sizes of the cluster, for growth"
    )
    parser.add_argument("--repeat", type=int, default=5, help="how often each is measured; medians are reported")
    parser.add_argument("--seconds", type=float, default=2.0, help="how long each flood and series lasts")
    parser.add_argument("--tcp", nargs="+", default=("cubic",), help="congestion controls of TCP, for fairness")
    parser.add_argument("--fairness-seconds", type=float, default=60.0, help="how long TCP is beside a flood")
    parser.add_argument("--flood-seconds", type=float, default=600.0, help="how long memory is watched in a flood")
    parser.add_argument("--api", choices=("many", "send"), default="many", help="how groupcomm is sent with")
    parser.add_argument("--output", type=Path, help="a directory for the table, the figures and the plots")
    parser.add_argument("--append", action="store_true", help="add to the results of the same commit in --output")
    parser.add_argument("--install", action="store_true", help="install what is missing first, with apt-get and pip")
    return parser.parse_args()


def measure(chosen: argparse.Namespace) -> Iterator[Record]:
    """All that was chosen; the systems alternate within every part, and the parts within every repetition."""
    known = systems(chosen.api)
    plan = Plan(
        seconds=chosen.seconds,
        sizes=tuple(chosen.sizes),
        senders=tuple(chosen.senders),
        rates=tuple(chosen.rates),
        probers=tuple(chosen.probers),
        losses=tuple(chosen.losses),
        nodes=tuple(chosen.nodes),
        tcp=tuple(chosen.tcp),
        fairness_seconds=chosen.fairness_seconds,
        flood_seconds=chosen.flood_seconds,
    )
    with Lab(HOSTS) as lab:
        for _ in range(chosen.repeat):
            for part in (PARTS[name] for name in PARTS if name in chosen.only):
                for name in (name for name in part.systems if name in chosen.systems):
                    try:
                        yield from part.measure(lab, known[name], plan)
                    except BenchError as error:
                        yield Record(part.name, name, {}, {}, str(error))


def interrupted(number: int, frame: object) -> None:
    """End, and let nothing keep that from cleaning up."""
    for other in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(other, signal.SIG_IGN)
    sys.exit(f"bench: ended by {signal.Signals(number).name}")


def main() -> None:
    """Measure and report."""
    chosen = options()
    if os.geteuid():
        sys.exit("bench: the lab needs root (network namespaces)")
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, interrupted)
    if chosen.install:
        install()
    records = []
    for record in measure(chosen):
        print(report.line(record), flush=True)
        records.append(record)
    named = sorted({record.system for record in records})
    versions = {name: system.version() for name, system in systems(chosen.api).items() if name in named}
    run = results.Run.now(f"python -m bench {shlex.join(sys.argv[1:])}".strip(), versions, records)
    earlier = chosen.output / "results.json" if chosen.append and chosen.output is not None else None
    if earlier is not None and earlier.exists():
        run = results.Run.load(earlier.read_text(encoding="utf-8")).then(run)
    print(report.tables(run))
    if chosen.output is not None:
        report.write(run, chosen.output)
        print(f"written to {chosen.output}")


if __name__ == "__main__":
    main()
