"""Requests for what is missing."""

from __future__ import annotations

from math import inf
from random import Random

from twisted.trial.unittest import SynchronousTestCase

from groupcomm.config import EngineConfig
from groupcomm.reliability.requests import Requests
from groupcomm.wire.packets import Kind, Nack, Range, StatusEntry
from tests.reliability.view_double import DIGEST, ME, ViewDouble


class OneHolder:
    """A plan by which node 2, or this one, has everything."""

    def holder(self, index: int, number: int, tries: int) -> int:
        """Now one, now the other."""
        return 2 if tries % 2 == 0 else ME


class RequestTests(SynchronousTestCase):
    """Packet 2 of node 1's stream is lost."""

    def setUp(self) -> None:
        self.lose(EngineConfig("c"))

    def lose(self, config: EngineConfig) -> None:
        """Packets 1 and 3 come at time 0."""
        self.view = view = ViewDouble()
        self.requests = Requests(
            ME, DIGEST, config, view.streams, view.stability, view.rtts, Random(1), view.counters, view.out
        )
        view.packets_came(1, 1)
        self.requests.look_at(1)
        self.assertEqual(self.requests.due_at(), inf)
        view.packets_came(1, 3, wait=self.requests.wait_seconds(1))
        self.requests.look_at(1)

    def asked(self) -> tuple[int | None, Nack]:
        """What is asked for when it is next due."""
        self.requests.send(self.requests.due_at())
        [(kind, to, body)] = self.view.taken()
        self.assertEqual(kind, Kind.NACK)
        return to, Nack.decode(body)

    def test_the_sender_is_asked_after_a_moment(self) -> None:
        """A gap may be mere reordering: nothing is asked for at once, then the sender alone."""
        self.requests.send(0.0)
        self.assertEqual(self.view.taken(), [])
        self.assertEqual(self.asked(), (1, Nack(1, 1, (Range(2, 2),))))
        self.assertEqual(self.view.streams[1].requests, 1)

    def test_then_somebody_else_who_has_it(self) -> None:
        """After two requests that were not answered another node is asked that has said that it has the packet."""
        self.view.stability.report(2, StatusEntry(1, 3, 3))
        self.assertEqual([self.asked()[0] for _ in range(4)], [1, 1, 2, 1])

    def test_a_plan_says_whom_to_ask(self) -> None:
        """Once a plan is there its holders are asked, of whom this node may be one: then nobody is."""
        self.requests.planned = OneHolder()
        self.assertEqual(self.asked()[0], 2)
        self.requests.send(self.requests.due_at())
        self.assertEqual(self.view.taken(), [])

    def test_nothing_is_missing_any_more(self) -> None:
        """When the packet has come nothing is due."""
        self.view.packets_came(1, 2)
        self.requests.send(1.0)
        self.assertEqual((self.view.taken(), self.requests.due_at()), ([], inf))

    def test_in_a_large_view_all_hear_a_request(self) -> None:
        """Others that lack the same hear it and wait; not so in a view that ends."""
        self.lose(EngineConfig("c", suppression_nodes=2))
        self.assertEqual(self.asked()[0], None)
        self.requests.to_all = False
        self.assertEqual(self.asked()[0], 1)

    def test_what_is_announced_is_missing(self) -> None:
        """Word that a stream goes further makes a gap of what has not come."""
        self.view.packets_came(1, 2)
        self.requests.send(1.0)
        self.requests.announced(2, 2, 1.0, 0.25)
        self.assertEqual(self.requests.due_at(), 1.25)
        self.assertEqual(self.asked(), (2, Nack(2, 2, (Range(1, 2),))))
