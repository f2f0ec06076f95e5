"""Perspective Broker with a budget: what both ends of a control connection are made of.

Decides what a peer may make us parse: bytes, values and nesting of one call, the types in it, the commands of the
protocol. The first breach ends the connection with one line in the log. Twisted's own parser copies the rest of its
buffer for every token and bounds neither nesting nor totals; this one reads in place. What the numbers are for is in
``doc/design/broker.md``.
"""

# twisted.spread is untyped; what the brokers here inherit from it would count as untyped calls of ours.
# mypy: disallow-untyped-calls=False

from __future__ import annotations

import struct
from typing import ClassVar, Final

from attrs import frozen
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import ITransport
from twisted.internet.protocol import connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.spread import jelly, pb

from groupcomm.daemon import caps
from groupcomm.daemon.encoding import encode_call, read_plain
from groupcomm.daemon.errors import BadArgument, InternalError, as_peer_error

_MAX_HEAD_BYTES: Final = 64
_LIST, _INT, _STRING, _NEGATIVE, _FLOAT, _LONG, _LONG_NEGATIVE, _VOCABULARY = range(0x80, 0x88)


class ProtocolViolation(Exception):
    """The peer sent what no well-behaved one sends; the connection is over."""


@frozen
class Budget:
    """What one call of a peer may hold.

    Attributes:
        call_bytes: all strings of the call together.
        elements: all values of the call together.
    """

    call_bytes: int
    elements: int


LOGIN_BUDGET: Final = Budget(caps.MAX_LOGIN_CALL_BYTES, caps.MAX_LOGIN_ELEMENTS)
SESSION_BUDGET: Final = Budget(caps.MAX_CALL_BYTES, caps.MAX_CALL_ELEMENTS)
CLIENT_BUDGET: Final = Budget(caps.MAX_ANSWER_BYTES, caps.MAX_ANSWER_ELEMENTS)


class PlainTypes(jelly.SecurityOptions):
    """Only the named types, in either direction; a dotted name is no exception, unlike in the base class."""

    def __init__(self, *incoming: bytes) -> None:
        super().__init__()
        outgoing = (type(None), bool, int, float, bytes, str, list, tuple, dict)
        self.allowedTypes = dict.fromkeys(
            (b"None", b"boolean", b"unicode", b"list", b"tuple", b"dictionary", *incoming), 1
        )
        self.allowedTypes.update((f"{kind.__module__}.{kind.__qualname__}".encode(), 1) for kind in outgoing)
        self.allowedTypes[b"builtins.NoneType"] = 1

    def isTypeAllowed(self, typeName: str | bytes) -> bool:
        """Whether a value of that type may pass."""
        name = typeName.encode("utf-8") if isinstance(typeName, str) else typeName
        return name in self.allowedTypes

    def isModuleAllowed(self, moduleName: object) -> bool:
        """No module may."""
        return False

    def isClassAllowed(self, klass: object) -> bool:
        """No class may."""
        return False


SERVER_TYPES: Final = PlainTypes(b"remote")
"""What clients may send: plain values, and a reference to an object of theirs to be called back."""

CLIENT_TYPES: Final = PlainTypes(b"remote", b"twisted.spread.pb.CopyableFailure")
"""What the client library takes: plain values, the avatar, and errors."""


