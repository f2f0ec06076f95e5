"""Names are looked up for ever, by their times to live; trouble is told once and ends nothing."""

from __future__ import annotations

from typing import cast

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import ILogObserver, LogEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from groupcomm.discovery.hints import Announcement
from groupcomm.discovery.lookups import KEPT_SECONDS, MAX_LOOK_UPS, MOST_SECONDS, OFFER_SECONDS, Answer, LookUps
from groupcomm.identity import NodeId
from groupcomm.outputs import Address

THERE: Address = ("10.0.0.2", 1)
ELSEWHERE: Address = ("10.0.0.3", 1)


class LookUpsTests(SynchronousTestCase):
    """The names of one source."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.found: list[Address] = []
        self.asked: list[str] = []
        self.answers: dict[str, Deferred[Answer]] = {}
        self.logged: list[str] = []
        globalLogPublisher.addObserver(cast(ILogObserver, self.log))
        self.addCleanup(globalLogPublisher.removeObserver, cast(ILogObserver, self.log))
        announcement = Announcement("c", NodeId("n1", 1), ("10.0.0.1",))
        self.lookups = LookUps(self.clock, "test", announcement, self.look_up)
        self.lookups.start(4874, self.found.append)

    def log(self, event: LogEvent) -> None:
        """Keep what is logged of this source."""
        if event.get("source") == "test":
            self.logged.append(str(event.get("why", "works")))

    def look_up(self, name: str) -> Deferred[Answer]:
        """A look-up that the test answers."""
        self.asked.append(name)
        self.answers[name] = Deferred()
        return self.answers[name]

    def answer(self, name: str, *addresses: Address, seconds: float = 30.0) -> None:
        """Answer what was asked last for a name."""
        self.answers.pop(name).callback(Answer(addresses, seconds))

    def fail_name(self, name: str, why: str = "broken") -> None:
        """Fail what was asked last for a name."""
        self.answers.pop(name).errback(OSError(why))

    def pass_seconds(self, seconds: float) -> None:
        """Let time pass, offer by offer."""
        for _ in range(int(seconds / OFFER_SECONDS)):
            self.clock.advance(OFFER_SECONDS)

    def offered(self) -> list[Address]:
        """What the next offer gives."""
        self.found.clear()
        self.clock.advance(OFFER_SECONDS)
        return list(self.found)

    def test_time_to_live(self) -> None:
        """A name is looked up again when its answer has grown old: not every moment, and at least every minute."""
        for seconds, until in ((0.0, OFFER_SECONDS), (10.0, 10.0), (86_400.0, MOST_SECONDS)):
            self.lookups.set_names(["a"])
            self.answer("a", THERE, seconds=seconds)
            self.asked.clear()
            self.pass_seconds(until - OFFER_SECONDS)
            self.assertEqual(self.asked, [], seconds)
            self.pass_seconds(OFFER_SECONDS)
            self.assertEqual(self.asked, ["a"], seconds)
            self.lookups.set_names([])
            self.asked.clear()

    def test_new_answers_replace_old_ones(self) -> None:
        """What a name stands for no more is not offered any more."""
        self.lookups.set_names(["a"])
        self.answer("a", THERE, seconds=0.0)
        self.assertEqual(self.found, [THERE])
        self.clock.advance(OFFER_SECONDS)
        self.answer("a", ELSEWHERE)
        self.assertEqual(self.offered(), [ELSEWHERE])

    def test_trouble(self) -> None:
        """Trouble is logged once until it is over; what was known stays offered for an hour."""
        self.lookups.set_names(["a"])
        self.answer("a", THERE, seconds=0.0)
        for _ in range(3):
            self.clock.advance(OFFER_SECONDS)
            self.fail_name("a")
        self.assertEqual(self.logged, ["broken"])
        status = self.lookups.status("a")
        self.assertEqual((status.known, status.trouble, status.troubled), (1, "a: broken", True))
        self.assertEqual(self.offered(), [THERE])
        self.answer("a", THERE, seconds=0.0)
        status = self.lookups.status("a")
        self.assertEqual((self.logged, status.trouble, status.troubled), (["broken", "works"], "a: broken", False))
        self.clock.advance(OFFER_SECONDS)
        self.fail_name("a")
        self.assertEqual(self.logged, ["broken", "works", "broken"])
        self.clock.advance(KEPT_SECONDS)
        self.assertEqual(self.offered(), [])

    def test_an_empty_answer_is_trouble(self) -> None:
        """A name without addresses is as good as none."""
        self.lookups.set_names(["a"])
        self.answer("a")
        self.assertEqual(self.lookups.status("").trouble, "a: it has no address")
        self.assertEqual(self.logged, ["it has no address"])

    def test_slow_names_keep_no_other_waiting_for_ever(self) -> None:
        """So many look-ups are under way at once; one that has waited comes before one that failed."""
        names = [f"n{number:02}" for number in range(MAX_LOOK_UPS + 2)]
        self.lookups.set_names(names)
        self.assertEqual(self.asked, names[:MAX_LOOK_UPS])
        self.clock.advance(OFFER_SECONDS)
        self.assertEqual(len(self.asked), MAX_LOOK_UPS)
        for name in names[:2]:
            self.fail_name(name)
        self.clock.advance(OFFER_SECONDS)
        self.assertEqual(self.asked[MAX_LOOK_UPS:], names[-2:])

    def test_names_that_go(self) -> None:
        """A name that is in the list no more is neither asked for nor offered, nor is an answer that comes late."""
        self.lookups.set_names(["a", "b"])
        self.answer("a", THERE, seconds=0.0)
        late = self.answers["b"]
        self.lookups.set_names([])
        self.assertEqual(self.offered(), [])
        self.assertTrue(late.called)
        self.assertEqual((self.asked, self.logged), (["a", "b"], []))

    def test_stop(self) -> None:
        """After the end nothing is asked, offered, logged or left for later."""
        self.lookups.set_names(["a", "b"])
        self.answer("a", THERE, seconds=0.0)
        self.found.clear()
        self.lookups.stop()
        self.clock.advance(MOST_SECONDS)
        self.assertEqual((self.found, self.asked, self.logged), ([], ["a", "b"], []))
        self.assertEqual(self.clock.getDelayedCalls(), [])
