"""Certificates as credentials: passports, greetings under a key of two nodes each, and signed packets of the cluster.

Each run of each node draws two pairs of keys and a control secret. Its passport, which goes out in the clear, binds the
public keys to its certificate. Two that hold each other's passports can greet each other under a key that no third
has, and tell each other their control secrets in it: what a node says to the cluster is sealed under its control
secret, and signed. So it can be opened by whom that node has greeted, and could have been made by nobody else.

    any            --its node is expelled-->            its passports are refused
    nothing held   --its passport, and it is good-->    held: it is asked to prove that it lives (``strangers``)
    held           --its greeting-->                    known to the guard, by its control secret
    held           --``FORGOTTEN_AFTER`` others-->      nothing held, the longest unheard first

Passports are verified ``MAX_PASSPORTS_PER_SECOND`` times a second at most; what is held already costs a look into a
table. A passport that is not good makes this node send nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from typing import Final

from attrs import define
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from groupcomm.allowance import Allowance
from groupcomm.config import NodeIdentity
from groupcomm.errors import UsageError
from groupcomm.identity import NodeId
from groupcomm.limits import (
    MAX_PASSPORT_ASKS,
    MAX_PASSPORT_BYTES,
    MAX_PASSPORTS,
    MAX_PASSPORTS_PER_SECOND,
)
from groupcomm.outputs import Address, Datagram
from groupcomm.reliability.counters import Counters
from groupcomm.sealing.credentials import PassportRefused
from groupcomm.wire.codec import Reader, Writer, cluster_digest
from groupcomm.wire.keys import KEY_BYTES, KeyEpoch, cluster_packet_key, derive
from groupcomm.wire.packets import HEADER_BYTES, NO_SENDER, encode
from groupcomm.wire.passport import SIGNATURE_BYTES, Passport
from groupcomm.wire.seal import MARK_BYTES, Greeting, Introduction

CALM_SECONDS: Final = 10.0
"""How often a passport is sent while nothing calls for it."""

LACKING_SECONDS: Final = 1.0
"""How often at most because packets come from somebody who is not known."""

ANSWER_SECONDS: Final = 0.25
"""How often at most because another asks for it, or has just shown its own."""

REPEATS: Final = 2
"""How often a new passport is sent again, in case it was lost, ``REPEAT_SECONDS`` apart."""

REPEAT_SECONDS: Final = 0.1

QUESTIONS: Final = 3
"""How often who has shown its passport is asked again to prove that it lives: all of it is smaller than a passport."""

QUESTION_SECONDS: Final = 0.25


@define(eq=False)
class _Held:
    """A passport that was found good.

    Attributes:
        passport: it.
        signing: the key its run signs with.
        agreement: the key others agree on a key with it by.
        source: where it came from last.
        heard_at: when.
        questions: how often its run is to be asked again.
        ask_at: when.
        keys: of greetings to it, and of greetings of it.
    """

    passport: Passport
    signing: Ed25519PublicKey
    agreement: X25519PublicKey
    source: Address
    heard_at: float
    questions: int = 0
    ask_at: float = 0.0
    keys: tuple[AESGCM, AESGCM] | None = None


class Certified:
    """The passport of one node's run, and those of others.

    Args:
        node: which node.
        cluster: the cluster's name.
        identity: its certificate, and what tells good ones of others.
        entropy: makes so many random bytes.
        counters: what is refused is counted there.

    Raises:
        UsageError: the certificate is too large for a passport.

    Attributes:
        first: the key epoch that this node begins with: its own alone.
        secret: the control secret of this run.
    """

    passports: Final = True
    signature_bytes: Final = SIGNATURE_BYTES

    def __init__(
        self,
        node: NodeId,
        cluster: str,
        identity: NodeIdentity,
        entropy: Callable[[int], bytes],
        counters: Counters,
    ) -> None:
        self._node = node
        self._cluster = cluster
        self._digest = cluster_digest(cluster)
        self._identity = identity
        self._entropy = entropy
        self._counters = counters
        self._held: dict[bytes, _Held] = {}
        self._meeting: dict[bytes, _Held] = {}
        self._wanted: dict[bytes, None] = {}
        self._out: list[Datagram] = []
        self._due_at = self._sent_at = -inf
        self._repeats = 0
        self._excluded: set[str] = set()
        self._allowance = Allowance(MAX_PASSPORTS_PER_SECOND)
        self.first = KeyEpoch(1, entropy(KEY_BYTES))
        self.secret = b""
        self._me = Introduction(node, b"")

    # ---- this node -------------------------------------------------------------------------------------------------

    def renew(self, me: Introduction) -> AESGCM:
        """See ``Credentials``."""
        self._me = me
        self._signing = Ed25519PrivateKey.from_private_bytes(self._entropy(KEY_BYTES))
        self._agreement = X25519PrivateKey.from_private_bytes(self._entropy(KEY_BYTES))
        self.secret = self._entropy(KEY_BYTES)
        signing, agreement = (key.public_key().public_bytes_raw() for key in (self._signing, self._agreement))
        bare = Passport((), self._identity.certificate, me.node, me.salt, signing, agreement, bytes(SIGNATURE_BYTES))
        signature = self._identity.sign(bare.statement(self._digest))
        self._passport = Passport((), bare.certificate, me.node, me.salt, signing, agreement, signature)
        size = HEADER_BYTES + len(self._passport.encode()) + MAX_PASSPORT_ASKS * MARK_BYTES
        if size > MAX_PASSPORT_BYTES:
            raise UsageError(
                f"the certificate has {len(bare.certificate)} bytes, {size - MAX_PASSPORT_BYTES} too many: "
                "name fewer hosts in it"
            )
        for held in self._held.values():
            held.keys = None
        self._due_at, self._repeats = -inf, REPEATS
        return cluster_packet_key(self.secret, self._cluster, me.node, me.salt)

    def sign(self, data: bytes) -> bytes:
        """See ``Credentials``."""
        return self._signing.sign(data)

    def lacks(self, who: Introduction, now: float) -> None:
        """See ``Credentials``."""
        self._counters.up("sealed_by_stranger")
        if who.node.name in self._excluded:
            return
        if len(self._wanted) < MAX_PASSPORT_ASKS:
            self._wanted[who.mark] = None
        self._due(LACKING_SECONDS)
        self.show(now)

    def _due(self, apart_seconds: float) -> None:
        self._due_at = min(self._due_at, self._sent_at + apart_seconds)

    def show(self, now: float) -> None:
        """See ``Credentials``."""
        if now < self._due_at:
            return
        passport = self._passport.asking(tuple(self._wanted))
        self._wanted.clear()
        self._out.append(Datagram(encode(Passport.kind, self._digest, NO_SENDER, 0, passport.encode(), part=1), None))
        self._sent_at = now
        self._due_at = now + (REPEAT_SECONDS if self._repeats else CALM_SECONDS)
        self._repeats = max(0, self._repeats - 1)

    @property
    def sends(self) -> bool:
        """See ``Credentials``."""
        return bool(self._out)

    def take_out(self) -> list[Datagram]:
        """See ``Credentials``."""
        out, self._out = self._out, []
        return out

    def tick(self, now: float) -> list[tuple[Introduction, Address]]:
        """See ``Credentials``."""
        self.show(now)
        asked = []
        for salt, held in tuple(self._meeting.items()):
            if now >= held.ask_at:
                asked.append((held.passport.who, held.source))
                held.ask_at = now + QUESTION_SECONDS
                held.questions -= 1
                if not held.questions:
                    del self._meeting[salt]
        return asked

    def exclude(self, name: str) -> bool:
        """See ``Credentials``."""
        self._excluded.add(name)
        gone = [salt for salt, held in self._held.items() if held.passport.node.name == name]
        for salt in gone:
            del self._held[salt]
            self._meeting.pop(salt, None)
        return bool(gone)

    def readmit(self, name: str) -> None:
        """See ``Credentials``."""
        self._excluded.discard(name)

    # ---- others ----------------------------------------------------------------------------------------------------

    def take(self, data: bytes, source: Address, now: float) -> Introduction | None:
        """See ``Credentials``."""
        shown = Passport.decode(Reader(data, HEADER_BYTES))
        passport = shown.asking(())
        if passport.salt == self._me.salt:
            self._counters.up("reflected")
            return None
        if passport.node.name in self._excluded:
            raise PassportRefused(f"the node {passport.node.name} is expelled")
        held = self._held.get(passport.salt)
        if held is None:
            if not self._allowance.take(now):
                self._counters.up("passports_dropped")
                return None
            held = self._verified(passport, source, now)
            self._counters.up("passports_accepted")
            self._due(ANSWER_SECONDS)
        elif held.passport != passport:
            raise PassportRefused("it is not the one that this run has shown before")
        self._held[passport.salt] = self._held.pop(passport.salt, held)
        held.source, held.heard_at = source, now
        held.questions, held.ask_at = QUESTIONS, now + QUESTION_SECONDS
        self._meeting[passport.salt] = held
        while len(self._held) > MAX_PASSPORTS:
            del self._held[next(iter(self._held))]
        while len(self._meeting) > MAX_PASSPORTS:
            del self._meeting[next(iter(self._meeting))]
        if self._me.mark in shown.asks:
            self._due(ANSWER_SECONDS)
        self.show(now)
        return passport.who

    def _verified(self, passport: Passport, source: Address, now: float) -> _Held:
        """A passport that was not held before, if it is good."""
        why = self._identity.check(
            passport.certificate, passport.node.name, passport.statement(self._digest), passport.signature
        )
        if why is not None:
            raise PassportRefused(why)
        signing = Ed25519PublicKey.from_public_bytes(passport.signing)
        agreement = X25519PublicKey.from_public_bytes(passport.agreement)
        held = _Held(passport, signing, agreement, source, now)
        try:
            self._agree(held)
        except ValueError:
            raise PassportRefused("no key can be agreed on with it") from None
        return held

    def _agree(self, held: _Held) -> tuple[AESGCM, AESGCM]:
        """The keys that nobody but these two runs has: one for each direction, as each counts for itself."""
        shared, other, mine = self._agreement.exchange(held.agreement), held.passport.who, self._me
        held.keys = self._greeting_key(shared, mine, other), self._greeting_key(shared, other, mine)
        return held.keys

    def _greeting_key(self, shared: bytes, sender: Introduction, receiver: Introduction) -> AESGCM:
        parts = [part for one in (sender, receiver) for part in (Writer().node(one.node).done(), one.salt)]
        return AESGCM(derive(shared, "greeting", self._cluster.encode(), *parts))

    def key_to(self, salt: bytes) -> AESGCM | None:
        """See ``Credentials``."""
        held = self._held.get(salt)
        return None if held is None else (held.keys or self._agree(held))[0]

    def key_of(self, who: Introduction, *, greeting: bool) -> AESGCM | None:
        """See ``Credentials``."""
        held = self._held.get(who.salt)
        if held is None or not greeting or held.passport.node != who.node:
            return None
        return (held.keys or self._agree(held))[1]

    def key_met(self, who: Introduction, greeting: Greeting) -> AESGCM | None:
        """See ``Credentials``."""
        self._meeting.pop(who.salt, None)
        if not greeting.secret:
            return None
        return cluster_packet_key(greeting.secret, self._cluster, who.node, who.salt)

    def verifies(self, who: Introduction, signature: bytes, data: bytes) -> bool:
        """See ``Credentials``."""
        held = self._held.get(who.salt)
        try:
            if held is not None:
                held.signing.verify(signature, data)
        except InvalidSignature:
            return False
        return held is not None

    def check_invariants(self) -> None:
        """Raise ``AssertionError`` if it contradicts itself."""
        assert len(self._held) <= MAX_PASSPORTS
        assert len(self._meeting) <= MAX_PASSPORTS
        assert len(self._wanted) <= MAX_PASSPORT_ASKS
        assert all(salt == held.passport.salt for salt, held in self._held.items())
