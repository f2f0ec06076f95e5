"""Answers and events that are asked for and never read."""

from __future__ import annotations

from groupcomm.daemon import caps
from groupcomm.events import Level
from groupcomm.limits import CLIENT_QUEUE_BYTES
from tests.daemon.raw_calls import call
from tests.daemon.world import OUTPUT_BUFFER_BYTES
from tests.hostile.broker_case import READ_BYTES, BrokerAttack, held

GREATEST_ANSWER_BYTES = caps.STATUS_PAGE_BYTES + 256 * 1024
"""A page of groups, and the largest group at its end in these tests."""


class UnreadOutputTests(BrokerAttack):
    def fill_groups(self) -> None:
        """Many groups with many members each, as a large cluster has."""
        session = self.world.node.sessions["alice"]
        for number in range(300):
            self.world.node.groups[f"group {number:04}"] = [session] * 1000

    def test_answers_asked_for_at_once(self) -> None:
        """A thousand calls with large answers in one read are answered one at a time, as they are read."""
        self.fill_groups()
        attacker, avatar = self.logged_in()
        attacker.transport.deaf = True
        attacker.broker.dataReceived(call(b"groups", target=avatar) * 1000)
        server = attacker.transport.peer
        self.assertLessEqual(server.largest_output, OUTPUT_BUFFER_BYTES + GREATEST_ANSWER_BYTES)
        self.assertFalse(server.reading)
        self.assertLessEqual(held(attacker.broker)[0], READ_BYTES)
        for _ in range(20):
            self.world.advance(1.0)
        self.assertLessEqual(server.largest_output, OUTPUT_BUFFER_BYTES + GREATEST_ANSWER_BYTES)

    def test_one_answer_is_bounded(self) -> None:
        """A page of groups ends where it is large enough; the rest is on the next, and all are named once."""
        self.fill_groups()
        names: list[str] = []
        while True:
            page = self.alice.call("groups", names[-1] if names else "")
            if not page:
                break
            size = sum(len(group["members"]) for group in page)
            self.assertLessEqual(size, GREATEST_ANSWER_BYTES)
            names += [group["name"] for group in page]
        self.assertEqual(names, sorted(self.world.node.groups))

    def test_events_not_read(self) -> None:
        """A member that reads nothing is put out as too slow; what was held for it never exceeded its queue."""
        self.guests.add("mallory")
        attacker, avatar = self.logged_in()
        attacker.send(call(b"join", b"flood", target=avatar, request=4))
        attacker.transport.deaf = True
        handler = self.world.node.sessions["mallory"].handler
        most = 0
        data = b"x" * 500_000
        rounds = 0
        while "mallory" in self.world.node.sessions:
            self.flood(data)
            self.world.advance(0.1)
            most = max(most, handler.queued_bytes)  # type: ignore[attr-defined]
            rounds += 1
            self.assertLess(rounds, 400)
        self.assertLessEqual(most, caps.CLIENT_HARD_BYTES + 2 * len(data))
        self.assertGreater(most, CLIENT_QUEUE_BYTES)
        server = attacker.transport.peer
        self.assertLessEqual(server.largest_output, caps.IN_FLIGHT_BYTES + caps.BATCH_BYTES + 2 * len(data))
        self.world.advance(caps.FAREWELL_SECONDS + 0.1)
        self.assert_cut_without_trace(attacker)
        self.guests.discard("mallory")
        self.assertEqual(self.world.factory.counters["clients_too_slow"], 1)

    def flood(self, data: bytes) -> None:
        """Somebody sends to the group."""
        sender = self.world.node.sessions["alice"]
        self.world.node.deliver(sender, ("flood",), data, Level.AGREED)

    def test_errors_not_read(self) -> None:
        """Refused calls whose errors are not read stop like any others."""
        attacker, avatar = self.logged_in()
        attacker.transport.deaf = True
        for _ in range(100):
            attacker.send(call(b"nothing", target=avatar) * 1000)
        server = attacker.transport.peer
        self.assertLessEqual(server.largest_output, OUTPUT_BUFFER_BYTES + 4096)
        self.assertLessEqual(held(attacker.broker)[0], READ_BYTES)
        self.assertFalse(server.reading)
