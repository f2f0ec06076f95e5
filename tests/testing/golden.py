"""Golden traces: for every property at least one story in which it holds and two in which it is what breaks first."""

from __future__ import annotations

from collections.abc import Callable

from attrs import frozen

from tests.testing.story import Story

Tell = Callable[[Story], None]


@frozen
class Golden:
    """One story.

    Attributes:
        properties: those it is about.
        first: the property that it breaks first; None in a good one.
        names: the nodes it begins with.
        joined: whether their clients are in the group from the beginning.
    """

    name: str
    properties: tuple[str, ...]
    first: str | None
    names: str
    joined: bool
    tell: Tell

    def told(self) -> Story:
        """The story, told."""
        story = Story(self.names, joined=self.joined)
        self.tell(story)
        return story


GOLDEN: list[Golden] = []


def good(*properties: str, names: str = "abc", joined: bool = True) -> Callable[[Tell], Tell]:
    """A story in which these properties have something to say and nothing is broken."""

    def register(tell: Tell) -> Tell:
        GOLDEN.append(Golden(tell.__name__, properties, None, names, joined, tell))
        return tell

    return register


def bad(name: str, *, first: str | None = None, names: str = "abc", joined: bool = True) -> Callable[[Tell], Tell]:
    """A story in which this property is broken, and is what shows first (or ``first``, by which it is known)."""

    def register(tell: Tell) -> Tell:
        GOLDEN.append(Golden(tell.__name__, (name,), first or name, names, joined, tell))
        return tell

    return register
