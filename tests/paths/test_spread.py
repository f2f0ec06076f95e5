"""By which paths datagrams leave."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from groupcomm.outputs import Address, Datagram
from groupcomm.paths.path import Path, Reach
from groupcomm.paths.pieces import Pieces, is_piece
from groupcomm.paths.search import MtuSearch
from groupcomm.paths.spread import Spread
from groupcomm.wire.packets import NO_SENDER, Kind, encode

DIGEST = 77
M, U, N = Reach.MULTICAST, Reach.UNICAST, Reach.NOTHING
OWN = (("10.0.0.1", 1), ("10.1.0.1", 1))


def address(link: int, node: int) -> Address:
    """Of a node on a link."""
    return f"10.{link}.0.{node}", 1


class SpreadTests(SynchronousTestCase):
    """Other nodes 2, 3, ... with what reaches them."""

    def setUp(self) -> None:
        """Nobody yet."""
        self.by_address: dict[Address, tuple[Path, ...]] = {}

    def paths_at(self, wanted: Address) -> tuple[Path, ...] | None:
        """See ``Known``."""
        return self.by_address.get(wanted)

    def spread(self, *reaches: tuple[Reach, ...], active: bool = False, strangers: int = 0) -> Spread:
        """The routes of a node in a view with others, by what reaches them on each link; the last are strangers."""
        nodes = []
        for number, reach in enumerate(reaches, 2):
            paths = tuple(Path(MtuSearch(1472, 1472)) for _ in reach)
            for link, path in enumerate(paths):
                path.address, path.reach = address(link, number), reach[link]
                self.by_address[path.address] = paths
            nodes.append(paths)
        self.nodes = nodes
        made = Spread(Pieces(DIGEST, 0), active=active)
        made.links = OWN[: len(reaches[0]) if reaches else 1]
        made.route(nodes[: len(nodes) - strangers], nodes)
        return made

    def targets(self, spread: Spread, kind: Kind, to: Address | None = None, link: int = 0) -> list[object]:
        """By which link and whereto a small datagram of a kind leaves."""
        packet = encode(kind, DIGEST, NO_SENDER, 1, b"body")
        left = spread.leave([Datagram(packet, to, link=link)], self)
        self.assertEqual({datagram.data for datagram in left} - {packet}, set())
        return [(datagram.link, datagram.destination) for datagram in left]

    def test_multicast_reaches_all(self) -> None:
        """Nothing is done at all then: the very list comes back."""
        spread = self.spread((M,), (M,))
        datagrams = [Datagram(encode(Kind.DATA, DIGEST, 0, 1, b"x"), None)]
        self.assertIs(spread.leave(datagrams, self), datagrams)

    def test_one_is_not_reached(self) -> None:
        """It gets copies of what is to all; what is to one goes where it did."""
        spread = self.spread((M,), (U,))
        self.assertEqual(self.targets(spread, Kind.DATA), [(0, None), (0, address(0, 3))])
        self.assertEqual(self.targets(spread, Kind.JOIN), [(0, None), (0, address(0, 3))])
        self.assertEqual(self.targets(spread, Kind.NACK, address(0, 2)), [(0, address(0, 2))])

    def test_nobody_is_reached(self) -> None:
        """What is of the view is not multicast then; what is of the cluster is, to find out when that works again."""
        spread = self.spread((U,), (U,))
        both = [(0, address(0, 2)), (0, address(0, 3))]
        self.assertEqual(self.targets(spread, Kind.DATA), both)
        self.assertEqual(self.targets(spread, Kind.JOIN), [(0, None), *both])
        self.assertEqual((self.targets(spread, Kind.BEACON), spread.alone), ([(0, None)], both))

    def test_strangers_get_what_is_of_the_cluster(self) -> None:
        """A node outside the view that multicast does not reach gets copies of beacons and joins, not of the view's."""
        spread = self.spread((M,), (U,), strangers=1)
        self.assertEqual(self.targets(spread, Kind.DATA), [(0, None)])
        self.assertEqual(self.targets(spread, Kind.JOIN), [(0, None), (0, address(0, 3))])

    def test_alone(self) -> None:
        """A node in a view of its own multicasts as ever."""
        self.assertEqual(self.targets(self.spread(), Kind.DATA), [(0, None)])

    def test_passive_links(self) -> None:
        """The lowest link that reaches all carries the view; what is of the cluster goes by all."""
        spread = self.spread((M, M), (M, M))
        self.assertEqual(self.targets(spread, Kind.DATA), [(0, None)])
        self.assertEqual(self.targets(spread, Kind.JOIN), [(0, None), (1, None)])
        self.assertEqual(self.targets(spread, Kind.NACK, address(0, 2)), [(0, address(0, 2))])
        self.assertEqual(self.targets(spread, Kind.NACK, address(1, 2)), [(0, address(0, 2))])

    def test_a_beacon_goes_by_its_own_link(self) -> None:
        """Each link has its own beacon."""
        spread = self.spread((M, M), (M, U))
        self.assertEqual(self.targets(spread, Kind.BEACON, link=0), [(0, None)])
        self.assertEqual(self.targets(spread, Kind.BEACON, link=1), [(1, None)])
        self.assertEqual(spread.alone, [(1, address(1, 3))])
        self.assertEqual(self.targets(spread, Kind.PROBE, address(1, 2)), [(1, address(1, 2))])

    def test_a_passive_link_fails(self) -> None:
        """If one node is lost on the first link, the second carries the view, and what is for that node."""
        spread = self.spread((M, M), (N, M))
        self.assertEqual(self.targets(spread, Kind.DATA), [(1, None)])
        self.assertEqual(self.targets(spread, Kind.NACK, address(0, 3)), [(1, address(1, 3))])
        self.assertEqual(self.targets(spread, Kind.NACK, address(0, 2)), [(0, address(0, 2))])

    def test_no_link_reaches_all(self) -> None:
        """Then as few links as reach everybody are used together, and copies for the rest."""
        spread = self.spread((M, N), (N, M), (U, N))
        self.assertEqual(self.targets(spread, Kind.DATA), [(0, None), (1, None), (0, address(0, 4))])

    def test_active_links(self) -> None:
        """Everything goes by every link that carries it."""
        spread = self.spread((M, M), (U, M), active=True)
        self.assertEqual(self.targets(spread, Kind.DATA), [(0, None), (1, None), (0, address(0, 3))])
        self.assertEqual(self.targets(spread, Kind.NACK, address(0, 3)), [(0, address(0, 3)), (1, address(1, 3))])

    def test_nothing_reaches_a_node(self) -> None:
        """What is for it alone is sent where it was last: there is no better."""
        spread = self.spread((N, N))
        self.assertEqual(self.targets(spread, Kind.NACK, address(1, 2)), [(1, address(1, 2))])
        self.assertEqual(self.targets(spread, Kind.DATA), [(0, None)])

    def test_addresses_of_nobody(self) -> None:
        """A hint is followed by the link whose network it belongs to, of its own family."""
        spread = self.spread((M, M))
        spread.links = (("10.0.0.1", 1), ("10.1.0.1", 1), ("fd00::1", 1), ("fe80::1%eth1", 1), ("fe80::1%eth0", 1))
        for host, link in (
            *(("10.0.0.99", 0), ("10.1.7.7", 1), ("192.168.1.1", 0), ("fd00::7", 2), ("2001:db8::1", 2)),
            *(("fe80::7%eth0", 4), ("fe80::7%eth1", 3)),
        ):
            self.assertEqual(self.targets(spread, Kind.BEACON, (host, 5)), [(link, (host, 5))])

    def test_order_and_grouping(self) -> None:
        """To each destination datagrams go in their order, one behind the other, so that they can leave as a run."""
        spread = self.spread((M,), (U,))
        packets = [encode(Kind.DATA, DIGEST, 0, number, b"x") for number in range(3)]
        left = spread.leave([Datagram(packet, None) for packet in packets], self)
        self.assertEqual([datagram.data for datagram in left], packets * 2)
        self.assertEqual([datagram.destination for datagram in left], [None] * 3 + [address(0, 3)] * 3)

    def test_a_narrow_path(self) -> None:
        """Who cannot get a packet of that size gets it in pieces, alone; put together they are the packet."""
        spread = self.spread((M,), (M,))
        self.nodes[1][0].search.passes_bytes = 1372
        spread.route(self.nodes, self.nodes)
        self.assertEqual(spread.least_bytes, 1372)
        small, large = (encode(Kind.DATA, DIGEST, 0, 1, bytes(size - 20)) for size in (1372, 1373))
        left = spread.leave([Datagram(small, None), Datagram(large, None)], self)
        self.assertEqual([one.data for one in left if one.destination is None], [small, large])
        pieces = [one.data for one in left if one.destination == address(0, 3)]
        self.assertEqual((len(pieces), all(map(is_piece, pieces)), max(map(len, pieces))), (2, True, 1232))
        receiver = Pieces(DIGEST, 0)
        self.assertEqual([receiver.add(piece, OWN[0]) for piece in reversed(pieces)], [None, large])

    def test_a_run_to_a_narrow_path(self) -> None:
        """The packets of a run are cut one by one; a repair that is too large as well."""
        spread = self.spread((U,), (M,))
        self.nodes[0][0].search.passes_bytes = 1372
        spread.route(self.nodes, self.nodes)
        run = b"".join(encode(Kind.DATA, DIGEST, 0, number, bytes(1452)) for number in range(3))
        left = spread.leave([Datagram(run, None, 1472), Datagram(run[:1472], address(0, 2))], self)
        self.assertEqual(left[0], Datagram(run, None, 1472))
        receiver = Pieces(DIGEST, 0)
        whole = [receiver.add(one.data, OWN[0]) for one in left[1:]]
        self.assertEqual(b"".join(one for one in whole if one), run + run[:1472])


