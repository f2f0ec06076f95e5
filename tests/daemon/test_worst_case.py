"""The table of limits names every cap, and its figures follow from them."""

from __future__ import annotations

import gc
import tracemalloc
from collections import Counter
from collections.abc import Callable
from typing import TypeVar

from attrs import evolve
from twisted.trial.unittest import SynchronousTestCase

from groupcomm import limits
from groupcomm.daemon import caps
from groupcomm.daemon.encoding import encode_head
from groupcomm.daemon.worst_case import (
    CALL_BYTES,
    MEMBERSHIP_BYTES,
    NOT_HELD,
    SESSION_BYTES,
    VALUE_BYTES,
    Sizing,
    all_caps,
    holdings,
    total_bytes,
)
from groupcomm.identity import MemberId
from groupcomm.membership.groups import Groups
from tests.daemon.raw_calls import call
from tests.daemon.world import NODE, VIEW, World
from tests.hostile.broker_case import Attacker

SMALL = Sizing(nodes=3, clients=4, budget_bytes=limits.MIN_BUDGET_BYTES)
Kept = TypeVar("Kept")


class TableTests(SynchronousTestCase):
    """Which caps are in the table."""

    def test_every_cap_has_its_place(self) -> None:
        """Each constant of ``limits`` and ``caps`` is either what bounds something held, or said not to be: once."""
        named = [name for holding in holdings(SMALL) for name in holding.names]
        named += [name for names in NOT_HELD.values() for name in names]
        self.assertEqual([name for name, count in Counter(named).items() if count > 1], [])
        constants = {name for module in (limits, caps) for name in vars(module) if name.isupper()}
        self.assertEqual(set(named), constants)
        self.assertEqual(set(all_caps()), constants)

    def test_every_cap_says_why(self) -> None:
        """Each has its reason below it, where it is defined, and the value that the program uses."""
        for cap in all_caps().values():
            self.assertNotEqual(cap.text, "", cap.name)
            self.assertEqual(cap.value, getattr(caps, cap.name, getattr(limits, cap.name, None)))

    def test_the_total_is_the_sum(self) -> None:
        """The total is what the rows come to, and the rows are what their parts come to."""
        rows = holdings(SMALL)
        self.assertEqual(total_bytes(SMALL), sum(row.each_bytes * row.count for row in rows))
        self.assertTrue(all(row.each_bytes > 0 and row.count > 0 and row.when_full for row in rows))

    def test_figures_follow_the_caps(self) -> None:
        """A larger cap is a larger figure: nothing is written down twice."""
        for module, name in (
            (caps, "MAX_CALL_BYTES"),
            (caps, "MAX_CALL_ELEMENTS"),
            (caps, "MAX_UNAUTHENTICATED"),
            (caps, "MAX_PENDING_BYTES"),
            (caps, "CLIENT_HARD_BYTES"),
            (caps, "MAX_UPLOAD_TOTAL_BYTES"),
            (limits, "MAX_MEMBERSHIPS"),
            (limits, "MAX_MISSING"),
            (limits, "SESSION_QUEUE_BYTES"),
        ):
            before = total_bytes(SMALL)
            patch = self.patch(module, name, 64 * getattr(module, name))
            self.assertGreater(total_bytes(SMALL), before, name)
            patch.restore()

    def test_what_it_is_for(self) -> None:
        """More clients, more nodes and a larger budget each cost what one of them costs."""
        clients = evolve(SMALL, clients=SMALL.clients + 1)
        per_client = sum(row.each_bytes for row in holdings(SMALL) if row.per == "client")
        self.assertEqual(total_bytes(clients) - total_bytes(SMALL), per_client)
        nodes = evolve(SMALL, nodes=SMALL.nodes + 1)
        per_node = sum(row.each_bytes for row in holdings(SMALL) if row.per == "peer")
        self.assertEqual(total_bytes(nodes) - total_bytes(SMALL), per_node)
        self.assertGreater(total_bytes(evolve(SMALL, budget_bytes=2 * SMALL.budget_bytes)), total_bytes(SMALL))


class EstimateTests(SynchronousTestCase):
    """The bytes of memory that things are counted as are more than they take."""

    def growth(self, make: Callable[[], Kept]) -> int:
        """How many bytes more are in use when ``make`` has returned something that is kept."""
        gc.collect()
        tracemalloc.start()
        before = tracemalloc.get_traced_memory()[0]
        kept = make()
        gc.collect()
        grown = tracemalloc.get_traced_memory()[0] - before
        tracemalloc.stop()
        del kept
        return grown

    def test_values(self) -> None:
        """A value of a call that is not whole, of whatever kind."""
        for item in (b"\x00\x80", b"\x01\x80\x00\x80", b"\x7f" * 60 + b"\x81", b"\x02\x82xy", b"\x08\x84" + bytes(8)):
            attacker = Attacker(World())
            attacker.log_in(b"mallory")
            values = caps.MAX_CALL_ELEMENTS // 2 - 2
            data = encode_head(values + 1, b"\x80") + item * values
            grown = self.growth(lambda: attacker.broker.dataReceived(data))  # noqa: B023
            self.assertIsNone(attacker.broker.violation)
            self.assertLess(grown, 2 * values * VALUE_BYTES, item)

    def test_calls(self) -> None:
        """A call that waits for its answer."""
        attacker = Attacker(world := World())
        avatar = attacker.log_in(b"mallory")
        world.node.sessions["mallory"].hold = True
        data = b"".join(call(b"send", b"tea", b"x", target=avatar, request=n) for n in range(caps.MAX_PENDING_CALLS))
        self.assertLess(self.growth(lambda: attacker.send(data)), caps.MAX_PENDING_CALLS * CALL_BYTES)

    def test_sessions(self) -> None:
        """A session with its connection."""
        world = World()

        def clients() -> list[Attacker]:
            attackers = [Attacker(world) for _ in range(50)]
            for number, attacker in enumerate(attackers):
                attacker.log_in(b"mallory%d" % number)
            return attackers

        self.assertLess(self.growth(clients), 50 * SESSION_BYTES)

    def test_memberships(self) -> None:
        """A session in a group of its own, at its most expensive."""

        def groups() -> Groups:
            groups = Groups(NODE)
            groups._view = VIEW
            for number in range(16_000):
                groups._join(MemberId("c", NODE, 1), f"{number:x}", number)
            groups.out.clear()
            return groups

        self.assertLess(self.growth(groups), 16_000 * MEMBERSHIP_BYTES)
