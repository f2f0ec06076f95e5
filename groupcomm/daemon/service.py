"""A daemon: a node, its control endpoints and its clients, as one service.

Decides the order of starting and stopping. Control endpoints are opened before the node, so that the node's "listening"
line is the last thing said; on the way down the node leaves first, so that clients hear of a leave and not of a
failure, and connections are closed after that.
"""

# What is inherited from twisted.application.service is untyped.
# mypy: disallow-untyped-calls=False

from __future__ import annotations

import os
from pathlib import Path
from typing import Protocol, cast

from twisted.application.service import Service
from twisted.cred.portal import Portal
from twisted.internet.defer import Deferred, gatherResults, maybeDeferred
from twisted.internet.endpoints import serverFromString
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IListeningPort, IReactorFDSet, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from groupcomm.daemon.channel_doors import ChannelDoors
from groupcomm.daemon.control import ControlEndpoint, SocketGuard, escape
from groupcomm.daemon.delivery import DeliveryLimits
from groupcomm.daemon.factory import ControlFactory
from groupcomm.daemon.login import NameChecker
from groupcomm.daemon.realm import Realm, ServedNode
from groupcomm.daemon.rights import AccessRules
from groupcomm.daemon.settings import Origin
from groupcomm.daemon.tls_hall import TlsHall
from groupcomm.errors import EnvironmentFault
from groupcomm.limits import MAX_SESSIONS


class NodeService(ServedNode, Protocol):
    """The node a daemon runs."""

    def startService(self) -> None:
        """Open its sockets; raises ``EnvironmentFault`` if this host does not let it."""

    def stopService(self) -> Deferred[None]:
        """Leave and close everything."""


