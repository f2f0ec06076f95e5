"""Nodes with certificates: what passes between them, and what nobody else can read or make."""

from __future__ import annotations

import contextlib
from datetime import timedelta
from typing import ClassVar

from attrs import evolve
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.serialization import Encoding
from twisted.trial.unittest import SynchronousTestCase

from groupcomm.errors import MalformedPacket
from groupcomm.limits import MAX_PASSPORT_ASKS, MAX_PASSPORTS, MAX_PASSPORTS_PER_SECOND
from groupcomm.outputs import PacketsRefused
from groupcomm.sealing.certified import CALM_SECONDS, LACKING_SECONDS, QUESTIONS, Certified
from groupcomm.trust.certificates import BadCertificate, load_certificate
from groupcomm.trust.certificates import Kind as Purpose
from groupcomm.trust.nodes import NodeCertificate
from groupcomm.wire.codec import Reader, cluster_digest
from groupcomm.wire.keys import cluster_packet_key, merged_epoch
from groupcomm.wire.packets import HEADER_BYTES, NO_SENDER, Kind, encode
from groupcomm.wire.passport import SIGNATURE_BYTES, Passport
from groupcomm.wire.seal import NONCE, Introduction
from tests.sealing.authority import NOW, authority, identity, issued
from tests.sealing.world import Party, converse


def certified(name: str, *, incarnation: int = 1, cluster: str = "default", by: str = "shop") -> Party:
    """A node with a certificate."""
    return Party(name, incarnation=incarnation, cluster=cluster, identity=identity(name[0], by=by))


def passport(party: Party, now: float = 0.0) -> bytes:
    """Its passport, as it leaves."""
    shown: list[bytes] = []
    while not shown:
        party.guard.tick(now)
        shown = [one.data for one in party.greetings() if one.data[1] == Kind.PASSPORT]
        now += CALM_SECONDS
    return shown[0]


def meet(*parties: Party, now: float = 0.0) -> None:
    """Make all known to each other."""
    for party in parties:
        party.guard.tick(now)
    converse(*parties, now=now)
    for one in parties:
        for other in parties:
            if one is not other:
                assert other.take(one.seal(one.cluster_packet()), one, now) is not None, (one.node, other.node)


