"""A receiver that reports terrible loss, or that it has no room, slows the senders down to a floor and no further."""

from __future__ import annotations

from groupcomm.events import Level
from groupcomm.limits import MIN_BUDGET_BYTES, MIN_WINDOW_BYTES
from groupcomm.wire.packets import Kind, Nack, Range, Status
from tests.hostile.attacker import HostileCase, view_packet

PAYLOAD = 10_000
COUNT = 300
"""Messages that a session may have waiting at once."""


class CongestionAbuseTests(HostileCase):
    """Node ``a`` sends; the attacker says in the name of ``b`` that it suffers."""

    least_grant = MIN_BUDGET_BYTES

    def seconds_for(self, count: int, attack: bool, kind: Kind) -> float:
        """How long so many messages take to be everywhere, with a forged packet each half millisecond or without."""
        before = len(self.clients[2].messages("chat"))
        for number in range(count):
            self.rounds += 1
            self.clients[0].send("chat", b"%d of %d" % (number, self.rounds) + bytes(PAYLOAD), level=Level.FIFO)
        begun = self.cluster.now
        while len(self.clients[2].messages("chat")) < before + count:
            self.assertLess(self.cluster.now - begun, 60.0)
            if attack:
                self.attacker.send(self.forged(kind), self.nodes[0], source=self.nodes[1].address)
            self.cluster.run(0.0005)
            self.least_grant = min(self.least_grant, self.view(self.nodes[0]).window.grant_bytes)
        return self.cluster.now - begun

    def forged(self, kind: Kind) -> bytes:
        """What a receiver in need says."""
        view = self.view(self.nodes[0])
        if kind is Kind.STATUS:
            return view_packet(view, kind, Status(0, ()).encode(), sender=1)
        highest, stable = view.highest_sent, view.streams[0].stable
        return view_packet(view, kind, Nack(0, 0, (Range(stable + 1, max(stable + 1, highest)),)).encode(), sender=1)

    def test_no_room(self) -> None:
        """Reports of no room at all leave a sender the room that the smallest node allowed has."""
        quiet = self.seconds_for(COUNT, False, Kind.STATUS)
        attacked = self.seconds_for(COUNT, True, Kind.STATUS)
        floor = MIN_BUDGET_BYTES // 2 // len(self.nodes)
        self.assertEqual(self.least_grant, floor)
        self.assertLess(attacked, 2 * quiet + 0.01)
        self.assert_goes_on()

    def test_terrible_loss(self) -> None:
        """Requests for everything there is, two thousand a second, leave a sender a window of 64 KiB per round trip."""
        quiet = sum(self.seconds_for(COUNT, False, Kind.NACK) for _ in range(4))
        attacked = sum(self.seconds_for(COUNT, True, Kind.NACK) for _ in range(4))
        self.assertGreaterEqual(self.view(self.nodes[0]).window.window_bytes, MIN_WINDOW_BYTES)
        self.assertGreater(4 * COUNT * PAYLOAD / attacked, MIN_WINDOW_BYTES / 0.02)
        self.assert_goes_on()
        self.assertLess(sum(self.seconds_for(COUNT, False, Kind.NACK) for _ in range(8)) / 2, 2 * quiet)