class DaemonService(Service):
    """A node with its clients.

    Invariant: while it runs every control endpoint is open; when ``stopService`` has fired nothing is.

    Args:
        reactor: runs it all.
        node: the node, not started.
        control: where clients connect.
        origins: the settings, for the status.
        limits: when a client is too slow.
        acl: a file with the rights of clients; None: those of ``AccessRules`` without one.
        max_clients: how many may be logged in at once.
    """

    _log = Logger()

    def __init__(
        self,
        reactor: IReactorTime,
        node: NodeService,
        control: tuple[ControlEndpoint, ...],
        origins: tuple[Origin, ...] = (),
        limits: DeliveryLimits | None = None,
        acl: Path | None = None,
        *,
        max_clients: int = MAX_SESSIONS,
    ) -> None:
        self._reactor = reactor
        self._node = node
        self._control = control
        self._guards: list[SocketGuard] = []
        self._ports: list[IListeningPort] = []
        self._channel_ports: list[IListeningPort] = []
        access = AccessRules(os.geteuid(), acl)
        self.realm = Realm(reactor, node, origins, limits, access, max_clients=max_clients)
        self.factory = ControlFactory(reactor, Portal(self.realm, [NameChecker()]), access.is_owner)
        self.realm.counters = self.factory.counters
        self._doors = ChannelDoors(reactor, self.realm.upload_budget, self.factory, access.is_owner)
        self.realm.channels = self._doors

    def startService(self) -> None:
        """Open the control endpoints, then start the node.

        Raises:
            EnvironmentFault: this host does not give what is needed; nothing is left open.
        """
        try:
            for endpoint in self._control:
                self._open(endpoint)
            self._log.info("control at {control}", control=", ".join(self.control_descriptions()))
            self._node.startService()
        except Exception:
            self._close_ports()
            raise
        super().startService()

    def stopService(self) -> Deferred[None]:
        """Take no more clients, leave the cluster, say goodbye to the clients; fires when nothing is left."""
        super().stopService()
        self.realm.stopping = True
        stopping: list[Deferred[None]] = [self._close_ports(), maybeDeferred(self._node.stopService)]
        stopped: Deferred[list[None]] = gatherResults(stopping, consumeErrors=True)
        return stopped.addErrback(self._log_failure).addCallback(lambda _: self._part_from_clients())

    def control_descriptions(self) -> tuple[str, ...]:
        """What clients pass to ``connect``, for each endpoint that is open."""
        return tuple(
            endpoint.client_description
            if endpoint.path is not None
            else f"{'tls' if endpoint.tls else 'tcp'}:{_host(port)}"
            for endpoint, port in zip(self._control, self._ports, strict=False)
        )

    def _open(self, endpoint: ControlEndpoint) -> None:
        if endpoint.path is not None:
            guard = SocketGuard(endpoint.path)
            guard.acquire()
            self._guards.append(guard)
        mask = os.umask(0o777 & ~endpoint.mode)  # the socket has its mode from the moment it exists
        try:
            opened = self._listen(endpoint)
        finally:
            os.umask(mask)
        failures: list[Failure] = []
        opened.addCallbacks(self._ports.append, failures.append)
        if failures:
            error = failures[0].value
            if isinstance(error, CannotListenError | OSError | EnvironmentFault):
                raise EnvironmentFault(f"cannot open the control endpoint {endpoint.description}: {error}") from None
            failures[0].raiseException()
        if endpoint.tls is None:
            self._open_channels(endpoint, self._ports[-1])

    def _listen(self, endpoint: ControlEndpoint) -> Deferred[IListeningPort]:
        if endpoint.tls is None:
            return maybeDeferred(serverFromString(self._reactor, endpoint.description).listen, self.factory)
        from groupcomm.daemon.tls import TlsServerEndpoint  # OpenSSL is for those who use it

        return TlsServerEndpoint(self._reactor, endpoint.tls, self.factory.misdeed).listen(
            TlsHall(self._reactor, self.factory, self._doors)
        )

    def _open_channels(self, endpoint: ControlEndpoint, control: IListeningPort) -> None:
        """The socket for data channels beside a control endpoint; clients do without it if it cannot be had."""
        if not IReactorFDSet.providedBy(self._reactor):
            return
        reactor = cast(IReactorFDSet, self._reactor)
        path = endpoint.channel_path
        try:
            if endpoint.path is None:
                self._channel_ports.append(self._doors.open_tcp(reactor, control.getHost()))
            elif path is not None:
                guard = SocketGuard(path)
                guard.acquire()
                self._guards.append(guard)
                self._channel_ports.append(self._doors.open_unix(reactor, endpoint.path, path, endpoint.mode))
        except (EnvironmentFault, CannotListenError, OSError) as error:
            self._log.warn(
                "no data channels beside {control}: {error}", control=endpoint.client_description, error=error
            )

    def _close_ports(self) -> Deferred[None]:
        ports = self._ports + self._channel_ports
        self._ports, self._channel_ports = [], []
        closing = gatherResults([maybeDeferred(port.stopListening) for port in ports], consumeErrors=True)
        return closing.addErrback(self._log_failure).addCallback(lambda _: self._release_guards())

    def remove_sockets(self) -> None:
        """Remove what would be left behind by a process that ends without turning the reactor."""
        for guard in self._guards:
            guard.path.unlink(missing_ok=True)

    def _release_guards(self) -> None:
        while self._guards:
            self._guards.pop().release()

    def _part_from_clients(self) -> Deferred[None]:
        """Strangers go at once; clients when they have been told, or have had their time."""
        parting = [
            broker.when_lost() if broker.authenticated else broker.part() for broker in tuple(self.factory.brokers)
        ]
        self._doors.close()
        return gatherResults(parting).addCallback(lambda _: None)

    def _log_failure(self, failure: Failure) -> None:
        self._log.failure("stopping failed", failure)


def _host(port: IListeningPort) -> str:
    host = port.getHost()
    return f"{escape(host.host)}:{host.port}"  # type: ignore[attr-defined]  # only TCP ports have no path
