"""What the oracle says of a lab: it reads what the daemons have recorded, and compares that with what members heard."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import Protocol

from attrs import frozen

from groupcomm.testing.logs import Reading, account, join_logs, read_logs
from groupcomm.testing.oracle import Report
from groupcomm.testing.recorded import RunLog
from tests.lab.checks import Json, by_session, difference, session_of

REST_SECONDS = 30.0
"""What must have happened when all is at rest is waited for so long."""

PAUSE_SECONDS = 0.5


class RecordedDaemon(Protocol):
    """What the verdict needs of a daemon: its trace, and how it fares."""

    node: str
    trace: Path
    killed: bool
    apart: bool


class RecordedMember(Protocol):
    """What the verdict needs of a member: what it was told, and by which daemon."""

    client: str

    @property
    def daemon_trace(self) -> Path:
        """Its daemon's trace."""

    @property
    def quiet(self) -> bool:
        """Whether it only counts its messages."""

    def entries(self) -> list[Json]:
        """Everything it has logged."""


@frozen
class Verdict:
    """How often each property had something to hold for, and what is wrong, as text; empty if nothing is."""

    premises: dict[str, int]
    wrong: str


def examine(daemons: Sequence[RecordedDaemon], members: Sequence[RecordedMember]) -> Verdict:
    """Judge what has happened so far; what must be so at rest is given time to become so."""
    limit = time.monotonic() + REST_SECONDS
    while True:
        verdict = _examine_now(daemons, members, at_rest=True)
        if not verdict.wrong or time.monotonic() > limit or _examine_now(daemons, (), at_rest=False).wrong:
            break
        time.sleep(PAUSE_SECONDS)
    if not verdict.wrong:
        return verdict
    kept = Path(tempfile.mkdtemp(prefix="groupcomm-traces-"))
    for daemon in daemons:
        if daemon.trace.exists():
            shutil.copy(daemon.trace, kept)
    return Verdict(verdict.premises, f"{verdict.wrong}\nthe traces are in {kept}")


def _examine_now(daemons: Sequence[RecordedDaemon], members: Sequence[RecordedMember], *, at_rest: bool) -> Verdict:
    now = time.monotonic()
    last = {daemon.node: daemon for daemon in daemons}
    killed = [daemon.node for daemon in last.values() if daemon.killed]
    apart = [daemon.node for daemon in last.values() if daemon.apart]
    runs = read_logs(daemon.trace for daemon in daemons if daemon.trace.exists())
    premises: dict[str, int] = {}
    wrong: list[str] = []
    for _, together in groupby(sorted(runs, key=lambda run: run.cluster), key=lambda run: run.cluster):
        of_cluster = list(together)
        names = {run.node.name for run in of_cluster}
        reading = join_logs(of_cluster, killed=names.intersection(killed), until=now)
        report = reading.examine(at_rest=at_rest, apart=apart)
        for name, count in report.premises.items():
            premises[name] = premises.get(name, 0) + count
        wrong += _complaints(reading, report)
        if reading.cut_at is None:
            wrong += _misheard(of_cluster, reading, members)
    return Verdict(premises, "\n".join(wrong))


def _complaints(reading: Reading, report: Report) -> list[str]:
    if reading.left_out:
        return [f"messages that go by one label cannot be judged: {reading.left_out[:5]}"]
    return list(account(reading, report))[-1:] if report.violations else []


def _misheard(runs: Sequence[RunLog], reading: Reading, members: Sequence[RecordedMember]) -> list[str]:
    wrong = []
    by_path = {run.path: run for run in runs}
    sessions = by_session(reading.trace)
    for member in members:
        run = by_path.get(member.daemon_trace)
        if run is None or member.quiet:
            continue
        session = session_of(sessions, run.node, member.client)
        if session is not None and (told := difference(member.entries(), sessions[session])):
            wrong.append(f"{session} on {run.node.incarnation}: {told}")
    return wrong