class MeetingTests(SynchronousTestCase):
    """Two and more nodes, from their passports to packets that pass."""

    def test_two_meet(self) -> None:
        """After passports and greetings packets of the cluster pass, both ways, to all and to one, and once."""
        a, b = certified("a"), certified("b")
        meet(a, b)
        for to in (None, b):
            sealed = a.seal(a.cluster_packet(b"hello"), to)
            self.assertNotIn(b"hello", sealed)
            self.assertEqual(b.take(sealed, a), a.cluster_packet(b"hello"))
            self.assertIsNone(b.take(sealed, a))
        self.assertEqual((a.counters["acquaintances"], b.counters["acquaintances"]), (1, 1))

    def test_every_size_and_kind(self) -> None:
        """What is sealed and signed grows by as much as is said, and opens to what it was."""
        a, b = certified("a"), certified("b")
        meet(a, b)
        for kind in (kind for kind in Kind if Kind.BEACON <= kind < Kind.GREETING):
            for size in (0, 1, 1200):
                packet = a.cluster_packet(bytes(size), kind)
                sealed = a.seal(packet)
                self.assertEqual(len(sealed) - len(packet), 32 + a.guard.introduction_bytes)
                self.assertEqual(b.take(sealed, a), packet)

    def test_views_are_sealed_under_what_all_of_them_began_with(self) -> None:
        """Each begins with an epoch of its own and says it; what follows from all is a later one, the same for all."""
        parties = [certified(name) for name in "abc"]
        meet(*parties)
        said = [party.guard.said for party in parties]
        self.assertEqual([epoch.number for epoch in said if epoch is not None], [1, 1, 1])
        self.assertEqual(len(set(said)), 3)
        common = merged_epoch(said)
        assert common is not None
        self.assertEqual(common.number, 2)
        a, b, c = parties
        for party in parties:
            self.assertIsNone(party.take(a.seal(a.view_packet()), a) if party is not a else None)
            party.guard.installed(common, tuple(one.node for one in parties))
        self.assertEqual(b.take(a.seal(a.view_packet()), a), a.view_packet())
        self.assertEqual(c.take(b.seal(b.view_packet()), b), b.view_packet())
        late = certified("d")
        self.assertEqual(merged_epoch([late.guard.said, a.guard.said, b.guard.said]), common)

    def test_a_lost_passport_is_asked_for(self) -> None:
        """Who hears a packet of somebody unknown names its mark in its own passport; that one shows its own at once."""
        a, b = certified("a"), certified("b")
        a_shown = passport(a)
        passport(b)
        now = 4.0
        self.assertIsNone(b.take(a.seal(a.cluster_packet()), a, now))
        b.guard.tick(now)
        asking = [one.data for one in b.greetings()]
        self.assertEqual([data[1] for data in asking], [Kind.PASSPORT])
        self.assertEqual(read(asking[0]).asks, (read(a_shown).who.mark,))
        a.take(asking[0], b, now)
        converse(a, b, now=now)
        self.assertEqual(b.take(a.seal(a.cluster_packet()), a, now), a.cluster_packet())

    def test_unknown_marks_are_asked_for_rarely_and_not_too_many(self) -> None:
        """Packets that are not authentic make a node send one passport a second, with no more than so many asks."""
        a, b = certified("a"), certified("b")
        sealed = bytearray(a.seal(a.cluster_packet()))
        sent = []
        for step in range(400):
            now = 1.0 + step * 0.01
            sealed[20:28] = step.to_bytes(8)
            b.take(bytes(sealed), a, now)
            b.guard.tick(now)
            sent += [one.data for one in b.greetings()]
        self.assertLessEqual(len(sent), 4 / LACKING_SECONDS + 3)
        self.assertEqual(max(data[HEADER_BYTES] for data in sent), MAX_PASSPORT_ASKS)
        self.assertLessEqual(max(map(len, sent)), 1200)

    def test_a_lost_greeting_is_sent_again(self) -> None:
        """Who has shown its passport is asked a few times to prove that it lives, and no more than that."""
        a, b = certified("a"), certified("b")
        b.take(passport(a), a, 0.0)
        asked = 0
        for step in range(100):
            b.guard.tick(step * 0.1)
            asked += sum(one.data[1] == Kind.GREETING for one in b.greetings())
        self.assertEqual(asked, 1 + QUESTIONS)

    def test_a_new_run_is_met_anew(self) -> None:
        """After a restart, and after a renewal of keys, the new passport leads to an acquaintance, the old is gone."""
        a, b = certified("a"), certified("b")
        meet(a, b)
        old = a.seal(a.cluster_packet())
        a.guard.renew(1.0)
        meet(a, b, now=1.0)
        self.assertIsNone(b.take(old, a, 1.0))
        a = certified("a", incarnation=2)
        meet(a, b, now=2.0)
        self.assertEqual(len(b.guard._acquaintances), 1)

    def test_a_node_with_a_key_is_another_cluster(self) -> None:
        """Nodes with the shared key and nodes with certificates let nothing of each other in."""
        a, b = certified("a"), Party("b")
        for one, other in ((a, b), (b, a)):
            self.assertIsNone(other.take(one.seal(one.cluster_packet()), one))
            self.assertIsNone(other.take(passport(a), a))
        self.assertEqual(b.counters["unsealed"], 1)
        self.assertEqual((len(a.guard._acquaintances), len(b.guard._acquaintances)), (0, 0))


def read(data: bytes) -> Passport:
    """What a passport says."""
    return Passport.decode(Reader(data, HEADER_BYTES))


