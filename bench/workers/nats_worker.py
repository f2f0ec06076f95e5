"""A client of the NATS server on host 1: ``python -m bench.workers.nats_worker HOST MEMBERS ADDRESS``.

The client library batches by itself: what is published in one turn leaves together. Every ``OUTSTANDING_BYTES`` the
sender waits until the server has taken it all.
"""

from __future__ import annotations

import asyncio
import sys
import time

import nats
from nats.aio.client import Client
from nats.aio.msg import Msg

from bench.workers import stream
from bench.workers.conversation import (
    OUTSTANDING_BYTES,
    Command,
    Flood,
    Probe,
    Receive,
    Report,
    parse,
    say,
    say_view,
)

SUBJECT = "bench"
PENDING_BYTES = 1 << 30


class Worker:
    """Obeys commands; counts and checks what comes."""

    def __init__(self, host: int, client: Client) -> None:
        self._host = host
        self._client = client
        self._tally = stream.Tally(0, 0, ())
        self._sending: asyncio.Task[None] | None = None

    async def received(self, message: Msg) -> None:
        """One message."""
        self._tally.one(message.data)
        if self._tally.complete:
            say(self._tally.answer())

    def obey(self, command: Command) -> None:
        """Do it, or begin to."""
        match command:
            case Receive():
                self._tally = stream.Tally(command.run, command.size, command.senders)
                say({"e": "receiving", "run": command.run})
            case Flood():
                self._sending = asyncio.create_task(self._flood(command))
            case Probe():
                self._sending = asyncio.create_task(self._probe(command))
            case Report():
                say(self._tally.answer())

    async def _flood(self, command: Flood) -> None:
        messages = stream.cycle(command.run, self._host, command.size)
        number = 0
        until_flush = OUTSTANDING_BYTES
        deadline = time.monotonic() + command.seconds
        while time.monotonic() < deadline:
            await self._client.publish(SUBJECT, messages[number % len(messages)])
            number += 1
            until_flush -= command.size
            if until_flush <= 0:
                await self._client.flush()
                until_flush = OUTSTANDING_BYTES
        await self._finish(command.run, number)

    async def _probe(self, command: Probe) -> None:
        total = int(command.rate * command.seconds)
        start = time.monotonic()
        for number in range(total):
            await asyncio.sleep(max(0.0, start + number / command.rate - time.monotonic()))
            await self._client.publish(SUBJECT, stream.probe(command.run, self._host, number))
        await self._finish(command.run, total)

    async def _finish(self, run: int, count: int) -> None:
        await self._client.publish(SUBJECT, stream.end_of_flood(run, self._host, count))
        await self._client.flush()
        say({"e": "sent", "run": run, "messages": count})


async def main(host: int, members: int, address: str) -> None:
    """Subscribe, then obey until the end of the input."""
    client = await nats.connect(f"nats://{address}:4222", no_echo=True, allow_reconnect=False)
    worker = Worker(host, client)
    await client.subscribe(
        SUBJECT, cb=worker.received, pending_msgs_limit=PENDING_BYTES, pending_bytes_limit=PENDING_BYTES
    )
    await client.flush()
    commands = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(commands), sys.stdin)
    say_view(members)
    while line := await commands.readline():
        worker.obey(parse(line.decode()))


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]))
