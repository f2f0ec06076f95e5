"""The client's end of a data channel: opening it, the events that come, and the answers to what was sent.

Decides when plain Perspective Broker will do: whenever the daemon has no channel, or its socket cannot be opened.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Sequence
from typing import Protocol, cast

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectError
from twisted.internet.interfaces import IReactorFDSet, IReactorTime
from twisted.internet.protocol import Factory
from twisted.logger import Logger

from groupcomm.batches import MessageBatch
from groupcomm.client.channel_outbox import ChannelOutbox
from groupcomm.client.link import LOGIN_SECONDS, Link
from groupcomm.daemon import caps
from groupcomm.daemon.channel_events import BatchReader, read_event
from groupcomm.daemon.errors import as_local_error
from groupcomm.daemon.records import (
    CREDIT,
    DONE,
    EVENT,
    FAILED,
    HEADER_BYTES,
    HELLO,
    MESSAGES,
    SINGLE,
    VERSION,
    WELCOME,
    Record,
    RecordError,
    RecordReader,
    record,
)
from groupcomm.daemon.stream import RecordStream, SocketStream, StreamOwner
from groupcomm.daemon.tls_stream import TransportStream
from groupcomm.errors import NotConnected, PeerError, Refused, UsageError

_MAX_HEAD_BYTES = 0xFFFF


class ChannelReceiver(Protocol):
    """Who gets the events."""

    def messages_received(self, batch: MessageBatch) -> None:
        """Messages."""

    def batch_received(self, batch: list[object]) -> None:
        """Other events, in their plain form."""


class ClientChannel:
    """One data channel.

    Invariant: credit is given for whole records, at the end of a read, for each once.

    Attributes:
        outbox: what is sent over it.
        ready: fires with True when the daemon has taken the ticket, with False if it hung up instead.
        lost: fires when a channel that was ready is gone.
        broken: what the daemon did wrong, if that ended it.
    """

    def __init__(self, reactor: IReactorTime, receiver: ChannelReceiver) -> None:
        self.reader = RecordReader(_MAX_HEAD_BYTES, caps.MAX_ANSWER_BYTES + caps.MAX_PAYLOAD_BYTES)
        self.outbox = ChannelOutbox(reactor, self._write)
        self.ready: Deferred[bool] = Deferred()
        self.lost: Deferred[None] = Deferred()
        self.broken: str | None = None
        self._receiver = receiver
        self._batches = BatchReader()
        self._stream: RecordStream
        self._gone = False
        self._done_bytes = 0

    def opened(self, stream: RecordStream, ticket: bytes) -> None:
        """The connection is there: show the ticket."""
        self._stream = stream
        stream.write([record(HELLO, VERSION, ticket)])

    def abort(self) -> None:
        """Close it at once."""
        if not self._gone:
            self._stream.abort()

    # What the stream calls.

    def records_received(self, records: Sequence[Record]) -> None:
        """What one read has brought.

        Raises:
            RecordError: this is no daemon of this version.
        """
        done = 0
        ended = False
        try:
            for kind, flags, number, head, payload in records:
                if self._gone:
                    return
                if kind == MESSAGES:
                    done += HEADER_BYTES + len(head) + len(payload)
                    self._receiver.messages_received(self._batches.read(flags, head, payload))
                elif kind == DONE:
                    if flags & SINGLE:
                        self.outbox.answered(number, None)
                    else:
                        self.outbox.done(number)
                elif kind == EVENT:
                    done += HEADER_BYTES + len(head) + len(payload)
                    event = read_event(payload)
                    ended = event[:1] == ("closed",)
                    self._receiver.batch_received([event])
                elif kind == FAILED:
                    self.outbox.answered(number, as_local_error(head, bytes(payload).decode("utf-8", "replace")))
                elif kind == WELCOME and not self.ready.called:
                    self.ready.callback(True)
        except PeerError as error:
            raise RecordError(str(error)) from None
        self._done_bytes += done
        if (ended or self._done_bytes >= caps.CREDIT_STEP_BYTES) and not self._gone:
            self._stream.write([record(CREDIT, self._done_bytes)])
            self._done_bytes = 0

    def broke_protocol(self, text: str) -> None:
        """The connection will be closed."""
        self.broken = text

    def output_drained(self) -> None:
        """The kernel has taken all that was written."""

    def stream_lost(self) -> None:
        """The connection is over."""
        self._gone = True
        if not self.ready.called:
            self.ready.callback(False)
        else:
            self.lost.callback(None)

    def _write(self, pieces: list[bytes]) -> None:
        self._stream.write(pieces)


_log = Logger()


def dial(reactor: IReactorFDSet, where: str | tuple[str, int], owner: StreamOwner) -> RecordStream:
    """A connection to a UNIX socket, or to host and port, which is lost at once if nobody is there.

    Raises:
        OSError: it cannot be made.
    """
    if isinstance(where, str):
        family = socket.AF_UNIX
    else:
        family = socket.AF_INET6 if ":" in where[0] else socket.AF_INET
    connecting = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    try:
        connecting.connect(where)
    except OSError as error:
        if error.errno != errno.EINPROGRESS:
            connecting.close()
            raise
    return SocketStream(reactor, connecting, owner)


async def open_channel(reactor: IReactorTime, link: Link, receiver: ChannelReceiver) -> ClientChannel | None:
    """A data channel of the session that was just opened; None if there is none to be had.

    Args:
        reactor: runs it.
        link: the control connection.
        receiver: gets the events.

    Raises:
        NotConnected: the daemon has gone, or does not answer.
    """
    if not IReactorFDSet.providedBy(reactor):
        return None
    channel = ClientChannel(reactor, receiver)
    try:
        answer = await link.call("open_channel")
        match answer:
            case ("unix", str(path), bytes(ticket)):
                channel.opened(dial(cast(IReactorFDSet, reactor), path, channel), ticket)
            case ("tls", 0, bytes(ticket)) if link.way.certified is not None:
                way = link.way.certified.for_channel()
                stream = await way.connect(Factory.forProtocol(lambda: TransportStream(reactor, channel)))
                channel.opened(cast(TransportStream, stream), ticket)
            case ("tcp", int(port), bytes(ticket)) if isinstance(link.peer, IPv4Address | IPv6Address):
                channel.opened(dial(cast(IReactorFDSet, reactor), (link.peer.host, port), channel), ticket)
            case _:
                raise Refused("its channel is of a kind that this version does not know")
    except (UsageError, Refused, ConnectError, OSError) as error:
        _log.info("no data channel, Perspective Broker carries the messages: {error}", error=error)
        return None
    late = reactor.callLater(LOGIN_SECONDS, channel.abort)
    try:
        opened = await channel.ready
    except BaseException:
        channel.abort()
        raise
    finally:
        hung = not late.active()
        if not hung:
            late.cancel()
    if hung:
        raise NotConnected("the daemon does not answer on its data channel")
    if not opened:
        _log.info("no data channel, Perspective Broker carries the messages: the daemon closed it")
        return None
    return channel
