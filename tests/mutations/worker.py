"""The child that tries one mutation: ``python -m tests.mutations.worker NAME LIMIT SEED...`` prints one line of JSON.

The bug is put into the source of its module when that is imported; nothing is written. Then ordinary seeds of the
campaign are run, those named first, then 1, 2, 3 and so on, until one fails or ``LIMIT`` of them have not.
"""

from __future__ import annotations

import json
import resource
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, SourceFileLoader
from importlib.util import spec_from_file_location
from types import CodeType, FrameType, ModuleType

from tests.mutations.catalogue import mutation_named
from tests.mutations.mutation import Mutation

RUN_SECONDS = 120.0
"""CPU time of one run at most: a mutation that makes the engine compute for ever is not caught by that."""

MEMORY_BYTES = 3 * 1024**3


class RunTooLong(BaseException):
    """A run did not end. No ``Exception``, so that the run itself does not take it for a finding."""


class MutatedLoader(SourceFileLoader):
    """Compiles the source with the bug, past every cache."""

    def __init__(self, fullname: str, path: str, mutation: Mutation) -> None:
        super().__init__(fullname, path)
        self._mutation = mutation

    def get_code(self, fullname: str) -> CodeType:
        """See ``SourceFileLoader``."""
        source = self._mutation.apply(self._mutation.path.read_text())
        code: CodeType = compile(source, self.get_filename(fullname), "exec", dont_inherit=True)
        return code


class MutatingFinder(MetaPathFinder):
    """Finds the mutated module before anybody else does."""

    def __init__(self, mutation: Mutation) -> None:
        self._mutation = mutation

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """See ``MetaPathFinder``."""
        if fullname != self._mutation.module:
            return None
        location = str(self._mutation.path)
        loader = MutatedLoader(fullname, location, self._mutation)
        return spec_from_file_location(fullname, location, loader=loader)


def seeds(first: Sequence[str], limit: int) -> Iterator[str]:
    """Which runs are tried, in order."""
    yield from first
    yield from (str(number) for number in range(1, limit - len(first) + 1))


def try_out(first: Sequence[str], limit: int) -> dict[str, object]:
    """Run seeds until one fails; the campaign is imported here, so that it is the mutated one."""
    from groupcomm.testing.swarm import run_seed

    began, tried = time.process_time(), 0
    found: dict[str, object] = {}
    for seed in seeds(first, limit):
        tried += 1
        signal.setitimer(signal.ITIMER_PROF, RUN_SECONDS)
        try:
            outcome = run_seed(seed)
        except RunTooLong:
            found = {"endless": seed}
            break
        except Exception as error:  # past what a run holds for itself: the campaign would end with it
            found = {"property": "exception", "all": [], "text": repr(error), "seed": seed}
            break
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0.0)
        if outcome.failure is not None:
            lines = outcome.text.strip().splitlines()
            found = {
                "property": outcome.failure,
                "all": sorted({one.property for one in outcome.report.violations}),
                "text": lines[-1 if outcome.failure == "exception" else 0] if lines else "",
                "seed": seed,
            }
            break
    return {**found, "seeds": tried, "seconds": time.process_time() - began}


def end_run(_: int, __: FrameType | None) -> None:
    """The time of this run is over."""
    raise RunTooLong


def main(arguments: Sequence[str]) -> None:
    """The child."""
    name, limit, *first = arguments
    signal.signal(signal.SIGPROF, end_run)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    sys.meta_path.insert(0, MutatingFinder(mutation_named(name)))
    print(json.dumps(try_out(first, int(limit))))


if __name__ == "__main__":
    main(sys.argv[1:])
