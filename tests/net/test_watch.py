"""The neighbour watch tells a dead process from everything that only looks like one."""

from __future__ import annotations

import socket
from types import SimpleNamespace
from typing import Any, cast

from twisted.internet.error import ConnectionDone, ConnectionLost, ConnectionRefusedError, TCPTimedOutError
from twisted.internet.interfaces import ITCPTransport
from twisted.internet.protocol import Protocol
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from groupcomm.identity import NodeId
from groupcomm.net import watch as watch_module
from groupcomm.net.reactor import IWatchReactor
from groupcomm.net.watch import (
    BANNER_SECONDS,
    CONFIRM_SECONDS,
    CONNECT_TIMEOUT_SECONDS,
    FORGOTTEN_SECONDS,
    MAX_ACCEPTED,
    MAX_INPUT_BYTES,
    BannerFactory,
    NeighbourWatch,
    acknowledged_seconds_ago,
    format_banner,
    parse_banner,
)
from tests.node_double import MemoryClock

PEER = NodeId("péer", 0xABC)
ADDRESS = ("10.0.0.2", 4874)


def is_closed(protocol: Protocol) -> bool:
    """Whether the protocol has closed its connection."""
    transport = cast(StringTransport, protocol.transport)
    return transport.disconnecting or transport.disconnected


class BannerTests(SynchronousTestCase):
    """The line that says who lives there."""

    def test_round_trip(self) -> None:
        """What is written is read."""
        for node in (PEER, NodeId("a b", 1), NodeId("x" * 64, (1 << 64) - 1)):
            self.assertEqual(parse_banner(format_banner(node).removesuffix(b"\r\n")), node)

    def test_anything_else_is_none(self) -> None:
        """Every truncation and all else is no banner."""
        line = format_banner(PEER).removesuffix(b"\r\n")
        for size in range(line.index(b"p\xc3")):
            self.assertIsNone(parse_banner(line[:size]))
        for other in (
            b"",
            b"SSH-2.0",
            b"groupcomm-watch/2 1 n",
            b"groupcomm-watch/1 -1 n",
            b"groupcomm-watch/1  n",
            b"groupcomm-watch/1 " + b"1" * 17 + b" n",
            b"groupcomm-watch/1 1 " + b"n" * 65,
            b"groupcomm-watch/1 1 \xff",
        ):
            self.assertIsNone(parse_banner(other))


class ServerTests(SynchronousTestCase):
    """Serving the watches of others."""

    def serve(self, factory: BannerFactory) -> tuple[Protocol, StringTransport]:
        """One more connection."""
        protocol = factory.buildProtocol(None)
        assert protocol is not None
        transport = StringTransport()
        protocol.makeConnection(transport)
        return protocol, transport

    def test_says_who_lives_here(self) -> None:
        """A connection gets the banner at once."""
        _, transport = self.serve(BannerFactory(PEER))
        self.assertEqual(transport.value(), format_banner(PEER))

    def test_drops_talkers(self) -> None:
        """A little input is ignored, more closes the connection."""
        protocol, transport = self.serve(BannerFactory(PEER))
        protocol.dataReceived(bytes(MAX_INPUT_BYTES))
        self.assertFalse(transport.disconnecting)
        protocol.dataReceived(b"x")
        self.assertTrue(transport.disconnecting or transport.disconnected)

    def test_limit(self) -> None:
        """At the limit further connections are refused until one ends."""
        factory = BannerFactory(PEER)
        protocol, _ = next(iter([self.serve(factory) for _ in range(MAX_ACCEPTED)]))
        self.assertIsNone(factory.buildProtocol(None))
        protocol.connectionLost(Failure(ConnectionDone()))
        self.serve(factory)

    def test_drop_all(self) -> None:
        """Dropping all is over when the last is gone."""
        factory = BannerFactory(PEER)
        self.successResultOf(factory.drop_all())
        served = [self.serve(factory) for _ in range(2)]
        dropping = factory.drop_all()
        for protocol, transport in served:
            self.assertTrue(transport.disconnecting or transport.disconnected)
            self.assertNoResult(dropping)
            protocol.connectionLost(Failure(ConnectionLost()))
        self.successResultOf(dropping)


