"""Events as people read them, and as one JSON object a line.

Decides the shapes that ``groupcomm listen`` prints. Text from the network is shown with its control characters
escaped, so that no message can drive the reader's terminal.
"""

from __future__ import annotations

import base64
import json
import re
from typing import TypeAlias

from groupcomm.events import Event, Left, Message, TransitionalSignal, Undeliverable, View

Json: TypeAlias = "dict[str, Json] | list[Json] | str | int | float | bool | None"

_NOT_IN_A_LINE = re.compile("[\x7f-\x9f\u2028\u2029]")


def event_as_json(event: Event) -> str:
    """One event as one line of JSON: other line ends than ours, and what controls terminals, are escaped in it."""
    line = json.dumps(event_as_object(event), ensure_ascii=False, separators=(",", ":"))
    return _NOT_IN_A_LINE.sub(lambda found: f"\\u{ord(found[0]):04x}", line)


def event_as_object(event: Event) -> dict[str, Json]:
    """One event as an object JSON can hold; the keys are those of ``doc/howto/command.md``."""
    if isinstance(event, Message):
        return _message_as_object(event)
    if isinstance(event, View):
        return {
            "event": "view",
            "group": event.group,
            "id": str(event.id),
            "members": [str(member) for member in event.members],
            "joined": [str(member) for member in event.joined],
            "left": [{"member": str(gone.member), "reason": gone.reason.label} for gone in event.left],
            "transitional": [str(member) for member in event.transitional],
            "primary": event.primary,
        }
    if isinstance(event, TransitionalSignal):
        return {"event": "transitional", "group": event.group}
    if isinstance(event, Undeliverable):
        return {"event": "undeliverable", "recipient": event.recipient}
    return {"event": "left", "group": event.group, "reason": event.reason.label}


def _message_as_object(message: Message) -> dict[str, Json]:
    text, encoding = encoded(message.data)
    shown: dict[str, Json] = {
        "event": "message",
        "group": message.groups[0] if message.groups else None,
        "sender": str(message.sender),
        "level": message.level.name,
        "data": text,
        "encoding": encoding,
        "view": str(message.view) if message.view is not None else None,
    }
    if len(message.groups) > 1:
        shown["groups"] = list(message.groups)
    return shown


def encoded(data: bytes) -> tuple[str, str]:
    """The bytes as text, and how: ``utf-8`` where they are that, else ``base64``."""
    try:
        return data.decode("utf-8"), "utf-8"
    except UnicodeDecodeError:
        return base64.b64encode(data).decode("ascii"), "base64"


def event_as_text(event: Event) -> str:
    """One event as one line for people."""
    if isinstance(event, Message):
        where = ", ".join(event.groups) if event.groups else "(private)"
        return f"{where} | {event.sender}: {printable(event.data)}"
    if isinstance(event, View):
        return _view_as_text(event)
    if isinstance(event, TransitionalSignal):
        return f"{event.group} | -- the view is changing"
    if isinstance(event, Undeliverable):
        return f"(private) | -- no such member any more: {event.recipient}"
    assert isinstance(event, Left)
    return f"{event.group} | -- out of the group: {event.reason.label}"


def _view_as_text(view: View) -> str:
    parts = [f"{view.group} | -- view {view.id}: " + ", ".join(str(member) for member in view.members)]
    if view.joined:
        parts.append("joined: " + ", ".join(str(member) for member in view.joined))
    if view.left:
        parts.append("left: " + ", ".join(f"{gone.member} ({gone.reason.label})" for gone in view.left))
    if not view.primary:
        parts.append("not primary")
    return "; ".join(parts)


def printable(data: bytes) -> str:
    """The bytes as one line of text in which nothing controls a terminal."""
    text = data.decode("utf-8", "backslashreplace")
    return "".join(
        character
        if character.isprintable() or character == "\t"
        else character.encode("unicode_escape").decode("ascii")
        for character in text
    )
