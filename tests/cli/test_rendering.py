"""Events as JSON and as text."""

from __future__ import annotations

import json

from twisted.trial.unittest import SynchronousTestCase

from groupcomm.cli.rendering import event_as_json, event_as_text, printable
from groupcomm.events import Departure, Left, Level, Message, Reason, TransitionalSignal, Undeliverable, View
from groupcomm.identity import GroupViewId, MemberId, NodeId, ViewId

NODE = NodeId("alpha", 0xABC)
ANNE, BEN, CARL = (MemberId(name, NODE, number) for number, name in enumerate(("anne", "ben", "carl"), 1))
VIEW_ID = GroupViewId(ViewId(7, NODE), 3)
VIEW = View("tea", VIEW_ID, (ANNE, BEN), (BEN,), (Departure(CARL, Reason.NODE_FAILURE),), (ANNE,), True)


def message(data: bytes, groups: tuple[str, ...] = ("tea",)) -> Message:
    return Message(groups, ANNE, Level.SAFE, data, VIEW_ID if groups else None)


class JsonTests(SynchronousTestCase):
    """What ``listen --json`` prints."""

    def test_message(self) -> None:
        """A message of text carries it as it is."""
        self.assertEqual(
            json.loads(event_as_json(message("grün\n".encode()))),
            {
                "event": "message",
                "group": "tea",
                "sender": "anne@alpha",
                "level": "SAFE",
                "data": "grün\n",
                "encoding": "utf-8",
                "view": "7-alpha-abc/3",
            },
        )

    def test_binary_message(self) -> None:
        """A message that is no UTF-8 carries base64."""
        shown = json.loads(event_as_json(message(b"\xff\x00")))
        self.assertEqual((shown["data"], shown["encoding"]), ("/wA=", "base64"))

    def test_message_to_several_groups(self) -> None:
        """One to several groups names the first, and all."""
        shown = json.loads(event_as_json(message(b"", ("tea", "milk"))))
        self.assertEqual((shown["group"], shown["groups"]), ("tea", ["tea", "milk"]))

    def test_private_message(self) -> None:
        """A private message belongs to no group."""
        shown = json.loads(event_as_json(message(b"", ())))
        self.assertEqual((shown["group"], shown["view"]), (None, None))

    def test_view(self) -> None:
        """A view tells all there is to tell."""
        self.assertEqual(
            json.loads(event_as_json(VIEW)),
            {
                "event": "view",
                "group": "tea",
                "id": "7-alpha-abc/3",
                "members": ["anne@alpha", "ben@alpha"],
                "joined": ["ben@alpha"],
                "left": [{"member": "carl@alpha", "reason": "node failure"}],
                "transitional": ["anne@alpha"],
                "primary": True,
            },
        )

    def test_others(self) -> None:
        """The other events."""
        self.assertEqual(
            json.loads(event_as_json(TransitionalSignal("tea"))), {"event": "transitional", "group": "tea"}
        )
        self.assertEqual(
            json.loads(event_as_json(Left("tea", Reason.TOO_SLOW))),
            {"event": "left", "group": "tea", "reason": "too slow"},
        )
        self.assertEqual(
            json.loads(event_as_json(Undeliverable("x@y"))), {"event": "undeliverable", "recipient": "x@y"}
        )

    def test_one_line_each(self) -> None:
        """Whatever a message holds, its event is one line."""
        shown = event_as_json(message("a\nb\r\u2028c\x85".encode()))
        self.assertEqual(shown.splitlines(), [shown])
        self.assertEqual(json.loads(shown)["data"], "a\nb\r\u2028c\x85")


class TextTests(SynchronousTestCase):
    """What ``listen`` prints for people."""

    def test_lines(self) -> None:
        """One line for each event."""
        self.assertEqual(event_as_text(message(b"hello")), "tea | anne@alpha: hello")
        self.assertEqual(event_as_text(message(b"psst", ())), "(private) | anne@alpha: psst")
        self.assertEqual(
            event_as_text(VIEW),
            "tea | -- view 7-alpha-abc/3: anne@alpha, ben@alpha; joined: ben@alpha; left: carl@alpha (node failure)",
        )
        self.assertEqual(event_as_text(TransitionalSignal("tea")), "tea | -- the view is changing")
        self.assertEqual(event_as_text(Left("tea", Reason.LEAVE)), "tea | -- out of the group: leave")
        self.assertEqual(event_as_text(Undeliverable("x@y")), "(private) | -- no such member any more: x@y")

    def test_nothing_controls_the_terminal(self) -> None:
        """Escape sequences, line ends, direction marks and bytes that are no text are shown, not obeyed."""
        self.assertEqual(printable(b"a\x1b[2Jb\r\n\x07\xff"), r"a\x1b[2Jb\r\n\x07\xff")
        self.assertEqual(printable("a\u202eb".encode()), r"a\u202eb")
        self.assertEqual(printable("tab\tgrün 茶".encode()), "tab\tgrün 茶")
