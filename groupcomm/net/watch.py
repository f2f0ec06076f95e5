"""The neighbour watch: one TCP connection to each watched node tells within milliseconds that its process has died.

A connection that breaks proves nothing; two connection attempts ``CONFIRM_SECONDS`` apart that the other kernel refuses
(or where another run of the node answers) do: then ``refused(node)`` is called. Timeouts, full queues and unreachable
hosts say nothing, and neither do refusals by a peer that this watch has never been connected to, unless somebody asked
for the probe: a firewall that rejects TCP kills nobody.

The connection also tells whether the host lives though the process is silent: asked for it, the watch writes a byte,
which the other kernel acknowledges whatever its process does, and looks in TCP_INFO when the last acknowledgement came.

The other half serves the watches of others: it tells every connection in one line who lives here. What a peer sends is
not read; one that sends more than ``MAX_INPUT_BYTES`` is dropped.

Decides: when a process counts as dead, and when a host has answered. What follows from it is the engine's business.
"""

from __future__ import annotations

import enum
import socket
import struct
from collections.abc import Callable, Hashable, Sequence
from math import inf
from typing import Final, Generic, TypeVar, cast

from attrs import frozen
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionRefusedError
from twisted.internet.interfaces import IAddress, IConnector, IDelayedCall, ITCPTransport
from twisted.internet.protocol import ClientFactory, Protocol, ServerFactory, connectionDone
from twisted.python.failure import Failure

from groupcomm.identity import NodeId
from groupcomm.limits import MAX_NODE_NAME_BYTES
from groupcomm.net.reactor import IWatchReactor
from groupcomm.outputs import Address

CONFIRM_SECONDS: Final = 0.01
"""Between the two attempts that must both be refused: long enough for a process that only replaces its listener."""

CONNECT_TIMEOUT_SECONDS: Final = 1.0
"""An attempt that takes longer says nothing, and is made again."""

BANNER_SECONDS: Final = 2.0
"""A connection on which nobody has said by then who lives there is closed and says nothing."""

RETRY_SECONDS: Final = (0.05, 0.1, 0.25, 0.5, 1.0)
"""The waits before further attempts when one said nothing; the last one repeats."""

MAX_PROBES: Final = 64
"""Nodes whose death is looked into at once; the occasion for others comes again."""

MAX_ACCEPTED: Final = 256
"""Watch connections served at once; more are closed on arrival.

An enemy who takes all of them only slows down what the others' watches find out."""

MAX_INPUT_BYTES: Final = 1024
"""A connection that sends more than this is dropped: nothing is expected on it."""

MAX_BANNER_BYTES: Final = 128
"""The longest banner read; a longer one is none."""

ASKING: Final = b"\n"
"""What is written to make the other kernel acknowledge something; its process does not read it."""

FORGOTTEN_SECONDS: Final = 1.0
"""After so long without a question the next one is the first of a new silence: nothing older counts."""

JIFFY_SECONDS: Final = 0.01
"""What TCP_INFO tells in milliseconds is counted in units of up to so much."""

_MAGIC: Final = b"groupcomm-watch/1"
_TCP_INFO: Final = getattr(socket, "TCP_INFO", None)
_LAST_ACKNOWLEDGED: Final = struct.Struct("=56xI")
"""``tcpi_last_ack_recv`` of Linux's ``struct tcp_info``."""


def format_banner(node: NodeId) -> bytes:
    """The line that says who lives here: magic, incarnation in hexadecimal, name."""
    return b"%s %x %s\r\n" % (_MAGIC, node.incarnation, node.name.encode())


def parse_banner(line: bytes) -> NodeId | None:
    """Who a banner names (without its line end); None when it is no banner."""
    parts = line.split(b" ", 2)
    if len(parts) != 3 or parts[0] != _MAGIC or not 0 < len(parts[1]) <= 16:
        return None
    if not 0 < len(parts[2]) <= MAX_NODE_NAME_BYTES or set(parts[1]) - set(b"0123456789abcdef"):
        return None
    try:
        return NodeId(parts[2].decode(), int(parts[1], 16))
    except UnicodeDecodeError:
        return None


_T = TypeVar("_T", bound=Hashable)