class PassportTests(SynchronousTestCase):
    """Whose passport is believed."""

    def refused(self, data: bytes, at: Party | None = None) -> str:
        """Why a node refuses a passport; it answers nothing."""
        b = at or certified("b")
        passport(b)
        self.assertIsNone(b.take(data, b, 1.0))
        self.assertEqual([one for one in b.greetings() if one.data[1] == Kind.GREETING], [])
        self.assertEqual(b.counters["passports_accepted"], 0)
        (news,) = b.guard.news
        self.assertIsInstance(news, PacketsRefused)
        self.assertEqual(news.why, "passport_refused")
        return news.text

    def test_it_fits_a_datagram(self) -> None:
        """Also with all that it may ask for, under the longest name that the authority takes."""
        name = "a" * 64
        party = Party("a" * 64, identity=identity(name))
        self.assertLessEqual(len(passport(party)) + 8 * MAX_PASSPORT_ASKS, 1200)

    def test_every_byte_counts(self) -> None:
        """A passport of which any byte was changed makes nobody known, and nothing is sent in answer."""
        a = certified("a")
        data = passport(a)
        b = certified("b")
        passport(b)
        for at in range(len(data)):
            changed = data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]
            with contextlib.suppress(MalformedPacket):
                b.take(changed, a, float(at))
            if not (2 <= at < 4 or 12 <= at < HEADER_BYTES):  # the rest of the header means nothing in a passport
                self.assertEqual(b.counters["passports_accepted"], 0, at)
                self.assertEqual([one for one in b.greetings() if one.data[1] == Kind.GREETING], [])
                continue
            self.assertEqual(b.counters["passports_accepted"], 1)
            b = certified("b")
            passport(b)

    def test_every_length(self) -> None:
        """Cut anywhere, or one byte longer, it is malformed."""
        a, b = certified("a"), certified("b")
        data = passport(a)
        for size in range(HEADER_BYTES, len(data)):
            self.assertRaises(MalformedPacket, b.take, data[:size], a, float(size))
        self.assertRaises(MalformedPacket, b.take, data + b"\0", a, 0.0)
        self.assertRaises(MalformedPacket, b.take, data[: HEADER_BYTES - 1], a, 0.0)

    def test_another_authority(self) -> None:
        """Who signed it must be the node's own authority."""
        self.assertIn("authority", self.refused(passport(certified("a", by="rival"))))

    def test_its_time(self) -> None:
        """A certificate is good from a little before it was made for as long as it says."""
        data = passport(certified("a"))
        for now, text in ((NOW - timedelta(minutes=6), "authority"), (NOW + timedelta(days=366), "is good from")):
            b = Party("b", identity=identity("b"))
            own = b.guard._credentials._identity  # type: ignore[attr-defined]
            self.patch(own, "_clock", lambda now=now: now)
            self.assertIn(text, self.refused(data, b))

    def test_revoked(self) -> None:
        """A certificate on the list is refused; others are not."""
        shop, _ = authority()
        lists = shop.revoke(None, issued("a").certificate, NOW)
        b = Party("b", identity=identity("b"))
        own = b.guard._credentials._identity  # type: ignore[attr-defined]
        own.revoke(lists)
        self.assertIn("revoked", self.refused(passport(certified("a")), b))
        c = certified("c")
        b.take(passport(c), c, 2.0)
        self.assertEqual(b.counters["passports_accepted"], 1)

    def test_another_name(self) -> None:
        """The node must have the name that its certificate says."""
        self.assertIn("that of a, not of x", self.refused(passport(Party("x", identity=identity("a")))))

    def test_the_certificate_of_a_client(self) -> None:
        """A client's certificate of the same authority lets nobody be a node, nor does the authority's own."""
        anne = issued("anne", kind=Purpose.CLIENT)
        error = self.assertRaises(
            BadCertificate, NodeCertificate, anne.certificate, anne.key, authority()[1], lambda: NOW
        )
        self.assertIn("not that of a node", str(error))
        der = load_certificate(anne.certificate).public_bytes(Encoding.DER)
        shown = evolve(read(passport(certified("a"))), certificate=der)
        self.assertIn("not that of a node", self.refused(packet(shown, bytes(64))))

    def test_a_certificate_without_its_key(self) -> None:
        """Who shows the certificate of another under keys of its own cannot sign that."""
        a, mallory = certified("a"), certified("m")
        shown = read(passport(a))
        own = read(passport(mallory))
        forged = Passport((), shown.certificate, shown.node, own.salt, own.signing, own.agreement, bytes(64))
        signature = identity("m").sign(forged.statement(cluster_digest("default")))
        self.assertIn("not signed by a", self.refused(packet(forged, signature)))

    def test_another_cluster(self) -> None:
        """The same certificates in another cluster: its passports are foreign, and cannot be made to fit."""
        data = passport(certified("a", cluster="other"))
        b = certified("b")
        self.assertIsNone(b.take(data, b))
        self.assertEqual(b.counters["foreign_cluster"], 1)
        shown = read(data)
        self.assertIn("not signed by a", self.refused(packet(shown, shown.signature)))

    def test_the_passport_of_an_old_run(self) -> None:
        """A recording of it, with greetings and all, is believed and makes nobody known: its run answers no more."""
        old, b = certified("a"), certified("b")
        recorded = [passport(old)]
        b_shown = passport(b)
        old.take(b_shown, b)
        recorded += [one.data for one in old.greetings()]
        recorded.append(old.seal(old.cluster_packet()))
        b = certified("b", incarnation=2)
        passport(b)
        for now in (1.0, 1.1, 3.0):
            for data in recorded:
                self.assertIsNone(b.take(data, old, now))
        self.assertEqual((b.counters["acquaintances"], b.counters["passports_accepted"]), (0, 1))

    def test_so_many_a_second(self) -> None:
        """A flood of passports costs so many verifications a second; those that are held already cost none."""
        a, b = certified("a"), certified("b")
        good = passport(a)
        b.take(good, a, 0.0)
        shown = read(good)
        for number in range(2 * MAX_PASSPORTS_PER_SECOND):
            forged = evolve(shown, salt=number.to_bytes(16))
            b.take(packet(forged, bytes(64)), a, 0.5)
        self.assertEqual(b.counters["passports_dropped"], MAX_PASSPORTS_PER_SECOND)
        self.assertEqual(len(b.guard.news), 1)
        b.take(good, a, 0.6)
        self.assertEqual(b.counters["passports_dropped"], MAX_PASSPORTS_PER_SECOND)
        c = certified("c")
        b.take(passport(c), c, 1.5)
        self.assertEqual(b.counters["passports_accepted"], 2)

    def test_no_more_than_so_many_are_kept(self) -> None:
        """The one that was not heard for longest is forgotten."""
        a, b = certified("a"), certified("b")
        credentials = b.guard._credentials
        assert isinstance(credentials, Certified)
        first = passport(a)
        b.take(first, a, 0.0)
        (held,) = credentials._held.values()
        for number in range(1, MAX_PASSPORTS):
            salt = number.to_bytes(16)
            credentials._held[salt] = evolve(held, passport=evolve(held.passport, salt=salt))
        a.guard.renew(1.0)
        b.take(passport(a), a, 1.0)
        self.assertEqual(len(credentials._held), MAX_PASSPORTS)
        self.assertNotIn(read(first).salt, credentials._held)
        self.assertEqual(b.counters["passports_accepted"], 2)


