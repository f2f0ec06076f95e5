"""Nodes that are not known: what they are asked, and whether they have proved to be alive.

    stranger   --an authentic packet-->        asked: to where it came from go sixteen random bytes, to be sent back
    asked      --a greeting with these-->      known: its packets pass, from the counters on that it names
    asked      --any other packet-->           asked: again, if ``ASK_SECONDS`` have passed
    either     --a greeting that asks-->       the same: its bytes are sent back, and it is asked in turn

A recording can be authentic and cannot answer. Only authentic packets are answered, and none with more bytes than it
had itself, so who has no key makes this node send nothing from here. (With certificates a packet of somebody unknown,
authentic or not, makes it show its own passport, once a second at most: ``certified``.)
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from math import inf

from attrs import define, evolve

from groupcomm.allowance import Allowance
from groupcomm.limits import MAX_GREETINGS_PER_SECOND, MAX_QUESTIONS
from groupcomm.outputs import Address, Datagram
from groupcomm.reliability.counters import Counters
from groupcomm.wire.keys import SALT_BYTES
from groupcomm.wire.packets import NO_SENDER, encode
from groupcomm.wire.seal import NOBODY, Greeting, Introduction

ASK_SECONDS = 0.05
"""How long a question waits for its answer before it is asked again."""

ANSWER_SECONDS = 2.0
"""How long the same bytes are asked for: longer than a round trip, shorter than a recording is worth keeping. Answers
are believed for twice as long."""


@define
class _Question:
    nonce: bytes
    made_at: float
    asked_at: float
    answered_at: float = -inf


class Strangers:
    """The questions of one node, and its answers to those of others.

    Args:
        digest: of the cluster.
        entropy: makes so many random bytes.
        counters: greetings that are not sent are counted there.

    Attributes:
        out: greetings to send.
        secret: what they all carry.
        expelled: the names that answers carry.
    """

    def __init__(self, digest: int, entropy: Callable[[int], bytes], counters: Counters) -> None:
        self._digest = digest
        self._entropy = entropy
        self._counters = counters
        self._questions: OrderedDict[bytes, _Question] = OrderedDict()
        self._allowance = Allowance(MAX_GREETINGS_PER_SECOND)
        self.out: list[Datagram] = []
        self.secret = b""
        self.expelled: tuple[str, ...] = ()

    def announce(self, counted: int, now: float) -> None:
        """Let all know that this node is a stranger to them from now on."""
        self._greet(Greeting(NOBODY, NOBODY, NOBODY, counted), None, now)

    def ask(self, stranger: Introduction, source: Address, counted: int, now: float) -> None:
        """Ask a node to prove that it lives, unless it was asked a moment ago."""
        question = self._question(stranger, now)
        if question is not None:
            self._greet(Greeting(stranger.salt, NOBODY, question, counted), source, now)

    def answer(
        self, asker: Introduction, asked: bytes, source: Address, counted: int, now: float, *, known: bool
    ) -> None:
        """Send back what a node has asked for; ask it in turn unless it is known. Recordings ask too."""
        question = None
        if not known:
            question = self._question(asker, now)
            waiting = self._questions[asker.salt]
            if question is None and now - waiting.answered_at < ASK_SECONDS:
                return
            waiting.answered_at = now
        self._greet(Greeting(asker.salt, asked, question or NOBODY, counted), source, now)

    def proves(self, stranger: Introduction, echo: bytes, now: float) -> bool:
        """Whether it sends back what it was asked for, in time. No answer counts twice."""
        question = self._questions.get(stranger.salt)
        if question is None or echo != question.nonce:
            return False
        del self._questions[stranger.salt]
        return now - question.made_at < 2 * ANSWER_SECONDS

    def _question(self, stranger: Introduction, now: float) -> bytes | None:
        """What it is to send back; None if it was asked a moment ago."""
        question = self._questions.pop(stranger.salt, None)
        if question is not None and now - question.asked_at < ASK_SECONDS:
            self._questions[stranger.salt] = question
            return None
        if question is None or now - question.made_at >= ANSWER_SECONDS:
            question = _Question(self._entropy(SALT_BYTES), now, now)
        while len(self._questions) >= MAX_QUESTIONS:
            self._questions.popitem(last=False)
        question.asked_at = now
        self._questions[stranger.salt] = question
        return question.nonce

    def _greet(self, greeting: Greeting, to: Address | None, now: float) -> None:
        if not self._allowance.take(now):
            self._counters.up("greetings_dropped")
            return
        if self.secret:
            expelled = self.expelled if greeting.echo != NOBODY else ()
            greeting = evolve(greeting, secret=self.secret, expelled=expelled)
        self.out.append(Datagram(encode(Greeting.kind, self._digest, NO_SENDER, 0, greeting.encode(), part=1), to))

    def check_invariants(self) -> None:
        """Raise ``AssertionError`` if it contradicts itself."""
        assert len(self._questions) <= MAX_QUESTIONS
