"""The daemon's end of one control connection.

Decides when the login is too late, when the client is not read from, and how long a client that is told goodbye may
take. What it may send is the broker's to bound.
"""

# What is inherited from twisted.spread is untyped.
# mypy: disallow-untyped-calls=False

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IPushProducer, IReactorTime
from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure
from twisted.spread import pb

from groupcomm.daemon import caps
from groupcomm.daemon.broker import SERVER_TYPES, SESSION_BUDGET, BudgetedBroker, ProtocolViolation

if TYPE_CHECKING:
    from groupcomm.daemon.factory import ControlFactory


class ServerBroker(BudgetedBroker):
    """The daemon's end of a control connection: a login deadline, a budget that grows with login, and pauses.

    Invariant: the transport is read unless one of ``_paused`` says otherwise.
    """

    factory: ControlFactory  # type: ignore[assignment]  # None in the base, which sets it later

    def __init__(self, clock: IReactorTime) -> None:
        super().__init__(isClient=False, security=SERVER_TYPES)
        self._clock = clock
        self._deadline: IDelayedCall | None = None
        self._cut_off: IDelayedCall | None = None
        self._paused: set[str] = set()
        self._lost: list[Deferred[None]] = []
        self.authenticated = False

    def connectionMade(self) -> None:
        """Start the clock of the login; watch the output, which a client that does not read would let grow."""
        super().connectionMade()
        self._deadline = self._clock.callLater(caps.LOGIN_SECONDS, self._login_is_late)
        self.transport.registerProducer(self, True)  # type: ignore[attr-defined]

    def publish_root(self, root: pb.Referenceable) -> None:
        """What the peer can call from the start."""
        self.setNameForLocal("root", root)

    def on_disconnect(self, call: Callable[[], None]) -> None:
        """Call when the connection is lost."""
        self.notifyOnDisconnect(call)

    def login_succeeded(self) -> None:
        """From now on calls may be large."""
        self.authenticated = True
        self.budget = SESSION_BUDGET
        self._cancel(self._deadline)
        self.factory.login_succeeded(self)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Everything that waits for this connection goes on."""
        self._cancel(self._deadline)
        self._cancel(self._cut_off)
        super().connectionLost(reason)
        self.factory.connection_lost(self)
        lost, self._lost = self._lost, []
        for waiter in lost:
            waiter.callback(None)

    def when_lost(self) -> Deferred[None]:
        """Fires when the connection is closed."""
        lost: Deferred[None] = Deferred()
        if self.disconnected:
            lost.callback(None)
        else:
            self._lost.append(lost)
        return lost

    def part(self) -> Deferred[None]:
        """Close the connection once the client has read what is on its way, or has had its time; fires then."""
        if not self.disconnected and self._cut_off is None:
            self._cut_off = self._clock.callLater(caps.FAREWELL_SECONDS, self.abort)
            self.set_reading(True)
            self.transport.unregisterProducer()  # type: ignore[attr-defined]
            self.transport.loseConnection()
        return self.when_lost()

    def set_reading(self, reading: bool) -> None:
        """Read from the client or not, because of what its calls wait for."""
        self._pause("calls", not reading)

    def pauseProducing(self) -> None:
        """The output is full: whoever does not read is not read from."""
        self._pause("output", True)

    def resumeProducing(self) -> None:
        """The output is empty."""
        self._pause("output", False)

    def _pause(self, why: str, paused: bool) -> None:
        before = bool(self._paused)
        if paused:
            self._paused.add(why)
        else:
            self._paused.discard(why)
        if bool(self._paused) is not before and not self.disconnected:
            transport: IPushProducer = self.transport  # type: ignore[assignment]  # every stream transport is one
            if before:
                transport.resumeProducing()
            else:
                transport.pauseProducing()

    def proto_answer(self, requestID: object, netResult: object) -> None:
        """A batch is acknowledged; what with does not matter and is not looked at."""
        self._acknowledged(requestID)

    def proto_error(self, requestID: object, fail: object) -> None:
        """The client's method failed on a batch, which it has been given all the same."""
        self._acknowledged(requestID)

    def _acknowledged(self, request: object) -> None:
        if not isinstance(request, int):
            raise ProtocolViolation("an answer of no known form")
        waiting: dict[int, Deferred[object]] = self.waitingForAnswers  # type: ignore[assignment]
        answer = waiting.pop(request, None)
        if answer is None:
            raise ProtocolViolation("an answer to nothing")
        answer.callback(None)

    def peer_broke_protocol(self, text: str) -> None:
        """Tell the factory, which logs such things for all."""
        self.factory.misdeed(text)

    def call_failed(self, failure: Failure) -> None:
        """Tell the factory, which logs such things for all."""
        self.factory.call_failed(failure)

    def _login_is_late(self) -> None:
        self._deadline = None
        self.factory.misdeed(f"no login within {caps.LOGIN_SECONDS:.0f} s")
        self.abort()

    def abort(self) -> None:
        """Close the connection at once."""
        self.transport.abortConnection()  # type: ignore[attr-defined]

    @staticmethod
    def _cancel(call: IDelayedCall | None) -> None:
        if call is not None and call.active():
            call.cancel()
