"""Five hosts with a quorum filter: two are cut off, are told, and refuse; healed, all go on."""

from __future__ import annotations

import time

from twisted.trial.unittest import SynchronousTestCase

from tests.lab.harness import Lab, Member, measured, wait_until

TOLD_SECONDS = 2.0
HEALED_SECONDS = 5.0
GROUPS = (("free", "GO_ON"), ("read", "READ_ONLY"), ("held", "BLOCKED"))
QUORUM = ("--quorum", "majority", "--quorum-nodes", "n1,n2,n3,n4,n5")


def said(member: Member, group: str) -> list[int]:
    """The numbers of the messages that its daemon has accepted from it for a group."""
    return [entry["n"] for entry in member.of_kind("said") if entry["group"] == group]


def got(member: Member, group: str) -> list[tuple[str, int]]:
    """What it has received in a group."""
    return [tuple(entry["id"]) for entry in member.of_kind("m") if entry["g"] == [group]]


def wait_until_said(member: Member, group: str) -> None:
    """Wait until its daemon has accepted something of it for a group."""
    wait_until(lambda: said(member, group), 20, f"a send of {member.title} to {group} to be accepted")


def wait_for_messages(member: Member, wanted: set[tuple[str, int]]) -> None:
    """Wait until it has these in the blocked group."""
    wait_until(lambda: wanted <= set(got(member, "held")), 20, f"{member.title} to get {sorted(wanted)}")


class QuorumTests(SynchronousTestCase):
    """A split of two and three."""

    def test_minority_is_told_and_refuses(self) -> None:
        """The minority learns in time that it is not primary, refuses and waits; the majority goes on; then all do."""
        with Lab(5) as lab:
            daemons = lab.daemons((1, 2, 3, 4, 5), *QUORUM)
            members = [lab.member(daemon, f"m{daemon.host}") for daemon in daemons]
            few, many = members[:2], members[2:]
            for member in members:
                for group, outside in GROUPS:
                    member.tell({"do": "join", "group": group, "outside": outside})
            for member in members:
                for group, _ in GROUPS:
                    self.assertTrue(member.wait_for_view([each.title for each in members], 30, group=group)["primary"])
            split = time.monotonic()
            lab.split((1, 2), (3, 4, 5))
            for side, primary in ((few, False), (many, True)):
                for member in side:
                    for group, _ in GROUPS:
                        view = member.wait_for_view([each.title for each in side], 10 * TOLD_SECONDS, group=group)
                        self.assertIs(view["primary"], primary, member.title)
            told = max(member.of_kind("view")[-1]["at"] for member in few)
            measured("the minority is told after the split", told - split, "s", TOLD_SECONDS)
            for member in members:
                for group, _ in GROUPS:
                    member.tell({"do": "say", "group": group})
            for member in few:
                self.assertEqual(member.wait_for("error", 20)["kind"], "NotPrimary")
            for member in many:
                member.wait_for("said", 20, count=len(GROUPS))
            for member in many:
                wait_for_messages(member, {(each.client, said(each, "held")[0]) for each in many})
            time.sleep(1.0)
            for member in few:
                self.assertEqual((len(said(member, "free")), said(member, "read"), said(member, "held")), (1, [], []))
            status = few[0].status()
            assert status is not None
            self.assertEqual((status["primary"], status["quorum"]["filter"]), (False, "majority"))
            lab.heal()
            healed = time.monotonic()
            for member in members:
                for group, _ in GROUPS:
                    view = member.wait_for_view([each.title for each in members], 10 * HEALED_SECONDS, group=group)
                    self.assertTrue(view["primary"])
            for member in few:
                wait_until_said(member, "held")
            measured("what waited is accepted after the network has healed", time.monotonic() - healed, "s")
            waited = {(member.client, said(member, "held")[0]) for member in few}
            for member in members:
                wait_for_messages(member, waited)
            time.sleep(0.5)
            for member in members:
                arrived = [one for one in got(member, "held") if one in waited]
                self.assertEqual(sorted(arrived), sorted(waited), "once each")
                member.tell({"do": "say", "group": "read"})
            for member in few:
                wait_until_said(member, "read")
            premises = lab.judge("M5", "M5 group", "D1", "D2", "M4")
            self.assertGreater(premises["M5 group"], 2 * len(members))
