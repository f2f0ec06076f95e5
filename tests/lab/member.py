"""A client for the lab: joins groups, sends a numbered workload, writes every event as one line of JSON.

    python -m tests.lab.member SETTINGS

SETTINGS is a JSON object: ``control`` (where the daemon is, as ``connect`` takes it), ``name``, ``groups``, ``quiet``
(only count messages). Commands come as JSON objects, one a line, on standard input; see ``Program``. What it writes:

    {"e": "joined", "group", "at"}             the join is complete
    {"e": "send", "by", "n", "g", "l", "at"}   message n (numbered from 1 in this process) is given to the library
    {"e": "m", "id": [sender, n], "g", "l", "v", "at"}    a message is delivered
    {"e": "view" | "signal" | "left", ...}     the other events
    {"e": "count", "n"}                        quiet: so many messages have been delivered
    {"e": "sent", "number", "messages", "bytes", "at"}    a workload is stable everywhere

Times are monotonic seconds, which all processes of one machine share. It ends with 0 at the end of its input.
"""

from __future__ import annotations

import json
import random
import sys
import time
import zlib
from collections.abc import Callable, Coroutine
from typing import Any, Final

from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import deferLater
from zope.interface import implementer

from groupcomm.cli.lines import LineSplitter, PieceReader
from groupcomm.cli.running import IReactor, Run, write_line
from groupcomm.cli.send import SendWindow
from groupcomm.client import Connection, connect
from groupcomm.errors import GroupcommError, Refused, UsageError
from groupcomm.events import Event, Left, Level, Message, Outside, TransitionalSignal, View
from groupcomm.interfaces import IGroup, IGroupEvents

Json = dict[str, Any]

RETRY_SECONDS: Final = 0.02
JOINS_AT_ONCE: Final = 500


