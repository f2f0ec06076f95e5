"""The traces that real daemons write (``--trace FILE``), read back as one trace for the oracle.

    python -m groupcomm.testing.logs [--killed NODE] [--at-rest] FILE...

Decides how the files of several nodes become one order, what a log that stops says of its node, and which messages can
be judged. It needs the trace of every node that was in a view. It ends with 0 if every property holds, with 1 if one is
broken, with 2 if that cannot be said.

The order is that of the monotonic clock, which all processes of a machine share. A send is on file before its packet
leaves and a delivery is written after its packet came, so in files of one machine every cause has an earlier time than
its effects; files of different machines are refused. What has the same time keeps the order of its file, and a send
comes before the rest. For the same reason these files, cut off at one time, show what a run was until then.
"""

from __future__ import annotations

import argparse
import heapq
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final

from attrs import evolve, frozen

from groupcomm.identity import NodeId
from groupcomm.node.recorder import boot_id
from groupcomm.testing import trace as traces
from groupcomm.testing.oracle import PropertyViolated, Report, examine
from groupcomm.testing.recorded import LogError, RunLog, read_log
from groupcomm.testing.trace import Trace, TraceEvent

KILLED: Final = "killed"
"""How a node ended whose log stops without saying so."""


@frozen
class Reading:
    """Several logs as one.

    Attributes:
        trace: for the oracle.
        alive: the nodes that had not ended.
        cut_at: where the trace is cut off because what came later is not known from all; None: it is whole.
        left_out: labels of messages that cannot be judged, because more than one message goes by them.
    """

    trace: Trace
    alive: tuple[NodeId, ...]
    cut_at: float | None
    left_out: tuple[str, ...]

    def examine(self, *, at_rest: bool, apart: Iterable[str] = ()) -> Report:
        """The oracle's verdict.

        Args:
            at_rest: the nodes alive were connected and had nothing left to do. Without meaning for a trace cut off.
            apart: names of nodes for which that does not hold.
        """
        if not at_rest or self.cut_at is not None:
            return examine(self.trace)
        excepted = set(apart)
        return examine(self.trace, settled=[node for node in self.alive if node.name not in excepted])


def read_logs(paths: Iterable[Path]) -> list[RunLog]:
    """Every run that these files tell of; raises ``LogError``."""
    return [run for path in paths for run in read_log(path)]


def join_logs(runs: Sequence[RunLog], *, killed: Iterable[str] = (), until: float | None = None) -> Reading:
    """Make one trace of those of all nodes of a cluster.

    Args:
        runs: of every node; all but the last of a name are over.
        killed: names of nodes whose last run is over too, although its log does not say so. All that others can know
            of a run is in its log, so its end is put where the log ends.
        until: monotonic seconds; what came later is left out. While nodes still run, take the time before reading.

    Raises:
        LogError: these do not belong together, or one is missing.
    """
    _check_together(runs)
    gone = set(killed)
    if unknown := gone - {run.node.name for run in runs}:
        raise LogError(f"there is no trace of {', '.join(sorted(unknown))}")
    limits = [run.limit_at for run in runs if run.limit_at is not None]
    cut_at = min(limits, default=None)
    end = min([*limits, *([until] if until is not None else [])], default=None)
    last = {run.node.name: run.node for run in sorted(runs, key=lambda run: run.node)}
    kept, alive = [], []
    for run in sorted(runs, key=lambda run: run.node):
        events = run.events
        if not run.ended and run.limit_at is None and (run.node != last[run.node.name] or run.node.name in gone):
            events = [*events, *_crash(run)]
        kept.append([event for event in events if end is None or event.at < end])
        if kept[-1] and not isinstance(kept[-1][-1], traces.NodeEnded):
            alive.append(run.node)
    events, left_out = _without_namesakes(list(_merged(kept)))
    return Reading(Trace(events), tuple(alive), cut_at, left_out)