class WatchCase(SynchronousTestCase):
    """A watch, and what happens to its attempts."""

    def setUp(self) -> None:
        self.clock = MemoryClock()
        self.dead: list[NodeId] = []
        self.alive: list[NodeId] = []
        self.watch = NeighbourWatch(cast(IWatchReactor, self.clock), self.dead.append, self.alive.append)

    @property
    def attempts(self) -> int:
        """How many connection attempts were made."""
        return len(self.clock.tcpClients)

    def factory(self) -> Any:
        """That of the last attempt."""
        return self.clock.tcpClients[-1][2]

    def connector(self) -> Any:
        """That of the last attempt."""
        return self.clock.connectors[-1]

    def refuse(self, error: type[Exception] = ConnectionRefusedError) -> None:
        """The last attempt fails."""
        self.factory().clientConnectionFailed(self.connector(), Failure(error()))

    def answer(self, banner: bytes) -> Protocol:
        """The last attempt is accepted and this is said."""
        protocol: Protocol = self.factory().buildProtocol(None)
        protocol.makeConnection(StringTransport())
        for index in range(len(banner)):
            protocol.dataReceived(banner[index : index + 1])
        return protocol

    def lose(self) -> None:
        """The last connection ends."""
        self.factory().clientConnectionLost(self.connector(), Failure(ConnectionLost()))

    def up(self) -> None:
        """The peer is watched and connected."""
        self.watch.watch(((PEER, ADDRESS),))
        self.answer(format_banner(PEER))
        self.assertEqual(self.watch.connected, (PEER,))


class WatchTests(WatchCase):
    """Watching others."""

    def test_killed(self) -> None:
        """A connection that breaks and two refused attempts 10 ms apart: dead."""
        self.up()
        self.lose()
        self.assertEqual(self.attempts, 2)
        self.refuse()
        self.assertEqual((self.attempts, self.dead), (2, []))
        self.clock.run_for(CONFIRM_SECONDS)
        self.assertEqual(self.attempts, 3)
        self.refuse()
        self.assertEqual(self.dead, [PEER])

    def test_said_again(self) -> None:
        """As long as the engine wants the dead one watched, it is confirmed and told anew."""
        self.test_killed()
        self.clock.run_for(1.0)
        self.refuse()
        self.clock.run_for(CONFIRM_SECONDS)
        self.refuse()
        self.assertEqual(self.dead, [PEER, PEER])

    def test_listener_replaced(self) -> None:
        """One refusal, then the same process again: alive."""
        self.up()
        self.lose()
        self.refuse()
        self.clock.run_for(CONFIRM_SECONDS)
        self.answer(format_banner(PEER))
        self.assertEqual((self.dead, self.watch.connected), ([], (PEER,)))

    def test_restarted(self) -> None:
        """Another run of the node answers, twice: the one watched is dead."""
        self.up()
        self.lose()
        for _ in range(2):
            protocol = self.answer(format_banner(NodeId(PEER.name, PEER.incarnation + 1)))
            self.assertTrue(is_closed(protocol))
            self.lose()
            self.clock.run_for(CONFIRM_SECONDS)
        self.assertEqual(self.dead, [PEER])

    def test_timeouts_say_nothing(self) -> None:
        """Attempts that time out are made again and kill nobody."""
        self.up()
        self.lose()
        for _ in range(20):
            self.refuse(TCPTimedOutError)
            self.clock.run_for(2.0)
        self.assertEqual(self.dead, [])
        self.assertEqual(self.attempts, 22)

    def test_timeout_between_refusals(self) -> None:
        """The two refusals have to follow each other."""
        self.up()
        self.lose()
        self.refuse()
        self.clock.run_for(CONFIRM_SECONDS)
        self.refuse(TCPTimedOutError)
        self.clock.run_for(1.0)
        self.refuse()
        self.assertEqual(self.dead, [])

    def test_firewall(self) -> None:
        """A peer that refused from the start was never connected to: that says nothing."""
        self.watch.watch(((PEER, ADDRESS),))
        for _ in range(10):
            self.refuse()
            self.clock.run_for(1.0)
        self.assertEqual(self.dead, [])

    def test_probe(self) -> None:
        """On request two refusals are enough, and the probe is over then."""
        self.watch.probe(PEER, ADDRESS)
        self.watch.probe(PEER, ADDRESS)
        self.assertEqual(self.attempts, 1)
        self.refuse()
        self.clock.run_for(CONFIRM_SECONDS)
        self.refuse()
        self.clock.run_for(5.0)
        self.assertEqual((self.dead, self.attempts), ([PEER], 2))
        self.watch.probe(PEER, ADDRESS)
        self.assertEqual(self.attempts, 3)

    def test_probe_of_the_living(self) -> None:
        """A probe that is answered ends and says nothing."""
        self.watch.probe(PEER, ADDRESS)
        self.answer(format_banner(PEER))
        self.assertTrue(self.connector()._disconnected)
        self.lose()
        self.clock.run_for(5.0)
        self.assertEqual((self.dead, self.attempts), ([], 1))

    def test_probe_without_answer(self) -> None:
        """A probe that says nothing gives up after three attempts."""
        self.watch.probe(PEER, ADDRESS)
        for _ in range(3):
            self.refuse(TCPTimedOutError)
            self.clock.run_for(1.0)
        self.assertEqual((self.dead, self.attempts), ([], 3))
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_silent_listener(self) -> None:
        """A connection on which nothing is said is closed after a while, and tried again."""
        self.watch.watch(((PEER, ADDRESS),))
        self.answer(b"")
        self.clock.run_for(CONNECT_TIMEOUT_SECONDS + BANNER_SECONDS)
        self.assertTrue(self.connector()._disconnected)
        self.lose()
        self.clock.run_for(1.0)
        self.assertEqual((self.attempts, self.dead), (2, []))

    def test_something_else_listens(self) -> None:
        """A talker that is no node is cut off and says nothing."""
        self.watch.watch(((PEER, ADDRESS),))
        protocol = self.answer(b"x" * 200)
        self.assertTrue(is_closed(protocol))
        self.lose()
        self.assertEqual(self.dead, [])

    def test_change(self) -> None:
        """Those still wanted keep their connection; the others are closed and forgotten."""
        self.up()
        other = NodeId("other", 1)
        self.watch.watch(((PEER, ADDRESS), (other, ("10.0.0.3", 1))))
        self.assertEqual((self.attempts, self.watch.connected), (2, (PEER,)))
        self.watch.watch(((other, ("10.0.0.3", 1)),))
        self.assertTrue(self.clock.connectors[0]._disconnected)
        self.assertEqual(self.watch.connected, ())

    def test_stop(self) -> None:
        """Stopping is over when the last connection has ended; nothing is reported and no delayed call is left."""
        self.up()
        self.watch.probe(NodeId("other", 1), ("10.0.0.3", 1))
        stopping = self.watch.stop()
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.refuse()
        self.assertNoResult(stopping)
        cast(Any, self.clock.tcpClients[0][2]).clientConnectionLost(self.clock.connectors[0], Failure(ConnectionDone()))
        self.successResultOf(stopping)
        self.assertEqual((self.dead, self.clock.getDelayedCalls()), ([], []))


