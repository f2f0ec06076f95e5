"""The child that fuzzes one target: ``python -m tests.fuzz.worker TARGET SECONDS RUNS CRASHES FOLDER...``.

Needs atheris. New inputs go into the first folder; those of all are where it begins. If there is but one, it gets what
well-behaved peers send to begin with. libFuzzer writes how far it is to the standard error; an input that is a finding
goes into ``CRASHES``, and the exit status is not 0 then.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from random import Random

import atheris

from tests.fuzz.target import ENTRIES
from tests.fuzz.watching import log_nothing

INPUT_SECONDS = 300
"""One input may take this long by the wall; a small part of a second is usual, and what never ends is to be caught."""

MEMORY_MIB = 1024
"""What the process may hold; the targets hold their own, smaller limits."""


def modules_of(package: str) -> Iterator[str]:
    """Every module of a package, by its files."""
    spec = find_spec(package)
    assert spec is not None
    for place in spec.submodule_search_locations or ():
        for path in Path(place).rglob("*.py"):
            parts = path.relative_to(place).with_suffix("").parts
            yield ".".join((package, *(parts[:-1] if parts[-1] == "__init__" else parts)))


def main(arguments: list[str]) -> None:
    """Fuzz until the time is up, the runs are done, or something is found."""
    name, seconds, runs, crashes, *folders = arguments
    entry = ENTRIES[name]
    packages = {module.split(".")[0] for module in entry.watched}
    others = [module for package in packages for module in modules_of(package) if not entry.watches(module)]
    # The counters of a module are made when it is imported: so the target, and with it the product, is imported here.
    with atheris.instrument_imports(include=sorted(packages), exclude=others):
        target = entry.load()
    log_nothing()
    if len(folders) == 1:
        for number, seed in enumerate(target.seeds()):
            (Path(folders[0]) / f"seed-{number}").write_bytes(seed)

    def check(data: bytes) -> None:
        target.check(data)

    def mutate(data: bytes, max_bytes: int, seed: int) -> bytes:
        random = Random(seed)
        if random.randrange(4) == 0:
            mutated: bytes = atheris.Mutate(data, max_bytes)
            return mutated
        return target.mutate(data, random)[:max_bytes]

    options = [
        f"-max_total_time={seconds}",
        f"-runs={runs}",
        f"-max_len={entry.max_bytes}",
        f"-timeout={INPUT_SECONDS}",
        f"-rss_limit_mb={MEMORY_MIB}",
        f"-artifact_prefix={crashes}/{name}-",
        "-report_slow_units=60",
        "-len_control=0",
        "-reload=0",
        "-print_final_stats=1",
    ]
    atheris.Setup([sys.argv[0], *options, *folders], check, custom_mutator=mutate)
    atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv[1:])