class BudgetedBroker(pb.Broker):
    """A broker that reads within a budget and answers errors of a closed set only.

    Invariants: ``_spent_bytes`` and ``_spent_elements`` count what the unfinished call holds and never exceed the
    budget; ``listStack`` is never deeper than ``caps.MAX_DEPTH``; ``_incoming`` is one token that is not whole and will
    not be before it has ``_wanted`` bytes, unless the broker is ``held_back``: then it is what came meanwhile.

    Attributes:
        held_back: whether what comes in is kept and not looked at; see ``read_on``.
        violation: what ended the connection, if the peer did.
    """

    log = Logger()
    knownDialects = [b"pb"]
    commands: ClassVar[frozenset[bytes]] = frozenset(
        (b"version", b"message", b"answer", b"error", b"decref", b"didNotUnderstand")
    )
    transport: ITransport

    def __init__(self, isClient: bool = True, security: jelly.SecurityOptions = SERVER_TYPES) -> None:
        super().__init__(isClient, security)
        self.budget = CLIENT_BUDGET if isClient else LOGIN_BUDGET
        self._incoming = bytearray()
        self._wanted = 0
        self._spent_bytes = 0
        self._spent_elements = 0
        self._cut = False
        self.held_back = False
        self.violation: str | None = None

    # What comes in.

    @property
    def unfinished(self) -> bool:
        """Whether a call has come in part, or something waits to be looked at."""
        return bool(self._incoming or self.listStack)

    def dataReceived(self, data: bytes) -> None:
        """Parse what is whole and act on it; the first breach ends the connection."""
        if self._cut or self.disconnected:
            return
        if not self._incoming and not self.held_back:
            self.read(data)
            return
        self._incoming += data
        self.read_on()

    def read_on(self) -> None:
        """Go on with what is kept, if that makes a token whole and the broker is not held back."""
        enough = self._incoming and len(self._incoming) >= self._wanted
        if enough and not self.held_back and not self._cut and not self.disconnected:
            kept, self._incoming = bytes(self._incoming), bytearray()
            self.read(kept)

    def read(self, buffer: bytes) -> None:
        """Parse ``buffer`` up to the first token that is not whole, or until the broker is held back."""
        self._wanted = 0
        try:
            rest = self._parse(buffer)
        except ProtocolViolation as violation:
            self._breach(str(violation))
        except Exception as error:
            # Whatever the layers below make of hostile input (a KeyError for an unknown answer, a bad UTF-8 string):
            # it is the peer's fault and ends the peer's connection, without a traceback for each.
            self._breach(f"{type(error).__name__}: {error}"[:200])
        else:
            if not self._cut and rest < len(buffer):
                self._incoming += memoryview(buffer)[rest:]

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Nothing of a call that was not whole is kept."""
        self._incoming = bytearray()
        self.listStack.clear()
        super().connectionLost(reason)

    def _breach(self, text: str) -> None:
        self.violation = text
        self._cut = True
        self._incoming = bytearray()
        self.listStack.clear()
        self.peer_broke_protocol(text)
        self.transport.abortConnection()  # type: ignore[attr-defined]  # every stream transport of Twisted has it

    def peer_broke_protocol(self, text: str) -> None:
        """Called once, before the connection is cut; factories override how it is logged."""
        self.log.warn("Perspective Broker connection cut: {text}", text=text)

    def _parse(self, buffer: bytes) -> int:
        """Take every whole token of ``buffer`` and act on every whole expression; returns where the rest begins.

        One loop with the hot state in locals: it runs for each value of each call, at both ends.
        """
        stack = self.listStack
        size = len(buffer)
        position = 0
        budget, spent, elements = self.budget, self._spent_bytes, self._spent_elements
        while position < size:
            start, number, kind = _head(buffer, position, size)
            if start > size:
                self._wanted = size - position + 1
                break
            item: object
            following = start
            cost = 0
            if kind == _STRING:
                cost = number
                following += number
                item = buffer[start:following]
            elif kind == _LIST:
                if len(stack) >= caps.MAX_DEPTH:
                    raise ProtocolViolation(f"lists nested deeper than {caps.MAX_DEPTH}")
                if number > budget.elements - elements - 1:
                    raise ProtocolViolation(f"more than {budget.elements} values in one call")
                item = []
            elif kind in (_INT, _LONG):
                item = number
            elif kind in (_NEGATIVE, _LONG_NEGATIVE):
                item = -number
            elif kind == _FLOAT:
                cost = 8
                following += 8
                item = struct.unpack_from("!d", buffer, start)[0] if following <= size else 0.0
            else:
                item = self._word(kind, number)
            if spent + cost > budget.call_bytes:
                raise ProtocolViolation(f"more than {budget.call_bytes} bytes in one call")
            if elements >= budget.elements:
                raise ProtocolViolation(f"more than {budget.elements} values in one call")
            if following > size:
                self._wanted = following - position
                break
            position = following
            spent += cost
            elements += 1
            if kind == _LIST and number:
                stack.append((number, item))
                continue
            while stack:
                count, items = stack[-1]
                items.append(item)
                if len(items) < count:
                    break
                item = stack.pop()[1]
            else:
                spent = elements = 0
                self.callExpressionReceived(item)
                if self.held_back or self._cut or self.disconnected:
                    break
                budget = self.budget
        self._spent_bytes, self._spent_elements = spent, elements
        return position

    def _word(self, kind: int, number: int) -> bytes:
        word = self.incomingVocabulary.get(number) if kind == _VOCABULARY else None
        if word is None:
            raise ProtocolViolation(f"no token of this protocol: type {kind:#x}, number {number:#x}"[:120])
        return word

    def callExpressionReceived(self, obj: object) -> None:
        """One whole expression: first the choice of the dialect, then commands."""
        if self.currentDialect is not None:
            self.expressionReceived(obj)
        elif self.isClient:
            if not isinstance(obj, list) or b"pb" not in obj:
                raise ProtocolViolation("this is no Perspective Broker server")
            self.sendEncoded(b"pb")
            self._selectDialect(b"pb")
        elif obj == b"pb":
            self._selectDialect(b"pb")
        else:
            raise ProtocolViolation("this is no Perspective Broker client")

    def expressionReceived(self, sexp: object) -> None:
        """One command; those this project has no use for are a breach."""
        if not isinstance(sexp, list) or not sexp or not isinstance(sexp[0], bytes) or sexp[0] not in self.commands:
            raise ProtocolViolation("no known command")
        super().expressionReceived(sexp)

    def proto_didNotUnderstand(self, command: object) -> None:
        """The peer did not understand us: then it is no peer of ours."""
        raise ProtocolViolation("the peer did not understand us")

    def read_value(self, sexp: object) -> object:
        """The value behind what came in, of the plain types.

        Raises:
            ProtocolViolation: it has another type or no known form: no well-behaved peer sends such a thing.
        """
        try:
            return read_plain(sexp, self.read_reference)
        except jelly.InsecureJelly as error:
            raise ProtocolViolation(f"a value of a type that may not be sent: {error}"[:120]) from None
        except Exception as error:
            raise ProtocolViolation(f"a value of no known form: {error!r}"[:120]) from None

    def read_reference(self, sexp: object) -> object:
        """The value behind what is no plain value; ends of the connection differ in what else they take."""
        return self.unserialize(sexp)

    def read_call(self, args: object, keywords: object) -> tuple[object, object]:
        """The arguments of a call, as ``read_value`` makes them."""
        return self.read_value(args), self.read_value(keywords)

    # Answers to what comes in.

    def answer_form(self, result: object) -> object:
        """A method's result in the form that is sent; a Deferred becomes one that fires with it."""
        form: object = self.serialize(result)
        return form

    def _recvMessage(
        self,
        findObjMethod: object,
        requestID: object,
        objectID: object,
        message: object,
        answerRequired: object,
        netArgs: object,
        netKw: object,
    ) -> None:
        # Replaces the base's, which logs every error with its traceback and sends the peer any exception's text.
        if (
            not isinstance(requestID, int)
            or not 0 <= requestID <= caps.MAX_NUMBER
            or not isinstance(objectID, int | bytes)
            or not isinstance(message, bytes)
            or len(message) > caps.MAX_METHOD_BYTES
        ):
            raise ProtocolViolation("a call of no known form")
        name = message.decode("utf-8")
        wanted = bool(answerRequired)
        try:
            target = self.localObjectForID(objectID)
            if target is None:
                raise BadArgument("there is no such object, or not any more")
            result = target.remoteMessageReceived(self, name, netArgs, netKw)
        except ProtocolViolation:
            raise
        except Exception:
            self._answer_failure(Failure(), requestID, wanted)
            return
        if isinstance(result, Deferred):
            result.addCallbacks(
                self._answer_result,
                self._answer_failure,
                callbackArgs=(requestID, wanted),
                errbackArgs=(requestID, wanted),
            )
            result.addErrback(self._answer_failure, requestID, wanted)
        else:
            self._answer_result(result, requestID, wanted)

    def _answer_result(self, result: object, request: int, wanted: bool) -> None:
        if wanted and not self.disconnected:
            self._sendAnswer(result, request)

    def _answer_failure(self, failure: Failure, request: int, wanted: bool) -> None:
        assert failure.value is not None
        error = as_peer_error(failure.value)
        if isinstance(error, InternalError):
            self.call_failed(failure)
        if wanted and not self.disconnected:
            copyable = pb.CopyableFailure(error)
            copyable.unsafeTracebacks = False
            self.sendCall(b"error", request, self.serialize(copyable))

    def call_failed(self, failure: Failure) -> None:
        """A call failed by a fault of ours; factories override how often that is logged."""
        self.log.failure("a call over Perspective Broker failed", failure)

    # Calls of ours.

    def call_with_encoded(self, reference: pb.RemoteReference, method: bytes, batch: list[bytes]) -> Deferred[object]:
        """Call ``method`` of the peer's object with one list argument whose values are encoded already.

        Args:
            reference: the peer's object.
            method: the method's name.
            batch: the values, as ``encoding.encode_value`` made them.

        Returns:
            Fires when the peer has answered, with its answer; fails if the connection is lost before.
        """
        request = self.newRequestID()
        answer: Deferred[object] = Deferred()
        if self.disconnected:
            raise pb.DeadReferenceError("the connection is closed")
        waiting: dict[int, Deferred[object]] = self.waitingForAnswers  # type: ignore[assignment]  # None only once closed
        waiting[request] = answer
        self.transport.write(encode_call(request, reference.luid, method, batch))
        return answer


def _head(buffer: bytes, position: int, size: int) -> tuple[int, int, int]:
    """The head of a token: where its body starts (beyond ``size`` if the head is not whole), its number, its type."""
    kind = buffer[position]
    if kind >= 0x80:
        return position + 1, 0, kind
    number = kind
    shift = 7
    end = position + 1
    while end < size:
        kind = buffer[end]
        if kind >= 0x80:
            return end + 1, number, kind
        number |= kind << shift
        shift += 7
        end += 1
        if end - position > _MAX_HEAD_BYTES:
            raise ProtocolViolation(f"a number of more than {_MAX_HEAD_BYTES} digits")
    return size + 1, 0, 0
