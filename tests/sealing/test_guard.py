"""What the guard lets through, and what not: one packet, two or three nodes, no network."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from groupcomm.errors import MalformedPacket
from groupcomm.limits import MAX_ACQUAINTANCES, MAX_KEY_EPOCHS, MAX_SEALED_PACKETS
from groupcomm.outputs import Datagram, PacketsRefused
from groupcomm.sealing.guard import FORGET_SECONDS, LINGER_SECONDS, RENEW_AFTER, TELL_SECONDS
from groupcomm.wire.keys import ClusterKey, KeyEpoch
from groupcomm.wire.packets import HEADER_BYTES, SEALED, Kind, Packets
from groupcomm.wire.seal import COUNTER, MARK, NONCE, SEAL_BYTES, SEALED_HEAD_BYTES
from tests.sealing.world import OTHER_KEY, Party, converse, meet


class SealTests(SynchronousTestCase):
    """Packets of nodes that know each other."""

    def setUp(self) -> None:
        self.a, self.b = Party("a"), Party("b")
        meet(self.a, self.b)

    def test_what_is_sealed_comes_out(self) -> None:
        """Every kind of packet, to all and to one, empty and large, opens to what it was."""
        for kind in (kind for kind in Kind if kind not in (Kind.GREETING, Kind.PASSPORT)):
            make = self.a.view_packet if kind < Kind.BEACON else self.a.cluster_packet
            for body in (b"", b"x", bytes(1380)):
                packet = make(body, kind=kind)
                for to in (None, self.b):
                    self.assertEqual(self.b.take(self.a.seal(packet, to), self.a), packet, kind)

    def test_nothing_of_the_body_is_in_the_clear(self) -> None:
        """Neither what is sent nor the secrets are among the bytes on the wire."""
        sealed = self.a.seal(self.a.view_packet(b"attack at dawn, from the left"))
        self.assertNotIn(b"attack", sealed)
        self.assertNotIn(bytes(range(32)), sealed)

    def test_a_packet_of_a_view_grows_by_what_is_said(self) -> None:
        """32 bytes, as the limits of datagrams count on."""
        packet = self.a.view_packet(bytes(100))
        self.assertEqual(len(self.a.seal(packet)) - len(packet), SEAL_BYTES)
        self.assertEqual(SEAL_BYTES, 32)

    def test_no_nonce_comes_twice(self) -> None:
        """Packets for all and for one, of views and of the cluster, single and in runs, under one key or several."""
        nonces = []
        packets = Packets.of(7, 0, bytes(5), range(1, 6), [b"body"] * 5)
        for epoch in (None, KeyEpoch(1, bytes(32)), None):
            self.a.guard.installed(epoch, (self.a.node, self.b.node))
            for to in (None, self.b.address):
                datagrams = [
                    Datagram(self.a.view_packet(), to),
                    Datagram(self.a.cluster_packet(), to),
                    Datagram(b"", to, packets.size_bytes, packets),
                ]
                nonces += [piece[NONCE] for one in self.a.guard.seal(datagrams) for piece in one.pieces]
        self.assertEqual(len(nonces), 3 * 2 * 7)
        self.assertEqual(len(set(nonces)), len(nonces))

    def test_every_byte_counts(self) -> None:
        """A packet of which any byte was changed is dropped: what is in the clear as well."""
        for packet in (self.a.view_packet(), self.a.cluster_packet()):
            sealed = self.a.seal(packet)
            for at in range(len(sealed)):
                changed = sealed[:at] + bytes([sealed[at] ^ 1]) + sealed[at + 1 :]
                try:
                    self.assertIsNone(self.b.take(changed, self.a), at)
                except MalformedPacket:
                    self.assertLess(at, 110)
            self.assertEqual(self.b.take(sealed, self.a), packet)

    def test_every_length(self) -> None:
        """Cut anywhere, it is malformed or dropped; one byte more, and it does not open."""
        for packet in (self.a.view_packet(), self.a.cluster_packet()):
            sealed = self.a.seal(packet)
            for size in range(len(sealed)):
                try:
                    self.assertIsNone(self.b.take(sealed[:size], self.a), size)
                except MalformedPacket:
                    continue
            self.assertIsNone(self.b.take(sealed + b"\0", self.a))

    def test_once(self) -> None:
        """The same bytes again are dropped, at once and later."""
        for packet in (self.a.view_packet(), self.a.cluster_packet()):
            sealed = self.a.seal(packet)
            self.assertEqual(self.b.take(sealed, self.a), packet)
            self.b.counters["replayed"] = 0
            self.assertIsNone(self.b.take(sealed, self.a))
            self.assertIsNone(self.b.take(sealed, self.a, now=5.0))
            self.assertEqual(self.b.counters["replayed"], 2)

    def test_multicasts_and_unicasts_overtake_each_other(self) -> None:
        """They are counted apart: far more of the one than the window holds does not make the other late."""
        late = self.a.seal(self.a.view_packet(b"late"))
        for number in range(5000):
            self.assertIsNotNone(self.b.take(self.a.seal(self.a.view_packet(number=number), self.b), self.a))
        self.assertIsNotNone(self.b.take(late, self.a))

    def test_a_forged_counter_moves_no_window(self) -> None:
        """Only what was authentic is remembered: a forged packet far ahead shuts nobody out."""
        sealed = self.a.seal(self.a.view_packet())
        ahead = (1 << 62).to_bytes(8)
        self.assertIsNone(self.b.take(sealed[: COUNTER.start] + ahead + sealed[COUNTER.stop :], self.a))
        self.assertIsNotNone(self.b.take(sealed, self.a))

    def test_missing_is_not_allowed(self) -> None:
        """A packet without a seal is dropped, of every kind, also from a node that is known."""
        for kind in Kind:
            self.assertIsNone(self.b.take(self.a.view_packet(bytes(80), kind=kind), self.a))
        self.assertEqual(self.b.counters["unsealed"], len(Kind))
        flagged = bytearray(self.a.view_packet(bytes(80)))
        flagged[2] |= SEALED
        self.assertIsNone(self.b.take(bytes(flagged), self.a))
        self.assertRaises(MalformedPacket, self.b.take, b"x" * (HEADER_BYTES - 1), self.a)

    def test_ones_own_packet_comes_back(self) -> None:
        """Reflected to where it came from it is dropped, before anything is opened."""
        for packet in (self.a.view_packet(), self.a.cluster_packet()):
            self.assertIsNone(self.a.take(self.a.seal(packet), self.b))
        self.assertEqual(self.a.counters["reflected"], 2)

    def test_what_is_refused_is_told_once_a_minute(self) -> None:
        """One word with the first, one a minute later with how many there were; never one per packet."""
        forged = bytearray(self.a.seal(self.a.cluster_packet()))
        forged[-1] ^= 1
        for now in (0.0, 1.0, 2.0, TELL_SECONDS, TELL_SECONDS + 1):
            self.b.take(bytes(forged), self.a, now)
        told = [PacketsRefused("seal_broken", self.a.address, 1), PacketsRefused("seal_broken", self.a.address, 3)]
        self.assertEqual(self.b.guard.news, told)
        self.assertEqual(self.b.counters["seal_broken"], 5)

    def test_secrets_do_not_show(self) -> None:
        """Neither a key nor an epoch says its secret when it is printed."""
        secret = b"\x5a" * 32
        for value in (ClusterKey(secret), KeyEpoch(3, secret)):
            self.assertNotIn("Z" * 4, repr(value))
            self.assertNotIn("5a5a", repr(value))


class RunTests(SynchronousTestCase):
    """Several data packets that leave and come at once."""

    def setUp(self) -> None:
        self.a, self.b = Party("a"), Party("b")
        meet(self.a, self.b)
        self.bodies = [bytes([number]) * 50 for number in range(9)] + [b"short"]
        self.flags = bytes([1, 0, 0, 8, 0, 0, 0, 0, 0, 2])

    def sealed(self, first: int = (1 << 32) - 4) -> Datagram:
        packets = Packets.of(7, 3, self.flags, range(first, first + 10), self.bodies)
        (datagram,) = self.a.guard.seal([Datagram(b"", None, packets.size_bytes, packets)])
        return datagram

    def test_a_run_comes_out(self) -> None:
        """Flags, numbers, bodies, and the packets themselves for repairs, over the end of 32 bits too."""
        datagram = self.sealed()
        run = self.b.guard.open_run(datagram.data, datagram.segment_bytes, 0.0)
        assert run is not None
        self.assertEqual((run.digest, run.sender, run.flags, list(run.bodies)), (7, 3, self.flags, self.bodies))
        self.assertEqual(list(run.numbers), [(number - 4) & 0xFFFFFFFF for number in range(10)])
        again = self.sealed()
        singly = [self.b.take(piece, self.a) for piece in again.pieces]
        self.assertEqual([run.packets.packet(index) for index in range(10)], singly)

    def test_a_run_comes_once(self) -> None:
        """Again it is none, and one by one each is a replay; so is a run of which one packet came before."""
        datagram = self.sealed()
        self.assertIsNotNone(self.b.guard.open_run(datagram.data, datagram.segment_bytes, 0.0))
        self.assertIsNone(self.b.guard.open_run(datagram.data, datagram.segment_bytes, 0.0))
        self.assertEqual([self.b.take(piece, self.a) for piece in datagram.pieces], [None] * 10)
        other = self.sealed()
        self.assertIsNotNone(self.b.take(other.pieces[4], self.a))
        self.assertIsNone(self.b.guard.open_run(other.data, other.segment_bytes, 0.0))
        self.assertEqual(
            [one is None for one in map(lambda piece: self.b.take(piece, self.a), other.pieces)].count(True), 1
        )

    def test_a_changed_byte_anywhere_makes_it_none(self) -> None:
        """Then they are opened one by one, and all but the changed one come through: nothing was marked as seen."""
        for at in range(0, 10 * 102, 37):
            datagram = self.sealed()
            data = bytearray(datagram.data)
            if at >= len(data):
                break
            data[at] ^= 0x10
            run = self.b.guard.open_run(bytes(data), datagram.segment_bytes, 0.0)
            self.assertIsNone(run, at)
            size, came = datagram.segment_bytes, 0
            for start in range(0, len(data), size):
                try:
                    came += self.b.take(bytes(data[start : start + size]), self.a) is not None
                except MalformedPacket:
                    continue
            self.assertEqual(came, 9, at)

    def test_parts_of_a_run_in_another_order(self) -> None:
        """Packets that lie in another order than they were sealed in are none, and are opened one by one."""
        pieces = self.sealed().pieces
        swapped = [pieces[1], pieces[0], *pieces[2:]]
        self.assertIsNone(self.b.guard.open_run(b"".join(swapped), len(pieces[0]), 0.0))
        self.assertNotIn(None, [self.b.take(piece, self.a) for piece in swapped])

    def test_any_bytes(self) -> None:
        """Whatever is taken for a run is one or is none; nothing is raised."""
        datagram = self.sealed()
        for size in range(1, len(datagram.data) + 2):
            if size != datagram.segment_bytes:
                self.assertIsNone(self.b.guard.open_run(datagram.data, size, 0.0))
        for cut in range(len(datagram.data) - 1, 0, -9):
            self.b.guard.open_run(datagram.data[:cut], datagram.segment_bytes, 0.0)
            self.b.guard.check_invariants()


class StrangerTests(SynchronousTestCase):
    """Nodes that do not know each other."""

    def setUp(self) -> None:
        self.a, self.b = Party("a"), Party("b")

    def test_three_greetings_make_two_known(self) -> None:
        """The packet that began it is dropped; after question, answer with question, and answer both pass."""
        self.assertIsNone(self.b.take(self.a.seal(self.a.cluster_packet()), self.a))
        self.assertEqual(converse(self.a, self.b), 3)
        self.assertIsNotNone(self.b.take(self.a.seal(self.a.view_packet()), self.a))
        self.assertIsNotNone(self.a.take(self.b.seal(self.b.view_packet()), self.b))
        self.assertEqual((self.a.guard.met, self.b.guard.met), ([self.b.address], [self.a.address]))

    def test_another_key(self) -> None:
        """A node with another key for this cluster is neither heard nor answered, and it is said."""
        other = Party("o", key=OTHER_KEY)
        self.assertIsNone(self.b.take(other.seal(other.cluster_packet()), other))
        self.assertEqual(self.b.greetings(), [])
        self.assertEqual(self.b.guard.news, [PacketsRefused("seal_broken", other.address, 1)])

    def test_another_cluster(self) -> None:
        """Packets of another cluster cost no key, whatever theirs is, and are no news."""
        other = Party("o", cluster="shop")
        self.assertIsNone(self.b.take(other.seal(other.cluster_packet()), other))
        self.assertEqual((self.b.counters["foreign_cluster"], self.b.guard.news, self.b.greetings()), (1, [], []))

    def test_a_packet_of_a_view_from_a_stranger(self) -> None:
        """It is dropped without a look: nobody derives a key for it, nobody answers."""
        self.assertIsNone(self.b.take(self.a.seal(self.a.view_packet()), self.a))
        self.assertEqual(self.b.counters["sealed_by_stranger"], 1)
        self.assertEqual(self.b.greetings(), [])

    def test_a_recording_is_asked_and_cannot_answer(self) -> None:
        """All that a node has ever sent, its answers to others among it, does not make it known when it is gone."""
        c = Party("c")
        recorded = [self.a.seal(self.a.cluster_packet())]
        c.take(recorded[0], self.a)
        for _ in range(4):
            for sender, receiver in ((c, self.a), (self.a, c)):
                for datagram in sender.greetings():
                    receiver.take(datagram.data, sender)
                    if sender is self.a:
                        recorded.append(datagram.data)
        recorded += [self.a.seal(self.a.cluster_packet()), self.a.seal(self.a.view_packet())]
        self.assertGreater(len(recorded), 3)
        asked = 0
        for round_ in range(50):
            for data in recorded:
                self.assertIsNone(self.b.take(data, self.a, now=float(round_)))
            asked += len(self.b.greetings())
        self.assertEqual(self.b.counters["acquaintances"], 0)
        self.assertLessEqual(asked, 50)

    def test_an_answer_to_another_question(self) -> None:
        """What was sent back before is no answer to what is asked now."""
        self.b.take(self.a.seal(self.a.cluster_packet()), self.a)
        (question,) = self.b.greetings()
        self.a.take(question.data, self.b)
        (answer,) = self.a.greetings()
        later = Party("b", incarnation=2)
        later.take(self.a.seal(self.a.cluster_packet()), self.a)
        later.take(answer.data, self.a)
        self.assertEqual(later.counters["acquaintances"], 0)

    def test_an_answer_too_late(self) -> None:
        """An answer that comes seconds later is not believed: it may have been recorded and held back."""
        self.b.take(self.a.seal(self.a.cluster_packet()), self.a)
        (question,) = self.b.greetings()
        self.a.take(question.data, self.b)
        (answer,) = self.a.greetings()
        self.b.take(answer.data, self.a, now=4.0)
        self.assertEqual(self.b.counters["acquaintances"], 0)

    def test_one_recorded_question_is_no_way_to_silence_a_node(self) -> None:
        """A greeting of a run that is over, again and again: it is answered as slowly as others are asked."""
        self.a.take(self.b.seal(self.b.cluster_packet()), self.b)
        (recorded,) = self.a.greetings()
        meet(Party("a", incarnation=2), self.b)
        sent = 0
        for number in range(3000):
            self.b.take(recorded.data, self.a, now=10.0 + number / 10_000)
            sent += len(self.b.greetings())
        self.assertLessEqual(sent, 12)
        newcomer = Party("c")
        self.b.take(newcomer.seal(newcomer.cluster_packet()), newcomer, now=10.3)
        self.assertEqual(len(self.b.greetings()), 1)

    def test_what_was_sealed_before_the_answer_is_old(self) -> None:
        """A recording of this very run, from before it was met, counts as seen."""
        earlier = [self.a.seal(self.a.view_packet(number=number)) for number in range(5)]
        meet(self.a, self.b)
        self.assertEqual([self.b.take(data, self.a) for data in earlier], [None] * 5)
        self.assertEqual(self.b.counters["replayed"], 5)

    def test_the_earlier_run_is_forgotten(self) -> None:
        """When a later run of a node has proved itself, the earlier one has to as well."""
        meet(self.a, self.b)
        again = Party("a", incarnation=2)
        meet(again, self.b)
        self.assertIsNone(self.b.take(self.a.seal(self.a.view_packet()), self.a))
        self.assertIsNotNone(self.b.take(again.seal(again.view_packet()), again))

    def test_who_was_silent_is_a_stranger_again(self) -> None:
        """Outside the view, after ten seconds, when somebody else is met."""
        meet(self.a, self.b)
        c = Party("c")
        meet(c, self.b, now=FORGET_SECONDS + 1)
        self.assertIsNone(self.b.take(self.a.seal(self.a.view_packet()), self.a, now=FORGET_SECONDS + 1))
        meet(self.a, self.b, now=FORGET_SECONDS + 2)
        self.b.guard.installed(None, (self.a.node, self.b.node, c.node))
        meet(Party("d"), self.b, now=3 * FORGET_SECONDS)
        self.assertIsNotNone(self.b.take(self.a.seal(self.a.view_packet()), self.a, now=3 * FORGET_SECONDS))

    def test_a_new_salt_is_another_node(self) -> None:
        """A node that has renewed its keys says so, proves itself again, and nothing of its old ones passes."""
        meet(self.a, self.b)
        old = self.a.seal(self.a.view_packet())
        self.a.guard.renew(1.0)
        self.assertNotEqual(self.a.seal(self.a.view_packet())[MARK], old[MARK])
        converse(self.a, self.b, now=1.0)
        self.assertIsNotNone(self.b.take(self.a.seal(self.a.view_packet()), self.a, now=1.0))
        self.assertIsNone(self.b.take(old, self.a, now=1.0))

    def test_renewal_by_itself(self) -> None:
        """Should no rotation come about for 2**28 packets, the node draws a new salt."""
        self.a.guard._sealer.sealed = RENEW_AFTER
        self.a.guard.tick(0.0)
        self.assertEqual(self.a.counters["keys_renewed"], 1)

    def test_as_many_as_are_allowed(self) -> None:
        """One acquaintance more than there may be makes room for itself, among those outside the view."""
        kept = Party("k")
        meet(kept, self.b)
        self.b.guard.installed(None, (self.b.node, kept.node))
        for number in range(MAX_ACQUAINTANCES):
            meet(Party(f"n{number}"), self.b, now=0.002 * number)
        self.assertEqual(len(self.b.guard._acquaintances), MAX_ACQUAINTANCES)
        self.assertIsNotNone(self.b.take(kept.seal(kept.view_packet()), kept))


class EpochTests(SynchronousTestCase):
    """What packets of views are sealed under, and opened with."""

    def setUp(self) -> None:
        self.a, self.b = Party("a"), Party("b")
        meet(self.a, self.b)
        self.members = (self.a.node, self.b.node)
        for party in (self.a, self.b):
            party.guard.installed(None, self.members)
        self.next = KeyEpoch(1, b"n" * 32)

    def test_expected_before_it_is_used(self) -> None:
        """What is sealed under the next epoch opens where that is expected, and nowhere else."""
        self.a.guard.switch(self.next)
        sealed = self.a.seal(self.a.view_packet())
        self.assertIsNone(self.b.take(sealed, self.a))
        self.assertEqual(self.b.counters["unknown_key_epoch"], 1)
        self.b.guard.expect(self.next)
        self.assertIsNotNone(self.b.take(sealed, self.a))

    def test_the_old_one_is_opened_until_all_have_left_it(self) -> None:
        """And a second longer; then nothing that was sealed under it opens."""
        late, too_late = self.a.seal(self.a.view_packet()), self.a.seal(self.a.view_packet())
        for party in (self.a, self.b):
            party.guard.expect(self.next)
            party.guard.switch(self.next)
        for now in (1.0, 5.0, 9.0):
            self.b.guard.tick(now)
        self.assertIsNotNone(self.b.take(late, self.a, now=9.0))
        self.assertIsNotNone(self.b.take(self.a.seal(self.a.view_packet()), self.a, now=9.5))
        self.b.guard.tick(10.0)
        self.b.guard.tick(10.0 + LINGER_SECONDS)
        self.assertIsNone(self.b.take(too_late, self.a, now=11.5))
        self.assertEqual(self.b.counters["unknown_key_epoch"], 1)

    def test_a_view_has_one_epoch(self) -> None:
        """When a view begins, all epochs but its own are dropped."""
        for number in (1, 2):
            self.b.guard.expect(KeyEpoch(number, bytes([number]) * 32))
        self.b.guard.installed(self.next, self.members)
        self.assertEqual(self.b.guard.epoch, self.next)
        self.assertIsNone(self.b.take(self.a.seal(self.a.view_packet()), self.a))

    def test_no_more_epochs_than_are_allowed(self) -> None:
        """Expected ones push each other out, never the one that is used."""
        for number in range(1, 300):
            self.b.guard.expect(KeyEpoch(number, number.to_bytes(32)))
            self.b.guard.check_invariants()
        self.assertLessEqual(len(self.b.guard._epochs), MAX_KEY_EPOCHS)
        self.assertIsNotNone(self.b.take(self.a.seal(self.a.view_packet()), self.a))

    def test_an_epoch_that_packets_name_like_the_present_one(self) -> None:
        """256 numbers on, packets say the same byte: it takes the place of the present one when that is left."""
        far = KeyEpoch(256, b"f" * 32)
        self.b.guard.expect(far)
        self.assertIsNotNone(self.b.take(self.a.seal(self.a.view_packet()), self.a))
        for party in (self.a, self.b):
            party.guard.installed(far, self.members)
            party.guard.check_invariants()
        self.assertIsNotNone(self.b.take(self.a.seal(self.a.view_packet()), self.a))

    def test_an_epoch_that_packets_name_like_the_last_one(self) -> None:
        """256 numbers on from the one that was left a moment ago: dropping that leaves the new one in its place."""
        far = KeyEpoch(256, b"f" * 32)
        for party in (self.a, self.b):
            party.guard.switch(self.next)
            party.guard.installed(far, self.members)
            party.guard.check_invariants()
        self.assertIsNotNone(self.b.take(self.a.seal(self.a.view_packet()), self.a))

    def test_partitions_that_have_rotated_apart(self) -> None:
        """What is sealed under another secret of one number is dropped and counted; nobody says that keys differ."""
        self.a.guard.switch(self.next)
        self.b.guard.switch(KeyEpoch(1, b"m" * 32))
        self.assertIsNone(self.b.take(self.a.seal(self.a.view_packet()), self.a))
        self.assertEqual(self.b.counters["seal_broken"], 1)
        self.assertEqual(self.b.guard.news, [])

    def test_back_to_an_earlier_one(self) -> None:
        """A view may go back to an epoch; the counters go on, so no nonce comes again."""
        before = self.a.seal(self.a.view_packet())
        self.a.guard.switch(self.next)
        self.a.guard.installed(None, self.members)
        after = self.a.seal(self.a.view_packet())
        self.assertNotEqual(before[NONCE], after[NONCE])
        self.assertEqual(before[SEALED_HEAD_BYTES - 16 : SEALED_HEAD_BYTES - 8], after[MARK])

    def test_time_for_the_next(self) -> None:
        """At 2**23 packets, not before; and not again after the switch."""
        self.a.guard._sealer.sealed = MAX_SEALED_PACKETS - 1
        self.assertFalse(self.a.guard.wants_rotation)
        self.a.seal(self.a.view_packet())
        self.assertTrue(self.a.guard.wants_rotation)
        self.a.guard.switch(self.next)
        self.assertFalse(self.a.guard.wants_rotation)
