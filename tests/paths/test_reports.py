"""What is said of links in beacons, and what is taken from it."""

from __future__ import annotations

from attrs import define
from twisted.trial.unittest import SynchronousTestCase

from groupcomm.identity import NodeId
from groupcomm.paths.path import Path, Reach
from groupcomm.paths.reports import addresses_to_tell, make_reports, take_reports
from groupcomm.paths.search import MtuSearch
from groupcomm.wire.messages import Beacon, LinkReport

ME, A, B = NodeId("me", 1), NodeId("a", 1), NodeId("b", 1)
ONE = (("10.0.0.1", 1),)
TWO = (*ONE, ("10.1.0.1", 1))


@define
class Node:
    """Another node with its paths."""

    node: NodeId
    paths: tuple[Path, ...]
    beacon: Beacon | None = None


def node(name: NodeId, *heard: tuple[float, float], says: tuple[LinkReport, ...] = ()) -> Node:
    """A node of which something, and a multicast, came at these times, by link."""
    paths = []
    for anything, multicast in heard:
        path = Path(MtuSearch())
        path.heard_at, path.multicast_at = anything, multicast
        paths.append(path)
    return Node(name, tuple(paths), Beacon(name, None, 0, 1, False, False, (), links=says))


class MakeTests(SynchronousTestCase):
    """Nodes that were heard at this time and that; everything since 10 counts."""

    def test_all_is_well(self) -> None:
        """With one link and everybody's multicast, nothing is said."""
        self.assertEqual(make_reports([node(A, (11, 11)), node(B, (12, 10))], ONE, 5, 10), ())
        self.assertEqual(make_reports([], ONE, 5, 10), ())

    def test_some_are_unheard(self) -> None:
        """A node whose multicast does not come is named, without a number or an address."""
        said = make_reports([node(A, (11, 9)), node(B, (12, 10))], ONE, 5, 10)
        self.assertEqual(said, (LinkReport(5, None, (A,), ()),))

    def test_all_are_unheard(self) -> None:
        """Where no multicast comes at all, one bit says so."""
        said = make_reports([node(A, (11, 9)), node(B, (12, -1))], ONE, 5, 10)
        self.assertEqual(said, (LinkReport(5, None, (), (), all_unheard=True),))

    def test_two_links(self) -> None:
        """With several links each has its address; who is silent on one is named there."""
        links = (LinkReport(), LinkReport())
        said = make_reports([node(A, (11, 11), (9, 9), says=links), node(B, (12, 9), (12, 12), says=links)], TWO, 5, 10)
        self.assertEqual(said, (LinkReport(5, TWO[0], (B,), ()), LinkReport(5, TWO[1], (), (A,))))

    def test_link_local_addresses(self) -> None:
        """An address that means something on its own host only is not told."""
        own = (ONE[0], ("fe80::1%eth0", 1))
        self.assertEqual(make_reports([], own, 5, 10), (LinkReport(5, ONE[0]), LinkReport(5, None)))
        others = [node(A, (11, 11)), node(B, (12, 12))]
        others[0].paths[0].address, others[1].paths[0].address = ("fe80::2%eth0", 1), ("fd00::2", 1)
        self.assertEqual(addresses_to_tell(others, 0), (("fd00::2", 1),))

    def test_who_has_fewer_links(self) -> None:
        """A node with one link is not missed on the second."""
        said = make_reports([node(A, (11, 11), (0, 0))], TWO, 5, 10)
        self.assertEqual(said, (LinkReport(5, TWO[0]), LinkReport(5, TWO[1])))


class TakeTests(SynchronousTestCase):
    """A node's word on what it hears of this one."""

    def reaches(self, links: int, *says: LinkReport) -> list[Reach]:
        """What the paths carry after that."""
        other = node(A, *[(0.0, 0.0)] * links, says=says)
        take_reports(ME, other)
        return [path.reach for path in other.paths]

    def test_nothing_said(self) -> None:
        """Everything arrives at who says nothing, on its one link."""
        self.assertEqual(self.reaches(1), [Reach.MULTICAST])
        self.assertEqual(self.reaches(2), [Reach.MULTICAST, Reach.NOTHING])

    def test_named(self) -> None:
        """Unheard leaves unicast, silent nothing, and what is said of others does not matter."""
        self.assertEqual(self.reaches(1, LinkReport(unheard=(A, ME))), [Reach.UNICAST])
        self.assertEqual(self.reaches(1, LinkReport(all_unheard=True)), [Reach.UNICAST])
        self.assertEqual(self.reaches(1, LinkReport(unheard=(B,), silent=(A,))), [Reach.MULTICAST])
        self.assertEqual(
            self.reaches(2, LinkReport(silent=(ME,), all_unheard=True), LinkReport(unheard=(ME,))),
            [Reach.NOTHING, Reach.UNICAST],
        )

    def test_only_what_is_new(self) -> None:
        """It is told whether anything has changed."""
        other = node(A, (0, 0), says=(LinkReport(unheard=(ME,)),))
        self.assertTrue(take_reports(ME, other))
        self.assertFalse(take_reports(ME, other))
        other.beacon = Beacon(A, None, 0, 1, False, False, ())
        self.assertTrue(take_reports(ME, other))


class LossTests(SynchronousTestCase):
    """Which part of a path's beacons is lost."""

    def test_loss(self) -> None:
        """Of the last 64 beacons those that did not come; late ones count, and so do repeated ones, once."""
        path = Path(MtuSearch())
        self.assertEqual(path.loss, 0.0)
        for number in range(1, 201):
            if number % 4:
                path.beacon_came(number)
                path.beacon_came(number)
        self.assertEqual(path.loss, 0.25)
        for number in range(140, 200, 4):
            path.beacon_came(number)
        self.assertLess(path.loss, 0.05)
        path.beacon_came(100_000)
        self.assertEqual(path.loss, 63 / 64)

    def test_what_was_sent_before_is_not_lost(self) -> None:
        """A node that has long been there when this one starts has lost nothing."""
        path = Path(MtuSearch())
        path.beacon_came(70_000)
        path.beacon_came(70_001)
        self.assertEqual(path.loss, 0.0)
        path.beacon_came(70_003)
        self.assertEqual(path.loss, 0.25)
        path.beacon_came(69_999)
        self.assertEqual(path.loss, 0.0)