def packet(shown: Passport, signature: bytes, cluster: str = "default") -> bytes:
    """A passport that somebody has put together."""
    body = shown.encode()[: len(shown.encode()) - len(shown.signature)] + signature
    return encode(Kind.PASSPORT, cluster_digest(cluster), NO_SENDER, 0, body, part=1)


class InsiderTests(SynchronousTestCase):
    """What a member of the cluster can not do to the others."""

    KNOWN: ClassVar[tuple[str, ...]] = ("a", "b", "c")

    def setUp(self) -> None:
        self.a, self.b, self.c = (certified(name) for name in self.KNOWN)
        meet(self.a, self.b, self.c)

    def key_of(self, party: Party) -> tuple[Introduction, bytes]:
        """What every member knows of another: its salt and its control secret."""
        return party.guard._sealer.me, party.guard._credentials.secret

    def forged(self, body: bytes, counter: int, signature: bytes = bytes(64)) -> bytes:
        """What c can make of a's keys: a packet of the cluster, sealed as a's, with a signature."""
        who, secret = self.key_of(self.a)
        template = self.a.seal(self.a.cluster_packet(body))
        head = template[:28] + counter.to_bytes(8) + template[36 : len(template) - len(body) - 64 - 16]
        key = cluster_packet_key(secret, "default", who.node, who.salt)
        return head + key.encrypt(head[NONCE], body + signature, head)

    def test_control_packets_of_others_cannot_be_forged(self) -> None:
        """A member can seal as another, for it has to open what that one says; it cannot sign as it."""
        c_signs = self.c.guard._credentials.sign(b"anything")
        for counter, signature in enumerate((bytes(64), c_signs), 100):
            self.assertIsNone(self.b.take(self.forged(b"down with b", counter, signature), self.c))
        self.assertIsNone(self.b.take(self.forged(b"", 102, b"short"), self.c))
        self.assertEqual(self.b.counters["signature_broken"], 3)
        self.assertEqual([news.why for news in self.b.guard.news], ["signature_broken"])
        self.assertIsNotNone(self.b.take(self.a.seal(self.a.cluster_packet()), self.a))

    def test_nor_sealed_again(self) -> None:
        """A packet of another that a member has opened is good once: under another counter its signature is not."""
        sealed = self.a.seal(self.a.cluster_packet(b"once"))
        self.assertIsNotNone(self.b.take(sealed, self.a))
        who, secret = self.key_of(self.a)
        key = cluster_packet_key(secret, "default", who.node, who.salt)
        at = len(sealed) - len(b"once") - SIGNATURE_BYTES - 16
        opened = key.decrypt(sealed[NONCE], sealed[at:], sealed[:at])
        head = sealed[:28] + (200).to_bytes(8) + sealed[36:at]
        self.assertIsNone(self.b.take(head + key.encrypt(head[NONCE], opened, head), self.c))
        self.assertEqual(self.b.counters["signature_broken"], 1)

    def test_greetings_are_for_one(self) -> None:
        """What two nodes tell each other in greetings no third can open, with all that it knows."""
        d = certified("d")
        self.a.take(passport(d), d, 5.0)
        (greeting,) = [one.data for one in self.a.greetings() if one.data[1] == Kind.GREETING]
        secret = self.a.guard._credentials.secret
        self.assertNotIn(secret, greeting)
        who, at = Introduction.read(greeting)
        of_a_at_c = self.c.guard._credentials.key_of(who, greeting=True)
        to_a_at_c = self.c.guard._credentials.key_to(who.salt)
        control = cluster_packet_key(secret, "default", who.node, who.salt)
        for key in (of_a_at_c, to_a_at_c, control):
            assert key is not None
            self.assertRaises(InvalidTag, key.decrypt, greeting[NONCE], greeting[at:], greeting[:at])
        of_a_at_d = None
        d.take(passport(self.a, 9.0), self.a, 5.0)
        of_a_at_d = d.guard._credentials.key_of(who, greeting=True)
        assert of_a_at_d is not None
        self.assertIn(secret, of_a_at_d.decrypt(greeting[NONCE], greeting[at:], greeting[:at]))