class _OpenSet(Generic[_T]):
    """What is open at the moment, and word when nothing is any more."""

    def __init__(self) -> None:
        self._items: dict[_T, None] = {}
        self._waiting: list[Deferred[None]] = []

    def __len__(self) -> int:
        return len(self._items)

    def items(self) -> list[_T]:
        """A copy of what is open, the longest open first."""
        return list(self._items)

    def add(self, item: _T) -> None:
        """It is open now."""
        self._items[item] = None

    def discard(self, item: _T) -> None:
        """It is closed now."""
        self._items.pop(item, None)
        if not self._items:
            waiting, self._waiting = self._waiting, []
            for deferred in waiting:
                deferred.callback(None)

    def when_empty(self) -> Deferred[None]:
        """Fires when nothing is open."""
        deferred: Deferred[None] = Deferred()
        if self._items:
            self._waiting.append(deferred)
        else:
            deferred.callback(None)
        return deferred


class BannerFactory(ServerFactory):
    """Serves the watches of other nodes.

    Invariant: at most ``MAX_ACCEPTED`` connections are open.
    """

    noisy = False

    def __init__(self, node: NodeId) -> None:
        self._banner = format_banner(node)
        self._open: _OpenSet[_BannerServer] = _OpenSet()

    def buildProtocol(self, addr: IAddress | None) -> Protocol | None:
        """One more watch; None closes it at once."""
        if len(self._open) >= MAX_ACCEPTED:
            return None
        return _BannerServer(self._banner, self._open)

    def drop_all(self) -> Deferred[None]:
        """Close every connection; fires when none is left."""
        for served in self._open.items():
            _abort(served)
        return self._open.when_empty()


class _BannerServer(Protocol):
    """One watch of another node."""

    def __init__(self, banner: bytes, open_now: _OpenSet[_BannerServer]) -> None:
        self._banner = banner
        self._open = open_now
        self._received_bytes = 0

    def connectionMade(self) -> None:
        """Say who lives here."""
        self._open.add(self)
        if self.transport is not None:
            self.transport.write(self._banner)

    def dataReceived(self, data: bytes) -> None:
        """Nothing is expected; a little is forgiven."""
        self._received_bytes += len(data)
        if self._received_bytes > MAX_INPUT_BYTES:
            _abort(self)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Gone."""
        self._open.discard(self)


class Outcome(enum.Enum):
    """What one connection attempt, or the end of a connection, says about the node."""

    REFUSED = "the kernel refused"
    OTHER = "another run or another node answered"
    LOST = "an identified connection ended"
    NOTHING = "nothing can be concluded"


@frozen
class _Target:
    """Whom to watch, and where."""

    node: NodeId
    address: Address


class NeighbourWatch:
    """Watches the nodes it is told to, and probes on demand.

    Invariant: at most one connection or attempt per watched node; nothing of it is left after ``stop``.
    """

    def __init__(
        self, reactor: IWatchReactor, refused: Callable[[NodeId], None], answers: Callable[[NodeId], None]
    ) -> None:
        """Watch nobody yet.

        Args:
            reactor: connects and waits.
            refused: called with a node whose process has died, again and again while that is confirmed anew.
            answers: called with a watched node when its kernel has acknowledged something.
        """
        self._reactor = reactor
        self._refused = refused
        self._answers = answers
        self._watched: dict[_Target, _Watcher] = {}
        self._probes: dict[_Target, _Watcher] = {}
        self._open: _OpenSet[_Watcher] = _OpenSet()
        self.counters = {"watch_lost": 0, "watch_refused": 0, "watch_dead": 0, "watch_inconclusive": 0}

    @property
    def connected(self) -> tuple[NodeId, ...]:
        """The nodes whose process is known to live by an open connection."""
        return tuple(sorted(target.node for target, watcher in self._watched.items() if watcher.identified))

    def watch(self, peers: Sequence[tuple[NodeId, Address]]) -> None:
        """From now on watch exactly these; connections to those among them that are watched already stay."""
        wanted = [_Target(node, address) for node, address in peers]
        for target in [target for target in self._watched if target not in wanted]:
            self._watched.pop(target).stop()
        for target in wanted:
            if target not in self._watched:
                watcher = _Watcher(target, self._conclude, self, trusted=False, lasting=True)
                self._watched[target] = watcher
                watcher.start()

    def probe(self, node: NodeId, address: Address) -> None:
        """Find out whether this process has died, by connection attempts alone; at most ``MAX_PROBES`` at once."""
        target = _Target(node, address)
        if target in self._probes or len(self._probes) >= MAX_PROBES:
            return
        watcher = _Watcher(target, self._conclude_probe, self, trusted=True, lasting=False)
        self._probes[target] = watcher
        watcher.start()

    def ask_host(self, node: NodeId) -> None:
        """Make the kernel of a watched node acknowledge something; ``answers`` tells if it did since the last time."""
        for target in list(self._watched):
            if target.node == node:
                self._watched[target].ask_host()

    def host_answers(self, target: _Target) -> None:
        """A kernel has acknowledged something."""
        if target in self._watched:
            self._answers(target.node)

    def seconds(self) -> float:
        """The time, in seconds since an arbitrary moment."""
        return self._reactor.seconds()

    def stop(self) -> Deferred[None]:
        """Close everything; nothing is reported any more. Fires when nothing is open."""
        for watcher in [*self._watched.values(), *self._probes.values()]:
            watcher.stop()
        self._watched.clear()
        self._probes.clear()
        return self._open.when_empty()

    def attempt(self, watcher: _Watcher, attempt: _AttemptFactory, address: Address) -> IConnector:
        """Make one connection attempt on a watcher's behalf."""
        self._open.add(watcher)
        host, port = address
        return self._reactor.connectTCP(host, port, attempt, timeout=CONNECT_TIMEOUT_SECONDS)

    def ended(self, watcher: _Watcher) -> None:
        """The attempt has failed or its connection has ended."""
        self._open.discard(watcher)

    def call_later(self, seconds: float, function: Callable[[], None]) -> IDelayedCall:
        """Call a function after that time."""
        return self._reactor.callLater(seconds, function)

    def count(self, name: str) -> None:
        """Count one thing that happened."""
        self.counters[name] += 1

    def _conclude(self, target: _Target, dead: bool) -> None:
        """A watched process has died."""
        if dead:
            self._refused(target.node)

    def _conclude_probe(self, target: _Target, dead: bool) -> None:
        """A probe has its answer."""
        self._probes.pop(target, None)
        if dead:
            self._refused(target.node)


