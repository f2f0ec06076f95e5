"""The rules that hold the house together, read from the source."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from attrs import frozen
from twisted.trial.unittest import SynchronousTestCase

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "groupcomm"

# From the bottom up: a room imports from rooms of earlier rows and from itself, and from nowhere else in the package.
ROOMS = (
    ("_version", "allowance", "errors", "labels", "limits"),
    ("identity",),
    ("quorum",),
    ("events", "config"),
    ("wire",),
    ("outputs",),
    ("status", "addresses"),
    ("trust",),
    ("packing",),
    ("batches",),
    ("interfaces",),
    ("reliability",),
    ("paths",),
    ("sealing",),
    ("ordering",),
    ("membership",),
    ("engine",),
    ("net", "discovery"),
    ("handles", "sessions"),
    ("node",),
    ("daemon",),
    ("client",),
    ("toolkit", "bulk"),
    ("dashboard", "cli"),
    ("demo",),
)
RANK = {room: rank for rank, row in enumerate(ROOMS) for room in row}
PEOPLE_LOOK_HERE = {"dashboard", "cli", "demo"}
CORE = {"quorum", "allowance", "wire", "packing", "reliability", "paths", "sealing", "ordering", "membership", "engine"}
NO_IO = {
    "asyncio",
    "concurrent",
    "datetime",
    "logging",
    "multiprocessing",
    "os",
    "secrets",
    "select",
    "selectors",
    "signal",
    "socket",
    "ssl",
    "subprocess",
    "threading",
    "time",
    "twisted",
    "uuid",
    "zeroconf",
}
UNSAFE = {"dill", "marshal", "pickle", "shelve"}


@frozen
class Import:
    """One imported module or name, dotted in full, and where it stands."""

    name: str
    place: str

    @property
    def top(self) -> str:
        return self.name.split(".")[0]


def imports_of(path: Path, tree: ast.AST) -> Iterator[Import]:
    """Every import of a module, at its top, in functions and under ``TYPE_CHECKING``."""
    package = path.relative_to(ROOT).with_suffix("").parts[:-1]
    for node in ast.walk(tree):
        place = f"{path.relative_to(ROOT)}:{getattr(node, 'lineno', 0)}"
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(alias.name, place)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else ()
            module = ".".join((*above, *([node.module] if node.module else ())))
            for alias in node.names:
                yield Import(f"{module}.{alias.name}", place)


def modules() -> Iterator[tuple[str, Path, ast.Module]]:
    """The room, path and syntax tree of every module of the package; the room of its ``__init__`` is ``""``."""
    for path in sorted(PACKAGE.rglob("*.py")):
        first = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
        yield "" if first == "__init__" else first, path, ast.parse(path.read_text(encoding="utf-8"))


def edge_allowed(room: str, imported: str) -> bool:
    """Whether a module of ``room`` may import from the room ``imported``."""
    if room == imported:
        return True
    if imported == "testing":
        return room == "cli"  # groupcomm simulate
    if room == "testing" or room == "":
        return imported not in PEOPLE_LOOK_HERE
    return RANK[imported] < RANK.get(room, 0)


class ImportTests(SynchronousTestCase):
    """Who may import whom."""

    def test_every_room_has_a_place(self) -> None:
        """Each module of the package stands in the table of rooms above, so that none escapes the rules."""
        rooms = {room for room, _, _ in modules()} - {"", "testing"}
        self.assertEqual(rooms - set(RANK), set())

    def test_imports_run_one_way(self) -> None:
        """A room imports only from rooms below its own."""
        wrong = []
        for room, path, tree in modules():
            for found in imports_of(path, tree):
                names = found.name.split(".")
                if names[0] != "groupcomm":
                    continue
                if len(names) == 1 or names[1] not in RANK.keys() | {"testing"}:
                    # A name of the package itself, which stands above nearly everything.
                    if room != "":
                        wrong.append(f"{found.place}: import {found.name} from the module that makes it")
                elif not edge_allowed(room, names[1]):
                    wrong.append(f"{found.place}: {room or 'groupcomm'} may not import {found.name}")
        self.assertEqual(wrong, [])

    def test_the_rule_sees_wrong_edges(self) -> None:
        """The rule refuses what it is there to refuse, so that the test above means something."""
        for room, imported in (
            ("wire", "engine"),
            ("wire", "packing"),
            ("errors", "identity"),
            ("net", "discovery"),
            ("daemon", "client"),
            ("node", "testing"),
            ("daemon", "testing"),
            ("testing", "cli"),
            ("", "demo"),
        ):
            self.assertFalse(edge_allowed(room, imported), (room, imported))
        for room, imported in (
            ("engine", "wire"),
            ("client", "daemon"),
            ("testing", "engine"),
            ("packing", "wire"),
            ("cli", "testing"),
        ):
            self.assertTrue(edge_allowed(room, imported), (room, imported))

    def test_imports_are_found_wherever_they_stand(self) -> None:
        """Relative imports, imports in functions and imports for type checking count like the others."""
        source = (
            "import a.b\n"
            "from .near import x\n"
            "from ..far import y\n"
            "def f():\n    from groupcomm import z\n"
            "if TYPE_CHECKING:\n    from c import d\n"
        )
        found = imports_of(PACKAGE / "wire" / "packets.py", ast.parse(source))
        self.assertEqual(
            sorted(each.name for each in found),
            ["a.b", "c.d", "groupcomm.far.y", "groupcomm.wire.near.x", "groupcomm.z"],
        )


class CoreTests(SynchronousTestCase):
    """What the core, and all of the package, keeps away from."""

    def test_the_core_does_no_io(self) -> None:
        """From wire to engine nothing imports a reactor, socket, clock, thread, log or source of entropy."""
        wrong = [
            f"{found.place}: {found.name}"
            for room, path, tree in modules()
            if room in CORE
            for found in imports_of(path, tree)
            if found.top in NO_IO
        ]
        self.assertEqual(wrong, [])

    def test_the_core_draws_no_randomness_of_its_own(self) -> None:
        """The core uses the class ``random.Random`` at most, for what it was given, never the module's functions."""
        wrong = []
        for room, path, tree in modules():
            if room not in CORE:
                continue
            wrong += [
                f"{found.place}: {found.name}"
                for found in imports_of(path, tree)
                if found.top == "random" and found.name not in ("random", "random.Random")
            ]
            wrong += [
                f"{path.relative_to(ROOT)}:{node.lineno}: random.{node.attr}"
                for node in ast.walk(tree)
                if isinstance(node, ast.Attribute)
                and isinstance(node.value, ast.Name)
                and node.value.id == "random"
                and node.attr != "Random"
                and imports_module_random(tree)
            ]
        self.assertEqual(wrong, [])

    def test_nothing_unpickles(self) -> None:
        """No module of the package can make objects of classes that a peer names."""
        wrong = [
            f"{found.place}: {found.name}"
            for _, path, tree in modules()
            for found in imports_of(path, tree)
            if found.top in UNSAFE
        ]
        self.assertEqual(wrong, [])


