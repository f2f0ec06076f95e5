"""The guard of one node: opens what comes, and lets in only who has the key and proves to be alive.

Packets of the cluster (beacons, view changes) name their sender and are sealed under a key that follows from the
cluster key alone, so that nodes which share nothing else can meet. Packets of views are sealed under the key epoch.
Nothing of a node that is not known passes, until it has proved to be no recording (``strangers``). From then on its
counters are followed, and each is taken once, after its packet was found to be authentic.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from groupcomm.errors import MalformedPacket
from groupcomm.identity import NodeId
from groupcomm.limits import MAX_ACQUAINTANCES, MAX_KEY_EPOCHS, MAX_SEALED_PACKETS
from groupcomm.outputs import Address, Datagram, PacketsRefused
from groupcomm.reliability.counters import Counters
from groupcomm.sealing.acquaintance import Acquaintance
from groupcomm.sealing.credentials import Credentials, PassportRefused
from groupcomm.sealing.sealer import Sealer
from groupcomm.sealing.strangers import Strangers
from groupcomm.wire.codec import Reader, cluster_digest
from groupcomm.wire.keys import KEY_BYTES, KeyEpoch, view_packet_key
from groupcomm.wire.packets import HEADER_BYTES, LAST_OF_VIEW, SEALED, VERSION, ArrivedRun, Kind, common_flags
from groupcomm.wire.seal import (
    COUNTER,
    MARK,
    NOBODY,
    NONCE,
    NONCE_BYTES,
    SEALED_HEAD_BYTES,
    UNICAST,
    Greeting,
    Introduction,
    is_sealed,
    is_sealed_run,
    opened_head,
    sealed_run_format,
)

FORGET_SECONDS = 10.0
"""A node outside the view that was silent for so long when another becomes known has to prove itself again."""

LINGER_SECONDS = 1.0
"""How long the old epoch is opened after every node has been heard under the new: what was on its way has come."""

TELL_SECONDS = 60.0
"""How often it is told at most that packets are refused."""

RENEW_AFTER = 1 << 28
"""Packets under one key of one node, should rotation fail for so long (RFC 9001, B.1.1, for packets of up to 2 KiB)."""

_DIGEST = slice(4, 12)
_OPENED_FLAGS = bytes(flags & ~SEALED for flags in range(256))


class Guard:
    """Seals and opens the packets of one node.

    Args:
        node: which node.
        cluster: the cluster's name.
        credentials: what it proves itself with, and others to it.
        entropy: makes so many random bytes.
        counters: what is refused is counted there.

    Attributes:
        heard: who sealed the packets of a view that were opened last.
        met: where nodes that have just become known can be reached: they are greeted by a beacon.
        told: who is expelled and who said so, as nodes that this one has met tell.
        news: what is to be told.
    """

    def __init__(
        self,
        node: NodeId,
        cluster: str,
        credentials: Credentials,
        entropy: Callable[[int], bytes],
        counters: Counters,
    ) -> None:
        self._node = node
        self._cluster = cluster
        self._credentials = credentials
        self._counters = counters
        digest = cluster_digest(cluster)
        self._digest = digest.to_bytes(8)
        self._first = credentials.first
        self._epochs: dict[int, KeyEpoch] = {self._first.byte: self._first}
        self._sealer = Sealer(node, cluster, credentials, entropy)
        self._strangers = Strangers(digest, entropy, counters)
        self._strangers.secret = credentials.secret
        self._old: KeyEpoch | None = None
        self._wipe_at: float | None = None
        self._fresh: bytes | None = None
        self._fresh_said = False
        self._entropy = entropy
        self._members: tuple[NodeId, ...] = (node,)
        self._acquaintances: dict[bytes, Acquaintance] = {}
        self._refused: dict[str, tuple[int, float]] = {}
        self.heard = node
        self.met: list[Address] = []
        self.told: list[tuple[str, str]] = []
        self.news: list[PacketsRefused] = []

    # ---- sealing -------------------------------------------------------------------------------------------------

    def seal(self, datagrams: Iterable[Datagram]) -> list[Datagram]:
        """The same, sealed; each is sealed once."""
        return [self._sealer.seal(datagram) for datagram in datagrams]

    def take_greetings(self) -> list[Datagram]:
        """What is to be sent to strangers, passports first; not sealed yet."""
        out, self._strangers.out = self._strangers.out, []
        return self._credentials.take_out() + out

    @property
    def greets(self) -> bool:
        """Whether there are greetings to send, or something is to be told."""
        return bool(self._strangers.out or self._credentials.sends or self.news)

    @property
    def introduction_bytes(self) -> int:
        """By how much packets of the cluster grow beyond those of views."""
        return self._sealer.introduction_bytes

    def renew(self, now: float) -> None:
        """This process may be a copy of another, or have been one: from now on it seals under keys of its own."""
        self._sealer.renew()
        self._counters.up("keys_renewed")
        if self._credentials.passports:
            self._strangers.secret = self._credentials.secret
            self._credentials.show(now)
        else:
            self._strangers.announce(self._sealer.counted, now)

    @property
    def tells_apart(self) -> bool:
        """Whether it knows which node is which, and so can keep one out."""
        return self._credentials.passports

    def exclude(self, name: str, now: float) -> bool:
        """Hear nothing of the node of this name any more.

        Returns:
            Whether it may know what this node seals under: then the keys are new, and the next view needs a new epoch.
        """
        met = [mark for mark, one in self._acquaintances.items() if one.who.node.name == name]
        for mark in met:
            del self._acquaintances[mark]
        if not self._credentials.exclude(name) and not met:
            return False
        self.renew(now)
        self._fresh, self._fresh_said = self._entropy(KEY_BYTES), False
        return True

    def tell_of(self, expelled: tuple[str, ...]) -> None:
        """From now on greet others with these names."""
        self._strangers.expelled = expelled

    def readmit(self, name: str) -> None:
        """Let the node of this name show its passport again."""
        self._credentials.readmit(name)

    # ---- epochs --------------------------------------------------------------------------------------------------

    @property
    def epoch(self) -> KeyEpoch:
        """What packets of views are sealed under."""
        return self._sealer.epoch

    @property
    def said(self) -> KeyEpoch | None:
        """The epoch as messages say it: None for the first if everybody knows it.

        Who has excluded a node says the next one, of its own, so that the view to come has a later one than that knows.
        """
        if self._fresh is not None:
            self._fresh_said = True
            return KeyEpoch(self.epoch.number + 1, self._fresh)
        return None if self.epoch == self._first and not self._credentials.passports else self.epoch

    def expect(self, epoch: KeyEpoch | None) -> None:
        """Open what is sealed under this epoch from now on; of one that packets name like the present, later."""
        epoch = epoch or self._first
        known = self._epochs.get(epoch.byte)
        if known in (epoch, self.epoch):
            return
        if known is not None:
            self._drop(known)
        self._epochs[epoch.byte] = epoch
        for other in tuple(self._epochs.values()):
            if len(self._epochs) > MAX_KEY_EPOCHS and other not in (epoch, self.epoch):
                self._drop(other)

    def switch(self, epoch: KeyEpoch) -> None:
        """Seal under this epoch from now on; the old one is opened until all have been heard under the new."""
        if epoch != self.epoch:
            self.expect(epoch)
            if self._old is not None and self._old != epoch:
                self._drop(self._old)
            self._old, self._wipe_at = self.epoch, None
            if epoch.byte == self._old.byte:
                self._drop(self._old)
                self._epochs[epoch.byte], self._old = epoch, None
            self._sealer.use(epoch)
            self._counters.up("key_epochs")

    def installed(self, epoch: KeyEpoch | None, members: tuple[NodeId, ...]) -> None:
        """A view begins, of these nodes and under this epoch; nobody in it uses another."""
        self._members = members
        if self._fresh_said:
            self._fresh, self._fresh_said = None, False
        self.switch(epoch or self._first)
        for other in tuple(self._epochs.values()):
            if other != self.epoch:
                self._drop(other)
        self._old = self._wipe_at = None

    def _drop(self, epoch: KeyEpoch) -> None:
        """Forget an epoch and all that was derived from it, unless another stands in its place by now."""
        if self._epochs.get(epoch.byte) != epoch:
            return
        del self._epochs[epoch.byte]
        for acquaintance in self._acquaintances.values():
            acquaintance.keys.pop(epoch.byte, None)

    @property
    def wants_rotation(self) -> bool:
        """Whether so much was sealed under this epoch that it is time for the next."""
        return self._sealer.sealed >= MAX_SEALED_PACKETS

    def tick(self, now: float) -> None:
        """Time passes: an old epoch may be wiped, strangers are asked again."""
        for who, source in self._credentials.tick(now):
            if who.mark not in self._acquaintances:
                self._strangers.ask(who, source, self._sealer.counted, now)
        if self._sealer.sealed >= RENEW_AFTER:
            self.renew(now)
        if self._old is None:
            return
        if self._wipe_at is None:
            heard = {one.who.node for one in self._acquaintances.values() if one.epoch == self.epoch.byte}
            if all(node == self._node or node in heard for node in self._members):
                self._wipe_at = now + LINGER_SECONDS
        elif now >= self._wipe_at:
            self._drop(self._old)
            self._old = self._wipe_at = None

    # ---- opening -------------------------------------------------------------------------------------------------

    def open(self, data: bytes, source: Address, now: float) -> bytes | None:
        """The packet as it was before it was sealed; None if it is not for the engine.

        Raises:
            MalformedPacket: it is none of this version.
        """
        if not is_sealed(data):
            if len(data) < HEADER_BYTES:
                raise MalformedPacket(f"{len(data)} bytes are no header")
            if data[1] == Kind.PASSPORT and self._credentials.passports:
                self._passport(data, source, now)
            else:
                self._refuse("unsealed", source, now)
            return None
        if data[0] != VERSION:
            raise MalformedPacket(f"version {data[0]}, not {VERSION}")
        mark = data[MARK]
        sender = self._acquaintances.get(mark)
        if sender is None and mark == self._sealer.me.mark:
            self._counters.up("reflected")
            return None
        if data[1] > LAST_OF_VIEW:
            return self._open_message(data, sender, source, now)
        if sender is None:
            self._counters.up("sealed_by_stranger")
            return None
        return self._open_of_view(data, sender, source, now)

    def _open_of_view(self, data: bytes, sender: Acquaintance, source: Address, now: float) -> bytes | None:
        counter = int.from_bytes(data[COUNTER])
        window = sender.windows[counter >= UNICAST]
        if not window.is_new(counter):
            self._counters.up("replayed")
            return None
        epoch = data[3]
        key = sender.keys.get(epoch) or self._key_of(sender, epoch)
        if key is None:
            self._counters.up("unknown_key_epoch")
            return None
        try:
            body = key.decrypt(data[NONCE], data[SEALED_HEAD_BYTES:], data[:SEALED_HEAD_BYTES])
        except InvalidTag:
            # Not told: partitions that have rotated apart seal under different secrets of one number.
            self._counters.up("seal_broken")
            return None
        window.take(counter)
        sender.heard_at, sender.epoch = now, epoch
        self.heard = sender.who.node
        return opened_head(data) + body

    def _key_of(self, sender: Acquaintance, byte: int) -> AESGCM | None:
        epoch = self._epochs.get(byte)
        if epoch is None:
            return None
        key = sender.keys[byte] = view_packet_key(epoch, self._cluster, sender.who.node, sender.who.salt)
        return key

    def open_run(self, data: bytes, size: int, now: float) -> ArrivedRun | None:
        """Data packets of one stream and one sender that came at once.

        Args:
            data: all of them, one behind the other.
            size: of each but the last, which may be shorter.
            now: the time.

        Returns:
            What was sealed; None, and nothing has changed, if they must be opened one by one.
        """
        if not is_sealed_run(data, size) or data[0] != VERSION:
            return None
        mark, epoch = data[MARK], data[3]
        sender = self._acquaintances.get(mark)
        key = None if sender is None else sender.keys.get(epoch) or self._key_of(sender, epoch)
        if sender is None or key is None:
            return None
        count, last = -(-len(data) // size), (len(data) - 1) % size + 1
        fields = sealed_run_format(count, size, last).unpack(data)
        begins, marks, counters = fields[0::5], fields[2::5], fields[3::5]
        flags, first = common_flags(begins), counters[0]
        window = sender.windows[first >= UNICAST]
        if flags is None or marks.count(mark) != count or not min(flags) & SEALED:
            return None
        if first <= window.highest or counters != tuple(range(first, first + count)):
            return None
        ends = range(SEALED_HEAD_BYTES, len(data), size)
        nonces = [data[end - NONCE_BYTES : end] for end in ends]
        heads = [data[end - SEALED_HEAD_BYTES : end] for end in ends]
        try:
            bodies = list(map(key.decrypt, nonces, fields[4::5], heads))
        except InvalidTag:
            return None
        window.take_run(first, count)
        sender.heard_at, sender.epoch = now, epoch
        self.heard = sender.who.node
        return ArrivedRun(begins[0], flags.translate(_OPENED_FLAGS), fields[1::5], bodies, None)

    def _open_message(self, data: bytes, sender: Acquaintance | None, source: Address, now: float) -> bytes | None:
        """A packet of the cluster; that of a stranger ends here, whatever it is."""
        if data[_DIGEST] != self._digest:
            self._counters.up("foreign_cluster")
            return None
        who, at = Introduction.read(data)
        counter = int.from_bytes(data[COUNTER])
        if sender is not None and (sender.who != who or not sender.windows[counter >= UNICAST].is_new(counter)):
            self._counters.up("replayed" if sender.who == who else "seal_broken")
            return None
        greeting = data[1] == Kind.GREETING
        key = self._credentials.key_of(who, greeting=greeting) if sender is None or greeting else sender.key
        if key is None:
            self._credentials.lacks(who, now)
            return None
        try:
            body = key.decrypt(data[NONCE], data[at:], data[:at])
        except InvalidTag:
            self._refuse("seal_broken", source, now)
            return None
        if sender is not None:
            sender.windows[counter >= UNICAST].take(counter)
            sender.heard_at = now
        if greeting:
            self._greeted(Greeting.decode(Reader(body)), who, counter, source, now)
            return None
        if sender is None:
            self._strangers.ask(who, source, self._sealer.counted, now)
            return None
        end = len(body) - self._credentials.signature_bytes
        if end < len(body):
            if end < 0 or not self._credentials.verifies(who, body[end:], data[:at] + body[:end]):
                self._refuse("signature_broken", source, now)
                return None
            body = body[:end]
        return opened_head(data) + body

    def _passport(self, data: bytes, source: Address, now: float) -> None:
        """A passport, in the clear: its run is asked to prove that it lives if it is good."""
        if data[0] != VERSION:
            raise MalformedPacket(f"version {data[0]}, not {VERSION}")
        if data[_DIGEST] != self._digest:
            self._counters.up("foreign_cluster")
            return
        try:
            who = self._credentials.take(data, source, now)
        except PassportRefused as refused:
            self._refuse("passport_refused", source, now, str(refused))
            return
        if who is not None and who.mark not in self._acquaintances:
            self._strangers.ask(who, source, self._sealer.counted, now)

    def _greeted(self, greeting: Greeting, who: Introduction, counter: int, source: Address, now: float) -> None:
        """An authentic greeting, of a stranger or of a node that takes this one for a stranger."""
        counted = self._sealer.counted
        known = who.mark in self._acquaintances
        if greeting.to == NOBODY:
            if not known:
                self._strangers.ask(who, source, counted, now)
        elif greeting.to != self._sealer.me.salt or counter < UNICAST:
            self._counters.up("greetings_for_others")
        else:
            if not known and self._strangers.proves(who, greeting.echo, now):
                key = self._credentials.key_met(who, greeting)
                if key is not None:
                    self._meet(Acquaintance(who, key, greeting.counted, counter, now), source, now)
                    known = True
            if known:
                self.told += [(name, who.node.name) for name in greeting.expelled]
            if greeting.ask != NOBODY:
                self._strangers.answer(who, greeting.ask, source, counted, now, known=known)

    def _meet(self, newcomer: Acquaintance, source: Address, now: float) -> None:
        """Let a node in; earlier runs of it, and who has long been silent, have to prove themselves again."""
        node = newcomer.who.node
        for mark, other in tuple(self._acquaintances.items()):
            earlier = other.who.node.name == node.name and other.who.node.incarnation <= node.incarnation
            silent = now - other.heard_at > FORGET_SECONDS and other.who.node not in self._members
            if earlier or silent:
                del self._acquaintances[mark]
        if len(self._acquaintances) >= MAX_ACQUAINTANCES:
            outside = [mark for mark, one in self._acquaintances.items() if one.who.node not in self._members]
            del self._acquaintances[min(outside, key=lambda mark: self._acquaintances[mark].heard_at)]
        self._acquaintances[newcomer.who.mark] = newcomer
        self._counters.up("acquaintances")
        self.met.append(source)

    def _refuse(self, why: str, source: Address, now: float, text: str = "") -> None:
        """Count a packet that does not open, and tell of it at most once a minute."""
        self._counters.up(why)
        count, told_at = self._refused.get(why, (0, now - TELL_SECONDS))
        count += 1
        if now - told_at >= TELL_SECONDS:
            self.news.append(PacketsRefused(why, source, count, text))
            count, told_at = 0, now
        self._refused[why] = count, told_at

    def check_invariants(self) -> None:
        """Raise ``AssertionError`` if it contradicts itself."""
        self._sealer.check_invariants()
        self._strangers.check_invariants()
        self._credentials.check_invariants()
        assert len(self._acquaintances) <= MAX_ACQUAINTANCES
        assert len(self._epochs) <= MAX_KEY_EPOCHS
        assert self._epochs.get(self.epoch.byte) == self.epoch
        for mark, one in self._acquaintances.items():
            assert mark == one.who.mark
            assert set(one.keys) <= set(self._epochs)
