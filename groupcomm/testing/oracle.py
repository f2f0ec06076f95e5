"""The oracle: holds a trace to every property the project promises.

Reads traces only, keeps its own books and knows nothing of how the product works. ``examine`` lists what it finds,
``check`` raises it. The properties are named as in ``doc/design/guarantees.md``.
"""

from __future__ import annotations

import gc
from collections.abc import Iterable

from groupcomm.identity import NodeId
from groupcomm.testing.check_delivery import check_delivery
from groupcomm.testing.check_liveness import check_liveness
from groupcomm.testing.check_order import check_order
from groupcomm.testing.check_primary import check_primary
from groupcomm.testing.check_rest import EndOfRun, check_rest
from groupcomm.testing.check_safe import check_safe
from groupcomm.testing.check_views import check_views
from groupcomm.testing.history import History
from groupcomm.testing.report import Report, Violation
from groupcomm.testing.trace import Trace

EXPECTED_PREMISES = (
    "A1", "A2", "D1", "D2", "D3", "D4", "D5", "D5 group", "D6a", "D6b", "D6b apart", "D8", "G1", "G2", "G3", "G4",
    "G5", "L1", "L2", "L3", "L4", "L6", "L7", "L8", "M1", "M2", "M3", "M4", "M5", "M5 group", "M6", "M6 dead",
    "M6 left", "O1", "O1 node", "O2", "O3", "O4", "O5", "O6", "O6 after signal", "O7", "O7 after signal", "O8",
    "S1", "S1 held", "S2", "S3", "S4", "SIGNAL", "UNRELIABLE", "VIEW", "X1", "X3", "X4", "X5", "X6",
)  # fmt: skip
"""A campaign in which one of these never had anything to check has proved nothing about it."""

SHOWN_VIOLATIONS = 5
SHOWN_EVENTS = 50

__all__ = ["EXPECTED_PREMISES", "EndOfRun", "PropertyViolated", "Report", "Violation", "check", "examine"]


class PropertyViolated(AssertionError):
    """A trace breaks a property; the text names it, the messages, and the last events of every process."""

    def __init__(self, report: Report, trace: Trace) -> None:
        self.report = report
        shown = "\n".join(f"{one.property}: {one.text}" for one in report.violations[:SHOWN_VIOLATIONS])
        more = len(report.violations) - SHOWN_VIOLATIONS
        tail = f"\n... and {more} more" if more > 0 else ""
        super().__init__(f"{shown}{tail}\nthe last events:\n{trace.last_events(SHOWN_EVENTS)}")

    @property
    def property(self) -> str:
        """The property that the earliest event shows to be broken."""
        return self.report.violations[0].property


def examine(trace: Trace, *, settled: Iterable[NodeId] | None = None, end: EndOfRun | None = None) -> Report:
    """Check every property.

    Args:
        trace: of the whole run.
        settled: the nodes that were connected, live and left in peace at the end, long enough for everything to come to
            rest: then what should have happened has, and L1 to L4 are checked too. None: nothing is said of the end.
        end: what the harness knows of the end besides: then L6 to L8 and X6 are checked, and what it saw is reported.
    """
    collecting = gc.isenabled()
    gc.disable()  # the records live until the end, and looking through them for garbage again and again is a quarter
    try:
        return _examine(trace, None if settled is None else frozenset(settled), end)
    finally:
        if collecting:
            gc.enable()


def _examine(trace: Trace, settled: frozenset[NodeId] | None, end: EndOfRun | None) -> Report:
    report = Report()
    history = History.of(trace, report)
    check_views(history)
    check_primary(history)
    check_delivery(history)
    check_order(history)
    check_safe(history, settled=settled or frozenset())
    if settled is not None:
        check_liveness(history, settled)
    if end is not None:
        check_rest(history, end)
    report.sort()
    return report


def check(trace: Trace, *, settled: Iterable[NodeId] | None = None, end: EndOfRun | None = None) -> Report:
    """As ``examine``.

    Raises:
        PropertyViolated: something is broken.
    """
    report = examine(trace, settled=settled, end=end)
    if report.violations:
        raise PropertyViolated(report, trace)
    return report
