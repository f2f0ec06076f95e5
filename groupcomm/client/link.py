"""The client's end of a control connection: connecting, logging in, and calls with errors of this package.

Knows Perspective Broker and nothing of groups. Every error that leaves here is one of ``groupcomm.errors``.
"""

# What is inherited from twisted.spread is untyped.
# mypy: disallow-untyped-calls=False

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Mapping
from typing import ClassVar, cast
from typing import Protocol as Interface

from attrs import frozen
from twisted.internet.defer import CancelledError, Deferred, fail
from twisted.internet.endpoints import clientFromString
from twisted.internet.error import ConnectError, ConnectingCancelledError
from twisted.internet.interfaces import IAddress, IReactorTime, IStreamClientEndpoint
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure
from twisted.spread import pb

from groupcomm.daemon.broker import CLIENT_TYPES, BudgetedBroker
from groupcomm.daemon.control import client_description, escape, find_control, is_tls
from groupcomm.daemon.errors import as_local_error
from groupcomm.daemon.schema import DeclaredMethods, Method, Parameter
from groupcomm.errors import GroupcommError, NotConnected, Refused, UsageError

LOGIN_SECONDS = 10.0
"""How long a daemon may take to answer a login."""


class ClientBroker(BudgetedBroker):
    """The client's end.

    Attributes:
        ready: fires when calls can be made; fails with ``NotConnected`` if it never comes to that.
        lost: fires when the connection is gone.
        lost_reason: why it is, if it is.
    """

    def __init__(self) -> None:
        super().__init__(isClient=True, security=CLIENT_TYPES)
        self.ready: Deferred[None] = Deferred()
        self.lost: Deferred[None] = Deferred()
        self.lost_reason: Failure | None = None

    def connectionReady(self) -> None:
        """The two ends agree on the protocol."""
        super().connectionReady()
        if not self.ready.called:
            self.ready.callback(None)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Fail what waits."""
        self.lost_reason = reason
        super().connectionLost(reason)
        if not self.ready.called:
            self.ready.errback(NotConnected(self.violation or "the daemon closed the connection"))
        self.lost.callback(None)

    def proto_answer(self, requestID: int, netResult: object) -> None:
        """An answer to one of our calls."""
        value = self.read_value(netResult)
        waiting: dict[int, Deferred[object]] = self.waitingForAnswers  # type: ignore[assignment]  # None only once closed
        waiting.pop(requestID).callback(value)

    def peer_broke_protocol(self, text: str) -> None:
        """Who waits for an answer is told; nothing to log here."""

    def abort(self) -> None:
        """Close the connection at once."""
        self.transport.abortConnection()  # type: ignore[attr-defined]  # every stream transport of Twisted has it


class BrokerFactory(Factory):
    """Makes the one broker of a connection."""

    noisy = False
    unsafeTracebacks = False

    def buildProtocol(self, addr: object) -> Protocol | None:
        """The broker."""
        broker = ClientBroker()
        broker.factory = self  # type: ignore[assignment]  # None in the base, which sets it later
        return broker

    def clientConnectionMade(self, broker: ClientBroker) -> None:
        """The protocol has begun."""


def _batch(value: object) -> list[object]:
    if not isinstance(value, list):
        raise UsageError("must be a list")
    return value


class EventReceiver(DeclaredMethods):
    """The object the daemon calls with batches of events; its answer is the acknowledgement."""

    def __init__(self, receive: Callable[[list[object]], None]) -> None:
        self._receive = receive

    def events(self, batch: list[object]) -> None:
        """One batch."""
        self._receive(batch)

    methods: ClassVar[Mapping[str, Method]] = {"events": Method(events, (Parameter("batch", _batch),))}


class CertifiedEndpoint(Interface):
    """What is asked of an endpoint with a certificate."""

    @property
    def client_name(self) -> str:
        """The name in the certificate."""

    def for_channel(self) -> IStreamClientEndpoint:
        """The same way, for a data channel."""

    def explain(self, reason: Failure) -> GroupcommError | None:
        """What it means that a connection was lost for that reason; None if that has nothing to do with TLS."""


@frozen
class Way:
    """How to a daemon.

    Attributes:
        endpoint: connects to it.
        where: for people.
        certified: the endpoint, if it shows a certificate of ours; None if it does not.
    """

    endpoint: IStreamClientEndpoint
    where: str
    certified: CertifiedEndpoint | None = None


def find_way(reactor: IReactorTime, endpoint: IStreamClientEndpoint | str | None, environ: Mapping[str, str]) -> Way:
    """How to the daemon that is meant.

    Args:
        reactor: what runs it.
        endpoint: where the daemon is: an endpoint, its description, the absolute path of a UNIX socket, or None to
            look for the only one here.
        environ: where ``GROUPCOMM_CONTROL`` and the run directories are looked up.

    Raises:
        NotConnected: none was given and there is none here.
        UsageError: the description is none.
    """
    if endpoint is None:
        endpoint = find_control(environ, os.geteuid())
    if not isinstance(endpoint, str):
        return Way(
            endpoint, repr(endpoint), cast(CertifiedEndpoint, endpoint) if hasattr(endpoint, "for_channel") else None
        )
    where = client_description(endpoint)
    if is_tls(where):
        from groupcomm.client.tls import TlsClientEndpoint, parse_destination  # OpenSSL is for those who use it

        there = parse_destination(where)
        secure = TlsClientEndpoint(reactor, there)
        return Way(secure, f"tls:{escape(there.host)}:{there.port}", secure)
    try:
        return Way(cast(IStreamClientEndpoint, clientFromString(reactor, where)), where)
    except (ValueError, TypeError, KeyError, IndexError) as error:
        raise UsageError(f"{where!r} is not a client endpoint description: {error}") from None


class Link:
    """A logged-in control connection.

    Attributes:
        way: how the daemon was reached.
    """

    def __init__(self, broker: ClientBroker, avatar: pb.RemoteReference, way: Way) -> None:
        self._broker = broker
        self._avatar = avatar
        self.way = way

    @property
    def lost(self) -> Deferred[None]:
        """Fires when the connection is gone; one for all who ask, so pass on what you get."""
        return self._broker.lost

    @property
    def peer(self) -> IAddress:
        """The daemon's address."""
        address: IAddress = self._broker.transport.getPeer()
        return address

    @property
    def broken(self) -> str | None:
        """What the daemon did wrong, if that ended the connection."""
        return self._broker.violation

    def call(
        self, method: str, *args: object, lost: Callable[[str], GroupcommError] = NotConnected
    ) -> Deferred[object]:
        """Call a method of the avatar.

        Args:
            method: its name.
            args: its arguments.
            lost: makes the error if the connection is lost before the answer.

        Returns:
            Fires with the answer; fails with an error of ``groupcomm.errors``.
        """
        try:
            answer: Deferred[object] = self._avatar.callRemote(method, *args)
        except pb.DeadReferenceError:
            return fail(NotConnected("the connection to the daemon is closed"))
        return answer.addErrback(translate, lost)

    def abort(self) -> None:
        """Close the connection at once."""
        self._broker.abort()


