"""The daemon's end of one control connection.

Decides when the login is too late, when the client is not read from, and how long a client that is told goodbye may
take. What it may send in one call is the broker's to bound.
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
from groupcomm.daemon.principal import CertifiedAddress, Principal, local_principal
from groupcomm.daemon.reading import ReadingTime, Share

if TYPE_CHECKING:
    from groupcomm.daemon.factory import ControlFactory


class ServerBroker(BudgetedBroker):
    """The daemon's end of a control connection: deadlines, a budget that grows with login, and pauses.

    Invariants: ``held_back`` if and only if one of ``_paused`` says why; the transport is read if and only if none
    does. What was read before is looked at before anything more is read.

    Args:
        clock: the reactor's time.
        time: what all control connections of the daemon may take of it.
        certified: the other end, if its certificate was verified.

    Attributes:
        principal: who is at the other end; known from the moment the connection is made.
    """

    factory: ControlFactory  # type: ignore[assignment]  # None in the base, which sets it later

    principal: Principal

    def __init__(self, clock: IReactorTime, time: ReadingTime, certified: CertifiedAddress | None = None) -> None:
        super().__init__(isClient=False, security=SERVER_TYPES)
        self._clock = clock
        self._time = time
        self._certified = certified
        self._admitted = False
        self._decoding = Share(clock, caps.DECODE_SHARE, caps.DECODE_SHARE)
        self._decoding_seconds = 0.0
        self._mark = 0.0
        self._decoded_at: float | None = None
        self._deadline: IDelayedCall | None = None
        self._slowed: IDelayedCall | None = None
        self._watch: IDelayedCall | None = None
        self._cut_off: IDelayedCall | None = None
        self._unfinished_since: float | None = None
        self._stranger_bytes = 0
        self._paused: set[str] = set()
        self._lost: list[Deferred[None]] = []
        self.authenticated = False

    def connectionMade(self) -> None:
        """Start the clock of the login; watch the output, which a client that does not read would let grow."""
        certified, now = self._certified, self._clock.seconds()
        self.principal = certified.principal if certified else local_principal(self.transport.getHandle())  # type: ignore[attr-defined]
        self._admitted = self.factory.admit(self.principal)
        if not self._admitted:
            self.abort()
            return
        super().connectionMade()
        left = caps.LOGIN_SECONDS - (now - certified.since if certified else 0.0)
        self._deadline = self._clock.callLater(max(0.0, left), self._login_is_late)
        self.transport.registerProducer(self, True)  # type: ignore[attr-defined]

    # What comes in, and when it is looked at.

    def dataReceived(self, data: bytes) -> None:
        """Look at what has come, now or when there is time."""
        if not self.authenticated:
            self._stranger_bytes += len(data)
            if self._stranger_bytes > caps.MAX_LOGIN_BYTES and not self._cut:
                self._breach(f"more than {caps.MAX_LOGIN_BYTES} bytes before login")
                return
        if not self._time.left:
            self._wait_for_a_turn()
        super().dataReceived(data)

    def read(self, buffer: bytes) -> None:
        """Parse and act, and count the time of it."""
        self._mark = self._time.measure()
        super().read(buffer)
        self._count_time(self._time.measure())
        if self.disconnected or self._cut:
            return
        owed = max(self._decoding.take(self._decoding_seconds), self._time.decoding.take(self._decoding_seconds))
        self._decoding_seconds = 0.0
        if owed:
            self._slow_down(owed)
        if not self.unfinished:
            self._unfinished_since = None
        elif self._unfinished_since is None:
            self._unfinished_since = self._clock.seconds()
            if self._watch is None:
                self._watch = self._clock.callLater(caps.CALL_SECONDS, self._watch_call)

    def callExpressionReceived(self, obj: object) -> None:
        """One whole call: act on it; whether the next is looked at depends on the time it took."""
        self._unfinished_since = None
        super().callExpressionReceived(obj)
        self._count_time(self._time.measure())
        if not self._time.left:
            self._wait_for_a_turn()

    def read_call(self, args: object, keywords: object) -> tuple[object, object]:
        """The arguments; what comes then is the method's time."""
        values = super().read_call(args, keywords)
        self._decoded_at = self._time.measure()
        return values

    def read_reference(self, sexp: object) -> object:
        """An object of the client's; there is no way from here into jelly and its registries.

        Raises:
            ProtocolViolation: anything else.
        """
        match sexp:
            case [b"remote", int(number)] if 0 < number <= caps.MAX_NUMBER:
                return pb.RemoteReference(None, self, number, True)
        raise ProtocolViolation(f"a value that may not be sent: {sexp!r:.80}"[:120])

    def _count_time(self, now: float) -> None:
        """Since the last time: up to the arguments it was decoding, then the method."""
        self._decoding_seconds += (now if self._decoded_at is None else self._decoded_at) - self._mark
        self._time.spend(now - self._mark)
        self._decoded_at = None
        self._mark = now

    def _wait_for_a_turn(self) -> None:
        if not self.disconnected:
            self._pause("turn", True)
            self._time.wait(self)

    def go_on(self) -> None:
        """There is time: look at what has come, then read again."""
        self._paused.discard("turn")
        if self._paused:
            return
        self.held_back = False
        self.read_on()
        if not self.held_back and not self.disconnected:
            self._read_transport(True)

    def _slow_down(self, seconds: float) -> None:
        """Reading its calls has taken more than its share: wait it off, and a little more, so that going on pays."""
        self._pause("decoding", True)
        if self._slowed is None:
            self.factory.client_slowed()
            self._slowed = self._clock.callLater(seconds + caps.TURN_SECONDS, self._slow_no_more)

    def _slow_no_more(self) -> None:
        self._slowed = None
        self._pause("decoding", False)

    def _watch_call(self) -> None:
        """A call that has begun must end; time in which it was not read does not count."""
        self._watch = None
        since = self._clock.seconds() if self.held_back else self._unfinished_since
        if since is None:
            return
        left = since + caps.CALL_SECONDS - self._clock.seconds()
        if left > 0:
            self._unfinished_since = since
            self._watch = self._clock.callLater(left, self._watch_call)
        else:
            self._breach(f"a call that is not whole after {caps.CALL_SECONDS:.0f} s")

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
        for call in (self._deadline, self._slowed, self._watch, self._cut_off):
            self._cancel(call)
        self._time.forget(self)
        super().connectionLost(reason)
        self.factory.connection_lost(self)
        if self._admitted:
            self.factory.crowd.leave(self.principal)
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
        """Be held back for that, or not any more; what is kept comes first then, in its turn."""
        if self.disconnected:
            return
        if paused:
            self._paused.add(why)
            if not self.held_back:
                self.held_back = True
                self._read_transport(False)
        elif why in self._paused:
            self._paused.discard(why)
            if not self._paused:
                self._paused.add("turn")
                self._time.wait(self)

    def _read_transport(self, reading: bool) -> None:
        transport: IPushProducer = self.transport  # type: ignore[assignment]  # every stream transport is one
        if reading:
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
