"""More calls than can be answered."""

from __future__ import annotations

from groupcomm.daemon import caps
from tests.daemon.raw_calls import call
from tests.hostile.broker_case import READ_BYTES, BrokerAttack, held


class PendingTests(BrokerAttack):
    def test_calls_that_wait(self) -> None:
        """Exactly 1,024 calls wait; what came with them is kept and not looked at, and no more is read."""
        attacker, avatar = self.logged_in()
        session = self.world.node.sessions["mallory"]
        session.hold = True
        calls = 3000
        attacker.send(b"".join(call(b"send", b"chat", b"x", target=avatar, request=n) for n in range(calls)))
        self.assertEqual(len(session.held), caps.MAX_PENDING_CALLS)
        self.assertEqual(len(session.sent), caps.MAX_PENDING_CALLS)
        self.assertFalse(attacker.transport.peer.reading)
        self.assertLessEqual(held(attacker.broker)[0], READ_BYTES)
        self.assert_group_goes_on()
        session.release()
        self.world.settle()
        self.assertEqual(len(session.sent), calls)
        self.assertEqual(attacker.errors, [])
        self.assertTrue(attacker.transport.peer.reading)
        self.assertEqual(held(attacker.broker), (0, 0))

    def test_bytes_that_wait(self) -> None:
        """Two MiB of messages wait, however many are sent."""
        attacker, avatar = self.logged_in()
        session = self.world.node.sessions["mallory"]
        session.hold = True
        data = b"x" * 500_000
        for number in range(20):
            attacker.send(call(b"send", b"chat", data, target=avatar, request=number))
        self.assertLessEqual(sum(len(sent[1]) for sent in session.sent), caps.MAX_PENDING_BYTES)
        self.assertLessEqual(held(attacker.broker)[0], READ_BYTES)
        self.assertEqual(len(attacker.broker._paused), 1)
        self.assert_group_goes_on()
        session.release()
        self.world.settle()
        self.assertEqual(len(session.sent), 20)

    def test_answers_not_wanted(self) -> None:
        """Calls that want no answer count like the others."""
        attacker, avatar = self.logged_in()
        session = self.world.node.sessions["mallory"]
        session.hold = True
        attacker.send(call(b"send", b"chat", b"x", target=avatar, wanted=0) * 3000)
        self.assertEqual(len(session.held), caps.MAX_PENDING_CALLS)
        session.release()
        self.world.settle()
        self.assertEqual(len(session.sent), 3000)

    def test_messages_begun(self) -> None:
        """Two messages in parts may be begun; the third is refused, whatever room there is."""
        attacker, avatar = self.logged_in()
        for number in range(50):
            attacker.send(call(b"begin", 16 * 1024 * 1024, target=avatar, request=number))
        self.assertEqual(attacker.refusals("LimitReached"), 50 - caps.MAX_UPLOADS)
        self.assertLessEqual(self.world.realm.upload_budget.reserved_bytes, caps.MAX_UPLOAD_TOTAL_BYTES)
        attacker.transport.loseConnection()
        self.world.settle()
        self.assertEqual(self.world.realm.upload_budget.reserved_bytes, 0)
        self.guests.discard("mallory")

    def test_messages_begun_by_many(self) -> None:
        """All clients together hold no more than the total; the rest wait, and nobody else does."""
        attackers = []
        for number in range(8):
            attacker, avatar = self.logged_in(b"mallory%d" % number)
            attackers.append(attacker)
            for request in range(2):
                attacker.send(call(b"begin", 16 * 1024 * 1024, target=avatar, request=request))
        self.assertLessEqual(self.world.realm.upload_budget.reserved_bytes, caps.MAX_UPLOAD_TOTAL_BYTES)
        self.assert_group_goes_on()
        self.world.advance(caps.UPLOAD_SECONDS + 1)
        for attacker in attackers:
            attacker.transport.loseConnection()
        self.world.settle()
        self.assertEqual(self.world.realm.upload_budget.reserved_bytes, 0)
        self.guests = {"alice", "bob"}

    def test_gone_with_calls_that_wait(self) -> None:
        """Calls of a connection that is lost are made no more, and nothing of them is kept."""
        attacker, avatar = self.logged_in()
        session = self.world.node.sessions["mallory"]
        session.hold = True
        attacker.send(call(b"send", b"chat", b"x" * 100, target=avatar) * 2000)
        attacker.transport.peer.lose()
        attacker.transport.lose()
        sent = len(session.sent)
        session.release()
        self.assert_cut_without_trace(attacker)
        self.assertEqual(len(session.sent), sent)
        self.guests.discard("mallory")