class HostTests(WatchCase):
    """Whether a host answers, whatever its process does."""

    def ask(self, acknowledged_ago: float | None) -> int:
        """Ask once, when the other kernel has last acknowledged something so long ago; how often it was found alive."""
        self.patch(watch_module, "acknowledged_seconds_ago", lambda transport: acknowledged_ago)
        before = len(self.alive)
        self.watch.ask_host(PEER)
        return len(self.alive) - before

    def test_acknowledged_since_the_last_question(self) -> None:
        """Then it lives; what is older, or unknown, says nothing, nor does anything at the first question."""
        self.up()
        self.assertEqual(self.alive, [PEER], "who accepts a connection lives")
        self.assertEqual(self.ask(0.0), 0)
        self.clock.advance(0.02)
        self.assertEqual(self.ask(0.0), 1)
        for acknowledged_ago in (0.5, None):
            self.clock.advance(0.02)
            self.assertEqual(self.ask(acknowledged_ago), 0)
        self.clock.advance(FORGOTTEN_SECONDS)
        self.assertEqual(self.ask(0.5), 0)

    def test_without_a_connection(self) -> None:
        """Nothing is written, and nothing is known."""
        self.watch.watch(((PEER, ADDRESS),))
        self.assertEqual((self.ask(0.0), self.ask(0.0)), (0, 0))

    def test_what_the_kernel_says(self) -> None:
        """On a real connection the other kernel acknowledges what nobody reads."""
        with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as client:
            client.send(b"\n")
            transport = cast(ITCPTransport, SimpleNamespace(getHandle=lambda: client))
            seconds = acknowledged_seconds_ago(transport)
            assert seconds is not None
            self.assertTrue(0.0 <= seconds < 60.0, seconds)
        self.assertIsNone(acknowledged_seconds_ago(transport))
