"""The oracle: holds a trace to every property the project promises.

Reads traces only, keeps its own books and knows nothing of how the product works. ``examine`` lists what it finds,
``check`` raises it. The properties are named as in ``doc/design/guarantees.md``.
"""

from __future__ import annotations

from collections.abc import Iterable

from groupcomm.identity import NodeId
from groupcomm.testing.check_delivery import check_delivery
from groupcomm.testing.check_liveness import check_liveness
from groupcomm.testing.check_order import check_order
from groupcomm.testing.check_safe import check_safe
from groupcomm.testing.check_views import check_views
from groupcomm.testing.history import History, Report, Violation
from groupcomm.testing.trace import Trace

SHOWN_VIOLATIONS = 5
SHOWN_EVENTS = 50

__all__ = ["PropertyViolated", "Report", "Violation", "check", "examine"]


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
        """The first property that was found broken."""
        return self.report.violations[0].property


def examine(trace: Trace, *, settled: Iterable[NodeId] | None = None) -> Report:
    """Check every property.

    Args:
        trace: of the whole run.
        settled: the nodes that were connected, live and left in peace at the end, long enough for everything to come to
            rest: then what should have happened has, and L1 to L3 are checked too. None: nothing is said of the end.
    """
    report = Report()
    history = History.of(trace, report)
    check_views(history)
    check_delivery(history)
    check_order(history)
    check_safe(history, settled=settled is not None)
    if settled is not None:
        check_liveness(history, frozenset(settled))
    return report


def check(trace: Trace, *, settled: Iterable[NodeId] | None = None) -> Report:
    """As ``examine``.

    Raises:
        PropertyViolated: something is broken.
    """
    report = examine(trace, settled=settled)
    if report.violations:
        raise PropertyViolated(report, trace)
    return report
