"""The comparison of a member's log with its daemon's trace finds what it is there to find."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from groupcomm.events import Level, Reason, View
from groupcomm.identity import GroupViewId, MemberId, NodeId, ViewId
from groupcomm.testing import trace as traces
from groupcomm.testing.trace import Trace, TraceEvent
from tests.lab.checks import Json, by_session, difference, session_of

NODE = NodeId("n1", 5)
A = MemberId("a", NODE, 1)
FIRST = GroupViewId(ViewId(1, NODE), 1)
VIEW = View("lab", FIRST, (A,), (A,), (), (A,), True)


def got(number: int) -> TraceEvent:
    return traces.Delivered(1.0, A, f"a {number}", "d", A, Level.AGREED, ("lab",), FIRST)


def gave(number: int) -> TraceEvent:
    return traces.Sent(1.0, A, f"a {number}", "d", Level.AGREED, ("lab",))


EVENTS: list[TraceEvent] = [
    traces.Opened(0.0, A),
    traces.ViewSeen(0.5, A, VIEW),
    gave(1),
    gave(2),
    got(1),
    got(2),
    traces.SignalSeen(1.5, A, "lab"),
    traces.LeftSeen(2.0, A, "lab", Reason.LEAVE),
]


def message(number: int | None) -> Json:
    identity = None if number is None else ["a", number]
    return {"e": "m", "id": identity, "from": "a@n1", "g": ["lab"], "l": "AGREED", "v": str(FIRST)}


def sent(number: int) -> Json:
    return {"e": "send", "by": "a", "n": number, "g": ["lab"], "l": "AGREED"}


ENTRIES: list[Json] = [
    {"e": "connected"},
    {"e": "view", "group": "lab", "id": str(FIRST), "members": ["a@n1"], "transitional": ["a@n1"]},
    sent(1),
    sent(2),
    message(1),
    message(2),
    {"e": "signal", "group": "lab"},
    {"e": "left", "group": "lab", "reason": "leave"},
]


class DifferenceTests(SynchronousTestCase):
    """A member's log beside the trace of its session."""

    def test_the_same(self) -> None:
        """Nothing is said of a member that heard everything."""
        self.assertIsNone(difference(ENTRIES, EVENTS))

    def test_lost_added_changed(self) -> None:
        """An event that a member lacks, has twice, has elsewhere or has damaged is found."""
        for place in (1, 4, 5, 6, 7):
            self.assertIsNotNone(difference(ENTRIES[:place] + ENTRIES[place + 1 :], EVENTS), place)
            self.assertIsNotNone(difference(ENTRIES[:place] + ENTRIES[place : place + 1] + ENTRIES[place:], EVENTS))
        swapped = [*ENTRIES[:4], ENTRIES[5], ENTRIES[4], *ENTRIES[6:]]
        self.assertIn("number 1", str(difference(swapped, EVENTS)))
        damaged = [*ENTRIES[:4], message(None), *ENTRIES[5:]]
        self.assertIn("damaged", str(difference(damaged, EVENTS)))

    def test_sends(self) -> None:
        """A send that the daemon never took, or took in another order, is found."""
        self.assertIsNotNone(difference([*ENTRIES, sent(3)], EVENTS))
        swapped = [*ENTRIES[:2], ENTRIES[3], ENTRIES[2], *ENTRIES[4:]]
        self.assertIsNotNone(difference(swapped, EVENTS))

    def test_session_that_is_over(self) -> None:
        """Whoever lost its daemon lacks the end, and only the end."""
        over: list[TraceEvent] = [*EVENTS[:-1], traces.Closed(3.0, A)]
        left: Json = {"e": "left", "group": "lab", "reason": "disconnect"}
        self.assertIsNone(difference([*ENTRIES[:5], left], over))
        self.assertIsNone(difference([*ENTRIES[:5], sent(3), left], over))
        self.assertIsNotNone(difference([*ENTRIES[:4], ENTRIES[5], left], over))

    def test_whose_session(self) -> None:
        """A session is found by its client's name and node; the last of that name counts."""
        later, elsewhere = MemberId("a", NODE, 2), MemberId("a", NodeId("n2", 1), 1)
        sessions = by_session(Trace([traces.Opened(0.0, each) for each in (A, later, elsewhere)]))
        self.assertEqual(session_of(sessions, NODE, "a"), later)
        self.assertIsNone(session_of(sessions, NODE, "b"))