class _Watcher:
    """The attempts and the connection to one node: attempting, identified, confirming, waiting.

    A lasting one goes on until stopped; one that does not last ends with its first conclusion.
    """

    def __init__(
        self,
        target: _Target,
        conclude: Callable[[_Target, bool], None],
        owner: NeighbourWatch,
        *,
        trusted: bool,
        lasting: bool,
    ) -> None:
        self._target = target
        self._conclude = conclude
        self._owner = owner
        self._trusted = trusted
        self._lasting = lasting
        self.identified = False
        self._refusals = 0
        self._fruitless = 0
        self._stopped = False
        self._waiting: IDelayedCall | None = None
        self._connector: IConnector | None = None
        self._transport: ITCPTransport | None = None
        self._asked_at = -inf

    def start(self) -> None:
        """Make an attempt."""
        attempt = _AttemptFactory(self._target.node, self._accepted, self._answered, self._ended)
        self._waiting = self._owner.call_later(CONNECT_TIMEOUT_SECONDS + BANNER_SECONDS, self._silent)
        self._connector = self._owner.attempt(self, attempt, self._target.address)

    def ask_host(self) -> None:
        """See whether anything was acknowledged since the last question, and put another."""
        if self._transport is None:
            return
        now = self._owner.seconds()
        asked_ago, self._asked_at = now - self._asked_at, now
        if asked_ago < FORGOTTEN_SECONDS:
            acknowledged_ago = acknowledged_seconds_ago(self._transport)
            if acknowledged_ago is not None and acknowledged_ago <= asked_ago + JIFFY_SECONDS:
                self._owner.host_answers(self._target)
        self._transport.write(ASKING)

    def stop(self) -> None:
        """Close what is open and report no more."""
        self._stopped = True
        self._wait_no_more()
        self._disconnect()

    def _accepted(self, transport: ITCPTransport) -> None:
        """The connection is up: that alone is the other kernel's doing."""
        self._transport = transport
        self._asked_at = -inf
        if not self._stopped:
            self._owner.host_answers(self._target)

    def _answered(self) -> None:
        """The connection is up and the very process we watch has said so."""
        if self._stopped:
            return
        self._wait_no_more()
        self.identified = True
        self._trusted = True
        self._refusals = 0
        self._fruitless = 0
        if not self._lasting:
            self._finish(dead=False)

    def _ended(self, outcome: Outcome) -> None:
        """The attempt failed or the connection ended."""
        self.identified = False
        self._connector = None
        self._transport = None
        self._owner.ended(self)
        if self._stopped:
            return
        self._wait_no_more()
        if outcome is Outcome.LOST:
            self._owner.count("watch_lost")
            self.start()
        elif outcome is Outcome.NOTHING or not self._trusted:
            self._inconclusive()
        else:
            self._owner.count("watch_refused")
            self._refusals += 1
            if self._refusals < 2:
                self._wait(CONFIRM_SECONDS)
            else:
                self._owner.count("watch_dead")
                self._finish(dead=True)

    def _inconclusive(self) -> None:
        """Try again later, ever more slowly; a probe gives up."""
        self._owner.count("watch_inconclusive")
        self._refusals = 0
        self._fruitless += 1
        if not self._lasting and self._fruitless > 2:
            self._finish(dead=False)
        else:
            self._wait(RETRY_SECONDS[min(self._fruitless, len(RETRY_SECONDS)) - 1])

    def _finish(self, *, dead: bool) -> None:
        """Say what was found; a lasting watch goes on, since the engine may need to hear it again."""
        if self._lasting:
            self._refusals = 0
            self._fruitless += 1
            self._wait(RETRY_SECONDS[min(self._fruitless, len(RETRY_SECONDS)) - 1])
        else:
            self.stop()
        self._conclude(self._target, dead)

    def _wait(self, seconds: float) -> None:
        """Make the next attempt after that time."""
        self._waiting = self._owner.call_later(seconds, self._resume)

    def _resume(self) -> None:
        """The wait is over."""
        self._waiting = None
        self.start()

    def _silent(self) -> None:
        """Nobody has said in time who lives there; the end of the connection says nothing then."""
        self._waiting = None
        self._disconnect()

    def _wait_no_more(self) -> None:
        """Forget the delayed call, whatever it was for."""
        if self._waiting is not None:
            self._waiting.cancel()
            self._waiting = None

    def _disconnect(self) -> None:
        """Close the connection, or give up the attempt."""
        connector, self._connector = self._connector, None
        if connector is not None:
            connector.disconnect()


