"""ZeroMQ publisher and subscriber over TCP: ``python -m bench.workers.zeromq_worker HOST OWN OTHER...`` (addresses).

Every host publishes on a socket of its own and subscribes to all the others. ``XPUB_NODROP`` is the back-pressure: a
full queue refuses the next message instead of dropping it.
"""

from __future__ import annotations

import os
import sys
import time
from contextlib import suppress
from itertools import groupby
from operator import itemgetter

import zmq

from bench.workers import stream
from bench.workers.conversation import Command, Flood, Probe, Quit, Receive, Report, parse, say, say_view

PORT = 5410
QUEUE_MESSAGES = 1000
BURST = 64
BURST_BYTES = 256 * 1024


class Sending:
    """A flood or a series of probes under way."""

    def __init__(self, host: int, command: Flood | Probe) -> None:
        self.command = command
        self.number = 0
        self._host = host
        self._start = time.monotonic()
        self._messages = stream.cycle(command.run, host, command.size) if isinstance(command, Flood) else []

    def wait_seconds(self) -> float:
        """How long until there is something to send; 0 if there is now."""
        if isinstance(self.command, Flood):
            return 0.0
        return max(0.0, self._start + self.number / self.command.rate - time.monotonic())

    def send(self, publisher: zmq.Socket[bytes]) -> bool:
        """Send a burst, or one probe, or the end; True if that was the end.

        Raises:
            zmq.Again: the queue is full.
        """
        command = self.command
        if self._finished():
            publisher.send(stream.end_of_flood(command.run, self._host, self.number), zmq.NOBLOCK)
            return True
        if isinstance(command, Probe):
            publisher.send(stream.probe(command.run, self._host, self.number), zmq.NOBLOCK)
            self.number += 1
            return False
        copy = command.size < zmq.COPY_THRESHOLD
        for _ in range(BURST):
            publisher.send(self._messages[self.number % len(self._messages)], zmq.NOBLOCK, copy)
            self.number += 1
        return False

    def _finished(self) -> bool:
        """Whether only the end is left to send."""
        if isinstance(self.command, Flood):
            return time.monotonic() >= self._start + self.command.seconds
        return self.number >= int(self.command.rate * self.command.seconds)


class Worker:
    """One thread: sends, receives and obeys in turn."""

    def __init__(self, host: int, own: str, others: list[str]) -> None:
        context = zmq.Context()
        self._host = host
        self._publisher = context.socket(zmq.XPUB)
        self._publisher.setsockopt(zmq.XPUB_NODROP, 1)
        self._publisher.setsockopt(zmq.XPUB_VERBOSE, 1)
        self._publisher.setsockopt(zmq.SNDHWM, QUEUE_MESSAGES)
        self._publisher.bind(f"tcp://{own}:{PORT}")
        self._subscriber = context.socket(zmq.SUB)
        self._subscriber.setsockopt(zmq.RCVHWM, QUEUE_MESSAGES)
        self._subscriber.setsockopt(zmq.SUBSCRIBE, b"")
        for other in others:
            self._subscriber.connect(f"tcp://{other}:{PORT}")
        self._subscribers = 0
        self._tally = stream.Tally(0, 0, ())
        self._sending: Sending | None = None
        self._input = b""
        self._running = True

    def run(self) -> None:
        """Until told to quit."""
        poller = zmq.Poller()
        poller.register(self._subscriber, zmq.POLLIN)
        poller.register(self._publisher, zmq.POLLIN)
        poller.register(sys.stdin.fileno(), zmq.POLLIN)
        while self._running:
            blocked = False
            wait = None
            if self._sending is not None:
                wait = self._sending.wait_seconds()
                blocked = wait == 0.0 and not self._send(self._sending)
            ready = dict(poller.poll(None if wait is None else 1 if blocked else wait * 1000))
            if self._publisher in ready:
                self._subscribed()
            if self._subscriber in ready:
                self._receive()
            if sys.stdin.fileno() in ready:
                self._read()

    def _send(self, sending: Sending) -> bool:
        """Send what can be sent now; False if the queue is full."""
        try:
            if sending.send(self._publisher):
                self._sending = None
                say({"e": "sent", "run": sending.command.run, "messages": sending.number})
        except zmq.Again:
            return False
        return True

    def _receive(self) -> None:
        messages = []
        size = 0
        with suppress(zmq.Again):
            while size < BURST_BYTES:
                messages.append(self._subscriber.recv(zmq.NOBLOCK))
                size += len(messages[-1])
        for _, batch in groupby(messages, itemgetter(0)):
            self._tally.batch(list(batch))
        if messages and self._tally.complete:
            say(self._tally.answer())

    def _subscribed(self) -> None:
        self._publisher.recv()
        self._subscribers += 1
        say_view(1 + self._subscribers)

    def _read(self) -> None:
        data = os.read(sys.stdin.fileno(), 4096)
        self._running = bool(data)
        *lines, self._input = (self._input + data).split(b"\n")
        for line in lines:
            self._obey(parse(line.decode()))

    def _obey(self, command: Command) -> None:
        match command:
            case Receive():
                self._tally = stream.Tally(command.run, command.size, command.senders)
                say({"e": "receiving", "run": command.run})
            case Flood() | Probe():
                self._sending = Sending(self._host, command)
            case Report():
                say(self._tally.answer())
            case Quit():
                self._running = False


if __name__ == "__main__":
    Worker(int(sys.argv[1]), sys.argv[2], sys.argv[3:]).run()
