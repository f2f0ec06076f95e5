"""What the benchmark asks of a system: to be set up on every host of a lab, with a worker on each."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import ClassVar

from attrs import frozen

from bench.lab import BenchError, Json, Lab, Process

START_SECONDS = 40.0
ANSWER_SECONDS = 10.0
DRAIN_SECONDS = 8.0
"""How long what was sent may still be under way, beside twice the time it was sent in."""


class System(ABC):
    """One system in one setting.

    Attributes:
        name: in the results.
        levels: the levels it can be asked for.
        has_views: whether it tells its members of each other.
        reaches_self: whether a sender gets its own messages.
        max_hosts: how many hosts it is measured with.
    """

    name: str
    levels: ClassVar[tuple[str, ...]] = ("agreed",)
    has_views: ClassVar[bool] = True
    reaches_self: ClassVar[bool] = True

    def start_nodes(self, lab: Lab) -> Mapping[int, Process]:
        """Start what runs on the hosts beside the workers, by host, and return when workers can connect."""
        return {}

    @abstractmethod
    def start_worker(self, lab: Lab, host: int) -> Process:
        """Start the worker on a host."""

    @abstractmethod
    def version(self) -> str:
        """What is measured, for the report."""


@frozen
class Run:
    """A run that has begun.

    Attributes:
        number: of it.
        receivers: the hosts that get it.
        told: when the senders were told, in nanoseconds.
    """

    number: int
    receivers: tuple[int, ...]
    told: int


class Deployment:
    """A system, up on every host, every worker in one group with the others. A context manager."""

    def __init__(self, lab: Lab, system: System) -> None:
        self.lab = lab
        self.system = system
        self.nodes: Mapping[int, Process] = {}
        self.workers: dict[int, Process] = {}
        self._run = 0
        self._stale = False

    def __enter__(self) -> Deployment:
        self._start()
        return self

    def _start(self) -> None:
        self._stale = False
        try:
            self.nodes = self.system.start_nodes(self.lab)
            for host in self.lab.hosts:
                self.workers[host] = self.system.start_worker(self.lab, host)
            self.wait_for_view(self.lab.hosts, self.lab.size)
        except BaseException:
            self.lab.end_processes()
            raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.lab.end_processes()

    def refresh(self) -> None:
        """Start the system anew if what was sent in the last run may still be under way."""
        if self._stale:
            self.lab.end_processes()
            self._start()

    def wait_for_view(self, hosts: range | list[int], members: int, seconds: float = START_SECONDS) -> dict[int, int]:
        """Wait until each worker of ``hosts`` sees so many members; when it was told, in nanoseconds."""

        def wanted(answer: Json) -> bool:
            return bool(answer["e"] == "view" and answer["members"] == members)

        return {host: int(self.workers[host].answer(seconds, wanted)["at"]) for host in hosts}

    def receivers(self, senders: list[int]) -> dict[int, list[int]]:
        """Who receives, and from which senders."""
        if self.system.reaches_self:
            return {host: senders for host in self.lab.hosts}
        heard = {host: [sender for sender in senders if sender != host] for host in self.lab.hosts}
        return {host: those for host, those in heard.items() if those}

    def run(self, senders: list[int], size: int, command: tuple[object, ...], seconds: float) -> dict[int, Json]:
        """One run: ``begin`` and ``gather``."""
        return self.gather(self.begin(senders, size, command), seconds)

    def begin(self, senders: list[int], size: int, command: tuple[object, ...]) -> Run:
        """Make the receivers ready and have the senders send.

        Args:
            senders: the hosts that send.
            size: of the messages; 0: probes.
            command: what the senders are told: its first word, then what follows the run's number.

        Raises:
            BenchError: a process has ended or does not answer; the system is started anew before the next run.
        """
        self.refresh()
        run = self._next_run()
        self._stale = True
        receivers = self.receivers(senders)
        for host, heard in receivers.items():
            self.workers[host].tell("receive", run, size, ",".join(map(str, heard)))
        for host in receivers:
            self.workers[host].answer(
                ANSWER_SECONDS, lambda answer: answer["e"] == "receiving" and answer["run"] == run
            )
        told = time.monotonic_ns()
        for sender in senders:
            self.workers[sender].tell(command[0], run, *command[1:])
        return Run(run, tuple(receivers), told)

    def so_far(self, run: Run) -> dict[int, Json]:
        """What each receiver has got of a run that is under way; under ``last`` when it looked.

        Raises:
            BenchError: a process has ended or does not answer.
        """
        for host in run.receivers:
            self.workers[host].tell("report")
        return {host: self.workers[host].answer(ANSWER_SECONDS, _received(run)) for host in run.receivers}

    def gather(self, run: Run, seconds: float) -> dict[int, Json]:
        """Wait for the end of a run.

        Args:
            run: which.
            seconds: how long the sending lasts from now on.

        Returns:
            For each receiving host what it says, and under ``told`` when the sending began. If the end of the sending
            did not come to all in time, it is what had come by then, and the system is started anew before the next
            run.

        Raises:
            BenchError: a process has ended or does not answer; started anew as well.
        """
        limit = time.monotonic() + 2 * seconds + DRAIN_SECONDS
        answers = {host: self._result(host, run, limit - time.monotonic()) for host in run.receivers}
        self._stale = not all(answer["complete"] for answer in answers.values())
        return {host: {**answer, "told": run.told} for host, answer in answers.items()}

    def _next_run(self) -> int:
        """A number for the next run, in a byte."""
        self._run = self._run % 255 + 1
        return self._run

    def _result(self, host: int, run: Run, seconds: float) -> Json:
        worker = self.workers[host]
        try:
            return worker.answer(seconds, _received(run))
        except BenchError:
            if not worker.running:
                raise
            worker.tell("report")
            return worker.answer(ANSWER_SECONDS, _received(run))


def _received(run: Run) -> Callable[[Json], bool]:
    """Whether an answer says what came of that run."""
    return lambda answer: bool(answer["e"] == "received" and answer["run"] == run.number)