class _AttemptFactory(ClientFactory):
    """One connection attempt to one node."""

    noisy = False

    def __init__(
        self,
        node: NodeId,
        accepted: Callable[[ITCPTransport], None],
        answered: Callable[[], None],
        ended: Callable[[Outcome], None],
    ) -> None:
        self._node = node
        self._accepted = accepted
        self._answered = answered
        self._ended = ended
        self._outcome = Outcome.NOTHING

    def buildProtocol(self, addr: IAddress | None) -> Protocol:
        """It is accepted: read who answers."""
        return _BannerReader(self._accepted, self._banner_received)

    def clientConnectionFailed(self, connector: IConnector, reason: Failure) -> None:
        """There is no connection."""
        refused = reason.check(ConnectionRefusedError) is not None
        self._ended(Outcome.REFUSED if refused else Outcome.NOTHING)

    def clientConnectionLost(self, connector: IConnector, reason: Failure) -> None:
        """The connection has ended."""
        self._ended(self._outcome)

    def _banner_received(self, node: NodeId | None) -> bool:
        """Judge a banner; False closes the connection."""
        if node == self._node:
            self._outcome = Outcome.LOST
            self._answered()
            return True
        if node is not None:
            self._outcome = Outcome.OTHER
        return False


class _BannerReader(Protocol):
    """Reads one banner, then waits for the end."""

    def __init__(
        self, accepted: Callable[[ITCPTransport], None], banner_received: Callable[[NodeId | None], bool]
    ) -> None:
        self._accepted = accepted
        self._banner_received = banner_received
        self._buffer = b""
        self._judged = False

    def connectionMade(self) -> None:
        """Accepted; who by is yet to be said."""
        self._accepted(cast(ITCPTransport, self.transport))

    def dataReceived(self, data: bytes) -> None:
        """A part of the banner; anything after it is not read."""
        if self._judged:
            return
        self._buffer += data[: MAX_BANNER_BYTES + 1]
        line, end, _ = self._buffer.partition(b"\r\n")
        if not end and len(self._buffer) <= MAX_BANNER_BYTES:
            return
        self._judged = True
        if not self._banner_received(parse_banner(line) if end else None):
            _abort(self)


def acknowledged_seconds_ago(transport: ITCPTransport) -> float | None:
    """When the other kernel has last acknowledged anything on a connection; None where the system does not tell."""
    handle = getattr(transport, "getHandle", None)
    if handle is None or _TCP_INFO is None:
        return None
    try:
        info = handle().getsockopt(socket.IPPROTO_TCP, _TCP_INFO, _LAST_ACKNOWLEDGED.size)
        milliseconds: int = _LAST_ACKNOWLEDGED.unpack(info)[0]
    except (OSError, struct.error):
        return None
    return milliseconds / 1000


def _abort(protocol: Protocol) -> None:
    """Close a connection at once."""
    if protocol.transport is not None:
        cast(ITCPTransport, protocol.transport).abortConnection()
