"""The network breaks in two, both sides go on, and it heals."""

from __future__ import annotations

import time

from twisted.trial.unittest import SynchronousTestCase

from tests.lab.harness import Lab, measured, settle

LEVELS = ["RELIABLE", "FIFO", "CAUSAL", "AGREED", "SAFE"]
MERGE_SECONDS = 5.0


class PartitionTests(SynchronousTestCase):
    """Two and two."""

    def test_both_sides_go_on_and_merge(self) -> None:
        """Both sides get views of their own and go on, each consistent in itself; healed, all are in one view again."""
        with Lab(4) as lab:
            daemons = lab.daemons((1, 2, 3, 4))
            members = [lab.member(daemon, f"{daemon.node}{which}", "lab") for daemon in daemons for which in "ab"]
            titles = [member.title for member in members]
            for member in members:
                member.wait_for_view(titles, 30)
            for index, member in enumerate(members):
                member.tell({"do": "send", "seed": index, "sizes": [50, 3000], "levels": LEVELS, "rate": 80})
            time.sleep(1.0)
            lab.split((1, 2), (3, 4))
            split_at = time.monotonic()
            for side in (members[:4], members[4:]):
                for member in side:
                    view = member.wait_for_view([each.title for each in side], 30)
                    self.assertEqual({reason for _, reason in view["left"]}, {"partition"})
            measured("both sides have their views after the split", time.monotonic() - split_at, "s")
            time.sleep(1.5)
            lab.heal()
            healed = time.monotonic()
            merged = [member.wait_for_view(titles, 10 * MERGE_SECONDS) for member in members]
            measured("one view again", max(view["at"] for view in merged) - healed, "s", MERGE_SECONDS)
            self.assertEqual(len({view["id"] for view in merged}), 1)
            time.sleep(1.0)
            for member in members:
                member.tell({"do": "stop"})
            for member in members:
                member.wait_for("sent", 60)
            settle(members)
            premises = lab.judge("D1", "D2", "D5", "D6b", "D6b apart", "M1", "M4", "O5", "O6", "O7", "S1", "SIGNAL")
            self.assertGreater(premises["D5 group"], len(members))
            for one, apart in ((members[0], members[4]), (members[4], members[0])):
                alone = {view["id"] for view in one.of_kind("view")} - {view["id"] for view in apart.of_kind("view")}
                within = [entry for entry in one.of_kind("m") if entry["v"] in alone and entry["id"][0] != one.client]
                self.assertGreater(len(within), 0, "a side did not go on while it was alone")