def imports_module_random(tree: ast.AST) -> bool:
    """Whether the name ``random`` at the top of the module is the module of that name."""
    return any(
        isinstance(node, ast.Import) and any(alias.name == "random" for alias in node.names) for node in ast.walk(tree)
    )


class TreeTests(SynchronousTestCase):
    """What may lie in the tree."""

    def test_twisted_stays_twisteds(self) -> None:
        """Neither ``twisted`` nor ``twisted/plugins`` is a package here: an ``__init__`` would hide Twisted's own."""
        self.assertEqual(sorted((ROOT / "twisted").rglob("__init__.py*")), [])

    def test_every_test_folder_is_a_package(self) -> None:
        """A folder of tests without ``__init__.py`` would be left out by trial."""
        folders = {path.parent for path in (ROOT / "tests").rglob("test_*.py")}
        self.assertEqual([str(each) for each in sorted(folders) if not (each / "__init__.py").exists()], [])

    def test_no_path_of_a_machine(self) -> None:
        """No file names a folder that exists only where somebody happened to write it."""
        homes = re.compile(r"/(?:home|Users)/[a-z]|" + re.escape(f"{ROOT}/"))
        wrong = []
        for path in project_files():
            try:
                text = path.read_text(encoding="utf-8")
            except UnicodeDecodeError:
                continue
            lines = text.splitlines()
            wrong += [f"{path.relative_to(ROOT)}:{n}" for n, line in enumerate(lines, 1) if homes.search(line)]
        self.assertEqual(wrong, [])


def project_files() -> Iterator[Path]:
    """Every file of the project, without what tools leave beside them."""
    for folder in ("groupcomm", "tests", "twisted", "doc", "news", ".ci"):
        for path in sorted((ROOT / folder).rglob("*")):
            if path.is_file() and "__pycache__" not in path.parts and path.name != "dropin.cache":
                yield path
    yield from sorted(path for path in ROOT.iterdir() if path.is_file())
