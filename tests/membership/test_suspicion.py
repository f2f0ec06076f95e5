"""Who is suspected, when, and of what."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from twisted.trial.unittest import SynchronousTestCase

from groupcomm.config import Timing
from groupcomm.identity import NodeId
from groupcomm.membership.inquiries import MAX_ASKED, MAX_ASKERS, Inquiries
from groupcomm.membership.peers import Peer, Peers
from groupcomm.membership.suspicion import ASKED, LAG_FORGOTTEN_SECONDS, MAX_LAG_SECONDS, OwnLag, Suspicion
from groupcomm.wire.evidence import Finding

ME, SILENT, *OTHERS = ALL = tuple(NodeId(name, 1) for name in "abcdef")
TIMING = Timing()
TICK = 0.02


class Host:
    """Notes whom it is to ask."""

    def __init__(self) -> None:
        self.hosts: list[NodeId] = []
        self.others: list[tuple[NodeId, tuple[NodeId, ...]]] = []

    def ask(self, peer: Peer) -> None:
        self.hosts.append(peer.node)

    def ask_others(self, peer: Peer, others: Sequence[NodeId]) -> None:
        self.others.append((peer.node, tuple(others)))


class SuspicionTests(SynchronousTestCase):
    """Node b is silent from the beginning; the others are heard all the while."""

    def setUp(self) -> None:
        self.host, self.peers, self.now = Host(), Peers(), 100.0
        self.suspicion = Suspicion(ME, self.host, Random(1))
        self.suspicion.watched = (SILENT,)
        self.began = self.now
        self.peer = self.peers.heard(SILENT, ("10.0.0.2", 1), self.now)
        self.suspicion.host_answered(SILENT, ALL, self.now)

    def suspected(self, *, host_answers: bool = False, vouched: bool = False) -> tuple[Finding, float] | None:
        """What is found at last, and after how long; None if nothing is for twice the longest time."""
        while self.now < self.began + 2 * TIMING.suspect:
            self.now += TICK
            for index, node in enumerate(OTHERS):
                self.peers.heard(node, ("10.0.1.1", index), self.now)
            if self.now - self.peer.heard_at <= TIMING.probe_after:
                continue
            if host_answers:
                self.suspicion.host_answered(SILENT, ALL, self.now)
            if vouched:
                self.suspicion.vouched(SILENT, 0.01, self.now)
            finding = self.suspicion.look(self.peer, ALL, self.peers, TIMING, self.now)
            if finding is not None:
                return finding, self.now - self.began
        return None

    def assert_found(self, found: tuple[Finding, float] | None, finding: Finding, seconds: float) -> None:
        """This, and after so long, or a little later."""
        assert found is not None
        self.assertEqual(found[0], finding)
        self.assertTrue(seconds <= found[1] < 1.2 * seconds, found[1])

    def test_a_silent_host(self) -> None:
        """Soon, if the host used to answer; it is asked at every look, and three others ten times a second."""
        self.assert_found(self.suspected(), Finding.HOST_SILENT, TIMING.host_silent)
        looks = round((TIMING.host_silent - TIMING.probe_after) / TICK)
        self.assertTrue(looks <= len(self.host.hosts) <= looks + 3)
        self.assertTrue(2 <= len(self.host.others) <= 3)
        for about, others in self.host.others:
            self.assertEqual((about, len(set(others))), (SILENT, ASKED))
            self.assertTrue(set(others) <= set(OTHERS))

    def test_a_silent_process(self) -> None:
        """Much later, as long as the host answers."""
        self.assert_found(self.suspected(host_answers=True), Finding.PROCESS_SILENT, TIMING.suspect)

    def test_a_host_that_nobody_here_knows(self) -> None:
        """Who has never seen a host answer, or does not watch it, concludes nothing from its silence."""
        for watched, answered in (((), (SILENT,)), ((SILENT,), ())):
            self.setUp()
            self.suspicion.watched = watched
            self.suspicion.installed(answered)
            self.assert_found(self.suspected(), Finding.SILENT, TIMING.suspect)

    def test_one_that_others_hear(self) -> None:
        """That it is not heard here alone says less: there is time for the link to come back."""
        self.assert_found(self.suspected(vouched=True), Finding.UNHEARD, TIMING.unheard)

    def test_a_word_of_it(self) -> None:
        """All begins anew when it is heard, or when this node did not run itself."""
        while self.now < self.began + TIMING.host_silent - 2 * TICK:
            self.now += TICK
            self.suspicion.look(self.peer, ALL, self.peers, TIMING, self.now)
        self.assertGreater(self.suspicion.probes(SILENT), 5)
        self.peers.excuse(0.3)
        self.began = self.peer.heard_at
        self.suspicion.look(self.peer, ALL, self.peers, TIMING, self.now)
        self.assertEqual(self.suspicion.probes(SILENT), 1)
        self.assert_found(self.suspected(), Finding.HOST_SILENT, TIMING.host_silent)

    def test_a_node_that_is_late_itself(self) -> None:
        """It gives others twice as much more time as it was late, and never more than twice what they have."""
        self.suspicion.lag.late(0.1, self.now)
        self.assert_found(self.suspected(), Finding.HOST_SILENT, TIMING.host_silent + 0.15)
        self.setUp()
        self.suspicion.lag.late(30.0, self.now)
        self.assert_found(self.suspected(), Finding.HOST_SILENT, 2 * TIMING.host_silent - TICK)

    def test_who_is_not_watched_closely(self) -> None:
        """Is asked once in a heartbeat, and others half as often: many that are silent must not be what costs most."""
        self.suspicion.watched = ()
        self.assert_found(self.suspected(), Finding.SILENT, TIMING.suspect)
        asked = (TIMING.suspect - TIMING.probe_after) / TIMING.heartbeat
        self.assertTrue(asked - 2 <= len(self.host.hosts) <= asked + 2, self.host.hosts)
        self.assertTrue(asked / 2 - 2 <= len(self.host.others) <= asked / 2 + 2)

    def test_nobody_else_is_there(self) -> None:
        """Others that are not heard themselves are not asked."""
        self.now += 1.0
        self.suspicion.look(self.peer, ALL, self.peers, TIMING, self.now)
        self.assertEqual((self.host.hosts, self.host.others), ([SILENT], []))

    def test_watched_closely(self) -> None:
        """A silent neighbour is looked at more often than others."""
        self.assertFalse(self.suspicion.is_close(SILENT))
        self.suspicion.look(self.peer, ALL, self.peers, TIMING, self.now + 0.4)
        self.assertTrue(self.suspicion.is_close(SILENT))
        self.suspicion.installed(ALL)
        self.assertFalse(self.suspicion.is_close(SILENT))


class LagTests(SynchronousTestCase):
    """How late a node is."""

    def test_it_is_forgotten(self) -> None:
        """The greatest lateness counts, up to a bound, and less and less as time goes by."""
        lag = OwnLag()
        self.assertEqual(lag.seconds(5.0), 0.0)
        lag.late(0.2, 10.0)
        lag.late(0.1, 10.0)
        self.assertEqual(lag.seconds(10.0), 0.2)
        self.assertAlmostEqual(lag.seconds(10.0 + LAG_FORGOTTEN_SECONDS / 2), 0.1)
        self.assertEqual(lag.seconds(11.0 + LAG_FORGOTTEN_SECONDS), 0.0)
        lag.late(60.0, 20.0)
        self.assertEqual(lag.seconds(20.0), MAX_LAG_SECONDS)


class InquiryTests(SynchronousTestCase):
    """Who waits for word of whom."""

    def test_they_are_told_once(self) -> None:
        """All who have asked, each once, and nobody after that."""
        inquiries = Inquiries()
        for port in (2, 1, 2):
            self.assertTrue(inquiries.asked(SILENT, ("h", port)))
        self.assertEqual(inquiries.answered(SILENT), [("h", 2), ("h", 1)])
        self.assertEqual(inquiries.answered(SILENT), [])
        inquiries.asked(SILENT, ("h", 1))
        inquiries.clear()
        self.assertEqual(inquiries.answered(SILENT), [])

    def test_bounds(self) -> None:
        """So many members are asked after at once, for so many askers."""
        inquiries = Inquiries()
        for number in range(MAX_ASKED):
            self.assertTrue(inquiries.asked(NodeId(f"n{number}", 1), ("h", 1)))
        self.assertFalse(inquiries.asked(SILENT, ("h", 1)))
        for port in range(2 * MAX_ASKERS):
            inquiries.asked(NodeId("n0", 1), ("h", port))
        self.assertEqual(len(inquiries.answered(NodeId("n0", 1))), MAX_ASKERS)