def payload(sender: str, number: int, size: int) -> bytes:
    """A message that says who sent it and which one it is (its label), and whose last bytes prove that it is whole."""
    head = f"{sender} {number}|".encode()
    body = head + bytes(range(256)) * ((size // 256) + 1)
    body = body[: max(size - 4, len(head))]
    return body + zlib.crc32(body).to_bytes(4, "big")


def identified(data: bytes) -> tuple[str, int] | None:
    """Sender and number of a payload; None if it is not whole."""
    head, bar, _ = data.partition(b"|")
    if not bar or zlib.crc32(data[:-4]) != int.from_bytes(data[-4:], "big"):
        return None
    sender, _, number = head.decode().rpartition(" ")
    return sender, int(number)


def write(entry: Json) -> None:
    """One line of the log."""
    write_line(json.dumps(entry, separators=(",", ":")))


@implementer(IGroupEvents)
class Recorder:
    """Writes every event as it comes; when quiet, of the messages only how many there were, every thousand."""

    def __init__(self, quiet: bool) -> None:
        self._quiet = quiet
        self._count = 0

    def event_received(self, event: Event) -> None:
        """One event."""
        at = time.monotonic()
        if isinstance(event, Message) and self._quiet:
            self._count += 1
            if self._count % 1000 == 0:
                write({"e": "count", "n": self._count, "at": at})
        elif isinstance(event, Message):
            write(
                {
                    "e": "m",
                    "id": identified(event.data),
                    "from": str(event.sender),
                    "g": list(event.groups),
                    "l": event.level.name,
                    "v": str(event.view),
                    "at": at,
                }
            )
        elif isinstance(event, View):
            write(
                {
                    "e": "view",
                    "group": event.group,
                    "id": str(event.id),
                    "members": [str(member) for member in event.members],
                    "joined": [str(member) for member in event.joined],
                    "left": [[str(gone.member), gone.reason.label] for gone in event.left],
                    "transitional": [str(member) for member in event.transitional],
                    "primary": event.primary,
                    "at": at,
                }
            )
        elif isinstance(event, TransitionalSignal):
            write({"e": "signal", "group": event.group, "at": at})
        elif isinstance(event, Left):
            write({"e": "left", "group": event.group, "reason": event.reason.label, "at": at})


@implementer(IGroupEvents)
class MessageCounter:
    """Keeps the messages of one member of a crowd; ``complete`` fires with the last that is expected."""

    def __init__(self, expected: int) -> None:
        self.received: list[bytes] = []
        self.complete: Deferred[None] = Deferred()
        self._expected = expected

    def event_received(self, event: Event) -> None:
        """One event."""
        if isinstance(event, Message):
            self.received.append(event.data)
            if len(self.received) == self._expected:
                self.complete.callback(None)


class Program:
    """One client: what its commands do.

    Commands (key ``do``): ``send`` (``number``, ``seed``, ``messages`` or ``seconds``, ``sizes``, ``levels``,
    ``groups``, ``rate`` a second or 0), ``stop`` (end a workload), ``status``, ``join`` (``group``, ``count``,
    ``outside``), ``say`` (``group``), ``crowd`` (``groups``, ``count``), ``leave``, ``quit``.
    """

    def __init__(self, reactor: IReactor, settings: Json) -> None:
        self.reactor = reactor
        self.settings = settings
        self.sent = 0
        self.stopping = False
        self.groups: dict[str, IGroup] = {}
        self.recorder = Recorder(settings.get("quiet", False))
        self.connection: Connection

    async def run(self) -> None:
        """Connect (as soon as there is a daemon), join, obey."""
        self.connection = await self._connected(self.settings["name"])
        write({"e": "connected", "at": time.monotonic()})
        for group in self.settings["groups"]:
            await self.join({"group": group})
        reader, splitter = PieceReader(self.reactor), LineSplitter(1 << 20)
        while piece := await reader.next_piece():
            for line in splitter.feed(piece):
                command = json.loads(line)
                if command["do"] == "quit":
                    await self.connection.close()
                    return
                work: Callable[[Json], Coroutine[Deferred[Any], Any, None]] = getattr(self, command["do"])
                Deferred.fromCoroutine(self._reported(work, command))

    async def _connected(self, name: str) -> Connection:
        endpoint = self.settings["control"]
        while True:
            try:
                return await connect(self.reactor, endpoint, name=name)
            except GroupcommError as error:
                if isinstance(error, Refused | UsageError):
                    raise
            await deferLater(self.reactor, RETRY_SECONDS)

    async def _reported(self, work: Callable[[Json], Coroutine[Deferred[Any], Any, None]], command: Json) -> None:
        try:
            await work(command)
        except GroupcommError as error:
            write({"e": "error", "do": command["do"], "kind": type(error).__name__, "text": str(error)})

    async def join(self, command: Json) -> None:
        """Join one group, or ``count`` groups named after it; ``outside``: what else than to go on it asks for."""
        name = command["group"]
        outside = Outside[command.get("outside", "GO_ON")]
        names = [f"{name}-{index}" for index in range(command["count"])] if "count" in command else [name]
        began = time.monotonic()
        for start in range(0, len(names), JOINS_AT_ONCE):
            some = names[start : start + JOINS_AT_ONCE]
            joined = await gatherResults([self.connection.join(each, self.recorder, outside=outside) for each in some])
            self.groups.update(zip(some, joined, strict=True))
        now = time.monotonic()
        write({"e": "joined", "group": name, "groups": len(names), "seconds": now - began, "at": now})

    async def crowd(self, command: Json) -> None:
        """Open ``count`` more connections, spread over some groups; each sends a message to all groups at once."""
        count, groups, began = command["count"], command["groups"], time.monotonic()
        counters = [MessageCounter(count) for _ in range(count)]
        connections: list[Connection] = []
        for index, counter in enumerate(counters):
            connections.append(await self._connected(f"{self.settings['name']}-{index}"))
            await connections[-1].join(groups[index % len(groups)], counter)
        write({"e": "assembled", "seconds": time.monotonic() - began, "at": time.monotonic()})
        sending = [each.send(groups, b"%d" % index, level=Level.AGREED) for index, each in enumerate(connections)]
        await gatherResults(sending)
        await gatherResults([counter.complete for counter in counters])
        write(
            {
                "e": "crowd",
                "orders": len({tuple(counter.received) for counter in counters}),
                "messages": len(set(counters[0].received)),
                "seconds": time.monotonic() - began,
                "at": time.monotonic(),
            }
        )
        await gatherResults([connection.close() for connection in connections])

    async def leave(self, command: Json) -> None:
        """Leave one group."""
        await self.groups.pop(command["group"]).leave()

    async def say(self, command: Json) -> None:
        """Send one message to one group, and say when it was accepted."""
        self.sent += 1
        number, group = self.sent, command["group"]
        await self.connection.send([group], payload(self.settings["name"], number, 100))
        write({"e": "said", "group": group, "n": number, "at": time.monotonic()})

    async def stop(self, command: Json) -> None:
        """End the workload after the message it is at."""
        self.stopping = True

    async def status(self, command: Json) -> None:
        """Say the daemon's status."""
        try:
            status: Json | None = {k: v for k, v in (await self.connection.status()).items() if k != "config"}
        except GroupcommError:
            status = None
        write({"e": "status", "number": command["number"], "status": status, "at": time.monotonic()})

    async def send(self, command: Json) -> None:
        """A workload: messages of mixed sizes and levels, as fast as the daemon takes them or at a rate."""
        draw = random.Random(command["seed"])
        levels = [Level[name] for name in command["levels"]]
        groups = command.get("groups") or list(self.groups)[:1]
        rate = command.get("rate", 0)
        limit = time.monotonic() + command.get("seconds", 1e9)
        window, total = SendWindow(), 0
        self.stopping = False
        began, first = time.monotonic(), self.sent
        while self.sent - first < command.get("messages", 1e12) and time.monotonic() < limit and not self.stopping:
            level = draw.choice(levels)
            low, high = (50, 1000) if level is Level.UNRELIABLE else command["sizes"]
            size = int(low * (high / low) ** draw.random())
            await window.room_for(size)
            if rate:
                due = began + (self.sent - first) / rate - time.monotonic()
                if due > 0:
                    await deferLater(self.reactor, due)
            self.sent += 1
            data = payload(self.settings["name"], self.sent, size)
            total += len(data)
            if command.get("record", True):
                write(
                    {
                        "e": "send",
                        "by": self.settings["name"],
                        "n": self.sent,
                        "g": groups,
                        "l": level.name,
                        "at": time.monotonic(),
                    }
                )
            stable = level is not Level.UNRELIABLE and command.get("stable", True)
            window.add(self.connection.send(groups, data, level=level, stable=stable), len(data))
        await window.drained()
        write(
            {
                "e": "sent",
                "number": command.get("number", 0),
                "messages": self.sent - first,
                "bytes": total,
                "seconds": time.monotonic() - began,
                "at": time.monotonic(),
            }
        )


def main() -> int:
    """Run the client."""
    settings = json.loads(sys.argv[1])
    return Run(reactor).run(lambda reactor: Program(reactor, settings).run())  # type: ignore[arg-type]


if __name__ == "__main__":
    sys.exit(main())
