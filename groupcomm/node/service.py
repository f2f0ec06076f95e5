"""The service an application or a daemon starts and stops, and the embedded interface.

A node is an ``IConnection`` by a session of its own. Everything that must stop belongs to the driver of its run.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from typing import TypeVar

from twisted.application.service import Service
from twisted.internet.defer import Deferred, fail, succeed
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from groupcomm.errors import NotConnected, UsageError
from groupcomm.events import Level, Message, Outside, Undeliverable
from groupcomm.identity import MemberId, NodeId, checked_name
from groupcomm.interfaces import IConnection, IGroup, IGroupEvents
from groupcomm.net.reactor import INodeReactor
from groupcomm.node.config import NodeConfig
from groupcomm.node.driver import NodeDriver, NodeNews, NodeSeams
from groupcomm.node.embedded import LocalConnection
from groupcomm.outputs import Address, Stopped
from groupcomm.sessions import LocalSession, SessionHandler
from groupcomm.status import NodeStatus, ViewChange

_Result = TypeVar("_Result")


@implementer(IConnection)
class Node(Service):
    """One node of a cluster.

    Invariants: from ``startService`` to the end of ``stopService`` (or ``Stopped``) there is one engine, one set of
    sockets and at most one delayed call; the engine is never called while it is at work, nor after it has stopped.
    """

    _log = Logger()

    def __init__(self, reactor: INodeReactor, config: NodeConfig, seams: NodeSeams | None = None) -> None:
        """Open nothing yet.

        Args:
            reactor: runs it all.
            config: the settings.
            seams: replaces parts, for tests.
        """
        self._reactor = reactor
        self.config = config
        self._seams = seams if seams is not None else NodeSeams()
        self._run: NodeDriver | None = None
        self._observers: list[Callable[[NodeNews], None]] = []
        self._connections: dict[str, LocalConnection] = {}

    # The service.

    def startService(self) -> None:
        """Open the sockets and look for the others.

        Raises:
            EnvironmentFault: this host does not give what is needed; nothing is left open.
        """
        self._run = NodeDriver(self._reactor, self.config, self._seams, self._tell)
        Service.startService(self)
        self._run.begin()

    def stopService(self) -> Deferred[None]:
        """Leave the cluster, close everything; fires when nothing is left."""
        Service.stopService(self)
        run = self._run
        if run is None:
            return succeed(None)

        def ended(result: Failure | None) -> Failure | None:
            if self._run is run:
                self._run = None
                self._connections.clear()
            return result

        return run.end().addBoth(ended)

    # Sessions.

    def open_session(self, client_name: str, handler: SessionHandler) -> LocalSession:
        """Open a session.

        Raises:
            NameInUse: a live session of this node has that name.
            UsageError: it cannot be a name, or there are too many sessions.
            NotConnected: the node does not run.
        """
        checked_name(client_name, "a client name")
        return self._running().open_session(client_name, handler)

    def connect(self, client_name: str) -> LocalConnection:
        """Open a session with group handles, inside this process; raises as ``open_session``."""
        return LocalConnection(lambda handler: self.open_session(client_name, handler))

    # What is to be seen.

    @property
    def id(self) -> NodeId:
        """Name and incarnation of this run."""
        return self._running().id

    @property
    def address(self) -> Address:
        """Where the node listens on its first link: host and port, UDP and TCP."""
        return self._running().transport.address

    @property
    def addresses(self) -> tuple[Address, ...]:
        """Where the node listens, on each of its links."""
        return self._running().transport.addresses

    @property
    def stopped(self) -> Stopped | None:
        """How the engine ended, if it has."""
        return self._run.stopped if self._run is not None else None

    def observe(self, observer: Callable[[NodeNews], None]) -> None:
        """Call ``observer`` with every node view, signal and the end, from now on."""
        self._observers.append(observer)

    def status(self) -> NodeStatus:
        """What the node says of itself, the counters of its sockets and watch included."""
        return self._running().status()

    def changes(self) -> tuple[ViewChange, ...]:
        """The last 32 changes of the node's view and what led to each, the latest at the end."""
        return self._running().history.changes

    def rotate_key(self) -> Deferred[int]:
        """Bring the cluster to its next key epoch; fires with its number when this node seals under it.

        Raises:
            UsageError: through the Deferred: this cluster has no key.
        """
        return self._running().rotate_key()

    def expel(self, name: str) -> Deferred[None]:
        """Put a node out of a cluster with certificates; fires when this one hears it no more, a view follows.

        Raises:
            UsageError: through the Deferred: this cluster has no certificates, or that is no name of another node.
        """
        return self._running().expel(name)

    # IConnection, by a session named like the node.

    @property
    def member(self) -> MemberId:
        """The node's own session, as the others see it."""
        return self._own().member

    def join(
        self,
        group: str,
        listener: IGroupEvents | None = None,
        client_name: str | None = None,
        *,
        outside: Outside = Outside.GO_ON,
    ) -> Deferred[IGroup]:
        """Join a group with the session of that name: the node's own, or one kept per name.

        Returns:
            Fires with the handle when the join has its place in the order.
        """
        return self._with_own(lambda own: own.join(group, listener, outside=outside), client_name)

    def send(
        self,
        groups: Sequence[str],
        data: bytes,
        *,
        level: Level = Level.AGREED,
        stable: bool = False,
        self_discard: bool = False,
    ) -> Deferred[None]:
        """Send one message to several groups with the node's own session."""
        return self._with_own(lambda own: own.send(groups, data, level=level, stable=stable, self_discard=self_discard))

    def send_many(
        self,
        groups: Sequence[str],
        messages: Sequence[bytes],
        *,
        level: Level = Level.AGREED,
        stable: bool = False,
        self_discard: bool = False,
    ) -> Deferred[None]:
        """Send several messages to several groups with the node's own session."""
        return self._with_own(
            lambda own: own.send_many(groups, messages, level=level, stable=stable, self_discard=self_discard)
        )

    def send_private(
        self, recipient: MemberId | str, data: bytes, *, level: Level = Level.AGREED, stable: bool = False
    ) -> Deferred[None]:
        """Send to one member with the node's own session."""
        return self._with_own(lambda own: own.send_private(recipient, data, level=level, stable=stable))

    def private_messages(self) -> AsyncIterator[Message | Undeliverable]:
        """Private messages and ``Undeliverable`` events of the node's own session."""
        return self._own().private_messages()

    def close(self) -> Deferred[None]:
        """End the node's own session; the node goes on."""
        connection = self._connections.pop(self.config.node, None)
        return succeed(None) if connection is None else connection.close()

    # Helpers.

    def _own(self, client_name: str | None = None) -> LocalConnection:
        """The session kept under that name."""
        name = self.config.node if client_name is None else client_name
        connection = self._connections.get(name)
        if connection is None or connection.closed:
            connection = self.connect(name)
            self._connections[name] = connection
        return connection

    def _with_own(
        self, call: Callable[[LocalConnection], Deferred[_Result]], client_name: str | None = None
    ) -> Deferred[_Result]:
        """Do it with the session kept under that name; fails if there can be none."""
        try:
            own = self._own(client_name)
        except (NotConnected, UsageError) as error:
            return fail(error)
        return call(own)

    def _running(self) -> NodeDriver:
        """The run under way."""
        if self._run is None:
            raise NotConnected("the node does not run")
        return self._run

    def _tell(self, news: NodeNews) -> None:
        """Tell the observers."""
        for observer in list(self._observers):
            try:
                observer(news)
            except Exception:
                self._log.failure("an observer of node {node} failed", node=self.config.node)