class PiecesTests(SynchronousTestCase):
    """What pieces are put together to."""

    def test_pieces_of_others(self) -> None:
        """Those of another cluster are left alone, and two datagrams are not mixed."""
        one, other = Pieces(DIGEST, 0), Pieces(DIGEST + 1, 0)
        first, second = one.cut(b"a" * 3000), one.cut(b"b" * 3000)
        self.assertEqual([other.add(piece, OWN[0]) for piece in first], [None] * 3)
        mixed = [one.add(piece, OWN[0]) for pair in zip(first, second, strict=True) for piece in pair]
        self.assertEqual(mixed, [None] * 4 + [b"a" * 3000, b"b" * 3000])

    def test_sources_do_not_mix(self) -> None:
        """Pieces of one number from two senders make nothing together."""
        one, other = Pieces(DIGEST, 0), Pieces(DIGEST, 0)
        first, second = one.cut(b"a" * 2000), other.cut(b"b" * 2000)
        self.assertEqual([one.add(first[0], OWN[0]), one.add(second[1], OWN[1])], [None, None])
        self.assertEqual(one.add(first[1], OWN[0]), b"a" * 2000)

    def test_no_pieces_of_pieces(self) -> None:
        """What is a piece when it is whole is nothing: one packet cannot be taken apart for ever."""
        one = Pieces(DIGEST, 0)
        inner = one.cut(bytes(100))[0]
        self.assertEqual([one.add(piece, OWN[0]) for piece in one.cut(inner)], [None])
