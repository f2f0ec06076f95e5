"""Messages of a view change, forged while it goes on: RECOVER, ANSWER, PLAN, READY and INSTALL."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from attrs import evolve

from groupcomm.identity import NodeId, ViewId
from groupcomm.limits import MAX_STRANGERS
from groupcomm.outputs import Address
from groupcomm.testing.node import SimulatedNode
from groupcomm.wire.messages import (
    Answer,
    Holding,
    Install,
    Message,
    Plan,
    Ready,
    Recover,
    StreamPlan,
    ViewPlan,
    decode_message,
)
from groupcomm.wire.packets import HEADER_BYTES, Header, Kind, Range
from tests.hostile.attacker import GHOST, HostileCase, message_packets

LAST_NUMBER = (1 << 64) - 1


class ForgedChangeTests(HostileCase):
    """One of four nodes is asked to leave; the attacker hears what is said and forges before the others can answer."""

    names: tuple[str, ...] = ("a", "b", "c", "d")

    def change(self, forge: Callable[[Recover], Iterable[Message]], after: Kind = Kind.RECOVER) -> None:
        """Node ``d`` leaves; when the first message of kind ``after`` is sent, what is forged overtakes everything."""
        heard: list[Recover] = []
        forged: list[Message] = []

        def overhear(data: bytes, source: Address) -> None:
            kind = Header(data).kind
            if kind == Kind.RECOVER and not heard:
                recover = decode_message(kind, data[HEADER_BYTES:])
                assert isinstance(recover, Recover)
                heard.append(recover)
            if kind == after and not forged:
                forged.extend(forge(heard[0]))
                for number, message in enumerate(forged):
                    for packet in message_packets(message, number=number, size=60_000):
                        for node in self.nodes:
                            self.overtake(node, packet)

        self.cluster.network.watcher = overhear
        self.nodes[3].leave()
        self.cluster.run(5.0)
        self.assertTrue(forged)
        self.cluster.network.watcher = None
        self.nodes, self.names, self.clients = self.nodes[:3], self.names[:3], self.clients[:3]

    def counted(self, name: str) -> int:
        """How often something happened to all nodes together."""
        return sum(self.counter(node, name) for node in self.nodes)

    def overtake(self, node: SimulatedNode, packet: bytes) -> None:
        """The attacker is nearer to the node than anybody else."""
        self.cluster.scheduler.call_later(
            0.0, lambda: node._datagram_arrived(packet, self.attacker.address) if node.process_alive else None
        )

    def test_plans_that_are_none(self) -> None:
        """Plans for others, under a sequencer that nobody knows, or without the old view are counted and dropped."""

        def forge(recover: Recover) -> list[Plan]:
            view, everybody = self.views()[0], recover.participants
            assert view is not None
            streams = tuple(StreamPlan(0, 0, (), ()) for _ in everybody)
            plan = Plan(
                recover.proposal,
                recover.attempt,
                everybody,
                0,
                everybody[0],
                False,
                (),
                (ViewPlan(view, (0, 1, 2, 3), streams),),
            )
            return [
                evolve(plan, sequencer=GHOST),
                evolve(plan, leaving=1),
                evolve(plan, views=()),
                evolve(plan, views=plan.views * 2),
                evolve(plan, attempt=LAST_NUMBER),
                evolve(plan, participants=(GHOST,), views=(), sequencer=GHOST),
                evolve(plan, participants=(), views=(), sequencer=GHOST),
            ]

        self.change(forge, after=Kind.ANSWER)
        self.assert_goes_on()
        self.assertGreaterEqual(self.counted("peer_violations"), 7)

    def test_plans_that_name_too_much(self) -> None:
        """Plans that name packets by the hundred million, in few bytes, are malformed before anything is allocated."""

        def forge(recover: Recover) -> list[Plan]:
            view, everybody = self.views()[0], recover.participants
            assert view is not None
            plans = []
            for stream in (
                StreamPlan(LAST_NUMBER, 0, (), ()),
                StreamPlan(0, 0, (Range(1, 1 << 32),), ()),
                StreamPlan(500_000, 0, (), ()),
            ):
                part = ViewPlan(view, (0, 1, 2, 3), (stream,) * len(everybody))
                plans.append(Plan(recover.proposal, recover.attempt, everybody, 0, everybody[0], False, (), (part,)))
            return plans

        self.change(forge, after=Kind.ANSWER)
        self.assertGreaterEqual(self.counted("malformed"), 3)
        self.assert_goes_on()

    def test_answers_that_cannot_be(self) -> None:
        """Answers in others' names, of a view with other members, or that hold what never was, do not count."""

        def forge(recover: Recover) -> list[Answer]:
            view, (_, second, third, fourth) = self.views()[0], recover.participants
            holding = Holding(0, 0, ())
            everybody = self.identities
            far = (Holding(LAST_NUMBER, 0, ()), holding, holding, holding)
            gaps = (Holding(0, 0, (Range(1, 1 << 32),)), holding, holding, holding)
            return [
                Answer(node, recover.proposal, answered, who, False, True, 0, 1, holdings)
                for node, answered, who, holdings in (
                    (second, view, (), ()),
                    (second, None, everybody, (holding,) * 4),
                    (second, view, everybody[:3], (holding,) * 3),
                    (third, view, everybody, far),
                    (fourth, view, everybody, gaps),
                )
            ]

        self.change(forge)
        self.assertEqual(self.counter(self.nodes[0], "peer_violations"), 5)
        self.assert_goes_on()

    def test_proposals_of_others(self) -> None:
        """A RECOVER that names other participants than were agreed on, or another proposer, is not answered."""

        def forge(recover: Recover) -> list[Recover]:
            later = ViewId(recover.proposal.epoch + 1, recover.proposal.proposer)
            return [
                evolve(recover, proposal=later, participants=recover.participants[:2]),
                evolve(recover, proposal=later, participants=(*recover.participants, GHOST)),
                evolve(recover, proposal=later, participants=recover.participants + recover.participants[-1:]),
                evolve(recover, proposal=ViewId(later.epoch, GHOST)),
                evolve(recover, proposal=later, agreed=0),
            ]

        self.change(forge)
        self.assert_goes_on()
        self.assertEqual(len(self.nodes[0].status().members), 3)

    def test_ready_and_install_ahead_of_their_time(self) -> None:
        """READY of a plan that nobody has, and INSTALL of one that was never made, install nothing."""

        def forge(recover: Recover) -> list[Message]:
            nodes = recover.participants
            return [
                *(
                    Ready(node, recover.proposal, 1, missing)
                    for node in (*nodes, GHOST)
                    for missing in (0, LAST_NUMBER)
                ),
                Install(recover.proposal, 1),
            ]

        self.change(forge)
        self.assert_goes_on()

    def test_a_flood_between_calm_views(self) -> None:
        """Out of a change these kinds do nothing at all: they are dropped, and nobody answers."""
        proposal = ViewId(5, self.identities[0])
        sent = sum(self.counter(node, "datagrams_sent") for node in self.nodes)
        quiet = self.cluster.now
        for number in range(2 * MAX_STRANGERS):
            node = NodeId(f"ghost{number}", 1)
            for message in (
                Recover(proposal, number, 1, self.identities),
                Answer(node, proposal, None, (), False, True, 0, 1, ()),
                Ready(node, proposal, 1, 0),
                Install(proposal, number),
            ):
                for data in message_packets(message, number=number):
                    self.attacker.send(data, self.nodes[0])
            self.cluster.run(0.0005)
        beacons = (self.cluster.now - quiet) / self.config.timing.heartbeat
        spent = sum(self.counter(node, "datagrams_sent") for node in self.nodes) - sent
        self.assertLess(spent, 4 * (beacons + 2) * len(self.nodes))
        self.assert_goes_on()