def translate(failure: Failure, lost: Callable[[str], GroupcommError] = NotConnected) -> Failure:
    """The failure of a call, as one with an error of ``groupcomm.errors``."""
    if isinstance(failure, pb.CopiedFailure):
        kind: object = failure.type  # the name of a class, whatever the base says
        return Failure(as_local_error(kind if isinstance(kind, bytes) else str(kind), str(failure.value)))
    if failure.check(pb.PBConnectionLost, pb.DeadReferenceError):
        return Failure(lost("the connection to the daemon was lost"))
    return failure


async def open_link(
    reactor: IReactorTime,
    way: Way,
    name: str,
    receive: Callable[[list[object]], None],
) -> Link:
    """Connect and log in.

    Args:
        reactor: what runs it.
        way: how to the daemon.
        name: the client's name.
        receive: called with each batch of plain events.

    Raises:
        NotConnected: no daemon is there, or it went away.
        Refused: the socket or the daemon refuses; ``NameInUse`` and other ``UsageError``s are the daemon's too.
    """
    where = way.where
    try:
        broker = await way.endpoint.connect(BrokerFactory())
    except ConnectingCancelledError:
        raise CancelledError from None
    except (ConnectError, OSError) as error:
        code = error.osError if isinstance(error, ConnectError) else error.errno
        if code in (errno.EACCES, errno.EPERM):
            raise Refused(f"{where} may not be opened by this user") from None
        raise NotConnected(f"no daemon at {where}: {error}") from None
    assert isinstance(broker, ClientBroker)
    late = reactor.callLater(LOGIN_SECONDS, broker.abort)
    try:
        await broker.ready
        return Link(broker, await _login(broker, name, EventReceiver(receive)), way)
    except CancelledError:
        broker.abort()
        raise
    except GroupcommError as error:
        broker.abort()
        if not late.active():
            raise NotConnected(f"the daemon at {where} does not answer") from None
        if way.certified is not None and broker.lost_reason is not None:
            raise way.certified.explain(broker.lost_reason) or error from None
        raise error
    finally:
        if late.active():
            late.cancel()


async def _login(broker: ClientBroker, name: str, receiver: EventReceiver) -> pb.RemoteReference:
    root = broker.remoteForName("root")
    answer = await root.callRemote("login", name).addErrback(translate)
    match answer:
        case (bytes(), pb.RemoteReference() as challenger):
            avatar = await challenger.callRemote("respond", b"", receiver).addErrback(translate)
        case _:
            raise NotConnected("what answers there is no groupcomm daemon")
    if not isinstance(avatar, pb.RemoteReference):
        raise NotConnected("what answers there is no groupcomm daemon")
    return avatar
