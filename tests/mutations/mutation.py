"""What a mutation is, and the product's source with one in it."""

from __future__ import annotations

from pathlib import Path

from attrs import frozen

ROOT = Path(__file__).resolve().parent.parent.parent
PACKAGE = ROOT / "groupcomm"


class CatalogueOutOfDate(Exception):
    """The text that a mutation changes does not stand exactly once in the product's source."""


@frozen
class Mutation:
    """One bug, as a patch to one file of the product.

    Attributes:
        name: unique.
        bug: one sentence: which bug it is.
        file: below ``groupcomm/``.
        edits: pairs of the text as it is, which stands exactly once, and the text with the bug.
        expected: the properties that it should break.
    """

    name: str
    bug: str
    file: str
    edits: tuple[tuple[str, str], ...]
    expected: tuple[str, ...]

    @property
    def module(self) -> str:
        """The dotted name of the module that is changed."""
        return ".".join(("groupcomm", *Path(self.file).with_suffix("").parts))

    @property
    def path(self) -> Path:
        """Its source."""
        return PACKAGE / self.file

    def apply(self, source: str) -> str:
        """The source with the bug in it.

        Raises:
            CatalogueOutOfDate: one of the texts is not there, or more than once.
        """
        for old, new in self.edits:
            found = source.count(old)
            if found != 1:
                raise CatalogueOutOfDate(
                    f"{self.name}: stands {found} times in groupcomm/{self.file}, not once; "
                    f"bring the catalogue up to date:\n{old}"
                )
            source = source.replace(old, new)
        return source
