"""The worker of both shapes of groupcomm: it knows a group handle and not what is behind it.

It sends with ``send_many`` and takes what it gets by the batch; ``--api send`` makes it send message by message.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, Final

from twisted.internet import reactor as installed_reactor
from twisted.internet import stdio
from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.protocols.basic import LineReceiver
from zope.interface import implementer

from bench.workers import stream
from bench.workers.conversation import (
    BATCH_BYTES,
    OUTSTANDING_BYTES,
    Command,
    Flood,
    Probe,
    Quit,
    Receive,
    Report,
    parse,
    say,
    say_view,
)
from groupcomm.batches import MessageBatch
from groupcomm.events import Event, Level, Message, View
from groupcomm.interfaces import IGroup, IGroupBatchEvents

GROUP: Final = "bench"
TURN_BYTES: Final = 512 * 1024
"""How much a flood hands over in one turn of the reactor."""
reactor: Any = installed_reactor


@implementer(IGroupBatchEvents)
class Receiver:
    """The listener: tells views, and counts and checks messages."""

    def __init__(self) -> None:
        self._tally = stream.Tally(0, 0, ())

    def start(self, command: Receive) -> None:
        """Check another run from now on."""
        self._tally = stream.Tally(command.run, command.size, command.senders)
        say({"e": "receiving", "run": command.run})

    def report(self) -> None:
        """Say what was received."""
        say(self._tally.answer())

    def messages_received(self, batch: MessageBatch) -> None:
        """Several messages of one sender."""
        self._tally.batch(batch.messages)
        if self._tally.complete:
            self.report()

    def data_received(self, data: bytes) -> None:
        """One message."""
        self._tally.one(data)
        if self._tally.complete:
            self.report()

    def event_received(self, event: Event) -> None:
        """Anything else, and a message alone."""
        if isinstance(event, Message):
            self.data_received(event.data)
        elif isinstance(event, View):
            self._tally.views += 1
            say_view(len(event.members))


class Flooder:
    """Sends a flood with back-pressure: what the group has not accepted yet stays bounded."""

    def __init__(self, group: IGroup, host: int, command: Flood, *, many: bool) -> None:
        self._group = group
        self._host = host
        self._command = command
        messages = stream.cycle(command.run, host, command.size)
        self._length = len(messages)
        self._per_call = min(max(1, BATCH_BYTES // command.size), self._length) if many else 1
        self._messages = messages + messages[: self._per_call]
        self._sent = 0
        self._outstanding = 0
        self._deadline = 0.0
        self._waiting = False
        self._done: Deferred[int] = Deferred()

    def run(self) -> Deferred[int]:
        """Begin; fires with the number of messages when the end of the flood is accepted."""
        self._deadline = time.monotonic() + self._command.seconds
        self._turn()
        return self._done

    def _turn(self) -> None:
        """What is sent in one turn of the reactor."""
        if self._done.called:
            return
        if time.monotonic() >= self._deadline:
            self._end()
            return
        turn_bytes = 0
        while self._outstanding < OUTSTANDING_BYTES and turn_bytes < TURN_BYTES:
            turn_bytes += self._send()
        if self._outstanding < OUTSTANDING_BYTES:
            reactor.callLater(0, self._turn)
        else:
            self._waiting = True

    def _send(self) -> int:
        place = self._sent % self._length
        if self._per_call > 1:
            accepted = self._group.send_many(self._messages[place : place + self._per_call])
        else:
            accepted = self._group.send(self._messages[place])
        self._sent += self._per_call
        size = self._per_call * self._command.size
        self._outstanding += size
        accepted.addCallbacks(self._accepted, self._failed, callbackArgs=(size,))
        return size

    def _accepted(self, _: object, size: int) -> None:
        self._outstanding -= size
        if self._waiting:
            self._waiting = False
            reactor.callLater(0, self._turn)

    def _end(self) -> None:
        end = self._group.send(stream.end_of_flood(self._command.run, self._host, self._sent))
        end.addCallbacks(lambda _: self._done.callback(self._sent), self._failed)

    def _failed(self, failure: Any) -> None:
        """The first failure ends the flood; the others follow from it."""
        if not self._done.called:
            self._done.errback(failure)


class Prober:
    """Sends at a rate: each message is due at its own time, whatever became of the one before."""

    def __init__(self, group: IGroup, host: int, command: Probe) -> None:
        self._group = group
        self._host = host
        self._command = command
        self._level = Level[command.level.upper()]
        self._total = int(command.rate * command.seconds)
        self._number = 0
        self._start = 0.0
        self._done: Deferred[int] = Deferred()

    def run(self) -> Deferred[int]:
        """Begin; fires with the number of messages when the end is accepted."""
        self._start = time.monotonic()
        self._send()
        return self._done

    def _send(self) -> None:
        if self._number == self._total:
            data, then = stream.end_of_flood(self._command.run, self._host, self._number), self._finished
        else:
            data, then = stream.probe(self._command.run, self._host, self._number), None
        sending = self._group.send(data, level=self._level)
        if then is not None:
            sending.addCallback(then)
        sending.addErrback(self._failed)
        if then is None:
            self._number += 1
            due = self._start + self._number / self._command.rate
            reactor.callLater(max(0.0, due - time.monotonic()), self._send)

    def _finished(self, _: object) -> None:
        self._done.callback(self._number)

    def _failed(self, failure: Any) -> None:
        if not self._done.called:
            self._done.errback(failure)


class Worker(LineReceiver):
    """Reads commands from standard input and obeys."""

    delimiter = b"\n"
    _log = Logger()

    def __init__(self, host: int, receiver: Receiver, *, many: bool) -> None:
        self._host = host
        self._receiver = receiver
        self._many = many
        self.group: IGroup | None = None

    def lineReceived(self, line: bytes) -> None:
        """One command."""
        self._obey(parse(line.decode()))

    def connectionLost(self, reason: Any = None) -> None:
        """The benchmark is gone."""
        if reactor.running:
            reactor.stop()

    def _obey(self, command: Command) -> None:
        assert self.group is not None, "commands come after the view"
        match command:
            case Receive():
                self._receiver.start(command)
            case Flood():
                self._tell(Flooder(self.group, self._host, command, many=self._many).run(), command.run)
            case Probe():
                self._tell(Prober(self.group, self._host, command).run(), command.run)
            case Report():
                self._receiver.report()
            case Quit():
                reactor.stop()

    def _tell(self, sending: Deferred[int], run: int) -> None:
        sending.addCallback(lambda count: say({"e": "sent", "run": run, "messages": count}))
        sending.addErrback(lambda failure: say({"e": "failed", "run": run, "why": failure.getErrorMessage()}))


def main(host: int, api: str, join: Callable[[Receiver], Deferred[IGroup]]) -> None:
    """Join the group and obey until the end of the input.

    Args:
        host: the number of this host, which is this sender's.
        api: ``many`` or ``send``.
        join: joins the group ``GROUP`` with that listener.
    """
    receiver = Receiver()
    worker = Worker(host, receiver, many=api == "many")

    def joined(group: IGroup) -> None:
        worker.group = group

    def failed(failure: Any) -> None:
        say({"e": "failed", "why": failure.getErrorMessage()})
        reactor.stop()

    def start() -> None:
        stdio.StandardIO(worker, reactor=reactor)
        join(receiver).addCallbacks(joined, failed)

    reactor.callWhenRunning(start)
    reactor.run()


def split_arguments(arguments: Sequence[str]) -> tuple[int, str, list[str]]:
    """Host and API of a command line, and what follows."""
    host, api, *rest = arguments
    return int(host), api, rest
