"""What the documents show must be there."""

from __future__ import annotations

import ast
import importlib
import re
from collections.abc import Iterator
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

ROOT = Path(__file__).resolve().parent.parent
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
PYTHON_BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)


def documents() -> list[Path]:
    """The Markdown pages that people read."""
    return [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "doc").rglob("*.md"))]


def anchors(page: Path) -> Iterator[str]:
    """The names under which the headings of a page can be linked to."""
    for line in page.read_text(encoding="utf-8").splitlines():
        if line.startswith("#"):
            words = re.sub(r"[^\w\- ]", "", line.lstrip("#").strip().lower())
            yield words.replace(" ", "-")


class LinkTests(SynchronousTestCase):
    """Links between pages."""

    def test_every_link_leads_somewhere(self) -> None:
        """A link to a file of the project finds it, and a link to a heading finds that."""
        dead = []
        for page in documents():
            for target in LINK.findall(page.read_text(encoding="utf-8")):
                if "://" in target:
                    continue
                name, _, heading = target.partition("#")
                file = (page.parent / name).resolve() if name else page
                if not file.exists() or (heading and heading not in anchors(file)):
                    dead.append(f"{page.relative_to(ROOT)}: {target}")
        self.assertEqual(dead, [])


class ExampleTests(SynchronousTestCase):
    """Python in the documents."""

    def test_every_name_that_an_example_imports_exists(self) -> None:
        """Each Python example is valid, and what it imports from this package can be imported."""
        for page in documents():
            for code in PYTHON_BLOCK.findall(page.read_text(encoding="utf-8")):
                for node in ast.walk(ast.parse(code, str(page))):
                    if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "groupcomm":
                        module = importlib.import_module(str(node.module))
                        missing = [each.name for each in node.names if not hasattr(module, each.name)]
                        self.assertEqual(missing, [], f"{page.relative_to(ROOT)} imports from {node.module}")
