"""Whole clusters in one process on virtual time: for this project's tests and for those of its users.

Import from here what programs are tested with (``doc/howto/simulate.md`` shows how):

- ``Cluster``: nodes (``SimulatedNode``) that run the product's own engine over a network in memory, with clients
  (``SimulatedClient``) that join, send and hear; crashes, pauses, partitions; the same seed gives the same run.
- ``Conditions``: what the network does to packets. ``TimeLimitReached``: what was waited for did not come.
- ``check``: holds the trace of a run to every property the project promises, and raises ``PropertyViolated``;
  ``examine`` gives the ``Report`` instead, with each ``Violation``.
- ``picture`` and ``draw``: the trace as text for a terminal, and as SVG.

Whoever wants more finds random runs in ``groupcomm.testing.script`` (``draw_scenario``) and
``groupcomm.testing.scenario`` (``Run``), made small in ``groupcomm.testing.shrinking`` (``shrink``), by the thousand in
``groupcomm.testing.campaign``, and the kinds of events of a trace in ``groupcomm.testing.trace``.
"""

from groupcomm.testing.cluster import Cluster, TimeLimitReached
from groupcomm.testing.drawing import draw
from groupcomm.testing.network import Conditions
from groupcomm.testing.node import Sending, SimulatedClient, SimulatedNode
from groupcomm.testing.oracle import PropertyViolated, Report, Violation, check, examine
from groupcomm.testing.pictures import picture
from groupcomm.testing.trace import Trace

__all__ = [
    "Cluster",
    "Conditions",
    "PropertyViolated",
    "Report",
    "Sending",
    "SimulatedClient",
    "SimulatedNode",
    "TimeLimitReached",
    "Trace",
    "Violation",
    "check",
    "draw",
    "examine",
    "picture",
]
