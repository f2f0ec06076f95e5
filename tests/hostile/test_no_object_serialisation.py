"""No code is run, and nothing unjellied, that comes from another node: a test of the source itself.

That nothing unpickles is tested where the imports are (``tests/test_architecture.py``).
"""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

import groupcomm

HOUSE = Path(groupcomm.__file__).parent

RUNS_CODE = {"eval", "exec", "compile", "__import__"}
"""Built-in functions that run what they are given."""

PERSPECTIVE_BROKER = "twisted.spread"
WITH_CLIENTS = {"daemon", "client"}
"""The rooms that talk with clients over Perspective Broker, under budgets and schemas of their own."""


@cache
def sources() -> tuple[tuple[Path, ast.Module], ...]:
    """Every module of the product."""
    return tuple((path.relative_to(HOUSE), ast.parse(path.read_text("utf-8"))) for path in sorted(HOUSE.rglob("*.py")))


def imported(tree: ast.Module) -> set[str]:
    """The names of all modules that a module imports, wherever in it."""
    names = set()
    for item in ast.walk(tree):
        if isinstance(item, ast.Import):
            names |= {alias.name for alias in item.names}
        elif isinstance(item, ast.ImportFrom):
            names |= {item.module or "", *(f"{item.module}.{alias.name}" for alias in item.names)}
    return names


def called(tree: ast.Module) -> set[str]:
    """The names of all functions that are called by their bare name."""
    return {item.func.id for item in ast.walk(tree) if isinstance(item, ast.Call) and isinstance(item.func, ast.Name)}


class SourceTests(SynchronousTestCase):
    """What the product imports and calls."""

    def test_there_is_something_to_look_at(self) -> None:
        """The parsers of the wire are among what is looked at."""
        found = {str(path) for path, _ in sources()}
        self.assertLessEqual({"engine.py", "wire/codec.py", "wire/messages.py", "packing.py"}, found)

    def test_nothing_runs_text(self) -> None:
        """No module calls what runs code that it is given."""
        for path, tree in sources():
            self.assertEqual(called(tree) & RUNS_CODE, set(), str(path))

    def test_group_traffic_knows_no_perspective_broker(self) -> None:
        """Only what talks with clients knows the Perspective Broker and its jelly; nothing between nodes does."""
        for path, tree in sources():
            if path.parts[0] not in WITH_CLIENTS:
                found = {name for name in imported(tree) if name.startswith(PERSPECTIVE_BROKER)}
                self.assertEqual(found, set(), str(path))

    def test_the_test_sees_what_it_looks_for(self) -> None:
        """Imports and calls are found wherever they stand."""
        tree = ast.parse("def f():\n    from twisted.spread import jelly as j\n    return eval(j.unjelly(()))\n")
        self.assertIn("twisted.spread.jelly", imported(tree))
        self.assertEqual(called(tree) & RUNS_CODE, {"eval"})
