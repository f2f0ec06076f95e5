"""What the oracle has to say: broken properties in the order in which the run shows them, and what was looked at.

Decides that order: by the event that shows the violation; of several that one event shows, the more specific property
is named before the more general one that follows from it.
"""

from __future__ import annotations

from attrs import define, field, frozen

AT_THE_END = 1 << 60
"""An index after every event."""

PRECEDENCE = (
    # Engine invariants, seen before the event that shows what comes of them.
    "X1", "X3", "X4", "X5", "X6", "X9",
    # One event by itself.
    "A1", "A2", "D1", "G1", "M3", "D2", "G4", "G2", "D3",
    # Views.
    "M1", "M2", "M4", "M5", "M6", "D6", "VIEW", "SIGNAL",
    # Order.
    "D4", "O1", "O2", "O3", "O4", "O8", "O7", "O5",
    # Who has what when a view ends.
    "S4", "G5", "S1", "S3", "S2", "D8", "D5", "O6",
    # The end of the run.
    "L1", "L3", "L4", "L2", "L8", "L6", "L7",
)  # fmt: skip
"""From specific to general: for example a message at somebody whom it was not addressed to is G1 before it is a
difference of sets (D5), and a skipped message of one sender is O2 before it is a wrong place in the order (O7)."""

_RANK = {name: rank for rank, name in enumerate(PRECEDENCE)}


@frozen
class Violation:
    """One property that does not hold.

    Attributes:
        property: its code.
        text: what is wrong, for people.
        messages: the messages that show it.
        at_index: the place in the trace of the earliest event that shows it; ``AT_THE_END`` if only the end does.
    """

    property: str
    text: str
    messages: tuple[str, ...] = ()
    at_index: int = AT_THE_END


@define(eq=False)
class Report:
    """What the oracle found.

    Attributes:
        violations: the earliest first once ``sort`` was called.
        premises: for each property how often there was something to check: a property never checked proves nothing.
    """

    violations: list[Violation] = field(factory=list)
    premises: dict[str, int] = field(factory=dict)

    def violate(self, name: str, at_index: int, text: str, *messages: str) -> None:
        """A property does not hold, as the event at ``at_index`` shows."""
        self.violations.append(Violation(name, text, messages, at_index))

    def premise(self, name: str, times: int = 1) -> None:
        """There was something to check."""
        self.premises[name] = self.premises.get(name, 0) + times

    def sort(self) -> None:
        """Put the violations in the order of the events that show them, and at one event in that of ``PRECEDENCE``."""
        self.violations.sort(key=lambda one: (one.at_index, _RANK[one.property]))
