"""Calls that cost much to read, and more of them than there is time for."""

from __future__ import annotations

from groupcomm.daemon import caps
from tests.daemon.raw_calls import call
from tests.hostile.broker_case import Attacker, BrokerAttack

READING_SECONDS = 0.001
"""What it takes here to read one call, and again to do it."""


class ProcessorTests(BrokerAttack):
    def setUp(self) -> None:
        super().setUp()
        self.spent = 0.0

    def tearDown(self) -> None:
        self.world.factory.time.measure = lambda: self.spent
        self.world.advance(60.0)
        super().tearDown()

    def work_takes_time(self) -> None:
        """From now on each look at the time finds that some was spent: after reading a call, and after doing it."""

        def measure() -> float:
            self.spent += READING_SECONDS
            return self.spent

        self.world.factory.time.measure = measure

    def calls_done(self, attackers: list[Attacker]) -> int:
        """How many of the attackers' calls were done."""
        return sum(attacker.refusals("BadArgument") for attacker in attackers)

    def pile_up(self, attacker: Attacker, avatar: int, count: int) -> None:
        """Have so many calls on their way to the daemon."""
        attacker.transport.write(call(b"join", b"", target=avatar) * count)

    def test_one_turn(self) -> None:
        """In one turn of the reactor a client gets 20 ms; what it has sent more waits, and the others come first."""
        attacker, avatar = self.logged_in()
        self.work_takes_time()
        self.pile_up(attacker, avatar, 1000)
        attacker.transport.pump()
        before = self.spent
        for turn in range(1, 6):
            self.world.clock.advance(0)
            self.assertLessEqual(self.spent - before, caps.TURN_SECONDS + 6 * READING_SECONDS)
            before = self.spent
            if turn == 3:
                self.alice.avatar.callRemote("send", "chat", b"in between")
                self.alice.transport.pump()
        self.world.clock.advance(0)
        sent = [each[1] for each in self.world.node.sessions["alice"].sent]
        self.assertEqual(sent[-1:], [b"in between"])

    def test_many_in_one_turn(self) -> None:
        """Fifty clients together get 20 ms of a turn, and each its turn, in the order of coming."""
        attackers = []
        for number in range(50):
            attacker, avatar = self.logged_in(b"mallory%d" % number)
            attackers.append((attacker, avatar))
        self.work_takes_time()
        for attacker, avatar in attackers:
            self.pile_up(attacker, avatar, 12)
        before = self.spent
        for attacker, _ in attackers:
            attacker.transport.pump()
        self.assertLessEqual(self.spent - before, caps.TURN_SECONDS + 2 * len(attackers) * READING_SECONDS)
        done = []
        for _ in range(60):
            self.world.clock.advance(0)
            done.append([len(attacker.transport.peer.output) > 0 for attacker, _ in attackers].count(True))
        self.assertEqual(done[-1], len(attackers))
        self.assertLess(done[0], len(attackers) / 4)
        self.world.advance(60.0)
        self.assertEqual(self.calls_done([attacker for attacker, _ in attackers]), 12 * len(attackers))

    def test_one_client_over_seconds(self) -> None:
        """Reading the calls of one client takes its share of the time at most; it is logged once."""
        attacker, avatar = self.logged_in()
        self.work_takes_time()
        done = self.calls_done([attacker])
        self.pile_up(attacker, avatar, 4000)
        seconds = 8
        for _ in range(seconds * 10):
            self.world.advance(0.1)
        reading = (self.calls_done([attacker]) - done) * READING_SECONDS
        self.assertLessEqual(reading, caps.DECODE_SHARE * (seconds + 1) + 0.05)
        self.assertGreater(reading, caps.DECODE_SHARE * seconds * 0.6)
        self.assertGreater(self.world.factory.counters["clients_slowed"], 0)
        self.assertEqual(len(self.lines), 1)
        self.assert_group_goes_on()
        attacker.transport.abortConnection()
        self.guests.discard("mallory")

    def test_many_clients_over_seconds(self) -> None:
        """However many try: reading takes no more than the share of all, and the group's clients are served."""
        logged_in = [self.logged_in(b"mallory%d" % number) for number in range(8)]
        attackers = [attacker for attacker, _ in logged_in]
        self.work_takes_time()
        for attacker, avatar in logged_in:
            self.pile_up(attacker, avatar, 600)
        done = self.calls_done(attackers)
        seconds = 3
        for _ in range(seconds):
            self.world.advance(1.0)
            self.alice.avatar.callRemote("send", "chat", b"again")
        reading = (self.calls_done(attackers) - done) * READING_SECONDS
        self.assertLessEqual(reading, caps.DECODE_SHARE_OF_ALL * (seconds + 1) + 0.05)
        self.assertGreater(reading, caps.DECODE_SHARE_OF_ALL * seconds * 0.6)
        self.assertGreaterEqual(len(self.world.node.sessions["alice"].sent), seconds - 1)
        for attacker in attackers:
            attacker.transport.abortConnection()
        self.guests = {"alice", "bob"}

    def test_nobody_else_is_slowed(self) -> None:
        """A client that sends fifty messages a second takes less than its share and never waits."""
        self.work_takes_time()
        for _ in range(500):
            self.alice.avatar.callRemote("send", "chat", b"x")
            self.world.advance(0.02)
        self.assertEqual(self.world.factory.counters["clients_slowed"], 0)
        self.assertEqual(self.lines, [])

    def test_what_was_read_is_not_lost(self) -> None:
        """A client that is slowed loses nothing: all its calls are done in the end, in their order."""
        attacker, avatar = self.logged_in()
        self.work_takes_time()
        calls = [call(b"send", b"tea", b"%d" % number, target=avatar, request=number) for number in range(1000)]
        attacker.send(b"".join(calls))
        self.world.advance(60.0)
        sent = [each[1] for each in self.world.node.sessions["mallory"].sent]
        self.assertEqual(sent, [b"%d" % number for number in range(1000)])
        self.assertFalse(attacker.cut)
