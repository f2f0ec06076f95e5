"""Makes the daemon's end of each control connection, counts them, and logs what their peers do wrong.

Decides how many there may be, and how often a misdeed is worth a line.
"""

from __future__ import annotations

from collections.abc import Callable
from time import thread_time

from twisted.cred.portal import Portal
from twisted.internet.interfaces import IAddress, IReactorTime
from twisted.internet.protocol import Protocol, ServerFactory
from twisted.logger import Logger
from twisted.python.failure import Failure

from groupcomm.daemon import caps
from groupcomm.daemon.connection import ServerBroker
from groupcomm.daemon.login import LoginRoot
from groupcomm.daemon.principal import CertifiedAddress, Crowd, Principal
from groupcomm.daemon.reading import ReadingTime, Share


class ControlFactory(ServerFactory):
    """The connections of one daemon, over all its control endpoints.

    Invariants: at most ``MAX_CONNECTIONS`` and ``MAX_UNAUTHENTICATED`` are open, of one principal at most
    ``MAX_PRINCIPAL_CONNECTIONS`` unless it is exempt.

    Attributes:
        time: what all connections of clients may take of the reactor's.

    Args:
        clock: the reactor's time.
        portal: where clients log in.
        exempt: which principals may have any number of connections.
        measure: the processor time of this thread, in seconds.
    """

    noisy = False
    unsafeTracebacks = False
    log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        portal: Portal,
        exempt: Callable[[Principal], bool] = lambda _: False,
        measure: Callable[[], float] = thread_time,
    ) -> None:
        self.crowd = Crowd(caps.MAX_PRINCIPAL_CONNECTIONS, exempt)
        self._clock = clock
        self._portal = portal
        self.time = ReadingTime(clock, measure)
        self._logins = Share(clock, caps.LOGINS_PER_SECOND, caps.LOGIN_BURST)
        self._unauthenticated: set[ServerBroker] = set()
        self._logged_at: dict[str, float] = {}
        self._unlogged = 0
        self.brokers: set[ServerBroker] = set()
        self.counters = {
            "connections": 0,
            "connections_refused": 0,
            "connections_cut": 0,
            "logins": 0,
            "logins_refused": 0,
            "clients_slowed": 0,
            "clients_too_slow": 0,
            "calls_failed": 0,
        }

    def buildProtocol(self, addr: IAddress | None) -> Protocol | None:
        """A broker for a new connection; None, which closes it, if there are too many."""
        if len(self.brokers) >= caps.MAX_CONNECTIONS or len(self._unauthenticated) >= caps.MAX_UNAUTHENTICATED:
            self.counters["connections_refused"] += 1
            self._report("a control connection was refused: too many are open")
            return None
        certified = addr if isinstance(addr, CertifiedAddress) else None
        broker = ServerBroker(self._clock, self.time, certified)
        broker.factory = self
        broker.publish_root(LoginRoot(self._portal, broker))
        self.brokers.add(broker)
        self._unauthenticated.add(broker)
        self.counters["connections"] += 1
        return broker

    def admit(self, principal: Principal) -> bool:
        """Whether this principal may have one connection more; it is counted then."""
        if self.crowd.enter(principal):
            return True
        self.counters["connections_refused"] += 1
        self._report(f"a control connection was refused: {principal.name} has too many")
        return False

    def clientConnectionMade(self, broker: ServerBroker) -> None:
        """The protocol has begun; nothing to do until the login."""

    def admits_login(self) -> bool:
        """Whether one more may log in now."""
        admitted = not self._logins.take(0)
        if admitted:
            self._logins.take(1)
        else:
            self.counters["logins_refused"] += 1
        return admitted

    def login_succeeded(self, broker: ServerBroker) -> None:
        """It is no stranger any more."""
        self._unauthenticated.discard(broker)

    def connection_lost(self, broker: ServerBroker) -> None:
        """It is gone."""
        self._unauthenticated.discard(broker)
        self.brokers.discard(broker)

    def misdeed(self, text: str) -> None:
        """A client did what none should, and its connection is cut."""
        self.counters["connections_cut"] += 1
        self._report(f"a control connection was cut: {text}")

    def client_slowed(self) -> None:
        """A client's calls cost so much to read that it has to wait."""
        self.counters["clients_slowed"] += 1
        self._report("a client has to wait: reading its calls takes more than its share of the processor")

    def call_failed(self, failure: Failure) -> None:
        """A client's call failed by a fault of the daemon's: the traceback is worth having once."""
        self.counters["calls_failed"] += 1
        if self._may_log("failure"):
            self.log.failure("a client's call failed (logged at most once a minute; the status counts)", failure)

    def _report(self, text: str) -> None:
        """One line, with how many there were since the last."""
        if self._may_log("misdeed"):
            self.log.warn("{text} ({unlogged} more since the last such line)", text=text, unlogged=self._unlogged)
            self._unlogged = 0
        else:
            self._unlogged += 1

    def _may_log(self, kind: str) -> bool:
        """Whether this kind has not been logged for ``LOG_INTERVAL_SECONDS``; if so, it now counts as logged."""
        now = self._clock.seconds()
        if now - self._logged_at.get(kind, -caps.LOG_INTERVAL_SECONDS) < caps.LOG_INTERVAL_SECONDS:
            return False
        self._logged_at[kind] = now
        return True
