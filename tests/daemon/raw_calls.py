"""The bytes of Perspective Broker calls, right or wrong, as any program could send them; and what comes of them."""

from __future__ import annotations

from typing import cast

from groupcomm.daemon.broker import CLIENT_BUDGET, BudgetedBroker
from groupcomm.daemon.encoding import encode_bytes, encode_head, encode_int, read_plain
from tests.daemon.world import MemoryTransport

HELLO = encode_bytes(b"pb")


def expression(*items: object) -> bytes:
    """A Banana expression as any peer would send it."""

    def encode(item: object) -> bytes:
        if isinstance(item, list):
            return encode_head(len(item), b"\x80") + b"".join(map(encode, item))
        if isinstance(item, bytes):
            return encode_bytes(item)
        assert isinstance(item, int)
        return encode_int(item)

    return encode(list(items))


def call(method: bytes, *args: object, target: bytes | int = b"root", request: int = 1, wanted: int = 1) -> bytes:
    """A call of a method."""
    return expression(b"message", request, target, method, wanted, [b"tuple", *args], [b"dictionary"])


class Recorder(BudgetedBroker):
    """Keeps the expressions it reads."""

    def __init__(self) -> None:
        super().__init__(isClient=False)
        self.expressions: list[object] = []
        self.currentDialect = b"pb"

    def connectionMade(self) -> None:
        """No greeting."""

    def expressionReceived(self, sexp: object) -> None:
        self.expressions.append(sexp)

    def peer_broke_protocol(self, text: str) -> None:
        """Not logged here."""


def recorder() -> Recorder:
    broker = Recorder()
    transport = MemoryTransport()
    transport.peer = MemoryTransport()
    transport.protocol = broker
    broker.makeConnection(transport)
    return broker


def errors_in(answers: bytes) -> list[tuple[str, str]]:
    """The errors among a daemon's answers: name of the class, and text."""
    broker = recorder()
    broker.budget = CLIENT_BUDGET
    broker.dataReceived(answers)
    errors = []
    for each in broker.expressions:
        match each:
            case [b"error", _, [b"twisted.spread.pb.CopyableFailure", state]]:
                facts = cast(dict[str, object], read_plain(state, lambda _: None))
                name, text = _text(facts["type"]), _text(facts["value"])
                errors.append((name.rpartition(".")[2], text))
    return errors


def _text(value: object) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