def _check_together(runs: Sequence[RunLog]) -> None:
    if not runs:
        raise LogError("there is nothing in these traces")
    first = runs[0]
    by_node: dict[NodeId, RunLog] = {}
    for run in runs:
        if run.cluster != first.cluster:
            raise LogError(f"{run.path} is of cluster {run.cluster}, {first.path} of cluster {first.cluster}")
        if run.boot != first.boot:
            raise LogError(f"{run.path} and {first.path} are of two machines, whose clocks cannot be compared")
        other = by_node.setdefault(run.node, run)
        if other is not run:
            raise LogError(f"{run.path} and {other.path} are of the same run of node {run.node}")
    for run in runs:
        for event in run.events:
            if isinstance(event, traces.NodeViewSeen):
                for member in event.view.members:
                    if member not in by_node:
                        raise LogError(
                            f"node {member} (incarnation {member.incarnation}) was in view {event.view.id}: "
                            "its trace is needed too"
                        )


def _crash(run: RunLog) -> Iterator[TraceEvent]:
    at = run.events[-1].at
    yield from (traces.Closed(at, member) for member in run.open.values())
    yield traces.NodeEnded(at, run.node, KILLED)


def _merged(runs: Sequence[Sequence[TraceEvent]]) -> Iterator[TraceEvent]:
    """By time; each run in its own order; of equal times a send first."""

    def keyed(number: int, events: Sequence[TraceEvent]) -> Iterator[tuple[float, bool, int, TraceEvent]]:
        return ((event.at, not isinstance(event, traces.Sent), number, event) for event in events)

    keyed_runs = (keyed(number, events) for number, events in enumerate(runs))
    return (event for *_, event in heapq.merge(*keyed_runs, key=lambda entry: entry[:3]))


def _without_namesakes(events: list[TraceEvent]) -> tuple[list[TraceEvent], tuple[str, ...]]:
    """The events without those of messages whose label is that of another message, and these labels."""
    sent = Counter(event.message for event in events if isinstance(event, traces.Sent))
    twice = {label for label, count in sent.items() if count > 1}
    if not twice:
        return events, ()
    kept: list[TraceEvent] = []
    for event in events:
        if isinstance(event, traces.Accepted):
            kept.append(evolve(event, messages=tuple(label for label in event.messages if label not in twice)))
        elif not (isinstance(event, traces.Sent | traces.Delivered) and event.message in twice):
            kept.append(event)
    return kept, tuple(sorted(twice))


# The command.


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the verdict over the given files; 0: all holds, 1: something is broken, 2: that cannot be said."""
    parser = argparse.ArgumentParser(
        prog="python -m groupcomm.testing.logs", description="Hold the traces of real daemons to every property."
    )
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help="the traces, of every node of the cluster")
    parser.add_argument(
        "--killed", action="append", default=[], metavar="NODE", help="a node that was killed at the end"
    )
    parser.add_argument(
        "--at-rest",
        action="store_true",
        help="the nodes that have not ended were connected and had nothing left to do: all must have come to all",
    )
    options = parser.parse_args(arguments)
    now = time.monotonic()
    try:
        runs = read_logs(options.files)
        here = all(run.boot == boot_id() for run in runs)
        reading = join_logs(runs, killed=options.killed, until=now if here else None)
    except LogError as error:
        print(f"cannot judge: {error}", file=sys.stderr)
        return 2
    report = reading.examine(at_rest=options.at_rest)
    for line in account(reading, report):
        print(line)
    return 1 if report.violations else 0


def account(reading: Reading, report: Report) -> Iterator[str]:
    """The verdict, for people."""
    kinds = Counter(type(event).__name__ for event in reading.trace)
    yield (
        f"{kinds['NodeStarted']} runs of nodes, {kinds['Opened']} sessions, {kinds['Sent']} messages, "
        f"{kinds['Delivered']} deliveries"
    )
    if reading.cut_at is not None:
        yield f"judged up to {reading.cut_at:.6f} only: then a trace had reached its limit"
    if reading.left_out:
        yield f"left out: {len(reading.left_out)} labels or contents that more than one message has"
    yield "how often each property had something to hold for:"
    for name, count in sorted(report.premises.items()):
        yield f"  {name:14} {count:9}"
    yield str(PropertyViolated(report, reading.trace)) if report.violations else "every property holds"


if __name__ == "__main__":
    sys.exit(main())
