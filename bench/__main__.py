"""groupcomm beside its peers, in one run: ``python -m bench``.

A ratio within 20 seconds:

    python -m bench --only throughput latency --systems embedded corosync-udp --sizes 1024 --senders 1 --repeat 1
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from typing import Any

from bench.lab import Lab
from bench.measure import Record, latency, throughput
from bench.systems import systems
from bench.systems.base import Deployment

SIZES = (64, 1024, 8192, 65536, 1 << 20)


def show(record: Record) -> None:
    """One line for one measurement."""
    case = " ".join(f"{name} {value}" for name, value in record.case.items())
    figures = "  ".join(f"{name} {value:,.0f}" for name, value in record.figures.items())
    print(f"{record.part:12} {record.system:14} {case:40} {figures} {record.wrong}", flush=True)


def options() -> Any:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m bench")
    parser.add_argument("--only", nargs="+", default=["throughput", "latency"])
    parser.add_argument("--systems", nargs="+", default=list(systems("many")))
    parser.add_argument("--sizes", nargs="+", type=int, default=SIZES)
    parser.add_argument("--senders", nargs="+", type=int, default=(1, 4))
    parser.add_argument("--rates", nargs="+", type=int, default=(200, 1000))
    parser.add_argument("--from-hosts", nargs="+", type=int, default=(1, 2))
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--api", choices=("many", "send"), default="send")
    return parser.parse_args()


def main() -> None:
    """Measure."""
    chosen = options()
    if os.geteuid():
        sys.exit("bench: the lab needs root (network namespaces)")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    known = systems(chosen.api)
    with Lab(4) as lab:
        for _ in range(chosen.repeat):
            for name in chosen.systems:
                with Deployment(lab, known[name]) as deployment:
                    if "throughput" in chosen.only:
                        for size in chosen.sizes:
                            for senders in chosen.senders:
                                case = {"size": size, "senders": senders}
                                show(throughput(deployment, "throughput", case, chosen.seconds))
                    if "latency" in chosen.only:
                        for rate in chosen.rates:
                            for sender in chosen.from_hosts:
                                case = {"rate": rate, "sender": sender, "level": "agreed"}
                                show(latency(deployment, "latency", case, chosen.seconds))


if __name__ == "__main__":
    main()
