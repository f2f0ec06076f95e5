"""Events on their way to a client and back."""

from __future__ import annotations

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from groupcomm.daemon.encoder import EventEncoder
from groupcomm.daemon.schema import recipient
from groupcomm.daemon.vocabulary import (
    REMEMBERED_MEMBERS,
    EventReader,
    UnknownForm,
    checked_level,
    group_view_from_text,
    member_from_text,
    member_text,
    plain_event,
)
from groupcomm.errors import UsageError
from groupcomm.events import Departure, Event, Left, Level, Message, Reason, TransitionalSignal, Undeliverable, View
from groupcomm.identity import GroupViewId, MemberId, NodeId, ViewId

NAMES = st.text(st.characters(categories=("L", "N", "P", "S")), min_size=1, max_size=20)
NODES = st.builds(NodeId, st.from_regex(r"[a-z][a-z0-9.\-]{0,20}", fullmatch=True), st.integers(0, 2**64 - 1))
MEMBERS = st.builds(MemberId, NAMES, NODES, st.integers(1, 2**32))
VIEWS = st.builds(GroupViewId, st.builds(ViewId, st.integers(0, 2**64 - 1), NODES), st.integers(0, 2**64 - 1))
MEMBER_SETS = st.lists(MEMBERS, max_size=4).map(tuple)
EVENTS: st.SearchStrategy[Event] = st.one_of(
    st.builds(
        Message, st.lists(NAMES, max_size=3).map(tuple), MEMBERS, st.sampled_from(Level), st.binary(), st.none() | VIEWS
    ),
    st.builds(
        View,
        NAMES,
        VIEWS,
        MEMBER_SETS,
        MEMBER_SETS,
        st.lists(st.builds(Departure, MEMBERS, st.sampled_from(Reason)), max_size=3).map(tuple),
        MEMBER_SETS,
        st.booleans(),
    ),
    st.builds(TransitionalSignal, NAMES),
    st.builds(Undeliverable, NAMES),
    st.builds(Left, NAMES, st.sampled_from(Reason)),
)


class RoundTripTests(SynchronousTestCase):
    """What the daemon says is what the library reads."""

    @settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(EVENTS)
    def test_every_event(self, event: Event) -> None:
        """Any event comes back as it was."""
        self.assertEqual(EventReader().read(plain_event(event)), [event])

    @settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(MEMBERS)
    def test_member(self, member: MemberId) -> None:
        """Any member comes back from its text, and its text is a recipient."""
        self.assertEqual(member_from_text(member_text(member)), member)
        self.assertEqual(recipient(member_text(member)), str(member))

    def test_identities_are_shared_and_bounded(self) -> None:
        """A member met again is the same object; how many are kept is bounded."""
        reader = EventReader()
        for number in range(REMEMBERED_MEMBERS + 10):
            member = MemberId("a", NodeId("n", 1), number)
            message = plain_event(Message(("g",), member, Level.FIFO, b"", None))
            first, second = reader.read(message), reader.read(message)
            assert isinstance(first[0], Message) and isinstance(second[0], Message)
            self.assertIs(first[0].sender, second[0].sender)
        self.assertLessEqual(len(reader._members), REMEMBERED_MEMBERS)

    def test_a_view_is_encoded_once(self) -> None:
        """One view for many clients is the same bytes for all of them."""
        view = View("g", group_view_from_text("1-n-1/1"), (), (), (), (), True)
        encoder = EventEncoder()
        first, second = (next(iter(encoder.encode([view]))) for _ in range(2))
        self.assertIs(first, second)


class UnknownFormTests(SynchronousTestCase):
    """What is no event."""

    def test_unknown_kinds_and_more_values(self) -> None:
        """Unknown kinds, and values at the end that are not known, are ignored."""
        self.assertEqual(EventReader().read(("news", 1, 2)), [])
        self.assertEqual(EventReader().read(("transitional", "g", "more")), [TransitionalSignal("g")])

    def test_wrong_forms(self) -> None:
        """A known kind of another form is an ``UnknownForm``, whatever it is."""
        events: list[object] = [
            (),
            [],
            None,
            "view",
            ("view",),
            ("view", "g"),
            ("left", "g"),
            ("left", "g", "no such reason"),
            ("part", "text"),
            ("messages", [], "a@n", "agreed", [b"x"], None),
            ("messages", [], "a@n#1.1", "loud", [b"x"], None),
            ("messages", [], "a@n#1.1", "agreed", ["x"], None),
            ("messages", [], "a@n#1.1", "agreed", [b"x"], "nonsense"),
            ("messages", [], "a@n#x.1", "agreed", [b"x"], None),
            ("view", "g", "1-n-1/1", "nobody", "", [], "", True),
            ("view", "g", "1-n-1/1", "", "", [1], "", True),
            ("view", "g", "1-n-1/1", "", "", [("a@n#1.1",)], "", True),
        ]
        for event in events:
            with self.subTest(event=event):
                self.assertRaises(UnknownForm, EventReader().read, event)

    def test_levels(self) -> None:
        """A level is a name or a number, and nothing else."""
        self.assertEqual([checked_level(number) for number in range(6)], list(Level))
        self.assertEqual(checked_level("safe"), Level.SAFE)
        others: list[object] = [-1, 6, "SAFE", "", None, True, 1.0, [], {}]
        for level in others:
            self.assertRaises(UsageError, checked_level, level)
